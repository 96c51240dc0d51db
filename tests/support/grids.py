# SPDX-License-Identifier: Apache-2.0
"""The kernels of kernelgen/grid.py as machines for the plans of atlas12288._gpu, without a GPU."""

import ctypes
from contextlib import ExitStack
from functools import cache

from llvmlite import binding

from atlas12288._gpu import plan
from kernelgen import emit, grid
from kernelgen.build import grid_module
from kernelgen.lower_grid import Grid
from support.ptx import GlobalMemory, Module

U64 = ctypes.c_uint64


class CpuMachine:
    """Runs each group of a launch in turn, as one thread; a team is one thread too."""

    def __init__(self, multiprocessors: int = 1) -> None:
        self.multiprocessors = multiprocessors
        self.launched: list[str] = []
        self._kept: list[object] = []
        self._engines = ExitStack()
        self._functions = {kernel.name: self._compiled(kernel) for kernel in grid.KERNELS}

    def _compiled(self, kernel: grid.GridKernel) -> "ctypes._CFunctionType":
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        machine = binding.Target.from_default_triple().create_target_machine(opt=2)
        module = binding.parse_assembly(str(grid_module(kernel, Grid())))
        module.triple, module.data_layout = machine.triple, str(machine.target_data)
        engine = self._engines.enter_context(binding.create_mcjit_compiler(module, machine))
        engine.finalize_object()
        kind = ctypes.CFUNCTYPE(None, *[U64] * (len(kernel.parameters) + 1))
        return kind(engine.get_function_address(kernel.name))

    def allocate(self, size: int) -> int:
        memory = (ctypes.c_char * (size + 256))()
        memory[:] = b"\xa5" * (size + 256)  # nothing may count on zeros
        self._kept.append(memory)
        return -(-ctypes.addressof(memory) // 256) * 256

    def forget(self) -> None:
        """Free all memory that was allocated."""
        self._kept.clear()

    def upload(self, address: int, data: bytes) -> None:
        ctypes.memmove(address, data, len(data))

    def launch(self, kernel: str, groups: int, threads: int, *arguments: int) -> None:
        self.launched.append(kernel)
        if kernel == "residues":
            count = groups * threads // plan.TEAM_THREADS
        else:
            count = groups if kernel == "trees" else groups * threads
        for number in range(count):
            self._functions[kernel](*arguments, number)

    def copy(self, target: int, source: int, size: int) -> None:
        ctypes.memmove(target, source, size)

    def download(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)


class SimulatedMachine:
    """Runs the PTX of the kernels in the simulator, with memory that it watches."""

    def __init__(self, multiprocessors: int = 1, texts: dict[str, str] | None = None) -> None:
        self.multiprocessors = multiprocessors
        self.launched: list[str] = []
        self.memory = GlobalMemory(uninitialised=True)
        self.seed: int | None = None  # of the order of groups, warps and threads
        self._texts = texts or {}
        self._modules: dict[str, Module] = {}

    def region(self, data: bytes, shift: int = 0) -> int:
        """Return the address of a copy of the bytes, `shift` bytes behind a multiple of 16.

        What is left of their first and last words of 4 bytes belongs to others, and may be read.
        """
        before = shift % 4
        rest = -(before + len(data)) % 4
        others = b"\xee" * before, b"\xee" * rest
        start = shift - before
        return self.memory.allocate(others[0] + data + others[1], shift=start) + before

    def allocate(self, size: int) -> int:
        return self.memory.allocate(size)

    def upload(self, address: int, data: bytes) -> None:
        self.memory.write(address, data)

    def launch(self, kernel: str, groups: int, threads: int, *arguments: int) -> None:
        self.launched.append(kernel)
        if kernel not in self._modules:
            self._modules[kernel] = Module(self._texts.get(kernel) or ptx_of(kernel), self.memory)
        geometry = {"grid": groups, "block": threads, "seed": self.seed}
        self._modules[kernel].launch(kernel, arguments=arguments, **geometry)

    def copy(self, target: int, source: int, size: int) -> None:
        self.memory.write(target, self.memory.read(source, size))

    def download(self, address: int, size: int) -> bytes:
        return self.memory.read(address, size)


@cache
def ptx_of(name: str) -> str:
    """Return the PTX of a kernel."""
    return emit.ptx(grid.find(name))
