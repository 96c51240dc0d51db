# SPDX-License-Identifier: Apache-2.0
"""Budgets and leases from Python."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
from support import model

AMOUNTS = st.integers(0, model.MODULUS - 1)


def budget_of(budget_class: int) -> atlas.Budget:
    return atlas.Domain(bytes=1, budget_class=budget_class).budget


@given(AMOUNTS, st.lists(st.tuples(st.booleans(), AMOUNTS), max_size=50))
def test_a_budget_follows_the_arithmetic_mod_96(
    budget_class: int, calls: list[tuple[bool, int]]
) -> None:
    budget, left = budget_of(budget_class), budget_class
    for takes, amt in calls:
        if not takes:
            budget.release(amt)
            left = (left + amt) % model.MODULUS
        elif amt <= left:
            budget.alloc(amt)
            left -= amt
        else:
            with pytest.raises(atlas.BudgetError, match=rf"amt is {amt}, must be in 0\.\.{left}"):
                budget.alloc(amt)
        assert budget.available == left


@pytest.mark.parametrize("amt", [-1, 96, 255, 256, 300, 2**31, 2**63, 2**64, 10**30, -(10**30)])
def test_an_amount_outside_0_to_95_is_refused_and_the_budget_unchanged(amt: int) -> None:
    budget = budget_of(50)
    for call in (budget.alloc, budget.release, budget.lease):
        with pytest.raises(atlas.BudgetError, match=rf"^amt is {amt}, must be in 0\.\.95"):
            call(amt)
    assert budget.available == 50


@pytest.mark.parametrize("amt", [True, 1.0, "1", None, b"1"])
def test_an_amount_that_is_no_integer_is_a_type_error(amt: object) -> None:
    budget = budget_of(50)
    for call in (budget.alloc, budget.release, budget.lease):
        with pytest.raises(TypeError, match=f"amt is of type {type(amt).__name__}, must be an int"):
            call(amt)  # type: ignore[arg-type]
    assert budget.available == 50


def test_numpy_integers_are_integers() -> None:
    numpy = pytest.importorskip("numpy")
    budget = atlas.Domain(numpy.uint16(1), numpy.int8(50)).budget
    budget.alloc(numpy.uint64(20))
    assert budget.available == 30
    with pytest.raises(TypeError):
        budget.alloc(numpy.True_)
    with pytest.raises(TypeError):
        budget.alloc(numpy.float64(1))


def test_alloc_and_release_return_nothing_that_could_be_forgotten() -> None:
    budget = budget_of(10)
    assert budget.alloc(1) is None  # type: ignore[func-returns-value]
    assert budget.release(1) is None  # type: ignore[func-returns-value]


def test_a_budget_works_after_the_commit() -> None:
    domain = atlas.Domain(bytes=1, budget_class=10)
    domain.attach(bytes(1))
    domain.commit()
    domain.budget.alloc(10)
    domain.budget.release(3)
    assert domain.budget.available == 3


def test_a_budget_keeps_its_domain() -> None:
    budget = budget_of(10)  # the domain has no other reference
    budget.alloc(4)
    assert budget.available == 6


def test_a_lease_takes_at_the_start_and_gives_back_at_the_end() -> None:
    budget = budget_of(50)
    lease = budget.lease(10)
    assert budget.available == 50
    with lease as held:
        assert held is lease
        assert lease.amt == 10
        assert budget.available == 40
    assert budget.available == 50


def test_a_lease_gives_back_when_the_body_raises() -> None:
    budget = budget_of(50)
    with pytest.raises(KeyboardInterrupt), budget.lease(50):
        raise KeyboardInterrupt
    assert budget.available == 50


def test_a_lease_gives_back_exactly_what_it_took_whatever_the_body_did() -> None:
    budget = budget_of(50)
    with budget.lease(10):
        budget.alloc(30)
        budget.release(5)
    assert budget.available == 50 - 30 + 5


def test_a_lease_beyond_what_is_left_takes_nothing() -> None:
    budget = budget_of(5)
    lease = budget.lease(6)
    with pytest.raises(atlas.BudgetError, match=r"amt is 6, must be in 0\.\.5, what is left"):
        lease.__enter__()
    lease.__exit__(None, None, None)
    assert budget.available == 5


def test_a_lease_is_entered_again_only_after_its_end() -> None:
    budget = budget_of(50)
    lease = budget.lease(10)
    for _ in range(2):
        with lease:
            with pytest.raises(atlas.StateError, match="the lease is held"):
                lease.__enter__()
            assert budget.available == 40
        assert budget.available == 50


def test_a_lease_of_a_closed_domain_gives_nothing_back_and_raises_nothing() -> None:
    domain = atlas.Domain(bytes=1, budget_class=50)
    with domain.budget.lease(10):
        domain.close()


@pytest.mark.parametrize("kind", [atlas.Budget, atlas.Lease, atlas.Transaction])
def test_what_a_domain_makes_is_not_made_by_its_class(kind: type[object]) -> None:
    with pytest.raises(TypeError, match=r"got from (Domain|Budget)\."):
        kind()
