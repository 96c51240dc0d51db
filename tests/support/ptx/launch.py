# SPDX-License-Identifier: Apache-2.0
"""Modules, and launches of their kernels over a grid of threads."""

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .arithmetic import Arithmetic, Values
from .memory import SEVERAL_BLOCKS, Accessors, GlobalMemory, Space
from .text import KernelText, ModuleText, PtxError, UnknownInstructionError, read
from .translate import Block, blocks_of

Index = npt.NDArray[np.int64]
Dim = int | tuple[int, ...]

LANES = 32
_RESIDENT_THREADS = 8192  # their arrays fit into a core's cache
_FIRST = 256  # the first array of shared and constant memory: an address of 0 is never right
_ALL_LANES = 0xFFFFFFFF


class BarrierError(PtxError):
    """Threads wait for others that do not come."""


class Module:
    """A module of PTX text in a device's memory.

    >>> module = Module(text, memory)
    >>> module.launch("leaves", grid=4, block=64, arguments=[data, 12288, hashes])
    """

    def __init__(self, text: str, memory: GlobalMemory) -> None:
        """Read and translate all kernels. Raise `UnknownInstructionError` with the line for what
        the simulator does not know, `PtxError` for what is no module."""
        self.text, self.memory = _read(text), memory
        symbols: dict[str, int] = {}
        constants = [d for d in self.text.data if d.space == "const"]
        places, size = _lay_out(constants)
        self._const = Space("constant", np.zeros(size, np.uint8), 0)
        for data in constants:
            content = data.content or b""
            self._const.add(places[data.name], len(content), written=True)
            start = places[data.name]
            self._const.data[start : start + len(content)] = np.frombuffer(content, np.uint8)
        symbols |= places
        for data in self.text.data:
            if data.space == "global":
                symbols[data.name] = memory.allocate(data.content or bytes(data.size or 0))
        self.kernels = {
            name: Kernel(self, kernel, symbols) for name, kernel in self.text.kernels.items()
        }

    @property
    def constants(self) -> Space:
        return self._const

    def launch(
        self,
        name: str,
        grid: Dim,
        block: Dim,
        arguments: Sequence[int],
        *,
        shared: int = 0,
        seed: int | None = None,
        resident: int = _RESIDENT_THREADS,
        steps: int = 1_000_000,
    ) -> None:
        """Run a kernel to its end.

        `grid` and `block` are numbers of blocks, and of threads of a block, in up to three
        dimensions. `arguments` are the parameters as integers, pointers as addresses. `shared` is
        the number of bytes of dynamic shared memory. Without a seed all threads go together as far
        as they can; a seed makes blocks, warps and threads go in its random order. At most
        `resident` threads (but at least one block) are on the device at once. A kernel that has not
        ended after `steps` steps of a group of threads never ends.

        Raises AccessError, RaceError, BarrierError or PtxError with the kernel's name and the line
        of the text.
        """
        if name not in self.kernels:
            raise PtxError(f"there is no kernel {name}")
        kernel = self.kernels[name]
        launch = _Grid(kernel, _three(grid), _three(block), arguments, shared, seed, steps)
        launch.run(max(1, resident // launch.block_size))


class Kernel:
    def __init__(self, module: Module, text: KernelText, symbols: dict[str, int]) -> None:
        self.module, self.text = module, text
        everywhere = [d for d in (*module.text.data, *text.data) if d.space == "shared"]
        if any(d.space != "shared" for d in text.data):
            raise UnknownInstructionError(f"{text.name}: an array in a kernel that is not shared")
        self.dynamic = [d for d in everywhere if d.size is None]
        self.static = [d for d in everywhere if d.size is not None]
        places, self.shared_size = _lay_out([*self.static, *self.dynamic])
        self.places = places
        self.blocks = _translated(module.text, text.name, tuple((symbols | places).items()))


# Many modules have the same text, each in a memory of its own.
_read = cache(read)


@cache
def _translated(module: ModuleText, name: str, symbols: tuple[tuple[str, int], ...]) -> list[Block]:
    return blocks_of(module.kernels[name], dict(symbols))


def _lay_out(arrays: Sequence[Any]) -> tuple[dict[str, int], int]:
    """Return the address of each array, with free bytes between them, and the size of all."""
    places, end = {}, _FIRST
    for data in arrays:
        align = max(data.align, 16)
        end = -(-end // align) * align
        places[data.name] = end
        end += (data.size or 0) + 16 if data.size is not None else 0
    return places, -(-end // 256) * 256 + 256


def _three(size: Dim) -> tuple[int, int, int]:
    sizes = (size,) if isinstance(size, int) else tuple(size)
    sizes += (1,) * (3 - len(sizes))
    if len(sizes) != 3 or min(sizes) < 1:
        raise PtxError(f"{size} is no size of a grid or block")
    return sizes[0], sizes[1], sizes[2]


class _Grid:
    """One launch: what all its threads share, and which accesses of theirs are ordered.

    Accesses of a block are ordered by its barriers, of a warp by bar.warp.sync, and of any threads
    by a fence, an atomic operation, another atomic operation at the same address that comes later,
    and a fence. `known` says for a thread up to when it knows the writes of each other thread.
    """

    def __init__(
        self,
        kernel: Kernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[int],
        dynamic: int,
        seed: int | None,
        steps: int,
    ) -> None:
        text = kernel.text
        self.kernel, self.grid, self.block, self.dynamic = kernel, grid, block, dynamic
        self.block_size = block[0] * block[1] * block[2]
        self.blocks = grid[0] * grid[1] * grid[2]
        self.threads = self.blocks * self.block_size
        if self.block_size > min(1024, text.most_threads):
            raise PtxError(f"{text.name}: {self.block_size} threads in a block")
        if grid[0] >= 1 << 31 or max(grid[1:]) > 65535:
            raise PtxError(f"{text.name}: a grid of {grid} blocks")
        if len(arguments) != len(text.parameters):
            raise PtxError(
                f"{text.name} takes {len(text.parameters)} arguments, not {len(arguments)}"
            )
        if dynamic and not kernel.dynamic:
            raise PtxError(f"{text.name} has no dynamic shared memory")
        size = sum(data.size or 0 for data in kernel.static) + dynamic
        if size > 232_448:  # sm_90; sm_80 has 166,912, sm_86 and sm_120 101,376
            raise PtxError(f"{text.name}: {size} bytes of shared memory")
        self.parameters = {
            p.name: (int(value) % (1 << 8 * p.size)).to_bytes(p.size, "little")
            for p, value in zip(text.parameters, arguments, strict=True)
        }
        self.random = None if seed is None else random.Random(seed)
        self.steps = steps
        self.memory = kernel.module.memory
        self.memory.clock += 1
        self.launched = self.memory.clock
        self.warps_of_block = -(-self.block_size // LANES)
        self.block_barrier = np.zeros(self.blocks, np.int64)
        self.warp_barrier = np.zeros(self.blocks * self.warps_of_block, np.int64)
        self.known: dict[int, Index] = {}
        self.seen: dict[int, Index] = {}  # by an atomic operation, without a fence until now
        self.fence_time = np.zeros(self.threads, np.int64)
        self.fence_block = np.zeros(self.threads, np.int64)  # the block's last barrier before it
        self.fence_warp = np.zeros(self.threads, np.int64)
        self.fenced: dict[int, Index] = {}
        self.released: dict[tuple[str, int], Index] = {}

    def run(self, resident: int) -> None:
        order = list(range(self.blocks))
        if self.random:
            self.random.shuffle(order)
        for start in range(0, self.blocks, resident):
            with np.errstate(over="ignore"):
                _Residents(self, np.array(sorted(order[start : start + resident]), np.int64)).run()

    def tick(self) -> int:
        self.memory.clock += 1
        return self.memory.clock

    def warp_of(self, threads: Index) -> Index:
        blocks, places = np.divmod(threads, self.block_size)
        return blocks * self.warps_of_block + places // LANES

    def is_ordered(self, earlier: Index, when: Index, threads: Index) -> npt.NDArray[np.bool_]:
        blocks = threads // self.block_size
        owners = np.where(
            earlier >= 0, earlier // self.block_size, SEVERAL_BLOCKS - 1 - earlier
        )  # -1 for several blocks
        ordered = (owners == blocks) & (when < self.block_barrier[blocks])
        one = earlier >= 0
        warps = self.warp_of(threads)
        same_warp = one & (self.warp_of(np.maximum(earlier, 0)) == warps)
        ordered |= same_warp & (when < self.warp_barrier[warps])
        if self.known:
            for k in np.flatnonzero(~ordered):
                known = self.known.get(int(threads[k]))
                if known is not None:
                    if earlier[k] >= 0:
                        least = known[earlier[k]]
                    elif owners[k] >= 0:
                        first = int(owners[k]) * self.block_size
                        least = known[first : first + self.block_size].min()
                    else:
                        least = known.min()
                    ordered[k] = when[k] < least
        return ordered

    # --- fences and atomic operations ---

    def fence(self, threads: Index, now: int) -> None:
        """Note what each thread has seen or done; later atomic operations of its pass that on."""
        self.fence_time[threads] = now
        self.fence_block[threads] = self.block_barrier[threads // self.block_size]
        self.fence_warp[threads] = self.warp_barrier[self.warp_of(threads)]
        for thread in threads.tolist() if self.seen or self.known or self.fenced else ():
            if thread in self.seen:
                self._learn(thread, self.seen.pop(thread))
            if thread in self.known:
                self.fenced[thread] = self.known[thread]

    def _learn(self, thread: int, times: Index) -> None:
        old = self.known.get(thread)
        self.known[thread] = times if old is None else np.maximum(old, times)

    def release(self, space: str, address: int, thread: int, *, fenced: bool) -> None:
        """Pass on what a thread knew at its last fence, or (a release operation) knows now."""
        time = self.memory.clock if fenced else int(self.fence_time[thread])
        if time <= self.launched:
            return
        block = thread // self.block_size
        warp = int(self.warp_of(np.array([thread]))[0])
        message = np.zeros(self.threads, np.int64)
        # Barriers behind the fence order nothing before it.
        first = block * self.block_size
        block_time, warp_time = self.fence_block[thread], self.fence_warp[thread]
        if fenced:
            block_time, warp_time = self.block_barrier[block], self.warp_barrier[warp]
        message[first : first + self.block_size] = block_time
        start = first + (warp % self.warps_of_block) * LANES
        stop = min(start + LANES, first + self.block_size)
        message[start:stop] = np.maximum(message[start:stop], warp_time)
        message[thread] = time
        passed = self.known.get(thread) if fenced else self.fenced.get(thread)
        if passed is not None:
            message = np.maximum(message, passed)
        old = self.released.get((space, address))
        self.released[space, address] = message if old is None else np.maximum(old, message)

    def acquire(self, space: str, address: int, thread: int, *, fenced: bool) -> None:
        times = self.released.get((space, address))
        if times is None:
            return
        if fenced:
            self._learn(thread, times)
        else:
            old = self.seen.get(thread)
            self.seen[thread] = times if old is None else np.maximum(old, times)

    def share(self, threads: Index) -> None:
        """Let threads that met at a barrier know what one of them knows."""
        if not self.known:
            return
        knowing = [self.known[t] for t in threads.tolist() if t in self.known]
        if knowing:
            times = np.maximum.reduce(knowing)
            self.known |= dict.fromkeys(threads.tolist(), times)


class _Residents(Arithmetic):
    """The blocks that are on the device at once. Translated instructions call its methods."""

    def __init__(self, grid: _Grid, blocks: Index) -> None:
        self.grid, kernel, size = grid, grid.kernel, grid.block_size
        self.count = len(blocks) * size
        places = np.tile(np.arange(size, dtype=np.int64), len(blocks))
        self.slot_block = np.repeat(np.arange(len(blocks)), size)
        self.threads = np.repeat(blocks, size) * size + places
        self.blocks = blocks
        self.warp = self.slot_block * grid.warps_of_block + places // LANES
        self.lane = places % LANES
        self.warps = len(blocks) * grid.warps_of_block
        self.lanes_there = np.zeros(self.warps, np.int64)
        np.bitwise_or.at(self.lanes_there, self.warp, np.int64(1) << self.lane)
        self.alive = np.ones(self.count, bool)
        self.place = np.zeros(self.count, np.int64)  # the next basic block of each thread

        lanes = self.lane.astype(np.uint32)
        every = np.repeat(blocks, size)
        (x, y, _), (gx, gy, gz) = grid.block, grid.grid
        numbers = {
            "%tid.x": places % x,
            "%tid.y": places // x % y,
            "%tid.z": places // (x * y),
            "%ctaid.x": every % gx,
            "%ctaid.y": every // gx % gy,
            "%ctaid.z": every // (gx * gy),
            "%laneid": lanes,
            "%warpid": places // LANES,
            "%lanemask_eq": np.uint32(1) << lanes,
            "%lanemask_lt": (np.uint32(1) << lanes) - np.uint32(1),
        }
        for axis, blocks_of_axis, threads in zip("xyz", (gx, gy, gz), grid.block, strict=True):
            numbers[f"%nctaid.{axis}"] = np.full(self.count, blocks_of_axis)
            numbers[f"%ntid.{axis}"] = np.full(self.count, threads)
        self.registers = {name: np.asarray(v).astype(np.uint32) for name, v in numbers.items()}
        kinds = {1: np.bool_, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
        for name, bits in kernel.text.registers.items():
            # A register that nobody wrote has some value.
            some: Any = np.array(0xA5A5_A5A5_A5A5_A5A5, np.uint64).astype(kinds[bits])
            self.registers[name] = np.broadcast_to(some, (self.count,))

        self.stride = kernel.shared_size + -(-grid.dynamic // 256) * 256
        self.shared = Space("shared", np.zeros(self.stride * len(blocks), np.uint8), 0)
        for number in range(len(blocks)):
            start = number * self.stride
            for data in kernel.static:
                self.shared.add(start + kernel.places[data.name], data.size or 0)
            if grid.dynamic:
                self.shared.add(start + kernel.places[kernel.dynamic[0].name], grid.dynamic)

    # --- which threads go on ---

    def run(self) -> None:
        steps = self.grid.steps
        waiting = {0: np.arange(self.count)}  # by the basic block that threads come to next
        while waiting:
            steps -= 1
            if steps < 0:
                raise PtxError(f"{self.grid.kernel.text.name} does not end")
            number, active = self._choose(waiting)
            block = self.grid.kernel.blocks[number]
            self.now = self.grid.tick()
            everyone = len(active) == self.count
            try:
                condition = block.run(self, self.registers, None if everyone else active)
            except PtxError as error:
                if str(error).startswith("kernel "):
                    raise
                name = self.grid.kernel.text.name
                place = block.instructions[0].line if block.instructions else 0
                raise type(error)(f"kernel {name}, from line {place}: {error}") from None
            if block.together:
                self._met(block, active)
            for target, threads in self._targets(block, condition, active):
                self._arrive(waiting, target, threads)

    def _targets(
        self, block: Block, condition: Any, active: Index
    ) -> list[tuple[int | None, Index]]:
        if block.end == "trap":
            raise PtxError(f"{self.grid.kernel.text.name}, line {block.line}: trap")
        following = block.number + 1
        if block.end is None:
            return [(following, active)]
        if block.end != "bra":
            self.alive[active] = False
            return []
        if not block.conditional:
            return [(block.target, active)]
        taken = np.broadcast_to(condition, active.shape)
        if taken.all():
            return [(block.target, active)]
        if not taken.any():
            return [(following, active)]
        return [(block.target, active[taken]), (following, active[~taken])]

    @staticmethod
    def _arrive(waiting: dict[int, Index], target: int | None, threads: Index) -> None:
        assert target is not None
        there = waiting.get(target)
        waiting[target] = threads if there is None else np.union1d(there, threads)

    def _choose(self, waiting: dict[int, Index]) -> tuple[int, Index]:
        """Take threads that can go on out of those that wait: the earliest in the text, or some."""
        order = sorted(waiting)
        chance = self.grid.random
        if chance:
            chance.shuffle(order)
        for number in order:
            threads = waiting[number]
            block = self.grid.kernel.blocks[number]
            ready = threads
            if block.together == "block":
                ready = self._complete_blocks(threads)
            elif block.together == "warp":
                ready = self._complete_warps(block, threads)
            if not len(ready):
                continue
            if chance and chance.random() < 0.6:
                ready = self._some(block, ready, chance)
            rest = threads if len(ready) == 0 else np.setdiff1d(threads, ready, True)
            if len(rest):
                waiting[number] = rest
            else:
                del waiting[number]
            return number, ready
        raise BarrierError(self._stuck(waiting))

    def _some(self, block: Block, ready: Index, chance: random.Random) -> Index:
        """Return a part of threads: blocks, warps, or (where they need not meet) threads."""
        generator = np.random.default_rng(chance.getrandbits(32))
        groups = self.slot_block if block.together == "block" else self.warp
        if block.together is None and chance.random() < 0.3:
            groups = np.arange(self.count)
        chosen = generator.random(int(groups.max()) + 1) < chance.choice((0.1, 0.5, 0.9))
        part = ready[chosen[groups[ready]]]
        return part if len(part) else ready

    def _complete_blocks(self, threads: Index) -> Index:
        here = np.bincount(self.slot_block[threads], minlength=len(self.blocks))
        alive = np.bincount(self.slot_block[self.alive], minlength=len(self.blocks))
        return threads[(here == alive)[self.slot_block[threads]]]

    def _complete_warps(self, block: Block, threads: Index) -> Index:
        assert block.members is not None
        masks = np.asarray(block.members(self, self.registers, threads)).astype(np.int64)
        here = np.zeros(self.warps, np.int64)
        np.bitwise_or.at(here, self.warp[threads], np.int64(1) << self.lane[threads])
        alive = np.zeros(self.warps, np.int64)
        np.bitwise_or.at(alive, self.warp[self.alive], np.int64(1) << self.lane[self.alive])
        warp = self.warp[threads]
        needed = masks & self.lanes_there[warp]
        own = (masks >> self.lane[threads]) & 1
        name = self.grid.kernel.text.name
        if not own.all():
            thread = int(self.threads[threads[np.flatnonzero(own == 0)[0]]])
            raise BarrierError(
                f"kernel {name}, line {block.line}: thread {thread} is not in its own mask"
            )
        if (needed & ~alive[warp]).any():
            thread = int(self.threads[threads[np.flatnonzero(needed & ~alive[warp])[0]]])
            raise BarrierError(
                f"kernel {name}, line {block.line}: thread {thread} waits for one that has ended"
            )
        return threads[(needed & ~here[warp]) == 0]

    def _stuck(self, waiting: dict[int, Index]) -> str:
        lines = []
        for number in sorted(waiting):
            block = self.grid.kernel.blocks[number]
            threads = self.threads[waiting[number]]
            lines.append(f"{len(threads)} at line {block.line} (first: thread {threads[0]})")
        name = self.grid.kernel.text.name
        return f"kernel {name}: not all threads come to a barrier; they wait: {'; '.join(lines)}"

    def _met(self, block: Block, active: Index) -> None:
        """Note that threads met, which orders their memory accesses; shfl and its like do not."""
        grid, now = self.grid, self.now
        if block.together == "block":
            for slot in np.unique(self.slot_block[active]):
                number = self.blocks[slot]
                grid.block_barrier[number] = now
                if grid.known:
                    grid.share(self.threads[active[self.slot_block[active] == slot]])
        elif block.instructions[-1].parts[0] == "bar":
            alive = np.bincount(self.warp[self.alive], minlength=self.warps)
            here = np.bincount(self.warp[active], minlength=self.warps)
            for warp in np.flatnonzero((here == alive) & (here > 0)):
                members = active[self.warp[active] == warp]
                grid.warp_barrier[grid.warp_of(self.threads[members[:1]])] = now
                grid.share(self.threads[members])

    # --- registers ---

    def put(self, name: str, value: Values, a: Index | None) -> None:
        """Set a register of the active threads. Arrays are never changed, as several may be one."""
        if a is None:
            shape = (self.count,)
            self.registers[name] = value if value.shape == shape else np.full(shape, value)
        else:
            changed = np.array(self.registers[name])
            changed[a] = value
            self.registers[name] = changed

    def every(self, value: Values, a: Index | None) -> Values:
        return value

    def same(self, value: int, a: Index) -> Values:
        return np.full(len(a), value, np.int64)

    def parameter(self, name: str, offset: int, size: int) -> Values:
        content = self.grid.parameters[name]
        if offset + size > len(content):
            raise PtxError(f"{size} bytes at {offset} of parameter {name} of {len(content)}")
        number = int.from_bytes(content[offset : offset + size], "little")
        return np.array(number, f"uint{8 * size}")

    # --- memory ---

    def _by(self, a: Index, strong: bool = False, constant: bool = False) -> Accessors:
        grid = self.grid
        return Accessors(
            self.threads[a], grid.block_size, self.now, grid.launched, grid.is_ordered, strong,
            constant,
        )  # fmt: skip

    def _at(
        self, space: str, addresses: Values, guard: Values | None, a: Index | None
    ) -> tuple[Space, Index, Index, Index | None]:
        """Return the space, the active threads, the offset of each, and which a guard left."""
        active = np.arange(self.count) if a is None else a
        addresses = np.broadcast_to(addresses, active.shape)
        left = None
        if guard is not None:
            left = np.flatnonzero(np.broadcast_to(guard, active.shape))
            active, addresses = active[left], addresses[left]
        if space == "shared":
            if (addresses >= np.uint64(self.stride)).any():
                # Behind the block's own memory: no byte of another block is there to be met.
                addresses = np.where(addresses >= np.uint64(self.stride), np.uint64(0), addresses)
            return (
                self.shared,
                active,
                addresses.astype(np.int64) + (self.slot_block[active] * self.stride),
                left,
            )
        memory = self.grid.memory if space == "global" else self.grid.kernel.module.constants
        return memory, active, (addresses - np.uint64(memory.base)).view(np.int64), left

    def _fail(self, error: PtxError, line: int) -> PtxError:
        return type(error)(f"kernel {self.grid.kernel.text.name}, line {line}: {error}")

    def load(
        self,
        space: str,
        addresses: Values,
        unit: int,
        count: int,
        constant: bool,
        strong: list[str],
        guard: Values | None,
        a: Index | None,
        line: int,
    ) -> list[Values]:
        memory, active, offsets, left = self._at(space, addresses, guard, a)
        constant = constant or space == "const"
        self.now = self.grid.tick()
        try:
            columns = memory.load(offsets, unit, count, self._by(active, bool(strong), constant))
        except PtxError as error:
            raise self._fail(error, line) from None
        if strong:
            self._acquire(space, offsets, active, strong)
        if left is None:
            return columns
        size = self.count if a is None else len(a)
        whole = [np.zeros(size, column.dtype) for column in columns]
        for one, column in zip(whole, columns, strict=True):
            one[left] = column
        return whole

    def store(
        self,
        space: str,
        addresses: Values,
        columns: list[Values],
        unit: int,
        strong: list[str],
        guard: Values | None,
        a: Index | None,
        line: int,
    ) -> None:
        memory, active, offsets, left = self._at(space, addresses, guard, a)
        self.now = self.grid.tick()
        size = self.count if a is None else len(a)
        values = [np.broadcast_to(column, (size,)) for column in columns]
        if left is not None:
            values = [value[left] for value in values]
        try:
            memory.store(offsets, values, unit, self._by(active, bool(strong)))
        except PtxError as error:
            raise self._fail(error, line) from None
        if strong:
            self._release(space, offsets, active, strong)

    def _acquire(self, space: str, offsets: Index, active: Index, how: list[str]) -> None:
        if self.grid.released:
            fenced = "acquire" in how or "acq_rel" in how
            for offset, thread in zip(offsets.tolist(), self.threads[active].tolist(), strict=True):
                self.grid.acquire(space, offset, thread, fenced=fenced)

    def _release(self, space: str, offsets: Index, active: Index, how: list[str]) -> None:
        fenced = "release" in how or "acq_rel" in how
        threads = self.threads[active]
        if fenced or (self.grid.fence_time[threads] > self.grid.launched).any():
            for offset, thread in zip(offsets.tolist(), threads.tolist(), strict=True):
                self.grid.release(space, offset, thread, fenced=fenced)

    def atomic(
        self,
        space: str,
        operation: str,
        addresses: Values,
        operands: list[Values],
        kind: str,
        strong: list[str],
        guard: Values | None,
        a: Index | None,
        line: int,
    ) -> Values:
        """Run an atomic operation, one thread after another; return the values before it."""
        memory, active, offsets, left = self._at(space, addresses, guard, a)
        self.now = self.grid.tick()
        size = self.count if a is None else len(a)
        values = [np.broadcast_to(operand, (size,)) for operand in operands]
        if left is not None:
            values = [value[left] for value in values]
        bits = int(kind[1:])
        before = np.zeros(len(active), f"uint{bits}")
        order = list(range(len(active)))
        if self.grid.random:
            self.grid.random.shuffle(order)
        acquires, releases = (
            {"acquire", "acq_rel"} & set(strong),
            {"release", "acq_rel"} & set(strong),
        )
        for k in order:
            one, by = offsets[k : k + 1], self._by(active[k : k + 1], strong=True)
            try:
                old = memory.load(one, bits // 8, 1, by)[0]
                thread, offset = int(by.threads[0]), int(one[0])
                self.grid.acquire(space, offset, thread, fenced=bool(acquires))
                new = _combined(operation, int(old[0]), [int(v[k]) for v in values], kind)
                memory.store(one, [np.array([new], old.dtype)], bits // 8, by)
            except PtxError as error:
                raise self._fail(error, line) from None
            self.grid.release(space, offset, thread, fenced=bool(releases))
            before[k] = old[0]
        if left is None:
            return before
        whole = np.zeros(size, before.dtype)
        whole[left] = before
        return whole

    def fence(self, a: Index | None) -> None:
        self.now = self.grid.tick()
        self.grid.fence(self.threads if a is None else self.threads[a], self.now)

    # --- warps ---

    def _table(self, value: Values, a: Index | None) -> tuple[Values, Values, Index]:
        """Return values by warp and lane, which of them are there, and the active threads."""
        active = np.arange(self.count) if a is None else a
        value = np.asarray(value)
        table = np.zeros((self.warps, LANES), value.dtype)
        there = np.zeros((self.warps, LANES), bool)
        table[self.warp[active], self.lane[active]] = value
        there[self.warp[active], self.lane[active]] = True
        return table, there, active

    def _members(self, mask: Values, active: Index) -> tuple[Values, Values]:
        """Return the different (warp, mask) of threads, and which of them each thread has."""
        masks = np.broadcast_to(mask, active.shape).astype(np.int64)
        pairs = (self.warp[active].astype(np.int64) << 32) | masks
        return np.unique(pairs, return_inverse=True)

    def reduce(
        self, operation: str, kind: str, value: Values, mask: Values, a: Index | None
    ) -> Values:
        value = np.asarray(value)
        table, _, active = self._table(value, a)
        functions: dict[str, Any] = {
            "add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and,
            "or": np.bitwise_or, "xor": np.bitwise_xor,
        }  # fmt: skip
        typed = table.view(np.int32) if kind == "s32" else table
        pairs, which = self._members(mask, active)
        results = np.zeros(len(pairs), np.uint32)
        for k, pair in enumerate(pairs.tolist()):
            warp, lanes = pair >> 32, (pair & _ALL_LANES) & int(self.lanes_there[pair >> 32])
            chosen = typed[warp, [lane for lane in range(LANES) if lanes >> lane & 1]]
            results[k] = functions[operation].reduce(chosen, dtype=chosen.dtype).view(np.uint32)
        return results[which]

    def vote(self, mode: str, value: Values, mask: Values, a: Index | None) -> Values:
        table, _, active = self._table(value, a)
        bits = (table.astype(np.int64) << np.arange(LANES)).sum(axis=1)
        masks = np.broadcast_to(mask, active.shape).astype(np.int64)
        needed = masks & self.lanes_there[self.warp[active]]
        ballot = bits[self.warp[active]] & needed
        if mode == "ballot":
            return ballot.astype(np.uint32)
        if mode == "any":
            return ballot != 0
        return ballot == needed if mode == "all" else (ballot == needed) | (ballot == 0)

    def shuffle(
        self,
        mode: str,
        value: Values,
        lane: Values,
        clamp: Values,
        mask: Values,
        a: Index | None,
    ) -> tuple[Values, Values]:
        """Return the value of another lane, and whether that lane is within the segment."""
        table, there, active = self._table(value, a)
        own = self.lane[active]
        distance = np.broadcast_to(lane, active.shape).astype(np.int64) & 31
        c = np.broadcast_to(clamp, active.shape).astype(np.int64)
        bound, segment = c & 31, (c >> 8) & 31
        most = (own & segment) | (bound & ~segment & 31)
        least = own & segment
        if mode == "up":
            source = own - distance
            inside = source >= most
        elif mode == "down":
            source = own + distance
            inside = source <= most
        elif mode == "bfly":
            source = own ^ distance
            inside = source <= most
        else:
            source = least | (distance & ~segment & 31)
            inside = source <= most
        source = np.where(inside, source, own)
        masks = np.broadcast_to(mask, active.shape).astype(np.int64)
        wrong = ((masks >> source) & 1 == 0) | ~there[self.warp[active], source]
        if wrong.any():
            thread = int(self.threads[active[np.flatnonzero(wrong)[0]]])
            raise BarrierError(f"shfl: thread {thread} takes the value of a lane that is not there")
        return table[self.warp[active], source], inside


def _combined(operation: str, old: int, operands: list[int], kind: str) -> int:
    """Return the value that an atomic operation writes."""
    bits = int(kind[1:])
    value = operands[0]

    def number(x: int) -> int:
        return x - (1 << bits) if kind[0] == "s" and x >> bits - 1 else x

    if operation == "cas":
        return operands[1] if old == value else old
    if operation == "inc":
        return 0 if old >= value else old + 1
    if operation == "dec":
        return value if old == 0 or old > value else old - 1
    results = {
        "add": old + value,
        "and": old & value,
        "or": old | value,
        "xor": old ^ value,
        "exch": value,
        "min": min(old, value, key=number),
        "max": max(old, value, key=number),
    }
    return results[operation] % (1 << bits)
