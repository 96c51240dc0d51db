# SPDX-License-Identifier: Apache-2.0
"""Types: mypy --strict passes on the package and on a user's program, and rejects wrong ones."""

import importlib
import inspect
import os
import shutil
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import atlas12288 as atlas
from atlas12288._types import Lazy
from support.shared import made_once

pytest.importorskip("mypy")
ROOT = Path(__file__).parent.parent
SAMPLE = Path(__file__).parent / "support" / "typing_sample.py"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says of a user's program and of a wrong one, as a user runs it: on the installed
    package, without the project's settings. It reads the types of the package once for both."""

    def check(folder: Path) -> None:
        lines = "\n".join(["import atlas12288 as atlas", *WRONG])
        (folder / "wrong.py").write_text(f"{lines}\n")
        options = ("--strict", "--config-file=", f"--cache-dir={folder / 'cache'}")
        done = run("-m", "mypy", *options, SAMPLE, "wrong.py", cwd=folder)
        assert (done.returncode, done.stderr) == (1, ""), done.stderr  # there are errors, as wanted
        (folder / "complaints").write_text(done.stdout)

    folder = made_once(tmp_path_factory, "mypy", check)
    return (folder / "complaints").read_text().splitlines()


@pytest.mark.slow
def test_mypy_strict_passes_on_a_users_program(complaints: list[str]) -> None:
    assert [line for line in complaints if not line.startswith("wrong.py:")] == [complaints[-1]]
    assert "in 1 file (checked 2 source files)" in complaints[-1]


def test_the_users_program_runs(cache: Path) -> None:
    result = run(SAMPLE, cwd=cache)
    assert result.stderr == ""
    assert result.stdout == "budget constraint violated 0 32 0 0\n"


@pytest.mark.slow
def test_the_stubs_say_what_the_binding_has(cache: Path) -> None:
    # What makes a class a Buffer for type checkers is an attribute from Python 3.12 on alone.
    allowed = cache / "allowed"
    allowed.write_text(r"atlas12288\._native\.Region\.__(release_)?buffer__", encoding="utf-8")
    options = ("--ignore-disjoint-bases", "--ignore-unused-allowlist", f"--allowlist={allowed}")
    result = run("-m", "mypy.stubtest", *options, "atlas12288._native", cwd=cache)
    assert result.returncode == 0, result.stdout + result.stderr


# --- Other readers of annotations ---


def public() -> Iterator[tuple[str, object]]:
    """All that is public and can have annotations: functions, classes, methods and properties."""
    modules = (
        "atlas12288",
        *(f"atlas12288.{name}" for name in ("tensors", "tables", "manifest._manifest")),
    )
    shown = (
        "_files",
        "_sums",
        "_file_witnesses",
        "_many_files",
        "manifest._differences",
        "manifest._entries",
        "conformance",
    )
    for name in (*modules, *(f"atlas12288.{name}" for name in shown)):
        module = importlib.import_module(name)
        own = [
            key
            for key, value in vars(module).items()
            if not key.startswith("_") and getattr(value, "__module__", None) == name
        ]
        for key in getattr(module, "__all__", own):
            value = getattr(module, key)
            yield f"{name}.{key}", value
            if inspect.isclass(value):
                for attribute, member in vars(value).items():
                    if isinstance(member, property):
                        yield f"{name}.{key}.{attribute}", member.fget
                    elif not attribute.startswith("_") or attribute == "__init__":
                        yield f"{name}.{key}.{attribute}", getattr(member, "__func__", member)


ANNOTATED = {
    name: value for name, value in public() if inspect.isclass(value) or inspect.isroutine(value)
}


@pytest.mark.parametrize("name", ANNOTATED)
def test_every_public_annotation_can_be_resolved(name: str) -> None:
    for extra in ("numpy", "pyarrow", "distributed"):
        pytest.importorskip(extra)
    for hint in typing.get_type_hints(ANNOTATED[name]).values():
        assert not isinstance(hint, Lazy | str)


def test_annotations_resolve_to_what_checkers_see() -> None:
    numpy = pytest.importorskip("numpy")
    hints = typing.get_type_hints(atlas.Manifest.generate)
    assert hints["return"] is typing.Self
    assert typing.get_args(hints["symlinks"]) == ("record", "follow", "error")
    hints = typing.get_type_hints(importlib.import_module("atlas12288.tensors").ArrayWitness.verify)
    assert typing.get_origin(typing.get_args(hints["array"])[0]) is numpy.ndarray
    assert typing.get_type_hints(atlas.Manifest)["root"] is bytes


def test_a_type_of_an_extra_that_is_not_there_stands_for_any() -> None:
    missing: typing.Any = Lazy("atlas12288_no_such_module")
    kind = missing.Client
    assert isinstance(kind, type)
    assert kind[int] is kind
    assert type(None) in typing.get_args(kind | None)


def test_the_import_needs_no_typing() -> None:
    code = "import sys, atlas12288; print(sorted({'typing', 'numpy', 'pyarrow'} & {*sys.modules}))"
    assert (
        run("-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path}; {code}", cwd=ROOT).stdout
        == "[]\n"
    )


def pyright() -> str:
    """The checker that editors use; `make lint` installs it."""
    for name in ("basedpyright", "pyright"):
        found = shutil.which(
            name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        )
        if found is not None:
            return found
    pytest.skip("there is no basedpyright, and no pyright")


@pytest.mark.slow
def test_pyright_passes_on_a_users_program(tmp_path: Path) -> None:
    program = tmp_path / SAMPLE.name
    shutil.copy(SAMPLE, program)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    command = (pyright(), "--pythonpath", sys.executable, program)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


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
    "atlas.TreeWitness.generate('text')": "call-overload",
    "atlas.TreeWitness.generate(b'').root = b''": "misc",
    "atlas.TreeWitness.generate(b'').update(b'', ['0'])": "list-item",
    "atlas.TreeWitness()": "call-arg",
    "print(atlas.no_such_name)": "attr-defined",
    "atlas.Manifest.generate('.', symlinks='bad')": "arg-type",
    "atlas.Manifest.generate('.').root = b''": "misc",
    "atlas.WitnessStream(b'', 1)": "call-arg",
    "atlas.WitnessStream('text')": "arg-type",
}


@pytest.mark.slow
def test_mypy_rejects_wrong_programs(complaints: list[str]) -> None:
    errors = [line for line in complaints if line.startswith("wrong.py:") and "error:" in line]
    found = {int(line.split(":")[1]): line for line in errors}
    for number, (statement, code) in enumerate(WRONG.items(), start=2):
        assert f"[{code}]" in found.get(number, ""), statement
