# SPDX-License-Identifier: Apache-2.0
"""The binding as a whole: arguments that are not used, and objects that its code never makes."""

import contextlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import atlas12288 as atlas
from atlas12288 import _native
from support.slow import slow_but

HOSTILE_CALLS = Path(__file__).parent / "support" / "hostile_calls.py"
PUBLIC = {name: getattr(atlas, name) for name in atlas.__all__}
CLASSES: dict[str, type[Any]] = {
    kind.__qualname__: kind
    for kind in (*vars(_native).values(), *PUBLIC.values())
    if isinstance(kind, type) and not issubclass(kind, BaseException | int)
}


@pytest.mark.parametrize("name", CLASSES)
def test_no_class_ignores_an_argument(name: str) -> None:
    with pytest.raises(TypeError):
        CLASSES[name](b"", 1, 2, 3, 4, 5, 6, 7)
    with pytest.raises(TypeError):
        CLASSES[name](no_such_argument=b"")


@pytest.mark.parametrize("kind", [atlas.WitnessStream, atlas.TreeHash, atlas.Residue])
@pytest.mark.parametrize("data", [b"", b"abc", b"abc" * 9001], ids=len)
def test_the_first_chunk_of_a_stream_may_be_given_to_its_class(kind: Any, data: bytes) -> None:
    def state(stream: Any) -> object:
        return bytes(stream) if kind is atlas.WitnessStream else repr(stream)

    fed = kind()
    fed.update(data)
    assert state(kind(data)) == state(kind(data=data)) == state(fed)
    assert (state(kind(data)) == state(kind())) == (not data)
    with pytest.raises(TypeError, match="chunk is of type int, must be a buffer"):
        kind(5)


def test_a_stream_whose_class_has_an_init_of_its_own_is_one_of_no_bytes() -> None:
    class Named(atlas.WitnessStream):
        def __init__(self, name: str) -> None:
            self.name = name

    stream = Named("a")
    stream.update(b"abc")
    assert stream.witness().verify(b"abc")
    resumed = Named.from_bytes(bytes(stream))
    assert type(resumed) is Named
    assert resumed.witness().verify(b"abc")


@pytest.mark.parametrize("seed", slow_but([0], range(5)))
def test_no_call_on_any_object_hurts_the_process(seed: int) -> None:
    program = (sys.executable, "-X", "faulthandler", HOSTILE_CALLS, str(seed), "20000")
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def hostile(kind: type[Any], given: object) -> type[Any]:
    """A subclass that makes no object, but gives one that is there."""
    return type("Hostile", (kind,), {"__slots__": (), "__new__": lambda *_: given})


TREE = atlas.TreeWitness.generate(bytes(3 * 12288))
MADE: dict[str, tuple[Any, Any]] = {
    "Witness.generate": (atlas.Witness.generate(b"good"), lambda kind: kind.generate(b"evil")),
    "Witness.from_bytes": (
        atlas.Witness.generate(b"good"),
        lambda kind: kind.from_bytes(bytes(atlas.Witness.generate(b"evil"))),
    ),
    "Witness.from_json": (
        atlas.Witness.generate(b"good"),
        lambda kind: kind.from_json(atlas.Witness.generate(b"evil").to_json()),
    ),
    "TreeWitness.generate": (TREE, lambda kind: kind.generate(b"evil")),
    "TreeWitness.from_json": (
        TREE,
        lambda kind: kind.from_json(atlas.TreeWitness.generate(b"evil").to_json()),
    ),
    "InclusionProof.from_json": (
        TREE.prove(0),
        lambda kind: kind.from_json(TREE.prove(2).to_json()),
    ),
    "ConsistencyProof.from_json": (
        TREE.prove_consistency(1),
        lambda kind: kind.from_json(TREE.prove_consistency(2).to_json()),
    ),
}


@pytest.mark.parametrize("way", MADE)
def test_no_subclass_can_have_an_immutable_object_rewritten(way: str) -> None:
    value, make = MADE[way]
    before = value.to_json()
    made = make(hostile(type(value), value))
    assert value.to_json() == before
    assert made is not value
    assert made.to_json() != before


def test_a_commit_rewrites_no_witness() -> None:
    value = atlas.Witness.generate(b"good")
    domain = atlas.Domain(bytes=96)
    domain.attach(bytes(96))
    made = domain._commit(hostile(atlas.Witness, value), False)
    assert value.verify(b"good")
    assert made.verify(bytes(96))


@pytest.mark.parametrize("name", ["WitnessStream", "TreeHash"])
def test_a_stream_in_use_is_not_taken_from_its_thread(name: str) -> None:
    kind = getattr(atlas, name)
    used = kind()
    chunk = bytes(12288 * 800)
    rounds = 20

    def work() -> None:
        for _ in range(rounds):
            used.update(chunk)

    given = hostile(kind, used)
    other = kind(b"abc")
    # An object of the hostile class, made past its __new__.
    copied = kind.__new__(given)
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        with contextlib.suppress(atlas.StateError):
            if kind is atlas.TreeHash:
                copied.copy()
            else:
                given.from_bytes(bytes(other))
    thread.join()
    witness = used.witness()
    assert witness.length == rounds * len(chunk)
    assert witness.residue == 0
