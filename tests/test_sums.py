# SPDX-License-Identifier: Apache-2.0
"""Lists of SHA-256 sums, against GNU sha256sum."""

import hashlib
import os
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atlas12288 import _check_sums, _make_sums, _sums
from atlas12288._check_sums import CheckedLine, CheckedList, MatchedLines, check
from atlas12288._files import FileError
from atlas12288._make_sums import sum_lines
from atlas12288._many_files import SMALL_MOST
from atlas12288._native import FileSums, SumLines
from atlas12288._sums import Sum, read_sums, sums_line, verdict_line
from support import gnu, strategies
from support.strategies import noise

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
    if wrong == "some":
        monkeypatch.setattr(_check_sums, "STOP_NS", 0)  # each call does the least that it can
    together = list(check([str(tmp_path / "LIST")], threads=threads))
    assert any(isinstance(one, MatchedLines) for one in together)
    monkeypatch.setattr(_sums, "SumLines", Nothing)
    alone = list(check([str(tmp_path / "LIST")], threads=threads))
    assert not any(isinstance(one, MatchedLines) for one in alone)
    assert each_of(iter(together)) == each_of(iter(alone))
    assert isinstance(alone[-1], CheckedList)
    assert alone[-1].matched == 1300 - {"none": 0, "some": 4, "large": 5}[wrong]


# --- making lists ---


class NoneTaken:
    """In the place of `FileSums`: no file is read together with others."""

    def __init__(self, names: list[str]) -> None:
        self._count = len(names)

    def __len__(self) -> int:
        return self._count

    def measure(self, stop_ns: int) -> list[int]:
        return [-1] * self._count

    def take(self, size_most: int, buffer: memoryview, stop_ns: int) -> int:
        return self._count

    def taken(self) -> bytes:
        return bytes(self._count)


def printed(names: list[str]) -> list[bytes]:
    """What is printed for each file, or the reason why there is no line."""
    lines: list[bytes] = []
    for found in sum_lines(names):
        if isinstance(found, bytes):
            assert found.endswith(b"\n")
            lines += found[:-1].split(b"\n")
        elif isinstance(found[1], FileError):
            lines.append(b"%b: %b" % (os.fsencode(found[0]), str(found[1]).encode()))
        else:
            lines.append(sums_line(found[1].digest, os.fsencode(found[0])))
    return lines


ODD_NAMES = ("plain", "two words", "new\nline", "carriage\rreturn", "back\\slash", "\udcff", "\\\n")


def test_sums_of_files_together_are_those_of_each_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    for size in (0, 1, 55, 56, 63, 64, 65, SMALL_MOST - 1, SMALL_MOST, SMALL_MOST + 1):
        (tmp_path / f"{size}").write_bytes(noise(size))
        names.append(str(tmp_path / f"{size}"))
    for name in ODD_NAMES:
        (tmp_path / name).write_bytes(os.fsencode(name))
        names.append(str(tmp_path / name))
    (tmp_path / "link").symlink_to("plain")
    (tmp_path / "broken").symlink_to("nothing")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    others = ("link", "broken", "folder", "fifo", "missing", "nu\0l", "plain/below", "a" * 300)
    names += [str(tmp_path / name) for name in others]
    names += ["", str(tmp_path / "plain")]
    assert len(names) == 10 + len(ODD_NAMES) + 10
    together = printed(names)
    for name, line in zip(names[:-10], together, strict=False):
        digest = hashlib.sha256(Path(name).read_bytes()).digest()
        assert line == sums_line(digest, os.fsencode(name))
    bad = [name for name, line in zip(names, together, strict=True) if b": " in line]
    assert bad == names[-9:-1]
    monkeypatch.setattr(_make_sums, "FileSums", NoneTaken)
    assert together == printed(names)
    for start in range(len(names)):
        assert printed(names[start : start + 2]) == together[start : start + 2]


@pytest.mark.parametrize(
    "missing", [(), (0,), (511,), (512,), (0, 1, 2, 511, 512, 1299), range(1300), (1299,)]
)
def test_a_file_without_a_sum_is_named_in_its_place(tmp_path: Path, missing: Sequence[int]) -> None:
    names, expected = [], []
    for number in range(1300):
        path = tmp_path / f"{number}"
        data = b"%d" % number * (number % 50)
        if number not in missing:
            path.write_bytes(data)
        names.append(str(path))
        line = sums_line(hashlib.sha256(data).digest(), bytes(path))
        expected.append(
            line if number not in missing else b"%b: No such file or directory" % bytes(path)
        )
    counts: list[int] = []
    assert printed(names) == expected
    for _ in sum_lines(names, advance=counts.append):
        pass
    total = sum(len(b"%d" % number) * (number % 50) for number in range(1300))
    assert sum(counts) == total - sum(len(b"%d" % n) * (n % 50) for n in missing)


def test_lines_are_measured_some_at_a_time_and_not_checked_before(tmp_path: Path) -> None:
    text = b""
    for number in range(50):
        content, path = noise(number * 7, number), tmp_path / f"{number}"
        path.write_bytes(content)
        text += hashlib.sha256(content).hexdigest().encode() + b"  " + os.fsencode(path) + b"\n"
    text += b"0" * 64 + b"  none\n"
    lines, buffer = SumLines(text, 0, 99, 4096), bytearray(1000)
    assert lines.check(0, buffer, 10**9) == (bytes(51), 0)
    sizes = [number * 7 for number in range(50)] + [-1]
    assert [lines.measure(0) for _ in range(51)] == [[size] for size in sizes]
    assert lines.measure(0) == []
    assert lines.check(0, buffer, 10**9) == (b"\1" * 50 + b"\0", sum(sizes) + 1)
    assert SumLines(text, 0, 99, 4096).measure(10**9) == sizes
    with pytest.raises(OverflowError):
        SumLines(text, 0, 99, 4096).measure(-1)


def test_files_are_taken_some_at_a_time_and_as_they_were_measured(tmp_path: Path) -> None:
    names = []
    for number in range(300):
        (tmp_path / f"{number}").write_bytes(noise(number * 7 % 1000, number))
        names.append(str(tmp_path / f"{number}"))
    files = FileSums([os.fsencode(name) for name in names])
    assert len(files) == 300
    assert files.take(0, bytearray(), 10**9) == 300  # before their sizes are known
    assert files.taken() == bytes(300)
    files = FileSums(list(names))
    assert [files.measure(0) for _ in range(300)] == [[number * 7 % 1000] for number in range(300)]
    assert files.measure(0) == []
    (tmp_path / "3").write_bytes(b"other")
    (tmp_path / "4").unlink()
    steps = []
    while not steps or steps[-1] < 300:
        steps.append(files.take(900, bytearray(1100), 0))
    assert steps == list(range(1, 301))
    assert files.take(900, bytearray(1100), 0) == 300
    good = [number not in (3, 4) and number * 7 % 1000 <= 900 for number in range(300)]
    assert list(files.taken()) == good
    for number in range(300):
        if good[number]:
            digest = hashlib.sha256(noise(number * 7 % 1000, number)).digest()
            assert (
                files.lines(number, number + 1) == sums_line(digest, names[number].encode()) + b"\n"
            )
        else:
            with pytest.raises(ValueError, match=rf"files\[{number}\] was not read"):
                files.lines(number, number + 1)
    assert files.lines(9, 9) == b""


def test_wrong_arguments_of_file_sums_are_refused() -> None:
    with pytest.raises(TypeError, match=r"names\[1\] is of type int"):
        FileSums(["a", 1])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        FileSums(("a",))  # type: ignore[arg-type]
    files = FileSums(["a"])
    for start, stop in ((-1, 0), (0, 2), (1, 0)):
        with pytest.raises(ValueError, match="start and stop"):
            files.lines(start, stop)
    for size_most in (-1, 2):
        with pytest.raises(ValueError, match="size_most"):
            files.take(size_most, bytearray(1), 0)
    with pytest.raises(BufferError):
        files.take(1, b"a", 0)
    with pytest.raises(OverflowError):
        files.take(1, bytearray(1), -1)
    with pytest.raises(OverflowError):
        files.measure(-1)
    assert FileSums([]).take(0, bytearray(), 0) == 0
