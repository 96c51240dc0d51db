# SPDX-License-Identifier: Apache-2.0
"""Every kernel, in every kernel set that the CPU runs, against plain Python: each alignment, each
tail, guard pages on both sides, sums at the bounds of every integer width, any split."""

import ctypes
import os
import platform
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
from support import model, strategies
from support.guarded import ALIGNMENTS, PAGE, Guarded, address_of, region_at, repeated, run_in_child
from support.kernel_sets import ENDS
from support.slow import slow_but

PIPELINED = "x86-64-v4+sha+vbmi2"
TAILS = range(301)  # beyond four vectors of any target: each unrolled loop and each tail
LENGTHS = tuple(sorted({*TAILS, *model.SHORT_BITING_LENGTHS}))
# For pairs of alignments, where 64 * 64 * LENGTHS would take minutes.
PAIR_LENGTHS = (0, 1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 96, 127, 129, 255, 257, 300)
LONGEST = max(LENGTHS)
ARENA = LONGEST + len(ALIGNMENTS)
CANARY = 0xA5
GUARDED_BYTES = 3 * model.WINDOW_BYTES


def arena_of(data: bytes) -> memoryview:
    """The data at an address that is 0 mod 64, so that view[a:] is at alignment a."""
    region = region_at(0, len(data))
    region[:] = data
    return region


@pytest.fixture(scope="module")
def noise() -> memoryview:
    return arena_of(strategies.noise(ARENA))


@pytest.fixture(scope="module")
def sums() -> model.Sums:
    return model.Sums(strategies.noise(ARENA))


@pytest.fixture(scope="module")
def guarded_pair() -> tuple[Guarded, Guarded]:
    return Guarded(GUARDED_BYTES), Guarded(GUARDED_BYTES)


# --- the set in use ---


def test_the_pipelined_set_is_chosen_where_an_amd_cpu_has_its_instructions_and_nowhere_else() -> (
    None
):
    cpuinfo = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not cpuinfo.exists():
        pytest.skip("only Linux on x86-64 tells the flags of the CPU here")
    text = cpuinfo.read_text(encoding="utf-8")
    flags = set(text.split())
    has_all = flags >= {"sha_ni", "avx512vl", "avx512bw", "avx512dq", "avx512cd", "avx512_vbmi2"}
    environment = {k: v for k, v in os.environ.items() if k != "ATLAS12288_KERNELS"}
    command = [sys.executable, "-c", "import atlas12288; print(atlas12288.kernel_set())"]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    assert atlas.kernel_set_supported(PIPELINED) is has_all
    assert (done.stdout.strip() == PIPELINED) is (has_all and "AuthenticAMD" in text)


# --- sum, window check, update -------------------------------------------------------------------


def test_residue_at_every_alignment_and_length(
    kernel_set: str, noise: memoryview, sums: model.Sums
) -> None:
    for a in ALIGNMENTS:
        for n in LENGTHS:
            assert atlas.residue(noise[a : a + n]) == sums.residue(a, a + n), (a, n)


def test_window_check_at_every_alignment_and_length(
    kernel_set: str, noise: memoryview, sums: model.Sums
) -> None:
    for a in ALIGNMENTS:
        for n in LENGTHS:
            expected = sums.residue(a, a + n) == 0
            assert atlas.is_conserved(noise[a : a + n]) is expected, (a, n)


def test_window_check_holds_for_every_slice_of_a_region_of_multiples_of_96(kernel_set: str) -> None:
    region = arena_of(strategies.conserved_everywhere(ARENA))
    for a in ALIGNMENTS:
        for n in LENGTHS:
            assert atlas.is_conserved(region[a : a + n]), (a, n)


def test_window_check_fails_for_each_single_byte_made_one_more(kernel_set: str) -> None:
    region = arena_of(strategies.conserved_everywhere(600))
    for i in range(len(region)):
        region[i] += 1
        assert not atlas.is_conserved(region), i
        assert atlas.residue(region) == 1, i
        region[i] -= 1


@given(region=strategies.aligned_buffers())
def test_residue_and_window_check_agree_with_plain_python(
    kernel_set: str, region: memoryview
) -> None:
    assert atlas.residue(region) == model.residue(region)
    assert atlas.is_conserved(region) == (model.residue(region) == 0)


@given(chunks=strategies.splits())
def test_streaming_residue_of_any_split_is_that_of_the_whole(
    kernel_set: str, chunks: list[bytes]
) -> None:
    stream = atlas.Residue()
    so_far = b""
    for chunk in chunks:
        stream.update(chunk)
        so_far += chunk
        assert stream.value == model.residue(so_far)


@given(region=strategies.aligned_buffers(most=5 * model.WINDOW_BYTES + 7))
def test_window_residues_agree_with_plain_python(kernel_set: str, region: memoryview) -> None:
    assert list(atlas.window_residues(region)) == model.window_residues(region)


@pytest.mark.parametrize("length", model.BITING_LENGTHS)
def test_window_residues_at_biting_lengths(kernel_set: str, length: int) -> None:
    data = strategies.noise(length)
    assert list(atlas.window_residues(data)) == model.window_residues(data)


# --- sums at the bounds of integer widths --------------------------------------------------------
# 2^8, 2^16, 2^32 and 2^64 are all 64 mod 96: a sum that wraps at any of them is off by 64.


def test_sums_of_0xff_do_not_wrap_at_8_or_16_bits(kernel_set: str) -> None:
    # An accumulator of 8 bits wraps at the 2nd byte that it takes, one of 16 bits at the 258th; a
    # vector has up to 64 lanes, an unrolled loop up to 16 vectors.
    data = b"\xff" * (258 * 64 * 16 + 1)
    for n in (*range(600), 257 * 16, 258 * 16, 258 * 32, 258 * 64, 258 * 64 * 4, len(data)):
        assert atlas.residue(data[:n]) == 255 * n % 96, n
        assert atlas.delta(bytes(n), data[:n]) == 255 * n % 96, n
        assert atlas.delta(data[:n], bytes(n)) == -255 * n % 96, n


@pytest.fixture(scope="module")
def beyond_4_gib() -> Iterator[memoryview]:
    with repeated(b"\xff" * (4 << 20), (4 << 30) + 97) as region:
        yield region


def test_sums_of_0xff_do_not_wrap_at_32_bits(kernel_set: str, beyond_4_gib: memoryview) -> None:
    # One accumulator of 32 bits wraps at 2^32 / 255 bytes; 64 of them hold 64 times as much.
    one = -(-(1 << 32) // 255)
    for n in (one - 1, one, one + 1, 17 << 20, 4 * one + 1, 16 * one + 1):
        assert atlas.residue(beyond_4_gib[:n]) == 255 * n % 96, n


@ENDS
def test_lengths_beyond_32_bits_are_summed_whole(kernel_set: str, beyond_4_gib: memoryview) -> None:
    n = len(beyond_4_gib)
    assert n > 1 << 32
    assert atlas.residue(beyond_4_gib) == 255 * n % 96
    assert atlas.is_conserved(beyond_4_gib) is (255 * n % 96 == 0)


@ENDS
def test_delta_beyond_32_bits_is_exact(kernel_set: str, beyond_4_gib: memoryview) -> None:
    n = (1 << 30) + 1  # 64 accumulators of 32 bits wrap within it
    with repeated(bytes(4 << 20), n) as zeros:
        assert atlas.delta(zeros, beyond_4_gib[:n]) == 255 * n % 96
        assert atlas.delta(beyond_4_gib[:n], zeros) == -255 * n % 96


def test_streaming_residue_beyond_4_gib_is_exact(beyond_4_gib: memoryview) -> None:
    stream = atlas.Residue()
    chunk = (256 << 20) + 1
    for start in range(0, len(beyond_4_gib), chunk):
        stream.update(beyond_4_gib[start : start + chunk])
    assert stream.value == 255 * len(beyond_4_gib) % 96


# --- delta ---------------------------------------------------------------------------------------


def test_delta_at_every_pair_of_alignments(
    kernel_set: str, noise: memoryview, sums: model.Sums
) -> None:
    for a in ALIGNMENTS:
        for b in ALIGNMENTS:
            for n in PAIR_LENGTHS:
                expected = (sums.residue(b, b + n) - sums.residue(a, a + n)) % 96
                assert atlas.delta(noise[a : a + n], noise[b : b + n]) == expected, (a, b, n)


def test_delta_at_every_length(kernel_set: str, noise: memoryview, sums: model.Sums) -> None:
    for a, b in ((0, 0), (0, 1), (1, 0), (31, 33), (63, 63)):
        for n in LENGTHS:
            expected = (sums.residue(b, b + n) - sums.residue(a, a + n)) % 96
            assert atlas.delta(noise[a : a + n], noise[b : b + n]) == expected, (a, b, n)


@given(pair=strategies.pairs_of_equal_length())
def test_delta_agrees_with_plain_python(kernel_set: str, pair: tuple[bytes, bytes]) -> None:
    before, after = pair
    assert atlas.delta(before, after) == model.delta(before, after)
    assert (atlas.delta(before, after) + atlas.delta(after, before)) % 96 == 0
    assert atlas.delta(before, before) == 0


# --- copy ----------------------------------------------------------------------------------------


def check_copy(target: memoryview, at: int, source: memoryview) -> None:
    """Copies to target[at:], then checks the copy and the bytes around it, and restores them."""
    end = at + len(source)
    atlas.conserved_copy(target[at:end], source)
    assert target[at:end] == source
    assert target[:at] == bytes([CANARY]) * at
    assert target[end:] == bytes([CANARY]) * (len(target) - end)
    target[at:end] = bytes([CANARY]) * len(source)


def test_copy_at_every_pair_of_alignments_writes_the_region_and_nothing_beside_it(
    kernel_set: str,
) -> None:
    source = arena_of(strategies.conserved_everywhere(ARENA))
    target = arena_of(bytes([CANARY]) * (max(PAIR_LENGTHS) + 3 * len(ALIGNMENTS)))
    for a in ALIGNMENTS:
        for b in ALIGNMENTS:
            for n in PAIR_LENGTHS:
                check_copy(target, len(ALIGNMENTS) + b, source[a : a + n])


def test_copy_at_every_length_writes_the_region_and_nothing_beside_it(kernel_set: str) -> None:
    source = arena_of(strategies.conserved_everywhere(ARENA))
    target = arena_of(bytes([CANARY]) * (LONGEST + 3 * len(ALIGNMENTS)))
    for a, b in ((0, 0), (0, 1), (1, 0), (31, 33), (63, 63)):
        for n in LENGTHS:
            check_copy(target, len(ALIGNMENTS) + b, source[a : a + n])


@given(data=strategies.conserved_buffers(), a=strategies.alignments(), b=strategies.alignments())
def test_copy_of_a_conserved_region_is_the_region(
    kernel_set: str, data: bytes, a: int, b: int
) -> None:
    source = region_at(a, len(data))
    source[:] = data
    target = region_at(b, len(data))
    atlas.conserved_copy(target, source)
    assert bytes(target) == data
    assert bytes(source) == data


@given(data=strategies.buffers(), a=strategies.alignments())
def test_copy_of_a_region_that_is_not_conserved_writes_nothing(
    kernel_set: str, data: bytes, a: int
) -> None:
    if model.residue(data) == 0:
        data += b"\x01"
    target = region_at(a, len(data))
    target[:] = bytes([CANARY]) * len(data)
    with pytest.raises(atlas.ConservationError):
        atlas.conserved_copy(target, data)
    assert bytes(target) == bytes([CANARY]) * len(data)


@pytest.mark.parametrize("n", [1, 2, 96, 12288])
def test_copy_refuses_regions_that_overlap_by_one_byte_and_takes_adjacent_ones(n: int) -> None:
    region = memoryview(bytearray(strategies.conserved_everywhere(2 * n)))
    before = bytes(region)
    low, high, middle = region[:n], region[n:], region[n - 1 : 2 * n - 1]
    for target, source in ((middle, low), (low, middle), (low, low)):
        with pytest.raises(atlas.DomainMemoryError):
            atlas.conserved_copy(target, source)
    assert region == before
    atlas.conserved_copy(high, low)
    assert high == low == before[:n]
    high[:] = before[n:]
    atlas.conserved_copy(low, high)
    assert low == high == before[n:]


# --- fill, fixup ---------------------------------------------------------------------------------


def test_fill_at_every_alignment_and_length_writes_the_region_and_nothing_beside_it(
    kernel_set: str,
) -> None:
    pad = len(ALIGNMENTS)
    target = arena_of(bytes([CANARY]) * (max(TAILS) + 3 * pad))
    for value in (0x00, 0x37, 0xFF):
        expected = [model.fill(value, n) for n in TAILS]
        for a in ALIGNMENTS:
            start = pad + a
            for n in TAILS:
                atlas.conserved_fill(target[start : start + n], value)
                assert target[start : start + n] == expected[n], (value, a, n)
                assert target[start - 1] == target[start + n] == CANARY, (value, a, n)
            assert target[:start] == bytes([CANARY]) * start
            target[:] = bytes([CANARY]) * len(target)


@pytest.mark.parametrize("value", range(256))
def test_fill_with_every_value_is_conserved_and_nearest(value: int) -> None:
    for n in (1, 2, 95, 96, 97, 255, 12288, 12289):
        region = bytearray(n)
        atlas.conserved_fill(region, value)
        assert region == model.fill(value, n), n


def test_fixup_of_every_residue_and_last_byte_takes_the_nearest_byte_and_the_smaller_on_a_tie() -> (
    None
):
    for rest in range(96):
        for last in range(256):
            region = bytearray((rest, last))
            atlas.fixup(region)
            assert region[0] == rest
            assert region[1] == model.nearest_conserving(rest, last), (rest, last)


@given(data=strategies.buffers())
def test_fixup_changes_the_last_byte_alone_and_makes_the_region_conserved(
    kernel_set: str, data: bytes
) -> None:
    region = bytearray(data)
    atlas.fixup(region)
    assert region == model.fixup(data)
    assert atlas.is_conserved(region)


# --- where streaming stores begin ----------------------------------------------------------------


@pytest.mark.parametrize(
    "size", slow_but((1 << k for k in range(15, 24)), (1 << k for k in range(15, 26)))
)
def test_large_copies_and_fills_are_exact_around_every_power_of_two(size: int) -> None:
    """Wherever the runtime goes over to streaming stores, both sides are among these sizes."""
    source = region_at(0, size + 128)
    source[:] = strategies.conserved_everywhere(1 << 12) * (size >> 12) + bytes(128)
    target = region_at(0, size + 256)
    for a, b, n in ((0, 0, size - 1), (0, 0, size), (1, 0, size + 1), (3, 61, size - 63)):
        target[:] = bytes([CANARY]) * len(target)
        check_copy(target, 64 + b, source[a : a + n])
        atlas.conserved_fill(target[64 + b : 64 + b + n], 0x37)
        assert target[64 + b : 64 + b + n] == model.fill(0x37, n)
        assert target[: 64 + b] == bytes([CANARY]) * (64 + b)
        assert target[64 + b + n :] == bytes([CANARY]) * (len(target) - 64 - b - n)


@pytest.mark.slow
def test_copy_and_fill_of_64_mib_are_exact() -> None:
    n = 64 << 20
    block = strategies.conserved_everywhere(1 << 12)
    source = block * (n >> 12)
    target = bytearray(n + 2)
    inner = memoryview(target)[1:-1]  # unaligned
    atlas.conserved_copy(inner, source)
    assert inner == source
    atlas.conserved_fill(inner, 0xFF)
    assert inner == model.fill(0xFF, n)
    assert (target[0], target[-1]) == (0, 0)


# --- equal ---------------------------------------------------------------------------------------


def test_equal_tells_every_one_bit_difference_of_a_digest(kernel_set: str) -> None:
    data = strategies.noise(model.WINDOW_BYTES)
    form = bytearray(bytes(atlas.Witness.generate(data)))
    assert atlas.Witness.from_bytes(form).verify(data)
    for bit in range(8 * 24, 8 * 56):  # where the digest is
        form[bit // 8] ^= 1 << bit % 8
        assert not atlas.Witness.from_bytes(form).verify(data), bit
        form[bit // 8] ^= 1 << bit % 8


# --- guard pages ---------------------------------------------------------------------------------


def test_a_guard_page_kills_a_read_one_byte_too_far() -> None:
    """The tests below can fail."""
    guarded = Guarded(PAGE)

    def read_too_far() -> None:
        ctypes.string_at(address_of(guarded.ending_at_guard(16)), 17)

    with pytest.raises(AssertionError, match=r"SIG(SEGV|BUS)"):
        run_in_child(read_too_far)


def test_reading_kernels_touch_no_byte_beside_the_region(
    kernel_set: str, guarded_pair: tuple[Guarded, Guarded]
) -> None:
    def read_all() -> None:
        one, two = guarded_pair
        for n in LENGTHS:
            data = strategies.noise(n, seed=n)
            expected = model.residue(data)
            for view in one.both(n):
                view[:] = data
                assert atlas.residue(view) == expected, n
                assert atlas.is_conserved(view) is (expected == 0), n
                assert list(atlas.window_residues(view)) == model.window_residues(data), n
                stream = atlas.Residue()
                stream.update(view)
                assert stream.value == expected, n
                for other in two.both(n):
                    other[:] = bytes(n)
                    assert atlas.delta(other, view) == expected, n
                    assert atlas.delta(view, other) == -expected % 96, n

    run_in_child(read_all)


def test_writing_kernels_touch_no_byte_beside_the_region(
    kernel_set: str, guarded_pair: tuple[Guarded, Guarded]
) -> None:
    def write_all() -> None:
        source, target = guarded_pair
        for n in LENGTHS:
            data = strategies.conserved_everywhere(n)
            for from_view in source.both(n):
                from_view[:] = data
                for to_view in target.both(n):
                    to_view[:] = bytes([CANARY]) * n
                    atlas.conserved_copy(to_view, from_view)
                    assert to_view == data, n
            filled = model.fill(0x37, n)
            for to_view in target.both(n):
                atlas.conserved_fill(to_view, 0x37)
                assert to_view == filled, n
                atlas.fixup(to_view)
                assert to_view == filled, n

    run_in_child(write_all)


def test_large_copies_and_fills_touch_no_byte_beside_the_region() -> None:
    """Sizes where streaming stores are at work."""
    size = 18 << 20
    source, target = Guarded(size), Guarded(size)
    block = strategies.conserved_everywhere(1 << 12)

    def write_all() -> None:
        for n in (size - 1, size - 33):
            for from_view, to_view in zip(source.both(n), target.both(n), strict=True):
                from_view[:] = (block * (size >> 12))[:n]
                atlas.conserved_copy(to_view, from_view)
                assert to_view == from_view
                atlas.conserved_fill(to_view, 0xFF)
                assert to_view == model.fill(0xFF, n)

    run_in_child(write_all)


# --- all sets agree ------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), length=st.integers(0, 200_000))
def test_all_kernel_sets_give_the_same_results(seed: int, length: int) -> None:
    data = random.Random(seed).randbytes(length)
    before = atlas.kernel_set()
    results = set()
    try:
        for name in atlas.kernel_sets():
            if atlas.kernel_set_supported(name):
                atlas.select_kernel_set(name)
                witness = atlas.Witness.generate(data)
                results.add((atlas.residue(data), atlas.window_residues(data), witness.digest))
    finally:
        atlas.select_kernel_set(before)
    assert len(results) == 1
