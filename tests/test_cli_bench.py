# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 bench`: what it reports, not how fast the machine is."""

import json
import os
from pathlib import Path

import pytest
from commandline import COULD_NOT_CHECK, DOES_NOT_HOLD, HOLDS, run

import atlas12288
from atlas12288 import WINDOW_BYTES
from atlas12288._native import timed_operations
from atlas12288.bench import GB_PER_S, NS_PER_BYTE, QUICK, ROWS, Figure, InC, Row, Target, measure


def test_report() -> None:
    done = run("bench", "--quick", "--size", str(WINDOW_BYTES), "--size", "48KiB", "--json")
    assert done.stderr == b""
    report = json.loads(done.stdout)
    assert report["kernel_set"] == atlas12288.kernel_set()
    assert len(report["rows"]) == sum(2 if row.any_size else 1 for row in ROWS)
    for row in report["rows"]:
        for figure in (row["ours"], *row["peers"]):
            assert 0 < figure["q1"] <= figure["median"] <= figure["q3"]
        assert all(peer["ratio"] > 0 for peer in row["peers"])
        if row["target"] is not None and row["target"]["at_least"] is not None:
            assert row["holds"] is (row["ours"]["median"] >= row["target"]["at_least"])
    missed = any(row["holds"] is False for row in report["rows"])
    assert done.returncode == (DOES_NOT_HOLD if missed else HOLDS)


def test_table_has_every_row_and_peer() -> None:
    done = run("bench", "--quick", "--size", str(WINDOW_BYTES))
    assert done.returncode in (HOLDS, DOES_NOT_HOLD)
    text = done.stdout.decode()
    for row in ROWS:
        assert row.work in text
        assert row.peers.keys() <= set(text.split())
    assert "…" not in text  # nothing is cut


def test_peers_that_are_not_installed_are_left_out(tmp_path: Path) -> None:
    for name in ("numpy", "xxhash"):
        (tmp_path / f"{name}.py").write_text("raise ImportError\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = run("bench", "--quick", "--size", str(WINDOW_BYTES), "--json", env=environment)
    peers = {peer["name"] for row in json.loads(done.stdout)["rows"] for peer in row["peers"]}
    assert peers == {"memcpy", "memset", "hashlib.sha256", "zlib.crc32"}


def test_any_kernel_set_can_be_forced(kernel_set: str) -> None:
    done = run("bench", "--quick", "--size", "96", "--kernels", kernel_set, "--json")
    assert done.returncode in (HOLDS, DOES_NOT_HOLD)
    assert json.loads(done.stdout)["kernel_set"] == kernel_set


def test_no_memory_is_an_error() -> None:
    done = run("bench", "--size", str(2**61))
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.startswith(b"atlas12288: bench: no memory")


def test_rows_time_operations_that_exist() -> None:
    operations = {
        timed.operation
        for row in ROWS
        for timed in (row.ours, *row.peers.values())
        if isinstance(timed, InC)
    }
    assert operations == set(timed_operations())


def test_units_and_targets() -> None:
    assert GB_PER_S.convert(1000.0, 25_000) == 25  # 25,000 bytes in 1 us
    assert NS_PER_BYTE.convert(1000.0, 100) == 10
    assert Target(at_least=25).holds(25)
    assert not Target(at_least=25).holds(24.9)
    assert not Target(below=10).holds(10)
    assert Figure.of([4, 1, 2, 3, 5]) == Figure(median=3, q1=2, q3=4)


def test_work_takes_longer_on_more_bytes() -> None:
    row = Row("residue", "C", InC("residue"), unit=NS_PER_BYTE)
    small, large = measure((2**20, 2**24), QUICK, [row])
    ns = [measured.ours.median * measured.size for measured in (small, large)]
    assert ns[1] > 4 * ns[0]  # 16 times the bytes: the work is done, not dropped


def test_an_operation_that_is_refused_is_not_timed() -> None:
    source = bytearray(b"\x01")  # not conserved
    with pytest.raises(ValueError, match="conserved_memcpy"):
        atlas12288._native.time_operation("conserved_memcpy", bytearray(1), source, 1)
