# SPDX-License-Identifier: Apache-2.0
"""Mistakes in runtime/lanes.c, each made on purpose: tests/c/many.c finds every one of them."""

import subprocess
from pathlib import Path

import pytest

from support.c_fixtures import C_PROGRAMS, ROOT, CInstall, run
from support.kernel_sets import RUNNABLE_KERNEL_SETS

LANES = ROOT / "runtime" / "lanes.c"
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


@pytest.fixture(params=MISTAKES)
def mistake(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_every_mistake_is_found_and_nothing_else(
    mistake: str, library: CInstall, tmp_path: Path
) -> None:
    text = LANES.read_text(encoding="utf-8")
    before, after = MISTAKES[mistake]
    assert before == "" or text.count(before) == 1, "lanes.c has changed: so must this mistake"
    faulty = tmp_path / "lanes.c"
    faulty.write_text(text.replace(before, after) if before else text)
    program = library.compile_static(
        tmp_path / "many", C_PROGRAMS / "many.c", *library.private_includes, "-Wno-error", faulty
    )
    for kernel_set in RUNNABLE_KERNEL_SETS:
        if kernel_set == "portable":
            continue  # a lane has no neighbour there
        if mistake == "nothing":
            run(program, kernel_set)
            continue
        done = subprocess.run([program, kernel_set], capture_output=True, check=False)
        assert (done.returncode, b"must hold" in done.stderr) == (1, True), kernel_set
