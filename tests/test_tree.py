# SPDX-License-Identifier: Apache-2.0
"""Tree witnesses from Python: roots, verdicts, changed windows, updates, streams, threads, JSON."""

import copy
import hashlib
import hmac
import io
import json
import os
import pickle
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
from atlas12288._gpu.jobs import TreeParts
from support import model, rfc9162, strategies
from support.guarded import Guarded, repeated, run_in_child
from support.leftovers import nothing_left
from support.model import WINDOW_BYTES
from support.threads import in_threads

ROOT = Path(__file__).parent.parent
# Around a window, around the lanes of every kernel set, around a block of 256 windows.
LENGTHS = (
    *(0, 1, 12287, 12288, 12289, 2 * 12288),
    *(17 * 12288 - 1, 31 * 12288, 64 * 12288 + 1, 255 * 12288, 256 * 12288, 257 * 12288 + 7),
)
DATA = strategies.noise(3 * WINDOW_BYTES + 5)
EMPTY_ROOT = hashlib.sha256(b"").digest()
THREE_BLOCKS = 600 * WINDOW_BYTES + 1


def windows_of(data: bytes | bytearray) -> tuple[bytes, ...]:
    starts = range(0, len(data), WINDOW_BYTES)
    return tuple(bytes(data[start : start + WINDOW_BYTES]) for start in starts)


def check(witness: atlas.TreeWitness, data: bytes | bytearray) -> None:
    """All fields and leaves are those of the data, by the RFC's definition."""
    windows = windows_of(data)
    assert witness.algorithm == "sha256-merkle-12288"
    assert witness.length == len(data)
    assert witness.windows == len(windows)
    assert witness.residue == model.residue(data)
    assert witness.root == witness.digest == rfc9162.mth(windows)
    assert witness.hexdigest() == witness.root.hex()
    assert witness.leaves == b"".join(rfc9162.mth((window,)) for window in windows)


# --- Roots ---


@pytest.mark.parametrize("length", LENGTHS)
def test_the_root_is_the_merkle_tree_hash_with_every_kernel_set(
    length: int, kernel_set: str
) -> None:
    data = strategies.noise(length)
    check(atlas.TreeWitness.generate(data), data)
    assert atlas.TreeHash(data).digest() == rfc9162.mth(windows_of(data))


@pytest.mark.parametrize("length", LENGTHS)
def test_a_small_region_is_witnessed_as_a_block_of_a_large_one(length: int) -> None:
    data = strategies.noise(length)
    at_once = atlas.TreeWitness.generate(data, threads=1)
    in_blocks = atlas.TreeWitness.generate_from(io.BytesIO(data), threads=1)
    fields, its = at_once.__reduce__()[1][1], in_blocks.__reduce__()[1][1]
    assert pickle.dumps(fields["_tree"]) == pickle.dumps(its["_tree"])
    for field in ("children", "hashes", "residue", "residues", "root", "span"):
        if length <= 256 * WINDOW_BYTES:
            assert getattr(fields["_tree"], field) == getattr(its["_tree"], field)
    assert at_once.differences(in_blocks) == ()
    assert atlas.TreeWitness.generate(data, leaves=False).leaves is None
    assert atlas.TreeWitness.generate(data, wait=False).result().differences(at_once) == ()
    with pytest.raises(ValueError, match="threads is 0, must be at least 1"):
        atlas.TreeWitness.generate(data, threads=0)


@given(strategies.aligned_buffers(most=20 * WINDOW_BYTES))
def test_the_root_does_not_depend_on_the_alignment(data: memoryview) -> None:
    check(atlas.TreeWitness.generate(data), bytes(data))


def test_a_tree_of_three_levels() -> None:
    # 65,537 windows and a bit, all alike, so that the reference has little to hash.
    length = 65_537 * WINDOW_BYTES + 9
    with repeated(bytes(1 << 20), length) as region:
        witness = atlas.TreeWitness.generate(region)
        windows = (bytes(WINDOW_BYTES),) * 65_537 + (bytes(9),)
        assert witness.root == rfc9162.mth(windows)
        assert witness.length == length
        proof = witness.prove(65_537)
        assert proof.path == rfc9162.path(65_537, windows)
        assert proof.verify(bytes(9), witness.root)
        assert witness.update(region, [0, 40_000, 65_537]).differences(witness) == ()
        shorter = witness.update(region[: 65_000 * WINDOW_BYTES], [])
        assert shorter.root == rfc9162.mth(windows[:65_000])
        assert shorter.update(region, []).differences(witness) == ()
        assert witness.update(b"", []).root == EMPTY_ROOT


def test_no_byte_beside_the_region_is_read(kernel_set: str) -> None:
    guarded = Guarded(40 * WINDOW_BYTES)

    def work() -> None:
        for length in (1, 63, 64, 12287, 12288, 12289, 17 * 12288 + 1, 40 * 12288):
            for region in guarded.both(length):
                check(atlas.TreeWitness.generate(region), bytes(length))
                assert atlas.TreeHash(region).digest() == rfc9162.mth(windows_of(bytes(length)))

    run_in_child(work)


# --- Threads ---


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 64, None])
@pytest.mark.parametrize("leaves", [True, False])
@pytest.mark.parametrize("length", [0, 5, WINDOW_BYTES, THREE_BLOCKS])
def test_the_witness_is_the_same_with_any_number_of_threads(
    length: int, leaves: bool, threads: int | None
) -> None:
    data = strategies.noise(length)
    witness = atlas.TreeWitness.generate(data, threads=threads, leaves=leaves)
    assert (witness.leaves is not None) is leaves
    assert witness.verify(data, threads=threads)
    check(witness if leaves else witness.with_leaves(leaves_of(data)), data)
    read = atlas.TreeWitness.generate_from(io.BytesIO(data), threads=threads, leaves=leaves)
    assert read.differences(witness) == ()
    assert read.leaves == witness.leaves


def leaves_of(data: bytes) -> bytes:
    return b"".join(rfc9162.mth((window,)) for window in windows_of(data))


@pytest.mark.parametrize(
    ("threads", "error", "message"),
    [
        (0, ValueError, "threads is 0, must be at least 1"),
        (-3, ValueError, "threads is -3, must be at least 1"),
        (True, TypeError, "threads is of type bool, must be an int"),
        (1.0, TypeError, "threads is of type float, must be an int"),
    ],
)
def test_wrong_threads_are_refused(threads: int, error: type[Exception], message: str) -> None:
    witness = atlas.TreeWitness.generate(DATA)
    for call in (
        lambda: atlas.TreeWitness.generate(DATA, threads=threads),
        lambda: atlas.TreeWitness.generate_from(io.BytesIO(DATA), threads=threads),
        lambda: witness.verify(DATA, threads=threads),
        lambda: witness.changed(DATA, threads=threads),
        lambda: witness.update(DATA, [0], threads=threads),
    ):
        with pytest.raises(error, match=f"^{message}$"):
            call()


def test_one_thread_or_little_work_starts_none() -> None:
    program = (
        "import sys, threading, atlas12288 as atlas\n"
        "threading.Thread.start = None\n"
        "data = bytes(20 << 20)\n"
        "assert atlas.TreeWitness.generate(data, threads=1).verify(data, threads=1)\n"
        "atlas.TreeWitness.generate(bytes(3 << 20), threads=8)\n"
        "print('concurrent' in sys.modules)\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, check=True, text=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_ends_the_work_and_its_threads(threads: int) -> None:
    with repeated(bytes(1 << 20), 16 << 30) as region, nothing_left():  # seconds of work
        handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                atlas.TreeWitness.generate(region, threads=threads, leaves=False)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)


def test_a_forked_process_can_use_threads_too() -> None:
    data = strategies.noise(THREE_BLOCKS)
    root = atlas.TreeWitness.generate(data, threads=2).root

    def work() -> None:
        assert atlas.TreeWitness.generate(data, threads=2).root == root

    run_in_child(work)


def test_a_buffer_stays_exported_during_the_work_only() -> None:
    buffer = bytearray(THREE_BLOCKS)
    witness = atlas.TreeWitness.generate(buffer, threads=2)
    witness.verify(buffer, threads=2)
    witness.update(buffer, witness.changed(buffer, threads=2))
    witness.prove(0).verify(memoryview(buffer)[:WINDOW_BYTES], witness.root)
    buffer.append(0)


# --- Files ---


class Slow(io.RawIOBase):
    """A file that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self._choice = random.Random(1)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._data.readinto(buffer[: self._choice.randrange(1, 200_000)])


def test_a_file_may_give_any_number_of_bytes_at_a_time() -> None:
    data = strategies.noise(THREE_BLOCKS)
    read = atlas.TreeWitness.generate_from(Slow(data), threads=2)
    assert read.verify(data)
    assert read.changed(data) == []


def test_a_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        file.seek(5)
        assert atlas.TreeWitness.generate_from(file).verify(DATA[5:])
        assert atlas.TreeWitness.generate_from(file).length == 0


def test_a_file_that_does_not_block_is_refused() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with io.FileIO(reader) as file, pytest.raises(BlockingIOError):
        atlas.TreeWitness.generate_from(file)
    os.close(writer)


def test_an_error_of_the_file_is_raised() -> None:
    class Broken(Slow):
        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            if self._data.tell() > 400 * WINDOW_BYTES:
                raise OSError("broken")
            return super().readinto(buffer)

    with nothing_left(), pytest.raises(OSError, match="broken"):
        atlas.TreeWitness.generate_from(Broken(bytes(THREE_BLOCKS)), threads=4)


@pytest.mark.slow
def test_a_large_file_takes_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 29)
    program = (
        "import resource, sys, atlas12288 as atlas\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "with open(sys.argv[1], 'rb', buffering=0) as file:\n"
        "    witness = atlas.TreeWitness.generate_from(file, threads=64)\n"
        "print(witness.length, peak() - before)\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", program, path), capture_output=True, check=True, text=True
    )
    length, kib = map(int, done.stdout.split())
    assert length == 1 << 29
    assert kib < 64 * 1024


# --- Verdicts ---


@given(strategies.buffers(most=4 * WINDOW_BYTES).filter(len), st.data())
def test_verify_holds_for_the_same_bytes_only(data: bytes, choice: st.DataObject) -> None:
    witness = atlas.TreeWitness.generate(data)
    stored = atlas.TreeWitness.from_json(witness.to_json())
    assert stored.leaves is None
    changed = bytearray(data)
    changed[choice.draw(st.integers(0, len(data) - 1))] ^= choice.draw(st.integers(1, 255))
    for each in (witness, stored):
        assert each.verify(bytearray(data))
        assert not each.verify(changed)
        assert not each.verify(data[:-1])
        assert not each.verify(data + b"\0")


@pytest.mark.parametrize("key", ["length", "residue", "digest"])
def test_verify_fails_when_one_field_is_another(key: str) -> None:
    fields = json.loads(atlas.TreeWitness.generate(DATA).to_json())
    fields[key] = {"length": 5, "residue": (fields["residue"] + 1) % 96, "digest": "ab" * 32}[key]
    assert not atlas.TreeWitness.from_json(json.dumps(fields)).verify(DATA)


def test_differences_names_the_fields_that_differ() -> None:
    witness = atlas.TreeWitness.generate(DATA)
    assert witness.differences(atlas.TreeWitness.generate(DATA)) == ()
    swapped = DATA[1::-1] + DATA[2:]
    assert witness.differences(atlas.TreeWitness.generate(swapped)) == ("digest",)
    with pytest.raises(ValueError, match="algorithm of other is sha256, must be sha256-merkle"):
        witness.differences(atlas.Witness.generate(DATA))


# --- Changed windows ---


def flip(data: bytearray, windows: set[int], choice: random.Random) -> None:
    for window in windows:
        end = min(len(data), (window + 1) * WINDOW_BYTES)
        data[choice.randrange(window * WINDOW_BYTES, end)] ^= choice.randrange(1, 256)


@st.composite
def changes(draw: st.DrawFn) -> tuple[bytes, bytes, list[int]]:
    """A region, another one, and the windows in which they differ; the length may differ too."""
    # Long ones too, so that there are several blocks.
    length = draw(st.integers(0, 6 * WINDOW_BYTES) | st.integers(250, 530).map(lambda n: n * 12288))
    before = strategies.noise(length, draw(st.integers(0, 3)))
    after = bytearray(before)
    kept = length
    if draw(st.booleans()):
        kept = draw(st.integers(0, length))
        after = after[:kept] + strategies.noise(draw(st.integers(0, 3 * WINDOW_BYTES)), 9)
    both = min(kept, len(after)) // WINDOW_BYTES
    flipped = draw(st.sets(st.integers(0, both - 1), max_size=9)) if both else set()
    flip(after, flipped, random.Random(draw(st.integers(0, 9))))
    old, new = windows_of(before), windows_of(after)
    count = max(len(old), len(new))
    return before, bytes(after), [i for i in range(count) if old[i : i + 1] != new[i : i + 1]]


@given(changes())
def test_changed_finds_exactly_the_windows_that_differ(
    change: tuple[bytes, bytes, list[int]],
) -> None:
    before, after, windows = change
    one, two = atlas.TreeWitness.generate(before), atlas.TreeWitness.generate(after)
    assert one.changed(after) == two.changed(before) == windows
    assert one.changed_windows(two) == two.changed_windows(one) == windows
    assert one.verify(after) == (not windows)


@given(st.sets(st.integers(0, 5)), st.integers(5 * WINDOW_BYTES + 1, 6 * WINDOW_BYTES))
def test_changed_finds_every_pattern_of_flipped_windows(windows: set[int], length: int) -> None:
    data = bytearray(strategies.noise(length))
    witness = atlas.TreeWitness.generate(data)
    flip(data, windows, random.Random(length))
    assert witness.changed(data) == sorted(windows)


def test_a_last_window_of_another_length_is_changed() -> None:
    witness = atlas.TreeWitness.generate(bytes(WINDOW_BYTES + 7))
    assert witness.changed(bytes(WINDOW_BYTES + 8)) == [1]
    assert witness.changed(bytes(WINDOW_BYTES)) == [1]
    assert witness.changed(bytes(7)) == [0, 1]
    assert witness.changed(b"") == [0, 1]
    assert witness.changed(bytes(3 * WINDOW_BYTES)) == [1, 2]


@pytest.mark.parametrize(
    "call",
    [
        lambda witness: witness.changed(DATA),
        lambda witness: witness.changed_windows(atlas.TreeWitness.generate(DATA)),
        lambda witness: atlas.TreeWitness.generate(DATA).changed_windows(witness),
        lambda witness: witness.update(DATA, [0]),
        lambda witness: witness.prove(0),
        lambda witness: witness.prove_consistency(1),
    ],
)
@pytest.mark.parametrize("stored", [False, True])
def test_what_needs_leaves_says_so(call, stored: bool) -> None:  # type: ignore[no-untyped-def]
    witness = atlas.TreeWitness.generate(DATA, leaves=False)
    if stored:
        witness = atlas.TreeWitness.from_json(witness.to_json())
    with pytest.raises(atlas.StateError, match=r"has no leaves, must have them for \w+\(\)"):
        call(witness)


# --- Updates ---


@given(changes(), st.booleans(), st.data())
def test_update_is_generate_afresh_and_leaves_the_old_witness_as_it_was(
    change: tuple[bytes, bytes, list[int]], stored: bool, choice: st.DataObject
) -> None:
    before, after, windows = change
    old = atlas.TreeWitness.generate(before)
    if stored:  # leaves from a sidecar, which does not hold the residues
        old = atlas.TreeWitness.from_json(old.to_json()).with_leaves(old.leaves or b"")
    text, leaves = old.to_json(), old.leaves
    named = choice.draw(st.permutations(windows + windows[:2])) if len(windows) < 50 else windows
    new = old.update(after, named)
    fresh = atlas.TreeWitness.generate(after)
    assert new.differences(fresh) == ()
    assert new.leaves == fresh.leaves
    assert (old.to_json(), old.leaves) == (text, leaves)
    assert new.update(before, windows).differences(old) == ()
    assert new.changed_windows(old) == windows


@given(changes())
def test_update_needs_no_names_for_what_the_length_tells(
    change: tuple[bytes, bytes, list[int]],
) -> None:
    before, after, windows = change
    same = 0 if len(before) == len(after) else min(len(before), len(after)) // WINDOW_BYTES
    named = windows if same == 0 else [window for window in windows if window < same]
    new = atlas.TreeWitness.generate(before).update(after, named)
    assert new.differences(atlas.TreeWitness.generate(after)) == ()


def test_update_reads_the_named_windows_only() -> None:
    data = bytearray(5 * WINDOW_BYTES)
    witness = atlas.TreeWitness.generate(data)
    data[0] = data[2 * WINDOW_BYTES] = 1
    assert witness.update(data, [2]).changed(data) == [0]


def test_many_updates_one_after_another() -> None:
    choice = random.Random(3)
    data = bytearray(strategies.noise(300 * WINDOW_BYTES))
    witness = atlas.TreeWitness.generate(data)
    kept = []
    for _ in range(50):
        windows = {choice.randrange(300) for _ in range(3)}
        flip(data, windows, choice)
        witness = witness.update(data, windows)
        kept.append((witness, atlas.TreeWitness.generate(data)))
    for updated, fresh in kept:
        assert updated.differences(fresh) == ()
        assert updated.leaves == fresh.leaves


def test_update_of_many_windows_uses_threads() -> None:
    data = bytearray(strategies.noise(THREE_BLOCKS))
    witness = atlas.TreeWitness.generate(bytes(len(data)))
    for threads in (1, 2, 5):
        assert witness.update(data, range(601), threads=threads).verify(data)


@pytest.mark.parametrize(
    ("windows", "error", "message"),
    [
        ([4], ValueError, r"window is 4, must be in 0\.\.3"),
        ([0, -1], ValueError, r"window is -1, must be in 0\.\.3"),
        ([10**5000], ValueError, r"window is an int of 16610 bits, must be in 0\.\.3"),
        ([True], TypeError, "window is of type bool, must be an int"),
        (["0"], TypeError, "window is of type str, must be an int"),
    ],
)
def test_update_refuses_what_is_no_window(
    windows: list[int], error: type[Exception], message: str
) -> None:
    witness = atlas.TreeWitness.generate(DATA)
    with pytest.raises(error, match=f"^{message}$"):
        witness.update(DATA, windows)
    with pytest.raises(error, match=message.replace("3", "3")):
        witness.update(DATA[:1], windows)


def test_update_refuses_a_window_of_nothing() -> None:
    with pytest.raises(ValueError, match="region is empty"):
        atlas.TreeWitness.generate(b"").update(b"", [0])


# --- A value ---


@pytest.mark.parametrize(
    "name", ["length", "residue", "root", "digest", "timestamp_ns", "leaves", "_tree", "note"]
)
def test_no_attribute_of_a_witness_can_be_set_or_deleted(name: str) -> None:
    witness = atlas.TreeWitness.generate(DATA)
    before = witness.to_json()
    with pytest.raises(AttributeError, match=f"TreeWitness is immutable, {name} cannot be set"):
        setattr(witness, name, 0)
    with pytest.raises(AttributeError, match=f"TreeWitness is immutable, {name} cannot be deleted"):
        delattr(witness, name)
    assert witness.to_json() == before


def test_witnesses_are_equal_when_all_fields_are() -> None:
    witness = atlas.TreeWitness.generate(DATA)
    stored = atlas.TreeWitness.from_json(witness.to_json())
    assert witness == stored
    assert hash(witness) == hash(stored)
    text = witness.to_json().replace(witness.timestamp, "2025-01-31T12:00:00.000000000Z")
    assert witness != atlas.TreeWitness.from_json(text)
    assert witness != witness.root
    assert witness != atlas.Witness.generate(DATA)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("leaves", [True, False])
def test_a_witness_can_be_pickled_with_its_leaves(protocol: int, leaves: bool) -> None:
    witness = atlas.TreeWitness.generate(DATA, leaves=leaves)
    again = pickle.loads(pickle.dumps(witness, protocol))
    assert again == witness
    assert again.leaves == witness.leaves
    assert type(again) is atlas.TreeWitness


def test_a_witness_can_be_copied() -> None:
    witness = atlas.TreeWitness.generate(DATA)
    assert copy.copy(witness) == copy.deepcopy(witness) == witness


def test_a_subclass_makes_witnesses_of_the_subclass() -> None:
    class Signed(atlas.TreeWitness):
        pass

    witness = Signed.generate(DATA)
    assert type(witness) is Signed
    assert type(witness.update(DATA, [0])) is Signed
    assert type(Signed.from_json(witness.to_json()).with_leaves(witness.leaves or b"")) is Signed


def test_a_witness_is_not_made_by_its_class() -> None:
    with pytest.raises(TypeError, match=r"TreeWitness\.generate\(\)"):
        atlas.TreeWitness()  # type: ignore[call-arg]


def test_repr_tells_what_is_witnessed() -> None:
    witness = atlas.TreeWitness.from_json(json.dumps(FIELDS))
    assert repr(witness) == (
        f"<TreeWitness sha256-merkle-12288 {FIELDS['digest']} "
        "length 3 residue 6 at 2025-01-31T12:00:00.000000007Z>"
    )


# --- Sidecars ---


@pytest.mark.parametrize("length", LENGTHS)
def test_leaves_from_a_sidecar_make_the_witness_whole(length: int) -> None:
    data = strategies.noise(length)
    witness = atlas.TreeWitness.generate(data)
    sidecar = witness.leaves
    assert sidecar is not None
    whole = atlas.TreeWitness.from_json(witness.to_json()).with_leaves(bytearray(sidecar))
    assert whole == witness
    check(whole, data)
    assert whole.changed(data) == []


def test_leaves_that_are_not_those_of_the_witness_are_refused() -> None:
    witness = atlas.TreeWitness.generate(DATA)
    leaves = witness.leaves or b""
    for wrong in (b"", leaves[:-32], leaves[:-1], leaves + leaves[:32]):
        with pytest.raises(atlas.WitnessError, match=r"bytes, must have 128, 32 for each of 4"):
            witness.with_leaves(wrong)
    for at in range(len(leaves)):
        wrong = leaves[:at] + bytes([leaves[at] ^ 1]) + leaves[at + 1 :]
        with pytest.raises(atlas.WitnessError, match="must have the witness's root"):
            witness.with_leaves(wrong)
    with pytest.raises(TypeError, match="buf is of type str"):
        witness.with_leaves("0" * 128)  # type: ignore[arg-type]


# --- Streams ---


@given(strategies.splits(most=5 * WINDOW_BYTES))
def test_a_tree_hash_takes_chunks_of_any_size(chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    stream = atlas.TreeHash()
    for chunk in chunks:
        stream.update(chunk)
    assert stream.digest() == rfc9162.mth(windows_of(data))
    assert (stream.length, stream.residue) == (len(data), model.residue(data))
    witness = stream.witness()
    assert witness.leaves is None
    assert witness.differences(atlas.TreeWitness.generate(data)) == ()


@pytest.mark.parametrize("size", [1000, 12287, 12288, 12289, 262_144, 1 << 20])
def test_a_tree_hash_takes_chunks_of_one_size(size: int) -> None:
    data = strategies.noise(THREE_BLOCKS)
    stream = atlas.TreeHash()
    for start in range(0, len(data), size):
        stream.update(data[start : start + size])
    assert stream.witness().verify(data)


def test_a_tree_hash_has_the_protocol_of_hashlib() -> None:
    stream, sha = atlas.TreeHash(), hashlib.sha256()
    members = {name for name in dir(sha) if not name.startswith("_")}
    assert members <= set(dir(stream))
    assert stream.name == "sha256-merkle-12288"
    assert (stream.digest_size, stream.block_size) == (32, 12288)
    assert stream.digest() == EMPTY_ROOT
    assert stream.hexdigest() == EMPTY_ROOT.hex()
    assert stream.update(DATA) is None  # type: ignore[func-returns-value]
    assert atlas.TreeHash(DATA).digest() == stream.digest()
    assert repr(stream) == f"<TreeHash {stream.hexdigest()} of {len(DATA)} bytes>"


def test_file_digest_takes_a_tree_hash(tmp_path: Path) -> None:
    data = strategies.noise(THREE_BLOCKS)
    path = tmp_path / "file"
    path.write_bytes(data)
    for buffering in (0, -1):
        with path.open("rb", buffering=buffering) as file:
            stream = hashlib.file_digest(file, atlas.TreeHash)  # type: ignore[arg-type]
            assert stream.digest() == rfc9162.mth(windows_of(data))
    assert hashlib.file_digest(io.BytesIO(data), atlas.TreeHash).digest() == stream.digest()


def test_hmac_takes_a_tree_hash() -> None:
    key = bytes(range(32))
    inner = bytes(0x36 ^ byte for byte in key.ljust(WINDOW_BYTES, b"\0"))
    outer = bytes(0x5C ^ byte for byte in key.ljust(WINDOW_BYTES, b"\0"))
    expected = atlas.TreeHash(outer + atlas.TreeHash(inner + DATA).digest()).digest()
    assert hmac.new(key, DATA, atlas.TreeHash).digest() == expected


def test_a_copy_of_a_tree_hash_goes_on_by_itself() -> None:
    one = atlas.TreeHash(DATA)
    two = one.copy()
    assert type(two) is atlas.TreeHash
    one.update(b"1")
    two.update(b"2")
    assert one.witness().verify(DATA + b"1")
    assert two.witness().verify(DATA + b"2")


def test_a_tree_hash_refuses_a_second_thread() -> None:
    stream = atlas.TreeHash()
    chunk = bytes(64 << 20)
    outcomes: list[bool] = []

    def work(_: int) -> None:
        try:
            stream.update(chunk)
            outcomes.append(True)
        except atlas.StateError:
            outcomes.append(False)

    in_threads(4, work)
    assert len(outcomes) == 4
    assert False in outcomes
    assert stream.length == outcomes.count(True) * len(chunk)


def test_a_tree_hash_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="TreeHash cannot be pickled"):
        pickle.dumps(atlas.TreeHash())


def test_wrong_buffers_are_refused() -> None:
    for call in (atlas.TreeHash, atlas.TreeHash().update, atlas.TreeWitness.generate):
        with pytest.raises(TypeError, match="is of type str, must be a buffer"):
            call("text")  # type: ignore[arg-type]
        with pytest.raises(BufferError, match="must be C-contiguous"):
            call(memoryview(DATA)[::2])


# --- The primitives of the binding ---


def test_leaves_are_appended_to_whole_windows_only() -> None:
    data = strategies.noise(40 * WINDOW_BYTES)
    leaves, residues = atlas._native.tree_leaves(data)
    assert list(residues) == model.window_residues(data)
    stream = atlas._native.TreeStream()
    stream.append(leaves[: 32 * 7], sum(residues[:7]) % 96)
    stream.append(leaves[32 * 7 :], sum(residues[7:]) % 96)
    assert stream.result() == (rfc9162.mth(windows_of(data)), len(data), model.residue(data))
    with pytest.raises(ValueError, match="leaves has 31 bytes, must have 32 for each hash"):
        stream.append(bytes(31), 0)
    with pytest.raises(atlas.ConservationError, match="residue is 96"):
        stream.append(leaves, 96)
    stream.update(b"1")
    with pytest.raises(atlas.StateError, match="1 bytes of a window are held, must be 0"):
        stream.append(leaves, 0)
    assert stream.result()[1] == len(data) + 1


def test_nodes_and_roots_are_of_whole_hashes() -> None:
    one, two = bytes(32), bytes([1]) * 32
    node = hashlib.sha256(b"\1" + one + two).digest()
    assert atlas._native.tree_node(one, two) == node == atlas._native.tree_root(one + two)
    assert atlas._native.tree_root(b"") == EMPTY_ROOT
    with pytest.raises(ValueError, match="left has 31 bytes, must have 32"):
        atlas._native.tree_node(one[1:], two)
    with pytest.raises(ValueError, match="right has 33 bytes, must have 32"):
        atlas._native.tree_node(one, two + b"1")
    with pytest.raises(ValueError, match="hashes has 33 bytes, must have 32 for each hash"):
        atlas._native.tree_root(one + b"1")


# --- JSON ---

FIELDS: dict[str, object] = {
    "type": "atlas12288/witness/v1",
    "algorithm": "sha256-merkle-12288",
    "length": 3,
    "residue": 6,
    "digest": hashlib.sha256(b"\0\1\2\3").hexdigest(),
    "timestamp": "2025-01-31T12:00:00.000000007Z",
}


def test_the_json_form_is_that_of_all_witnesses() -> None:
    text = json.dumps(FIELDS)
    witness = atlas.TreeWitness.from_json(text)
    assert witness.to_json() == text
    assert witness.verify(b"\1\2\3")
    assert (witness.timestamp, witness.timestamp_ns % 1000) == (FIELDS["timestamp"], 7)
    flat = json.loads(atlas.Witness.generate(b"").to_json())
    assert list(flat) == list(FIELDS)
    assert flat["type"] == FIELDS["type"]


def test_a_reader_of_both_algorithms_gives_the_class_of_each() -> None:
    tree, flat = atlas.TreeWitness.generate(DATA), atlas.Witness.generate(DATA)
    for witness in (tree, flat):
        again = atlas.witness_from_json(witness.to_json())
        assert again == witness
        assert type(again) is type(witness)
    with pytest.raises(
        atlas.WitnessError,
        match=r"^algorithm is 'md5', must be 'sha256' or 'sha256-merkle-12288'$",
    ):
        atlas.witness_from_json(json.dumps(FIELDS | {"algorithm": "md5"}))


@pytest.mark.parametrize("key", FIELDS)
@pytest.mark.parametrize("value", [None, True, [], {}, -1, 2**64, "sha256", "", 1.5])
def test_json_with_a_wrong_value_is_refused_by_the_name_of_its_key(key: str, value: object) -> None:
    for read in (atlas.TreeWitness.from_json, atlas.witness_from_json):
        if (read, key, value) != (atlas.witness_from_json, "algorithm", "sha256"):
            with pytest.raises(atlas.WitnessError, match=rf"^{key} is .+, must be "):
                read(json.dumps(FIELDS | {key: value}))


@pytest.mark.parametrize("windows", [1, 256, 257, 600])
def test_a_tree_of_leaves_that_a_device_made_is_the_tree_of_the_bytes(windows: int) -> None:
    """Its blocks are views of what the device wrote; all that a tree can do works with them."""
    data = strategies.noise(WINDOW_BYTES * windows)
    expected = atlas.TreeWitness.generate(data)
    blocks = list(expected._tree.blocks())
    written = memoryview(bytearray(expected.leaves + atlas.window_residues(data))).toreadonly()
    parts = TreeParts(
        len(data),
        expected.root,
        expected.residue,
        written[: 32 * windows],
        written[32 * windows :],
        b"".join(block.root for block in blocks),
        bytes(block.residue for block in blocks),
    )
    made = atlas.TreeWitness._of_device(parts)
    assert (made.root, made.leaves) == (expected.root, expected.leaves)
    assert made.changed_windows(expected) == [] == expected.changed_windows(made)
    last = windows - 1
    other = bytearray(data)
    other[WINDOW_BYTES * last] ^= 1
    for tree in (made, pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert tree.changed(other) == [last]
        assert tree.update(other, [last]).leaves == atlas.TreeWitness.generate(other).leaves
        assert tree.prove(last).to_json() == expected.prove(last).to_json()
        older = tree.prove_consistency(max(1, last))
        assert older.to_json() == expected.prove_consistency(max(1, last)).to_json()
