# SPDX-License-Identifier: Apache-2.0
"""Scrubbers: damage is found and told once, and what is no damage is not told."""

import contextlib
import ctypes
import dataclasses
import gc
import json
import math
import mmap
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

import numpy
import pytest

import atlas12288 as atlas
from atlas12288 import WINDOW_BYTES, ScrubReport, _native, _pace
from atlas12288._scrubber import DIGEST_PASSES
from support.leftovers import nothing_left
from support.slow import slow_but
from support.strategies import noise

WAIT_S = 60
MAP_FIXED = 0x10  # of Linux


def scrubber_of(buf: Any, **options: Any) -> atlas.Scrubber:
    return atlas.Scrubber({"data": (buf, atlas.TreeWitness.generate(buf))}, **options)


def windows_of(report: ScrubReport, kind: str = "changed") -> list[int]:
    return [
        window
        for each in report.differences
        if each.kind == kind
        for run in each.ranges or ()
        for window in range(run.first, run.stop)
    ]


class Told:
    """Keeps the reports that it is called with."""

    def __init__(self) -> None:
        self.reports: list[ScrubReport] = []
        self._news = threading.Condition()

    def __call__(self, report: ScrubReport) -> None:
        with self._news:
            self.reports.append(report)
            self._news.notify_all()

    def wait(self, count: int) -> ScrubReport:
        with self._news:
            assert self._news.wait_for(lambda: len(self.reports) >= count, WAIT_S)
            return self.reports[count - 1]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def data() -> bytearray:
    return bytearray(noise(5 * WINDOW_BYTES + 100))


# --- what a pass sees ---


def test_nothing_runs_before_start(data: bytearray) -> None:
    with nothing_left():
        scrubber = scrubber_of(data, on_damage=Told(), every=0)
        assert not scrubber.running
        assert scrubber.report is None


def test_a_pass_over_whole_buffers_holds(data: bytearray) -> None:
    report = scrubber_of(data).scan()
    assert report
    assert report.holds is True
    assert report.windows == 6
    assert str(report) == ""


def test_damage_from_before_is_found_by_the_digests_of_the_first_pass(data: bytearray) -> None:
    witness = atlas.TreeWitness.generate(data)
    data[WINDOW_BYTES] ^= 1
    data[-1] ^= 1
    report = atlas.Scrubber({"data": (data, witness)}).scan()
    assert report.holds is False
    (damage,) = report.changed
    assert damage.what == ("digest",)
    assert damage.ranges == ((1, 2, 12288, 24576), (5, 6, 61440, 61540))


def test_the_first_pass_after_each_of_10000_flips_of_a_bit_finds_it() -> None:
    data = bytearray(noise(3 * WINDOW_BYTES + 1))
    scrubber = scrubber_of(data)
    scrubber.scan()
    choose = random.Random(12288)
    for _ in range(10_000):
        place, bit = choose.randrange(len(data)), 1 << choose.randrange(8)
        data[place] ^= bit
        report = scrubber.scan()
        assert windows_of(report) == [place // WINDOW_BYTES]
        assert "residue" in report.changed[0].what
        data[place] ^= bit
    assert scrubber.scan()


@pytest.mark.slow
def test_flips_in_buffers_of_many_pieces_are_found_in_the_first_pass_after_them() -> None:
    data = bytearray(noise(1000 * WINDOW_BYTES + 77))
    scrubber = scrubber_of(data)
    scrubber.scan()
    choose = random.Random(96)
    for _ in range(1000):
        places = sorted(choose.sample(range(1000), 10))
        flips = [(window * WINDOW_BYTES + choose.randrange(WINDOW_BYTES)) for window in places]
        for place in flips:
            data[place] ^= 1 << choose.randrange(8)
        assert windows_of(scrubber.scan()) == places
        scrubber.update("data", places)


def test_the_residue_sees_every_flip_of_a_single_bit() -> None:
    # A flip adds or takes away a power of two, and 96 has the factor 3.
    assert all(sign * (1 << bit) % atlas.MODULUS for bit in range(8) for sign in (1, -1))


@pytest.mark.parametrize("change", ["swap", "96 more"])
def test_what_the_residue_misses_is_found_by_the_digests_in_rotation(
    data: bytearray, change: str
) -> None:
    data[3 * WINDOW_BYTES : 3 * WINDOW_BYTES + 2] = b"\x01\x02"
    told = Told()
    scrubber = scrubber_of(data, on_damage=told)
    scrubber.scan()
    if change == "swap":
        data[3 * WINDOW_BYTES : 3 * WINDOW_BYTES + 2] = b"\x02\x01"
    else:
        data[3 * WINDOW_BYTES] += 96
    for _ in range(DIGEST_PASSES):
        scrubber.scan()
    (report,) = told.reports
    assert windows_of(report) == [3]
    assert report.changed[0].what == ("digest",)


def test_the_digest_of_each_window_is_checked_once_in_a_rotation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = noise(2000 * WINDOW_BYTES)
    scrubber = scrubber_of(data)
    scrubber.scan()
    (target,) = scrubber._known().values()
    watch = target.watch
    hashed: list[int] = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            return getattr(watch, name)

        def leaves_differ(self, first: int, stop: int) -> list[int]:
            hashed.extend(range(first, stop))
            return watch.leaves_differ(first, stop)

    monkeypatch.setattr(target, "watch", Spy())
    for _ in range(DIGEST_PASSES):
        scrubber.scan()
    assert sorted(hashed) == list(range(2000))


def test_scan_returns_all_that_it_sees_and_damage_is_told_once(data: bytearray) -> None:
    told = Told()
    scrubber = scrubber_of(data, on_damage=told)
    data[0] ^= 1
    first = scrubber.scan()
    data[-1] ^= 1
    second = scrubber.scan()
    assert (windows_of(first), windows_of(second)) == ([0], [0, 5])
    assert windows_of(scrubber.scan()) == [0, 5]
    assert list(map(windows_of, told.reports)) == [[0], [5]]
    assert scrubber.report is not None
    assert windows_of(scrubber.report) == [0, 5]


def test_damage_that_was_restored_and_comes_again_is_told_again(data: bytearray) -> None:
    told = Told()
    scrubber = scrubber_of(data, on_damage=told)
    for _ in range(3):
        data[0] ^= 1
        assert not scrubber.scan()
        data[0] ^= 1
        assert scrubber.scan()
    assert len(told.reports) == 3


def test_buffers_are_told_apart_by_name() -> None:
    buffers = {name: bytearray(noise(2 * WINDOW_BYTES)) for name in "abc"}
    targets = {name: (buf, atlas.TreeWitness.generate(buf)) for name, buf in buffers.items()}
    buffers["b"][-1] ^= 128
    (damage,) = atlas.Scrubber(targets).scan().differences
    assert (damage.part, damage.name) == ("buffer", "b")


def test_a_report_is_a_frozen_record_in_plain_english_and_json(data: bytearray) -> None:
    scrubber = scrubber_of(data)
    scrubber.scan()
    data[WINDOW_BYTES] ^= 1
    report = scrubber.scan()
    line = "buffer 'data': residue, digest differ; bytes [12288, 24576), window 1"
    assert str(report) == line
    fields = json.loads(report.to_json())
    assert fields["type"] == "atlas12288/report/v1"
    assert fields["holds"] is False
    assert fields["counts"] == {"changed": 1, "missing": 0, "added": 0, "unreadable": 0}
    assert fields["differences"] == [
        {
            "part": "buffer",
            "name": "data",
            "kind": "changed",
            "what": ["residue", "digest"],
            "reason": None,
            "ranges": [{"start": 12288, "end": 24576}],
        }
    ]
    assert fields["timestamp"] == report.timestamp
    assert fields["windows"] == 6
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.windows = 0  # type: ignore[misc]
    with pytest.raises(atlas.MismatchError, match="buffer 'data'"):
        report.raise_unless_holds()
    assert ScrubReport().holds is None


# --- the thread ---


def test_the_thread_finds_damage_from_before_and_later_damage(data: bytearray) -> None:
    told = Told()
    witness = atlas.TreeWitness.generate(data)
    data[0] ^= 1
    with atlas.Scrubber({"data": (data, witness)}, every=0, on_damage=told, share=1) as scrubber:
        assert windows_of(told.wait(1)) == [0]
        data[-1] ^= 64
        assert windows_of(told.wait(2)) == [5]
        assert scrubber.running
    assert not scrubber.running
    assert len(told.reports) == 2


def test_what_on_damage_raises_goes_to_the_unraisablehook_and_the_thread_goes_on(
    data: bytearray, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", caught.append)
    told = Told()

    def fail(report: ScrubReport) -> None:
        told(report)
        raise RuntimeError("no mail today")

    with scrubber_of(data, every=0, on_damage=fail, share=1):
        data[0] ^= 1
        told.wait(1)
        data[-1] ^= 1
        told.wait(2)
    assert [str(each.exc_value) for each in caught] == ["no mail today"] * 2


def test_an_exit_that_on_damage_raises_does_not_end_the_watch(
    data: bytearray, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", caught.append)
    told = Told()

    def leave(report: ScrubReport) -> None:
        told(report)
        sys.exit("enough")

    with scrubber_of(data, every=0, on_damage=leave, share=1) as scrubber:
        data[0] ^= 1
        told.wait(1)
        data[-1] ^= 1
        told.wait(2)
        assert scrubber.running
    assert [str(each.exc_value) for each in caught] == ["enough"] * 2
    scrubber = scrubber_of(data, on_damage=leave)
    data[0] ^= 1
    with pytest.raises(SystemExit, match="enough"):  # in the caller's own thread it counts
        scrubber.scan()


def test_an_error_of_a_pass_goes_to_the_unraisablehook_and_the_next_pass_goes_on(
    data: bytearray, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", caught.append)
    told = Told()
    scrubber = scrubber_of(data, every=0, on_damage=told, share=1)
    (target,) = scrubber._known().values()
    look, calls = target.look, []

    def sometimes(*arguments: Any) -> Iterator[Any]:
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError("none left")
        return look(*arguments)

    monkeypatch.setattr(target, "look", sometimes)
    with scrubber:
        data[0] ^= 1
        told.wait(1)
    assert [str(each.exc_value) for each in caught] == ["none left"]


def test_a_scrubber_can_be_stopped_and_started_again(data: bytearray) -> None:
    told = Told()
    scrubber = scrubber_of(data, every=0, on_damage=told, share=1)
    for count in (1, 2):
        scrubber.start()
        with pytest.raises(atlas.StateError, match="runs already"):
            scrubber.start()
        data[count * WINDOW_BYTES] ^= 1
        told.wait(count)
        scrubber.stop()
        scrubber.stop()
        assert not scrubber.running
    assert "not running" in repr(scrubber)


def test_on_damage_may_stop_the_scrubber(data: bytearray) -> None:
    def stop(_: ScrubReport) -> None:
        scrubber.close()

    scrubber = scrubber_of(data, every=0, on_damage=stop, share=1)
    data[0] ^= 1
    scrubber.start()
    wait_until(lambda: not scrubber.running)
    with pytest.raises(atlas.StateError, match="closed"):
        scrubber.scan()


def test_a_thread_that_waits_for_its_next_pass_stops_at_once(data: bytearray) -> None:
    scrubber = scrubber_of(data, every=1e9, on_damage=Told())
    scrubber.start()
    wait_until(lambda: scrubber.report is not None)
    scrubber.stop()
    assert not scrubber.running


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_a_thread_sleeps_until_it_is_within_its_share(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"cpu": 0.0, "now": 0.0}

    class Stop:
        asked = False

        def wait(self, seconds: float) -> bool:
            clock["now"] += seconds
            return False

    monkeypatch.setattr(time, "thread_time", lambda: clock["cpu"])
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    pace = _pace.Pace(share, Stop())  # type: ignore[arg-type]
    for _ in range(1000):
        clock["cpu"] += 0.0003
        clock["now"] += 0.0003
        pace.pause()
    assert clock["cpu"] <= share * (clock["now"] + 0.003)
    assert clock["cpu"] >= share * clock["now"] * 0.9


# --- changes on purpose ---


def test_an_update_takes_the_windows_anew_and_no_others(data: bytearray) -> None:
    told = Told()
    scrubber = scrubber_of(data, on_damage=told)
    scrubber.scan()
    data[0] ^= 1
    data[2 * WINDOW_BYTES] ^= 1
    scrubber.update("data", [0])
    assert windows_of(scrubber.scan()) == [2]
    data[0] ^= 1  # the old content is damage now
    assert windows_of(scrubber.scan()) == [0, 2]
    scrubber.update("data", [2, 0, 2])
    assert scrubber.scan()
    data[0] ^= 2
    assert not scrubber.scan()
    assert list(map(windows_of, told.reports)) == [[2], [0], [0]]


def test_an_update_with_a_witness_checks_the_windows_against_it(data: bytearray) -> None:
    witness = atlas.TreeWitness.generate(data)
    scrubber = atlas.Scrubber({"data": (data, witness)})
    scrubber.scan()
    data[0] ^= 1
    data[WINDOW_BYTES] ^= 1
    newer = witness.update(data, [0, 1])
    data[WINDOW_BYTES] ^= 2
    scrubber.update("data", [0, 1], newer)
    assert windows_of(scrubber.scan()) == [1]


def test_no_pass_takes_a_change_under_way_for_damage(data: bytearray) -> None:
    told = Told()
    scrubber = scrubber_of(data, on_damage=told)
    scrubber.scan()
    with scrubber.changing("data", [1, 2, 5]):
        data[WINDOW_BYTES] ^= 1
        data[-1] ^= 1
        report = scrubber.scan()
        assert report.holds is None
        assert windows_of(report, "unreadable") == [1, 5]
        data[0] ^= 1
        assert windows_of(scrubber.scan()) == [0]
    assert windows_of(scrubber.scan()) == [0]
    with scrubber.changing("data"):
        data[:] = noise(len(data))
    assert scrubber.scan()
    assert list(map(windows_of, told.reports)) == [[0]]


@pytest.fixture
def domain(data: bytearray) -> Iterator[atlas.Domain]:
    atlas.fixup(data)
    with atlas.Domain(bytes=len(data)) as domain:
        domain.attach(data)
        yield domain


def add(data: bytearray | memoryview, place: int, other: int = 4 * WINDOW_BYTES) -> None:
    """Change bytes of two windows, whose residues change; all together stay conserved."""
    data[place] = (data[place] + 1) % 96
    data[other] = (data[other] + 95) % 96


@pytest.fixture
def small(data: bytearray) -> bytearray:
    data[:] = bytes(len(data))
    return data


def test_transactions_tell_by_themselves(small: bytearray, domain: atlas.Domain) -> None:
    told = Told()
    scrubber = scrubber_of(small, on_damage=told)
    scrubber.scan()
    with domain.transaction():
        add(small, WINDOW_BYTES)
        report = scrubber.scan()  # in the middle
        assert report.holds is None
        assert windows_of(report, "unreadable") == [1, 4]
    assert scrubber.scan()
    with contextlib.suppress(ZeroDivisionError), domain.transaction():
        add(small, 2 * WINDOW_BYTES)
        raise ZeroDivisionError
    assert small[2 * WINDOW_BYTES] == 0
    assert scrubber.scan()
    with pytest.raises(atlas.ConservationError), domain.transaction():
        small[0] += 1
    assert scrubber.scan()
    assert told.reports == []


def test_a_transaction_vouches_only_for_what_changed_in_it(
    small: bytearray, domain: atlas.Domain
) -> None:
    scrubber = scrubber_of(small)
    scrubber.scan()
    add(small, 3 * WINDOW_BYTES)  # by nobody
    with domain.transaction():
        add(small, WINDOW_BYTES)
    assert windows_of(scrubber.scan()) == [3]
    with domain.transaction():  # damage that is known stays damage
        add(small, 3 * WINDOW_BYTES)
    assert windows_of(scrubber.scan()) == [3]
    add(small, WINDOW_BYTES)
    assert windows_of(scrubber.scan()) == [1, 3, 4]


def test_transactions_on_a_part_of_a_buffer_and_around_it_tell(small: bytearray) -> None:
    start, stop = WINDOW_BYTES - 10, 2 * WINDOW_BYTES + 10
    inner = memoryview(small)[start:stop]
    scrubbers = [scrubber_of(small), scrubber_of(inner)]
    for buf in (small, inner):
        with atlas.Domain(bytes=len(buf)) as domain:
            domain.attach(buf)
            with domain.transaction():
                for place in range(start, start + 20):
                    add(small, place, stop - 1)
            assert all(scrubber.scan() for scrubber in scrubbers)
    small[start] ^= 1
    assert [windows_of(scrubber.scan()) for scrubber in scrubbers] == [[0], [0]]


def test_transactions_within_and_across_one_another_leave_no_false_damage(
    small: bytearray, domain: atlas.Domain
) -> None:
    scrubber = scrubber_of(small)
    scrubber.scan()
    with contextlib.suppress(KeyError), domain.transaction():
        with domain.transaction():
            add(small, 0)
        raise KeyError
    assert small[0] == 0
    assert scrubber.scan()
    with atlas.Domain(bytes=len(small)) as other:
        other.attach(small)
        first, second = domain.transaction(), other.transaction()
        first.__enter__()
        add(small, 0)
        second.__enter__()
        add(small, WINDOW_BYTES)
        first.__exit__(None, None, None)
        assert scrubber.scan().holds is None
        second.__exit__(None, None, None)
    assert scrubber.scan()
    small[0] ^= 1
    assert windows_of(scrubber.scan()) == [0]


def test_transactions_that_do_not_nest_or_are_never_left_leave_no_false_damage(
    small: bytearray, domain: atlas.Domain
) -> None:
    scrubber = scrubber_of(small)
    scrubber.scan()
    first, second = domain.transaction(), domain.transaction()
    first.__enter__()
    add(small, 0)
    second.__enter__()
    add(small, WINDOW_BYTES)
    for each in (first, second):
        with pytest.raises(atlas.StateError, match="nest"):
            each.__exit__(None, None, None)
    assert scrubber.scan()
    lost = domain.transaction()
    lost.__enter__()
    add(small, 0)
    del lost
    gc.collect()
    assert scrubber.scan()


@pytest.mark.parametrize("count", slow_but([2000], [2000, 100_000]))
@pytest.mark.parametrize("of_region", [False, True])
def test_no_false_report_in_many_transactions_while_passes_read(
    count: int, of_region: bool
) -> None:
    buf = atlas.Region(2 * WINDOW_BYTES) if of_region else bytearray(2 * WINDOW_BYTES)
    told = Told()
    with (
        memoryview(buf) as data,
        atlas.Domain(bytes=2 * WINDOW_BYTES + 1) as domain,
        scrubber_of(buf, every=0, on_damage=told, share=1) as scrubber,
    ):
        domain.attach(buf)
        transaction = domain.transaction()
        for number in range(count):
            with transaction:
                add(data, number % WINDOW_BYTES, WINDOW_BYTES + number % 7)
                if of_region:
                    data[7] = number % 96
        assert told.reports == []
        assert scrubber.scan()
        data[5] ^= 1
        assert windows_of(told.wait(1)) == [0]


def test_transactions_on_a_region_tell_of_its_balance_too() -> None:
    told = Told()
    with (
        atlas.Region(5 * WINDOW_BYTES) as region,  # the balance is alone in the last window
        scrubber_of(region, on_damage=told) as scrubber,
        atlas.Domain(bytes=region.size) as domain,
    ):
        domain.attach(region)
        assert scrubber.scan().windows == 6
        data = memoryview(region)
        for start, stop in ((0, None), (WINDOW_BYTES, 2 * WINDOW_BYTES), (-1, None)):
            with domain.transaction(start, stop):
                data[start] = 1
                assert scrubber.scan().holds is None
            assert scrubber.scan()
            with contextlib.suppress(KeyError), domain.transaction():
                with domain.transaction(start, stop):
                    data[start] = 7
                raise KeyError
            assert scrubber.scan()
        assert told.reports == []
        data[WINDOW_BYTES] ^= 1
        with pytest.raises(atlas.ConservationError), domain.transaction():
            pass
        assert windows_of(scrubber.scan()) == [1]
        data.release()


def test_a_region_is_taken_whole_and_by_reference() -> None:
    region = atlas.Region(100)
    witness = atlas.TreeWitness.generate(region)
    assert witness.length == region.size
    scrubber = atlas.Scrubber({"region": (region, witness)})
    with pytest.raises(atlas.StateError, match="scrubber"):  # not a BufferError: it is no export
        region.close()
    assert scrubber.scan()
    scrubber.close()
    region.close()
    with pytest.raises(atlas.StateError, match="closed"):
        atlas.Scrubber({"region": (region, witness)})


def test_regions_are_sealed_while_passes_read_them() -> None:
    told = Told()
    for number in range(50):
        with (
            atlas.Region(300 * WINDOW_BYTES) as region,
            atlas.Domain(bytes=region.size) as domain,
        ):
            atlas.conserved_fill(region, number)
            domain.attach(region)
            with scrubber_of(region, every=0, on_damage=told, share=1) as scrubber:
                witness = domain.commit(seal=True)
                assert region.sealed
                assert scrubber.running
                assert scrubber.scan()
            assert witness.verify(region)
    assert told.reports == []


@pytest.mark.skipif(sys.platform != "linux", reason="seals are Linux's")
def test_a_region_is_watched_after_its_seal_and_so_is_another_of_its_memory() -> None:
    told = Told()
    with (
        atlas.Region(3 * WINDOW_BYTES) as region,
        atlas.Domain(bytes=region.size) as domain,
        scrubber_of(region, on_damage=told) as scrubber,
    ):
        domain.attach(region)
        assert scrubber.scan()
        domain.commit(seal=True)
        assert scrubber.scan()
        with (
            atlas.Region.from_fd(region.fileno()) as same,
            contextlib.closing(scrubber_of(same)) as other,
        ):
            assert other.scan()
            flip_as_memory_does(region, WINDOW_BYTES + 1)
            assert windows_of(scrubber.scan()) == [1]
            assert other.scan()  # the sealed bytes are as they were
        assert [windows_of(report) for report in told.reports] == [[1]]


def flip_as_memory_does(region: atlas.Region, index: int) -> None:
    """Flip a bit of a sealed region where its process sees it: in a private copy of the page."""
    page = mmap.PAGESIZE
    address = int(numpy.frombuffer(region, numpy.uint8).ctypes.data) + index
    start = address - address % page
    offset = start - (address - index)
    place = ctypes.CDLL(None, use_errno=True).mmap
    place.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    place.restype = ctypes.c_void_p
    flags = mmap.MAP_PRIVATE | MAP_FIXED
    got = place(start, page, mmap.PROT_READ | mmap.PROT_WRITE, flags, region.fileno(), offset)
    assert got == start
    ctypes.c_uint8.from_address(address).value ^= 4


def test_a_scrubber_that_is_gone_is_told_nothing(small: bytearray, domain: atlas.Domain) -> None:
    scrubber = scrubber_of(small)
    with domain.transaction():
        scrubber.close()
        del scrubber
        gc.collect()
        add(small, 0)


# --- the buffers ---


def test_a_buffer_stays_exported_until_the_scrubber_is_closed(data: bytearray) -> None:
    scrubber = scrubber_of(data)
    with pytest.raises(BufferError):
        data.append(0)
    scrubber.close()
    scrubber.close()
    data.append(0)
    for call in (scrubber.start, scrubber.scan, lambda: scrubber.update("data", [0])):
        with pytest.raises((atlas.StateError, ValueError)):
            call()
    assert repr(scrubber) == "<Scrubber closed>"


def test_an_argument_that_cannot_work_is_refused(data: bytearray) -> None:
    witness = atlas.TreeWitness.generate(data)
    for targets, error, text in (
        ({}, ValueError, "targets is empty"),
        ([(data, witness)], TypeError, "must be a mapping"),
        ({7: (data, witness)}, TypeError, "must be str"),
        ({"data": data}, TypeError, "must be a buffer and its witness"),
        ({"data": (data, atlas.Witness.generate(data))}, TypeError, "must be a TreeWitness"),
        ({"data": (7, witness)}, TypeError, "must be a buffer"),
        ({"data": (data[1:], witness)}, ValueError, "the length of its witness"),
        ({"data": (b"", atlas.TreeWitness.generate(b""))}, ValueError, "is empty"),
        (
            {"data": (data, atlas.TreeWitness.generate(data, leaves=False))},
            atlas.StateError,
            r"no leaves.*with_leaves\(\)",
        ),
    ):
        with pytest.raises(error, match=text):
            atlas.Scrubber(targets)  # type: ignore[arg-type]
    view = memoryview(bytes(data))
    view.release()
    with pytest.raises(BufferError, match="released"):
        atlas.Scrubber({"data": (view, witness)})
    for options, error in (
        ({"share": 0}, ValueError),
        ({"share": 1.01}, ValueError),
        ({"share": True}, TypeError),
        ({"every": -1}, ValueError),
        ({"every": float("nan")}, ValueError),
        ({"every": "1s"}, TypeError),
        ({"on_damage": "mail"}, TypeError),
    ):
        with pytest.raises(error, match=next(iter(options))):
            atlas.Scrubber({"data": (data, witness)}, **options)
    scrubber = atlas.Scrubber({"data": (data, witness)})
    with pytest.raises(ValueError, match="on_damage is None"):
        scrubber.start()
    for call in (
        lambda: scrubber.update("other", [0]),
        lambda: scrubber.update("data", [6]),
        lambda: scrubber.changing("data", [-1]),
        lambda: scrubber.update("data", [0], atlas.TreeWitness.generate(b"other")),
    ):
        with pytest.raises(ValueError, match=r"name|window|length"):
            call()
    with pytest.raises(TypeError):
        scrubber.update("data", ["0"])  # type: ignore[list-item]


@pytest.mark.skipif(sys.platform != "linux", reason="the system is asked as Linux is")
def test_a_mapped_file_that_another_shortens_is_unreadable_and_does_not_kill(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights"
    content = noise(600 * WINDOW_BYTES)
    path.write_bytes(content)
    code = f"""
        import mmap, os, sys
        import atlas12288 as atlas
        file = open({str(path)!r}, "r+b")
        data = mmap.mmap(file.fileno(), 0)
        told = []
        scrubber = atlas.Scrubber(
            {{"data": (data, atlas.TreeWitness.generate(data))}}, on_damage=told.append
        )
        (target,) = scrubber._known().values()
        assert scrubber.scan()
        os.truncate({str(path)!r}, 12288 * 300)
        if target.watch.read_error(400, 401) == 0:
            print("the system does not say")
            sys.exit()
        for _ in range(2):
            report = scrubber.scan()
            assert report.holds is None
            (each,) = report.unreadable
            assert [run[:2] for run in each.ranges] == [(300, 600)], each
            assert str(each).endswith("; bytes [3686400, 7372800), windows 300 to 599"), each
        assert sum(each.windows for each in told) == 300
        with open({str(path)!r}, "r+b") as again:
            again.truncate(600 * 12288)
        report = scrubber.scan()  # zeros now
        runs = [run for each in report.changed for run in each.ranges]
        assert sum(run.stop - run.first for run in runs) == 300, report
    """
    assert run_python(code) in ("", "the system does not say\n")


def run_python(code: str, expected: int = 0) -> str:
    """Run code in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert done.returncode == expected, f"{done.stdout}\n{done.stderr}"
    return done.stdout


RUNNING = """
import os, signal, sys, threading, time
import atlas12288 as atlas
data = bytearray(100 * 12288)
told = threading.Event()
scrubber = atlas.Scrubber(
    {"data": (data, atlas.TreeWitness.generate(data))},
    every=0, share=1, on_damage=lambda report: told.set(),
)
scrubber.start()
"""


def test_the_thread_ends_at_the_exit_of_the_interpreter() -> None:
    assert run_python(RUNNING + "print('end')") == "end\n"
    assert run_python(RUNNING + "sys.exit(3)", expected=3) == ""


def test_ctrl_c_ends_a_with_block_and_the_thread() -> None:
    code = """
scrubber.stop()
try:
    with scrubber:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
except KeyboardInterrupt:
    print(scrubber)
"""
    assert run_python(RUNNING + code) == "<Scrubber closed>\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_process_has_no_thread_until_it_starts_one() -> None:
    code = """
child = os.fork()
if child == 0:
    assert not scrubber.running
    assert scrubber.scan()
    data[0] ^= 1
    scrubber.start()
    assert told.wait(30)
    scrubber.close()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert scrubber.running and scrubber.scan()
"""
    run_python(RUNNING + code)


# --- the native part ---


def test_a_watch_refuses_other_leaves_and_windows() -> None:
    data = noise(2 * WINDOW_BYTES)
    leaves = atlas.TreeWitness.generate(data).leaves
    assert leaves is not None
    with pytest.raises(ValueError, match="has 1 hashes, must have one for 2 windows"):
        _native.Watch(data, leaves[:32])
    watch = _native.Watch(data, leaves)
    assert watch.windows == 2
    for first, stop in ((0, 0), (1, 3), (2, 1)):
        with pytest.raises(ValueError, match="must be windows of 2"):
            watch.change([(0, 1), (first, stop)])
        for call in (watch.residues_differ, watch.leaves_differ, watch.read_error):
            with pytest.raises(ValueError, match="must be windows of 2"):
                call(first, stop)
    with pytest.raises(ValueError, match="must be windows of 2"):
        watch.judge(2)
    with pytest.raises(ValueError, match="leaf has 31 bytes"):
        watch.expect(0, leaves[:31])
    assert watch.residues_differ(0, 2) == [0, 1]  # not known yet
    assert watch.leaves_differ(0, 2) == []
    assert watch.residues_differ(0, 2) == []


# --- hostile arguments, callbacks and moments ---


@pytest.mark.parametrize(
    "value", [1, 1.0, numpy.int64(1), numpy.float32(1), Fraction(1), Decimal(1)]
)
def test_a_number_of_any_type_is_one(data: bytearray, value: Any) -> None:
    scrubber_of(data, every=value, share=value).close()


@pytest.mark.parametrize("value", [True, "1", b"1", 1j, None, [1]])
@pytest.mark.parametrize("name", ["every", "share"])
def test_what_is_no_number_is_refused(data: bytearray, name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name} is of type {type(value).__name__}, must be a num"):
        scrubber_of(data, **{name: value})


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 1e10, 10**400, -(10**400)])
@pytest.mark.parametrize("name", ["every", "share"])
def test_a_number_that_no_wait_can_have_is_refused(
    data: bytearray, name: str, value: float
) -> None:
    with pytest.raises(ValueError, match=rf"{name} is \S+, must be "):
        scrubber_of(data, **{name: value})


@pytest.mark.parametrize(
    "options", [{"every": threading.TIMEOUT_MAX}, {"share": 1e-300}, {"share": 5e-324}]
)
def test_the_longest_waits_leave_the_thread_running(
    data: bytearray, options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", errors.append)
    monkeypatch.setattr(threading, "excepthook", errors.append)
    waits: list[float] = []
    wait = _pace.Stop.wait

    def waiting(stop: Any, seconds: float) -> bool:
        waits.append(seconds)
        return wait(stop, seconds)

    monkeypatch.setattr(_pace.Stop, "wait", waiting)
    scrubber = scrubber_of(data, on_damage=print, **options)
    scrubber.start()
    wait_until(lambda: bool(waits))
    assert scrubber.running
    scrubber.stop()
    assert (scrubber.running, errors) == (False, [])


def test_a_thread_that_the_system_does_not_give_leaves_nothing_behind(
    data: bytearray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    scrubber = scrubber_of(data, on_damage=print)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            scrubber.start()
        assert not scrubber.running
        scrubber.stop()
    scrubber.start()
    assert scrubber.running
    scrubber.close()
    data.extend(b"1")  # it was given back


def test_a_change_begins_with_its_block_and_not_before(data: bytearray) -> None:
    scrubber = scrubber_of(data)
    assert scrubber.scan().holds
    change = scrubber.changing("data", [0])
    data[5] ^= 1
    assert windows_of(scrubber.scan()) == [0]
    data[5] ^= 1
    with change:
        data[6] ^= 1
        assert scrubber.scan().holds is None
    assert scrubber.scan().holds


def test_an_interrupt_at_any_line_of_a_change_leaves_none_open(data: bytearray) -> None:
    scrubber = scrubber_of(data)
    assert scrubber.scan().holds
    line, left, before = 0, 0, sys.gettrace()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    while left == 0:
        line += 1
        left = line
        sys.settrace(trace)
        try:  # suppress() would be interrupted too
            with scrubber.changing("data", [0, 2]):
                pass
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        assert scrubber.scan().holds, line
    assert line > 5


CALLS: dict[str, Callable[[atlas.Scrubber], object]] = {
    "scan": lambda scrubber: scrubber.scan(),
    "stop": lambda scrubber: scrubber.stop(),
    "close": lambda scrubber: scrubber.close(),
    "start": lambda scrubber: scrubber.start(),
    "stop and start": lambda scrubber: (scrubber.stop(), scrubber.start()),
    "update": lambda scrubber: scrubber.update("data", [0]),
    "a change": lambda scrubber: scrubber.changing("data").__enter__(),
}


@pytest.mark.parametrize("name", CALLS)
def test_on_damage_may_call_the_scrubber_and_damage_is_told_once(
    data: bytearray, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: errors.append(each.exc_value))
    reports: list[ScrubReport] = []
    passes: list[int] = []

    def on_damage(report: ScrubReport) -> None:
        reports.append(report)
        CALLS[name](scrubber)
        passes.append(scrubber._passes)

    scrubber = scrubber_of(data, on_damage=on_damage, every=0.001, share=1)
    data[0] ^= 1
    scrubber.start()
    wait_until(lambda: bool(passes) or bool(errors))
    if name not in ("stop", "close"):
        wait_until(lambda: scrubber._passes > 5)
    scrubber.close()
    assert len(reports) == 1
    assert [type(each) for each in errors] == ([atlas.StateError] if name == "start" else [])


def test_a_handler_of_signals_may_stop_it_at_any_line(data: bytearray) -> None:
    ends: list[int] = []

    def start_and_stop_with_a_stop_at(line: int) -> bool:
        """Return whether there was such a line."""
        left = line

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            if event == "line":
                left -= 1
                if left == 0:
                    sys.settrace(None)
                    scrubber.stop()
            return trace

        scrubber = scrubber_of(data, on_damage=print)
        sys.settrace(trace)
        scrubber.start()
        scrubber.stop()
        sys.settrace(None)
        assert not scrubber.running
        scrubber.close()
        return left <= 0

    def each_line() -> None:
        line = 1
        while start_and_stop_with_a_stop_at(line):
            line += 1
        ends.append(line)

    before = sys.gettrace()
    thread = threading.Thread(target=each_line, daemon=True)
    thread.start()
    thread.join(60)
    sys.settrace(before)
    assert ends
    assert ends[0] > 20


def test_a_child_that_on_damage_forks_does_not_go_on_with_the_passes() -> None:
    code = """
import os, threading
import atlas12288 as atlas

data = bytearray(100_000)
witness = atlas.TreeWitness.generate(data)
data[5] = 1
ends, heard = os.pipe(), threading.Event()

def on_damage(report):
    child = os.fork()
    if child == 0:
        print("child:", scrubber.running, flush=True)
        return
    os.waitpid(child, 0)
    heard.set()

scrubber = atlas.Scrubber({"data": (data, witness)}, every=0.001, on_damage=on_damage)
with scrubber:
    heard.wait()
    print("parent:", scrubber.running)
"""
    assert run_python(code) == "child: False\nparent: True\n"
