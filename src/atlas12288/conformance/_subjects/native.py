# SPDX-License-Identifier: Apache-2.0
"""A shared library under test, and memory of this process for it."""

import ctypes
import mmap
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Any, Final

from ... import _native
from .._outcome import BrokenClauseError, NotCheckedError
from .library import PROTOTYPES, CallerBytes, CType, Gauge, Library, Need, Note

_TYPES: Final[Mapping[CType, Any]] = {
    CType.BOOL: ctypes.c_bool,
    CType.INT: c_int,
    CType.POINTER: c_void_p,
    CType.SIZE: c_size_t,
    CType.TEXT: ctypes.c_char_p,
    CType.UINT8: ctypes.c_uint8,
    CType.UINT64: ctypes.c_uint64,
}
_NO_ACCESS: Final = 0  # PROT_NONE, which the mmap module lacks
_READ_WRITE: Final = mmap.PROT_READ | mmap.PROT_WRITE
_RESIDENT_NOISE_BYTES: Final = 2**17  # the kernel adds and removes pages as it sees fit
_SMALLEST_BLOCK_BYTES: Final = 16  # of malloc()
_M_ARENA_MAX: Final = -8  # of mallopt(), glibc
_AVX2_SET: Final = "x86-64-v3"  # the kernel set of this project that needs it


def lacks() -> Mapping[Need, str]:
    """Return the features that no library can have on this machine, with the reasons."""
    if _AVX2_SET in _native.kernel_sets() and _native.kernel_set_supported(_AVX2_SET):
        return {}
    return {Need.AVX2: "the contract states it for AVX2, which this CPU does not have"}


class NativeLibrary(Library):
    """A loaded shared library.

    Args:
        path: path of the shared library.
        note: as for `Library`.

    Raises:
        OSError: the library cannot be loaded.
    """

    def __init__(self, path: str, note: Note) -> None:
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:  # its text may begin with the path, which is printed anyway
            raise OSError(str(error).removeprefix(f"{path}: ")) from error
        super().__init__(note)

    def offers(self, name: str) -> bool:
        return hasattr(self._library, name)

    def symbol(self, name: str) -> Callable[..., Any]:
        try:
            symbol = self._library[name]
        except AttributeError:
            raise BrokenClauseError(f"{name} is not exported") from None
        prototype = PROTOTYPES[name]
        symbol.restype = None if prototype.result is None else _TYPES[prototype.result]
        symbol.argtypes = [_TYPES[kind] for kind in prototype.arguments]
        return symbol

    def pointer(self, name: str) -> int:
        """Return the address of a function, for the driver in C.

        Raises:
            BrokenClauseError: the library does not export it.
        """
        return ctypes.cast(self.symbol(name), c_void_p).value or 0  # type: ignore[arg-type]

    def region(self, content: bytes | int, offset: int = 0, at_end: bool = False) -> CallerBytes:
        return _Pages(content, offset, at_end)

    def read(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)

    def write(self, address: int, data: bytes) -> None:
        ctypes.memmove(address, data, len(data))

    def allocate(self, size: int) -> int:
        libc = ctypes.CDLL(None)
        libc.malloc.restype = c_void_p
        libc.malloc.argtypes = (c_size_t,)
        address: int | None = libc.malloc(size)
        if address is None:
            raise MemoryError
        return address

    @contextmanager
    def without_memory(self) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_AS)
        try:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        except OSError:
            raise NotCheckedError("this system cannot limit memory") from None
        resource.setrlimit(resource.RLIMIT_AS, (used, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    def gauges(self) -> Sequence[Gauge]:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(
                _M_ARENA_MAX, 1
            )  # one heap for all threads: a second one would look like growth
        resident = Gauge(_resident_bytes, least=_RESIDENT_NOISE_BYTES)
        mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
        if mallinfo2 is None:  # this libc does not have it
            return (resident,)
        mallinfo2.restype = _MallocInfo

        def allocated_bytes() -> int:
            info = mallinfo2()
            return int(info.uordblks + info.hblkhd)

        return resident, Gauge(allocated_bytes, least=0, least_a_round=_SMALLEST_BLOCK_BYTES)


class _MallocInfo(ctypes.Structure):
    # See mallinfo2(3): hblkhd counts mapped large blocks, uordblks the memory in use.
    _fields_ = tuple(
        (name, c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _resident_bytes() -> int:
    """Return the resident bytes of this process, for libraries with their own allocator."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # the peak, in kB on some systems, also grows with a leak
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class _Pages(CallerBytes):
    """A region on separate pages; after one `at_end` comes a page that cannot be read."""

    def __init__(self, content: bytes | int, offset: int, at_end: bool) -> None:
        size = content if isinstance(content, int) else len(content)
        pages = -(-(offset + size) // mmap.PAGESIZE) + at_end
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._map = mmap.mmap(-1, max(pages, 1) * mmap.PAGESIZE, flags=flags)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        if at_end:
            offset = (pages - 1) * mmap.PAGESIZE - size
            _protect(self._start + offset + size, mmap.PAGESIZE, _NO_ACCESS)
        super().__init__(self._start + offset, size)
        self._bytes = memoryview(self._map)[offset : offset + size]
        if isinstance(content, bytes):
            self._bytes[:] = content

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Make a write crash while the context lasts."""
        self._protect(mmap.PROT_READ)
        yield
        self._protect(_READ_WRITE)

    def take_away(self) -> None:
        """Make any access crash, as after munmap; the pages stay reserved."""
        self._protect(_NO_ACCESS)

    def _protect(self, protection: int) -> None:
        _protect(self._start, self.address + self.size - self._start, protection)

    @property
    def bytes(self) -> memoryview:
        return self._bytes


def _protect(address: int, size: int, protection: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(c_void_p(address), c_size_t(size), c_int(protection)) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
