# SPDX-License-Identifier: Apache-2.0
"""Lists of SHA-256 sums, against GNU sha256sum."""

import hashlib
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atlas12288 import _sums
from atlas12288._file_witnesses import SMALL_MOST
from atlas12288._sums import (
    CheckedLine,
    CheckedList,
    MatchedLines,
    Sum,
    check,
    read_sums,
    sums_line,
    verdict_line,
)
from support import gnu, strategies

NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)
DIGEST = bytes(range(0, 256, 8))
HEX = DIGEST.hex().encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sums")
    gnu.make_files(folder)
    return folder


def read(*lines: bytes) -> list[bytes | None]:
    """The names that a list of these lines gives."""
    found = [listed for _, listed in read_sums([b"\n".join(lines)])]
    assert all(listed.digest == DIGEST for listed in found if listed is not None)
    return [listed and listed.path for listed in found]


# --- writing ---


@gnu.needed
def test_lines_are_those_of_sha256sum(folder: Path) -> None:
    written = gnu.sha256sum("--", *gnu.NAMES, cwd=folder)
    lines = [sums_line(bytes.fromhex(gnu.digest_of(name)), name) for name in gnu.NAMES]
    assert b"".join(line + b"\n" for line in lines) == written.stdout


@given(NAMES)
def test_a_line_reads_back_as_the_name_of_any_bytes(name: bytes) -> None:
    # After a line that shows the form: alone, a name of one byte is read as GNU reads it.
    assert read(sums_line(DIGEST, b"first"), sums_line(DIGEST, name)) == [b"first", name]


@pytest.mark.parametrize("digest", [b"", DIGEST[1:], DIGEST + b"\0"], ids=len)
def test_a_digest_of_another_length_is_refused(digest: bytes) -> None:
    with pytest.raises(ValueError, match=f"digest has {len(digest)} bytes, must have 32"):
        sums_line(digest, b"name")


@pytest.mark.parametrize("path", [b"", b"a\0b"])
def test_a_name_that_no_file_has_is_refused(path: bytes) -> None:
    with pytest.raises(ValueError, match=r"path is b'.*', must hold at least one byte, and no NUL"):
        sums_line(DIGEST, path)


@given(NAMES)
def test_a_verdict_names_the_file_on_one_line_as_gnu_does(name: bytes) -> None:
    line = verdict_line(name, "OK") + b"\n"
    assert gnu.says(line, [(name, "OK")])
    assert line.count(b"\n") == 1
    assert b"\r" not in line


# --- reading ---


def content(folder: Path, name: bytes) -> bytes | None:
    """What `sha256sum -c` reads under a name in a list, with nothing on standard input."""
    if name == b"-":
        return b""
    try:
        return Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).read_bytes()  # noqa: PTH118
    except OSError:
        return None


@gnu.needed
@given(strategies.sum_lists())
@example(HEX + b" a\n" + HEX + b"  b\n" + HEX + b" *c\n")
@example(HEX + b"  b\n" + HEX + b" a\n" + HEX + b"  1\n")
@example(b"\\" + HEX + b" \\q\n" + HEX + b"  b\n")  # a bad name tells the form all the same
@example(b"SHA256 () = " + HEX)
@example(HEX + b"  plain\r\n" + HEX + b"  plain\r\r\n\r\n# " + HEX + b"  plain\n #\n")
def test_the_same_lines_are_sums_as_for_sha256sum(folder: Path, sums: bytes) -> None:
    (folder / "LIST").write_bytes(sums)
    verdicts = []
    malformed = 0
    for _, listed in read_sums([sums]):
        if listed is None:
            malformed += 1
            continue
        data = content(folder, listed.path)
        if data is None:
            verdicts.append((listed.path, "FAILED open or read"))
        else:
            matches = hashlib.sha256(data).digest() == listed.digest
            verdicts.append((listed.path, "OK" if matches else "FAILED"))
    done = gnu.sha256sum("-c", "-w", "LIST", cwd=folder)
    assert gnu.says(done.stdout, verdicts)
    assert done.stderr.count(b": improperly formatted") == malformed


@given(strategies.sum_lists(), st.lists(st.integers(0, 200), max_size=8))
def test_how_a_list_is_cut_into_chunks_changes_nothing(sums: bytes, cuts: list[int]) -> None:
    places = sorted(cuts)
    chunks = [sums[i:j] for i, j in zip([0, *places], [*places, len(sums)], strict=True)]
    assert list(read_sums(chunks)) == list(read_sums([sums]))


def test_lines_are_numbered_from_1_and_all_count() -> None:
    sums = b"# comment\n\n" + HEX + b"  a\r\nbad\n" + HEX + b"  b"
    assert list(read_sums([sums])) == [
        (3, Sum(DIGEST, b"a")),
        (4, None),
        (5, Sum(DIGEST, b"b")),
    ]


def test_one_space_is_a_form_of_its_own() -> None:
    assert read(HEX + b" a", HEX + b"  b", HEX + b" *c") == [b"a", b" b", b"*c"]
    assert read(HEX + b"  b", HEX + b" a", HEX + b" *c") == [b"b", None, b"c"]


def test_a_list_does_not_depend_on_the_one_before() -> None:
    """In GNU it does: there `HEX NAME` in the first list makes the second list's names wrong."""
    assert read(HEX + b" a") == [b"a"]
    assert read(HEX + b"  b") == [b"b"]


def test_a_line_with_a_nul_is_refused() -> None:
    """sha256sum -c says OK for the first file of a list of sha256sum -z and drops the others."""
    assert read(HEX + b"  a\0" + HEX + b"  b\0") == [None]
    assert read(b"SHA256 (a) = " + HEX + b"\0") == [None]
    assert read(b"# \0", HEX + b"  a") == [b"a"]


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_of_more_than_16_kib_is_refused(over: int, end: bytes) -> None:
    name = b"a" * (16384 - len(HEX) - 2 + over)
    sums = HEX + b"  " + name + end
    expected = [(1, None if over else Sum(DIGEST, name))]
    assert list(read_sums([sums])) == expected
    assert list(read_sums([sums[i : i + 100] for i in range(0, len(sums), 100)])) == expected


def test_a_line_without_end_takes_no_memory() -> None:
    def zeros() -> Iterator[bytes]:
        for _ in range(1000):
            yield bytes(65536)
        yield b"\n" + HEX + b"  a\n"

    tracemalloc.start()
    try:
        assert list(read_sums(zeros())) == [(1, None), (2, Sum(DIGEST, b"a"))]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


# --- usual lines together ---


class Nothing:
    """In the place of `SumLines`: no line is a usual one."""

    def __init__(self, text: bytes, start: int, most: int, name_most: int) -> None:
        self.stop = start

    def __len__(self) -> int:
        return 0


@given(strategies.sum_lists())
@example(HEX.upper() + b"  a\n" + HEX[:-1] + b"g  b\n" + HEX + b"  -\n" + HEX + b"  \n" + HEX)
@example(
    HEX + b"  a\n" + (HEX + b"  b\\n\n" + HEX + b"  c\n") * 3 + HEX + b"  d\r\n" + HEX + b"  e"
)
def test_usual_lines_say_together_what_each_says_alone(sums: bytes) -> None:
    sums = HEX + b"  first\n" + sums
    together = list(read_sums([sums]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sums, "SumLines", Nothing)
        assert list(read_sums([sums])) == together


def each_of(found: Iterator[CheckedLine | MatchedLines | CheckedList]) -> list[object]:
    lines: list[object] = []
    for one in found:
        lines += one.each() if isinstance(one, MatchedLines) else [one]
    return lines


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("wrong", ["none", "some", "large"])
def test_files_of_usual_lines_are_checked_together_as_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, wrong: str
) -> None:
    lines = []
    for number in range(1300):
        path = tmp_path / f"{number}"
        path.write_bytes(b"%d" % number * (number % 400))
        lines.append(sums_line(hashlib.sha256(path.read_bytes()).digest(), os.fsencode(path)))
    if wrong != "none":
        (tmp_path / "3").unlink()
        (tmp_path / "600").write_bytes(b"other")
        (tmp_path / "601").unlink()
        (tmp_path / "601").mkdir()
        (tmp_path / "602").unlink()
        os.mkfifo(tmp_path / "602")
    if wrong == "large":
        (tmp_path / "603").write_bytes(bytes(SMALL_MOST + 1))
    (tmp_path / "LIST").write_bytes(b"\n".join(lines) + b"\n")
    together = list(check([str(tmp_path / "LIST")], threads=threads))
    assert any(isinstance(one, MatchedLines) for one in together)
    monkeypatch.setattr(_sums, "SumLines", Nothing)
    alone = list(check([str(tmp_path / "LIST")], threads=threads))
    assert not any(isinstance(one, MatchedLines) for one in alone)
    assert each_of(iter(together)) == each_of(iter(alone))
    assert isinstance(alone[-1], CheckedList)
    assert alone[-1].matched == 1300 - {"none": 0, "some": 4, "large": 5}[wrong]
