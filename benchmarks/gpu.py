# SPDX-License-Identifier: Apache-2.0
"""Time trees and residues on a GPU beside copies of memory and what else there is for tensors.

    python benchmarks/gpu.py [--json FILE] [--most BYTES]

It needs the extra `cuda`, and PyTorch for the tensors. Each row is a median, in GB/s of the bytes
that are hashed (a copy: of the bytes copied): by events of the device where it says so, else by the
clock around the whole call. Results are compared with this CPU's own for the sizes up to 1 GiB.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import atlas12288 as atlas
from atlas12288 import _gpu
from atlas12288._gpu.device import current

MIB, GIB = 1 << 20, 1 << 30
SIZES = (MIB, 16 * MIB, 256 * MIB, GIB, 8 * GIB, 32 * GIB)
SECONDS = 0.5  # for each row, and 3 runs at least


def runs_of(once: Callable[[], float]) -> list[float]:
    """Return the seconds of several runs, after one that does not count."""
    once()
    taken: list[float] = []
    end = time.monotonic() + SECONDS
    while len(taken) < 3 or (time.monotonic() < end and len(taken) < 50):
        taken.append(once())
    return taken


def by_clock(work: Callable[[], object]) -> list[float]:
    def once() -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    return runs_of(once)


def by_device(work: Callable[[int], object], wait: float = 0.02) -> list[float]:
    """Time work on a stream of torch, which it is given, by events of the device.

    The device waits for `wait` seconds first. Meanwhile this process launches all, so that what is
    timed is the device's part.
    """
    stream = torch.cuda.Stream()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def once() -> float:
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(int(2e9 * wait))
        begin.record(stream)
        kept = work(stream.cuda_stream)
        end.record(stream)
        end.synchronize()
        del kept
        return float(begin.elapsed_time(end)) / 1000

    return runs_of(once)


class Table:
    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def add(self, name: str, size: int, seconds: list[float], unit: str = "GB/s") -> None:
        median = statistics.median(seconds)
        value = size / median / 1e9 if unit == "GB/s" else median * 1e6
        spread = [min(seconds), max(seconds)]
        row = {"row": name, "bytes": size, "unit": unit, "value": round(value, 2)}
        self.rows.append(row | {"seconds": median, "spread": spread, "runs": len(seconds)})
        print(f"{name:<44} {size:>15,} bytes {value:>10,.2f} {unit}", flush=True)


def pattern(size: int) -> torch.Tensor:
    """Return bytes on the device that are no period of a window."""
    generator = torch.Generator(device="cuda").manual_seed(size)
    part = torch.randint(
        0, 256, (min(size, GIB),), dtype=torch.uint8, device="cuda", generator=generator
    )
    return part.repeat(size // len(part)) if size > len(part) else part


def check(data: torch.Tensor) -> None:
    host = data.cpu()
    expected = atlas.TreeWitness.generate(host)
    found = atlas.TreeWitness.generate(data)
    assert (found.root, found.residue, found.leaves) == (
        expected.root,
        expected.residue,
        expected.leaves,
    )


def tree_rows(table: Table, size: int, data: torch.Tensor) -> None:
    generate = atlas.TreeWitness.generate

    def started(stream: int) -> object:
        return generate(data, leaves=False, stream=stream, wait=False)

    table.add("tree, residue and root, the device's part", size, by_device(started))
    table.add(
        "TreeWitness.generate(x, leaves=False)",
        size,
        by_clock(lambda: generate(data, leaves=False)),
    )
    table.add("TreeWitness.generate(x)", size, by_clock(lambda: generate(data)))
    table.add("residue(x), the device's part", size, by_device(lambda s: _started_residue(data, s)))
    table.add("residue(x)", size, by_clock(lambda: atlas.residue(data)))
    odd = data[1:]
    table.add("tree at an odd address", size, by_clock(lambda: generate(odd, leaves=False)))


def _started_residue(data: torch.Tensor, stream: int) -> object:
    from atlas12288._gpu import jobs

    return jobs.residues([(data, "data")], 0, stream=stream)


def peer_rows(table: Table, size: int, data: torch.Tensor) -> None:
    if 2 * size < torch.cuda.get_device_properties(0).total_memory:
        other = torch.empty_like(data)

        def copy(stream: int) -> None:
            with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
                other.copy_(data)

        table.add("copy, device to device, the device's part", size, by_device(copy))
        del other
    if hasattr(torch, "hash_tensor") and size % 8 == 0:
        words = data.view(torch.int64)
        table.add(
            "torch.hash_tensor (xor, no digest)",
            size,
            by_clock(lambda: torch.hash_tensor(words).item()),
        )
    if size <= GIB:
        table.add(
            "x.cpu(), TreeWitness.generate",
            size,
            by_clock(lambda: atlas.TreeWitness.generate(data.cpu(), leaves=False)),
        )
        table.add(
            "host=True",
            size,
            by_clock(lambda: atlas.TreeWitness.generate(data, leaves=False, host=True)),
        )
    if size <= 256 * MIB:
        table.add(
            "x.cpu(), Witness.generate", size, by_clock(lambda: atlas.Witness.generate(data.cpu()))
        )


def many_rows(table: Table) -> None:
    count, size = 10_000, 1_000_000
    tensors = [
        torch.randint(0, 256, (size,), dtype=torch.uint8, device="cuda") for _ in range(count)
    ]
    sources = [(tensor, "x") for tensor in tensors]

    def started(stream: int) -> object:
        return _gpu.trees(sources, (2, 0), stream=stream, leaves=False)

    print(f"{count:,} tensors of 1 MB:")
    table.add("trees of 10,000 tensors, device's part", count * size, by_device(started, 0.2))
    whole = by_clock(lambda: _gpu.trees(sources, (2, 0), stream=None, leaves=False).result())
    table.add("trees of 10,000 tensors, whole call", count * size, whole)
    found = _gpu.trees(sources, (2, 0), stream=None, leaves=False).result()
    for k in range(0, count, 997):
        expected = atlas.TreeWitness.generate(tensors[k].cpu())
        assert (found[k].root, found[k].residue) == (expected.root, expected.residue), k


_GENERATE = partial(atlas.TreeWitness.generate, leaves=False)
_SMALL: dict[str, Callable[[torch.Tensor], Any]] = {
    "generate(x, wait=False) returns": partial(_GENERATE, wait=False),
    "TreeWitness.generate(x, leaves=False)": _GENERATE,
    "TreeWitness.generate(x.cpu(), leaves=False)": lambda x: _GENERATE(x.cpu()),
    "residue(x)": atlas.residue,
    "residue(x.cpu())": lambda x: atlas.residue(x.cpu()),
}


def small_rows(table: Table) -> None:
    for size in (1000, 12_288, 98_304, MIB):
        data = torch.zeros(size, dtype=torch.uint8, device="cuda")
        for name, work in _SMALL.items():
            taken = []
            for _ in range(300):
                torch.cuda.synchronize()
                start = time.perf_counter()
                kept = work(data)
                taken.append(time.perf_counter() - start)
                if isinstance(kept, atlas.Pending):
                    kept.result()
            table.add(name, size, taken[20:], "us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--most", type=int, default=SIZES[-1])
    arguments = parser.parse_args()
    table = Table()
    with current(0) as device:
        name = device.core.name
    print(f"{name}; torch {torch.__version__}; {platform.processor() or platform.machine()}")
    memory = torch.cuda.get_device_properties(0).total_memory
    for size in (size for size in SIZES if size <= min(arguments.most, memory - 8 * GIB)):
        data = pattern(size)
        if size <= GIB:
            check(data)
        tree_rows(table, size, data)
        peer_rows(table, size, data)
        del data
        torch.cuda.empty_cache()
    small_rows(table)
    many_rows(table)
    if arguments.json:
        facts = {"device": name, "torch": torch.__version__, "rows": table.rows}
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
