# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 witness`, `verify` and `sum`."""

import hashlib
import json
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path

import numpy
import pytest

from atlas12288 import Witness
from atlas12288.tensors import ArrayWitness
from support import gnu
from support.commandline import COULD_NOT_CHECK, DOES_NOT_HOLD, HOLDS, PROGRAM, bash, files_in, run
from support.tools import needs

DATA = bytes(range(256)) * 100


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("first", "second", "third")]
    for index, path in enumerate(paths):
        path.write_bytes(DATA[index:])
    return paths


def hostile_files(folder: Path) -> list[str]:
    """Names of many small files, of two large ones, and of what cannot be read."""
    names = [f"{number}" for number in range(520)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(DATA[: 40 * (number % 60)])
    (folder / "large").write_bytes(DATA * 5)
    (folder / "other").write_bytes(DATA * 6)
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
    return [*names[:9], "large", "missing", "-", "loop", *names[9:], "fifo", "other", "-"]


# --- witness ---


def test_many_files_at_once_are_as_each_alone(tmp_path: Path) -> None:
    names = hostile_files(tmp_path)
    together = run("witness", *names, cwd=tmp_path, input=DATA)
    assert together.returncode == COULD_NOT_CHECK
    errors = [line.split(b": ")[1].decode() for line in together.stderr.splitlines()]
    assert errors == ["missing", "loop", "fifo"]
    lines = [json.loads(line) for line in together.stdout.splitlines()]
    assert [line["file"] for line in lines] == names
    assert [line["witness"] is None for line in lines] == [name in errors for name in names]
    contents = [DATA, b""]  # of standard input, the first and the second time
    for name, line in zip(names, lines, strict=True):
        if name not in errors:
            data = contents.pop(0) if name == "-" else (tmp_path / name).read_bytes()
            assert Witness.from_json(json.dumps(line["witness"])).verify(data)


def test_many_files_are_verified_at_once_as_each_alone(tmp_path: Path) -> None:
    names = hostile_files(tmp_path)
    witnesses = tmp_path / "witnesses"
    done = run("witness", *names, cwd=tmp_path, input=DATA)
    trees = run("witness", "--tree", "7", "8", cwd=tmp_path)
    lines = done.stdout.splitlines()
    lines[7] = trees.stdout.splitlines()[0]
    witnesses.write_bytes(b"\n".join(lines) + b"\n")
    (tmp_path / "300").unlink()
    for name in ("8", "500", "large"):
        (tmp_path / name).write_bytes(b"changed")
    verified = run("verify", "witnesses", *names, cwd=tmp_path, input=DATA)
    assert verified.returncode == COULD_NOT_CHECK
    wrong = [line for line in verified.stdout.decode().splitlines() if "does not match" in line]
    assert [line.split(": ")[0] for line in wrong] == ["8", "large", "500"]
    assert verified.stdout.count(b": matches its witness") == len(names) - 4 - 3
    errors = [line.split(b": ")[1].decode() for line in verified.stderr.splitlines()]
    assert errors == ["missing", "loop", "300", "fifo"]
    totals = f"witnesses: its files do not match; {len(names)} files: 3 changed, 4 unreadable"
    assert verified.stdout.decode().splitlines()[-1] == totals
    counts = json.loads(run("verify", "--json", "witnesses", *names, cwd=tmp_path).stdout)["counts"]
    assert (counts["failed"], counts["unreadable"]) == (4, 4)  # standard input is empty now


def test_a_witness_is_one_line_of_canonical_json(files: list[Path]) -> None:
    done = run("witness", files[0])
    assert done.returncode == HOLDS
    assert done.stdout.endswith(b"\n")
    text = done.stdout.decode().removesuffix("\n")
    assert "\n" not in text
    assert Witness.from_json(text).to_json() == text
    assert Witness.from_json(text).verify(DATA)
    fields = json.loads(text)
    assert fields["digest"] == hashlib.sha256(DATA).hexdigest()
    assert fields["length"] == len(DATA)
    assert fields["residue"] == sum(DATA) % 96


def test_witness_of_standard_input() -> None:
    assert Witness.from_json(run("witness", "-", input=DATA).stdout.decode()).verify(DATA)
    assert Witness.from_json(run("witness", "-").stdout.decode()).verify(b"")


def test_lines_and_files_stay_paired(files: list[Path], tmp_path: Path) -> None:
    done = run("witness", files[0], tmp_path / "missing", files[2])
    assert done.returncode == COULD_NOT_CHECK
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert Witness.from_json(json.dumps(first["witness"])).verify(DATA)
    assert second == {"file": str(tmp_path / "missing"), "witness": None}
    assert Witness.from_json(json.dumps(third["witness"])).verify(DATA[2:])


def test_witness_json(files: list[Path], tmp_path: Path) -> None:
    done = run("witness", "--json", files[0], tmp_path / "missing")
    first, second = files_in(done.stdout)
    assert first.keys() == second.keys() == {"file", "witness", "error"}
    assert first["file"] == str(files[0])
    assert Witness.from_json(json.dumps(first["witness"], separators=(",", ":"))).verify(DATA)
    assert first["error"] is None
    assert second["witness"] is None
    assert second["error"] == "No such file or directory"


def test_output_file_is_written_like_any_new_file(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = run("witness", "-o", output, *files, umask=0o027)
    assert (done.returncode, done.stdout, done.stderr) == (HOLDS, b"", b"")
    assert len(output.read_text().splitlines()) == 3
    assert stat.S_IMODE(output.stat().st_mode) == 0o640
    assert sorted(tmp_path.iterdir()) == sorted([*files, output])


def test_output_file_stays_as_it_was_unless_all_is_well(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run("witness", "-o", output, files[0]).returncode == HOLDS
    before = output.read_bytes()
    done = run("witness", "-o", output, files[0], tmp_path / "missing")
    assert done.returncode == COULD_NOT_CHECK
    assert b"out: not written" in done.stderr
    assert output.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == sorted([*files, output])


def test_output_that_cannot_be_written_is_refused_before_any_work(
    files: list[Path], tmp_path: Path
) -> None:
    witness, link = tmp_path / "w", tmp_path / "link"
    assert run("witness", "-o", witness, files[0]).returncode == HOLDS
    link.symlink_to(witness)
    text = tmp_path / "thesis.txt"
    text.write_text("my only copy\n")
    before = {path: path.read_bytes() for path in (*files, witness, text)}
    for inputs, output, reason in (
        (files[:1], tmp_path / "no" / "out", "does not exist"),
        (files[:1], tmp_path, "is not a regular file"),
        (files[:1], Path("/dev/null"), "is not a regular file"),
        (files[:1], files[0], "is also read"),
        ([witness], link, "is also read"),
        (files[:1], text, "is not a manifest or witness file, and is not replaced"),
    ):
        done = run("witness", *inputs, "-o", output)
        assert done.returncode == COULD_NOT_CHECK
        assert f"Error: -o {output}: " in done.stderr.decode()
        assert reason in done.stderr.decode()
        assert {path: path.read_bytes() for path in before} == before
    assert Path("/dev/null").is_char_device()


# --- verify ---


def test_verify_holds(files: list[Path], tmp_path: Path) -> None:
    witnesses = tmp_path / "witnesses"
    witnesses.write_bytes(run("witness", *files).stdout)
    done = run("verify", witnesses, *files)
    assert done.returncode == HOLDS
    *lines, totals = done.stdout.decode().splitlines()
    assert lines == [f"{path}: matches its witness" for path in files]
    assert totals == f"{witnesses}: its files match; 3 files: 0 changed, 0 unreadable"
    assert run("verify", "--quiet", witnesses, *files).stdout == b""
    assert run("verify", "-", *files, input=witnesses.read_bytes()).returncode == HOLDS
    assert run("verify", witnesses, *files[:2], "-", input=DATA[2:]).returncode == HOLDS


@pytest.mark.parametrize(
    ("damaged", "differences"),
    [
        (DATA[:-1] + b"\x00", ["residue", "digest"]),
        (DATA[1:], ["length", "digest"]),  # the byte that is missing is 0
        (DATA[:-1], ["length", "residue", "digest"]),
        (DATA[:1000] + bytes([DATA[1001], DATA[1000]]) + DATA[1002:], ["digest"]),  # swapped
        (bytes([DATA[0] + 96]) + DATA[1:], ["digest"]),  # the residue cannot see 96
        (b"", ["length", "digest"]),
    ],
    ids=["last byte", "first byte lost", "last byte lost", "swapped", "96 more", "emptied"],
)
def test_verify_says_what_differs(
    files: list[Path], damaged: bytes, differences: list[str]
) -> None:
    witness = run("witness", files[0]).stdout
    files[0].write_bytes(damaged)
    done = run("verify", "-", files[0], input=witness)
    assert done.returncode == DOES_NOT_HOLD
    lines = done.stdout.decode().splitlines()
    assert lines[0] == f"{files[0]}: does not match its witness"
    values = {
        "length": (len(DATA), len(damaged)),
        "residue": (sum(DATA) % 96, sum(damaged) % 96),
        "digest": (hashlib.sha256(DATA).hexdigest(), hashlib.sha256(damaged).hexdigest()),
    }
    expected = []
    for name in differences:
        expected += [[name, "witnessed", str(values[name][0])], ["found", str(values[name][1])]]
    assert [line.split() for line in lines[1:]] == expected
    (item,) = files_in(run("verify", "--json", "-", files[0], input=witness).stdout)
    assert item["holds"] is False
    assert item["what"] == differences
    assert item["witness"] == json.loads(witness)
    assert item["found"]["digest"] == values["digest"][1]


def test_verify_of_a_file_that_had_no_witness(files: list[Path]) -> None:
    lines = run("witness", files[0]).stdout + b"null\n"
    done = run("verify", "-", *files[:2], input=lines)
    assert done.returncode == COULD_NOT_CHECK
    assert b"matches" in done.stdout
    assert b"second: has no witness" in done.stderr
    totals = b"-: its files could not be checked; 2 files: 0 changed, 1 unreadable\n"
    assert done.stdout.endswith(totals)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_verify_needs_a_witness_for_each_file(files: list[Path], count: int) -> None:
    witness = run("witness", files[0]).stdout
    done = run("verify", "-", files[0], files[0], input=witness * count)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stdout == b""
    assert f"atlas12288: -: has {count} witnesses for 2 files" in done.stderr.decode()


@pytest.mark.parametrize(
    "text",
    [b"{}\n", b"hello\n", b"\xff\xfe\n", b"[]\n", b"\0" * 100_000_000, b'{"type": 1}\n', b"1\n"],
    ids=lambda text: repr(text[:10]),
)
def test_verify_refuses_what_is_not_a_witness(files: list[Path], text: bytes) -> None:
    done = run("verify", "-", files[0], input=text)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    assert b"Traceback" not in done.stderr


def test_verify_when_a_file_is_missing_does_the_others(files: list[Path]) -> None:
    witness = run("witness", files[0]).stdout
    done = run("verify", "--json", "-", "/nonexistent", files[0], input=witness * 2)
    assert done.returncode == COULD_NOT_CHECK
    first, second = files_in(done.stdout)
    assert first["holds"] is None
    assert first["error"] == "No such file or directory"
    assert second["holds"] is True


# --- sum ---


@gnu.needed
def test_sum_prints_what_sha256sum_prints(tmp_path: Path) -> None:
    names = [b"plain", b"two  words", b"-", b"back\\slash", b"\\", b"new\nline", b"c\rr", b"\\n\n"]
    names += [b"bad\xffutf8", b"tab\t", b"esc\x1b", b"quote'\"", "漢".encode(), b"*star", b" blank"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    arguments = [b"./" + name for name in names] + [b"-", b"-"] + names
    ours = run("sum", "--", *arguments, cwd=tmp_path, input=DATA)
    theirs = subprocess.run(
        ["sha256sum", "--", *arguments], cwd=tmp_path, input=DATA, capture_output=True, check=True
    )
    assert ours.stdout == theirs.stdout
    assert ours.returncode == HOLDS
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "--status"],
        cwd=tmp_path,
        input=run("sum", *[b"./" + name for name in names], cwd=tmp_path).stdout,
        check=False,
    )
    assert checked.returncode == 0


def test_sum_json(files: list[Path]) -> None:
    done = run("sum", "--json", files[0], "/nonexistent")
    assert done.returncode == COULD_NOT_CHECK
    assert files_in(done.stdout) == [
        {
            "file": str(files[0]),
            "sha256": hashlib.sha256(DATA).hexdigest(),
            "length": len(DATA),
            "error": None,
        },
        {
            "file": "/nonexistent",
            "sha256": None,
            "length": None,
            "error": "No such file or directory",
        },
    ]
    assert re.fullmatch(rb"atlas12288: /nonexistent: .*\n", done.stderr)


# --- What was probably meant ---


@pytest.fixture
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each kind of file that this program reads, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/x").write_bytes(b"bytes of x")
    Path("x").write_bytes(b"bytes of x")
    Path("w").write_bytes(run("witness", "x").stdout)
    Path("sums").write_bytes(b"# of today\n" + run("sum", "x").stdout)
    assert run("witness", "data", "-o", "data.atlas.json").returncode == HOLDS
    array = ArrayWitness.generate(numpy.zeros(3))
    Path("array").write_text(array.to_json())


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize(
    ("arguments", "name", "reason"),
    [
        (("x", "w"), "x", "is not a witness, but w is a witness file: name WITNESS first"),
        (
            ("data", "data.atlas.json"),
            "data",
            "is not a witness, but data.atlas.json is a manifest: name WITNESS first",
        ),
        (
            ("x", "data.atlas.json"),
            "x",
            "is not a witness, but data.atlas.json is a manifest: name WITNESS first",
        ),
        (
            ("sums",),
            "sums",
            "is a list of SHA-256 sums: atlas12288 check-sums sums checks its files",
        ),
        (
            ("sums", "x"),
            "sums",
            "is a list of SHA-256 sums: atlas12288 check-sums sums checks its files",
        ),
        (
            ("array", "x"),
            "array",
            "is a witness of a dataset: what atlas12288.tensors or atlas12288.tables made verifies "
            "it in Python",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_verify_says_what_was_probably_meant(
    arguments: tuple[str, ...], name: str, reason: str
) -> None:
    done = run("verify", *arguments)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.decode() == f"atlas12288: {name}: {reason}\n"
    assert done.stdout == b""


@needs("bash")
@pytest.mark.usefixtures("kinds")
def test_a_witness_file_and_a_proof_may_come_through_a_pipe_of_the_shell() -> None:
    verify = f"{shlex.join(PROGRAM)} verify <(cat w) x"
    assert bash(verify).stdout == b"x: matches its witness\n"
    assert bash(f"{shlex.join(PROGRAM)} verify <(cat data.atlas.json) data").returncode == HOLDS
    assert run("verify", "/dev/stdin", "x", input=Path("w").read_bytes()).returncode == HOLDS


@needs("bash")
@pytest.mark.usefixtures("kinds")
def test_a_fifo_in_a_folder_is_refused_at_once_and_so_is_a_pipe_that_is_to_be_witnessed() -> None:
    os.mkfifo("fifo")
    done = run("verify", "fifo", "x")
    assert done.returncode == COULD_NOT_CHECK
    assert b"fifo: is a FIFO" in done.stderr
    assert b"is a FIFO" in bash(f"{shlex.join(PROGRAM)} witness <(cat x)").stderr


@pytest.mark.usefixtures("kinds")
def test_output_to_a_dash_is_standard_output() -> None:
    before = set(Path().iterdir())
    assert run("witness", "x", "-o", "-").stdout.startswith(b'{"type"')
    assert run("witness", "--tree", "x", "--output", "-").stdout.startswith(b'{"type"')
    assert run("witness", "data", "-o", "-").stdout == Path("data.atlas.json").read_bytes()
    assert run("prove", "--window", "0", "x", "-o", "-").stdout.startswith(b'{"type"')
    done = run("witness", "x", "-o", "-", "--json")
    assert done.returncode == COULD_NOT_CHECK
    assert b"-o - is standard output, and so is what --json prints" in done.stderr
    assert set(Path().iterdir()) == before
