# SPDX-License-Identifier: Apache-2.0
"""What is a buffer: every kind is taken without a copy, every other object is refused."""

import array
import ctypes
import hashlib
import importlib.util
import mmap
import shutil
import subprocess
import sysconfig
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
from support import model

numpy = pytest.importorskip("numpy")
CONTENT = bytes(range(1, 121))  # divisible by every item size, not conserved


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int32), ("O", ctypes.c_double))


def mapped() -> mmap.mmap:
    region = mmap.mmap(-1, len(CONTENT))
    region[:] = CONTENT
    return region


def structure() -> Any:
    return (Point * 7).from_buffer(bytearray(CONTENT[: 7 * ctypes.sizeof(Point)]))


def of_dtype(dtype: Any, shape: tuple[int, ...] = (-1,)) -> Any:
    return numpy.frombuffer(bytearray(CONTENT), dtype).reshape(shape)


def of_bfloat16() -> Any:
    return of_dtype(pytest.importorskip("ml_dtypes").bfloat16)


def of_bfloat16_scalar() -> Any:
    return pytest.importorskip("ml_dtypes").bfloat16(2.5)


def of_arrow() -> Any:
    return pytest.importorskip("pyarrow").py_buffer(CONTENT)


def of_arrow_column() -> Any:
    """The values buffer of a column, as Arrow itself allocates it."""
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.array(list(CONTENT), pyarrow.uint8()).buffers()[1]


KINDS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: CONTENT,
    "bytes subclass": lambda: type("Text", (bytes,), {})(CONTENT),
    "bytearray": lambda: bytearray(CONTENT),
    "memoryview": lambda: memoryview(CONTENT)[3:50],
    "memoryview of shape": lambda: memoryview(CONTENT).cast("B", (2, 3, 20)),
    "array of bytes": lambda: array.array("B", CONTENT),
    "array of doubles": lambda: array.array("d", CONTENT),
    "mmap": mapped,
    "ctypes structures": structure,
    "numpy uint8": lambda: of_dtype("u1"),
    "numpy big-endian": lambda: of_dtype(">i4"),
    "numpy float16": lambda: of_dtype("f2"),
    "numpy complex128 of shape": lambda: of_dtype("c8", (3, 5)),
    "numpy bool": lambda: of_dtype("?"),
    "numpy text": lambda: of_dtype("U5"),
    "numpy bytes": lambda: of_dtype("S8"),
    "numpy void": lambda: of_dtype("V3"),
    "numpy datetime64": lambda: of_dtype("M8[ns]"),
    "numpy timedelta64": lambda: of_dtype("m8[s]"),
    "numpy structured": lambda: of_dtype([("O", "u1"), ("OPEN", "<u2")]),
    "numpy structured with time": lambda: of_dtype([("O", "M8[s]"), ("a", "V2")]),
    "numpy of no dimension": lambda: numpy.array(0x0102030405060708),
    "numpy scalar": lambda: numpy.float64(1.5),
    "numpy read-only": lambda: numpy.frombuffer(CONTENT, "u1"),
    "numpy slice of rows": lambda: of_dtype("u1", (12, 10))[2:5],
    "numpy memmap": lambda: of_dtype("u1").view(numpy.memmap),
    "bfloat16": of_bfloat16,
    "bfloat16 scalar": of_bfloat16_scalar,
    "arrow buffer": of_arrow,
    "arrow column": of_arrow_column,
    "no bytes": lambda: b"",
    "empty bytearray": bytearray,
    "empty array": lambda: array.array("d"),
    "numpy empty": lambda: numpy.zeros((0, 5)),
    "empty arrow": lambda: pytest.importorskip("pyarrow").py_buffer(b""),
}


def bytes_of(buffer: Any) -> bytes:
    if isinstance(buffer, numpy.ndarray | numpy.generic):
        return bytes(buffer.tobytes())
    return bytes(memoryview(buffer))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_buffer_is_read(kind: str) -> None:
    buffer = KINDS[kind]()
    content = bytes_of(buffer)
    assert atlas.residue(buffer) == model.residue(content)
    assert atlas.is_conserved(buffer) == (model.residue(content) == 0)
    assert list(atlas.window_residues(buffer)) == model.window_residues(content)
    assert atlas.delta(buffer, content) == 0
    assert atlas.Witness.generate(buffer).verify(content)
    assert atlas.Witness.generate(content).verify(buffer)
    assert atlas.Residue(buffer).value == model.residue(content)
    stream = atlas.WitnessStream()
    stream.update(buffer)
    assert stream.witness().verify(content)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "no bytes" not in kind])
def test_every_kind_of_buffer_can_be_attached(kind: str) -> None:
    buffer = KINDS[kind]()
    content = bytes_of(buffer)
    with atlas.Domain(bytes=len(CONTENT)) as domain:
        if not content:
            with pytest.raises(atlas.DomainMemoryError):
                domain.attach(buffer)
            return
        domain.attach(buffer)
        assert domain.attached == content
        assert domain.verify() == (model.residue(content) == 0)


@pytest.fixture(scope="session")
def without_format(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Any]:
    """What gives the bytes of a buffer, with `Py_buffer.format` NULL."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if shutil.which("cc") is None or not header.exists():
        pytest.skip("there is no cc, or no Python.h")
    library = tmp_path_factory.mktemp("exporter") / "exporter.so"
    source = Path(__file__).with_name("exporter.c")
    flags = ("-shared", "-fPIC", "-Wall", "-Werror", f"-I{header.parent}")
    subprocess.run(["cc", *flags, source, "-o", library], check=True)
    spec = importlib.util.spec_from_file_location("exporter", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Callable[[Any], Any] = module.Exporter
    return made


def test_a_buffer_without_a_format_is_one_of_bytes(without_format: Callable[[Any], Any]) -> None:
    content = bytearray(CONTENT)
    for call in READERS.values():
        with suppress(ValueError):  # not conserved, no witness
            call(without_format(content))
    for call in WRITERS.values():
        with suppress(ValueError):
            call(without_format(content))
        with pytest.raises(BufferError, match="must be writable and C-contiguous"):
            call(without_format(CONTENT))
    content[:] = CONTENT
    buffer = without_format(content)
    assert atlas.residue(buffer) == model.residue(CONTENT)
    assert atlas.Witness.generate(buffer).digest == hashlib.sha256(CONTENT).digest()
    assert atlas.WitnessStream(buffer).witness().verify(CONTENT)
    assert atlas.TreeWitness.generate(buffer).verify(CONTENT)
    with atlas.Domain(bytes=len(CONTENT)) as domain:
        domain.attach(buffer)
        with domain.transaction():
            atlas.fixup(buffer)
        assert domain.commit().verify(content)


WRITABLE = ("bytearray", "array of doubles", "mmap", "ctypes structures", "numpy datetime64")


@pytest.mark.parametrize("kind", [*WRITABLE, "numpy big-endian", "numpy structured", "bfloat16"])
def test_writable_buffers_of_every_kind_are_written(kind: str) -> None:
    buffer = KINDS[kind]()
    expected = model.fixup(bytes_of(buffer))
    atlas.fixup(buffer)
    assert bytes_of(buffer) == expected
    atlas.conserved_fill(buffer, 9)
    assert bytes_of(buffer) == model.fill(9, len(expected))
    atlas.conserved_copy(buffer, expected)
    assert bytes_of(buffer) == expected


def test_shared_memory_is_a_buffer() -> None:
    memory = shared_memory.SharedMemory(create=True, size=4096)
    try:
        with atlas.Domain(bytes=memory.size) as domain:
            domain.attach(memory.buf)
            with domain.transaction():
                memory.buf[0] = 96
            assert domain.commit().verify(memory.buf)
    finally:
        memory.close()
        memory.unlink()


def test_the_result_of_a_read_of_uninitialised_arrow_memory_is_that_of_its_bytes() -> None:
    buffer = pytest.importorskip("pyarrow").allocate_buffer(4096)
    assert not bytes_of(buffer[:0])
    atlas.conserved_fill(buffer, 7)
    assert bytes_of(buffer) == model.fill(7, 4096)


# --- Refusals ---

READERS: dict[str, Callable[[Any], object]] = {
    "buf residue": atlas.residue,
    "buf is_conserved": atlas.is_conserved,
    "buf window_residues": atlas.window_residues,
    "before delta": lambda b: atlas.delta(b, CONTENT),
    "after delta": lambda b: atlas.delta(CONTENT, b),
    "src conserved_copy": lambda b: atlas.conserved_copy(bytearray(CONTENT), b),
    "chunk Residue": atlas.Residue,
    "chunk Residue.update": lambda b: atlas.Residue().update(b),
    "chunk WitnessStream": atlas.WitnessStream,
    "chunk TreeHash": atlas.TreeHash,
    "chunk WitnessStream.update": lambda b: atlas.WitnessStream().update(b),
    "buf Witness.generate": atlas.Witness.generate,
    r"buffers\[1\] Witness.generate_many": lambda b: atlas.Witness.generate_many([b"", b]),
    "buf Witness.verify": lambda b: atlas.Witness.generate(b"").verify(b),
    "data Witness.from_bytes": atlas.Witness.from_bytes,
    "data WitnessStream.from_bytes": atlas.WitnessStream.from_bytes,
    "buf Domain.attach": lambda b: atlas.Domain(bytes=9999).attach(b),
}
WRITERS: dict[str, Callable[[Any], object]] = {
    "dst conserved_copy": lambda b: atlas.conserved_copy(b, CONTENT),
    "dst conserved_fill": lambda b: atlas.conserved_fill(b, 0),
    "buf fixup": atlas.fixup,
}
NOT_CONTIGUOUS: dict[str, Callable[[], Any]] = {
    "memoryview step": lambda: memoryview(bytearray(CONTENT))[::2],
    "memoryview reversed": lambda: memoryview(bytearray(CONTENT))[::-1],
    "numpy step": lambda: of_dtype("u1")[::2],
    "numpy reversed": lambda: of_dtype("u1")[::-1],
    "numpy column": lambda: of_dtype("u1", (12, 10))[:, 0],
    "numpy transposed": lambda: of_dtype("u1", (12, 10)).T,
    "numpy time step": lambda: of_dtype("M8[s]")[::2],
}


@pytest.mark.parametrize("call", READERS | WRITERS)
@pytest.mark.parametrize("kind", NOT_CONTIGUOUS)
def test_a_buffer_that_is_not_contiguous_is_a_buffer_error(kind: str, call: str) -> None:
    buffer = NOT_CONTIGUOUS[kind]()
    rule = rf"^{call.split()[0]} is of type \w+, must be (writable and )?C-contiguous"
    with pytest.raises(BufferError, match=rule):
        (READERS | WRITERS)[call](buffer)


@pytest.mark.parametrize("call", READERS | WRITERS)
@pytest.mark.parametrize("thing", ["text", [1, 2], 5, None, 1.5, {}, object()])
def test_what_is_no_buffer_is_a_type_error(thing: object, call: str) -> None:
    rule = rf"^{call.split()[0]} is of type {type(thing).__name__}, must be a buffer"
    with pytest.raises(TypeError, match=rule):
        (READERS | WRITERS)[call](thing)


OBJECTS: dict[str, Callable[[], Any]] = {
    "numpy objects": lambda: numpy.array([None, "a"]),
    "numpy objects in fields": lambda: numpy.zeros(3, [("a", "u1"), ("b", "O")]),
    "numpy objects beside times": lambda: numpy.zeros(3, [("a", "M8[s]"), ("b", "O")]),
    "numpy strings of any length": lambda: numpy.array(["a" * 99], numpy.dtypes.StringDType()),
    "memoryview of objects": lambda: memoryview(numpy.array([None, "a"])),
    "ctypes objects": lambda: (ctypes.py_object * 3)(1, 2, 3),
}


@pytest.mark.parametrize("call", READERS | WRITERS)
@pytest.mark.parametrize("kind", OBJECTS)
def test_arrays_of_objects_are_a_type_error(kind: str, call: str) -> None:
    if not hasattr(numpy.dtypes, "StringDType") and "strings" in kind:
        pytest.skip("NumPy 2 only")
    rule = rf"^{call.split()[0]} is of type \w+ and holds pointers to objects"
    with pytest.raises(TypeError, match=rule):
        (READERS | WRITERS)[call](OBJECTS[kind]())


# Names of fields that PEP 3118 cannot tell from what stands around them.
_NAMES = st.text("abO:<>{}()3TX&?x ", min_size=1, max_size=6)
_PLAIN_NAMES = st.text("abO<{}3TX ", min_size=1, max_size=6).filter(lambda name: "<O" not in name)
_PLAIN = st.sampled_from([ctypes.c_char, ctypes.c_int32, ctypes.c_double, ctypes.c_uint8 * 3])


def structures(names: st.SearchStrategy[str], fields: st.SearchStrategy[Any]) -> Any:
    def made(members: list[tuple[str, Any]]) -> Any:
        return type("Made", (ctypes.Structure,), {"_fields_": members})

    return st.lists(
        st.tuples(names, fields), min_size=1, max_size=4, unique_by=lambda field: field[0]
    ).map(made)


@given(structures(_PLAIN_NAMES, _PLAIN | structures(_PLAIN_NAMES, _PLAIN)))
def test_structures_of_bytes_are_read_whatever_their_fields_are_called(kind: Any) -> None:
    assert atlas.residue(kind()) == 0


@given(
    before=st.lists(st.tuples(_NAMES, _PLAIN), max_size=3),
    name=_NAMES,
    wrapped=st.sampled_from(["", "array", "structure"]),
    after=st.lists(st.tuples(_NAMES, _PLAIN), max_size=2),
)
def test_no_name_of_a_field_hides_an_object(
    before: list[tuple[str, Any]], name: str, wrapped: str, after: list[tuple[str, Any]]
) -> None:
    kind: Any = ctypes.py_object
    if wrapped == "array":
        kind = kind * 2
    elif wrapped == "structure":
        kind = type("Inner", (ctypes.Structure,), {"_fields_": [(name, kind)]})
    others = [(f"{i}{field}", plain) for i, (field, plain) in enumerate((*before, *after))]
    fields = [*others[: len(before)], (name, kind), *others[len(before) :]]
    outer = type("Outer", (ctypes.Structure,), {"_fields_": fields})
    with pytest.raises(TypeError, match="holds pointers to objects"):
        atlas.residue(outer())


@pytest.mark.parametrize("call", WRITERS)
@pytest.mark.parametrize("kind", ["bytes", "memoryview", "numpy read-only", "arrow buffer"])
def test_a_read_only_buffer_is_not_written(kind: str, call: str) -> None:
    buffer = KINDS[kind]()
    before = bytes_of(buffer)
    with pytest.raises(BufferError, match=rf"^{call.split()[0]} is of type \w+, must be writable"):
        WRITERS[call](buffer)
    assert bytes_of(buffer) == before


def test_a_closed_mmap_and_a_released_memoryview_are_a_buffer_error() -> None:
    region = mapped()
    region.close()
    view = memoryview(CONTENT)
    view.release()
    for buffer in (region, view):
        with pytest.raises(BufferError, match="buf is of type"):
            atlas.residue(buffer)


@pytest.mark.parametrize("lengths", [(0, 1), (95, 96), (97, 96)])
def test_pairs_of_unequal_length_are_a_value_error(lengths: tuple[int, int]) -> None:
    one, two = (bytearray(length) for length in lengths)
    numbers = rf"has {lengths[0]} bytes and \w+ has {lengths[1]}, must be of equal length"
    with pytest.raises(ValueError, match=f"before {numbers}"):
        atlas.delta(one, two)
    with pytest.raises(ValueError, match=f"dst {numbers}"):
        atlas.conserved_copy(one, two)


# --- No copy, and nothing kept ---


@contextmanager
def at_most(most_bytes: int) -> Iterator[None]:
    """Fails when the body allocates more than `most_bytes` at any time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= most_bytes


@pytest.mark.parametrize("kind", [bytes, bytearray, numpy.zeros])
def test_no_copy_is_made_of_64_mib(kind: Callable[[int], Any]) -> None:
    buffer = kind(64 << 20)
    other = bytearray(64 << 20)
    domain = atlas.Domain(bytes=len(other) * 8)
    with at_most(64 << 10):
        atlas.residue(buffer)
        atlas.window_residues(memoryview(buffer).cast("B")[: len(other)])
        atlas.delta(other, memoryview(buffer).cast("B")[: len(other)])
        atlas.conserved_copy(other, memoryview(buffer).cast("B")[: len(other)])
        atlas.Residue(buffer)
        atlas.Witness.generate(other).verify(other)
        domain.attach(other)
        domain.verify()
        domain.commit()


def test_a_transaction_makes_one_copy_and_frees_it() -> None:
    region = bytearray(8 << 20)
    domain = atlas.Domain(bytes=len(region))
    domain.attach(region)
    with at_most(len(region) + (64 << 10)):
        for _ in range(3):
            with domain.transaction():
                region[0] = 96


@pytest.mark.parametrize("call", READERS | WRITERS)
def test_no_call_keeps_its_buffer(call: str) -> None:
    buffer = bytearray(len(CONTENT))
    with suppress(ValueError):  # not conserved, no witness: refusals give the buffer back, too
        (READERS | WRITERS)[call](buffer)
    buffer.append(0)


@pytest.mark.parametrize("call", [atlas.delta, atlas.conserved_copy])
def test_a_refused_pair_gives_both_buffers_back(call: Callable[[Any, Any], object]) -> None:
    one, two = bytearray(5), bytearray(6)
    with pytest.raises(ValueError, match="equal length"):
        call(one, two)
    with pytest.raises(TypeError):
        call(one, "no buffer")
    one.append(0)
    two.append(0)
