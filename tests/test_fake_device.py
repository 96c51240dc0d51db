# SPDX-License-Identifier: Apache-2.0
"""The driver without a GPU does what drivers do, fails when it is told to, and notices misuse."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.fake_device import built_driver, run_with_driver
from support.tools import needs

pytestmark = [
    needs("cc"),
    pytest.mark.skipif(sys.platform != "linux", reason="the driver is built for Linux"),
]

# Adds 1 to each of 64 words.
PTX = """.version 7.8
.target sm_80
.address_size 64
.visible .entry more(.param .u64 more_0)
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd0, [more_0];
    mov.u32 %r0, %tid.x;
    mul.wide.u32 %rd1, %r0, 4;
    add.s64 %rd2, %rd0, %rd1;
    ld.global.b32 %r1, [%rd2];
    add.s32 %r2, %r1, 1;
    st.global.b32 [%rd2], %r2;
    ret;
}
"""

START = f"""
import ctypes
from support.fake_device import FakeDriver
driver = FakeDriver()
cuda = ctypes.CDLL("libcuda.so.1")
PTX = {PTX!r}
pointer = ctypes.c_void_p

def ok(code, *results):
    assert code == 0, code
    return results[0] if results else None

def made(call, *arguments):
    result = pointer()
    ok(call(ctypes.byref(result), *arguments))
    return result

def start():
    ok(cuda.cuInit(0))
    ok(cuda.cuCtxSetCurrent(made(cuda.cuDevicePrimaryCtxRetain, 0)))

def kernel():
    return made(cuda.cuModuleGetFunction, made(cuda.cuModuleLoadData, PTX.encode()), b"more")

def launch(function, address, stream=None, threads=64):
    value = ctypes.c_uint64(address)
    values = (pointer * 1)(ctypes.addressof(value))
    return cuda.cuLaunchKernel(function, 1, 1, 1, threads, 1, 1, 0, stream, values, None)

words = b"".join(n.to_bytes(4, "little") for n in range(64))
more = b"".join(n.to_bytes(4, "little") for n in range(1, 65))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_driver(tmp_path_factory)


def run(library: Path, code: str, **settings: int | str) -> subprocess.CompletedProcess[bytes]:
    return run_with_driver(library, START + code, **settings)


def succeed(library: Path, code: str, **settings: int | str) -> None:
    done = run(library, code, **settings)
    assert done.returncode == 0, done.stderr.decode()


def test_a_kernel_runs_in_the_simulator(library: Path) -> None:
    succeed(
        library,
        """
start()
tensor = driver.tensor(words)
ok(launch(kernel(), tensor.pointer))
assert tensor.tobytes() == more
assert [(l.kernel, l.block, l.arguments) for l in driver.launches] == [
    ("more", (64, 1, 1), (tensor.pointer,))
]
assert driver.calls("cuLaunchKernel") == 1
""",
    )


def test_a_late_stream_runs_when_somebody_waits(library: Path) -> None:
    succeed(
        library,
        """
start()
tensor = driver.tensor(words)
function, event = kernel(), made(cuda.cuEventCreate, 2)
stream, other = made(cuda.cuStreamCreate, 1), made(cuda.cuStreamCreate, 1)
ok(launch(function, tensor.pointer, stream))
ok(cuda.cuEventRecord(event, stream))
ok(cuda.cuStreamSynchronize(other))
assert tensor.tobytes() == words and cuda.cuEventQuery(event) == 600
ok(cuda.cuStreamWaitEvent(other, event, 0))
ok(cuda.cuStreamSynchronize(other))
assert tensor.tobytes() == more and cuda.cuEventQuery(event) == 0
""",
        late=1,
    )


def test_who_waits_for_an_event_waits_for_its_record_of_that_time(library: Path) -> None:
    succeed(
        library,
        """
start()
first, second = driver.tensor(words), driver.tensor(words)
function, event = kernel(), made(cuda.cuEventCreate, 2)
one, two, waits = (made(cuda.cuStreamCreate, 1) for _ in range(3))
ok(launch(function, first.pointer, one))
ok(cuda.cuEventRecord(event, one))
ok(cuda.cuStreamWaitEvent(waits, event, 0))
ok(launch(function, second.pointer, two))
ok(cuda.cuEventRecord(event, two))
ok(cuda.cuStreamSynchronize(waits))
assert (first.tobytes(), second.tobytes()) == (more, words) and cuda.cuEventQuery(event) == 600
ok(cuda.cuEventSynchronize(event))
assert second.tobytes() == more
""",
        late=1,
    )


def test_the_host_cannot_read_memory_of_the_device(library: Path) -> None:
    code = """
start()
tensor = driver.tensor(words)
print("before", flush=True)
ctypes.string_at(tensor.pointer, 1)
"""
    done = run(library, code)
    assert done.stdout == b"before\n"
    assert done.returncode == -signal.SIGSEGV


def test_a_launch_on_freed_memory_breaks_the_context(library: Path) -> None:
    succeed(
        library,
        """
start()
tensor = driver.tensor(words)
function = kernel()
tensor.free()
assert launch(function, tensor.pointer) == 700
assert cuda.cuCtxSynchronize() == 700
assert "outside every allocation" in str(driver.faults[0])
""",
    )


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"devices": 0}, "assert cuda.cuInit(0) == 100"),
        (
            {"fail": "cuMemAlloc:2:2"},
            "start(); results = [cuda.cuMemAlloc_v2(ctypes.byref(pointer()), 8) for _ in range(3)];"
            "assert results == [0, 2, 0]",
        ),
        (
            {"memory": 100},
            "start(); assert cuda.cuMemAlloc_v2(ctypes.byref(pointer()), 101) == 2;"
            "ok(cuda.cuMemAlloc_v2(ctypes.byref(pointer()), 100))",
        ),
        (
            {"fail": "*:4:719!"},
            "start(); assert cuda.cuCtxSynchronize() == 719 == cuda.cuCtxSynchronize()",
        ),
        ({"chip": 75}, "start(); assert cuda.cuModuleLoadData(b'0' * 8, PTX.encode()) == 209"),
        (
            {"version": 11040},
            "start(); assert cuda.cuModuleLoadData(b'0' * 8, PTX.encode()) == 222",
        ),
        (
            {},
            "start(); assert cuda.cuModuleLoadData(b'0' * 8, b'.version 7.8 .target sm_80') == 218",
        ),
        ({}, "assert cuda.cuInit(0) == 0 and cuda.cuCtxSynchronize() == 201"),
        ({}, "assert cuda.cuCtxSynchronize() == 3"),
        ({}, "start(); assert launch(kernel(), 0, threads=1025) == 1"),
    ],
)
def test_calls_fail_as_settings_say(
    library: Path, settings: dict[str, int | str], code: str
) -> None:
    succeed(library, code, **settings)


def test_tensors_are_handed_out_as_dlpack(library: Path) -> None:
    """`deleted` counts the capsules that nobody took."""
    succeed(
        library,
        """
start()
tensor = driver.tensor(words, shape=(8, 8), dtype=(0, 32, 1), typestr="<i4", stream=7)
old, new = tensor.__dlpack__(stream=5), tensor.__dlpack__(stream=6, max_version=(1, 0))
assert '"dltensor"' in repr(old) and '"dltensor_versioned"' in repr(new)
assert (tensor.asked, tensor.handed, tensor.deleted) == ([5, 6], 2, 0)
del old
assert tensor.deleted == 1
interface = tensor.__cuda_array_interface__
assert interface["data"] == (tensor.pointer, False) and interface["stream"] == 7
assert not hasattr(driver.tensor(words, forms=["dlpack"]), "__cuda_array_interface__")
""",
    )


def test_pinned_tensors_are_memory_of_the_host(library: Path) -> None:
    succeed(
        library,
        """
from support.fake_device import CUDA_HOST
start()
tensor = driver.tensor(words, device_type=CUDA_HOST)
kind = ctypes.c_uint()
ok(cuda.cuPointerGetAttribute(ctypes.byref(kind), 2, ctypes.c_uint64(tensor.pointer)))
assert kind.value == 1 and tensor.__dlpack_device__() == (3, 0)
assert ctypes.string_at(tensor.pointer, len(words)) == words == tensor.tobytes()
""",
    )


def test_cuda_bindings_load_the_driver(library: Path) -> None:
    pytest.importorskip("cuda.bindings.driver")
    succeed(
        library,
        """
from cuda.bindings import driver as bindings
assert bindings.cuInit(0) == (bindings.CUresult.CUDA_SUCCESS,)
assert bindings.cuDeviceGetCount()[1] == 1
assert bindings.cuDeviceGetName(16, 0)[1].startswith(b"Fake GPU 0")
context = bindings.cuDevicePrimaryCtxRetain(0)[1]
bindings.cuCtxSetCurrent(context)
tensor = driver.tensor(words)
module = bindings.cuModuleLoadData(PTX.encode() + b"\\0")[1]
function = bindings.cuModuleGetFunction(module, b"more")[1]
values = ((tensor.pointer,), (ctypes.c_uint64,))
assert not any(bindings.cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, 0, values, 0))
assert tensor.tobytes() == more
""",
    )
