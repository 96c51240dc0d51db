# SPDX-License-Identifier: Apache-2.0
"""The CUDA devices of this process: kernels, memory, and the streams that work runs on.

The primary context of a device is retained, as other libraries do, so their memory is ours to read.
It is current only while one of our calls runs. What is made once comes from cuda.core, which raises
what the driver says; here it becomes a DeviceError, which says nothing about the bytes. What each
call needs comes from functions of the driver, which the native module calls.
"""

from __future__ import annotations

import threading
from typing import Any

from .. import _native
from .._errors import DeviceError
from .kernels import ptx_folder

# Memory that a device keeps for the next call when nothing of ours runs on it.
KEPT_BYTES = 64 << 20
OLDEST_CHIP = (8, 0)
OTHER_WAYS = "x.cpu() is in host memory, and host=True copies it there in pieces"
# That of CUDA 12.0, from which on cuda.core works: a later driver gives the same functions for it.
FUNCTIONS_OF = 12000


class Device:
    """A device, made once for each process; `current` gives it.

    Attributes:
        number: of the device, from 0 on.
        core: the device as cuda.core has it.
        native: what calls the functions of its driver.
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
        attribute = api.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        check(api.cuMemPoolSetAttribute(self.pool.handle, attribute, api.cuuint64_t(KEPT_BYTES)))
        self.handle = int(self.stream.handle)
        context = check(api.cuCtxGetCurrent())
        handles = (int(context), int(self.pool.handle), int(self.results.handle))
        self.native = _native.cuda_device(
            number, self.multiprocessors, _functions(api), handles, error_of, self._kernel
        )
        self._kernels: dict[str, Any] = {}
        self._lock = threading.Lock()

    def _kernel(self, name: str) -> int:
        """Return the handle of a kernel, which the driver compiles on first use, in about 0.2 s."""
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
            return int(self._kernels[name].handle)

    def stream_of(self, stream: object) -> int:
        """Return the handle of the stream that a caller named, of ours for None; 0: the default.

        Raises:
            TypeError: neither an int nor an object with `__cuda_stream__`.
            ValueError: a negative number.
        """
        if stream is None:
            return self.handle
        if hasattr(stream, "__cuda_stream__"):
            return int(self.core.create_stream(stream).handle)
        if isinstance(stream, bool) or not isinstance(stream, int):
            raise TypeError(
                f"stream is of type {type(stream).__name__}, must be an int or have __cuda_stream__"
            )
        if stream < 0:
            raise ValueError(f"stream is {stream}, must be the handle of a stream")
        return stream

    def release_memory(self) -> None:
        """Give back all memory that no call of ours uses."""
        check(self.api.cuMemPoolTrimTo(self.pool.handle, 0))


def driver() -> Any:
    """Return the driver's interface, which takes 0.1 s to import."""
    from cuda.bindings import driver

    return driver


def _functions(api: Any) -> list[int]:
    """Return the addresses of the driver's functions that the native module calls."""
    flags = api.CUdriverProcAddress_flags.CU_GET_PROC_ADDRESS_LEGACY_STREAM
    found: list[int] = []
    for name in _native.CUDA_CALLS:
        address, _ = check(api.cuGetProcAddress(name.encode(), FUNCTIONS_OF, flags))
        if not address:
            raise DeviceError(f"the CUDA driver has no {name}, must be of CUDA 12; {OTHER_WAYS}")
        found.append(int(address))
    return found


def error_of(code: int) -> DeviceError:
    """Return the error for a result of the driver."""
    try:
        name = driver().CUresult(code).name
    except ValueError:  # of a driver that is newer than cuda.bindings
        name = f"error {code}"
    return DeviceError(f"the CUDA driver says {name}: nothing is known of the bytes")


def check(result: tuple[Any, ...]) -> Any:
    """Return what a call of the driver gave.

    Raises:
        DeviceError: the call failed.
    """
    code = result[0]
    if code != 0:  # CUDA_SUCCESS
        raise error_of(int(code))
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
    """Return a device, which the first call makes; what was current stays current."""
    api = _started()
    before = check(api.cuCtxGetCurrent())
    # Else what it allocates would break a graph that another thread makes: see CudaDevice.enter.
    relaxed = api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    mode = check(api.cuThreadExchangeStreamCaptureMode(relaxed))
    try:
        with _lock:
            found = _devices.get(number)
            if found is None:
                found = _devices[number] = Device(number)
            return found
    except BaseException as error:
        failure = _failure(error)
        if failure is None:
            raise
        raise failure from error
    finally:
        api.cuCtxSetCurrent(before)
        api.cuThreadExchangeStreamCaptureMode(mode)


class current:  # noqa: N801  # a context manager, as those of contextlib, which take 5 us
    """Make a device current for this thread; at the end all is as it was before.

    Args:
        number: of the device, from 0 on.

    Raises:
        DeviceError: the extra, the driver, the device or a chip that is new enough is missing; or
            the driver or cuda.core raise in the block.
    """

    __slots__ = ("_device", "_entered")

    def __init__(self, number: int) -> None:
        self._device = _devices.get(number) or _device(number)

    def __enter__(self) -> Device:
        self._entered = self._device.native.enter()
        return self._device

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._device.native.leave(self._entered)
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
