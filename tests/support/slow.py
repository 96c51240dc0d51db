# SPDX-License-Identifier: Apache-2.0
"""Tests of which `make test` runs a part, and `make check-slow` the rest."""

from collections.abc import Iterable
from typing import TypeVar

import pytest
from _pytest.mark import ParameterSet

T = TypeVar("T")


def slow_but(kept: Iterable[T], params: Iterable[T]) -> list[T | ParameterSet]:
    """Return the parameters of a test; those that are not kept are for `make check-slow`."""
    chosen = set(kept)

    def slow(each: T) -> ParameterSet:
        return pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=pytest.mark.slow)

    return [each if each in chosen else slow(each) for each in params]
