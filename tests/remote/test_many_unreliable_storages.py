# SPDX-License-Identifier: Apache-2.0
"""2,000 storages that cannot be relied on: `make test` has 50, and says what wrong is."""

import pytest

from test_unreliable_storage import SEEDS, run, small_blocks

__all__ = ["small_blocks"]  # a fixture
MANY = 2000


def test_no_digest_is_of_what_a_file_never_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = run(range(SEEDS, SEEDS + MANY), monkeypatch)
    assert seen["of several requests"] >= 50
    assert seen["errors"] >= MANY // 10
    assert seen["changes"] >= MANY // 10
