# SPDX-License-Identifier: Apache-2.0
"""As tests/test_hostile_folders.py, and longer."""

import subprocess
import sys
from pathlib import Path

import pytest

from support import hostile

FOLDERS = 2000
AT_ONCE = 200


@pytest.mark.parametrize("first", range(1000, 1000 + FOLDERS, AT_ONCE))
def test_no_folder_of_a_stranger_breaks_a_promise(first: int) -> None:
    program = str(Path(hostile.__file__))
    done = subprocess.run(
        (sys.executable, program, str(first), str(AT_ONCE)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
