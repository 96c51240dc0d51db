# SPDX-License-Identifier: Apache-2.0
"""Many machines, as threads of this process. `make check-cluster` has processes, and ends them."""

import gc
import hashlib
import importlib.util
import pickle
import pickletools
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="many machines need distributed")

from distributed import Client, Future, LocalCluster

import atlas12288 as atlas
from atlas12288 import WitnessStream
from atlas12288._files import CHANGED, FileError
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest._arguments import hasher
from atlas12288.manifest._entries import DIGESTS
from atlas12288.manifest._generate import generate_manifest, read_options
from atlas12288.manifest._hashing import cluster, cluster_tasks, engine
from atlas12288.manifest._hashing.file_hash import Checkpoint, Digests
from atlas12288.manifest._listener import FunctionListener
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.selection import Selection
from atlas12288.manifest._sources.source import Found
from support.strategies import noise

BLOCKS = 4  # of a run, in place of the 64 that would make each test read 192 MiB
CHOICES = (DIGESTS, DIGESTS[:1], DIGESTS[1:])


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as machines,
        Client(machines, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "STRETCH_BLOCKS", BLOCKS)
    monkeypatch.setattr(cluster, "STRETCH_BYTES", BLOCKS * BLOCK_BYTES)
    monkeypatch.setattr(cluster, "BATCH_BYTES", (BLOCK_BYTES, 3 * BLOCKS * BLOCK_BYTES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "many").mkdir()
    for index in range(50):
        (folder / "many" / str(index)).write_bytes(noise(index * 997))
    for name, size in (
        ("runs", 3 * BLOCKS * BLOCK_BYTES),
        ("more", 2 * BLOCKS * BLOCK_BYTES + 12288 * 5 + 1),
        ("one", BLOCKS * BLOCK_BYTES),
        ("over", BLOCKS * BLOCK_BYTES + 1),
    ):
        (folder / name).write_bytes(noise(size))
    return folder


def found_in(folder: Path) -> list[Found]:
    return list(Folder(folder).list(Selection(), lambda *problem: pytest.fail(str(problem))))


class Leaves:
    """The leaves of each file, as they come."""

    def __init__(self) -> None:
        self.of: dict[bytes, bytearray] = {}

    def __call__(self, found: Found) -> engine.LeafSink:
        assert found.path not in self.of
        return self.of.setdefault(found.path, bytearray()).extend


@pytest.mark.parametrize("digests", CHOICES)
@pytest.mark.parametrize("threads", [None, 3])
def test_the_digests_and_leaves_are_those_of_one_machine(
    client: Client, folder: Path, digests: tuple[str, ...], threads: int | None
) -> None:
    source, founds = Folder(folder), found_in(folder)
    expected_leaves, leaves, counts = Leaves(), Leaves(), [0]
    expected = dict(engine.hash_files(source, founds, digests, leaves=expected_leaves))

    def advance(count: int) -> None:
        counts.append(count)

    results = cluster.hash_files(
        source,
        iter(founds),
        digests,
        client=client,
        threads=threads,
        leaves=leaves,
        advance=advance,
    )
    assert dict(results) == expected
    assert len(expected) == len(founds)
    assert sum(counts) == sum(found.size for found in founds)
    assert leaves.of == expected_leaves.of


@pytest.mark.parametrize("digests", CHOICES)
@pytest.mark.parametrize("done", [1, BLOCKS, BLOCKS + 2, 3 * BLOCKS - 1])
def test_a_file_goes_on_from_a_checkpoint_of_either_engine(
    client: Client, folder: Path, digests: tuple[str, ...], done: int
) -> None:
    source = Folder(folder)
    (found,) = (found for found in found_in(folder) if found.path == b"runs")
    kept: dict[str, list[tuple[Checkpoint, bytes]]] = {"here": [], "there": []}
    ((_, expected),) = engine.hash_files(
        source,
        [found],
        digests,
        progress=lambda _, checkpoint, root: kept["here"].append((checkpoint, root)),
    )
    ((_, result),) = cluster.hash_files(
        source,
        [found],
        digests,
        client=client,
        progress=lambda _, checkpoint, root: kept["there"].append((checkpoint, root)),
    )
    assert result == expected
    assert kept["there"] == kept["here"]
    checkpoint, _ = kept["there"][done - 1]
    roots = b"".join(root for _, root in kept["there"][:done])
    leaves, counts, after = Leaves(), [0], list[int]()
    ((_, result),) = cluster.hash_files(
        source,
        [found],
        digests,
        client=client,
        leaves=leaves,
        advance=counts.append,
        progress=lambda _, checkpoint, root: after.append(checkpoint.blocks),
        resume=lambda _: (checkpoint, [roots]),
    )
    assert result == expected
    assert sum(counts) == found.size - done * BLOCK_BYTES
    assert after == list(range(done + 1, 3 * BLOCKS + 1))
    if digests != DIGESTS[:1]:
        assert len(leaves.of[b"runs"]) == 32 * 256 * (3 * BLOCKS - done)


@pytest.mark.parametrize("digests", CHOICES)
def test_a_file_of_which_nothing_is_left_to_read_has_its_digests(
    client: Client, folder: Path, digests: tuple[str, ...]
) -> None:
    """A run may stop after the last block of a file and before the file is known."""
    source = Folder(folder)
    founds = [found for found in found_in(folder) if found.size > BLOCK_BYTES]
    last: dict[Found, Checkpoint] = {}
    roots: dict[Found, bytes] = {}

    def progress(found: Found, checkpoint: Checkpoint, root: bytes) -> None:
        last[found] = checkpoint
        roots[found] = roots.get(found, b"") + root

    expected = dict(engine.hash_files(source, founds, digests, progress=progress))
    assert {found.size % BLOCK_BYTES == 0 for found in founds} == {True, False}
    for hash_files in engine.hash_files, partial(cluster.hash_files, client=client):
        counts = [0]
        results = hash_files(
            source,
            founds,
            digests,
            advance=counts.append,
            resume=lambda found: (last[found], [roots[found]]),
        )
        assert dict(results) == expected
        # On a cluster what is small enough for one task has no checkpoint, and is read again.
        assert set(counts) <= {0, BLOCKS * BLOCK_BYTES}


@pytest.mark.parametrize("digests", CHOICES)
def test_runs_may_be_longer_and_the_digests_stay(
    client: Client, folder: Path, digests: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster._Job, "_batch_bytes", lambda _: 2 * BLOCKS * BLOCK_BYTES)
    lengths = set()
    run = cluster._Job._stretch

    def noted(job: cluster._Job, file: cluster._Large, start: int) -> cluster_tasks.Stretch:
        made = run(job, file, start)
        lengths.add(made.stop - made.start)
        return made

    monkeypatch.setattr(cluster._Job, "_stretch", noted)
    source, founds = Folder(folder), found_in(folder)
    expected = dict(engine.hash_files(source, founds, digests))
    assert dict(cluster.hash_files(source, founds, digests, client=client)) == expected
    assert lengths == {2 * BLOCKS, BLOCKS, 1}  # the last ones of two files are shorter


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("after", [BLOCKS, 3 * BLOCKS])
def test_a_run_that_was_stopped_goes_on_here_or_there_to_the_same_manifest(
    client: Client, folder: Path, tmp_path: Path, flat: bool, after: int
) -> None:
    source = Folder(folder)
    options = read_options(source, tree=True, flat=flat)
    files = {name: str(tmp_path / name) for name in ("output", "leaves", "state")}

    whole = {name: str(tmp_path / f"whole {name}") for name in ("output", "leaves")}
    generate_manifest(source, options, **whole)
    for clients in ((client, None), (None, client), (client, client)):
        count = 0

        def stop(some: int) -> None:
            nonlocal count
            count += some
            if count > after * BLOCK_BYTES:
                raise InterruptedError

        listener = FunctionListener(advance=stop)
        with pytest.raises(InterruptedError):
            generate_manifest(
                source, options, **files, hash_files=hasher(client=clients[0]), listener=listener
            )
        read: list[int] = []
        listener = FunctionListener(advance=read.append)
        generate_manifest(
            source, options, **files, hash_files=hasher(client=clients[1]), listener=listener
        )
        # A chain is known in its order; of other runs a later one may have come first.
        assert not flat or sum(read) < sum(found.size for found in found_in(folder))
        for name, made_whole in whole.items():
            assert Path(files[name]).read_bytes() == Path(made_whole).read_bytes()
            Path(files[name]).unlink()
        Path(files["state"]).unlink()


def test_the_flat_digest_of_a_chain_is_that_of_hashlib(client: Client, folder: Path) -> None:
    (found,) = (found for found in found_in(folder) if found.path == b"more")
    ((_, result),) = cluster.hash_files(Folder(folder), [found], DIGESTS[:1], client=client)
    assert isinstance(result, Digests)
    assert result.sha256 == hashlib.sha256((folder / "more").read_bytes()).digest()


@pytest.mark.parametrize("digests", CHOICES)
def test_what_cannot_be_read_is_named_with_its_worker_and_the_others_go_on(
    client: Client, folder: Path, digests: tuple[str, ...]
) -> None:
    founds = found_in(folder)
    lost = [
        Found(b"many/none", 1, ""),
        Found(b"none", 3 * BLOCKS * BLOCK_BYTES, ""),
        Found(b"runs", 3 * BLOCKS * BLOCK_BYTES, "another"),
    ]
    founds = lost + [found for found in founds if found.path != b"runs"]
    results = {
        found.path: result
        for found, result in cluster.hash_files(Folder(folder), founds, digests, client=client)
    }
    assert len(results) == len(founds)
    errors = {path: str(error) for path, error in results.items() if isinstance(error, FileError)}
    assert set(errors) == {found.path for found in lost}
    for path, reason in errors.items():
        what = CHANGED if path == b"runs" else "No such file or directory"
        assert reason.startswith(f"{what} (on the worker inproc://")


def test_no_file_gives_no_result(client: Client, tmp_path: Path) -> None:
    assert list(cluster.hash_files(Folder(tmp_path), [], DIGESTS, client=client)) == []


def test_what_a_callback_raises_ends_the_run_and_cancels_its_tasks(
    client: Client, folder: Path
) -> None:
    def stop(_: int) -> None:
        raise ZeroDivisionError

    results = cluster.hash_files(
        Folder(folder), found_in(folder), DIGESTS, client=client, advance=stop
    )
    with pytest.raises(ZeroDivisionError):
        list(results)
    assert not client.futures


def fails(task: cluster_tasks.Task) -> cluster_tasks.TaskResult:
    raise LookupError("of the worker")


def test_a_task_that_fails_for_no_reason_of_its_files_ends_the_run(
    client: Client, folder: Path
) -> None:
    with pytest.raises(FileError, match=r"^a task failed on a worker: LookupError: of the worker$"):
        list(
            cluster.hash_files(Folder(folder), found_in(folder), DIGESTS, client=client, work=fails)
        )


def test_a_result_that_was_lost_after_it_was_known_is_waited_for_again(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    status = Future.status.fget

    def lost_once(future: Future) -> str:
        if future.key not in lost:
            lost.append(future.key)
            return ("pending", "lost")[len(lost) % 2]
        assert status is not None
        return str(status(future))

    source, founds = Folder(folder), found_in(folder)
    expected = dict(engine.hash_files(source, founds, DIGESTS))
    monkeypatch.setattr(Future, "status", property(lost_once))
    assert dict(cluster.hash_files(source, founds, DIGESTS, client=client)) == expected
    assert len(lost) > 10


def made_up(task: cluster_tasks.Task) -> cluster_tasks.TaskResult:
    """Digests without reading."""
    if isinstance(task, cluster_tasks.Batch):
        digests = Digests(0, bytes(32), None)
        return [cluster_tasks.FileResult(digests, b"") for _ in task.founds]
    return cluster_tasks.StretchResult(states=(bytes(WitnessStream()),))


def test_many_files_are_few_tasks_and_few_of_them_are_under_way(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small run of what benchmarks/scale.py does."""
    most = [0]
    tasks = [0]
    submit = cluster._Job._submit

    def counts(job: cluster._Job, some: list[cluster_tasks.Task], *rest: object) -> None:
        submit(job, some, *rest)  # type: ignore[arg-type]
        tasks[0] += len(some)
        most[0] = max(most[0], len(job._tasks))

    monkeypatch.setattr(cluster._Job, "_submit", counts)
    taken = [0]

    def founds() -> Iterator[Found]:
        for index in range(20_000):
            taken[0] = index + 1
            yield Found(b"objects/%08d" % index, 1000, "")

    done = ahead = 0
    for _, result in cluster.hash_files(
        Folder(folder), founds(), DIGESTS[:1], client=client, work=made_up
    ):
        assert isinstance(result, Digests)
        done += 1
        ahead = max(ahead, taken[0] - done)
    assert done == 20_000
    assert most[0] <= cluster._TASKS_LEAST
    assert tasks[0] < 300
    assert ahead <= cluster._TASKS_LEAST * cluster.BATCH_FILES[1]


def test_what_is_no_client_is_a_type_error(folder: Path) -> None:
    with pytest.raises(TypeError, match=r"^client is of type object, must be distributed\.Client$"):
        atlas.Manifest.generate(folder, client=object())  # type: ignore[arg-type]


def test_a_client_that_is_closed_is_named(folder: Path) -> None:
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as machines:
        client = Client(machines, set_as_default=False)
        client.close()
        with pytest.raises(
            ValueError, match=r"^client is closed, must be connected to a scheduler$"
        ):
            atlas.Manifest.generate(folder, client=client)


def test_a_cluster_that_has_no_worker_for_long_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "WORKERLESS_S", 0.2)
    monkeypatch.setattr(cluster, "_COUNT_AGAIN_S", 0.05)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as machines,
        Client(machines, set_as_default=False) as client,
        pytest.raises(FileError, match=r"^the scheduler at inproc://.* has had no worker for 0 s$"),
    ):
        atlas.Manifest.generate(folder, client=client)


def test_a_worker_that_comes_late_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_COUNT_AGAIN_S", 0.05)
    scaled = []
    count = cluster._Job._count_slots

    def come(job: cluster._Job) -> None:
        count(job)
        if job._tasks and not scaled:
            scaled.append(machines.scale(1))

    monkeypatch.setattr(cluster._Job, "_count_slots", come)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as machines,
        Client(machines, set_as_default=False) as client,
    ):
        found = atlas.Manifest.generate(folder, client=client)
    assert found == atlas.Manifest.generate(folder)


def test_what_goes_to_a_worker_names_nothing_that_it_may_not_have(folder: Path) -> None:
    """Else the message cannot be read there, and the worker ends without a word."""
    task = cluster_tasks.Batch(Folder(folder), DIGESTS, False, (), 1)
    sent = pickle.dumps(cluster_tasks.SentTask(cluster_tasks.do_task, task))
    strings = [value for _, value, _ in pickletools.genops(sent) if isinstance(value, str)]
    assert strings[:2] == ["builtins", "eval"]
    code = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
    done = subprocess.run(
        (sys.executable, "-S", "-c", code), input=sent, capture_output=True, check=False, env={}
    )
    assert done.stderr.splitlines()[-1] == b"ModuleNotFoundError: No module named 'atlas12288'"
    assert pickle.loads(sent) == []


def test_a_worker_with_another_version_is_named(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cluster_tasks.do_sent
    monkeypatch.setattr(cluster_tasks, "do_sent", lambda _, task: real("0.0.0", task))
    with pytest.raises(
        FileError,
        match=rf"^a task failed on a worker: RuntimeError: the worker has atlas12288 "
        rf"{re.escape(atlas.__version__)}, must have 0\.0\.0$",
    ):
        atlas.Manifest.generate(folder, client=client)


@pytest.mark.parametrize(("threads", "raised"), [(0, ValueError), ("1", TypeError)])
def test_arguments_are_checked(
    client: Client, folder: Path, threads: int, raised: type[Exception]
) -> None:
    with pytest.raises(raised, match="threads"):
        cluster.hash_files(Folder(folder), [], DIGESTS, client=client, threads=threads)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:9",
        "nothing://x",
        "127.0.0.1:9",
        "",
        "localhost",
        "localhost:port",
        "tcp://localhost:99999",
        "tls://localhost:9",
        "ws://localhost:9",
        "inproc://x",
    ],
)
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_an_address_where_no_scheduler_is(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_S", 0.5)
    with (
        pytest.raises(FileError, match=f"^no scheduler of Dask answers at '{address}': "),
        cluster.connect(address),
    ):
        pytest.fail("connected")
    gc.collect()  # what is left of a client would wait, and then print a traceback


def test_without_distributed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install 'atlas12288\[dask\]'"), cluster.connect(""):
        pytest.fail("connected")
