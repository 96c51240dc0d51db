# SPDX-License-Identifier: Apache-2.0
"""Tensors on a GPU, by a driver that runs kernels in the simulator: results and all failures."""

import textwrap
from pathlib import Path

import pytest

from support import commandline
from support.fake_device import built_driver, run_with_driver
from support.tools import needs

pytest.importorskip("cuda.core")
pytestmark = needs("cc")

START = """
import gc
import atlas12288 as atlas
from support.fake_device import FakeDriver, LAUNCH_FAILED, OUT_OF_MEMORY
from support.strategies import noise

driver = FakeDriver()

def raised(error, work):
    try:
        found = work()
    except error as caught:
        assert type(caught) is error, repr(caught)
        return str(caught)
    raise AssertionError(f"{found!r}, must raise {error.__name__}")

def same(found, data):
    expected = atlas.TreeWitness.generate(data)
    for name in ("length", "root", "residue", "leaves"):
        assert getattr(found, name) == getattr(expected, name), name
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_driver(tmp_path_factory)


def run(library: Path | None, code: str, start: str = START, **settings: int | str) -> None:
    """Run code in a process of its own that has the driver; it must end well."""
    done = run_with_driver(library, start + textwrap.dedent(code), **settings)
    assert done.returncode == 0, f"{done.stdout.decode()}\n{done.stderr.decode()}"


# --- results ---


def test_tensors_of_every_form_have_the_witness_of_their_bytes(library: Path) -> None:
    run(
        library,
        """
        # A whole window takes half a second: what only names another form has none.
        windows, few = noise(12288 + 77), noise(300)
        for data, options in (
            (windows, {}), (windows, {"offset": 7}), (few, {"versioned": False}),
            (few, {"read_only": True}), (few, {"forms": ["interface"]}),
            (few, {"forms": ["interface"], "stream": 1}), (few, {"byte_offset": 64}),
            (few, {"shape": (1, len(few)), "strides": (7, 1)}), (few, {"device_type": 13}),
        ):
            tensor = driver.tensor(data, **options)
            if "offset" in options:
                driver.write(tensor.pointer - 7, b"another")  # its words are read whole
            if len(options) < 2:
                same(atlas.TreeWitness.generate(tensor), data)
            assert atlas.residue(tensor) == atlas.residue(data)
            assert atlas.is_conserved(tensor) is atlas.is_conserved(data)
            assert atlas.window_residues(tensor) == atlas.window_residues(data)
            assert tensor.handed == tensor.deleted
        empty = driver.tensor(b"")
        same(atlas.TreeWitness.generate(empty), b"")
        assert (atlas.residue(empty), atlas.window_residues(empty)) == (0, b"")
        """,
    )


def test_damage_on_a_device_is_found_by_window(library: Path) -> None:
    run(
        library,
        """
        data = noise(12288 + 200)  # a whole window takes half a second
        witness, tensor = atlas.TreeWitness.generate(data), driver.tensor(data)
        assert witness.verify(tensor) and witness.changed(tensor) == []
        tensor.write(b"?", 12288 + 9)
        assert not witness.verify(tensor) and witness.changed(tensor) == [1]
        assert not witness.verify(driver.tensor(data[:-1]))
        assert not atlas.TreeWitness.generate(data[:-1]).verify(driver.tensor(data))
        """,
    )


@pytest.mark.slow
def test_copies_in_the_host_give_the_same(library: Path) -> None:
    run(
        library,
        """
        data = noise(1100 * 12288 + 5)
        tensor = driver.tensor(data)
        for threads in (1, 3):
            found = atlas.TreeWitness.generate(tensor, host=True, threads=threads)
            same(found, data)
        assert atlas.residue(tensor, host=True) == atlas.residue(data)
        assert atlas.window_residues(tensor, host=True) == atlas.window_residues(data)
        same(atlas.TreeWitness.generate(driver.tensor(b""), host=True), b"")
        assert driver.launches == []
        """,
        memory=1 << 27,
    )


def test_a_result_is_waited_for_and_the_tensor_kept_until_then(library: Path) -> None:
    run(
        library,
        """
        data = noise(300)
        tensor = driver.tensor(data)
        pending = atlas.TreeWitness.generate(tensor, wait=False)
        assert not pending.done() and tensor.deleted == 0 and driver.launches == []
        witness = pending.result()
        same(witness, data)
        assert pending.done() and pending.result() is witness and tensor.deleted == 1
        verdict = witness.verify(tensor, wait=False)
        assert verdict.result() is True
        assert atlas.TreeWitness.generate(data, wait=False).result().verify(data)
        # Nobody asks: the tensor is kept until the device has read it.
        runs, before = len(driver.launches), driver.allocated
        pending = atlas.TreeWitness.generate(tensor, wait=False)
        assert len(driver.launches) == runs and driver.allocated > before
        del pending
        gc.collect()
        assert len(driver.launches) > runs and tensor.deleted == tensor.handed
        atlas.residue(tensor)  # which waits for what is on the stream: the memory is given back
        assert driver.allocated == before
        """,
        late=1,
    )


@pytest.mark.slow
def test_a_call_asks_little_of_the_driver(library: Path) -> None:
    """A real driver takes two microseconds for each."""
    run(
        library,
        """
        from support.fake_device import ENTRY_POINTS
        from cuda import core

        tensor, two = driver.tensor(noise(300)), driver.tensor(noise(12288 + 9))
        atlas.TreeWitness.generate(two)
        core.Device(0).set_current()  # as PyTorch does

        def asked(work):
            before = {name: driver.calls(name) for name in ENTRY_POINTS}
            found = work()
            calls = {name: driver.calls(name) - before[name] for name in ENTRY_POINTS}
            return found, {name: count for name, count in calls.items() if count}

        launch = {
            "cuCtxGetCurrent": 1, "cuMemAllocFromPoolAsync": 1, "cuStreamIsCapturing": 1,
            "cuLaunchKernel": 1, "cuEventRecord": 1, "cuThreadExchangeStreamCaptureMode": 2,
        }
        tree = {"cuLaunchKernel": 2}  # of one window the leaf is the root
        result = {
            "cuCtxGetCurrent": 1, "cuEventSynchronize": 1, "cuMemcpyDtoHAsync": 1,
            "cuStreamSynchronize": 1, "cuMemFreeAsync": 1, "cuThreadExchangeStreamCaptureMode": 2,
        }
        for source, expected in ((tensor, launch), (two, launch | tree)):
            for leaves in (True, False):
                generate = lambda: atlas.TreeWitness.generate(source, leaves=leaves, wait=False)
                pending, calls = asked(generate)
                copy = {"cuMemcpyDtoDAsync": 1} if leaves and source is two else {}
                assert calls == expected | copy, calls
                witness, calls = asked(pending.result)
                assert calls == result, calls
                assert witness.root == atlas.TreeWitness.generate(source.tobytes()).root
        # An array that another stream may still write: is that captured, one more record, a wait.
        array = driver.tensor(noise(300), forms=["interface"], stream=1)
        atlas.residue(array)
        pending, calls = asked(lambda: atlas.TreeWitness.generate(array, leaves=False, wait=False))
        more = {"cuPointerGetAttribute": 1, "cuStreamWaitEvent": 1}
        assert calls == launch | more | {"cuEventRecord": 2, "cuStreamIsCapturing": 2}, calls
        pending.result()
        """,
    )


@pytest.mark.slow
def test_streams_are_named_and_waited_for(library: Path) -> None:
    run(
        library,
        """
        from atlas12288._gpu.device import current
        data = noise(5000)
        with current(0) as device:
            ours, other = int(device.stream.handle), device.core.create_stream()
        class Stream:
            def __cuda_stream__(self):
                return 0, int(other.handle)
        tensor = driver.tensor(data)
        for stream in (None, int(other.handle), Stream(), 0):
            assert atlas.residue(tensor, stream=stream) == atlas.residue(data)
        assert tensor.asked == [ours, int(other.handle), int(other.handle), 1]
        for stream in ("0", True, 1.5):
            message = raised(TypeError, lambda: atlas.residue(tensor, stream=stream))
            assert "stream is of type" in message
        assert "stream is -3" in raised(ValueError, lambda: atlas.residue(tensor, stream=-3))
        array = driver.tensor(data, forms=["interface"], stream=int(other.handle))
        waits = driver.calls("cuStreamWaitEvent")
        assert atlas.residue(array) == atlas.residue(data)
        assert driver.calls("cuStreamWaitEvent") == waits + 1
        assert driver.calls("cuCtxSynchronize") == 0
        """,
    )


@pytest.mark.slow
def test_the_current_context_stays_what_it_was(library: Path) -> None:
    run(
        library,
        """
        from cuda.bindings import driver as api
        tensor = driver.tensor(noise(100))
        atlas.residue(tensor)
        assert int(api.cuCtxGetCurrent()[1]) == 0
        atlas.residue(driver.tensor(noise(100), device=1))
        assert int(api.cuCtxGetCurrent()[1]) == 0
        """,
        devices=2,
    )


@pytest.mark.slow
def test_memory_of_ours_is_freed_and_the_rest_is_given_back(library: Path) -> None:
    run(
        library,
        """
        tensor = driver.tensor(noise(30_000))
        before = driver.allocated
        witness = atlas.TreeWitness.generate(tensor)
        assert atlas.residue(tensor) == witness.residue
        gc.collect()
        assert driver.allocated == before
        trims = driver.calls("cuMemPoolTrimTo")
        atlas.release_device_memory()
        assert driver.calls("cuMemPoolTrimTo") == trims + 1
        """,
    )


@pytest.mark.slow
def test_tensors_are_taken_by_the_functions_of_their_type(library: Path) -> None:
    run(
        library,
        """
        from support.fake_device import ExchangedTensor, FakeTensor
        data = noise(300)
        tensor, other = ExchangedTensor(driver, data), ExchangedTensor(driver, data, device_type=3)
        atlas.residue(tensor)
        FakeTensor.__dlpack_device__ = None  # nobody asks the method
        for producer, waits in ((0, 1), (1, 1), (2, 1)):
            ExchangedTensor.producer = producer
            before = driver.calls("cuStreamWaitEvent")
            assert atlas.residue(tensor) == atlas.residue(data)
            assert driver.calls("cuStreamWaitEvent") == before + waits
        from atlas12288._gpu.device import current
        with current(0) as device:
            ExchangedTensor.producer = device.handle  # our own: nothing to wait for
        before = driver.calls("cuStreamWaitEvent")
        same(atlas.TreeWitness.generate(tensor), data)
        same(atlas.TreeWitness.generate(other), data)  # pinned
        assert driver.calls("cuStreamWaitEvent") == before
        assert tensor.asked == [] and tensor.handed == tensor.deleted > 0
        """,
    )


@pytest.mark.slow
def test_a_type_that_lends_nothing_is_asked_by_its_method(library: Path) -> None:
    run(
        library,
        """
        from support.fake_device import ExchangedTensor
        data = noise(300)
        tensor = ExchangedTensor(driver, data)
        ExchangedTensor.functions.lend = None
        assert atlas.residue(tensor) == atlas.residue(data)
        assert tensor.asked == [] and tensor.handed == tensor.deleted > 0
        ExchangedTensor.functions.major = 2  # of another DLPack
        assert atlas.residue(tensor) == atlas.residue(data)
        assert len(tensor.asked) == 1 and tensor.handed == tensor.deleted
        """,
    )


# --- sets of tensors ---


def test_the_tensors_of_a_set_are_one_launch(library: Path) -> None:
    run(
        library,
        """
        from atlas12288.tensors import ArrayWitness, TensorsWitness
        content = {f"{k:02}": noise(4 * k, k) for k in range(40)}
        placed = {name: driver.tensor(data, dtype=(4, 16, 1)) for name, data in content.items()}
        witness = TensorsWitness.generate(placed, tree=True)
        assert [launch.kernel for launch in driver.launches] == ["leaves_small"]
        for name, data in content.items():
            array = witness.arrays[name]
            assert array.dtype == "bfloat16" and array.shape == (len(data) // 2,)
            assert array.digest == atlas.TreeWitness.generate(data).root
        assert witness.verify(placed).holds is True
        placed["07"].write(b"!")
        placed["08"] = driver.tensor(content["08"], dtype=(2, 16, 1))
        placed["09"] = driver.tensor(content["09"], dtype=(4, 16, 1), shape=(9, 2), strides=(1, 9))
        placed["10"] = driver.tensor(content["10"], dtype=(3, 64, 1))
        del placed["11"]
        report = witness.verify(placed)
        assert report.holds is False
        changed = {each.name: each.what for each in report.changed}
        assert changed == {"07": ("residue", "digest"), "08": ("dtype",)}
        assert [d.name for d in report.missing] == ["11"]
        assert [d.name for d in report.unreadable] == ["09", "10"]
        assert "x.cpu()" in raised(BufferError, lambda: TensorsWitness.generate(placed))
        generate = TensorsWitness.generate
        assert "tensor '09'" in raised(BufferError, lambda: generate(placed, tree=True))
        one = placed["07"]
        for tree in (True, False):
            found = ArrayWitness.generate(one, tree=tree, host=True)
            assert found.digest == ArrayWitness.generate(one, tree=True).digest or not tree
            assert found.verify(one, host=True)
        """,
    )


@pytest.mark.slow
def test_many_tensors_are_launched_while_others_are_collected(library: Path) -> None:
    run(
        library,
        """
        from atlas12288._gpu import jobs
        from atlas12288.tensors import TensorsWitness
        jobs.AT_ONCE = 4
        content = {f"{k:02}": noise(40 * k, k) for k in range(10)}
        placed = {name: driver.tensor(data, offset=name == "06") for name, data in content.items()}
        driver.write(placed["06"].pointer - 1, b"?")  # its words are read whole
        before = driver.allocated

        def launched():
            kernels = [launch.kernel for launch in driver.launches]
            driver.launches.clear()
            return kernels

        for leaves in (True, False):
            witness = TensorsWitness.generate(placed, tree=True, leaves=leaves)
            assert launched() == [*["leaves_small"] * 2, "leaves_any", "leaves_small"]
            for name, data in content.items():
                expected, found = atlas.TreeWitness.generate(data), witness.arrays[name]
                assert (found.digest, found.residue) == (expected.root, expected.residue)
                assert found.tree is None if not leaves else found.tree.leaves == expected.leaves
            placed["08"].write(b"!")
            report = witness.verify(placed)
            assert [each.name for each in report.changed] == ["08"]
            placed["08"].write(content["08"])
            launched()
        placed["09"] = driver.tensor(content["09"], shape=(9, 40), strides=(1, 9))
        generate = lambda: TensorsWitness.generate(placed, tree=True)
        before = driver.allocated
        assert "tensor '09'" in raised(BufferError, generate)
        assert len(launched()) == 4  # it is told when the others are hashed
        sources = [(tensor, name) for name, tensor in placed.items()]
        started = lambda: jobs.trees(sources, 0, leaves=True)
        assert "09 is of type" in raised(BufferError, started) and len(launched()) == 3
        gc.collect()
        assert driver.allocated == before
        assert all(tensor.handed == tensor.deleted for tensor in placed.values())
        assert [each.name for each in witness.verify(placed).unreadable] == ["09"]
        """,
    )


@pytest.mark.slow
def test_tensors_of_several_devices_are_one_launch_each(library: Path) -> None:
    run(
        library,
        """
        from atlas12288.tensors import TensorsWitness
        import numpy
        content = {f"{k}": noise(1000 + k, k) for k in range(6)}
        placed = {n: driver.tensor(d, device=int(n) % 2) for n, d in content.items()}
        placed["host"] = numpy.arange(10)
        witness = TensorsWitness.generate(placed, tree=True)
        assert len(driver.launches) == 2
        for name, data in content.items():
            assert witness.arrays[name].digest == atlas.TreeWitness.generate(data).root
        """,
        devices=2,
    )


# --- what counts as a tensor's bytes: a row of the table of docs/howto/pytorch.md each ---


@pytest.mark.slow
def test_views_and_tied_weights_have_the_witness_of_their_own_bytes(library: Path) -> None:
    run(
        library,
        """
        from atlas12288.tensors import TensorsWitness
        data = noise(600)
        whole = driver.tensor(data)

        class View:
            def __init__(self, start, stop):
                self.face = whole.__cuda_array_interface__ | {
                    "data": (whole.pointer + start, True), "shape": (stop - start,)
                }
            @property
            def __cuda_array_interface__(self):
                return self.face

        tied = {"embed": whole, "head": whole, "rows": View(64, 128), "odd": View(1, 90)}
        content = {"embed": data, "head": data, "rows": data[64:128], "odd": data[1:90]}
        witness = TensorsWitness.generate(tied, tree=True)
        for name, expected in content.items():
            assert witness.arrays[name].digest == atlas.TreeWitness.generate(expected).root
        assert witness.verify(tied)
        assert whole.deleted == whole.handed
        whole.write(b"?", 70)  # one memory: it differs under each of its names
        changed = [each.name for each in witness.verify(tied).changed]
        assert changed == ["embed", "head", "odd", "rows"], changed
        """,
    )


@pytest.mark.slow
def test_pinned_memory_is_hashed_in_the_host_and_managed_memory_on_the_device(
    library: Path,
) -> None:
    run(
        library,
        """
        from support.fake_device import CUDA_HOST, CUDA_MANAGED
        data = noise(300)
        for tensor in (
            driver.tensor(data, device_type=CUDA_HOST),
            driver.tensor(data, device_type=CUDA_HOST, read_only=True),
            driver.tensor(data, device_type=CUDA_HOST, versioned=False),
        ):
            same(atlas.TreeWitness.generate(tensor), data)
            assert atlas.residue(tensor) == atlas.residue(data)
            assert atlas.Witness.generate(tensor).verify(data)
            assert tensor.deleted == tensor.handed
        assert driver.launches == []
        managed = driver.tensor(data, device_type=CUDA_MANAGED)
        same(atlas.TreeWitness.generate(managed), data)
        assert len(driver.launches) == 1
        """,
    )


@pytest.mark.slow
def test_types_without_a_name_and_types_below_a_byte_are_taken_as_bytes(library: Path) -> None:
    run(
        library,
        """
        from atlas12288.tensors import ArrayWitness, TensorsWitness
        data = noise(24)
        nibbles = driver.tensor(data, dtype=(17, 4, 1), shape=(48,))
        found = ArrayWitness.generate(nibbles, tree=True)
        assert (found.dtype, found.shape, found.length) == ("float4_e2m1fn", (48,), 24)
        assert found.digest == atlas.TreeWitness.generate(data).root
        for dtype, shape in (((17, 4, 2), (24,)), ((5, 32, 1), (6,)), ((200, 8, 1), (24,))):
            tensor = driver.tensor(data, dtype=dtype, shape=shape)
            same(atlas.TreeWitness.generate(tensor), data)
            raised(TypeError, lambda: ArrayWitness.generate(tensor, tree=True))
            raised(TypeError, lambda: TensorsWitness.generate({"t": tensor}, tree=True))
            assert tensor.deleted == tensor.handed
        """,
    )


# --- what is refused ---


def test_what_is_no_memory_of_a_cuda_device_is_refused(library: Path) -> None:
    run(
        library,
        """
        import numpy
        data = noise(24)
        for forms in (["dlpack"], ["interface"]):
            matrix = driver.tensor(data, shape=(4, 6), strides=(1, 4), forms=forms)
            for work in (atlas.residue, atlas.TreeWitness.generate):
                assert "C-contiguous" in raised(BufferError, lambda: work(matrix))
            assert matrix.handed == matrix.deleted
        metal = driver.tensor(data, device_type=8)
        assert "DLPack type 8" in raised(BufferError, lambda: atlas.residue(metal))
        nibbles = driver.tensor(data, dtype=(17, 4, 1), shape=(3,))
        assert "whole bytes" in raised(BufferError, lambda: atlas.residue(nibbles))
        big = driver.tensor(data, typestr=">f4", forms=["interface"])
        assert "little-endian" in raised(TypeError, lambda: atlas.residue(big))
        minus = driver.tensor(data, shape=(-1, 24), forms=["interface"])
        assert "must have none below 0" in raised(BufferError, lambda: atlas.residue(minus))
        class Liar:
            def __dlpack_device__(self):
                return 2, 0
            def __dlpack__(self, **options):
                return numpy.arange(10).__dlpack__()
        assert "as it said" in raised(BufferError, lambda: atlas.residue(Liar()))
        for work in (atlas.Witness.generate, atlas.fixup, atlas.TreeHash):
            assert "x.cpu()" in raised(BufferError, lambda: work(driver.tensor(data)))
        """,
    )


NO_DRIVER = """
import atlas12288 as atlas

class Tensor:
    def __dlpack_device__(self):
        return 2, 0
    def __dlpack__(self, **options):
        raise AssertionError("it must not be asked")

for work in (atlas.residue, atlas.is_conserved, atlas.window_residues, atlas.TreeWitness.generate,
             atlas.TreeWitness.generate(b"").verify):
    try:
        work(Tensor())
    except atlas.DeviceError as error:
        assert all(word in str(error) for word in WORDS), error
    else:
        raise AssertionError(work)
"""
HIDDEN = """
import sys
sys.modules["cuda"] = None
WORDS = ("pip install 'atlas12288[cuda]'", "x.cpu()", "host=True")
"""


def test_without_the_extra_the_driver_a_device_or_its_kernels_the_error_says_so(
    library: Path, tmp_path: Path
) -> None:
    run(None, NO_DRIVER, start=HIDDEN)
    if not any(Path(path).exists() for path in ("/usr/lib/x86_64-linux-gnu/libcuda.so.1",)):
        run(None, NO_DRIVER, start="WORDS = ('CUDA driver is missing', 'x.cpu()')\n")
    run(library, NO_DRIVER, start="WORDS = ('NO_DEVICE',)\n", devices=0)
    run(library, NO_DRIVER, start="WORDS = ('7.5', '8.0', 'x.cpu()')\n", chip=75)
    hidden = "import atlas12288._gpu.kernels as gpu, pathlib\n"
    hidden += f"gpu.ptx_folder = lambda: pathlib.Path({str(tmp_path)!r})\n"
    hidden += "import atlas12288._gpu.device as device\ndevice.ptx_folder = gpu.ptx_folder\n"
    code = """
        assert gpu.gpu_kernels() == ()
        message = raised(atlas.DeviceError, lambda: atlas.residue(driver.tensor(b"abc")))
        assert "no kernels for GPUs" in message and "x.cpu()" in message
    """
    run(library, code, start=hidden + START)


# --- failures ---

EACH = """
tensor = driver.tensor(noise(130))
witness = atlas.TreeWitness.generate(tensor)
right = atlas.residue(tensor)
before, handed = driver.allocated, tensor.handed
"""


@pytest.mark.slow
def test_a_call_of_the_driver_that_fails_is_an_error_and_never_a_verdict(library: Path) -> None:
    run(
        library,
        EACH
        + """
from support.fake_device import ENTRY_POINTS

failed = 0
for nth in range(1, 60):
    most = 0  # calls of one work
    for result in (OUT_OF_MEMORY, LAUNCH_FAILED):
        for work, expected in (
            (lambda: witness.verify(tensor), True), (lambda: atlas.residue(tensor), right),
        ):
            calls = sum(map(driver.calls, ENTRY_POINTS))
            driver.fail("*", nth, result=result)
            try:
                assert work() == expected
            except atlas.DeviceError as error:
                failed += 1
                assert "nothing is known" in str(error), error
            driver.fail("*", 0, result=0)
            most = max(most, sum(map(driver.calls, ENTRY_POINTS)) - calls)
    if most < nth:
        break
else:
    raise AssertionError("a work has 60 calls")
gc.collect()
assert failed > 15, failed
assert witness.verify(tensor) and atlas.residue(tensor) == right
assert tensor.deleted == tensor.handed
""",
    )


@pytest.mark.slow
def test_each_call_that_fails_leaves_nothing_behind(library: Path) -> None:
    """Neither memory of the device nor a tensor, and what was current is so again."""
    run(
        library,
        """
        from atlas12288 import _native
        from cuda.bindings import driver as api

        tensor = driver.tensor(noise(13))
        array = driver.tensor(noise(13), forms=["interface"], stream=1)
        witness = atlas.TreeWitness.generate(tensor)
        assert witness.verify(array)
        before = driver.allocated

        def asked():
            pending = atlas.TreeWitness.generate(array, wait=False)
            return pending.done() in (True, False) and pending.result().verify(noise(13))

        works = (lambda: witness.verify(tensor), lambda: witness.verify(array, stream=0), asked)
        failed = set()
        for call in (*_native.CUDA_CALLS, "cuPointerGetAttribute"):
            for nth in (1, 2, 3):
                for work in works:
                    driver.fail(call, nth, result=LAUNCH_FAILED)
                    try:
                        assert work() is True, call
                    except atlas.DeviceError as error:
                        assert "LAUNCH_FAILED" in str(error) and "nothing is known" in str(error)
                        failed.add(call)
                    driver.fail("*", 0, result=0)
                    gc.collect()
                    if call == "cuCtxSetCurrent":  # nobody could set it back
                        api.cuCtxSetCurrent(api.CUcontext(0))
                    assert int(api.cuCtxGetCurrent()[1]) == 0, call
                    assert tensor.deleted == tensor.handed, call
                    if call == "cuMemFreeAsync":
                        before = driver.allocated  # it was asked
                    assert driver.allocated == before, (call, nth)
        # A new event is made where all are in use; memory of one window is neither copied nor
        # filled; and who gives memory back has the result already.
        never = {"cuEventCreate", "cuMemcpyDtoDAsync", "cuMemcpyHtoDAsync", "cuMemFreeAsync"}
        assert failed == {*_native.CUDA_CALLS, "cuPointerGetAttribute"} - never, failed
        assert works[0]() and works[1]()
        """,
    )


def test_a_stream_whose_work_becomes_a_graph_is_refused_and_the_graph_stays_whole(
    library: Path,
) -> None:
    run(
        library,
        """
        tensor = driver.tensor(noise(13))
        written = driver.tensor(noise(13), forms=["interface"], stream=1)  # by another stream
        atlas.residue(tensor)
        stream = driver.stream()
        driver.set("capturing", stream)
        before = driver.allocated, len(driver.launches)
        for source in (tensor, written):
            for work in (atlas.TreeWitness.generate, atlas.residue):
                message = raised(atlas.DeviceError, lambda: work(source, stream=stream))
                assert "STREAM_CAPTURE_UNSUPPORTED" in message
        assert (driver.allocated, len(driver.launches)) == before
        assert not driver.broke_a_graph
        """,
    )


def test_our_stream_is_not_drawn_into_the_graph_of_another_one(library: Path) -> None:
    run(
        library,
        """
        from support.fake_device import ExchangedTensor
        data = noise(13)
        tensor = ExchangedTensor(driver, data)
        atlas.residue(tensor)
        ExchangedTensor.producer = driver.stream()
        driver.set("capturing", ExchangedTensor.producer)
        waits = driver.calls("cuStreamWaitEvent")
        for work in (atlas.TreeWitness.generate, atlas.residue):
            message = raised(atlas.DeviceError, lambda: work(tensor))
            assert "STREAM_CAPTURE_UNSUPPORTED" in message
        assert driver.calls("cuStreamWaitEvent") == waits
        assert not driver.broke_a_graph
        same(atlas.TreeWitness.generate(driver.tensor(data)), data)
        driver.set("capturing", 0)
        same(atlas.TreeWitness.generate(tensor), data)
        """,
    )


def test_work_of_ours_breaks_no_graph_that_somebody_else_makes(library: Path) -> None:
    # The driver forbids waiting, and much else, to all threads while any of them makes a graph.
    run(
        library,
        """
        from cuda import core
        from cuda.bindings import driver as api
        from atlas12288.tensors import TensorsWitness
        data = noise(7 * 12288 + 1)
        driver.set("capturing", driver.stream())
        tensor = driver.tensor(data)  # the first work: all is made for it now
        witness = atlas.TreeWitness.generate(tensor)
        same(witness, data)
        pending = atlas.TreeWitness.generate(tensor, wait=False)
        assert pending.done() in (True, False) and pending.result().root == witness.root
        assert atlas.residue(tensor) == atlas.residue(data)
        assert atlas.TreeWitness.generate(tensor, host=True).root == witness.root
        assert TensorsWitness.generate({"a": tensor}, tree=True).verify({"a": tensor})
        driver.fail("cuLaunchKernel", 1, result=LAUNCH_FAILED)
        raised(atlas.DeviceError, lambda: atlas.residue(tensor))
        atlas.release_device_memory()
        atlas.TreeWitness.generate(tensor, wait=False)
        gc.collect()
        assert not driver.broke_a_graph
        # And the mode of this thread is the driver's own again: a wait breaks it.
        core.Device(0).set_current()
        assert int(api.cuCtxSynchronize()[0]) != 0 and driver.broke_a_graph
        """,
    )


@pytest.mark.slow
def test_a_driver_that_lacks_a_function_is_an_error(library: Path) -> None:
    run(
        library,
        """
        from cuda.bindings import driver as api
        tensor, asked = driver.tensor(noise(13)), api.cuGetProcAddress
        api.cuGetProcAddress = lambda name, *others: (api.CUresult(0), 0, 1)
        message = raised(atlas.DeviceError, lambda: atlas.residue(tensor))
        assert "no cuCtxGetCurrent" in message and "x.cpu()" in message
        api.cuGetProcAddress = lambda name, *others: (api.CUresult(500), 0, 1)
        assert "NOT_FOUND" in raised(atlas.DeviceError, lambda: atlas.residue(tensor))
        api.cuGetProcAddress = asked
        assert atlas.residue(tensor) == atlas.residue(noise(13))
        driver.fail("cuLaunchKernel", 1, result=123456)  # no result that anybody knows
        message = raised(atlas.DeviceError, lambda: atlas.residue(tensor))
        assert "error 123456: nothing is known" in message
        """,
    )


def test_what_calls_addresses_is_made_by_its_function_alone() -> None:
    from atlas12288 import _native

    for arguments in ((), (object(), 0, 4, [1] * 16, (1, 2, 3), str, str)):
        with pytest.raises(TypeError):
            _native.CudaDevice.__new__(_native.CudaDevice, *arguments)
    for addresses in ([], [1] * 15, [1] * 17, [0] * 16):
        with pytest.raises(ValueError, match="must be those of CUDA_CALLS"):
            _native.cuda_device(0, 4, addresses, (1, 2, 3), ValueError, int)
    with pytest.raises(TypeError):
        _native.CudaJob(None, 1)  # type: ignore[arg-type]


@pytest.mark.slow
def test_no_memory_is_an_error_that_leaves_nothing_behind(library: Path) -> None:
    run(
        library,
        EACH
        + """
for leaves in (True, False):
    driver.fail("cuMemAllocFromPoolAsync", result=OUT_OF_MEMORY)  # a call allocates once
    generate = lambda: atlas.TreeWitness.generate(tensor, leaves=leaves)
    assert "OUT_OF_MEMORY" in raised(atlas.DeviceError, generate)
gc.collect()
assert driver.allocated == before and tensor.deleted == tensor.handed
same(atlas.TreeWitness.generate(tensor), tensor.tobytes())
""",
    )


def test_a_lost_device_is_an_error_for_all_later_calls(library: Path) -> None:
    run(
        library,
        EACH
        + """
pending = atlas.TreeWitness.generate(tensor, wait=False)
driver.fail("*", result=LAUNCH_FAILED, sticks=True)
verify, residue = (lambda: witness.verify(tensor)), (lambda: atlas.residue(tensor))
for work in (pending.result, verify, residue, pending.result):
    assert "LAUNCH_FAILED" in raised(atlas.DeviceError, work)
""",
    )


@pytest.mark.slow
def test_kernels_that_the_driver_refuses_are_an_error(library: Path) -> None:
    run(
        library,
        """
        driver.rewrite = lambda text: text.replace("redux.sync", "redux.other")
        tensor = driver.tensor(noise(10))
        for _ in range(2):
            assert "nothing is known" in raised(atlas.DeviceError, lambda: atlas.residue(tensor))
        driver.rewrite = str
        assert atlas.residue(tensor) == atlas.residue(noise(10))
        """,
    )


@pytest.mark.slow
def test_a_tensor_that_is_freed_while_it_is_read_is_an_error(library: Path) -> None:
    run(
        library,
        """
        tensor = driver.tensor(noise(50_000))
        pending = atlas.TreeWitness.generate(tensor, wait=False)
        tensor.free()
        assert "ILLEGAL_ADDRESS" in raised(atlas.DeviceError, pending.result)
        """,
        late=1,
    )


@pytest.mark.slow
def test_another_stream_that_writes_meanwhile_gives_the_bytes_of_some_time(library: Path) -> None:
    run(
        library,
        """
        old, new = noise(40_000), noise(40_000, 1)
        tensor = driver.tensor(old)
        pending = atlas.TreeWitness.generate(tensor, wait=False)
        tensor.write(new)  # before the kernel runs: no stream orders the two
        same(pending.result(), new)
        """,
        late=1,
    )


@pytest.mark.slow
def test_a_process_that_forked_gets_an_error(library: Path) -> None:
    run(
        library,
        """
        import os
        tensor = driver.tensor(noise(100))
        atlas.residue(tensor)
        if (child := os.fork()) == 0:
            driver.fail("*", result=3, sticks=True)  # CUDA: not initialised in a child
            try:
                atlas.residue(tensor)
            except atlas.DeviceError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        """,
    )


@pytest.mark.slow
def test_a_scrubber_watches_a_tensor(library: Path) -> None:
    run(
        library,
        """
        content = bytearray(noise(12288 + 77))
        tensor = driver.tensor(bytes(content))
        told = []
        witness = atlas.TreeWitness.generate(bytes(content))  # of the file that was loaded
        message = raised(ValueError, lambda: atlas.Scrubber({"t": (driver.tensor(b"x"), witness)}))
        assert "has 1 bytes, must have 12365" in message
        scrubber = atlas.Scrubber({"tensor": (tensor, witness)}, on_damage=told.append)

        def flip(place, bit=1):
            content[place] ^= bit
            tensor.write(bytes(content[place : place + 1]), place)

        flip(0)  # from before
        report = scrubber.scan()
        assert [(each.what, each.ranges[0].first) for each in report.changed] == [(("digest",), 0)]
        flip(0)
        assert scrubber.scan()
        flip(12288 + 9, 64)
        lines = str(scrubber.scan())
        assert lines == "buffer 'tensor': residue, digest differ; bytes [12288, 12365), window 1"
        scrubber.update("tensor", [1])
        assert scrubber.scan()
        with scrubber.changing("tensor", [1]):
            flip(12288 + 9, 1)
            assert scrubber.scan().holds is None
        assert scrubber.scan()
        flip(12288 + 9, 65)
        scrubber.update("tensor", [1], witness)
        assert scrubber.scan()
        assert len(told) == 2
        driver.fail("*", result=LAUNCH_FAILED, sticks=True)
        report = scrubber.scan()
        assert report.holds is None and "LAUNCH_FAILED" in str(report), report
        assert len(told) == 3
        """,
    )


SMALL_TARGETS = """
from atlas12288 import _scrubber
_scrubber.DIGEST_PASSES = 3
content = {name: bytearray(noise(200, number)) for number, name in enumerate("ab")}
tensors = {name: driver.tensor(bytes(data)) for name, data in content.items()}
told = []
scrubber = atlas.Scrubber(
    {name: (tensors[name], atlas.TreeWitness.generate(data)) for name, data in content.items()},
    on_damage=told.append,
)

def scanned():
    driver.launches.clear()
    report = scrubber.scan()
    starts = {tensor.pointer: name for name, tensor in tensors.items()}
    hashed = [
        starts[launch.arguments[0]]
        for launch in driver.launches
        if launch.kernel == "leaves_small"
    ]
    return report, hashed

def swap(name):
    # The sum of the bytes stays, and the residue with it.
    content[name][5], content[name][6] = content[name][6], content[name][5]
    tensors[name].write(bytes(content[name]))
"""


@pytest.mark.slow
def test_a_scrubber_checks_digests_of_tensors_in_rotation(library: Path) -> None:
    run(
        library,
        SMALL_TARGETS
        + """
report, hashed = scanned()
assert report and hashed == ["a", "b"]  # the first pass checks all
swap("b")
report, hashed = scanned()
assert report and hashed == []
report, hashed = scanned()
assert hashed == ["b"] and [each.what for each in report.changed] == [("digest",)]
swap("b")
report, hashed = scanned()
assert report and "a" in hashed
assert len(told) == 1
assert tensors["a"].deleted == tensors["a"].handed  # none is held between passes
""",
    )


@pytest.mark.slow
def test_a_scrubber_says_nothing_of_a_tensor_that_its_device_does_not_give(library: Path) -> None:
    run(
        library,
        SMALL_TARGETS
        + """
scrubber.scan()
# Also where the tensor is damaged meanwhile: the next pass tells, this one does not.
for call in ("cuLaunchKernel", "cuMemAllocFromPoolAsync", "cuEventSynchronize"):
    for hurt in (False, True):
        if hurt:
            swap("a")
        driver.fail(call, 1, result=LAUNCH_FAILED)
        report = scrubber.scan()
        driver.fail("*", 0, result=0)
        assert report.holds is None and report.changed == (), (call, hurt, str(report))
        assert [each.name for each in report.unreadable] == ["a"]
        report = scrubber.scan()
        assert report.holds is (not hurt) and not report.unreadable, (call, hurt, str(report))
        if hurt:
            swap("a")
            assert scrubber.scan()  # what came back is judged again
""",
    )


@pytest.mark.slow
def test_a_scrubber_says_nothing_of_a_tensor_that_has_another_length(library: Path) -> None:
    run(
        library,
        SMALL_TARGETS
        + """
scrubber.scan()
for shape in ((100,), (0,)):
    tensors["b"].shape = shape
    for _ in range(3):
        report = scrubber.scan()
        if report.unreadable:
            break
    else:
        raise AssertionError(shape)
    assert report.holds is None and report.changed == ()
    assert ", must have " in str(report)
tensors["b"].shape = (200,)
assert scrubber.scan()
tensors["b"].strides = (2,)
report = scrubber.scan()
assert report.holds is None and "C-contiguous" in str(report)
""",
    )


@pytest.mark.slow
def test_a_scrubber_says_nothing_of_a_tensor_that_was_freed(library: Path) -> None:
    run(
        library,
        SMALL_TARGETS
        + """
scrubber.scan()
tensors["a"].free()
for _ in range(3):
    report = scrubber.scan()
    assert report.holds is None and report.changed == ()
    assert "ILLEGAL_ADDRESS" in str(report)
""",
    )


# --- from the file to the device ---


@pytest.mark.slow
def test_a_file_that_the_command_witnesses_is_verified_on_a_device(
    library: Path, tmp_path: Path
) -> None:
    numpy = pytest.importorskip("numpy")
    save = pytest.importorskip("safetensors.numpy").save_file
    shapes = {"q": (70, 60), "k": (70, 60), "bias": (9,), "none": (0, 4)}
    arrays = {
        name: (numpy.arange(int(numpy.prod(shape))) % 251 + place).astype("f4").reshape(shape)
        for place, (name, shape) in enumerate(shapes.items())
    }
    model, out = tmp_path / "model.safetensors", tmp_path / "w.json"
    save(arrays, model, {"format": "pt"})
    done = commandline.run("witness", "--tensors", "--tree", model, "-o", out)
    assert done.returncode == commandline.HOLDS
    run(
        library,
        f"""
        from pathlib import Path
        from safetensors.numpy import load_file
        from atlas12288.tensors import TensorsWitness
        arrays = load_file({str(model)!r})
        text, leaves = (Path({str(out)!r} + end).read_bytes() for end in ("", ".atlas.leaves"))
        witness = TensorsWitness.from_json(text).with_leaves(leaves)

        def placed(data, shape):
            return driver.tensor(data, shape=shape, dtype=(2, 32, 1), typestr="<f4")

        served = {{name: placed(data.tobytes(), data.shape) for name, data in arrays.items()}}
        report = witness.verify(served)
        assert report.holds is True, str(report)

        served["q"].write(b"?", 12288 + 40)
        assert str(witness.verify(served)) == (
            "tensor 'q': residue, digest differ; bytes [12288, 16800), window 1"
        )
        served["q"].write(arrays["q"].tobytes()[12288:], 12288)
        assert witness.verify(served)

        # Another layout is said as what it is: no window of it is called damaged.
        fused = dict(served)
        both = fused.pop("q"), fused.pop("k")
        fused["qk"] = placed(b"".join(each.tobytes() for each in both), (140, 60))
        report = witness.verify(fused)
        assert report.changed == () == report.unreadable
        assert report.lines() == [
            "tensor 'k' is missing", "tensor 'q' is missing", "tensor 'qk' was added",
        ]
        half = arrays["q"].tobytes()[: 35 * 60 * 4]
        (line,) = witness.verify(served | {{"q": placed(half, (35, 60))}}).differences
        assert (line.kind, line.what[0], line.ranges) == ("changed", "shape", None)
        turned = served | {{"q": placed(arrays["q"].tobytes(), (60, 70))}}
        assert [each.what for each in witness.verify(turned).differences] == [("shape",)]

        driver.fail("*", result=LAUNCH_FAILED, sticks=True)
        assert "LAUNCH_FAILED" in raised(atlas.DeviceError, lambda: witness.verify(served))
        """,
    )


def test_info_lists_the_kernels_for_gpus() -> None:
    from atlas12288._gpu.kernels import gpu_kernels
    from atlas12288._gpu.plan import KERNELS

    assert gpu_kernels() == tuple(sorted(KERNELS))
    shown = commandline.run("info")
    assert b"gpu kernels            leaves, leaves_any" in shown.stdout
