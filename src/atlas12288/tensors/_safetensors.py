# SPDX-License-Identifier: Apache-2.0
"""Tensors of a .safetensors file, read where the header says they are.

The file is 8 bytes, the length of the header, little-endian; the header, a JSON object; and the
tensors, one directly after another, in C order and little-endian.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from .. import _json
from .._errors import WitnessError
from ._content import CHUNK_BYTES, How, Whole, witness_of
from ._dtypes import SAFETENSORS, SHAPE_RULE, WHOLE_RULE, bits_of, is_shape, length_of
from ._tensor_file import TensorFile, opened_regular
from ._witness import ArrayWitness

_LENGTH_BYTES: Final = 8
HEADER_MOST: Final = 100_000_000  # bytes; the library of the format refuses more too
_METADATA: Final = "__metadata__"
_KEYS: Final = ("dtype", "shape", "data_offsets")
_BITS: Final = {name: bits_of(dtype) or 0 for name, dtype in SAFETENSORS.items()}
_KINDS: Final = {name: (dtype, _BITS[name]) for name, dtype in SAFETENSORS.items()}


# A tensor in the header: type, shape, and its bytes start..end-1, counted from the header's end.
# A tuple takes a quarter of the memory of an object, and the garbage collector ignores it.
_Facts = tuple[str, tuple[int, ...], int, int]


class _Tensor(NamedTuple):
    """A tensor of an open file, in its bytes start..end-1."""

    descriptor: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def whole(self) -> Whole | None:
        if self.size > CHUNK_BYTES:
            return None
        return Whole(self.dtype, self.shape, _little(self.descriptor, self.start, self.end))

    def witness(self, how: How) -> ArrayWitness:
        whole = self.whole()
        part = _Part(self.descriptor, self.start, self.end) if whole is None else whole.content
        return ArrayWitness._made(self.dtype, self.shape, witness_of(part, how), how)


class _Header:
    """The header of an open file; iteration makes the tensors, in the order of their offsets.

    Attributes:
        metadata: its texts by key.
        end: offset in the file at which the last tensor ends.
    """

    def __init__(self, file: io.FileIO, size: int) -> None:
        self._descriptor = file.fileno()
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}  # most tensors share a few shapes
        self._last_end = 0
        if size < _LENGTH_BYTES:
            raise ValueError(f"has {size} bytes, must have {_LENGTH_BYTES} for the header's length")
        length = int.from_bytes(_little(self._descriptor, 0, _LENGTH_BYTES), "little")
        most = min(HEADER_MOST, size - _LENGTH_BYTES)
        if length > most:
            raise ValueError(f"length of the header is {length}, must be at most {most}")
        self._begin = _LENGTH_BYTES + length
        header = self._read()
        if not isinstance(header, dict):
            raise ValueError("header must be a JSON object of tensors")
        self.metadata = _metadata_of(header)
        for name, facts in header.items():
            if not isinstance(facts, tuple):
                raise _refusal(name, facts)
            if not name.isascii():
                _require_utf8(name)
        self._tensors: Collection[tuple[str, _Facts]] = header.items()
        if _misplaced(self._tensors) is not None:
            self._tensors = sorted(self._tensors, key=lambda item: (item[1][2:], item[0]))
            if error := _misplaced(self._tensors):
                raise error
        self.end = self._begin + sum(end - start for _, (_, _, start, end) in self._tensors)

    def _read(self) -> object:
        try:
            text = str(_little(self._descriptor, _LENGTH_BYTES, self._begin), "utf-8")
            return json.loads(text, object_pairs_hook=self._compact)
        except WitnessError as error:
            raise ValueError(f"header: {error}") from error
        except RecursionError:
            raise ValueError("header: text is nested too deeply") from None
        except ValueError as error:  # not UTF-8, not JSON, or a number with too many digits
            raise ValueError(f"header: text must be JSON: {error}") from error

    def _compact(self, pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Facts:
        """Return the tensor that a JSON object describes, as soon as it is parsed, or the object
        itself if it does not describe a valid tensor."""
        return self._facts(pairs) or _json._unique(pairs)

    def _facts(self, pairs: list[tuple[str, Any]]) -> _Facts | None:
        # Called for a million tensors: one step for the order in which every writer puts the keys.
        try:
            (first, kind), (second, sizes), (third, offsets) = pairs
            if (first, second, third) != _KEYS:
                found = dict(pairs)
                kind, sizes, offsets = (found[key] for key in _KEYS)
            start, end = offsets
            dtype, bits = _KINDS[kind]
        except (KeyError, TypeError, ValueError):
            return None
        if not is_shape(sizes) or type(offsets) is not list or not is_shape(offsets):
            return None
        size = bits
        for count in sizes:
            size *= count
        if size != 8 * (end - start):
            return None
        if start == self._last_end:
            start = self._last_end  # one int object for both
        self._last_end = end
        shape = tuple(sizes)
        return dtype, self._shapes.setdefault(shape, shape), start, end

    def __iter__(self) -> Iterator[_Tensor]:
        file, begin = self._descriptor, self._begin
        for name, (dtype, shape, start, end) in self._tensors:
            yield _Tensor(file, name, dtype, shape, begin + start, begin + end)


def _require_utf8(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"tensor {name!r}: name must be UTF-8") from None


def _misplaced(tensors: Collection[tuple[str, _Facts]]) -> ValueError | None:
    """Return an error for the first tensor that does not begin at the end of its predecessor."""
    expected = 0
    for name, (_, _, start, end) in tensors:
        if start != expected:
            return ValueError(
                f"data_offsets of tensor {name!r} begin at {start}, must begin at {expected}, "
                "where the one before ends"
            )
        expected = end
    return None


def _refusal(name: str, value: object) -> ValueError:
    """Return an error that says why an object is not a tensor."""
    try:
        fields = _json.Fields.of(value, "its header", _KEYS)
        kind = fields.choice("dtype", *SAFETENSORS)
        shape, offsets = fields.value("shape"), fields.value("data_offsets")
        fields.check("shape", is_shape(shape), SHAPE_RULE)
        two = is_shape(offsets) and len(offsets) == 2
        fields.check("data_offsets", two, "two integers in 0..18446744073709551615")
        length = length_of(shape, _BITS[kind])
        fields.check("shape", length is not None, WHOLE_RULE)
        fields.check("data_offsets", False, f"{length} bytes apart, as shape and dtype say")
    except WitnessError as error:
        return ValueError(f"tensor {name!r}: {error}")
    raise AssertionError(f"{value!r} is a tensor")


@contextmanager
def opened(name: str) -> Iterator[TensorFile]:
    """Open a .safetensors file and yield its tensors.

    Raises:
        OSError: the file cannot be read.
        ValueError: not a regular file, its header is damaged, or it changed before it was closed.
    """
    with opened_regular(name) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            header = _Header(file, size)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        end = header.end
        problems = [f"has {size} bytes, must end after {end}"] if size > end else []
        yield TensorFile(name, header, header.metadata, problems)


def _metadata_of(header: dict[str, Any]) -> dict[str, str]:
    found = header.pop(_METADATA, None)
    found = {} if found is None else found  # the library of the format reads null as none
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError(f"{_METADATA} of the header must be an object of texts")
    return found


class _Part:
    """The bytes start..end-1 of a file as a binary file, for any thread."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._descriptor = descriptor
        self._position = start
        self._end = end

    def readinto(self, buffer: memoryview, /) -> int:
        wanted = buffer[: self._end - self._position]
        count = os.preadv(self._descriptor, [wanted], self._position) if wanted else 0
        self._advance(count, bool(wanted))
        return count

    def _advance(self, count: int, is_wanted: bool) -> None:
        if is_wanted and count == 0:
            raise ValueError(f"the file ended at byte {self._position}, must have {self._end}")
        self._position += count


def _little(descriptor: int, start: int, end: int) -> memoryview:
    """Read the bytes start..end-1 of a file, which must fit into memory."""
    data = os.pread(descriptor, end - start, start)
    if len(data) < end - start:
        raise ValueError(f"the file ended at byte {start + len(data)}, must have {end}")
    return memoryview(data)
