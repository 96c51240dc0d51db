# SPDX-License-Identifier: Apache-2.0
"""Work of the WebAssembly module, timed under Node by js/bench.mjs in a process beside this one."""

import atexit
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from .rows import Family
from .work import Arena, BenchError, Timed, Work

_SCRIPT: Final = "bench.mjs"
_MODULE: Final = "lib/atlas12288-simd.wasm"
_NEEDS: Final = "needs node, make wasm and --js FOLDER"


class _NodeProcess:
    """A running js/bench.mjs: it reads one request per line and answers with the time taken.

    Args:
        folder: the JavaScript package.
    """

    def __init__(self, folder: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        self._process = subprocess.Popen(
            ("node", str(folder / _SCRIPT), "--serve"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
        )
        atexit.register(self.close)

    def ns(self, work: str, kernels: str | None, size: int, repeats: int) -> float:
        """Return the nanoseconds that all repeats took.

        Raises:
            BenchError: the process ended without an answer.
        """
        request = {"work": work, "kernels": kernels, "size": size, "repeats": repeats}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()
            raise BenchError(f"node {_SCRIPT} ended while it measured {work}: {said}")
        return float(json.loads(answer)["ns"])

    def close(self) -> None:
        """Kill the process; it has no state worth saving."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()


_node = cache(_NodeProcess)  # one for all rows, so that they share its memory and engine


@dataclass(frozen=True)
class UnderNode:
    """A work of js/bench.mjs, on bytes of the same size as the arena.

    Args:
        work: its name in js/bench.mjs.
        kernels: the kernel set of the module; None if the work does not use the module.
        folder: the JavaScript package; None if none was named.
    """

    work: str
    kernels: str | None = "wasm32+simd128"
    folder: Path | None = None

    def missing(self) -> str | None:
        if self.folder is None:
            return _NEEDS
        if shutil.which("node") is None:
            return "needs node"
        for name in (_SCRIPT, _MODULE):
            if not (self.folder / name).is_file():
                return f"needs make wasm: there is no {self.folder / name}"
        return None

    def on(self, arena: Arena) -> Work:
        assert self.folder is not None  # it is not missing
        node, size = _node(self.folder), arena.size
        return lambda repeats: node.ns(self.work, self.kernels, size, repeats)


def with_package(families: Sequence[Family], folder: Path) -> tuple[Family, ...]:
    """Return the same families, whose works under Node come from a JavaScript package.

    Args:
        families: any.
        folder: the folder js of the repository.
    """

    def placed(timed: Timed) -> Timed:
        return replace(timed, folder=folder) if isinstance(timed, UnderNode) else timed

    return tuple(
        replace(
            family,
            rows=tuple(replace(row, ours=placed(row.ours)) for row in family.rows),
            peers={name: placed(peer) for name, peer in family.peers.items()},
        )
        for family in families
    )


def node_version() -> str | None:
    """Return the output of `node --version`; None if Node is not installed."""
    if shutil.which("node") is None:
        return None
    done = subprocess.run(("node", "--version"), capture_output=True, text=True, check=False)
    return done.stdout.strip()
