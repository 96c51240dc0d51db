# SPDX-License-Identifier: Apache-2.0
"""`src/binding/driver.c` from Python: threads that run at once, and loops short enough to time.

It is built as `_driver`, a library beside the binding that only this module loads.
"""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_bool, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from functools import cache
from importlib.util import find_spec
from typing import Final

from .._outcome import NotCheckedError
from .library import CallerBytes, Library
from .native import NativeLibrary


class Effort(ctypes.Structure):
    """`atlas_drive_effort_t`: the minimum that each thread must do, and the time limit."""

    _fields_ = (("rounds", c_uint64), ("stalls", c_uint64), ("ns", c_uint64))
    rounds: int
    stalls: int
    ns: int


class BudgetResult(ctypes.Structure):
    """`atlas_drive_budget_result_t`."""

    _fields_ = (
        *((name, c_uint64) for name in ("taken", "given", "refused", "overdrawn")),
        ("enough", c_bool),
    )
    taken: int
    given: int
    refused: int
    overdrawn: int
    enough: bool


class VerdictResult(ctypes.Structure):
    """`atlas_drive_verdict_result_t`."""

    _fields_ = (("wrong", c_uint64), ("enough", c_bool))
    wrong: int
    enough: bool


class WitnessResult(ctypes.Structure):
    """`atlas_drive_witness_result_t`."""

    _fields_ = (
        *((name, c_uint64) for name in ("missing", "refused", "missed")),
        ("enough", c_bool),
    )
    missing: int
    refused: int
    missed: int
    enough: bool


# The fields of `atlas_drive_contract_t`.
_CONTRACT: Final = tuple(
    f"atlas_{name}"
    for name in (
        *("domain_create", "domain_attach", "domain_verify", "budget_alloc", "budget_release"),
        *("domain_commit", "domain_destroy"),
        *("witness_generate", "witness_verify", "witness_destroy"),
    )
)


@cache
def _driver() -> ctypes.CDLL:
    # Find it as Python finds a module; it is a plain shared library that cannot be imported.
    spec = find_spec("atlas12288._driver")
    if spec is None or spec.origin is None:
        raise ImportError("atlas12288._driver, which drives threads, is not installed")
    driver = ctypes.CDLL(spec.origin)
    pointer, size = c_void_p, c_size_t
    driver.atlas_drive_commits.restype = c_bool
    driver.atlas_drive_commits.argtypes = (pointer, pointer, POINTER(c_int), size)
    driver.atlas_drive_budget.restype = c_bool
    driver.atlas_drive_budget.argtypes = (
        *(pointer, pointer, pointer, c_uint8, c_uint32, c_bool, size),
        *(POINTER(Effort), POINTER(BudgetResult)),
    )
    driver.atlas_drive_verdicts.restype = c_bool
    driver.atlas_drive_verdicts.argtypes = (
        *(pointer, POINTER(pointer), POINTER(c_bool), size),
        *(POINTER(Effort), POINTER(VerdictResult)),
    )
    driver.atlas_drive_witnesses.restype = c_bool
    driver.atlas_drive_witnesses.argtypes = (
        *(pointer, pointer, pointer, pointer, size, size),
        *(POINTER(Effort), POINTER(WitnessResult)),
    )
    driver.atlas_drive_lives.restype = c_bool
    driver.atlas_drive_lives.argtypes = (POINTER(pointer), pointer, size, size)
    driver.atlas_drive_copy_ns.restype = c_uint64
    driver.atlas_drive_copy_ns.argtypes = (pointer, pointer, pointer, size, c_uint64)
    driver.atlas_drive_fill_ns.restype = c_uint64
    driver.atlas_drive_fill_ns.argtypes = (pointer, pointer, c_uint8, size, c_uint64)
    return driver


def _require_threads(ran: bool, threads: int) -> None:
    if not ran:
        raise NotCheckedError(f"{threads} threads cannot be started here")


def _pointer(library: Library, name: str) -> int:
    """Return the address of a function; only clauses that need threads or AVX2 call this."""
    assert isinstance(library, NativeLibrary)
    return library.pointer(name)


def commits(library: Library, domain: int | None, threads: int) -> list[int]:
    """Return the code that each thread got from committing the same domain."""
    codes = (c_int * threads)()
    commit = _pointer(library, "atlas_domain_commit")
    library.note(f"atlas_domain_commit in {threads} threads")
    _require_threads(_driver().atlas_drive_commits(commit, domain, codes, threads), threads)
    return list(codes)


def require_enough(result: BudgetResult | VerdictResult | WitnessResult, effort: Effort) -> None:
    """Require that the threads ran long enough for a result without faults to count.

    Raises:
        NotCheckedError: they ran too short.
    """
    if not result.enough:
        raise NotCheckedError(
            f"in {effort.ns / 1e9:g} s not all threads did {effort.rounds} rounds, and one was "
            f"stopped {effort.stalls} times meanwhile: the machine is too busy"
        )


def budget(
    library: Library,
    domain: int,
    amount: int,
    budget: int,
    parted: bool,
    threads: int,
    effort: Effort,
) -> BudgetResult:
    """Run threads that take an amount and give it back.

    Args:
        library: the library to call.
        domain: the domain that has the budget.
        amount: the amount that each thread takes.
        budget: the budget of the domain.
        parted: every second thread only takes, and the others only give back.
        threads: number of threads.
        effort: how long they run.
    """
    result = BudgetResult()
    functions = (_pointer(library, name) for name in ("atlas_budget_alloc", "atlas_budget_release"))
    library.note(f"atlas_budget_alloc and atlas_budget_release in {threads} threads")
    ran = _driver().atlas_drive_budget(
        *functions, domain, amount, budget, parted, threads, effort, result
    )
    _require_threads(ran, threads)
    return result


def verdicts(
    library: Library, domains: Sequence[int], expected: Sequence[bool], effort: Effort
) -> VerdictResult:
    """Run threads that each verify their own domain."""
    threads = len(domains)
    result = VerdictResult()
    handles, verdicts = (c_void_p * threads)(*domains), (c_bool * threads)(*expected)
    verify = _pointer(library, "atlas_domain_verify")
    library.note(f"atlas_domain_verify in {threads} threads")
    ran = _driver().atlas_drive_verdicts(verify, handles, verdicts, threads, effort, result)
    _require_threads(ran, threads)
    return result


def lives(library: Library, region: CallerBytes, threads: int) -> None:
    """Run threads that each use all of the contract once, and end."""
    functions = (c_void_p * len(_CONTRACT))(*(_pointer(library, name) for name in _CONTRACT))
    library.note(f"all functions in {threads} threads")
    ran = _driver().atlas_drive_lives(functions, region.address, region.size, threads)
    _require_threads(ran, threads)


def witnesses(
    library: Library, regions: CallerBytes, threads: int, effort: Effort
) -> WitnessResult:
    """Run threads that make, verify and destroy witnesses of their own part of the regions."""
    result = WitnessResult()
    names = ("atlas_witness_generate", "atlas_witness_verify", "atlas_witness_destroy")
    functions = (_pointer(library, name) for name in names)
    library.note(f"atlas_witness_generate and atlas_witness_verify in {threads} threads")
    ran = _driver().atlas_drive_witnesses(
        *functions, regions.address, regions.size // threads, threads, effort, result
    )
    _require_threads(ran, threads)
    return result


def copy_ns(library: Library, dst: CallerBytes, src: CallerBytes, repeats: int) -> int:
    """Return the nanoseconds of `repeats` conserved copies; 0 if one was refused."""
    copy = _pointer(library, "atlas_conserved_memcpy")
    return int(_driver().atlas_drive_copy_ns(copy, dst.address, src.address, src.size, repeats))


def fill_ns(library: Library, dst: CallerBytes, value: int, repeats: int) -> int:
    """Return the nanoseconds of `repeats` conserved fills; 0 if one was refused."""
    fill = _pointer(library, "atlas_conserved_memset")
    return int(_driver().atlas_drive_fill_ns(fill, dst.address, value, dst.size, repeats))
