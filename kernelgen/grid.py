# SPDX-License-Identifier: Apache-2.0
"""What the kernels of a grid do: leaves, trees and residues of many regions in one launch.

As in `describe`, each function writes the body of one kernel, and the lowering knows the machine.
All arguments are i64; addresses too. A table says what the threads of a launch share, a row for
each region that has any part:

    start   of the region: an address, or the number of its first hash
    length  of the region: in bytes, or in hashes
    first   number of the region's first part in the launch; parts are numbered through all regions

A part is a window for leaves and residues, and up to TREE_HASHES hashes for trees. A launch of one
region needs no table: `rows` is 0, and `table` and `length` are the region's start and length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from llvmlite import ir

from . import sha256
from .describe import residue_of
from .facts import WINDOW_BYTES
from .flow import at, i64, intrinsic, loop
from .kernels import I1, I8, I32, I64
from .lower_grid import QUAD_BYTES, WORD_BYTES, Grid

BLOCK = sha256.BLOCK_BYTES
HASH_BYTES = 32
ROW_BYTES = 24
TREE_THREADS = 128  # of a group that makes trees
TREE_HASHES = 2 * TREE_THREADS
_LEAF, _NODE = 0, 1  # prefixes of RFC 9162, 2.1.1
_FIELDS = ("start", "length", "first")  # of a row


def _merge(
    b: ir.IRBuilder, name: str, ways: Sequence[tuple[Sequence[ir.Value], ir.Block]]
) -> list[ir.Value]:
    """A phi for each value of ways that meet here."""
    merged = []
    for values in zip(*(values for values, _ in ways), strict=True):
        phi = b.phi(values[0].type, name=name)
        for value, (_, block) in zip(values, ways, strict=True):
            phi.add_incoming(value, block)
        merged.append(phi)
    return merged


def _least(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.icmp_signed("<", x, y), x, y)


# --- the part of a region that a thread takes ---


@dataclass(frozen=True)
class _Part:
    """start and length of the region, and the part's number in it."""

    start: ir.Value
    length: ir.Value
    number: ir.Value


def _part_of(b: ir.IRBuilder, low: Grid, regions: Sequence[ir.Value], part: ir.Value) -> _Part:
    """The region of a part; regions are the arguments `table`, `rows` and `length`.

    It is the last row whose first part is not behind `part`, found by halving, a step a bit of
    `rows`. Rows without a part have the number of the next part, so that they are never the last.
    """
    start, rows, length = regions
    before = b.block
    with b.if_then(b.icmp_unsigned("!=", rows, i64(0))):
        table = low.pointer(b, start)

        def field(row: ir.Value, name: str) -> ir.Value:
            offset = b.mul(row, i64(ROW_BYTES))
            return b.load(at(b, table, offset, 8 * _FIELDS.index(name)), align=8, typ=I64)

        leading = intrinsic(b, "llvm.ctlz.i64", I64, [b.sub(rows, i64(1)), I1(0)])
        with loop(b, "search", i64(0), b.sub(i64(64), leading), 1, [i64(0), rows]) as search:
            row, left = search.values
            half = b.lshr(left, i64(1))
            middle = b.add(row, half)
            is_behind = b.icmp_unsigned("<=", field(middle, "first"), part)
            search.next([b.select(is_behind, middle, row), b.sub(left, half)])
        row = search.values[0]
        found = [field(row, "start"), field(row, "length"), b.sub(part, field(row, "first"))]
        inside = b.block
    return _Part(*_merge(b, "region", [((start, length, part), before), (found, inside)]))


def _window(b: ir.IRBuilder, part: _Part) -> tuple[ir.Value, ir.Value]:
    """Address and size of a window."""
    offset = b.mul(part.number, i64(WINDOW_BYTES))
    size = _least(b, b.sub(part.length, offset), i64(WINDOW_BYTES))
    return b.add(part.start, offset), size


# --- leaves: one message a thread ---


class Aligned:
    """The blocks of a region that begins at a multiple of 16, loaded where they are hashed."""

    def __init__(self, b: ir.IRBuilder, low: Grid, address: ir.Value, size: ir.Value) -> None:
        self.low, self.size = low, size
        self.region = low.pointer(b, address)
        self.carried: list[ir.Value] = []  # from block to block, at the start

    def prepare(self, b: ir.IRBuilder, index: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        """What is carried to the next block; written before the rounds of this one."""
        return carried

    def words(self, b: ir.IRBuilder, index: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        """The 16 words, as they lie in memory, of the whole block at an index."""
        return self.low.load_words(b, at(b, self.region, index), BLOCK // WORD_BYTES)


class Ahead(Aligned):
    """The same, each block loaded before the rounds of the one before it: for grids that are too
    small for other threads to hide how long memory takes."""

    def __init__(self, b: ir.IRBuilder, low: Grid, address: ir.Value, size: ir.Value) -> None:
        super().__init__(b, low, address, size)
        self.carried = self._load(b, i64(0), [I32(0)] * (BLOCK // WORD_BYTES))

    def prepare(self, b: ir.IRBuilder, index: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        return self._load(b, b.add(index, i64(BLOCK)), carried)

    def words(self, b: ir.IRBuilder, index: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        return carried

    def _load(
        self, b: ir.IRBuilder, index: ir.Value, otherwise: Sequence[ir.Value]
    ) -> list[ir.Value]:
        before = b.block
        with b.if_then(b.icmp_signed("<=", b.add(index, i64(BLOCK)), self.size)):
            words = super().words(b, index, [])
            inside = b.block
        return _merge(b, "ahead", [(otherwise, before), (words, inside)])


class Unaligned(Aligned):
    """The blocks of a region at any address: words at multiples of 4, shifted together.

    The words at the region's ends are read whole, also where they have bytes of others: memory is
    given out in multiples of 4 bytes.
    """

    def words(self, b: ir.IRBuilder, index: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        odd = b.and_(b.ptrtoint(self.region, I64), i64(WORD_BYTES - 1))
        start = at(b, self.region, b.sub(index, odd))
        # Only at an odd address has the word behind the block a byte of it.
        aligned = b.icmp_unsigned("==", odd, i64(0))
        last = b.select(aligned, i64(BLOCK - WORD_BYTES), i64(BLOCK))
        offsets: list[ir.Value | int] = [*range(0, BLOCK, WORD_BYTES), last]
        words = [b.load(at(b, start, offset), align=WORD_BYTES, typ=I32) for offset in offsets]
        shift = b.shl(b.trunc(odd, I32), I32(3))
        return [
            intrinsic(b, "llvm.fshr.i32", I32, [high, low, shift]) for low, high in pairwise(words)
        ]


def _hash_prefixed(
    b: ir.IRBuilder, low: Grid, prefix: int, source: Aligned
) -> tuple[list[ir.Value], ir.Value]:
    """SHA-256 of a prefix byte and a region of less than 2^28 bytes: the state, and the sum of the
    region's bytes.

    The prefix shifts the message by a byte: a message word is a byte of one word of memory and
    three of the next. One copy of the rounds serves whole blocks and padding.
    """
    size = source.size
    end = b.and_(b.add(size, i64(1 + 1 + 8 + BLOCK - 1)), i64(-BLOCK))
    bits = b.trunc(b.shl(b.add(size, i64(1)), i64(3)), I32)
    start: list[ir.Value] = [I32(word) for word in sha256.INITIAL]
    carried = [*start, I32(prefix << 24), I32(0), *source.carried]
    with loop(b, "block", i64(0), end, BLOCK, carried) as blocks:
        state, before, total = blocks.values[:8], blocks.values[8], blocks.values[9]
        own = blocks.values[10:]
        following = b.add(blocks.index, i64(BLOCK))
        own_next = source.prepare(b, blocks.index, own)
        ways = []
        with b.if_else(b.icmp_signed("<=", following, size), likely=True) as (whole, rest):
            with whole:
                words = source.words(b, blocks.index, own)
                added = total
                for word in words:
                    added = low.add_bytes(b, added, word)
                ways.append(([*_message(b, low, before, words), words[-1], added], b.block))
            with rest:
                words, added = _padded(b, low, source, blocks.index, total)
                message = _message(b, low, before, words)
                is_last = b.icmp_signed("==", following, end)
                message[-1] = b.select(is_last, bits, message[-1])
                ways.append(([*message, words[-1], added], b.block))
        *message, before, total = _merge(b, "word", ways)
        blocks.next([*low.rounds(b, state, message), before, total, *own_next])
    return blocks.values[:8], blocks.values[9]


def _message(
    b: ir.IRBuilder, low: Grid, before: ir.Value, words: Sequence[ir.Value]
) -> list[ir.Value]:
    """The message words of a block, from its words of memory and the last one before them."""
    return [low.shift_in(b, first, second) for first, second in pairwise([before, *words])]


def _padded(
    b: ir.IRBuilder, low: Grid, source: Aligned, index: ir.Value, total: ir.Value
) -> tuple[list[ir.Value], ir.Value]:
    """The words of a block that is not whole, and the total plus its bytes."""
    bit = b.select(b.icmp_signed("==", index, source.size), I32(0x80), I32(0))
    blank: list[ir.Value] = [bit, *[I32(0)] * (BLOCK // WORD_BYTES - 1)]
    before = b.block
    with b.if_then(b.icmp_signed("<", index, source.size), likely=False):
        words, added = _ragged(b, low, source, index, total)
        inside = b.block
    *words, total = _merge(b, "padded", [([*blank, total], before), ([*words, added], inside)])
    return words, total


def _ragged(
    b: ir.IRBuilder, low: Grid, source: Aligned, index: ir.Value, total: ir.Value
) -> tuple[list[ir.Value], ir.Value]:
    """The words at an index less than a block before the end, byte by byte.

    A loop that moves its words on by one: unrolled, its loads would take the registers of the
    rounds, and words under a variable index would be in memory.
    """
    last = b.sub(source.size, i64(1))
    blank = [I32(0)] * (BLOCK // WORD_BYTES)
    with loop(b, "ragged", i64(0), i64(BLOCK), WORD_BYTES, [*blank, total]) as ragged:
        data: ir.Value = I32(0)
        end: ir.Value = I32(0)
        for j in range(WORD_BYTES):
            position = b.add(b.add(index, ragged.index), i64(j))
            inside = b.icmp_signed("<", position, source.size)
            # Behind the end the last byte is read again: no load lies outside the region.
            byte = low.load_byte(b, at(b, source.region, b.select(inside, position, last)))
            data = b.or_(data, b.select(inside, b.shl(byte, I32(8 * j)), I32(0)))
            here = b.icmp_signed("==", position, source.size)
            end = b.or_(end, b.select(here, I32(0x80 << 8 * j), I32(0)))
        *words, total = ragged.values
        ragged.next([*words[1:], b.or_(data, end), low.add_bytes(b, total, data)])
    *words, total = ragged.values
    return words, total


def _store_hash(
    b: ir.IRBuilder, low: Grid, hashes: ir.Value, number: ir.Value, state: Sequence[ir.Value]
) -> None:
    pointer = at(b, low.pointer(b, hashes), b.mul(number, i64(HASH_BYTES)))
    low.store_words(b, pointer, [low.swap(b, word) for word in state])


def _store_residue(
    b: ir.IRBuilder, low: Grid, residues: ir.Value, number: ir.Value, total: ir.Value
) -> None:
    residue = b.trunc(residue_of(b, b.zext(total, I64)), I8)
    b.store(residue, at(b, low.pointer(b, residues), number))


def leaves(
    b: ir.IRBuilder,
    low: Grid,
    table: ir.Value,
    rows: ir.Value,
    length: ir.Value,
    windows: ir.Value,
    hashes: ir.Value,
    residues: ir.Value,
    *,
    source: type[Aligned],
) -> None:
    """Leaf hash and residue of each window; a thread a window."""
    thread = low.thread(b)
    with b.if_then(b.icmp_unsigned("<", thread, windows)):
        address, size = _window(b, _part_of(b, low, (table, rows, length), thread))
        state, total = _hash_prefixed(b, low, _LEAF, source(b, low, address, size))
        _store_hash(b, low, hashes, thread, state)
        _store_residue(b, low, residues, thread, total)
    b.ret_void()


# --- trees: a group for up to TREE_HASHES hashes ---


def _node(b: ir.IRBuilder, low: Grid, left: ir.Value, right: ir.Value) -> list[ir.Value]:
    """The state of the hash above two, at pointers."""
    words = [
        word
        for pointer in (left, right)
        for word in low.load_words(b, pointer, HASH_BYTES // WORD_BYTES, constant=False)
    ]
    start: list[ir.Value] = [I32(word) for word in sha256.INITIAL]
    state = low.rounds(b, start, _message(b, low, I32(_NODE << 24), words))
    bits = 8 * (1 + 2 * HASH_BYTES)
    blank: list[ir.Value] = [I32(0)] * (BLOCK // WORD_BYTES - 2)
    return low.rounds(b, state, [low.shift_in(b, words[-1], I32(0x80)), *blank, I32(bits)])


def trees(
    b: ir.IRBuilder,
    low: Grid,
    table: ir.Value,
    rows: ir.Value,
    length: ir.Value,
    hashes: ir.Value,
    residues: ir.Value,
    roots: ir.Value,
    sums: ir.Value,
) -> None:
    """The root above each part's hashes, and the residue of their residues; a group a part.

    It writes over the part's hashes and residues: at each level the left one of two takes what is
    above both, and an odd last one stays where it is.
    """
    group = low.group(b)
    part = _part_of(b, low, (table, rows, length), group)
    index = b.mul(part.number, i64(TREE_HASHES))
    first = b.add(part.start, index)
    count = _least(b, b.sub(part.length, index), i64(TREE_HASHES))
    own_hashes = at(b, low.pointer(b, hashes), b.mul(first, i64(HASH_BYTES)))
    own_residues = at(b, low.pointer(b, residues), first)
    leading = intrinsic(b, "llvm.ctlz.i64", I64, [b.sub(count, i64(1)), I1(0)])
    with loop(b, "level", i64(0), b.sub(i64(64), leading), 1) as levels:
        apart = b.shl(i64(1), levels.index)
        pairs = b.lshr(b.add(count, b.sub(apart, i64(1))), b.add(levels.index, i64(1)))
        with low.together(b, "pair", pairs) as pair:
            left = b.shl(pair, b.add(levels.index, i64(1)))
            right = b.add(left, apart)
            ends = [at(b, own_hashes, b.mul(end, i64(HASH_BYTES))) for end in (left, right)]
            words = [low.swap(b, word) for word in _node(b, low, *ends)]
            low.store_words(b, ends[0], words)
            total = b.add(*(low.load_byte(b, at(b, own_residues, end)) for end in (left, right)))
            _store_residue(b, low, b.ptrtoint(own_residues, I64), left, total)
        levels.next([])
    with low.together(b, "root", i64(1)) as _:
        words = low.load_words(b, own_hashes, HASH_BYTES // WORD_BYTES, constant=False)
        low.store_words(b, at(b, low.pointer(b, roots), b.mul(group, i64(HASH_BYTES))), words)
        _store_residue(b, low, sums, group, low.load_byte(b, own_residues))
    b.ret_void()


# --- residues: a team a window ---

_QUADS_AT_ONCE = 8  # 16-byte loads that a thread starts before it needs the first


def residues(
    b: ir.IRBuilder,
    low: Grid,
    table: ir.Value,
    rows: ir.Value,
    length: ir.Value,
    windows: ir.Value,
    out: ir.Value,
) -> None:
    """The residue of each window, a byte; a team a window."""
    team = b.udiv(low.thread(b), i64(low.team))
    with b.if_then(b.icmp_unsigned("<", team, windows)):
        address, size = _window(b, _part_of(b, low, (table, rows, length), team))
        total = low.team_sum(b, _own_sum(b, low, address, size))
        with b.if_then(b.icmp_unsigned("==", low.member(b), i64(0))):
            _store_residue(b, low, out, team, total)
    b.ret_void()


def _own_sum(b: ir.IRBuilder, low: Grid, address: ir.Value, size: ir.Value) -> ir.Value:
    """The sum (i32) of this thread's share of a region: the team takes the region's bytes up to a
    multiple of 16, then quads, then what is left, each thread one after another."""
    region = low.pointer(b, address)
    head = _least(b, b.and_(b.neg(address), i64(QUAD_BYTES - 1)), size)
    quads_end = b.add(head, b.and_(b.sub(size, head), i64(-QUAD_BYTES)))
    own_quad = b.mul(low.member(b), i64(QUAD_BYTES))
    step = low.team * QUAD_BYTES

    def add_quads(total: ir.Value, index: ir.Value, count: int) -> ir.Value:
        pointers = [at(b, region, index, own_quad, step * k) for k in range(count)]
        for quad in [low.load_quad(b, pointer, constant=True) for pointer in pointers]:
            for lane in range(4):
                total = low.add_bytes(b, total, b.extract_element(quad, I32(lane)))
        return total

    def add_bytes(total: ir.Value, name: str, start: ir.Value, end: ir.Value) -> ir.Value:
        limit = b.add(end, i64(low.team - 1))
        with loop(b, name, b.add(start, low.member(b)), limit, low.team, [total]) as single:
            byte = low.load_byte(b, at(b, region, single.index))
            single.next([b.add(single.values[0], byte)])
        return single.values[0]

    total = add_bytes(I32(0), "head", i64(0), head)
    with loop(b, "quads", head, quads_end, step * _QUADS_AT_ONCE, [total]) as many:
        many.next([add_quads(many.values[0], many.index, _QUADS_AT_ONCE)])
    # A quad more for each thread whose own one is not behind the end.
    limit = b.add(b.sub(quads_end, own_quad), i64(step - QUAD_BYTES))
    with loop(b, "quad", many.index, limit, step, many.values) as one:
        one.next([add_quads(one.values[0], one.index, 1)])
    return add_bytes(one.values[0], "tail", quads_end, size)


# --- the table of kernels ---


@dataclass(frozen=True)
class GridKernel:
    """A kernel of a grid, and the arithmetic that it has on NVIDIA GPUs."""

    name: str
    parameters: tuple[str, ...]  # all i64
    body: Callable[..., None]
    mad: bool = False  # whether additions are multiply-adds


_TABLE = ("table", "rows", "length")
_LEAVES = (*_TABLE, "windows", "hashes", "residues")

# The leaves of large grids, of small ones, and of regions that do not begin at a multiple of 16.
# Beside each other on one H200, in GB/s: 3.0, 3.5, 2.1 for 1 MiB; 433, 470, 356 for 256 MiB; 864,
# 778, 721 for 8 GiB.
KERNELS = (
    GridKernel("leaves", _LEAVES, partial(leaves, source=Aligned), mad=True),
    GridKernel("leaves_small", _LEAVES, partial(leaves, source=Ahead)),
    GridKernel("leaves_any", _LEAVES, partial(leaves, source=Unaligned), mad=True),
    GridKernel("trees", (*_TABLE, "hashes", "residues", "roots", "sums"), trees),
    GridKernel("residues", (*_TABLE, "windows", "out"), residues),
)


def find(name: str) -> GridKernel:
    for kernel in KERNELS:
        if kernel.name == name:
            return kernel
    raise LookupError(f"no kernel {name!r} of a grid; there are {[k.name for k in KERNELS]}")
