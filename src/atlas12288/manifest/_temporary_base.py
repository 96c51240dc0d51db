# SPDX-License-Identifier: Apache-2.0
"""A database for one run or comparison, for what does not fit into memory.

It is in SQLite, private and unnamed, and gone afterwards, so SQLite never opens a file that
somebody else could have written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from .._files import FileError

if TYPE_CHECKING:
    import sqlite3

_CACHE_KIB: Final = 16 * 1024


class TemporaryBase:
    """The database; made when it is first used. Used by one thread.

    Args:
        schema: the statements that make its tables.
        functions: Python functions of two values that statements may call, by name; the same values
            give the same result.

    Attributes:
        opened: the connection; None before the first use.
    """

    def __init__(
        self,
        schema: Sequence[str],
        functions: dict[str, Callable[[str, str], bool]] | None = None,
    ) -> None:
        self.opened: sqlite3.Connection | None = None
        self._schema = schema
        self._functions = functions or {}

    def use(self) -> sqlite3.Connection:
        """Return the connection.

        Raises:
            FileError: the database cannot be made.
        """
        if self.opened is None:
            import sqlite3  # here, because most runs and comparisons do without

            with self.errors():
                # A name that is empty: a private file that SQLite deletes.
                base = sqlite3.connect("", isolation_level=None)
                try:
                    for name, function in self._functions.items():
                        base.create_function(name, 2, function, deterministic=True)
                    base.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                    base.execute("PRAGMA temp_store = FILE")
                    base.execute("PRAGMA journal_mode = OFF")
                    base.execute("BEGIN")
                    for statement in self._schema:
                        base.execute(statement)
                except BaseException:
                    base.close()
                    raise
            self.opened = base
        return self.opened

    def close(self) -> None:
        """Drop all of it; what uses it afterwards is an error.

        Raises:
            FileError: SQLite cannot.
        """
        if self.opened is not None:
            with self.errors():
                self.opened.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise FileError in the place of an error of SQLite."""
        try:
            yield
        except Exception as error:
            import sqlite3

            if not isinstance(error, sqlite3.Error):
                raise
            raise FileError(f"the temporary database cannot be used: {error}") from error
