# SPDX-License-Identifier: Apache-2.0
"""The library as it is installed, with what only these tests look at."""

import pytest

from support.c_fixtures import CInstall
from support.tools import require


@pytest.fixture(scope="session")
def library(request: pytest.FixtureRequest) -> CInstall:
    """For this machine; test_targets.py has those of others."""
    require("cc")
    found: CInstall = request.getfixturevalue("c_install")
    return found
