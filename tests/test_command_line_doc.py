# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/command-line.md run and print what the page says."""

import os
import re
import subprocess
import sysconfig
from pathlib import Path

from support.c_fixtures import ROOT

PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def test_the_reports_are_what_the_page_says(tmp_path: Path) -> None:
    path = sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]
    block, *_ = re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    assert len(commands) > 5
    for command, expected in commands:
        done = subprocess.run(
            ("bash", "-c", command),
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            capture_output=True,
            check=False,
        )
        assert (done.stdout.decode(), done.stderr) == (expected, b""), command
