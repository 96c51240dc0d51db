# SPDX-License-Identifier: Apache-2.0
"""Pictures are the same wherever they are drawn, and are known again as ours."""

import io
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from atlas12288._cli.drawings.damage_map import DamageMap
from atlas12288._cli.drawings.damage_map import draw as draw_damage
from atlas12288._cli.drawings.figures import IMAGE_FORMATS, picture_at
from atlas12288._cli.drawings.residue_map import MAX_PANELS, ResidueMap
from atlas12288._cli.drawings.residue_map import draw as draw_residues
from atlas12288._files import RegularFile
from support.commandline import TIMEOUT_S, in_a_process
from support.shared import made_once
from support.slow import slow_but

HOSTILE = {
    "code": "axes.prop_cycle: (lambda: (open('PWNED', 'w'), cycler('color', 'k'))[1])()\n",
    "TeX": "text.usetex: True\n",
    "huge": "savefig.dpi: 20000\nfigure.dpi: 20000\n",
    "white": "text.color: white\naxes.edgecolor: white\nfont.size: 1\nsvg.fonttype: none\n",
    "nonsense": "\0\n: :\nbackend: module://evil\n",
}


# One process draws all formats: what its first import of matplotlib read holds for all of them.
DRAW = (
    "import sys\n"
    "from atlas12288._cli import main\n"
    "for image_format in sys.argv[1:]:\n"
    "    main(['check', '--plot', f'map.{image_format}', 'data'])\n"
)


def draw_in(folder: Path) -> None:
    """Let the command draw a picture in each format, in a new process in this folder."""
    done = subprocess.run(
        (sys.executable, "-c", DRAW, *IMAGE_FORMATS),
        cwd=folder,
        capture_output=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    assert done.stderr == b""


def residue_map() -> ResidueMap:
    found = ResidueMap("a file")
    found.update(bytes(range(96)))
    return found


def picture(image_format: str) -> bytes:
    file = io.BytesIO()
    draw_residues([residue_map()], file, image_format)
    return file.getvalue()


drawn = cache(picture)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The pictures of a file, by format, from a folder without settings."""

    def draw(folder: Path) -> None:
        (folder / "data").write_bytes(bytes(range(256)) * 1000)
        draw_in(folder)

    folder = made_once(tmp_path_factory, "figures", draw)
    return {each: (folder / f"map.{each}").read_bytes() for each in IMAGE_FORMATS}


@pytest.mark.parametrize("kind", slow_but(["code"], HOSTILE))
def test_settings_of_the_current_folder_change_nothing(
    tmp_path: Path, expected: dict[str, bytes], kind: str
) -> None:
    (tmp_path / "data").write_bytes(bytes(range(256)) * 1000)
    (tmp_path / "matplotlibrc").write_text(HOSTILE[kind])
    before = set(tmp_path.iterdir())
    draw_in(tmp_path)
    for image_format, content in expected.items():
        assert (tmp_path / f"map.{image_format}").read_bytes() == content
    assert set(tmp_path.iterdir()) - before == {
        tmp_path / f"map.{image_format}" for image_format in IMAGE_FORMATS
    }


def test_settings_that_never_end_are_not_read(tmp_path: Path, expected: dict[str, bytes]) -> None:
    (tmp_path / "data").write_bytes(bytes(range(256)) * 1000)
    os.mkfifo(tmp_path / "matplotlibrc")
    assert in_a_process("check", "--plot", "map.png", "data", cwd=tmp_path).stderr == b""
    assert (tmp_path / "map.png").read_bytes() == expected["png"]


@pytest.mark.slow
def test_the_settings_of_who_calls_it_do_not_count_and_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import matplotlib

    before = {each: drawn(each) for each in IMAGE_FORMATS}
    with matplotlib.rc_context({"text.color": "red", "savefig.dpi": 7, "lines.linewidth": 9}):
        assert {each: picture(each) for each in IMAGE_FORMATS} == before
        assert matplotlib.rcParams["savefig.dpi"] == 7


def test_the_current_folder_is_what_it_was(tmp_path: Path) -> None:
    """Also where it cannot be named any more."""
    code = (
        "import io, os, sys\n"
        "from atlas12288._cli.drawings.residue_map import ResidueMap, draw\n"
        "os.chdir(sys.argv[1]); os.mkdir('x'); os.chdir('x'); os.rmdir('../x')\n"
        "here = os.stat('.')\n"
        "draw([ResidueMap('')], io.BytesIO(), 'png')\n"
        "assert os.path.samestat(os.stat('.'), here)\n"
    )
    subprocess.run((sys.executable, "-c", code, str(tmp_path)), check=True, timeout=TIMEOUT_S)


@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
def test_a_picture_is_known_again(tmp_path: Path, image_format: str) -> None:
    path = tmp_path / f"map.{image_format.upper()}"
    is_ours = picture_at(str(path)).is_one
    path.write_bytes(drawn(image_format))
    with RegularFile(str(path)) as file:
        assert is_ours(file)
    for content in (drawn(image_format).replace(b"atlas12288", b"Matplotlib"), b"atlas12288"):
        path.write_bytes(content)
        with RegularFile(str(path)) as file:
            assert not is_ours(file)
    for other in set(IMAGE_FORMATS) - {image_format}:
        path.write_bytes(drawn(other))
        with RegularFile(str(path)) as file:
            assert not is_ours(file)


@pytest.mark.slow
@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
def test_a_picture_of_all_its_panels_is_known_again(tmp_path: Path, image_format: str) -> None:
    path = tmp_path / f"map.{image_format}"
    damage, residues = io.BytesIO(), io.BytesIO()
    draw_damage([DamageMap(str(index)) for index in range(MAX_PANELS)], damage, image_format)
    pictures = [damage]
    if image_format == "pdf":  # in the others the mark is before all panels; one takes 0.4 s
        draw_residues([residue_map()] * MAX_PANELS, residues, image_format)
        pictures.append(residues)
    for file in pictures:
        path.write_bytes(file.getvalue())
        with RegularFile(str(path)) as found:
            assert picture_at(str(path)).is_one(found)
