# SPDX-License-Identifier: Apache-2.0
"""A user's program for `mypy --strict`, see test_typing.py; it runs, too."""

from typing import assert_type

import atlas12288 as atlas


def shares(budget: atlas.Budget, amounts: list[int]) -> int:
    for amt in amounts:
        budget.alloc(amt)
    left: int = budget.available
    return left


async def waiting(budget: atlas.Budget) -> int:
    with budget.lease(1, timeout=None), budget.lease(1, 0.5) as lease:
        assert_type(lease, atlas.Lease)
    async with budget.lease_async(1) as held, budget.lease_async(1, timeout=2):
        assert_type(held, atlas.AsyncLease)
        return held.amt + budget.waiting


def witnessed(region: bytearray) -> atlas.Witness:
    with atlas.Domain(bytes=len(region), budget_class=50) as domain:
        domain.attach(region)
        with domain.transaction(), domain.budget.lease(10) as lease:
            region[0] = lease.amt
            atlas.fixup(region)
        if not domain.verify():
            raise AssertionError
        state: atlas.State = domain.state
        witness: atlas.Witness = domain.commit()
        kept: atlas.Witness | None = domain.witness
        if state is not atlas.State.OPEN or kept != witness:
            raise AssertionError
        return witness


def balanced(weights: bytes) -> atlas.Witness:
    with atlas.Region(len(weights)) as region, atlas.Domain(bytes=region.size) as domain:
        atlas.conserved_copy(region, weights)
        domain.attach(region)
        with domain.transaction(0, stop=-1):
            memoryview(region)[0] ^= 1
        atlas.fixup(bytearray(weights), at=0)
        whole: memoryview = region.whole
        balance: int = region.balance()
        if whole[-1] != balance or region.sealed:
            raise AssertionError
        return domain.commit()


def residues(chunks: list[bytes]) -> tuple[int, list[int]]:
    stream, witness_stream = atlas.Residue(), atlas.WitnessStream()
    for chunk in chunks:
        stream.update(memoryview(chunk))
        witness_stream.update(chunk)
    saved: bytes = bytes(witness_stream)
    resumed: atlas.WitnessStream = atlas.WitnessStream.from_bytes(saved)
    witness = resumed.witness()
    again: atlas.Witness = atlas.Witness.from_json(witness.to_json())
    names: tuple[str, ...] = again.differences(witness)
    return stream.copy().value, [*atlas.window_residues(b"".join(chunks)), len(names)]


def proven(region: bytes) -> bool:
    tree: atlas.TreeWitness = atlas.TreeWitness.generate(region, threads=1)
    changed: list[int] = tree.changed(region)
    newer = tree.update(region, changed)
    leaves: bytes | None = newer.leaves
    stored: atlas.Witness | atlas.TreeWitness = atlas.witness_from_json(newer.to_json())
    proof: atlas.InclusionProof = newer.prove(0)
    consistency: atlas.ConsistencyProof = newer.prove_consistency(tree)
    digest: bytes = atlas.TreeHash(region).digest()
    return (
        leaves is not None
        and stored.verify(region)
        and proof.verify(region[: atlas.WINDOW_BYTES], digest)
        and newer.verify_consistency(tree, consistency)
        and consistency.verify(tree.root, newer.root, old_size=1, new_size=newer.windows)
    )


def kept(folder: str) -> tuple[bytes, ...]:
    try:
        manifest: atlas.Manifest = atlas.Manifest.generate(folder, tree=True, exclude=["*.tmp"])
    except atlas.FileError:
        return ()
    holds: bool | None = manifest.verify(folder).holds
    assert_type(manifest.root, bytes)
    assert_type(manifest.entries[0].path, bytes)
    assert_type(manifest.options.digests, tuple[str, ...])
    assert_type(manifest.verify(folder).holds, bool | None)
    return tuple(entry.path for entry in manifest.entries if holds)


def types(
    tree: atlas.TreeWitness, inclusion: atlas.InclusionProof, consistency: atlas.ConsistencyProof
) -> None:
    assert_type(tree.root, bytes)
    assert_type(tree.length, int)
    assert_type(tree.timestamp, str)
    assert_type(inclusion.path, tuple[bytes, ...])
    assert_type(consistency.old_size, int)
    assert_type(atlas.TreeHash(b"").copy(), atlas.TreeHash)
    assert_type(atlas.Witness.generate(b"").digest, bytes)
    assert_type(atlas.WitnessStream(b"").witness(), atlas.Witness)


def code_of(error: atlas.AtlasError) -> str:
    code: atlas.ErrorCode = error.code
    return code.text


if __name__ == "__main__":
    window = bytearray(atlas.WINDOW_BYTES)
    digest: bytes = witnessed(window).digest
    if not proven(bytes(window)):
        raise AssertionError
    copied = bytearray(len(window))
    atlas.conserved_copy(copied, window)
    delta: int = atlas.delta(window, copied)
    try:
        shares(atlas.Domain(bytes=1).budget, [1])
    except atlas.BudgetError as error:
        print(code_of(error), delta, len(digest), *residues([b"\x01", b"\x5f"])[1])
