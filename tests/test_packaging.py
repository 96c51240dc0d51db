# SPDX-License-Identifier: Apache-2.0
"""What an installer and a package index see of the project."""

import ast
import ctypes
import doctest
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from atlas12288 import _native

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DESCRIPTION = (ROOT / PROJECT["readme"]).read_text(encoding="utf-8")
EXTRAS = PROJECT["optional-dependencies"]


def test_all_has_every_extra() -> None:
    (everything,) = EXTRAS["all"]
    match = re.fullmatch(r"atlas12288\[([\w,]+)\]", everything)
    assert match is not None
    assert sorted(match[1].split(",")) == sorted(EXTRAS.keys() - {"all"})


def test_classifiers_name_the_pythons_that_the_suite_runs_on() -> None:
    (literal,) = re.findall(r"^PYTHONS = (\(.+\))$", (ROOT / "noxfile.py").read_text(), re.M)
    pythons = ast.literal_eval(literal)
    prefix = "Programming Language :: Python :: "
    minors = [name.removeprefix(prefix) for name in PROJECT["classifiers"] if "3." in name]
    assert minors == list(pythons)
    assert PROJECT["requires-python"] == f">={pythons[0]}"


def test_the_description_has_no_link_or_picture_that_needs_the_repository() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", DESCRIPTION) + re.findall(r"<(?:a|img)\b", DESCRIPTION)
    assert targets == []
    # What it names instead is in the source distribution.
    named = re.findall(r"`((?:docs/)?[\w-]+\.md)`", DESCRIPTION)
    assert len(named) > 3
    assert all((ROOT / name).is_file() for name in named)


def test_the_example_of_the_description_runs() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", DESCRIPTION, re.DOTALL | re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(block, {}, "description", None, 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


def test_the_race_driver_is_no_part_of_what_users_load() -> None:
    header = (ROOT / "src" / "binding" / "driver.h").read_text()
    functions = set(re.findall(r"\b(atlas_drive_\w+)\(", header))
    assert len(functions) == 7
    spec = importlib.util.find_spec("atlas12288._driver")
    assert spec is not None
    assert spec.origin is not None
    driver, native = ctypes.CDLL(spec.origin), ctypes.CDLL(_native.__file__)
    for name in functions:
        assert hasattr(driver, name)
        assert not hasattr(native, name)


def test_the_benchmark_of_the_start_measures_every_statement_and_command() -> None:
    program = ROOT / "benchmarks" / "start.py"
    done = subprocess.run(
        [sys.executable, program, "1"], capture_output=True, text=True, check=True
    )
    rows = re.findall(r"^\| `(.+)` \| -?\d+\.\d \| -?\d+\.\d \|$", done.stdout, re.MULTILINE)
    assert {"import atlas12288", "atlas12288 --version", "atlas12288 sum FILE"} <= {*rows}
    left_out = done.stdout.count("| not installed | |")
    assert len(rows) + left_out == len(done.stdout.splitlines()) - 5  # two heads, an empty line
