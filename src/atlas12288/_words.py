# SPDX-License-Identifier: Apache-2.0
"""Numbers of things in messages."""


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a number of things in words: "1 file", "2,000 files".

    Args:
        count: how many.
        one: the word for one.
        many: the word for several; None for `one` with an s.
    """
    return f"1 {one}" if count == 1 else f"{count:,} {many or one + 's'}"
