# SPDX-License-Identifier: Apache-2.0
"""What the byte kernels do, for any instruction set: sum, delta, copy, fill, equal.

Each function writes the body of one kernel; the arguments are the kernel's own. Lengths are i64 and
less than 2^56, so that a sum of bytes fits in 64 bits. That matters: a wrapped sum is not harmless,
because 2^8, 2^16, 2^32 and 2^64 are all 64 mod 96, not 0.
"""

from collections.abc import Callable, Sequence

from llvmlite import ir

from .facts import MODULUS
from .flow import at, i64, loop
from .kernels import I8, I32, I64
from .lower import Lowering, Portable
from .sha256 import Lanes


def residue_of(b: ir.IRBuilder, total: ir.Value) -> ir.Value:
    return b.urem(total, i64(MODULUS))


def difference_mod(b: ir.IRBuilder, after: ir.Value, before: ir.Value) -> ir.Value:
    """(after - before) mod 96 of two sums: reduced first, since 2^64 is not 0 mod 96."""
    up = b.add(residue_of(b, after), i64(MODULUS))
    return residue_of(b, b.sub(up, residue_of(b, before)))


# From this length on a region is taken to come from memory: larger than a second-level cache.
_FAR_BYTES = 2 << 20


def sum_of(b: ir.IRBuilder, low: Lowering, region: ir.Value, length: ir.Value) -> ir.Value:
    """The sum (i64) of the bytes of a region."""
    width, group = low.vector_bytes, low.group

    # For each block of accumulators * group vectors: every accumulator takes one group. A region
    # that comes from memory is fetched ahead, all but its end.
    block = width * low.accumulators * group
    index: ir.Value = i64(0)
    accumulators = [low.sum_zero()] * low.accumulators
    ahead = low.prefetch_bytes
    far = b.select(
        b.icmp_unsigned(">=", length, i64(_FAR_BYTES)), b.sub(length, i64(ahead)), i64(0)
    )
    loops = ("far", far, ahead), ("block", length, 0)
    for name, limit, prefetch in loops if ahead else loops[1:]:
        with loop(b, name, index, limit, block, accumulators) as blocks:
            following = []
            for number, accumulator in enumerate(blocks.values):
                first = width * group * number
                pointers = [at(b, region, blocks.index, first + width * k) for k in range(group)]
                vectors = [low.load(b, pointer) for pointer in pointers]
                following.append(low.sum_add(b, accumulator, vectors))
                if prefetch:
                    for pointer in pointers:
                        low.prefetch(b, at(b, pointer, prefetch))
            blocks.next(following)
        index, accumulators = blocks.index, blocks.values

    # for each vector that is left
    with loop(b, "vector", index, length, width, accumulators[:1]) as vectors_left:
        vector = low.load(b, at(b, region, vectors_left.index))
        vectors_left.next([low.sum_add(b, vectors_left.values[0], [vector])])

    total = low.sum_total(b, [*vectors_left.values, *accumulators[1:]])
    return _sum_tail(b, low, region, length, (vectors_left.index, total))


def _sum_tail(
    b: ir.IRBuilder,
    low: Lowering,
    region: ir.Value,
    length: ir.Value,
    so_far: tuple[ir.Value, ir.Value],
) -> ir.Value:
    """The sum of a region. The bytes before an index are summed already, and less than a vector is
    left: so_far is this index and this sum."""
    index, total = so_far
    width = low.vector_bytes
    if low.masks_tails:
        # A whole vector that ends where the region ends, its counted bytes cleared.
        before = b.block
        with b.if_then(b.icmp_unsigned(">=", length, i64(width))):
            last = low.load(b, at(b, region, b.sub(length, i64(width))))
            last = low.keep_last(b, last, b.sub(length, index))
            add = low.sum_total(b, [low.sum_add(b, low.sum_zero(), [last])])
            masked = b.add(total, add)
            inside = b.block
        merged = []
        for value, after in (index, length), (total, masked):
            phi = b.phi(I64, name="tail.result")
            phi.add_incoming(value, before)
            phi.add_incoming(after, inside)
            merged.append(phi)
        index, total = merged

    # Regions shorter than a vector: words, then bytes.
    word = Portable()
    with loop(b, "word", index, length, word.vector_bytes, [total]) as words:
        value = word.load(b, at(b, region, words.index))
        words.next([word.sum_add(b, words.values[0], [value])])
    with loop(b, "byte", words.index, length, 1, words.values) as single:
        byte = b.load(at(b, region, single.index), typ=I8)
        single.next([b.add(single.values[0], b.zext(byte, I64))])
    return single.values[0]


def sum_(b: ir.IRBuilder, low: Lowering, data: ir.Value, length: ir.Value) -> None:
    b.ret(sum_of(b, low, data, length))


def delta(
    b: ir.IRBuilder, low: Lowering, before: ir.Value, after: ir.Value, length: ir.Value
) -> None:
    # One region after the other: both in one loop would share the registers, and memory is slower
    # when two regions are read line by line in turn.
    sum_before = sum_of(b, low, before, length)
    sum_after = sum_of(b, low, after, length)
    b.ret(difference_mod(b, sum_after, sum_before))


# `chunk(offsets, width)` makes the `width` bytes that belong at dst + the sum of the offsets.
Source = Callable[[Sequence[ir.Value | int], int], ir.Value]

_WRITE_UNROLL = 8  # vectors an iteration: enough to hide the loop's own instructions


def _write(
    b: ir.IRBuilder,
    low: Lowering,
    dst: ir.Value,
    length: ir.Value,
    chunk: Source,
    streaming: bool,
) -> None:
    """Writes a region from a source: unaligned vectors at both ends, aligned ones in between."""
    width = low.vector_bytes
    with b.if_else(b.icmp_unsigned(">=", length, i64(width))) as (wide, narrow):
        with wide:
            _write_ends(b, dst, length, chunk, width)
            # (-dst) mod width: from here on stores are aligned
            aligned = b.and_(b.neg(b.ptrtoint(dst, I64)), i64(width - 1))
            index = aligned
            for name, unroll in ("block", _WRITE_UNROLL), ("vector", 1):
                with loop(b, name, index, length, width * unroll) as run:
                    offsets = [width * k for k in range(unroll)]
                    values = [chunk([run.index, offset], width) for offset in offsets]
                    for offset, value in zip(offsets, values, strict=True):
                        pointer = at(b, dst, run.index, offset)
                        if streaming:
                            low.store_streaming(b, value, pointer)
                        else:
                            b.store(value, pointer, align=width)
                index = run.index
            if streaming:
                low.end_streaming(b)
        with narrow:
            _write_short(b, dst, length, chunk, width // 2)


def _write_short(
    b: ir.IRBuilder, dst: ir.Value, length: ir.Value, chunk: Source, width: int
) -> None:
    """Writes fewer than 2 * width bytes: two chunks that may overlap, as wide as fits."""
    if width == 0:
        return
    with b.if_else(b.icmp_unsigned(">=", length, i64(width))) as (fits, narrower):
        with fits:
            _write_ends(b, dst, length, chunk, width)
        with narrower:
            _write_short(b, dst, length, chunk, width // 2)


def _write_ends(
    b: ir.IRBuilder, dst: ir.Value, length: ir.Value, chunk: Source, width: int
) -> None:
    last = b.sub(length, i64(width))
    for offset, value in (i64(0), chunk([], width)), (last, chunk([last], width)):
        b.store(value, at(b, dst, offset), align=1)


def _copy(
    b: ir.IRBuilder,
    low: Lowering,
    dst: ir.Value,
    src: ir.Value,
    length: ir.Value,
    streaming: bool,
) -> None:
    def chunk(offsets: Sequence[ir.Value | int], width: int) -> ir.Value:
        return low.load(b, at(b, src, *offsets), width)

    _write(b, low, dst, length, chunk, streaming)
    b.ret_void()


def copy(b: ir.IRBuilder, low: Lowering, dst: ir.Value, src: ir.Value, length: ir.Value) -> None:
    _copy(b, low, dst, src, length, streaming=False)


def copy_stream(
    b: ir.IRBuilder, low: Lowering, dst: ir.Value, src: ir.Value, length: ir.Value
) -> None:
    _copy(b, low, dst, src, length, streaming=True)


def _fill(
    b: ir.IRBuilder,
    low: Lowering,
    dst: ir.Value,
    value: ir.Value,
    length: ir.Value,
    streaming: bool,
) -> None:
    # Made once here: the copies for narrower widths are computed where they are used.
    wide = low.splat(b, value)

    def chunk(offsets: Sequence[ir.Value | int], width: int) -> ir.Value:
        return wide if width == low.vector_bytes else low.splat(b, value, width)

    _write(b, low, dst, length, chunk, streaming)
    b.ret_void()


def fill(b: ir.IRBuilder, low: Lowering, dst: ir.Value, value: ir.Value, length: ir.Value) -> None:
    _fill(b, low, dst, value, length, streaming=False)


def fill_stream(
    b: ir.IRBuilder, low: Lowering, dst: ir.Value, value: ir.Value, length: ir.Value
) -> None:
    _fill(b, low, dst, value, length, streaming=True)


def equal(b: ir.IRBuilder, low: Lowering, a: ir.Value, c: ir.Value, length: ir.Value) -> None:
    """No branch and no address depends on the bytes: differences are collected, judged once.

    Words suffice on every instruction set: what is compared is a digest, 32 bytes.
    """
    del low
    different: ir.Value = i64(0)
    index: ir.Value = i64(0)
    for name, width in ("word", 8), ("byte", 1):
        kind = ir.IntType(8 * width)
        with loop(b, name, index, length, width, [different]) as run:
            left = b.load(at(b, a, run.index), align=1, typ=kind)
            right = b.load(at(b, c, run.index), align=1, typ=kind)
            change = b.xor(left, right)
            run.next([b.or_(run.values[0], change if width == 8 else b.zext(change, I64))])
        index, different = run.index, run.values[0]
    b.ret(b.zext(b.icmp_unsigned("==", different, i64(0)), I32))


def sha256_(
    b: ir.IRBuilder, low: Lowering, state: ir.Value, blocks: ir.Value, count: ir.Value
) -> None:
    low.sha256_blocks(b, state, blocks, count)
    b.ret_void()


def sha256_lanes(
    b: ir.IRBuilder,
    low: Lowering,
    state: ir.Value,
    sums: ir.Value,
    blocks: ir.Value,
    count: ir.Value,
    used: ir.Value,
) -> None:
    b.ret(low.sha256_lanes_blocks(b, Lanes(state, sums, blocks, count, used)))


# The writer of each kernel's body, by the kernel's name in the table.
BODIES: dict[str, Callable[..., None]] = {
    "sum": sum_,
    "delta": delta,
    "copy": copy,
    "copy_stream": copy_stream,
    "fill": fill,
    "fill_stream": fill_stream,
    "equal": equal,
    "sha256": sha256_,
    "sha256_lanes": sha256_lanes,
}
