# SPDX-License-Identifier: Apache-2.0
"""What is imported when it is used: names for annotations, and names of packages.

Importing `typing` takes about as long as the whole `import atlas12288`. The modules of that import,
and no others, therefore take `TYPE_CHECKING` and `typing` from here: a type checker sees the real
ones, and a running program has a `Lazy`. Modules of extras such as NumPy are `Lazy` too. A `Lazy`
imports its module when `typing.get_type_hints` resolves an annotation.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import typing as typing

    from typing_extensions import Buffer as Buffer

    from . import _native

    Memory = _native._Memory
    Stream = _native._Stream

    class Readable(typing.Protocol):
        """A binary file."""

        def readinto(self, buffer: memoryview, /) -> int | None: ...

else:
    from collections import abc

    Buffer = getattr(abc, "Buffer", object)  # from Python 3.12 on
    Readable = Memory = Stream = object


class Lazy:
    """A module that is imported on first use of a name in it.

    If it is not installed, its names stand for any type.
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


def imported_when_used(
    package: str, modules: typing.Mapping[str, str]
) -> typing.Callable[[str], object]:
    """Return the `__getattr__` of a package that imports a name on its first use.

    Args:
        package: name of the package.
        modules: for each such name the module that has it, relative to the package.
    """

    def get(name: str) -> object:
        module = modules.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        import sys
        from importlib import import_module

        value: object = getattr(import_module(module, package), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
