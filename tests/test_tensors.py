# SPDX-License-Identifier: Apache-2.0
"""Witnesses of arrays and of files of tensors: what is equal, what differs, and who is named."""

import hashlib
import json
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import atlas12288 as atlas
from support import strategies
from support.commandline import sparse_file

numpy = pytest.importorskip("numpy")
ml_dtypes = pytest.importorskip("ml_dtypes")
safetensors = pytest.importorskip("safetensors")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

from atlas12288.tensors import ArrayWitness, PartDifference, Report, TensorsWitness  # noqa: E402
from atlas12288.tensors._dtypes import SAFETENSORS, bits_of  # noqa: E402
from support.commandline import peak_kib_of  # noqa: E402

WINDOW = atlas.WINDOW_BYTES
TIME = "2025-01-31T12:00:00.000000000Z"
ML_TYPES = (
    *("bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn"),
    *("float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
)


def facts(witness: ArrayWitness) -> tuple[object, ...]:
    """All but the time."""
    return witness.dtype, witness.shape, witness.length, witness.residue, witness.digest


def canonical_bytes(array: Any) -> bytes:
    """In C order and little-endian, by NumPy alone: through packed copies of each field."""
    if array.dtype.itemsize == 0:  # NumPy takes "S0" for any width
        return b""
    if array.dtype.names is None:
        return bytes(numpy.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
    flat = numpy.ascontiguousarray(array).reshape(-1)
    return b"".join(
        canonical_bytes(flat[name][index : index + 1])
        for index in range(flat.size)
        for name in flat.dtype.names
    )


def noise_array(count: int, dtype: str = "f4", seed: int = 0) -> Any:
    size = count * numpy.dtype(dtype).itemsize
    return numpy.frombuffer(bytearray(strategies.noise(size, seed)), dtype)


# --- One array ---


@given(strategies.numpy_arrays(), st.booleans())
def test_the_digest_is_that_of_the_elements_in_c_order(array: Any, tree: bool) -> None:
    content = canonical_bytes(array)
    witness = ArrayWitness.generate(array, tree=tree)
    reference = (atlas.TreeWitness if tree else atlas.Witness).generate(content)
    assert witness.shape == array.shape
    assert (witness.length, witness.residue) == (len(content), sum(content) % 96)
    assert witness.digest == reference.digest
    if not tree:
        assert witness.hexdigest() == hashlib.sha256(content).hexdigest()


@given(strategies.numpy_arrays())
def test_order_strides_and_byte_order_do_not_count(array: Any) -> None:
    witness = ArrayWitness.generate(array)
    repeated = numpy.stack([array, array], axis=-1)
    others = [
        numpy.ascontiguousarray(array).reshape(array.shape),
        numpy.asfortranarray(array).reshape(array.shape, order="A"),
        repeated[..., 1],
        array.astype(array.dtype.newbyteorder("S")),
    ]
    for other in others:
        assert witness.differences(other) == ()
        assert witness.verify(other)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16"])
def test_floats_count_by_their_bits(dtype: str) -> None:
    # Signalling and quiet NaN of any payload, infinities, zeros of both signs, subnormals.
    array = noise_array(5000, dtype)
    part = numpy.dtype(f"f{2 if dtype == 'f2' else 8 if dtype in ('f8', 'c16') else 4}")
    exponents = numpy.array([numpy.inf, -numpy.inf, 0.0, -0.0, 1.0], part).view(f"u{part.itemsize}")
    bits = array.view(exponents.dtype)
    bits[: len(exponents)] = exponents
    bits[len(exponents) : 2 * len(exponents)] = exponents + 1
    swapped = array.astype(array.dtype.newbyteorder(">"))
    assert ArrayWitness.generate(swapped).hexdigest() == hashlib.sha256(array.tobytes()).hexdigest()
    assert not ArrayWitness.generate(numpy.array(0.0)).verify(numpy.array(-0.0))


@pytest.mark.parametrize("shape", [(40000, 7), (3, 11, 5000), (2, 2, 2, 30000)])
@pytest.mark.parametrize("tree", [False, True])
def test_views_longer_than_a_chunk(shape: tuple[int, ...], tree: bool) -> None:
    array = noise_array(2 * numpy.prod(shape), "i4").reshape(*shape, 2)[..., 0]
    for view in (array, array.T, array[::-1], array.astype(">i4"), array[:, 1:]):
        content = canonical_bytes(view)
        witness = ArrayWitness.generate(view, tree=tree, threads=2)
        reference = (atlas.TreeWitness if tree else atlas.Witness).generate(content)
        assert (witness.digest, witness.residue) == (reference.digest, reference.residue)


@pytest.mark.parametrize("name", ML_TYPES)
def test_types_of_ml_dtypes(name: str) -> None:
    dtype = numpy.dtype(getattr(ml_dtypes, name))
    array = numpy.frombuffer(strategies.noise(240), dtype).reshape(-1, 6)
    for view in (array, array.T, array[:, ::2]):
        witness = ArrayWitness.generate(view)
        assert witness.dtype == name
        assert (
            witness.hexdigest()
            == hashlib.sha256(numpy.ascontiguousarray(view).tobytes()).hexdigest()
        )
        assert ArrayWitness.from_json(witness.to_json()) == witness


@pytest.mark.parametrize("name", ML_TYPES)
def test_the_byte_order_of_ml_dtypes_does_not_count_and_their_values_do(name: str) -> None:
    little = numpy.frombuffer(strategies.noise(240), getattr(ml_dtypes, name))
    big = little.astype(little.dtype.newbyteorder(">"))
    other = numpy.frombuffer(little.tobytes(), little.dtype.newbyteorder(">"))
    witness = ArrayWitness.generate(little)
    assert witness.verify(big)
    assert ArrayWitness.generate(big.reshape(-1, 6).T).verify(little.reshape(-1, 6).T)
    is_one_byte = little.dtype.itemsize == 1
    assert witness.verify(other) == is_one_byte
    fields = [numpy.zeros(len(little), [("a", "u1"), ("b", some.dtype)]) for some in (little, big)]
    for field, some in zip(fields, (little, big), strict=True):
        field["b"] = some
    assert ArrayWitness.generate(fields[0]).verify(fields[1])
    fields[1]["b"] = other
    assert ArrayWitness.generate(fields[0]).verify(fields[1]) == is_one_byte


def test_a_type_of_another_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    array = numpy.zeros(2, ml_dtypes.bfloat16)
    monkeypatch.setattr(ml_dtypes.bfloat16, "__module__", "elsewhere", raising=False)
    with pytest.raises(TypeError, match="array has the type bfloat16, must have one whose bytes"):
        ArrayWitness.generate(array)


@pytest.mark.parametrize(
    "fields",
    [
        [("s", "S0"), ("x", ">f4")],
        [("x", "<i2"), ("u", "U0"), ("v", "V0")],
        [("e", "f4", (0, 2)), ("x", "u1")],
        [("s", "S0"), ("t", "U0")],
        [("a", [("s", "S0"), ("y", "<f8")]), ("b", [("n", "V0")])],
        {"names": ["s", "x"], "formats": ["S0", "<f4"], "offsets": [1, 4], "itemsize": 12},
    ],
)
def test_fields_of_no_width_are_named_and_have_no_bytes(fields: Any, tmp_path: Path) -> None:
    dtype = numpy.dtype(fields)
    array = numpy.frombuffer(strategies.noise(7 * max(dtype.itemsize, 1)), "u1")
    array = array.view(dtype)[:7] if dtype.itemsize else numpy.zeros(7, dtype)
    witness = ArrayWitness.generate(array)
    assert witness.hexdigest() == hashlib.sha256(canonical_bytes(array)).hexdigest()
    assert [field[0] for field in json.loads(witness.dtype)] == list(dtype.names)
    assert ArrayWitness.from_json(witness.to_json()) == witness
    numpy.savez(tmp_path / "a.npz", a=array)
    saved = TensorsWitness.from_file(tmp_path / "a.npz").arrays["a"]
    assert saved.digest == witness.digest


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("?", "bool"),
        (">i2", "int16"),
        ("u8", "uint64"),
        ("<f8", "float64"),
        ("c8", "complex64"),
        ("S5", "bytes5"),
        (">U3", "str3"),
        ("V7", "void7"),
        ("M8[25s]", "datetime64[25s]"),
        (">m8[ns]", "timedelta64[ns]"),
        ("M8", "datetime64"),
        ([], "[]"),
        ([("a", "<f4"), ("é", ">i2", (2, 3))], '[["a", "float32"], ["\\u00e9", "int16", [2, 3]]]'),
        ([("a", [("b", "bfloat16")])], '[["a", [["b", "bfloat16"]]]]'),
    ],
)
def test_names_of_types_and_their_lengths(dtype: Any, name: str) -> None:
    array = numpy.zeros((2, 3), dtype)
    witness = ArrayWitness.generate(array)
    assert witness.dtype == name
    assert witness.length == array.nbytes
    assert bits_of(name) == 8 * array.dtype.itemsize
    assert ArrayWitness.from_json(witness.to_json()) == witness


def test_padding_between_fields_does_not_count() -> None:
    fields = [("a", "u1"), ("b", "<f8"), ("c", "u1")]
    aligned = numpy.frombuffer(bytearray(strategies.noise(24 * 5)), numpy.dtype(fields, align=True))
    packed = aligned.astype(numpy.dtype(fields))
    witness = ArrayWitness.generate(aligned)
    assert witness.length == 10 * 5
    assert witness.verify(packed)
    aligned.view("u1").reshape(5, 24)[:, 1:8] ^= 0xFF  # the padding
    assert witness.verify(aligned)
    assert not witness.verify(packed.astype([("a", "u1"), ("b", "<f8"), ("d", "u1")]))


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_subclasses_and_read_only_arrays_are_arrays(tmp_path: Path) -> None:
    array = noise_array(60).reshape(6, 10)
    witness = ArrayWitness.generate(array)
    frozen = array.copy()
    frozen.flags.writeable = False
    mapped = numpy.memmap(tmp_path / "a", "f4", "w+", shape=(6, 10))
    mapped[:] = array
    for other in (frozen, mapped, array.view(numpy.recarray), numpy.asmatrix(array)):
        assert witness.verify(other)


def test_each_difference_is_named() -> None:
    array = numpy.arange(6, dtype="u1").reshape(2, 3)
    witness = ArrayWitness.generate(array)
    assert witness.differences(array) == ()
    assert witness.differences(array.view("i1")) == ("dtype",)
    assert witness.differences(array.reshape(3, 2)) == ("shape",)
    assert witness.differences(array[:, :2]) == ("shape", "length", "residue", "digest")
    assert witness.differences(array[:, ::-1]) == ("digest",)
    assert witness.differences(atlas.Witness.generate(bytes(range(6)))) == ()
    assert not witness.verify(array.view("i1"))
    assert not witness.verify(array.reshape(3, 2))
    with pytest.raises(ValueError, match=r"algorithm of other is sha256-merkle-12288, must be sha"):
        witness.differences(ArrayWitness.generate(array, tree=True))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (lambda: [1, 2], r"array is of type list, must be a numpy\.ndarray"),
        (lambda: numpy.float32(1), r"array is of type float32, must be a numpy\.ndarray"),
        (lambda: numpy.array([None]), r"array has the type object, must have one whose bytes"),
        (lambda: numpy.zeros(2, "g"), r"array has the type float128, must have one whose"),
        (lambda: numpy.zeros(2, "G"), r"array has the type complex256, must have one whose"),
        (lambda: numpy.zeros(2, ml_dtypes.int4), r"array has the type int4, must have one whose"),
        (
            lambda: numpy.zeros(2, [("a", "u1"), ("b", [("c", "O")])]),
            r"field 'c' of field 'b' of array has the type object",
        ),
        (lambda: numpy.ma.zeros(2), r"array is a masked array, must have no mask"),
    ],
)
def test_what_is_refused(array: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ArrayWitness.generate(array())


def test_threads_are_a_positive_int() -> None:
    array = numpy.zeros(3)
    with pytest.raises(ValueError, match="threads is 0, must be at least 1"):
        ArrayWitness.generate(array, threads=0)
    with pytest.raises(TypeError):
        TensorsWitness.generate({"a": array}, threads="2")


# --- JSON ---

ARRAY_JSON = (
    '{"type": "atlas12288/array/v1", "algorithm": "sha256", "dtype": "float32", "shape": [2, 3], '
    '"length": 24, "residue": 90, '
    '"digest": "7ed2ea0d8d1c2acfb9c03bdb2a5cb0f86d3cabf2e1c1b6f7e8d2dfdfa6aa3a15", '
    f'"timestamp": "{TIME}"}}'
)


def timed(text: str) -> str:
    return re.sub(r'"timestamp": "[^"]*"', f'"timestamp": "{TIME}"', text)


def test_known_array_json() -> None:
    array = numpy.ones((2, 3), "f4")
    content = struct.pack("<6f", *[1.0] * 6)
    expected = json.loads(ARRAY_JSON) | {"digest": hashlib.sha256(content).hexdigest()}
    assert expected["residue"] == sum(content) % 96
    for given_array in (array, array.astype(">f4"), numpy.asfortranarray(array)):
        assert timed(ArrayWitness.generate(given_array).to_json()) == json.dumps(expected)


def test_known_set_json() -> None:
    arrays = {"w": numpy.ones((2, 1), ml_dtypes.bfloat16), "b": numpy.zeros(0, "i8")}
    witness = TensorsWitness.generate(arrays, metadata={"z": "1", "a": "é"})
    assert timed(witness.to_json()) == (
        '{"type": "atlas12288/tensors/v1", "algorithm": "sha256", '
        '"metadata": {"a": "\\u00e9", "z": "1"}, "tensors": ['
        '{"name": "b", "dtype": "int64", "shape": [0], "length": 0, "residue": 0, "digest": '
        f'"{hashlib.sha256(b"").hexdigest()}"}}, '
        '{"name": "w", "dtype": "bfloat16", "shape": [2, 1], "length": 4, "residue": 94, "digest": '
        f'"{hashlib.sha256(bytes((0x80, 0x3F) * 2)).hexdigest()}"}}], '
        f'"timestamp": "{TIME}"}}'
    )


@given(strategies.numpy_arrays(), st.text(max_size=5), st.booleans())
def test_json_gives_the_witness_back(array: Any, name: str, tree: bool) -> None:
    one = ArrayWitness.generate(array, tree=tree)
    assert ArrayWitness.from_json(one.to_json()) == one
    assert ArrayWitness.from_json(one.to_json().encode()).to_json() == one.to_json()
    both = TensorsWitness.generate({name: array}, metadata={name: name}, tree=tree)
    back = TensorsWitness.from_json(both.to_json())
    assert back == both
    assert hash(back) == hash(both)
    assert facts(back.arrays[name]) == facts(one)
    assert back.metadata == {name: name}
    assert back.timestamp == both.timestamp == both.arrays[name].timestamp


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("type", "atlas12288/witness/v1", "type is 'atlas12288/witness/v1', must be"),
        ("algorithm", "md5", "algorithm is 'md5', must be 'sha256' or 'sha256-merkle-12288'"),
        ("dtype", "<f4", "dtype is '<f4', must be the name of an element type"),
        ("dtype", "float128", "dtype is 'float128', must be"),
        ("dtype", 4, "dtype is 4, must be"),
        ("dtype", "bytes04", "dtype is 'bytes04', must be"),
        ("dtype", "datetime64[1s]", "must be the name"),
        ("dtype", '[["a","float32"]]', "must be the name"),
        ("dtype", '[["a", "float32"], ["a", "int8"]]', "must be the name"),
        ("dtype", '[["a", "float32", []]]', "must be the name"),
        ("dtype", '[["a", "[]"]]', "must be the name"),
        ("dtype", '[["", "int8"]]', "must be the name"),
        ("dtype", '["int8"]', "must be the name"),
        ("dtype", '[["a", {}]]', "must be the name"),
        ("dtype", "[" * 100000, "must be the name"),
        ("dtype", "float64", "length is 24, must be 48, by shape and dtype"),
        ("shape", [1] * 65, "must be a list of at most 64 integers in"),
        ("shape", [2**64 - 1] * 64, "must be one whose elements fill whole bytes, fewer than 2"),
        ("dtype", "float6_e2m3fn", "shape is .*, must be one whose elements fill whole bytes"),
        ("shape", [2, 4], "length is 24, must be 32, by shape and dtype"),
        (
            "shape",
            [True, 6],
            r"shape is \[True, 6\], must be a list of at most 64 integers in 0\.\.",
        ),
        ("shape", [-1], r"shape is \[-1\], must be a list"),
        ("shape", [2**64], r"must be a list of at most 64 integers in 0\.\.18446744073709551615"),
        ("shape", "6", "shape is '6', must be a list"),
        ("length", 24.0, r"length is 24\.0, must be an integer in 0\.\."),
        ("residue", 96, r"residue is 96, must be an integer in 0\.\.95"),
        ("digest", "A" * 64, "must be 64 lowercase hex digits"),
        ("timestamp", "now", "timestamp is 'now', must be like"),
    ],
)
def test_json_in_another_form_is_refused(key: str, value: object, message: str) -> None:
    witness = json.loads(ARRAY_JSON)
    with pytest.raises(atlas.WitnessError, match=message):
        ArrayWitness.from_json(json.dumps(witness | {key: value}))
    tensor = {"name": "t"} | {k: v for k, v in witness.items() if k not in ("type", "algorithm")}
    del tensor["timestamp"]
    whole = {
        "type": "atlas12288/tensors/v1",
        "algorithm": "sha256",
        "metadata": {},
        "tensors": [tensor],
        "timestamp": TIME,
    }
    TensorsWitness.from_json(json.dumps(whole))
    if key in tensor:
        tensor[key] = value
        message = f"tensor 0: .*{message}"
    else:
        whole[key] = value
    with pytest.raises(atlas.WitnessError, match=message):
        TensorsWitness.from_json(json.dumps(whole))


def test_json_of_sets_in_another_form_is_refused() -> None:
    whole = json.loads(TensorsWitness.generate({"a": numpy.ones(2), "b": numpy.ones(2)}).to_json())
    first, second = whole["tensors"]
    for change, message in (
        ({"tensors": [second, first]}, "tensor 1: name is 'a', must be after 'b', in order"),
        ({"tensors": [first, first]}, "tensor 1: name is 'a', must be after 'a', in order"),
        ({"tensors": {}}, r"tensors is \{\}, must be a list"),
        ({"tensors": [1]}, "tensor 0: it is 1, must be a JSON object"),
        ({"tensors": [first | {"name": 1}]}, "tensor 0: name is 1, must be a text"),
        ({"tensors": [first | {"x": 1}]}, "tensor 0: key 'x' is unknown"),
        ({"metadata": {"a": 1}}, r"metadata is \{'a': 1\}, must be an object of texts"),
        ({"metadata": []}, r"metadata is \[\], must be an object of texts"),
    ):
        with pytest.raises(atlas.WitnessError, match=message):
            TensorsWitness.from_json(json.dumps(whole | change))
    with pytest.raises(TypeError, match="text is of type NoneType"):
        TensorsWitness.from_json(None)
    with pytest.raises(TypeError, match=r"made by TensorsWitness\.generate"):
        TensorsWitness()


# --- Sets ---


def some_arrays() -> dict[str, Any]:
    return {
        "embed": noise_array(3 * WINDOW, seed=1).reshape(-1, 64),
        "norm": noise_array(10, seed=2),
        "scalar": numpy.array(3, "i8"),
        "empty": numpy.zeros((0, 4), "f2"),
    }


def changed(name: str, *what: str) -> PartDifference:
    return PartDifference("tensor", name, "changed", what, f"differs in {', '.join(what)}")


def unreadable(report: Report[PartDifference]) -> list[tuple[str | None, str]]:
    return [(each.name, each.reason) for each in report.unreadable]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("tree", [False, True])
def test_threads_and_order_do_not_count(tree: bool, threads: int) -> None:
    arrays = some_arrays()
    witness = TensorsWitness.generate(arrays, tree=tree, threads=threads)
    assert list(witness.arrays) == sorted(arrays)
    for name, array in arrays.items():
        assert facts(witness.arrays[name]) == facts(ArrayWitness.generate(array, tree=tree))
    turned = dict(reversed(arrays.items()))
    assert witness.verify(turned, threads=threads) == Report()
    assert witness.verify(turned).holds
    assert pickle.loads(pickle.dumps(witness)) == witness


def test_the_report_names_each_tensor_and_what_differs() -> None:
    arrays = some_arrays()
    witness = TensorsWitness.generate(arrays, metadata={"kept": "1", "changed": "1", "gone": "1"})
    arrays["embed"][5, 5] += 1
    arrays["norm"] = arrays["norm"].reshape(5, 2)
    del arrays["empty"]
    arrays["new"] = numpy.zeros(1)
    arrays["scalar"] = numpy.array([None])
    report = witness.verify(arrays, metadata={"kept": "1", "changed": "2", "here": "1"})
    assert not report.holds
    assert [change.name for change in report.changed] == ["embed", "norm"]
    assert report.changed[0].what[-1] == "digest"
    assert report.changed[1] == changed("norm", "shape")
    assert [each.name for each in report.missing] == ["empty"]
    assert [each.name for each in report.added] == ["new"]
    ((name, why),) = unreadable(report)
    assert name == "scalar"
    assert "has the type object" in why
    assert list(map(str, report.other)) == [
        "metadata 'changed' differs",
        "metadata 'gone' is missing",
        "metadata 'here' was added",
    ]
    lines = str(report).splitlines()
    assert lines == report.lines()
    assert lines[1:4] == [
        "tensor 'norm': shape differs",
        "tensor 'empty' is missing",
        "tensor 'new' was added",
    ]
    with pytest.raises(atlas.WitnessError, match=r"^tensor 'embed': .* and 7 more") as error:
        report.raise_unless_holds()
    assert isinstance(error.value, atlas.MismatchError)
    assert "tensor 'empty' is missing" in error.value.report.lines()
    assert pickle.loads(pickle.dumps(error.value)).report == report
    assert not report
    assert witness.verify(some_arrays())
    witness.verify(some_arrays()).raise_unless_holds()


@given(st.randoms(use_true_random=False))
def test_one_changed_byte_is_named_with_its_tensor_and_window(choice: random.Random) -> None:
    arrays = some_arrays()
    witness = TensorsWitness.generate(arrays, tree=True)
    known = TensorsWitness.from_json(witness.to_json()).with_leaves(witness.leaves)
    assert known == witness
    assert known.leaves == witness.leaves
    name = choice.choice(["embed", "norm"])
    flat = arrays[name].reshape(-1).view("u1")
    places = sorted(choice.sample(range(flat.size), 2))
    flat[places] ^= choice.randrange(1, 256)
    (change,) = known.verify(arrays).changed
    assert change.name == name
    assert change.what[-1] == "digest"
    windows = {place // WINDOW for place in places}
    assert {window for run in change.ranges for window in range(run.first, run.stop)} == windows
    for run in change.ranges:
        assert run.start == run.first * WINDOW
        assert run.end == min(run.stop * WINDOW, flat.size)
    text = str(known.verify(arrays))
    run = change.ranges[0]
    assert f"bytes [{run.start}, {run.end}), window" in text
    # Without leaves the tensor is still named.
    (change,) = TensorsWitness.from_json(witness.to_json()).verify(arrays).changed
    assert (change.name, change.ranges) == (name, None)


def test_leaves_that_do_not_fit_are_refused() -> None:
    witness = TensorsWitness.generate(some_arrays(), tree=True)
    leaves = witness.leaves
    with pytest.raises(atlas.WitnessError, match=r"leaves has 31 bytes, must have \d+, 32 for ea"):
        witness.with_leaves(leaves[:31])
    damaged = bytearray(leaves)
    damaged[-40] ^= 1  # of "norm", before the one leaf of "scalar"
    with pytest.raises(atlas.WitnessError, match="tensor 'norm': leaves have the root"):
        witness.with_leaves(damaged)
    flat = TensorsWitness.generate(some_arrays())
    assert flat.leaves is None
    without = TensorsWitness.generate(some_arrays(), tree=True, leaves=False)
    assert without.leaves is None
    assert without.verify(some_arrays()).holds
    assert without.with_leaves(leaves).leaves == leaves
    assert TensorsWitness.from_json(witness.to_json()).leaves is None
    with pytest.raises(atlas.StateError, match="algorithm is sha256, must be sha256-merkle-12288"):
        flat.with_leaves(leaves)


def test_wrong_arguments_of_sets_are_refused() -> None:
    with pytest.raises(TypeError, match="arrays is of type list, must be a mapping"):
        TensorsWitness.generate([])
    with pytest.raises(TypeError, match="name 1 is of type int, must be str"):
        TensorsWitness.generate({1: numpy.zeros(1)})
    with pytest.raises(TypeError, match="tensor 'a' has the type object"):
        TensorsWitness.generate({"a": numpy.array([None])})
    with pytest.raises(TypeError, match=r"metadata is \{'a': 1\}, must be a mapping of texts"):
        TensorsWitness.generate({}, metadata={"a": 1})
    with pytest.raises(
        ValueError, match=r"path is 'model\.pt', must end in \.safetensors or \.npz"
    ):
        TensorsWitness.from_file("model.pt")
    with pytest.raises(TypeError, match="path is of type bytes, must be str or"):
        TensorsWitness.from_file(b"model.npz")
    with pytest.raises(FileNotFoundError):
        TensorsWitness.from_file("nosuchfile.safetensors")


# --- Files: .safetensors ---


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=4).filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.sampled_from(["u1", "i2", "f4", "f8", "c8", "?", "bfloat16", "float8_e4m3fn"]),
            st.lists(st.integers(0, 4), max_size=3),
        ),
        max_size=5,
    ),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_safetensors_have_the_witness_of_what_the_package_reads(
    tmp_path: Path, shapes: dict[str, tuple[str, list[int]]], metadata: dict[str, str]
) -> None:
    arrays = {}
    for index, (name, (kind, shape)) in enumerate(shapes.items()):
        dtype = numpy.dtype(getattr(ml_dtypes, kind, kind))
        count = int(numpy.prod(shape, dtype=int))
        content = strategies.noise(count * dtype.itemsize, index)
        arrays[name] = numpy.frombuffer(content, dtype).reshape(shape)
    path = tmp_path / "some.safetensors"
    path.write_bytes(safetensors_form(arrays, metadata))
    witness = TensorsWitness.from_file(path)
    assert witness.metadata == metadata
    assert {name: facts(array) for name, array in witness.arrays.items()} == {
        name: facts(ArrayWitness.generate(array)) for name, array in arrays.items()
    }
    assert witness.verify_file(path).holds
    assert witness.verify(arrays).holds
    # What the package itself reads has the bytes that we hashed.
    read = dict(safetensors.deserialize(path.read_bytes()))
    assert read.keys() == witness.arrays.keys()
    for name, tensor in read.items():
        assert tuple(tensor["shape"]) == witness.arrays[name].shape
        assert hashlib.sha256(tensor["data"]).digest() == witness.arrays[name].digest


def safetensors_bytes(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@settings(max_examples=30)
@given(
    lengths=st.lists(
        st.one_of(st.integers(0, 200), st.sampled_from([16_384, 12_288, 786_431, 786_433])),
        max_size=60,
    ),
    threads=st.sampled_from([1, 2]),
)
def test_tensors_of_a_group_have_the_digests_of_each_alone(
    lengths: list[int], threads: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """They are hashed beside one another, as long as they fit into a chunk."""
    path = tmp_path_factory.mktemp("tensors") / "a.safetensors"
    data = strategies.noise(sum(lengths))
    header, expected, end = {}, {}, 0
    for number, length in enumerate(lengths):
        start, end = end, end + length
        header[f"{number}"] = {"dtype": "U8", "shape": [length], "data_offsets": [start, end]}
        content = data[start:end]
        expected[f"{number}"] = (sum(content) % 96, hashlib.sha256(content).digest())
    path.write_bytes(safetensors_bytes(header, data))
    found = TensorsWitness.from_file(path, threads=threads)
    assert {name: (each.residue, each.digest) for name, each in found.arrays.items()} == expected


def test_a_tensor_that_is_cut_off_is_unreadable_alone_in_its_group(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    header = {
        f"{number}": {"dtype": "U8", "shape": [9], "data_offsets": [9 * number, 9 * number + 9]}
        for number in range(20)
    }
    path.write_bytes(safetensors_bytes(header, bytes(180)))
    witness = TensorsWitness.from_file(path)
    path.write_bytes(safetensors_bytes(header, bytes(175)))
    report = witness.verify_file(path)
    assert [name for name, _ in unreadable(report)] == ["19"]
    assert len(report.differences) == 1


def tensor(start: int, end: int, dtype: str = "U8", shape: object = None) -> dict[str, object]:
    shape = [end - start] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def safetensors_form(arrays: dict[str, Any], metadata: dict[str, str]) -> bytes:
    """A file of the arrays in their order."""
    names = {ours: theirs for theirs, ours in SAFETENSORS.items()}
    header: dict[str, object] = {"__metadata__": metadata}
    data = b""
    for name, array in arrays.items():
        dtype = names[ArrayWitness.generate(array).dtype]
        end = len(data) + array.nbytes
        header[name] = tensor(len(data), end, dtype, list(array.shape))
        data += array.tobytes()
    return safetensors_bytes(header, data)


DAMAGED_SAFETENSORS = {
    "empty": (b"", "has 0 bytes, must have 8 for the header's length"),
    "header behind the end": (safetensors_bytes({}, length=3), "length of the header is 3, must"),
    "header of 2^64 - 1": (safetensors_bytes({}, length=2**64 - 1), "must be at most 2"),
    "no JSON": (safetensors_bytes(b"{"), "header: text must be JSON"),
    "no UTF-8": (safetensors_bytes(b'{"\xff": 1}'), "header: text must be JSON"),
    "no object": (safetensors_bytes(b"[]"), "header must be a JSON object"),
    "nested": (safetensors_bytes(b"[" * 100000), "header: text is nested too deeply"),
    "same name twice": (
        safetensors_bytes(b'{"a": %b, "a": %b}' % ((json.dumps(tensor(0, 1)).encode(),) * 2), b"x"),
        "header: key 'a' occurs twice",
    ),
    "metadata of numbers": (safetensors_bytes({"__metadata__": {"a": 1}}), "must be an object of"),
    "metadata a text": (safetensors_bytes({"__metadata__": "a"}), "must be an object of texts"),
    "unknown type": (
        safetensors_bytes({"a": tensor(0, 1, "U7")}, b"x"),
        "tensor 'a': dtype is 'U7', must be 'BOOL' or ",
    ),
    "tensor no object": (safetensors_bytes({"a": 1}), "tensor 'a': its header is 1, must be a"),
    "unknown key": (
        safetensors_bytes({"a": tensor(0, 1) | {"x": 1}}, b"x"),
        "tensor 'a': key 'x' is unknown",
    ),
    "no offsets": (
        safetensors_bytes({"a": {"dtype": "U8", "shape": [1]}}, b"x"),
        "tensor 'a': key 'data_offsets' is missing",
    ),
    "negative size": (
        safetensors_bytes({"a": tensor(0, 1, shape=[-1])}, b"x"),
        r"tensor 'a': shape is \[-1\], must be",
    ),
    "float offset": (
        safetensors_bytes({"a": tensor(0, 1) | {"data_offsets": [0, 1.0]}}, b"x"),
        "must be two integers in",
    ),
    "three offsets": (
        safetensors_bytes({"a": tensor(0, 1) | {"data_offsets": [0, 1, 2]}}, b"x"),
        "must be two integers in",
    ),
    "turned offsets": (
        safetensors_bytes({"a": tensor(0, 1) | {"data_offsets": [1, 0]}}, b"x"),
        r"tensor 'a': data_offsets is \[1, 0\], must be 1 bytes apart, as shape and dtype say",
    ),
    "shape of another size": (
        safetensors_bytes({"a": tensor(0, 1, shape=[2])}, b"x"),
        r"tensor 'a': data_offsets is \[0, 1\], must be 2 bytes apart",
    ),
    "product of sizes over 2^64": (
        safetensors_bytes({"a": tensor(0, 0, shape=[2**33, 2**33])}),
        "must be one whose elements fill whole bytes, fewer than 2",
    ),
    "offset over 2^64": (
        safetensors_bytes({"a": tensor(0, 2**64, shape=[2**63, 2])}),
        "must be two integers in",
    ),
    "half a byte": (
        safetensors_bytes({"a": tensor(0, 1, "F4", [3])}, b"x"),
        r"tensor 'a': shape is \[3\], must be one whose elements fill whole bytes",
    ),
    "overlap": (
        safetensors_bytes({"a": tensor(0, 2), "b": tensor(1, 3)}, b"xyz"),
        "data_offsets of tensor 'b' begin at 1, must begin at 2",
    ),
    "same place": (
        safetensors_bytes({"a": tensor(0, 2), "b": tensor(0, 2)}, b"xy"),
        "data_offsets of tensor 'b' begin at 0, must begin at 2",
    ),
    "hole": (
        safetensors_bytes({"a": tensor(0, 1), "b": tensor(2, 3)}, b"xyz"),
        "data_offsets of tensor 'b' begin at 2, must begin at 1",
    ),
    "hole at the front": (safetensors_bytes({"a": tensor(1, 2)}, b"xy"), "begin at 1, must begin"),
    "name that is no UTF-8": (
        safetensors_bytes(b'{"\\ud800": %b}' % json.dumps(tensor(0, 0)).encode()),
        "name must be UTF-8",
    ),
    "truncated": (
        safetensors_bytes({"a": tensor(0, 1), "b": tensor(1, 3)}, b"xy"),
        "damaged.safetensors: tensor 'b': the file ended at byte",
    ),
    "bytes behind the end": (
        safetensors_bytes({"a": tensor(0, 1)}, b"xy"),
        r"has \d+ bytes, must end after \d+",
    ),
}


@pytest.mark.parametrize("case", DAMAGED_SAFETENSORS)
def test_damaged_safetensors_are_refused(case: str, tmp_path: Path) -> None:
    data, message = DAMAGED_SAFETENSORS[case]
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as raised:
        TensorsWitness.from_file(path)
    assert not isinstance(raised.value, atlas.WitnessError)
    if case not in ("unknown key", "same name twice"):  # the package reads over these
        with pytest.raises(safetensors.SafetensorError):
            safetensors.deserialize(data)


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F6_E3M2"])
def test_packed_types_are_hashed_as_they_lie(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "packed.safetensors"
    length = {"F4": 2, "F6_E2M3": 3, "F6_E3M2": 3}[dtype]
    path.write_bytes(safetensors_bytes({"a": tensor(0, length, dtype, [2, 2])}, b"xyz"[:length]))
    witness = TensorsWitness.from_file(path)
    assert witness.arrays["a"].hexdigest() == hashlib.sha256(b"xyz"[:length]).hexdigest()
    assert TensorsWitness.from_json(witness.to_json()) == witness


@given(st.integers(0, 400), st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_header_is_read_that_the_package_reads_otherwise(
    tmp_path: Path, place: int, change: int
) -> None:
    tensors = {"a": tensor(0, 8, "F32", [2]), "b": tensor(8, 12, shape=[2, 2])}
    data = bytearray(safetensors_bytes(tensors | {"__metadata__": {"k": "v"}}, bytes(range(12))))
    data[place % len(data)] ^= change
    path = tmp_path / "some.safetensors"
    path.write_bytes(data)
    try:
        witness = TensorsWitness.from_file(path)
    except ValueError:
        return
    read = dict(safetensors.deserialize(bytes(data)))
    assert {name: (list(array.shape), array.digest) for name, array in witness.arrays.items()} == {
        name: (value["shape"], hashlib.sha256(value["data"]).digest())
        for name, value in read.items()
    }


def test_small_tensors_have_no_buffer_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 500
    header = {f"t{i}": tensor(3 * i, 3 * i + 3) for i in range(count)}
    path = tmp_path / "many.safetensors"
    path.write_bytes(safetensors_bytes(header, strategies.noise(3 * count)))
    numpy.savez(tmp_path / "many.npz", **{f"t{i}": numpy.arange(i % 5) for i in range(count)})
    asked = []
    made = bytearray

    def counted(size: int) -> bytearray:
        asked.append(size)
        return made(size)

    for module in ("_content", "_npz"):
        monkeypatch.setattr(f"atlas12288.tensors.{module}.bytearray", counted, raising=False)
    for name in ("many.safetensors", "many.npz"):
        witness = TensorsWitness.from_file(tmp_path / name)
        assert len(witness.arrays) == count
    assert max(asked, default=0) <= 65536


def test_tensors_in_any_order_of_the_header_are_the_same(tmp_path: Path) -> None:
    header = {f"t{i}": tensor(3 * i, 3 * i + 3) for i in range(300)}
    header |= {f"e{i}": tensor(3 * i, 3 * i) for i in range(3)}
    turned = dict(reversed(header.items()))
    other = {name: dict(reversed(value.items())) for name, value in turned.items()}
    found = []
    for some in (header, turned, other):
        path = tmp_path / "some.safetensors"
        path.write_bytes(safetensors_bytes(some, strategies.noise(900)))
        arrays = TensorsWitness.from_file(path, threads=2).arrays
        found.append({name: facts(array) for name, array in arrays.items()})
    assert found[0] == found[1] == found[2]


def test_shapes_without_a_bound_are_refused_before_they_are_multiplied(tmp_path: Path) -> None:
    sizes = ", ".join([str(2**64 - 1)] * 200_000)
    data = b'{"w": {"dtype": "F32", "shape": [%b], "data_offsets": [0, 4]}}' % sizes.encode()
    path = tmp_path / "some.safetensors"
    path.write_bytes(safetensors_bytes(data, b"1234"))
    with pytest.raises(ValueError, match=r"tensor 'w': shape is .*must be a list of at most 64"):
        TensorsWitness.from_file(path)
    text = ARRAY_JSON.replace("[2, 3]", f"[{sizes}]")
    with pytest.raises(atlas.WitnessError, match="must be a list of at most 64 integers"):
        ArrayWitness.from_json(text)
    dtype = '"float32"'
    for _ in range(60):
        fields = json.dumps([["a", json.loads(dtype), [2**64 - 1] * 64]])
        dtype = fields
    text = ARRAY_JSON.replace('"float32"', json.dumps(dtype))
    with pytest.raises(atlas.WitnessError, match="must be the name of an element type"):
        ArrayWitness.from_json(text)
    with pytest.raises(
        atlas.WitnessError, match=r"shape is .*must be a list of at most 64 integers"
    ):
        ArrayWitness.from_json(ARRAY_JSON.replace("[2, 3]", f"[{'9' * 5000}]"))


def test_a_header_beyond_the_most_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "huge.safetensors", 200_000_000)
    with path.open("r+b") as file:
        file.write(struct.pack("<Q", 100_000_001))
    message = "length of the header is 100000001, must be at most 100000000"
    with pytest.raises(ValueError, match=message):
        TensorsWitness.from_file(path)


def test_verify_file_names_the_tensors_that_a_cut_took(tmp_path: Path) -> None:
    arrays = some_arrays()
    path = tmp_path / "model.safetensors"
    safetensors_numpy.save_file(arrays, path, metadata={"format": "np"})
    witness = TensorsWitness.from_file(path, tree=True)
    assert witness.verify_file(path) == Report()
    content = path.read_bytes()
    # The package puts wide types first: scalar, then embed and norm, then empty.
    path.write_bytes(content[:-41])
    report = witness.verify_file(path)
    assert {name for name, _ in unreadable(report)} == {"embed", "norm"}
    assert report.unreadable[0].reason.startswith("the file ended at byte")
    assert report.changed == ()
    path.write_bytes(content + b"x")
    (line,) = witness.verify_file(path).other
    assert re.fullmatch(r"has \d+ bytes, must end after \d+", str(line))
    safetensors_numpy.save_file(arrays, path, metadata={"format": "pt"})
    assert list(map(str, witness.verify_file(path).other)) == ["metadata 'format' differs"]


def test_safetensors_need_no_numpy(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"a": tensor(0, 3)}, b"xyz"))
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "from atlas12288.tensors import ArrayWitness, TensorsWitness\n"
        "witness = TensorsWitness.from_file(sys.argv[1])\n"
        "print(witness.verify_file(sys.argv[1]).holds)\n"
        "for make in (lambda: ArrayWitness.generate(1), lambda: witness.verify_file('a.npz')):\n"
        "    try: make()\n"
        "    except ImportError as error: print(error)\n"
    )
    done = subprocess.run((sys.executable, "-c", code, path), capture_output=True, check=True)
    assert done.stdout.decode().splitlines() == [
        "True",
        "arrays need numpy: pip install 'atlas12288[numpy]'",
        ".npz files need numpy: pip install 'atlas12288[numpy]'",
    ]


def test_no_extra_is_imported_with_the_package() -> None:
    code = (
        "import sys, atlas12288.tensors, atlas12288.tables\n"
        "print('numpy' in sys.modules, 'pyarrow' in sys.modules)\n"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, check=True)
    assert done.stdout == b"False False\n"


# --- Files: .npz ---


def test_small_arrays_hashed_together_have_the_witnesses_of_each_alone(tmp_path: Path) -> None:
    chance = numpy.random.default_rng(1)
    kinds = ("f4", ">f8", "u1", "S0", "M8[ns]", [("a", ">i2"), ("b", "u1")])
    arrays = {}
    for number in range(600):
        shape = (number % 7, 3)
        content = chance.integers(0, 99, shape).astype("i8")
        array = numpy.zeros(shape, kinds[number % 6])
        if array.dtype.names is None and array.dtype.itemsize:
            array[...] = content.astype(array.dtype)
        arrays[f"{number}"] = array[:, ::2] if number % 5 == 0 else numpy.asfortranarray(array)
    arrays["large"] = numpy.arange(10**6)
    alone = {name: facts(ArrayWitness.generate(array)) for name, array in arrays.items()}
    numpy.savez(tmp_path / "arrays.npz", **arrays)
    for threads in (1, 3):
        together = TensorsWitness.generate(arrays, threads=threads)
        assert {name: facts(each) for name, each in together.arrays.items()} == alone
        of_file = TensorsWitness.from_file(tmp_path / "arrays.npz", threads=threads)
        assert {name: facts(each) for name, each in of_file.arrays.items()} == alone
    bad = {"7": numpy.ma.masked_array([1], [True]), "9": numpy.array([object()]), "11": "text"}
    report = together.verify({**arrays, **bad, "2": numpy.zeros(1)})
    assert sorted(each.name or "" for each in report.unreadable) == ["11", "7", "9"]
    assert [each.name for each in report.changed] == ["2"]
    with pytest.raises(TypeError, match="tensor '7' is a masked array"):
        TensorsWitness.generate({**arrays, **bad}, threads=1)


@pytest.mark.filterwarnings("ignore:Stored array in format")
@given(
    st.dictionaries(st.sampled_from("abc"), strategies.numpy_arrays(), max_size=3), st.booleans()
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_npz_files_have_the_witness_of_their_arrays(
    tmp_path: Path, arrays: dict[str, Any], compressed: bool
) -> None:
    path = tmp_path / "some.npz"
    (numpy.savez_compressed if compressed else numpy.savez)(path, **arrays)
    for tree in (False, True):
        witness = TensorsWitness.from_file(path, tree=tree)
        assert {name: facts(array) for name, array in witness.arrays.items()} == {
            name: facts(ArrayWitness.generate(array, tree=tree)) for name, array in arrays.items()
        }
        assert witness.verify(arrays).holds
        assert witness.verify_file(path).holds


@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_npz_members_longer_than_a_chunk(dtype: str, tmp_path: Path) -> None:
    array = noise_array(900_000).reshape(300, -1).astype(dtype)
    path = tmp_path / "large.npz"
    numpy.savez(path, c=array, fortran=numpy.asfortranarray(array))
    witness = TensorsWitness.from_file(path)
    assert facts(witness.arrays["c"]) == facts(witness.arrays["fortran"])
    assert facts(witness.arrays["c"]) == facts(ArrayWitness.generate(array))


@pytest.mark.filterwarnings("ignore:Stored array in format")
@pytest.mark.parametrize(("name", "version"), [("a", 1), ("a" * 70000, 2), ("Ā\\'😀", 3)])
def test_npy_headers_of_all_versions(name: str, version: int, tmp_path: Path) -> None:
    array = numpy.ones(3, [(name, ">i4")])
    path = tmp_path / "some.npz"
    numpy.savez(path, a=array)
    assert b"\x93NUMPY" + bytes((version, 0)) in path.read_bytes()
    if version == 2:
        message = r"tensor 'a': length of its header is \d+, must be at most 65536"
        with pytest.raises(ValueError, match=message):
            TensorsWitness.from_file(path)
    else:
        assert TensorsWitness.from_file(path).verify({"a": array}).holds


def npz(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            with pytest.warns() if name in archive.namelist() else _nothing():
                archive.writestr(name, data)
    return path


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def npy(array: Any, tmp_path: Path, **options: Any) -> bytes:
    numpy.save(tmp_path / "one.npy", array, **options)
    return (tmp_path / "one.npy").read_bytes()


def test_damaged_npz_are_refused(tmp_path: Path) -> None:
    good = npy(numpy.arange(3.0), tmp_path)
    pickled = npy(numpy.array([print]), tmp_path, allow_pickle=True)
    path = tmp_path / "some.npz"
    cases: list[tuple[list[tuple[str, bytes]], str]] = [
        ([("a.npy", pickled)], "tensor 'a': it holds pickled objects, must hold values"),
        ([("a.npy", good), ("a.npy", good)], "member 'a.npy' is there twice"),
        ([("a.txt", good)], r"member 'a\.txt' must end in \.npy"),
        ([("a.npy", b"")], "tensor 'a': "),
        ([("a.npy", good[:5])], "tensor 'a': "),
        (
            [("a.npy", good[:-1])],
            "tensor 'a': its elements have 23 bytes, must have 24 as its shape",
        ),
        ([("a.npy", good + b"x")], "tensor 'a': its elements have 25 bytes, must have 24"),
        ([("a.npy", b"\x93NUMPY\x04\x00" + good[8:])], "version of its form is 4.0, must be 1.0,"),
        ([("a.npy", b"\x93NUMPY\x03\x00\xff\xff\1\0")], "length of its header is 131071, must be"),
        ([("a.npy", b"\x93NUMPY\x03\x00\x09\0\0\0{}")], "its header ended after 2 bytes, must h"),
        ([("a.npy", good.replace(b"(3,)", b"(-3,)"))], "tensor 'a': shape is|tensor 'a': "),
        (
            [("a.npy", good.replace(b"(3,), }  ", b"(1<<40,1)"))],
            "tensor 'a': ",
        ),
        (
            [
                (
                    "a.npy",
                    good.replace(b"False, 'shape': (3,), }     ", b"True, 'shape': (3, 9**9), }"),
                )
            ],
            "tensor 'a': ",
        ),
        (
            [("a.npy", good.replace(b"(3,), }        ", b"(3,99999999), }"))],
            "tensor 'a': its elements have 24 bytes, must have 2399999976",
        ),
    ]
    for members, message in cases:
        with pytest.raises(ValueError, match=message):
            TensorsWitness.from_file(npz(path, members))
    path.write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match=r"some\.npz: File is not a zip file"):
        TensorsWitness.from_file(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_wrong_checksum_makes_its_tensor_unreadable(tmp_path: Path, compressed: bool) -> None:
    arrays = {"a": noise_array(3000), "b": noise_array(3000, seed=1), "e": numpy.zeros(0)}
    path = tmp_path / "some.npz"
    (numpy.savez_compressed if compressed else numpy.savez)(path, **arrays)
    witness = TensorsWitness.from_file(path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo("b.npy").header_offset
    content[begin + 6000] ^= 1
    path.write_bytes(content)
    report = witness.verify_file(path)
    ((name, why),) = unreadable(report)
    assert name == "b"
    assert "CRC" in why or "decompressing" in why
    assert report == Report(report.unreadable)
    assert "tensor" not in why  # the report says of which it is
    with pytest.raises(ValueError, match=r"some\.npz: tensor 'b': "):
        TensorsWitness.from_file(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_member_is_read_from_its_place_whatever_other_threads_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    arrays = {name: noise_array(300_000, seed=seed) for seed, name in enumerate("abcdef")}
    path = tmp_path / "some.npz"
    (numpy.savez_compressed if compressed else numpy.savez)(path, **arrays)
    pread = os.pread

    def slowly(descriptor: int, count: int, offset: int) -> bytes:
        os.lseek(descriptor, 0, os.SEEK_SET)  # what another thread may do
        time.sleep(0.0001)  # another thread reads meanwhile
        return pread(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", slowly)
    witness = TensorsWitness.from_file(path, threads=4)
    assert witness.verify(arrays).holds


def npy_of(descr: object, shape: object, data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header + data


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        ("(True, 2)", r"shape is \(True, 2\), must be at most 64 integers in 0\.\."),
        ("(18446744073709551616, 0)", "must be at most 64 integers in 0"),
        ("(9223372036854775808, 0)", "must be at most 64 integers in 0"),
        (f"({'1,' * 65})", "must be at most 64 integers in 0"),
        ("(-1, 0)", "must be at most 64 integers in 0"),
    ],
)
def test_shapes_that_numpy_has_not_are_refused(shape: str, rule: str, tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", [("a.npy", npy_of("|u1", shape, b"xy"))])
    with pytest.raises(ValueError, match=rf"a\.npz: tensor 'a': .*{rule}"):
        TensorsWitness.from_file(path)


@pytest.mark.parametrize(
    "header",
    [
        b"(" * 150,
        b"-" * 30_000 + b"1",
        b"[" * 60_000,
        b"9" * 60_000,
        b"{'descr': (), 'fortran_order': False, 'shape': (), }",
        b"{'descr': ('f4', 2**99), 'fortran_order': False, 'shape': (), }",
        b"{'descr': [('a', 'f4', 1, 2, 3)], 'fortran_order': False, 'shape': (), }",
        b"{'descr': 1.5, 'fortran_order': 2, 'shape': 3}",
        b"{1: 2, 'a': 3}",
        b"{}\0",
    ],
    ids=lambda header: header[:30].decode(),
)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_headers_that_numpy_does_not_write_are_refused_as_that(
    header: bytes, version: int, tmp_path: Path
) -> None:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    data = b"\x93NUMPY" + bytes((version, 0)) + length + header
    path = npz(tmp_path / "a.npz", [("a.npy", data)])
    with pytest.raises(ValueError, match=r"a\.npz: tensor 'a': its header is not as NumPy writes"):
        TensorsWitness.from_file(path)


def test_a_type_that_is_an_array_is_refused(tmp_path: Path) -> None:
    for shape in ("()", "(1,)", "(0, 3)"):
        path = npz(tmp_path / "a.npz", [("a.npy", npy_of(("<f4", (2,)), shape, bytes(8)))])
        with pytest.raises(
            ValueError, match=r"its (type is .* must not have a shape|elements hav)"
        ):
            TensorsWitness.from_file(path)


def test_a_structure_of_900_fields_has_a_header_that_is_read(tmp_path: Path) -> None:
    array = numpy.zeros(2, [(f"column {i}", "<f8") for i in range(900)])
    numpy.savez(tmp_path / "wide.npz", a=array)
    assert TensorsWitness.from_file(tmp_path / "wide.npz").verify({"a": array}).holds


@pytest.mark.parametrize(
    ("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")]
)
def test_only_the_methods_that_numpy_writes_are_read(
    method: int, name: str, tmp_path: Path
) -> None:
    arrays = {"a": numpy.arange(3), "b": numpy.arange(4)}
    path = tmp_path / "some.npz"
    numpy.savez(path, **arrays)
    witness = TensorsWitness.from_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy(arrays["a"], tmp_path), method)
        archive.writestr("b.npy", npy(arrays["b"], tmp_path), zipfile.ZIP_DEFLATED)
    rule = rf"it is compressed by {name} \({method}\), must be stored or deflated"
    with pytest.raises(ValueError, match=rf"some\.npz: tensor 'a': {rule}"):
        TensorsWitness.from_file(path)
    report = witness.verify_file(path)
    assert [name for name, _ in unreadable(report)] == ["a"]
    assert report.changed == ()


def patched(path: Path, fields: dict[int, bytes], signature: bytes = b"PK\x01\x02") -> Path:
    """The file with other bytes at places of the first entry of its directory."""
    data = bytearray(path.read_bytes())
    begin = data.index(signature)
    for place, value in fields.items():
        data[begin + place : begin + place + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({24: struct.pack("<I", 2**31)}, "it says that it has 2147483648 bytes, must have at most"),
        ({24: struct.pack("<I", 7)}, "ended after|bytes, must have"),
        ({20: struct.pack("<I", 2**30)}, "it ends at byte .* of the archive, must end before"),
        ({20: struct.pack("<I", 20)}, "bytes before its end|goes on|incomplete|must have at most"),
        ({16: b"abcd"}, "its CRC-32 is .*, must be 64636261"),
        ({8: b"\x01"}, "its flags are 0x1, must not mark it as encrypted or a patch"),
        ({42: struct.pack("<I", 5)}, "there is no member at byte 5 of the archive"),
        ({46: b"b"}, "its own header has the name 'a.npy', must be the name in the directory"),
        ({10: b"\x63"}, r"it is compressed by a method \(99\), must be stored or deflated"),
    ],
)
def test_directories_that_lie_are_refused(
    fields: dict[int, bytes], rule: str, tmp_path: Path
) -> None:
    path = tmp_path / "some.npz"
    numpy.savez_compressed(path, a=noise_array(100))
    with pytest.raises(ValueError, match=rf"some\.npz: tensor '[ab]': .*({rule})"):
        TensorsWitness.from_file(patched(path, fields))


def test_archives_of_which_the_members_cannot_be_known_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    for fields, signature, rule in (
        ({46: b"\0"}, b"PK\x01\x02", "must have no NUL in its name|must end in"),
        ({48: b"\0"}, b"PK\x01\x02", r"member 'a\.\\x00py' must have no NUL in its name"),
        ({12: struct.pack("<I", 2**31)}, b"PK\x05\x06", r"some\.npz: "),
        ({16: struct.pack("<I", 2**31)}, b"PK\x05\x06", r"some\.npz: "),
        ({0: b"PK\x01\x03"}, b"PK\x01\x02", r"some\.npz: Bad magic number for central directory"),
    ):
        numpy.savez_compressed(path, a=noise_array(100))
        with pytest.raises(ValueError, match=rule):
            TensorsWitness.from_file(patched(path, fields, signature))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a" * 60000 + ".npy", b"")
    data = path.read_bytes()
    begin = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    many = data[begin:end] * 300
    tail = bytearray(data[end:])
    tail[8:20] = struct.pack("<HHII", 300, 300, len(many), begin)
    path.write_bytes(data[:begin] + many + tail)
    with pytest.raises(ValueError, match=r"its directory has .* bytes, must have at most 16777216"):
        TensorsWitness.from_file(path)


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", [("a.npy", npy(numpy.arange(3), tmp_path)), ("b.npy", b"xx")])
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)  # begins where the first one does
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"tensor '.': it(s name is| ends at byte| begins at byte)"
    ):
        TensorsWitness.from_file(path, threads=1)


MEMBERS = """
import resource, struct, sys, zipfile
from atlas12288.tensors import TensorsWitness
import numpy, numpy.lib.format
def npy(descr, shape):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\\x93NUMPY\\x01\\x00" + struct.pack("<H", len(header)) + header
def read(name, *members):
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (start, zeros) in enumerate(members):
            with archive.open(f"a{number}.npy", "w") as file:
                file.write(start)
                for _ in range(zeros): file.write(bytes(1 << 20))
    try: print(TensorsWitness.from_file(name, threads=4).arrays["a0"].length)
    except ValueError as error: print(error)
read("a.npz", (npy("|u1", (3,)), 0))
read("a.npz", (npy("|u1", (1 << 20,)), 1))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20),) * 2)
read("a.npz", *[(npy(">U536870911", (0,)), 0)] * 4)
read("a.npz", (npy("|u1", (256 << 20,)), 256))
read("a.npz", (npy(">U67108864", (1,)), 256))
read("a.npz", (npy("|V268435456", (1,)), 256))
read("a.npz", (npy("|u1", (1 << 40,)), 256))
"""


@pytest.mark.slow
def test_memory_for_npz_is_bounded_whatever_the_types_and_sizes_say(tmp_path: Path) -> None:
    done = subprocess.run(
        (sys.executable, "-c", MEMBERS), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[2] == "0"
    assert lines[3] == str(256 << 20)
    assert "an element has 268435456 bytes, must have at most 786432 if it is big" in lines[4]
    assert lines[5] == str(256 << 20)
    assert "its elements have 268435456 bytes, must have 1099511627776" in lines[6]


def test_npz_loses_the_types_of_ml_dtypes_and_the_report_says_so(tmp_path: Path) -> None:
    arrays = {"a": numpy.ones(3, ml_dtypes.bfloat16)}
    numpy.savez(tmp_path / "a.npz", **arrays)
    report = TensorsWitness.generate(arrays).verify_file(tmp_path / "a.npz")
    assert report.changed == (changed("a", "dtype"),)


# --- Files: both ---


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors"])
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match="must be a regular file"):
        TensorsWitness.from_file(tmp_path / name)


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"a": tensor(0, 3)}, b"xyz"))
    pread = os.pread

    def touched(*arguments: Any) -> bytes:
        os.utime(path, (1, 1))
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", touched)
    with pytest.raises(ValueError, match=r"model\.safetensors changed while it was read"):
        TensorsWitness.from_file(path)


def test_a_part_that_cannot_be_read_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"a": tensor(0, 3), "b": tensor(3, 4)}, b"xyzz"))
    witness = TensorsWitness.from_file(path)
    end = path.stat().st_size - 1
    begin = end - 3
    pread = os.pread

    def failing(descriptor: int, count: int, offset: int) -> bytes:
        if begin <= offset < end:
            raise OSError(5, "Input/output error")
        return pread(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", failing)
    report = witness.verify_file(path, threads=1)
    assert unreadable(report) == [("a", "[Errno 5] Input/output error")]
    assert (report.changed, report.missing) == ((), ())
    with pytest.raises(OSError, match="Input/output error") as raised:
        TensorsWitness.from_file(path)
    assert raised.value.filename == str(path)


READ = "import sys, numpy\nfrom atlas12288.tensors import *\n"


@pytest.mark.slow
@pytest.mark.parametrize("tree", [False, True])
def test_memory_for_a_file_does_not_grow_with_its_tensors(tmp_path: Path, tree: bool) -> None:
    size = 1 << 27
    header = safetensors_bytes({"a": tensor(0, size), "b": tensor(size, 2 * size)})
    path = sparse_file(tmp_path / "huge.safetensors", len(header) + 2 * size)
    with path.open("r+b") as file:
        file.write(header)
    code = (
        READ + "if sys.argv[1:]: TensorsWitness.from_file(sys.argv[1], tree=sys.argv[2] == 'True')"
    )
    assert peak_kib_of(code, path, tree) - peak_kib_of(code) <= 64 * 1024


def test_memory_for_a_strided_array_does_not_grow_with_it() -> None:
    code = READ + (
        "array = numpy.ones((8192, 4096), '>f4').T\n"  # 128 MiB
        "if sys.argv[1:]: ArrayWitness.generate(array)"
    )
    assert peak_kib_of(code, "run") - peak_kib_of(code) <= 16 * 1024


def test_what_is_only_unreadable_has_no_verdict() -> None:
    witness = TensorsWitness.generate({"a": numpy.zeros(3), "b": numpy.zeros(3)})
    report = witness.verify({"a": numpy.array([None] * 3), "b": numpy.zeros(3)})
    assert (report.holds, bool(report), report.count("unreadable")) == (None, False, 1)
    with pytest.raises(atlas.UndecidedError, match=r"^tensor 'a' is unreadable: ") as error:
        report.raise_unless_holds()
    assert isinstance(error.value, atlas.FileError)
    assert pickle.loads(pickle.dumps(error.value)).report == report
    fields = json.loads(report.to_json())
    assert (fields["type"], fields["holds"]) == ("atlas12288/report/v1", None)
    (difference,) = fields["differences"]
    assert (difference["name"], difference["kind"]) == ("a", "unreadable")
