# SPDX-License-Identifier: Apache-2.0
"""How sets of tensors are hashed: those on devices together, small ones beside one another, and all
of them on all threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .._native import device_of
from .._parallel import parallel_map
from .._types import Lazy, Memory
from .._witness import Witness
from ._content import CHUNK_BYTES, How, Whole
from ._dlpack import Content, content_of_found, is_tensor, on_devices, whole_tensor
from ._tensor_file import UnreadTensor
from ._witness import ArrayWitness, array_content

if TYPE_CHECKING:
    import numpy

    from ._dlpack import Found
else:
    numpy = Lazy("numpy")

R = TypeVar("R")
_GROUP_MOST = 256  # tensors


def unread_of(arrays: Mapping[str, numpy.ndarray[Any, Any] | Memory]) -> list[InMemory]:
    """Return named arrays as tensors to hash.

    Raises:
        TypeError: `arrays` is not a mapping, or a name not a str.
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays is of type {type(arrays).__name__}, must be a mapping")
    return [_unread_tensor(name, array) for name, array in arrays.items()]


def launched(tensors: list[InMemory], how: How) -> list[UnreadTensor]:
    """Hash the tensors that are on devices, together; return them in place of the others."""
    found: list[UnreadTensor] = list(tensors)
    places: dict[tuple[int, int], list[int]] = {}
    sources: dict[tuple[int, int], list[tuple[object, str]]] = {}
    for place, (name, array, _) in enumerate(tensors):
        device = device_of(array) if is_tensor(array) else None
        if device is not None:
            if device not in places:
                places[device], sources[device] = [], []
            places[device].append(place)
            sources[device].append((array, f"tensor {name!r}"))
    if sources:
        for some, contents in zip(places.values(), on_devices(sources, how), strict=True):
            for place, content in zip(some, contents, strict=True):
                found[place] = _Hashed(tensors[place].name, content)
    return found


class _Hashed(NamedTuple):
    """A tensor that is hashed already, or the error that it has on its device."""

    name: str
    found: Found
    size: int = 0

    def whole(self) -> None:
        """Return None: it is hashed already."""

    def witness(self, how: How) -> ArrayWitness:
        # Only now, so that of many tensors few objects are there at once.
        found = content_of_found(self.found, f"tensor {self.name!r}")
        return ArrayWitness._made(found.dtype, found.shape, found.witness, how)


def _unread_tensor(name: object, array: object) -> InMemory:
    if not isinstance(name, str):
        raise TypeError(f"name {name!r} is of type {type(name).__name__}, must be str")
    size = getattr(array, "nbytes", 0)
    return InMemory(name, array, size if isinstance(size, int) else 0)


class InMemory(NamedTuple):
    """An array in memory, or the object that was passed as one."""

    name: str
    array: object
    size: int

    def whole(self) -> Whole | None:
        what = f"tensor {self.name!r}"
        if self.size > CHUNK_BYTES:
            return None
        if is_tensor(self.array):
            return None if device_of(self.array) is not None else whole_tensor(self.array, what)
        dtype, shape, content = array_content(self.array, what)
        return Whole(dtype, shape, content) if isinstance(content, memoryview) else None

    def witness(self, how: How) -> ArrayWitness:
        return ArrayWitness._of_array(self.array, f"tensor {self.name!r}", how)


def in_parallel(
    work: Callable[[UnreadTensor, How], R], tensors: Iterable[UnreadTensor], how: How
) -> Iterator[R]:
    """Yield work(tensor, how) for each tensor, in any order; one tree uses all threads."""
    across, within = (1, how) if how.tree else (how.threads, how._replace(threads=1))
    here: list[R] = []  # results of this thread, made while it handed out work

    def work_on(group: list[UnreadTensor]) -> list[R]:
        found = group if how.tree or len(group) == 1 else _hashed_at_once(group, how.advance)
        return [work(tensor, within) for tensor in found]

    def handed_out() -> Iterator[list[UnreadTensor]]:
        for group in _groups(tensors):
            if len(group) < _GROUP_MOST:
                yield group
            else:
                # Sources of a few bytes hold the GIL: two threads would wait for each other and
                # take a third longer than one.
                here.extend(work_on(group))

    with closing(parallel_map(work_on, handed_out(), across)) as results:
        for some in results:
            yield from some
            yield from here
            here.clear()
    yield from here


def _hashed_at_once(
    group: list[UnreadTensor], advance: Callable[[int], None] | None = None
) -> list[UnreadTensor]:
    """Hash small tensors beside one another; return them in place of what was not read.

    What cannot be read stays as it is: its own witness says why.
    """
    found = list(group)
    places: list[int] = []
    wholes: list[Whole] = []
    size = 0
    for place, tensor in enumerate(group):
        if size + tensor.size > CHUNK_BYTES:
            continue
        try:
            whole = tensor.whole()
        except (OSError, ValueError, TypeError, BufferError, ImportError):
            continue
        if whole is not None:
            places.append(place)
            wholes.append(whole)
            size += len(whole.content)
    witnesses = Witness.generate_many([whole.content for whole in wholes], threads=1)
    for place, whole, witness in zip(places, wholes, witnesses, strict=True):
        content = Content(whole.dtype, whole.shape, witness)
        found[place] = _Hashed(group[place].name, content)
    if advance is not None:
        advance(sum(len(whole.content) for whole in wholes))
    return found


def _groups(tensors: Iterable[UnreadTensor]) -> Iterator[list[UnreadTensor]]:
    """Yield small tensors in groups: handing one to a thread costs more than hashing it."""
    group: list[UnreadTensor] = []
    size = 0
    for tensor in tensors:
        group.append(tensor)
        size += tensor.size
        if size >= CHUNK_BYTES or len(group) == _GROUP_MOST:
            yield group
            group, size = [], 0
    if group:
        yield group
