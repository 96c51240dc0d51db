# SPDX-License-Identifier: Apache-2.0
"""Work on a device: trees and residues of tensors, launched at once and waited for later."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any

from .. import _native
from .._pending import Pending
from .._subtree import block_count
from . import device as devices
from . import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HASH = _native.DIGEST_BYTES
_EMPTY_ROOT = _native.tree_root(b"")
_ANY_STREAM = -1  # of device_of: the driver knows the device


@dataclass(frozen=True)
class TreeParts:
    """The tree of a tensor, as the device made it.

    Attributes:
        length: of the tensor in bytes.
        root, residue: of the whole tensor.
        leaves, residues: of its windows, joined; None where not asked for.
        block_roots, block_residues: of blocks of 256 windows, joined; None where not asked for.
    """

    length: int
    root: bytes
    residue: int
    leaves: bytes | None = None
    residues: bytes | None = None
    block_roots: bytes | None = None
    block_residues: bytes | None = None


class _Download:
    """A copy on the device of bytes that a launch writes over."""

    def __init__(self, buffer: Any, size: int) -> None:
        self._buffer, self._size = buffer, size

    def read(self, device: devices.Device) -> bytes:
        """Return the bytes; the launches before the download have ended."""
        out = bytearray(self._size)
        driver, address = devices.driver(), int(self._buffer.handle)
        stream = device.results
        devices.check(driver.cuMemcpyDtoHAsync(out, address, self._size, stream.handle))
        stream.sync()
        return bytes(out)


class _Job:
    """One call on one device and stream; a `plan.Machine`."""

    def __init__(self, device: devices.Device, stream: Any) -> None:
        self.device, self.stream = device, stream
        self.multiprocessors = device.multiprocessors
        self._buffers: list[Any] = []

    def allocate(self, size: int) -> int:
        buffer = self.device.pool.allocate(size, stream=self.stream)
        self._buffers.append(buffer)
        return int(buffer.handle)

    def upload(self, address: int, data: bytes) -> None:
        driver = devices.driver()
        devices.check(driver.cuMemcpyHtoDAsync(address, data, len(data), self.stream.handle))

    def launch(self, kernel: str, groups: int, threads: int, *arguments: int) -> None:
        from cuda.core import LaunchConfig, launch

        config = LaunchConfig(grid=groups, block=threads)
        launch(self.stream, config, self.device.kernel(kernel), *arguments)

    def download(self, address: int, size: int) -> _Download:
        buffer = self.device.pool.allocate(size, stream=self.stream)
        driver = devices.driver()
        copy = driver.cuMemcpyDtoDAsync(int(buffer.handle), address, size, self.stream.handle)
        devices.check(copy)
        return _Download(buffer, size)

    def end(self, number: int, kept: object, made: Callable[[], Any]) -> _Work:
        """Return what waits for all that was launched."""
        event = self.stream.record()
        self._buffers.clear()  # freed in the order of the stream, after the last launch
        return _Work(number, event, kept, made)


class _Work:
    """What a device was given to do, and what reads its results."""

    def __init__(self, number: int, event: Any, kept: object, made: Callable[[], Any]) -> None:
        self._number, self._event, self._kept, self._made = number, event, kept, made
        self._lock = Lock()  # any thread may ask
        self._found: Any = None

    def done(self) -> bool:
        with self._lock:
            if self._event is None:
                return True
            with devices.current(self._number):
                return bool(self._event.is_done)

    def finish(self) -> Any:
        with self._lock:
            if self._event is not None:
                with devices.current(self._number):
                    self._event.sync()
                    self._found = self._made()
                self._event = self._kept = None
            return self._found

    def __del__(self) -> None:
        # Memory that is given back while a kernel reads it could end the context of all.
        if self._event is not None:
            with suppress(Exception), devices.current(self._number):
                self._event.sync()


@dataclass(frozen=True)
class Held:
    """A tensor's bytes on the device, and what keeps them."""

    address: int
    length: int
    keeper: object


def _number_of(source: Any, number: int) -> int:
    if number != _ANY_STREAM:
        return number
    address = source.__cuda_array_interface__["data"][0]
    return devices.number_of(address) if address else 0


def held_tensor(source: Any, name: str, stream: Any) -> Held:
    """Make a stream wait for a tensor; return its bytes."""
    if hasattr(source, "__dlpack__"):
        tensor = _native.Tensor(source, name, int(stream.handle))
        return Held(tensor.address, tensor.length, tensor)
    face = source.__cuda_array_interface__
    shape, item = face["shape"], int(face["typestr"][2:])
    length = item
    for size in shape:
        length *= size
    strides = face.get("strides")
    if strides is not None and length:
        step = item
        for size, stride in zip(reversed(shape), reversed(strides), strict=True):
            if size != 1 and stride != step:
                kind = type(source).__name__
                raise BufferError(f"{name} is of type {kind}, must be C-contiguous")
            step *= size
    if (producer := face.get("stream")) is not None:
        from cuda.core import Stream

        stream.wait(Stream.from_handle(producer).record())
    return Held(face["data"][0] if length else 0, length, source)


def _on_device(
    sources: Sequence[tuple[object, str]],
    number: int,
    stream: object,
    start: Callable[[_Job, list[Held]], Callable[[], Any]],
) -> Pending[Any]:
    """Hold tensors of one device and start work on them.

    Args:
        sources: the tensors, and what messages call them.
        number: of the device, as `_native.device_of` gives it.
        stream: the stream to work on; None for ours.
        start: launches the work; returns what reads the results once it has ended.
    """
    number = _number_of(sources[0][0], number)
    with devices.current(number) as device:
        job = _Job(device, device.stream_of(stream))
        held: list[Held] = []
        try:
            for source, name in sources:
                held.append(held_tensor(source, name, job.stream))
            work = job.end(number, (held, stream), start(job, held))
        except BaseException:
            with suppress(Exception):
                job.stream.record().sync()  # what was launched may still read the tensors
            raise
    return Pending(work.finish, work.done)


def trees(
    sources: Sequence[tuple[object, str]], number: int, *, stream: object = None, leaves: bool
) -> Pending[list[TreeParts]]:
    """Start the trees of tensors on one device, all in one launch.

    Args:
        sources, number, stream: as in `_on_device`.
        leaves: also give the leaves.

    Raises:
        BufferError: a tensor is not C-contiguous, or its library does not give it.
        DeviceError: the device, its driver or its kernels are missing, or it failed.
        TypeError, ValueError: `stream` is no stream.
    """

    def start(job: _Job, held: list[Held]) -> Callable[[], list[TreeParts]]:
        whole = [each for each in held if each.length]
        hashes = None
        if whole:
            addresses, lengths = zip(*((each.address, each.length) for each in whole), strict=True)
            hashes = plan.hash_regions(job, addresses, lengths, leaves=leaves)

        def made() -> list[TreeParts]:
            parts = iter(_parts_of(job.device, hashes, lengths) if hashes else ())
            empty = TreeParts(0, _EMPTY_ROOT, 0, *([b""] * 4 if leaves else ()))
            return [next(parts) if each.length else empty for each in held]

        return made

    return _on_device(sources, number, stream, start)


def _parts_of(
    device: devices.Device, hashes: plan.Hashes[_Download], lengths: Sequence[int]
) -> list[TreeParts]:
    """Read the results of a plan; return them in the order of its regions."""
    roots = hashes.roots.read(device)
    regions = len(lengths)
    found: list[TreeParts | None] = [None] * regions
    kept = [_Joined(device, each) for each in (hashes.leaves, hashes.blocks) if each is not None]
    for place, number in enumerate(hashes.order):
        root = roots[_HASH * place : _HASH * (place + 1)]
        windows = hashes.windows[place]
        counts = (windows, block_count(windows))
        own = [each.take(count) for each, count in zip(kept, counts, strict=False)]
        residue = roots[_HASH * regions + place]
        found[number] = TreeParts(lengths[number], root, residue, *chain(*own))
    return [each for each in found if each is not None]


class _Joined:
    """Hashes of several regions and then their residues, taken region by region."""

    def __init__(self, device: devices.Device, download: _Download) -> None:
        self._data = memoryview(download.read(device))
        self._hashes = len(self._data) // (_HASH + 1)
        self._taken = 0

    def take(self, count: int) -> tuple[bytes, bytes]:
        """Return the hashes of the next region, joined, and its residues."""
        start, self._taken = self._taken, self._taken + count
        residues = _HASH * self._hashes
        return (
            bytes(self._data[_HASH * start : _HASH * self._taken]),
            bytes(self._data[residues + start : residues + self._taken]),
        )


def residues(
    sources: Sequence[tuple[object, str]], number: int, *, stream: object = None
) -> Pending[list[int]]:
    """Start the sums of tensors on one device; the result is the residue of each.

    Args, Raises: as `trees`.
    """

    def start(job: _Job, held: list[Held]) -> Callable[[], list[int]]:
        found = _sums(job, held, windows=False)

        def made() -> list[int]:
            values = iter(found.read(job.device) if found else b"")
            return [next(values) if each.length else 0 for each in held]

        return made

    return _on_device(sources, number, stream, start)


def window_residues(source: object, number: int, *, stream: object = None) -> Pending[bytes]:
    """Start the sums of a tensor's windows; the result is the residue of each, a byte.

    Args, Raises: as `trees`.
    """

    def start(job: _Job, held: list[Held]) -> Callable[[], bytes]:
        found = _sums(job, held, windows=True)
        return lambda: found.read(job.device) if found else b""

    return _on_device([(source, "buf")], number, stream, start)


def _sums(job: _Job, held: Sequence[Held], *, windows: bool) -> _Download | None:
    whole = [each for each in held if each.length]
    if not whole:
        return None
    addresses, lengths = zip(*((each.address, each.length) for each in whole), strict=True)
    return plan.sum_regions(job, addresses, lengths, windows=windows)
