# SPDX-License-Identifier: Apache-2.0
"""Explores all interleavings of threads whose every access to shared memory is one step.

A thread is a generator: it yields a step, gets the step's result, and returns its own result. It
holds nothing that is shared, so its place follows from the results that it got so far; a state is
the memory and these results. Each state is visited once, however many schedules lead to it.
"""

from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

Memory = TypeVar("Memory", bound=Hashable)
Results = tuple[Any, ...]  # hashable ones


@dataclass(frozen=True)
class Step(Generic[Memory]):
    """One access: from the memory to the memory after it, and what the thread gets."""

    text: str
    run: Callable[[Memory], tuple[Memory, Hashable]]


Thread = Generator[Step[Memory], Any, Hashable]


class BrokenRuleError(AssertionError):
    """A rule does not hold; `explore` adds the schedule that leads there."""


@dataclass(frozen=True)
class Exploration(Generic[Memory]):
    """outcomes: the memory and the results of the threads, at the end of each schedule."""

    states: int
    schedules: int
    outcomes: frozenset[tuple[Memory, Results]]


@dataclass(frozen=True)
class _Finished:
    result: Hashable


def explore(
    start: Memory,
    threads: Sequence[Callable[[], Thread[Memory]]],
    check_step: Callable[[Memory, Memory], None],
    check_end: Callable[[Memory, Results], None],
) -> Exploration[Memory]:
    """Runs the threads in every order. check_step sees the memory before and after each step,
    check_end that of the end and the results; both raise BrokenRuleError."""
    schedule: list[str] = []
    schedules_from: dict[Hashable, int] = {}
    outcomes: set[tuple[Memory, Results]] = set()

    @cache
    def next_of(thread: int, got: Results) -> Step[Memory] | _Finished:
        """What the thread does after these results."""
        running = threads[thread]()
        try:
            step = next(running)
            for result in got:
                step = running.send(result)
        except StopIteration as end:
            return _Finished(end.value)
        return step

    def visit(memory: Memory, got: tuple[Results, ...]) -> int:
        """The number of schedules from this state to the end."""
        state = memory, got
        if state in schedules_from:
            return schedules_from[state]
        count = 0
        results = []
        for thread, so_far in enumerate(got):
            step = next_of(thread, so_far)
            if isinstance(step, _Finished):
                results.append(step.result)
                continue
            schedule.append(f"thread {thread}: {step.text}")
            after, result = step.run(memory)
            check_step(memory, after)
            count += visit(after, (*got[:thread], (*so_far, result), *got[thread + 1 :]))
            schedule.pop()
        if len(results) == len(got):
            check_end(memory, tuple(results))
            outcomes.add((memory, tuple(results)))
            count = 1
        schedules_from[state] = count
        return count

    try:
        total = visit(start, ((),) * len(threads))
    except BrokenRuleError as broken:
        raise BrokenRuleError("\n  ".join([str(broken), *schedule])) from None
    return Exploration(len(schedules_from), total, frozenset(outcomes))
