# SPDX-License-Identifier: Apache-2.0
"""The witness of named arrays, and its JSON form.

    {"type": "atlas12288/tensors/v1", "algorithm": "sha256", "metadata": {"format": "pt"},
     "tensors": [{"name": "bias", "dtype": "bfloat16", "shape": [3], "length": 6, "residue": 0,
     "digest": "<64 hex>"}], "timestamp": "2025-01-31T12:00:00.000000000Z"}

on one line, tensors in the order of their names; as strict as the JSON of a witness.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from .. import _json
from .._errors import StateError, WitnessError
from .._native import DIGEST_BYTES, bytes_of
from .._parallel import thread_count
from .._reports import DifferenceKind, PartDifference, Report
from .._sidecars import WindowRange
from .._tree import TreeWitness
from .._types import Buffer, Lazy, Memory, Stream
from .._value import Value
from .._window_ranges import window_ranges
from .._witness import ALGORITHM, TREE_ALGORITHM, format_timestamp, read_timestamp
from . import _npz, _safetensors, _shards
from ._content import How
from ._hashing import in_parallel, launched, unread_of
from ._tensor_file import TensorFile, UnreadTensor, witness_in
from ._witness import ArrayWitness

if TYPE_CHECKING:
    import numpy
else:
    numpy = Lazy("numpy")

R = TypeVar("R")
_TreeOf = Callable[[str], TreeWitness | None]

JSON_TYPE = "atlas12288/tensors/v1"
_KEYS = ("type", "algorithm", "metadata", "tensors", "timestamp")
_TENSOR_KEYS = ("name", "dtype", "shape", "length", "residue", "digest")
_GROUP_MOST = 256  # tensors
_OPENERS: dict[str, Callable[[str], AbstractContextManager[TensorFile]]] = {
    ".safetensors": _safetensors.opened,
    ".npz": _npz.opened,
}
_INDEX_END = ".json"


class TensorsWitness(Value):
    """Immutable record of a set of named arrays: an `ArrayWitness` for each, and metadata.

    Made by `generate(arrays)`, `from_file(path)` and `from_json`. The order of the arrays is not
    part of it. Two are equal if all their fields are equal, the time included.

    Attributes:
        algorithm: "sha256" or "sha256-merkle-12288", the same for all arrays.
        timestamp_ns: when it was made, in nanoseconds since 1970-01-01T00:00:00Z; the witness of
            each array has the same time.
    """

    __slots__ = _FIELDS = ("algorithm", "_metadata", "_arrays", "timestamp_ns")
    _MADE_BY = "TensorsWitness.generate(), from_file() or from_json()"

    algorithm: str
    _metadata: tuple[tuple[str, str], ...]
    _arrays: tuple[tuple[str, ArrayWitness], ...]
    timestamp_ns: int

    @classmethod
    def generate(
        cls,
        arrays: Mapping[str, numpy.ndarray[Any, Any] | Memory],
        /,
        *,
        metadata: Mapping[str, str] | None = None,
        tree: bool = False,
        leaves: bool = True,
        threads: int | None = None,
        stream: Stream = None,
        host: bool = False,
    ) -> Self:
        """Return the witness of arrays in memory, with the present time.

        Args:
            arrays: the arrays by name, NumPy's or tensors, such as the `state_dict()` of a model;
                they must not change during the call. All that are on one GPU are hashed there
                together.
            metadata: texts that belong to the set, as in a .safetensors file.
            tree: make tree witnesses, which can say which windows changed.
            leaves: keep the leaves that tree witnesses need for this, 33 bytes a window.
            threads: number of threads; None for one per core that this process may use.
                Flat witnesses are made of several arrays at once, tree witnesses of several parts
                of an array.
            stream, host: for tensors on a GPU, as in `ArrayWitness.generate`.

        Raises:
            BufferError, DeviceError: as `ArrayWitness.generate`.
            TypeError: an array that `ArrayWitness.generate` refuses, a name or metadata that is not
                a text, or `threads` is not an int.
            ValueError: `threads` is less than 1.
            ImportError: NumPy is not installed.
        """
        tensors, known = unread_of(arrays), _metadata_of(metadata or {})
        how = How(tree, leaves, thread_count(threads), time.time_ns(), stream, host)
        return cls._of_unread(launched(tensors, how), known, how)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        /,
        *,
        tree: bool = False,
        leaves: bool = True,
        threads: int | None = None,
    ) -> Self:
        """Return the witness of a file of tensors, tensor by tensor.

        It is a .safetensors file, an .npz file, or the index of a model in shards, for example
        model.safetensors.index.json, or the folder with the index. The tensors of all shards are
        one set, as if they were in one file; every tensor must be in the shard that the index
        names, and nowhere else.

        The file is read, not mapped, in less than 1 MiB a thread (trees: less than 64 MiB, and
        their leaves); only a Fortran-ordered array of an .npz file is held in memory as a whole. No
        code in the file is run: an array of pickled objects is refused.

        Args:
            path: path of the file, whose name ends in .safetensors, .npz or, for an index, .json;
                or of a folder in which one name ends in .safetensors.index.json.
            tree, leaves, threads: as in `generate`.

        Raises:
            ValueError: the name has another ending, the file is damaged or changes while it
                is read, a shard is missing or is not as the index says, or `threads` is less than
                1; the message names the file, and the tensor at fault.
            OSError: the file cannot be read.
            TypeError: `threads` is not an int.
            ImportError: NumPy, which .npz files need, is not installed.
        """
        return cls._of_file(path, How(tree, leaves, thread_count(threads), time.time_ns()))

    @classmethod
    def _of_file(
        cls,
        path: str | os.PathLike[str],
        how: How,
        write_leaves: Callable[[bytes], object] | None = None,
    ) -> Self:
        """Return the witness of a file of tensors.

        Args:
            path: as in `from_file`.
            how: with the time of the witness.
            write_leaves: called with the leaves of each tree, in the order of their names, so that
                the leaves of only one tensor are in memory; the witness then has none.

        Raises:
            ValueError, OSError, ImportError: as `from_file`; what `write_leaves` raises.
        """
        with _opened(path) as file:
            for problem in file.problems:
                raise ValueError(f"{file.name} {problem}")
            metadata = file.metadata or {}
            if write_leaves is None:
                return cls._of_unread(file.tensors, metadata, how, file.name)
            arrays = []
            for tensor in sorted(file.tensors, key=attrgetter("name")):
                array = witness_in(file.name, tensor, how)
                write_leaves(array._as_tree().leaves or b"")
                arrays.append((tensor.name, array._with(None)))
            return cls._of_parts(TREE_ALGORITHM, metadata, arrays, how.made_ns or 0)

    @classmethod
    def _of_unread(
        cls,
        tensors: Iterable[UnreadTensor],
        metadata: Mapping[str, str],
        how: How,
        file_name: str | None = None,
    ) -> Self:
        """Return the witness of tensors; `how` has one time for all.

        Setting the time afterwards would copy each witness.
        """

        def made(tensor: UnreadTensor, how: How) -> tuple[str, ArrayWitness]:
            if file_name is None:
                return tensor.name, tensor.witness(how)
            return tensor.name, witness_in(file_name, tensor, how)

        algorithm = TREE_ALGORITHM if how.tree else ALGORITHM
        arrays = in_parallel(made, tensors, how)
        return cls._of_parts(algorithm, metadata, arrays, how.made_ns or 0)

    @classmethod
    def _of_parts(
        cls,
        algorithm: str,
        metadata: Mapping[str, str],
        arrays: Iterable[tuple[str, ArrayWitness]],
        timestamp_ns: int,
    ) -> Self:
        return cls._of(
            algorithm=algorithm,
            _metadata=tuple(sorted(metadata.items())),
            _arrays=tuple(sorted(arrays, key=itemgetter(0))),
            timestamp_ns=timestamp_ns,
        )

    @property
    def arrays(self) -> dict[str, ArrayWitness]:
        """Witnesses of the arrays by name, in the order of their names."""
        return dict(self._arrays)

    @property
    def metadata(self) -> dict[str, str]:
        """Texts that belong to the set by key, in the order of their keys."""
        return dict(self._metadata)

    @property
    def timestamp(self) -> str:
        """Time at which the witness was made: RFC 3339, UTC, nanoseconds."""
        return format_timestamp(self.timestamp_ns)

    @property
    def leaves(self) -> bytes | None:
        """Leaf hashes of all arrays, in the order of their names, 32 bytes a window, as a sidecar
        holds them; None if they are not known."""
        trees = [array._as_tree() for _, array in self._arrays]
        known = [leaves for tree in trees if (leaves := tree.leaves) is not None]
        whole = self.algorithm == TREE_ALGORITHM and len(known) == len(trees)
        return b"".join(known) if whole else None

    def with_leaves(self, leaves: Buffer, /) -> Self:
        """Return the same witness with leaves, for example from a sidecar.

        Raises:
            StateError: its witnesses are not tree witnesses.
            WitnessError: there are not 32 bytes a window, or the leaves do not belong to the
                witness; the message names the tensor.
            TypeError, BufferError: `leaves` is not a C-contiguous buffer.
        """
        if self.algorithm != TREE_ALGORITHM:
            raise StateError(f"algorithm is {self.algorithm}, must be {TREE_ALGORITHM} for leaves")
        content = bytes_of(leaves)
        trees = {name: array._as_tree() for name, array in self._arrays}
        windows = sum(tree.windows for tree in trees.values())
        if len(content) != windows * DIGEST_BYTES:
            raise WitnessError(
                f"leaves has {len(content)} bytes, must have {windows * DIGEST_BYTES}, "
                f"{DIGEST_BYTES} for each of {windows} windows"
            )
        arrays = []
        for name, array in self._arrays:
            own = content[: trees[name].windows * DIGEST_BYTES]
            content = content[len(own) :]
            try:
                arrays.append((name, array._with(trees[name].with_leaves(own))))
            except WitnessError as error:
                raise WitnessError(f"tensor {name!r}: {error}") from None
        return self._of_parts(self.algorithm, dict(self._metadata), arrays, self.timestamp_ns)

    def verify(
        self,
        arrays: Mapping[str, numpy.ndarray[Any, Any] | Memory],
        /,
        *,
        metadata: Mapping[str, str] | None = None,
        threads: int | None = None,
        stream: Stream = None,
        host: bool = False,
    ) -> Report[PartDifference]:
        """Report what differs in arrays in memory. An array that `generate` refuses is unreadable.

        Args:
            arrays: the arrays by name.
            metadata: the texts of the set; None to leave them out of the comparison.
            threads, stream, host: as in `generate`.

        Raises:
            DeviceError: a GPU failed; nothing is known of the tensors then.
            TypeError: a name or metadata that is not a text, or `threads` is not an int.
            ValueError: `threads` is less than 1.
            ImportError: NumPy is not installed.
        """
        known = None if metadata is None else _metadata_of(metadata)
        how = self._how(threads)._replace(stream=stream, host=host)
        return self._report(launched(unread_of(arrays), how), known, (), how)

    def verify_file(
        self, path: str | os.PathLike[str], /, *, threads: int | None = None
    ) -> Report[PartDifference]:
        """Report what differs in a file of tensors.

        A tensor that is cut off or damaged is unreadable, and so are the tensors of a shard that is
        missing; the others are still compared. The metadata is compared if files of this kind have
        any. What in a model in shards is not as its index says is a difference of kind "other".

        Args, Raises: as `from_file`; ValueError if the file does not show which tensors it has.
        """
        return self._verify_file(path, self._how(threads))

    def _verify_file(
        self, path: str | os.PathLike[str], how: How, tree_of: _TreeOf | None = None
    ) -> Report[PartDifference]:
        """Report what differs in a file of tensors; arguments as for `_report`."""
        with _opened(path) as file:
            return self._report(file.tensors, file.metadata, file.problems, how, tree_of)

    def _how(self, threads: int | None) -> How:
        """Return how to make witnesses to compare with these."""
        leaves = any(array.tree is not None for _, array in self._arrays)
        return How(self.algorithm == TREE_ALGORITHM, leaves, thread_count(threads))

    def _report(
        self,
        tensors: Iterable[UnreadTensor],
        metadata: Mapping[str, str] | None,
        problems: Iterable[str],
        how: How,
        tree_of: _TreeOf | None = None,
    ) -> Report[PartDifference]:
        """Report what differs in tensors.

        Args:
            tensors, metadata, problems: as of a `TensorFile`.
            how: how to make the witnesses to compare with.
            tree_of: returns the tree of a tensor that changed, with leaves; None if there are none.
        """
        witnessed = self.arrays

        def found(tensor: UnreadTensor, how: How) -> PartDifference | None:
            if tensor.name not in witnessed:
                return None
            try:
                return _change(tensor.name, witnessed[tensor.name], tensor.witness(how), tree_of)
            except (BufferError, OSError, TypeError, ValueError) as error:
                return _difference(tensor.name, "unreadable", reason=str(error))

        judged = [each for each in in_parallel(found, tensors, how) if each is not None]
        judged.sort(key=attrgetter("name"))
        names = {tensor.name for tensor in tensors}
        other = list(problems)
        if metadata is not None:
            other += _metadata_differences(dict(self._metadata), metadata)
        return Report(
            (
                *(each for each in judged if each.kind == "changed"),
                *(_difference(name, "missing") for name in witnessed if name not in names),
                *(_difference(name, "added") for name in sorted(names - witnessed.keys())),
                *(each for each in judged if each.kind == "unreadable"),
                *(_difference(None, "other", reason=line) for line in other),
            )
        )

    def to_fields(self) -> dict[str, object]:
        """Return the keys and values of the witness's JSON object, in their order."""
        values = (
            JSON_TYPE,
            self.algorithm,
            dict(self._metadata),
            [{"name": name} | array._facts() for name, array in self._arrays],
            self.timestamp,
        )
        return dict(zip(_KEYS, values, strict=True))

    def to_json(self) -> str:
        """Return the witness as one line of JSON; equal witnesses give equal text."""
        return _json.write(self.to_fields())

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the witness, without leaves, from the JSON text of `to_json`; bytes are UTF-8.

        Raises:
            WitnessError: the text is not such JSON; the message names the tensor, the key,
                its value and the rule.
            TypeError: neither str nor bytes.
        """
        fields = _json.Fields(text, _KEYS)
        fields.choice("type", JSON_TYPE)
        algorithm = fields.choice("algorithm", ALGORITHM, TREE_ALGORITHM)
        metadata = fields.value("metadata")
        fields.check("metadata", _are_texts(metadata), "an object of texts")
        timestamp_ns = read_timestamp(fields)
        tensors = fields.value("tensors")
        fields.check("tensors", isinstance(tensors, list), "a list")
        arrays: list[tuple[str, ArrayWitness]] = []
        for index, tensor in enumerate(tensors):
            try:
                facts = _json.Fields.of(tensor, "it", _TENSOR_KEYS)
                facts.check("name", isinstance(facts.value("name"), str), "a text")
                name = facts.text("name")
                last = arrays[-1][0] if arrays else None
                facts.check("name", last is None or last < name, f"after {last!r}, in order")
                arrays.append((name, ArrayWitness._of_facts(facts, algorithm, timestamp_ns)))
            except WitnessError as error:
                raise WitnessError(f"tensor {index}: {error}") from None
        return cls._of_parts(algorithm, metadata, arrays, timestamp_ns)

    def __repr__(self) -> str:
        count = len(self._arrays)
        return f"<{type(self).__name__} {self.algorithm} of {count} tensors at {self.timestamp}>"


def _are_texts(metadata: object) -> bool:
    return isinstance(metadata, Mapping) and all(
        isinstance(text, str) for item in metadata.items() for text in item
    )


def _metadata_of(metadata: Mapping[str, str]) -> Mapping[str, str]:
    if not _are_texts(metadata):
        raise TypeError(f"metadata is {metadata!r}, must be a mapping of texts to texts")
    return metadata


def _metadata_differences(witnessed: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    lines = []
    for key in sorted(witnessed.keys() | found.keys()):
        if key not in found:
            lines.append(f"metadata {key!r} is missing")
        elif key not in witnessed:
            lines.append(f"metadata {key!r} was added")
        elif witnessed[key] != found[key]:
            lines.append(f"metadata {key!r} differs")
    return lines


def _opened(path: str | os.PathLike[str]) -> AbstractContextManager[TensorFile]:
    name = os.fspath(path)
    if not isinstance(name, str):
        raise TypeError(f"path is of type {type(name).__name__}, must be str or os.PathLike[str]")
    end = Path(name).suffix.lower()
    if end == _INDEX_END or Path(name).is_dir():
        return _shards.opened(name)
    if end not in _OPENERS:
        raise ValueError(
            f"path is {name!r}, must end in {' or '.join(_OPENERS)}; "
            f"or be the index of shards, which ends in {_INDEX_END}, or its folder"
        )
    return _OPENERS[end](name)


def files_of(name: str) -> list[str]:
    """Return the paths of the files that hold the tensors of a set.

    Raises:
        OSError, ValueError: as `_shards.opened`.
    """
    is_index = name.lower().endswith(_INDEX_END) or Path(name).is_dir()
    return _shards.shards_of(name) if is_index else [name]


def _difference(
    name: str | None,
    kind: DifferenceKind,
    what: tuple[str, ...] = (),
    reason: str = "",
    ranges: tuple[WindowRange, ...] | None = None,
) -> PartDifference:
    return PartDifference("tensor", name, kind, what, reason, ranges)


def _change(
    name: str, witnessed: ArrayWitness, found: ArrayWitness, tree_of: _TreeOf | None
) -> PartDifference | None:
    what = witnessed.differences(found)
    if not what:
        return None
    ranges = None
    # The windows of another layout, such as a shard, are other parts of the tensor.
    is_layout = "dtype" in what or "shape" in what
    tree = None if is_layout else witnessed.tree if tree_of is None else tree_of(name)
    if tree is not None and found.tree is not None:
        windows = tree.changed_windows(found.tree)
        ranges = window_ranges(windows, max(witnessed.length, found.length))
    return _difference(name, "changed", what, f"differs in {', '.join(what)}", ranges)
