# SPDX-License-Identifier: Apache-2.0
"""Names for annotations that `typing.get_type_hints` can resolve, without the time of their import.

`typing` takes longer than all else that `import atlas12288` needs, NumPy and its like belong to
extras: so each is a `Lazy`, which imports the module when an annotation is resolved.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import typing as typing

    from typing_extensions import Buffer as Buffer

    class Readable(typing.Protocol):
        """A binary file."""

        def readinto(self, buffer: memoryview, /) -> int | None: ...

else:
    from collections import abc

    Buffer = getattr(abc, "Buffer", object)  # from Python 3.12 on
    Readable = object


class Lazy:
    """A module that is imported with the first use of a name in it.

    Where it is not installed, its names stand for any type.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> object:
        from importlib import import_module

        try:
            return getattr(import_module(self._module), name)
        except ImportError:
            return _Unknown


class _Unknown:
    """A type of a module that is not installed."""

    def __class_getitem__(cls, _: object) -> type[_Unknown]:
        return cls


if not TYPE_CHECKING:
    typing = Lazy("typing")
