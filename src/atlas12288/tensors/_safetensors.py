# SPDX-License-Identifier: Apache-2.0
"""Tensors of a .safetensors file, read where the header says they are.

The file is 8 bytes, the length of the header, little-endian; the header, a JSON object; and the
tensors, one directly after another, in C order and little-endian.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Final

from .. import _json
from ..errors import WitnessError
from ._content import CHUNK_BYTES, How, witness_of
from ._dtypes import SAFETENSORS, SHAPE_RULE, WHOLE_RULE, bits_of, is_shape, length_of, product
from ._source import TensorFile, opened_regular
from ._witness import ArrayWitness

_LENGTH_BYTES: Final = 8
_HEADER_MOST: Final = 100_000_000  # bytes; the library of the format refuses more too
_METADATA: Final = "__metadata__"
_KEYS: Final = ("dtype", "shape", "data_offsets")
_BITS: Final = {name: bits_of(dtype) or 0 for name, dtype in SAFETENSORS.items()}


class _Tensor:
    """A tensor: the bytes start..end-1 of what follows the header."""

    __slots__ = ("dtype", "end", "header", "name", "shape", "start")

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    header: _Header

    @property
    def size(self) -> int:
        return self.end - self.start

    def witness(self, how: How) -> ArrayWitness:
        header = self.header
        start, end = header.end + self.start, header.end + self.end
        if end - start <= CHUNK_BYTES:
            found = witness_of(_little(header.descriptor, start, end), how)
        else:
            found = witness_of(_Part(header.descriptor, start, end), how)
        return ArrayWitness._made(self.dtype, self.shape, found, how)


class _Header:
    """The header of an open file.

    Attributes:
        descriptor: of the file.
        end: where the header ends.
        tensors: by their place.
        metadata: its texts.
    """

    def __init__(self, file: io.FileIO, size: int) -> None:
        self.descriptor = file.fileno()
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}  # most are the same few
        if size < _LENGTH_BYTES:
            raise ValueError(f"has {size} bytes, must have {_LENGTH_BYTES} for the header's length")
        length = int.from_bytes(_little(self.descriptor, 0, _LENGTH_BYTES), "little")
        most = min(_HEADER_MOST, size - _LENGTH_BYTES)
        if length > most:
            raise ValueError(f"length of the header is {length}, must be at most {most}")
        self.end = _LENGTH_BYTES + length
        header = self._read()
        if not isinstance(header, dict):
            raise ValueError("header must be a JSON object of tensors")
        self.metadata = _metadata_of(header)
        self.tensors = self._tensors_of(header)

    def _read(self) -> object:
        try:
            text = str(_little(self.descriptor, _LENGTH_BYTES, self.end), "utf-8")
            return json.loads(text, object_pairs_hook=self._compact)
        except WitnessError as error:
            raise ValueError(f"header: {error}") from error
        except RecursionError:
            raise ValueError("header: text is nested too deeply") from None
        except ValueError as error:  # not UTF-8, not JSON, or a number of too many digits
            raise ValueError(f"header: text must be JSON: {error}") from error

    def _compact(self, pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Tensor:
        """Return a tensor as soon as it has been read, which has a quarter of the size of the
        object; that where there is no good tensor in it."""
        return self._tensor(pairs) or _json._unique(pairs)

    def _tensor(self, pairs: list[tuple[str, Any]]) -> _Tensor | None:
        if len(pairs) != len(_KEYS):
            return None
        found = dict(pairs)
        parts: list[Any] = [found.get(key) for key in _KEYS]
        kind, sizes, offsets = parts
        bits = _BITS.get(kind) if isinstance(kind, str) else None
        if bits is None or not is_shape(sizes) or not is_shape(offsets) or len(offsets) != 2:
            return None
        start, end = offsets
        if product(sizes, bits) != 8 * (end - start):
            return None
        tensor = _Tensor()
        tensor.header = self
        tensor.dtype = SAFETENSORS[kind]
        shape = tuple(sizes)
        tensor.shape = self._shapes.setdefault(shape, shape)
        tensor.start = start
        tensor.end = end
        return tensor

    def _tensors_of(self, header: dict[str, Any]) -> list[_Tensor]:
        """Return the tensors by their place: without holes, and none over another one."""
        tensors = []
        for name, value in header.items():
            if not isinstance(value, _Tensor):
                raise _refusal(name, value)
            if not name.isascii():
                _require_utf8(name)
            value.name = name
            tensors.append(value)
        if not _in_place(tensors):
            tensors.sort(key=attrgetter("start", "end", "name"))
            if not _in_place(tensors):
                raise _misplaced(tensors)
        return tensors


def _require_utf8(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"tensor {name!r}: name must be UTF-8") from None


def _in_place(tensors: list[_Tensor]) -> bool:
    """Does each begin where the one before ends?"""
    end = 0
    for tensor in tensors:
        if tensor.start != end:
            return False
        tensor.start = end  # one number for both
        end = tensor.end
    return True


def _misplaced(tensors: list[_Tensor]) -> ValueError:
    """Return which is the first that does not begin where the one before ends."""
    end = 0
    for tensor in tensors:
        if tensor.start != end:
            break
        end = tensor.end
    return ValueError(
        f"data_offsets of tensor {tensor.name!r} begin at {tensor.start}, must begin at {end}, "
        "where the one before ends"
    )


def _refusal(name: str, value: object) -> ValueError:
    """Return what is wrong with an object that is no tensor."""
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
    """The tensors of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: not a regular file, its header is damaged, or it changed until it was closed.
    """
    with opened_regular(name) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            header = _Header(file, size)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        tensors = header.tensors
        end = header.end + (tensors[-1].end if tensors else 0)
        problems = [f"has {size} bytes, must end after {end}"] if size > end else []
        yield TensorFile(name, tensors, header.metadata, problems)


def _metadata_of(header: dict[str, Any]) -> dict[str, str]:
    found = header.pop(_METADATA, None)
    found = {} if found is None else found  # null stands for none in the format's library
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError(f"{_METADATA} of the header must be an object of texts")
    return found


class _Part:
    """A binary file over the bytes start..end-1 of another one, from any thread."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._descriptor = descriptor
        self._at = start
        self._end = end

    def readinto(self, buffer: memoryview, /) -> int:
        wanted = buffer[: self._end - self._at]
        count = os.preadv(self._descriptor, [wanted], self._at) if wanted else 0
        self._advance(count, bool(wanted))
        return count

    def _advance(self, count: int, is_wanted: bool) -> None:
        if is_wanted and count == 0:
            raise ValueError(f"the file ended at byte {self._at}, must have {self._end}")
        self._at += count


def _little(descriptor: int, start: int, end: int) -> memoryview:
    """Return the bytes start..end-1 of a file, which are few enough for memory."""
    data = os.pread(descriptor, end - start, start)
    if len(data) < end - start:
        raise ValueError(f"the file ended at byte {start + len(data)}, must have {end}")
    return memoryview(data)
