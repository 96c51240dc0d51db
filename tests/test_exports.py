# SPDX-License-Identifier: Apache-2.0
"""The public surface: what the packages export is what the API reference describes."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import atlas12288

PUBLIC = ("atlas12288", *(f"atlas12288.{name}" for name in ("conformance", "manifest")))
PUBLIC += ("atlas12288.signing", "atlas12288.tables", "atlas12288.tensors")
NEEDED = {"atlas12288.tables": "pyarrow", "atlas12288.tensors": "numpy"}
REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
_DIRECTIVE = re.compile(r"^\.\. (currentmodule|auto\w+):: ([\w.]+)", re.MULTILINE)


def described() -> set[str]:
    """Return the full names of what the pages of the API reference render."""
    found = set()
    for page in REFERENCE.glob("*.md"):
        module = ""
        for directive, name in _DIRECTIVE.findall(page.read_text(encoding="utf-8")):
            if directive == "currentmodule":
                module = name
            else:
                found.add(f"{module}.{name}")
    return found


def exported(package: str) -> list[str]:
    if package in NEEDED:
        pytest.importorskip(NEEDED[package])
    return list(importlib.import_module(package).__all__)


@pytest.mark.parametrize("package", PUBLIC)
def test_every_exported_name_is_there_and_in_the_reference(package: str) -> None:
    names = exported(package)
    assert len(names) == len(set(names)) > 0
    known = described()
    pages = "".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))
    missing = []
    for name in names:
        value = getattr(importlib.import_module(package), name)
        # What two packages export is described once; a constant has no docstring to render.
        is_there = f"{package}.{name}" in known or f"atlas12288.{name}" in known
        if not (is_there or (not callable(value) and f"`{name}`" in pages)):
            missing.append(name)
    assert missing == []


def test_the_reference_describes_nothing_that_is_not_exported() -> None:
    for name in described():
        package, _, last = name.rpartition(".")
        if package in PUBLIC:
            assert last in exported(package), name


def test_every_module_without_an_underscore_is_a_package_that_exports() -> None:
    found = {
        module.name
        for module in pkgutil.walk_packages(atlas12288.__path__, "atlas12288.")
        if not any(part.startswith("_") for part in module.name.split("."))
    }
    assert found == {*PUBLIC} - {"atlas12288"}
