# SPDX-License-Identifier: Apache-2.0
"""Any run of calls, beside a model of the contract in plain Python: through the C ABI and through
the package. Refusals have the contract's code, and change nothing."""

import contextvars
import ctypes
import hashlib
from collections.abc import Callable
from ctypes import POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_uint8, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

import atlas12288 as atlas
from atlas12288 import _native
from support import model, rfc9162, strategies
from support.regions import strike

OK, CONSERVATION, WITNESS, BUDGET, MEMORY, STATE = range(6)  # atlas_error_t of the contract
Outcome = tuple[int, Any]  # error code; result where that is OK, else None


def root_of(data: bytes) -> bytes:
    starts = range(0, len(data), model.WINDOW_BYTES)
    return rfc9162.mth(tuple(data[i : i + model.WINDOW_BYTES] for i in starts))


# --- The two ways to call ---

_H, _P, _N = c_void_p, c_void_p, c_size_t
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "domain_create": (_H, (_N, c_uint8)),
    "domain_attach": (c_int, (_H, _P, _N)),
    "domain_verify": (c_bool, (_H,)),
    "domain_commit": (c_int, (_H,)),
    "domain_state": (c_int, (_H, POINTER(c_int))),
    "domain_witness": (_H, (_H,)),
    "domain_destroy": (None, (_H,)),
    "budget_alloc": (c_bool, (_H, c_uint8)),
    "budget_release": (c_bool, (_H, c_uint8)),
    "budget_available": (c_int, (_H, POINTER(c_uint8))),
    "witness_generate": (_H, (_P, _N)),
    "witness_from_bytes": (_H, (_P, _N)),
    "witness_to_bytes": (c_int, (_H, _P)),
    "witness_algorithm": (c_char_p, (_H,)),
    "witness_length": (c_uint64, (_H,)),
    "witness_residue": (c_uint8, (_H,)),
    "witness_digest": (_P, (_H,)),
    "witness_timestamp_ns": (c_uint64, (_H,)),
    "witness_verify": (c_bool, (_H, _P, _N)),
    "witness_destroy": (None, (_H,)),
    "witness_stream_create": (_H, ()),
    "witness_stream_update": (c_int, (_H, _P, _N)),
    "witness_stream_witness": (_H, (_H,)),
    "witness_stream_to_bytes": (c_int, (_H, _P)),
    "witness_stream_from_bytes": (_H, (_P, _N)),
    "witness_stream_destroy": (None, (_H,)),
    "tree_leaves": (c_int, (_P, _N, _P, POINTER(c_uint64))),
    "tree_node": (c_int, (_P, _P, _P)),
    "tree_root": (c_int, (_P, _N, _P)),
    "tree_stream_create": (_H, ()),
    "tree_stream_copy": (_H, (_H,)),
    "tree_stream_update": (c_int, (_H, _P, _N)),
    "tree_stream_append": (c_int, (_H, _P, _N, c_uint8)),
    "tree_stream_root": (c_int, (_H, _P, POINTER(c_uint64), POINTER(c_uint8))),
    "tree_stream_destroy": (None, (_H,)),
    "conserved_residue": (c_uint8, (_P, _N)),
    "conserved_check": (c_bool, (_P, _N)),
    "conserved_window_residues": (c_int, (_P, _N, _P)),
    "conserved_update": (c_int, (POINTER(c_uint64), _P, _N)),
    "conserved_delta": (c_uint8, (_P, _P, _N)),
    "conserved_memcpy": (c_int, (_P, _P, _N)),
    "conserved_memset": (c_int, (_P, c_uint8, _N)),
    "conserved_fixup": (c_int, (_P, _N)),
    "conserved_fixup_at": (c_int, (_P, _N, _N)),
    "region_create": (_H, (_N,)),
    "region_payload": (_P, (_H,)),
    "region_payload_bytes": (_N, (_H,)),
    "region_size": (_N, (_H,)),
    "region_balance": (c_int, (_H, POINTER(c_uint8))),
    "region_fill": (c_int, (_H, c_uint8)),
    "region_copy": (c_int, (_H, _P, _N)),
    "region_destroy": (None, (_H,)),
    "kernel_set_select": (c_int, (c_char_p,)),
    "get_last_error": (c_char_p, ()),
    "get_last_error_code": (c_int, ()),
}
_DIGEST_BYTES, _WITNESS_BYTES, _STREAM_BYTES = 32, 56, 112


def _abi() -> dict[str, Any]:
    """The C API, which the package's extension module offers whole."""
    library = ctypes.CDLL(_native.__file__)
    functions = {}
    for name, (result, parameters) in _SIGNATURES.items():
        function = library[f"atlas_{name}"]
        function.restype, function.argtypes = result, parameters
        functions[name] = function
    return functions


def _span(data: bytes | bytearray) -> tuple[Any, int]:
    """Address and length; of a bytearray that of its own bytes."""
    if isinstance(data, bytearray) and data:
        return (ctypes.c_char * len(data)).from_buffer(data), len(data)
    return ctypes.create_string_buffer(bytes(data), max(1, len(data))), len(data)


class Native:
    """The C ABI, by ctypes."""

    def __init__(self) -> None:
        self.call = _abi()

    def _code(self) -> int:
        code = int(self.call["get_last_error_code"]())
        # An error has a text, a success has none.
        assert bool(self.call["get_last_error"]()) == (code != OK)
        return code

    def _handle(self, handle: int | None) -> Outcome:
        code = self._code()
        assert (handle is None) == (code != OK)
        return code, handle

    def _done(self, code: int) -> Outcome:
        assert self._code() == code
        return code, None

    def _truth(self, holds: bool) -> Outcome:
        code = self._code()
        assert holds == (code == OK)
        return code, None

    def create(self, capacity: int, budget: int) -> Outcome:
        return self._handle(self.call["domain_create"](capacity, budget))

    def attach(self, domain: Any, region: bytearray) -> Outcome:
        return self._done(self.call["domain_attach"](domain, *_span(region)))

    def verify(self, domain: Any) -> Outcome:
        return self._truth(self.call["domain_verify"](domain))

    def commit(self, domain: Any) -> Outcome:
        return self._done(self.call["domain_commit"](domain))

    def state(self, domain: Any) -> int:
        state = c_int(-1)
        assert self.call["domain_state"](domain, byref(state)) == OK
        return state.value

    def witness_of(self, domain: Any) -> Outcome:
        code, witness = self._handle(self.call["domain_witness"](domain))
        return code, self.form(witness) if code == OK else None

    def destroy(self, domain: Any) -> None:
        self.call["domain_destroy"](domain)

    def alloc(self, domain: Any, amount: int) -> Outcome:
        return self._truth(self.call["budget_alloc"](domain, amount))

    def release(self, domain: Any, amount: int) -> Outcome:
        return self._truth(self.call["budget_release"](domain, amount))

    def available(self, domain: Any) -> int:
        left = c_uint8(0xEE)
        assert self.call["budget_available"](domain, byref(left)) == OK
        return left.value

    def witness(self, data: bytes) -> Outcome:
        return self._handle(self.call["witness_generate"](*_span(data)))

    def witness_from(self, form: bytes) -> Outcome:
        return self._handle(self.call["witness_from_bytes"](*_span(form)))

    def form(self, witness: Any) -> bytes:
        out = ctypes.create_string_buffer(_WITNESS_BYTES)
        assert self.call["witness_to_bytes"](witness, out) == OK
        read = (
            *(b"ATLW\x01\x01", bytes([self.call["witness_residue"](witness), 0])),
            self.call["witness_length"](witness).to_bytes(8, "little"),
            self.call["witness_timestamp_ns"](witness).to_bytes(8, "little"),
            ctypes.string_at(self.call["witness_digest"](witness), _DIGEST_BYTES),
        )
        assert b"".join(read) == out.raw
        assert self.call["witness_algorithm"](witness) == b"sha256"
        return out.raw

    def matches(self, witness: Any, data: bytes) -> Outcome:
        return self._truth(self.call["witness_verify"](witness, *_span(data)))

    def forget(self, witness: Any) -> None:
        self.call["witness_destroy"](witness)

    def stream(self) -> Any:
        return self.call["witness_stream_create"]()

    def feed(self, stream: Any, chunk: bytes) -> Outcome:
        return self._done(self.call["witness_stream_update"](stream, *_span(chunk)))

    def stream_witness(self, stream: Any) -> Outcome:
        return self._handle(self.call["witness_stream_witness"](stream))

    def save(self, stream: Any) -> bytes:
        out = ctypes.create_string_buffer(_STREAM_BYTES)
        assert self.call["witness_stream_to_bytes"](stream, out) == OK
        return out.raw

    def resume(self, form: bytes) -> Outcome:
        return self._handle(self.call["witness_stream_from_bytes"](*_span(form)))

    def end(self, stream: Any) -> None:
        self.call["witness_stream_destroy"](stream)

    def tree(self) -> Any:
        return self.call["tree_stream_create"]()

    def grow(self, tree: Any, chunk: bytes) -> Outcome:
        return self._done(self.call["tree_stream_update"](tree, *_span(chunk)))

    def append(self, tree: Any, leaves: bytes, residue: int) -> Outcome:
        count = len(leaves) // _DIGEST_BYTES
        return self._done(self.call["tree_stream_append"](tree, leaves, count, residue))

    def root(self, tree: Any) -> tuple[bytes, int, int]:
        out = ctypes.create_string_buffer(_DIGEST_BYTES)
        length, residue = c_uint64(), c_uint8()
        call = self.call["tree_stream_root"]
        assert call(tree, out, byref(length), byref(residue)) == OK
        return out.raw, length.value, residue.value

    def copy_tree(self, tree: Any) -> Any:
        return self.call["tree_stream_copy"](tree)

    def fell(self, tree: Any) -> None:
        self.call["tree_stream_destroy"](tree)

    def leaves(self, data: bytes) -> bytes:
        out = ctypes.create_string_buffer(-(-len(data) // model.WINDOW_BYTES) * _DIGEST_BYTES or 1)
        residue = c_uint64(7)
        assert self.call["tree_leaves"](*_span(data), out, byref(residue)) == OK
        assert residue.value == (7 + sum(data)) % model.MODULUS
        return out.raw if data else b""

    def root_of_leaves(self, leaves: bytes) -> bytes:
        out = ctypes.create_string_buffer(_DIGEST_BYTES)
        assert self.call["tree_root"](*_span(leaves)[:1], len(leaves) // _DIGEST_BYTES, out) == OK
        return out.raw

    def node(self, left: bytes, right: bytes) -> bytes:
        out = ctypes.create_string_buffer(_DIGEST_BYTES)
        assert self.call["tree_node"](_span(left)[0], _span(right)[0], out) == OK
        return out.raw

    def residue(self, data: bytes) -> int:
        state = c_uint64(0)
        assert self.call["conserved_update"](byref(state), *_span(data)) == OK
        residue = int(self.call["conserved_residue"](*_span(data)))
        assert state.value == residue
        return residue

    def conserved(self, data: bytes) -> bool:
        holds = bool(self.call["conserved_check"](*_span(data)))
        assert self._code() == OK
        return holds

    def windows(self, data: bytes) -> bytes:
        out = ctypes.create_string_buffer(-(-len(data) // model.WINDOW_BYTES) or 1)
        assert self.call["conserved_window_residues"](*_span(data), out) == OK
        return out.raw if data else b""

    def delta(self, before: bytes, after: bytes) -> int:
        return int(self.call["conserved_delta"](_span(before)[0], *_span(after)))

    def copy(self, dst: bytearray, src: bytes) -> Outcome:
        return self._done(self.call["conserved_memcpy"](_span(dst)[0], *_span(src)))

    def fill(self, dst: bytearray, value: int) -> Outcome:
        address, length = _span(dst)
        return self._done(self.call["conserved_memset"](address, value, length))

    def fixup(self, region: bytearray) -> Outcome:
        return self._done(self.call["conserved_fixup"](*_span(region)))

    def fixup_at(self, region: bytearray, at: int) -> Outcome:
        return self._done(self.call["conserved_fixup_at"](*_span(region), at))

    def make_region(self, nbytes: int) -> Outcome:
        return self._handle(self.call["region_create"](nbytes))

    def whole(self, region: Any) -> bytes:
        size = self.call["region_size"](region)
        assert self.call["region_payload_bytes"](region) == size - 1
        return ctypes.string_at(self.call["region_payload"](region), size)

    def write_payload(self, region: Any, at: int, value: int) -> None:
        ctypes.memset(self.call["region_payload"](region) + at, value, 1)

    def balance(self, region: Any) -> int:
        out = c_uint8(0xEE)
        assert self.call["region_balance"](region, byref(out)) == OK
        return out.value

    def fill_region(self, region: Any, value: int) -> Outcome:
        return self._done(self.call["region_fill"](region, value))

    def copy_to_region(self, region: Any, source: bytes) -> Outcome:
        return self._done(self.call["region_copy"](region, *_span(source)))

    def unmake_region(self, region: Any) -> None:
        self.call["region_destroy"](region)

    def select(self, kernel_set: str) -> None:
        assert self.call["kernel_set_select"](kernel_set.encode()) == OK


class Package:
    """The Python package."""

    @staticmethod
    def _call(call: Callable[[], Any]) -> Outcome:
        try:
            return OK, call()
        except atlas.AtlasError as error:
            return int(error.code), None

    def create(self, capacity: int, budget: int) -> Outcome:
        return self._call(lambda: atlas.Domain(bytes=capacity, budget_class=budget))

    def attach(self, domain: Any, region: bytearray) -> Outcome:
        return self._call(lambda: domain.attach(region))

    def verify(self, domain: Any) -> Outcome:
        code, holds = self._call(domain.verify)
        if code == OK and not holds:
            committed = domain.state is atlas.State.COMMITTED
            conserved = atlas.is_conserved(domain.attached)
            return (WITNESS if committed and conserved else CONSERVATION), None
        return code, None

    def commit(self, domain: Any) -> Outcome:
        code, witness = self._call(domain.commit)
        assert code != OK or witness == domain.witness
        return code, None

    def state(self, domain: Any) -> int:
        return int(domain.state)

    def witness_of(self, domain: Any) -> Outcome:
        return (STATE, None) if domain.witness is None else (OK, bytes(domain.witness))

    def destroy(self, domain: Any) -> None:
        domain.close()

    def alloc(self, domain: Any, amount: int) -> Outcome:
        return self._call(lambda: domain.budget.alloc(amount))

    def release(self, domain: Any, amount: int) -> Outcome:
        return self._call(lambda: domain.budget.release(amount))

    def available(self, domain: Any) -> int:
        return int(domain.budget.available)

    def witness(self, data: bytes) -> Outcome:
        return self._call(lambda: atlas.Witness.generate(data))

    def witness_from(self, form: bytes) -> Outcome:
        return self._call(lambda: atlas.Witness.from_bytes(form))

    def form(self, witness: Any) -> bytes:
        return bytes(atlas.Witness.from_json(witness.to_json()))

    def matches(self, witness: Any, data: bytes) -> Outcome:
        return (OK if witness.verify(data) else WITNESS), None

    def forget(self, witness: Any) -> None:
        pass

    def stream(self) -> Any:
        return atlas.WitnessStream()

    def feed(self, stream: Any, chunk: bytes) -> Outcome:
        return self._call(lambda: stream.update(chunk))

    def stream_witness(self, stream: Any) -> Outcome:
        return self._call(stream.witness)

    def save(self, stream: Any) -> bytes:
        return bytes(stream)

    def resume(self, form: bytes) -> Outcome:
        return self._call(lambda: atlas.WitnessStream.from_bytes(form))

    def end(self, stream: Any) -> None:
        pass

    def tree(self) -> Any:
        return _native.TreeStream()

    def grow(self, tree: Any, chunk: bytes) -> Outcome:
        return self._call(lambda: tree.update(chunk))

    def append(self, tree: Any, leaves: bytes, residue: int) -> Outcome:
        return self._call(lambda: tree.append(leaves, residue))

    def root(self, tree: Any) -> tuple[bytes, int, int]:
        root, length, residue = tree.result()
        return root, length, residue

    def copy_tree(self, tree: Any) -> Any:
        return tree.copy()

    def fell(self, tree: Any) -> None:
        pass

    def leaves(self, data: bytes) -> bytes:
        return _native.tree_leaves(data)[0]

    def root_of_leaves(self, leaves: bytes) -> bytes:
        return _native.tree_root(leaves)

    def node(self, left: bytes, right: bytes) -> bytes:
        return _native.tree_node(left, right)

    def residue(self, data: bytes) -> int:
        assert atlas.Residue(data).value == atlas.residue(data)
        return atlas.residue(data)

    def conserved(self, data: bytes) -> bool:
        return atlas.is_conserved(data)

    def windows(self, data: bytes) -> bytes:
        return atlas.window_residues(data)

    def delta(self, before: bytes, after: bytes) -> int:
        return atlas.delta(before, after)

    def copy(self, dst: bytearray, src: bytes) -> Outcome:
        return self._call(lambda: atlas.conserved_copy(dst, src))

    def fill(self, dst: bytearray, value: int) -> Outcome:
        return self._call(lambda: atlas.conserved_fill(dst, value))

    def fixup(self, region: bytearray) -> Outcome:
        return self._call(lambda: atlas.fixup(region))

    def fixup_at(self, region: bytearray, at: int) -> Outcome:
        return self._call(lambda: atlas.fixup(region, at=at))

    def make_region(self, nbytes: int) -> Outcome:
        return self._call(lambda: atlas.Region(nbytes))

    def whole(self, region: Any) -> bytes:
        assert region.whole[:-1] == memoryview(region)
        return bytes(region.whole)

    def write_payload(self, region: Any, at: int, value: int) -> None:
        memoryview(region)[at] = value

    def balance(self, region: Any) -> int:
        return int(region.balance())

    def fill_region(self, region: Any, value: int) -> Outcome:
        return self._call(lambda: atlas.conserved_fill(region, value))

    def copy_to_region(self, region: Any, source: bytes) -> Outcome:
        return self._call(lambda: atlas.conserved_copy(region, source))

    def unmake_region(self, region: Any) -> None:
        region.close()

    def select(self, kernel_set: str) -> None:
        atlas.select_kernel_set(kernel_set)


# --- The model, and any run of calls ---


@dataclass
class Domain:
    """What the contract says of a domain."""

    handle: Any
    capacity: int
    budget: int
    region: bytearray | None = None
    committed: bytes | None = None
    form: bytes = b""

    def refusal_to_attach(self, length: int) -> int:
        if not 1 <= length <= self.capacity:
            return MEMORY
        return OK if self.region is None else STATE

    def verified(self) -> int:
        if self.region is None:
            return STATE
        if model.residue(self.region) != 0:
            return CONSERVATION
        return OK if self.committed in (None, self.region) else WITNESS

    def refusal_to_commit(self) -> int:
        if self.region is None or self.committed is not None:
            return STATE
        return OK if model.residue(self.region) == 0 else CONSERVATION


@dataclass
class Record:
    """A witness, and the bytes that it is of."""

    handle: Any
    data: bytes


@dataclass
class Stream:
    """A stream of a witness or a tree, and its bytes so far."""

    handle: Any
    data: bytes = b""


@dataclass
class Balanced:
    """A region: any payload, and the balance as it was last set."""

    handle: Any
    payload: bytearray
    balance: int

    def set(self, payload: bytes) -> None:
        self.payload[:] = payload
        self.balance = -model.residue(payload) % model.MODULUS

    def whole(self) -> bytes:
        return bytes([*self.payload, self.balance])


_KERNEL_SETS = tuple(filter(atlas.kernel_set_supported, atlas.kernel_sets()))
_DATA = strategies.buffers(2 * model.WINDOW_BYTES + 64)


class AnyCalls(RuleBasedStateMachine):
    calls: ClassVar[Native | Package]
    domains = Bundle("domains")
    witnesses = Bundle("witnesses")
    streams = Bundle("streams")
    trees = Bundle("trees")
    regions = Bundle("regions")

    def __init__(self) -> None:
        super().__init__()
        self.kernel_set = atlas.kernel_set()
        self.all_domains: list[Domain] = []
        self.all_regions: list[Any] = []
        self.ends: list[Callable[[], None]] = []

    def teardown(self) -> None:
        for domain in self.all_domains:
            self.calls.destroy(domain.handle)
        for region in self.all_regions:
            self.calls.unmake_region(region)
        for end in self.ends:
            end()
        atlas.select_kernel_set(self.kernel_set)

    def _record(self, handle: Any, data: bytes) -> Record:
        form = self.calls.form(handle)
        assert form[6] == model.residue(data)
        assert int.from_bytes(form[8:16], "little") == len(data)
        assert form[24:] == hashlib.sha256(data).digest()
        self.ends.append(lambda: self.calls.forget(handle))
        return Record(handle, data)

    # Domains and budgets

    @rule(target=domains, capacity=strategies.lengths(400), budget=st.integers(0, 255))
    def create(self, capacity: int, budget: int) -> Any:
        code, handle = self.calls.create(capacity, budget)
        if capacity == 0 or budget > 95:
            # Where two rules are broken the contract does not say which one is named.
            assert {MEMORY: capacity == 0, BUDGET: budget > 95}[code]
            return multiple()
        assert code == OK
        self.all_domains.append(Domain(handle, capacity, budget))
        return self.all_domains[-1]

    @rule(domain=domains, data=st.binary(max_size=400), fixed=st.booleans())
    def attach(self, domain: Domain, data: bytes, fixed: bool) -> None:
        region = bytearray(model.fixup(data) if fixed else data)
        expected = domain.refusal_to_attach(len(region))
        code, _ = self.calls.attach(domain.handle, region)
        assert code == expected or (code == STATE and domain.region is not None)
        if code == OK:
            domain.region = region

    @rule(domain=domains, index=st.integers(0, 399), step=st.sampled_from((1, 95, 96, 192)))
    def write(self, domain: Domain, index: int, step: int) -> None:
        if domain.region:
            index %= len(domain.region)
            domain.region[index] = (domain.region[index] + step) % 256

    @rule(domain=domains)
    def repair(self, domain: Domain) -> None:
        if domain.region:
            expected = model.fixup(bytes(domain.region))
            assert self.calls.fixup(domain.region) == (OK, None)
            assert domain.region == expected

    @rule(domain=domains)
    def verify(self, domain: Domain) -> None:
        assert self.calls.verify(domain.handle)[0] == domain.verified()

    @rule(domain=domains)
    def commit(self, domain: Domain) -> None:
        expected = domain.refusal_to_commit()
        assert self.calls.commit(domain.handle)[0] == expected
        if expected == OK:
            assert domain.region is not None
            domain.committed = bytes(domain.region)
            _, domain.form = self.calls.witness_of(domain.handle)
            assert domain.form[24:] == hashlib.sha256(domain.committed).digest()

    @rule(domain=domains, amount=st.integers(0, 255))
    def alloc(self, domain: Domain, amount: int) -> None:
        fits = amount <= domain.budget
        assert self.calls.alloc(domain.handle, amount)[0] == (OK if fits else BUDGET)
        domain.budget -= amount if fits else 0

    @rule(domain=domains, amount=st.integers(0, 255))
    def release(self, domain: Domain, amount: int) -> None:
        fits = amount <= 95
        assert self.calls.release(domain.handle, amount)[0] == (OK if fits else BUDGET)
        domain.budget = (domain.budget + (amount if fits else 0)) % 96

    @rule(domain=consumes(domains))
    def destroy(self, domain: Domain) -> None:
        before = None if domain.region is None else bytes(domain.region)
        self.calls.destroy(domain.handle)
        assert domain.region == before
        self.all_domains.remove(domain)

    @invariant()
    def domains_are_what_the_model_says(self) -> None:
        for domain in self.all_domains:
            assert self.calls.available(domain.handle) == domain.budget
            assert self.calls.state(domain.handle) == (domain.committed is not None)
            if domain.committed is None:
                assert self.calls.witness_of(domain.handle) == (STATE, None)
            else:
                assert self.calls.witness_of(domain.handle) == (OK, domain.form)

    # Witnesses

    @rule(target=witnesses, data=_DATA)
    def generate(self, data: bytes) -> Record:
        code, handle = self.calls.witness(data)
        assert code == OK
        return self._record(handle, data)

    @rule(target=witnesses, record=witnesses)
    def through_bytes(self, record: Record) -> Record:
        form = self.calls.form(record.handle)
        code, handle = self.calls.witness_from(form)
        assert code == OK
        assert self.calls.form(handle) == form
        return self._record(handle, record.data)

    @rule(record=witnesses, index=st.integers(0, 7), byte=st.integers(96, 255))
    def bad_bytes(self, record: Record, index: int, byte: int) -> None:
        form = bytearray(self.calls.form(record.handle))
        form[index] = byte  # no field there may be that
        assert self.calls.witness_from(bytes(form)) == (WITNESS, None)
        assert self.calls.witness_from(bytes(form[:-1])) == (WITNESS, None)

    @rule(record=witnesses, data=_DATA)
    def matches(self, record: Record, data: bytes) -> None:
        assert self.calls.matches(record.handle, record.data) == (OK, None)
        same = data == record.data
        assert self.calls.matches(record.handle, data)[0] == (OK if same else WITNESS)

    @rule(target=streams)
    def stream(self) -> Stream:
        stream = Stream(self.calls.stream())
        self.ends.append(lambda: self.calls.end(stream.handle))
        return stream

    @rule(stream=streams, chunk=_DATA)
    def feed(self, stream: Stream, chunk: bytes) -> None:
        assert self.calls.feed(stream.handle, chunk) == (OK, None)
        stream.data += chunk

    @rule(target=streams, stream=streams)
    def save_and_resume(self, stream: Stream) -> Stream:
        form = self.calls.save(stream.handle)
        code, handle = self.calls.resume(form)
        assert code == OK
        assert self.calls.save(handle) == form
        self.ends.append(lambda: self.calls.end(handle))
        return Stream(handle, stream.data)

    @rule(stream=streams, index=st.integers(0, 7), byte=st.integers(96, 255))
    def bad_state(self, stream: Stream, index: int, byte: int) -> None:
        form = bytearray(self.calls.save(stream.handle))
        form[index] = byte  # no field there may be that
        assert self.calls.resume(bytes(form)) == (WITNESS, None)
        assert self.calls.resume(bytes(form[:-1])) == (WITNESS, None)

    @rule(target=witnesses, stream=streams)
    def witness_of_stream(self, stream: Stream) -> Record:
        code, handle = self.calls.stream_witness(stream.handle)
        assert code == OK
        return self._record(handle, stream.data)

    # Trees

    @rule(target=trees)
    def tree(self) -> Stream:
        return self._tree(self.calls.tree(), b"")

    def _tree(self, handle: Any, data: bytes) -> Stream:
        self.ends.append(lambda: self.calls.fell(handle))
        return Stream(handle, data)

    @rule(target=trees, tree=trees)
    def copy_tree(self, tree: Stream) -> Stream:
        return self._tree(self.calls.copy_tree(tree.handle), tree.data)

    @rule(tree=trees, chunk=_DATA)
    def grow(self, tree: Stream, chunk: bytes) -> None:
        assert self.calls.grow(tree.handle, chunk) == (OK, None)
        tree.data += chunk

    @rule(tree=trees, windows=st.integers(0, 2), byte=st.integers(0, 255), wrong=st.booleans())
    def append(self, tree: Stream, windows: int, byte: int, wrong: bool) -> None:
        data = bytes([byte]) * (windows * model.WINDOW_BYTES)
        residue = 96 if wrong else model.residue(data)
        whole = len(tree.data) % model.WINDOW_BYTES == 0
        code, _ = self.calls.append(tree.handle, self.calls.leaves(data), residue)
        assert (code == OK) == (whole and not wrong)
        assert code in {OK} | ({CONSERVATION} if wrong else set()) | (set() if whole else {STATE})
        tree.data += data if code == OK else b""

    @rule(tree=trees)
    def root(self, tree: Stream) -> None:
        expected = root_of(tree.data), len(tree.data), model.residue(tree.data)
        assert self.calls.root(tree.handle) == expected
        leaves = self.calls.leaves(tree.data)
        assert self.calls.root_of_leaves(leaves) == expected[0]
        if len(leaves) == 2 * _DIGEST_BYTES:
            assert self.calls.node(leaves[:_DIGEST_BYTES], leaves[_DIGEST_BYTES:]) == expected[0]

    # Utilities

    @rule(pair=strategies.pairs_of_equal_length())
    def sums(self, pair: tuple[bytes, bytes]) -> None:
        before, after = pair
        assert self.calls.residue(before) == model.residue(before)
        assert self.calls.conserved(before) == (model.residue(before) == 0)
        assert list(self.calls.windows(before)) == model.window_residues(before)
        assert self.calls.delta(before, after) == model.delta(before, after)

    @rule(pair=strategies.pairs_of_equal_length(), value=st.integers(0, 255))
    def copy_and_fill(self, pair: tuple[bytes, bytes], value: int) -> None:
        source, before = pair
        target = bytearray(before)
        conserved = model.residue(source) == 0
        assert self.calls.copy(target, source)[0] == (OK if conserved else CONSERVATION)
        assert target == (source if conserved else before)
        assert self.calls.fill(target, value) == (OK, None)
        assert target == model.fill(value, len(target))

    @rule(data=st.binary(min_size=1, max_size=400), index=st.integers(0, 399))
    def fixup_at(self, data: bytes, index: int) -> None:
        at = index % len(data)
        region = bytearray(data)
        assert self.calls.fixup_at(region, at) == (OK, None)
        last = model.fixup(data[:at] + data[at + 1 :] + data[at : at + 1])[-1]
        assert region == data[:at] + bytes([last]) + data[at + 1 :]

    # Regions

    @rule(target=regions, nbytes=strategies.lengths(400))
    def make_region(self, nbytes: int) -> Any:
        code, handle = self.calls.make_region(nbytes)
        assert code == (OK if nbytes else MEMORY)
        if code != OK:
            return multiple()
        self.all_regions.append(handle)
        return Balanced(handle, bytearray(nbytes), 0)

    @rule(region=regions, index=st.integers(0, 399), value=st.integers(0, 255))
    def write_payload(self, region: Balanced, index: int, value: int) -> None:
        at = index % len(region.payload)
        self.calls.write_payload(region.handle, at, value)
        region.payload[at] = value

    @rule(region=regions, source=strategies.buffers(400), value=st.integers(0, 255))
    def set_payload(self, region: Balanced, source: bytes, value: int) -> None:
        given = (source * len(region.payload))[: len(region.payload)] or bytes([value])
        given = given.ljust(len(region.payload), b"a")
        assert self.calls.copy_to_region(region.handle, given) == (OK, None)
        region.set(given)
        assert self.calls.whole(region.handle) == region.whole()
        assert self.calls.fill_region(region.handle, value) == (OK, None)
        region.set(bytes([value]) * len(given))

    @rule(region=regions)
    def balance(self, region: Balanced) -> None:
        region.set(bytes(region.payload))
        assert self.calls.balance(region.handle) == region.balance

    @rule(region=regions)
    def whole(self, region: Balanced) -> None:
        assert self.calls.whole(region.handle) == region.whole()

    @rule(region=consumes(regions))
    def unmake_region(self, region: Balanced) -> None:
        self.all_regions.remove(region.handle)
        self.calls.unmake_region(region.handle)

    @rule(name=st.sampled_from(_KERNEL_SETS))
    def select(self, name: str) -> None:
        self.calls.select(name)
        assert atlas.kernel_set() == name


class NativeCalls(AnyCalls):
    calls = Native()


class PackageCalls(AnyCalls):
    calls = Package()


# --- Transactions of one domain, entered and left in any order, by several threads or tasks ---


@dataclass(eq=False)
class Opened:
    """A transaction that is open.

    start, stop: of the bytes that it may restore. before: what they were at its start. balance: of
    a Region, at its start. crossed: it does not nest.
    """

    handle: atlas.Transaction
    start: int
    stop: int
    before: bytes
    balance: int = 0
    crossed: bool = False


@dataclass(eq=False)
class Task:
    """Whose bodies it runs in: its own, and those in which it was started."""

    context: contextvars.Context
    bodies: list[Opened]


class Transactions(RuleBasedStateMachine):
    """Of a buffer. payload: the bytes that transactions restore, as the model has them."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.buffer: bytearray | atlas.Region = self.make()
        self.memory = memoryview(self.buffer)
        self.payload = bytearray(96)
        self.domain = atlas.Domain(bytes=97)
        self.domain.attach(self.buffer)
        self.open: list[Opened] = []  # the last one is the innermost

    def make(self) -> bytearray | atlas.Region:
        return bytearray(96)

    def residue(self) -> int:
        return model.residue(self.payload)

    def refuses_damage(self) -> bool:
        """Is a transaction refused because of what the bytes are?"""
        return False

    def entered(self, opened: Opened) -> None:
        """Change the model as entering a transaction does."""

    def left(self, opened: Opened, fails: bool) -> type[Exception] | None:
        """Change the model as leaving a transaction that nests does; return what that raises."""
        if fails or self.residue() != 0:
            self.payload[opened.start : opened.stop] = opened.before
            return None if fails else atlas.ConservationError
        return None

    @invariant()
    def bytes_are_those_of_the_model(self) -> None:
        assert self.memory == self.payload

    @rule(target=tasks)
    def start(self) -> Task:
        return Task(contextvars.Context(), [])

    @rule(target=tasks, task=tasks)
    def start_in(self, task: Task) -> Task:
        return Task(task.context.copy(), list(task.bodies))

    @rule(at=st.integers(0, 95), step=st.sampled_from((1, 48, 95, 96)))
    def write(self, at: int, step: int) -> None:
        self.payload[at] = self.memory[at] = (self.memory[at] + step) % 256

    @rule()
    def repair(self) -> None:
        atlas.fixup(self.buffer)
        self.payload[:] = model.fixup(bytes(self.payload))

    # All bytes in half of all cases.
    @rule(
        task=tasks,
        bounds=st.just((0, 96)) | st.tuples(st.integers(0, 96), st.integers(0, 96)).map(sorted),
    )
    def enter(self, task: Task, bounds: tuple[int, int]) -> None:
        start, stop = bounds
        before = bytes(self.payload[start:stop])
        opened = Opened(self.domain.transaction(start, stop), start, stop, before)
        around = self.open[-1] if self.open else None
        nests = around is None or (
            around in task.bodies and around.start <= start and stop <= around.stop
        )
        expected: type[Exception] | None = None
        if not nests:
            expected = atlas.StateError
        elif self.refuses_damage():
            expected = atlas.ConservationError
        raised: type[Exception] | None = None
        try:
            task.context.run(opened.handle.__enter__)
        except atlas.AtlasError as refusal:
            raised = type(refusal)
        assert raised is expected
        if raised is None:
            self.entered(opened)
            task.bodies.append(opened)
            self.open.append(opened)

    @precondition(lambda self: self.open)
    @rule(task=tasks, which=st.integers(0, 99), fails=st.booleans())
    def leave(self, task: Task, which: int, fails: bool) -> None:
        # The innermost one in half of all cases.
        opened = self.open[-1 if which < 50 else which % len(self.open)]
        inner = self.open[self.open.index(opened) + 1 :]
        for one in (opened, *inner) if inner else ():
            one.crossed = True
        expected: type[Exception] | None = atlas.StateError
        if not opened.crossed:
            expected = self.left(opened, fails)
        raised: type[Exception] | None = None
        error = (KeyError, KeyError(), None) if fails else (None, None, None)
        try:
            task.context.run(opened.handle.__exit__, *error)
        except atlas.AtlasError as refusal:
            raised = type(refusal)
        assert raised is expected
        self.open.remove(opened)

    @rule()
    def commit(self) -> None:
        """Only refusals: there is one commit in a domain's life."""
        if self.open or self.residue() != 0:
            code, _ = PackageCalls.calls.commit(self.domain)
            assert code == (STATE if self.open else CONSERVATION)


class RegionTransactions(Transactions):
    """Of a Region: damage is refused, and never balanced away by a transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.balance = 0

    def make(self) -> atlas.Region:
        return atlas.Region(96)

    @property
    def region(self) -> atlas.Region:
        assert isinstance(self.buffer, atlas.Region)
        return self.buffer

    def residue(self) -> int:
        return (model.residue(self.payload) + self.balance) % model.MODULUS

    def balance_of(self, opened: Opened) -> int:
        """What the balance is if the bytes of a transaction alone were changed in its body."""
        now = model.residue(self.payload[opened.start : opened.stop])
        return (opened.balance + model.residue(opened.before) - now) % model.MODULUS

    def balance_on_entry(self) -> int:
        return self.balance_of(self.open[-1]) if self.open else self.balance

    def refuses_damage(self) -> bool:
        balance = self.balance_on_entry()
        return balance > 95 or (model.residue(self.payload) + balance) % model.MODULUS != 0

    def entered(self, opened: Opened) -> None:
        opened.balance = self.balance = self.balance_on_entry()

    def left(self, opened: Opened, fails: bool) -> type[Exception] | None:
        balance = self.balance_of(opened)
        broken = (model.residue(self.payload) + balance) % model.MODULUS != 0
        self.balance = opened.balance if fails or broken else balance
        if fails or broken:
            self.payload[opened.start : opened.stop] = opened.before
        return atlas.ConservationError if broken and not fails else None

    @invariant()
    def balance_is_that_of_the_model(self) -> None:
        assert self.region.whole[96] == self.balance

    @rule(value=st.integers(0, 255))
    def strike(self, value: int) -> None:
        strike(self.region, 96, value)
        self.balance = value

    @rule()
    def repair(self) -> None:
        self.balance = -model.residue(self.payload) % model.MODULUS
        assert self.region.balance() == self.balance


def test_any_order_of_transactions_nests_or_raises_and_loses_nothing() -> None:
    run_state_machine_as_test(Transactions)


def test_any_order_of_transactions_on_a_region_balances_what_they_changed_and_no_damage() -> None:
    run_state_machine_as_test(RegionTransactions)


def test_any_run_of_calls_through_the_c_abi() -> None:
    run_state_machine_as_test(NativeCalls)


def test_any_run_of_calls_through_the_package() -> None:
    run_state_machine_as_test(PackageCalls)
