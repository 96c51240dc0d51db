# SPDX-License-Identifier: Apache-2.0
"""What a scrubber knows of a tensor on a device, with host memory in its place.

tests/test_gpu.py has scrubbers of tensors on a device of the tests' driver.
"""

import gc
import random
import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import Any

import pytest

import atlas12288 as atlas
from atlas12288 import WINDOW_BYTES, _native
from atlas12288._device_watch import DeviceWatch
from support.strategies import noise

WINDOWS = 4
LENGTH = 3 * WINDOW_BYTES + 77


def leaves_of(data: bytes | bytearray) -> bytes:
    leaves = atlas.TreeWitness.generate(data).leaves
    assert leaves is not None
    return leaves


def leaf(data: bytes | bytearray, index: int) -> bytes:
    return leaves_of(data)[32 * index : 32 * index + 32]


class Near:
    """A buffer in memory, which the native watch hashes."""

    def __init__(self, data: bytearray) -> None:
        self.watch = _native.Watch(data, leaves_of(data))

    def look(self, hashes: bool) -> dict[int, int]:
        """Return the verdict on each window that is judged in a pass."""
        watch = self.watch
        suspects = (watch.leaves_differ if hashes else watch.residues_differ)(0, WINDOWS)
        return {index: watch.judge(index) for index in suspects}


class Far:
    """A tensor on a device, whose bytes are asked for as a whole."""

    def __init__(self, data: bytearray) -> None:
        self.watch = DeviceWatch(data, LENGTH, leaves_of(data))

    def look(self, hashes: bool) -> dict[int, int]:
        view = self.watch.view()
        suspects = (view.leaves_differ if hashes else view.residues_differ)(0, WINDOWS)
        return {index: view.judge(index) for index in suspects}


@pytest.fixture
def data() -> bytearray:
    return bytearray(noise(LENGTH))


@pytest.mark.parametrize("seed", range(20))
def test_a_tensor_is_judged_as_a_buffer_in_memory(data: bytearray, seed: int) -> None:
    chance, near, far = random.Random(seed), Near(data), Far(data)
    for _ in range(40):
        index = chance.randrange(WINDOWS)
        place = min(index * WINDOW_BYTES + chance.randrange(99), LENGTH - 2)
        step = chance.randrange(6)
        if step == 0:
            data[place] ^= chance.choice((1, 64))
        elif step == 1:  # the sum of the bytes stays, and the residue with it
            data[place], data[place + 1] = data[place + 1], data[place]
        elif step == 2:
            for watch in (near.watch, far.watch):
                watch.expect(index, leaf(data, index))
        elif step == 3:
            runs = [(index, WINDOWS)]
            with near.watch.change(runs), far.watch.change(runs):
                data[place] ^= 3
                assert near.look(hashes=True) == far.look(hashes=True)
        else:
            hashes = step == 4
            assert near.look(hashes) == far.look(hashes)
    assert near.look(hashes=True) == far.look(hashes=True)


def in_a_block(change: Callable[[], Any]) -> None:
    with change():
        pass


def in_a_stack(change: Callable[[], Any]) -> None:
    with ExitStack() as stack:
        stack.enter_context(change())


def interrupted(work: Callable[[], object], opcode: int) -> bool:
    """Raise KeyboardInterrupt before the nth instruction of a call; return False if it has less."""
    left, before = opcode, sys.gettrace()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    gc.disable()  # hypothesis has a function that each collection calls: nobody would see the error
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
        gc.enable()
    return left <= 0


@pytest.mark.parametrize("form", [in_a_block, in_a_stack])
@pytest.mark.parametrize("kind", [Near, Far])
def test_an_interrupt_before_any_instruction_of_a_change_leaves_none_open(
    data: bytearray, kind: type[Near | Far], form: Callable[[Callable[[], Any]], None]
) -> None:
    """An open change would hide damage in its windows for ever."""
    target, opcode, more = kind(data), 0, True
    while more:
        opcode += 1
        more = interrupted(lambda: form(lambda: target.watch.change([(0, 2)])), opcode)
        if form is in_a_stack:
            gc.collect()  # contextlib leaves cycles
        assert _native.WINDOW_IN_CHANGE not in target.look(hashes=True).values(), opcode
        data[5] ^= 1
        assert target.look(hashes=True)[0] & _native.WINDOW_DIGEST_DIFFERS, opcode
        data[5] ^= 1
        assert target.look(hashes=True) == {0: 0}
    assert opcode > 15


@pytest.mark.parametrize("kind", [Near, Far])
def test_a_change_whose_object_is_gone_has_ended(data: bytearray, kind: type[Near | Far]) -> None:
    target = kind(data)
    change = target.watch.change([(1, 2)])
    change.__enter__()
    data[WINDOW_BYTES] ^= 1
    assert target.look(hashes=True) == {1: _native.WINDOW_IN_CHANGE}
    del change
    target.look(hashes=True)
    assert target.look(hashes=True) == {}
    data[WINDOW_BYTES] ^= 1
    assert target.look(hashes=False)[1] & _native.WINDOW_IS_NEW


def test_a_change_that_a_device_fails_to_end_is_taken_by_the_next_look(data: bytearray) -> None:
    """Its windows are no damage then, which they would be with the leaves of before."""
    known = _native.RemoteWatch(leaves_of(data))

    def lost() -> tuple[bytes, bytes]:
        raise atlas.DeviceError("the device is lost")

    with pytest.raises(atlas.DeviceError), known.change([(0, 1)], lost):
        data[5] ^= 1
    hashes = leaves_of(data), atlas.window_residues(data)
    assert known.leaves_differ(*hashes) == [0]
    assert known.judge(0, known.now, *hashes) == 0
    assert known.leaves_differ(*hashes) == []


def test_what_changed_after_it_was_hashed_is_not_judged(data: bytearray) -> None:
    known = _native.RemoteWatch(leaves_of(data))

    def hashes() -> tuple[bytes, bytes]:
        return leaves_of(data), atlas.window_residues(data)

    now, before = known.now, hashes()
    with known.change([(0, 1)], hashes):
        data[5] ^= 1
    data[WINDOW_BYTES] ^= 1
    assert known.judge(0, now, *before) == _native.WINDOW_IN_CHANGE
    assert known.judge(0, known.now, *hashes()) == 0
    assert known.judge(1, now, *hashes()) & _native.WINDOW_DIGEST_DIFFERS
    now, before = known.now, hashes()
    known.expect(1, leaf(data, 1))
    assert known.judge(1, now, *before) == _native.WINDOW_IN_CHANGE
    assert known.judge(1, known.now, *before) == 0


def test_hashes_of_another_number_of_windows_are_refused(data: bytearray) -> None:
    known = _native.RemoteWatch(leaves_of(data))
    good = leaves_of(data), atlas.window_residues(data)
    for leaves, residues, what in (
        (good[0][:-32], good[1], "leaves has 3 hashes, must have one for 4 windows"),
        (good[0], good[1][:-1], "residues has 3 bytes, must have one for 4 windows"),
        (good[0][:-1], good[1], "leaves has 127 bytes"),
    ):
        for work in (known.leaves_differ, lambda *given: known.judge(0, 0, *given)):
            with pytest.raises(ValueError, match=what):
                work(leaves, residues)
        change = known.change([(0, 1)], lambda given=(leaves, residues): given)
        with pytest.raises(ValueError, match=what), change:
            pass
        assert known.judge(0, known.now, *good) == 0
    with pytest.raises(ValueError, match="residues has 5 bytes"):
        known.residues_differ(bytes(5))
    with pytest.raises(ValueError, match="must be windows of 4"):
        known.judge(4, 0, *good)
    shorter = DeviceWatch(data, LENGTH, leaves_of(data))
    shorter._buf = data[:-1]
    with pytest.raises(BufferError, match=f"has {LENGTH - 1} bytes, must have {LENGTH}"):
        shorter.view().leaves_differ(0, WINDOWS)
    shorter._buf = data[:9]
    with pytest.raises(BufferError, match="has 1 windows, must have 4"):
        shorter.view().residues_differ(0, WINDOWS)
