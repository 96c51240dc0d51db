# SPDX-License-Identifier: Apache-2.0
"""Immutable values like frozen dataclasses.

`dataclasses` itself imports `inspect`, which takes longer than the package.
"""

from __future__ import annotations

import typing


@typing.dataclass_transform(frozen_default=True)
class Value:
    """Base of immutable values. Two values are equal if all `_FIELDS` are.

    Subclasses keep the fields, and the values derived from them (`_DERIVED`), in slots, and create
    instances with `_of`. They can be pickled.
    """

    __slots__ = ()
    _FIELDS: typing.ClassVar[tuple[str, ...]] = ()
    _DERIVED: typing.ClassVar[tuple[str, ...]] = ()
    _MADE_BY: typing.ClassVar[str]

    def __init__(self, *_: object, **__: object) -> None:
        name = type(self).__name__
        raise TypeError(f"a {name} is made by {self._MADE_BY}, not by {name}()")

    @classmethod
    def _of(cls, **slots: typing.Any) -> typing.Self:
        value = object.__new__(cls)  # a subclass's __new__ may return any object
        for name, content in slots.items():
            object.__setattr__(value, name, content)
        return value

    def __setattr__(self, name: str, _: object) -> typing.NoReturn:
        raise AttributeError(f"a {type(self).__name__} is immutable, {name} cannot be set")

    def __delattr__(self, name: str) -> typing.NoReturn:
        raise AttributeError(f"a {type(self).__name__} is immutable, {name} cannot be deleted")

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self._FIELDS)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Value) or other._FIELDS != self._FIELDS:
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> tuple[typing.Any, ...]:
        slots = {name: getattr(self, name) for name in (*self._FIELDS, *self._DERIVED)}
        return _restored, (type(self), slots)


def _restored(cls: type[Value], slots: dict[str, typing.Any]) -> Value:
    return cls._of(**slots)
