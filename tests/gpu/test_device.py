# SPDX-License-Identifier: Apache-2.0
"""What a real CUDA device makes of tensors, against this CPU's own way."""

import subprocess
import sys
import threading
from typing import Any

import numpy
import pytest

import atlas12288 as atlas
from atlas12288._gpu import device as devices
from atlas12288.tensors import ArrayWitness, TensorsWitness
from support.strategies import noise

torch = pytest.importorskip("torch")
WINDOW = atlas.WINDOW_BYTES
LENGTHS = (
    *(0, 1, 2, 15, 16, 17, 54, 55, 56, 63, 64, 65, 119, 120, 128, 1000),
    *(WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW + 55, 255 * WINDOW, 256 * WINDOW + 1),
    *(513 * WINDOW - 5, 2000 * WINDOW + 33),
)


def same(found: atlas.TreeWitness, data: bytes) -> None:
    expected = atlas.TreeWitness.generate(data)
    assert (found.length, found.root, found.residue, found.leaves) == (
        expected.length,
        expected.root,
        expected.residue,
        expected.leaves,
    )


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("shift", [0, 1, 2, 4, 8, 15])
def test_a_tensor_has_the_witness_of_its_bytes(on_device: Any, length: int, shift: int) -> None:
    data = noise(length)
    tensor = on_device(data, shift)
    same(atlas.TreeWitness.generate(tensor), data)
    without = atlas.TreeWitness.generate(tensor, leaves=False)
    assert without.leaves is None
    assert without.root == atlas.TreeWitness.generate(data).root
    assert atlas.residue(tensor) == atlas.residue(data)
    assert atlas.is_conserved(tensor) == atlas.is_conserved(data)
    assert atlas.window_residues(tensor) == atlas.window_residues(data)


@pytest.mark.parametrize("length", [0, 5, 512 * WINDOW, 1600 * WINDOW + 7])
def test_host_copies_give_the_same(on_device: Any, length: int) -> None:
    data = noise(length)
    tensor = on_device(data)
    same(atlas.TreeWitness.generate(tensor, host=True), data)
    assert atlas.residue(tensor, host=True) == atlas.residue(data)
    assert atlas.window_residues(tensor, host=True) == atlas.window_residues(data)


def test_a_large_tensor_takes_the_kernel_for_large_grids(on_device: Any) -> None:
    with devices.current(0) as found:
        windows = 400 * found.multiprocessors + 77
    data = noise(WINDOW + 5) * (windows // 2)
    same(atlas.TreeWitness.generate(on_device(data)), data)


def test_damage_is_found_by_window(on_device: Any) -> None:
    data = bytearray(noise(600 * WINDOW))
    witness = atlas.TreeWitness.generate(bytes(data))
    tensor = on_device(bytes(data))
    assert witness.verify(tensor)
    assert witness.changed(tensor) == []
    tensor[300 * WINDOW + 5] ^= 4
    tensor[0] ^= 1
    assert not witness.verify(tensor)
    assert witness.changed(tensor) == [0, 300]
    assert not witness.verify(tensor[:-1])


def test_results_are_waited_for_later_and_tensors_are_kept_until_then(on_device: Any) -> None:
    data = noise(500 * WINDOW)
    pending = [atlas.TreeWitness.generate(on_device(data), wait=False) for _ in range(20)]
    # The tensors are ours alone now; what torch gives out next must not be their memory.
    others = [torch.full((500 * WINDOW,), 7, dtype=torch.uint8, device="cuda") for _ in range(20)]
    root = atlas.TreeWitness.generate(data).root
    for each in pending:
        witness = each.result()
        assert each.done()
        assert each.result() is witness
        assert witness.root == root
    del others
    assert atlas.TreeWitness.generate(data).verify(on_device(data), wait=False).result()


def test_nobody_asks_for_a_result(on_device: Any) -> None:
    for _ in range(50):
        atlas.TreeWitness.generate(on_device(noise(500 * WINDOW)), wait=False)
    same(atlas.TreeWitness.generate(on_device(b"after")), b"after")


def test_work_waits_for_what_another_stream_writes(on_device: Any) -> None:
    size = 64 << 20
    tensor = torch.zeros(size, dtype=torch.uint8, device="cuda")
    roots = [atlas.TreeWitness.generate(bytes([value]) * size).root for value in range(4)]
    side = torch.cuda.Stream()
    for turn in range(40):
        value = turn % 4
        with torch.cuda.stream(side):
            tensor.random_(0, 255)
            tensor.fill_(value)
            found = atlas.TreeWitness.generate(tensor, leaves=False, wait=False)
        # The next write waits for the hash only because we ask for it here.
        assert found.result().root == roots[value], turn


@pytest.mark.parametrize("kind", ["int", "object", "zero"])
def test_work_runs_on_the_stream_that_is_named(on_device: Any, kind: str) -> None:
    data = noise(100 * WINDOW)
    side = torch.cuda.Stream()
    stream = {"int": side.cuda_stream, "zero": 0, "object": _Stream(side.cuda_stream)}[kind]
    same(atlas.TreeWitness.generate(on_device(data), stream=stream), data)
    assert atlas.residue(on_device(data), stream=stream) == atlas.residue(data)


class _Stream:
    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


@pytest.mark.parametrize(
    ("stream", "error"), [("x", TypeError), (True, TypeError), (-1, ValueError)]
)
def test_what_is_no_stream_is_refused(on_device: Any, stream: Any, error: type) -> None:
    with pytest.raises(error, match="stream is"):
        atlas.residue(on_device(b"x"), stream=stream)


class _Array:
    """A tensor's memory by __cuda_array_interface__ alone, as Numba's arrays have it."""

    def __init__(self, tensor: Any, stream: int | None = None, **changes: Any) -> None:
        self._tensor = tensor
        face = dict(tensor.__cuda_array_interface__)
        if stream is not None:
            face |= {"stream": stream, "version": 3}
        self.__cuda_array_interface__ = face | changes


def test_arrays_of_the_cuda_array_interface_are_taken(on_device: Any) -> None:
    data = noise(70 * WINDOW + 3)
    tensor = on_device(data)
    torch.cuda.synchronize()
    for stream in (None, 1, 2, torch.cuda.Stream().cuda_stream):
        same(atlas.TreeWitness.generate(_Array(tensor, stream)), data)
    matrix = on_device(noise(6 * 8)).reshape(6, 8)
    with pytest.raises(BufferError, match="C-contiguous"):
        atlas.residue(_Array(matrix.t()))


def test_pinned_memory_is_host_memory() -> None:
    data = noise(3 * WINDOW)
    tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8).pin_memory()
    same(atlas.TreeWitness.generate(tensor), data)
    assert atlas.Witness.generate(tensor).verify(data)


def test_cupy_arrays() -> None:
    cupy = pytest.importorskip("cupy")
    data = noise(40 * WINDOW + 9)
    array = cupy.asarray(memoryview(data))
    same(atlas.TreeWitness.generate(array), data)
    with pytest.raises(BufferError):
        atlas.residue(array[::2])


@pytest.mark.parametrize("allocate", ["malloc_managed", "malloc_async"])
def test_memory_of_any_allocator_of_cupy(allocate: str) -> None:
    cupy = pytest.importorskip("cupy")
    data = noise(40 * WINDOW + 9)
    memory = getattr(cupy.cuda, allocate)(len(data))
    array = cupy.ndarray((len(data),), "u1", memory)
    array.set(numpy.frombuffer(data, "u1"))
    same(atlas.TreeWitness.generate(array), data)


def test_pinned_memory_of_cupy_is_host_memory() -> None:
    cupy = pytest.importorskip("cupy")
    data = noise(40 * WINDOW + 9)
    array = numpy.frombuffer(cupy.cuda.alloc_pinned_memory(len(data)), "u1", len(data))
    array[:] = numpy.frombuffer(data, "u1")
    same(atlas.TreeWitness.generate(array), data)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "bfloat16", "float8_e4m3fn"])
def test_jax_arrays(dtype: str) -> None:
    jax = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("this JAX has no GPU")
    array = jax.numpy.arange(100_000).astype(dtype)
    same(atlas.TreeWitness.generate(array), numpy.asarray(array).tobytes())


def test_half_complex_tensors_of_pytorch(on_device: Any) -> None:
    data = noise(40 * WINDOW)
    same(atlas.TreeWitness.generate(on_device(data).view(torch.complex32)), data)


def test_packed_types_of_pytorch_are_taken_as_bytes(on_device: Any) -> None:
    data = noise(40 * WINDOW + 6)
    packed = on_device(data).view(torch.float4_e2m1fn_x2)
    same(atlas.TreeWitness.generate(packed), data)
    assert atlas.residue(packed) == atlas.residue(data)
    with pytest.raises(TypeError, match="must have one with a name here"):
        TensorsWitness.generate({"packed": packed}, tree=True)


def test_quantized_tensors_of_pytorch_are_refused_and_their_numbers_taken() -> None:
    numbers = torch.arange(100, dtype=torch.float32, device="cuda")
    quantized = torch.quantize_per_tensor(numbers, 0.5, 3, torch.quint8)
    with pytest.raises((BufferError, TypeError)):
        atlas.TreeWitness.generate(quantized)
    kept = quantized.int_repr()
    same(atlas.TreeWitness.generate(kept), kept.cpu().numpy().tobytes())


@pytest.mark.parametrize("dtype", ["u1", "<i2", "<f4", "<c16", "?"])
def test_arrays_of_numba(dtype: str) -> None:
    cuda = pytest.importorskip("numba.cuda")
    data = numpy.frombuffer(noise(40 * WINDOW + 16), "u1")
    typed = data > 99 if dtype == "?" else data.view(dtype)
    stream = cuda.stream()
    for array in (cuda.to_device(typed), cuda.to_device(typed, stream=stream)):
        same(atlas.TreeWitness.generate(array), typed.tobytes())
        found = ArrayWitness.generate(typed, tree=True)
        assert found.verify(array)
        assert ArrayWitness.generate(array, tree=True).digest == found.digest
        assert atlas.residue(array[3:]) == atlas.residue(typed[3:])
        with pytest.raises(BufferError, match="C-contiguous"):
            atlas.residue(array[::2])


def test_a_stream_whose_work_becomes_a_graph_is_refused_and_stays_as_it_was(
    on_device: Any,
) -> None:
    data = noise(40 * WINDOW)
    tensor, other = on_device(data), on_device(bytes(len(data)))
    atlas.TreeWitness.generate(tensor)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for work in (atlas.TreeWitness.generate, atlas.residue):
            with pytest.raises(atlas.DeviceError, match="STREAM_CAPTURE_UNSUPPORTED"):
                work(tensor)
        other.copy_(tensor)
    same(atlas.TreeWitness.generate(tensor), data)
    graph.replay()
    same(atlas.TreeWitness.generate(other), data)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="it needs two devices")
def test_tensors_of_several_devices_are_hashed_on_theirs(on_device: Any) -> None:
    data = {f"t{k}": noise(300 * WINDOW + k, k) for k in range(8)}
    count = torch.cuda.device_count()
    spread = {
        name: on_device(each).to(f"cuda:{k % count}") for k, (name, each) in enumerate(data.items())
    }
    for name, tensor in spread.items():
        same(atlas.TreeWitness.generate(tensor), data[name])
        assert atlas.residue(tensor) == atlas.residue(data[name])
    witness = TensorsWitness.generate(
        {name: numpy.frombuffer(each, "u1") for name, each in data.items()}, tree=True
    )
    assert witness.verify(spread)
    spread["t3"][5 * WINDOW] ^= 1
    assert [found.name for found in witness.verify(spread).changed] == ["t3"]


def test_flat_witnesses_need_host_memory_and_say_so(on_device: Any) -> None:
    with pytest.raises(BufferError, match=r"x\.cpu\(\)"):
        atlas.Witness.generate(on_device(b"abc"))


def test_threads_share_a_device(on_device: Any) -> None:
    data = [noise(200 * WINDOW + k, k) for k in range(8)]
    roots = [atlas.TreeWitness.generate(each).root for each in data]
    tensors = [on_device(each) for each in data]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(30):
            if atlas.TreeWitness.generate(tensors[k]).root != roots[k]:
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_memory_is_given_back(on_device: Any) -> None:
    tensor = torch.zeros(4 << 30, dtype=torch.uint8, device="cuda")
    for _ in range(5):
        atlas.TreeWitness.generate(tensor)
    with devices.current(0) as found:
        found.core.sync()
        assert found.pool.attributes.used_mem_current == 0
        assert found.pool.attributes.reserved_mem_current <= devices.KEPT_BYTES
        devices.release_memory()
        assert found.pool.attributes.reserved_mem_current == 0


LOST = """
import torch, atlas12288 as atlas
x = torch.zeros(1 << 20, dtype=torch.uint8, device="cuda")
w = atlas.TreeWitness.generate(x, leaves=False)
class Wild:
    __cuda_array_interface__ = {"data": (x.data_ptr() + (1 << 45), False), "shape": (1 << 20,),
                                "typestr": "|u1", "strides": None, "version": 2}
from atlas12288._gpu import device
device.number_of = lambda address: 0
for each in (Wild(), x, x):
    try:
        print(w.verify(each))
    except atlas.DeviceError as error:
        print("DeviceError", error)
"""


def test_a_lost_context_is_an_error_for_all_later_calls() -> None:
    command = [sys.executable, "-c", LOST]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    lines = run.stdout.splitlines()
    assert len(lines) == 3, run
    assert all(line.startswith("DeviceError") and "nothing is known" in line for line in lines)


def test_the_current_context_is_as_it_was(on_device: Any) -> None:
    from cuda.bindings import driver

    before = driver.cuCtxGetCurrent()
    atlas.residue(on_device(b"abc"))
    assert str(driver.cuCtxGetCurrent()) == str(before)
    seen: list[object] = []

    def other() -> None:
        atlas.residue(tensor)
        seen.append(int(driver.cuCtxGetCurrent()[1]))

    tensor = on_device(b"abc")
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [0]
