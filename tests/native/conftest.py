# SPDX-License-Identifier: Apache-2.0
"""The library as it is installed, with what only these tests look at."""

import pytest

from support.c_fixtures import CInstall, install
from support.tools import require


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> CInstall:
    """For this machine; test_targets.py has those of others."""
    require("cc")
    return install(tmp_path_factory.mktemp("library"))
