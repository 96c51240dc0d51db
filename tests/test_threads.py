# SPDX-License-Identifier: Apache-2.0
"""Python threads: budgets, commits, close during a call, and who holds the GIL."""

import pickle
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import atlas12288 as atlas
from support import model
from support.threads import in_threads

LARGE = 64 << 20  # several milliseconds of work for sums, tens for hashes


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_1000_threads_on_one_budget_lose_and_invent_nothing() -> None:
    budget = atlas.Domain(bytes=1, budget_class=50).budget
    changes: list[int] = []  # append is atomic

    def work(index: int) -> None:
        choice = random.Random(index)
        for _ in range(10):
            amt = choice.randrange(20)
            if choice.random() < 0.5:
                budget.release(amt)
                changes.append(amt)
            else:
                try:
                    budget.alloc(amt)
                    changes.append(-amt)
                except atlas.BudgetError:
                    pass
            assert 0 <= budget.available < model.MODULUS

    in_threads(1000, work)
    assert budget.available == (50 + sum(changes)) % model.MODULUS


def test_leases_of_many_threads_leave_the_budget_as_it_was() -> None:
    budget = atlas.Domain(bytes=1, budget_class=50).budget

    def work(index: int) -> None:
        for _ in range(50):
            try:
                with budget.lease(index % 30):
                    assert budget.available <= 50
            except atlas.BudgetError:
                pass

    in_threads(16, work)
    assert budget.available == 50


@pytest.mark.parametrize("length", [96, model.WINDOW_BYTES, 1 << 20])
def test_of_64_racing_commits_exactly_one_returns_the_witness(length: int) -> None:
    region = bytearray(length)
    domain = atlas.Domain(bytes=length)
    domain.attach(region)
    outcomes: list[atlas.Witness | atlas.StateError] = []

    def work(_: int) -> None:
        try:
            outcomes.append(domain.commit())
        except atlas.StateError as error:
            outcomes.append(error)

    in_threads(64, work)
    witnesses = [outcome for outcome in outcomes if isinstance(outcome, atlas.Witness)]
    assert len(outcomes) == 64
    assert witnesses == [domain.witness]


def test_of_racing_attachments_exactly_one_stands() -> None:
    domain = atlas.Domain(bytes=8)
    regions = [bytearray([index] * 8) for index in range(32)]
    attached: list[int] = []

    def work(index: int) -> None:
        try:
            domain.attach(regions[index])
            attached.append(index)
        except atlas.StateError:
            pass

    in_threads(32, work)
    assert len(attached) == 1
    assert domain.attached == regions[attached[0]]


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("delay_s", [0, 0.0005, 0.002, 0.01])
def test_close_during_verify_waits_for_nothing_and_frees_nothing_in_use(
    committed: bool, delay_s: float
) -> None:
    region = bytearray(LARGE)
    domain = atlas.Domain(bytes=LARGE)
    domain.attach(region)
    if committed:
        domain.commit()
    verdicts: list[bool] = []
    started = threading.Event()

    def verify() -> None:
        started.set()
        try:
            verdicts.append(domain.verify())
        except atlas.StateError:
            verdicts.append(True)  # closed before it began

    thread = threading.Thread(target=verify)
    thread.start()
    started.wait()
    time.sleep(delay_s)
    domain.close()
    thread.join()
    assert verdicts == [True]
    region.append(0)  # given back by whoever was last


def test_a_region_in_use_by_verify_stays_exported_after_close() -> None:
    refused = False
    for _ in range(50):  # until one verify was under way when its domain was closed
        region = bytearray(LARGE)
        domain = atlas.Domain(bytes=LARGE)
        domain.attach(region)
        domain.commit()
        thread = threading.Thread(target=domain.verify)
        thread.start()
        time.sleep(0.005)
        domain.close()
        try:
            region.append(0)
        except BufferError:
            refused = True
        thread.join()
        region.append(0)
        if refused:
            break
    assert refused


def test_racing_closes_of_one_domain_are_one_close() -> None:
    region = bytearray(96)
    domain = atlas.Domain(bytes=96)
    domain.attach(region)
    in_threads(32, lambda _: domain.close())
    region.append(0)


def test_a_residue_may_be_updated_by_many_threads() -> None:
    stream = atlas.Residue()
    in_threads(16, lambda index: [stream.update(bytes([index])) for _ in range(100)] and None)
    assert stream.value == 100 * sum(range(16)) % model.MODULUS


def test_a_witness_stream_refuses_a_second_thread() -> None:
    stream = atlas.WitnessStream()
    chunk = bytes(LARGE)
    refused = 0
    taken = 0

    def work(_: int) -> None:
        nonlocal refused, taken
        try:
            stream.update(chunk)
            taken += 1
        except atlas.StateError:
            refused += 1

    in_threads(4, work)
    assert refused + taken == 4
    assert refused >= 1
    assert stream.witness().length == taken * LARGE


def test_the_state_of_a_stream_in_use_is_refused_and_never_one_in_between() -> None:
    chunk = bytes(LARGE)
    refusals: set[str] = set()
    for _ in range(50):  # until one save met an update
        stream = atlas.WitnessStream()
        saved: list[bytes] = []
        thread = threading.Thread(target=stream.update, args=(chunk,))
        thread.start()
        while thread.is_alive():
            for save in (bytes, pickle.dumps):
                try:
                    saved.append(save(stream))
                except atlas.StateError as error:
                    refusals.add(str(error))
        thread.join()
        ends = [save(atlas.WitnessStream()) for save in (bytes, pickle.dumps)]
        ends += [save(stream) for save in (bytes, pickle.dumps)]
        assert set(saved) <= set(ends)
        if refusals:
            break
    assert refusals == {"the stream is in use by another thread, must not be"}


DATA = bytes(LARGE)
TARGET = bytearray(LARGE)


def verify_attached() -> None:
    domain = atlas.Domain(bytes=LARGE)
    domain.attach(TARGET)
    domain.verify()


def commit_attached() -> None:
    domain = atlas.Domain(bytes=LARGE)
    domain.attach(DATA)
    domain.commit()


def update_stream() -> None:
    atlas.WitnessStream().update(DATA)


def update_tree_hash() -> None:
    atlas.TreeHash().update(DATA)


@pytest.mark.parametrize(
    "work",
    [
        lambda: atlas.residue(DATA),
        lambda: atlas.is_conserved(DATA),
        lambda: atlas.window_residues(DATA),
        lambda: atlas.delta(DATA, TARGET),
        lambda: atlas.conserved_copy(TARGET, DATA),
        lambda: atlas.conserved_fill(TARGET, 96),
        lambda: atlas.fixup(TARGET),
        lambda: atlas.Residue(DATA),
        lambda: atlas.Witness.generate(DATA),
        lambda: atlas.TreeWitness.generate(DATA, threads=1),
        update_stream,
        update_tree_hash,
        verify_attached,
        commit_attached,
    ],
    ids=lambda work: work.__code__.co_names[-1],
)
def test_another_thread_runs_during_long_work(work: Callable[[], object]) -> None:
    ticks: list[int] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter_ns())
            time.sleep(0)

    thread = threading.Thread(target=tick)
    # A thread that waits for the GIL asks for it after this long: not before the work is done.
    sys.setswitchinterval(60)
    thread.start()
    try:
        for _ in range(200):
            begin = time.perf_counter_ns()
            work()
            end = time.perf_counter_ns()
            tenth = (end - begin) // 10
            if any(begin + tenth < at < end - tenth for at in ticks[-100_000:]):
                return
    finally:
        stop.set()
        sys.setswitchinterval(1e-5)
        thread.join()
    pytest.fail("no other thread ran: the GIL was held")
