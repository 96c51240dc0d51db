# SPDX-License-Identifier: Apache-2.0
"""Residues and the conservation utilities from Python, against the law in plain Python."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
from support import model, strategies


@given(strategies.buffers())
def test_residue_is_the_sum_mod_96_and_conserved_is_residue_0(data: bytes) -> None:
    assert atlas.residue(data) == model.residue(data)
    assert atlas.is_conserved(data) is (model.residue(data) == 0)


@given(strategies.buffers(most=40_000))
def test_window_residues_has_one_residue_a_window(data: bytes) -> None:
    assert list(atlas.window_residues(data)) == model.window_residues(data)


@given(strategies.pairs_of_equal_length())
def test_delta_is_the_difference_of_the_residues(pair: tuple[bytes, bytes]) -> None:
    before, after = pair
    assert atlas.delta(before, after) == model.delta(before, after)


@given(strategies.conserved_buffers())
def test_conserved_copy_copies_a_conserved_source(source: bytes) -> None:
    destination = bytearray(len(source))
    atlas.conserved_copy(destination, source)
    assert destination == source


@given(strategies.buffers().filter(model.residue))
def test_conserved_copy_of_a_source_that_is_not_conserved_writes_nothing(source: bytes) -> None:
    destination = bytearray(b"\xa5" * len(source))
    with pytest.raises(atlas.ConservationError, match=rf"is {model.residue(source)}, must be 0"):
        atlas.conserved_copy(destination, source)
    assert destination == b"\xa5" * len(source)


@pytest.mark.parametrize("shift", [0, 1, 95])
def test_conserved_copy_refuses_regions_that_overlap(shift: int) -> None:
    block = bytearray(192)
    with pytest.raises(atlas.DomainMemoryError, match="bytes apart, must be at least 96"):
        atlas.conserved_copy(memoryview(block)[shift : shift + 96], memoryview(block)[:96])


@given(strategies.lengths(), st.integers(0, 255))
def test_conserved_fill_fills_and_fixes_up(length: int, value: int) -> None:
    destination = bytearray(length)
    atlas.conserved_fill(destination, value)
    assert destination == model.fill(value, length)


@given(strategies.buffers())
def test_fixup_changes_the_last_byte_to_the_nearest_that_conserves(data: bytes) -> None:
    region = bytearray(data)
    atlas.fixup(region)
    assert region == model.fixup(data)


@given(strategies.buffers().filter(len), st.data())
def test_fixup_at_an_index_changes_that_byte_as_it_does_the_last_one(
    data: bytes, draw: st.DataObject
) -> None:
    at = draw.draw(st.integers(-len(data), len(data) - 1))
    region = bytearray(data)
    atlas.fixup(region, at=at)
    rest = sum(data) - data[at]
    expected = bytearray(data)
    expected[at] = model.nearest_conserving(rest, data[at])
    assert region == expected


@pytest.mark.parametrize("at", [3, -4, 2**64, -(2**64)])
def test_fixup_at_an_index_outside_is_an_index_error(at: int) -> None:
    region = bytearray(b"abc")
    with pytest.raises(IndexError, match=rf"at is {at}, must be in -3\.\.2"):
        atlas.fixup(region, at=at)
    with pytest.raises(IndexError, match="but there are no bytes"):
        atlas.fixup(bytearray(), at=at)
    assert region == b"abc"
    region.append(0)  # it is not exported any more


@pytest.mark.parametrize("at", [True, 1.0, "1"])
def test_an_index_of_fixup_is_an_int(at: Any) -> None:
    with pytest.raises(TypeError, match=f"at is of type {type(at).__name__}, must be an int"):
        atlas.fixup(bytearray(3), at=at)


# docs/howto/regions.md has them in a table.
RELATIVE = {"f8": 2.2e-14, "f4": 1.2e-5, "f2": 0.093, "c16": 2.2e-14, "c8": 1.2e-5}
UNITS = dict.fromkeys(("i2", "i4", "i8", "u2", "u4", "u8"), 95)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", [*RELATIVE, *UNITS])
def test_the_harmless_byte_of_each_number_type_is_harmless(name: str, order: str) -> None:
    numpy = pytest.importorskip("numpy")
    random = numpy.random.default_rng(12288)
    at, changed = (0, 0) if order == "<" else (-1, -1)
    for _ in range(500):
        numbers = numpy.empty(5, order + name)
        if name in RELATIVE:
            parts = numbers.view(order + {"c16": "f8", "c8": "f4"}.get(name, name))
            parts[:] = random.choice((-1, 1), parts.shape) * random.uniform(1, 1000, parts.shape)
        else:
            numbers[:] = random.integers(100, 30_000, numbers.shape)
            parts = numbers
        before = parts.copy()
        atlas.fixup(numbers, at=at)
        assert atlas.is_conserved(numbers)
        difference = abs(float(parts[changed]) - float(before[changed]))
        assert difference <= RELATIVE.get(name, 0) * abs(float(before[changed])) + UNITS.get(
            name, 0
        )
        parts[changed] = before[changed]
        assert numpy.array_equal(parts, before)


# --- Residue, the stream ---


@given(strategies.splits())
def test_the_residue_of_chunks_is_that_of_the_whole(chunks: list[bytes]) -> None:
    stream = atlas.Residue()
    for chunk in chunks:
        stream.update(chunk)
    assert stream.value == model.residue(b"".join(chunks))


def test_a_residue_may_start_with_its_first_chunk() -> None:
    assert atlas.Residue().value == 0
    assert atlas.Residue(b"\x60\x05").value == 5
    assert atlas.Residue(data=b"\x07").value == 7


def test_copies_of_a_residue_go_on_alone() -> None:
    stream = atlas.Residue(b"\x05")
    other = stream.copy()
    stream.update(b"\x01")
    other.update(b"\x02")
    assert (stream.value, other.value) == (6, 7)


def test_a_copy_of_a_subclass_is_of_the_subclass() -> None:
    class Counted(atlas.Residue):
        pass

    assert type(Counted(b"\x05").copy()) is Counted


def test_the_value_of_a_residue_cannot_be_set() -> None:
    with pytest.raises(AttributeError):
        atlas.Residue().value = 5  # type: ignore[misc]


def test_a_residue_is_copied_by_its_method_alone() -> None:
    with pytest.raises(TypeError):
        copy.copy(atlas.Residue())


def test_repr_tells_the_value() -> None:
    assert repr(atlas.Residue(b"\x05")) == "<Residue 5>"


# --- Constants ---


def test_the_numbers_of_the_model_are_those_of_the_contract() -> None:
    assert atlas.MODULUS == model.MODULUS
    assert atlas.PAGE_BYTES == model.PAGE_BYTES
    assert atlas.WINDOW_BYTES == model.WINDOW_BYTES
