# SPDX-License-Identifier: Apache-2.0
"""The binding when Python finds no memory: MemoryError, nothing leaked, objects as they were.

tests/c/out_of_memory.c does the same to the allocations of the C library.
"""

import contextvars
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import pytest

import atlas12288 as atlas
from atlas12288 import _native
from atlas12288._gpu.jobs import TreeParts
from atlas12288.manifest._entries import Entry

_testcapi = pytest.importorskip("_testcapi", reason="this Python has no _testcapi")

MOST_ALLOCATIONS = 400  # of one call; more means that the search does not end
ROUNDS = 30
FOLDER = os.open(Path(__file__).parent, os.O_RDONLY)
GROUPS = [(FOLDER, b"a\0b\0", bytes(48))]
BROKEN_96 = bytes([1, *bytes(95)])


FILE = os.fsencode(__file__)
FILE_BYTES = Path(__file__).stat().st_size
ENTRIES = b"".join(
    each.to_json() + b"\n"
    for each in (
        Entry(b"a", 1, 1, bytes(32)),
        Entry(b"\xff", 1, 1, bytes(32)),
        Entry("é".encode(), 1, 1, bytes(32)),
        Entry(b"link", target=b"a"),
    )
)
SUMS = b"%b  %b\n%b  none\n" % (b"0a" * 32, FILE, b"0a" * 32)


class Things:
    """One object of each kind, and what of them a refused call must leave as it was."""

    def __init__(self) -> None:
        self.region = bytearray(96)
        self.room = bytearray(FILE_BYTES)
        self.domain = atlas.Domain(bytes=96, budget_class=50)
        self.domain.attach(self.region)
        self.empty = atlas.Domain(bytes=96, budget_class=50)
        self.committed = atlas.Domain(bytes=96, budget_class=50)
        self.committed.attach(bytearray(96))
        self.committed.commit()
        self.closed = atlas.Domain(bytes=96, budget_class=50)
        self.closed.close()
        self.payload = atlas.Region(96)
        self.attached = atlas.Domain(bytes=97, budget_class=50)
        self.attached.attach(self.payload)
        self.range = self.attached.transaction(5, 50)
        self.lease = self.domain.budget.lease(5)
        self.waiting_lease = self.domain.budget.lease(51, 1e-6)
        self.waiting_task = self.domain.budget.lease_async(51, 1e-6)
        self.transaction = self.domain.transaction()
        self.witness = atlas.Witness.generate(self.region)
        self.form = bytes(self.witness)
        self.json = self.witness.to_json()
        self.residue = atlas.Residue(b"abc")
        self.stream = atlas.WitnessStream()
        self.stream.update(b"abc")
        self.stream_form = bytes(self.stream)
        self.tree = atlas.TreeHash(b"abc")
        self.tree_witness = atlas.TreeWitness.generate(bytes(3 * 12288 + 1), threads=1)
        self.tree_json = self.tree_witness.to_json()
        self.leaves = self.tree_witness.leaves or b""
        self.held: list[Any] = [
            _native.Tensor(numpy.zeros((2, 3), "u1"), "x"),
            TreeParts(1, b"", 0),  # as an array that is held: it has a length, a kind and a shape
            _native.Tensor(numpy.zeros(0), "x"),
            BufferError(),
        ]
        self.proof = self.tree_witness.prove(1)
        self.proof_json = self.proof.to_json()

    def state(self) -> tuple[object, ...]:
        return (
            bytes(self.region),
            bytes(self.payload.whole),
            *((d.state, d.budget.available) for d in (self.domain, self.empty, self.committed)),
            self.empty.attached is None,
            bytes(self.witness),
            self.residue.value,
            bytes(self.stream),
            self.tree.digest(),
            self.tree_witness.leaves,
            self.proof,
        )


def commit(t: Things) -> object:
    return t.domain.commit()


def transaction(t: Things) -> None:
    with t.transaction:
        pass


def transaction_of_a_range(t: Things) -> None:
    with t.range:
        pass


def leased(t: Things) -> None:
    with t.lease:
        pass


def waits(t: Things) -> None:
    refused(atlas.BudgetError, t.waiting_lease.__enter__)


class Loop:
    """The loop of a task that nobody has to tell anything."""

    def tell(self) -> bool:
        return True

    def lost(self) -> bool:
        return False


LOOP = Loop()


def waits_in_a_task(t: Things) -> None:
    """What _tasks.py calls, for a task whose timeout is over."""
    try:
        t.waiting_task._take()
        t.waiting_task._wait(LOOP)
        refused(atlas.BudgetError, t.waiting_task._settle)
    finally:
        t.waiting_task._give_up()


def sum_lines(t: Things) -> None:
    lines = _native.SumLines(SUMS, 0, 9, 4096)
    assert len(lines) == 2
    lines.pairs()
    lines.measure(10**9)
    lines.check(0, t.room, 1 << 60)
    lines.verdicts(b"OK")


def file_sums(t: Things) -> None:
    files = _native.FileSums([os.fsdecode(FILE), b"none"])
    files.measure(10**9)
    files.take(len(t.room), t.room, 10**9)
    files.taken()
    files.lines(0, 1)


# Those "in Python" run code of the package that is not in the binding, and no leak is looked for in
# them: CPython 3.11 itself leaks the argument of a function for whose closure it has no memory.
CALLS: dict[str, Callable[[Things], object]] = {
    "residue": lambda t: atlas.residue(t.region),
    "is_conserved": lambda t: atlas.is_conserved(t.region),
    "window_residues": lambda t: atlas.window_residues(t.region),
    "delta": lambda t: atlas.delta(t.region, t.region),
    "delta refused": lambda t: refused(ValueError, atlas.delta, t.region, b""),
    "conserved_copy": lambda t: atlas.conserved_copy(t.region, bytes(96)),
    "conserved_copy refused": lambda t: refused(
        atlas.ConservationError, atlas.conserved_copy, t.region, BROKEN_96
    ),
    "conserved_fill": lambda t: atlas.conserved_fill(t.region, 0),
    "fixup": lambda t: atlas.fixup(t.region),
    "fixup at": lambda t: atlas.fixup(t.region, at=5),
    "fixup at refused": lambda t: refused(IndexError, atlas.fixup, t.region, 96),
    "Region": lambda t: atlas.Region(96),
    "Region refused": lambda t: refused(TypeError, atlas.Region, True),
    "Region.balance": lambda t: t.payload.balance(),
    "Region.whole": lambda t: t.payload.whole,
    "Region.close refused": lambda t: refused(atlas.StateError, t.payload.close),
    "Region exported": lambda t: memoryview(t.payload),
    "Region attached": lambda t: atlas.Domain(bytes=97).attach(t.payload),
    "Region read": lambda t: atlas.Witness.generate(t.payload),
    "repr of Region": lambda t: repr(t.payload),
    "conserved_fill of a Region": lambda t: atlas.conserved_fill(t.payload, 0),
    "conserved_copy to a Region": lambda t: atlas.conserved_copy(t.payload, bytes(96)),
    "conserved_copy to a Region refused": lambda t: refused(
        ValueError, atlas.conserved_copy, t.payload, b"a"
    ),
    "no buffer": lambda t: refused(TypeError, atlas.residue, "text"),
    "read-only": lambda t: refused(BufferError, atlas.fixup, b"a"),
    "Residue": lambda t: atlas.Residue(b"a"),
    "Residue.update": lambda t: t.residue.update(bytes(96)),
    "Residue.copy": lambda t: t.residue.copy(),
    "Domain": lambda t: atlas.Domain(bytes=96, budget_class=50),
    "Domain refused": lambda t: refused(atlas.BudgetError, atlas.Domain, 1, 96),
    "attach": lambda t: t.empty.attach(t.region),
    "attach refused": lambda t: refused(atlas.StateError, t.domain.attach, b"a"),
    "attached": lambda t: t.domain.attached,
    "verify": lambda t: t.domain.verify(),
    "commit": commit,
    "commit refused": lambda t: refused(atlas.StateError, t.empty.commit),
    "commit twice": lambda t: refused(atlas.StateError, t.committed.commit),
    "witness": lambda t: t.committed.witness,
    "closed": lambda t: refused(atlas.StateError, t.closed.verify),
    "budget.alloc": lambda t: t.domain.budget.alloc(1),
    "budget.alloc refused": lambda t: refused(atlas.BudgetError, t.domain.budget.alloc, 51),
    "budget.release": lambda t: t.domain.budget.release(1),
    "budget.lease": lambda t: t.domain.budget.lease(5, 1.5),
    "budget.lease refused": lambda t: refused(ValueError, t.domain.budget.lease, 5, -1),
    "budget.lease_async": lambda t: t.domain.budget.lease_async(5, None),
    "lease": leased,
    "lease that waits": waits,
    "lease of a task that waits": waits_in_a_task,
    "transaction": transaction,
    "transaction of a range": transaction_of_a_range,
    "transaction refused": lambda t: refused(TypeError, t.domain.transaction, "a"),
    "Witness.generate": lambda t: atlas.Witness.generate(t.region),
    "in Python: Witness.generate_many": lambda t: atlas.Witness.generate_many(
        [t.region, b"a", t.region], threads=1
    ),
    "in Python: Witness.generate_many refused": lambda t: refused(
        TypeError, atlas.Witness.generate_many, [t.region, None]
    ),
    "trees of Buffers": lambda t: _native.Buffers([t.region, b"a"]).trees(0, 2),
    "trees of Buffers refused": lambda t: refused(
        ValueError, _native.Buffers([t.region]).trees, 0, 2
    ),
    "update_streams": lambda t: _native.update_streams([t.stream], [b"a" * 100]),
    "update_streams refused": lambda t: refused(
        atlas.StateError, _native.update_streams, [t.stream, t.stream], [b"a", b"b"]
    ),
    "file_sizes": lambda t: _native.file_sizes([FILE, b"none"], 10**9),
    "witness_named_files": lambda t: _native.witness_named_files(
        atlas.Witness, [FILE, b"none"], [FILE_BYTES, 0], t.room, 10**9
    ),
    "Witness.from_bytes": lambda t: atlas.Witness.from_bytes(t.form),
    "Witness.from_bytes refused": lambda t: refused(
        atlas.WitnessError, atlas.Witness.from_bytes, b""
    ),
    "in Python: Witness.from_json": lambda t: atlas.Witness.from_json(t.json),
    "in Python: Witness.from_json refused": lambda t: refused(
        atlas.WitnessError, atlas.Witness.from_json, "{}"
    ),
    "in Python: Witness.to_json": lambda t: t.witness.to_json(),
    "Witness.verify": lambda t: t.witness.verify(t.region),
    "in Python: Witness fields": lambda t: (
        t.witness.digest,
        t.witness.length,
        t.witness.timestamp,
    ),
    "WitnessStream": lambda t: atlas.WitnessStream(),
    "bytes of WitnessStream": lambda t: bytes(t.stream),
    "WitnessStream.from_bytes": lambda t: atlas.WitnessStream.from_bytes(t.stream_form),
    "WitnessStream.from_bytes refused": lambda t: refused(
        atlas.WitnessError, atlas.WitnessStream.from_bytes, b""
    ),
    "WitnessStream.witness": lambda t: t.stream.witness(),
    "TreeHash": lambda t: atlas.TreeHash(b"a"),
    "TreeHash.copy": lambda t: t.tree.copy(),
    "in Python: TreeHash.digest": lambda t: t.tree.digest(),
    "in Python: TreeWitness.generate": lambda t: atlas.TreeWitness.generate(t.region, threads=1),
    "in Python: TreeWitness.from_json": lambda t: atlas.TreeWitness.from_json(t.tree_json),
    "in Python: with_leaves": lambda t: t.tree_witness.with_leaves(t.leaves),
    "in Python: changed": lambda t: t.tree_witness.changed(t.region, threads=1),
    "in Python: prove": lambda t: t.tree_witness.prove(2),
    "in Python: InclusionProof.from_json": lambda t: atlas.InclusionProof.from_json(t.proof_json),
    "in Python: InclusionProof.verify": lambda t: t.proof.verify(bytes(12288), t.tree_witness.root),
    "in Python: prove_consistency": lambda t: t.tree_witness.prove_consistency(2),
    "in Python: TreeWitness.generate, small": lambda t: atlas.TreeWitness.generate(bytes(12289)),
    "SumLines": sum_lines,
    "FileSums": file_sums,
    "FileSums refused": lambda t: refused(TypeError, _native.FileSums, [FILE, 1]),
    "tree_leaves": lambda t: _native.tree_leaves(t.region),
    "tree_parts": lambda t: _native.tree_parts(
        TreeParts, t.held, [1, 0], [1, 1], bytes(66), bytes(66), bytes(66)
    ),
    "tree_parts refused": lambda t: refused(
        ValueError, _native.tree_parts, TreeParts, t.held, [1, 0], [1, 1], b"", None, None
    ),
    "tree_root": lambda t: _native.tree_root(t.leaves),
    "tree_node": lambda t: _native.tree_node(t.leaves[:32], t.leaves[32:64]),
    "tree_node refused": lambda t: refused(ValueError, _native.tree_node, t.leaves[:32], b""),
    "tree_root refused": lambda t: refused(ValueError, _native.tree_root, b"a"),
    "kernel_sets": lambda t: atlas.kernel_sets(),
    "list_folder": lambda t: _native.list_folder(FOLDER, 1 << 20, 10**6, [(0, 0)]),
    "list_folder refused": lambda t: refused(ValueError, _native.list_folder, FOLDER, 1, 1, [(0,)]),
    "witness_files": lambda t: _native.witness_files(GROUPS, 0, t.region, 10**9, True, True, True),
    "witness_files refused": lambda t: refused(
        ValueError, _native.witness_files, GROUPS, 2, t.region, 1, True, True, True
    ),
    "entry_lines": lambda t: _native.entry_lines(
        b"a/", b"b\0c\0", bytes(48), bytes(2 * _native.RESULT_BYTES), 0, True, True
    ),
    "entry_lines refused": lambda t: refused(
        ValueError, _native.entry_lines, b"", b"b\0", bytes(24), b"", 0, True, True
    ),
    "read_lines": lambda t: _native.read_lines(b'{"path":"a","symlink":"b"}', True, False, 9),
    "read_entries": lambda t: _native.read_entries(ENTRIES, True, False, 9, Entry, Entry),
    "read_entries refused": lambda t: refused(
        ValueError, _native.read_entries, b"a", True, True, 9, Entry, Entry
    ),
    "read_roots": lambda t: _native.read_roots(ENTRIES),
    "read_roots refused": lambda t: refused(ValueError, _native.read_roots, b"a"),
    "leaf_places": lambda t: _native.leaf_places(bytes(16)),
    "leaf_places refused": lambda t: refused(ValueError, _native.leaf_places, b"a"),
    "match_leaves": lambda t: _native.match_leaves(bytes(16), bytes(64), 1, t.leaves),
    "match_leaves refused": lambda t: refused(
        ValueError, _native.match_leaves, bytes(16), bytes(32), 1, t.leaves
    ),
    "leaf_hashes": lambda t: _native.leaf_hashes(b"a\nb\n"),
    "leaf_hashes refused": lambda t: refused(ValueError, _native.leaf_hashes, b"a"),
}


# The results of these are small numbers or None.
WITHOUT_ALLOCATION = (
    *("residue", "is_conserved", "delta", "conserved_fill", "fixup", "fixup at"),
    *("Region.balance", "conserved_fill of a Region", "conserved_copy to a Region"),
    *("verify", "Witness.verify"),
)


def refused(kind: type[Exception], call: Callable[..., object], *arguments: object) -> None:
    """Without memory for it, the refusal may be a MemoryError of its own."""
    try:
        call(*arguments)
    except kind as error:
        if isinstance(error, MemoryError):
            raise
    else:
        raise AssertionError("not refused")


# It sets a context variable, in which CPython (3.11 to 3.13) crashes by itself when two allocations
# fail, one after the other: so its allocations fail one at a time.
ONE_AT_A_TIME = (CALLS["transaction"], CALLS["transaction of a range"])


def fails_from(nth: int, call: Callable[[Things], object], things: Things) -> BaseException | None:
    """What the call raises when its allocations from the nth on fail."""
    raised: BaseException | None = None
    collects = gc.isenabled()
    gc.disable()  # it would allocate, and free what other calls left, at any time
    _testcapi.set_nomemory(nth, nth + 1 if call in ONE_AT_A_TIME else 0)
    try:
        call(things)
    except BaseException as error:
        raised = error
    finally:
        _testcapi.remove_mem_hooks()
        if collects:
            gc.enable()
    return raised


@contextmanager
def without_collector() -> Iterator[None]:
    """The collector would allocate, and free what other calls left, at any time."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# CPython 3.13.0, for one, crashes in this code, which knows nothing of ours.
PYTHON_WITHOUT_MEMORY = """
import _testcapi

def make():
    def made(text: str) -> str:
        return text
    return made

make()
for nth in range(30):
    try:
        _testcapi.set_nomemory(nth)
        make()
    except MemoryError:
        pass
    finally:
        _testcapi.remove_mem_hooks()
"""


@cache
def python_survives() -> bool:
    """Can this Python fail to make a function, and live?"""
    probe = (sys.executable, "-c", PYTHON_WITHOUT_MEMORY)
    # The allocator for debugging makes a use of freed memory a crash at once, not now and then.
    checked = os.environ | {"PYTHONMALLOC": "debug"}
    return subprocess.run(probe, env=checked, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", CALLS)
def test_each_failed_allocation_is_a_memory_error_and_changes_nothing(name: str) -> None:
    if name.startswith("in Python: ") and not python_survives():
        pytest.skip("this Python crashes by itself when there is no memory for a function")
    if name.startswith("in Python: ") and not HAS_GIL:
        pytest.skip("without the GIL, Python 3.13 hangs by itself when json finds no memory")
    if name == "lease" and sys.version_info >= (3, 14):
        pytest.skip("from 3.14 on there may be no memory for the arguments of __exit__")
    call = CALLS[name]
    call(Things())  # imports, caches
    things = Things()
    before = things.state()
    with without_collector():
        for nth in range(MOST_ALLOCATIONS):
            raised = fails_from(nth, call, things)
            if raised is None:
                break
            kind = type(raised)
            del raised
            assert kind is MemoryError, (nth, kind)
            assert things.state() == before, nth
        else:
            pytest.fail(f"it still fails after {MOST_ALLOCATIONS} allocations")
    assert nth > 0 or name in WITHOUT_ALLOCATION


HAS_GIL = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
counts_blocks = pytest.mark.skipif(
    not HAS_GIL, reason="without the GIL, sys.getallocatedblocks does not see each block"
)


def blocks_after(rounds: int, call: Callable[[Things], object]) -> int:
    things = Things()
    for _ in range(rounds):
        for nth in range(MOST_ALLOCATIONS):
            if fails_from(nth, call, things) is None:
                things = Things()
                break
    del things
    gc.collect()
    return sys.getallocatedblocks()


@pytest.mark.slow
@counts_blocks
@pytest.mark.parametrize("name", [name for name in CALLS if not name.startswith("in Python: ")])
def test_failed_allocations_leak_nothing(name: str) -> None:
    call: Any = CALLS[name]
    # Where there are several context variables, CPython itself leaks when it cannot set one.
    alone = contextvars.Context()
    alone.run(blocks_after, 3, call)
    # A leak grows each time; what other threads of this process keep does not.
    for _ in range(3):
        before = alone.run(blocks_after, 3, call)
        grown = alone.run(blocks_after, ROUNDS, call) - before
        if grown < ROUNDS - 3:
            return
    raise AssertionError(f"{grown} blocks in {ROUNDS - 3} rounds")


@counts_blocks
def test_what_measures_leaks_finds_one_block_a_round() -> None:
    leaked: list[object] = []

    def leak(_: Things) -> None:
        leaked.append(bytearray(1))

    before = blocks_after(3, leak)
    assert blocks_after(ROUNDS, leak) - before >= ROUNDS - 3
