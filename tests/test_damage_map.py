# SPDX-License-Identifier: Apache-2.0
"""The map of damaged windows: no damage is lost, however large the file is."""

import io
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas12288 import WINDOW_BYTES
from atlas12288._cli.drawings.damage_map import MAX_CELLS, DamageMap, draw


def map_of(damaged: set[int], witnessed: int, found: int) -> DamageMap:
    """A finished map; lengths are in windows."""
    damage_map = DamageMap("title")
    for first in sorted(damaged):
        if first - 1 not in damaged:
            stop = first
            while stop in damaged:
                stop += 1
            damage_map.update(first, stop)
    damage_map.finish(witnessed * WINDOW_BYTES, found * WINDOW_BYTES)
    return damage_map


def labels(damage_map: DamageMap) -> list[str]:
    return [kind.label for kind in damage_map.kinds(MAX_CELLS)[0]]


def picture(damage_map: DamageMap) -> str:
    """The characters of the sketch's cells."""
    lines = damage_map.sketch(colour=False)
    return "".join(match[1] for line in lines if (match := re.search(r"\|(.*)\|", line))).rstrip()


@given(
    st.integers(1, 30_000),
    st.lists(st.tuples(st.integers(0, 29_999), st.integers(1, 3000)), max_size=20),
)
def test_a_cell_is_marked_when_a_window_in_it_is(
    windows: int, places: list[tuple[int, int]]
) -> None:
    damaged = {i for first, n in places for i in range(first, min(first + n, windows))}
    damage_map = map_of(damaged, windows, windows)
    assert (damage_map.windows, damage_map.differ) == (windows, len(damaged))
    kinds, step = damage_map.kinds(MAX_CELLS)
    assert len(kinds) == -(-windows // step) <= MAX_CELLS
    assert step == 1 or len(kinds) > MAX_CELLS // 2  # no coarser than needed
    for index, kind in enumerate(kinds):
        cell = range(index * step, min((index + 1) * step, windows))
        count = sum(window in damaged for window in cell)
        expected = "changed" if count == len(cell) else "some windows changed"
        assert kind.label == (expected if count else "same")


def test_one_window_among_a_million_is_seen() -> None:
    damage_map = map_of({777_777}, 1_000_000, 1_000_000)
    assert damage_map.summary() == "1 of 1000000 windows differ, in 1 range"
    kinds, step = damage_map.kinds(MAX_CELLS)
    assert [index for index, kind in enumerate(kinds) if kind.label != "same"] == [777_777 // step]
    assert picture(damage_map).count("x") == 1
    assert picture(damage_map).index("x") == 777_777 // 1024


def test_windows_that_are_missing_or_added() -> None:
    shrunk = map_of({2, 7, 8, 9}, 10, 8)
    assert labels(shrunk) == [
        *("same", "same", "changed", "same", "same", "same", "same", "changed"),
        *("missing from the file", "missing from the file"),
    ]
    assert picture(shrunk) == "··X····X--"
    grown = map_of({8, 9}, 8, 10)
    assert labels(grown)[7:] == ["same", "added to the file", "added to the file"]
    assert picture(grown) == "········++"


def test_nothing_to_draw() -> None:
    assert list(map_of(set(), 0, 0).sketch(colour=True)) == []
    assert map_of(set(), 0, 0).summary() == "empty, as witnessed"
    assert map_of(set(), 5, 5).summary() == "none of 5 windows differs"


def test_a_sketch_fits_on_a_terminal_and_names_what_it_shows() -> None:
    damaged = {1, *range(4096, 4224), *range(70_000, 80_000)}
    lines = list(map_of(damaged, 80_000, 70_000).sketch(colour=False))
    assert max(map(len, lines)) <= 80
    assert lines[0].split("|")[0].strip() == "0"
    assert lines[1].split("|")[0].strip() == str(64 * 128 * WINDOW_BYTES)
    legend = "· same  x some windows changed  X changed  - missing from the file"
    assert lines[-2].strip() == legend
    assert "one character: 128 windows of 12288 bytes" in lines[-1]
    coloured = next(iter(map_of({1}, 2, 2).sketch(colour=True)))
    assert "\x1b[31mX\x1b[0m" in coloured


@pytest.mark.parametrize(
    ("image_format", "start", "count"),
    [("png", b"\x89PNG", 5), ("svg", b"<?xml", 2), ("pdf", b"%PDF", 2)],
)
def test_every_kind_of_map_is_drawn(image_format: str, start: bytes, count: int) -> None:
    maps = [
        map_of({1, 900, 901}, 900, 902),
        map_of(set(), 0, 0),
        map_of({0}, 1, 1),
        map_of({3, 4, 5}, 10, 6),
        map_of({9, 127, 128, 600_000}, 1_000_000, 1_000_000),
    ]
    file = io.BytesIO()
    draw(maps[:count], file, image_format)
    assert file.getvalue().startswith(start)


def test_the_first_row_begins_at_0_bytes() -> None:
    image = io.BytesIO()
    draw([map_of({3}, 300, 300)], image, "svg")
    assert b"0  (0 B)" in image.getvalue()
    assert b"0.0 B" not in image.getvalue()
    assert b"kB)" in image.getvalue()


def test_the_cells_of_the_image_have_the_colours_of_their_windows() -> None:
    image = pytest.importorskip("matplotlib.image")
    file = io.BytesIO()
    draw([map_of({3, 8, 15}, 15, 16)], file, "png")
    file.seek(0)
    pixels = (255 * image.imread(file)[:, :, :3]).round().astype(int)
    same, changed, added = (223, 229, 234), (211, 18, 27), (34, 116, 196)
    # A line of pixels through the middle of the cells, from left to right; between them is white.
    line = max(range(len(pixels)), key=lambda row: (pixels[row] == same).all(axis=1).sum())
    cells = [
        colour
        for colour, run in itertools.groupby(map(tuple, pixels[line].tolist()))
        if colour in (same, changed, added) and len(list(run)) > 20
    ]
    expected = {3: changed, 8: changed, 15: added}
    assert cells[:16] == [expected.get(window, same) for window in range(16)]
