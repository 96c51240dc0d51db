# SPDX-License-Identifier: Apache-2.0
"""Compute the digests of many files on many machines, through a Dask scheduler.

The work is split into tasks: batches of small files, and stretches of large ones. A worker combines
what it hashes, so a stretch of 2^14 windows or more comes back as one root. For a flat digest, the
stretches of a file are a chain: the hash state comes back with each stretch and is sent with the
next one, so a lost worker costs one stretch and not the file.

The number of tasks in flight is bounded, and with it the memory of this process. Dask handles lost
and slow workers: it runs the task again on another one.
"""

from __future__ import annotations

import importlib.util
import pickle
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ..._files import CHANGED, FileError
from ..._native import DIGEST_BYTES, VERSION
from ..._parallel import thread_count
from ..._subtree import BLOCK_BYTES
from ..._witness import TREE_ALGORITHM
from .._sources.source import Found, Source
from .cluster_tasks import (
    Batch,
    FileResult,
    SentTask,
    Stretch,
    StretchResult,
    Task,
    TaskResult,
    Work,
    do_task,
)
from .engine import Callbacks
from .file_hash import Digests, FileHash, LeafSink, Progress, Resume

if TYPE_CHECKING:
    from distributed import Client, Future

# The smallest stretch: 2^14 windows, 192 MiB, a perfect subtree.
STRETCH_BLOCKS: Final = 64
STRETCH_BYTES: Final = STRETCH_BLOCKS * BLOCK_BYTES
# Tasks grow between these bounds as more are sent: a few files are spread over all workers, and
# many files need few tasks. A file that fits into a batch is not cut.
BATCH_BYTES: Final = (STRETCH_BYTES // 4, 1 << 30)
BATCH_FILES: Final = (16, 1024)
_ROUNDS: Final = 4  # tasks of a size for each slot, before they grow
# Tasks in flight per thread of the workers: one runs, and one waits on the same worker.
_TASKS_A_THREAD: Final = 2
_TASKS_LEAST: Final = 16
_FILES_UNDER_WAY: Final = 1 << 17
_HELD_MOST: Final = 64 << 20  # bytes of results that wait for those before them
_FETCHED_AT_ONCE: Final = 32  # results: with leaves, each may have 3 MiB
_COUNT_AGAIN_S: Final = 5.0
_RETRIES: Final = 2
_CONNECT_S: Final = 5.0
# How long a cluster may have no worker: some come only when there are tasks, on machines that have
# to start first.
WORKERLESS_S: Final = 300.0
_PACKAGE: Final = __name__.partition(".")[0]
_LOOK_S: Final = 0.1
_DONE: Final = ("finished", "error", "cancelled")  # of the states of a future


@contextmanager
def connect(address: str) -> Iterator[Client]:
    """Return a client of the scheduler at an address such as `tcp://host:8786`.

    Raises:
        FileError: no scheduler answers there within some seconds.
        ImportError: Dask is not installed.
    """
    _require_distributed()
    from distributed import Client

    try:
        _check_address(address)
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise FileError(f"no scheduler of Dask answers at {address!r}: {reason}") from error
    try:
        yield client
    finally:
        # The scheduler may be gone; then there is nothing to close.
        with suppress(OSError, TimeoutError):
            client.close(timeout=_CONNECT_S)


def _check_address(address: str) -> None:
    """Raise ValueError for addresses that make the client fail and then hang on close."""
    from distributed import Security
    from distributed.comm.addressing import get_address_host_port, parse_address

    if not address:  # for which Dask would start a cluster here
        raise ValueError("it is empty")
    scheme, _ = parse_address(address)
    if scheme not in ("tcp", "tls"):
        raise ValueError(f"it begins with {scheme}://, must be tcp:// or tls://")
    _, port = get_address_host_port(address)
    if not 0 < port < 1 << 16:
        raise ValueError(f"its port is {port}, must be in 1..65535")
    if scheme == "tls" and Security().get_connection_args("client").get("ssl_context") is None:
        raise ValueError(
            "it needs certificates, must be in Dask's configuration (distributed.comm.tls)"
        )


def _require_distributed() -> None:
    if importlib.util.find_spec("distributed") is None:
        raise ImportError("many machines need distributed: pip install 'atlas12288[dask]'")


def hash_files(
    source: Source,
    founds: Iterable[Found],
    digests: tuple[str, ...],
    *,
    client: Client,
    threads: int | None = None,
    leaves: Callable[[Found], LeafSink | None] | None = None,
    advance: Callable[[int], None] | None = None,
    progress: Progress | None = None,
    resume: Resume | None = None,
    work: Work = do_task,
) -> Generator[tuple[Found, Digests | FileError], None, None]:
    """Yield the same digests as `engine.hash_files`, computed by the workers of a cluster.

    The workers must see the files under the same names, in a shared folder or at a URL, and need
    the same version of this package. Memory is bounded by the number of tasks in flight.

    Args:
        source, founds, digests, leaves, advance, progress, resume: as for `engine.hash_files`.
            With `progress` or `resume` the root of each block is sent: 2 KiB for a stretch.
        client: client of a Dask scheduler.
        threads: threads of each task on its worker; None for one, or as many as the source's
            `readers`.
        work: does a task on a worker.

    Yields:
        Each file, with its digests or the reason why it could not be read.

    Raises:
        FileError: the scheduler is gone or has had no worker for `WORKERLESS_S`, or a task failed
            for another reason than its files, such as a worker without this package.
        ValueError: `client` is an asynchronous one or closed, or `threads` is less than 1.
        TypeError: `threads` is not an int, or `client` is not a Dask client.
        ImportError: Dask is not installed.
    """
    _require_distributed()
    from distributed import Client

    if not isinstance(client, Client):
        raise TypeError(f"client is of type {type(client).__name__}, must be distributed.Client")
    if client.asynchronous:
        raise ValueError("client is asynchronous, must be synchronous")
    if client.status in ("closing", "closed"):
        raise ValueError(f"client is {client.status}, must be connected to a scheduler")
    if threads is None:
        threads = source.readers or 1
    wants_leaves = leaves if TREE_ALGORITHM in digests else None
    callbacks = Callbacks(wants_leaves, advance, progress, resume)
    return _Job(source, digests, thread_count(threads), callbacks, client).results(founds, work)


class _Large:
    """A file of several stretches, whose results are used in order."""

    def __init__(self, found: Found, digests: tuple[str, ...]) -> None:
        self.found = found
        self.hash = FileHash(found.size, digests)
        self.stretch_blocks = STRETCH_BLOCKS
        self.ready: dict[int, tuple[Stretch, StretchResult]] = {}  # by their first block
        self.sink: LeafSink | None = None
        self.failed = False


_Result = tuple[Found, Digests | FileError]


class _Job:
    def __init__(
        self,
        source: Source,
        digests: tuple[str, ...],
        threads: int,
        callbacks: Callbacks,
        client: Client,
    ) -> None:
        self._source = source
        self._digests = digests
        self._threads = threads
        self._leaves, self._advance, self._progress, self._resume = callbacks
        self._client = client
        self._large: dict[bytes, _Large] = {}  # with stretches under way
        self._followers: deque[Task] = deque()  # the next stretches of chains
        self._tasks: dict[Future[Any], Task] = {}  # that are under way
        self._held = 0
        self._slots = _TASKS_LEAST
        self._count_at = 0.0
        self._workers_at = monotonic()  # when it had some
        self._sent_files = self._sent_bytes = 0
        self._name = uuid.uuid4().hex
        self._number = 0

    def results(self, founds: Iterable[Found], work: Work) -> Generator[_Result, None, None]:
        from distributed import as_completed

        rest = self._tasks_of(founds)
        more = True
        completed: Any = as_completed(loop=self._client.loop)
        try:
            while more or self._followers or self._tasks:
                self._count_slots()
                free = max(0, self._slots - len(self._tasks))
                some = [self._followers.popleft() for _ in range(min(free, len(self._followers)))]
                # A quarter of them at once: a message to the scheduler has several tasks.
                if more and 4 * free >= self._slots and self._held < _HELD_MOST:
                    new = list(islice(rest, free - len(some)))
                    more = len(some) + len(new) == free
                    some += new
                self._submit(some, work, completed)
                if self._tasks:
                    yield from self._take_done(self._next(completed), completed)
        finally:
            rest.close()
            completed.clear()
            with suppress(Exception):  # the scheduler may be gone
                self._client.cancel(list(self._tasks), force=True)

    def _next(self, completed: Any) -> Sequence[Future[Any]]:
        """Return the finished tasks; wait until there is one, or raise if there is no worker."""
        while not completed.has_ready():
            self._count_slots()
            with completed.thread_condition:
                completed.thread_condition.wait(_LOOK_S)
        batch: Sequence[Future[Any]] = completed.next_batch()
        return batch

    def _count_slots(self) -> None:
        """Update the number of tasks in flight, because workers come and go."""
        if monotonic() >= self._count_at:
            try:
                workers = self._client.nthreads()
            except Exception as error:
                raise self._gone(error) from error
            if workers:
                self._workers_at = monotonic()
            elif monotonic() - self._workers_at > WORKERLESS_S:
                where = getattr(self._client.scheduler, "address", "its address")
                raise FileError(
                    f"the scheduler at {where} has had no worker for {WORKERLESS_S:.0f} s"
                )
            threads = sum(workers.values())
            self._slots = max(_TASKS_LEAST, _TASKS_A_THREAD * threads)
            self._count_at = monotonic() + _COUNT_AGAIN_S

    def _submit(self, tasks: Sequence[Task], work: Work, completed: Any) -> None:
        if not tasks:
            return
        keys = [f"atlas12288-{self._name}-{self._number + at}" for at in range(len(tasks))]
        self._number += len(tasks)
        try:
            sent = [pickle.dumps(SentTask(work, task)) for task in tasks]
            futures = self._client.map(pickle.loads, sent, key=keys, pure=False, retries=_RETRIES)
        except Exception as error:
            if self._client.status != "running":
                raise self._gone(error) from error
            raise
        self._tasks.update(zip(futures, tasks, strict=True))
        completed.update(futures)

    def _take_done(self, futures: Sequence[Future[Any]], completed: Any) -> Iterator[_Result]:
        for at in range(0, len(futures), _FETCHED_AT_ONCE):
            some: dict[Future[Any], str] = {}
            for future in futures[at : at + _FETCHED_AT_ONCE]:
                status = str(future.status)
                if status in _DONE:
                    some[future] = status
                else:  # it was, and its worker is lost since: it is done again
                    completed.add(future)
            try:
                good = [future for future, status in some.items() if status == "finished"]
                results = dict(zip(good, self._client.gather(good), strict=True))
            except Exception as error:
                raise self._gone(error) from error
            for future, status in some.items():
                task = self._tasks.pop(future)
                result = results[future] if future in results else self._failed(future, status)
                future.release()
                yield from self._take(task, result)

    def _failed(self, future: Future[Any], status: str) -> StretchResult:
        """Return the error for a task without a result."""
        from distributed import KilledWorker

        error = future.exception() if status == "error" else None
        if error is None:
            raise self._gone(status)
        if isinstance(error, KilledWorker):
            return StretchResult(error=FileError("is not read: the workers that tried ended"))
        reason = " ".join(str(error).split())
        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(_PACKAGE):
            reason = f"a worker has no atlas12288, must have {VERSION} ({reason})"
            raise FileError(reason) from error
        raise FileError(f"a task failed on a worker: {type(error).__name__}: {reason}") from error

    def _gone(self, error: object) -> FileError:
        where = getattr(self._client.scheduler, "address", "its address")
        return FileError(f"the scheduler at {where} is gone: {error or type(error).__name__}")

    # --- Tasks to send

    def _tasks_of(self, founds: Iterable[Found]) -> Generator[Task, None, None]:
        batch: list[Found] = []
        size = 0
        for found in founds:
            if found.size > max(STRETCH_BYTES, self._batch_bytes()):
                yield from self._stretches(found)
                continue
            batch.append(found)
            size += found.size
            if size >= self._batch_bytes() or len(batch) >= self._batch_files():
                yield self._batch(batch, size)
                batch, size = [], 0
        if batch:
            yield self._batch(batch, size)

    def _batch_bytes(self) -> int:
        least, most = BATCH_BYTES
        return min(most, max(least, self._sent_bytes // (_ROUNDS * self._slots)))

    def _batch_files(self) -> int:
        least, most = BATCH_FILES
        most = max(least, min(most, _FILES_UNDER_WAY // self._slots))
        return min(most, max(least, self._sent_files // (_ROUNDS * self._slots)))

    def _batch(self, founds: list[Found], size: int) -> Batch:
        self._sent_files += len(founds)
        self._sent_bytes += size
        leaves = self._leaves is not None
        return Batch(self._source, self._digests, leaves, tuple(founds), self._threads)

    def _stretches(self, found: Found) -> Iterator[Stretch]:
        file = _Large(found, self._digests)
        if self._source.is_stream(found):
            file.stretch_blocks = file.hash.blocks  # a second request could not continue it
        while 2 * file.stretch_blocks * BLOCK_BYTES <= self._batch_bytes():
            file.stretch_blocks *= 2
        if self._leaves is not None:
            file.sink = self._leaves(found)
        known = None if self._resume is None else self._resume(found)
        if known is not None:
            file.hash.go_on(*known)
        self._large[found.path] = file
        start = file.hash.done
        while not file.failed:
            # At least one, even without blocks: its result gives the digests of the file.
            stretch = self._stretch(file, start)
            yield stretch
            start = stretch.stop
            if start == file.hash.blocks or file.hash.has_flat:
                return  # of a chain each of the others when the one before is done

    def _stretch(self, file: _Large, start: int) -> Stretch:
        stop = min(file.hash.blocks, start - start % file.stretch_blocks + file.stretch_blocks)
        self._sent_bytes += (stop - start) * BLOCK_BYTES
        return Stretch(
            self._source,
            self._digests,
            file.sink is not None,
            file.found,
            start,
            stop,
            file.hash.state(),
            # A resumed file may begin inside a stretch, and only subtrees of one height can be
            # joined, so the root of every block is needed.
            self._progress is not None or self._resume is not None,
            self._threads,
        )

    # --- Results

    def _take(self, task: Task, result: TaskResult) -> Iterator[_Result]:
        if isinstance(task, Batch):
            if isinstance(result, StretchResult):
                error = result.error or FileError(CHANGED)
                result = [FileResult(error, b"")] * len(task.founds)
            yield from self._take_batch(task, result)
        elif isinstance(result, StretchResult):
            yield from self._take_stretch(task, result)

    def _take_batch(self, batch: Batch, results: list[FileResult]) -> Iterator[_Result]:
        done = 0
        for found, (digests, leaves) in zip(batch.founds, results, strict=True):
            if isinstance(digests, Digests):
                done += found.size
                sink = self._leaves(found) if self._leaves is not None else None
                if sink is not None:
                    sink(leaves)
            yield found, digests
        if done and self._advance is not None:
            self._advance(done)

    def _take_stretch(self, stretch: Stretch, result: StretchResult) -> Iterator[_Result]:
        file = self._large.get(stretch.found.path)
        if file is None or file.failed:
            return  # a stretch before it failed
        if result.error is not None:
            file.failed = True
            self._held -= sum(_weight(held) for _, held in file.ready.values())
            del self._large[stretch.found.path]
            yield stretch.found, result.error
            return
        if self._advance is not None:
            first, last = (
                min(block * BLOCK_BYTES, stretch.found.size)
                for block in (stretch.start, stretch.stop)
            )
            self._advance(last - first)
        file.ready[stretch.start] = stretch, result
        self._held += _weight(result)
        while file.hash.done in file.ready:
            stretch, result = file.ready.pop(file.hash.done)
            self._held -= _weight(result)
            self._append(file, stretch, result)
        if file.hash.done == file.hash.blocks:
            del self._large[stretch.found.path]
            yield stretch.found, file.hash.digests()
        elif file.hash.has_flat:
            self._followers.append(self._stretch(file, file.hash.done))

    def _append(self, file: _Large, stretch: Stretch, result: StretchResult) -> None:
        if file.sink is not None:
            file.sink(result.leaves)
        if self._progress is None:
            state = result.states[-1] if result.states else None
            blocks = stretch.stop - stretch.start
            file.hash.take_hashed(blocks, state, sum(result.residues), result.roots)
            return
        for place in range(stretch.stop - stretch.start):
            state = result.states[place] if result.states else None
            part = result.residues[place] if result.residues else 0
            root = result.roots[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES]
            file.hash.take_hashed(1, state, part, root)
            self._progress(file.found, file.hash.checkpoint(), root)
        if stretch.start == stretch.stop and result.states:  # the last one may have no block
            file.hash.take_hashed(0, result.states[-1], 0, b"")


def _weight(result: StretchResult) -> int:
    return len(result.roots) + len(result.leaves)
