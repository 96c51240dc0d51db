# SPDX-License-Identifier: Apache-2.0
"""The examples of README.md and of all pages in docs run, and print what the page says."""

import ast
import doctest
import importlib.util
import os
import re
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import pytest

from support.commandline import run_line

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SCRIPTS = sysconfig.get_path("scripts")
# Commands without a prompt, which need a build or an archive: test_readme, test_dist_c and
# test_manifests_doc run them.
RUN_ELSEWHERE = {"README.md", "docs/c.md", "docs/manifests.md"}


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def pages_with(language: str, prompt: str) -> list[object]:
    return [
        pytest.param(page, id=str(page.relative_to(ROOT)))
        for page in PAGES
        if any(prompt in block for block in blocks(page, language))
    ]


def imported(examples: Iterable[doctest.Example]) -> set[str]:
    """The top-level modules that the examples import."""
    found = set()
    for node in ast.walk(ast.parse("".join(example.source for example in examples))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("page", pages_with("python", ">>> "))
def test_the_python_examples_print_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "\n".join(blocks(page, "python"))
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert test.examples
    for module in sorted(imported(test.examples)):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert results.failed == 0


@pytest.mark.parametrize("page", pages_with("console", "$ "))
def test_the_commands_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PATH": SCRIPTS + os.pathsep + os.environ["PATH"]}
    environment["XDG_STATE_HOME"] = str(tmp_path / ".state")
    folder = tmp_path / "here"
    folder.mkdir()
    for block in blocks(page, "console"):
        commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
        assert commands
        for command, expected in commands:
            done = run_line(command, cwd=folder, env=environment)
            assert (done.stdout, done.stderr) == (expected, ""), command


@pytest.mark.parametrize("page", pages_with("sh", ""))
def test_commands_without_a_prompt_are_run_elsewhere_or_call_make(page: Path) -> None:
    if str(page.relative_to(ROOT)) not in RUN_ELSEWHERE:
        lines = "".join(blocks(page, "sh")).splitlines()
        assert [line for line in lines if not line.startswith("make ")] == []


def test_every_target_of_make_that_a_page_names_exists() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        text = page.read_text("utf-8")
        named = re.findall(r"(?:^|`)make ([a-z][\w-]*)(?=[ `\n])", text, re.MULTILINE)
        assert set(named) <= set(phony.split()), page.name


def test_every_page_is_in_the_table_of_contents() -> None:
    docs = ROOT / "docs"
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", (docs / "index.md").read_text(), re.S | re.M)
    listed = {line for tree in trees for line in tree.split("\n") if line and line[0] != ":"}
    pages = {
        path.relative_to(docs).with_suffix("").as_posix()
        for suffix in ("md", "rst")
        for path in docs.rglob(f"*.{suffix}")
        if "_build" not in path.parts
    }
    assert pages - {"index", "package"} == listed


def test_links_between_pages_lead_to_files_that_are_there() -> None:
    for page in PAGES:
        links = re.findall(r"\]\((?!https?:|mailto:)([^)#\s]+)[^)\s]*\)", page.read_text("utf-8"))
        for link in links:
            assert (page.parent / link).exists(), f"{page.name}: {link}"
