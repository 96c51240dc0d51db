# SPDX-License-Identifier: Apache-2.0
"""Section 2.1 of RFC 9162 in its own words: recursive, one hash at a time, over the entries D."""

import hashlib
from functools import cache

Entries = tuple[bytes, ...]


def split(n: int) -> int:
    """k, the largest power of two smaller than n."""
    return max(1 << i for i in range(n.bit_length()) if 1 << i < n)


@cache
def mth(d: Entries) -> bytes:
    """2.1.1, MTH(D[n])."""
    if len(d) <= 1:
        return hashlib.sha256(b"\0" + d[0] if d else b"").digest()
    k = split(len(d))
    return hashlib.sha256(b"\1" + mth(d[:k]) + mth(d[k:])).digest()


def path(m: int, d: Entries) -> Entries:
    """2.1.3.1, PATH(m, D[n])."""
    if len(d) == 1:
        return ()
    k = split(len(d))
    if m < k:
        return (*path(m, d[:k]), mth(d[k:]))
    return (*path(m - k, d[k:]), mth(d[:k]))


def subproof(m: int, d: Entries, b: bool = True) -> Entries:
    """2.1.4.1, SUBPROOF(m, D[n], b); PROOF(m, D[n]) is that with b true."""
    if m == len(d):
        return () if b else (mth(d),)
    k = split(len(d))
    if m <= k:
        return (*subproof(m, d[:k], b), mth(d[k:]))
    return (*subproof(m - k, d[k:], False), mth(d[:k]))


def sides(m: int, n: int) -> str:
    """On which side of the path's hashes the way from leaf m of n goes, from the leaf up."""
    if n == 1:
        return ""
    k = split(n)
    return sides(m, k) + "L" if m < k else sides(m - k, n - k) + "R"
