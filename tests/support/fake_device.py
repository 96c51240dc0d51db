# SPDX-License-Identifier: Apache-2.0
"""GPUs that are not there: a CUDA driver (fakecuda.c) whose kernels the PTX simulator runs.

A test makes the driver with `build_driver` and runs Python in a child process with
`driver_environment`; there a `FakeDriver` gives tensors in memory of the device, and a test tells
it what has to fail:

    driver = FakeDriver()
    driver.fail("cuMemAlloc", nth=2, result=2)
    tensor = driver.tensor(content)
"""

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .commandline import run_code
from .ptx import AccessError, GlobalMemory, Module, PtxError
from .ptx.memory import Space
from .shared import made_once

SOURCE = Path(__file__).with_name("fakecuda.c")
# The names by which calls are counted and can be told to fail.
ENTRY_POINTS = sorted(set(re.findall(r'BEGIN\w*\("(\w+)"', SOURCE.read_text())))

OUT_OF_MEMORY, INVALID_PTX, NO_DEVICE, ILLEGAL_ADDRESS, LAUNCH_FAILED = 2, 218, 100, 700, 719


def build_driver(folder: Path) -> Path:
    """Compile the driver into a folder, as libcuda.so.1, and return its path.

    It is libcuda.so there too, which Numba tries first: a machine with a GPU has another one.
    """
    library = folder / "libcuda.so.1"
    flags = ["-O1", "-g", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-pthread"]
    subprocess.run(["cc", *flags, "-o", library, SOURCE, "-ldl"], check=True)
    (folder / "libcuda.so").symlink_to(library.name)
    return library


def built_driver(factory: pytest.TempPathFactory) -> Path:
    """Return the driver, compiled once for all workers."""
    return made_once(factory, "fake_driver", build_driver) / "libcuda.so.1"


def driver_environment(library: Path | None, **settings: int | str) -> dict[str, str]:
    """Return the environment of a child whose CUDA driver is a library of `build_driver`.

    Settings: `devices` (0: there is none), `version` of the driver (12080: CUDA 12.8), `chip` (90:
    compute capability 9.0), `memory` in bytes, `late` (1: work of a stream waits until somebody
    waits for it), `capturing` (the handle of a stream whose work becomes a graph), and `fail`:
    "cuMemAlloc:2:2,cuLaunchKernel:1:719!" lets the second allocation fail with 2, and the first
    launch and all calls behind it with 719. Without a library there is no driver.
    """
    tests = Path(__file__).parent.parent
    paths = [str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment |= {f"FAKECUDA_{name.upper()}": str(value) for name, value in settings.items()}
    if library is not None:
        environment["LD_LIBRARY_PATH"] = str(library.parent)
    return environment


# What children import when they need it, imported once: the driver itself is loaded by each child.
# It has also translated the kernels of the package.
_IMPORTS = """
import faulthandler
from contextlib import suppress
faulthandler.enable()
with suppress(ImportError):
    import cuda.core
    from cuda.bindings import driver
from atlas12288 import tensors
from atlas12288._gpu import device, kernels
from support import fake_device, strategies
from support.ptx import GlobalMemory, Module
for path in kernels.ptx_folder().glob("*.ptx"):
    Module(path.read_text(), GlobalMemory(1 << 12))
"""


def run_with_driver(
    library: Path | None, code: str, **settings: int | str
) -> subprocess.CompletedProcess[bytes]:
    """Run Python code in a child with a driver, or without one. A read of memory of the device by
    the host ends the child with SIGSEGV and a traceback. Without an error nothing is taken down:
    that would end the driver's callbacks before what calls them."""
    environment = driver_environment(library, **settings)
    if library is not None:
        return run_code(code, env=environment, imports=_IMPORTS)
    command = (sys.executable, "-c", code)
    return subprocess.run(command, env=environment, capture_output=True, check=False)


@dataclass(frozen=True)
class Launch:
    """A kernel that ran: its sizes in x, y and z, and its arguments as integers."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    arguments: tuple[int, ...]


class _Arena(GlobalMemory):
    """The driver's memory of devices, as the simulator's."""

    def __init__(self, base: int, size: int) -> None:
        content = (ctypes.c_ubyte * size).from_address(base)
        Space.__init__(self, "global", np.frombuffer(content, np.uint8), base)
        self.clock = 0
        self._next = size  # the driver allocates

    def allocate(self, content: bytes | int, *, shift: int = 0) -> int:
        raise MemoryError("a module with arrays in global memory is not supported here")


class FakeDriver:
    """The driver of this process, which `driver_environment` chose.

    `seed` makes threads go in random order. `rewrite` changes the text of each module before it is
    read, to put a mistake into it. `launches` and `faults` have what ran, and what the simulator
    found wrong, which the driver reports as a broken context.
    """

    def __init__(self, *, seed: int | None = None) -> None:
        self.seed = seed
        self.rewrite: Callable[[str], str] = str
        self.before_launch: Callable[[Launch], None] = lambda launch: None
        self.launches: list[Launch] = []
        self.faults: list[BaseException] = []
        self._modules: list[Module] = []
        self._kernels: list[tuple[Module, str]] = []
        self._library = library = ctypes.CDLL("libcuda.so.1")
        u64, u32, i32, text = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int, ctypes.c_char_p
        library.fakecuda_arena.restype = library.fakecuda_allocate.restype = u64
        library.fakecuda_calls.restype = library.fakecuda_allocated.restype = u64
        library.fakecuda_allocate_host.restype = u64
        library.fakecuda_allocate_host.argtypes = (ctypes.c_size_t,)
        library.fakecuda_stream.restype = u64
        library.fakecuda_allocate.argtypes = (i32, ctypes.c_size_t)
        library.fakecuda_release.argtypes = (u64,)
        library.fakecuda_set.argtypes = (text, ctypes.c_int64)
        library.fakecuda_fail.argtypes = (text, ctypes.c_int64, i32, i32)
        size = u64()
        base = library.fakecuda_arena(ctypes.byref(size))
        self.memory = _Arena(base, size.value)
        sizes, values = ctypes.POINTER(u32), ctypes.POINTER(ctypes.c_void_p)
        ranges = ctypes.CFUNCTYPE(None, u64, u64)
        # The order is that of `callback` in fakecuda.c. They live as long as the driver.
        self._callbacks = (
            ctypes.CFUNCTYPE(i32, text, ctypes.c_void_p, ctypes.c_size_t)(self._load),
            ctypes.CFUNCTYPE(i32, i32, text, ctypes.POINTER(i32), i32)(self._kernel),
            ctypes.CFUNCTYPE(i32, i32, sizes, sizes, u32, values)(self._launch),
            ranges(self.memory.add),
            ranges(self.memory.remove),
            ranges(self.memory.mark_written),
        )
        addresses = [ctypes.cast(c, ctypes.c_void_p) for c in self._callbacks]
        library.fakecuda_callbacks((ctypes.c_void_p * len(addresses))(*addresses))
        _drivers.append(self)

    # --- what a test sets and asks ---

    def fail(self, call: str, nth: int = 1, *, result: int, sticks: bool = False) -> None:
        """Let the nth call from now of an entry point (by its name without _v2; "*": of any) fail
        with a result. With `sticks` the device is lost: all later calls fail too. With nth=0 no
        call fails any more."""
        self._library.fakecuda_fail(call.encode(), nth, result, sticks)

    def set(self, name: str, value: int) -> None:
        """Change a setting of `driver_environment` other than `fail`."""
        if self._library.fakecuda_set(name.encode(), value):
            raise ValueError(f"no setting {name!r}")

    def calls(self, name: str) -> int:
        """Return how often an entry point was called, by its name without _v2."""
        return int(self._library.fakecuda_calls(name.encode()))

    @property
    def broke_a_graph(self) -> bool:
        """Whether a call was made that the driver forbids while a stream captures, since the
        setting `capturing` was made."""
        return bool(self._library.fakecuda_broken())

    @property
    def allocated(self) -> int:
        """Bytes of device memory that are allocated, tensors of the test among them."""
        return int(self._library.fakecuda_allocated())

    def allocate(self, size: int, device: int = 0) -> int:
        """Return the address of memory that belongs to the test; no call is counted."""
        pointer = int(self._library.fakecuda_allocate(device, size))
        if not pointer:
            raise MemoryError(f"{size} bytes do not fit into the fake device")
        return pointer

    def stream(self, device: int = 0) -> int:
        """Return the handle of a stream that belongs to the test; no call is counted."""
        return int(self._library.fakecuda_stream(device))

    def allocate_pinned(self, size: int) -> int:
        """Return the address of pinned memory, which is the host's and stays until the end."""
        return int(self._library.fakecuda_allocate_host(size))

    def release(self, pointer: int) -> None:
        self._library.fakecuda_release(pointer)

    def write(self, pointer: int, content: bytes) -> None:
        """Write memory of the device, at once, whatever streams do."""
        self._library.fakecuda_open(1)
        try:
            self.memory.write(pointer, content)
        finally:
            self._library.fakecuda_open(0)

    def read(self, pointer: int, size: int) -> bytes:
        self._library.fakecuda_open(1)
        try:
            return self.memory.read(pointer, size)
        finally:
            self._library.fakecuda_open(0)

    def tensor(self, content: bytes, **options: Any) -> "FakeTensor":
        """Return a tensor of bytes in memory of the device; options are those of `FakeTensor`."""
        return FakeTensor(self, content, **options)

    # --- what the driver calls ---

    def _load(self, text: bytes, log: int, size: int) -> int:
        try:
            self._modules.append(Module(self.rewrite(text.decode()), self.memory))
        except Exception as error:
            self.faults.append(error)
            message = str(error).encode()[: max(0, size - 1)] + b"\0"
            ctypes.memmove(log, message, min(size, len(message)))
            return -1
        return len(self._modules) - 1

    def _kernel(self, module: int, name: bytes, sizes: Any, most: int) -> int:
        kernel = self._modules[module].kernels.get(name.decode())
        if kernel is None or len(kernel.text.parameters) > most:
            return -1
        for k, parameter in enumerate(kernel.text.parameters):
            sizes[k] = parameter.size
        self._kernels.append((self._modules[module], name.decode()))
        return len(self._kernels) - 1

    def _launch(self, number: int, grid: Any, block: Any, shared: int, values: Any) -> int:
        try:
            module, name = self._kernels[number]
            arguments = tuple(
                int.from_bytes(ctypes.string_at(values[k], parameter.size), "little")
                for k, parameter in enumerate(module.kernels[name].text.parameters)
            )
            sizes = (grid[0], grid[1], grid[2]), (block[0], block[1], block[2])
            launch = Launch(name, *sizes, shared, arguments)
            self.launches.append(launch)
            self.before_launch(launch)
            module.launch(name, *sizes, arguments, shared=shared, seed=self.seed)
        except AccessError as error:
            self.faults.append(error)
            return ILLEGAL_ADDRESS
        except BaseException as error:
            self.faults.append(error)
            if not isinstance(error, PtxError):
                sys.excepthook(type(error), error, error.__traceback__)
            return LAUNCH_FAILED
        return 0


_drivers: list[FakeDriver] = []  # their callbacks must not be freed


# --- tensors ---

CUDA, CUDA_HOST, CUDA_MANAGED = 2, 3, 13  # DLDeviceType
READ_ONLY = 1  # a bit of DLManagedTensorVersioned.flags


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_handed_out: dict[int, tuple[Any, "FakeTensor"]] = {}

_python = ctypes.pythonapi
_python.PyCapsule_New.restype = ctypes.py_object
_python.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_char_p, _Destructor)
_python.PyCapsule_IsValid.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
_python.PyCapsule_GetPointer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
_python.PyCapsule_GetPointer.restype = ctypes.c_void_p


@_Deleter
def _delete(managed: int) -> None:
    _, tensor = _handed_out.pop(managed)
    tensor.deleted += 1


@_Destructor
def _destroy(capsule: int) -> None:
    """Delete what nobody took out of a capsule; who takes it renames the capsule."""
    for name in _NAMES:
        if _python.PyCapsule_IsValid(capsule, name):
            _delete(_python.PyCapsule_GetPointer(capsule, name))


_NAMES = (b"dltensor", b"dltensor_versioned")


class _Exchange(ctypes.Structure):
    """The functions of a type of DLPack 1.3."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("previous", ctypes.c_void_p),
        ("allocate", ctypes.c_void_p),
        ("give", ctypes.c_void_p),
        ("take", ctypes.c_void_p),
        ("lend", ctypes.c_void_p),
        ("work_stream", ctypes.c_void_p),
    )


class FakeTensor:
    """A tensor in memory of the device, as another library would have it.

    `shape` and `strides` count elements; without them it has one dimension. `dtype` is DLPack's
    (code, bits, lanes), `typestr` that of `__cuda_array_interface__`. `offset` bytes lie before the
    content in its allocation, which shifts its alignment. `stream` is what
    `__cuda_array_interface__` names. With `versioned` false it is a library before DLPack 1.0.
    The memory of a tensor whose `device_type` is CUDA_HOST is pinned, and the host may read it.
    `forms` says which of "dlpack" and "interface" it has at all. `asked` lists the streams that
    were handed to `__dlpack__`; `handed` and `deleted` count capsules and the calls of their
    deleters.
    """

    def __init__(
        self,
        driver: FakeDriver,
        content: bytes,
        *,
        shape: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        dtype: tuple[int, int, int] = (1, 8, 1),
        typestr: str = "|u1",
        offset: int = 0,
        byte_offset: int = 0,
        device: int = 0,
        device_type: int = CUDA,
        stream: int | None = None,
        read_only: bool = False,
        versioned: bool = True,
        forms: Sequence[str] = ("dlpack", "interface"),
    ) -> None:
        size = max(1, dtype[1] * dtype[2] // 8)
        self._driver, self._forms = driver, forms
        self.nbytes = len(content)
        self.shape = tuple(shape) if shape is not None else (len(content) // size,)
        self.strides = None if strides is None else tuple(strides)
        self._item = size
        self.dtype, self.typestr, self.stream = dtype, typestr, stream
        self.read_only, self.versioned = read_only, versioned
        self._byte_offset, self.device = byte_offset, (device_type, device)
        self._pinned = device_type == CUDA_HOST
        self._start = 0
        if self._pinned:
            self._start = driver.allocate_pinned(offset + len(content))
        elif content:
            self._start = driver.allocate(offset + len(content), device)
        self.pointer = self._start + offset if content else 0
        if content:
            self.write(content)
        self.asked: list[Any] = []
        self.handed = self.deleted = 0

    def free(self) -> None:
        """Give its memory of the device back, as if its owner freed it while others use it."""
        self._driver.release(self._start)

    def write(self, content: bytes, at: int = 0) -> None:
        if self._pinned:
            ctypes.memmove(self.pointer + at, content, len(content))
        else:
            self._driver.write(self.pointer + at, content)

    def tobytes(self) -> bytes:
        if self._pinned:
            return ctypes.string_at(self.pointer, self.nbytes)
        return self._driver.read(self.pointer, self.nbytes) if self.nbytes else b""

    def __getattribute__(self, name: str) -> Any:
        if name in _FORM_OF and _FORM_OF[name] not in object.__getattribute__(self, "_forms"):
            raise AttributeError(name)
        return object.__getattribute__(self, name)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = None if self.strides is None else tuple(s * self._item for s in self.strides)
        return {
            "shape": self.shape,
            "typestr": self.typestr,
            "data": (self.pointer, self.read_only),
            "strides": strides,
            "stream": self.stream,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: Any = None, **options: Any) -> Any:
        self.asked.append(stream)
        if options and not self.versioned:
            raise TypeError(f"__dlpack__() got unexpected arguments {sorted(options)}")
        versioned = self.versioned and (options.get("max_version") or (0, 0))[0] >= 1
        if self.read_only and not versioned:
            raise BufferError("a tensor that is read-only needs DLPack 1.0")
        address = self._managed(versioned)
        return _python.PyCapsule_New(address, _NAMES[versioned], _destroy)

    def _managed(self, versioned: bool) -> int:
        """Return the address of a tensor of DLPack that its taker deletes."""
        managed: Any = _Versioned() if versioned else _Managed()
        count = len(self.shape)
        shape = (ctypes.c_int64 * max(1, count))(*self.shape)
        strides = None
        if self.strides is not None:
            strides = (ctypes.c_int64 * max(1, count))(*self.strides)
        tensor = managed.tensor
        tensor.data = self.pointer - self._byte_offset if self.pointer else None
        tensor.device_type, tensor.device_id = self.device
        tensor.ndim = count
        tensor.code, tensor.bits, tensor.lanes = self.dtype
        tensor.shape = shape
        tensor.strides = strides
        tensor.byte_offset = self._byte_offset if self.pointer else 0
        managed.deleter = ctypes.cast(_delete, ctypes.c_void_p)
        if versioned:
            managed.major, managed.minor = 1, 1
            managed.flags = READ_ONLY if self.read_only else 0
        address = ctypes.addressof(managed)
        _handed_out[address] = ((managed, shape, strides), self)
        self.handed += 1
        return address


@ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(ctypes.c_uint64))
def _give(tensor: "ExchangedTensor", out: Any) -> int:
    out[0] = tensor._managed(True)
    return 0


@ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(_Tensor))
def _lend(tensor: "ExchangedTensor", out: Any) -> int:
    out[0].device_type, out[0].device_id = tensor.device
    return 0


@ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int32, ctypes.POINTER(ctypes.c_uint64))
def _work_stream(device_type: int, number: int, out: Any) -> int:
    out[0] = ExchangedTensor.producer
    return 0


class ExchangedTensor(FakeTensor):
    """A tensor whose type has the functions of DLPack 1.3, as PyTorch's; they name `producer` as
    the stream that tensors may still be written on."""

    producer = 0
    functions = _Exchange(
        major=1,
        minor=3,
        give=ctypes.cast(_give, ctypes.c_void_p),
        lend=ctypes.cast(_lend, ctypes.c_void_p),
        work_stream=ctypes.cast(_work_stream, ctypes.c_void_p),
    )
    _NAME = ctypes.create_string_buffer(b"dlpack_exchange_api")  # the capsule does not copy it
    __dlpack_c_exchange_api__ = _python.PyCapsule_New(
        ctypes.addressof(functions), ctypes.cast(_NAME, ctypes.c_char_p), _Destructor()
    )


_FORM_OF = {
    "__cuda_array_interface__": "interface",
    "__dlpack__": "dlpack",
    "__dlpack_device__": "dlpack",
}
