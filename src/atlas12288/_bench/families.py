# SPDX-License-Identifier: Apache-2.0
"""The whole benchmark as data: add a row, a peer or a goal here."""

import hashlib
import importlib
import zlib
from typing import Any, Final

from .._native import WINDOW_BYTES, Domain, residue
from .._tree import TreeWitness
from .._witness import Witness
from .node import UnderNode
from .rows import (
    ANY_SIZE,
    FEW_WINDOWS,
    FROM_CACHE,
    FROM_DRAM,
    FROM_MANY_WINDOWS,
    MIB,
    NS,
    NS_PER_BYTE,
    ONE_WINDOW,
    Bound,
    Family,
    Row,
    Sizes,
    size_text,
)
from .work import LARGE_BYTES, MIB_BYTES, Arena, InC, InPython, PeakMemory

_BUDGET_AMOUNT: Final = 10
_MESSAGE_BYTES: Final = 16 * 2**10


def _budget_names(arena: Arena) -> dict[str, Any]:
    budget = Domain(WINDOW_BYTES, _BUDGET_AMOUNT).budget
    return {"alloc": budget.alloc, "release": budget.release, "amount": _BUDGET_AMOUNT}


def _numpy_names(arena: Arena) -> dict[str, Any]:
    numpy = importlib.import_module("numpy")
    return {"array": numpy.frombuffer(arena.src, dtype=numpy.uint8)}


def _nothing(arena: Arena) -> dict[str, Any]:
    return {}


def _messages(arena: Arena) -> dict[str, Any]:
    starts = range(0, arena.size, _MESSAGE_BYTES)
    return {
        "messages": [arena.src[start : start + _MESSAGE_BYTES] for start in starts],
        "sha256": hashlib.sha256,
        "generate_many": Witness.generate_many,
    }


def _tree(arena: Arena) -> dict[str, Any]:
    return {"tree": TreeWitness}


def _tree_made(arena: Arena) -> dict[str, Any]:
    return {"verify": TreeWitness.generate(arena.src).verify}


_READ: Final = "memory read"
_SHA256: Final = "hashlib.sha256"
_SHA256_LOOP: Final = "a loop over hashlib.sha256"
_BLAKE3: Final = "blake3, 1 core"
_BLAKE3_CORES: Final = "blake3, all cores"
_SUBTLE: Final = "crypto.subtle.digest"
_AS_HASHLIB: Final = (Bound(">=", 0.97, _SHA256),)
_AS_HASHLIB_TREE: Final = Bound(">=", 0.9, _SHA256, ONE_WINDOW)
_ONE_CORE: Final = (
    Bound(">=", 1.7, _SHA256, FROM_MANY_WINDOWS),
    Bound(">=", 3.0, _SHA256, FROM_CACHE),
    Bound(">=", 2.8, _SHA256, FROM_DRAM),
    Bound(">=", 2.5, _SHA256, FROM_MANY_WINDOWS, stretch=True),
)
_TWO_CORES: Final = (
    Bound(">=", 3.2, _SHA256, FROM_MANY_WINDOWS),
    Bound(">=", 6.0, _SHA256, FROM_CACHE),
    Bound(">=", 5.6, _SHA256, FROM_DRAM),
)


def _faster_than(peer: str) -> tuple[Bound, ...]:
    """Return the goals of trees beside BLAKE3 on the same cores."""
    return Bound(">=", 1.15, peer, FROM_CACHE), Bound(">=", 1.08, peer, FROM_DRAM)


_WITNESS_TARGET: Final = Bound(">=", 1)

_HASHLIB: Final = InPython("sha256(buf).digest()", lambda arena: {"sha256": hashlib.sha256})

FAMILIES: tuple[Family, ...] = (
    Family(
        "conserved copy",
        (
            Row(
                "conserved copy",
                "C",
                InC("conserved_memcpy"),
                ("memcpy",),
                # The contract's note: "aligned 12,288-byte windows".
                Bound(">=", 25, sizes=ONE_WINDOW),
                (
                    Bound(">=", 60, sizes=ONE_WINDOW),
                    Bound(">=", 0.6, "memcpy", ONE_WINDOW),
                    Bound(">=", 0.9, "memcpy", FROM_DRAM),
                    Bound(">=", 1.0, "memcpy", FROM_DRAM, stretch=True),
                ),
            ),
        ),
        {"memcpy": InC("memcpy")},
    ),
    Family(
        "conserved fill",
        (
            Row(
                "conserved fill",
                "C",
                InC("conserved_memset"),
                ("memset",),
                Bound(">=", 30, sizes=ONE_WINDOW),
                (Bound(">=", 0.95, "memset"),),
            ),
        ),
        {"memset": InC("memset")},
    ),
    Family(
        "delta",
        (
            Row(
                "delta",
                "C",
                InC("delta"),
                (_READ,),
                Bound("<", 10),
                (
                    Bound("<=", 0.03, sizes=ONE_WINDOW),
                    Bound(">=", 0.9, _READ, FROM_DRAM),
                ),
            ),
        ),
        {_READ: InC("read_both")},
        NS_PER_BYTE,
    ),
    Family(
        "residue",
        (
            Row("residue", "C", InC("residue"), (_READ,)),
            Row(
                "residue",
                "Python",
                InPython("residue(buf)", lambda arena: {"residue": residue}),
                (
                    "xxhash.xxh3_64_intdigest",
                    "google_crc32c.value",
                    "zlib.crc32",
                    "numpy.sum",
                ),
                goals=tuple(
                    Bound(">", 1, peer, ONE_WINDOW)
                    for peer in ("xxhash.xxh3_64_intdigest", "zlib.crc32", "numpy.sum")
                ),
            ),
        ),
        {
            _READ: InC("read"),
            "xxhash.xxh3_64_intdigest": InPython(
                "xxh3(buf)",
                lambda arena: {"xxh3": importlib.import_module("xxhash").xxh3_64_intdigest},
                "xxhash",
            ),
            "google_crc32c.value": InPython(
                "crc32c(data)",  # it takes bytes alone
                lambda arena: {
                    "crc32c": importlib.import_module("google_crc32c").value,
                    "data": bytes(arena.src),
                },
                "google_crc32c",
            ),
            "zlib.crc32": InPython("crc32(buf)", lambda arena: {"crc32": zlib.crc32}),
            "numpy.sum": InPython("array.sum(dtype=module.uint64)", _numpy_names, "numpy"),
        },
    ),
    Family(
        "flat witness",
        (
            Row(
                "witness generate",
                "C",
                InC("witness_generate"),
                (_SHA256,),
                _WITNESS_TARGET,
                _AS_HASHLIB,
            ),
            Row(
                "witness generate",
                "Python",
                InPython("generate(buf)", lambda arena: {"generate": Witness.generate}),
                (_SHA256,),
                _WITNESS_TARGET,
                _AS_HASHLIB,
            ),
            Row(
                "witness verify",
                "C",
                InC("witness_verify"),
                (_SHA256,),
                _WITNESS_TARGET,
                _AS_HASHLIB,
            ),
            Row(
                "witness verify",
                "Python",
                InPython(
                    "verify(buf)", lambda arena: {"verify": Witness.generate(arena.src).verify}
                ),
                (_SHA256,),
                _WITNESS_TARGET,
                _AS_HASHLIB,
            ),
        ),
        {_SHA256: _HASHLIB},
    ),
    Family(
        "many messages",
        (
            Row(
                f"many messages of {size_text(_MESSAGE_BYTES)}, 1 core",
                "Python",
                InPython("generate_many(messages, threads=1)", _messages),
                (_SHA256_LOOP,),
                goals=(Bound(">=", 2.5, _SHA256_LOOP, ANY_SIZE),),
            ),
        ),
        {_SHA256_LOOP: InPython("[sha256(each).digest() for each in messages]", _messages)},
        sizes=FROM_MANY_WINDOWS,
    ),
    Family(
        "tree witness",
        (
            Row("tree root, 1 core", "C", InC("tree"), (_SHA256,), goals=_ONE_CORE),
            Row(
                "tree generate, 1 core",
                "Python",
                InPython("tree.generate(buf, threads=1)", _tree),
                (_SHA256, _BLAKE3),
                goals=(
                    _AS_HASHLIB_TREE,
                    *_ONE_CORE,
                    Bound(">=", 1, _BLAKE3, FEW_WINDOWS),
                    *_faster_than(_BLAKE3),
                ),
            ),
            Row(
                "tree verify, 1 core",
                "Python",
                InPython("verify(buf, threads=1)", _tree_made),
                (_SHA256, _BLAKE3),
                goals=(*_ONE_CORE, *_faster_than(_BLAKE3)),
            ),
            Row(
                "tree generate, AVX2 only, 1 core",
                "Python",
                InPython("tree.generate(buf, threads=1)", _tree),
                (_SHA256, _BLAKE3),
                goals=(Bound(">=", 1, sizes=FROM_MANY_WINDOWS),),
                kernels="x86-64-v3",
            ),
            Row(
                "tree generate, all cores",
                "Python",
                InPython("tree.generate(buf)", _tree),
                (_SHA256, _BLAKE3_CORES),
                goals=(*_TWO_CORES, *_faster_than(_BLAKE3_CORES)),
                cores=2,
            ),
            Row(
                "tree verify, all cores",
                "Python",
                InPython("verify(buf)", _tree_made),
                (_SHA256, _BLAKE3_CORES),
                goals=(*_TWO_CORES, *_faster_than(_BLAKE3_CORES)),
                cores=2,
            ),
        ),
        {
            _SHA256: _HASHLIB,
            _BLAKE3: InPython("module.blake3(buf).digest()", _nothing, "blake3"),
            _BLAKE3_CORES: InPython(
                "module.blake3(buf, max_threads=module.blake3.AUTO).digest()", _nothing, "blake3"
            ),
        },
    ),
    Family(
        "WebAssembly",
        (
            Row(
                "WASM conserved copy",
                "Node",
                UnderNode("conserved copy"),
                ("native conserved copy",),
                goals=(Bound(">=", 5, sizes=ONE_WINDOW),),
            ),
            Row(
                "WASM residue",
                "Node",
                UnderNode("residue"),
                ("native residue",),
                goals=(Bound(">=", 10, sizes=ONE_WINDOW),),
            ),
            Row(
                "WASM witness generate",
                "Node",
                UnderNode("flat witness (SHA-256)"),
                (_SUBTLE, "native witness generate"),
            ),
            Row(
                "WASM tree generate",
                "Node",
                UnderNode("tree witness"),
                (_SUBTLE, "native tree root"),
            ),
        ),
        {
            _SUBTLE: UnderNode(_SUBTLE, kernels=None),
            "native conserved copy": InC("conserved_memcpy"),
            "native residue": InC("residue"),
            "native witness generate": InC("witness_generate"),
            "native tree root": InC("tree"),
        },
        # Above, Node would need as much memory as all others, for minutes.
        sizes=Sizes(0, 64 * MIB_BYTES),
    ),
    Family(
        "budget",
        (
            Row("budget alloc + release", "C", InC("budget"), goals=(Bound("<=", 50),)),
            Row(
                "budget alloc + release",
                "Python",
                InPython("alloc(amount); release(amount)", _budget_names),
                goals=(Bound("<=", 150),),
            ),
        ),
        unit=NS,
        sized=False,
    ),
    Family(
        "memory",
        tuple(
            Row(
                f"memory to {work} a file of {size_text(LARGE_BYTES)}",
                "command line",
                PeakMemory(arguments),
                goals=(Bound("<=", 64),),
            )
            for work, arguments in (
                ("witness", ("witness",)),
                ("tree-witness", ("witness", "--tree")),
            )
        ),
        unit=MIB,
        sized=False,
        timed=False,
    ),
)
