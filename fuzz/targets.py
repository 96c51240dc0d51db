# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: for any bytes, either the one error that is promised, or a value that says again
exactly what was read."""

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from atlas12288 import (
    ConsistencyProof,
    InclusionProof,
    Manifest,
    TreeWitness,
    Witness,
    WitnessError,
    WitnessStream,
    cli,
    witness_from_json,
)
from atlas12288.sums import read_sums, sums_line
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
    # The text that was read says the same, whatever its order and white space.
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
    """The leaves of a sidecar: those of the witness, or refused."""
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


def tensors_json(data: bytes) -> None:
    """Witnesses of arrays by name."""
    _json_round_trip(TensorsWitness.from_json, data)


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
    errors = stderr.buffer.getvalue()
    if b"Traceback" in errors:
        sys.stderr.write(errors.decode())
        raise AssertionError("a crash")
    # No verdict without its reason.
    assert (code == 2) == bool(errors), (code, errors)
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


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        *(witness_json, witness_bytes, stream_bytes, inclusion_json, consistency_json, leaves),
        *(manifest_json, tensors_json, sums, safetensors_file, npz_file, command_line),
    )
}
