# SPDX-License-Identifier: Apache-2.0
"""docs/manifests.md: its shell example runs, and its tables name the keys and the arguments."""

import inspect
import json
import re
import subprocess
from pathlib import Path

import pytest

import atlas12288 as atlas
from atlas12288.manifest._entries import Entry
from atlas12288.manifest._statement import Options
from support.tools import needs

TEXT = (Path(__file__).parent.parent / "docs" / "manifests.md").read_text(encoding="utf-8")


@needs("sha256sum")
def test_the_shell_example_gives_the_digest_of_the_subject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entries = [
        Entry(b"a,\n", 3, 6, bytes(32)),
        Entry(b"{digests", 0, 0, bytes(32)),
        Entry("é\u2028".encode(), target=b"a"),
        Entry(b"\xff", target=b"\xff,"),
    ]
    options = Options(exclude=("*.tmp", '{"path'), paths=("é",))
    text = atlas.Manifest.from_entries(options, entries).to_json()
    Path("data.atlas.json").write_text(text, encoding="utf-8")
    (command,) = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    found = subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout
    assert found.split() == [json.loads(text)["subject"][0]["digest"]["sha256"], "-"]


def rows() -> set[str]:
    """The first cells of all tables."""
    cells = re.findall(r"^\| (`.*?`) \|", TEXT, re.MULTILINE)
    return {name.split("=")[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_key_is_in_a_table() -> None:
    entries = [Entry(b"a", 1, 1, bytes(32), bytes(32)), Entry(b"b", target=b"a")]
    text = atlas.Manifest.from_entries(
        Options(("sha256", "sha256-merkle-12288")), entries
    ).to_json()
    keys = set(re.findall(r'"([^"]+)":', text)) - {"digest", "name"}
    assert keys - {"symlink"} <= rows()
    assert "`symlink`" in TEXT


def test_every_argument_is_in_a_table() -> None:
    parameters = inspect.signature(atlas.Manifest.generate).parameters
    names = set(parameters) - {"paths", "root"}  # which the text explains
    assert names <= rows()
    for name in names:
        assert f"`{name}={parameters[name].default!r}`".replace("'", '"') in TEXT.replace("'", '"')
