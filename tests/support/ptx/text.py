# SPDX-License-Identifier: Apache-2.0
"""The text of a PTX module, read into kernels, instructions and constant data."""

import re
from dataclasses import dataclass, field
from functools import cached_property

REGISTER_BITS = {"pred": 1, "b8": 8, "b16": 16, "b32": 32, "b64": 64}

_DATA = re.compile(
    r"(?:\.(?:visible|extern|weak)\s+)?\.(const|global|shared)\s+(?:\.align\s+(\d+)\s+)?"
    r"\.([bus]\d+)\s+([\w$]+)(?:\[(\d*)\])?(?:\s*=\s*(?:\{([^}]*)\}|([^;]*)))?\s*;"
)
_ENTRY = re.compile(r"(?:\.visible\s+|\.weak\s+)?\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{]*)\{", re.S)
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.([busf]\d+)\s+"
    r"(?:\.ptr\s+(?:\.(?!align)\w+\s+)?(?:\.align\s+\d+\s+)?)?([\w$]+)(?:\[(\d+)\])?"
)
_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+([^;]*);")
_STATEMENT = re.compile(r"\s*(?:([\w$]+)\s*:(?!:)|([^;{}]*(?:\{[^{}]*\}[^;{}]*)*);|([{}]))", re.S)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*")


class PtxError(Exception):
    """The text, or what a kernel does, is wrong or not known to the simulator."""


class UnknownInstructionError(PtxError):
    """The simulator does not know an instruction or a directive."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name, what stands behind it, and its line in the module's text."""

    operation: str
    operands: tuple[str, ...]
    line: int
    guard: str | None = None
    negated: bool = False

    @cached_property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.operation.split("."))

    def __str__(self) -> str:
        guard = f"@{'!' if self.negated else ''}{self.guard} " if self.guard else ""
        return f"{guard}{self.operation} {', '.join(self.operands)}".strip()


@dataclass(frozen=True)
class Data:
    """An array in constant, global or shared memory. `size` is None where a launch says it."""

    space: str
    name: str
    align: int
    size: int | None
    content: bytes | None


@dataclass(frozen=True)
class Parameter:
    name: str
    size: int


@dataclass
class KernelText:
    """A kernel: its parameters, registers (bits of each), arrays, instructions and labels."""

    name: str
    parameters: tuple[Parameter, ...]
    registers: dict[str, int] = field(default_factory=dict)
    data: list[Data] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    most_threads: int = 1024


@dataclass(eq=False)
class ModuleText:
    version: str
    target: str
    kernels: dict[str, KernelText]
    data: list[Data]


def read(text: str) -> ModuleText:
    """Return the module of a text, or raise `PtxError` with the line that is not understood."""
    bare = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)
    bare = re.sub(r"//[^\n]*", lambda m: " " * len(m[0]), bare)
    version = re.search(r"^\s*\.version\s+(\S+)", bare, re.M)
    target = re.search(r"^\s*\.target\s+([\w,]+)", bare, re.M)
    if version is None or target is None:
        raise PtxError("the text is no PTX module: .version or .target is missing")
    kernels: dict[str, KernelText] = {}
    outside, position = [], 0
    while entry := _ENTRY.search(bare, position):
        outside.append(bare[position : entry.start()])
        end = _matching_brace(bare, entry.end())
        kernels[entry[1]] = _kernel(entry, bare[: end - 1])
        position = end
    outside.append(bare[position:])
    data = [_data(match) for piece in outside for match in _DATA.finditer(piece)]
    rest = _DATA.sub("", " ".join(outside))
    rest = re.sub(r"\.(version|target|address_size)\s+\S+", "", rest).strip()
    if rest:
        raise UnknownInstructionError(f"directive {rest.splitlines()[0]!r}")
    return ModuleText(version[1], target[1], kernels, data)


def _matching_brace(text: str, start: int) -> int:
    """Return the index behind the brace that closes the one before `start`."""
    depth = 1
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return start + brace.end()
    raise PtxError("a kernel has no closing brace")


def _data(match: re.Match[str]) -> Data:
    space, align, kind, name, count, several, one = match.groups()
    width = int(kind[1:]) // 8
    values = several if several is not None else one
    size = width * int(count) if count else None if count == "" else width
    content = None
    if values is not None:
        numbers = [int(value.strip().rstrip("U"), 0) for value in values.split(",")]
        content = b"".join((n % (1 << 8 * width)).to_bytes(width, "little") for n in numbers)
        content = content.ljust(size or 0, b"\0")
    elif space == "const":
        content = bytes(size or 0)
    return Data(space, name, int(align or width), size, content)


def _kernel(entry: re.Match[str], text: str) -> KernelText:
    parameters = tuple(
        Parameter(m[3], int(m[2][1:]) // 8 * int(m[4] or 1)) for m in _PARAMETER.finditer(entry[2])
    )
    if len(parameters) != entry[2].count(".param"):
        raise UnknownInstructionError(f"parameter of {entry[1]}: {' '.join(entry[2].split())!r}")
    kernel = KernelText(entry[1], parameters)
    if bound := re.search(r"\.(?:maxntid|reqntid)\s+(\d+)", entry[3]):
        kernel.most_threads = int(bound[1])
    line, counted = 1, 0
    for statement in _STATEMENT.finditer(text, entry.end()):
        label, body, brace = statement.groups()
        if label:
            kernel.labels[label] = len(kernel.instructions)
        elif not brace and body.strip():
            first = statement.start(2) + len(body) - len(body.lstrip())
            line, counted = line + text.count("\n", counted, first), first
            _add(kernel, body.strip(), line)
    return kernel


def _add(kernel: KernelText, body: str, line: int) -> None:
    if registers := _REGISTERS.match(body + ";"):
        bits = REGISTER_BITS.get(registers[1].replace("u", "b").replace("s", "b"))
        if bits is None:
            raise UnknownInstructionError(f"line {line}: registers of type .{registers[1]}")
        for name in registers[2].split(","):
            if several := re.match(r"\s*([\w%$]+)<(\d+)>", name):
                kernel.registers |= {f"{several[1]}{k}": bits for k in range(int(several[2]))}
            else:
                kernel.registers[name.strip()] = bits
    elif data := _DATA.match(body + ";"):
        kernel.data.append(_data(data))
    elif body.startswith(".pragma"):
        pass
    elif body.startswith("."):
        raise UnknownInstructionError(f"line {line}: directive {' '.join(body.split())!r}")
    else:
        match = re.match(r"(?:@(!?)([\w%$]+)\s+)?([\w.:]+)\s*(.*)", " ".join(body.split()), re.S)
        if match is None:
            raise UnknownInstructionError(f"line {line}: {body!r}")
        operands = tuple(text.strip() for text in _OPERAND.findall(match[4]))
        kernel.instructions.append(Instruction(match[3], operands, line, match[2], match[1] == "!"))
