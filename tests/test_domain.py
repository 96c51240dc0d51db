# SPDX-License-Identifier: Apache-2.0
"""Domains from Python: life, attachment, verdicts, commit, transactions."""

import asyncio
import contextvars
import copy
import gc
import inspect
import mmap
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
from support import model, strategies

CONSERVED = strategies.conserved_everywhere(model.WINDOW_BYTES)


def domain_of(region: object, budget_class: int = 50) -> atlas.Domain:
    domain = atlas.Domain(bytes=model.WINDOW_BYTES, budget_class=budget_class)
    domain.attach(region)
    return domain


# --- Life ---


def test_a_new_domain_is_open_and_holds_its_budget_class_and_nothing_else() -> None:
    domain = atlas.Domain(bytes=100, budget_class=95)
    assert domain.bytes == 100
    assert domain.state is atlas.State.OPEN
    assert domain.budget.available == 95
    assert domain.attached is None
    assert domain.witness is None
    assert not domain.closed


def test_the_budget_class_is_0_where_none_is_given() -> None:
    assert atlas.Domain(1).budget.available == 0


def test_with_closes_the_domain_and_lets_the_exception_of_the_body_pass() -> None:
    with pytest.raises(KeyError), atlas.Domain(1) as domain:
        raise KeyError
    assert domain.closed


def test_close_is_idempotent() -> None:
    domain = domain_of(bytearray(CONSERVED))
    domain.close()
    domain.close()
    assert domain.closed


@pytest.mark.parametrize(
    "call",
    [
        lambda d: d.attach(bytearray(1)),
        lambda d: d.verify(),
        lambda d: d.commit(),
        lambda d: d.transaction(),
        lambda d: d.__enter__(),
        lambda d: d.state,
        lambda d: d.witness,
        lambda d: d.attached,
        lambda d: d.budget,
    ],
)
def test_after_close_every_method_raises_state_error(
    call: Callable[[atlas.Domain], object],
) -> None:
    domain = domain_of(bytearray(CONSERVED))
    domain.close()
    with pytest.raises(atlas.StateError, match="the domain is closed"):
        call(domain)


def test_a_budget_and_a_transaction_of_a_closed_domain_raise_state_error() -> None:
    domain = domain_of(bytearray(CONSERVED))
    budget, lease, transaction = domain.budget, domain.budget.lease(1), domain.transaction()
    domain.close()
    for call in (
        lambda: budget.available,
        lambda: budget.alloc(1),
        lambda: budget.release(1),
        lambda: budget.lease(1),
        lease.__enter__,
        transaction.__enter__,
    ):
        with pytest.raises(atlas.StateError, match="the domain is closed"):
            call()


def test_a_domain_is_initialised_once() -> None:
    domain = domain_of(bytearray(CONSERVED), budget_class=7)
    with pytest.raises(atlas.StateError):
        domain.__init__(bytes=1)  # type: ignore[misc]
    assert domain.bytes == model.WINDOW_BYTES
    assert domain.budget.available == 7


def test_a_domain_that_was_not_initialised_is_closed() -> None:
    with pytest.raises(atlas.StateError):
        atlas.Domain.__new__(atlas.Domain).verify()


def test_a_subclass_may_have_its_own_arguments() -> None:
    class Guard(atlas.Domain):
        def __init__(self, region: bytearray) -> None:
            super().__init__(bytes=len(region))
            self.attach(region)

    assert Guard(bytearray(CONSERVED)).verify()


def test_a_domain_cannot_be_pickled_or_copied() -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="Domain cannot be pickled"):
            attempt(atlas.Domain(1))


def test_repr_tells_state_lengths_and_budget() -> None:
    domain = domain_of(bytearray(96), budget_class=5)
    assert repr(domain) == "<Domain OPEN: 96 of 12288 bytes attached, budget 5>"
    domain.commit()
    assert repr(domain).startswith("<Domain COMMITTED: 96 of 12288")
    domain.close()
    assert repr(domain) == "<Domain closed>"


def test_a_state_prints_as_its_name() -> None:
    assert f"{atlas.State.OPEN} {atlas.State.COMMITTED!s}" == "OPEN COMMITTED"


def test_inspect_knows_the_arguments() -> None:
    assert str(inspect.signature(atlas.Domain)) == "(bytes, budget_class=0)"
    signature = "(buf, /, *, stream=None, host=False)"
    assert str(inspect.signature(atlas.residue)) == signature


# --- Attachment ---


@pytest.mark.parametrize("length", [1, model.WINDOW_BYTES - 1, model.WINDOW_BYTES])
def test_a_region_up_to_the_capacity_attaches(length: int) -> None:
    assert domain_of(bytes(length)).attached == bytes(length)


@pytest.mark.parametrize("length", [0, model.WINDOW_BYTES + 1])
def test_an_empty_region_and_one_beyond_the_capacity_are_refused(length: int) -> None:
    domain = atlas.Domain(bytes=model.WINDOW_BYTES)
    region = bytearray(length)
    with pytest.raises(atlas.DomainMemoryError, match=rf"len is {length}, must be in 1\.\.12288"):
        domain.attach(region)
    assert domain.attached is None
    region.append(0)  # a refused region is not kept


def test_the_first_attachment_stands() -> None:
    first, second = bytearray(CONSERVED), bytearray(1)
    domain = domain_of(first)
    with pytest.raises(atlas.StateError):
        domain.attach(second)
    second.append(0)
    assert domain.attached == first


def test_a_committed_domain_attaches_nothing() -> None:
    domain = domain_of(CONSERVED)
    domain.commit()
    with pytest.raises(atlas.StateError):
        domain.attach(bytearray(1))
    assert domain.state is atlas.State.COMMITTED


def test_attached_is_a_view_of_the_bytes_themselves() -> None:
    region = bytearray(CONSERVED)
    view = domain_of(region).attached
    assert view is not None
    assert (view.format, view.ndim, view.readonly) == ("B", 1, False)
    view[0] = 77
    assert region[0] == 77


def test_attached_is_read_only_where_the_buffer_is() -> None:
    view = domain_of(CONSERVED).attached
    assert view is not None
    assert view.readonly


def test_an_attached_bytearray_cannot_be_resized_until_the_domain_is_closed() -> None:
    region = bytearray(CONSERVED)
    domain = domain_of(region)
    with pytest.raises(BufferError):
        region.append(0)
    domain.close()
    region.append(0)


def test_an_attached_mmap_cannot_be_closed_until_the_domain_is_closed() -> None:
    region = mmap.mmap(-1, model.WINDOW_BYTES)
    domain = domain_of(region)
    with pytest.raises(BufferError):
        region.close()
    domain.close()
    region.close()


def test_a_domain_that_is_dropped_gives_its_region_back() -> None:
    region = bytearray(CONSERVED)
    domain = domain_of(region)
    budget = domain.budget
    del domain, budget
    region.append(0)


def test_a_region_that_refers_to_its_own_domain_is_collected() -> None:
    class Frame(bytearray):
        domain: atlas.Domain

    region = Frame(CONSERVED)
    region.domain = domain_of(region)
    alive = [thing for thing in gc.get_objects() if type(thing) is Frame]
    assert len(alive) == 1
    del region, alive
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Frame]


@pytest.mark.parametrize(
    "hold", [domain_of, atlas._native.bytes_of], ids=["a domain", "a view of bytes"]
)
def test_the_collector_gives_the_memory_of_a_cycle_back(hold: Callable[[object], object]) -> None:
    memory = bytearray(CONSERVED)
    cycle: list[object] = [hold(memoryview(memory))]
    cycle.append(cycle)
    with pytest.raises(BufferError):
        memory.append(0)
    del cycle
    gc.collect()
    memory.append(0)


def test_each_domain_of_a_region_judges_it_for_itself() -> None:
    region = bytearray(CONSERVED)
    first, second = domain_of(region, 1), domain_of(region, 2)
    first.commit()
    first.budget.alloc(1)
    assert second.state is atlas.State.OPEN
    assert second.budget.available == 2
    second.commit()
    assert first.verify()
    assert second.verify()


# --- Verdicts and commit ---


@pytest.mark.parametrize("call", [atlas.Domain.verify, atlas.Domain.commit])
def test_a_verdict_needs_an_attached_region(call: Callable[[atlas.Domain], object]) -> None:
    with pytest.raises(atlas.StateError, match="must have one attached"):
        call(atlas.Domain(1))


@given(strategies.buffers().filter(len))
def test_verify_and_commit_of_an_open_domain_follow_the_law(data: bytes) -> None:
    domain = atlas.Domain(bytes=len(data))
    domain.attach(data)
    residue = model.residue(data)
    assert domain.verify() == (residue == 0)
    if residue == 0:
        assert domain.commit().length == len(data)
    else:
        with pytest.raises(atlas.ConservationError, match=rf"is {residue}, must be 0"):
            domain.commit()
        assert domain.state is atlas.State.OPEN
        assert domain.witness is None


def test_commit_returns_the_witness_that_the_domain_keeps() -> None:
    region = bytearray(CONSERVED)
    domain = domain_of(region)
    witness = domain.commit()
    assert domain.state is atlas.State.COMMITTED
    assert domain.witness == witness
    assert witness.verify(region)
    domain.close()
    assert witness.verify(region)


def test_a_second_commit_raises_state_error_and_the_witness_stays() -> None:
    domain = domain_of(CONSERVED)
    witness = domain.commit()
    with pytest.raises(atlas.StateError, match="the domain is COMMITTED"):
        domain.commit()
    assert domain.witness == witness


def test_verify_of_a_committed_domain_sees_a_change_that_keeps_the_residue() -> None:
    region = bytearray(b"\x01\x5f" * 48)
    domain = domain_of(region)
    domain.commit()
    region[0], region[1] = region[1], region[0]
    assert atlas.is_conserved(region)
    assert not domain.verify()
    region[0], region[1] = region[1], region[0]
    assert domain.verify()


def test_verify_of_a_committed_domain_sees_a_change_of_the_residue() -> None:
    region = bytearray(CONSERVED)
    domain = domain_of(region)
    domain.commit()
    region[5] ^= 1
    assert not domain.verify()


# --- Transactions ---


def test_a_transaction_that_keeps_the_law_keeps_the_changes() -> None:
    region = bytearray(CONSERVED)
    domain = domain_of(region)
    with domain.transaction():
        region[0] = (region[0] + 1) % 256
        atlas.fixup(region)
    assert region != CONSERVED
    assert domain.verify()


def test_a_transaction_that_breaks_the_law_restores_the_bytes_and_raises() -> None:
    region = bytearray(model.WINDOW_BYTES)
    domain = domain_of(region)
    rule = "is 31 after the transaction, must be 0"
    with pytest.raises(atlas.ConservationError, match=rule), domain.transaction():
        region[0] = 31
    assert region == bytes(model.WINDOW_BYTES)


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("value", [1, 96])
def test_a_body_that_raises_restores_the_bytes_and_its_exception_passes(
    error: type[BaseException], value: int
) -> None:
    region = bytearray(model.WINDOW_BYTES)
    domain = domain_of(region)
    with pytest.raises(error), domain.transaction():  # noqa: PT012 - the body is what is tested
        region[0] = value
        raise error
    assert region == bytes(model.WINDOW_BYTES)


@given(strategies.pairs_of_equal_length().filter(lambda pair: len(pair[0]) > 0), st.booleans())
def test_a_transaction_leaves_the_change_or_the_bytes_of_before(
    pair: tuple[bytes, bytes], fails: bool
) -> None:
    before, after = pair
    region = bytearray(before)
    domain = atlas.Domain(bytes=len(region))
    domain.attach(region)
    holds = not fails and model.residue(after) == 0
    try:
        with domain.transaction():
            region[:] = after
            if fails:
                raise KeyError
    except (KeyError, atlas.ConservationError):
        assert not holds
        assert region == before
    else:
        assert holds
        assert region == after


def test_transactions_nest_and_each_restores_to_its_own_start() -> None:
    region = bytearray(96)
    domain = domain_of(region)
    with domain.transaction():
        region[0] = 96
        with pytest.raises(atlas.ConservationError), domain.transaction():
            region[1] = 1
        assert region[:2] == b"\x60\x00"
        region[2] = 96
    assert region[:3] == b"\x60\x00\x60"


@given(
    strategies.pairs_of_equal_length(most=300).filter(lambda pair: len(pair[0]) > 0),
    st.data(),
    st.booleans(),
)
def test_a_transaction_of_a_range_restores_that_alone(
    pair: tuple[bytes, bytes], draw: st.DataObject, fails: bool
) -> None:
    before, after = pair
    start, stop = sorted(draw.draw(st.tuples(*[st.integers(0, len(before))] * 2)))
    shift = draw.draw(st.sampled_from((0, len(before))))  # the same index from the end
    region = bytearray(before)
    domain = atlas.Domain(bytes=len(region))
    domain.attach(region)
    holds = not fails and model.residue(after) == 0
    raised: Exception | None = None
    # The end has no index from the end.
    bounds = [at if at == len(before) else at - shift for at in (start, stop)]
    try:
        with domain.transaction(*bounds):
            region[:] = after
            if fails:
                raise KeyError
    except (KeyError, atlas.ConservationError) as error:
        raised = error
    assert type(raised) is (KeyError if fails else type(None) if holds else atlas.ConservationError)
    if not fails and not holds:
        whole = (start, stop) == (0, len(before))
        parts = "they are restored" if whole else f"of them {start}..{stop} are restored"
        assert str(raised).endswith(parts)
    assert region == (after if holds else after[:start] + before[start:stop] + after[stop:])


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [
        (97, None, r"start is 97, must be in -96\.\.96"),
        (-97, None, r"start is -97, must be in -96\.\.96"),
        (0, 97, r"stop is 97, must be in -96\.\.96"),
        (0, 2**64, r"stop is 18446744073709551616, must be in -96\.\.96"),
        (5, 4, "start is 5, must not be behind stop, 4, of 96 bytes"),
        (-1, 94, "start is -1, must not be behind stop, 94, of 96 bytes"),
    ],
)
@pytest.mark.parametrize("buffer", [bytearray, atlas.Region])
def test_a_range_outside_the_bytes_is_an_index_error(
    start: int, stop: int | None, message: str, buffer: Callable[[int], object]
) -> None:
    domain = atlas.Domain(97)
    domain.attach(buffer(96))
    with pytest.raises(IndexError, match=message), domain.transaction(start, stop):
        pytest.fail("entered")
    with domain.transaction():
        pass


@pytest.mark.parametrize("bound", [True, 1.5, "1"])
def test_the_bounds_of_a_range_are_ints(bound: Any) -> None:
    domain = domain_of(bytearray(96))
    with pytest.raises(TypeError, match=r"start is of type .*, must be an int"):
        domain.transaction(bound)
    with pytest.raises(TypeError, match=r"stop is of type .*, must be an int"):
        domain.transaction(0, stop=bound)


@pytest.mark.parametrize(("start", "stop"), [(0, None), (9, 20), (10, 21), (0, 10), (21, 30)])
def test_a_transaction_of_other_bytes_is_not_entered_in_the_body_of_one(
    start: int, stop: int | None
) -> None:
    domain = domain_of(bytearray(96))
    with domain.transaction(10, 20):
        with (
            pytest.raises(atlas.StateError, match=r"must be within 10\.\.20"),
            domain.transaction(start, stop),
        ):
            pytest.fail("entered")
        with domain.transaction(10, 20), domain.transaction(12, 12):
            pass


def test_a_transaction_of_a_range_copies_that_alone() -> None:
    domain = atlas.Domain(1 << 24)
    domain.attach(bytearray(1 << 24))
    tracemalloc.start()
    with domain.transaction(-100), domain.transaction(-100, -1):
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    tracemalloc.stop()


def test_commit_inside_a_transaction_raises_state_error() -> None:
    domain = domain_of(bytearray(CONSERVED))
    with domain.transaction(), domain.transaction():
        pass
    with domain.transaction():
        with domain.transaction():
            pass
        with pytest.raises(atlas.StateError, match="a transaction is open"):
            domain.commit()
    domain.commit()


def test_a_transaction_needs_a_writable_buffer() -> None:
    domain = domain_of(CONSERVED)
    with pytest.raises(BufferError, match="attached buffer is read-only"):
        domain.transaction().__enter__()
    domain.commit()


def test_a_transaction_needs_an_attached_region() -> None:
    with pytest.raises(atlas.StateError, match="must have one attached"):
        atlas.Domain(1).transaction().__enter__()


def test_a_transaction_needs_an_open_domain() -> None:
    domain = domain_of(bytearray(CONSERVED))
    domain.commit()
    with pytest.raises(atlas.StateError, match="the domain is COMMITTED"):
        domain.transaction().__enter__()
    assert domain.verify()


def test_a_transaction_restores_though_its_body_closed_the_domain() -> None:
    region = bytearray(96)
    domain = domain_of(region)
    with pytest.raises(atlas.ConservationError), domain.transaction():  # noqa: PT012
        region[0] = 1
        domain.close()
    assert region == bytes(96)
    region.append(0)  # and gives the buffer back


def test_a_closed_domain_does_not_mask_the_exception_of_the_body() -> None:
    region = bytearray(96)
    domain = domain_of(region)
    with pytest.raises(KeyError), domain.transaction(), domain.budget.lease(10):  # noqa: PT012
        region[0] = 1
        domain.close()
        raise KeyError
    assert region == bytes(96)


def test_a_transaction_is_entered_again_only_after_its_end() -> None:
    region = bytearray(96)
    transaction = domain_of(region).transaction()
    for _ in range(2):
        with transaction, pytest.raises(atlas.StateError, match="the transaction is open"):
            transaction.__enter__()
    with pytest.raises(atlas.StateError, match="the transaction is not open"):
        transaction.__exit__(None, None, None)


# --- Transactions that do not nest ---


def pair_moved(region: bytearray, at: int) -> None:
    """A change that keeps the law."""
    region[at] += 50
    region[at + 1] += 46


def test_a_transaction_of_another_task_is_refused_while_one_is_open() -> None:
    region = bytearray(192)
    domain = domain_of(region)

    async def first() -> None:
        with domain.transaction():
            pair_moved(region, 0)
            await asyncio.sleep(0.02)
            with domain.transaction():  # in its own body
                pair_moved(region, 2)

    async def second() -> None:
        await asyncio.sleep(0.01)
        with domain.transaction():
            pair_moved(region, 100)

    async def both() -> list[BaseException | None]:
        return await asyncio.gather(first(), second(), return_exceptions=True)

    results = asyncio.run(both())
    assert results[0] is None
    assert isinstance(results[1], atlas.StateError)
    assert region == bytes([50, 46, 50, 46, *bytes(188)])


def test_of_tasks_in_the_body_of_a_transaction_one_at_a_time_may_enter_another() -> None:
    region = bytearray(192)
    domain = domain_of(region)

    async def inner(at: int) -> None:
        with domain.transaction():
            pair_moved(region, at)
            await asyncio.sleep(0.01)

    async def outer() -> list[BaseException | None]:
        with domain.transaction():
            await asyncio.create_task(inner(0))
            return await asyncio.gather(inner(2), inner(4), return_exceptions=True)

    results = asyncio.run(outer())
    assert results[0] is None
    assert isinstance(results[1], atlas.StateError)
    assert region == bytes([50, 46, 50, 46, *bytes(188)])


def test_a_transaction_of_another_thread_is_refused_while_one_is_open() -> None:
    region = bytearray(96)
    domain = domain_of(region)
    with ThreadPoolExecutor(1) as pool:
        with domain.transaction():
            with pytest.raises(atlas.StateError, match="open in another thread or task"):
                pool.submit(domain.transaction().__enter__).result()
            pair_moved(region, 0)
        pool.submit(domain.transaction().__enter__).result()
        with pytest.raises(atlas.StateError, match="open in another thread or task"):
            domain.transaction().__enter__()
    assert region == bytes([50, 46, *bytes(94)])


@pytest.mark.parametrize("outer_fails", [True, False])
@pytest.mark.parametrize("inner_fails", [True, False])
def test_transactions_that_are_left_in_another_order_lose_no_change(
    outer_fails: bool, inner_fails: bool
) -> None:
    region = bytearray(96)
    domain = domain_of(region)

    def body(at: int, fails: bool) -> Iterator[None]:
        with domain.transaction():
            pair_moved(region, at)
            yield
            pair_moved(region, at + 2)
            if fails:
                raise KeyError

    outer, inner = body(0, outer_fails), body(10, inner_fails)
    next(outer)
    next(inner)
    for one, fails in ((outer, outer_fails), (inner, inner_fails)):
        with pytest.raises(atlas.StateError, match=r"does not nest.*nothing is restored") as caught:
            next(one)
        assert isinstance(caught.value.__context__, KeyError) == fails
    assert region[:4] == region[10:14] == bytes([50, 46, 50, 46])
    with pytest.raises(KeyError), domain.transaction():  # noqa: PT012
        pair_moved(region, 20)
        raise KeyError  # what nests is restored as ever
    assert region[20:22] == bytes(2)
    domain.commit()


def test_a_transaction_left_in_another_context_than_it_was_entered_in_is_left() -> None:
    region = bytearray(96)
    domain = domain_of(region)
    with pytest.raises(KeyError), domain.transaction():  # noqa: PT012
        inner = domain.transaction()
        contextvars.copy_context().run(inner.__enter__)
        with pytest.raises(atlas.StateError, match="open in another thread or task"):
            domain.transaction().__enter__()
        inner.__exit__(None, None, None)
        with domain.transaction():
            pair_moved(region, 0)
        raise KeyError
    assert region == bytes(96)
