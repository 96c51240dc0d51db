# SPDX-License-Identifier: Apache-2.0
"""Tensors of a model in shards: several .safetensors files, and an index that says who has which.

The index is a JSON object, `model.safetensors.index.json`; its `weight_map` has the file of each
tensor. Its other members, such as the total size, are not read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from .. import _json
from .._errors import WitnessError
from .._names import is_text
from ._content import How, Whole
from ._safetensors import opened as opened_safetensors
from ._tensor_file import TensorFile, UnreadTensor, opened_regular
from ._witness import ArrayWitness

INDEX_MOST: Final = 100_000_000  # bytes, as of the header of a .safetensors file
INDEX_SUFFIX: Final = ".safetensors.index.json"
_SHARD_SUFFIX: Final = ".safetensors"
_MAP: Final = "weight_map"


class _InShard(NamedTuple):
    """A tensor of an open shard."""

    shard: str
    tensor: UnreadTensor

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def size(self) -> int:
        return self.tensor.size

    def whole(self) -> Whole | None:
        return self.tensor.whole()

    def witness(self, how: How) -> ArrayWitness:
        try:
            return self.tensor.witness(how)
        except ValueError as error:
            raise ValueError(f"shard {self.shard!r}: {error}") from error


class _Lost(NamedTuple):
    """A tensor of a shard that could not be opened."""

    name: str
    reason: str
    size: int = 0

    def whole(self) -> None:
        """Return None: there is nothing to read."""

    def witness(self, _: How) -> ArrayWitness:
        raise ValueError(self.reason)


class _Shards:
    """The open shards of an index; iteration makes the tensors, the lost ones first.

    Args:
        index: the name of the shard of each tensor.
        files: the open shards by name.
        lost: why a shard could not be opened, by its name.
    """

    def __init__(
        self, index: Mapping[str, str], files: Mapping[str, TensorFile], lost: Mapping[str, str]
    ) -> None:
        self._index = index
        self._files = files
        self._lost = lost

    def __iter__(self) -> Iterator[UnreadTensor]:
        for name, shard in self._index.items():
            if shard in self._lost:
                yield _Lost(name, f"shard {shard!r}: {self._lost[shard]}")
        for shard, file in self._files.items():
            for tensor in file.tensors:
                if self._index.get(tensor.name) == shard:
                    yield _InShard(shard, tensor)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the shards, and where they are not as the index says."""
        known: tuple[str, Mapping[str, str]] | None = None
        found: set[str] = set()
        for shard, file in self._files.items():
            yield from (f"has a shard {shard!r} that {problem}" for problem in file.problems)
            metadata = file.metadata or {}
            known = known or (shard, metadata)
            for key in sorted(known[1].keys() | metadata.keys()):
                if known[1].get(key) != metadata.get(key):
                    yield f"has shards {known[0]!r} and {shard!r} whose metadata {key!r} differ"
            for tensor in file.tensors:
                named = self._index.get(tensor.name)
                if named == shard:
                    found.add(tensor.name)
                elif named is None:
                    yield f"does not name tensor {tensor.name!r} of shard {shard!r}"
                else:
                    yield f"has tensor {tensor.name!r} in {named!r}, and shard {shard!r} has it too"
        for name, shard in self._index.items():
            if name not in found and shard not in self._lost:
                yield f"has tensor {name!r} in shard {shard!r}, which does not have it"


@contextmanager
def opened(name: str) -> Iterator[TensorFile]:
    """Open the shards of an index and yield their tensors.

    A shard that cannot be opened makes its tensors unreadable. Where the shards are not as the
    index says, that is a problem of the file.

    Args:
        name: the index, or the folder in which it is the only one.

    Raises:
        OSError: the index cannot be read.
        ValueError: the folder has no index or several; the index is not one; or a file changed
            before it was closed.
    """
    name = _index_in(name)
    index = _read(name)
    with ExitStack() as stack:
        files: dict[str, TensorFile] = {}
        lost: dict[str, str] = {}
        for shard in sorted(set(index.values())):
            path = str(Path(name).parent / shard)
            try:
                files[shard] = stack.enter_context(opened_safetensors(path))
            except OSError as error:
                lost[shard] = error.strerror or str(error)
            except ValueError as error:
                lost[shard] = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
        shards = _Shards(index, files, lost)
        metadata = next((file.metadata for file in files.values()), None)
        yield TensorFile(name, shards, metadata, list(shards.problems()))


def shards_of(name: str) -> list[str]:
    """Return the paths of the shards of an index, or of the index in a folder.

    Raises:
        OSError, ValueError: as `opened`.
    """
    name = _index_in(name)
    return [str(Path(name).parent / shard) for shard in sorted(set(_read(name).values()))]


def _index_in(name: str) -> str:
    """Return the only index in a folder; the name itself if it is no folder."""
    if not Path(name).is_dir():
        return name
    found = sorted(path for path in Path(name).iterdir() if path.name.endswith(INDEX_SUFFIX))
    if len(found) != 1:
        what = " and ".join(repr(path.name) for path in found[:2]) or "none"
        raise ValueError(f"{name} must have one index NAME{INDEX_SUFFIX}, has {what}")
    return str(found[0])


def _read(name: str) -> dict[str, str]:
    """Return the file name of the shard of each tensor."""
    with opened_regular(name) as file:
        size = os.fstat(file.fileno()).st_size
        if size > INDEX_MOST:
            raise ValueError(f"{name}: index has {size} bytes, must have at most {INDEX_MOST}")
        text = file.readall() or b""
    try:
        value = _json.read(text)
    except WitnessError as error:
        raise ValueError(f"{name}: index: {error}") from error
    index = value.get(_MAP) if isinstance(value, dict) else None
    if not isinstance(index, dict):
        raise ValueError(f"{name}: index must be a JSON object with the object {_MAP!r}")
    for tensor, shard in index.items():
        if not is_text(tensor):
            raise ValueError(f"{name}: name of tensor {tensor!r} must be UTF-8")
        if not _is_shard(shard):
            raise ValueError(
                f"{name}: shard of tensor {tensor!r} must be the name of a {_SHARD_SUFFIX} file "
                "beside the index"
            )
    return index


def _is_shard(name: object) -> bool:
    return (
        isinstance(name, str)
        and is_text(name)
        and name.endswith(_SHARD_SUFFIX)
        and "/" not in name
        and "\0" not in name
    )
