# SPDX-License-Identifier: Apache-2.0
"""README.md: its C example runs, and what it names exists. Its other examples run in
test_documents.py."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.c_fixtures import ROOT, CInstall, run
from support.tools import needs

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert found, f"README.md has no {language} example"
    return found


@pytest.fixture
def c_example(tmp_path: Path) -> Path:
    (block,) = blocks("c")
    source = tmp_path / "example.c"
    source.write_text(block, encoding="utf-8")
    return source


def require_c_example(program: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(program, env=environment, capture_output=True, check=True, text=True)
    first, second = done.stdout.splitlines()
    assert "residue" in first
    assert second == "commit: success"


def test_c_example_without_a_warning(c_install: CInstall, c_example: Path) -> None:
    require_c_example(c_install.compile_shared(c_example.with_name("strict"), c_example))


@needs("pkg-config")
def test_command_that_builds_the_c_example(c_install: CInstall, c_example: Path) -> None:
    (command,) = (block for block in blocks("sh") if block.startswith("cc "))
    subprocess.run(
        ("sh", "-c", command),
        cwd=c_example.parent,
        env=os.environ | {"PKG_CONFIG_PATH": str(c_install.pkgconfig_dir)},
        check=True,
    )
    require_c_example(c_example.with_suffix(""), environment={})  # its rpath finds the library


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_exist(target: str) -> None:
    assert f"make {target}" in README
    run("make", "-n", "-C", ROOT, target)
