# SPDX-License-Identifier: Apache-2.0
"""The CUDA devices of this process: kernels, memory, and the streams that work runs on.

The primary context of a device is retained, as other libraries do, so their memory is ours to read.
It is current only while one of our calls runs. cuda.core raises what the driver says; here it
becomes a DeviceError, which says nothing about the bytes.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .._errors import DeviceError
from .kernels import ptx_folder

if TYPE_CHECKING:
    from collections.abc import Callable

# Memory that a device keeps for the next call when nothing of ours runs on it.
KEPT_BYTES = 64 << 20
OLDEST_CHIP = (8, 0)
OTHER_WAYS = "x.cpu() is in host memory, and host=True copies it there in pieces"
LEGACY_STREAM = 1  # the handle by which DLPack and the driver know the default stream


class Device:
    """A device, made once for each process; `current` gives it.

    Attributes:
        number: of the device, from 0 on.
        core: the device as cuda.core has it.
        stream, handle: a stream of our own, which waits for no other one, and its handle.
        multiprocessors: how many it has.
    """

    def __init__(self, number: int) -> None:
        from cuda import core

        self.number = number
        self.core: Any = core.Device(number)
        chip = self.core.compute_capability
        if (chip.major, chip.minor) < OLDEST_CHIP:
            raise DeviceError(
                f"device {number} is of compute capability {chip.major}.{chip.minor}, must be of "
                f"{OLDEST_CHIP[0]}.{OLDEST_CHIP[1]} or later; {OTHER_WAYS}"
            )
        self.core.set_current()
        self.multiprocessors: int = self.core.properties.multiprocessor_count
        self.stream: Any = self.core.create_stream(options=core.StreamOptions(nonblocking=True))
        # What reads results back: it waits for nothing that others put on the stream of a call.
        self.results: Any = self.core.create_stream(options=core.StreamOptions(nonblocking=True))
        options = core.DeviceMemoryResourceOptions()
        self.pool: Any = core.DeviceMemoryResource(self.core, options)
        api = self.api = driver()
        self.context = int(check(api.cuCtxGetCurrent()))
        self.handle = int(self.stream.handle)
        attribute = api.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        check(api.cuMemPoolSetAttribute(self.pool.handle, attribute, api.cuuint64_t(KEPT_BYTES)))
        self._launch = core.launch
        # Models are hashed again and again, in grids of the same size.
        self._config: Callable[[int, int], Any] = lru_cache(maxsize=64)(
            lambda groups, threads: core.LaunchConfig(grid=groups, block=threads)
        )
        self.stream_at: Callable[[int], Any] = core.Stream.from_handle
        # Made once, because from_handle takes 14 us; other handles can be given to new streams.
        self._legacy = self.stream_at(LEGACY_STREAM)
        self._events: list[Any] = []  # of ours, that nobody waits for any more
        self._kernels: dict[str, Any] = {}
        self._lock = threading.Lock()

    def launch(
        self, stream: Any, name: str, groups: int, threads: int, arguments: tuple[int, ...]
    ) -> None:
        """Launch a kernel, which the driver compiles on first use, in about 0.2 s."""
        kernel = self._kernels.get(name) or self._kernel(name)
        self._launch(stream, self._config(groups, threads), kernel, *arguments)

    def record(self, stream: Any) -> Any:
        """Record an event on a stream; `keep` takes it back, so that few are ever made."""
        try:
            event = self._events.pop()
        except IndexError:
            return stream.record()
        stream.record(event)
        return event

    def keep(self, event: Any) -> None:
        """Take back an event of `record` that was waited for."""
        self._events.append(event)

    def order(self, stream: Any, producer: int) -> None:
        """Let a stream wait for what is now on another one, a handle."""
        event = self.record(self._legacy if producer == LEGACY_STREAM else self.stream_at(producer))
        stream.wait(event)
        self.keep(event)  # the wait is for this record, also when the event is recorded again

    def _kernel(self, name: str) -> Any:
        from cuda.core import ObjectCode

        with self._lock:
            if name not in self._kernels:
                try:
                    text = (ptx_folder() / f"{name}.ptx").read_bytes()
                except FileNotFoundError:
                    raise DeviceError(
                        f"this build has no kernels for GPUs: its LLVM wrote no PTX; {OTHER_WAYS}"
                    ) from None
                self._kernels[name] = ObjectCode.from_ptx(text, name=name).get_kernel(name)
            return self._kernels[name]

    def stream_of(self, stream: object) -> Any:
        """Return the stream that a caller named; ours for None.

        Raises:
            TypeError: neither an int nor an object with `__cuda_stream__`.
            ValueError: a negative number.
        """
        if stream is None:
            return self.stream
        if hasattr(stream, "__cuda_stream__"):
            return self.core.create_stream(stream)
        if isinstance(stream, bool) or not isinstance(stream, int):
            raise TypeError(
                f"stream is of type {type(stream).__name__}, must be an int or have __cuda_stream__"
            )
        if stream < 0:
            raise ValueError(f"stream is {stream}, must be the handle of a stream")
        return self.stream_at(stream or LEGACY_STREAM)

    def release_memory(self) -> None:
        """Give back all memory that no call of ours uses."""
        check(self.api.cuMemPoolTrimTo(self.pool.handle, 0))


def driver() -> Any:
    """Return the driver's interface, which takes 0.1 s to import."""
    from cuda.bindings import driver

    return driver


def check(result: tuple[Any, ...]) -> Any:
    """Return what a call of the driver gave.

    Raises:
        DeviceError: the call failed.
    """
    code = result[0]
    if code != 0:  # CUDA_SUCCESS
        raise DeviceError(f"the CUDA driver says {code.name}: nothing is known of the bytes")
    return result[1] if len(result) == 2 else result[1:]


_devices: dict[int, Device] = {}
_lock = threading.Lock()


def _failure(error: BaseException) -> DeviceError | None:
    """Return what cuda.core or the driver raised as a DeviceError; None for other errors."""
    if isinstance(error, DeviceError):
        return None
    # cuda.core has errors of its own, and raises built-in ones where it cannot make an event, or
    # where an older driver lacks a function.
    is_own = type(error).__module__.partition(".")[0] == "cuda"
    if not is_own and not isinstance(error, RuntimeError | SystemError):
        return None
    text = str(error.__cause__ or error).partition("\n")[0]
    return DeviceError(f"{text}: nothing is known of the bytes")


def _started() -> Any:
    """Return the driver's interface, after its start."""
    try:
        api = driver()
    except ImportError as error:
        raise DeviceError(
            f"tensors on a GPU need cuda-core: pip install 'atlas12288[cuda]'; {OTHER_WAYS}"
        ) from error
    try:
        check(api.cuInit(0))
    except RuntimeError as error:
        if isinstance(error, DeviceError):
            raise
        raise DeviceError(f"the CUDA driver is missing: {error}; {OTHER_WAYS}") from error
    return api


def _device(number: int) -> Device:
    """Return a device, which the first call makes and leaves current."""
    with _lock:
        found = _devices.get(number)
        if found is None:
            found = _devices[number] = Device(number)
    return found


class current:  # noqa: N801  # a context manager, as those of contextlib, which take 5 us
    """Make a device current for this thread; at the end, what was current before.

    Args:
        number: of the device, from 0 on.

    Raises:
        DeviceError: the extra, the driver, the device or a chip that is new enough is missing; or
            the driver or cuda.core raise in the block.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> Device:
        found = _devices.get(self._number)
        api = self._api = _started() if found is None else found.api
        before = self._before = check(api.cuCtxGetCurrent())
        self._is_other = found is None or int(before) != found.context
        if self._is_other:
            try:
                found = _device(self._number)
                found.core.set_current()
            except BaseException as error:
                self.__exit__(None, error, None)
                raise
        assert found is not None
        return found

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._is_other:
            self._api.cuCtxSetCurrent(self._before)
        if error is not None and (failure := _failure(error)) is not None:
            raise failure from error


def number_of(address: int) -> int:
    """Return the number of the device that an address belongs to."""
    api = driver() if _devices else _started()
    attribute = api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return int(check(api.cuPointerGetAttribute(attribute, address)))


def release_memory() -> None:
    """Give back the memory that our calls on all devices keep, at most 64 MiB a device."""
    for number in list(_devices):
        with current(number) as found:
            found.release_memory()
