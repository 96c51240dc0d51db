# SPDX-License-Identifier: Apache-2.0
"""A model in several files, signed and verified by this project and by model_signing.

Prints a table in Markdown. The folder holds `--files` files of `--megabytes` each; everything is
read once before, so that all read from memory. Each command runs on one CPU, `--repeat` times, in
turns with the others, and the least of its CPU times counts: on a machine with other work, the time
on the clock says little. model_signing has shards in its library alone, so both its methods are
measured there as well; it verifies shards by the hash that it is told.
"""

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

_GB: Final = 10**9
_PEER: Final = """
import sys
from model_signing import hashing, signing, verifying
what, method, size = sys.argv[1:]
config = hashing.Config()
if method == "shards":
    config.use_shard_serialization(shard_size=int(size))
if what == "sign":
    made = signing.Config().use_elliptic_key_signer(private_key="key.pem")
    made.set_hashing_config(config).sign("data", f"peer-{method}.sig")
else:
    made = verifying.Config().use_elliptic_key_verifier(public_key="key.pub")
    made.set_hashing_config(config).verify("data", f"peer-{method}.sig")
"""
_OURS: Final = f"{sys.executable} -m atlas12288"
_KEY: Final = "--private-key key.pem"


class Row(NamedTuple):
    """A command.

    Attributes:
        task: what it does: "sign" or "verify".
        method: what has a digest: "files" or "shards".
        name: what the table calls it.
        command: for a shell.
    """

    task: str
    method: str
    name: str
    command: str


def rows(shard_size: int) -> list[Row]:
    """Return all commands, each signing before it verifies."""
    peer = f"{sys.executable} peer.py"
    line = f"{sys.executable} -m model_signing"
    witness = f"{_OURS} witness data -o data.atlas.json"
    sign = f"{_OURS} sign data.atlas.json {_KEY} -o files.sig"
    shards = f"{_OURS} sign data --method shards --shard-size {shard_size} {_KEY} -o shards.sig"
    verify = f"{_OURS} verify {{}}.sig data --public-key key.pub"
    key = "--public_key key.pub --signature line.sig data"
    return [
        Row(
            "sign",
            "files",
            "`model_signing sign key`",
            f"{line} sign key --private_key key.pem --signature line.sig data",
        ),
        Row("sign", "files", "`atlas12288 witness`, then `sign`", f"{witness} && {sign}"),
        Row("verify", "files", "`model_signing verify key`", f"{line} verify key {key}"),
        Row("verify", "files", "`atlas12288 verify`", verify.format("files")),
        Row("sign", "shards", "model_signing, its library", f"{peer} sign shards {shard_size}"),
        Row("sign", "shards", "`atlas12288 sign --method shards`", shards),
        Row("verify", "shards", "model_signing, its library", f"{peer} verify shards {shard_size}"),
        Row("verify", "shards", "`atlas12288 verify`", verify.format("shards")),
    ]


def prepare(place: Path, files: int, size: int) -> None:
    """Write the folder, the keys and the program of the peer."""
    numbers = random.Random(1)
    (place / "data").mkdir()
    for number in range(files):
        with (place / "data" / f"model-{number:05}-of-{files:05}.bin").open("wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(numbers.randbytes(min(1 << 20, size - start)))
    key = ec.generate_private_key(ec.SECP256R1())
    (place / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (place / "key.pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    (place / "peer.py").write_text(_PEER)


def run(row: Row, place: Path) -> tuple[float, float]:
    """Return the seconds of CPU and on the clock that a command takes on one CPU."""
    cpu = min(os.sched_getaffinity(0))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(
        row.command,
        shell=True,
        check=True,
        cwd=place,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"XDG_STATE_HOME": str(place / "state")},
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
    )
    elapsed = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, elapsed


def table(measured: dict[Row, list[tuple[float, float]]], size: int) -> str:
    """Return the table in Markdown."""
    lines = [
        "| task | digests of | command | CPU s | GB a CPU second | on the clock, s | against |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    best = {row: min(seconds for seconds, _ in runs) for row, runs in measured.items()}
    for row, runs in measured.items():
        peer = max(
            best[each] for each in best if (each.task, each.method) == (row.task, row.method)
        )
        clock = statistics.median(elapsed for _, elapsed in runs)
        lines.append(
            f"| {row.task} | {row.method} | {row.name} | {best[row]:.2f} "
            f"| {size / best[row] / _GB:.2f} | {clock:.2f} | {peer / best[row]:.2f}x |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--shard-megabytes", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    size = arguments.megabytes * 10**6
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        prepare(place, arguments.files, size)
        commands = rows(arguments.shard_megabytes * 10**6)
        measured: dict[Row, list[tuple[float, float]]] = {row: [] for row in commands}
        for row in commands:  # brings the files into memory
            run(row, place)
        for _ in range(arguments.repeat):
            for row in commands:
                measured[row].append(run(row, place))
                print(f"{row.task} {row.method} {row.name}: {measured[row][-1]}", file=sys.stderr)
    total = arguments.files * size
    print(f"{arguments.files} files, {total / _GB:.2f} GB, one CPU.\n")
    print(table(measured, total))


if __name__ == "__main__":
    main()
