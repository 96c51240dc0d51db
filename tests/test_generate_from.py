# SPDX-License-Identifier: Apache-2.0
"""Witnesses of files from Python: paths and binary files, and what is refused."""

import hashlib
import io
import os
import pickle
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

import atlas12288 as atlas
from atlas12288 import _files
from support import commandline

KINDS = [atlas.Witness, atlas.TreeWitness]
DATA = bytes(range(251)) * 20_000  # more than a block of a tree, and no whole window
Kind = type[atlas.Witness] | type[atlas.TreeWitness]
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    return path


@kinds
def test_a_path_gives_the_witness_of_its_bytes(kind: Kind, path: Path) -> None:
    for source in (path, str(path)):
        found = kind.generate_from(source)
        assert found.differences(kind.generate(DATA)) == ()
        assert found.verify(DATA)
        assert found.verify_from(source)


@kinds
def test_a_binary_file_is_read_from_where_it_stands_and_stays_open(kind: Kind, path: Path) -> None:
    for file in (path.open("rb"), path.open("rb", buffering=0), io.BytesIO(DATA)):
        with file:
            file.seek(5)
            assert kind.generate_from(file).verify(DATA[5:])
            assert not file.closed
            file.seek(0)
            assert kind.generate(DATA).verify_from(file)
            assert kind.generate(b"").verify_from(file)


@kinds
def test_one_changed_bit_or_byte_more_is_seen(kind: Kind, path: Path) -> None:
    witness = kind.generate_from(path)
    for content in (DATA[:-1] + bytes([DATA[-1] ^ 1]), DATA + b"\0", DATA[:-1], b""):
        path.write_bytes(content)
        assert not witness.verify_from(path)


@kinds
def test_an_empty_file_has_a_witness(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert kind.generate_from(tmp_path / "empty").verify(b"")


@kinds
def test_the_verdict_is_that_of_the_command_verify(kind: Kind, path: Path) -> None:
    witness = kind.generate_from(path)
    stored = path.with_suffix(".json")
    stored.write_text(witness.to_json() + "\n")
    for content in (DATA, DATA[1:]):
        path.write_bytes(content)
        code = commandline.run("verify", stored, path).returncode
        assert (code == 0) == witness.verify_from(path)


def test_the_leaves_name_the_windows_that_differ(path: Path) -> None:
    witness = atlas.TreeWitness.generate_from(path)
    changed = bytearray(DATA)
    changed[3 * atlas.WINDOW_BYTES] ^= 1
    path.write_bytes(changed)
    assert witness.changed_windows(atlas.TreeWitness.generate_from(path)) == [3]


# --- What is refused ---


@kinds
@pytest.mark.parametrize("verb", ["generate_from", "verify_from"])
def test_what_is_neither_a_path_nor_a_binary_file_is_one_error(
    kind: Kind, verb: str, path: Path
) -> None:
    call = getattr(kind.generate(DATA), verb)
    with (
        path.open(encoding="latin-1") as file,
        pytest.raises(TypeError, match=rf"^source is .*{path.name}.*, a text file, .* mode 'rb'$"),
    ):
        call(file)
    for source in (DATA, bytearray(DATA), 3, None, os.fsencode(path), object()):
        with pytest.raises(TypeError, match=r"source is of type .*, must be a path"):
            call(source)
    with pytest.raises(ValueError, match=r"source is 's3://b/k', must be a path .*Manifest"):
        call("s3://b/k")


@kinds
def test_what_is_no_regular_file_is_a_file_error_that_names_argument_and_file(
    kind: Kind, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, reason in (
        ("", "is a directory, must be a regular file"),
        ("fifo", "is a FIFO, must be a regular file"),
        ("none", "No such file"),
        ("a\0b", "null"),
    ):
        source = f"{tmp_path}/{name}" if name else str(tmp_path)
        with pytest.raises(atlas.FileError, match=reason) as caught:
            kind.generate_from(source)
        assert str(caught.value).startswith(f"source is '{_files.shown(source)}': ")
        assert (caught.value.name, caught.value.argument) == (source, "source")
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (str(copy), copy.name) == (str(caught.value), source)


def refusal(kind: Kind, verb: str, source: typing.Any, error: type[Exception]) -> str:
    """Return the message with which a verb refuses a source."""
    with pytest.raises(error) as caught:
        getattr(kind.generate(DATA), verb)(source)
    assert type(caught.value) is error
    assert "standard input" not in str(caught.value)
    return str(caught.value)


verbs = pytest.mark.parametrize("verb", ["generate_from", "verify_from"])


@kinds
@verbs
def test_the_refusal_of_a_folder_names_argument_value_and_rule(
    kind: Kind, verb: str, tmp_path: Path
) -> None:
    message = refusal(kind, verb, tmp_path, atlas.FileError)
    assert message == f"source is '{tmp_path}': is a directory, must be a regular file"


@kinds
@verbs
def test_the_refusal_of_a_fifo_names_argument_value_and_rule(
    kind: Kind, verb: str, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    message = refusal(kind, verb, str(fifo), atlas.FileError)
    assert message == f"source is '{fifo}': is a FIFO, must be a regular file"


@kinds
@verbs
def test_the_refusal_of_a_url_names_argument_value_and_rule(kind: Kind, verb: str) -> None:
    message = refusal(kind, verb, "s3://bucket/key", ValueError)
    assert message.startswith("source is 's3://bucket/key', must be a path or a binary file")


@kinds
@verbs
def test_the_refusal_of_a_text_file_names_argument_value_and_rule(
    kind: Kind, verb: str, path: Path
) -> None:
    with path.open(encoding="latin-1") as file:
        message = refusal(kind, verb, file, TypeError)
    assert str(path) in message
    assert message == f"source is {file!r}, a text file, must be binary, opened with mode 'rb'"


@kinds
@verbs
def test_the_refusal_of_a_closed_file_names_argument_value_and_rule(
    kind: Kind, verb: str, path: Path
) -> None:
    with path.open("rb") as file:
        pass
    message = refusal(kind, verb, file, ValueError)
    assert str(path) in message
    assert message == f"source is {file!r}, a closed file, must be open"


@kinds
def test_a_file_that_changes_while_it_is_read_is_a_file_error(
    kind: Kind, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def growing(read: Callable[..., int | None]) -> Callable[..., int | None]:
        def grow(*arguments: object) -> int | None:
            with path.open("ab") as more:
                more.write(b"more")
            return read(*arguments)

        return grow

    monkeypatch.setattr(_files, "_fill", growing(_files._fill))
    monkeypatch.setattr(_files.RegularFile, "read_into", growing(_files.RegularFile.read_into))
    with pytest.raises(atlas.FileError, match="changed while it was read"):
        kind.generate_from(path)


def test_a_dash_is_a_file_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_bytes(b"dash")
    assert atlas.Witness.generate_from("-").verify(b"dash")


@kinds
def test_a_file_that_does_not_block_is_one_error(kind: Kind) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb", buffering=0) as file, pytest.raises(BlockingIOError):
        kind.generate_from(file)
    os.close(writing)


# --- A stream of flat witnesses has what a hash of trees has ---


def test_a_witness_stream_has_all_that_a_tree_hash_has() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    # These are of the tree's own: leaves that somebody else has hashed.
    assert public(atlas.TreeHash) - public(atlas.WitnessStream) == {"append", "result"}


def test_a_witness_stream_is_a_hash_of_hashlib(path: Path) -> None:
    with path.open("rb") as file:
        stream: typing.Any = hashlib.file_digest(file, atlas.WitnessStream)  # type: ignore[arg-type]
    expected = hashlib.sha256(DATA)
    assert stream.hexdigest() == expected.hexdigest()
    assert (stream.name, stream.digest_size, stream.block_size) == ("sha256", 32, 64)
    assert (stream.name, stream.block_size) == (expected.name, expected.block_size)
    assert stream.length == len(DATA)
    assert stream.residue == sum(DATA) % 96
    other = stream.copy()
    other.update(b"more")
    assert stream.digest() == expected.digest() != other.digest()
    assert other.witness().verify(DATA + b"more")
    assert stream.hexdigest() in repr(stream)
