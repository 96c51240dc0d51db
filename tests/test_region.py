# SPDX-License-Identifier: Apache-2.0
"""Regions: any payload, never changed by the law, and a balance that makes the whole conserved."""

import contextlib
import copy
import ctypes
import gc
import importlib
import inspect
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
from atlas12288 import _native
from support import model, strategies
from support.leftovers import nothing_left
from support.regions import address_of, region_of, strike

numpy = pytest.importorskip("numpy")
SYSTEM_PAGE = os.sysconf("SC_PAGESIZE")
LENGTHS = (1, 95, 96, SYSTEM_PAGE - 1, SYSTEM_PAGE, SYSTEM_PAGE + 1, 2 * model.WINDOW_BYTES + 1)
needs_maps = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")


def array_of(region: Any, dtype: Any) -> Any:
    """Return an array over the payload. NumPy's types do not know every buffer."""
    return numpy.frombuffer(region, dtype)


# --- Life ---


@pytest.mark.parametrize("nbytes", LENGTHS)
def test_a_new_region_is_zeros_from_a_page_on_and_conserved(nbytes: int) -> None:
    region = atlas.Region(nbytes)
    assert (region.nbytes, region.size) == (nbytes, nbytes + 1)
    assert bytes(region) == bytes(nbytes)
    assert bytes(region.whole) == bytes(nbytes + 1)
    assert address_of(region) % SYSTEM_PAGE == 0
    assert atlas.is_conserved(region)
    assert not region.sealed
    assert not region.closed


BAD_LENGTHS: list[tuple[Any, type[Exception], str]] = [
    (0, atlas.DomainMemoryError, "nbytes is 0, must be in 1.."),
    (-1, atlas.DomainMemoryError, "nbytes is -1, must be in 1.."),
    (2**63 - 1, atlas.DomainMemoryError, "must be in 1..9223372036854775806"),
    (2**64, atlas.DomainMemoryError, "nbytes is 18446744073709551616, must be in 1.."),
    (2**200, atlas.DomainMemoryError, "nbytes is an int of 201 bits, must be in 1.."),
    (2**63 - 2, atlas.DomainMemoryError, "no memory for a region of 9223372036854775806 bytes"),
    (2**50, atlas.DomainMemoryError, "no memory for a region of 1125899906842624 bytes"),
    (True, TypeError, "nbytes is of type bool, must be an int"),
    (5.0, TypeError, "nbytes is of type float, must be an int"),
    ("5", TypeError, "nbytes is of type str, must be an int"),
    (None, TypeError, "nbytes is of type NoneType, must be an int"),
]


@pytest.mark.parametrize(("nbytes", "kind", "message"), BAD_LENGTHS)
def test_a_length_that_cannot_be_is_refused(
    nbytes: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        atlas.Region(nbytes)


def test_a_region_is_made_once() -> None:
    region = region_of(b"abc")
    with pytest.raises(atlas.StateError, match="made already"):
        region.__init__(5)
    assert bytes(region) == b"abc"
    region.close()
    with pytest.raises(atlas.StateError, match="made already"):
        region.__init__(5)
    assert region.closed


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_region_cannot_be_pickled_or_copied(copied: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match=r"bytes\(region\) is a copy of its payload"):
        copied(atlas.Region(5))


def test_a_region_has_no_subclass() -> None:
    with pytest.raises(TypeError):
        type("Mine", (atlas.Region,), {})


def test_repr_tells_length_and_balance() -> None:
    region = region_of(b"\x05")
    assert repr(region) == "<Region 1 bytes, balance 91>"
    region.close()
    assert repr(region) == "<Region closed>"


def test_inspect_knows_the_arguments() -> None:
    assert str(inspect.signature(atlas.Region)) == "(nbytes)"
    assert str(inspect.signature(atlas.fixup)) == "(buf, /, at=None)"
    assert str(inspect.signature(atlas.Domain.transaction)) == "(self, /, start=0, stop=None)"


CLOSED: dict[str, Callable[[atlas.Region], object]] = {
    "nbytes": lambda r: r.nbytes,
    "size": lambda r: r.size,
    "whole": lambda r: r.whole,
    "sealed": lambda r: r.sealed,
    "balance": lambda r: r.balance(),
    "with": lambda r: r.__enter__(),
    "memoryview": memoryview,
    "numpy": lambda r: array_of(r, "uint8"),
    "attach": lambda r: atlas.Domain(96).attach(r),
    "residue": atlas.residue,
    "window_residues": atlas.window_residues,
    "Witness": atlas.Witness.generate,
    "verify": atlas.Witness.generate(b"").verify,
    "generate_many": lambda r: atlas.Witness.generate_many([b"a", r]),
    "TreeWitness": atlas.TreeWitness.generate,
    "delta": lambda r: atlas.delta(r, bytes(6)),
    "conserved_fill": lambda r: atlas.conserved_fill(r, 1),
    "conserved_copy": lambda r: atlas.conserved_copy(r, bytes(5)),
    "source": lambda r: atlas.conserved_copy(bytearray(6), r),
    "fixup": atlas.fixup,
}


@pytest.mark.parametrize("name", CLOSED)
def test_after_close_every_call_raises_state_error(name: str) -> None:
    for region in (atlas.Region(5), _native.Region.__new__(_native.Region)):
        region.close()
        region.close()
        assert region.closed
        with pytest.raises(atlas.StateError, match="the region is closed, must be open"):
            CLOSED[name](region)


def test_with_closes_the_region() -> None:
    with atlas.Region(5) as region:
        assert not region.closed
    assert region.closed


VIEWS: dict[str, Callable[[atlas.Region], Any]] = {
    "memoryview": memoryview,
    "a part of a memoryview": lambda r: memoryview(r)[1:2],
    "whole": lambda r: r.whole,
    "numpy.frombuffer": lambda r: array_of(r, "uint8"),
    "numpy.asarray": numpy.asarray,
    "a part of an array": lambda r: array_of(r, "uint16")[::2],
    "DLPack": lambda r: numpy.from_dlpack(array_of(r, "uint8")),
    "ctypes": (ctypes.c_char * 96).from_buffer,
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_region_with_a_view_is_not_closed(name: str) -> None:
    region = atlas.Region(96)
    view = VIEWS[name](region)
    with pytest.raises(BufferError, match="has 1 view, such as a memoryview or an array"):
        region.close()
    assert bytes(region) == bytes(96)
    del view
    region.close()


def test_a_domain_holds_its_region_by_reference_until_it_is_closed() -> None:
    region = region_of(b"payload")
    domain = atlas.Domain(region.size)
    domain.attach(region)
    with pytest.raises(atlas.StateError, match="held by a domain, a scrubber or a call"):
        region.close()
    shown = domain.attached
    domain.close()
    with pytest.raises(atlas.StateError, match="held by a domain"):
        region.close()  # by the view of what the domain had
    assert shown is not None
    shown.release()
    del domain
    region.close()


def test_what_a_domain_shows_of_a_region_is_the_whole_and_read_only() -> None:
    region = region_of(b"payload")
    with atlas.Domain(region.size) as domain:
        domain.attach(region)
        assert domain.attached == region.whole
        assert domain.attached is not None
        assert domain.attached.readonly


def test_a_call_that_runs_holds_its_region() -> None:
    region = atlas.Region(96)
    running = _native.Buffers([region, region])
    with pytest.raises(atlas.StateError, match="held by"):
        region.close()
    del running
    region.close()


def test_a_refused_call_lets_its_region_go() -> None:
    region = atlas.Region(96)
    for call in (
        lambda: atlas.delta(region, b""),
        lambda: atlas.delta(b"", region),
        lambda: atlas.Witness.from_bytes(region),
        lambda: atlas.conserved_copy(region, b""),
        lambda: atlas.conserved_copy(region, region),
        lambda: atlas.conserved_copy(region, "text"),
        lambda: atlas.conserved_copy(bytearray(5), region),
        lambda: atlas.conserved_fill(region, 256),
        lambda: atlas.Domain(5).attach(region),
        lambda: atlas.Witness.generate_many([region, "text"]),
        lambda: _native.tree_root(region),
        lambda: _native.tree_node(region, region),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
    region.close()


def test_a_body_that_raises_with_a_view_keeps_its_exception_and_the_view() -> None:
    with pytest.raises(KeyError), atlas.Region(5) as region:  # noqa: PT012
        view = memoryview(region)
        raise KeyError
    assert not region.closed
    assert view == bytes(5)
    with pytest.raises(BufferError), atlas.Region(5) as other:
        view = memoryview(other)


def test_a_view_keeps_the_memory_of_a_region_that_was_dropped() -> None:
    view, whole = memoryview(region_of(b"kept")), region_of(b"kept").whole
    assert bytes(view) == b"kept"
    assert bytes(whole[:4]) == b"kept"


def mappings() -> int:
    return Path("/proc/self/maps").read_text(encoding="utf-8").count("memfd:atlas12288")


@needs_maps
def test_memory_and_file_descriptor_are_given_back() -> None:
    gc.collect()
    before = mappings()
    with nothing_left():
        regions = [atlas.Region(SYSTEM_PAGE) for _ in range(50)]
        assert mappings() == before + 50
        for region in regions[:25]:
            region.close()
        del region, regions
    assert mappings() == before


@needs_maps
def test_pages_that_no_one_can_touch_lie_around_a_region() -> None:
    region = atlas.Region(3 * SYSTEM_PAGE)  # the balance is on a fourth page
    start = address_of(region)
    around = {}
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        first, last = (int(number, 16) for number in line.split()[0].split("-"))
        for address in (start - 1, start, start + 4 * SYSTEM_PAGE - 1, start + 4 * SYSTEM_PAGE):
            if first <= address < last:
                around[address - start] = line.split()[1][:3]
    assert list(around.values()) == ["---", "rw-", "rw-", "---"]


@needs_maps
@pytest.mark.parametrize("at", [-1, 2 * SYSTEM_PAGE])
def test_a_write_beyond_a_region_ends_the_process(at: int) -> None:
    program = f"""
import atlas12288, ctypes
region = atlas12288.Region({SYSTEM_PAGE})
start = ctypes.addressof((ctypes.c_char * {SYSTEM_PAGE}).from_buffer(region))
ctypes.memset(start, 1, {SYSTEM_PAGE} + 1)
print("in", flush=True)
ctypes.memset(start + {at}, 1, 1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-11, b"in\n")


LIMITED = """
import resource, sys
import atlas12288 as atlas
resource.setrlimit(resource.{limit}, ({most}, {most}))
try:
    region = atlas.Region(1 << 20)
except atlas.DomainMemoryError as error:
    sys.exit(str(error))
atlas.conserved_fill(region, 5)
print(region)
region.close()
"""


def limited(limit: str, most: int) -> tuple[str, str]:
    program = LIMITED.format(limit=limit, most=most)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    return done.stdout.strip(), done.stderr.strip()


@needs_maps
def test_without_a_file_descriptor_the_error_says_so() -> None:
    assert limited("RLIMIT_NOFILE", 3) == (
        "",
        "the process has as many open files as it may, must have room for one, the memory of a "
        "region",
    )


@needs_maps
def test_a_limit_on_the_size_of_files_is_none_on_regions() -> None:
    assert limited("RLIMIT_FSIZE", 1000) == ("<Region 1048576 bytes, balance 64>", "")


@needs_maps
def test_a_limit_on_memory_is_an_error_that_says_how_much_was_asked_for() -> None:
    out, err = limited("RLIMIT_AS", SYSTEM_PAGE)
    assert out == ""
    assert err == "no memory for a region of 1048576 bytes, must be free before"


# --- The payload is the user's ---

DTYPES = [
    *sorted({numpy.dtype(code).str for code in numpy.typecodes["All"] if code not in "OSUVMm"}),
    *(">f2", ">f4", ">f8", ">i4", ">u8", ">c8"),
    *("S5", "U3", "V7", "M8[s]", "m8[us]"),
    numpy.dtype([("a", "f2"), ("b", "i8"), ("c", "?")]).descr,
]


def ml_dtypes_names() -> list[str]:
    """Return the names of all types of ml_dtypes; it is not there for every Python."""
    try:
        ml_dtypes = importlib.import_module("ml_dtypes")
    except ImportError:
        return []
    kinds = {name: getattr(ml_dtypes, name) for name in ml_dtypes.__all__}
    return sorted(
        name
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, numpy.generic)
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [*map(str, DTYPES), *ml_dtypes_names()])
def test_no_value_of_any_type_changes_in_the_life_of_a_region(name: str, seed: int) -> None:
    found = {str(dtype): dtype for dtype in DTYPES}.get(name)
    if found is None:
        found = getattr(importlib.import_module("ml_dtypes"), name)
    dtype = numpy.dtype(found)
    data = strategies.noise(dtype.itemsize * 1000, seed)
    region = atlas.Region(len(data))
    # Written as bytes: NumPy itself changes a bool that is 2, and the padding of a number.
    raw = memoryview(region)
    raw[:] = data
    array = array_of(region, dtype)
    region.balance()
    assert array.tobytes() == data
    with atlas.Domain(region.size) as domain:
        domain.attach(region)
        assert array.tobytes() == data
        with domain.transaction():
            pass
        with domain.transaction(3, -3):
            pass
        assert array.tobytes() == data
        with pytest.raises(KeyError), domain.transaction():  # noqa: PT012
            array[7:9] = array[:2]
            raise KeyError
        assert array.tobytes() == data
        with domain.transaction():
            raw[7:9] = data[7:9]
        witness = domain.commit()
        assert array.tobytes() == data == bytes(region)
    assert witness.verify(region)
    del array
    raw.release()
    with atlas.Domain(region.size) as domain:
        domain.attach(region)
        assert domain.commit(seal=True).digest == witness.digest
    assert array_of(region, dtype).tobytes() == data


@given(strategies.buffers().filter(len), st.integers(0, 255))
def test_the_balance_is_the_one_byte_that_conserves_and_leaves_the_payload(
    data: bytes, before: int
) -> None:
    region = atlas.Region(len(data))
    memoryview(region)[:] = data
    strike(region, len(data), before)
    balance = region.balance()
    assert balance in range(96)
    assert bytes(region) == data
    assert bytes(region.whole) == data + bytes([balance])
    assert model.residue(region.whole) == 0


@given(strategies.buffers().filter(len))
def test_conserved_copy_to_a_region_asks_no_law_of_its_source(data: bytes) -> None:
    region = atlas.Region(len(data))
    atlas.conserved_copy(region, data)
    assert bytes(region) == data
    assert model.residue(region.whole) == 0
    other = atlas.Region(len(data))
    atlas.conserved_copy(other, region)  # of a region the payload
    assert other.whole == region.whole
    buffer = bytearray(region.size)
    atlas.conserved_copy(buffer, region)  # to other memory the whole, which is conserved
    assert buffer == region.whole


@given(strategies.lengths().filter(bool), st.integers(0, 255))
def test_conserved_fill_of_a_region_fills_every_byte(length: int, value: int) -> None:
    region = atlas.Region(length)
    atlas.conserved_fill(region, value)
    assert bytes(region) == bytes([value]) * length
    assert model.residue(region.whole) == 0


def test_fixup_of_a_region_sets_the_balance() -> None:
    region = atlas.Region(4)
    array_of(region, "float32")[:] = 1.5
    atlas.fixup(region)
    assert array_of(region, "float32") == 1.5
    assert atlas.is_conserved(region)
    for at in (0, -1, 4):
        with pytest.raises(ValueError, match="must be left out for a Region"):
            atlas.fixup(region, at=at)


@pytest.mark.parametrize("length", [0, 4, 6, 96])
def test_a_source_of_another_length_is_not_copied(length: int) -> None:
    region = region_of(b"12345")
    with pytest.raises(ValueError, match=f"dst has 5 bytes and src has {length}"):
        atlas.conserved_copy(region, bytes(length))
    assert bytes(region) == b"12345"


def test_a_source_that_overlaps_is_not_copied() -> None:
    region = region_of(b"12345")
    for source in (region, memoryview(region), array_of(region, "uint8")):
        with pytest.raises(atlas.DomainMemoryError, match="src overlaps the region"):
            atlas.conserved_copy(region, source)
    assert bytes(region) == b"12345"
    region_of(b"12345").close()


# --- What reads a region reads the whole ---

READERS: dict[str, Callable[[Any], Any]] = {
    "residue": atlas.residue,
    "is_conserved": atlas.is_conserved,
    "window_residues": atlas.window_residues,
    "delta": lambda b: atlas.delta(b, b),
    "Residue": lambda b: atlas.Residue(b).value,
    "Witness": lambda b: atlas.Witness.generate(b).digest,
    "generate_many": lambda b: atlas.Witness.generate_many([b])[0].digest,
    "WitnessStream": lambda b: atlas.WitnessStream(b).digest(),
    "TreeWitness": lambda b: atlas.TreeWitness.generate(b).root,
    "TreeWitness on threads": lambda b: atlas.TreeWitness.generate(b, threads=2).root,
    "TreeHash": lambda b: atlas.TreeHash(b).digest(),
}


@pytest.mark.parametrize("name", READERS)
def test_what_reads_a_region_reads_payload_and_balance(name: str) -> None:
    region = region_of(strategies.noise(5 * model.WINDOW_BYTES + 7))
    assert READERS[name](region) == READERS[name](bytes(region.whole))
    if name != "delta":
        payload = READERS[name](memoryview(region))
        assert payload != READERS[name](region)


@pytest.mark.parametrize("kind", [atlas.Witness, atlas.TreeWitness])
def test_a_witness_of_a_region_sees_a_change_of_payload_and_of_balance(kind: Any) -> None:
    region = region_of(strategies.noise(3 * model.WINDOW_BYTES))
    witness = kind.generate(region)
    assert witness.length == region.size
    for at in (0, region.nbytes // 2, region.nbytes - 1, region.nbytes):
        before = region.whole[at]
        strike(region, at, before ^ 1)
        assert not witness.verify(region)
        strike(region, at, before)
        assert witness.verify(region)


def test_a_tree_of_a_region_names_the_windows_that_changed_and_is_updated() -> None:
    region = region_of(bytes(4 * model.WINDOW_BYTES))
    tree = atlas.TreeWitness.generate(region)
    memoryview(region)[model.WINDOW_BYTES] = 7
    region.balance()
    assert tree.changed(region) == [1, 4]  # the balance is alone in the last window
    newer = tree.update(region, [1, 4])
    assert newer.verify(region)
    assert newer == atlas.TreeWitness.generate(region) or newer.root != tree.root


@needs_maps
def test_a_witness_of_a_region_holds_in_another_process(tmp_path: Path) -> None:
    region = region_of(strategies.noise(5000))
    (tmp_path / "payload").write_bytes(bytes(region))
    (tmp_path / "witness").write_text(atlas.Witness.generate(region).to_json())
    program = """
import atlas12288 as atlas, sys
payload = open("payload", "rb").read()
region = atlas.Region(len(payload))
atlas.conserved_copy(region, payload)
sys.exit(not atlas.Witness.from_json(open("witness").read()).verify(region))
"""
    assert (
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False).returncode == 0
    )


# --- Transactions ---


@pytest.fixture
def region() -> atlas.Region:
    return region_of(strategies.noise(500, 7))


@pytest.fixture
def domain(region: atlas.Region) -> atlas.Domain:
    domain = atlas.Domain(region.size)
    domain.attach(region)
    return domain


def test_a_transaction_sets_the_balance(region: atlas.Region, domain: atlas.Domain) -> None:
    before = bytes(region)
    with domain.transaction():
        memoryview(region)[3] ^= 5
        assert not domain.verify()
    assert domain.verify()
    assert bytes(region) == before[:3] + bytes([before[3] ^ 5]) + before[4:]
    assert region.whole[-1] < 96


def test_a_transaction_that_raises_restores_payload_and_balance(
    region: atlas.Region, domain: atlas.Domain
) -> None:
    before = bytes(region.whole)
    with pytest.raises(KeyError), domain.transaction():  # noqa: PT012
        memoryview(region)[:] = bytes(500)
        region.balance()
        raise KeyError
    assert region.whole == before


@pytest.mark.parametrize("at", [0, 499, 500])
def test_a_transaction_is_not_entered_where_the_region_is_damaged(
    at: int, region: atlas.Region, domain: atlas.Domain
) -> None:
    strike(region, at, (region.whole[at] + 1) % 96)
    damaged = bytes(region.whole)
    for _ in range(2):
        with (
            pytest.raises(atlas.ConservationError, match=r"before the transaction.*balance\(\)"),
            domain.transaction(),
        ):
            pytest.fail("entered")
    assert region.whole == damaged
    region.balance()
    with domain.transaction():
        pass


def test_a_balance_that_is_none_is_damage(region: atlas.Region, domain: atlas.Domain) -> None:
    strike(region, 500, region.whole[500] + 96)
    assert domain.verify()  # the residue does not see it
    with (
        pytest.raises(atlas.ConservationError, match=r"must be in 0\.\.95"),
        domain.transaction(),
    ):
        pytest.fail("entered")


def test_damage_outside_the_range_of_a_transaction_is_not_balanced_away(
    region: atlas.Region, domain: atlas.Domain
) -> None:
    before = bytes(region.whole)
    transaction = domain.transaction(100, 200)
    transaction.__enter__()
    memoryview(region)[150] ^= 1
    memoryview(region)[300] ^= 1
    with pytest.raises(
        atlas.ConservationError,
        match=r"outside 100\.\.200 were changed; of them 100\.\.200 are restored, the others",
    ):
        transaction.__exit__(None, None, None)
    assert region.whole[:300] == before[:300]
    assert region.whole[301:] == before[301:]
    assert not domain.verify()


def test_a_transaction_of_a_range_keeps_its_changes(
    region: atlas.Region, domain: atlas.Domain
) -> None:
    for start, stop, inside in ((0, None, 0), (10, 20, 19), (-1, None, 499), (0, -499, 0)):
        with domain.transaction(start, stop):
            memoryview(region)[inside] ^= 255
        assert domain.verify()
    with domain.transaction(250, 250):
        pass


def test_an_inner_transaction_is_entered_though_the_outer_has_written(
    region: atlas.Region, domain: atlas.Domain
) -> None:
    payload = memoryview(region)
    before = bytes(payload)
    with domain.transaction(10, 60):
        payload[10] ^= 1
        with domain.transaction(20, 30):
            payload[20] ^= 1
        with pytest.raises(KeyError), domain.transaction(20, 40):  # noqa: PT012
            payload[20] ^= 3
            raise KeyError
        assert domain.verify()
        payload[59] ^= 1
    assert domain.verify()
    expected = bytearray(before)
    for at in (10, 20, 59):
        expected[at] ^= 1
    assert payload == expected


def test_an_inner_transaction_is_not_entered_where_the_outer_wrote_outside_its_range(
    region: atlas.Region, domain: atlas.Domain
) -> None:
    with pytest.raises(atlas.ConservationError), domain.transaction(10, 20):  # noqa: PT012
        memoryview(region)[20] ^= 1
        with (
            pytest.raises(atlas.ConservationError, match="before the transaction"),
            domain.transaction(10, 20),
        ):
            pytest.fail("entered")


def test_the_region_is_held_until_its_transaction_is_left(region: atlas.Region) -> None:
    domain = atlas.Domain(region.size)
    domain.attach(region)
    with domain.transaction():
        domain.close()
        with pytest.raises(atlas.StateError, match="held by"):
            region.close()
        memoryview(region)[0] ^= 1
    assert atlas.is_conserved(region)
    del domain
    region.close()


def test_a_transaction_that_is_never_left_lets_the_region_go(region: atlas.Region) -> None:
    domain = atlas.Domain(region.size)
    domain.attach(region)
    entered = domain.transaction()
    entered.__enter__()
    del entered, domain
    region.close()


def test_commit_after_a_transaction_is_of_payload_and_balance(
    region: atlas.Region, domain: atlas.Domain
) -> None:
    with domain.transaction():
        memoryview(region)[:5] = b"hello"
    witness = domain.commit()
    assert (witness.length, witness.residue) == (501, 0)
    assert witness.verify(region)
    assert domain.verify()
    with pytest.raises(atlas.StateError, match="COMMITTED"), domain.transaction():
        pytest.fail("entered")


def test_threads_that_write_parts_of_their_own_leave_a_region_that_can_be_balanced() -> None:
    region = atlas.Region(8 * 4096)
    view = memoryview(region)

    def write(part: int) -> None:
        for value in range(100):
            view[part * 4096 : (part + 1) * 4096] = bytes([value + part]) * 4096
            region.balance()
            atlas.residue(region)

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(write, range(8)):
            pass
    region.balance()
    assert model.residue(region.whole) == 0
    assert bytes(view) == b"".join(bytes([99 + part]) * 4096 for part in range(8))


def call_until_closed(region: atlas.Region, begin: threading.Barrier) -> None:
    begin.wait()

    def call() -> None:
        while True:
            region.balance()
            atlas.Witness.generate(region)

    with pytest.raises(atlas.StateError, match="is closed"):
        call()


def test_a_close_while_threads_call_is_refused_or_ends_their_calls_by_state_error() -> None:
    for _ in range(20):
        region = atlas.Region(1 << 20)
        begin = threading.Barrier(4)
        with ThreadPoolExecutor(3) as pool:
            calls = [pool.submit(call_until_closed, region, begin) for _ in range(3)]
            begin.wait()
            while not region.closed:
                with contextlib.suppress(atlas.StateError):
                    region.close()
            for call in calls:
                call.result()


# --- A fork in a transaction ---


def leave_in_child(transaction: Any, error: Exception | None) -> int:
    """Leave an open transaction in a child process; return 0 if it did as it must."""
    child = os.fork()
    if child != 0:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        if error is not None:
            code = int(transaction.__exit__(type(error), error, None))
        else:
            with pytest.raises(atlas.StateError, match="entered by the parent process"):
                transaction.__exit__(None, None, None)
            code = 0
    finally:
        os._exit(code)


@pytest.mark.parametrize("error", [None, KeyError()])
def test_a_child_that_leaves_a_transaction_of_its_parent_changes_nothing(
    error: Exception | None,
) -> None:
    region = region_of(bytes(range(96)))
    domain = atlas.Domain(bytes=region.size)
    domain.attach(region)
    with memoryview(region) as view:
        with domain.transaction(0, 50) as transaction:
            view[3] = 77
            balance = region.whole[96]
            assert leave_in_child(transaction, error) == 0
            assert (view[3], region.whole[96]) == (77, balance)
            view[4] = 55
        assert (view[3], view[4]) == (77, 55)
        assert atlas.is_conserved(region)
    domain.close()


def test_a_child_restores_a_buffer_of_its_own() -> None:
    buffer = bytearray(96)
    domain = atlas.Domain(bytes=96)
    domain.attach(buffer)
    with domain.transaction() as transaction:
        buffer[3] = 96
        child = os.fork()
        if child == 0:
            transaction.__exit__(KeyError, KeyError(), None)
            os._exit(buffer[3])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert buffer[3] == 96
    domain.close()
