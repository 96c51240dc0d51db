# SPDX-License-Identifier: Apache-2.0
"""Commands in folders of strangers; what is tried, and what must hold, is in `hostile`."""

import subprocess
import sys
from pathlib import Path

import pytest

from support import hostile

HERE, MORE = 10, 40  # folders


def test_there_are_many_kinds_of_hostile_things() -> None:
    assert len(hostile.KINDS) >= 40


@pytest.mark.parametrize(
    ("first", "count"), [(0, HERE), pytest.param(HERE, MORE, marks=pytest.mark.slow)]
)
def test_no_folder_of_a_stranger_breaks_a_promise(first: int, count: int) -> None:
    program = str(Path(hostile.__file__))
    done = subprocess.run(
        (sys.executable, program, str(first), str(count)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
