# SPDX-License-Identifier: Apache-2.0
"""The constants of docs/scale.md, measured here, and its table of what 1 PB takes.

- ``constants``  a core, a small file, a request with latency
- ``simulate``   a run over a listing of a million objects without bytes, by the real path: listing,
                 state, scheduler, tasks, manifest. Only the tasks make their digests up.
- ``model``      what the constants make of 1 PB; gives no measurement
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from distributed import Client

from atlas12288 import WitnessStream
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest import _generate as generate
from atlas12288.manifest._arguments import hasher
from atlas12288.manifest._entries import DIGESTS
from atlas12288.manifest._hashing import cluster, cluster_tasks, engine
from atlas12288.manifest._hashing.file_hash import Digests
from atlas12288.manifest._listener import FunctionListener
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.remote import RemoteFolder
from atlas12288.manifest._sources.selection import Selection
from atlas12288.manifest._sources.source import Found, Problem, Source

_MIB: Final = 2**20
_MB: Final = 10**6
# 1 PB in 10 million objects has 100 MB in each: most are less, some are large.
SIZES: Final = (1 * _MB, 10 * _MB, 20 * _MB, 50 * _MB, 50 * _MB, 80 * _MB, 80 * _MB, 100 * _MB)
LARGE: Final = 1000 * _MB
LARGE_EVERY: Final = 20  # objects


def size_of(index: int) -> int:
    """Return the bytes of a simulated object: 100 MB in the mean, to a percent."""
    return LARGE if index % LARGE_EVERY == 0 else SIZES[index % len(SIZES)]


class Simulated(Source):
    """A listing of objects that nobody has."""

    name = "simulated://objects"

    def __init__(self, objects: int) -> None:
        self._objects = objects

    def list(self, rules: Selection, problem: Problem) -> Iterator[Found]:
        """Yield objects in folders of 1,000."""
        for index in range(self._objects):
            path = b"data/%06d/object-%09d.bin" % (index // 1000, index)
            yield Found(path, size_of(index), f'"{index:032x}"')

    def open(self, found: Found) -> Any:
        raise AssertionError(f"{found.path!r} is read, must not be")

    def read_small(self, path: bytes) -> bytes | None:
        return None


def make_up(task: cluster_tasks.Task) -> cluster_tasks.TaskResult:
    """Return what a worker would send, without reading."""
    flat, tree = (name in task.digests for name in DIGESTS)
    if isinstance(task, cluster_tasks.Batch):
        digests = Digests(0, bytes(32) if flat else None, bytes(32) if tree else None)
        return [cluster_tasks.FileResult(digests, b"") for _ in task.founds]
    blocks = task.stop - task.start if task.blocks else 1
    state = bytes(WitnessStream())
    return cluster_tasks.StretchResult(
        bytes(32 * blocks) if tree else b"",
        b"" if flat else bytes(task.stop - task.start),
        (state,) * blocks if flat else (),
    )


def peak_bytes(process: int | str) -> int:
    """Return the most that a process had resident at one time."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("/proc has no VmHWM")


@contextmanager
def processes(workers: int, threads: int) -> Iterator[tuple[str, int]]:
    """Start a scheduler and workers in processes of their own; yield its address and process."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:

        def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
            command = (sys.executable, "-m", f"distributed.cli.{module}", *arguments)
            quiet = subprocess.DEVNULL
            process = subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        place = Path(folder) / "scheduler.json"
        scheduler = start(
            "dask_scheduler",
            *("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"),
            *("--scheduler-file", str(place)),
        )
        for _ in range(workers):
            start(
                "dask_worker",
                *("--scheduler-file", str(place), "--nthreads", str(threads)),
                *("--no-dashboard", "--no-nanny"),
            )
        while not place.exists():
            time.sleep(0.05)
        with Client(scheduler_file=str(place), set_as_default=False) as client:
            client.wait_for_workers(workers)
            address = str(client.scheduler.address)
        yield address, scheduler.pid


class Counting(Client):  # type: ignore[misc]
    """A client of Dask that counts what the package sends by it.

    Attributes:
        tasks: all that were sent.
        messages: with tasks, to the scheduler.
        most_tasks: the most that were under way at one time.
        most_objects: the most objects in them.
    """

    tasks = messages = most_tasks = most_objects = 0

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self._objects: dict[str, int] = {}  # of each task that is under way, by its key
        super().__init__(*arguments, **keywords)

    def map(self, do: Any, sent: Any, **keywords: Any) -> Any:
        futures = super().map(do, sent, **keywords)
        # A task of this simulation takes no time: done here too, it tells how many objects it has.
        self._objects.update(zip(keywords["key"], (_objects(do(one)) for one in sent), strict=True))
        self.tasks += len(sent)
        self.messages += 1
        self.most_tasks = max(self.most_tasks, len(self._objects))
        self.most_objects = max(self.most_objects, sum(self._objects.values()))
        return futures

    def gather(self, futures: Any, *arguments: Any, **keywords: Any) -> Any:
        results = super().gather(futures, *arguments, **keywords)
        for future in futures:
            self._objects.pop(future.key, None)
        return results


def _objects(result: cluster_tasks.TaskResult) -> int:
    return len(result) if isinstance(result, list) else 1


def simulate(objects: int, workers: int, threads: int, flat: bool) -> None:
    """Print what a run over a listing takes in the driver and the scheduler."""
    # `work` is what a task does on its worker.
    real = cluster.hash_files
    cluster.hash_files = partial(real, work=make_up)
    source = Simulated(objects)
    options = generate.read_options(source, tree=True, flat=flat)
    with tempfile.TemporaryDirectory() as folder, processes(workers, threads) as (address, pid):
        output = Path(folder) / "data.atlas.json"
        state = Path(folder) / "data.atlas.state"
        marks: list[float] = []
        with Counting(address, set_as_default=False) as client:
            before = peak_bytes("self")
            begin = time.perf_counter()
            outcome = generate.generate_manifest(
                source,
                options,
                str(output),
                state=str(state),
                hash_files=hasher(client=client),
                listener=FunctionListener(expect=lambda _: marks.append(time.perf_counter())),
            )
            end = time.perf_counter()
        assert outcome.files == objects
        assert outcome.errors == 0
        rows = {
            "objects": f"{objects:,}",
            "bytes they would have": f"{outcome.bytes / 1e12:,.1f} TB",
            "digests": ", ".join(options.digests),
            "workers x threads": f"{workers} x {threads}",
            "seconds, listing into the state": f"{marks[0] - begin:.1f}",
            "seconds, tasks and manifest": f"{end - marks[0]:.1f}",
            "tasks": f"{client.tasks:,}",
            "tasks a second, manifest included": f"{client.tasks / (end - marks[0]):,.0f}",
            "objects a second, listing included": f"{objects / (end - begin):,.0f}",
            "tasks under way, at most": f"{client.most_tasks:,}",
            "objects in them, at most": f"{client.most_objects:,}",
            "messages with tasks to the scheduler": f"{client.messages:,}",
            "driver, MiB before": f"{before / _MIB:.0f}",
            "driver, MiB at most": f"{peak_bytes('self') / _MIB:.0f}",
            "scheduler, MiB at most": f"{peak_bytes(pid) / _MIB:.0f}",
            "state, bytes an object": f"{state.stat().st_size / objects:.0f}",
            "manifest, bytes an object": f"{output.stat().st_size / objects:.0f}",
        }
    print("| simulated | |\n| --- | ---: |")
    for name, value in rows.items():
        print(f"| {name} | {value} |")


# --- Constants


def seconds_of(work: Callable[[], object], rounds: int = 5) -> float:
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def constants(delay: float) -> None:
    """Print what a core, a small file and a request take."""
    print("| measured | |\n| --- | ---: |")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        large = folder / "large"
        with large.open("wb") as file:
            for _ in range(8):
                file.write(bytes(range(256)) * (64 * _MIB // 256))
        source = Folder(folder)
        large_found = list(source.list(Selection(), print))
        for digests in (DIGESTS[1:], DIGESTS[:1], DIGESTS):
            run = partial(engine.hash_files, source, large_found, digests, threads=1)
            seconds = seconds_of(lambda run=run: list(run()))  # type: ignore[misc]
            rate = large_found[0].size / seconds / 1e9
            print(f"| {' and '.join(digests)}, one core, GB/s | {rate:.2f} |")
        large.unlink()
        for index in range(20_000):
            (folder / str(index)).write_bytes(b"x")
        founds = list(source.list(Selection(), print))
        run = partial(engine.hash_files, source, founds, DIGESTS[1:], threads=1)
        each = seconds_of(lambda: list(run())) / len(founds)
        print(f"| a small local file, one core, us | {each * 1e6:.0f} |")
    latency(delay)


class _Slow(BaseHTTPRequestHandler):
    """Zeros of any length, each answer after a delay."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    delay = 0.0
    data = bytes(BLOCK_BYTES)

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        time.sleep(self.delay)
        length = int(self.path.rsplit("/", 1)[1].split("-")[0])
        count, wanted = length, self.headers.get("Range")
        if wanted:
            start, end = map(int, wanted.removeprefix("bytes=").split("-"))
            count = min(end + 1, length) - start
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(count))
        self.send_header("ETag", '"same"')
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{start + count - 1}/{length}")
        self.end_headers()
        if body:
            self.wfile.write(memoryview(self.data)[:count])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def serve(delay: float) -> None:
    """Run the server with latency; print its port."""
    _Slow.delay = delay
    server = _Server(("127.0.0.1", 0), _Slow)
    print(server.server_address[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown())).start()
    server.serve_forever()


def latency(delay: float) -> None:
    """Print what readers at once gain where each request takes its time."""
    command = (sys.executable, __file__, "serve", "--delay", str(delay))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/f"
        large = RemoteFolder(f"{url}/{96 * BLOCK_BYTES}")
        large_found = list(large.list(Selection(), print))
        small = [Found(b"1000-%d" % index, 1000, '"same"') for index in range(200)]
        print(f"\n| readers, answers after {delay * 1e3:.0f} ms | MB/s, one file | files/s |")
        print("| ---: | ---: | ---: |")
        for readers in (1, 2, 4, 8, 16, 32, 64):
            run = partial(engine.hash_files, large, large_found, DIGESTS[1:], threads=readers)
            rate = large_found[0].size / seconds_of(lambda run=run: list(run()), 3) / 1e6  # type: ignore[misc]
            some = small[: max(10, 3 * readers)]
            run = partial(engine.hash_files, large, some, DIGESTS[1:], threads=readers)
            files = len(some) / seconds_of(lambda run=run: list(run()), 3)  # type: ignore[misc]
            print(f"| {readers} | {rate:.0f} | {files:.0f} |", flush=True)
        server.communicate()


# --- The model


def model(
    rate: float, objects: int, size: int, objects_s: float, network: float, threads: int
) -> None:
    """Print how long 1 PB takes on N workers, and what bounds it."""
    total = objects * size
    print("| workers | hashing, h | network, h | driver and scheduler, h | whole, h | bound by |")
    print("| ---: | ---: | ---: | ---: | ---: | --- |")
    for workers in (10, 30, 100, 300, 1000):
        parts = {
            "hashing": total / (workers * threads * rate * 1e9) / 3600,
            "network": total / (workers * network * 1e9) / 3600,
            "driver and scheduler": objects / objects_s / 3600,
        }
        bound = max(parts, key=lambda name: parts[name])
        cells = " | ".join(f"{hours:,.2f}" for hours in parts.values())
        print(f"| {workers:,} | {cells} | {parts[bound]:,.2f} | {bound} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("constants")
    one.add_argument("--delay", type=float, default=0.05, help="of each answer, in seconds")
    one = commands.add_parser("serve")
    one.add_argument("--delay", type=float, default=0.05)
    one = commands.add_parser("simulate")
    one.add_argument("--objects", type=int, default=1_000_000)
    one.add_argument("--workers", type=int, default=2)
    one.add_argument("--threads", type=int, default=4, help="of each worker")
    one.add_argument("--flat", action="store_true", help="flat digests too, chains of tasks")
    one = commands.add_parser("model")
    one.add_argument("--rate", type=float, required=True, help="GB/s of one thread")
    one.add_argument("--objects-s", type=float, required=True, help="of `simulate`")
    one.add_argument("--network", type=float, default=1.25, help="GB/s of a worker")
    one.add_argument("--threads", type=int, default=8, help="of each worker")
    one.add_argument("--objects", type=int, default=10_000_000)
    one.add_argument("--size", type=int, default=100 * _MB, help="of an object, in bytes")
    values = vars(parser.parse_args())
    command = {"constants": constants, "serve": serve, "simulate": simulate, "model": model}
    command[values.pop("command")](**values)


if __name__ == "__main__":
    main()
