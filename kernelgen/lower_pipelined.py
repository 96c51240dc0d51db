# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of many messages on x86-64: rounds by the SHA instructions, schedules in vectors.

`sha256rnds2` leaves most of the vector unit idle, and the instructions for the schedule take more
of it than plain vector arithmetic on four messages at once. So messages go in groups of four. A job
is a block of each message of a group. One iteration of the one loop makes the rounds of job i, the
second half of the schedule of job i + 1 and the first half of that of job i + 2; their instructions
are dealt out in turns. One group and two groups run through the same code.

Vectors have 256 bits: a shift, a rotation or a store of 512 keeps `sha256rnds2` waiting. No `xor`
stands beside another, and the order is LLVM's to keep, not to change.
"""

from collections.abc import Callable, Generator, Sequence

from llvmlite import ir

from . import sha256
from .flow import at, i64, intrinsic, loop
from .kernels import I8, I32, I64, POINTER
from .lower_x86 import ShaExtensions

GROUP = 4  # messages: a 64-bit pair of words each in a vector of 256 bits
_PAIRS = sha256.ROUNDS // 2
_MESSAGE_PAIRS = 8
# Pairs in the first half of a schedule. With what reading a message takes, the halves are alike.
_CUT = 20

_WORDS = ir.VectorType(I32, 2 * GROUP)
_PAIR = ir.VectorType(I64, GROUP)
_BYTES = ir.VectorType(I8, 8 * GROUP)
_VECTOR = 8 * GROUP  # bytes

# Schedules wait for their rounds in a ring of slots; a job's slot is its number mod _SLOTS.
_SLOTS = 4
_SLOT = _PAIRS * _VECTOR
# Of a state, as `sha256rnds2` takes it: (A B E F) and (C D G H), highest lane first.
_STATE_WORDS = (5, 4, 1, 0, 7, 6, 3, 2)
_STATE = 32

# A piece of a stream: yields after each instruction, and returns a value to the piece around it.
Piece = Generator[None, None, ir.Value]


def _rotate_right(b: ir.IRBuilder, x: ir.Value, count: int) -> ir.Value:
    return intrinsic(b, "llvm.fshr.v8i32", _WORDS, [x, x, sha256.constant(_WORDS, count)])


def _sigma(b: ir.IRBuilder, x: ir.Value, r1: int, r2: int, shift: int) -> Piece:
    """As `sha256._small_sigma`, but with no two `xor` in a row: LLVM makes one `vpternlogd` of
    them, whose third operand keeps `sha256rnds2` waiting on Zen 4."""
    apart = _rotate_right(b, x, r2 - r1)
    yield
    both = b.xor(x, apart)
    yield
    both = _rotate_right(b, both, r1)
    yield
    shifted = b.lshr(x, sha256.constant(_WORDS, shift))
    yield
    return b.xor(both, shifted)


def _constants(pair: int) -> ir.Constant:
    """K of two rounds, for each message of a group."""
    return ir.Constant(_WORDS, [I32(k) for k in sha256.K[2 * pair : 2 * pair + 2] * GROUP])


def _put(b: ir.IRBuilder, words: ir.Value, pair: int, slot: ir.Value) -> sha256.Steps:
    k_plus_w = b.add(words, _constants(pair))
    yield
    b.store(k_plus_w, at(b, slot, _VECTOR * pair), align=_VECTOR)
    yield
    return []


def _extend(
    b: ir.IRBuilder,
    before: ir.Value,
    words: Sequence[ir.Value],
    pairs: range,
    slot: ir.Value,
) -> sha256.Steps:
    """Writes pairs of the schedule to the slot.

    Takes, and returns for the pairs that follow: sigma0(W[t-15]) + W[t-7] in the upper half of each
    64 bits, where W[t] is the first word to write; and the eight pairs before.
    """
    w = list(words)
    for pair in pairs:
        # For W[t+1] and W[t+2]; this pair, W[t] and W[t+1], takes a half of it and one of `before`.
        sigma0 = yield from _sigma(b, w[-7], 7, 18, 3)
        now = b.add(sigma0, w[-3])
        yield
        aligned = intrinsic(
            b,
            "llvm.fshr.v4i64",
            _PAIR,
            [
                b.bitcast(now, _PAIR),
                b.bitcast(before, _PAIR),
                ir.Constant(_PAIR, [I64(32)] * GROUP),
            ],
        )
        yield
        partial = b.add(w[-8], b.bitcast(aligned, _WORDS))
        yield
        sigma1 = yield from _sigma(b, w[-1], 17, 19, 10)
        w.append(b.add(partial, sigma1))
        yield
        yield from _put(b, w[-1], pair, slot)
        before = now
    return [before, *w[-_MESSAGE_PAIRS:]]


def _read(b: ir.IRBuilder, pointers: Sequence[ir.Value]) -> sha256.Steps:
    """The message's words, a pair of each message in a vector."""
    swap = [i ^ 3 for i in range(_VECTOR)]
    pairs: list[ir.Value] = []
    for half in range(2):
        rows = []
        for pointer in pointers:
            raw = b.load(at(b, pointer, _VECTOR * half), align=1, typ=_BYTES)
            yield
            rows.append(b.bitcast(sha256.shuffle(b, raw, raw, swap), _PAIR))
            yield
        twos = []
        for mask in (0, 4, 2, 6), (1, 5, 3, 7):
            for m in range(0, GROUP, 2):
                twos.append(sha256.shuffle(b, rows[m], rows[m + 1], mask))
                yield
        for mask in (0, 1, 4, 5), (2, 3, 6, 7):
            for two in range(0, GROUP, 2):
                pair = sha256.shuffle(b, twos[two], twos[two + 1], mask)
                pairs.append(b.bitcast(pair, _WORDS))
                yield
    return pairs


def _add_sums(b: ir.IRBuilder, pairs: Sequence[ir.Value], sums: ir.Value) -> sha256.Steps:
    """Adds the sum of the bytes of each message to its i64."""
    total = b.load(sums, align=8, typ=_PAIR)
    yield
    zero = ir.Constant(_BYTES, None)
    for pair in pairs:
        part = intrinsic(b, "llvm.x86.avx2.psad.bw", _PAIR, [b.bitcast(pair, _BYTES), zero])
        yield
        total = b.add(total, part)
        yield
    b.store(total, sums, align=8)
    yield
    return []


def _first_half(
    b: ir.IRBuilder, blocks: ir.Value, offset: ir.Value, sums: ir.Value, slot: ir.Value
) -> sha256.Steps:
    """Reads a block of each message of a group. Returns what `_extend` takes for the rest."""
    pointers = [
        at(b, b.load(at(b, blocks, 8 * message), align=8, typ=POINTER), offset)
        for message in range(GROUP)
    ]
    words = yield from _read(b, pointers)
    yield from _add_sums(b, words, sums)
    for pair, word in enumerate(words):
        yield from _put(b, word, pair, slot)
    sigma0 = yield from _sigma(b, words[0], 7, 18, 3)
    before = b.add(sigma0, words[4])
    yield
    return (yield from _extend(b, before, words, range(_MESSAGE_PAIRS, _CUT), slot))


def _rounds(b: ir.IRBuilder, state: ir.Value, slot: ir.Value) -> sha256.Steps:
    """One compression of each message of a group into its state in memory."""
    quad = sha256.QUAD
    places = [at(b, state, _STATE * message + 16 * h) for message in range(GROUP) for h in (0, 1)]
    registers = [b.load(place, align=16, typ=quad) for place in places]
    yield
    for pair in range(_PAIRS):
        for message in range(GROUP):
            # The pair of one message, as it lies there, is the operand.
            two = b.load(at(b, slot, _VECTOR * pair + 8 * message), align=8, typ=I64)
            vector = b.insert_element(ir.Constant(ir.VectorType(I64, 2), None), two, I32(0))
            abef, cdgh = registers[2 * message : 2 * message + 2]
            following = intrinsic(
                b, "llvm.x86.sha256rnds2", quad, [cdgh, abef, b.bitcast(vector, quad)]
            )
            registers[2 * message : 2 * message + 2] = following, abef
            yield
    for place, register in zip(places, registers, strict=True):
        b.store(b.add(register, b.load(place, align=16, typ=quad)), place, align=16)
        yield
    return []


Stream = Callable[[ir.IRBuilder], sha256.Steps]


def _count(stream: Stream) -> int:
    """How many steps a stream has, found by writing it to a function that is thrown away."""
    scratch = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), []), name="scratch")
    return sum(1 for _ in stream(ir.IRBuilder(scratch.append_basic_block())))


def _in_turns(b: ir.IRBuilder, *streams: Stream) -> list[list[ir.Value]]:
    """Writes streams, each in proportion to its length. Returns what each returns."""
    return sha256.write(*((stream(b), _count(stream)) for stream in streams))


def _frame(b: ir.IRBuilder, size: int, align: int) -> ir.Value:
    """Bytes in the frame of the function."""
    with b.goto_entry_block():
        pointer = b.alloca(ir.ArrayType(I8, size))
    pointer.align = align
    return b.inttoptr(b.ptrtoint(pointer, I64), POINTER)


class PipelinedSha(ShaExtensions):
    """Eight messages in two groups, or four in one; three at most as `ShaExtensions` does it, which
    needs no start: of a call with one group, the first block takes as long as 2.4 others.

    Measured on Zen 4 in cycles for a block of 64 bytes: one message 131, three as ShaExtensions 56,
    four 43, eight 42. The rounds alone would take 32: `sha256rnds2` starts in every cycle.
    """

    in_order = True

    @property
    def lanes(self) -> int:
        return 2 * GROUP

    def sha256_lanes_blocks(self, b: ir.IRBuilder, lanes: sha256.Lanes) -> ir.Value:
        few = b.icmp_unsigned("<=", lanes.used, i64(self.messages))
        nothing = b.icmp_unsigned("==", lanes.count, i64(0))
        with b.if_else(b.or_(few, nothing)) as (streams, pipeline):
            with streams:
                self._streams(
                    b, lanes.state, lanes.pointers(b, self.messages), lanes.count, self.lanes
                )
                streams_end = b.block
            with pipeline:
                _pipeline(b, lanes)
                pipeline_end = b.block
        summed = b.phi(I32)
        summed.add_incoming(I32(0), streams_end)
        summed.add_incoming(I32(1), pipeline_end)
        return summed


def _pipeline(b: ir.IRBuilder, lanes: sha256.Lanes) -> None:
    """Compresses at least one block of each message, and adds the sums of their bytes."""
    # Not aligned to pages, it is up to 5 % slower in some processes.
    ring = _frame(b, _SLOTS * _SLOT, align=4096)
    states, no_sums = _frame(b, 2 * GROUP * _STATE, align=32), _frame(b, _VECTOR, align=32)

    rows = [b.load(at(b, lanes.state, _VECTOR * word), align=4, typ=_WORDS) for word in range(8)]
    for message, words in enumerate(sha256.transpose(b, rows)):
        halves = sha256.shuffle(b, words, words, _STATE_WORDS)
        b.store(halves, at(b, states, _STATE * message), align=_STATE)

    # Job i is block i / groups of group i % groups, for one group or two.
    shift = b.zext(b.icmp_unsigned(">", lanes.used, i64(GROUP)), I64)
    jobs = b.shl(lanes.count, shift)
    last = b.sub(jobs, i64(1))

    def slot(job: ir.Value) -> ir.Value:
        return at(b, ring, b.mul(b.and_(job, i64(_SLOTS - 1)), i64(_SLOT)))

    def first_half(job: ir.Value) -> Stream:
        # Behind the last job its block is read again, and summed to where nobody looks.
        exists = b.icmp_unsigned("<=", job, last)
        offset = b.mul(b.lshr(b.select(exists, job, last), shift), i64(sha256.BLOCK_BYTES))
        group = b.mul(b.and_(job, shift), i64(8 * GROUP))
        sums = b.select(exists, at(b, lanes.sums, group), no_sums)
        blocks, to = at(b, lanes.blocks, group), slot(job)
        return lambda b: _first_half(b, blocks, offset, sums, to)

    def second_half(half: Sequence[ir.Value], job: ir.Value) -> Stream:
        (before, *words), to = half, slot(job)
        return lambda b: _extend(b, before, words, range(_CUT, _PAIRS), to)

    def rounds(job: ir.Value) -> Stream:
        group = b.mul(b.and_(job, shift), i64(GROUP * _STATE))
        state, wk = at(b, states, group), slot(job)
        return lambda b: _rounds(b, state, wk)

    (half,) = _in_turns(b, first_half(i64(0)))
    _in_turns(b, second_half(half, i64(0)))
    (half,) = _in_turns(b, first_half(i64(1)))
    with loop(b, "job", i64(0), jobs, 1, half) as run:
        following = second_half(run.values, b.add(run.index, i64(1)))
        half, *_ = _in_turns(b, first_half(b.add(run.index, i64(2))), following, rounds(run.index))
        run.next(half)

    halves = [b.load(at(b, states, _STATE * m), align=_STATE, typ=_WORDS) for m in range(2 * GROUP)]
    in_order = [_STATE_WORDS.index(word) for word in range(8)]
    messages = [sha256.shuffle(b, words, words, in_order) for words in halves]
    for word, row in enumerate(sha256.transpose(b, messages)):
        b.store(row, at(b, lanes.state, _VECTOR * word), align=4)
