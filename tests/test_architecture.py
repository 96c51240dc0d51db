# SPDX-License-Identifier: Apache-2.0
"""The map in CONTRIBUTING.md is what the code imports: down the layers, without circles."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
SOURCE = REPOSITORY / "src"
PACKAGE = SOURCE / "atlas12288"
BLOCK = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def house() -> list[list[tuple[str, list[str]]]]:
    """The pictures of the map: the layers of each from the top down, with their rooms."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    section = text.partition("## The house\n")[2].partition("\n## ")[0]
    pictures = []
    for block in BLOCK.findall(section):
        layers: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            title, _, rest = line.partition("  ")
            rooms = rest.partition("(")[0].split()
            if title:
                layers.append((title, rooms))
            elif rooms not in ([], ["|"]):
                layers[-1][1].extend(rooms)
        pictures.append(layers)
    return pictures


LAYERS, MANIFEST = house()


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path for path in sorted(PACKAGE.rglob("*.py*")) if path.suffix != ".pyc"
}


def statements(node: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports in a tree but those for type checkers; with `lazy`, also those in functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from statements(ast.Module(child.orelse, []), lazy)
        elif lazy or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from statements(child, lazy)


def imports(name: str, lazy: bool = True) -> set[str]:
    """The modules of the package that a module imports."""
    path = MODULES[name]
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found: set[str] = set()
    for statement in statements(ast.parse(path.read_text()), lazy):
        if isinstance(statement, ast.Import):
            found.update(alias.name for alias in statement.names)
            continue
        base = statement.module or ""
        if statement.level:
            parts = package.split(".")
            around = ".".join(parts[: len(parts) - statement.level + 1])
            base = f"{around}.{base}" if base else around
        for alias in statement.names:
            inside = f"{base}.{alias.name}"
            found.add(inside if inside in MODULES else base)
    return (found & MODULES.keys()) - {name}


def place(name: str, layers: list[tuple[str, list[str]]], within: str) -> int:
    """The number of the layer that a module is in, from the top; exactly one."""
    room = name.removeprefix(f"{within}.").split(".")[0] if name != within else "__init__"
    exact = [number for number, (_, rooms) in enumerate(layers) if room in rooms]
    by_form = [
        number
        for number, (_, rooms) in enumerate(layers)
        if any("*" in form and fnmatch(f"{room}.py", form) for form in rooms)
        and not (PACKAGE / room).is_dir()
    ]
    places = exact or by_form
    assert len(places) == 1, f"{name} is in {len(places)} layers of the map, must be in one"
    return places[0]


def closure(start: set[str], lazy: bool) -> set[str]:
    """What modules import, and what that imports."""
    found: set[str] = set()
    waiting = set(start)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= imports(name, lazy) - found
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: imports(name) for name in MODULES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_from_its_own_layer_of_the_map_and_lower_ones(name: str) -> None:
    own = place(name, LAYERS, "atlas12288")
    for other in imports(name):
        layer = place(other, LAYERS, "atlas12288")
        assert layer >= own, f"{name} imports {other}, which is in a higher layer"


def test_every_room_of_the_map_is_there() -> None:
    for _, rooms in LAYERS:
        for room in rooms:
            around = REPOSITORY if room.endswith("/") else PACKAGE
            assert list(around.glob(room.rstrip("/"))) or list(around.glob(f"{room}.py*")), room
    for _, rooms in MANIFEST:
        for room in rooms:
            assert list((PACKAGE / "manifest").glob(f"{room}*")), room


def side(number: int) -> set[str]:
    """The modules of a layer of `manifest`."""
    package = "atlas12288.manifest"
    return {
        name
        for name in MODULES
        if name.startswith(f"{package}.") and place(name, MANIFEST, package) == number
    }


def test_what_reads_manifests_rests_on_nothing_that_writes_them() -> None:
    front, writing, reading = (side(number) for number in range(3))
    assert front, "there is a front door"
    assert writing, "there is a writing side"
    assert closure(reading, lazy=True).isdisjoint(front | writing)
    # The front door opens the writing side when a manifest is made.
    assert closure(front, lazy=False).isdisjoint(writing)
    assert closure(front, lazy=True) & writing
    assert closure(writing, lazy=True).isdisjoint(front)


def test_the_layers_below_python_know_nothing_of_it() -> None:
    for path in (REPOSITORY / "runtime").iterdir():
        assert "Python.h" not in path.read_text(), path
    for path in (REPOSITORY / "kernelgen").glob("*.py"):
        names = {
            name
            for statement in statements(ast.parse(path.read_text()), lazy=True)
            for name in (
                [alias.name for alias in statement.names]
                if isinstance(statement, ast.Import)
                else [statement.module or ""]
            )
        }
        assert not any(name.split(".")[0] == "atlas12288" for name in names), path


def test_no_two_test_modules_have_one_name() -> None:
    """pytest imports them by their names, so a run of both would stop before its first test."""
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_other_tests_are_collected_where_what_some_need_is_missing() -> None:
    conftest = ast.parse((REPOSITORY / "tests/conftest.py").read_text())
    needed_by = next(
        ast.literal_eval(node.value)
        for node in conftest.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NEEDED_BY"
    )
    arguments = ["--collect-only", "-qq", "tests/test_identities.py"]
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({list(needed_by)}))\n"
        f"import pytest\nsys.exit(pytest.main({arguments}))"
    )
    command = (sys.executable, "-c", code)
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
