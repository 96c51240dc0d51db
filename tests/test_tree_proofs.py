# SPDX-License-Identifier: Apache-2.0
"""Inclusion and consistency proofs, against RFC 9162's text and an independent implementation."""

import hashlib
import json
import pickle
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pymerkle  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
from support import rfc9162, strategies
from support.model import WINDOW_BYTES
from support.slow import slow_but
from test_tree import windows_of

MOST = 130
DATA = strategies.noise(MOST * WINDOW_BYTES)
LARGE_SIZES = (255, 256, 257, 511, 513, 700)


def region(size: int) -> bytes:
    """`size` windows, the last one shorter where that is odd."""
    data = DATA if size <= MOST else strategies.noise(size * WINDOW_BYTES)
    return data[: size * WINDOW_BYTES - (size % 2) * 100]


@cache
def tree(size: int) -> atlas.TreeWitness:
    return atlas.TreeWitness.generate(region(size))


@cache
def windows(size: int) -> tuple[bytes, ...]:
    return windows_of(region(size))


def peer(size: int):  # type: ignore[no-untyped-def]
    """pymerkle's tree. It takes entries one by one, so each size is a tree of its own here."""
    found = pymerkle.InmemoryTree(algorithm="sha256")
    for window in windows(size):
        found.append_entry(window)
    return found


Proof = atlas.InclusionProof | atlas.ConsistencyProof


def altered(proof: Proof, **fields: object) -> Any:
    """The proof with other fields, as a forger would write it."""
    return type(proof).from_json(json.dumps(json.loads(proof.to_json()) | fields))


def hexes(hashes: tuple[bytes, ...]) -> list[str]:
    return [step.hex() for step in hashes]


def with_a_bit_flipped(data: bytes, bit: int) -> bytes:
    at = bit // 8
    return data[:at] + bytes([data[at] ^ 1 << bit % 8]) + data[at + 1 :]


# --- Agreement ---


@pytest.mark.parametrize(
    "size", slow_but([*range(0, MOST + 1, 3), *LARGE_SIZES], [*range(MOST + 1), *LARGE_SIZES])
)
def test_roots_and_proofs_agree_with_pymerkle_and_with_the_rfc(size: int) -> None:
    ours, theirs, entries = tree(size), peer(size), windows(size)
    assert ours.root == theirs.get_root() == rfc9162.mth(entries)
    some = range(size) if size <= MOST else random.Random(size).sample(range(size), 20)
    for index in {*some, *range(size - 1, size)} - {-1}:
        proof = ours.prove(index)
        assert (proof.index, proof.size, proof.root) == (index, size, ours.root)
        assert proof.path == rfc9162.path(index, entries)
        # Its path begins with the leaf, and it counts from one.
        assert proof.path == tuple(theirs.prove_inclusion(index + 1).path[1:])
        assert proof.verify(entries[index], ours.root)
        assert ours.verify_window(entries[index], proof)
    for old in {n + 1 for n in some}:
        consistency = ours.prove_consistency(old)
        old_root = theirs.get_root(old)
        assert (consistency.old_size, consistency.new_size) == (old, size)
        assert (consistency.old_root, consistency.new_root) == (old_root, ours.root)
        assert consistency.path == rfc9162.subproof(old, entries)
        assert consistent(consistency, old_root, ours.root)
        peers = theirs.prove_consistency(old)
        peers.verify(consistency.old_root, consistency.new_root)
        assert consistency.path == path_of(peers, old)


def path_of(proof, old: int) -> tuple[bytes, ...]:  # type: ignore[no-untyped-def]
    """The RFC's path in a consistency proof of pymerkle.

    Where the RFC has the root of the subtree right of the last old leaf, pymerkle goes on to the
    first leaf of that, and it gives the last old subtree even where that is the whole old tree.
    """
    if old == proof.size:
        return ()
    at = proof.subset.index(1)
    right, *siblings = proof.path[:at]
    for sibling in siblings:
        right = hashlib.sha256(b"\1" + right + sibling).digest()
    last_old = () if old & (old - 1) == 0 else (proof.path[at],)
    return (*last_old, right, *proof.path[at + 1 :])


def test_pymerkle_accepts_our_inclusion_proofs() -> None:
    size, entries = 100, windows(100)
    theirs = peer(size)
    for index in range(0, size, 9):
        proof = theirs.prove_inclusion(index + 1)
        leaf = hashlib.sha256(b"\0" + entries[index]).digest()
        proof.path = [leaf, *tree(size).prove(index).path]
        proof.verify(leaf, tree(size).root)


@given(st.integers(1, 700), st.data())
def test_proofs_of_an_updated_witness_are_those_of_a_fresh_one(
    size: int, choice: st.DataObject
) -> None:
    data = bytearray(strategies.noise(700 * WINDOW_BYTES)[: size * WINDOW_BYTES])
    start = choice.draw(st.integers(1, 700))
    old = atlas.TreeWitness.generate(strategies.noise(700 * WINDOW_BYTES)[: start * WINDOW_BYTES])
    index = choice.draw(st.integers(0, size - 1))
    data[index * WINDOW_BYTES] ^= 1
    updated, fresh = old.update(data, [index]), atlas.TreeWitness.generate(data)
    assert updated.prove(index) == fresh.prove(index)
    count = choice.draw(st.integers(1, size))
    assert updated.prove_consistency(count) == fresh.prove_consistency(count)


# --- Inclusion: what does not hold ---


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 21])
def test_an_inclusion_proof_with_any_bit_flipped_does_not_hold(size: int) -> None:
    entries, witness = windows(size), tree(size)
    choice = random.Random(size)
    for index in range(size):
        proof = witness.prove(index)
        for place in range(len(proof.path)):
            for bit in choice.sample(range(256), 16):
                path = list(proof.path)
                path[place] = with_a_bit_flipped(path[place], bit)
                assert not altered(proof, path=hexes(tuple(path))).verify(
                    entries[index], witness.root
                )
        for bit in range(256):
            root = with_a_bit_flipped(witness.root, bit)
            assert not proof.verify(entries[index], root)
            assert not altered(proof, root=root.hex()).verify(entries[index], witness.root)
        for bit in choice.sample(range(8 * len(entries[index])), 16):
            assert not proof.verify(with_a_bit_flipped(entries[index], bit), witness.root)


@pytest.mark.parametrize("size", range(1, 14))
def test_an_inclusion_proof_of_another_index_or_size_does_not_hold(size: int) -> None:
    witness = tree(size)
    # The last window is whole, so that only index and size can tell.
    if size % 2:
        witness = atlas.TreeWitness.generate(DATA[: size * WINDOW_BYTES])
    for index in range(size):
        proof, window = witness.prove(index), DATA[index * WINDOW_BYTES :][:WINDOW_BYTES]
        for other_size in range(1, 2 * size + 2):
            for other_index in range(other_size):
                if (other_index, other_size) == (index, size):
                    continue
                claim = altered(proof, index=other_index, size=other_size)
                # The root does not tell the size: a tree of another one may have the same way up.
                alike = rfc9162.sides(other_index, other_size) == rfc9162.sides(index, size)
                assert claim.verify(window, witness.root) == alike
                # The witness tells it, and then no other claim is left.
                assert not witness.verify_window(window, claim)


def test_an_inclusion_proof_with_a_longer_or_shorter_path_does_not_hold() -> None:
    for size in (1, 2, 5, 8, 100):
        entries, witness = windows(size), tree(size)
        for index in range(0, size, 7):
            proof = witness.prove(index)
            path = hexes(proof.path)
            for wrong in (path[:-1], path[1:], [*path, "00" * 32], [*path, *path], path[::-1]):
                if wrong != path:
                    assert not altered(proof, path=wrong).verify(entries[index], witness.root)


def test_a_window_has_the_length_of_its_place() -> None:
    witness = tree(3)  # its last window has 100 bytes less
    first, last = witness.prove(0), witness.prove(2)
    assert not first.verify(DATA[: WINDOW_BYTES - 1], witness.root)
    assert not first.verify(DATA[: WINDOW_BYTES + 1], witness.root)
    assert not first.verify(b"", witness.root)
    assert not last.verify(b"", witness.root)
    assert last.verify(windows(3)[2], witness.root)
    assert not witness.verify_window(windows(3)[2][:-1], last)
    # Not even in a tree that was made of windows of other lengths.
    odd = (DATA[:100], DATA[:WINDOW_BYTES])
    claim = altered(
        tree(2).prove(0), path=hexes((rfc9162.mth(odd[1:]),)), root=rfc9162.mth(odd).hex()
    )
    assert not claim.verify(odd[0], rfc9162.mth(odd))
    # A leaf of a last window of another length, in a tree made for it: the proof alone holds.
    shorter = atlas.TreeWitness.generate(region(3)[:-1])
    assert shorter.prove(2).verify(windows(3)[2][:-1], shorter.root)
    assert not witness.verify_window(windows(3)[2][:-1], shorter.prove(2))


def test_leaves_and_nodes_cannot_be_taken_for_one_another() -> None:
    leaves = tree(2).leaves or b""
    # Second preimage: the children of the root as the bytes of a region of one window.
    for region_bytes in (leaves, b"\1" + leaves, b"\0" + leaves):
        forged = atlas.TreeWitness.generate(region_bytes)
        assert forged.root != tree(2).root
        proof = altered(forged.prove(0), root=tree(2).root.hex())
        assert not proof.verify(region_bytes, tree(2).root)
    # A node of a larger tree as a window, with the path from there.
    proof = tree(8).prove(3)
    children = rfc9162.mth(windows(8)[2:3]) + rfc9162.mth(windows(8)[3:4])
    shorter = altered(proof, index=3, size=4, path=hexes(proof.path[1:]))
    assert not shorter.verify(children, tree(8).root)
    # A leaf as a node: the hash of 0x00 and a window that looks like two hashes.
    assert atlas._native.tree_root(leaves) != atlas.TreeWitness.generate(leaves).root


# --- Consistency: what does not hold ---


def consistent(proof: atlas.ConsistencyProof, old_root: bytes, new_root: bytes) -> bool:
    """Does it hold under these roots, for the sizes that it claims itself?"""
    sizes = {"old_size": proof.old_size, "new_size": proof.new_size}
    return proof.verify(old_root, new_root, **sizes)


def test_a_consistency_proof_of_other_sizes_does_not_hold() -> None:
    alike = 0
    for new in range(1, 14):
        for old in range(1, new + 1):
            older, newer = (
                atlas.TreeWitness.generate(DATA[: size * WINDOW_BYTES]) for size in (old, new)
            )
            proof = newer.prove_consistency(old)
            assert newer.verify_consistency(older, proof)
            for new_size in range(1, 2 * new + 2):
                for old_size in range(1, new_size + 1):
                    if (old_size, new_size) == (old, new):
                        continue
                    claim = altered(proof, old_size=old_size, new_size=new_size)
                    # The roots do not tell the sizes: a tree of others may have the same way up.
                    alike += consistent(claim, older.root, newer.root)
                    # The witnesses tell them, and then no other claim is left.
                    assert not newer.verify_consistency(older, claim)
    assert alike > 100


def test_sizes_of_trees_are_needed_and_are_numbers() -> None:
    proof = tree(4).prove_consistency(2)
    roots = proof.old_root, proof.new_root
    with pytest.raises(TypeError, match="old_size"):
        proof.verify(*roots)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="old_size is of type bool, must be an int"):
        proof.verify(*roots, old_size=True, new_size=4)
    with pytest.raises(ValueError, match="new_size is -4, must be at least 0"):
        proof.verify(*roots, old_size=2, new_size=-4)
    for sizes in ((2, 3), (2, 5), (1, 4), (3, 4), (0, 4), (2, 2**70)):
        assert not proof.verify(*roots, old_size=sizes[0], new_size=sizes[1])


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 3), (3, 7), (4, 8), (6, 8), (7, 7), (8, 21)])
def test_a_consistency_proof_with_any_bit_flipped_does_not_hold(old: int, new: int) -> None:
    witness = tree(new)
    proof = witness.prove_consistency(old)
    old_root, new_root = proof.old_root, proof.new_root
    for place in range(len(proof.path)):
        for bit in range(256):
            path = list(proof.path)
            path[place] = with_a_bit_flipped(path[place], bit)
            assert not consistent(altered(proof, path=hexes(tuple(path))), old_root, new_root)
    for bit in range(256):
        for key, one, two in (
            ("old_root", with_a_bit_flipped(old_root, bit), new_root),
            ("new_root", old_root, with_a_bit_flipped(new_root, bit)),
        ):
            assert not consistent(proof, one, two)
            claim = altered(proof, **{key: (one if key == "old_root" else two).hex()})
            assert not consistent(claim, old_root, new_root)
            assert not consistent(claim, one, two)


def test_a_consistency_proof_with_a_longer_or_shorter_path_does_not_hold() -> None:
    for new in (1, 2, 5, 8, 100):
        for old in range(1, new + 1, 3):
            proof = tree(new).prove_consistency(old)
            path = hexes(proof.path)
            for wrong in ([], path[:-1], path[1:], [*path, "00" * 32], path[::-1]):
                if wrong != path:
                    claim = altered(proof, path=wrong)
                    assert not consistent(claim, proof.old_root, proof.new_root)
            # For a larger tree, too, it is too short.
            claim = altered(proof, new_size=4 * new)
            assert not consistent(claim, proof.old_root, proof.new_root)


def test_no_proof_shows_that_a_tree_begins_with_what_it_does_not() -> None:
    other = atlas.TreeWitness.generate(strategies.noise(5 * WINDOW_BYTES, seed=1))
    for new in range(5, 14):
        for old in range(1, new + 1):
            proof = tree(new).prove_consistency(old)
            for old_size in range(1, new + 1):
                claim = altered(proof, old_size=old_size, old_root=other.root.hex())
                assert not consistent(claim, other.root, proof.new_root)


def test_whole_windows_only_stay_what_they_are_when_bytes_are_appended() -> None:
    log = DATA[: 3 * WINDOW_BYTES]
    old, new = atlas.TreeWitness.generate(log), atlas.TreeWitness.generate(DATA[:-1])
    proof = new.prove_consistency(old)
    assert proof == new.prove_consistency(3)
    assert new.verify_consistency(old, proof)
    assert old.verify_consistency(old, old.prove_consistency(old))
    assert new.verify_consistency(new, new.prove_consistency(new))
    assert not new.verify_consistency(new, proof)
    assert not old.verify_consistency(old, proof)
    partial = atlas.TreeWitness.generate(log[:-1])
    rule = "length of old is 36863, must be a multiple of 12288: only whole windows"
    with pytest.raises(ValueError, match=rule):
        new.prove_consistency(partial)
    # What the rule is for: the leaf of the last window changes.
    proof = new.prove_consistency(partial.windows)
    assert not new.verify_consistency(partial, proof)


@pytest.mark.parametrize(
    ("old", "error", "message"),
    [
        (0, ValueError, r"old is 0, must be in 1\.\.4"),
        (5, ValueError, r"old is 5, must be in 1\.\.4"),
        (True, TypeError, "old is of type bool, must be an int"),
        ("1", TypeError, "old is of type str, must be an int"),
        (atlas.TreeWitness.generate(b""), ValueError, r"old is 0, must be in 1\.\.4"),
        (atlas.TreeWitness.generate(bytes(12288 * 5)), ValueError, r"old is 5, must be in 1\.\.4"),
    ],
    ids=["0", "5", "True", "'1'", "witness of 0", "witness of 5"],
)
def test_a_consistency_proof_is_about_windows_that_are_there(
    old: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        tree(4).prove_consistency(old)
    with pytest.raises(ValueError, match="the region is empty"):
        tree(0).prove_consistency(1)


@pytest.mark.parametrize(
    ("window", "error", "message"),
    [
        (4, ValueError, r"window is 4, must be in 0\.\.3"),
        (-1, ValueError, r"window is -1, must be in 0\.\.3"),
        (False, TypeError, "window is of type bool, must be an int"),
        (1.0, TypeError, "window is of type float, must be an int"),
    ],
)
def test_an_inclusion_proof_is_about_a_window_that_is_there(
    window: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        tree(4).prove(window)
    with pytest.raises(ValueError, match="the region is empty"):
        tree(0).prove(0)


# --- Arguments ---


def test_a_root_has_32_bytes() -> None:
    inclusion, consistency = tree(4).prove(1), tree(4).prove_consistency(2)
    root = tree(4).root
    calls: list[tuple[str, Callable[[bytes], bool]]] = [
        ("root", lambda wrong: inclusion.verify(windows(4)[1], wrong)),
        ("old_root", lambda wrong: consistent(consistency, wrong, root)),
        ("new_root", lambda wrong: consistent(consistency, consistency.old_root, wrong)),
    ]
    for name, call in calls:
        for wrong in (b"", root[1:], root + b"\0"):
            rule = f"^{name} has {len(wrong)} bytes, must have 32$"
            with pytest.raises(ValueError, match=rule):
                call(wrong)
        with pytest.raises(TypeError, match="is of type str, must be a buffer"):
            call(root.hex())  # type: ignore[arg-type]
    assert inclusion.verify(bytearray(windows(4)[1]), memoryview(root))


# --- Values ---

PROOFS: tuple[Proof, ...] = (tree(9).prove(5), tree(9).prove_consistency(5))


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: type(proof).__name__)
def test_a_proof_is_a_value(proof: Proof) -> None:
    same = type(proof).from_json(proof.to_json())
    assert proof == same
    assert hash(proof) == hash(same)
    assert pickle.loads(pickle.dumps(proof)) == proof
    assert proof != altered(proof, path=[])
    assert all(proof != other for other in PROOFS if other is not proof)
    assert tree(9).root.hex() in repr(proof)
    with pytest.raises(AttributeError, match="is immutable, path cannot be set"):
        proof.path = ()  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"is made by TreeWitness\.prove"):
        type(proof)()  # type: ignore[call-arg]


# --- JSON ---

WRONG_VALUES: tuple[object, ...] = (
    None,
    True,
    -1,
    1.5,
    2**70,
    "",
    "x" * 64,
    [None],
    ["00"],
    ["AB" * 32],
    {},
    "1",
)


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: type(proof).__name__)
def test_json_of_a_proof_is_strict(proof: Proof) -> None:
    text = proof.to_json()
    fields = json.loads(text)
    assert json.dumps(fields) == text
    assert type(proof).from_json(json.dumps(dict(reversed(fields.items())), indent=1)) == proof
    assert type(proof).from_json(text.encode()) == proof
    for key in fields:
        for value in WRONG_VALUES:
            with pytest.raises(atlas.WitnessError, match=rf"^{key} is .+, must be "):
                altered(proof, **{key: value})
        without = {name: value for name, value in fields.items() if name != key}
        with pytest.raises(atlas.WitnessError, match=f"key '{key}' is missing"):
            type(proof).from_json(json.dumps(without))
        with pytest.raises(atlas.WitnessError, match=f"key '{key}' occurs twice"):
            type(proof).from_json(f'{text[:-1]}, "{key}": {json.dumps(fields[key])}}}')
    with pytest.raises(atlas.WitnessError, match="key 'note' is unknown"):
        altered(proof, note=1)
    for wrong in ("", "{", "[]", "null", text + "{}", b"\xff", "[" * 100_000):
        with pytest.raises(atlas.WitnessError):
            type(proof).from_json(wrong)
    with pytest.raises(TypeError, match="text is of type int, must be str or bytes"):
        type(proof).from_json(5)  # type: ignore[arg-type]


def test_json_of_a_proof_says_in_which_range_its_numbers_are() -> None:
    inclusion, consistency = PROOFS
    most = (2**63 - 1) // 12288
    for proof, key, value, rule in (
        (inclusion, "index", 9, r"0\.\.8"),
        (inclusion, "size", 0, rf"1\.\.{most}"),
        (inclusion, "size", most + 1, rf"1\.\.{most}"),
        (consistency, "old_size", 0, r"1\.\.9"),
        (consistency, "old_size", 10, r"1\.\.9"),
        (consistency, "new_size", most + 1, rf"1\.\.{most}"),
    ):
        with pytest.raises(atlas.WitnessError, match=f"^{key} is {value}, must be .* {rule}$"):
            altered(proof, **{key: value})


def test_a_proof_of_one_kind_is_none_of_another() -> None:
    inclusion, consistency = PROOFS
    witness = atlas.TreeWitness.generate(b"")
    for cls, others in (
        (atlas.InclusionProof, (consistency, witness)),
        (atlas.ConsistencyProof, (inclusion, witness)),
        (atlas.TreeWitness, (inclusion, consistency)),
    ):
        for other in others:
            with pytest.raises(atlas.WitnessError):
                cls.from_json(other.to_json())
