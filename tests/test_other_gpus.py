# SPDX-License-Identifier: Apache-2.0
"""The kernels for GPUs of other makes: they compile, and SPIR-V's threads give the CPU's results.

No device of theirs runs here. What is compiled for AMD is not run at all; of SPIR-V the IR is,
compiled for this CPU, with a thread of this process for each thread of a group.
"""

import ctypes
import re
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from llvmlite import binding

import atlas12288 as atlas
from atlas12288._gpu import plan
from kernelgen import emit, grid
from kernelgen.build import grid_module
from kernelgen.lower_spirv import Spirv
from support.strategies import noise

ROOT = Path(__file__).parent.parent
WINDOW = 12288
# The others take seconds each.
KERNELS = [
    pytest.param(kernel.name, marks=[] if kernel.name == "residues" else pytest.mark.slow)
    for kernel in grid.KERNELS
]
MAGIC = {"amdgcn": b"\x7fELF", "spirv": (0x07230203).to_bytes(4, "little")}


def needs_target(name: str) -> pytest.MarkDecorator:
    missing = not emit.has_other_gpu(name)
    return pytest.mark.skipif(missing, reason=f"llvmlite's LLVM writes no {name}")


@needs_target("amdgcn")
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_compiles_for_amd_without_spills(name: str) -> None:
    text = emit.other_gpu_assembly(grid.find(name), "amdgcn")
    assert f".amdhsa_kernel {name}\n" in text
    facts = dict(re.findall(r"\.(\w+): +(\d+)$", text, re.M))
    for spilled in ("private_segment_fixed_size", "vgpr_spill_count", "sgpr_spill_count"):
        assert facts[spilled] == "0", spilled
    assert 0 < int(facts["vgpr_count"]) <= 128
    # Threads wait for each other where a tree has levels, and nowhere else.
    assert ("s_barrier" in text) == (name == "trees")
    assert ("v_dot4_u32_u8" in text) == (name != "trees")


@needs_target("spirv")
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_compiles_to_spirv(name: str) -> None:
    text = emit.other_gpu_assembly(grid.find(name), "spirv")
    assert re.search(rf'OpEntryPoint Kernel %\d+ "{name}"', text)
    assert ("OpControlBarrier" in text) == (name == "trees")
    assert not re.search(r'LinkageAttributes "_Z\w+" Import', text)  # no function is left to link


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("make", [pytest.param(make, marks=needs_target(make)) for make in MAGIC])
def test_an_object_is_what_a_driver_takes(make: str, name: str, tmp_path: Path) -> None:
    """Each is made by a process of its own: LLVM 22 gives a number of the module before to two
    things of the next one's SPIR-V."""
    path = tmp_path / f"{name}.{make}"
    options = ["--make", make, "--kernel", name, "--format", "object", "--output", path]
    subprocess.run([sys.executable, "-m", "kernelgen", "gpu", *options], check=True, cwd=ROOT)
    assert path.read_bytes().startswith(MAGIC[make])
    if make == "spirv" and (validator := shutil.which("spirv-val")):
        subprocess.run([validator, "--target-env", "spv1.4", path], check=True)


# --- SPIR-V's threads, on this CPU ---

_INDEX = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint32)
_BARRIER = ctypes.CFUNCTYPE(None, ctypes.c_uint32)


class OpenClMachine:
    """Runs the IR of the lowering for SPIR-V; OpenCL's functions are Python's.

    A group of trees is as many threads of this process, which wait for each other at barriers; the
    threads of other kernels do not wait, and come one after another.
    """

    multiprocessors = 1

    def __init__(self) -> None:
        self._kept: list[object] = []
        self._own = threading.local()
        self._callbacks = {
            "_Z13get_global_idj": _INDEX(lambda _: self._own.thread),
            "_Z12get_group_idj": _INDEX(lambda _: self._own.group),
            "_Z12get_local_idj": _INDEX(lambda _: self._own.local),
            "_Z7barrierj": _BARRIER(lambda _: self._own.barrier.wait(60) and None),
        }
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        for name, callback in self._callbacks.items():
            address = ctypes.cast(callback, ctypes.c_void_p).value
            assert address is not None
            binding.add_symbol(name, address)
        self._engines = ExitStack()
        self._compiled = cache(self._compile)

    def _compile(self, name: str) -> "ctypes._CFunctionType":
        kernel = grid.find(name)
        machine = binding.Target.from_default_triple().create_target_machine(opt=0)
        text = str(grid_module(kernel, Spirv()))
        text = text.replace("spir_kernel ", "").replace("spir_func ", "")  # as this CPU calls
        module = binding.parse_assembly(text)
        module.triple, module.data_layout = machine.triple, str(machine.target_data)
        engine = self._engines.enter_context(binding.create_mcjit_compiler(module, machine))
        engine.finalize_object()
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_uint64] * len(kernel.parameters))
        return kind(engine.get_function_address(kernel.name))

    def allocate(self, size: int) -> int:
        memory = (ctypes.c_char * (size + 256))()
        self._kept.append(memory)
        return -(-ctypes.addressof(memory) // 256) * 256

    def upload(self, address: int, data: bytes) -> None:
        ctypes.memmove(address, data, len(data))

    def launch(self, kernel: str, groups: int, threads: int, *arguments: int) -> None:
        function = self._compiled(kernel)
        if kernel == "residues":
            threads = -(-threads // plan.TEAM_THREADS)  # here a team is a thread
        for group in range(groups):
            barrier = threading.Barrier(threads)

            def run(local: int, group: int = group, barrier: object = barrier) -> None:
                own = self._own
                own.group, own.local, own.barrier = group, local, barrier
                own.thread = group * threads + local
                function(*arguments)

            if kernel != "trees":
                for local in range(threads):
                    run(local)
                continue
            running = [threading.Thread(target=run, args=(local,)) for local in range(threads)]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()

    def copy(self, target: int, source: int, size: int) -> None:
        ctypes.memmove(target, source, size)

    def download(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)


@pytest.mark.parametrize(
    "lengths",
    [(1, 55, 64, WINDOW + 5), pytest.param((3 * WINDOW, 258 * WINDOW), marks=pytest.mark.slow)],
)
def test_the_threads_of_spirv_give_the_roots_and_residues_of_the_cpu(
    lengths: tuple[int, ...],
) -> None:
    machine = OpenClMachine()
    regions = [noise(length, length) for length in lengths]
    addresses = []
    for number, data in enumerate(regions):
        addresses.append(machine.allocate(len(data) + 3) + (3 if number == 1 else 0))
        machine.upload(addresses[-1], data)
    found = plan.hash_regions(machine, addresses, lengths, leaves=False)
    for place, number in enumerate(found.order):
        expected = atlas.TreeWitness.generate(regions[number])
        assert found.roots[32 * place : 32 * place + 32] == expected.root, lengths[number]
        assert found.roots[32 * len(regions) + place] == expected.residue
    sums = plan.sum_regions(machine, addresses, lengths, windows=False)
    assert list(sums) == [atlas.residue(data) for data in regions]
