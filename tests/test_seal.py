# SPDX-License-Identifier: Apache-2.0
"""Sealed commits: after `commit(seal=True)` nobody writes to the memory of a region.

Where a write would kill the process, the attempt is made in a process of its own.
"""

import ctypes
import fcntl
import gc
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.resource_sharer import DupFd
from pathlib import Path

import numpy as np
import pytest

import atlas12288 as atlas
from support.leftovers import nothing_left, open_files
from support.regions import region_of
from support.slow import slow_but
from support.strategies import noise

if sys.platform != "linux":
    pytest.skip("seals are Linux's; tests/c/regions.c has other systems", allow_module_level=True)

NBYTES = 3 * atlas.WINDOW_BYTES + 100
DATA = noise(NBYTES, 12288)
ALL_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def domain_of(region: atlas.Region) -> atlas.Domain:
    domain = atlas.Domain(bytes=region.size)
    domain.attach(region)
    return domain


def forked() -> tuple[int, int]:
    """Return a child that lives until the descriptor beside it is closed."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(there)
        os.read(here, 1)
        os._exit(0)
    os.close(here)
    return child, there


@pytest.fixture
def sealed() -> Iterator[atlas.Region]:
    with region_of(DATA) as region, domain_of(region) as domain:
        domain.commit(seal=True)
        yield region


def test_a_sealed_commit_has_the_witness_of_a_plain_one() -> None:
    with region_of(DATA) as plain, domain_of(plain) as domain:
        expected = domain.commit()
        whole = bytes(plain.whole)
    with region_of(DATA) as region, domain_of(region) as domain:
        witness = domain.commit(seal=True)
        assert (witness.length, witness.residue) == (expected.length, expected.residue)
        assert witness.hexdigest() == expected.hexdigest()
        assert region.sealed
        assert domain.state is atlas.State.COMMITTED
        assert domain.verify()
        assert witness.verify(region)
        assert bytes(region) == DATA
        assert bytes(region.whole) == whole


def test_the_memory_has_all_four_seals(sealed: atlas.Region) -> None:
    assert fcntl.fcntl(sealed.fileno(), fcntl.F_GET_SEALS) & ALL_SEALS == ALL_SEALS


def test_buffers_that_are_exported_after_the_seal_are_read_only(sealed: atlas.Region) -> None:
    assert memoryview(sealed).readonly
    assert not np.frombuffer(sealed, np.uint8).flags.writeable
    with pytest.raises(TypeError):
        ctypes.c_char.from_buffer(sealed)


def test_what_changes_a_region_is_refused_after_the_seal(sealed: atlas.Region) -> None:
    for change in (
        sealed.balance,
        lambda: atlas.conserved_fill(sealed, 1),
        lambda: atlas.conserved_copy(sealed, DATA),
    ):
        with pytest.raises((atlas.StateError, BufferError, TypeError), match=r"seal|read-only"):
            change()
    with domain_of(sealed) as domain, pytest.raises((atlas.StateError, BufferError)):
        domain.transaction().__enter__()
    assert bytes(sealed) == DATA


# --- The doors: each is refused by the system, or the process that tries it dies ---

DOORS = {
    "an array made before, whose export NumPy dropped": "early[0] = 120",
    "process_vm_writev": """
libc = ctypes.CDLL(None, use_errno=True)
source = ctypes.create_string_buffer(b'x')
ours = (ctypes.c_size_t * 2)(ctypes.addressof(source), 1)
theirs = (ctypes.c_size_t * 2)(address, 1)
written = libc.process_vm_writev(os.getpid(), ours, 1, theirs, 1, 0)
assert written == 1, os.strerror(ctypes.get_errno())
""",
    "memmove": "ctypes.memmove(address, b'x', 1)",
    "the balance": f"ctypes.memmove(address + {NBYTES}, b'x', 1)",
    "mprotect": """
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mprotect(ctypes.c_void_p(address), 4096, 3) == 0, os.strerror(ctypes.get_errno())
ctypes.memmove(address, b'x', 1)
""",
    "pwrite": "os.pwrite(region.fileno(), b'x', 0)",
    "write": "os.write(region.fileno(), b'x')",
    "ftruncate": "os.ftruncate(region.fileno(), 1)",
    "grow": "os.ftruncate(region.fileno(), region.size + 4096)",
    "fallocate": """
libc = ctypes.CDLL(None, use_errno=True)
hole = libc.fallocate(region.fileno(), 3, ctypes.c_long(0), ctypes.c_long(4096))
assert hole == 0, os.strerror(ctypes.get_errno())
""",
    "a second mapping": """
with mmap.mmap(region.fileno(), region.size) as again:
    again[0] = 120
""",
    "the file in /proc": """
with open(f'/proc/self/fd/{region.fileno()}', 'r+b', buffering=0) as again:
    again.write(b'x')
""",
    "a mapping of the file in /proc": """
with open(f'/proc/self/fd/{region.fileno()}', 'r+b') as file:
    with mmap.mmap(file.fileno(), region.size) as again:
        again[0] = 120
""",
    "/proc/self/mem": """
with open('/proc/self/mem', 'r+b', buffering=0) as memory:
    memory.seek(address)
    memory.write(b'x')
""",
    "madvise": """
libc = ctypes.CDLL(None, use_errno=True)
assert libc.madvise(ctypes.c_void_p(address), 4096, 9) == 0, os.strerror(ctypes.get_errno())
""",
    "unsealing": "fcntl.fcntl(region.fileno(), fcntl.F_ADD_SEALS, 0)",
    "a child": """
child = os.fork()
if child == 0:
    ctypes.memmove(address, b'x', 1)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
}

TRIED = """
import ctypes, fcntl, mmap, os, resource, sys
import numpy
import atlas12288 as atlas
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
region = atlas.Region({nbytes})
atlas.conserved_fill(region, 55)
held = ctypes.c_char.from_buffer(region)
address = ctypes.addressof(held)
early = numpy.ndarray({nbytes}, "u1", region)
del held
domain = atlas.Domain(bytes=region.size)
domain.attach(region)
witness = domain.commit(seal={seal})
other = atlas.Region.from_fd(os.dup(region.fileno())) if {seal} else region
print("ready", flush=True)
try:
    {door}
finally:
    print("same" if witness.verify(region) and witness.verify(other) else "other", flush=True)
"""


def attempt(door: str, *, seal: bool) -> tuple[int, str]:
    text = TRIED.format(nbytes=NBYTES, seal=seal, door=door.strip().replace("\n", "\n    "))
    program = [sys.executable, "-c", text]
    done = subprocess.run(program, check=False, capture_output=True, text=True)
    assert done.stdout.startswith("ready\n"), done.stderr
    return done.returncode, done.stdout.split("\n", 1)[1]


@pytest.mark.parametrize("door", DOORS)
def test_a_write_after_the_seal_is_refused(door: str) -> None:
    code, said = attempt(DOORS[door], seal=True)
    assert code != 0
    assert "other" not in said


@pytest.mark.parametrize(
    "door",
    [
        "an array made before, whose export NumPy dropped",
        "process_vm_writev",
        "memmove",
        "the balance",
        "a child",
        "/proc/self/mem",
    ],
)
def test_without_a_seal_the_same_write_succeeds_and_verify_sees_it(door: str) -> None:
    code, said = attempt(DOORS[door], seal=False)
    assert (code, said) == (0, "other\n")


# --- What stands in the way ---


def assert_nothing_happened(region: atlas.Region, domain: atlas.Domain) -> None:
    assert not region.sealed
    assert domain.state is atlas.State.OPEN
    assert bytes(region) == DATA
    view = memoryview(region)
    view[0] ^= 0xFF
    view[0] ^= 0xFF
    view.release()
    with domain.transaction():
        pass


@pytest.mark.parametrize("export", [memoryview, lambda r: np.frombuffer(r, np.float32, 4)])
def test_an_export_forbids_the_seal(export: object) -> None:
    with region_of(DATA) as region, domain_of(region) as domain:
        held = export(region)  # type: ignore[operator]
        with pytest.raises(atlas.StateError, match="1 writable view"):
            domain.commit(seal=True)
        del held
        gc.collect()
        assert_nothing_happened(region, domain)
        domain.commit(seal=True)


def test_an_open_transaction_forbids_the_seal() -> None:
    with region_of(DATA) as region, domain_of(region) as domain:
        with domain.transaction(), pytest.raises(atlas.StateError, match="transaction"):
            domain.commit(seal=True)
        assert_nothing_happened(region, domain)


def test_a_second_open_domain_forbids_the_seal() -> None:
    with region_of(DATA) as region, domain_of(region) as domain, domain_of(region) as other:
        with pytest.raises(atlas.StateError, match="another domain"):
            domain.commit(seal=True)
        assert_nothing_happened(region, domain)
        other.commit()
        assert other.verify()
        domain.commit(seal=True)
        assert other.verify()


def test_a_region_that_is_not_conserved_is_not_sealed() -> None:
    with region_of(DATA) as region, domain_of(region) as domain:
        with memoryview(region) as view:
            view[5] ^= 1
        with pytest.raises(atlas.ConservationError):
            domain.commit(seal=True)
        with memoryview(region) as view:
            view[5] ^= 1
        assert_nothing_happened(region, domain)


def test_only_a_region_can_be_sealed() -> None:
    with atlas.Domain(bytes=96) as domain:
        domain.attach(bytearray(96))
        with pytest.raises(atlas.StateError, match="Region"):
            domain.commit(seal=True)
        assert domain.state is atlas.State.OPEN
        domain.commit()


def test_nothing_attached_or_committed_already_forbids_the_seal() -> None:
    with atlas.Domain(bytes=96) as domain, pytest.raises(atlas.StateError, match="attached"):
        domain.commit(seal=True)
    with region_of(DATA) as region, domain_of(region) as domain:
        domain.commit()
        with pytest.raises(atlas.StateError, match="COMMITTED"):
            domain.commit(seal=True)
        assert not region.sealed


def test_a_child_that_has_the_memory_forbids_the_seal_until_it_ends() -> None:
    with region_of(DATA) as region, domain_of(region) as domain:
        child, there = forked()
        try:
            with pytest.raises(atlas.StateError, match="process"):
                domain.commit(seal=True)
            assert_nothing_happened(region, domain)
        finally:
            os.close(there)
            os.waitpid(child, 0)
        domain.commit(seal=True)


def test_a_child_reads_and_writes_the_memory_of_its_parent_until_the_seal() -> None:
    with region_of(bytes(96)) as region:
        child = os.fork()
        if child == 0:
            memoryview(region)[3] = 7
            os._exit(0)
        os.waitpid(child, 0)
        assert bytes(region)[3] == 7


def test_the_seal_argument_is_a_bool() -> None:
    with region_of(DATA) as region, domain_of(region) as domain:
        for value in (1, None, "yes"):
            with pytest.raises(TypeError, match="seal"):
                domain.commit(seal=value)  # type: ignore[arg-type]
        assert_nothing_happened(region, domain)


# --- Sharing ---


def test_another_region_of_the_descriptor_is_the_same_memory(sealed: atlas.Region) -> None:
    with atlas.Region.from_fd(sealed.fileno()) as same:
        assert same.sealed
        assert (same.nbytes, same.size) == (sealed.nbytes, sealed.size)
        assert bytes(same.whole) == bytes(sealed.whole)
        assert atlas.Witness.generate(sealed).verify(same)
        assert same.fileno() != sealed.fileno()
    assert bytes(sealed) == DATA


def test_a_region_outlives_the_one_that_it_came_from() -> None:
    with region_of(DATA) as region, domain_of(region) as domain:
        witness = domain.commit(seal=True)
        same = atlas.Region.from_fd(region.fileno())
    assert region.closed
    assert witness.verify(same)
    same.close()


def test_before_the_seal_there_is_no_descriptor() -> None:
    with region_of(DATA) as region, pytest.raises(atlas.StateError, match="seal"):
        region.fileno()


def memory_file(size: int, seals: int) -> int:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def descriptors(tmp_path: Path) -> dict[str, int]:
    plain = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(plain, 4096)
    closed = os.dup(plain)
    os.close(closed)
    return {
        "a pipe": os.pipe()[0],
        "a folder": os.open(tmp_path, os.O_RDONLY),
        "a file": plain,
        "a socket": socket.socketpair()[0].detach(),
        "unsealed": memory_file(4096, 0),
        "growing": memory_file(4096, ALL_SEALS & ~fcntl.F_SEAL_GROW),
        "shrinking": memory_file(4096, ALL_SEALS & ~fcntl.F_SEAL_SHRINK),
        "written": memory_file(4096, ALL_SEALS & ~fcntl.F_SEAL_WRITE),
        "seals to come": memory_file(4096, ALL_SEALS & ~fcntl.F_SEAL_SEAL),
        "no byte": memory_file(0, ALL_SEALS),
        "a balance alone": memory_file(1, ALL_SEALS),
        "closed": closed,
        "negative": -1,
    }


def test_a_descriptor_of_anything_else_is_refused(tmp_path: Path) -> None:
    given = descriptors(tmp_path)
    for name, fd in given.items():
        before = open_files()
        with nothing_left(), pytest.raises(atlas.StateError, match="fd"):
            atlas.Region.from_fd(fd)
        assert open_files().get(fd) == before.get(fd), name  # ours to close
    for fd in given.values():
        if fd in open_files():
            os.close(fd)


@pytest.mark.parametrize("fd", [True, None, 1.0, "1"])
def test_a_descriptor_is_an_int(fd: object) -> None:
    with pytest.raises(TypeError, match="fd"):
        atlas.Region.from_fd(fd)  # type: ignore[arg-type]


SHARED = """
import resource
import atlas12288 as atlas

region = atlas.Region(1 << 26)
domain = atlas.Domain(bytes=region.size)
domain.attach(region)
witness = domain.commit(seal=True)
resource.setrlimit(resource.RLIMIT_DATA, (1 << 25, 1 << 25))
same = atlas.Region.from_fd(region.fileno())
print(witness.verify(same))
"""


def test_what_is_shared_counts_as_no_memory_of_the_receiver() -> None:
    done = subprocess.run([sys.executable, "-c", SHARED], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"True\n", b"")


def _receive(connection: socket.socket, expected: bytes) -> None:
    _, fds, _, _ = socket.recv_fds(connection, 1, 1)
    with atlas.Region.from_fd(fds[0]) as region:
        os.close(fds[0])
        same = atlas.Witness.from_bytes(expected).verify(region)
    connection.send(b"y" if same else b"n")


def test_another_process_gets_the_memory_through_a_socket() -> None:
    with region_of(DATA) as region, domain_of(region) as domain:
        witness = domain.commit(seal=True)
        ours, theirs = socket.socketpair()
        spawn = multiprocessing.get_context("spawn")
        child = spawn.Process(target=_receive, args=(theirs, bytes(witness)))
        child.start()
        socket.send_fds(ours, [b"x"], [region.fileno()])
        assert ours.recv(1) == b"y"
        child.join()
        assert child.exitcode == 0


def _receive_handle(handle: DupFd, expected: bytes) -> None:
    fd = handle.detach()
    with atlas.Region.from_fd(fd) as region:
        os.close(fd)
        assert atlas.Witness.from_bytes(expected).verify(region)


def test_another_process_gets_the_memory_as_an_argument() -> None:
    with region_of(DATA) as region, domain_of(region) as domain:
        witness = domain.commit(seal=True)
        spawn = multiprocessing.get_context("spawn")
        arguments = DupFd(region.fileno()), bytes(witness)
        child = spawn.Process(target=_receive_handle, args=arguments)
        child.start()
        child.join()
        assert child.exitcode == 0


# --- Orders and threads; tests/c/seal.c has failures and kills ---


ACTS = ("export", "drop", "attach", "write", "seal", "seal", "leave", "fork")


@pytest.mark.parametrize("seed", slow_but([0], range(5)))
def test_any_order_of_calls_seals_or_leaves_all_as_it_was(seed: int) -> None:
    """1,000 random orders of export, attach, write, seal, close and fork, against a model."""
    draw = random.Random(seed)
    for _ in range(200):
        data = bytearray(noise(200, draw.randrange(1 << 30)))
        region = atlas.Region(len(data))
        atlas.conserved_copy(region, data)
        views: list[memoryview] = []
        domains: list[atlas.Domain] = []
        children: list[tuple[int, int]] = []
        witness = None
        for _ in range(draw.randrange(3, 12)):
            act = draw.choice(ACTS)
            if act == "export":
                view = memoryview(region)
                assert view.readonly is (witness is not None)
                views.append(view)
            elif act == "drop" and views:
                views.pop(draw.randrange(len(views))).release()
            elif act == "attach":
                domains.append(domain_of(region))
            elif act == "leave" and domains:
                domains.pop(draw.randrange(len(domains))).close()
            elif act == "write" and witness is None:
                at, value = draw.randrange(len(data)), draw.randrange(256)
                with memoryview(region) as view:
                    view[at] = value
                region.balance()
                data[at] = value
            elif act == "fork" and not children and draw.random() < 0.1:
                children.append(forked())
            elif act == "seal" and domains:
                domain = draw.choice(domains)
                others = [d for d in domains if d is not domain and d.state is atlas.State.OPEN]
                if domain.state is atlas.State.COMMITTED or (
                    witness is None and (views or others or children)
                ):
                    with pytest.raises(atlas.StateError):
                        domain.commit(seal=True)
                else:
                    found = domain.commit(seal=True)
                    assert witness is None or found.hexdigest() == witness.hexdigest()
                    witness = found
            assert region.sealed is (witness is not None)
            assert bytes(region) == data
        for child, there in children:
            os.close(there)
            os.waitpid(child, 0)
        for domain in domains:
            domain.close()
        for view in views:
            view.release()
        region.close()


def test_of_racing_seals_exactly_one_commits() -> None:
    for _ in range(30):
        with region_of(DATA) as region, domain_of(region) as domain:
            barrier = threading.Barrier(4)
            done: list[object] = []

            def seal(
                barrier: threading.Barrier = barrier,
                domain: atlas.Domain = domain,
                done: list[object] = done,
            ) -> None:
                barrier.wait()
                try:
                    done.append(domain.commit(seal=True))
                except atlas.StateError as error:
                    done.append(error)

            threads = [threading.Thread(target=seal) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sum(isinstance(each, atlas.Witness) for each in done) == 1
            assert region.sealed


def test_readers_read_on_while_the_region_is_sealed() -> None:
    stop = threading.Event()
    with region_of(noise(4 << 20, 5)) as region, domain_of(region) as domain:
        expected = atlas.Witness.generate(region)
        wrong: list[bool] = []

        def read() -> None:
            while not stop.is_set():
                if not expected.verify(region):
                    wrong.append(True)

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            domain.commit(seal=True)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not wrong
