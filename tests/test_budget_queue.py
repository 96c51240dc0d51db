# SPDX-License-Identifier: Apache-2.0
"""Leases that wait: threads and tasks in one queue, in order of arrival, exact when cancelled."""

import asyncio
import contextlib
import ctypes
import functools
import gc
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import atlas12288 as atlas
from atlas12288 import _native
from support import model
from support.interleavings import BrokenRuleError, Exploration, Results, Step, explore
from support.threads import in_threads

LONG_S = 30.0  # never waited for: what takes so long has failed
SHORT_S = 0.001


def domain_of(budget_class: int) -> atlas.Domain:
    return atlas.Domain(bytes=1, budget_class=budget_class)


def budget_of(budget_class: int) -> atlas.Budget:
    return domain_of(budget_class).budget


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.0005)


class Waiting(threading.Thread):
    """A thread that is in the queue when this returns; it holds its lease until `leave`."""

    def __init__(
        self, budget: atlas.Budget, amt: int, granted: list[int], timeout: float | None = None
    ) -> None:
        super().__init__(daemon=True)
        self.budget, self.amt, self.granted, self.timeout = budget, amt, granted, timeout
        self.place = budget.waiting + 1
        self.error: BaseException | None = None
        self.held, self.over = threading.Event(), threading.Event()
        self.start()
        until(lambda: budget.waiting == self.place or self.held.is_set())

    def run(self) -> None:
        try:
            with self.budget.lease(self.amt, self.timeout):
                self.granted.append(self.place)
                self.held.set()
                self.over.wait(LONG_S)
        except BaseException as error:
            self.error = error

    def leave(self) -> None:
        self.over.set()
        self.join(LONG_S)
        assert not self.is_alive()


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, LONG_S))


async def ticks(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- Arguments ---

KINDS = ("lease", "lease_async")


def of_kind(kind: str, budget: atlas.Budget, amt: int, **timeout: Any) -> Any:
    return getattr(budget, kind)(amt, **timeout)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "timeout", [-1, -1e-9, math.nan, math.inf, -math.inf, 2**63, 10**400, 9_223_372_036.5]
)
def test_a_timeout_that_no_wait_can_have_is_a_value_error(kind: str, timeout: float) -> None:
    with pytest.raises(ValueError, match=r"^timeout is .*, must be in 0\.\.9223372036 seconds"):
        of_kind(kind, budget_of(5), 1, timeout=timeout)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timeout", [True, "1", b"1", 1j, [], object()])
def test_a_timeout_that_is_no_number_is_a_type_error(kind: str, timeout: object) -> None:
    text = rf"^timeout is of type {type(timeout).__name__}, must be a number of seconds, or None"
    with pytest.raises(TypeError, match=text):
        of_kind(kind, budget_of(5), 1, timeout=timeout)


@pytest.mark.parametrize("timeout", [None, 0, 0.0, -0.0, 1, 1e-320, threading.TIMEOUT_MAX])
@pytest.mark.parametrize("amt", [0, 1, 95])
def test_a_lease_of_what_is_there_is_held_at_once_whatever_its_timeout(
    timeout: float | None, amt: int
) -> None:
    budget = budget_of(95)
    with budget.lease(amt, timeout) as lease:
        assert (lease.amt, budget.available) == (amt, 95 - amt)
    coroutine = budget.lease_async(amt, timeout).__aenter__()
    with pytest.raises(StopIteration) as held:  # without a pause, so outside of all loops too
        coroutine.send(None)
    assert held.value.value.amt == amt
    assert budget.available == 95 - amt
    with pytest.raises(StopIteration):
        held.value.value.__aexit__(None, None, None).send(None)
    assert budget.available == 95


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("amt", [-1, 96, 10**30])
def test_an_amount_outside_0_to_95_is_refused_before_any_wait(kind: str, amt: int) -> None:
    with pytest.raises(atlas.BudgetError, match=rf"^amt is {amt}, must be in 0\.\.95"):
        of_kind(kind, budget_of(5), amt, timeout=None)
    with pytest.raises(TypeError, match="amt is of type bool, must be an int"):
        of_kind(kind, budget_of(5), True, timeout=None)


def test_a_timeout_of_numpy_is_a_number() -> None:
    numpy = pytest.importorskip("numpy")
    with budget_of(5).lease(1, numpy.float64(1)), budget_of(5).lease(1, numpy.int8(1)):
        pass
    with pytest.raises(TypeError):
        budget_of(5).lease(1, numpy.True_)


def test_the_longest_timeout_is_waited_for() -> None:
    budget = budget_of(0)
    thread = Waiting(budget, 1, [], threading.TIMEOUT_MAX)
    budget.release(1)
    thread.leave()
    assert thread.error is None

    async def main() -> None:
        task = asyncio.create_task(entered(budget, 2, threading.TIMEOUT_MAX))
        await ticks()
        budget.release(1)
        await task

    run(main())


# --- The queue ---


async def entered(
    budget: atlas.Budget, amt: int, timeout: float | None = None, body: Any = None
) -> None:
    async with budget.lease_async(amt, timeout):
        if body is not None:
            await body()


def test_threads_are_served_in_order_of_arrival_though_later_ones_want_less() -> None:
    budget, granted = budget_of(0), list[int]()
    threads = [Waiting(budget, amt, granted) for amt in (10, 1, 5, 3)]
    budget.release(9)
    time.sleep(0.01)
    assert granted == []  # nobody goes before the first, who wants 10
    budget.release(2)  # 11: the first two
    until(lambda: len(granted) == 2)
    assert budget.waiting == 2
    threads[1].leave()
    threads[0].leave()
    until(lambda: len(granted) == 4)
    for thread in threads:
        thread.leave()
    assert sorted(granted[:2]) == [1, 2]
    assert budget.available == 11


def test_whatever_takes_at_once_must_not_overtake_who_waits() -> None:
    budget = budget_of(5)
    thread = Waiting(budget, 10, [])
    text = r"^amt is \d, must not overtake the leases that wait \(1 of them\)"
    for amt in (0, 1, 5):
        for take in (
            lambda amt=amt: budget.alloc(amt),
            lambda amt=amt: budget.lease(amt).__enter__(),
            lambda amt=amt: budget.lease_async(amt, 0).__aenter__().send(None),
        ):
            with pytest.raises(atlas.BudgetError, match=text):
                take()
    assert (budget.available, budget.waiting) == (5, 1)
    budget.release(5)
    thread.leave()
    budget.alloc(10)  # as ever, once nobody waits
    assert (thread.error, budget.available) == (None, 0)


def test_a_timeout_ends_in_a_budget_error_that_says_what_was_left() -> None:
    budget = budget_of(5)
    text = r"^amt is 10, must be in 0\.\.5, what is left after a wait of 0\.001 s$"
    with pytest.raises(atlas.BudgetError, match=text):
        budget.lease(10, SHORT_S).__enter__()
    thread = Waiting(budget, 10, [])
    text = r"^amt is 3, must not overtake the leases that wait, after a wait of 0\.001 s$"
    with pytest.raises(atlas.BudgetError, match=text):
        budget.lease(3, SHORT_S).__enter__()
    assert (budget.available, budget.waiting) == (5, 1)
    budget.release(5)
    thread.leave()


def test_when_the_first_has_waited_long_enough_the_next_goes() -> None:
    budget = budget_of(5)
    first = Waiting(budget, 10, [], 0.05)
    second = Waiting(budget, 5, [])
    assert second.held.wait(LONG_S)
    second.leave()
    first.leave()
    assert isinstance(first.error, atlas.BudgetError)
    assert (budget.available, budget.waiting) == (5, 0)


def test_a_task_waits_no_longer_than_its_timeout() -> None:
    budget = budget_of(5)

    async def main() -> None:
        text = r"amt is 6, must be in 0\.\.5, what is left after a wait of 0\.001 s"
        with pytest.raises(atlas.BudgetError, match=text):
            await entered(budget, 6, SHORT_S)
        assert (budget.available, budget.waiting) == (5, 0)

    run(main())


def test_the_timeout_holds_for_each_entry() -> None:
    budget = budget_of(5)
    lease = budget.lease(5, SHORT_S)
    for _ in range(3):
        with lease, pytest.raises(atlas.BudgetError, match="after a wait"):
            budget.lease(1, SHORT_S).__enter__()
    with budget.lease(1), pytest.raises(atlas.BudgetError, match="after a wait"):
        lease.__enter__()
    with lease:
        assert budget.available == 0
    assert budget.available == 5


def test_a_release_that_wraps_serves_nobody_for_whom_there_is_too_little() -> None:
    budget, granted = budget_of(90), list[int]()
    thread = Waiting(budget, 91, granted)
    budget.release(10)  # 100 is 4 mod 96
    assert (budget.available, granted) == (4, [])
    budget.release(87)
    thread.leave()
    assert (budget.available, granted) == (91, [1])


def test_a_lease_that_is_waited_for_is_not_entered_again() -> None:
    budget = budget_of(0)
    lease, outcomes = budget.lease(1, None), list[int]()

    def enter() -> None:
        with lease:
            outcomes.append(budget.available)

    thread = threading.Thread(target=enter)
    thread.start()
    until(lambda: budget.waiting == 1)
    with pytest.raises(atlas.StateError, match="the lease is held or waited for"):
        lease.__enter__()
    lease.__exit__(None, None, None)  # nothing to give back
    budget.release(1)
    thread.join()
    assert (outcomes, budget.available) == ([0], 1)

    async def main() -> None:
        lease = budget.lease_async(2)
        task = asyncio.create_task(within(lease))
        await ticks()
        with pytest.raises(atlas.StateError, match="the lease is held or waited for"):
            await lease.__aenter__()
        assert budget.waiting == 1
        budget.release(1)
        await task
        await within(lease)

    async def within(lease: atlas.AsyncLease) -> None:
        async with lease:
            assert budget.available == 0

    run(main())
    assert budget.available == 2


def test_threads_and_tasks_of_several_loops_stand_in_one_queue() -> None:
    budget, granted = budget_of(0), list[int]()
    loops = [asyncio.new_event_loop() for _ in range(3)]
    runners = [threading.Thread(target=loop.run_forever) for loop in loops]
    for runner in runners:
        runner.start()
    ends: list[Callable[[], object]] = []

    async def holds(place: int, amt: int) -> None:
        async with budget.lease_async(amt):
            granted.append(place)

    amounts = [random.Random(place).randrange(48, 96) for place in range(40)]  # one at a time
    for place, amt in enumerate(amounts):
        if place % 4 == 3:
            thread = threading.Thread(target=holds_in_thread, args=(budget, amt, place, granted))
            thread.start()
            ends.append(thread.join)
        else:
            future = asyncio.run_coroutine_threadsafe(holds(place, amt), loops[place % 4])
            ends.append(functools.partial(future.result, LONG_S))
        until(lambda place=place: budget.waiting == place + 1)
    budget.release(95)
    for end in ends:
        end()
    assert budget.waiting == 0
    for loop, runner in zip(loops, runners, strict=True):
        loop.call_soon_threadsafe(loop.stop)
        runner.join()
        loop.close()
    assert granted == list(range(40))
    assert budget.available == 95


def holds_in_thread(budget: atlas.Budget, amt: int, place: int, granted: list[int]) -> None:
    with budget.lease(amt, None):
        granted.append(place)


# --- Cancellation: reports about AnyIO's CapacityLimiter ---


def test_anyio_947_what_is_granted_to_a_task_as_it_is_cancelled_goes_to_the_next() -> None:
    budget, granted = budget_of(0), list[str]()

    async def named(name: str, amt: int) -> None:
        async with budget.lease_async(amt):
            granted.append(name)

    async def main() -> None:
        for cancel_first in (False, True):
            first, second = (asyncio.create_task(named(name, 5)) for name in ("first", "second"))
            await ticks()
            assert budget.waiting == 2
            if cancel_first:
                first.cancel()
                budget.release(5)
            else:
                budget.release(5)  # granted to the first, which has not run yet
                assert budget.waiting == 1
                first.cancel()
            await second
            with pytest.raises(asyncio.CancelledError):
                await first
            assert (granted, budget.available) == (["second"], 5)
            granted.clear()
            budget.alloc(5)

    run(main())


def test_anyio_947_of_a_task_cancelled_after_it_was_told() -> None:
    budget = budget_of(0)

    async def main() -> None:
        task = asyncio.create_task(entered(budget, 5))
        await ticks()
        loop = asyncio.get_running_loop()
        budget.release(5)  # its future is done at the next turn of the loop, the task runs after
        loop.call_soon(task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (budget.available, budget.waiting) == (5, 0)
        budget.alloc(5)

    run(main())


def test_anyio_1170_nobody_takes_what_is_granted_to_who_has_not_run_yet() -> None:
    budget = budget_of(0)
    seen: list[int] = []

    async def main() -> None:
        async def body() -> None:
            seen.append(budget.available)

        task = asyncio.create_task(entered(budget, 5, body=body))
        await ticks()
        budget.release(5)
        assert (budget.available, budget.waiting) == (0, 0)
        with pytest.raises(atlas.BudgetError, match=r"amt is 5, must be in 0\.\.0"):
            budget.alloc(5)
        with pytest.raises(atlas.BudgetError, match=r"amt is 1, must be in 0\.\.0"):
            await entered(budget, 1, 0)
        await task

    run(main())
    assert (seen, budget.available) == ([0], 5)


def test_anyio_1223_what_is_there_decides_and_not_what_was_released() -> None:
    budget, granted = budget_of(0), list[int]()

    async def main() -> None:
        async def body() -> None:
            granted.append(budget.available)
            await asyncio.sleep(LONG_S)

        tasks = [asyncio.create_task(entered(budget, 40, body=body)) for _ in range(3)]
        await ticks()
        budget.release(39)
        budget.release(41)  # 80: two of the three, whatever was released at last
        await ticks()
        assert (len(granted), budget.available, budget.waiting) == (2, 0, 1)
        budget.release(39)
        budget.release(95)  # wraps to 38
        await ticks()
        assert (len(granted), budget.available, budget.waiting) == (2, 38, 1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main())
    assert budget.available == (38 + 80) % model.MODULUS


def test_when_the_first_is_cancelled_the_next_who_wants_less_is_served() -> None:
    budget = budget_of(5)

    async def main() -> None:
        first = asyncio.create_task(entered(budget, 10))
        second = asyncio.create_task(entered(budget, 5))
        await ticks()
        assert budget.waiting == 2
        first.cancel()
        await second
        await asyncio.gather(first, return_exceptions=True)
        assert (budget.available, budget.waiting) == (5, 0)

    run(main())


def test_a_body_that_raises_or_is_cancelled_gives_back_and_lets_the_next_in() -> None:
    budget = budget_of(5)

    async def main() -> None:
        async def fails() -> None:
            await asyncio.sleep(0)
            raise KeyError

        async def sleeps() -> None:
            await asyncio.sleep(LONG_S)

        tasks = [
            asyncio.create_task(entered(budget, 5, body=body)) for body in (fails, sleeps, None)
        ]
        await ticks()
        tasks[1].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds == [KeyError, asyncio.CancelledError, type(None)]

    run(main())
    assert budget.available == 5


def test_a_lease_of_a_task_may_end_in_another_thread() -> None:
    budget = budget_of(5)

    async def main() -> None:
        lease = budget.lease_async(5)
        await lease.__aenter__()
        task = asyncio.create_task(entered(budget, 5))
        await ticks()
        exits: list[Coroutine[Any, Any, None]] = []
        thread = threading.Thread(target=lambda: exits.append(lease.__aexit__(None, None, None)))
        thread.start()
        thread.join()
        await task  # although nobody awaited the exit yet
        await exits[0]

    run(main())
    assert budget.available == 5


class CancelledLeases(RuleBasedStateMachine):
    """Tasks on one budget, against a list: in any order of grants and cancellations.

    Rules run in the same turn of the loop until `turn`, so that a grant and a cancellation meet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.budget = budget_of(20)
        self.left = 20
        self.queue: list[int] = []  # numbers of those that wait, in order
        self.holding: set[int] = set()  # granted
        self.amounts: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.overs: list[asyncio.Event] = []
        self.entered: list[int] = []
        self.cancelled: set[int] = set()

    def serve(self) -> None:
        while self.queue and self.amounts[self.queue[0]] <= self.left:
            number = self.queue.pop(0)
            self.left -= self.amounts[number]
            self.holding.add(number)

    def end(self, number: int) -> None:
        self.holding.discard(number)
        self.left = (self.left + self.amounts[number]) % model.MODULUS
        self.serve()

    @rule()
    def turn(self) -> None:
        self.loop.run_until_complete(ticks(20))
        for number in sorted(self.cancelled):
            if number in self.holding:
                self.end(number)
            elif number in self.queue:
                self.queue.remove(number)
                self.serve()
        self.cancelled.clear()
        self.loop.run_until_complete(ticks(20))
        assert set(self.entered) == self.holding
        assert self.budget.waiting == len(self.queue)

    @rule(amt=st.integers(0, 95))
    def enter(self, amt: int) -> None:
        number = len(self.tasks)

        async def task() -> None:
            async with self.budget.lease_async(amt):
                self.entered.append(number)
                try:
                    await over.wait()
                finally:
                    self.entered.remove(number)

        over = asyncio.Event()
        self.overs.append(over)
        self.amounts.append(amt)
        self.turn()
        self.tasks.append(self.loop.create_task(task()))
        self.loop.run_until_complete(ticks(2))
        self.queue.append(number)
        self.serve()

    @precondition(lambda self: self.tasks and not self.cancelled)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.tasks) - 1))
        self.tasks[number].cancel()
        self.cancelled.add(number)

    @precondition(lambda self: self.holding and not self.cancelled)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.holding)))
        self.turn()
        self.overs[number].set()
        self.loop.run_until_complete(ticks(4))
        self.end(number)

    @rule(amt=st.integers(0, 95))
    def release(self, amt: int) -> None:
        self.budget.release(amt)
        self.left = (self.left + amt) % model.MODULUS
        self.serve()

    @rule(amt=st.integers(0, 95))
    def alloc(self, amt: int) -> None:
        if self.cancelled:
            self.turn()
        try:
            self.budget.alloc(amt)
        except atlas.BudgetError:
            assert self.queue or amt > self.left
        else:
            assert not self.queue
            self.left -= amt

    @invariant()
    def the_budget_is_exact(self) -> None:
        assert self.budget.available == self.left

    def teardown(self) -> None:
        async def cancel_all() -> None:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

        self.loop.run_until_complete(cancel_all())
        assert self.budget.waiting == 0
        held = sum(self.amounts[number] for number in self.holding)
        assert self.budget.available == (self.left + held) % model.MODULUS
        self.loop.close()


TestCancelledLeases = CancelledLeases.TestCase


@pytest.mark.parametrize("seed", range(5))
def test_threads_and_tasks_at_random_leave_the_budget_as_it_was(seed: int) -> None:
    budget = budget_of(50)

    def work(index: int) -> None:
        chance = random.Random(f"{seed} {index}")
        if index % 2:
            asyncio.run(tasks(chance))
            return
        for _ in range(30):
            timeout = chance.choice((0, SHORT_S, None))
            with (
                contextlib.suppress(atlas.BudgetError),
                budget.lease(chance.randrange(51), timeout),
            ):
                assert budget.available <= 50

    async def tasks(chance: random.Random) -> None:
        async def one() -> None:
            timeout = chance.choice((0, SHORT_S, None))
            with contextlib.suppress(atlas.BudgetError):
                async with budget.lease_async(chance.randrange(51), timeout):
                    await asyncio.sleep(0)

        for _ in range(3):
            running = [asyncio.create_task(one()) for _ in range(10)]
            await ticks(chance.randrange(5))
            for task in running:
                if chance.random() < 0.4:
                    task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    in_threads(8, work)
    assert (budget.available, budget.waiting) == (50, 0)


# --- Close ---


def test_close_wakes_all_who_wait_with_a_state_error() -> None:
    domain = domain_of(5)
    budget = domain.budget
    threads = [Waiting(budget, 6, []) for _ in range(3)]

    async def main() -> None:
        tasks = [asyncio.create_task(entered(budget, amt)) for amt in (0, 95)]
        await ticks()
        domain.close()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, atlas.StateError)
        with pytest.raises(atlas.StateError, match="the domain is closed"):
            await entered(budget, 1)

    lease, later = budget.lease(1, None), budget.lease_async(1)
    run(main())
    for thread in threads:
        thread.leave()
        assert isinstance(thread.error, atlas.StateError)
        assert str(thread.error) == "the domain is closed, must be open for calls"
    with pytest.raises(atlas.StateError, match="the domain is closed"):
        lease.__enter__()
    with pytest.raises(atlas.StateError, match="the domain is closed"):
        later.__aenter__().send(None)


# --- C ---


def handle_of(domain: atlas.Domain) -> ctypes.c_void_p:
    """The atlas_domain_t of a domain: behind the object's head and Cython's table of methods."""
    place = id(domain) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
    return ctypes.c_void_p.from_address(place)


def test_a_release_in_c_is_seen_by_the_next_call_on_the_budget_from_python() -> None:
    library = ctypes.CDLL(_native.__file__)
    available = ctypes.c_uint8()
    looks: list[Callable[[atlas.Budget], object]] = [
        lambda budget: budget.release(0),
        lambda budget: budget.alloc(95),
        lambda budget: budget.lease(95, SHORT_S).__enter__(),
    ]
    for look in looks:
        domain, granted = domain_of(3), list[int]()
        handle = handle_of(domain)
        library.atlas_budget_available(handle, ctypes.byref(available))
        assert available.value == 3
        thread = Waiting(domain.budget, 5, granted)
        assert library.atlas_budget_release(handle, ctypes.c_uint8(2))
        assert (domain.budget.available, domain.budget.waiting) == (5, 1)  # C tells nobody
        with contextlib.suppress(atlas.BudgetError):
            look(domain.budget)
        thread.leave()
        assert granted == [1]


def test_a_wait_that_ends_takes_what_c_released_meanwhile() -> None:
    library = ctypes.CDLL(_native.__file__)
    domain = domain_of(3)

    async def main() -> None:
        task = asyncio.create_task(entered(domain.budget, 5, 0.05))
        await ticks()
        library.atlas_budget_release(handle_of(domain), ctypes.c_uint8(2))
        await task

    run(main())
    assert (domain.budget.available, domain.budget.waiting) == (5, 0)


# --- Signals, forks, ends ---


class SignalledError(Exception):
    """What the handler raises."""


@pytest.fixture
def _signal_raises() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals are handled in the main thread")

    def handler(_: int, __: types.FrameType | None) -> None:
        raise SignalledError

    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


def signalled(budget: atlas.Budget) -> threading.Thread:
    """A thread that sends a signal to the main thread once that one waits."""

    def work() -> None:
        until(lambda: budget.waiting == 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.usefixtures("_signal_raises")
def test_a_signal_handler_that_raises_ends_the_wait() -> None:
    budget = budget_of(5)
    lease = budget.lease(6, None)
    thread = signalled(budget)
    with pytest.raises(SignalledError):
        lease.__enter__()
    thread.join()
    assert (budget.available, budget.waiting) == (5, 0)
    budget.release(1)
    with lease:
        assert budget.available == 0


@pytest.mark.usefixtures("_signal_raises")
def test_a_signal_handler_may_use_the_budget_that_is_waited_for() -> None:
    budget = budget_of(5)
    signal.signal(signal.SIGUSR1, lambda *_: budget.release(1))  # the fixture puts it back
    thread = signalled(budget)
    with budget.lease(6, None):
        assert budget.available == 0
    thread.join()
    assert budget.available == 6


@pytest.mark.usefixtures("_signal_raises")
def test_what_is_granted_to_a_thread_as_its_wait_is_interrupted_goes_back() -> None:
    budget = budget_of(5)
    lease = budget.lease(6, None)

    def handler(_: int, __: types.FrameType | None) -> None:
        budget.release(1)  # which is granted to the lease that waits
        raise SignalledError

    signal.signal(signal.SIGUSR1, handler)
    thread = signalled(budget)
    with pytest.raises(SignalledError):
        lease.__enter__()
    thread.join()
    assert (budget.available, budget.waiting) == (6, 0)
    budget.alloc(6)
    # The wake-up of the wait that was interrupted does not end the next one.
    signal.signal(signal.SIGUSR1, lambda *_: None)
    later = threading.Thread(
        target=lambda: (until(lambda: budget.waiting == 1), time.sleep(0.01), budget.release(6))
    )
    later.start()
    with lease:
        assert budget.available == 0
    later.join()
    assert budget.available == 6


PROGRAM = """
import os, signal, sys, threading, time
import atlas12288 as atlas

budget = atlas.Domain(bytes=1, budget_class=5).budget

def wait(amt):
    with budget.lease(amt, None):
        pass

def waiting(amt):
    thread = threading.Thread(target=wait, args=(amt,), daemon=True)
    before = budget.waiting
    thread.start()
    while budget.waiting == before:
        time.sleep(0.001)
"""


def program(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM + text],
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )


def test_ctrl_c_ends_a_wait_as_keyboard_interrupt() -> None:
    ended = program("""
def interrupt():
    while not budget.waiting:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    wait(6)
except KeyboardInterrupt:
    print(budget.available, budget.waiting)
""")
    assert (ended.returncode, ended.stdout) == (0, "5 0\n"), ended.stderr


def test_the_interpreter_ends_while_daemon_threads_wait() -> None:
    ended = program("waiting(6); waiting(1); print('end')")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "end\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_a_fork_nobody_of_the_parent_is_in_the_childs_queue() -> None:
    ended = program("""
waiting(6)
waiting(1)
pid = os.fork()
if pid == 0:
    budget.alloc(5)
    assert (budget.available, budget.waiting) == (0, 0)
    waiting(3)  # the child has a queue of its own
    budget.release(3)
    while budget.available != 3:
        time.sleep(0.001)
    os._exit(7)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), budget.available, budget.waiting)
""")
    assert (ended.returncode, ended.stdout) == (0, "7 5 2\n"), ended.stderr


# --- Event loops that fail ---


def test_a_task_whose_loop_is_closed_bars_nobody() -> None:
    for budget_class in (5, 20):  # too little for the task, and enough
        budget, granted = budget_of(0), list[int]()
        loop = asyncio.new_event_loop()
        task = loop.create_task(entered(budget, 10))
        loop.run_until_complete(ticks())
        thread = Waiting(budget, 5, granted)
        loop.close()
        budget.release(budget_class)
        thread.leave()
        assert granted == [2]
        assert (budget.available, budget.waiting) == (budget_class, 0)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        with contextlib.suppress(RuntimeError):
            task.get_coro().close()  # type: ignore[union-attr]
        assert budget.available == budget_class


def test_a_task_that_is_dropped_after_its_grant_gives_it_back() -> None:
    budget = budget_of(0)
    loop = asyncio.new_event_loop()
    task = loop.create_task(entered(budget, 5))
    loop.run_until_complete(ticks())
    budget.release(5)  # told to a loop that never runs again
    assert budget.available == 0
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task, loop
    gc.collect()
    assert (budget.available, budget.waiting) == (5, 0)


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
def test_a_task_that_cannot_be_told_is_first_in_the_queue_again(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    budget, granted = budget_of(0), list[int]()
    reports: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reports.append(report.exc_type))

    async def named(number: int) -> None:
        async with budget.lease_async(5):
            granted.append(number)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(named(number)) for number in range(2)]
        await ticks()
        with monkeypatch.context() as patch:
            fails = iter([True])
            tell = loop.call_soon_threadsafe

            def once(*arguments: Any) -> object:
                if next(fails, False):
                    tell(*arguments)  # a wake-up that is for nothing
                    raise kind
                return tell(*arguments)

            patch.setattr(loop, "call_soon_threadsafe", once)
            if kind is KeyboardInterrupt:
                with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - wherever Python looks next
                    budget.release(5)
                    await ticks()
            else:
                budget.release(5)
                assert (budget.available, budget.waiting, reports) == (5, 2, [kind])
                await ticks()
                assert granted == []
                budget.release(0)  # tries again
        await asyncio.gather(*tasks)

    if kind is KeyboardInterrupt:
        loop = asyncio.new_event_loop()  # asyncio.run has a handler of its own for Ctrl-C
        loop.run_until_complete(main())
        loop.close()
    else:
        run(main())
    assert (granted, budget.available) == ([0, 1], 5)


def test_a_lease_that_must_wait_needs_a_task() -> None:
    budget = budget_of(0)
    with pytest.raises(RuntimeError, match="lease_async is entered in no task"):
        budget.lease_async(1).__aenter__().send(None)
    assert budget.waiting == 0


# --- Trio and AnyIO ---


def test_tasks_of_trio_wait_too() -> None:
    trio = pytest.importorskip("trio")
    testing = pytest.importorskip("trio.testing")
    budget, granted = budget_of(0), list[int]()

    async def one(number: int) -> None:
        async with budget.lease_async(5):
            granted.append(number)

    async def main() -> None:
        with trio.fail_after(LONG_S):
            with pytest.raises(atlas.BudgetError, match=r"after a wait of 0\.001 s"):
                async with budget.lease_async(1, SHORT_S):
                    pass
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(one, number)
                    await testing.wait_all_tasks_blocked()
                with trio.move_on_after(0) as scope:
                    await one(4)
                assert scope.cancelled_caught
                assert budget.waiting == 4
                await trio.to_thread.run_sync(budget.release, 5)

    trio.run(main)
    assert (granted, budget.available) == ([0, 1, 2, 3], 5)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_of_anyio_wait_too(backend: str) -> None:
    anyio = pytest.importorskip("anyio")
    pytest.importorskip(backend)
    budget, granted = budget_of(0), list[int]()

    async def one(number: int) -> None:
        async with budget.lease_async(5):
            granted.append(number)

    async def main() -> None:
        with anyio.fail_after(LONG_S):
            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(one, number)
                    await anyio.wait_all_tasks_blocked()
                with anyio.move_on_after(SHORT_S) as scope:
                    await one(3)
                assert scope.cancelled_caught
                budget.release(5)

    anyio.run(main, backend=backend)
    assert (granted, budget.available) == ([0, 1, 2], 5)


# --- All interleavings ---


@dataclass(frozen=True)
class Queue:
    """The shared memory; a claim is (number, amount)."""

    budget: int
    waiting: tuple[tuple[int, int], ...] = ()
    granted: frozenset[int] = frozenset()

    def without(self, number: int) -> "Queue":
        claims = tuple(claim for claim in self.waiting if claim[0] != number)
        return replace(self, waiting=claims, granted=self.granted - {number})


Run = Generator[Step[Queue], Any, Any]


class Protocol:
    """The steps of budget_queue.pxi, each a critical section or an atomic operation."""

    def serve(self) -> Run:
        def one(queue: Queue) -> tuple[Queue, bool]:
            if not queue.waiting or queue.waiting[0][1] > queue.budget:
                return queue, False
            (number, amt), rest = queue.waiting[0], queue.waiting[1:]
            return Queue(queue.budget - amt, rest, queue.granted | {number}), True

        while (yield Step("serve the first", one)):
            pass

    def give(self, amt: int) -> Run:
        yield Step(
            f"give {amt}",
            lambda queue: (replace(queue, budget=(queue.budget + amt) % model.MODULUS), None),
        )
        if (yield Step("look at the queue", lambda queue: (queue, bool(queue.waiting)))):
            yield from self.serve()

    def join(self, number: int, amt: int) -> Run:
        yield Step(
            "stand in the queue",
            lambda queue: (replace(queue, waiting=(*queue.waiting, (number, amt))), None),
        )
        yield from self.serve()

    def leave(self, number: int, amt: int) -> Run:
        """Leave the queue, and give back what was granted."""
        granted = yield Step(
            "leave the queue", lambda queue: (queue.without(number), number in queue.granted)
        )
        if granted:
            yield from self.give(amt)
        else:
            yield from self.serve()

    def waiter(self, number: int, amt: int) -> Run:
        yield from self.join(number, amt)
        return None

    def cancelled(self, number: int, amt: int) -> Run:
        yield from self.join(number, amt)
        yield from self.leave(number, amt)
        return None

    def giver(self, amt: int) -> Run:
        yield from self.give(amt)
        return None


class LooksFirst(Protocol):
    def give(self, amt: int) -> Run:
        waits = yield Step("look at the queue", lambda queue: (queue, bool(queue.waiting)))
        yield Step(
            f"give {amt}",
            lambda queue: (replace(queue, budget=(queue.budget + amt) % model.MODULUS), None),
        )
        if waits:
            yield from self.serve()


class KeepsWhatIsGranted(Protocol):
    """AnyIO #947."""

    def leave(self, number: int, amt: int) -> Run:
        yield Step("leave the queue", lambda queue: (queue.without(number), None))
        yield from self.serve()


class GrantsWithoutTaking(Protocol):
    """AnyIO #1170."""

    def serve(self) -> Run:
        def one(queue: Queue) -> tuple[Queue, bool]:
            if not queue.waiting or queue.waiting[0][1] > queue.budget:
                return queue, False
            granted = queue.granted | {queue.waiting[0][0]}
            return replace(queue, waiting=queue.waiting[1:], granted=granted), True

        while (yield Step("serve the first", one)):
            pass


class LeavesSilently(Protocol):
    def leave(self, number: int, amt: int) -> Run:
        granted = yield Step(
            "leave the queue", lambda queue: (queue.without(number), number in queue.granted)
        )
        if granted:
            yield from self.give(amt)


def explored(protocol: Protocol, amt: int) -> Exploration[Queue]:
    """Of a budget of 2 one waits for `amt` and is cancelled, one waits for 1, and 1 comes back."""
    amounts = {1: amt, 2: 1}
    threads: list[Callable[[], Run]] = [
        functools.partial(protocol.cancelled, 1, amt),
        functools.partial(protocol.waiter, 2, 1),
        functools.partial(protocol.giver, 1),
    ]

    def check_step(before: Queue, after: Queue) -> None:
        if after.granted - before.granted and before.waiting:
            number, amt = before.waiting[0]
            if after.granted - before.granted != {number}:
                raise BrokenRuleError("granted out of order")
            if before.budget - after.budget != amt:
                raise BrokenRuleError("granted what was not taken")

    def check_end(queue: Queue, _: Results) -> None:
        held = sum(amounts[number] for number in queue.granted)
        if queue.budget + held != 3:
            raise BrokenRuleError(f"{queue.budget} left and {held} held of 3")
        if queue.waiting and queue.waiting[0][1] <= queue.budget:
            raise BrokenRuleError("the first in the queue was not served")

    return explore(Queue(2), threads, check_step, check_end)


@pytest.mark.parametrize("amt", [2, 3, 4])  # there at first, at last, never
def test_every_interleaving_serves_the_queue_and_keeps_the_budget_exact(amt: int) -> None:
    found = explored(Protocol(), amt)
    assert {(queue.budget, queue.granted) for queue, _ in found.outcomes} == {(2, frozenset({2}))}
    print(f"{found.schedules:,} interleavings, {found.states:,} states")


@pytest.mark.parametrize(
    ("protocol", "amt", "text"),
    [
        (LooksFirst, 3, "the first in the queue was not served"),
        (KeepsWhatIsGranted, 3, "0 held of 3|1 held of 3"),
        (GrantsWithoutTaking, 3, "granted what was not taken"),
        (LeavesSilently, 4, "the first in the queue was not served"),
    ],
)
def test_a_fault_of_the_queue_breaks_a_rule(protocol: type[Protocol], amt: int, text: str) -> None:
    with pytest.raises(BrokenRuleError, match=text):
        explored(protocol(), amt)
