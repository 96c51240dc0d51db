# SPDX-License-Identifier: Apache-2.0
"""Calls everything that the binding has on objects that its own code never makes; see
test_binding.py, which runs this in a process of its own. Exit code 0: none of it hurt the process.

    python tests/support/hostile_calls.py SEED CALLS
"""

import copy
import ctypes
import gc
import pickle
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy

import atlas12288 as atlas
from atlas12288 import _native

CLASSES: list[type[Any]] = [value for value in vars(_native).values() if isinstance(value, type)]
FUNCTIONS: list[Callable[..., Any]] = [
    value for name, value in vars(_native).items() if callable(value) and value not in CLASSES
]
LEFT_ALONE = {
    *("register_errors", "register_gpu", "register_tasks", "register_trees"),  # change the others
    "cuda_device",  # its addresses are called
    "lease",  # could wait without end; `some_of_each` has leases
}


# Functions of a driver that do nothing else.
FAILS = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 719)
SUCCEEDS = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0)


class Odd:
    """A number, a sequence and a context, each of its own kind."""

    def __index__(self) -> int:
        raise KeyError

    def __len__(self) -> int:
        return 2**62

    def __eq__(self, _: object) -> bool:
        raise KeyError

    def __hash__(self) -> int:
        return 1


def some_of_each() -> list[Any]:
    """Objects as users have them, and what is in use of them."""
    domain = atlas.Domain(bytes=96, budget_class=50)
    domain.attach(bytearray(96))
    used = domain.transaction()
    used.__enter__()
    committed = atlas.Domain(bytes=96)
    committed.attach(bytes(96))
    committed.commit()
    closed = atlas.Domain(bytes=96)
    budget = closed.budget
    closed.close()
    objects = [domain, committed, closed, used, domain.budget, budget, domain.budget.lease(5)]
    objects += [domain.budget.lease(51, 1e-4), domain.budget.lease_async(5)]
    objects += [atlas.Witness.generate(b"a"), atlas.WitnessStream(b"a"), atlas.TreeHash(b"a")]
    region = atlas.Region(5000)
    exported = atlas.Region(96)
    objects += [region, exported, memoryview(exported), _native._Whole(region)]
    objects += [atlas.Residue(b"a"), _native._Held(bytearray(9)), _native._Held(region)]
    watch = _native.Watch(bytearray(12289), bytes(64))
    changing = watch.change([(0, 1)])
    changing.__enter__()
    remote = _native.RemoteWatch(bytes(64))
    far = remote.change([(0, 2)], lambda: (bytes(64), bytes(2)))
    far.__enter__()
    objects += [watch, changing, watch.change([(1, 2)]), remote, far]
    objects.append(_native.Change.__new__(_native.Change, watch))
    objects += [_native.Buffers((b"a",)), _native.SumLines(b"0" * 64 + b"  name\n", 0, 9, 9)]
    objects += [_native.FileSums(["a", "-", __file__])]
    functions = [
        SUCCEEDS if name == "cuStreamIsCapturing" else FAILS for name in _native.CUDA_CALLS
    ]
    addresses = [ctypes.cast(each, ctypes.c_void_p).value or 0 for each in functions]
    device = _native.cuda_device(0, 4, addresses, (1, 2, 3), ValueError, int)
    job = _native.CudaJob(device, 1)
    objects += [device, job, _native.CudaJob(device, 2), _native.CudaDownload(job, 0, 9)]
    return [*objects, _native.Tensor(numpy.arange(9), "array")]


def subclass(kind: type[Any], chance: random.Random, given: Any) -> type[Any]:
    """A class whose hooks do what they must not; `kind` itself where it is final."""
    hooks: dict[str, Any] = {
        "__new__": lambda *_, **__: given,
        "__init__": lambda self, *_, **__: None,
        "__eq__": lambda self, other: given,
        "__hash__": lambda self: 1,
        "__bytes__": lambda self: given,
        "__del__": lambda self: getattr(self, "close", int)(),
        "__reduce_ex__": lambda self, _: (copy.copy, (given,)),
    }
    chosen = {name: hook for name, hook in hooks.items() if chance.random() < 0.4}
    try:
        return type("Hostile", (kind,), chosen)
    except TypeError:
        return kind


def made(kind: type[Any], chance: random.Random, pool: list[Any]) -> Any:
    """An object of a class by one of the ways that Python has."""
    arguments = [chance.choice(pool) for _ in range(chance.randrange(3))]
    ways: list[Callable[[], Any]] = [
        lambda: kind.__new__(kind),
        lambda: kind.__new__(kind, *arguments),
        lambda: kind(*arguments),
        lambda: copy.copy(chance.choice(pool)),
        lambda: copy.deepcopy(chance.choice(pool)),
        lambda: pickle.loads(pickle.dumps(chance.choice(pool), chance.randrange(5))),
        lambda: object.__new__(kind),
        lambda: object.__reduce_ex__(chance.choice(pool), chance.randrange(5)),
        lambda: next(base for base in CLASSES if base is not kind).__new__(kind),
    ]
    return chance.choice(ways)()


def call(target: Any, chance: random.Random, pool: list[Any]) -> Any:
    """Uses one attribute of an object, with arguments of any kind."""
    name = chance.choice(dir(target))
    if name in LEFT_ALONE or name in ("__class__", "__init_subclass__", "__subclasshook__"):
        return None
    value = getattr(target, name)
    if not callable(value) or chance.random() < 0.05:
        return value
    arguments = [chance.choice(pool) for _ in range(chance.choice((0, 0, 1, 1, 1, 2, 3)))]
    return value(*arguments)


def main(seed: int, calls: int) -> None:
    chance = random.Random(seed)
    plain = [None, 0, 1, -1, 5, 95, 2**64, True, 1.5, "", "sha256", b"", bytes(96), bytearray(96)]
    plain += [bytes(_native.WITNESS_BYTES), (), [], {}, Odd(), object(), KeyError(), KeyError]
    reached: set[str] = set()
    pool: list[Any] = []
    ours: list[Any] = []
    kept: list[tuple[atlas.Witness, bytes]] = []  # witnesses, and what they were at first
    for number in range(calls):
        if number % 200 == 0:
            ours = some_of_each()
            pool = [*plain, *ours, *CLASSES]
            kept += [(one, bytes(one)) for one in ours if type(one) is atlas.Witness]
            gc.collect()
        kind = chance.choice(CLASSES)
        with suppress(Exception):
            if chance.random() < 0.5:
                kind = subclass(kind, chance, chance.choice(pool))
            target = chance.choice(ours) if chance.random() < 0.5 else made(kind, chance, pool)
            if chance.random() < 0.1:
                function = chance.choice(FUNCTIONS)
                if function.__name__ not in LEFT_ALONE:
                    function(*(chance.choice(pool) for _ in range(chance.randrange(1, 4))))
            reached.add(type(target).__name__)
            if not issubclass(type(target), tuple(CLASSES)):
                continue  # Python's own: 5 ** 2**64 takes its time
            ours.append(target)
            pool.append(target)
            result = call(target, chance, pool)
            if chance.random() < 0.2:
                pool.append(result)
    assert all(bytes(witness) == form for witness, form in kept), "a witness was rewritten"
    lacking = {kind.__name__ for kind in CLASSES if kind is not _native._Watch} - reached
    assert not lacking, lacking


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
