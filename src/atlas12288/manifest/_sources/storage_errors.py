# SPDX-License-Identifier: Apache-2.0
"""Errors of the libraries that read storage, as FileError with a one-line reason."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ..._files import FileError

_FORBIDDEN: Final = (401, 403)  # as status of HTTP
_NOT_FOUND: Final = 404
_NO_SUCH_PART: Final = 416
_NO_SUCH_PART_TEXT: Final = re.compile(r"range not satisfiable|\bInvalidRange\b", re.IGNORECASE)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn the errors of a library into FileError."""
    try:
        yield
    except (MemoryError, FileError):
        raise
    # Each library raises its own errors; their only common base is Exception.
    except Exception as error:
        raise FileError(_reason(error)) from error


def called(function: Callable[..., Any], *args: object, **options: object) -> Any:
    """Call a function of a library and return its result.

    Raises:
        FileError: the function raised an error.
    """
    with storage_errors():
        return function(*args, **options)


def is_gone(error: BaseException) -> bool:
    """Return whether a FileError says that nothing is there."""
    return isinstance(error.__cause__, FileNotFoundError)


def is_no_such_part(error: BaseException) -> bool:
    """Return whether a FileError says that a file has no byte in the requested part."""
    cause: BaseException | None = error.__cause__
    while cause is not None:
        answer = getattr(cause, "response", None)
        for place in (cause, answer):
            for key in ("status", "status_code", "code"):
                if getattr(place, key, None) in (_NO_SUCH_PART, str(_NO_SUCH_PART)):
                    return True
        if _NO_SUCH_PART_TEXT.search(str(cause)):
            return True
        cause = cause.__cause__
    return False


def _reason(error: BaseException) -> str:
    """Return the message of a library's error, on one line."""
    cause = error.__cause__
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) and cause is not None:
        # fsspec raises this for every HTTP failure.
        status = getattr(cause, "status", None)
        if isinstance(cause, OSError) or status not in (None, _NOT_FOUND):
            return _reason(cause)
    if isinstance(error, OSError) and error.strerror:
        return " ".join(error.strerror.split())
    if isinstance(error, FileNotFoundError) or status == _NOT_FOUND:
        return os.strerror(errno.ENOENT)
    if isinstance(error, PermissionError) or status in _FORBIDDEN:
        return os.strerror(errno.EACCES)
    if isinstance(error, TimeoutError):
        return os.strerror(errno.ETIMEDOUT)
    return " ".join(str(error).split()) or type(error).__name__
