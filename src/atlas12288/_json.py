# SPDX-License-Identifier: Apache-2.0
"""Strict JSON objects: exactly the expected keys, each once, each value in one form.

Objects are written on one line with the keys in order, so equal objects have equal text. Readers
accept other order and white space.
"""

from __future__ import annotations

from . import _native
from ._errors import WitnessError
from ._types import TYPE_CHECKING

if TYPE_CHECKING:
    import json
    from typing import Any

# More digits than any 64-bit field has. Python's own limit on digits can be switched off, and
# parsing many of them takes quadratic time.
DIGITS_MOST = 64
_HEX_DIGITS = frozenset("0123456789abcdef")
_DIGEST_DIGITS = 2 * _native.DIGEST_BYTES


def write(fields: dict[str, Any]) -> str:
    """Return the object as JSON, on one line without its end."""
    import json  # imported here, so that `import atlas12288` stays light

    return json.dumps(fields)


class Fields:
    """The fields of a JSON object, each checked when it is read.

    Args:
        text: the JSON text; bytes are UTF-8.
        keys: the keys that the object has.
        most: as for `read`.

    Raises:
        WitnessError: here and from every method; the message names the key, its value and the rule.
        TypeError: text is neither str nor bytes.
    """

    __slots__ = ("_fields",)

    def __init__(
        self, text: str | bytes, keys: tuple[str, ...], *, most: int | None = None
    ) -> None:
        self._fields = _checked(read(text, most), "text", keys, ())

    @classmethod
    def of(cls, value: object, name: str, keys: tuple[str, ...], *optional: str) -> Fields:
        """Return the fields of an object inside another one.

        Args:
            value: the object, from `read` or `value`.
            name: name of the object in messages.
            keys: the required keys.
            optional: keys that it may have in addition.
        """
        fields = cls.__new__(cls)
        fields._fields = _checked(value, name, keys, optional)
        return fields

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def value(self, key: str) -> Any:
        """Return the field, unchecked."""
        return self._fields[key]

    def check(self, key: str, holds: bool, rule: str) -> None:
        """Raise WitnessError for the field unless the rule holds."""
        if not holds:
            raise WitnessError(f"{key} is {_shown(self._fields[key])}, must be {rule}")

    def choice(self, key: str, *choices: str) -> str:
        """Return the field, one of the choices."""
        value = self._fields[key]
        rule = " or ".join(map(repr, choices))
        self.check(key, isinstance(value, str) and value in choices, rule)
        return str(value)

    def integer(self, key: str, most: int, least: int = 0) -> int:
        value = self._fields[key]
        # By type, not isinstance: true is not a number.
        holds = type(value) is int and least <= value <= most
        self.check(key, holds, f"an integer in {least}..{most}")
        return int(value)

    def text(self, key: str) -> str:
        """Return the field if it is a text, otherwise ""."""
        value = self._fields[key]
        return value if isinstance(value, str) else ""

    def digest(self, key: str) -> bytes:
        value = self._fields[key]
        self.check(key, _is_digest(value), f"{_DIGEST_DIGITS} lowercase hex digits")
        return bytes.fromhex(value)

    def digests(self, key: str) -> tuple[bytes, ...]:
        """Return the field, a list of digests."""
        values = self._fields[key]
        holds = isinstance(values, list) and all(map(_is_digest, values))
        self.check(key, holds, f"a list of texts of {_DIGEST_DIGITS} lowercase hex digits")
        return tuple(map(bytes.fromhex, values))


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == _DIGEST_DIGITS and _HEX_DIGITS.issuperset(value)


def read(text: str | bytes, most: int | None = None) -> Any:
    """Return the value of a JSON text; bytes are UTF-8.

    Args:
        text: the JSON text.
        most: limit on its bytes or characters; None for no limit.

    Raises:
        WitnessError: not JSON, longer than `most`, or an object that has a key twice.
        TypeError: text is neither str nor bytes.
    """
    if not isinstance(text, str | bytes):
        raise TypeError(f"text is of type {type(text).__name__}, must be str or bytes")
    if most is not None and len(text) > most:
        units = "characters" if isinstance(text, str) else "bytes"
        raise WitnessError(f"text has {len(text):,} {units}, must have at most {most:,}")
    return _parse(text)


def _parse(text: str | bytes) -> Any:
    # A function of its own, because it is short: CPython 3.11 and later never leave a handler that
    # begins after the 256th instruction if there is no memory, not even for its number.
    try:
        return _decoder().decode(text if isinstance(text, str) else text.decode())
    except WitnessError:
        raise
    except RecursionError:
        raise WitnessError("text is nested too deeply, must be one JSON object") from None
    except ValueError as error:  # not UTF-8, or not JSON
        raise WitnessError(f"text must be JSON: {error}") from error


_made: list[json.JSONDecoder] = []


def _decoder() -> json.JSONDecoder:
    """Return the JSON decoder.

    It is created once, because `json.loads` with hooks creates one for each text.
    """
    if not _made:
        import json  # here: most programs read none

        _made.append(json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer))
    return _made[0]


class _LongInteger:
    """An integer with too many digits, kept as text; no field accepts it."""

    def __init__(self, digits: str) -> None:
        self._digits = digits

    def __repr__(self) -> str:
        return self._digits


def _integer(digits: str) -> int | _LongInteger:
    return int(digits) if len(digits) <= DIGITS_MOST else _LongInteger(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise WitnessError(f"key {_shown(key)} occurs twice, must occur once")
            seen.add(key)
    return found


def _checked(
    value: object, name: str, keys: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    """Return the value, an object with the keys."""
    if not isinstance(value, dict):
        raise WitnessError(f"{name} is {_shown(value)}, must be a JSON object")
    for key in value:
        if key not in keys and key not in optional:
            known = ", ".join((*keys, *optional))
            raise WitnessError(f"key {_shown(key)} is unknown, must be one of {known}")
    for key in keys:
        if key not in value:
            raise WitnessError(f"key {key!r} is missing, must be there")
    return value


def _shown(value: object) -> str:
    """Return a value for a message, cut if it is long."""
    try:
        text = repr(value)
    except RecursionError:
        return "nested too deeply"
    return text if len(text) <= 80 else f"{text[:77]}..."
