# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 bench`: what it reports, not how fast the machine is."""

import json
import math
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import atlas12288
from atlas12288 import WINDOW_BYTES
from atlas12288 import _bench as bench
from atlas12288._bench import (
    ALL_SIZES,
    FAMILIES,
    GB_PER_S,
    GOAL_SIZES,
    LARGE_BYTES,
    NS_PER_BYTE,
    Arena,
    Bound,
    Family,
    Figure,
    InC,
    InPython,
    Memory,
    PeakMemory,
    Row,
    Sampling,
    measure,
    targets_hold,
)
from atlas12288._cli import main
from atlas12288._cli.commands.bench import choose_kernel_set
from atlas12288._native import time_operation, timed_operations
from support.commandline import (
    COULD_NOT_CHECK,
    DOES_NOT_HOLD,
    HOLDS,
    TIMEOUT_S,
    run,
    run_on_terminal,
)
from support.kernel_sets import RUNNABLE_KERNEL_SETS

ROOT = Path(__file__).parent.parent
ROWS = [(family, row) for family in FAMILIES for row in family.rows]
PERFORMANCE_DOCS = runpy.run_path(str(ROOT / "benchmarks" / "performance_docs.py"))
LEAST_EFFORT = Sampling(rounds=2, least_rounds=2, family_s=0, sample_s=1e-6, runs=1)
SHA256 = "hashlib.sha256"
SHA256_LOOP = "a loop over hashlib.sha256"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """`atlas12288 bench` in this process with little effort, without the rows on whole processes.

    Takes the arguments, and families instead of the usual ones.
    """
    before = atlas12288.kernel_set()
    monkeypatch.setattr(bench, "FULL", LEAST_EFFORT)

    def run_bench(*arguments: str | Path, families: tuple[Family, ...] | None = None) -> int:
        timed = tuple(family for family in FAMILIES if family.timed)
        monkeypatch.setattr(bench, "FAMILIES", timed if families is None else families)
        return main(["bench", *map(str, arguments)])

    yield run_bench
    atlas12288.select_kernel_set(before)


# --- The table is that of the design, sections 7 and 10 ---

AT_WINDOW, IN_CACHE, AT_LARGE = WINDOW_BYTES, 512 * WINDOW_BYTES, LARGE_BYTES
TARGETS = [
    ("conserved copy", "C", AT_WINDOW, ">= 25"),
    ("conserved fill", "C", AT_WINDOW, ">= 30"),
    ("delta", "C", AT_WINDOW, "< 10"),
    ("delta", "C", AT_LARGE, "< 10"),
    ("witness generate", "C", AT_WINDOW, ">= 1"),
    ("witness generate", "C", AT_LARGE, ">= 1"),
    ("witness verify", "C", AT_WINDOW, ">= 1"),
    ("witness verify", "C", AT_LARGE, ">= 1"),
]
GOALS = [
    ("conserved copy", "C", AT_WINDOW, ">= 60", None),
    ("conserved copy", "C", AT_WINDOW, ">= 0.6", "memcpy"),
    ("conserved copy", "C", AT_LARGE, ">= 0.9", "memcpy"),
    ("conserved copy", "C", AT_LARGE, ">= 1", "memcpy"),
    ("conserved fill", "C", AT_WINDOW, ">= 0.95", "memset"),
    ("conserved fill", "C", AT_LARGE, ">= 0.95", "memset"),
    ("delta", "C", AT_WINDOW, "<= 0.03", None),
    ("delta", "C", AT_LARGE, ">= 0.9", "memory read"),
    ("witness generate", "Python", AT_WINDOW, ">= 0.97", SHA256),
    ("witness generate", "Python", AT_LARGE, ">= 0.97", SHA256),
    ("witness verify", "Python", AT_WINDOW, ">= 0.97", SHA256),
    ("witness verify", "Python", AT_LARGE, ">= 0.97", SHA256),
    ("tree generate, 1 core", "Python", AT_LARGE, ">= 1.7", SHA256),
    ("tree generate, 1 core", "Python", AT_LARGE, ">= 2.5", SHA256),
    ("tree verify, 1 core", "Python", AT_LARGE, ">= 1.7", SHA256),
    ("tree generate, all cores", "Python", AT_LARGE, ">= 3.2", SHA256),
    ("tree verify, all cores", "Python", AT_LARGE, ">= 3.2", SHA256),
    ("tree generate, AVX2 only, 1 core", "Python", AT_LARGE, ">= 1", None),
    *(
        (f"tree {work}, {cores}", "Python", size, text, peer)
        for work in ("generate", "verify")
        for cores, size, text, peer in (
            ("1 core", IN_CACHE, ">= 3", SHA256),
            ("1 core", AT_LARGE, ">= 2.8", SHA256),
            ("all cores", IN_CACHE, ">= 6", SHA256),
            ("all cores", AT_LARGE, ">= 5.6", SHA256),
            *(
                (cores, size, text, f"blake3, {cores}")
                for cores in ("1 core", "all cores")
                for size, text in ((IN_CACHE, ">= 1.15"), (AT_LARGE, ">= 1.08"))
            ),
        )
    ),
    ("tree generate, 1 core", "Python", AT_WINDOW, ">= 0.9", SHA256),
    ("many messages of 16 KiB, 1 core", "Python", AT_LARGE, ">= 2.5", SHA256_LOOP),
    ("budget alloc + release", "C", None, "<= 50", None),
    ("budget alloc + release", "Python", None, "<= 150", None),
    ("residue", "Python", AT_WINDOW, "> 1", "zlib.crc32"),
    ("residue", "Python", AT_WINDOW, "> 1", "xxhash.xxh3_64_intdigest"),
    ("residue", "Python", AT_WINDOW, "> 1", "numpy.sum"),
    ("WASM conserved copy", "Node", AT_WINDOW, ">= 5", None),
    ("WASM residue", "Node", AT_WINDOW, ">= 10", None),
    ("memory to witness a file of 256 MiB", "command line", None, "<= 64", None),
    ("memory to tree-witness a file of 256 MiB", "command line", None, "<= 64", None),
]


def found_row(work: str, caller: str) -> tuple[Family, Row]:
    (found,) = [each for each in ROWS if (each[1].work, each[1].caller) == (work, caller)]
    return found


@pytest.mark.parametrize(("work", "caller", "size", "text"), TARGETS)
def test_every_target_of_the_contract(work: str, caller: str, size: int, text: str) -> None:
    _, row = found_row(work, caller)
    assert row.target is not None
    assert (str(row.target), row.target.peer) == (text, None)
    assert size in row.target.sizes
    assert WINDOW_BYTES - 1 not in row.target.sizes


@pytest.mark.parametrize(("work", "caller", "size", "text", "peer"), GOALS)
def test_every_goal_of_the_design(
    work: str, caller: str, size: int | None, text: str, peer: str | None
) -> None:
    family, row = found_row(work, caller)
    assert family.sized is (size is not None)
    assert peer is None or peer in row.peers
    assert size is None or size in GOAL_SIZES
    assert [
        goal
        for goal in row.goals
        if (str(goal), goal.peer) == (text, peer) and (size is None or size in goal.sizes)
    ]


def test_every_peer_of_the_design() -> None:
    peers = {name for family in FAMILIES for name in family.peers}
    assert peers == {
        *("memcpy", "memset", "memory read", SHA256, SHA256_LOOP),
        *("blake3, 1 core", "blake3, all cores"),
        *("xxhash.xxh3_64_intdigest", "zlib.crc32", "google_crc32c.value", "numpy.sum"),
        *("crypto.subtle.digest", "native conserved copy", "native residue"),
        *("native witness generate", "native tree root"),
    }


def test_rows_name_peers_and_goals_that_exist() -> None:
    for family, row in ROWS:
        assert set(row.peers) <= set(family.peers)
        assert {goal.peer for goal in row.goals} - {None} <= set(row.peers)
    names = [row.name for _, row in ROWS]
    assert len(set(names)) == len(names)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_rows_time_operations_that_exist() -> None:
    operations = {
        timed.operation
        for family in FAMILIES
        for timed in (*(row.ours for row in family.rows), *family.peers.values())
        if isinstance(timed, InC)
    }
    assert operations == set(timed_operations())


def test_sizes_go_from_a_window_to_256_mib() -> None:
    assert ALL_SIZES[0] == WINDOW_BYTES == 12288
    assert ALL_SIZES[-1] == 256 * 2**20
    assert list(ALL_SIZES) == sorted(ALL_SIZES)
    assert all(size % WINDOW_BYTES == 0 for size in ALL_SIZES[:-1])


# --- What is reported ---

NUMBER = (int, float)
FIGURE = {"median": NUMBER, "q1": NUMBER, "q3": NUMBER}
JUDGED = {
    "comparison": str,
    "limit": NUMBER,
    "peer": (str, type(None)),
    "stretch": bool,
    "measured": NUMBER,
    "holds": bool,
}
ROW = {
    "family": str,
    "work": str,
    "caller": str,
    "size": (int, type(None)),
    "kernel_set": str,
    "unit": str,
    "ours": dict,
    "peers": list,
    "target": (dict, type(None)),
    "goals": list,
}
REPORT = {
    "type": str,
    "command": str,
    "holds": bool,
    "error": type(None),
    "version": str,
    "kernel_set": str,
    "cpu": str,
    "cores": int,
    "system": str,
    "python": str,
    "versions": dict,
    "left_out": dict,
    "rows": list,
}


def assert_shape(found: dict[str, Any], shape: dict[str, Any]) -> None:
    assert found.keys() == shape.keys()
    for key, kinds in shape.items():
        assert isinstance(found[key], kinds), key


def test_report_has_every_row_in_a_fixed_shape() -> None:
    sizes = (WINDOW_BYTES, 2**20)
    arguments = [argument for size in sizes for argument in ("--size", str(size))]
    done = run("bench", "--quick", *arguments, "--json")
    assert done.stderr == b""
    report = json.loads(done.stdout)
    assert_shape(report, REPORT)
    assert report["kernel_set"] == atlas12288.kernel_set()
    expected = [
        (family.name, row.work, row.caller, size)
        for family in FAMILIES
        for size in (sizes if family.sized else (None,))
        if size is None or size in family.sizes
        for row in family.rows
        if row.name not in report["left_out"]
    ]
    keys = ("family", "work", "caller", "size")
    assert [tuple(row[key] for key in keys) for row in report["rows"]] == expected
    for row in report["rows"]:
        assert_shape(row, ROW)
        _, source = found_row(row["work"], row["caller"])
        assert [peer["name"] for peer in row["peers"]] == [
            name for name in source.peers if name not in report["left_out"]
        ]
        for peer in row["peers"]:
            assert_shape(peer, {"name": str, "ratio": dict} | FIGURE)
        figures = [row["ours"], *row["peers"], *(peer["ratio"] for peer in row["peers"])]
        for figure in figures:
            assert 0 < figure["q1"] <= figure["median"] <= figure["q3"]
        ratios = {peer["name"]: peer["ratio"]["median"] for peer in row["peers"]}
        for judged in filter(None, (row["target"], *row["goals"])):
            assert_shape(judged, JUDGED)
            known = {None: row["ours"]["median"]} | ratios
            assert judged["measured"] == known[judged["peer"]]
            bound = Bound(judged["comparison"], judged["limit"])
            assert judged["holds"] is bound.holds(judged["measured"])
    missed = any(row["target"] and not row["target"]["holds"] for row in report["rows"])
    assert done.returncode == (DOES_NOT_HOLD if missed else HOLDS)


@pytest.mark.parametrize("markdown", [False, True])
def test_table_has_every_row_and_peer(
    quick: Callable[..., int], capsys: pytest.CaptureFixture[str], markdown: bool
) -> None:
    """That of the command, and that of docs/performance.md, which is made of the command's JSON."""
    quick("--size", WINDOW_BYTES, "--size", "1MiB", *["--json"] * markdown)
    text = capsys.readouterr().out
    if markdown:
        text = PERFORMANCE_DOCS["markdown"](json.loads(text))
    missing = bench.left_out()
    for family in bench.FAMILIES:
        for row in family.rows:
            (line, *_) = [
                line for line in text.splitlines() if line.strip("| ").startswith(row.name)
            ]
            if row.name in missing:
                assert "not measured" in line
                assert missing[row.name] in line
                continue
            assert "not measured" not in line
            assert all(peer in text for peer in row.peers if peer not in missing)
    for name, reason in missing.items():
        assert re.search(rf"left out: .*{re.escape(name)}.*: {re.escape(reason)}\n", text)
    assert "…" not in text.replace("(…)", "")  # nothing is cut
    assert f"kernel set: {atlas12288.kernel_set()}" in text
    if markdown:
        cells = [line.count("|") for line in text.splitlines() if line.startswith("|")]
        assert set(cells) == {11}


def test_progress_is_shown_on_a_terminal_and_leaves_nothing() -> None:
    code, shown, done = run_on_terminal(
        "bench", "--quick", "--size", "96", "--json", streams=("stderr",)
    )
    assert code == HOLDS
    assert "residue, 96 B" in shown
    assert len(json.loads(done.stdout)["rows"]) > 0


def test_peers_that_are_not_installed_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('numpy', 'xxhash', 'blake3', 'google_crc32c'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    done = subprocess.run(
        (sys.executable, "-m", "atlas12288", "bench", "--quick", "--size", "96", "--json"),
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    report = json.loads(done.stdout)
    peers = {peer["name"] for row in report["rows"] for peer in row["peers"]}
    assert peers == {"memcpy", "memset", "memory read", SHA256, "zlib.crc32"}
    modules = {"numpy", "xxhash", "blake3", "google_crc32c"}
    gone = {name: why for name, why in report["left_out"].items() if "installed" in why}
    assert set(gone) == {
        name
        for family in FAMILIES
        for name, peer in family.peers.items()
        if isinstance(peer, InPython) and peer.module in modules
    }
    assert not modules & report["versions"].keys()


# --- Exit codes ---


def made_up(target: Bound | None = None, *goals: Bound) -> tuple[Family, ...]:
    row = Row("residue", "C", InC("residue"), ("memory read",), target, goals)
    return (Family("residue", (row,), {"memory read": InC("read")}),)


@pytest.mark.parametrize(
    ("target", "goals", "code"),
    [
        (Bound(">=", math.inf), (), DOES_NOT_HOLD),
        (Bound(">", 0), (), HOLDS),
        (Bound("<", 0), (Bound(">", 0),), DOES_NOT_HOLD),
        (Bound(">", 0), (Bound(">=", math.inf), Bound(">=", math.inf, "memory read")), HOLDS),
        (None, (), HOLDS),
    ],
)
def test_exit_code_tells_whether_the_contract_holds(
    quick: Callable[..., int], target: Bound | None, goals: tuple[Bound, ...], code: int
) -> None:
    assert quick("--size", WINDOW_BYTES, families=made_up(target, *goals)) == code


def test_a_missed_target_does_not_count_below_a_window(quick: Callable[..., int]) -> None:
    assert quick("--size", "96", families=made_up(Bound(">=", math.inf))) == HOLDS


def test_no_memory_is_an_error() -> None:
    done = run("bench", "--size", str(2**61))
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.startswith(b"atlas12288: bench: no memory")


def test_a_command_that_fails_is_an_error(
    quick: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    row = Row("memory", "command line", PeakMemory(("witness", "--no-such-option")))
    family = Family("memory", (row,), sized=False, timed=False)
    assert quick("--size", "96", families=(family,)) == COULD_NOT_CHECK
    assert "--no-such-option" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--size", "96", "--all-sizes"),
        ("--plot", "throughput.gif"),
        ("--plot", "-"),
        ("--js", "no/such/folder"),
        ("--plot", "no/such/folder/throughput.png"),
    ],
)
def test_wrong_usage_is_refused_before_any_work(
    quick: Callable[..., int], arguments: tuple[str, ...]
) -> None:
    started = Row("never", "C", InC("no such operation"))
    assert quick(*arguments, families=(Family("never", (started,)),)) == COULD_NOT_CHECK


# --- Kernel sets ---


@dataclass(frozen=True)
class Probe:
    """Notes the kernel set whenever it runs."""

    seen: set[str] = field(default_factory=set)

    def missing(self) -> None:
        return None

    def on(self, arena: Arena) -> bench.Work:
        def run_probe(repeats: int) -> float:
            self.seen.add(atlas12288.kernel_set())
            return repeats * 1000.0

        return run_probe


@pytest.mark.parametrize("name", RUNNABLE_KERNEL_SETS)
def test_a_forced_kernel_set_is_the_one_that_runs(
    quick: Callable[..., int], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    ours, peer = Probe(), Probe()
    family = Family("probe", (Row("probe", "C", ours, ("peer",)),), {"peer": peer})
    assert quick("--size", "96", "--kernels", name, "--json", families=(family,)) == HOLDS
    report = json.loads(capsys.readouterr().out)
    assert ours.seen == peer.seen == {name}
    assert report["kernel_set"] == report["rows"][0]["kernel_set"] == name


@pytest.mark.parametrize("name", RUNNABLE_KERNEL_SETS)
def test_a_row_with_its_own_kernel_set_uses_it_alone(name: str) -> None:
    before = atlas12288.kernel_set()
    own, other = Probe(), Probe()
    rows = Row("own", "C", own, kernels=name), Row("other", "C", other)
    measured = list(measure((96,), LEAST_EFFORT, (Family("probe", rows),)))
    assert (own.seen, other.seen) == ({name}, {before})
    assert [each.kernel_set for each in measured] == [name, before]
    assert atlas12288.kernel_set() == before


@pytest.mark.parametrize(
    ("short", "full"),
    [("avx512", "x86-64-v4"), ("avx2", "x86-64-v3"), ("sse2", "x86-64"), ("neon", "aarch64")],
)
def test_short_names_of_kernel_sets(short: str, full: str) -> None:
    if full not in RUNNABLE_KERNEL_SETS:
        pytest.skip(f"this CPU has no {full}")
    with_sha = {f"{full}+sha", f"{full}+sha2"} & set(RUNNABLE_KERNEL_SETS)
    in_use = atlas12288.kernel_set()
    if in_use.startswith(f"{full}+"):
        with_sha = {in_use}
    assert choose_kernel_set(short, sha=True) == (with_sha.pop() if with_sha else full)
    assert choose_kernel_set(short, sha=False) == full
    assert choose_kernel_set(full, sha=True) == full  # a whole name is taken exactly


@pytest.mark.parametrize("name", RUNNABLE_KERNEL_SETS)
def test_no_sha_ni_takes_the_same_set_without_it(name: str) -> None:
    assert choose_kernel_set(name, sha=True) == name
    assert choose_kernel_set(name, sha=False) == re.sub(r"\+sha2?(\+vbmi2)?$", "", name)


def test_an_unknown_kernel_set_is_refused_with_a_list() -> None:
    done = run("bench", "--kernels", "z80")
    assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b"")
    for name in RUNNABLE_KERNEL_SETS:
        assert name.encode() in done.stderr


# --- Under Node ---

# Answers as js/bench.mjs does, when it is run as `node SCRIPT --serve`; a window takes 1 us.
NODE = """#!{python}
import json, sys
if sys.argv[1:] == ["--version"]:
    print("v99")
    sys.exit()
assert sys.argv[2:] == ["--serve"]
for line in sys.stdin:
    request = json.loads(line)
    if request["work"] == {refused!r}:
        sys.exit("no such work")
    print(json.dumps({{"ns": request["repeats"] * request["size"] / 12.288}}), flush=True)
"""
JS_FILES = ("bench.mjs", "lib/atlas12288-simd.wasm")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a node in PATH that has its own idea of time; gives a folder with the package."""

    def make(refused: str = "") -> Path:
        programs, js = tmp_path / "bin", tmp_path / "js"
        for name in JS_FILES:
            (js / name).parent.mkdir(parents=True, exist_ok=True)
            (js / name).touch()
        programs.mkdir()
        (programs / "node").write_text(NODE.format(python=sys.executable, refused=refused))
        (programs / "node").chmod(0o755)
        monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
        return js

    return make


UNDER_NODE = tuple(family for family in FAMILIES if family.name == "WebAssembly")


def test_rows_under_node_have_their_figures_beside_native_ones(
    quick: Callable[..., int], node: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--size", WINDOW_BYTES, "--size", "256MiB", "--js", node(), "--json")
    assert quick(*arguments, families=UNDER_NODE) == HOLDS
    report = json.loads(capsys.readouterr().out)
    assert report["left_out"] == {}
    assert report["versions"]["node"] == "v99"
    assert {row["size"] for row in report["rows"]} == {WINDOW_BYTES}  # not that of 256 MiB
    for row in report["rows"]:
        assert (row["kernel_set"], row["caller"]) == ("wasm32+simd128", "Node")
        assert row["ours"]["median"] == pytest.approx(12.288)
        for peer in row["peers"]:
            ours = peer["name"] == "crypto.subtle.digest"
            assert (peer["median"] == pytest.approx(12.288)) is ours
            assert ours or peer["name"].startswith("native ")
    reached = {row["work"]: [goal["holds"] for goal in row["goals"]] for row in report["rows"]}
    assert reached["WASM conserved copy"] == reached["WASM residue"] == [True]


def test_a_node_that_fails_is_an_error(
    quick: Callable[..., int], node: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    js = node(refused="residue")
    assert quick("--size", "96", "--js", js, families=UNDER_NODE) == COULD_NOT_CHECK
    said = capsys.readouterr().err
    assert (
        said == "atlas12288: bench: node bench.mjs ended while it measured residue: no such work\n"
    )


@pytest.mark.parametrize("missing", [*JS_FILES, "node", "--js"])
def test_rows_under_node_say_what_they_need(
    missing: str,
    quick: Callable[..., int],
    node: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    js = node()
    if missing in JS_FILES:
        (js / missing).unlink()
        reason = f"needs make wasm: there is no {js / missing}"
    elif missing == "node":
        monkeypatch.setenv("PATH", str(js))
        reason = "needs node"
    else:
        reason = "needs node, make wasm and --js FOLDER"
    folder = () if missing == "--js" else ("--js", js)
    assert quick("--size", "96", *folder, families=UNDER_NODE) == HOLDS
    lines = capsys.readouterr().out.splitlines()
    for row in UNDER_NODE[0].rows:
        (line,) = [line for line in lines if line.strip().startswith(row.name)]
        assert re.search(rf"  not measured  .*  {re.escape(reason)}\s*$", line)


# --- The picture ---


@pytest.mark.slow
def test_plot_draws_every_family_on_buffers(quick: Callable[..., int], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    image = tmp_path / "throughput.svg"  # has its text as comments
    quick("--size", WINDOW_BYTES, "--size", "1MiB", "--plot", image)
    data = image.read_bytes()
    assert data.startswith(b"<?xml")
    missing = bench.left_out()
    for family in bench.FAMILIES:
        drawn = family.sized and any(row.name not in missing for row in family.rows)
        for name in (family.name, *(row.name for row in family.rows), *family.peers):
            expected = drawn and name not in missing
            assert (f"<!-- {name} -->".encode() in data) is expected, name


def test_plot_without_a_size_measures_all_sizes(
    quick: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    image = tmp_path / "throughput.png"
    family = Family("probe", (Row("probe", "C", Probe()),))
    assert quick("--plot", image, "--json", families=(family,)) == HOLDS
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["size"] for row in rows] == list(ALL_SIZES)
    assert image.read_bytes().startswith(b"\x89PNG")


# --- Measuring ---


def test_units_and_bounds() -> None:
    assert GB_PER_S.convert(1000.0, 25_000) == 25  # 25,000 bytes in 1 us
    assert NS_PER_BYTE.convert(1000.0, 100) == 10
    assert Bound(">=", 25).holds(25)
    assert not Bound(">=", 25).holds(24.9)
    assert not Bound("<", 10).holds(10)
    assert Bound("<=", 10).holds(10)
    assert not Bound(">", 1).holds(1)
    assert Figure.of([4, 1, 2, 3, 5]) == Figure(median=3, q1=2, q3=4)
    assert Figure.of([4]) == Figure(median=4, q1=4, q3=4)


@dataclass(frozen=True)
class Clock:
    """Work that says that a run takes the next of these times."""

    ns: list[float]

    def missing(self) -> None:
        return None

    def on(self, arena: Arena) -> bench.Work:
        times = iter(self.ns)
        return lambda repeats: next(times) * repeats


def test_figures_ratios_and_verdicts_are_those_of_the_times() -> None:
    warm_up = 10_000
    ours, peer = Clock([warm_up, 100, 200, 400]), Clock([warm_up, 300, 300, 300])
    goals = Bound(">=", 1.5, "peer"), Bound(">", 1.5, "peer"), Bound(">=", 1, "absent")
    row = Row("work", "C", ours, ("peer",), Bound("<", WINDOW_BYTES / 200), goals)
    effort = Sampling(rounds=3, least_rounds=3, family_s=0, sample_s=1e-6, runs=1)
    (measured,) = measure((WINDOW_BYTES,), effort, [Family("family", (row,), {"peer": peer})])
    assert measured.ours.median == WINDOW_BYTES / 200  # GB/s
    assert measured.peers[0].ratio.median == 300 / 200
    assert [(judged.bound, judged.holds) for judged in measured.goals] == [
        (goals[0], True),
        (goals[1], False),  # the third one has no peer here
    ]
    assert measured.target is not None
    assert not measured.target.holds
    assert not targets_hold([measured])


def test_families_take_turns() -> None:
    order: list[str] = []

    @dataclass(frozen=True)
    class Named:
        name: str

        def missing(self) -> None:
            return None

        def on(self, arena: Arena) -> bench.Work:
            def work(repeats: int) -> float:
                order.append(self.name)
                return 10_000

            return work

    family = Family("family", (Row("a", "C", Named("A"), ("b",)),), {"b": Named("B")})
    list(measure((96,), LEAST_EFFORT, [family]))
    assert order == ["A", "B"] * 3  # to warm up, and two rounds


@pytest.mark.parametrize("size", [1, 96, 4096, WINDOW_BYTES, WINDOW_BYTES + 1])
def test_arenas_are_aligned_conserved_and_apart(size: int) -> None:
    arena = Memory(2 * WINDOW_BYTES).arena(size)
    assert len(arena.src) == len(arena.dst) == size
    assert atlas12288.is_conserved(arena.src)
    time_operation("memset", arena.dst, arena.src, 1)
    assert atlas12288.is_conserved(arena.src)
    time_operation("conserved_memcpy", arena.dst, arena.src, 1)
    assert arena.dst == arena.src


@pytest.mark.parametrize("operation", timed_operations())
def test_operations_do_their_work(operation: str) -> None:
    source = bytearray(range(100)) * 61
    atlas12288.fixup(source)
    fixed, target = bytes(source), bytearray(len(source))
    assert time_operation(operation, target, source, 3) > 0
    assert source == fixed
    written = {
        "memcpy": fixed,
        "conserved_memcpy": fixed,
        "memset": b"\x5a" * len(fixed),
        "conserved_memset": b"\x5a" * (len(fixed) - 1) + target[-1:],
    }
    assert bytes(target) == written.get(operation, bytes(len(fixed)))


def test_an_operation_that_is_refused_is_not_timed() -> None:
    source = bytearray(b"\x01")  # not conserved
    with pytest.raises(ValueError, match="conserved_memcpy"):
        time_operation("conserved_memcpy", bytearray(1), source, 1)


def test_peak_memory_is_that_of_the_program_alone() -> None:
    ballast = bytearray(b"\1") * (256 * 2**20)  # this process has it, and it does not count
    printed, interpreter = bench.run_for_peak("print(sys.argv[1])", "printed")
    assert printed == "printed\n"
    assert interpreter < len(ballast) // 2
    _, peak = bench.run_for_peak("bytearray(b'\\1') * 2**26")
    assert peak - interpreter > 2**25  # the kernel's count is not exact to the page


# --- The tools of docs/performance.md ---


def test_the_document_has_a_place_for_every_table() -> None:
    tool = PERFORMANCE_DOCS
    document = (ROOT / "docs" / "performance.md").read_text()
    for name in tool["TABLES"]:
        document = tool["replace_table"](document, name, f"table of {name}")
        assert document.count(f"<!-- {name} -->\n\ntable of {name}\n\n<!-- end of") == 1
    with pytest.raises(ValueError, match="nowhere"):
        tool["replace_table"](document, "nowhere", "")


def test_what_python_does_for_a_file_is_told_for_both_folders_and_their_difference() -> None:
    done = subprocess.run(
        (sys.executable, ROOT / "benchmarks" / "python_part.py", "500"),
        capture_output=True,
        text=True,
        check=True,
    )
    rows = re.findall(r"^\| (.+) \| \d+\.\d{3} \| -?\d+\.\d{3} \|", done.stdout, re.MULTILINE)
    assert rows == ["100", "500", "the difference"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--most=1",), ("1 KiB", "96 KiB", "1 MiB", "files", "10", "10 --update")),
        pytest.param(("--most=0", "--no-updates"), ("files", "10"), marks=pytest.mark.slow),
    ],
    ids=["updates", "no updates"],
)
def test_growth_prints_a_row_for_each_size(
    options: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    done = subprocess.run(
        (sys.executable, ROOT / "benchmarks" / "growth.py", "--files=10", *options),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in rows if not row[0].endswith(":")] == ["file", *expected]
    for cells in rows:
        assert len(cells) == 7
        if cells[0][0].isdigit():
            assert all(float(cell) > 0 for cell in cells[1:])
