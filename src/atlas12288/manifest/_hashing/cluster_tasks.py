# SPDX-License-Identifier: Apache-2.0
"""The tasks of a cluster: how they are sent, what a worker does, and what comes back."""

from __future__ import annotations

import pickle
from typing import NamedTuple, Protocol

from ..._files import CHANGED, FileError
from ..._native import VERSION, TreeStream, residue, tree_leaves, tree_root
from ..._parallel import most_under_way, parallel_map, ring
from ..._subtree import BLOCK_BYTES
from ..._witness import TREE_ALGORITHM, WitnessStream
from .._sources.source import Found, Source
from . import engine
from .file_hash import Digests, LeafSink


class FileResult(NamedTuple):
    """The result of a worker for a file of a batch.

    Attributes:
        digests: the digests, or the reason why the file could not be read.
        leaves: the leaves, joined; b"" if they are not wanted.
    """

    digests: Digests | FileError
    leaves: bytes


class StretchResult(NamedTuple):
    """The result of a worker for a stretch.

    Attributes:
        roots: the root of the stretch or, if blocks are wanted, the roots of all blocks, joined;
            b"" if no tree is wanted.
        residues: the residue of each block; b"" with a flat digest, whose state includes it.
        states: the state of the flat digest after each block, or only after the last one.
        leaves: the leaves, joined; b"" if they are not wanted.
        error: the reason why the stretch could not be read.
    """

    roots: bytes = b""
    residues: bytes = b""
    states: tuple[bytes, ...] = ()
    leaves: bytes = b""
    error: FileError | None = None


class Batch(NamedTuple):
    """A task: some small files."""

    source: Source
    digests: tuple[str, ...]
    leaves: bool
    founds: tuple[Found, ...]
    threads: int


class Stretch(NamedTuple):
    """A task: the blocks start..stop-1 of a large file."""

    source: Source
    digests: tuple[str, ...]
    leaves: bool
    found: Found
    start: int
    stop: int
    state: bytes | None  # of the flat digest, before
    blocks: bool  # the root of each block is wanted, not only of the stretch
    threads: int


Task = Batch | Stretch
TaskResult = list[FileResult] | StretchResult


class Work(Protocol):
    """A function that does a task on a worker."""

    def __call__(self, task: Task) -> TaskResult: ...


class SentTask:
    """A task as it is sent to a worker: bytes that unpickle to the result.

    The scheduler and Dask's part of a worker never see a name from this package. A name that does
    not exist there would be an unreadable message to them, and the worker would die silently; this
    way it is an error of the task. Until the versions are known to be equal, only names of Python
    itself and `do_sent` are used.
    """

    def __init__(self, work: Work, task: Task) -> None:
        self._work = work
        self._task = task

    def __reduce__(self) -> tuple[object, ...]:
        from cloudpickle import dumps

        call = f"__import__({__name__!r}, fromlist=('do_sent',)).do_sent(version, task)"
        return eval, (call, {"version": VERSION, "task": dumps((self._work, self._task))})


def do_sent(version: str, task: bytes) -> TaskResult:
    """Do a task that another process sent.

    Args:
        version: version of this package in that process.
        task: the pickled function and its task.

    Raises:
        RuntimeError: this is another version, whose digests may differ.
    """
    if version != VERSION:
        raise RuntimeError(f"the worker has atlas12288 {VERSION}, must have {version}")
    work, sent = pickle.loads(task)
    result: TaskResult = work(sent)
    return result


def do_task(task: Task) -> TaskResult:
    """Read and hash the files of a task."""
    if isinstance(task, Batch):
        return _do_batch(task)
    try:
        return _do_stretch(task)
    except FileError as error:
        return StretchResult(error=_on_this_worker(error))


def _do_batch(batch: Batch) -> list[FileResult]:
    leaves = [bytearray() for _ in batch.founds]
    places = {found.path: place for place, found in enumerate(batch.founds)}

    def sink(found: Found) -> LeafSink:
        return leaves[places[found.path]].extend

    done: list[FileResult | None] = [None] * len(batch.founds)
    results = engine.hash_files(
        batch.source,
        batch.founds,
        batch.digests,
        threads=batch.threads,
        leaves=sink if batch.leaves else None,
    )
    for found, digests in results:
        place = places[found.path]
        result = _on_this_worker(digests) if isinstance(digests, FileError) else digests
        done[place] = FileResult(result, bytes(leaves[place]))
    return [result for result in done if result is not None]


def _do_stretch(stretch: Stretch) -> StretchResult:
    threads = stretch.threads
    size = stretch.found.size
    has_tree = TREE_ALGORITHM in stretch.digests
    flat = None if stretch.state is None else WitnessStream.from_bytes(stretch.state)
    tree = TreeStream()
    roots, residues, leaves = bytearray(), bytearray(), bytearray()
    states: list[bytes] = []
    offsets = range(stretch.start * BLOCK_BYTES, min(stretch.stop * BLOCK_BYTES, size), BLOCK_BYTES)
    buffers = ring(BLOCK_BYTES, most_under_way(threads) if threads > 1 else 1)
    # Each stretch is another opening of the file.
    with stretch.source.open(stretch.found._replace(exact=True)) as reader:
        if stretch.start:
            reader.begin(stretch.start * BLOCK_BYTES)

        def hash_block(item: tuple[int, memoryview]) -> tuple[memoryview, bytes, int]:
            offset, buffer = item
            data = buffer[: min(BLOCK_BYTES, size - offset)]
            if reader.read_into(offset, data) != len(data):
                raise FileError(CHANGED)
            if has_tree:
                hashes, parts = tree_leaves(data)
                return data, hashes, residue(parts)
            return data, b"", 0 if flat is not None else residue(data)

        items = zip(offsets, buffers, strict=False)
        for data, hashes, part in parallel_map(hash_block, items, threads):
            if flat is not None:
                flat.update(data)
                if stretch.blocks:
                    states.append(bytes(flat))
            else:
                residues.append(part)
            if has_tree:
                root = tree_root(hashes)
                roots += root
                tree.append(root, 0)
            if stretch.leaves:
                leaves += hashes
        reader.finish()
    if flat is not None and not states:
        states.append(bytes(flat))
    if has_tree and not stretch.blocks:
        roots[:] = tree.result()[0]
    return StretchResult(bytes(roots), bytes(residues), tuple(states), bytes(leaves))


def _on_this_worker(error: FileError) -> FileError:
    """Return the error with the name of this machine, because others may see the file."""
    from distributed import get_worker

    try:
        return FileError(f"{error} (on the worker {get_worker().address})")
    except ValueError:  # not on one
        return error
