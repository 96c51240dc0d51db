# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: for any bytes, either the one error that is promised, or a value that says again
exactly what was read."""

import contextlib
import functools
import io
import json
import os
import re
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy
import pyarrow
import pyarrow.ipc

from atlas12288 import (
    ConsistencyProof,
    InclusionProof,
    Manifest,
    TreeWitness,
    Witness,
    WitnessError,
    WitnessStream,
    witness_from_json,
)
from atlas12288 import _cli as cli
from atlas12288._chains import CHAINS_MOST
from atlas12288._files import CHUNK_BYTES, FileError
from atlas12288._many_files import SMALL_MOST, sizes_of, witness_file, witness_files
from atlas12288._subtree import BLOCK_BYTES
from atlas12288._sums import read_sums, sums_line
from atlas12288._witness_lists import LINE_MOST_BYTES, line_of, lines_of, read_line
from atlas12288.manifest._sources.gitignore import Matcher, Rule
from atlas12288.manifest._state_frames import frame
from atlas12288.signing import Bundle
from atlas12288.signing._verify import Signed
from atlas12288.tables import TableWitness
from atlas12288.tensors import TensorsWitness

DATA = bytes(i % 251 for i in range(2 * 12288 + 5))
TREE = TreeWitness.generate(DATA, threads=1)
ROOT = bytes(TREE.root)

JsonValue = Witness | TreeWitness | InclusionProof | ConsistencyProof | Manifest | TensorsWitness


def _json_round_trip(read: Callable[[bytes], JsonValue], data: bytes) -> JsonValue | None:
    try:
        value = read(data)
    except WitnessError:
        return None
    text = value.to_json()
    again = read(text.encode())
    assert again == value
    assert again.to_json() == text
    # The text that was read says the same, in any order and with any white space.
    assert json.loads(data) == json.loads(text)
    return value


def witness_json(data: bytes) -> None:
    """The JSON of both kinds of witnesses."""
    value = _json_round_trip(witness_from_json, data)
    if isinstance(value, Witness):
        assert value.verify(DATA) == (not value.differences(Witness.generate(DATA)))


def witness_bytes(data: bytes) -> None:
    """The byte form of a witness."""
    try:
        value = Witness.from_bytes(data)
    except WitnessError:
        return
    assert bytes(value) == data
    assert Witness.from_json(value.to_json()) == value


def stream_bytes(data: bytes) -> None:
    """The byte form of a stream."""
    try:
        stream = WitnessStream.from_bytes(data)
    except WitnessError:
        return
    assert bytes(stream) == data
    assert stream.witness().length == int.from_bytes(data[8:16], "little")


def inclusion_json(data: bytes) -> None:
    """Inclusion proofs: read, and never proof of a window that is not there."""
    value = _json_round_trip(InclusionProof.from_json, data)
    if isinstance(value, InclusionProof):
        assert not value.verify(b"\x01" * 12288, ROOT)
        if TREE.verify_window(DATA[:12288], value):
            assert value == TREE.prove(0)


def consistency_json(data: bytes) -> None:
    """Consistency proofs."""
    value = _json_round_trip(ConsistencyProof.from_json, data)
    if isinstance(value, ConsistencyProof):
        old, new = value.old_size, value.new_size
        assert not value.verify(bytes(32), ROOT, old_size=old, new_size=new)
        if value.verify(value.old_root, ROOT, old_size=old, new_size=TREE.windows):
            assert value == TREE.prove_consistency(old)


def leaves(data: bytes) -> None:
    """The leaves of a sidecar belong to the witness, or are refused."""
    try:
        whole = TREE.with_leaves(data)
    except WitnessError:
        assert data != TREE.leaves
        return
    assert data == TREE.leaves == whole.leaves


def manifest_json(data: bytes) -> None:
    """Manifests, whose paths stay below their folder, and whose rules are under their root."""
    value = _json_round_trip(Manifest.from_json, data)
    if isinstance(value, Manifest):
        for entry in value.entries:
            assert not entry.path.startswith(b"/")
            assert not {b"", b".", b".."} & set(entry.path.split(b"/"))
        assert not any(path.startswith("/") for path in value.options.links_below)
        options = value.options._replace(exclude=(*value.options.exclude, "x"))
        assert Manifest.from_entries(options, value.entries).root != value.root


def signature_json(data: bytes) -> None:
    """Bundles, and what they sign: read, or refused, and never a path out of the folder."""
    with contextlib.suppress(WitnessError):
        bundle = Bundle.from_json(data)
        again = Bundle.from_json(bundle.to_json())
        assert again == bundle
        signed_statement(bundle.payload)


def signed_statement(data: bytes) -> None:
    """What is signed, by a signer who may lie."""
    try:
        signed = Signed.of(data)
    except (WitnessError, ImportError):
        return
    for entry in signed.content.entries:
        assert not entry.path.startswith(b"/")
        assert not {b"", b".", b".."} & set(entry.path.split(b"/"))


def tensors_json(data: bytes) -> None:
    """Witnesses of arrays by name."""
    _json_round_trip(TensorsWitness.from_json, data)


def witness_list(data: bytes) -> None:
    """Lists of witnesses: the same however the list is cut, and what a named line says can be
    written and read."""
    if max(map(len, data.split(b"\n"))) > LINE_MOST_BYTES:
        return
    lines = list(lines_of([data]))
    assert list(lines_of(data[i : i + 7] for i in range(0, len(data), 7))) == lines
    for line in lines:
        with contextlib.suppress(WitnessError):
            name, witness = read_line(line)
            if name is not None:
                assert name
                assert read_line(line_of(name, witness).encode()) == (name, witness)


def sums(data: bytes) -> None:
    """Lists of sums: the same however the list is cut, and what is read can be written and read."""
    found = list(read_sums([data]))
    assert list(read_sums(data[i : i + 7] for i in range(0, len(data), 7))) == found
    assert [number for number, _ in found] == sorted({number for number, _ in found})
    for _, line in found:
        if line is not None:
            again = list(read_sums([sums_line(line.digest, line.path) + b"\n"]))
            assert again == [(1, line)]


_FOLDER = tempfile.TemporaryDirectory()
_FILE, _WITNESS, _LEAVES = (
    Path(_FOLDER.name, name) for name in ("f", "w.json", "w.json.atlas.leaves")
)
_FILE.write_bytes(DATA)


def _run(*arguments: str | Path) -> int:
    """The exit code of a run of the command line, in this process."""
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = cli.main([str(argument) for argument in arguments])
    stderr.flush()
    stdout.flush()
    errors = stderr.buffer.getvalue()
    if b"Traceback" in errors:
        sys.stderr.write(errors.decode())
        raise AssertionError("a crash")
    # No verdict without its reason: an error, or that nobody vouches for the root of a proof.
    undecided = b"consistent, under a root that came with the proof" in stdout.buffer.getvalue()
    assert (code == 2) == (bool(errors) or undecided), (code, errors)
    return code


def command_line(data: bytes) -> None:
    """Files of witnesses, leaves and proofs given to the command line. The first byte is the kind
    of file."""
    kind, data = data[:1], data[1:]
    _LEAVES.write_bytes(data if kind == b"l" else TREE.leaves or b"")
    _WITNESS.write_bytes(TREE.to_json().encode() if kind == b"l" else data)
    if kind == b"p":
        assert _run("verify-proof", _WITNESS, "--from", _FILE) in (0, 1, 2)
        return
    found = _run("locate", _WITNESS, _FILE)
    if kind == b"l":
        assert found == (0 if data == TREE.leaves else 2)
    verified = _run("verify", _WITNESS, _FILE)
    assert verified in (0, 1, 2)
    # locate says of the ranges what verify says of the file, but for what it has no ranges for.
    assert found == verified or 2 in (found, verified)


def _tensor_file(suffix: str, data: bytes) -> None:
    path = Path(_FOLDER.name, f"tensors{suffix}")
    path.write_bytes(data)
    try:
        witness = TensorsWitness.from_file(path, threads=1)
    except ValueError as error:
        assert type(error) is ValueError
        assert str(error).startswith(str(path)), error
        return
    assert TensorsWitness.from_json(witness.to_json()) == witness
    assert witness.verify_file(path, threads=1).holds


def safetensors_file(data: bytes) -> None:
    """`.safetensors` files."""
    _tensor_file(".safetensors", data)


def npz_file(data: bytes) -> None:
    """`.npz` files."""
    _tensor_file(".npz", data)


_NPY_FILE = io.BytesIO()
numpy.save(_NPY_FILE, numpy.arange(6, dtype=">i4").reshape(2, 3))
_NPY = _NPY_FILE.getvalue()
_MEMBERS = {"a.npy": zipfile.ZIP_STORED, "b.npy": zipfile.ZIP_DEFLATED, "c.npy": 0, "d.npy": 8}
# Where the fields of a member are, in the directory and where it begins: flags, method, CRC-32,
# sizes, lengths of name and more, place, the name itself.
_FIELDS = (8, 10, 16, 20, 24, 28, 30, 42, 46), (6, 8, 14, 18, 22, 26, 28, 30, 32)
_PATCH = struct.Struct("<BBi")


def npz_container(data: bytes) -> None:
    """Archives whose members are well-formed but for a few fields, of the header and elements that
    are given. The first byte is how many fields are others, with 6 bytes each."""
    count = data[0] % 4 if data else 0
    patches, content = data[1 : 1 + 6 * count], data[1 + 6 * count :]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, method in _MEMBERS.items():
            archive.writestr(name, _NPY if name < "c" else content, method)
    whole = bytearray(file.getvalue())
    for start in range(0, len(patches) - _PATCH.size + 1, _PATCH.size):
        member, field, value = _PATCH.unpack_from(patches, start)
        in_directory = member < 128
        begin = -1
        for _ in range(1 + member % len(_MEMBERS)):
            begin = whole.find(b"PK\x01\x02" if in_directory else b"PK\x03\x04", begin + 1)
        fields = _FIELDS[0] if in_directory else _FIELDS[1]
        place = begin + fields[field % len(fields)]
        width = 2 if field % len(fields) in (0, 1, 5, 6, 8) else 4
        if 0 <= begin <= len(whole) - 64:
            whole[place : place + width] = struct.pack("<i", value)[:width]
    _tensor_file(".npz", bytes(whole))


def _written(table: pyarrow.Table) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


_TEXTS = ["a", None, "longer than the twelve bytes", ""] * 4
_TABLE = pyarrow.table(
    {
        "int": pyarrow.array([1, None, 3, 4] * 4),
        "bool": pyarrow.array([True, None, False, True] * 4),
        "text": _TEXTS,
        "view": pyarrow.array(_TEXTS, pyarrow.string_view()),
        "coded": pyarrow.array(_TEXTS).dictionary_encode(),
        "lists": pyarrow.array([_TEXTS[:2], None, [], _TEXTS[1:]] * 4),
        "views": pyarrow.array(
            [_TEXTS[:2], None, [], _TEXTS[1:]] * 4, pyarrow.list_view(pyarrow.string())
        ),
        "runs": pyarrow.RunEndEncodedArray.from_arrays([3, 7, 16], ["a", None, "b"]),
        "struct": pyarrow.array([{"a": 1, "b": "x"}, None, {"a": None, "b": ""}, {}] * 4),
        "map": pyarrow.array(
            [[("k", {"v": 1})], None, [], [("k", None)] * 2] * 4,
            pyarrow.map_(pyarrow.string(), pyarrow.struct([("n", pyarrow.null()), ("v", "i4")])),
        ),
    }
)
_TABLE_WITNESS = TableWitness.generate(_TABLE)
_STREAM = _written(_TABLE)
# The memory of the arrays, which pyarrow loads without a look, and which is ours to distrust. Of
# what is before them, their lengths and places, pyarrow itself may die.
_PLACES: list[int] = []
for _message in pyarrow.ipc.MessageReader.open_stream(_STREAM):
    if _message.body is not None and _message.body.size > 0:
        _begin = _STREAM.index(bytes(_message.body))
        _PLACES += range(_begin, _begin + _message.body.size)
_CHANGE = struct.Struct("<HB")


def arrow_ipc(data: bytes) -> None:
    """Arrow tables with some bytes changed: 3 bytes for each change, two for its place."""
    whole = bytearray(_STREAM)
    for place, value in _CHANGE.iter_unpack(data[: len(data) // 3 * 3]):
        whole[_PLACES[place % len(_PLACES)]] ^= value
    table = pyarrow.ipc.open_stream(bytes(whole)).read_all()
    report = _TABLE_WITNESS.verify(table, threads=1)
    assert not report.missing
    assert not report.other
    try:
        witness = TableWitness.generate(table, threads=1)
    except ValueError as error:
        assert str(error).startswith("column '"), error
        assert report.unreadable
        return
    assert TableWitness.from_json(witness.to_json()) == witness
    assert witness.verify(pyarrow.concat_tables([table[:5], table[5:]]), threads=1).holds
    assert report.holds == table.equals(_TABLE)


class _States:
    """A folder of three files, one of them of several blocks, and states of runs over it."""

    def __init__(self) -> None:
        # The folder is removed when the process ends.
        self._place = tempfile.TemporaryDirectory()
        place = Path(self._place.name)
        self.folder, self.output, self.state = place / "data", place / "out", place / "state"
        self.folder.mkdir()
        for index, size in enumerate((0, 5, 2 * BLOCK_BYTES + 1)):
            (self.folder / f"{index}").write_bytes((DATA * (size // len(DATA) + 1))[:size])
            os.utime(self.folder / f"{index}", (1e9, 1e9))
        self.made = [self._stopped(False)]
        self.right = self.run(b"", update=False)
        self.made.append(self.state.read_bytes())
        self.manifest = self.output.read_bytes()
        os.utime(self.folder / "2", (1e9, 1e9 + 1))
        self.made.append(self._stopped(True))

    def _stopped(self, update: bool) -> bytes:
        read = 0

        def advance(count: int) -> None:
            nonlocal read
            read += count
            if read >= 2 * BLOCK_BYTES:
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            self.run(None, update=update, advance=advance)
        return self.state.read_bytes()

    def run(
        self, state: bytes | None, update: bool, advance: Callable[[int], None] | None = None
    ) -> Manifest:
        if state is not None:
            self.state.write_bytes(state)
        return Manifest.generate(
            self.folder,
            output=self.output,
            state=self.state,
            update=update,
            advance=advance,
            threads=1,
        )


_states: list[_States] = []
_PLACE = struct.Struct("<BHH")


def state(data: bytes) -> None:
    """The state of a run. A part of one that a run made is replaced by other bytes: then the
    manifest is right, or there is one error. Half of them are then a frame with its checksum, which
    a user's own program could write: they can say anything of a file, but do no harm."""
    if len(data) < _PLACE.size:
        return
    if not _states:
        _states.append(_States())
    runs = _states[0]
    choice, at, count = _PLACE.unpack(data[: _PLACE.size])
    whole, new = runs.made[choice % len(runs.made)], data[_PLACE.size :]
    is_frame = bool(choice & 0x40)
    if is_frame:
        new = frame(b"IFBKRPX"[at % 7 :][:1], new)
    at %= len(whole) + 1
    whole = whole[:at] + new + whole[at + count :]
    runs.output.write_bytes(runs.manifest)
    try:
        found = runs.run(whole, update=bool(choice & 0x80))
    except FileError as error:
        assert str(error).startswith(f"the state {runs.state} "), error
        assert runs.state.read_bytes() == whole
        return
    assert is_frame or found == runs.right


_CLASSES = {
    b"alnum": rb"[0-9A-Za-z]",
    b"alpha": rb"[A-Za-z]",
    b"blank": rb"[ \t]",
    b"cntrl": rb"[\x00-\x1f\x7f]",
    b"digit": rb"[0-9]",
    b"graph": rb"[!-~]",
    b"lower": rb"[a-z]",
    b"print": rb"[ -~]",
    b"punct": rb"[!-/:-@\[-`{-~]",
    b"space": rb"[ \t\n\r]",
    b"upper": rb"[A-Z]",
    b"xdigit": rb"[0-9A-Fa-f]",
}


def _by_git(pattern: bytes, text: bytes) -> bool:
    """Git's wildmatch for paths, step by step as in its C code, with each pair tried once."""

    def at(place: int) -> bytes:
        return pattern[place : place + 1]

    def member(place: int, byte: int) -> tuple[bool, int] | None:
        """Is the byte in the set behind a bracket, and where does the set end?"""
        negated = at(place) in (b"!", b"^")
        place += negated
        before, matched, first = 0, False, True
        while first or at(place) != b"]":
            first = False
            char = at(place)
            if char == b"-" and before and at(place + 1) not in (b"", b"]"):
                place += 1 + (at(place + 1) == b"\\")
                if not at(place):
                    return None
                matched |= before <= byte <= pattern[place]
                before = 0
            elif char == b"[" and at(place + 1) == b":":
                end = pattern.find(b"]", place + 2)
                if end < 0:
                    return None
                name = pattern[place + 2 : end]
                if name.endswith(b":"):
                    if name[:-1] not in _CLASSES:
                        return None
                    matched |= re.match(_CLASSES[name[:-1]], bytes([byte])) is not None
                    place, before = end, 0
                else:
                    matched |= byte == ord("[")
                    before = ord("[")
            else:
                place += char == b"\\"
                if not at(place):
                    return None
                before = pattern[place]
                matched |= byte == before
            place += 1
        return matched != negated, place + 1

    @functools.cache
    def fits(place: int, start: int) -> bool:
        char = at(place)
        if not char:
            return start == len(text)
        if char == b"*":
            end = place
            while at(end) == b"*":
                end += 1
            whole = place == 0 or at(place - 1) == b"/"
            deep = (
                end - place > 1
                and whole
                and (at(end) in (b"", b"/") or pattern[end : end + 2] == rb"\/")
            )
            if deep and at(end) == b"/" and fits(end + 1, start):
                return True
            if end == len(pattern):
                return deep or b"/" not in text[start:]
            for stop in range(start, len(text)):
                if fits(end, stop):
                    return True
                if not deep and text[stop] == ord("/"):
                    return False
            return False
        if start == len(text):
            return False
        if char == b"[":
            found = member(place + 1, text[start])
            return (
                found is not None
                and found[0]
                and text[start] != ord("/")
                and fits(found[1], start + 1)
            )
        if char == b"?":
            return text[start] != ord("/") and fits(place + 1, start + 1)
        place += char == b"\\"
        return at(place) == text[start : start + 1] and fits(place + 1, start + 1)

    return fits(0, 0)


def _rule_matches(line: bytes, path: bytes, folder: bool) -> bool:
    """Does a line of gitignore match a path, by the words of git's documentation?"""
    spaces = len(line) - len(line.rstrip(b" "))
    kept = line[: len(line) - spaces]
    escaped = (len(kept) - len(kept.rstrip(b"\\"))) % 2
    line = kept + b" " * min(spaces, escaped)
    line = line.removeprefix(b"!")
    if line.endswith(b"/") and not folder:
        return False
    line = line.removesuffix(b"/")
    if not line:
        return False
    if b"/" not in line:
        path = path[path.rfind(b"/") + 1 :]
    return _by_git(line.removeprefix(b"/"), path)


def rules(data: bytes) -> None:
    """Rules of gitignore, a line each, and behind a NUL a path: they decide as git's own way, which
    tries all."""
    text, _, path = data.partition(b"\0")
    if len(text) > 200 or not 0 < len(path) <= 60 or b"\0" in path or b"" in path.split(b"/"):
        return
    try:
        lines = text.decode().split("\n")
    except UnicodeDecodeError:
        return
    parsed = [Rule(line) for line in lines]
    for folder in (False, True):
        matches = [_rule_matches(line.encode(), path, folder) for line in lines]
        last = max((number for number, found in enumerate(matches) if found), default=-1)
        assert Matcher(parsed, folders=folder).last(path) == last, (lines, path, folder)


_NAMED: Final = struct.Struct("<BHb")  # kind, size and what is told too much of one file
_NAMED_MOST: Final = 24
_SIZES: Final = (0, SMALL_MOST - 100, CHUNK_BYTES // CHAINS_MOST - 100, CHUNK_BYTES - 100)


def named_files(data: bytes) -> None:
    """Files witnessed many at once, under sizes that may not be so: the witness or the error of
    each alone."""
    with tempfile.TemporaryDirectory() as place:
        paths, told = [], []
        whole = len(data) // _NAMED.size * _NAMED.size
        for kind, size, wrong in list(_NAMED.iter_unpack(data[:whole]))[:_NAMED_MOST]:
            path = Path(place) / str(len(paths))
            length = _SIZES[kind >> 6] + size % 200
            if kind & 7 == 0:
                path.mkdir()
            elif kind & 7 == 1:
                path.symlink_to(f"{max(0, len(paths) - 1)}")
            elif kind & 7 != 2:
                path.write_bytes((data * (length // len(data) + 1))[:length])
            paths.append(os.fsencode(path))
            told.append(wrong)
        sizes = [max(-1, size + wrong) for size, wrong in zip(sizes_of(paths), told, strict=True)]
        for path, found in zip(paths, witness_files(paths, sizes), strict=True):
            try:
                alone = witness_file(os.fsdecode(path))
            except FileError as error:
                assert str(found) == str(error)
            else:
                assert isinstance(found, Witness)
                assert alone.differences(found) == ()


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        *(witness_json, witness_bytes, stream_bytes, inclusion_json, consistency_json, leaves),
        *(
            manifest_json,
            tensors_json,
            witness_list,
            sums,
            safetensors_file,
            npz_file,
            command_line,
        ),
        *(npz_container, arrow_ipc, state, rules, named_files, signature_json, signed_statement),
    )
}
