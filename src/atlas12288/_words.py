# SPDX-License-Identifier: Apache-2.0
"""Numbers of things in messages."""


def word(count: int, one: str, many: str | None = None) -> str:
    """Return the word for a number of things: "file" for 1, "files" for any other number.

    Args:
        count: the number.
        one: the word for one.
        many: the word for several; None for `one` with an s.
    """
    return one if count == 1 else many or f"{one}s"


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a number of things in words: "1 file", "2,000 files"; arguments as for `word`."""
    return f"{count:,} {word(count, one, many)}"
