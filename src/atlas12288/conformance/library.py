# SPDX-License-Identifier: Apache-2.0
"""A library under test: its functions by name, and memory to give them.

The numbers of the model are written here once more, on purpose: the kit judges the contract's
numbers, not those of the library that it comes with.
"""

import ctypes
import mmap
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ctypes import c_bool, c_char_p, c_int, c_size_t, c_uint8, c_void_p
from dataclasses import dataclass
from typing import Any, Final

from .outcome import MODULUS, BrokenClauseError, NotOfferedError

OK: Final = 0
E_CONSERVATION: Final = 1
E_WITNESS: Final = 2
E_BUDGET: Final = 3
E_MEMORY: Final = 4
E_STATE: Final = 5

_NO_ACCESS: Final = 0  # PROT_NONE, which mmap does not name


@dataclass(frozen=True)
class Prototype:
    """A function: its declaration in the contract, and the same for ctypes."""

    declaration: str
    result: Any
    arguments: tuple[Any, ...] = ()


CONTRACT: Final[Mapping[str, Prototype]] = {
    "atlas_domain_create": Prototype(
        "atlas_domain_t* atlas_domain_create(size_t bytes, uint8_t budget_class);",
        c_void_p,
        (c_size_t, c_uint8),
    ),
    "atlas_domain_attach": Prototype(
        "int atlas_domain_attach(atlas_domain_t* domain, void* base, size_t len);",
        c_int,
        (c_void_p, c_void_p, c_size_t),
    ),
    "atlas_domain_verify": Prototype(
        "bool atlas_domain_verify(const atlas_domain_t* domain);", c_bool, (c_void_p,)
    ),
    "atlas_domain_commit": Prototype(
        "int atlas_domain_commit(atlas_domain_t* domain);", c_int, (c_void_p,)
    ),
    "atlas_domain_destroy": Prototype(
        "void atlas_domain_destroy(atlas_domain_t* domain);", None, (c_void_p,)
    ),
    "atlas_budget_alloc": Prototype(
        "bool atlas_budget_alloc(atlas_domain_t* domain, uint8_t amt);",
        c_bool,
        (c_void_p, c_uint8),
    ),
    "atlas_budget_release": Prototype(
        "bool atlas_budget_release(atlas_domain_t* domain, uint8_t amt);",
        c_bool,
        (c_void_p, c_uint8),
    ),
    "atlas_witness_generate": Prototype(
        "atlas_witness_t* atlas_witness_generate(const void* base, size_t len);",
        c_void_p,
        (c_void_p, c_size_t),
    ),
    "atlas_witness_verify": Prototype(
        "bool atlas_witness_verify(const atlas_witness_t* w, const void* base, size_t len);",
        c_bool,
        (c_void_p, c_void_p, c_size_t),
    ),
    "atlas_witness_destroy": Prototype(
        "void atlas_witness_destroy(atlas_witness_t* w);", None, (c_void_p,)
    ),
    "atlas_conserved_delta": Prototype(
        "uint8_t atlas_conserved_delta(const void* before, const void* after, size_t len);",
        c_uint8,
        (c_void_p, c_void_p, c_size_t),
    ),
    # Of this one the contract gives the name alone.
    "atlas_get_last_error": Prototype("atlas_get_last_error()", c_char_p),
}

# Functions that the contract does not have; used where they are there.
EXTENSIONS: Final[Mapping[str, Prototype]] = {
    "atlas_get_last_error_code": Prototype("", c_int),
    "atlas_witness_digest": Prototype("", c_void_p, (c_void_p,)),
    "atlas_witness_timestamp_ns": Prototype("", ctypes.c_uint64, (c_void_p,)),
    "atlas_domain_witness": Prototype("", c_void_p, (c_void_p,)),
    "atlas_conserved_memcpy": Prototype("", c_int, (c_void_p, c_void_p, c_size_t)),
    "atlas_conserved_memset": Prototype("", c_int, (c_void_p, c_uint8, c_size_t)),
    "atlas.conserved.delta": Prototype("", c_uint8, (c_void_p, c_void_p, ctypes.c_uint64)),
    "atlas.conserved.window.check": Prototype("", c_uint8, (c_void_p, ctypes.c_uint64)),
    "atlas.conserved.update": Prototype("", None, (c_void_p, c_void_p, ctypes.c_uint64)),
}


class Library:
    """A loaded library.

    Args:
        path: of the shared library.
        note: called with what is being done before each call, so that a crash can be placed.

    Raises:
        OSError: it cannot be loaded.
    """

    def __init__(self, path: str, note: Callable[[str], None]) -> None:
        self._library = ctypes.CDLL(path)
        self._note = note
        self._circumstances = ""
        self.create = self._function("atlas_domain_create")
        self.attach = self._function("atlas_domain_attach")
        self.verify = self._function("atlas_domain_verify")
        self.commit = self._function("atlas_domain_commit")
        self.destroy = self._function("atlas_domain_destroy")
        self.alloc = self._function("atlas_budget_alloc")
        self.release = self._function("atlas_budget_release")
        self.generate = self._function("atlas_witness_generate")
        self.matches = self._function("atlas_witness_verify")
        self.forget = self._function("atlas_witness_destroy")
        self.delta = self._function("atlas_conserved_delta")
        self.last_error = self._function("atlas_get_last_error")

    def note(self, text: str) -> None:
        """Says what comes next, where it is not a call through this object."""
        self._note(text)

    def under(self, circumstances: str) -> None:
        """Says under which circumstances the next calls are made, where a name is not enough."""
        self._circumstances = circumstances

    def offers(self, name: str) -> bool:
        """Does the library export this name?"""
        return hasattr(self._library, name)

    def pointer(self, name: str) -> int:
        """The address of a function, for the driver in C.

        Raises:
            BrokenClauseError: the library does not export it.
        """
        prototype = CONTRACT.get(name) or EXTENSIONS[name]
        return ctypes.cast(self._symbol(name, prototype), c_void_p).value or 0

    def extension(self, name: str) -> Callable[..., Any]:
        """A function that the contract does not have.

        Raises:
            NotOfferedError: the library does not have it either.
        """
        if not self.offers(name):
            raise NotOfferedError(f"{name} is not exported")
        symbol = self._symbol(name, EXTENSIONS[name])
        return self._noted(name, symbol)

    def _symbol(self, name: str, prototype: Prototype) -> Any:
        try:
            symbol = self._library[name]
        except AttributeError:
            raise BrokenClauseError(f"{name} is not exported") from None
        symbol.restype = prototype.result
        symbol.argtypes = prototype.arguments
        return symbol

    def _function(self, name: str) -> Callable[..., Any]:
        try:
            return self._noted(name, self._symbol(name, CONTRACT[name]))
        except BrokenClauseError as error:
            evidence = str(error)

        def missing(*_: object) -> Any:
            raise BrokenClauseError(evidence)

        return missing

    def _noted(self, name: str, symbol: Any) -> Callable[..., Any]:
        def call(*arguments: object) -> Any:
            self._note(name + self._circumstances)
            return symbol(*arguments)

        return call

    # --- Shorthands ---

    @contextmanager
    def domain(self, region: "Region", budget: int = 0) -> Iterator[int]:
        """A domain with the region attached; destroyed at the end.

        Raises:
            BrokenClauseError: it cannot be made.
        """
        domain = self.new_domain(region.size, budget)
        code = self.attach(domain, region.address, region.size)
        if code != OK:
            raise BrokenClauseError(
                f"atlas_domain_attach of {region.size} bytes gives {code}, must give 0"
            )
        yield domain
        self.destroy(domain)

    def new_domain(self, size: int, budget: int) -> int:
        """A domain with nothing attached, for the caller to destroy.

        Raises:
            BrokenClauseError: the library gives NULL.
        """
        domain: int | None = self.create(size, budget)
        if domain is None:
            raise BrokenClauseError(
                f"atlas_domain_create({size}, {budget}) gives NULL, must give a domain"
            )
        return domain

    def witness(self, region: "Region") -> int:
        """The witness of a region, for the caller to destroy.

        Raises:
            BrokenClauseError: the library gives NULL.
        """
        witness: int | None = self.generate(region.address, region.size)
        if witness is None:
            raise BrokenClauseError(f"atlas_witness_generate of {region.size} bytes gives NULL")
        return witness

    def drain(self, domain: int) -> int:
        """The budget of a domain, found by taking all of it: only `alloc` can tell.

        Raises:
            BrokenClauseError: more than 127 can be taken.
        """
        taken = 0
        for amount in (64, 32, 16, 8, 4, 2, 1):  # each at most once: any budget up to 127
            if self.alloc(domain, amount):
                taken += amount
        if self.alloc(domain, 1):
            raise BrokenClauseError(
                f"{taken + 1} was taken from one budget, which must be in 0..95"
            )
        return taken


class Region:
    """Bytes of the caller: pages of their own, that no allocator knows.

    Args:
        content: the bytes, or how many zeros.
        offset: where in its first page it begins.
        at_end: it ends at the end of a page instead, and the next page cannot be read.
    """

    def __init__(self, content: bytes | int, offset: int = 0, at_end: bool = False) -> None:
        self.size = content if isinstance(content, int) else len(content)
        pages = -(-(offset + self.size) // mmap.PAGESIZE) + at_end
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._map = mmap.mmap(-1, max(pages, 1) * mmap.PAGESIZE, flags=flags)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        if at_end:
            offset = (pages - 1) * mmap.PAGESIZE - self.size
            _protect(start + offset + self.size, mmap.PAGESIZE, _NO_ACCESS)
        self._start = start
        self.address = start + offset
        self.bytes = memoryview(self._map)[offset : offset + self.size]
        if isinstance(content, bytes):
            self.bytes[:] = content

    def make_read_only(self) -> None:
        """From now on a write to it is a crash."""
        end = self.address + self.size
        _protect(self._start, end - self._start, mmap.PROT_READ)

    def make_unreadable(self) -> None:
        """From now on any access to it is a crash, as after munmap; the pages stay taken."""
        end = self.address + self.size
        _protect(self._start, end - self._start, _NO_ACCESS)

    def residue(self) -> int:
        """Sum of the bytes mod 96, by Python."""
        return sum(self.bytes) % MODULUS


def _protect(address: int, size: int, protection: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(c_void_p(address), c_size_t(size), c_int(protection)) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def noise(size: int, seed: int = 0) -> bytes:
    """The same random bytes in every run."""
    return random.Random(f"{size} {seed}").randbytes(size)


def conserved(data: bytes) -> bytes:
    """The same bytes but for the last one, which makes them conserved."""
    others = sum(data[:-1]) % MODULUS
    return data[:-1] + bytes([(MODULUS - others) % MODULUS])
