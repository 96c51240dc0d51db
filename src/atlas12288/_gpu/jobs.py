# SPDX-License-Identifier: Apache-2.0
"""Work on a device: trees and residues of tensors, launched at once and waited for later."""

from __future__ import annotations

from contextlib import suppress
from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .. import _native
from .._pending import Pending
from .._subtree import block_count
from . import device as devices
from . import plan
from .kernels import CUDA

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._types import Buffer

_HASH = _native.DIGEST_BYTES
_EMPTY_ROOT = _native.tree_root(b"")
_ANY_DEVICE = -1  # of device_of: the driver knows it
# Letters of __cuda_array_interface__ and the codes of DLPack.
_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
Kind = tuple[int, int, int]


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


class _Results:
    """What a job reads back: one copy, from its first byte to its last."""

    def __init__(self, device: devices.Device, memory: Any) -> None:
        self._device, self._memory = device, memory  # kept until it was read
        self._start = self._end = 0
        self._content: memoryview | None = None

    def add(self, address: int, size: int) -> _Download:
        self._start = min(self._start or address, address)
        self._end = max(self._end, address + size)
        return _Download(self, address, size)

    def part(self, address: int, size: int) -> memoryview:
        """Return bytes of it; the launches before it have ended."""
        if self._content is None:
            content = bytearray(self._end - self._start)
            stream, api = self._device.results, self._device.api
            devices.check(api.cuMemcpyDtoHAsync(content, self._start, len(content), stream.handle))
            stream.sync()
            self._content, self._memory = memoryview(content).toreadonly(), None
        return self._content[address - self._start :][:size]


class _Download(NamedTuple):
    """Bytes on the device that no launch writes over any more."""

    results: _Results
    address: int
    size: int

    def read(self) -> memoryview:
        """Return the bytes; the launches before the download have ended."""
        return self.results.part(self.address, self.size)


class Job:
    """One call on one device and stream; a `plan.Machine`."""

    def __init__(self, device: devices.Device, stream: Any) -> None:
        self.device, self.stream = device, stream
        self.handle = device.handle if stream is device.stream else int(stream.handle)
        self.multiprocessors = device.multiprocessors
        self.places = tuple((kind, device.number) for kind in CUDA)  # as DLPack names them
        self._results: _Results | None = None
        self._waited = {self.handle}  # streams that the job's stream need not wait for any more

    def allocate(self, size: int) -> int:
        # Freed in the order of the stream, once nobody needs it.
        memory = self.device.pool.allocate(size, stream=self.stream)
        self._results = _Results(self.device, memory)
        return int(memory.handle)

    def upload(self, address: int, data: bytes) -> None:
        copied = self.device.api.cuMemcpyHtoDAsync(address, data, len(data), self.stream.handle)
        devices.check(copied)

    def launch(self, kernel: str, groups: int, threads: int, *arguments: int) -> None:
        self.device.launch(self.stream, kernel, groups, threads, arguments)

    def copy(self, target: int, source: int, size: int) -> None:
        api, handle = self.device.api, self.stream.handle
        devices.check(api.cuMemcpyDtoDAsync(target, source, size, handle))

    def download(self, address: int, size: int) -> _Download:
        assert self._results is not None  # what is downloaded was allocated
        return self._results.add(address, size)

    def wait_for(self, producer: int) -> None:
        """Let the job's stream wait for what is on another one now."""
        producer = producer or devices.LEGACY_STREAM
        if producer not in self._waited:
            self._waited.add(producer)
            self.device.order(self.stream, producer)

    def end(self, kept: object, made: Callable[[], Any]) -> _Work:
        """Return what waits for all that was launched."""
        return _Work(self.device, self.device.record(self.stream), kept, made)


class _Work:
    """What a device was given to do, and what reads its results."""

    __slots__ = ("_device", "_event", "_found", "_kept", "_lock", "_made")

    def __init__(
        self, device: devices.Device, event: Any, kept: object, made: Callable[[], Any]
    ) -> None:
        self._device, self._event, self._kept = device, event, kept
        self._made: Any = made
        self._lock = Lock()  # any thread may ask
        self._found: Any = None

    def done(self) -> bool:
        with self._lock:
            if self._event is None:
                return True
            with devices.current(self._device.number):
                return bool(self._event.is_done)

    def finish(self) -> Any:
        with self._lock:
            if self._event is not None:
                with devices.current(self._device.number):
                    self._event.sync()
                    self._found = self._made()
                self._device.keep(self._event)
                self._event = self._kept = self._made = None
            return self._found

    def __del__(self) -> None:
        # Memory that is given back while a kernel reads it could end the context of all.
        if self._event is not None:
            with suppress(Exception), devices.current(self._device.number):
                self._event.sync()


class Held(Protocol):
    """A tensor's bytes on the device, kept as long as this object."""

    @property
    def address(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


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


def hold(source: Any, name: str, job: Job) -> Held:
    """Let a job's stream wait for a tensor; return its bytes.

    Raises:
        BufferError: it is not C-contiguous, or its library does not give it.
        TypeError: it gives no DLPack tensor.
    """
    if hasattr(source, "__dlpack__"):
        tensor = _native.Tensor(source, name, job.handle)
        if tensor.device not in job.places:
            raise BufferError(
                f"{name} is on the device {tensor.device} by DLPack, must be on "
                f"{(CUDA[0], job.device.number)} as it said"
            )
        if tensor.producer is not None:
            job.wait_for(tensor.producer)
        return tensor
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
    start: Callable[[Job, list[Held | Exception]], Callable[[], Any]],
    *,
    tolerant: bool = False,
) -> Pending[Any]:
    """Hold tensors of one device and start work on them.

    Args:
        sources: the tensors, and what messages call them.
        number: of the device, as `_native.device_of` gives it.
        stream: the stream to work on; None for ours.
        start: launches the work; returns what reads the results once it has ended.
        tolerant: give it the BufferError or TypeError in place of a tensor that has one.
    """
    number = _number_of(sources[0][0], number)
    with devices.current(number) as device:
        job = Job(device, device.stream_of(stream))
        held: list[Held | Exception] = []
        try:
            for source, name in sources:
                try:
                    held.append(hold(source, name, job))
                except (BufferError, TypeError) as error:
                    if not tolerant:
                        raise
                    held.append(error)
            work = job.end((held, stream), start(job, held))
        except BaseException:
            with suppress(Exception):
                job.stream.record().sync()  # what was launched may still read the tensors
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
    """Start the trees of tensors on one device, all in one launch.

    Args:
        sources, number, stream: as in `_on_device`.
        leaves: also give the leaves.
        tolerant: give the BufferError or TypeError in place of a tensor that has one.

    Raises:
        BufferError: a tensor is not C-contiguous, or its library does not give it.
        DeviceError: the device, its driver or its kernels are missing, or it failed.
        TypeError, ValueError: `stream` is no stream.
    """

    def start(job: Job, held: list[Held | Exception]) -> Callable[[], list[TreeParts | Exception]]:
        whole = _whole(held)
        hashes = None
        if whole:
            addresses, lengths = [each.address for each in whole], [each.length for each in whole]
            hashes = plan.hash_regions(job, addresses, lengths, leaves=leaves)
        no = b"" if leaves else None

        def made() -> list[TreeParts | Exception]:
            parts = _parts_of(hashes, whole) if hashes else []
            if len(parts) == len(held):
                return list(parts)
            rest = iter(parts)
            return [
                each
                if isinstance(each, Exception)
                else next(rest)
                if each.length
                else TreeParts(0, _EMPTY_ROOT, 0, no, no, no, no, each.kind, each.shape)
                for each in held
            ]

        return made

    return _on_device(sources, number, stream, start, tolerant=tolerant)


def _whole(held: Sequence[Held | Exception]) -> list[Held]:
    return [each for each in held if not isinstance(each, Exception) and each.length]


def _parts_of(hashes: plan.Hashes[_Download], regions: Sequence[Held]) -> list[TreeParts]:
    """Read the results of a plan; return them in the order of its regions."""
    roots = bytes(hashes.roots.read())
    sums = roots[_HASH * len(regions) :]
    kept = [_Joined(each) for each in (hashes.leaves, hashes.blocks) if each is not None]
    leaves: tuple[Buffer | None, Buffer | None] = (None, None)
    block_roots = leaves
    found: dict[int, TreeParts] = {}
    for place, number in enumerate(hashes.order):
        region = regions[number]
        if kept:
            windows = hashes.windows[place]
            leaves, block_roots = kept[0].take(windows), kept[1].take(block_count(windows))
        found[number] = TreeParts(
            region.length,
            roots[_HASH * place : _HASH * (place + 1)],
            sums[place],
            *leaves,
            *block_roots,
            region.kind,
            region.shape,
        )
    return [found[number] for number in range(len(regions))]


class _Joined:
    """Hashes of several regions and then their residues, taken region by region."""

    def __init__(self, download: _Download) -> None:
        self._data = download.read()
        self._hashes = len(self._data) // (_HASH + 1)
        self._taken = 0

    def take(self, count: int) -> tuple[memoryview, memoryview]:
        """Return the hashes of the next region, joined, and its residues."""
        start, self._taken = self._taken, self._taken + count
        residues = _HASH * self._hashes
        return (
            self._data[_HASH * start : _HASH * self._taken],
            self._data[residues + start : residues + self._taken],
        )


def residues(
    sources: Sequence[tuple[object, str]], number: int, *, stream: object = None
) -> Pending[list[int]]:
    """Start the sums of tensors on one device; the result is the residue of each.

    Args, Raises: as `trees`.
    """

    def start(job: Job, held: list[Held | Exception]) -> Callable[[], list[int]]:
        found = _sums(job, held, windows=False)
        lengths = [each.length for each in held if not isinstance(each, Exception)]

        def made() -> list[int]:
            values = iter(found.read() if found else b"")
            return [next(values) if length else 0 for length in lengths]

        return made

    return _on_device(sources, number, stream, start)


def window_residues(source: object, number: int, *, stream: object = None) -> Pending[bytes]:
    """Start the sums of a tensor's windows; the result is the residue of each, a byte.

    Args, Raises: as `trees`.
    """

    def start(job: Job, held: list[Held | Exception]) -> Callable[[], bytes]:
        found = _sums(job, held, windows=True)
        return lambda: bytes(found.read()) if found else b""

    return _on_device([(source, "buf")], number, stream, start)


def _sums(job: Job, held: Sequence[Held | Exception], *, windows: bool) -> _Download | None:
    whole = _whole(held)
    if not whole:
        return None
    addresses, lengths = [each.address for each in whole], [each.length for each in whole]
    return plan.sum_regions(job, addresses, lengths, windows=windows)
