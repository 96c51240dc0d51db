# SPDX-License-Identifier: Apache-2.0
"""The library as it is installed, with what only these tests look at."""

import pytest
from tools import require

from c_fixtures import CInstall, install


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> CInstall:
    """For this machine; test_targets.py has those of others."""
    require("cc")
    return install(tmp_path_factory.mktemp("library"))
