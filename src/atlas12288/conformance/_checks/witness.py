# SPDX-License-Identifier: Apache-2.0
"""Checks of witnesses: they match their bytes, but no bytes that only a weak checksum accepts."""

import hashlib
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Final

from .._numbers import WINDOW_BYTES
from .._outcome import require
from .._subjects.library import E_WITNESS, Library, noise
from .law import LENGTHS

_DIGEST_BYTES: Final = 32  # SHA-256
_LARGE_BYTES: Final = 4 * 2**20 - 5


def _finds(library: Library, data: bytes, changed: Iterable[tuple[str, bytes]]) -> int:
    """Require that the witness of `data` matches it, and no other data of the same length.

    Returns:
        The number of changes that were tried.
    """
    region = library.region(data)
    witness = library.witness(region)
    count = 0
    for what, other in changed:
        require(other != data and len(other) == len(data), f"the kit is wrong: {what}")
        region.bytes[:] = other
        require(
            not library.matches(witness, region.address, region.size),
            f"the witness of {len(data)} bytes matches after {what}",
        )
        count += 1
    region.bytes[:] = data
    require(
        library.matches(witness, region.address, region.size),
        f"the witness of {len(data)} bytes does not match them",
    )
    library.forget(witness)
    return count


def generate(library: Library) -> str:
    for length in LENGTHS:
        region = library.region(noise(length))
        before = bytes(region.bytes)
        witness = library.witness(region)
        require(
            library.matches(witness, region.address, length),
            f"the witness of {length} bytes does not match them",
        )
        require(
            bytes(region.bytes) == before,
            f"atlas_witness_generate changed the {length} bytes of the caller",
        )
        library.forget(witness)
    return f"the witness is not NULL and matches, for {len(LENGTHS)} lengths from {LENGTHS[0]}"


def verify(library: Library) -> str:
    count = 0
    for length in LENGTHS:
        data = noise(length)
        count += _finds(
            library,
            data,
            [(f"a change of byte {i} by 1", _xor(data, i, b"\1")) for i in (0, length - 1)],
        )
    return f"true for the witnessed bytes, false for {count} changes, for {len(LENGTHS)} lengths"


def destroy(library: Library) -> str:
    region = library.region(noise(96))
    first, second, third = (library.witness(region) for _ in range(3))
    library.forget(second)
    for witness in (first, third):
        require(
            library.matches(witness, region.address, region.size),
            "destroying a witness changed another one",
        )
        library.forget(witness)
    return "3 witnesses are destroyed one by one; the others still match"


def immutable(library: Library) -> str:
    data, other = noise(1000, 1), noise(1000, 2)
    region, elsewhere = library.region(data), library.region(data)
    witness = library.witness(region)
    for _ in range(3):
        region.bytes[:] = other
        require(
            not library.matches(witness, region.address, region.size),
            "a witness still matches after the bytes changed",
        )
        second = library.witness(region)
        require(
            library.matches(witness, elsewhere.address, elsewhere.size),
            "a witness changed after a failed verify or another witness",
        )
        require(
            not library.matches(second, elsewhere.address, elsewhere.size),
            "the second witness matches the first bytes",
        )
        library.forget(second)
        region.bytes[:] = data
        require(
            library.matches(witness, region.address, region.size),
            "a witness no longer matches the bytes that it was made from",
        )
    library.forget(witness)
    return "the verdicts stay the same while equal and other bytes are verified in turns"


def residue_kept(library: Library) -> str:
    data = noise(192)
    low, high = data.index(min(data)), data.index(max(data))

    def plus(changes: dict[int, int]) -> bytes:
        changed = _plus(data, changes)
        require(changed is not None, "the kit is wrong: no bytes")
        return changed or b""

    first, last = data[0], data[-1]
    count = _finds(
        library,
        data,
        [
            ("two bytes were swapped", plus({0: last - first, -1: first - last})),
            ("one byte rose by 1 and another fell by 1", plus({low: 1, high: -1})),
            ("a byte rose by 96", plus({low: 96})),
            ("the bytes were reversed", data[::-1]),
            ("the bytes were rotated by one", data[1:] + data[:1]),
            ("two blocks of 64 bytes were swapped", data[64:128] + data[:64] + data[128:]),
        ],
    )
    return f"{count} changes that keep the residue are found"


def xor_kept(library: Library) -> str:
    data = noise(4096)
    changes = [
        (
            f"bit {bit} of bytes {offset} and {offset + distance} were flipped",
            _xor(_xor(data, offset, bytes([1 << bit])), offset + distance, bytes([1 << bit])),
        )
        for bit in range(8)
        for offset, distance in ((0, 1), (5, 8), (100, 32), (1000, 64), (0, 2048))
    ]
    return f"{_finds(library, data, changes)} changes that keep the XOR of all words are found"


# Generators of CRCs, reflected, without their highest term: CRC-32, CRC-32C, CRC-64/XZ.
_CRCS: Final = (
    ("CRC-32", 32, 0xEDB88320),
    ("CRC-32C", 32, 0x82F63B78),
    ("CRC-64", 64, 0xC96C5795D7870F42),
)


def crc_kept(library: Library) -> str:
    count = 0
    for name, bits, generator in _CRCS:
        # XORing the data with a multiple of the generator does not change a CRC. Swapping two
        # blocks that differ by that multiple also keeps the sum and the XOR of all bytes.
        multiple = (generator << 1 | 1).to_bytes(bits // 8 + 1, "little")
        block = noise(len(multiple))
        other = _xor(block, 0, multiple)
        rest = noise(500)
        data = rest + block + other + rest
        changed = rest + other + block + rest
        alone = _xor(data, 3, multiple)
        if name == "CRC-32":
            require(
                zlib.crc32(data) == zlib.crc32(changed) == zlib.crc32(alone),
                "the kit is wrong: CRC-32",
            )
        count += _finds(
            library,
            data,
            [
                (f"a change that keeps the {name}", alone),
                (f"a change that keeps the {name}, the sum and the XOR of all bytes", changed),
            ],
        )
    names = ", ".join(name for name, _, _ in _CRCS)
    return f"{count} changes that keep {names} are found; some of them also keep sum and XOR"


def adler_kept(library: Library) -> str:
    # Adler-32 and Fletcher's checksums are sums of bytes and sums of these sums. Adding 1, -2, 1 to
    # neighbouring bytes keeps both, and the residue.
    data = noise(1000)
    changes = [
        (f"adding 1, -2 and 1 to bytes {offset} to {offset + 2}", changed)
        for offset in range(len(data) - 2)
        if (changed := _plus(data, {offset: 1, offset + 1: -2, offset + 2: 1})) is not None
    ]
    data_sum, changed_sum = zlib.adler32(data), zlib.adler32(changes[0][1])
    require(data_sum == changed_sum, "the kit is wrong: Adler-32")
    count = _finds(library, data, changes)
    return f"{count} changes that keep Adler-32 and Fletcher's checksums are found"


_BASES: Final = (31, 33, 37, 101, 131)  # of hashes h * base + byte, as in Java and djb2


def polynomial_kept(library: Library) -> str:
    data = noise(1000)
    count = 0
    for base in _BASES:
        # Adding 1 to a byte and subtracting the base from the next one keeps the hash. Doing the
        # opposite to a second pair keeps the sum too.
        up = [
            offset for offset in range(0, 500, 2) if data[offset] < 255 and data[offset + 1] >= base
        ]
        down = [
            offset
            for offset in range(500, 998, 2)
            if data[offset] > 0 and data[offset + 1] < 256 - base
        ]
        for first, second in zip(up[:5], down[:5], strict=True):
            pair = {first: 1, first + 1: -base}
            both = pair | {second: -1, second + 1: base}
            changes = [
                (f"a change that keeps h * {base} + byte", _plus(data, pair)),
                (f"a change that keeps h * {base} + byte and the sum", _plus(data, both)),
            ]
            count += _finds(
                library, data, [(what, changed) for what, changed in changes if changed is not None]
            )
    return f"{count} changes that keep a polynomial in {', '.join(map(str, _BASES))} are found"


# Found by a birthday search over the first 8 bytes of the SHA-256 of "0", "1", "2", ...: pairs with
# the same hash and the same sum of bytes.
_FNV_COLLISIONS: Final = (
    ("FNV-1a of 32 bits", "7640287ecfe39896", "ddcd54b6073766e4"),
    ("FNV-1 of 32 bits", "7dd15767fa3ecae7", "cbc15ca1c01bd7ba"),
)


def fnv_kept(library: Library) -> str:
    for name, first, second in _FNV_COLLISIONS:
        changes = [(f"a change that keeps the {name} and the sum", bytes.fromhex(second))]
        _finds(library, bytes.fromhex(first), changes)
    names = " and ".join(name for name, _, _ in _FNV_COLLISIONS)
    return f"messages with equal {names} are told apart"


def _plus(data: bytes, changes: Mapping[int, int]) -> bytes | None:
    """Return the data with numbers added to some bytes; None if a sum does not fit in a byte."""
    changed = bytearray(data)
    for offset, by in changes.items():
        if not 0 <= changed[offset] + by <= 255:
            return None
        changed[offset] += by
    return bytes(changed)


def every_bit(library: Library) -> str:
    data = noise(200)
    count = _finds(
        library,
        data,
        (
            (
                f"bit {bit % 8} of byte {bit // 8} was flipped",
                _xor(data, bit // 8, bytes([1 << bit % 8])),
            )
            for bit in range(8 * len(data))
        ),
    )
    return f"each of {count} flipped bits is found"


def whole_region(library: Library) -> str:
    near = WINDOW_BYTES * 6 + 5  # changes at every 4 KiB and window
    far = _LARGE_BYTES  # and at every half MiB
    count = 0
    for size, steps in ((near, (4096, WINDOW_BYTES)), (far, (_LARGE_BYTES // 8,))):
        region = library.region(noise(size))
        witness = library.witness(region)
        # A swap keeps the residue, so only the digest can see the change.
        pairs = [
            position
            for step in steps
            for position in range(0, size - 1, step)
            if region.bytes[position] != region.bytes[position + 1]
        ]
        for first in (*pairs, size - 2):
            second = first + 1
            pair = bytes(region.bytes[first : second + 1])
            region.bytes[first], region.bytes[second] = pair[1], pair[0]
            require(
                not library.matches(witness, region.address, size),
                f"the witness of {size} bytes matches after bytes {first} and {second} were "
                "swapped",
            )
            region.bytes[first], region.bytes[second] = pair[0], pair[1]
        require(
            library.matches(witness, region.address, size),
            f"the witness of {size} bytes does not match them",
        )
        library.forget(witness)
        count += len(pairs) + 1
    return f"{count} swaps throughout {near} and {far} bytes, up to the last two bytes, are found"


def length(library: Library) -> str:
    size = 128
    region = library.region(3 * size)  # zeros, so that padding with zeros must be seen
    region.bytes[:size] = noise(size)
    region.bytes[size - 1] = 0
    witness = library.witness(library.region(bytes(region.bytes[:size])))
    for other in (0, 1, 63, 64, size - 1, size + 1, size + 64, 2 * size, 3 * size):
        require(
            not library.matches(witness, region.address, other),
            f"the witness of {size} bytes matches {other} bytes",
        )
    require(
        library.matches(witness, region.address, size),
        f"the witness of {size} bytes does not match them",
    )
    library.forget(witness)
    return f"the witness of {size} bytes matches none of 9 other lengths, shorter and longer"


def own_record(library: Library) -> str:
    data = noise(WINDOW_BYTES)
    elsewhere = library.region(data)
    region = library.region(data)
    witness = library.witness(region)
    region.bytes[:] = noise(WINDOW_BYTES, 1)
    require(
        not library.matches(witness, region.address, region.size),
        "the witness matches its region after all its bytes changed, so it keeps no checksum",
    )
    require(
        library.matches(witness, elsewhere.address, elsewhere.size),
        "the witness does not match equal bytes at another address",
    )
    library.under(" after the witnessed memory was taken away")
    region.take_away()
    require(
        library.matches(witness, elsewhere.address, elsewhere.size),
        "the witness does not match equal bytes after the witnessed memory was unmapped",
    )
    library.forget(witness)
    return "the witness still matches equal bytes after its memory was changed and unmapped"


def timestamp(library: Library) -> str:
    timestamp_ns = library.extension("atlas_witness_timestamp_ns")
    region = library.region(96)
    slack = 10**9  # the library's clock may be coarser
    before = time.time_ns()
    witness = library.witness(region)
    found = timestamp_ns(witness)
    after = time.time_ns()
    require(
        before - slack <= found <= after + slack,
        f"the timestamp is {found} ns, must be between {before} and {after}",
    )
    library.forget(witness)
    return "the timestamp is the time of the call"


def sha256(library: Library) -> str:
    digest_of = library.extension("atlas_witness_digest")
    for size in (55, 56, 63, 64, 65, *LENGTHS):
        data = noise(size)
        witness = library.witness(library.region(data))
        found = library.read(digest_of(witness), _DIGEST_BYTES)
        expected = hashlib.sha256(data)
        require(
            found == expected.digest(),
            f"the digest of {size} bytes is {found.hex()}, must be {expected.hexdigest()}",
        )
        library.forget(witness)
    return "the digest is the SHA-256 of the bytes, as computed by Python's hashlib"


def code_witness(library: Library) -> str:
    region = library.region(noise(96))
    witness = library.witness(region)
    region.bytes[0] ^= 1
    library.matches(witness, region.address, region.size)
    return library.refused(E_WITNESS, "a witness that does not match")


def example_witness(library: Library) -> str:
    region = library.region(noise(12288))
    witness = library.witness(region)
    require(
        library.matches(witness, region.address, 12288),
        "atlas_witness_verify is false for unchanged bytes",
    )
    library.forget(witness)
    return "generate, verify and destroy work as in the example"


def _xor(data: bytes, offset: int, pattern: bytes) -> bytes:
    """Return the data with some bytes XORed with a pattern."""
    changed = bytearray(data)
    for i, byte in enumerate(pattern):
        changed[offset + i] ^= byte
    return bytes(changed)
