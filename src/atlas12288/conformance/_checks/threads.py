# SPDX-License-Identifier: Apache-2.0
"""Checks with threads: budgets, commits, witnesses and the last error, used concurrently."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Final

from .._numbers import MODULUS, WINDOW_BYTES
from .._outcome import NotCheckedError, require
from .._subjects import driver
from .._subjects.library import E_STATE, OK, Library, conserved, noise

_THREADS: Final = 8
# 16 stalls revealed a race on a budget in at least 19 of 20 runs. The time is for busy machines.
_EFFORT: Final = driver.Effort(rounds=50, stalls=40, ns=8_000_000_000)
_VERIFYING: Final = driver.Effort(rounds=50, stalls=200, ns=15_000_000_000)
_HASHING: Final = driver.Effort(rounds=50, stalls=40, ns=15_000_000_000)


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of Python threads.

    Raises:
        NotCheckedError: they cannot be started.
    """
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield pool
        except RuntimeError as error:  # only submit() raises it here
            raise NotCheckedError(f"{threads} threads cannot be started here: {error}") from error


def budget(library: Library) -> str:
    taken = given = 0
    # Contended until empty, with enough for all threads, and wrapping around.
    for start, amount, parted in (
        *((95, 40, False), (95, 1, False), (1, 1, False)),
        (50, 47, True),
    ):
        domain = library.new_domain(96, start)
        result = driver.budget(library, domain, amount, start, parted, _THREADS, _EFFORT)
        what = f"{_THREADS} threads that take {amount} from a budget of {start} and give it back"
        if parted:
            what = f"{_THREADS} threads that take {amount} from a budget of {start} or give it back"
        require(
            result.overdrawn == 0,
            f"{what}: {result.overdrawn} times, more than {start} was taken at once",
        )
        require(result.refused == 0, f"{what}: {result.refused} releases failed")
        if result.taken == 0:  # other rows judge this
            raise NotCheckedError(f"{what}: none was given it")
        left = library.drain(domain)
        expected = (start + amount * (result.given - result.taken)) % MODULUS
        require(
            left == expected,
            f"{what}: {left} is left after taking it {result.taken} times and giving it back "
            f"{result.given} times, must be {expected}",
        )
        driver.require_enough(result, _EFFORT)
        library.destroy(domain)
        taken += result.taken
        given += result.given
    return (
        f"{_THREADS} threads, {taken} amounts taken and {given} given back: none lost or overdrawn"
    )


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
                "get ATLAS_OK, must be 1",
            )
            require(
                codes.count(E_STATE) == _THREADS - 1,
                f"{_THREADS} threads commit one domain: the codes are {codes}, must be 0 once and "
                f"{E_STATE} for all others",
            )
            library.destroy(domain)
    return (
        f"{sum(races.values())} races of {_THREADS} threads to commit a domain: exactly one gets 0"
    )


def witness(library: Library) -> str:
    sizes = (96, WINDOW_BYTES)
    for size in sizes:
        regions = library.region(noise(_THREADS * size))
        result = driver.witnesses(library, regions, _THREADS, _HASHING)
        what = f"{_THREADS} threads that witness {size} bytes of their own"
        require(result.missing == 0, f"{what}: {result.missing} were NULL")
        require(result.refused == 0, f"{what}: {result.refused} did not match these bytes")
        require(result.missed == 0, f"{what}: {result.missed} matched bytes of another thread")
        driver.require_enough(result, _HASHING)
    count = len(sizes) * _THREADS * _HASHING.rounds
    return f"{_THREADS} threads, at least {count} witnesses: each matches only its own bytes"


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
        f"the last error of a thread was {before!r}, and {after!r} after errors of another thread",
    )
    return "errors and successes in one thread do not change the text of another"


def domains(library: Library) -> str:
    regions = [library.region(conserved(noise(WINDOW_BYTES, seed))) for seed in range(_THREADS)]

    def life(seed: int) -> tuple[int, int]:
        with library.domain(regions[seed], seed) as domain:
            left = library.drain(domain)
            return library.commit(domain), left

    with _pool(_THREADS) as pool:
        for seed, (code, left) in enumerate(pool.map(life, range(_THREADS))):
            require(code == OK, f"domain {seed} of {_THREADS}: commit gives {code}, must give 0")
            require(
                left == seed, f"domain {seed} of {_THREADS}: its budget is {left}, must be {seed}"
            )

    expected = [seed % 2 == 0 for seed in range(_THREADS)]
    # Few bytes catch a variable that is shared briefly, many bytes one that is shared for longer.
    for size in (96, WINDOW_BYTES):
        regions = [library.region(conserved(noise(size, seed))) for seed in range(_THREADS)]
        for region, holds in zip(regions, expected, strict=True):
            region.bytes[0] ^= 0 if holds else 1
        with ExitStack() as opened:
            opened_domains = [opened.enter_context(library.domain(region)) for region in regions]
            result = driver.verdicts(library, opened_domains, expected, _VERIFYING)
        require(
            result.wrong == 0,
            f"{_THREADS} threads verify a domain of {size} bytes each, every second one conserved: "
            f"{result.wrong} verdicts belong to another domain",
        )
        driver.require_enough(result, _VERIFYING)
    return (
        f"{_THREADS} domains, each used and verified repeatedly by its own thread, do not interfere"
    )
