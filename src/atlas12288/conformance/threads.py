# SPDX-License-Identifier: Apache-2.0
"""Threads: budgets, commits, witnesses and the last error, used by many at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from .._parallel import thread_count
from . import driver
from .library import E_STATE, OK, Library, conserved, noise
from .outcome import WINDOW_BYTES, NotCheckedError, require

_THREADS: Final = 8


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads of Python.

    Raises:
        NotCheckedError: they cannot be started.
    """
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield pool
        except RuntimeError as error:  # of submit(); a check has no other reason for one
            raise NotCheckedError(f"{threads} threads cannot be started here: {error}") from error


def budget(library: Library) -> str:
    taken = 0
    # On one core two threads meet only where one was stopped, and that takes longer to happen.
    ns = 50_000_000 if thread_count(None) > 1 else 400_000_000
    # Contended to exhaustion, and with room for all threads.
    for start, amount in ((95, 40), (95, 1), (1, 1), (95, 95)):
        domain = library.new_domain(96, start)
        result = driver.budget(library, domain, amount, start, _THREADS, ns)
        what = f"{_THREADS} threads that take {amount} from a budget of {start} and give it back"
        require(
            result.overdrawn == 0,
            f"{what}: {result.overdrawn} times more than {start} was out at once",
        )
        require(result.refused == 0, f"{what}: {result.refused} releases failed")
        require(result.taken > 0, f"{what}: none was given it")
        left = library.drain(domain)
        require(
            left == start, f"{what}: {left} is left after {result.taken} takes, must be {start}"
        )
        library.destroy(domain)
        taken += result.taken
    return f"{_THREADS} threads, {taken} amounts taken and given back: none lost, none overdrawn"


def commit(library: Library) -> str:
    races = {96: 60, WINDOW_BYTES: 60, 16 * WINDOW_BYTES: 30}
    for size, rounds in races.items():
        region = library.region(conserved(noise(size)))
        for _ in range(rounds):
            domain = library.new_domain(size, 0)
            library.attach(domain, region.address, size)
            codes = driver.commits(library, domain, _THREADS)
            require(
                codes.count(OK) == 1,
                f"{codes.count(OK)} of {_THREADS} threads that commit one domain at the same time "
                "are given ATLAS_OK, must be one",
            )
            require(
                codes.count(E_STATE) == _THREADS - 1,
                f"{_THREADS} threads commit one domain: the codes are {codes}, must be 0 once and "
                f"{E_STATE} for all others",
            )
            library.destroy(domain)
    return (
        f"{sum(races.values())} times {_THREADS} threads commit one domain: exactly one is given 0"
    )


def witness(library: Library) -> str:
    rounds = 50
    for size in (96, WINDOW_BYTES):
        regions = library.region(noise(_THREADS * size))
        result = driver.witnesses(library, regions, _THREADS, rounds)
        what = f"{_THREADS} threads, each with {rounds} witnesses of its own {size} bytes"
        require(result.missing == 0, f"{what}: {result.missing} were NULL")
        require(result.refused == 0, f"{what}: {result.refused} did not match these bytes")
        require(result.missed == 0, f"{what}: {result.missed} matched bytes of another thread")
    return f"{_THREADS} threads, {2 * _THREADS * rounds} witnesses: each is of its own bytes"


def last_error(library: Library) -> str:
    region = library.region(bytes([1, 0]))

    def disturb(domain: int) -> bytes | None:
        library.alloc(domain, 6)
        library.generate(None, 96)
        text: bytes | None = library.last_error()
        library.alloc(domain, 1)  # a success
        return text

    with library.domain(region, 5) as domain, _pool(1) as other_thread:
        library.commit(domain)
        before = library.last_error()
        other = other_thread.submit(disturb, domain).result()
        after = library.last_error()
    require(before and other, "atlas_get_last_error() has no text after a refused call")
    require(
        before == after,
        f"the last error of a thread was {before!r}, and after those of another thread {after!r}",
    )
    return "errors and successes of one thread leave the text of another as it is"


def domains(library: Library) -> str:
    regions = [library.region(conserved(noise(WINDOW_BYTES, seed))) for seed in range(_THREADS)]

    def life(seed: int) -> tuple[int, int, bool]:
        with library.domain(regions[seed], seed) as domain:
            code = library.commit(domain)
            holds = library.verify(domain)
            return code, library.drain(domain), holds

    with _pool(_THREADS) as pool:
        for seed, (code, left, holds) in enumerate(pool.map(life, range(_THREADS))):
            require(code == OK and holds, f"domain {seed} of {_THREADS}: commit gives {code}")
            require(left == seed, f"domain {seed} of {_THREADS}: its budget is {left}")
    return f"{_THREADS} domains, each used by its own thread"
