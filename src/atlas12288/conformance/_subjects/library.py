# SPDX-License-Identifier: Apache-2.0
"""What is under test: its functions by name, and memory to give them.

A clause speaks to `Library` and `Region` alone, so that it is written once; `native` and `wasm` say
what these are for a shared library and for a WebAssembly module. The numbers of the model are
written here once more, on purpose: the kit judges the contract's numbers, not those of the library
that it comes with.
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
    # Of this one the contract gives the name alone.
    "atlas_get_last_error": Prototype("atlas_get_last_error()", CType.TEXT),
}

# Functions that the contract does not have; used where they are there.
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
    """What a clause is about that not every build of the contract has."""

    THREADS = "threads"
    AVX2 = "AVX2"
    DETAILED_ERRORS = "detailed errors"


@dataclass(frozen=True)
class Gauge:
    """Memory in use.

    Args:
        read: bytes in use now.
        least: growth below is noise,
        least_a_round: as is growth below so many bytes for each round of work.
    """

    read: Callable[[], int]
    least: int
    least_a_round: int = 0


class Library(ABC):
    """A loaded library. An address is an integer, as its functions take and give it.

    Args:
        note: called with what is being done before each call, so that a crash can be placed.
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
        """Says what comes next, where it is not a call through this object."""
        self._note(text)

    def under(self, circumstances: str) -> None:
        """Says under which circumstances the next calls are made, where a name is not enough."""
        self._circumstances = circumstances

    # --- What a kind of library must say ---

    @abstractmethod
    def offers(self, name: str) -> bool:
        """Does the library export a function of this name?"""

    @abstractmethod
    def symbol(self, name: str) -> Callable[..., Any]:
        """A function of `CONTRACT` or `EXTENSIONS`.

        Raises:
            BrokenClauseError: it is not exported, or visibly has another type.
        """

    @abstractmethod
    def region(self, content: bytes | int, offset: int = 0, at_end: bool = False) -> "Region":
        """Bytes of the caller that no allocator knows.

        Args:
            content: the bytes, or how many zeros.
            offset: how far behind the beginning of a page it begins.
            at_end: it ends at the end of memory that can be read instead.
        """

    @abstractmethod
    def read(self, address: int, size: int) -> bytes:
        """A copy of bytes that the library has memory for."""

    @abstractmethod
    def write(self, address: int, data: bytes) -> None:
        """Copies bytes to where the library has memory for them."""

    @abstractmethod
    def allocate(self, size: int) -> int:
        """The address of memory of malloc().

        Raises:
            NotOfferedError: the library has none, and this process has no other.
            NotCheckedError: the kit cannot get such memory.
        """

    @abstractmethod
    def without_memory(self) -> AbstractContextManager[None]:
        """In this context the library cannot get more memory than it has.

        Raises:
            NotCheckedError: memory cannot be limited here.
        """

    @abstractmethod
    def gauges(self) -> Sequence[Gauge]:
        """What shows that memory is lost; at least one. The first call may prepare for it."""

    # --- Functions ---

    def extension(self, name: str) -> Callable[..., Any]:
        """A function that the contract does not have.

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

    def refused(self, code: int, what: str) -> str:
        """Evidence that the last call was refused with a code, as far as the library can tell.

        Args:
            code: the code that it must have left.
            what: what was refused.

        Raises:
            BrokenClauseError: it left another code, or no text.
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


class Region(ABC):
    """Bytes of the caller, at an address of the library's memory."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size

    @abstractmethod
    def read_only(self) -> AbstractContextManager[None]:
        """In this context a write to it, and a read behind one `at_end`, does not go unseen."""

    @abstractmethod
    def take_away(self) -> None:
        """From now on it is no memory of the caller: nothing finds its bytes there."""

    def fill(self, value: int) -> None:
        """Makes each byte `value`."""
        self.bytes[:] = bytes([value]) * self.size

    def residue(self) -> int:
        """Sum of the bytes mod 96, by Python."""
        return sum(self.bytes) % MODULUS

    @property
    @abstractmethod
    def bytes(self) -> memoryview:
        """The bytes, to read and write; a view is good until the next call of the library."""


def noise(size: int, seed: int = 0) -> bytes:
    """The same random bytes in every run."""
    return random.Random(f"{size} {seed}").randbytes(size)


def conserved(data: bytes) -> bytes:
    """The same bytes but for the last one, which makes them conserved."""
    others = sum(data[:-1]) % MODULUS
    return data[:-1] + bytes([(MODULUS - others) % MODULUS])
