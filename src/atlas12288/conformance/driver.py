# SPDX-License-Identifier: Apache-2.0
"""`src/binding/driver.c` from Python: threads that run at once, and loops short enough to time."""

import ctypes
from ctypes import POINTER, c_bool, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from functools import cache

from .. import _native
from .library import Library, Region
from .native import NativeLibrary
from .outcome import NotCheckedError


class BudgetResult(ctypes.Structure):
    """`atlas_drive_budget_result_t`."""

    _fields_ = (("taken", c_uint64), ("refused", c_uint64), ("overdrawn", c_uint64))
    taken: int
    refused: int
    overdrawn: int


class WitnessResult(ctypes.Structure):
    """`atlas_drive_witness_result_t`."""

    _fields_ = (("missing", c_uint64), ("refused", c_uint64), ("missed", c_uint64))
    missing: int
    refused: int
    missed: int


@cache
def _driver() -> ctypes.CDLL:
    driver = ctypes.CDLL(_native.__file__)
    pointer, size = c_void_p, c_size_t
    driver.atlas_drive_commits.restype = c_bool
    driver.atlas_drive_commits.argtypes = (pointer, pointer, POINTER(c_int), size)
    driver.atlas_drive_budget.restype = c_bool
    driver.atlas_drive_budget.argtypes = (
        *(pointer, pointer, pointer, c_uint8, c_uint32, size, c_uint64),
        POINTER(BudgetResult),
    )
    driver.atlas_drive_witnesses.restype = c_bool
    driver.atlas_drive_witnesses.argtypes = (
        *(pointer, pointer, pointer, pointer, size, size, c_uint64),
        POINTER(WitnessResult),
    )
    driver.atlas_drive_copy_ns.restype = c_uint64
    driver.atlas_drive_copy_ns.argtypes = (pointer, pointer, pointer, size, c_uint64)
    driver.atlas_drive_fill_ns.restype = c_uint64
    driver.atlas_drive_fill_ns.argtypes = (pointer, pointer, c_uint8, size, c_uint64)
    return driver


def _require_threads(ran: bool, threads: int) -> None:
    if not ran:
        raise NotCheckedError(f"{threads} threads cannot be started here")


def _pointer(library: Library, name: str) -> int:
    """The address of a function. Only clauses that need threads or AVX2 come here."""
    assert isinstance(library, NativeLibrary)
    return library.pointer(name)


def commits(library: Library, domain: int | None, threads: int) -> list[int]:
    """What each of the threads was given for one commit of the domain."""
    codes = (c_int * threads)()
    commit = _pointer(library, "atlas_domain_commit")
    library.note(f"atlas_domain_commit in {threads} threads")
    _require_threads(_driver().atlas_drive_commits(commit, domain, codes, threads), threads)
    return list(codes)


def budget(
    library: Library, domain: int, amount: int, budget: int, threads: int, ns: int
) -> BudgetResult:
    """Threads that for `ns` take an amount and give it back; `budget` is what the domain holds."""
    result = BudgetResult()
    functions = (_pointer(library, name) for name in ("atlas_budget_alloc", "atlas_budget_release"))
    library.note(f"atlas_budget_alloc and atlas_budget_release in {threads} threads")
    ran = _driver().atlas_drive_budget(*functions, domain, amount, budget, threads, ns, result)
    _require_threads(ran, threads)
    return result


def witnesses(library: Library, regions: Region, threads: int, rounds: int) -> WitnessResult:
    """Threads that make, verify and destroy witnesses, each of its part of the regions."""
    result = WitnessResult()
    names = ("atlas_witness_generate", "atlas_witness_verify", "atlas_witness_destroy")
    functions = (_pointer(library, name) for name in names)
    library.note(f"atlas_witness_generate and atlas_witness_verify in {threads} threads")
    ran = _driver().atlas_drive_witnesses(
        *functions, regions.address, regions.size // threads, threads, rounds, result
    )
    _require_threads(ran, threads)
    return result


def copy_ns(library: Library, dst: Region, src: Region, repeats: int) -> int:
    """Nanoseconds of `repeats` conserved copies; 0 when one was refused."""
    copy = _pointer(library, "atlas_conserved_memcpy")
    return int(_driver().atlas_drive_copy_ns(copy, dst.address, src.address, src.size, repeats))


def fill_ns(library: Library, dst: Region, value: int, repeats: int) -> int:
    """Nanoseconds of `repeats` conserved fills; 0 when one was refused."""
    fill = _pointer(library, "atlas_conserved_memset")
    return int(_driver().atlas_drive_fill_ns(fill, dst.address, value, dst.size, repeats))
