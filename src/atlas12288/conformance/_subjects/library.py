# SPDX-License-Identifier: Apache-2.0
"""The library under test: its functions by name, and memory to pass to them.

A clause uses only `Library` and `CallerBytes`, so that it is written once; `native` and `wasm`
implement them for a shared library and for a WebAssembly module. The numbers of the model are
written here once more, on purpose: the kit judges by the contract's numbers, not by the numbers of
the library that it comes with.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from .._numbers import MODULUS
from .._outcome import BrokenClauseError, NotOfferedError

OK: Final = 0
E_CONSERVATION: Final = 1
E_WITNESS: Final = 2
E_BUDGET: Final = 3
E_MEMORY: Final = 4
E_STATE: Final = 5

Note = Callable[[str], None]


class CType(Enum):
    """The types of the contract's functions."""

    BOOL = "bool"
    INT = "int"
    POINTER = "void*"
    SIZE = "size_t"
    TEXT = "const char*"
    UINT8 = "uint8_t"
    UINT64 = "uint64_t"


@dataclass(frozen=True)
class Prototype:
    """A function: its declaration in the contract, and the same as data; no result is void."""

    declaration: str
    result: CType | None
    arguments: tuple[CType, ...] = ()


CONTRACT: Final[Mapping[str, Prototype]] = {
    "atlas_domain_create": Prototype(
        "atlas_domain_t* atlas_domain_create(size_t bytes, uint8_t budget_class);",
        CType.POINTER,
        (CType.SIZE, CType.UINT8),
    ),
    "atlas_domain_attach": Prototype(
        "int atlas_domain_attach(atlas_domain_t* domain, void* base, size_t len);",
        CType.INT,
        (CType.POINTER, CType.POINTER, CType.SIZE),
    ),
    "atlas_domain_verify": Prototype(
        "bool atlas_domain_verify(const atlas_domain_t* domain);", CType.BOOL, (CType.POINTER,)
    ),
    "atlas_domain_commit": Prototype(
        "int atlas_domain_commit(atlas_domain_t* domain);", CType.INT, (CType.POINTER,)
    ),
    "atlas_domain_destroy": Prototype(
        "void atlas_domain_destroy(atlas_domain_t* domain);", None, (CType.POINTER,)
    ),
    "atlas_budget_alloc": Prototype(
        "bool atlas_budget_alloc(atlas_domain_t* domain, uint8_t amt);",
        CType.BOOL,
        (CType.POINTER, CType.UINT8),
    ),
    "atlas_budget_release": Prototype(
        "bool atlas_budget_release(atlas_domain_t* domain, uint8_t amt);",
        CType.BOOL,
        (CType.POINTER, CType.UINT8),
    ),
    "atlas_witness_generate": Prototype(
        "atlas_witness_t* atlas_witness_generate(const void* base, size_t len);",
        CType.POINTER,
        (CType.POINTER, CType.SIZE),
    ),
    "atlas_witness_verify": Prototype(
        "bool atlas_witness_verify(const atlas_witness_t* w, const void* base, size_t len);",
        CType.BOOL,
        (CType.POINTER, CType.POINTER, CType.SIZE),
    ),
    "atlas_witness_destroy": Prototype(
        "void atlas_witness_destroy(atlas_witness_t* w);", None, (CType.POINTER,)
    ),
    "atlas_conserved_delta": Prototype(
        "uint8_t atlas_conserved_delta(const void* before, const void* after, size_t len);",
        CType.UINT8,
        (CType.POINTER, CType.POINTER, CType.SIZE),
    ),
    # The contract only gives the name of this function.
    "atlas_get_last_error": Prototype("atlas_get_last_error()", CType.TEXT),
}

# Functions that are not in the contract; used if the library exports them.
EXTENSIONS: Final[Mapping[str, Prototype]] = {
    "atlas_get_last_error_code": Prototype("", CType.INT),
    "atlas_witness_digest": Prototype("", CType.POINTER, (CType.POINTER,)),
    "atlas_witness_timestamp_ns": Prototype("", CType.UINT64, (CType.POINTER,)),
    "atlas_domain_witness": Prototype("", CType.POINTER, (CType.POINTER,)),
    "atlas_conserved_memcpy": Prototype("", CType.INT, (CType.POINTER, CType.POINTER, CType.SIZE)),
    "atlas_conserved_memset": Prototype("", CType.INT, (CType.POINTER, CType.UINT8, CType.SIZE)),
    "atlas.conserved.delta": Prototype(
        "", CType.UINT8, (CType.POINTER, CType.POINTER, CType.UINT64)
    ),
    "atlas.conserved.window.check": Prototype("", CType.UINT8, (CType.POINTER, CType.UINT64)),
    "atlas.conserved.update": Prototype("", None, (CType.POINTER, CType.POINTER, CType.UINT64)),
}
PROTOTYPES: Final[Mapping[str, Prototype]] = {**CONTRACT, **EXTENSIONS}


class Need(Enum):
    """A feature that some clauses need and not every build has."""

    THREADS = "threads"
    AVX2 = "AVX2"
    DETAILED_ERRORS = "detailed errors"


@dataclass(frozen=True)
class Gauge:
    """Memory in use.

    Args:
        read: bytes in use now.
        least: growth below this is noise.
        least_a_round: growth below this many bytes per round of work is noise too.
    """

    read: Callable[[], int]
    least: int
    least_a_round: int = 0


class Library(ABC):
    """A loaded library. An address is an integer, as its functions take and give it.

    Args:
        note: called with a description before each call, so that a crash can be located.
    """

    def __init__(self, note: Note) -> None:
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
        """Describe the next step, if it is not a call through this object."""
        self._note(text)

    def under(self, circumstances: str) -> None:
        """Add the circumstances of the next calls to their description."""
        self._circumstances = circumstances

    # --- What each kind of library implements ---

    @abstractmethod
    def offers(self, name: str) -> bool:
        """Return whether the library exports a function with this name."""

    @abstractmethod
    def symbol(self, name: str) -> Callable[..., Any]:
        """Return a function of `CONTRACT` or `EXTENSIONS`.

        Raises:
            BrokenClauseError: the function is not exported, or has a different type.
        """

    @abstractmethod
    def region(self, content: bytes | int, offset: int = 0, at_end: bool = False) -> "CallerBytes":
        """Return a region of memory outside any allocator.

        Args:
            content: the bytes, or a number of zeros.
            offset: start of the region, in bytes after the start of a page.
            at_end: end the region where readable memory ends instead.
        """

    @abstractmethod
    def read(self, address: int, size: int) -> bytes:
        """Return a copy of bytes in the library's memory."""

    @abstractmethod
    def write(self, address: int, data: bytes) -> None:
        """Copy bytes into the library's memory."""

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Return the address of memory from malloc().

        Raises:
            NotOfferedError: neither the library nor this process has a malloc().
            NotCheckedError: the kit cannot get such memory.
        """

    @abstractmethod
    def without_memory(self) -> AbstractContextManager[None]:
        """Return a context in which the library cannot get more memory.

        Raises:
            NotCheckedError: memory cannot be limited here.
        """

    @abstractmethod
    def gauges(self) -> Sequence[Gauge]:
        """Return at least one gauge that shows leaks. The first call may prepare for it."""

    # --- Functions ---

    def extension(self, name: str) -> Callable[..., Any]:
        """Return a function that the contract does not have.

        Raises:
            NotOfferedError: the library does not have it either.
        """
        if not self.offers(name):
            raise NotOfferedError(f"{name} is not exported")
        return self._noted(name, self.symbol(name))

    def _function(self, name: str) -> Callable[..., Any]:
        try:
            return self._noted(name, self.symbol(name))
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
    def domain(self, region: "CallerBytes", budget: int = 0) -> Iterator[int]:
        """Yield a domain with the region attached; it is destroyed at the end.

        Raises:
            BrokenClauseError: the domain cannot be created or attached.
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
        """Return a domain with nothing attached, for the caller to destroy.

        Raises:
            BrokenClauseError: the library gives NULL.
        """
        domain: int | None = self.create(size, budget)
        if domain is None:
            raise BrokenClauseError(
                f"atlas_domain_create({size}, {budget}) gives NULL, must give a domain"
            )
        return domain

    def witness(self, region: "CallerBytes") -> int:
        """Return the witness of a region, for the caller to destroy.

        Raises:
            BrokenClauseError: the library gives NULL.
        """
        witness: int | None = self.generate(region.address, region.size)
        if witness is None:
            raise BrokenClauseError(f"atlas_witness_generate of {region.size} bytes gives NULL")
        return witness

    def refused(self, code: int, what: str) -> str:
        """Return evidence that the last call was refused with a code, if the library can tell.

        Args:
            code: the error code that is expected.
            what: describes the refused call.

        Raises:
            BrokenClauseError: there is another code, or no error text.
        """
        name = "atlas_get_last_error_code"
        if self.offers(name):
            found = self.extension(name)()
            if found != code:
                raise BrokenClauseError(f"after {what} the code is {found}, must be {code}")
            return f"after {what} the code is {code}"
        if not self.last_error():
            raise BrokenClauseError(f"after {what} atlas_get_last_error() has no text")
        return f"after {what} there is a text; no function of the contract gives the code"

    def drain(self, domain: int) -> int:
        """Return the budget of a domain by taking all of it, because only `alloc` shows it.

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


class CallerBytes(ABC):
    """A region of the caller, at an address in the library's memory."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size

    @abstractmethod
    def read_only(self) -> AbstractContextManager[None]:
        """Return a context that detects writes to it, and reads past the end of one `at_end`."""

    @abstractmethod
    def take_away(self) -> None:
        """Make the bytes unavailable, as if the caller had freed them."""

    def fill(self, value: int) -> None:
        """Set each byte to `value`."""
        self.bytes[:] = bytes([value]) * self.size

    def residue(self) -> int:
        """Return the sum of the bytes mod 96, computed by Python."""
        return sum(self.bytes) % MODULUS

    @property
    @abstractmethod
    def bytes(self) -> memoryview:
        """The bytes, to read and write; a view is valid until the next call of the library."""


def noise(size: int, seed: int = 0) -> bytes:
    """Return random bytes, the same ones in every run."""
    return random.Random(f"{size} {seed}").randbytes(size)


def conserved(data: bytes) -> bytes:
    """Return the bytes with the last one changed so that they are conserved."""
    others = sum(data[:-1]) % MODULUS
    return data[:-1] + bytes([(MODULUS - others) % MODULUS])
