# SPDX-License-Identifier: Apache-2.0
"""Every reader is linear and bounded: docs/bounds.md, and what lies beyond the bounds."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from atlas12288 import (
    ConsistencyProof,
    InclusionProof,
    Manifest,
    TreeWitness,
    Witness,
    WitnessError,
)
from atlas12288._files import FileError
from atlas12288._json import read
from atlas12288._proofs import PROOF_MOST_BYTES
from atlas12288._sums import read_sums
from atlas12288._witness import WITNESS_MOST_BYTES
from atlas12288.manifest import _statement as statement
from atlas12288.manifest._entries import Entry
from atlas12288.manifest._paths import PATH_MOST_BYTES, check_outside, check_path
from atlas12288.manifest._sources.source import SMALL_MOST_BYTES
from atlas12288.manifest._statement import Options
from support.commandline import COULD_NOT_CHECK, TIMEOUT_S, run, sparse_file

ADDRESSES_MOST = 1 << 30
_ROW = re.compile(r"\| .* \| ([0-9,^]+)[^|]* \| `([\w.]+)` \|")
DOCUMENT = Path(__file__).parent.parent / "docs" / "bounds.md"


def bounds() -> list[tuple[str, str]]:
    """The numbers of the document, and the names of the constants that they are of."""
    rows = map(_ROW.match, DOCUMENT.read_text().splitlines())
    return [(row[1], row[2]) for row in rows if row is not None]


def test_the_document_has_a_table() -> None:
    assert len(bounds()) > 10


@pytest.mark.parametrize(("number", "name"), bounds(), ids=str)
def test_each_bound_of_the_document_is_that_of_the_code(number: str, name: str) -> None:
    module, _, constant = name.rpartition(".")
    value = getattr(importlib.import_module(f"atlas12288.{module}"), constant)
    base, _, exponent = number.replace(",", "").partition("^")
    assert value == int(base) ** int(exponent or 1)


def bounded(
    *arguments: str | Path, cwd: Path, most: int = ADDRESSES_MOST
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command with little memory."""
    code = f"import resource\nresource.setrlimit(resource.RLIMIT_AS, ({most}, {most}))"
    return run(*arguments, cwd=cwd, before=code)


# --- Files that are larger than what they should be


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "huge", "."),
        ("verify", "huge.atlas.json", "."),
        ("verify", "huge", "x"),
        ("verify-proof", "huge", "x"),
        ("verify-proof", "proof", "x", "--witness", "huge"),
        ("locate", "huge", "x"),
        ("prove", "--window", "0", "--witness", "huge"),
        ("check-sums", "line"),
        ("witness", ".", "-o", "new.atlas.json"),
    ],
    ids=" ".join,
)
def test_a_file_of_any_size_is_one_error_in_little_memory(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    for name in ("huge", "huge.atlas.json"):
        sparse_file(tmp_path / name, 50 << 30)
    sparse_file(tmp_path / "line", 100 << 20)
    (tmp_path / "x").write_bytes(b"x")
    proof = run("prove", "--window", "0", tmp_path / "x").stdout
    (tmp_path / "proof").write_bytes(proof)
    if arguments[0] == "witness":
        (tmp_path / "huge").unlink()
        (tmp_path / "huge.atlas.json").unlink()
        sparse_file(tmp_path / ".atlasignore", 3 << 30)
    done = bounded(*arguments, cwd=tmp_path)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr
    assert len(done.stderr) < 1000


def test_a_manifest_that_is_too_large_for_the_memory_is_one_line(tmp_path: Path) -> None:
    with sparse_file(tmp_path / "m.atlas.json", 2 << 30).open("r+b") as file:
        file.write(b'{"_type":')
    done = bounded("verify", "m.atlas.json", ".", cwd=tmp_path, most=ADDRESSES_MOST // 2)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr == b"atlas12288: memory: Cannot allocate memory\n"


def test_an_ignore_file_has_a_bound_which_may_be_reached(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    rules = tmp_path / ".atlasignore"
    rules.write_bytes(b"#" * SMALL_MOST_BYTES)
    assert b'"path":"x"' in run("witness", tmp_path).stdout
    rules.write_bytes(b"#" * (SMALL_MOST_BYTES + 1))
    done = run("witness", tmp_path)
    assert done.returncode == COULD_NOT_CHECK
    assert b".atlasignore: has more than 1,048,576 bytes" in done.stderr


def test_a_manifest_that_no_reader_takes_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, output = tmp_path / "data", tmp_path / "m.atlas.json"
    data.mkdir()
    (data / "x").write_bytes(b"x")
    Manifest.generate(data, output=output)
    before = output.read_bytes()
    (data / "y").write_bytes(b"y")
    monkeypatch.setattr(statement, "MANIFEST_MOST_BYTES", len(before))
    with pytest.raises(FileError, match="which no reader takes"):
        Manifest.generate(data, output=output)
    assert output.read_bytes() == before
    assert set(tmp_path.iterdir()) == {data, output}


# --- Texts


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        '{"a":' * 1_000_000,
        f'{{"length": {"9" * 10_000_000}}}',
        "9" * 10_000_000,
        f'{{"type": "{"x" * 30_000_000}"}}',
        "{" + '"k":1,' * 200_000 + '"z":1}',
        "{" + ",".join(f'"{at}":1' for at in range(200_000)) + ',"199999":2}',
        " " * 30_000_000,
    ],
    ids=["lists", "objects", "number", "digits", "text", "one key", "last key", "space"],
)
def test_json_that_is_no_witness_is_a_witness_error(text: str) -> None:
    for reader in (Witness.from_json, Manifest.from_json):
        with pytest.raises(WitnessError) as caught:
            reader(text)
        assert len(str(caught.value)) < 1000


def calls(work: Callable[[], object]) -> int:
    """How many calls, of Python and of C, a piece of work makes."""
    count = 0

    def add(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(add)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def twice(count: int) -> None:
    text = "{" + ",".join(f'"{at}":1' for at in range(count)) + f',"{count - 1}":2}}'
    with pytest.raises(WitnessError, match="occurs twice"):
        read(text)


def sums_in_lines(count: int) -> None:
    list(read_sums([b"x" * 20 + b"\n"] * count))


def sums_in_a_line(count: int) -> None:
    list(read_sums([b"x" * 20] * count))


def paths_outside(count: int) -> None:
    check_outside(b"../" * (count // 10) + b"x", "path")


@pytest.mark.parametrize("work", [twice, sums_in_lines, sums_in_a_line, paths_outside])
def test_twice_the_input_is_at_most_about_twice_the_work(work: Callable[[int], None]) -> None:
    few, many = (calls(lambda count=count: work(count)) for count in (20_000, 40_000))
    assert many < 3 * few


@pytest.mark.parametrize("kind", [Witness, TreeWitness, InclusionProof, ConsistencyProof])
@pytest.mark.parametrize("form", [str, str.encode])
def test_a_text_of_a_witness_or_proof_has_a_bound_which_may_be_reached(
    kind: type[Witness | TreeWitness | InclusionProof | ConsistencyProof],
    form: Callable[[str], str | bytes],
) -> None:
    tree = TreeWitness.generate(bytes(30_000))
    made = {
        Witness: Witness.generate(b"x"),
        TreeWitness: tree,
        InclusionProof: tree.prove(1),
        ConsistencyProof: tree.prove_consistency(2),
    }[kind]
    most = WITNESS_MOST_BYTES if isinstance(made, Witness | TreeWitness) else PROOF_MOST_BYTES
    text = made.to_json().ljust(most)
    assert kind.from_json(form(text)) == made
    with pytest.raises(
        WitnessError, match=rf"^text has {most + 1:,} .*, must have at most {most:,}$"
    ):
        kind.from_json(form(text + " "))


def test_the_digits_of_an_integer_are_bounded_where_python_does_not_bound_them() -> None:
    code = """if True:
        from atlas12288 import Manifest, WitnessError
        from atlas12288._json import read

        print(read("9" * 64) == 10**64 - 1, type(read("9" * 65)).__name__)
        for text in ("9" * 10_000, "-" + "9" * 64):
            try:
                Manifest.from_json(text)
            except WitnessError as error:
                print(error)
        """
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONINTMAXSTRDIGITS": "0"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "True _LongInteger",
        f"text is {'9' * 77}..., must be a JSON object",
        f"text is -{'9' * 64}, must be a JSON object",
    ]


# --- Paths


@pytest.mark.parametrize("check", [check_path, check_outside])
def test_a_path_has_a_bound_which_may_be_reached(check: Callable[[bytes, str], bytes]) -> None:
    most = b"g/" * (PATH_MOST_BYTES // 2 - 1) + b"gg"
    assert check(most, "path") == most
    with pytest.raises(WitnessError, match=r"^path has 65,537 bytes, must have at most 65,536$"):
        check(most + b"g", "path")


def test_long_paths_are_told_from_folders_that_cannot_be_listed(tmp_path: Path) -> None:
    """Each of them has 32,768 folders around it, and any of those might be a problem."""
    entries = [
        Entry(os.fsencode(f"g{at:04}/") + b"g/" * 32_000 + b"f", 2, 33, bytes(32))
        for at in range(300)
    ]
    manifest = Manifest.from_entries(Options(), entries)
    os.mkfifo(tmp_path / "g0007")
    report = manifest.verify(tmp_path)
    assert (report.count("missing"), report.count("unreadable")) == (299, 1)
    (unreadable,) = (each for each in report.differences if each.kind == "unreadable")
    assert unreadable.path.startswith(b"g0007/")


def test_a_manifest_whose_paths_are_too_long_is_refused() -> None:
    text = Manifest.from_entries(Options(), [Entry(b"f", 2, 33, bytes(32))]).to_json()
    long = text.replace('"path":"f"', f'"path":"{"f" * (PATH_MOST_BYTES + 1)}"')
    with pytest.raises(WitnessError, match="path has 65,537 bytes"):
        Manifest.from_json(long)
    assert json.loads(long)
