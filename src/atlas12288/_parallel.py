# SPDX-License-Identifier: Apache-2.0
"""Work on many threads, with results in order and a bound on what is under way.

The threads live as long as the call: to start them takes about 0.1 ms, and threads that are kept
would not survive a fork.
"""

from __future__ import annotations

import os
from itertools import chain, cycle, islice

from ._native import int_in

TYPE_CHECKING = False  # `typing` costs as much as the rest of the import
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future
    from typing import TypeVar

    T = TypeVar("T")
    R = TypeVar("R")

# Items that wait beside those that are worked on, so that no thread waits for the next one.
_WAITING = 2
# The same where the calling thread only hands out: each time it wakes it takes the interpreter from
# the others, which small files feel.
_QUEUED = 64


def thread_count(threads: int | None) -> int:
    """The threads to use: `threads`, or one for each core that this process may use.

    Raises:
        TypeError: `threads` is not an int.
        ValueError: it is less than 1.
    """
    if threads is None:
        try:
            return len(os.sched_getaffinity(0))
        except AttributeError:  # not on every system
            return os.cpu_count() or 1
    return int_in(threads, "threads", 1, None)


def most_under_way(threads: int) -> int:
    """The most items that `in_order` has taken of which it has not given the result."""
    return threads + _WAITING


def ring(size: int, count: int) -> Iterator[memoryview]:
    """Buffers of `size` bytes without end: the same `count` ones around, made when first needed."""
    made = []
    for _ in range(count):
        made.append(memoryview(bytearray(size)))
        yield made[-1]
    yield from cycle(made)


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R, None, None]:
    """Yields work(item) of each item in order, worked on by up to `threads` threads.

    The calling thread is one of them; it alone takes the items. With one thread, or one item, none
    is started. When work, the items or the caller raise, what has not begun is dropped and what has
    is waited for.
    """
    items = iter(items)
    first = list(islice(items, 2 if threads > 1 else 0))
    items = chain(first, items)
    if len(first) < 2:
        yield from map(work, items)
        return
    from collections import deque
    from concurrent.futures import ThreadPoolExecutor  # here: it takes longer than our import

    pending: deque[tuple[Future[R], T]] = deque()
    done_here: dict[Future[R], R] = {}

    def do_one_here() -> None:
        for future, item in pending:
            if future not in done_here and future.cancel():  # no other thread has begun it
                done_here[future] = work(item)
                return

    def first_is_done() -> bool:
        return bool(pending) and (pending[0][0] in done_here or pending[0][0].done())

    def first_result() -> R:
        future, _ = pending.popleft()
        return done_here.pop(future) if future in done_here else future.result()

    with ThreadPoolExecutor(threads - 1) as pool:
        try:
            for item in items:
                pending.append((pool.submit(work, item), item))
                if len(pending) == most_under_way(threads):
                    do_one_here()
                    yield first_result()
                while first_is_done():
                    yield first_result()
            while pending:
                do_one_here()
                yield first_result()
        finally:
            for future, _ in pending:
                future.cancel()


def in_order_ahead(
    work: Callable[[T], R],
    items: Iterable[T],
    threads: int,
    *,
    weight: Callable[[T], int],
    ahead: int,
    stop: Callable[[], object],
) -> Generator[R, None, None]:
    """As `in_order`, for items of which one may take a million times as long as another: while it
    is worked on, the others go on, and their results wait.

    The calling thread alone takes the items, and works on none, so that it can give each result as
    soon as its turn has come. With one thread none is started, and it does all.

    Args:
        work, items, threads: as for `in_order`.
        weight: the bytes that an item and its result hold until the result is given.
        ahead: no item is taken while results that are not given hold more than this.
        stop: called when no more results are wanted, before what has begun is waited for: from then
            on `work` may raise at any time.
    """
    if threads == 1:
        yield from map(work, items)
        return
    from collections import deque
    from contextlib import suppress
    from queue import Empty, SimpleQueue
    from threading import Thread

    tasks: SimpleQueue[tuple[int, T] | None] = SimpleQueue()
    done: SimpleQueue[tuple[int, R] | BaseException] = SimpleQueue()
    workers: list[Thread] = []
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

    try:
        items = iter(items)
        more = True
        while True:
            while more and under_way < threads + _QUEUED and waiting <= ahead:
                try:
                    item = next(items)
                except StopIteration:
                    more = False
                    break
                if under_way >= len(workers) < threads:
                    workers.append(Thread(target=run))
                    workers[-1].start()
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
        stop()
        with suppress(Empty):
            while True:
                tasks.get_nowait()
        for _ in workers:
            tasks.put(None)
        for worker in workers:
            worker.join()
