# SPDX-License-Identifier: Apache-2.0
"""The source archive for C users as a user has it, and the files and commands of its page."""

import re
import sys
import tarfile
from pathlib import Path

from support.c_fixtures import KERNELGEN_PYTHON, run
from support.c_inputs import ROOT

PAGE = (ROOT / "docs" / "c.md").read_text(encoding="utf-8")


def unpacked(directory: Path) -> Path:
    """Make the archive and unpack it below a directory; return its folder."""
    run(KERNELGEN_PYTHON, "-B", ROOT / "dist-c" / "build.py", "--output", directory)
    (archive,) = directory.glob("atlas12288-c-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
        tar.extractall(directory)
    return directory / archive.name.removesuffix(".tar.gz")


def page_files() -> dict[str, str]:
    """Return the files that the page shows, by their names."""
    return dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def page_outputs() -> dict[str, str]:
    """Return what the page says that its programs print, by their commands."""
    found = re.findall(r"^`([^`\n]+)` prints:\n\n```text\n(.*?)^```$", PAGE, re.M | re.DOTALL)
    assert found
    return dict(found)


def page_commands(title: str) -> str:
    """Return the shell commands below a title of the page."""
    section = re.split(rf"^##+ {title}$", PAGE, flags=re.MULTILINE)[1]
    section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert blocks, f"{title}: no commands"
    return "set -eu\n" + "".join(blocks)


def shell(commands: str, directory: Path, path: Path | None = None, **variables: str | Path) -> str:
    """Run commands in a directory, with more variables; return what they printed."""
    settings = [f"{name}={value}" for name, value in variables.items()]
    return run("env", "-C", directory, *settings, "sh", "-c", commands, path=path)


def without_python(directory: Path) -> Path:
    """Return a folder in which `python`, `python3` and `meson` fail, for the front of PATH."""
    directory.mkdir()
    for name in "python", "python3", "meson":
        program = directory / name
        program.write_text("#!/bin/sh\necho 'the build called Python' >&2\nexit 99\n")
        program.chmod(0o755)
    return directory


def meson_path(directory: Path) -> Path:
    """Return a folder in which `meson` is that of the tests, for the front of PATH."""
    directory.mkdir()
    program = directory / "meson"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mesonbuild.mesonmain "$@"\n')
    program.chmod(0o755)
    return directory
