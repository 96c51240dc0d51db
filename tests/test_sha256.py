# SPDX-License-Identifier: Apache-2.0
"""The digest of a witness is SHA-256 (FIPS 180-4): NIST's vectors, and hashlib, in every kernel
set, at every alignment, in any split."""

import hashlib
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
from support import model, strategies
from support.guarded import ALIGNMENTS, Guarded, region_at, repeated, run_in_child
from support.kernel_sets import RUNNABLE_KERNEL_SETS

EXHAUSTIVE = 4096  # bytes: 64 blocks, more than any kernel unrolls
# All 64 * 4097 pairs of alignment and length take seconds in the portable set; with every 7th
# length an alignment, 7 being prime to 64, each length still meets 9 alignments.
STRIDE = 7


def digest(data: bytes | bytearray | memoryview) -> str:
    return atlas.Witness.generate(data).hexdigest()


# --- NIST ----------------------------------------------------------------------------------------


def nist_lines(name: str) -> list[tuple[str, str]]:
    """The `key = value` lines of one of NIST's response files, in order."""
    path = files("cryptography_vectors") / "hashes" / "SHA2" / name
    lines = path.read_text(encoding="ascii").splitlines()
    return [(k.strip(), v.strip()) for k, eq, v in (line.partition("=") for line in lines) if eq]


def nist_messages(name: str) -> list[tuple[bytes, str]]:
    """(message, digest) of a short or long message file."""
    values = [value for key, value in nist_lines(name) if key in ("Len", "Msg", "MD")]
    triples = zip(values[0::3], values[1::3], values[2::3], strict=True)
    return [(bytes.fromhex(msg)[: int(bits) // 8], md) for bits, msg, md in triples]


@pytest.mark.parametrize(
    ("name", "count"),
    [("SHA256ShortMsg.rsp", 65), ("SHA256LongMsg.rsp", 64)],
    ids=("short", "long"),
)
def test_nist_messages(kernel_set: str, name: str, count: int) -> None:
    messages = nist_messages(name)
    assert len(messages) == count
    for message, expected in messages:
        assert digest(message) == expected, len(message)


def test_nist_monte_carlo(kernel_set: str) -> None:
    """SHAVS section 6.4: each of 100 digests is the 1000th of a chain that feeds back three."""
    lines = nist_lines("SHA256Monte.rsp")
    seed = bytes.fromhex(next(value for key, value in lines if key == "Seed"))
    expected = [value for key, value in lines if key == "MD"]
    assert len(expected) == 100
    for count, md in enumerate(expected):
        a = b = c = seed
        for _ in range(1000):
            a, b, c = b, c, atlas.Witness.generate(a + b + c).digest
        seed = c
        assert seed.hex() == md, count


# --- hashlib -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> bytes:
    return strategies.noise(EXHAUSTIVE)


@pytest.fixture(scope="module")
def expected(data: bytes) -> list[bytes]:
    """expected[n] is the digest of the first n bytes."""
    return [hashlib.sha256(data[:n]).digest() for n in range(EXHAUSTIVE + 1)]


def test_every_length_up_to_4096_agrees_with_hashlib(
    kernel_set: str, data: bytes, expected: list[bytes]
) -> None:
    view = memoryview(data)
    for n in range(EXHAUSTIVE + 1):
        assert atlas.Witness.generate(view[:n]).digest == expected[n], n


def test_every_alignment_agrees_with_hashlib(
    kernel_set: str, data: bytes, expected: list[bytes]
) -> None:
    for a in ALIGNMENTS:
        region = region_at(a, EXHAUSTIVE)
        region[:] = data
        for n in range(a % STRIDE, EXHAUSTIVE + 1, STRIDE):
            assert atlas.Witness.generate(region[:n]).digest == expected[n], (a, n)


@given(region=strategies.aligned_buffers(most=1 << 20))
def test_random_regions_at_random_alignments_agree_with_hashlib(
    kernel_set: str, region: memoryview
) -> None:
    assert digest(region) == hashlib.sha256(region).hexdigest()


@pytest.mark.parametrize("length", model.BITING_LENGTHS)
def test_biting_lengths_agree_with_hashlib(kernel_set: str, length: int) -> None:
    data = strategies.noise(length, seed=1)
    assert digest(data) == hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_a_length_beyond_32_bits_of_bits_agrees_with_hashlib() -> None:
    """The padding holds the length in bits as 64 bits; 512 MiB is where 32 of them end."""
    with repeated(strategies.noise(4 << 20), (512 << 20) + 1) as region:
        expected = hashlib.sha256(region).hexdigest()
        assert digest(region) == expected
        stream = atlas.WitnessStream()
        for start in range(0, len(region), 1 << 28):
            stream.update(region[start : start + (1 << 28)])
        assert stream.witness().hexdigest() == expected
        assert stream.witness().length == len(region)


# --- streaming -----------------------------------------------------------------------------------


@given(chunks=strategies.splits())
def test_a_stream_in_any_split_is_the_witness_of_the_whole(
    kernel_set: str, chunks: list[bytes]
) -> None:
    stream = atlas.WitnessStream()
    peer = hashlib.sha256()
    so_far = b""
    for chunk in chunks:
        stream.update(chunk)
        peer.update(chunk)
        so_far += chunk
        witness = stream.witness()
        assert witness.digest == peer.digest()
        assert (witness.length, witness.residue) == (len(so_far), model.residue(so_far))
        assert witness.verify(so_far)


def test_a_stream_split_in_two_at_every_place_around_the_blocks(
    kernel_set: str, data: bytes, expected: list[bytes]
) -> None:
    for total in (63, 64, 65, 119, 120, 127, 128, 129, 300):
        for cut in range(total + 1):
            stream = atlas.WitnessStream()
            stream.update(data[:cut])
            stream.update(data[cut:total])
            assert stream.witness().digest == expected[total], (total, cut)


def test_a_stream_of_single_bytes_is_the_witness_of_the_whole(
    kernel_set: str, data: bytes, expected: list[bytes]
) -> None:
    stream = atlas.WitnessStream()
    for n in range(1, 300):
        stream.update(data[n - 1 : n])
        assert stream.witness().digest == expected[n], n


@given(chunks=strategies.splits(), choice=st.data())
def test_a_stream_saved_and_restored_between_any_chunks_under_any_kernel_set_agrees_with_hashlib(
    kernel_set: str, chunks: list[bytes], choice: st.DataObject
) -> None:
    atlas.select_kernel_set(kernel_set)  # the example before this one ended with another
    stream = atlas.WitnessStream()
    peer = hashlib.sha256()
    so_far = b""
    for chunk in chunks:
        stream.update(chunk)
        peer.update(chunk)
        so_far += chunk
        form = bytes(stream)
        atlas.select_kernel_set(choice.draw(st.sampled_from(RUNNABLE_KERNEL_SETS)))
        stream = atlas.WitnessStream.from_bytes(form)
        assert bytes(stream) == form
        witness = stream.witness()
        assert witness.digest == peer.digest()
        assert (witness.length, witness.residue) == (len(so_far), model.residue(so_far))


def test_a_stream_saved_at_every_place_goes_on_from_there(
    kernel_set: str, data: bytes, expected: list[bytes]
) -> None:
    forms = []
    stream = atlas.WitnessStream()
    for n in range(300):
        forms.append(bytes(stream))
        stream.update(data[n : n + 1])
    for n, form in enumerate(forms):
        for chunk in (data[n:300], data[n:]):
            resumed = atlas.WitnessStream.from_bytes(form)
            resumed.update(chunk)
            assert resumed.witness().digest == expected[n + len(chunk)], n


# --- guard pages ---------------------------------------------------------------------------------


def test_hashing_touches_no_byte_beside_the_region(
    kernel_set: str, data: bytes, expected: list[bytes]
) -> None:
    guarded = Guarded(EXHAUSTIVE)

    def hash_all() -> None:
        for n in range(513):
            for view in guarded.both(n):
                view[:] = data[:n]
                witness = atlas.Witness.generate(view)
                assert witness.digest == expected[n], n
                assert witness.verify(view), n
                stream = atlas.WitnessStream()
                stream.update(view)
                assert stream.witness().digest == expected[n], n

    run_in_child(hash_all)
