# SPDX-License-Identifier: Apache-2.0
"""A kernel's instructions as Python: a function for each basic block, which takes all its threads
one instruction at a time, a register being an array with an element for each thread."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .text import Instruction, KernelText, PtxError, UnknownInstructionError

_UNSIGNED = {1: "bool_", 8: "uint8", 16: "uint16", 32: "uint32", 64: "uint64"}
_SPECIAL = {
    f"%{name}.{axis}": 32 for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"
} | {"%laneid": 32, "%warpid": 32, "%lanemask_lt": 32, "%lanemask_eq": 32}
_ENDS = ("bra", "ret", "exit", "trap")
BLOCK_BARRIERS = ("bar", "barrier")
WARP_TOGETHER = ("shfl", "redux", "vote")  # and bar.warp
_MEMORY = ("ld", "st", "atom", "red")
# Hints to caches: they change no value.
_HINTS = re.compile(r"ca|cg|cs|lu|cv|wb|wt|L1|L2|no_allocate|evict_\w+|\d+B")
_BARRIERS = ("bar.sync", "barrier.sync", "barrier.cta.sync")
_STRONG = {"volatile", "relaxed", "acquire", "release", "acq_rel"}


@dataclass
class Block:
    """A basic block: what it runs, and where its threads go on.

    `run(launch, registers, active)` takes the numbers of the active threads, or None for all, and
    returns the condition of the branch at its end. `together` is "block" or "warp" where threads
    wait for each other before it; `members` then gives the mask of lanes that each waits for.
    """

    number: int
    instructions: list[Instruction]
    end: str | None = None  # of _ENDS
    target: int | None = None
    conditional: bool = False
    together: str | None = None
    run: Callable[..., Any] = lambda *_: None
    members: Callable[..., Any] | None = None

    @property
    def line(self) -> int:
        return self.instructions[0].line if self.instructions else 0


def blocks_of(kernel: KernelText, symbols: dict[str, int]) -> list[Block]:
    """Return the basic blocks of a kernel, translated; `symbols` has the address of each array."""
    blocks = _split(kernel)
    translation = _Translation(kernel, symbols, blocks)
    for block in blocks:
        translation.compile(block)
    return blocks


def _together(instruction: Instruction) -> str | None:
    name = instruction.parts[0]
    if instruction.operation.startswith("bar.warp.") or name in WARP_TOGETHER:
        return "warp"
    return "block" if name in BLOCK_BARRIERS else None


def _split(kernel: KernelText) -> list[Block]:
    starts = {0, len(kernel.instructions), *kernel.labels.values()}
    for k, instruction in enumerate(kernel.instructions):
        if instruction.parts[0] in _ENDS:
            starts.add(k + 1)
        if _together(instruction):
            starts |= {k, k + 1}
    ordered = sorted(starts)
    number_of = {start: number for number, start in enumerate(ordered)}
    blocks = []
    for number, (start, stop) in enumerate(zip(ordered, [*ordered[1:], None], strict=True)):
        block = Block(number, kernel.instructions[start:stop])
        if block.instructions:
            last = block.instructions[-1]
            block.together = _together(last)
            if block.together and last.guard:
                raise UnknownInstructionError(f"line {last.line}: {last} under a condition")
            if last.parts[0] in _ENDS:
                block.end = last.parts[0]
                block.conditional = last.guard is not None
            if block.end == "bra":
                label = last.operands[0]
                if label not in kernel.labels:
                    raise PtxError(f"line {last.line}: there is no label {label}")
                block.target = number_of[kernel.labels[label]]
        elif number == len(ordered) - 1:
            block.end = "exit"
        blocks.append(block)
    return blocks


class _Translation:
    """Writes the source of the blocks' functions.

    In a function a register is a local variable. What other blocks need is taken from the launch's
    registers at the start and put back at the end, so that most registers never leave a function.
    """

    def __init__(self, kernel: KernelText, symbols: dict[str, int], blocks: list[Block]) -> None:
        self._kernel, self._symbols, self._blocks = kernel, symbols, blocks
        self._bits = kernel.registers | _SPECIAL
        self._registers_in = cache(self._find_registers)
        self._names: dict[str, Any] = {"np": np, "PtxError": PtxError}
        self._offsets = {}
        for parameter in kernel.parameters:
            self._offsets[parameter.name] = parameter.size
        self._constants = self._find_constants()
        self._live_out = self._liveness()

    # --- which registers live where ---

    def _find_registers(self, text: str) -> list[str]:
        return [name for name in re.findall(r"[\w%$.]+", text) if name in self._bits]

    def _written(self, instruction: Instruction) -> list[str]:
        name = instruction.parts[0]
        none = ("st", "red", "bra", "ret", "exit", "trap", *BLOCK_BARRIERS, "membar", "fence")
        if name in none or not instruction.operands:
            return []
        return self._registers_in(instruction.operands[0])

    def _read(self, instruction: Instruction) -> list[str]:
        written = self._written(instruction)
        operands = instruction.operands[1:] if written else instruction.operands
        found = [name for text in operands for name in self._registers_in(text)]
        if instruction.guard:
            # Where the guard is false the register keeps its value.
            found += [instruction.guard, *written]
        return found

    def _find_constants(self) -> dict[str, int]:
        """Return the registers that one `mov` of a number writes, and nothing else."""
        writes: dict[str, list[Instruction]] = {}
        for instruction in self._kernel.instructions:
            for name in self._written(instruction):
                writes.setdefault(name, []).append(instruction)
        constants = {}
        for name, (first, *others) in writes.items():
            if not others and first.parts[0] == "mov" and first.guard is None:
                value = _number(first.operands[1])
                if value is not None and self._bits[name] > 1:
                    constants[name] = value
        return constants

    def _liveness(self) -> list[set[str]]:
        blocks = self._blocks
        needs: list[set[str]] = []
        makes: list[set[str]] = []
        for block in blocks:
            need: set[str] = set()
            make: set[str] = set()
            for instruction in block.instructions:
                need |= {n for n in self._read(instruction) if n not in make}
                make |= set(self._written(instruction))
            needs.append(need - set(self._constants))
            makes.append(make)
        live_in = [set(need) for need in needs]
        live_out: list[set[str]] = [set() for _ in blocks]
        changed = True
        while changed:
            changed = False
            for k in reversed(range(len(blocks))):
                out = set().union(*(live_in[n] for n in self._next(blocks[k])))
                entering = needs[k] | (out - makes[k])
                if out != live_out[k] or entering != live_in[k]:
                    live_out[k], live_in[k], changed = out, entering, True
        self._live_in = live_in
        return live_out

    def _next(self, block: Block) -> list[int]:
        following = [] if block.target is None else [block.target]
        if block.end is None or block.conditional:
            following.append(block.number + 1)
        return [n for n in following if n < len(self._blocks)]

    # --- source ---

    def compile(self, block: Block) -> None:
        if block.together == "warp":
            block.members = self._members(block)
        lines: list[str] = []
        self._local: dict[str, str] = {}
        self._free: list[str] = []
        self._made = 0
        last_use: dict[str, int] = {}
        for k, instruction in enumerate(block.instructions):
            for name in (*self._read(instruction), *self._written(instruction)):
                last_use[name] = k
        out = {n for n in self._live_out[block.number] if n in last_use}
        written = {n for i in block.instructions for n in self._written(i)}
        for name in sorted(last_use):
            if name in self._live_in[block.number] or name in _SPECIAL:
                if name in self._constants:
                    continue
                local = self._make(name)
                lines.append(f"{local} = r[{name!r}] if a is None else r[{name!r}][a]")
        ending = "return None"
        for k, instruction in enumerate(block.instructions):
            try:
                if instruction.parts[0] == "bra":
                    if instruction.guard:
                        sign = "~" if instruction.negated else ""
                        ending = f"return {sign}{self._operand(instruction.guard, 1)}"
                    for name in written & out:
                        lines.append(f"s.put({name!r}, {self._local[name]}, a)")
                    out = set()
                else:
                    lines += self._instruction(instruction)
            except UnknownInstructionError as error:
                raise UnknownInstructionError(f"line {instruction.line}: {error}") from None
            except (AttributeError, IndexError, KeyError, ValueError):
                raise UnknownInstructionError(
                    f"line {instruction.line}: instruction {str(instruction)!r}"
                ) from None
            for name in {*self._read(instruction), *self._written(instruction)}:
                if last_use[name] == k and name not in out and name in self._local:
                    self._free.append(self._local.pop(name))
        for name in sorted(written & out):
            lines.append(f"s.put({name!r}, {self._local[name]}, a)")
        source = "def run(s, r, a):\n    " + "\n    ".join([*lines, ending]) + "\n"
        block.run = self._function(source, block)

    def _function(self, source: str, block: Block) -> Callable[..., Any]:
        space = self._names
        exec(compile(source, f"<{self._kernel.name}, line {block.line}>", "exec"), space)
        return space.pop("run")

    def _make(self, register: str) -> str:
        """Return the local variable that gets a register's new value; one without use is taken
        first, so that its array is freed."""
        if register not in self._local:
            if self._free:
                self._local[register] = self._free.pop()
            else:
                self._local[register] = f"v{self._made}"
                self._made += 1
        return self._local[register]

    def _constant(self, value: int, bits: int, *, signed: bool = False) -> str:
        """Return the name of a number of a type."""
        value %= 1 << bits
        if signed and value >> bits - 1:
            value -= 1 << bits
        dtype = f"int{bits}" if signed else _UNSIGNED[bits]
        name = f"c{'s' if signed else 'u'}{bits}_{value % (1 << bits):x}"
        self._names[name] = np.array(value, dtype)
        return name

    def _operand(self, text: str, bits: int, *, signed: bool = False) -> str:
        """Return an expression of an operand: unsigned, or signed."""
        value = self._constants.get(text)
        if value is None and text not in self._bits:
            value = _number(text)
            if value is None:
                value = self._symbols.get(text)
            if value is None:
                raise UnknownInstructionError(f"operand {text!r}")
        if value is not None:
            if text in self._constants and self._bits[text] != bits:
                raise UnknownInstructionError(f"{text} has not {bits} bits")
            return self._constant(value, bits, signed=signed)
        if self._bits[text] != bits:
            raise UnknownInstructionError(f"{text} has {self._bits[text]} bits, not {bits}")
        local = self._local[text]
        return f"{local}.view(np.int{bits})" if signed and bits > 1 else local

    def _wide(self, text: str, bits: int) -> str:
        """Return an operand whose register may be wider than the type."""
        have = self._bits.get(text, bits)
        if have == bits:
            return self._operand(text, bits)
        if have < bits:
            raise UnknownInstructionError(f"{text} has {have} bits, not {bits}")
        return f"({self._operand(text, have)}).astype(np.{_UNSIGNED[bits]})"

    def _assign(self, instruction: Instruction, register: str, expression: str) -> list[str]:
        if register == "_":
            return []
        if instruction.guard:
            guard = self._operand(instruction.guard, 1)
            old = self._local[register]
            yes, no = (old, expression) if instruction.negated else (expression, old)
            expression = f"np.where({guard}, {yes}, {no})"
        if register in self._constants:
            return []
        return [f"{self._make(register)} = {expression}"]

    # --- instructions ---

    def _instruction(self, ins: Instruction) -> list[str]:
        name = ins.parts[0]
        if name in ("ret", "exit", "trap"):
            if ins.guard:
                raise UnknownInstructionError(f"instruction {str(ins)!r}")
            return []
        if _together(ins) == "block":
            if ins.operation.removesuffix(".aligned") not in _BARRIERS:
                raise UnknownInstructionError(f"instruction {str(ins)!r}")
            if len(ins.operands) != 1 or _number(ins.operands[0]) is None:
                raise UnknownInstructionError(f"instruction {str(ins)!r}: only for all threads")
            return []
        if ins.operation == "bar.warp.sync":
            return []
        if name in ("membar", "fence"):
            if ins.guard:
                raise UnknownInstructionError(f"instruction {str(ins)!r}")
            wide = {"gl", "sys", "gpu"} & set(ins.parts)
            if not wide and not {"cta"} & set(ins.parts):
                raise UnknownInstructionError(f"instruction {str(ins)!r}")
            return ["s.fence(a)"] if wide else []
        if name in _MEMORY:
            return self._memory(ins)
        if name in WARP_TOGETHER:
            return self._warp(ins)
        if ins.operation == "mov.b64" and "{" in "".join(ins.operands):
            return self._pair(ins, 64)
        if ins.operation == "mov.b32" and "{" in "".join(ins.operands):
            return self._pair(ins, 32)
        expression = self._arithmetic(ins)
        return self._assign(ins, ins.operands[0], expression)

    def _pair(self, ins: Instruction, bits: int) -> list[str]:
        """A register of two halves, made or taken apart."""
        half = bits // 2
        small, large = _UNSIGNED[half], _UNSIGNED[bits]
        shift = self._constant(half, bits)
        to, source = ins.operands
        if to.startswith("{"):
            low, high = (name.strip() for name in to[1:-1].split(","))
            value = self._operand(source, bits)
            lines = [f"whole = {value}"]
            lines += self._assign(ins, low, f"whole.astype(np.{small})")
            lines += self._assign(ins, high, f"(whole >> {shift}).astype(np.{small})")
            return lines
        low, high = (self._operand(name.strip(), half) for name in source[1:-1].split(","))
        made = f"{low}.astype(np.{large}) | ({high}.astype(np.{large}) << {shift})"
        return self._assign(ins, to, made)

    def _arithmetic(self, ins: Instruction) -> str:
        """Return the value of an instruction that only computes."""
        name, *qualifiers = ins.parts
        kind = qualifiers[-1] if qualifiers else ""
        sources = ins.operands[1:]
        if name == "setp":
            return self._compare(ins)
        if name in ("cvt", "cvta"):
            return self._convert(ins)
        if kind == "pred" and name in ("and", "or", "xor", "not", "mov"):
            p = [
                self._operand(x, 1) if _number(x) is None else str(bool(_number(x)))
                for x in sources
            ]
            signs = {"and": "&", "or": "|", "xor": "^"}
            if name in signs:
                return f"{p[0]} {signs[name]} {p[1]}"
            return f"~{p[0]}" if name == "not" else f"s.every({p[0]}, a)"
        if name == "prmt":
            return self._permute(ins)
        if kind not in _KINDS:
            raise UnknownInstructionError(f"instruction {str(ins)!r}")
        bits, signed = int(kind[1:]), kind[0] == "s"
        table = _PLAIN.get(".".join((name, *qualifiers[:-1])))
        if table is None:
            raise UnknownInstructionError(f"instruction {str(ins)!r}")
        return table(self, ins, sources, bits, signed)

    def _compare(self, ins: Instruction) -> str:
        _, comparison, *rest = ins.parts
        kind, combine = rest[-1], rest[:-1]
        if kind not in _KINDS or "|" in ins.operands[0] or len(combine) > 1:
            raise UnknownInstructionError(f"instruction {str(ins)!r}")
        bits, signed = int(kind[1:]), kind[0] == "s"
        unsigned_names = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
        sign = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}[
            unsigned_names.get(comparison, comparison)
        ]
        x, y = (self._operand(text, bits, signed=signed) for text in ins.operands[1:3])
        result = f"({x} {sign} {y})"
        if combine:
            with_ = {"and": "&", "or": "|", "xor": "^"}[combine[0]]
            other = ins.operands[3]
            negated = "~" if other.startswith("!") else ""
            result = f"({result} {with_} {negated}{self._operand(other.lstrip('!'), 1)})"
        return result

    def _convert(self, ins: Instruction) -> str:
        """cvt of integers; cvta of global addresses, which are the generic ones too."""
        to, source = ins.operands
        if ins.parts[0] == "cvta":
            if "global" not in ins.parts:
                raise UnknownInstructionError(f"instruction {str(ins)!r}: only global addresses")
            return self._operand(source, 64)
        if len(ins.parts) != 3 or ins.parts[1] not in _KINDS or ins.parts[2] not in _KINDS:
            raise UnknownInstructionError(f"instruction {str(ins)!r}")
        target, kind = ins.parts[1:]
        value = self._wide(source, int(kind[1:]))
        if kind[0] == "s":
            value = f"{value}.view(np.int{kind[1:]})"
        value = f"{value}.astype(np.{_UNSIGNED[int(target[1:])]})"
        have = self._bits[to]
        if have != int(target[1:]):
            if target[0] == "s":
                value = f"{value}.view(np.int{target[1:]})"
            value = f"{value}.astype(np.{_UNSIGNED[have]})"
        return value

    def _permute(self, ins: Instruction) -> str:
        x, y = (self._operand(text, 32) for text in ins.operands[1:3])
        if ins.operation in ("prmt.b32.f4e", "prmt.b32.b4e", "prmt.b32.rc8", "prmt.b32.rc16",
                             "prmt.b32.ecl", "prmt.b32.ecr"):  # fmt: skip
            selector = self._operand(ins.operands[3], 32)
            return f"s.permute_mode({x}, {y}, {selector}, {ins.parts[2]!r})"
        if ins.operation != "prmt.b32":
            raise UnknownInstructionError(f"instruction {str(ins)!r}")
        selector = self._constants.get(ins.operands[3], _number(ins.operands[3]))
        if selector is None:
            return f"s.permute({x}, {y}, {self._operand(ins.operands[3], 32)})"
        picks = [selector >> 4 * k & 15 for k in range(4)]
        if max(picks) < 8:
            first = picks[0]
            if picks == [first - k for k in range(4)] and first >= 3:
                # Bytes in falling order: the two words as 8 bytes in reversed order, moved.
                return self._funnel(f"{y}.byteswap()", f"{x}.byteswap()", 8 * (7 - first))
            if picks == [first + k for k in range(4)]:
                return self._funnel(x, y, 8 * first)
        return f"s.permute({x}, {y}, {self._constant(selector, 32)})"

    def _funnel(self, low: str, high: str, shift: int) -> str:
        """Return bits shift..shift+31 of two words."""
        if shift in (0, 32):
            return high if shift else low
        left, right = self._constant(32 - shift, 32), self._constant(shift, 32)
        return f"({low} >> {right}) | ({high} << {left})"

    # --- memory ---

    def _memory(self, ins: Instruction) -> list[str]:
        name, *words, kind = ins.operation.replace("::", ".").split(".")
        spaces = [w for w in words if w in ("global", "shared", "const", "param", "local")]
        if len(spaces) != 1 or spaces[0] == "local" or kind not in _KINDS:
            raise UnknownInstructionError(f"instruction {str(ins)!r}")
        space = spaces[0]
        vector = next((int(w[1:]) for w in words if re.fullmatch(r"v[248]", w)), 1)
        rest = [w for w in words if w != space and not re.fullmatch(r"v[248]", w)]
        hints = [w for w in rest if _HINTS.fullmatch(w)]
        rest = [w for w in rest if w not in hints and w not in ("gpu", "cta", "sys")]
        strong = [w for w in rest if w in _STRONG]
        rest = [w for w in rest if w not in strong]
        bits = int(kind[1:])
        if bits == 128:
            raise UnknownInstructionError(f"instruction {str(ins)!r}")
        guard = "None"
        if ins.guard:
            guard = ("~" if ins.negated else "") + self._operand(ins.guard, 1)
        if name == "ld":
            if [w for w in rest if w != "nc"] or "release" in strong:
                raise UnknownInstructionError(f"instruction {str(ins)!r}")
            return self._load(ins, space, vector, kind, "nc" in rest, strong, guard)
        if name == "st":
            if rest or "acquire" in strong or space in ("const", "param"):
                raise UnknownInstructionError(f"instruction {str(ins)!r}")
            values = [v.strip() for v in ins.operands[1].strip("{}").split(",")]
            columns = ", ".join(self._wide(value, bits) for value in values)
            if len(values) != vector:
                raise UnknownInstructionError(f"instruction {str(ins)!r}")
            address = self._address(ins.operands[0], space)
            return [
                f"s.store({space!r}, {address}, [{columns}], {bits // 8}, {strong!r}, {guard}, a,"
                f" {ins.line})"
            ]
        if len(rest) != 1 or vector != 1 or space not in ("global", "shared"):
            raise UnknownInstructionError(f"instruction {str(ins)!r}")
        operands = ins.operands if name == "red" else ins.operands[1:]
        values = [self._operand(text, bits) for text in operands[1:]]
        if rest[0] not in ("add", "and", "or", "xor", "min", "max", "inc", "dec", "exch", "cas"):
            raise UnknownInstructionError(f"instruction {str(ins)!r}")
        if len(values) != (2 if rest[0] == "cas" else 1):
            raise UnknownInstructionError(f"instruction {str(ins)!r}")
        address = self._address(operands[0], space)
        call = (
            f"s.atomic({space!r}, {rest[0]!r}, {address}, [{', '.join(values)}], {kind!r},"
            f" {strong!r}, {guard}, a, {ins.line})"
        )
        if name == "red" or ins.operands[0] == "_":
            return [call]
        return self._assign(ins, ins.operands[0], call)

    def _load(
        self,
        ins: Instruction,
        space: str,
        vector: int,
        kind: str,
        constant: bool,
        strong: list[str],
        guard: str,
    ) -> list[str]:
        bits = int(kind[1:])
        names = [n.strip() for n in ins.operands[0].strip("{}").split(",")]
        if len(names) != vector:
            raise UnknownInstructionError(f"instruction {str(ins)!r}")
        if space == "param":
            match = re.fullmatch(r"\[([\w$]+)(?:\+(\d+))?\]", ins.operands[1].replace(" ", ""))
            if match is None or match[1] not in self._offsets:
                raise UnknownInstructionError(f"instruction {str(ins)!r}")
            lines = []
            for k, register in enumerate(names):
                offset = int(match[2] or 0) + k * bits // 8
                value = f"s.parameter({match[1]!r}, {offset}, {bits // 8})"
                lines += self._assign(ins, register, self._widened(value, kind, register))
            return lines
        address = self._address(ins.operands[1], space)
        lines = [
            f"loaded = s.load({space!r}, {address}, {bits // 8}, {vector}, {constant},"
            f" {strong!r}, {guard}, a, {ins.line})"
        ]
        for k, register in enumerate(names):
            value = self._widened(f"loaded[{k}]", kind, register)
            lines += self._assign(ins, register, value)
        return lines

    def _widened(self, value: str, kind: str, register: str) -> str:
        if register == "_":
            return value
        bits, have = int(kind[1:]), self._bits[register]
        if have < bits:
            raise UnknownInstructionError(f"{register} has {have} bits, not {bits}")
        if have == bits:
            return value
        signed = f".view(np.int{bits})" if kind[0] == "s" else ""
        return f"{value}{signed}.astype(np.{_UNSIGNED[have]})"

    def _address(self, text: str, space: str) -> str:
        match = re.fullmatch(r"\[([\w%$]+)(?:\+(-?\d+|0x[0-9a-fA-F]+))?\]", text.replace(" ", ""))
        if match is None:
            raise UnknownInstructionError(f"address {text!r}")
        name, offset = match[1], int(match[2] or "0", 0)
        if name not in self._bits:
            if name not in self._symbols:
                raise UnknownInstructionError(f"address {text!r}")
            return self._constant(self._symbols[name] + offset, 64)
        bits = self._bits[name]
        if bits == 32 and space in ("shared", "const"):
            base = f"{self._operand(name, 32)}.astype(np.uint64)"
        else:
            base = self._operand(name, 64)
        return f"({base} + {self._constant(offset, 64)})" if offset else base

    # --- threads of a warp together ---

    def _mask_of(self, ins: Instruction) -> str:
        return ins.operands[-1] if ins.operands else "-1"

    def _members(self, block: Block) -> Callable[..., Any]:
        ins = block.instructions[-1]
        if "sync" not in ins.parts:
            raise UnknownInstructionError(f"line {ins.line}: instruction {str(ins)!r}")
        text = self._mask_of(ins)
        value = self._constants.get(text, _number(text))
        if value is not None:
            source = f"def run(s, r, a):\n    return s.same({value % (1 << 32)}, a)\n"
        elif self._bits.get(text) == 32:
            source = f"def run(s, r, a):\n    return r[{text!r}][a]\n"
        else:
            raise UnknownInstructionError(f"line {ins.line}: instruction {str(ins)!r}")
        return self._function(source, block)

    def _warp(self, ins: Instruction) -> list[str]:
        mask = self._operand(self._mask_of(ins), 32)
        name = ins.parts[0]
        if name == "redux":
            if len(ins.parts) != 4 or ins.parts[1] != "sync" or ins.parts[3] not in _KINDS:
                raise UnknownInstructionError(f"instruction {str(ins)!r}")
            value = self._operand(ins.operands[1], 32)
            call = f"s.reduce({ins.parts[2]!r}, {ins.parts[3]!r}, {value}, {mask}, a)"
            return self._assign(ins, ins.operands[0], call)
        if name == "vote":
            mode, kind = ins.parts[2:]
            if (mode == "ballot") != (kind == "b32") or mode not in ("all", "any", "uni", "ballot"):
                raise UnknownInstructionError(f"instruction {str(ins)!r}")
            source = ins.operands[1]
            value = ("~" if source.startswith("!") else "") + self._operand(source.lstrip("!"), 1)
            return self._assign(ins, ins.operands[0], f"s.vote({mode!r}, {value}, {mask}, a)")
        mode, kind = ins.parts[2:]
        if mode not in ("up", "down", "bfly", "idx") or kind != "b32":
            raise UnknownInstructionError(f"instruction {str(ins)!r}")
        to, _, predicate = ins.operands[0].partition("|")
        value, lane, clamp = (self._operand(text, 32) for text in ins.operands[1:4])
        lines = [f"shuffled = s.shuffle({mode!r}, {value}, {lane}, {clamp}, {mask}, a)"]
        lines += self._assign(ins, to.strip(), "shuffled[0]")
        if predicate:
            lines += self._assign(ins, predicate.strip(), "shuffled[1]")
        return lines


_KINDS = {f"{letter}{bits}" for letter in "bus" for bits in (8, 16, 32, 64)}


def _number(text: str) -> int | None:
    match = re.fullmatch(r"(-?)(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?", text)
    return (-1 if match[1] else 1) * int(match[2], 0) if match else None


# What an instruction computes, by its name without the type: (translation, instruction, sources,
# bits of the type, whether it is signed) -> expression of an unsigned value.

_Form = Callable[[_Translation, Instruction, tuple[str, ...], int, bool], str]


def _infix(sign: str) -> _Form:
    def form(t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, s: bool) -> str:
        x, y = (t._operand(text, bits) for text in sources)
        return f"{x} {sign} {y}"

    return form


def _call(name: str, count: int) -> _Form:
    """A method of the launch that gets the operands, the bits, and whether they are signed."""

    def form(t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, s: bool) -> str:
        values = [t._operand(text, bits) for text in sources]
        if len(values) != count:
            raise IndexError
        return f"s.{name}({', '.join(values)}, {bits}, {s})"

    return form


def _extreme(name: str) -> _Form:
    def form(t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, s: bool) -> str:
        x, y = (t._operand(text, bits, signed=s) for text in sources)
        return f"np.{name}({x}, {y}).view(np.{_UNSIGNED[bits]})"

    return form


def _move(
    t: _Translation, ins: Instruction, sources: tuple[str, ...], bits: int, signed: bool
) -> str:
    return (
        f"s.every({t._operand(sources[0], bits)}, a)"
        if t._bits.get(sources[0]) is None or sources[0] in t._constants
        else t._operand(sources[0], bits)
    )


def _shift(sign: str) -> _Form:
    def form(
        t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, signed: bool
    ) -> str:
        value = t._operand(sources[0], bits, signed=signed and sign == ">>")
        number = _number(sources[1])
        if number is not None:
            count = t._constant(min(number % (1 << 32), 64), bits)
        else:
            # A shift by more bits than there are is one by all of them.
            count = f"np.minimum({t._operand(sources[1], 32)}, {t._constant(64, 32)})"
            count += f".astype(np.{_UNSIGNED[bits]})" if bits != 32 else ""
        if signed and sign == ">>":
            count = f"np.minimum({count}, {t._constant(bits - 1, bits)}).view(np.int{bits})"
            return f"({value} >> {count}).view(np.{_UNSIGNED[bits]})"
        return f"{value} {sign} {count}"

    return form


def _wide_product(
    t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, signed: bool
) -> str:
    x, y = (t._operand(text, bits, signed=signed) for text in sources[:2])
    kind = f"int{2 * bits}" if signed else _UNSIGNED[2 * bits]
    product = f"({x}.astype(np.{kind}) * {y}.astype(np.{kind}))"
    if signed:
        product += f".view(np.{_UNSIGNED[2 * bits]})"
    return product


def _wide_sum(
    t: _Translation, ins: Instruction, sources: tuple[str, ...], bits: int, signed: bool
) -> str:
    return f"{_wide_product(t, ins, sources, bits, signed)} + {t._operand(sources[2], 2 * bits)}"


def _low_sum(
    t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, signed: bool
) -> str:
    x, y, z = (t._operand(text, bits) for text in sources)
    return f"{x} * {y} + {z}"


def _high_sum(
    t: _Translation, ins: Instruction, sources: tuple[str, ...], bits: int, signed: bool
) -> str:
    high = _call("high", 2)(t, ins, sources[:2], bits, signed)
    return f"{high} + {t._operand(sources[2], bits)}"


def _select(
    t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, signed: bool
) -> str:
    x, y = (t._operand(text, bits) for text in sources[:2])
    return f"np.where({t._operand(sources[2], 1)}, {x}, {y})"


def _logic(
    t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, signed: bool
) -> str:
    """lop3: the table's bit a*4 + b*2 + c says the result."""
    x, y, z = (t._operand(text, bits) for text in sources[:3])
    table = _number(sources[3])
    assert table is not None
    known = {
        0x96: f"{x} ^ {y} ^ {z}",
        0xCA: f"{z} ^ ({x} & ({y} ^ {z}))",
        0xE8: f"({x} & {y}) | ({z} & ({x} | {y}))",
    }
    if table in known:
        return known[table]
    terms = []
    for row in range(8):
        if table >> row & 1:
            signs = ["" if row >> k & 1 else "~" for k in (2, 1, 0)]
            terms.append(f"({signs[0]}{x} & {signs[1]}{y} & {signs[2]}{z})")
    return " | ".join(terms) if terms else t._constant(0, bits)


def _funnel_shift(left: bool, clamp: bool) -> _Form:
    def form(
        t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, signed: bool
    ) -> str:
        low, high = (t._operand(text, 32) for text in sources[:2])
        count = t._constants.get(sources[2], _number(sources[2]))
        if count is None:
            return f"s.funnel({low}, {high}, {t._operand(sources[2], 32)}, {left}, {clamp})"
        count = min(count % (1 << 32), 32) if clamp else count % 32
        return t._funnel(low, high, 32 - count if left else count)

    return form


def _dot(
    t: _Translation, ins: Instruction, sources: tuple[str, ...], bits: int, signed: bool
) -> str:
    kinds = ins.parts[1:]
    x, y, z = (t._operand(text, 32) for text in sources)
    if kinds == ("u32", "u32") and t._constants.get(sources[1]) == 0x01010101:
        return f"s.sum_of_bytes({x}) + {z}"
    return f"s.dot({x}, {y}, {kinds[0] == 's32'}, {kinds[1] == 's32'}) + {z}"


def _extract(
    t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, signed: bool
) -> str:
    x = t._operand(sources[0], bits)
    start, length = (t._operand(text, 32) for text in sources[1:])
    return f"s.extract({x}, {start}, {length}, {bits}, {signed})"


def _insert(
    t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, signed: bool
) -> str:
    x, y = (t._operand(text, bits) for text in sources[:2])
    start, length = (t._operand(text, 32) for text in sources[2:])
    return f"s.insert({x}, {y}, {start}, {length}, {bits})"


def _ones(clamp: bool) -> _Form:
    def form(
        t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, signed: bool
    ) -> str:
        start, length = (t._operand(text, 32) for text in sources)
        return f"s.bit_mask({start}, {length}, {clamp})"

    return form


def _unary(expression: str) -> _Form:
    def form(
        t: _Translation, _: Instruction, sources: tuple[str, ...], bits: int, signed: bool
    ) -> str:
        return expression.format(t._operand(sources[0], bits))

    return form


_PLAIN: dict[str, _Form] = {
    "mov": _move,
    "add": _infix("+"),
    "sub": _infix("-"),
    "and": _infix("&"),
    "or": _infix("|"),
    "xor": _infix("^"),
    "not": _unary("~{}"),
    "neg": _unary("-{}"),
    "shl": _shift("<<"),
    "shr": _shift(">>"),
    "min": _extreme("minimum"),
    "max": _extreme("maximum"),
    "abs": _call("absolute", 1),
    "mul.lo": _infix("*"),
    "mul.hi": _call("high", 2),
    "mul.wide": _wide_product,
    "mad.lo": _low_sum,
    "mad.hi": _high_sum,
    "mad.wide": _wide_sum,
    "div": _call("quotient", 2),
    "rem": _call("remainder", 2),
    "selp": _select,
    "lop3": _logic,
    "shf.l.wrap": _funnel_shift(True, False),
    "shf.l.clamp": _funnel_shift(True, True),
    "shf.r.wrap": _funnel_shift(False, False),
    "shf.r.clamp": _funnel_shift(False, True),
    "dp4a.u32": _dot,
    "dp4a.s32": _dot,
    "popc": _call("population", 1),
    "clz": _call("leading_zeros", 1),
    "brev": _call("reversed_bits", 1),
    "bfind": _call("find_bit", 1),
    "bfind.shiftamt": _call("find_shift", 1),
    "bfe": _extract,
    "bfi": _insert,
    "bmsk.wrap": _ones(False),
    "bmsk.clamp": _ones(True),
}
