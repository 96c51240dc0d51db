# SPDX-License-Identifier: Apache-2.0
"""Commands in folders of strangers; what is tried, and what must hold, is in `hostile`."""

import subprocess
import sys
from pathlib import Path

import pytest

from support import hostile

FOLDERS = 50


def test_there_are_many_kinds_of_hostile_things() -> None:
    assert len(hostile.KINDS) >= 40


@pytest.mark.parametrize("first", [0, pytest.param(25, marks=pytest.mark.slow)])
def test_no_folder_of_a_stranger_breaks_a_promise(first: int) -> None:
    program = str(Path(hostile.__file__))
    done = subprocess.run(
        (sys.executable, program, str(first), str(FOLDERS // 2)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
