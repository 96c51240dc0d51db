# SPDX-License-Identifier: Apache-2.0
"""Commands in folders of strangers; what is tried, and what must hold, is in `hostile`."""

import subprocess
import sys
from pathlib import Path

import pytest

from support import hostile

FOLDERS = 5  # of a test; each takes half a second
MORE = [pytest.param(first, marks=pytest.mark.slow) for first in range(FOLDERS, 50, FOLDERS)]


def test_there_are_many_kinds_of_hostile_things() -> None:
    assert len(hostile.KINDS) >= 40


@pytest.mark.parametrize("first", [0, *MORE])
def test_no_folder_of_a_stranger_breaks_a_promise(first: int) -> None:
    program = str(Path(hostile.__file__))
    done = subprocess.run(
        (sys.executable, program, str(first), str(FOLDERS)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
