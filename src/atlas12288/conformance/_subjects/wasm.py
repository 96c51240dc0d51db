# SPDX-License-Identifier: Apache-2.0
"""A WebAssembly module under test: an instance under wasmtime, and its linear memory.

A module has one thread, 32-bit addresses, and memory that can be read and written from 0 to its
end: a NULL pointer is an address like any other.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import wasmtime

from .._outcome import BrokenClauseError, NotCheckedError, NotOfferedError
from .library import PROTOTYPES, CallerBytes, CType, Gauge, Library, Need, Note, Prototype

LACKS: Final[Mapping[Need, str]] = {
    Need.THREADS: "an instance of a WebAssembly module has one thread",
    Need.DETAILED_ERRORS: "the contract lets WebAssembly have simplified error handling",
    Need.AVX2: "the contract states it for AVX2, which WebAssembly does not have",
}
WASM_PAGE_BYTES: Final = 2**16
_ALIGNMENT: Final = 4096  # of regions: the page size of most systems
_ALLOCATORS: Final = ("malloc", "atlas_host_alloc")  # the second one is from js/wasm/host.c
_CLOCK: Final = ("atlas", "now_ns")  # the only import of this project's modules
_WASI: Final = "wasi_snapshot_preview1"

# Conversions of results from wasmtime, which returns signed integers, by C type.
_RESULTS: Final[Mapping[CType, Callable[[int], object]]] = {
    CType.BOOL: lambda value: value & 0xFF != 0,
    CType.INT: lambda value: value,
    CType.POINTER: lambda value: value & (2**32 - 1) or None,
    CType.SIZE: lambda value: value & (2**32 - 1),
    CType.TEXT: lambda value: value & (2**32 - 1) or None,
    CType.UINT8: lambda value: value & 0xFF,
    CType.UINT64: lambda value: value & (2**64 - 1),
}


def _reason(error: Exception) -> str:
    """Return the reason that wasmtime gives at the end of an error's text, after the backtrace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    number, colon, cause = last.partition(": ")
    return cause if colon and number.isdecimal() else last


def _type(types: Sequence[object]) -> str:
    return f"({', '.join(map(str, types))})"


def _prototype_type(prototype: Prototype) -> str:
    """Return the WebAssembly type, by the C ABI for wasm32."""

    def value(kind: CType) -> str:
        return "i64" if kind is CType.UINT64 else "i32"

    results = [] if prototype.result is None else [value(prototype.result)]
    return f"{_type(list(map(value, prototype.arguments)))} -> {_type(results)}"


class Compiled:
    """A module, compiled once for all instances.

    Args:
        code: the bytes of the file.

    Raises:
        OSError: the file is not a module that can be judged.
    """

    def __init__(self, code: bytes) -> None:
        config = wasmtime.Config()
        config.parallel_compilation = False  # its threads would not survive a fork
        self.engine = wasmtime.Engine(config)
        try:
            self.module = wasmtime.Module(self.engine, code)
        except wasmtime.WasmtimeError as error:
            raise OSError(
                f"is not a WebAssembly module that wasmtime takes: {_reason(error)}"
            ) from error
        for imported in self.module.imports:
            place = imported.module, imported.name
            if place != _CLOCK and imported.module != _WASI:
                known = f"must import only {'.'.join(_CLOCK)} and functions of {_WASI}"
                raise OSError(f"imports {imported.module}.{imported.name}, {known}")

    def open(self, note: Note) -> "WasmModule":
        """Return an instance of the module.

        Raises:
            OSError: it cannot be instantiated, or has no usable memory.
        """
        return WasmModule(self, note)


class WasmModule(Library):
    """An instance of a module. Arguments and errors: as for `Compiled.open`."""

    def __init__(self, compiled: Compiled, note: Note) -> None:
        self._doing = "its start"
        self._store = wasmtime.Store(compiled.engine)
        self._store.set_wasi(wasmtime.WasiConfig())  # no files, no arguments, no environment
        linker = wasmtime.Linker(compiled.engine)
        linker.define_wasi()
        clock = wasmtime.FuncType([], [wasmtime.ValType.i64()])
        linker.define_func(*_CLOCK, clock, time.time_ns)
        try:
            instance = linker.instantiate(self._store, compiled.module)
            self._exports = instance.exports(self._store)
            initialize = self._exports.get("_initialize")
            if isinstance(initialize, wasmtime.Func):
                initialize(self._store)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            raise OSError(f"cannot be started: {_reason(error)}") from error
        memory = self._exports.get("memory")
        if not isinstance(memory, wasmtime.Memory):
            raise OSError("exports no memory named 'memory'")
        if memory.type(self._store).is_64:
            raise OSError("its memory has 64-bit addresses, must be 32")
        self._memory = memory
        self._next = self._limit = 0  # the unused rest of the memory from `_grow`
        super().__init__(self._heard(note))

    def _heard(self, note: Note) -> Note:
        """Return a note function that also keeps the note, to report where a trap was."""

        def heard(text: str) -> None:
            self._doing = text
            note(text)

        return heard

    # --- Functions ---

    def offers(self, name: str) -> bool:
        return isinstance(self._exports.get(name), wasmtime.Func)

    def symbol(self, name: str) -> Callable[..., Any]:
        function = self._exports.get(name)
        if not isinstance(function, wasmtime.Func):
            raise BrokenClauseError(f"{name} is not exported")
        prototype = PROTOTYPES[name]
        kind = function.type(self._store)
        found, expected = (
            f"{_type(kind.params)} -> {_type(kind.results)}",
            _prototype_type(prototype),
        )
        if found != expected:
            raise BrokenClauseError(f"{name} has the type {found}, must have {expected}")
        return partial(self._call, function, prototype.result)

    def _call(self, function: wasmtime.Func, result: CType | None, *arguments: int | None) -> Any:
        try:
            found = function(self._store, *(argument or 0 for argument in arguments))
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            raise BrokenClauseError(f"trapped in {self._doing}: {_reason(error)}") from error
        if result is None:
            return None
        value = _RESULTS[result](found)
        return self._text(value) if result is CType.TEXT and isinstance(value, int) else value

    def _text(self, address: int) -> bytes:
        """Return the C string at an address."""
        memory = self._view(address, max(self.memory_bytes() - address, 0))
        return bytes(memory).partition(b"\0")[0]

    # --- Memory ---

    def memory_bytes(self) -> int:
        """Return the size of the linear memory, which never shrinks."""
        return self._memory.data_len(self._store)

    def _view(self, address: int, size: int) -> memoryview:
        """Return a view of a part of the memory; it is only valid until the next call."""
        if address + size > self.memory_bytes():
            raise BrokenClauseError(
                f"{self._doing} gives the address {address}, which is not in its memory of "
                f"{self.memory_bytes()} bytes"
            )
        return memoryview(self._memory.get_buffer_ptr(self._store, size, address)).cast("B")

    def read(self, address: int, size: int) -> bytes:
        return bytes(self._view(address, size))

    def write(self, address: int, data: bytes) -> None:
        self._view(address, len(data))[:] = data

    def _grow(self, size: int) -> int:
        """Grow the memory at its end; return the address of the new part."""
        try:
            page = self._memory.grow(self._store, -(-size // WASM_PAGE_BYTES))
        except wasmtime.WasmtimeError as error:
            raise NotCheckedError(f"its memory cannot grow by {size} bytes") from error
        return page * WASM_PAGE_BYTES

    def region(self, content: bytes | int, offset: int = 0, at_end: bool = False) -> CallerBytes:
        size = content if isinstance(content, int) else len(content)
        if at_end:
            # Leave free memory for later calls, so that they do not grow it past the region.
            self.destroy(self.create(max(size, 1), 0))
            self.forget(self.generate(self._free(1), 1))
            self._grow(size)
            address = self.memory_bytes() - size
        else:
            address = self._free(offset + size) + offset
        region = _Bytes(self, address, size, at_end)
        region.bytes[:] = bytes(content)
        return region

    def _free(self, size: int) -> int:
        """Return the address of page-aligned memory, from the module's malloc() if exported."""
        if self.offers(_ALLOCATORS[0]):  # a module with malloc may claim all new memory
            return -(-self.allocate(size + _ALIGNMENT) // _ALIGNMENT) * _ALIGNMENT
        size = -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT
        if self._next + size > self._limit:
            self._next, self._limit = self._grow(size), self.memory_bytes()
        address = self._next
        self._next += size
        return address

    def allocate(self, size: int) -> int:
        name = next(filter(self.offers, _ALLOCATORS), None)
        if name is None:
            raise NotOfferedError(f"it exports none of {', '.join(_ALLOCATORS)}")
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        self.note(f"{name}({size})")
        address: int | None = self._call(function, CType.POINTER, size)
        if address is None:
            raise NotCheckedError(f"its {name} has no {size} bytes")
        return address

    @contextmanager
    def without_memory(self) -> Iterator[None]:
        self._store.set_limits(memory_size=self.memory_bytes())
        try:
            yield
        finally:
            self._store.set_limits()

    def gauges(self) -> Sequence[Gauge]:
        return (Gauge(self.memory_bytes, least=WASM_PAGE_BYTES),)


class _Bytes(CallerBytes):
    """Bytes in the memory of an instance."""

    def __init__(self, module: WasmModule, address: int, size: int, at_end: bool) -> None:
        super().__init__(address, size)
        self._module = module
        self._at_end = at_end

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Detect a write afterwards. A read past a region at the end of memory traps by itself."""
        before = bytes(self.bytes)
        yield
        if self._at_end and self._module.memory_bytes() != self.address + self.size:
            raise NotCheckedError("its memory grew meanwhile, so that the region had no end")
        if bytes(self.bytes) != before:
            raise BrokenClauseError(f"{self.size} bytes of the caller were changed")

    def take_away(self) -> None:
        """Change all bytes: a module's memory cannot be made unreadable."""
        self.bytes[:] = bytes(byte ^ 0xFF for byte in self.bytes)

    @property
    def bytes(self) -> memoryview:
        return self._module._view(self.address, self.size)
