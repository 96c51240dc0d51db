# SPDX-License-Identifier: Apache-2.0
"""Trees on the command line: `witness --tree`, `verify`, `locate`, `prove` and `verify-proof`."""

import json
import os
import signal
import stat
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from atlas12288 import WINDOW_BYTES, InclusionProof, TreeWitness, Witness
from atlas12288._subtree import BLOCK_BYTES
from support.commandline import (
    COULD_NOT_CHECK,
    DOES_NOT_HOLD,
    HOLDS,
    INTERRUPTED,
    TIMEOUT_S,
    before_read,
    files_in,
    peak_kib,
    ranges,
    run,
    run_on_terminal,
    sparse_file,
    start,
    wait_until_read,
    without_colour,
)
from support.strategies import noise

GIB = 2**30
DATA = noise(300 * WINDOW_BYTES + 1000)
SIDECAR = "w.json.atlas.leaves"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with `data`, its witness `w.json` and the leaves."""
    monkeypatch.chdir(tmp_path)
    Path("data").write_bytes(DATA)
    assert run("witness", "--tree", "data", "-o", "w.json").returncode == HOLDS
    return tmp_path


def damage(*windows: int) -> None:
    data = bytearray(DATA)
    for window in windows:
        data[window * WINDOW_BYTES + window] ^= 1
    Path("data").write_bytes(data)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """The only line on standard error of a run that could not check."""
    assert done.returncode == COULD_NOT_CHECK
    (line,) = done.stderr.decode().splitlines()
    return line


# --- witness --tree ---


def test_a_tree_witness_and_its_leaves(folder: Path) -> None:
    witness = TreeWitness.from_json(Path("w.json").read_text().removesuffix("\n"))
    assert witness.with_leaves(Path(SIDECAR).read_bytes()).changed(DATA) == []
    assert witness.residue == sum(DATA) % 96
    assert names(folder) == {"data", "w.json", SIDECAR}


def test_without_o_there_is_only_the_witness(folder: Path) -> None:
    before = names(folder)
    done = run("witness", "--tree", "data", "-", input=DATA[:5])
    first, second = (json.dumps(json.loads(line)["witness"]) for line in done.stdout.splitlines())
    assert TreeWitness.from_json(first).verify(DATA)
    assert TreeWitness.from_json(second).verify(DATA[:5])
    assert names(folder) == before


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_number_of_threads_gives_the_same(folder: Path, threads: int) -> None:
    done = run("witness", "--tree", f"--threads={threads}", "data", "-o", "other.json")
    assert done.returncode == HOLDS
    assert Path("other.json.atlas.leaves").read_bytes() == Path(SIDECAR).read_bytes()
    roots = [json.loads(Path(name).read_text())["digest"] for name in ("w.json", "other.json")]
    assert roots[0] == roots[1]


def test_leaves_of_several_files_are_in_one_sidecar(folder: Path) -> None:
    for index in range(4):
        Path(f"f{index}").write_bytes(DATA[: index * (WINDOW_BYTES + 1)])
    files = [f"f{index}" for index in range(4)]
    assert run("witness", "--tree", *files, "-o", "all").returncode == HOLDS
    assert Path("all.atlas.leaves").stat().st_size == 32 * (0 + 2 + 3 + 4)
    assert run("verify", "all", *files).returncode == HOLDS
    Path("f2").write_bytes(DATA[:WINDOW_BYTES])
    done = run("verify", "--json", "all", *files)
    assert done.returncode == DOES_NOT_HOLD
    assert [item["holds"] for item in files_in(done.stdout)] == [True, True, False, True]
    assert files_in(done.stdout)[2]["ranges"] == ranges((WINDOW_BYTES, 2 * WINDOW_BYTES + 2))


def test_names_of_the_sidecar(folder: Path) -> None:
    for output, sidecar in (
        ("x.json", "x.json.atlas.leaves"),
        ("x.witness.json", "x.witness.json.atlas.leaves"),
        ("x", "x.atlas.leaves"),
        ("odd \udcff\n.json", "odd \udcff\n.json.atlas.leaves"),
    ):
        assert run("witness", "--tree", "data", "-o", output).returncode == HOLDS
        assert Path(sidecar).read_bytes() == Path(SIDECAR).read_bytes()
        assert run("locate", output, "data").returncode == HOLDS


def test_a_file_that_is_no_sidecar_of_the_output_is_not_replaced(folder: Path) -> None:
    leaves = Path(SIDECAR).read_bytes()
    Path("other").write_bytes(DATA[1:])
    other = run("witness", "--tree", "other").stdout
    cases = [  # name of the output, its sidecar, what that has, and the file that it is of
        ("x.json", "x.json.atlas.leaves", b"my notes", None),
        ("x.json", "x.json.atlas.leaves", leaves, None),
        ("x.json", "x.json.atlas.leaves", leaves, other),
        ("x.json", "x.json.atlas.leaves", leaves[:64], other),  # a key of the user, say
        ("w.json", SIDECAR, leaves + b"1", Path("w.json").read_bytes()),
        ("w.json", SIDECAR, leaves + bytes(32), Path("w.json").read_bytes()),
        ("w.json", SIDECAR, leaves[32:] + leaves[:32], Path("w.json").read_bytes()),
    ]
    for output, sidecar, content, witness in cases:
        Path(sidecar).write_bytes(content)
        if witness is not None:
            Path(output).write_bytes(witness)
        done = run("witness", "--tree", "data", "-o", output)
        assert done.returncode == COULD_NOT_CHECK
        reason = f"-o {sidecar}: is not a file with the leaves of {output} as it is, and is not "
        assert reason in done.stderr.decode()
        assert Path(sidecar).read_bytes() == content
    Path(SIDECAR).write_bytes(leaves)
    assert run("witness", "--tree", "data", "-o", "w.json").returncode == HOLDS


def test_a_link_where_nobody_typed_a_name_is_not_followed(folder: Path) -> None:
    leaves = Path(SIDECAR).read_bytes()
    Path("elsewhere").mkdir()
    for content in (leaves, b"", None):
        Path(SIDECAR).unlink()
        Path("elsewhere/key").unlink(missing_ok=True)
        if content is not None:
            Path("elsewhere/key").write_bytes(content)
        Path(SIDECAR).symlink_to("elsewhere/key")
        done = run("witness", "--tree", "data", "-o", "w.json")
        assert done.returncode == COULD_NOT_CHECK
        reason = f"-o {SIDECAR}: is a symbolic link to elsewhere/key, and is not replaced"
        assert reason in done.stderr.decode()
        done = run("locate", "w.json", "data")
        assert complaint(done) == (
            f"atlas12288: {SIDECAR}: is a symbolic link, which is not followed"
        )
        assert "symbolic link" in complaint(run("prove", "--window=1", "--witness=w.json"))
        done = run("verify", "w.json", "data")
        assert (done.returncode, done.stdout) == (2, b"data: matches its witness\n")
        assert Path("elsewhere/key").exists() == (content is not None)
        assert content is None or Path("elsewhere/key").read_bytes() == content
    Path("elsewhere/key").write_bytes(leaves)
    assert run("locate", "--leaves", SIDECAR, "w.json", "data").returncode == HOLDS


def test_no_two_outputs_share_a_sidecar(folder: Path) -> None:
    Path("sub").mkdir()
    Path("sub/f").write_bytes(DATA)
    for output in ("x.json", "x.atlas.json", "x.json.atlas.json"):
        done = run("witness", "--tree", "sub" if "atlas" in output else "data", "-o", output)
        if output == "x.json.atlas.json":  # would have that of x.json
            assert done.returncode == COULD_NOT_CHECK
            assert complaint(done) == (
                "atlas12288: x.json.atlas.leaves: is not a file with the leaves of "
                "x.json.atlas.json as it is, and is not replaced: remove it if it has old leaves"
            )
        else:
            assert done.returncode == HOLDS
    assert run("locate", "x.json", "data").returncode == HOLDS
    assert run("verify", "x.atlas.json", "sub").returncode == HOLDS


def test_a_witness_without_a_tree_takes_the_leaves_of_the_old_one_away(folder: Path) -> None:
    done = run("witness", "data", "missing", "-o", "w.json")  # not written
    assert done.returncode == COULD_NOT_CHECK
    assert Path(SIDECAR).exists()
    done = run("witness", "data", "-o", "w.json")
    assert (done.returncode, done.stderr.decode()) == (
        HOLDS,
        f"atlas12288: {SIDECAR}: is removed: it had the leaves of w.json, which has no trees now\n",
    )
    assert names(folder) == {"data", "w.json"}
    for content in (b"", b"k" * 64):  # a key, say
        Path(SIDECAR).write_bytes(content)
        done = run("witness", "data", "-o", "w.json")
        assert (done.returncode, done.stderr) == (HOLDS, b"")
        assert Path(SIDECAR).read_bytes() == content


def test_both_files_are_written_or_none(folder: Path) -> None:
    before = {name: Path(name).read_bytes() for name in names(folder)}
    done = run("witness", "--tree", "data", "missing", "-o", "w.json")
    assert done.returncode == COULD_NOT_CHECK
    assert b"w.json: not written" in done.stderr
    assert {name: Path(name).read_bytes() for name in names(folder)} == before
    Path("x.json.atlas.leaves").mkdir()
    done = run("witness", "--tree", "data", "-o", "x.json")
    assert done.returncode == COULD_NOT_CHECK
    assert b"x.json.atlas.leaves: is not a regular file" in done.stderr
    assert not Path("x.json").exists()


def test_a_full_disk_leaves_nothing(folder: Path) -> None:
    before = names(folder)
    code = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
    )
    done = run("witness", "--tree", "data", "-o", "x.json", before=code)
    assert complaint(done) == "atlas12288: x.json: File too large"
    assert names(folder) == before


def test_modes_follow_the_umask(folder: Path) -> None:
    run("witness", "--tree", "data", "-o", "x.json", umask=0o027)
    for name in ("x.json", "x.json.atlas.leaves"):
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o640


def test_ctrl_c_leaves_what_was_there(folder: Path) -> None:
    before = {name: Path(name).read_bytes() for name in names(folder)}
    big = sparse_file(folder / "big", 64 * GIB)
    process = start("witness", "--tree", "data", big, "-o", "w.json")
    wait_until_read(process, 2**26)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (INTERRUPTED, b"")
    assert b"Traceback" not in err
    big.unlink()
    assert {name: Path(name).read_bytes() for name in names(folder)} == before


@pytest.mark.parametrize("change", ["shrinks", "grows"])
def test_a_file_that_changes_size_under_a_running_read(folder: Path, change: str) -> None:
    big = sparse_file(folder / "big", 4 * BLOCK_BYTES)
    size = BLOCK_BYTES if change == "shrinks" else 4 * BLOCK_BYTES + 1
    disturbed = before_read(2, f"os.truncate({str(big)!r}, {size})")
    done = run("witness", "--tree", big, "data", before=disturbed)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.decode().startswith(f"atlas12288: {big}: changed while it was read")
    first, second = map(json.loads, done.stdout.decode().splitlines())
    assert first == {"file": str(big), "witness": None}
    assert second["witness"]["length"] == len(DATA)


@pytest.mark.slow
def test_memory_is_constant_with_leaves_too(folder: Path) -> None:
    sparse_file(folder / "big", GIB // 4)

    base = peak_kib()
    assert peak_kib("witness", "--tree", "--threads=16", "big", "-o", "b.json") - base <= 64 * 1024
    with Path("big").open("r+b") as file:  # every second window of its first part
        for window in range(0, 10_000, 2):
            file.seek(window * WINDOW_BYTES)
            file.write(b"x")
    assert Path("b.json.atlas.leaves").stat().st_size == 32 * -(-GIB // 4 // WINDOW_BYTES)
    assert peak_kib("locate", "b.json", "big") - base <= 64 * 1024


# --- verify ---


def test_verify_holds(folder: Path) -> None:
    done = run("verify", "w.json", "data")
    assert (done.returncode, done.stdout) == (HOLDS, b"data: matches its witness\n")
    assert run("verify", "w.json", "-", input=DATA).returncode == HOLDS
    assert run("verify", "-", "data", input=Path("w.json").read_bytes()).returncode == HOLDS
    (item,) = files_in(run("verify", "--json", "w.json", "data").stdout)
    assert (item["holds"], item["ranges"], item["what"]) == (True, [], [])


def test_verify_lists_what_changed(folder: Path) -> None:
    damage(0, 7, 8, 300)
    done = run("verify", "w.json", "data")
    assert done.returncode == DOES_NOT_HOLD
    lines = done.stdout.decode().splitlines()
    assert lines[:5] == [
        "data: does not match its witness",
        "  windows  4 of 301 differ:",
        "           bytes [0, 12288)  window 0",
        "           bytes [86016, 110592)  windows 7 to 8",
        f"           bytes [3686400, {len(DATA)})  window 300",
    ]
    differences = ["residue", "digest"]
    assert [line.split()[0] for line in lines[5::2]] == differences
    (item,) = files_in(run("verify", "--json", "w.json", "data").stdout)
    assert item["ranges"] == ranges((0, 12288), (86016, 110592), (3686400, len(DATA)))
    assert item["holds"] is False
    assert item["what"] == differences
    assert item["witness"] == json.loads(Path("w.json").read_text())
    assert item["found"]["length"] == len(DATA)


def test_verify_shows_the_first_ranges_of_many(folder: Path) -> None:
    damage(*range(0, 300, 2))
    lines = run("verify", "w.json", "data").stdout.decode().splitlines()
    assert lines[1] == "  windows  150 of 301 differ:"
    assert lines[21] == "           bytes [466944, 479232)  window 38"
    assert lines[22] == "           and 130 more ranges; locate prints them all"
    (item,) = files_in(run("verify", "--json", "w.json", "data").stdout)
    assert item["ranges"] == ranges(*((w * 12288, (w + 1) * 12288) for w in range(0, 300, 2)))


@pytest.mark.parametrize(
    ("content", "changed"),
    [
        (DATA[:-1], [300 * 12288, len(DATA)]),
        (DATA[: 200 * 12288], [200 * 12288, len(DATA)]),
        (DATA + b"x", [300 * 12288, len(DATA) + 1]),
        (DATA + bytes(3 * 12288), [300 * 12288, len(DATA) + 3 * 12288]),
        (b"", [0, len(DATA)]),
        (b"short", [0, len(DATA)]),
    ],
    ids=["a byte lost", "a third lost", "a byte more", "windows more", "emptied", "short"],
)
def test_files_that_grew_or_shrank(folder: Path, content: bytes, changed: list[int]) -> None:
    Path("data").write_bytes(content)
    (item,) = files_in(run("verify", "--json", "w.json", "data").stdout)
    assert item["ranges"] == ranges(changed)
    assert "length" in item["what"]
    done = run("locate", "w.json", "data")
    assert (done.returncode, done.stdout) == (DOES_NOT_HOLD, b"%d %d\n" % tuple(changed))


@pytest.mark.parametrize("length", [0, 1, WINDOW_BYTES])
def test_short_files(folder: Path, length: int) -> None:
    Path("data").write_bytes(DATA[:length])
    assert run("witness", "--tree", "data", "-o", "w.json").returncode == HOLDS
    assert run("verify", "w.json", "data").stdout == b"data: matches its witness\n"
    assert run("locate", "w.json", "data").returncode == HOLDS
    Path("data").write_bytes(DATA[1 : length + 2])
    assert run("locate", "w.json", "data").stdout.startswith(b"0 ")


def test_without_leaves_verify_still_says_what_it_can(folder: Path) -> None:
    Path(SIDECAR).unlink()
    assert run("verify", "w.json", "data").returncode == HOLDS
    damage(3)
    done = run("verify", "w.json", "data")
    assert done.returncode == DOES_NOT_HOLD
    lines = done.stdout.decode().splitlines()
    assert lines[1] == "  windows  not known without the leaves of the witness"
    (item,) = files_in(run("verify", "--json", "w.json", "data").stdout)
    assert (item["ranges"], item["holds"]) == (None, False)


def test_leaves_elsewhere(folder: Path) -> None:
    damage(3)
    Path(SIDECAR).rename("elsewhere")
    for command in ("verify", "locate"):
        done = run(command, "--leaves", "elsewhere", "w.json", "data")
        assert done.returncode == DOES_NOT_HOLD
        assert b"36864" in done.stdout
        done = run(command, "--leaves", "missing", "w.json", "data")
        assert complaint(done) == "atlas12288: missing: No such file or directory"
    proof = run("prove", "--window=1", "--witness=w.json", "--leaves=elsewhere")
    assert InclusionProof.from_json(proof.stdout.decode()).index == 1


def cut(data: bytes) -> bytes:
    return data[:-1]


def drop(data: bytes) -> bytes:
    return data[32:]


def flip(data: bytes) -> bytes:
    return data[:40] + bytes([data[40] ^ 1]) + data[41:]


def of_another_file(data: bytes) -> bytes:
    other = TreeWitness.generate(noise(len(DATA), 1)).leaves
    assert other is not None
    return other


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut, "has 9631 bytes, must have 9632"),
        (drop, "has 9600 bytes, must have 9632"),
        (lambda data: b"", "has 0 bytes, must have 9632"),
        (flip, "damaged, or belong to another witness"),
        (of_another_file, "damaged, or belong to another witness"),
    ],
    ids=["cut", "a leaf lost", "emptied", "damaged", "of another file"],
)
def test_leaves_that_are_not_those_of_the_witness(
    folder: Path, spoil: Callable[[bytes], bytes], reason: str
) -> None:
    Path(SIDECAR).write_bytes(spoil(Path(SIDECAR).read_bytes()))
    done = run("locate", "w.json", "data")
    assert complaint(done).startswith(f"atlas12288: {SIDECAR}: ")
    assert reason in complaint(done)
    assert done.stdout == b""
    assert reason in complaint(run("prove", "--window=1", "--witness=w.json"))
    # The root still says whether the file is what it was.
    done = run("verify", "w.json", "data")
    assert reason in complaint(done)
    assert done.stdout == b"data: matches its witness\n"
    damage(3)
    done = run("verify", "--json", "w.json", "data")
    assert reason in complaint(done)
    (item,) = files_in(done.stdout)
    assert (item["holds"], item["ranges"]) == (False, None)


def test_flat_and_tree_witnesses_in_one_file(folder: Path) -> None:
    lines = run("witness", "data").stdout + Path("w.json").read_bytes()
    Path("w.json").write_bytes(lines)
    done = run("verify", "--json", "w.json", "data", "data")
    assert done.returncode == HOLDS
    flat, tree = files_in(done.stdout)
    assert flat["witness"]["algorithm"] == "sha256"
    assert (flat["ranges"], tree["ranges"]) == (None, [])


def test_a_witness_that_contradicts_itself(folder: Path) -> None:
    text = (
        Path("w.json").read_text().replace(f'"length": {len(DATA)}', f'"length": {len(DATA) - 1}')
    )
    Path("w.json").write_text(text)
    assert "another length or residue" in complaint(run("locate", "w.json", "data"))
    assert run("verify", "w.json", "data").returncode == DOES_NOT_HOLD


# --- verify --plot ---


def test_plot_is_made(folder: Path) -> None:
    damage(3)
    done = run("verify", "--plot", "map.png", "w.json", "data")
    assert done.returncode == DOES_NOT_HOLD
    assert Path("map.png").read_bytes().startswith(b"\x89PNG")
    assert b"window 3" in done.stdout


def test_plot_as_a_sketch_on_a_terminal(folder: Path) -> None:
    damage(3)
    code, text, _ = run_on_terminal("verify", "--plot", "w.json", "data")
    assert code == DOES_NOT_HOLD
    (row, *_) = [line for line in without_colour(text).splitlines() if "|" in line]
    assert row.split("|")[1].startswith("···X··")
    assert "\x1b[31mX" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--plot", "w.json", "data"), "needs a terminal"),
        (("--plot", "--json", "w.json", "data"), "exclude each other"),
        (("--plot=map.gif", "w.json", "data"), "must end in .png"),
        (("--plot=no/map.png", "w.json", "data"), "does not exist"),
        (("--plot=data.png", "w.json", "data.png"), "is also read"),
        (("--plot=photo.png", "w.json", "data"), "is not a picture (png) that atlas12288 drew"),
        (("--plot=link.png", "w.json", "data"), "is a symbolic link to map.png, and is not"),
        (("--plot=map.png", "flat.json", "data"), "needs tree witnesses with leaves"),
        (("--plot=map.png", "bare.json", "data"), "needs tree witnesses with leaves"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_plots_that_cannot_be_made(folder: Path, arguments: tuple[str, ...], reason: str) -> None:
    Path("data.png").write_bytes(DATA)
    Path("photo.png").write_bytes(b"\x89PNG\r\n\x1a\n a photo")
    Path("link.png").symlink_to("map.png")
    Path("flat.json").write_bytes(run("witness", "data").stdout)
    Path("bare.json").write_bytes(Path("w.json").read_bytes())
    done = run("verify", *arguments)
    assert done.returncode == COULD_NOT_CHECK
    assert reason in done.stderr.decode()
    assert Path("data.png").read_bytes() == DATA
    assert not Path("map.png").exists()


# --- locate ---


def test_locate_prints_ranges_and_nothing_else(folder: Path) -> None:
    done = run("locate", "w.json", "data")
    assert (done.returncode, done.stdout, done.stderr) == (HOLDS, b"", b"")
    damage(0, 7, 8, 300)
    done = run("locate", "w.json", "data")
    assert (done.returncode, done.stderr) == (DOES_NOT_HOLD, b"")
    assert done.stdout.decode() == f"0 12288\n86016 110592\n3686400 {len(DATA)}\n"
    (item,) = files_in(run("locate", "--json", "w.json", "data").stdout)
    changed = ranges((0, 12288), (86016, 110592), (3686400, len(DATA)))
    assert item == {"file": "data", "ranges": changed, "holds": False, "error": None}


def test_locate_cannot_without_leaves(folder: Path) -> None:
    Path(SIDECAR).unlink()
    assert "w.json: has no leaves" in complaint(run("locate", "w.json", "data"))
    done = run("locate", "--json", "w.json", "data")
    (item,) = files_in(done.stdout)
    assert (item["holds"], item["ranges"]) == (None, None)
    assert item["error"].startswith("w.json: has no leaves")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"hello\n", "text must be JSON"),
        (b"null\n", "has no witness"),
        (b"", "has 0 witnesses for 1 files"),
        (b"{}\n{}\n", "has 2 witnesses for 1 files"),
        (b"\0" * 10**7, "too long"),
    ],
    ids=["text", "null", "empty", "two", "long"],
)
def test_what_is_not_a_witness(folder: Path, text: bytes, reason: str) -> None:
    for command in (("locate", "-", "data"), ("prove", "--window=0", "--witness=-")):
        line = complaint(run(*command, input=text))
        assert line.startswith("atlas12288: -: ")
        assert reason in line


def test_a_flat_witness_knows_no_windows(folder: Path) -> None:
    Path("flat.json").write_bytes(run("witness", "data").stdout)
    assert "--tree makes one" in complaint(run("locate", "flat.json", "data"))
    done = run("verify", "--leaves", SIDECAR, "flat.json", "data")
    assert done.returncode == COULD_NOT_CHECK
    assert Witness.from_json(Path("flat.json").read_text()).verify(DATA)


def test_locate_of_a_file_that_cannot_be_read(folder: Path) -> None:
    done = run("locate", "--json", "w.json", "missing")
    assert complaint(done) == "atlas12288: missing: No such file or directory"
    (item,) = files_in(done.stdout)
    assert item == {
        "file": "missing",
        "ranges": [],
        "holds": None,
        "error": "No such file or directory",
    }


def test_the_loop_in_the_help_of_locate_repairs_a_file(folder: Path) -> None:
    Path("good.bin").write_bytes(DATA)
    text = run("locate", "--help").stdout.decode()
    loop = text[text.rindex("    atlas12288 locate") : text.index("Exit codes")]
    loop = loop.replace("model.witness.json", "w.json").replace("model.bin", "data")
    damage(0, 7, 8, 299)
    scripts = sysconfig.get_path("scripts")
    environment = os.environ | {"PATH": scripts + os.pathsep + os.environ["PATH"]}
    subprocess.run(("sh", "-c", loop), check=True, capture_output=True, env=environment)
    assert Path("data").read_bytes() == DATA


# --- prove and verify-proof ---


@pytest.fixture
def proof(folder: Path) -> InclusionProof:
    assert run("prove", "--window", "7", "data", "-o", "p.json").returncode == HOLDS
    Path("window").write_bytes(DATA[7 * WINDOW_BYTES : 8 * WINDOW_BYTES])
    return InclusionProof.from_json(Path("p.json").read_text().removesuffix("\n"))


def test_a_proof_replaces_nothing_but_a_proof(proof: InclusionProof) -> None:
    before = Path("p.json").read_bytes()
    assert run("prove", "--window", "8", "data", "-o", "p.json").returncode == HOLDS
    assert InclusionProof.from_json(Path("p.json").read_text()).index == 8
    Path("p.json").write_bytes(before)
    Path("notes").write_bytes(before + b"and my notes\n")
    Path("link").symlink_to("p.json")
    kept = {name: Path(name).read_bytes() for name in ("notes", "w.json", "p.json")}
    for output, reason in (
        ("notes", "is not a proof, and is not replaced"),
        ("w.json", "is not a proof, and is not replaced"),
        ("link", "is a symbolic link to p.json, and is not replaced"),
    ):
        done = run("prove", "--window", "8", "data", "-o", output)
        assert done.returncode == COULD_NOT_CHECK
        assert done.stderr.decode().endswith(f"Error: -o {output}: {reason}\n")
    assert {name: Path(name).read_bytes() for name in kept} == kept


def test_a_proof_from_the_file_and_from_the_leaves(proof: InclusionProof) -> None:
    assert proof == TreeWitness.generate(DATA).prove(7)
    text = Path("p.json").read_bytes()
    Path("data").unlink()
    for where in (("--window=7",), (f"--offset={7 * 12288}",), (f"--offset={8 * 12288 - 1}",)):
        done = run("prove", *where, "--witness", "w.json")
        assert (done.returncode, done.stdout) == (HOLDS, text)
    done = run("prove", "--json", "--window=7", "--witness", "w.json")
    item = json.loads(done.stdout)
    assert item == {
        "type": "atlas12288/report/v1",
        "command": "prove",
        "file": "w.json",
        "proof": json.loads(text),
        "holds": None,
        "error": None,
    }


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--window=301", "data"), "has the windows 0..300, not 301"),
        (("--window=301", "--witness=w.json"), "has the windows 0..300, not 301"),
        (("--window=0", "missing"), "No such file or directory"),
        (("--window=0", "."), "is a directory"),
        (("--window=0",), "either FILE or --witness"),
        (("--window=0", "data", "--witness=w.json"), "either FILE or --witness"),
        (("data",), "either --window N or --offset BYTE"),
        (("--window=0", "--offset=0", "data"), "either --window N or --offset BYTE"),
        (("--window=-1", "data"), "--window"),
        (("--window=0", "-"), "cannot be standard input"),
        (("--window=0", "data", "--leaves", SIDECAR), "--leaves needs --witness"),
        (("--window=0", "data", "-o", "data"), "is also read"),
        (("--window=0", "--witness=w.json", "-o", SIDECAR), "is also read"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_proofs_that_cannot_be_made(folder: Path, arguments: tuple[str, ...], reason: str) -> None:
    done = run("prove", *arguments)
    assert done.returncode == COULD_NOT_CHECK
    assert reason in done.stderr.decode()
    assert done.stdout == b""
    assert Path("data").read_bytes() == DATA


def test_a_proof_holds(proof: InclusionProof) -> None:
    root = proof.root.hex()
    for arguments in (("window",), ("-",), ("--from=data",)):
        for demand in (("--root", root), ("--root", root.upper()), ("--witness", "w.json")):
            done = run(
                "verify-proof", "p.json", *arguments, *demand, input=Path("window").read_bytes()
            )
            assert done.returncode == HOLDS
            assert done.stdout.decode() == (
                f"p.json: window 7 of 301, proven\n  under the root {root}\n"
            )


def test_a_root_that_nobody_vouches_for_is_said_to_be_one(proof: InclusionProof) -> None:
    done = run("verify-proof", "p.json", "window")
    assert done.returncode == COULD_NOT_CHECK
    first, second, *_ = done.stdout.decode().splitlines()
    assert first == "p.json: window 7 of 301, consistent, under a root that came with the proof"
    assert second == f"  under the root {proof.root.hex()}"
    assert "says nothing about the origin" in done.stdout.decode()
    done = run("verify-proof", "--json", "p.json", "window")
    assert done.returncode == COULD_NOT_CHECK
    assert json.loads(done.stdout) == {
        "type": "atlas12288/report/v1",
        "command": "verify-proof",
        "proof": "p.json",
        "file": "window",
        "holds": None,
        "reason": "the root came with the proof",
        "window": 7,
        "root": proof.root.hex(),
        "root_from": "proof",
        "error": None,
    }


def test_a_proof_does_not_hold(proof: InclusionProof) -> None:
    other = TreeWitness.generate(DATA[:-1])
    Path("other.json").write_text(other.to_json())
    window = Path("window").read_bytes()
    for arguments, content, reason in (
        (("-",), window[:-1] + bytes([window[-1] ^ 1]), "not the bytes that were proven"),
        (("-",), window[:-1], "not the bytes that were proven"),
        (("-",), b"", "the window has no bytes"),
        (("-", "--root", "0" * 64), window, f"must be {'0' * 64}"),
        (("-", "--witness", "other.json"), window, f"must be {other.root.hex()}"),
    ):
        done = run("verify-proof", "p.json", *arguments, input=content)
        assert done.returncode == DOES_NOT_HOLD
        assert done.stdout.decode().startswith("p.json: window 7 of 301, not proven: ")
        assert reason in done.stdout.decode()
    damage(7)
    assert run("verify-proof", "p.json", "--from=data").returncode == DOES_NOT_HOLD
    damage(6, 8)
    root = proof.root.hex()
    assert run("verify-proof", "p.json", "--from=data", "--root", root).returncode == HOLDS
    Path("data").write_bytes(DATA[:WINDOW_BYTES])
    done = run("verify-proof", "p.json", "--from=data")
    assert (done.returncode, b"has no bytes" in done.stdout) == (DOES_NOT_HOLD, True)


def test_a_proof_that_anybody_can_make_is_not_said_to_hold(tmp_path: Path) -> None:
    forged = TreeWitness.generate(b"anything").prove(0)
    (tmp_path / "p.json").write_text(forged.to_json())
    (tmp_path / "window").write_bytes(b"anything")
    done = run("verify-proof", "--json", tmp_path / "p.json", tmp_path / "window")
    assert done.returncode == COULD_NOT_CHECK
    assert json.loads(done.stdout)["holds"] is None
    (tmp_path / "window").write_bytes(b"another")
    done = run("verify-proof", "--json", tmp_path / "p.json", tmp_path / "window")
    assert done.returncode == DOES_NOT_HOLD
    assert json.loads(done.stdout)["holds"] is False


@pytest.mark.parametrize("size", [750599937895082, 750599937895083, 2**62, 10**400])
def test_a_proof_of_a_window_that_no_file_has_is_an_error_or_does_not_hold(
    proof: InclusionProof, size: int
) -> None:
    fields = json.loads(proof.to_json())
    Path("p.json").write_text(json.dumps(fields | {"index": size - 1, "size": size}))
    done = run("verify-proof", "--json", "p.json", "--from=data")
    item = json.loads(done.stdout)
    if size == 750599937895082:  # the last one that a file may have
        assert (done.returncode, item["holds"]) == (DOES_NOT_HOLD, False)
        assert item["reason"] == "the window has no bytes"
    else:
        assert (done.returncode, item["holds"]) == (COULD_NOT_CHECK, None)
        assert item["error"].startswith("p.json: size is ")
        assert item["error"].endswith("must be an integer in 1..750599937895082")


def test_a_proof_of_another_index_does_not_hold(proof: InclusionProof) -> None:
    fields = json.loads(proof.to_json())
    Path("p.json").write_text(json.dumps(fields | {"index": 6}))
    done = run("verify-proof", "p.json", "window", "--witness=w.json")
    assert done.returncode == DOES_NOT_HOLD
    Path("p.json").write_text(json.dumps(fields | {"size": 302}))
    done = run("verify-proof", "p.json", "window", "--witness=w.json")
    assert done.returncode == DOES_NOT_HOLD
    assert b"for 302 windows, the witness has 301" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("p.json",), "either WINDOW or --from"),
        (("p.json", "window", "--from=data"), "either WINDOW or --from"),
        (("p.json", "window", "--root", "12"), "must be 64 hex digits"),
        (("p.json", "window", "--root", "g" * 64), "must be 64 hex digits"),
        (("p.json", "window", "--root", "0" * 64, "--witness=w.json"), "exclude each other"),
        (("-", "-"), "only one of the files"),
        (("p.json", "--from=-"), "not -"),
        (("w.json", "window"), "w.json: is a witness file, and PROOF must be a proof"),
        (("window", "window"), "window: is no text, and PROOF must be a proof"),
        (("data", "window"), "data: is no text, and PROOF must be a proof"),
        (("missing", "window"), "missing: No such file or directory"),
        (("p.json", "missing"), "missing: No such file or directory"),
        (("p.json", "data"), "data: has more than 12288 bytes"),
        (("p.json", "window", "--witness=p.json"), "p.json: "),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_proofs_that_cannot_be_checked(
    proof: InclusionProof, arguments: tuple[str, ...], reason: str
) -> None:
    done = run("verify-proof", *arguments)
    assert done.returncode == COULD_NOT_CHECK
    assert reason in done.stderr.decode()
    assert done.stdout == b""


@pytest.mark.parametrize("command", ["witness", "verify", "locate", "prove", "verify-proof"])
def test_help_shows_an_example(command: str) -> None:
    text = run(command, "--help").stdout.decode()
    assert f"    atlas12288 {command} " in text
    assert "\b" not in text
    assert "Exit codes:" in text


def test_threads_are_at_least_one(folder: Path) -> None:
    done = run("witness", "--threads=2", "data", "data")
    assert done.returncode == HOLDS
    assert done.stdout.count(b"\n") == 2
    assert run("witness", "--tree", "--threads=0", "data").returncode == COULD_NOT_CHECK
    assert run("witness", "--threads=0", "data").returncode == COULD_NOT_CHECK
