# SPDX-License-Identifier: Apache-2.0
"""The WebAssembly rows of `atlas12288 bench`, with the real module under the real Node."""

import json

from support.c_fixtures import ROOT
from support.commandline import COULD_NOT_CHECK, run


def test_every_row_under_node_is_measured_at_a_window() -> None:
    done = run("bench", "--quick", "--size", "12288", "--js", ROOT / "js", "--json")
    assert done.returncode != COULD_NOT_CHECK, done.stderr
    report = json.loads(done.stdout)
    assert report["versions"]["node"].startswith("v")
    found = {row["work"]: row for row in report["rows"] if row["caller"] == "Node"}
    assert found.keys() == {
        *("WASM conserved copy", "WASM residue", "WASM witness generate", "WASM tree generate")
    }
    for row in found.values():
        assert row["kernel_set"] == "wasm32+simd128"
        assert row["ours"]["median"] > 0
        assert all(peer["median"] > 0 for peer in row["peers"])
