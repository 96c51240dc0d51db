# SPDX-License-Identifier: Apache-2.0
"""Work on many threads when items differ much: order, bounds, ends."""

import threading
from collections.abc import Iterator

import pytest

from atlas12288._parallel import parallel_map, parallel_map_ahead
from support.leftovers import nothing_left

TIMEOUT_S = 60


def nothing() -> None:
    pass


def one(item: int) -> int:
    return 1


@pytest.fixture(autouse=True)
def leaves_no_thread() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 1000])
@pytest.mark.parametrize("ahead", [0, 1, 100])
def test_results_come_in_order_each_once(threads: int, count: int, ahead: int) -> None:
    results = parallel_map_ahead(
        lambda item: item * item, range(count), threads, weight=one, ahead=ahead, stop=nothing
    )
    assert list(results) == [item * item for item in range(count)]


def test_one_long_item_holds_no_other_up() -> None:
    last = 5000
    others_done = threading.Event()

    def work(item: int) -> bool:
        if item == last:
            others_done.set()
        return item > 0 or others_done.wait(TIMEOUT_S)

    results = parallel_map_ahead(
        work, range(last + 1), 2, weight=one, ahead=last + 1, stop=others_done.set
    )
    assert all(results)


def test_what_waits_is_bounded() -> None:
    ahead = 10
    given: list[int] = []
    all_taken = threading.Event()

    def items() -> Iterator[int]:
        for item in range(100):
            assert item - len(given) <= ahead
            yield item

    def work(item: int) -> bool:
        if item == ahead:  # the last that is taken before the first one is given
            all_taken.set()
        return item > 0 or all_taken.wait(TIMEOUT_S)

    for result in parallel_map_ahead(work, items(), 2, weight=one, ahead=ahead, stop=all_taken.set):
        assert result
        given.append(1)
    assert len(given) == 100


def test_one_thread_means_none_is_started() -> None:
    here = threading.get_ident()
    results = parallel_map_ahead(
        lambda _: threading.get_ident(), range(3), 1, weight=one, ahead=1, stop=nothing
    )
    assert set(results) == {here}


def test_the_calling_thread_takes_the_items_and_works_on_none() -> None:
    here = threading.get_ident()

    def items() -> Iterator[int]:
        for _ in range(10):
            yield threading.get_ident()

    for taker, worker in parallel_map_ahead(
        lambda taker: (taker, threading.get_ident()), items(), 2, weight=one, ahead=5, stop=nothing
    ):
        assert taker == here != worker


class OddError(Exception):
    pass


@pytest.mark.parametrize("where", ["work", "items", "caller"])
def test_an_error_ends_long_work_and_leaves_no_thread(where: str) -> None:
    stopping = threading.Event()
    begun = threading.Event()

    def stop() -> None:
        stopping.set()
        begun.set()

    def items() -> Iterator[int]:
        yield 0
        yield 1
        if where == "items":
            raise OddError
        yield from range(2, 100)

    def work(item: int) -> int:
        if item == 1:  # long, until stop is called
            begun.set()
            assert stopping.wait(TIMEOUT_S)
        elif item == 0:
            assert begun.wait(TIMEOUT_S)
        if item == 2 and where == "work":
            raise OddError
        return item

    results = parallel_map_ahead(work, items(), 2, weight=one, ahead=50, stop=stop)
    if where == "caller":
        assert next(results) == 0
        with pytest.raises(OddError):
            results.throw(OddError)
    else:
        with pytest.raises(OddError):
            list(results)
    assert stopping.is_set()


@pytest.mark.parametrize("begins", [True, False], ids=["begins at once", "begins later"])
def test_a_thread_that_ctrl_c_caught_while_it_started_works_on_nothing_afterwards(
    begins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    threads: list[threading.Thread] = []
    over = threading.Event()
    late: list[int] = []

    def interrupted(thread: threading.Thread) -> None:
        threads.append(thread)
        if begins:
            start(thread)
        raise KeyboardInterrupt

    def work(item: int) -> None:
        if over.is_set():
            late.append(item)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(parallel_map(work, range(100), 2))
    over.set()
    (thread,) = threads
    if not begins:
        thread.start()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
    assert late == []
