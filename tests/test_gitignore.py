# SPDX-License-Identifier: Apache-2.0
"""Rules of gitignore: the same verdict, by the same rule, as `git check-ignore`; and bounded."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atlas12288 as atlas
from atlas12288._files import FileError
from atlas12288.manifest._sources import selection as selection_module
from atlas12288.manifest._sources.gitignore import Matcher, Rule
from atlas12288.manifest._sources.selection import Selection
from atlas12288.manifest._statement import Options
from support.tools import needs

# Folders and files of names that rules take apart: `name` is a file, `name/` a folder.
_NAMES = (
    *(b"a/", b"b", b"ab", b"aab", b"a b", b"a ", b"-", b"[", b"]", b"[a]", b"\xc3\xa9", b"\xff"),
    *(b"\\", b"!a", b"#a", b"*", b"a.b", b"abab", b"A", b"1", b"\t", b"a\t", b"^", b"\\a", b":"),
)
_INNER = (b"a", b"b/", b"ab", b"a.b", b"1", b"]", b"\xff", b"x")
_DEEP = (b"a/", b"b", b"abab")
_PIECES = (
    *("a", "b", "ab", "*", "**", "?", "/", "[ab]", "[!a]", "[^b]", "[a-c]", "[]a]", "[[:alpha:]]"),
    *("[[:space:]]", "[[:punct:]x]", "[[:graph:]]", "\\", "\\*", "\\ ", " ", "!", "#", "é", "**/"),
    *("/**", "/**/", "[", "]", "-", "[a-]", "[--a]", "[\\]a]", "[[]", "[[:bad:]]", "[[:a]", ":"),
    *("[a\\-b]", "[z-a]", "\t", "A", "1", ".", "\\/", "**\\/", "[/a]", "^", "[[:cntrl:]]"),
)
# What remains different, and is in docs/manifests.md: git compares what stands before the first
# wildcard by itself, and takes a `**` that follows for one at the begin.
_ONLY_IN_GIT = re.compile(r"^!?/?[^*?\[\\]*[^/*?\[\\]\*\*+(/|\\/|$)")

RULES = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=9).map("".join)


def _is_rule(text: str) -> bool:
    return not text.startswith("#") and not _ONLY_IN_GIT.match(text)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bool]]:
    """A folder of git, and its paths, which are true where they are folders."""
    root = tmp_path_factory.mktemp("tree")
    git("init", "-q", cwd=root)
    paths: dict[bytes, bool] = {}

    def fill(folder: bytes, levels: tuple[tuple[bytes, ...], ...]) -> None:
        for name in levels[0]:
            path = folder + name
            place = os.path.join(os.fsencode(root), path)
            paths[path.removesuffix(b"/")] = name.endswith(b"/")
            if name.endswith(b"/"):
                os.mkdir(place)
                fill(path, levels[1:])
            else:
                os.close(os.open(place, os.O_CREAT | os.O_WRONLY))

    fill(b"", (_NAMES, _INNER, _DEEP, (b"b", b"x")))
    return root, paths


def git(*arguments: str, cwd: Path, input: bytes = b"") -> bytes:
    """Runs git without the settings of anybody."""
    environment = {"HOME": str(cwd), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ("git", *arguments), cwd=cwd, input=input, env=environment, capture_output=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def by_git(root: Path, paths: dict[bytes, bool], texts: list[str]) -> dict[bytes, int]:
    """The number of the rule that decides about each path; -1 where none does."""
    (root / ".gitignore").write_bytes("\n".join(texts).encode())
    asked = b"".join(b"./" + path + b"\0" for path in paths)
    out = git("check-ignore", "--no-index", "--stdin", "-z", "-v", "-n", cwd=root, input=asked)
    fields = out.split(b"\0")
    answers = (fields[at : at + 4] for at in range(0, len(fields) - 1, 4))
    return {path[2:]: int(line) - 1 if line else -1 for _, line, _, path in answers}


def by_us(paths: dict[bytes, bool], texts: list[str]) -> dict[bytes, int]:
    """The same by our rules: the first folder on the way that is excluded decides."""
    rules = [Rule(text) for text in texts]
    matchers = {is_folder: Matcher(rules, folders=is_folder) for is_folder in (False, True)}
    found = {}
    for path in paths:
        number = -1
        ends = [*(at for at, byte in enumerate(path) if byte == ord("/")), len(path)]
        for end in ends:
            number = matchers[paths[path[:end]]].last(path[:end])
            if number >= 0 and not rules[number].negative:
                break
        found[path] = number
    return found


@needs("git")
@settings(deadline=None)
@given(texts=st.lists(RULES.filter(_is_rule), min_size=1, max_size=4))
def test_rules_decide_as_those_of_git(
    tree: tuple[Path, dict[bytes, bool]], texts: list[str]
) -> None:
    root, paths = tree
    assert by_us(paths, texts) == by_git(root, paths, texts)


@given(
    texts=st.lists(RULES.filter(_is_rule), max_size=6),
    names=st.lists(st.binary(min_size=1, max_size=6).filter(lambda name: b"/" not in name)),
    parent=st.sampled_from([b"", b"a/", b"a/b/"]),
)
def test_names_of_a_folder_are_decided_as_their_paths(
    texts: list[str], names: list[bytes], parent: bytes
) -> None:
    names += [b"a", b"b", b"ab", b"a.b"]
    rules = [Rule(text) for text in texts]
    for folders in (False, True):
        one_by_one, together = (Matcher(rules, folders=folders) for _ in range(2))
        expected = [one_by_one.last(parent + name) for name in names]
        assert together.lasts(parent, names) == expected
        assert together.steps == one_by_one.steps


@needs("git")
@pytest.mark.parametrize(
    "text",
    [
        *("a", "/a", "a/", "*.b", "a*b", "**/a", "a/**", "a/**/b", "a/*", "**", "*", "!a", "\\!a"),
        *("\\#a", "a ", "a\\ ", "a\t", "[[:alpha:]]", "[a-", "a\\", "[z-a]", "é", "?", "[\\]a]"),
        *("a/**\\/b", "**/**/b", "/**/b", "//a", "a//b", "/", "!", "\\", "***", "a**b", "[!]a-]"),
    ],
)
def test_each_form_decides_as_that_of_git(tree: tuple[Path, dict[bytes, bool]], text: str) -> None:
    root, paths = tree
    assert by_us(paths, [text]) == by_git(root, paths, [text])


def test_what_remains_different_from_git_is_what_the_documents_say(
    tree: tuple[Path, dict[bytes, bool]],
) -> None:
    _, paths = tree
    assert by_us(paths, ["ab**/b"]) == by_us(paths, ["ab*/b"])


# --- Bounds


@pytest.mark.parametrize(
    "rule",
    [r"*\a" * 13 + "b", "*a" * 2000 + "b", "**/a/" * 800 + "b", "?*" * 2000 + "b", "[a-]*" * 800],
    ids=lambda rule: rule[:8],
)
def test_a_rule_of_a_stranger_takes_no_more_steps_than_its_size_explains(rule: str) -> None:
    matcher = Matcher([Rule(rule)], folders=False)
    paths = [b"a" * 255, b"a/" * 500 + b"a"]
    for path in paths:
        matcher.last(path)
    # A `**/` of three bytes may take 128 steps for each folder that it passes over.
    assert matcher.steps <= sum(50 * len(rule) * (len(path) + 1) for path in paths)


def test_rules_and_paths_that_would_take_too_long_are_one_error_with_both_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        (tmp_path / f"name{number}").touch()
    monkeypatch.setattr(selection_module, "STEPS_MOST", 10_000)
    with pytest.raises(FileError, match=r"^\d+ paths and 50 rules are too many: .* 10,000 steps$"):
        atlas.Manifest.generate(tmp_path, exclude=[f"*a{number}*b" for number in range(50)])
    entries = atlas.Manifest.generate(tmp_path).entries
    options = Options(exclude=tuple(f"*a{number}*b" for number in range(50)))
    with pytest.raises(FileError, match="50 rules are too many"):
        atlas.Manifest.from_entries(options, entries).verify(tmp_path)


@pytest.mark.parametrize(
    ("exclude", "reason"),
    [
        (["a\nb"], "must be texts of one line"),
        (["a\0b"], "without NUL"),
        (["x" * 4097], "must have rules of at most 4,096"),
        (["x" * 4000] * 263, "more than 1,048,576 bytes"),
        ([f"*{number}*x" for number in range(10_001)], "10,001 rules with wildcards within"),
    ],
    ids=["line", "NUL", "long", "large", "many"],
)
def test_more_than_the_bounds_is_refused(exclude: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^exclude has .*{reason}"):
        Selection(exclude)


def test_what_rules_left_out_is_counted_by_rule() -> None:
    rules = Selection(["*.log", "!keep.log", "/cache/"])
    for path, folder in ((b"x.log", False), (b"keep.log", False), (b"cache", True), (b"y", False)):
        rules.excludes(path, folder)
    assert [(each.rule, each.paths) for each in rules.excluded_by] == [("*.log", 1), ("/cache/", 1)]
