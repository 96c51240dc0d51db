# SPDX-License-Identifier: Apache-2.0
"""Tensors of a .safetensors file, read where the header says they are.

The file is 8 bytes, the length of the header, little-endian; the header, a JSON object; and the
tensors, one directly after another, in C order and little-endian.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from .. import _json
from ..errors import WitnessError
from ._content import How, witness_of
from ._dtypes import SAFETENSORS, bits_of, is_shape, length_of
from ._source import Source, TensorFile, opened_regular
from ._witness import ArrayWitness

_LENGTH_BYTES: Final = 8
_HEADER_MOST: Final = 100_000_000  # bytes; the library of the format refuses more too
_METADATA: Final = "__metadata__"
_KEYS: Final = ("dtype", "shape", "data_offsets")


class _Tensor(NamedTuple):
    """Its bytes are start..end-1 of what follows the header."""

    start: int
    end: int
    name: str
    dtype: str
    shape: tuple[int, ...]


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
            header, begin = _read_header(file, size)
            metadata = _metadata_of(header)
            tensors = _tensors_of(header)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        end = begin + (tensors[-1].end if tensors else 0)
        problems = [f"has {size} bytes, must end after {end}"] if size > end else []
        sources = [_source_of(file, begin, tensor) for tensor in tensors]
        yield TensorFile(name, sources, metadata, problems)


def _read_header(file: io.FileIO, size: int) -> tuple[dict[str, Any], int]:
    """The header, and where it ends."""
    if size < _LENGTH_BYTES:
        raise ValueError(f"has {size} bytes, must have {_LENGTH_BYTES} for the header's length")
    length = int.from_bytes(_read(file, 0, _LENGTH_BYTES), "little")
    most = min(_HEADER_MOST, size - _LENGTH_BYTES)
    if length > most:
        raise ValueError(f"length of the header is {length}, must be at most {most}")
    try:
        header = _json.read(_read(file, _LENGTH_BYTES, length))
    except WitnessError as error:
        raise ValueError(f"header: {error}") from error
    if not isinstance(header, dict):
        raise ValueError("header must be a JSON object")
    return header, _LENGTH_BYTES + length


def _read(file: io.FileIO, start: int, count: int) -> bytes:
    """Of this short part, which is within the file."""
    data = os.pread(file.fileno(), count, start)
    if len(data) != count:
        raise ValueError(f"ended at byte {start + len(data)}, must have {start + count}")
    return data


def _metadata_of(header: dict[str, Any]) -> dict[str, str]:
    found = header.pop(_METADATA, None)
    found = {} if found is None else found  # null stands for none in the format's library
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError(f"{_METADATA} of the header must be an object of texts")
    return found


def _tensors_of(header: dict[str, Any]) -> list[_Tensor]:
    """The tensors by their place: without holes, and none over another one."""
    tensors = sorted(_tensor_of(name, value) for name, value in header.items())
    end = 0
    for tensor in tensors:
        if tensor.start != end:
            raise ValueError(
                f"data_offsets of tensor {tensor.name!r} begin at {tensor.start}, must begin at "
                f"{end}, where the one before ends"
            )
        end = tensor.end
    return tensors


def _tensor_of(name: str, value: object) -> _Tensor:
    try:
        fields = _json.Fields.of(value, "its header", _KEYS)
        dtype = SAFETENSORS[fields.choice("dtype", *SAFETENSORS)]
        shape = fields.value("shape")
        fields.check("shape", is_shape(shape), "a list of integers in 0..18446744073709551615")
        offsets = fields.value("data_offsets")
        two = is_shape(offsets) and len(offsets) == 2
        fields.check("data_offsets", two, "two integers in 0..18446744073709551615")
        start, end = offsets
        length = length_of(tuple(shape), bits_of(dtype) or 0)
        fields.check("shape", length is not None, "one that fills whole bytes")
        rule = f"{length} bytes apart, as shape and dtype say"
        fields.check("data_offsets", end - start == length, rule)
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"tensor {name!r}: name must be UTF-8") from None
    except WitnessError as error:
        raise ValueError(f"tensor {name!r}: {error}") from None
    return _Tensor(start, end, name, dtype, tuple(shape))


class _Part:
    """A binary file over the bytes start..end-1 of another one, from any thread."""

    def __init__(self, file: io.FileIO, start: int, end: int) -> None:
        self._descriptor = file.fileno()
        self._at = start
        self._end = end

    def readinto(self, buffer: memoryview, /) -> int:
        wanted = buffer[: self._end - self._at]
        count = os.preadv(self._descriptor, [wanted], self._at) if wanted else 0
        if wanted and count == 0:
            raise ValueError(f"the file ended at byte {self._at}, must have {self._end}")
        self._at += count
        return count


def _source_of(file: io.FileIO, begin: int, tensor: _Tensor) -> Source:
    def witness(how: How) -> ArrayWitness:
        part = _Part(file, begin + tensor.start, begin + tensor.end)
        found = witness_of(part, how)
        return ArrayWitness._made(tensor.dtype, tensor.shape, found)

    return Source(tensor.name, witness)
