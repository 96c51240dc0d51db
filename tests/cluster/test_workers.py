# SPDX-License-Identifier: Apache-2.0
"""Machines as processes, which are ended during the run."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

import atlas12288 as atlas
from atlas12288._files import FileError
from atlas12288.manifest._entries import DIGESTS
from atlas12288.manifest._hashing import cluster, cluster_tasks, engine
from atlas12288.manifest._hashing.cluster import STRETCH_BYTES
from atlas12288.manifest._hashing.file_hash import Digests
from atlas12288.manifest._sources.folder import Folder
from atlas12288.manifest._sources.selection import Selection
from atlas12288.manifest._sources.source import Found
from support.strategies import noise

CHOICES = (DIGESTS, DIGESTS[:1], DIGESTS[1:])
SMALL = 2000
LARGE_BYTES = 5 * STRETCH_BYTES + 12345


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "many").mkdir()
    for index in range(SMALL):
        (folder / "many" / str(index)).write_bytes(noise(index))
    with (folder / "large").open("wb") as file:
        for at in range(7):  # the rest is sparse
            file.seek(at * LARGE_BYTES // 7)
            file.write(noise(1 << 20))
        file.truncate(LARGE_BYTES)
    return folder


@pytest.fixture(scope="module")
def founds(folder: Path) -> list[Found]:
    found = list(Folder(folder).list(Selection(), lambda *problem: pytest.fail(str(problem))))
    return sorted(found, key=lambda found: -found.size)


@pytest.fixture(scope="module")
def expected(folder: Path, founds: list[Found]) -> dict[bytes, Digests | FileError]:
    return results(engine.hash_files(Folder(folder), founds, DIGESTS))


@pytest.fixture(scope="module")
def leaves(folder: Path, founds: list[Found]) -> bytes:
    found = bytearray()
    for _ in engine.hash_files(
        Folder(folder), founds[:1], DIGESTS[1:], leaves=lambda _: found.extend
    ):
        pass
    return bytes(found)


def results(
    found: Iterator[tuple[Found, Digests | FileError]],
) -> dict[bytes, Digests | FileError]:
    return {found.path: result for found, result in found}


def of(
    expected: dict[bytes, Digests | FileError], digests: tuple[str, ...]
) -> dict[bytes, Digests | FileError]:
    wanted = {}
    for path, result in expected.items():
        assert isinstance(result, Digests)
        flat, tree = (name in digests for name in DIGESTS)
        wanted[path] = Digests(
            result.residue, result.sha256 if flat else None, result.root if tree else None
        )
    return wanted


# A worker whose machine has not this package.
_WITHOUT = """
import sys
sys.modules["atlas12288"] = None
from distributed.cli.dask_worker import main
main()
"""


@pytest.mark.parametrize("with_package", [0, 1])
def test_a_worker_without_the_package_is_one_error_and_goes_on(
    folder: Path, with_package: int
) -> None:
    with (
        LocalCluster(
            n_workers=with_package, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as machines,
        Client(machines, set_as_default=False) as client,
    ):
        address = machines.scheduler_address
        command = (sys.executable, "-c", _WITHOUT, address, "--no-dashboard", "--no-nanny")
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            client.wait_for_workers(with_package + 1, timeout=60)
            reason = ""
            try:
                atlas.Manifest.generate(folder / "many", client=client)
            except FileError as error:
                reason = str(error)
            # What failed there may have been done again by the other.
            expected = f"a worker has no atlas12288, must have {atlas.__version__} ("
            assert reason.startswith(expected) or (with_package and not reason)
            assert worker.poll() is None
        finally:
            worker.terminate()
            worker.wait()


@pytest.fixture
def machines() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as machines:
        yield machines


@pytest.mark.parametrize("digests", CHOICES)
def test_processes_give_the_digests_of_one_machine(
    machines: LocalCluster,
    folder: Path,
    founds: list[Found],
    expected: dict[bytes, Digests | FileError],
    leaves: bytes,
    digests: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Not the path from here: the workers are in other folders.
    monkeypatch.chdir(folder.parent)
    source = Folder(folder.name)
    kept = bytearray()
    sinks = {b"large": kept.extend}
    with cluster.connect(machines.scheduler_address) as client:
        found = cluster.hash_files(
            source, iter(founds), digests, client=client, leaves=lambda found: sinks.get(found.path)
        )
        assert results(found) == of(expected, digests)
    assert kept == (leaves if digests != DIGESTS[:1] else b"")


def workers(client: Client) -> list[int]:
    """The processes of the workers that answer; one that was killed is not there yet again."""
    while True:
        answers = client.run(os.getpid, on_error="ignore").values()
        if pids := [pid for pid in answers if isinstance(pid, int)]:
            return pids
        time.sleep(0.05)


@pytest.mark.parametrize("digests", CHOICES)
def test_workers_that_are_killed_during_the_run_change_nothing(
    machines: LocalCluster,
    folder: Path,
    founds: list[Found],
    expected: dict[bytes, Digests | FileError],
    leaves: bytes,
    digests: tuple[str, ...],
) -> None:
    kept = bytearray()
    sinks = {b"large": kept.extend}
    killed = 0
    counts: list[int] = []
    with cluster.connect(machines.scheduler_address) as client:

        def advance(count: int) -> None:
            nonlocal killed
            counts.append(count)
            # Nannies start others in their place.
            if count >= STRETCH_BYTES and killed < 3:
                pids = workers(client)
                os.kill(pids[killed % len(pids)], signal.SIGKILL)
                killed += 1

        found = cluster.hash_files(
            Folder(folder),
            iter(founds),
            digests,
            client=client,
            leaves=lambda found: sinks.get(found.path),
            advance=advance,
        )
        assert results(found) == of(expected, digests)
    assert killed == 3
    assert sum(counts) == sum(found.size for found in founds)
    assert kept == (leaves if digests != DIGESTS[:1] else b"")


def test_a_manifest_is_the_same_bytes_while_workers_are_killed(
    machines: LocalCluster, folder: Path, tmp_path: Path
) -> None:
    """With its leaves, and a state, which has how far large files were read."""
    here, there = tmp_path / "here", tmp_path / "there"
    for place in here, there:
        place.mkdir()
    killed = 0
    with cluster.connect(machines.scheduler_address) as client:

        def advance(count: int) -> None:
            nonlocal killed
            if count >= STRETCH_BYTES and killed < 3:
                pids = workers(client)
                os.kill(pids[killed % len(pids)], signal.SIGKILL)
                killed += 1

        for place, options in ((here, {}), (there, {"client": client, "advance": advance})):
            atlas.Manifest.generate(
                folder,
                tree=True,
                output=place / "m.atlas.json",
                leaves=place / "m.atlas.leaves",
                state=place / "m.atlas.state",
                **options,  # type: ignore[arg-type]
            )
    assert killed == 3
    for name in "m.atlas.json", "m.atlas.leaves":
        assert (there / name).read_bytes() == (here / name).read_bytes()
    read: list[int] = []
    manifest = atlas.Manifest.generate(
        folder,
        tree=True,
        output=there / "m.atlas.json",
        leaves=there / "m.atlas.leaves",
        state=there / "m.atlas.state",
        update=True,
        advance=read.append,
    )
    assert sum(read) == 0
    assert manifest.verify(folder, leaves=there / "m.atlas.leaves")


def slow(task: cluster_tasks.Task) -> cluster_tasks.TaskResult:
    time.sleep(0.3)
    return cluster_tasks.do_task(task)


def test_a_scheduler_that_is_gone_is_one_error(folder: Path, founds: list[Found]) -> None:
    machines = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    try:
        with cluster.connect(machines.scheduler_address) as client:
            found = cluster.hash_files(
                Folder(folder), iter(founds[1:]), DIGESTS[:1], client=client, work=slow
            )
            next(found)
            closing = threading.Thread(target=machines.close)
            closing.start()
            with pytest.raises(FileError, match=r"^the scheduler at tcp://.* is gone: "):
                list(found)
            closing.join()
    finally:
        machines.close()


def ends(task: cluster_tasks.Task) -> cluster_tasks.TaskResult:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def test_files_on_which_every_worker_ends_are_named(
    machines: LocalCluster, folder: Path, founds: list[Found]
) -> None:
    with cluster.connect(machines.scheduler_address) as client:
        found = cluster.hash_files(
            Folder(folder), founds[1:4], DIGESTS[:1], client=client, work=ends
        )
        errors = results(found)
    assert len(errors) == 3
    assert {str(error) for error in errors.values()} == {
        "is not read: the workers that tried ended"
    }
