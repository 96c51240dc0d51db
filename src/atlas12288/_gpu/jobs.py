# SPDX-License-Identifier: Apache-2.0
"""Work on a device: trees and residues of tensors, launched at once and waited for later."""

from __future__ import annotations

from contextlib import suppress
from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .. import _native
from .._pending import Pending
from .._subtree import FANOUT
from . import device as devices
from . import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._native import _HeldOnDevice as Held
    from .._types import Buffer

# Tensors that are launched together: the device hashes them while this thread collects the next,
# which takes longer than the 0.3 ms that a device needs for windows, however few they are.
AT_ONCE = 2048
_ANY_DEVICE = -1  # of device_of: the driver knows it
# Letters of __cuda_array_interface__ and the codes of DLPack.
_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
Kind = tuple[int, int, int]
T = TypeVar("T")


class TreeParts(NamedTuple):
    """The tree of a tensor, as the device made it.

    Attributes:
        length: of the tensor in bytes.
        root, residue: of the whole tensor.
        leaves, residues: of its windows, joined; None where not asked for.
        block_roots, block_residues: of blocks of 256 windows, joined; None where not asked for.
        kind, shape: DLPack's code, bits and lanes of an element, and the sizes of the dimensions.
    """

    length: int
    root: bytes
    residue: int
    leaves: Buffer | None = None
    residues: Buffer | None = None
    block_roots: Buffer | None = None
    block_residues: Buffer | None = None
    kind: Kind = (1, 8, 1)
    shape: tuple[int, ...] = ()


class _Work:
    """What a device was given to do, and what reads its results."""

    __slots__ = ("_found", "_job", "_kept", "_lock", "_made")

    def __init__(self, job: _native.CudaJob, kept: object, made: Callable[[], Any]) -> None:
        self._job, self._kept = job, kept
        self._made: Any = made
        self._lock = Lock()  # any thread may ask
        self._found: Any = None

    def done(self) -> bool:
        with self._lock:
            if self._made is None:
                return True
            with devices.current(self._job.device.number):
                return self._job.done()

    def finish(self) -> Any:
        with self._lock:
            if self._made is not None:
                with devices.current(self._job.device.number):
                    self._job.wait()
                    self._found = self._made()
                    self._job.release()
                self._kept = self._made = None
            return self._found

    def __del__(self) -> None:
        # Memory that is given back while a kernel reads it could end the context of all.
        if self._made is not None:
            with suppress(Exception), devices.current(self._job.device.number):
                try:
                    self._job.wait()
                finally:
                    self._job.release()


# What holds tensors, or the error of each, and the addresses and lengths of those that have bytes.
_Held = tuple["list[Held | Exception]", list[int], list[int]]


class _HeldArray(NamedTuple):
    """The bytes of an array with `__cuda_array_interface__`."""

    address: int
    length: int
    kind: Kind
    shape: tuple[int, ...]
    keeper: object


def _number_of(source: Any, number: int) -> int:
    if number != _ANY_DEVICE:
        return number
    address = source.__cuda_array_interface__["data"][0]
    return devices.number_of(address) if address else 0


def job_on(device: devices.Device, stream: object) -> _native.CudaJob:
    """Return a job on a stream; raises as `Device.stream_of`."""
    return _native.CudaJob(device.native, device.stream_of(stream))


def hold(source: object, name: str, job: _native.CudaJob) -> Held:
    """Let a job's stream wait for a tensor; return its bytes. Raises as `CudaJob.hold`."""
    (held,), _, _ = job.hold([(source, name)], False, _held_array)
    assert not isinstance(held, Exception)  # none is tolerated
    return held


def _held_array(source: Any, name: str, job: _native.CudaJob) -> Held:
    """Hold an array that has `__cuda_array_interface__` alone; raises as `CudaJob.hold`."""
    face = source.__cuda_array_interface__
    order, letter, item = face["typestr"][0], face["typestr"][1], int(face["typestr"][2:])
    if order == ">" or letter not in _CODES:
        raise TypeError(f"{name} has the type {face['typestr']!r}, must have little-endian numbers")
    shape = tuple(face["shape"])
    if min(shape, default=0) < 0:
        raise BufferError(f"{name} has the shape {shape}, must have none below 0")
    length = prod(shape, start=item)
    strides = face.get("strides")
    if strides is not None and length:
        step = item
        for size, stride in zip(reversed(shape), reversed(strides), strict=True):
            if size != 1 and stride != step:
                raise BufferError(
                    f"{name} is of type {type(source).__name__}, must be C-contiguous"
                )
            step *= size
    if (producer := face.get("stream")) is not None:
        job.wait_for(producer)
    kind = (_CODES[letter], 8 * item, 1)
    return _HeldArray(face["data"][0] if length else 0, length, kind, shape, source)


def _on_device(
    sources: Sequence[tuple[object, str]],
    number: int,
    stream: object,
    start: Callable[[_native.CudaJob, _Held], Callable[[], T]],
    *,
    tolerant: bool = False,
) -> Pending[T]:
    """Hold tensors of one device and start work on them.

    Args:
        sources: the tensors, and what messages call them.
        number: of the device, as `_native.device_of` gives it.
        stream: the stream to work on; None for ours.
        start: launches the work; returns what reads the results once it has ended.
        tolerant: give it the BufferError or TypeError in place of a tensor that has one.
    """
    with devices.current(_number_of(sources[0][0], number)) as device:
        job = job_on(device, stream)
        try:
            held = job.hold(sources, tolerant, _held_array)
            made = start(job, held)
            job.end()
            work = _Work(job, (held, stream), made)
        except BaseException:
            with suppress(Exception):  # what was launched may still read the tensors
                job.end()
                job.wait()
            job.release()
            raise
    return Pending(work.finish, work.done)


def trees(
    sources: Sequence[tuple[object, str]],
    number: int,
    *,
    stream: object = None,
    leaves: bool,
    tolerant: bool = False,
) -> Pending[list[TreeParts | Exception]]:
    """Start the trees of tensors on one device, up to AT_ONCE in a launch.

    Args:
        sources, number, stream: as in `_on_device`.
        leaves: also give the leaves.
        tolerant: give the BufferError or TypeError in place of a tensor that has one.

    Raises:
        BufferError: a tensor is not C-contiguous, or its library does not give it.
        DeviceError: the device, its driver or its kernels are missing, or it failed.
        TypeError, ValueError: `stream` is no stream.
    """

    def start(job: _native.CudaJob, all_held: _Held) -> Callable[[], list[TreeParts | Exception]]:
        held, addresses, lengths = all_held
        if not lengths:
            no = b"" if leaves else None
            return lambda: _native.tree_parts(TreeParts, held, (), (), b"", no, no)
        hashes = plan.hash_regions(job, addresses, lengths, leaves=leaves)

        def made() -> list[TreeParts | Exception]:
            count = len(lengths)
            joined = [_joined(each, count) for each in (hashes.leaves, hashes.blocks)]
            roots = bytes(hashes.roots.read())
            return _native.tree_parts(TreeParts, held, hashes.order, hashes.windows, roots, *joined)

        return made

    if len(sources) <= AT_ONCE:
        return _on_device(sources, number, stream, start, tolerant=tolerant)
    started = [
        _on_device(sources[first : first + AT_ONCE], number, stream, start, tolerant=tolerant)
        for first in range(0, len(sources), AT_ONCE)
    ]
    return Pending(
        lambda: [each for some in started for each in some.result()],
        lambda: all(some.done() for some in started),
    )


def _joined(download: _native.CudaDownload | None, regions: int) -> Buffer | None:
    """Return hashes of several regions and then their residues; None where there are none.

    Of many regions of a block or less they are bytes, whose parts are made faster than views and
    keep nothing else alive. Others are views: those of 32 GiB are a hundred megabytes.
    """
    if download is None:
        return None
    data = download.read()
    is_small = regions > 1 and len(data) <= regions * FANOUT * (_native.DIGEST_BYTES + 1)
    return bytes(data) if is_small else data


def residues(
    sources: Sequence[tuple[object, str]], number: int, *, stream: object = None
) -> Pending[list[int]]:
    """Start the sums of tensors on one device; the result is the residue of each.

    Args, Raises: as `trees`.
    """

    def start(job: _native.CudaJob, held: _Held) -> Callable[[], list[int]]:
        found = _sums(job, held, windows=False)
        lengths = [each.length for each in held[0] if not isinstance(each, Exception)]

        def made() -> list[int]:
            values = iter(found.read() if found else b"")
            return [next(values) if length else 0 for length in lengths]

        return made

    return _on_device(sources, number, stream, start)


def window_residues(source: object, number: int, *, stream: object = None) -> Pending[bytes]:
    """Start the sums of a tensor's windows; the result is the residue of each, a byte.

    Args, Raises: as `trees`.
    """

    def start(job: _native.CudaJob, held: _Held) -> Callable[[], bytes]:
        found = _sums(job, held, windows=True)
        return lambda: bytes(found.read()) if found else b""

    return _on_device([(source, "buf")], number, stream, start)


def _sums(job: _native.CudaJob, held: _Held, *, windows: bool) -> _native.CudaDownload | None:
    _, addresses, lengths = held
    return plan.sum_regions(job, addresses, lengths, windows=windows) if lengths else None
