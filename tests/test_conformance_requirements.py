# SPDX-License-Identifier: Apache-2.0
"""The contract's five core invariants and six conformance requirements, a test or more for each.

Where the C ABI is the more direct proof, the test calls it by ctypes.
"""

import ctypes
import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from ctypes import POINTER, c_bool, c_char_p, c_int, c_size_t, c_uint8, c_uint64, c_void_p

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import atlas12288 as atlas
from atlas12288 import _native
from support import model, strategies
from support.threads import in_threads

OK, CONSERVATION, WITNESS, BUDGET, MEMORY, STATE = range(6)  # atlas_error_t of the contract
OPEN, COMMITTED = range(2)
CONSERVED = strategies.conserved_everywhere(model.WINDOW_BYTES)
# Hashing takes long enough that all threads which race to commit are past the first check of the
# state when the first one publishes its witness.
CONSERVED_LONG = bytes(2 << 20)

SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "atlas_domain_create": (c_void_p, (c_size_t, c_uint8)),
    "atlas_domain_attach": (c_int, (c_void_p, c_void_p, c_size_t)),
    "atlas_domain_verify": (c_bool, (c_void_p,)),
    "atlas_domain_commit": (c_int, (c_void_p,)),
    "atlas_domain_destroy": (None, (c_void_p,)),
    "atlas_domain_state": (c_int, (c_void_p, POINTER(c_int))),
    "atlas_domain_witness": (c_void_p, (c_void_p,)),
    "atlas_budget_alloc": (c_bool, (c_void_p, c_uint8)),
    "atlas_budget_release": (c_bool, (c_void_p, c_uint8)),
    "atlas_budget_available": (c_int, (c_void_p, POINTER(c_uint8))),
    "atlas_witness_generate": (c_void_p, (c_void_p, c_size_t)),
    "atlas_witness_verify": (c_bool, (c_void_p, c_void_p, c_size_t)),
    "atlas_witness_destroy": (None, (c_void_p,)),
    "atlas_witness_to_bytes": (c_int, (c_void_p, c_void_p)),
    "atlas_witness_from_bytes": (c_void_p, (c_void_p, c_size_t)),
    "atlas_conserved_delta": (c_uint8, (c_void_p, c_void_p, c_size_t)),
    "atlas_conserved_residue": (c_uint8, (c_void_p, c_size_t)),
    "atlas_conserved_check": (c_bool, (c_void_p, c_size_t)),
    "atlas_conserved_update": (c_int, (POINTER(c_uint64), c_void_p, c_size_t)),
    "atlas_conserved_window_residues": (c_int, (c_void_p, c_size_t, c_void_p)),
    "atlas_conserved_memcpy": (c_int, (c_void_p, c_void_p, c_size_t)),
    "atlas_conserved_memset": (c_int, (c_void_p, c_uint8, c_size_t)),
    "atlas_conserved_fixup": (c_int, (c_void_p, c_size_t)),
    "atlas_get_last_error": (c_char_p, ()),
    "atlas_get_last_error_code": (c_int, ()),
}


@pytest.fixture(scope="session")
def abi() -> ctypes.CDLL:
    """The C API, which the package's extension module offers whole, with the header's types."""
    library = ctypes.CDLL(_native.__file__)
    for name, (result, parameters) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, parameters
    return library


def c_budget(abi: ctypes.CDLL, domain: int) -> int:
    left = c_uint8(0xEE)
    assert abi.atlas_budget_available(domain, ctypes.byref(left)) == OK
    return left.value


def c_state(abi: ctypes.CDLL, domain: int) -> int:
    state = c_int(0xEE)
    assert abi.atlas_domain_state(domain, ctypes.byref(state)) == OK
    return state.value


# --- Core invariants -----------------------------------------------------------------------------


@given(region=strategies.aligned_buffers())
def test_invariant_1_conservation_law_a_domain_commits_exactly_when_its_sum_is_0_mod_96(
    region: memoryview,
) -> None:
    if len(region) == 0:
        return  # a domain attaches at least one byte
    conserved = sum(region) % 96 == 0
    with atlas.Domain(bytes=len(region), budget_class=0) as domain:
        domain.attach(region)
        assert domain.verify() is conserved
        if conserved:
            assert domain.commit().residue == 0
        else:
            with pytest.raises(atlas.ConservationError):
                domain.commit()
            assert domain.witness is None


@given(first=st.integers(0, 255), amounts=st.lists(st.tuples(st.booleans(), st.integers(0, 255))))
def test_invariant_2_budget_constraint_a_budget_is_in_0_to_95_whatever_is_asked(
    abi: ctypes.CDLL, first: int, amounts: list[tuple[bool, int]]
) -> None:
    domain = abi.atlas_domain_create(1, first)
    assert (domain is not None) == (first <= 95)
    if domain is None:
        assert abi.atlas_get_last_error_code() == BUDGET
        return
    assert c_budget(abi, domain) == first
    for take, amount in amounts:
        (abi.atlas_budget_alloc if take else abi.atlas_budget_release)(domain, amount)
        assert 0 <= c_budget(abi, domain) <= 95
    abi.atlas_domain_destroy(domain)


def test_invariant_2_budget_constraint_holds_at_every_moment_under_threads(
    abi: ctypes.CDLL,
) -> None:
    domain = abi.atlas_domain_create(1, 50)
    done = threading.Event()
    seen: set[int] = set()

    def work(i: int) -> None:
        if i == 0:
            while not done.is_set():
                seen.add(c_budget(abi, domain))
            return
        try:
            for k in range(2000):
                amount = (7 * i + k) % 96
                if abi.atlas_budget_alloc(domain, amount):
                    assert abi.atlas_budget_release(domain, amount)
        finally:
            if i == 1:
                done.set()

    in_threads(4, work)
    assert seen <= set(range(96))
    assert c_budget(abi, domain) == 50
    abi.atlas_domain_destroy(domain)


def test_invariant_3_witness_immutability_no_field_can_be_set_or_removed() -> None:
    witness = atlas.Witness.generate(b"abc")
    before = bytes(witness)
    names = ("algorithm", "length", "residue", "digest", "timestamp_ns", "timestamp")
    for name in (*names, "no_such_field"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(witness, name, 0)
    for name in names:
        with pytest.raises((AttributeError, TypeError)):
            delattr(witness, name)
    assert bytes(witness) == before


def test_invariant_3_witness_immutability_it_outlives_its_region_and_its_domain() -> None:
    region = bytearray(CONSERVED)
    domain = atlas.Domain(bytes=len(region), budget_class=0)
    domain.attach(region)
    witness = domain.commit()
    before = bytes(witness)
    region[0] ^= 0xFF
    assert not domain.verify()
    assert bytes(witness) == before
    domain.close()
    del domain
    assert bytes(witness) == before
    assert witness.verify(CONSERVED)


def test_invariant_3_witness_immutability_verification_and_refusals_change_nothing(
    abi: ctypes.CDLL,
) -> None:
    witness = abi.atlas_witness_generate(CONSERVED, len(CONSERVED))
    before, after = (ctypes.create_string_buffer(56) for _ in range(2))
    assert abi.atlas_witness_to_bytes(witness, before) == OK
    assert abi.atlas_witness_verify(witness, CONSERVED, len(CONSERVED))
    assert not abi.atlas_witness_verify(witness, CONSERVED, len(CONSERVED) - 1)
    assert not abi.atlas_witness_verify(witness, None, 1)
    assert abi.atlas_witness_to_bytes(witness, None) != OK
    assert abi.atlas_witness_to_bytes(witness, after) == OK
    assert before.raw == after.raw
    abi.atlas_witness_destroy(witness)


def test_invariant_4_atomic_commit_of_racing_threads_exactly_one_wins_with_one_witness() -> None:
    for _ in range(10):
        domain = atlas.Domain(bytes=len(CONSERVED_LONG), budget_class=0)
        domain.attach(CONSERVED_LONG)
        won: list[atlas.Witness] = []
        lost: list[atlas.StateError] = []

        def work(
            i: int,
            domain: atlas.Domain = domain,
            won: list[atlas.Witness] = won,
            lost: list[atlas.StateError] = lost,
        ) -> None:
            try:
                won.append(domain.commit())
            except atlas.StateError as refusal:
                lost.append(refusal)

        in_threads(8, work)
        assert len(won) == 1
        assert len(lost) == 7
        assert domain.witness == won[0]
        domain.close()


def test_invariant_4_atomic_commit_a_committed_domain_never_goes_back(abi: ctypes.CDLL) -> None:
    region = ctypes.create_string_buffer(CONSERVED, len(CONSERVED))
    domain = abi.atlas_domain_create(len(CONSERVED), 0)
    assert c_state(abi, domain) == OPEN
    assert abi.atlas_domain_attach(domain, region, len(CONSERVED)) == OK
    assert c_state(abi, domain) == OPEN
    assert abi.atlas_domain_commit(domain) == OK
    assert c_state(abi, domain) == COMMITTED
    witness = abi.atlas_domain_witness(domain)
    assert abi.atlas_domain_commit(domain) == STATE
    assert abi.atlas_domain_attach(domain, region, 1) == STATE
    region[0] = bytes([region.raw[0] ^ 1])
    assert not abi.atlas_domain_verify(domain)
    assert abi.atlas_domain_commit(domain) == STATE
    assert c_state(abi, domain) == COMMITTED
    assert abi.atlas_domain_witness(domain) == witness
    abi.atlas_domain_destroy(domain)


def test_invariant_5_failure_closed_a_refused_call_changes_no_state_budget_or_byte(
    abi: ctypes.CDLL,
) -> None:
    size = 300
    data = model.fixup(strategies.noise(size))
    broken = data[:-1] + bytes([data[-1] ^ 1])
    region = ctypes.create_string_buffer(broken, size)
    target = ctypes.create_string_buffer(b"\xa5" * size, size)
    domain = abi.atlas_domain_create(size, 10)
    assert abi.atlas_domain_attach(domain, region, size) == OK

    def refused(code: int, call: Callable[[], object], failure: object) -> None:
        assert call() == failure
        assert abi.atlas_get_last_error_code() == code
        assert abi.atlas_get_last_error() != b""
        assert c_state(abi, domain) == OPEN
        assert c_budget(abi, domain) == 10
        assert region.raw == broken
        assert target.raw == b"\xa5" * size

    refused(CONSERVATION, lambda: abi.atlas_domain_verify(domain), False)
    refused(CONSERVATION, lambda: abi.atlas_domain_commit(domain), CONSERVATION)
    refused(STATE, lambda: abi.atlas_domain_attach(domain, target, size), STATE)
    refused(STATE, lambda: abi.atlas_domain_witness(domain), None)
    refused(BUDGET, lambda: abi.atlas_budget_alloc(domain, 11), False)
    refused(BUDGET, lambda: abi.atlas_budget_alloc(domain, 96), False)
    refused(BUDGET, lambda: abi.atlas_budget_release(domain, 96), False)
    refused(MEMORY, lambda: abi.atlas_witness_generate(None, size), None)
    refused(CONSERVATION, lambda: abi.atlas_conserved_memcpy(target, region, size), CONSERVATION)
    inside = ctypes.addressof(region) + 1
    refused(MEMORY, lambda: abi.atlas_conserved_memcpy(inside, region, size - 1), MEMORY)
    refused(MEMORY, lambda: abi.atlas_conserved_memset(None, 0, size), MEMORY)
    refused(MEMORY, lambda: abi.atlas_conserved_fixup(None, size), MEMORY)
    abi.atlas_domain_destroy(domain)


# --- Conformance requirements --------------------------------------------------------------------


class LawOfADomain(RuleBasedStateMachine):
    """Any run of the operations that promise the law leaves a conserved region conserved."""

    def __init__(self) -> None:
        super().__init__()
        self.region = bytearray()
        self.expected = b""

    @initialize(length=st.integers(1, 400))
    def create(self, length: int) -> None:
        self.region = bytearray(length)
        self.expected = bytes(length)
        self.domain = atlas.Domain(bytes=length, budget_class=0)
        self.domain.attach(self.region)

    @rule(data=st.data())
    def copy(self, data: st.DataObject) -> None:
        source = model.fixup(data.draw(strategies.contents(len(self.region))))
        atlas.conserved_copy(self.region, source)
        self.expected = source

    @rule(data=st.data())
    def refused_copy(self, data: st.DataObject) -> None:
        source = bytearray(model.fixup(data.draw(strategies.contents(len(self.region)))))
        source[0] ^= 1  # by 1 up or down: never a multiple of 96
        with pytest.raises(atlas.ConservationError):
            atlas.conserved_copy(self.region, source)

    @rule(value=st.integers(0, 255))
    def fill(self, value: int) -> None:
        atlas.conserved_fill(self.region, value)
        self.expected = model.fill(value, len(self.region))

    @rule(index=st.integers(0, 399), value=st.integers(0, 255))
    def write_and_fixup(self, index: int, value: int) -> None:
        self.region[index % len(self.region)] = value
        atlas.fixup(self.region)
        self.expected = bytes(self.region)

    @rule(index=st.integers(0, 399), step=st.integers(1, 95))
    def transaction_that_breaks_the_law(self, index: int, step: int) -> None:
        index %= len(self.region)
        byte = self.region[index]
        with pytest.raises(atlas.ConservationError), self.domain.transaction():
            self.region[index] = byte + step if byte + step <= 255 else byte - step

    @rule(index=st.integers(0, 399))
    def transaction_that_keeps_the_law(self, index: int) -> None:
        index %= len(self.region)
        byte = self.region[index]
        with self.domain.transaction():
            self.region[index] = byte + 96 if byte < 160 else byte - 96
        self.expected = bytes(self.region)

    @rule(index=st.integers(0, 399), step=st.sampled_from((1, 96)))
    def transaction_that_raises(self, index: int, step: int) -> None:
        index %= len(self.region)
        byte = self.region[index]
        with suppress(KeyError), self.domain.transaction():
            self.region[index] = byte + step if byte < 160 else byte - step
            raise KeyError

    @invariant()
    def the_law_holds(self) -> None:
        assert self.region == self.expected
        assert sum(self.region) % 96 == 0
        assert self.domain.verify()

    def teardown(self) -> None:
        if self.region:
            assert self.domain.commit().verify(self.expected)
            self.domain.close()


def test_requirement_1_all_conservation_laws_are_preserved_by_any_run_of_operations() -> None:
    run_state_machine_as_test(LawOfADomain)


@given(
    a=strategies.conserved_buffers(), b=strategies.conserved_buffers(), c=strategies.buffers(400)
)
def test_requirement_1_all_conservation_laws_the_residue_is_additive(
    a: bytes, b: bytes, c: bytes
) -> None:
    assert atlas.is_conserved(a + b)
    assert atlas.residue(a + c) == atlas.residue(c)
    assert atlas.residue(c + c[::-1]) == 2 * atlas.residue(c) % 96
    assert atlas.delta(bytes(len(c)), c) == atlas.residue(c)


class BudgetModel(RuleBasedStateMachine):
    """A budget beside an integer mod 96."""

    @initialize(budget_class=st.integers(0, 95), committed=st.booleans())
    def create(self, budget_class: int, committed: bool) -> None:
        self.domain = atlas.Domain(bytes=96, budget_class=budget_class)
        self.budget = budget_class
        if committed:  # budgets work in both states
            self.domain.attach(bytearray(96))
            self.domain.commit()

    @rule(amount=st.integers(0, 95))
    def alloc(self, amount: int) -> None:
        if amount <= self.budget:
            self.domain.budget.alloc(amount)
            self.budget -= amount
        else:
            with pytest.raises(atlas.BudgetError):
                self.domain.budget.alloc(amount)

    @rule(amount=st.integers(0, 95))
    def release(self, amount: int) -> None:
        self.domain.budget.release(amount)
        self.budget = (self.budget + amount) % 96

    @rule(amount=st.integers(96, 300), take=st.booleans())
    def refused(self, amount: int, take: bool) -> None:
        with pytest.raises(atlas.BudgetError):
            (self.domain.budget.alloc if take else self.domain.budget.release)(amount)

    @rule(amount=st.integers(0, 95), fails=st.booleans())
    def lease(self, amount: int, fails: bool) -> None:
        if amount > self.budget:
            with pytest.raises(atlas.BudgetError), self.domain.budget.lease(amount):
                raise AssertionError("leased more than there is")
            return
        with suppress(KeyError), self.domain.budget.lease(amount):
            assert self.domain.budget.available == self.budget - amount
            if fails:
                raise KeyError

    @invariant()
    def agrees(self) -> None:
        assert self.domain.budget.available == self.budget

    def teardown(self) -> None:
        if hasattr(self, "domain"):
            self.domain.close()


def test_requirement_2_budget_arithmetic_is_mod_96_in_any_run_of_calls() -> None:
    run_state_machine_as_test(BudgetModel)


def test_requirement_2_budget_arithmetic_is_mod_96_for_every_budget_and_amount(
    abi: ctypes.CDLL,
) -> None:
    for budget in range(96):
        domain = abi.atlas_domain_create(1, budget)
        for amount in range(256):
            took = abi.atlas_budget_alloc(domain, amount)
            assert took == (amount <= budget), (budget, amount)
            assert c_budget(abi, domain) == budget - (amount if took else 0)
            if took:
                assert abi.atlas_budget_release(domain, amount)
                assert c_budget(abi, domain) == budget
            gave = abi.atlas_budget_release(domain, amount)
            assert gave == (amount <= 95), (budget, amount)
            assert c_budget(abi, domain) == (budget + (amount if gave else 0)) % 96
            if gave:
                abi.atlas_budget_release(domain, (96 - amount) % 96)
            assert c_budget(abi, domain) == budget
        abi.atlas_domain_destroy(domain)


@given(data=strategies.buffers())
def test_requirement_3_witnesses_are_cryptographically_secure_the_digest_is_sha_256(
    data: bytes,
) -> None:
    witness = atlas.Witness.generate(data)
    assert witness.algorithm == "sha256"
    assert witness.digest == hashlib.sha256(data).digest()


def test_requirement_3_witnesses_are_cryptographically_secure_every_flipped_bit_is_found() -> None:
    region = bytearray(strategies.noise(200))
    witness = atlas.Witness.generate(region)
    for bit in range(8 * len(region)):
        region[bit // 8] ^= 1 << bit % 8
        assert not witness.verify(region), bit
        region[bit // 8] ^= 1 << bit % 8
    assert witness.verify(region)


def test_requirement_3_witnesses_are_cryptographically_secure_they_find_what_residues_miss() -> (
    None
):
    data = bytes([1, 2, 100, 7]) + bytes(92)
    witness = atlas.Witness.generate(data)
    swapped = bytes([2, 1, 100, 7]) + bytes(92)
    moved = bytes([2, 1, 99, 8]) + bytes(92)
    by_96 = bytes([97, 2, 100, 7]) + bytes(92)
    by_192 = bytes([193, 2, 100, 7]) + bytes(92)
    longer = data + bytes([96])
    for changed in (swapped, moved, by_96, by_192, longer, data[:-1]):
        assert atlas.residue(changed) == witness.residue
        assert not witness.verify(changed)


def test_requirement_3_witnesses_are_cryptographically_secure_a_forged_field_is_found() -> None:
    form = bytes(atlas.Witness.generate(CONSERVED))
    for offset in range(len(form)):
        forged = bytearray(form)
        forged[offset] ^= 1
        try:
            witness = atlas.Witness.from_bytes(forged)
        except atlas.WitnessError:
            continue  # magic, version, algorithm, reserved: refused when read
        in_timestamp = 16 <= offset < 24  # not a property of the region
        assert witness.verify(CONSERVED) is in_timestamp, offset


def test_requirement_4_state_transitions_are_atomic_committed_is_never_seen_without_a_witness(
    abi: ctypes.CDLL,
) -> None:
    for _ in range(10):
        domain = abi.atlas_domain_create(len(CONSERVED_LONG), 0)
        assert abi.atlas_domain_attach(domain, CONSERVED_LONG, len(CONSERVED_LONG)) == OK
        results: list[int] = []

        def work(i: int, domain: int = domain, results: list[int] = results) -> None:
            if i < 4:
                results.append(abi.atlas_domain_commit(domain))
                return
            while c_state(abi, domain) == OPEN:
                pass
            witness = abi.atlas_domain_witness(domain)
            assert witness is not None
            assert abi.atlas_witness_verify(witness, CONSERVED_LONG, len(CONSERVED_LONG))

        in_threads(6, work)
        assert sorted(results) == [OK, STATE, STATE, STATE]
        abi.atlas_domain_destroy(domain)


def test_requirement_4_state_transitions_are_atomic_a_refused_commit_leaves_the_domain_open() -> (
    None
):
    region = bytearray(CONSERVED)
    with atlas.Domain(bytes=len(region), budget_class=5) as domain:
        with pytest.raises(atlas.StateError):
            domain.commit()  # nothing attached
        domain.attach(region)
        is_open = domain.state
        region[0] ^= 1
        with pytest.raises(atlas.ConservationError):
            domain.commit()
        assert (domain.state, domain.witness, domain.budget.available) == (is_open, None, 5)
        region[0] ^= 1
        witness = domain.commit()
        assert domain.state != is_open
        assert domain.witness == witness


def test_requirement_5_all_error_conditions_are_handled_safely_null_handles(
    abi: ctypes.CDLL,
) -> None:
    region = ctypes.create_string_buffer(96)
    out = c_uint8(7)
    refusals: list[tuple[Callable[[], object], object]] = [
        (lambda: abi.atlas_domain_attach(None, region, 96), MEMORY),
        (lambda: abi.atlas_domain_verify(None), False),
        (lambda: abi.atlas_domain_commit(None), MEMORY),
        (lambda: abi.atlas_domain_state(None, ctypes.byref(c_int())), MEMORY),
        (lambda: abi.atlas_domain_witness(None), None),
        (lambda: abi.atlas_budget_alloc(None, 1), False),
        (lambda: abi.atlas_budget_release(None, 1), False),
        (lambda: abi.atlas_budget_available(None, ctypes.byref(out)), MEMORY),
        (lambda: abi.atlas_witness_verify(None, region, 96), False),
        (lambda: abi.atlas_witness_to_bytes(None, region), MEMORY),
        (lambda: abi.atlas_witness_from_bytes(None, 56), None),
        (lambda: abi.atlas_conserved_delta(None, region, 96), 0),
        (lambda: abi.atlas_conserved_delta(region, None, 96), 0),
        (lambda: abi.atlas_conserved_residue(None, 96), 0),
        (lambda: abi.atlas_conserved_check(None, 96), False),
        (lambda: abi.atlas_conserved_update(None, region, 96), MEMORY),
        (lambda: abi.atlas_conserved_update(ctypes.byref(c_uint64()), None, 96), MEMORY),
        (lambda: abi.atlas_conserved_window_residues(None, 96, region), MEMORY),
        (lambda: abi.atlas_conserved_window_residues(region, 96, None), MEMORY),
        (lambda: abi.atlas_conserved_memcpy(None, region, 96), MEMORY),
        (lambda: abi.atlas_conserved_memcpy(region, None, 96), MEMORY),
    ]
    for i, (call, failure) in enumerate(refusals):
        assert abi.atlas_conserved_residue(region, 96) == 0
        assert abi.atlas_get_last_error_code() == OK
        assert call() == failure, i
        assert abi.atlas_get_last_error_code() == MEMORY, i
        assert b"NULL" in abi.atlas_get_last_error(), i
    assert out.value == 7
    assert region.raw == bytes(96)
    abi.atlas_domain_destroy(None)
    abi.atlas_witness_destroy(None)


def test_requirement_5_all_error_conditions_are_handled_safely_each_python_error_has_its_code() -> (
    None
):
    domain = atlas.Domain(bytes=96, budget_class=0)

    def code_of(call: Callable[[], object]) -> int:
        with pytest.raises(atlas.AtlasError) as refusal:
            call()
        assert str(refusal.value)
        return int(refusal.value.code)

    assert code_of(domain.commit) == STATE
    assert code_of(lambda: domain.attach(bytearray(97))) == MEMORY
    assert code_of(lambda: domain.budget.alloc(1)) == BUDGET
    assert code_of(lambda: atlas.Domain(bytes=0, budget_class=0)) == MEMORY
    assert code_of(lambda: atlas.Domain(bytes=1, budget_class=96)) == BUDGET
    assert code_of(lambda: atlas.Witness.from_bytes(b"")) == WITNESS
    domain.attach(bytearray([1]))
    assert code_of(domain.commit) == CONSERVATION
    assert code_of(lambda: domain.attach(bytearray(1))) == STATE
    domain.close()


def allocated_bytes() -> int:
    """Bytes of the C heap in use, of all threads; Python's small objects are not in it."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        pytest.skip("this libc has no mallinfo2")

    class Info(ctypes.Structure):
        # man mallinfo2: hblkhd is what is mapped for single large blocks, uordblks what is in use.
        _fields_ = tuple(
            (name, c_size_t)
            for name in (
                *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
                *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
            )
        )

    mallinfo2.restype = Info
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def growth_over(rounds: int, work: Callable[[], None]) -> int:
    """The least that `rounds` of `work` add in three batches: a leak is in each, what malloc and
    Python keep for threads comes and goes."""
    for _ in range(20):  # what is made once and kept
        work()
    growths = []
    for _ in range(3):
        before = allocated_bytes()
        for _ in range(rounds):
            work()
        growths.append(allocated_bytes() - before)
    return min(growths)


ROUNDS = 4000
LEAK = 16 * ROUNDS  # the least that one leak a round adds: malloc's smallest block


def test_what_measures_leaks_finds_one_witness_a_round(abi: ctypes.CDLL) -> None:
    """The tests below can fail."""
    region = ctypes.create_string_buffer(96)
    leaked: list[int] = []
    assert growth_over(ROUNDS, lambda: leaked.append(abi.atlas_witness_generate(region, 96))) > LEAK
    for witness in leaked:
        abi.atlas_witness_destroy(witness)


def test_requirement_6_memory_is_never_leaked_by_the_c_abi(abi: ctypes.CDLL) -> None:
    region = ctypes.create_string_buffer(CONSERVED[:96], 96)
    broken = ctypes.create_string_buffer(b"\x01" * 95, 95)
    form = ctypes.create_string_buffer(56)

    def work() -> None:
        domain = abi.atlas_domain_create(96, 95)
        abi.atlas_domain_attach(domain, broken, 95)
        abi.atlas_domain_commit(domain)  # refused
        abi.atlas_domain_destroy(domain)
        domain = abi.atlas_domain_create(96, 95)
        abi.atlas_domain_attach(domain, region, 96)
        abi.atlas_domain_commit(domain)
        abi.atlas_domain_commit(domain)  # refused: the witness that it made is not kept
        abi.atlas_domain_destroy(domain)
        witness = abi.atlas_witness_generate(region, 96)
        abi.atlas_witness_to_bytes(witness, form)
        abi.atlas_witness_destroy(witness)
        abi.atlas_witness_destroy(abi.atlas_witness_from_bytes(form, 56))
        abi.atlas_witness_from_bytes(form, 55)  # refused
        abi.atlas_domain_create(0, 0)  # refused
        abi.atlas_domain_create(1, 96)  # refused

    assert growth_over(ROUNDS, work) < LEAK


def test_requirement_6_memory_is_never_leaked_by_racing_commits(abi: ctypes.CDLL) -> None:
    def work() -> None:
        domain = abi.atlas_domain_create(len(CONSERVED_LONG), 0)
        abi.atlas_domain_attach(domain, CONSERVED_LONG, len(CONSERVED_LONG))
        in_threads(4, lambda _: abi.atlas_domain_commit(domain))
        abi.atlas_domain_destroy(domain)

    rounds = 100
    assert growth_over(rounds, work) < 56 * rounds  # a loser's witness


def test_requirement_6_memory_is_never_leaked_by_the_python_api() -> None:
    region = bytearray(CONSERVED[:96])
    broken = bytearray(b"\x01")

    def work() -> None:
        with atlas.Domain(bytes=96, budget_class=95) as domain:
            domain.attach(region)
            with domain.transaction(), domain.budget.lease(5):
                pass
            domain.commit()
        with atlas.Domain(bytes=96, budget_class=0) as domain:
            domain.attach(broken)
            with suppress(atlas.ConservationError):
                domain.commit()
            with suppress(atlas.BudgetError):
                domain.budget.alloc(1)
        witness = atlas.Witness.from_json(atlas.Witness.generate(region).to_json())
        assert witness.verify(region)
        with suppress(atlas.WitnessError):
            atlas.Witness.from_bytes(b"")
        stream = atlas.WitnessStream()
        stream.update(region)
        stream.witness()

    assert growth_over(ROUNDS, work) < LEAK
