# SPDX-License-Identifier: Apache-2.0
"""Types: mypy --strict passes on the package and on a user's program, and rejects wrong ones."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")
ROOT = Path(__file__).parent.parent
SAMPLE = Path(__file__).with_name("typing_sample.py")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def mypy(*arguments: str | Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """mypy as a user runs it, without the project's settings, on the installed package."""
    options = ("--strict", "--config-file=", f"--cache-dir={cache}")
    return run("-m", "mypy", *options, *arguments, cwd=cache)


def test_mypy_strict_passes_on_a_users_program(cache: Path) -> None:
    result = mypy(SAMPLE, cache=cache)
    assert result.returncode == 0, result.stdout


def test_the_users_program_runs(cache: Path) -> None:
    result = run(SAMPLE, cwd=cache)
    assert result.stderr == ""
    assert result.stdout == "budget constraint violated 0 32 0 0\n"


def test_mypy_strict_passes_on_the_package(cache: Path) -> None:
    options = ("--strict", f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={cache}")
    result = run("-m", "mypy", *options, "src/atlas12288", cwd=ROOT)
    assert result.returncode == 0, result.stdout


def test_the_stubs_say_what_the_binding_has(cache: Path) -> None:
    result = run("-m", "mypy.stubtest", "--ignore-disjoint-bases", "atlas12288._native", cwd=cache)
    assert result.returncode == 0, result.stdout + result.stderr


WRONG = {
    "atlas.residue('text')": "arg-type",
    "atlas.residue([1, 2])": "arg-type",
    "atlas.Domain()": "call-arg",
    "atlas.Domain(bytes='12288')": "arg-type",
    "atlas.Domain(bytes=1, budget=5)": "call-arg",
    "atlas.Domain(bytes=1).budget.alloc(1.5)": "arg-type",
    "atlas.Domain(bytes=1).budget.available = 5": "misc",
    "atlas.Domain(bytes=1).commit().residue = 5": "misc",
    "text: str = atlas.Domain(bytes=1).witness.to_json()": "union-attr",
    "failed: bool = atlas.Domain(bytes=1).budget.alloc(1)": "assignment",
    "atlas.Witness.from_json(None)": "arg-type",
    "atlas.TreeWitness.generate('text')": "arg-type",
    "atlas.TreeWitness.generate(b'').root = b''": "misc",
    "atlas.TreeWitness.generate(b'').update(b'', ['0'])": "list-item",
    "atlas.TreeWitness()": "call-arg",
    "print(atlas.no_such_name)": "attr-defined",
}


def test_mypy_rejects_wrong_programs(cache: Path) -> None:
    program = cache / "wrong.py"
    program.write_text("\n".join(["import atlas12288 as atlas", *WRONG]) + "\n")
    errors = [line for line in mypy(program, cache=cache).stdout.splitlines() if "error:" in line]
    found = {int(line.split(":")[1]): line for line in errors}
    for number, (statement, code) in enumerate(WRONG.items(), start=2):
        assert f"[{code}]" in found.get(number, ""), statement
