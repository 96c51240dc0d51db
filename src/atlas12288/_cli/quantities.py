# SPDX-License-Identifier: Apache-2.0
"""Callbacks of options that are durations or rates, such as `12h` and `50MB/s`."""

import re
import sys
from collections.abc import Mapping
from typing import Final

import click

_AMOUNT: Final = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z/]+)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES: Final = {"B/s": 1}
_BYTES.update({f"{prefix}B/s": 1000**power for power, prefix in enumerate("kMGT", 1)})
_BYTES.update({f"{prefix}iB/s": 1024**power for power, prefix in enumerate("KMGT", 1)})

# Beyond them, calendars and clocks have no number.
_MOST_SECONDS: Final = 36_500 * 86_400
_MOST_BYTES: Final = 10**18


def duration(_: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Return the seconds of a text such as "12h"; None for None.

    Raises:
        click.BadParameter: it is not in this form, or out of range.
    """
    rule = "a number above 0 and s, m, h or d, at most 36500d, such as 30s, 15m, 12h, 1d"
    return (
        None if value is None else _amount(value, _SECONDS, sys.float_info.min, _MOST_SECONDS, rule)
    )


def rate(_: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Return the bytes a second of a text such as "50MB/s"; None for None.

    Raises:
        click.BadParameter: it is not in this form, or out of range.
    """
    rule = f"a number above 0 and one of {', '.join(_BYTES)}, at least 1B/s, such as 50MB/s"
    return None if value is None else _amount(value, _BYTES, 1, _MOST_BYTES, rule)


def _amount(value: str, units: Mapping[str, int], least: float, most: float, rule: str) -> float:
    found = _AMOUNT.fullmatch(value)
    amount = 0.0 if found is None else float(found[1]) * units.get(found[2], 0)
    if not least <= amount <= most:
        raise click.BadParameter(f"{value!r} must be {rule}")
    return amount
