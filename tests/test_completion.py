# SPDX-License-Identifier: Apache-2.0
"""Completion in the shell, as docs/command-line.md says."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from atlas12288 import kernel_set_supported, kernel_sets
from atlas12288._cli.program import cli
from atlas12288.conformance import CLAUSES

DOCUMENT = (Path(__file__).parent.parent / "docs" / "command-line.md").read_text(encoding="utf-8")
LINES = dict(
    re.findall(r"^\| (\w+)\b[^|]*\|[^|]*\| `((?:[^`\\]|\\.)+)` \|$", DOCUMENT, re.MULTILINE)
)


def completed(*words: str) -> list[str]:
    """Return what is offered for the last of the words that follow `atlas12288`."""
    shell = BashComplete(cli, {}, "atlas12288", "_ATLAS12288_COMPLETE")
    return [item.value for item in shell.get_completions([*words[:-1]], words[-1])]


def test_commands_are_completed() -> None:
    assert completed("wit") == ["witness"]


def test_the_value_of_clause_is_completed() -> None:
    assert completed("conformance", "--clause", "") == [clause.id for clause in CLAUSES]
    found = completed("conformance", "--clause", "thread-")
    assert found
    assert all(value.startswith("thread-") for value in found)


@pytest.mark.parametrize("words", [("check",), ("check", "--plot"), ("verify", "w.json", "--plot")])
def test_file_names_are_left_to_the_shell(words: tuple[str, ...]) -> None:
    shell = BashComplete(cli, {}, "atlas12288", "_ATLAS12288_COMPLETE")
    assert [item.type for item in shell.get_completions([*words], "d")] == ["file"]


def test_the_value_of_kernels_is_completed_by_what_this_cpu_runs() -> None:
    supported = list(filter(kernel_set_supported, kernel_sets()))
    assert completed("bench", "--kernels", "port") == ["portable"]
    offered = completed("bench", "--kernels", "")
    assert offered[: len(supported)] == supported


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_of_the_document_makes_the_shell_complete(shell: str) -> None:
    line = LINES[shell].replace("\\|", "|")
    prints = re.search(r"(_ATLAS12288_COMPLETE)=(\w+) atlas12288", line)
    assert prints is not None
    command = [
        sys.executable,
        "-c",
        "import sys; from atlas12288._cli import main; sys.exit(main())",
    ]
    done = subprocess.run(
        command,
        env=os.environ | {prints[1]: prints[2]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert prints[2] == f"{shell}_source"
    assert "atlas12288" in done.stdout
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)


def test_bash_completes_by_the_line_of_the_document() -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    program = f"""{LINES["bash"]}
COMP_WORDS=(atlas12288 conformance --clause thread-bud) COMP_CWORD=3
_atlas12288_completion atlas12288
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    path = sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]
    done = subprocess.run(
        ["bash", "-c", program],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [c.id for c in CLAUSES if c.id.startswith("thread-bud")]
