# SPDX-License-Identifier: Apache-2.0
"""Lists of BagIt, hashdeep and rclone: ours are read by the programs, theirs by us."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bagit
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atlas12288._cli.console import LIST_FORMS
from atlas12288._files import FileError
from atlas12288._list_forms import is_list, list_header, list_line, reader
from atlas12288._sums import Sum
from support import gnu
from support.commandline import COULD_NOT_CHECK, DOES_NOT_HOLD, HOLDS, run
from support.tools import needs

OTHER_FORMS = LIST_FORMS[1:]
DIGEST = hashlib.sha256(b"abc").digest()
HEX = DIGEST.hex().encode()
HASHDEEP = b"%%%% HASHDEEP-1.0\n%%%% size,md5,sha256,filename\n## comment\n"


def read(form: str, text: bytes, name: str = "") -> list[Sum | None]:
    """The sums of a list, which comes in chunks of 7 bytes."""
    chunks: Iterator[bytes] = (text[at : at + 7] for at in range(0, len(text), 7))
    found = list(reader(form)(name, chunks))
    assert all(one is None or isinstance(one, Sum) for _, one in found)
    return [one if isinstance(one, Sum) else None for _, one in found]


def names(form: str, text: bytes, name: str = "") -> list[bytes | None]:
    return [None if one is None else one.path for one in read(form, text, name)]


# What rclone writes for a control character, and what it puts before these signs in a name.
PICTURES = ["\u240a", "\u201b\u240a", "\u201b", "\u201b\u201b\n", "\u2421\x7f", "\u2420"]
NAMES = st.binary(min_size=1).filter(lambda name: b"\0" not in name and b"/" not in name)


@given(form=st.sampled_from(OTHER_FORMS), paths=st.lists(NAMES, max_size=5))
@example("bagit", [b"a%0A", b"\n", b"\r", b"%25", b"%", b"* x", b"-"])
@example("hashdeep", [b"a,b", b"-", b",", b"#", b" "])
@example("rclone", [b"  x", b"*", b"#", b"-", b"ends with space ", *map(str.encode, PICTURES)])
def test_a_name_comes_back_or_is_refused(form: str, paths: list[bytes]) -> None:
    text, written = list_header(form), []
    for path in paths:
        if _can_be_said(form, path):
            text += list_line(form, DIGEST, path, 3)
            written.append(path)
        else:
            with pytest.raises(FileError, match=f"a list of {form} cannot have the name"):
                list_line(form, DIGEST, path, 3)
    prefix = {"bagit": b"data/", "hashdeep": b"./", "rclone": b""}[form]
    wanted = [prefix + path for path in written]
    # A file, not standard input.
    assert names(form, text) == [b"./-" if path == b"-" else path for path in wanted]


def _can_be_said(form: str, path: bytes) -> bool:
    if form == "rclone":
        return True
    if form == "hashdeep":
        return b"\n" not in path and b"\r" not in path
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return False
    return text == text.rstrip()


def test_names_of_a_bag_are_relative_to_it_and_inside_it() -> None:
    text = HEX + b"  data/a b\n" + HEX.upper() + b"\t*data/%0a%25%0D%41\r\n\n" + HEX + b" bagit.txt"
    wanted = [b"some/bag/data/a b", b"some/bag/data/\n%\r%41", b"some/bag/bagit.txt"]
    assert names("bagit", text, "some/bag/manifest-sha256.txt") == wanted
    assert names("bagit", HEX + b"  data/a\n", "-") == [b"data/a"]
    for hostile in (b"/etc/passwd", b"data/../../x", b"..", b"data/a\rb", b"data/", b".", b"a\0b"):
        assert names("bagit", HEX + b"  " + hostile + b"\n") == [None], hostile
    for line in (
        b"x data/a",
        HEX[1:] + b"  data/a",
        HEX,
        HEX * 2 + b"  data/a",
        b"\xef\xbb\xbf" + HEX,
    ):
        assert names("bagit", line + b"\n") == [None], line


def test_a_list_of_hashdeep_has_its_columns_and_commas_in_names() -> None:
    row = b"3,900150983cd24fb0d6963f7d28e17f72," + HEX + b","
    assert names("hashdeep", HASHDEEP + row + b"a,b\n" + row + b",\r\n") == [b"a,b", b","]
    # What continues a name with a line feed is no sum; neither is a row with other columns.
    for line in (b"rest of a name", b"3," + HEX + b",a", row, b"x" + row + b"a", b"," + row + b"a"):
        assert names("hashdeep", HASHDEEP + line + b"\n") == [None], line


@pytest.mark.parametrize(
    "text",
    [
        HEX + b"  a\n",
        b"%%%% HASHDEEP-1.0\n" + HEX + b"  a\n",
        b"%%%% HASHDEEP-1.0\n%%%% size,md5,filename\n",
        b"%%%% HASHDEEP-1.0\n%%%% size,sha256,sha256,filename\n",
        b"%%%% HASHDEEP-1.0\n%%%% size,filename,sha256\n",
        b"%%%% HASHDEEP-1.0\n%%%% sha256,filename\n",
    ],
)
def test_a_list_of_hashdeep_without_its_header_is_an_error(text: bytes) -> None:
    with pytest.raises(FileError, match="must"):
        read("hashdeep", text)
    assert not is_list("hashdeep", [text])


def test_lines_of_rclone_without_a_digest_are_no_sums() -> None:
    empty = b" " * 64
    assert names("rclone", HEX + b"   a\n" + HEX + b" *b\n" + HEX + b"  \\\\c\r\n") == [
        b" a",
        b"b",
        b"\\\\c",
    ]
    for line in (
        empty + b"  a",
        b"UNSUPPORTED".rjust(64) + b"  a",
        b"ERROR".rjust(64) + b"  a",
        HEX + b" a",
    ):
        assert names("rclone", line + b"\n") == [None], line


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_a_line_that_is_too_long_is_no_sum(form: str) -> None:
    text = list_header(form) + list_line(form, DIGEST, b"a" * 20_000, 3)
    assert names(form, text) == [None]
    assert not is_list(form, [text])
    assert not is_list(form, [list_header(form)])
    assert is_list(form, [list_header(form) + list_line(form, DIGEST, b"a", 3)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `data` with names that all forms can say, one in a folder below."""
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    for name in (
        "plain",
        "two words",
        " before",
        "*star",
        "#hash",
        "a,b",
        "schön 漢",
        "-",
        "sub/x",
    ):
        (data / name).write_bytes(name.encode())
    return data


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_what_witness_writes_check_sums_reads(folder: Path, form: str) -> None:
    bag = folder.parent
    made = run("witness", "--format", form, "data", "-o", "list.txt", cwd=bag)
    assert (made.returncode, made.stderr) == (HOLDS, b"")
    assert (
        run("witness", "--format", form, "data", cwd=bag).stdout == (bag / "list.txt").read_bytes()
    )
    # Its own list is replaced, and a file of something else is not.
    assert run("witness", "--format", form, "data", "-o", "list.txt", cwd=bag).returncode == HOLDS
    (bag / "other.txt").write_bytes(b"notes\n")
    kept = run("witness", "--format", form, "data", "-o", "other.txt", cwd=bag)
    assert kept.returncode == COULD_NOT_CHECK
    assert f"list of {form}".encode() in kept.stderr
    # The names of a bag are relative to the bag, all others to the current folder.
    where, path = (Path("/"), str(bag / "list.txt")) if form == "bagit" else (folder, "../list.txt")
    good = run("check-sums", "--format", form, path, cwd=where)
    assert good.returncode == HOLDS, good.stderr
    assert good.stdout.count(b": OK\n") == 9
    (folder / "sub/x").write_bytes(b"y")
    bad = run("check-sums", "--format", form, "--quiet", path, cwd=where)
    assert (bad.returncode, bad.stdout.count(b"FAILED")) == (DOES_NOT_HOLD, 1)
    with (bag / "list.txt").open("ab") as file:
        file.write(b"no sum\n")
    unread = run("check-sums", "--format", form, path, cwd=where)
    assert unread.returncode == COULD_NOT_CHECK
    assert b"1 line is improperly formatted" in unread.stderr


def test_a_name_that_a_list_cannot_say_leaves_the_old_list(folder: Path) -> None:
    bag, form = folder.parent, "hashdeep"
    assert run("witness", "--format", form, "data", "-o", "list.txt", cwd=bag).returncode == HOLDS
    before = (bag / "list.txt").read_bytes()
    (folder / "new\nline").write_bytes(b"x")
    made = run("witness", "--format", form, "data", "-o", "list.txt", cwd=bag)
    assert made.returncode == COULD_NOT_CHECK
    assert b"cannot have the name 'new\\nline': has a line break" in made.stderr
    assert (bag / "list.txt").read_bytes() == before


def test_bagit_python_accepts_our_manifest_of_a_bag(folder: Path) -> None:
    bag = folder.parent
    (folder / "new\nline").write_bytes(b"x")
    (bag / "bagit.txt").write_text("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    made = run("witness", "--format", "bagit", "data", "-o", "manifest-sha256.txt", cwd=bag)
    assert made.returncode == HOLDS, made.stderr
    bagit.Bag(str(bag)).validate()
    (folder / "plain").write_bytes(b"plaIn")
    with pytest.raises(bagit.BagValidationError):
        bagit.Bag(str(bag)).validate()


def test_a_bag_of_bagit_python_is_checked(folder: Path, tmp_path: Path) -> None:
    bag = tmp_path / "data"
    (folder / "new\nline").write_bytes(b"x")
    bagit.make_bag(str(bag), checksums=["sha256"], processes=1)
    lists = [str(bag / name) for name in ("manifest-sha256.txt", "tagmanifest-sha256.txt")]
    good = run("check-sums", "--format", "bagit", *lists)
    assert good.returncode == HOLDS, good.stderr
    assert good.stdout.count(b": OK\n") == 10 + 3
    (bag / "data" / "plain").write_bytes(b"plaIn")
    assert run("check-sums", "--format", "bagit", *lists).returncode == DOES_NOT_HOLD


@needs("hashdeep")
def test_hashdeep_and_we_read_each_other_s_lists(folder: Path) -> None:
    command = ("hashdeep", "-c", "md5,sha256", "-l", "-r", ".")
    theirs = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
    good = run("check-sums", "--format", "hashdeep", "-", input=theirs, cwd=folder)
    assert (good.returncode, good.stdout.count(b": OK\n")) == (HOLDS, 9), good.stderr
    ours = folder.parent / "ours.txt"
    assert run("witness", "--format", "hashdeep", folder, "-o", ours).returncode == HOLDS
    (folder / "link").symlink_to("plain")  # which the list has not
    audit = ("hashdeep", "-a", "-l", "-o", "f", "-k", ours, "-r", ".")
    assert subprocess.run(audit, cwd=folder, capture_output=True, check=False).returncode == 0
    (folder / "plain").write_bytes(b"plaIn")
    assert subprocess.run(audit, cwd=folder, capture_output=True, check=False).returncode != 0


@needs("rclone")
def test_rclone_and_we_read_each_other_s_lists(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with the names that other tools stumble over."""
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "none"))
    hostile = [
        *(
            b"new\nline",
            b"cr\r",
            b"tab\t",
            b"\x01\x1b\x7f",
            b"trail ",
            b"  ",
            b"back\\slash",
            b"\\",
        ),
        *(b"bad\xff\xfe", b"\xef\xbb\xbfbom", b"e\xcc\x81", b"sub/\nx\n", b"quote\"'", b"%0A"),
        *("\u240a \u2421".encode(), "\uff0f\uff0e".encode(), b"*", b"# x"),
    ]
    for name in hostile:
        (folder / os.fsdecode(name)).write_bytes(b"content of " + name)
    command = ("rclone", "hashsum", "sha256", ".")
    theirs = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
    good = run("check-sums", "--format", "rclone", "-", input=theirs, cwd=folder)
    assert (good.returncode, good.stdout.count(b": OK\n")) == (HOLDS, 9 + len(hostile)), good.stderr
    ours = tmp_path / "ours.txt"
    assert run("witness", "--format", "rclone", folder, "-o", ours).returncode == HOLDS
    assert sorted(theirs.splitlines()) == sorted(ours.read_bytes().splitlines())
    for check in (("checksum", "sha256", ours, "."), (*command[1:], "--checkfile", ours)):
        done = subprocess.run(("rclone", *check), cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        (folder / "new\nline").write_bytes(b"damaged at this place")
        done = subprocess.run(("rclone", *check), cwd=folder, capture_output=True, check=False)
        assert done.returncode != 0
        (folder / "new\nline").write_bytes(b"content of new\nline")


@given(text=st.binary(max_size=300), form=st.sampled_from(LIST_FORMS))
def test_any_bytes_are_read_or_refused(text: bytes, form: str) -> None:
    header = list_header(form)
    for one in (text, header + text, HEX + b"  " + text):
        for found in read_or_nothing(form, one):
            assert found is None or (len(found.digest) == 32 and b"\0" not in found.path)


def read_or_nothing(form: str, text: bytes) -> list[Sum | None]:
    try:
        return read(form, text)
    except FileError:
        return []


def test_links_are_left_out_and_said(folder: Path) -> None:
    (folder / "link").symlink_to("plain")
    made = run("witness", "--format", "rclone", folder)
    assert made.returncode == HOLDS
    assert b"a symbolic link left out: rclone reads files" in made.stderr
    assert b"link" not in made.stdout


def test_the_default_is_sha256sum(folder: Path) -> None:
    (folder / "list").write_bytes(gnu.digest_of(b"plain").encode() + b"  plain\n")
    assert run("check-sums", "--format", LIST_FORMS[0], "list", cwd=folder).returncode == HOLDS
    assert run("check-sums", "list", cwd=folder).returncode == HOLDS
