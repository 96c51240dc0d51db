# SPDX-License-Identifier: Apache-2.0
"""Mistakes in the runtime, each made on purpose: tests/c/many.c finds every one in lanes.c, and
tests/c/tree.c those about trees."""

import subprocess
from pathlib import Path

import pytest

from support.c_fixtures import C_PROGRAMS, ROOT, CInstall, run
from support.kernel_sets import RUNNABLE_KERNEL_SETS

RUNTIME = ROOT / "runtime"
# What stands in the file, and what the mistake makes of it.
MISTAKES = {
    "nothing": ("", ""),
    "lanes_swapped": (
        "atlas_sha256_digest(columns->states + column,",
        "atlas_sha256_digest(columns->states + (column + 1) % columns->used,",
    ),
    "refilled_one_block_early": (
        "lane->stretches[lane->stretch].blocks == 0)",
        "lane->stretches[lane->stretch].blocks <= (lane->stretch == BODY))",
    ),
    "residue_of_the_neighbour": (
        "(columns->sums[column] - lane->added)",
        "(columns->sums[(column + 1) % columns->used] - lane->added)",
    ),
    "padding_in_the_residue": ("- lane->added)", ")"),
    "state_of_the_closed": (
        "columns->states[word * width + column] = columns->states[word * width + last];",
        ";",
    ),
    "sum_of_the_closed": ("columns->sums[column] = columns->sums[last];", ""),
    "state_not_new": ("+ column] = state[word];", "+ column] = state[0];"),
    "sum_not_new": ("columns->sums[column] = 0;", "columns->sums[column] += 0;"),
    "chains_begin_anew": ("lane->chain != NULL ? lane->chain->state : INITIAL", "INITIAL"),
    "chains_swapped": (
        "lane->chain->state[word] = columns->states[word * width + column];",
        "lane->chain->state[word] = columns->states[word * width + (column + 1) % width];",
    ),
    "chunk_skipped": (
        "lane->stretches[BODY] = (stretch_t){data, whole};",
        "lane->stretches[BODY] = (stretch_t){data, 0};",
    ),
    "chain_ended_early": (
        "lane->stretches[BODY] = (stretch_t){data, whole};",
        "lane->stretches[BODY] = (stretch_t){data, whole - (whole > 1)};",
    ),
    "held_bytes_skipped": ("lane->stretches[HEAD].blocks = 1;", ""),
    "held_bytes_counted_twice": ("lane->added = sum_of(chain->held, held);", "lane->added = 0;"),
    "held_bytes_not_counted": (
        "lane->added -= sum_of(chain->held, (size_t)(chain->length % BLOCK_BYTES));",
        "",
    ),
    "held_over_the_held": ("memcpy(chain->held + held, data", "memcpy(chain->held, data"),
}


TREE_MISTAKES = {
    "no_prefix": ("lanes.c", "lane->tail[0] = (uint8_t)prefix;", "lane->tail[0] = 0;"),
    "no_prefix_of_the_long": ("lanes.c", "lane->head[0] = (uint8_t)prefix;", "lane->head[0] = 1;"),
    "leaf_of_the_neighbour": (
        "tree.c",
        "memcpy(regions->leaves + HASH * number, digest, HASH);",
        "memcpy(regions->leaves + HASH * (number - number % 2), digest, HASH);",
    ),
    "residue_of_the_neighbour": (
        "tree.c",
        "regions->residues[number] = residue;",
        "regions->residues[number - number % 2] = residue;",
    ),
    "bytes_of_the_neighbour": (
        "tree.c",
        "regions->bases[regions->region] +",
        "regions->bases[regions->region - (regions->region > 0 && "
        "regions->lens[regions->region - 1] >= regions->lens[regions->region])] +",
    ),
    "node_of_the_neighbour": (
        "tree.c",
        "memcpy(level->hashes + HASH * level->lefts[number], digest, HASH);",
        "memcpy(level->hashes + HASH * level->lefts[number - number % 2], digest, HASH);",
    ),
    "children_too_near": ("tree.c", "left + HASH * level->distance, HASH", "left + HASH, HASH"),
    "nodes_across_regions": (
        "tree.c",
        "at + level.distance < windows_of(lens[i]);",
        "at + level.distance < windows;",
    ),
    "root_of_the_next_region": (
        "tree.c",
        "for (size_t i = 0; i < count; root += HASH * windows_of(lens[i++]))",
        "for (size_t i = 0; i < count; root += HASH * (lens[i++] > 0))",
    ),
}


@pytest.fixture(params=MISTAKES)
def mistake(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def faulty_program(
    library: CInstall, place: Path, test: str, name: str, before: str, after: str
) -> Path:
    """A test of the library with a mistake in one of its files."""
    text = (RUNTIME / name).read_text(encoding="utf-8")
    assert before == "" or text.count(before) == 1, f"{name} has changed: so must this mistake"
    faulty = place / name
    faulty.write_text(text.replace(before, after) if before else text)
    return library.compile_static(
        place / "test", C_PROGRAMS / test, *library.private_includes, "-Wno-error", faulty
    )


def test_every_mistake_is_found_and_nothing_else(
    mistake: str, library: CInstall, tmp_path: Path
) -> None:
    program = faulty_program(library, tmp_path, "many.c", "lanes.c", *MISTAKES[mistake])
    for kernel_set in RUNNABLE_KERNEL_SETS:
        if kernel_set == "portable":
            continue  # a lane has no neighbour there
        if mistake == "nothing":
            run(program, kernel_set)
            continue
        done = subprocess.run([program, kernel_set], capture_output=True, check=False)
        assert (done.returncode, b"must hold" in done.stderr) == (1, True), kernel_set


@pytest.mark.parametrize("tree_mistake", TREE_MISTAKES)
def test_every_mistake_about_trees_is_found(
    tree_mistake: str, library: CInstall, tmp_path: Path
) -> None:
    program = faulty_program(library, tmp_path, "tree.c", *TREE_MISTAKES[tree_mistake])
    done = subprocess.run([program], capture_output=True, check=False)
    assert (done.returncode, b"must hold" in done.stderr) == (1, True)
