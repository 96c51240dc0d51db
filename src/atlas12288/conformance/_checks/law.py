# SPDX-License-Identifier: Apache-2.0
"""Checks of the conservation law, as domains verify it, and of deltas."""

from typing import Final

from .._numbers import MODULUS, WINDOW_BYTES
from .._outcome import require
from .._subjects.library import CallerBytes, Library, conserved, noise

# Lengths at and around the likely bounds of a kernel or a table.
LENGTHS: Final = (1, 2, 95, 96, 97, 255, 256, 257, 4096, 12287, 12288, 12289, 24577)


def _judge(library: Library, region: CallerBytes, expected: bool, what: str) -> None:
    """Require that a domain verifies the region exactly when it is conserved."""
    with library.domain(region) as domain:
        found = library.verify(domain)
    require(
        found == expected,
        f"atlas_domain_verify is {found} for {what}, must be {expected}".lower(),
    )


def modulus(library: Library) -> str:
    region = library.region(4)
    sums = range(4 * 255 + 1)
    for total in sums:
        whole, rest = divmod(total, 255)
        region.bytes[:] = bytes([255] * whole + [rest] * (whole < 4)).ljust(4, b"\0")
        _judge(library, region, total % MODULUS == 0, f"four bytes with sum {total}")
    for length in LENGTHS:
        data = conserved(noise(length))
        _judge(library, library.region(data), True, f"{length} bytes with residue 0")
        for residue in (1, 95):
            off = bytes([*data[:-1], data[-1] + residue])
            _judge(library, library.region(off), False, f"{length} bytes with residue {residue}")
    return (
        f"four bytes with sums 0 to {sums[-1]}, and {len(LENGTHS)} lengths up to {LENGTHS[-1]}: "
        f"verified exactly if the sum is divisible by {MODULUS}"
    )


def every_byte(library: Library) -> str:
    most = 300
    for length in (*range(1, most + 1), *LENGTHS):
        region = library.region(conserved(noise(length)))
        positions = range(length) if length == most else {0, length // 2, length - 1}
        with library.domain(region) as domain:
            for position in positions:
                region.bytes[position] ^= 1
                require(
                    not library.verify(domain),
                    f"atlas_domain_verify is true for {length} bytes after byte {position} changed "
                    "by 1, must be false",
                )
                region.bytes[position] ^= 1
            require(
                library.verify(domain),
                f"atlas_domain_verify is false for {length} conserved bytes, must be true",
            )
    return f"a change by 1 is seen at each of {most} positions, and in the last byte of {length}"


def every_window(library: Library) -> str:
    windows = 5
    region = library.region(conserved(noise(windows * WINDOW_BYTES + 7)))
    with library.domain(region) as domain:
        require(
            library.verify(domain),
            f"atlas_domain_verify is false for {windows} windows and 7 bytes that are conserved",
        )
        for start in range(0, region.size, WINDOW_BYTES):
            last = min(start + WINDOW_BYTES, region.size) - 1
            for position in (start, (start + last) // 2, last):
                region.bytes[position] ^= 1
                require(
                    not library.verify(domain),
                    f"atlas_domain_verify is true after byte {position}, in window "
                    f"{start // WINDOW_BYTES} of {windows + 1}, changed by 1, must be false",
                )
                region.bytes[position] ^= 1
    # Each window breaks the law, but together they keep it.
    data = bytearray(2 * WINDOW_BYTES)
    data[0], data[WINDOW_BYTES] = 1, MODULUS - 1
    _judge(library, library.region(bytes(data)), True, "two windows with residues 1 and 95")
    return f"a change by 1 is seen in each of {windows + 1} windows"


def unsigned(library: Library) -> str:
    for byte in range(128, 256):
        data = conserved(bytes([byte, 0]))
        _judge(library, library.region(data), True, f"the bytes {data[0]} and {data[1]}")
        data = bytes([byte, 256 - byte])  # 256 is 64 mod 96; as signed bytes their sum is 0
        _judge(library, library.region(data), False, f"the bytes {data[0]} and {data[1]}")
    return "bytes 128 to 255 count as 128 to 255"


def _wide(library: Library, bits: int) -> str:
    """Try sums around 2^bits of 0xFF bytes and one last byte; 2^bits is 64 mod 96, not 0."""
    bound = 2**bits
    length = bound // 255 + 2
    region = library.region(length)
    region.fill(255)
    others = 255 * (length - 1)
    for wrapped in (False, True):
        residue = (others - (bound if wrapped else 0)) % MODULUS
        last = (MODULUS - residue) % MODULUS
        region.bytes[-1] = last
        total = others + last
        what = f"{length} bytes with sum {total}, which is {total % MODULUS} mod 96"
        _judge(library, region, total % MODULUS == 0, what)
    return f"sums beyond 2^{bits}, of {length} bytes, are exact"


def wide_16(library: Library) -> str:
    return _wide(library, 16)


def wide_32(library: Library) -> str:
    return _wide(library, 32)


# --- Delta ---


def _delta(library: Library, before: CallerBytes, after: CallerBytes, what: str) -> None:
    expected = (after.residue() - before.residue()) % MODULUS
    found = library.delta(before.address, after.address, before.size)
    require(found == expected, f"atlas_conserved_delta is {found} for {what}, must be {expected}")


def delta_value(library: Library) -> str:
    for length in LENGTHS:
        before, after = library.region(noise(length, 1)), library.region(noise(length, 2))
        _delta(library, before, after, f"{length} random bytes")
        _delta(library, before, before, f"{length} bytes compared with themselves")
    return f"(residue after - residue before) mod 96 for {len(LENGTHS)} lengths"


def delta_direction(library: Library) -> str:
    before, after = library.region(1), library.region(1)
    for value in range(256):
        after.bytes[0] = value
        _delta(library, before, after, f"before 0, after {value}")
    return "before 0, after 0 to 255: the delta is the byte after, mod 96"


def delta_negative(library: Library) -> str:
    before, after = library.region(4), library.region(4)
    for value in range(1, 256):
        before.bytes[:] = bytes([value] * 4)
        _delta(library, before, after, f"before four times {value}, after 0")
    return "before 4 to 1020, after 0: the delta is in 0..95 and exact mod 96"


def delta_wide(library: Library) -> str:
    for bits in (16, 32):
        length = 2**bits // 255 + 2
        full, empty = library.region(length), library.region(length)
        full.fill(255)
        expected = 255 * length % MODULUS
        for before, after, delta in (
            (empty, full, expected),
            (full, empty, (MODULUS - expected) % MODULUS),
        ):
            found = library.delta(before.address, after.address, length)
            require(
                found == delta,
                f"atlas_conserved_delta is {found} for {length} bytes whose sums differ by more "
                f"than 2^{bits}, must be {delta}",
            )
    return "deltas of sums that differ by more than 2^16 and 2^32, up and down, are exact"


# --- Kernels in LLVM IR ---


def kernel_delta(library: Library) -> str:
    kernel = library.extension("atlas.conserved.delta")
    for length in LENGTHS:
        before, after = library.region(noise(length, 1)), library.region(noise(length, 2))
        expected = (after.residue() - before.residue()) % MODULUS
        found = kernel(before.address, after.address, length) & 0x7F  # i7: the rest is undefined
        require(
            found == expected, f"the kernel gives {found} for {length} bytes, must give {expected}"
        )
    return f"exported, and correct for {len(LENGTHS)} lengths"


def kernel_check(library: Library) -> str:
    kernel = library.extension("atlas.conserved.window.check")
    for length in LENGTHS:
        region = library.region(conserved(noise(length)))
        for residue in (0, 1):
            region.bytes[-1] += residue
            found = kernel(region.address, length) & 1  # i1
            require(
                found == (not residue),
                f"the kernel gives {found} for {length} bytes with residue {residue}",
            )
    return f"exported, and correct for {len(LENGTHS)} lengths"


def kernel_update(library: Library) -> str:
    kernel = library.extension("atlas.conserved.update")
    # The contract does not define the contents or the size of the state; this size is ample.
    state = library.region(4096)
    whole = library.region(noise(1000))
    for start, end in ((0, 1), (1, 97), (97, 97), (97, 1000)):
        kernel(state.address, whole.address + start, end - start)
    first = int.from_bytes(state.bytes[:8], "little")
    if first == whole.residue():
        return f"exported; after 4 chunks the first 64 bits of the state are the residue, {first}"
    return "exported, and runs; the contract does not define the state"
