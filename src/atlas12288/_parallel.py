# SPDX-License-Identifier: Apache-2.0
"""Run work on several threads, with results in order and a bound on the work in flight.

The threads live as long as the call: starting them takes about 0.1 ms, and threads kept for longer
would not survive a fork.
"""

from __future__ import annotations

import os
from itertools import chain, cycle, islice
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import TYPE_CHECKING, Any, TypeVar

from ._native import int_in

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

# Items queued beside the ones in progress, so that no thread waits for the next item.
_WAITING = 2
# The same where the calling thread only hands out: each time it wakes it takes the interpreter from
# the others, which small files feel.
_QUEUED = 64


def thread_count(threads: int | None) -> int:
    """Return the number of threads: `threads`, or one per core that this process may use.

    Raises:
        TypeError: `threads` is not an int.
        ValueError: `threads` is less than 1.
    """
    if threads is None:
        try:
            return len(os.sched_getaffinity(0))
        except AttributeError:  # not on every system
            return os.cpu_count() or 1
    return int_in(threads, "threads", 1, None)


def most_under_way(threads: int) -> int:
    """Return the most items that `parallel_map` has in flight: taken, result not yet yielded."""
    return threads + _WAITING


def new_buffer(size: int) -> memoryview:
    """Return memory that files are read into.

    It begins on a page: Zen 3 copies from the page cache four times slower to where no 32 bytes
    begin, and a bytearray begins at any 16.

    Raises:
        MemoryError: there is not enough.
    """
    try:
        return memoryview(mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS))
    except OSError as error:
        raise MemoryError from error


def ring(size: int, count: int) -> Iterator[memoryview]:
    """Yield `count` buffers of `size` bytes in turns, forever; each is created on first use."""
    made = []
    for _ in range(count):
        made.append(new_buffer(size))
        yield made[-1]
    yield from cycle(made)


class Crew:
    """Threads that all run one function.

    When `end` returns, no thread is running the function, not even one that Ctrl-C interrupted
    while it was being started: neither Thread nor ThreadPoolExecutor knows then whether it will
    run.

    Args:
        run: the function; it returns soon after `stopping` is called.
        stopping: called by `end`, once.
    """

    def __init__(self, run: Callable[[], object], stopping: Callable[[], object]) -> None:
        from threading import Condition, Thread  # here: they are not needed by one thread

        self._run = run
        self._stopping = stopping
        self._thread = Thread
        self._threads: list[Thread] = []
        self._changed = Condition()
        self._running = 0
        self._ended = False

    def __len__(self) -> int:
        return len(self._threads)

    def add(self) -> None:
        """Start one more thread."""
        self._threads.append(self._thread(target=self._life))
        self._threads[-1].start()

    def _life(self) -> None:
        with self._changed:
            if self._ended:
                return
            self._running += 1
        try:
            self._run()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def end(self) -> None:
        """End the threads, and wait until they have."""
        from contextlib import suppress

        with self._changed:
            self._ended = True
        self._stopping()
        with self._changed:
            while self._running > 0:
                self._changed.wait()
        for thread in self._threads:
            with suppress(RuntimeError):  # it never started, or will end as soon as it does
                thread.join()


class _Task:
    """An item and its result."""

    __slots__ = ("_work", "error", "is_done", "item", "result")

    def __init__(self, work: Callable[[Any], Any], item: Any) -> None:
        self._work = work
        self.item = item
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_done = False

    def do(self) -> None:
        try:
            self.result = self._work(self.item)
        except BaseException as error:
            self.error = error

    def check(self) -> None:
        """Re-raise the work's error."""
        # Our reference goes first: the traceback would form a cycle with this task, and keep the
        # item alive.
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error


def parallel_map(
    work: Callable[[T], R],
    items: Iterable[T],
    threads: int,
    more: Callable[[], int] | None = None,
) -> Generator[R, None, None]:
    """Yield work(item) for each item, in order, computed by up to `threads` threads.

    The calling thread is one of them, and the only one that takes items. With one thread or one
    item, no thread is started. If the work, the items or the caller raise, waiting items are
    dropped, and items in progress are finished first.

    Args:
        work, items, threads: as above.
        more: returns how many threads are of use by now; asked with each item. None if it is
            `threads` all the time.
    """
    items = iter(items)
    first = list(islice(items, 2 if threads > 1 else 0))
    items = chain(first, items)
    if len(first) < 2:
        yield from map(work, items)
        return
    from collections import deque
    from threading import Condition

    news = Condition()  # guards what follows
    waiting: deque[_Task] = deque()  # no thread has begun them
    pending: deque[_Task] = deque()  # their results were not yielded yet
    stopped = False

    def run() -> None:
        while True:
            with news:
                while not waiting:
                    if stopped:
                        return
                    news.wait()
                task = waiting.popleft()
            task.do()
            with news:
                task.is_done = True
                news.notify_all()

    def stop() -> None:
        nonlocal stopped
        with news:
            stopped = True
            waiting.clear()
            news.notify_all()

    def do_one_here() -> None:
        with news:
            task = waiting.popleft() if waiting else None
        if task is not None:
            task.do()
            task.is_done = True
            task.check()

    def first_result() -> R:
        task = pending.popleft()
        with news:
            while not task.is_done:
                news.wait()
        task.check()
        result: R = task.result
        return result

    crew = Crew(run, stop)
    try:
        for item in items:
            pending.append(_Task(work, item))
            with news:
                waiting.append(pending[-1])
                news.notify()
            if more is not None:
                threads = max(threads, more())
            if len(crew) < threads - 1:
                crew.add()
            if len(pending) >= most_under_way(threads):
                do_one_here()
                yield first_result()
            while pending and pending[0].is_done:
                yield first_result()
        while pending:
            do_one_here()
            yield first_result()
    finally:
        crew.end()


def parallel_map_ahead(
    work: Callable[[T], R],
    items: Iterable[T],
    threads: int,
    *,
    weight: Callable[[T], int],
    ahead: int,
    stop: Callable[[], object],
) -> Generator[R, None, None]:
    """Yield like `parallel_map`, but let one item take a million times as long as another.

    Other items are processed meanwhile, and their results wait.

    Only the calling thread takes items, and it does no work itself, so that it can yield each
    result as soon as its turn comes. With one thread, no thread is started, and the caller does the
    work.

    Args:
        work, items, threads: as for `parallel_map`.
        weight: returns the bytes that an item and its result hold until the result is yielded.
        ahead: no item is taken while results not yet yielded hold more than this.
        stop: called when no more results are wanted, before what has begun is waited for: from then
            on `work` may raise at any time.
    """
    if threads == 1:
        yield from map(work, items)
        return
    from collections import deque
    from contextlib import suppress
    from queue import Empty, SimpleQueue

    tasks: SimpleQueue[tuple[int, T] | None] = SimpleQueue()
    done: SimpleQueue[tuple[int, R] | BaseException] = SimpleQueue()
    results: dict[int, R] = {}
    weights: deque[int] = deque()  # of the items from `given` on
    given = under_way = waiting = 0

    def run() -> None:
        while (task := tasks.get()) is not None:
            index, item = task
            try:
                done.put((index, work(item)))
            except BaseException as error:
                done.put(error)

    def stop_all() -> None:
        stop()
        with suppress(Empty):
            while True:
                tasks.get_nowait()
        for _ in range(threads):
            tasks.put(None)

    crew = Crew(run, stop_all)
    try:
        items = iter(items)
        more = True
        while True:
            # A result that is there comes first: to take the next item can take long.
            while more and under_way < threads + _QUEUED and waiting <= ahead and done.empty():
                try:
                    item = next(items)
                except StopIteration:
                    more = False
                    break
                if under_way >= len(crew) < threads:
                    crew.add()
                tasks.put((given + len(weights), item))
                under_way += 1
                weights.append(weight(item))
                waiting += weights[-1]
            if not weights:
                return
            outcome = done.get()
            under_way -= 1
            if isinstance(outcome, BaseException):
                raise outcome
            index, result = outcome
            results[index] = result
            while given in results:
                yield results.pop(given)
                given += 1
                waiting -= weights.popleft()
    finally:
        crew.end()
