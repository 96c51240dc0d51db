# SPDX-License-Identifier: Apache-2.0
"""Runs the text of PTX modules without a GPU, and finds what a GPU would let pass.

A kernel runs over a grid, all threads an instruction at a time. Errors name the kernel, the line
and the thread: for an access outside an allocation or not aligned, for a read of bytes that nobody
wrote, for a barrier that not all threads reach, and for two accesses to one byte that nothing
orders. What the text guarantees (barriers, fences, atomic operations) is order, not what happened
to come first: a missing barrier shows in every order.

>>> memory = GlobalMemory()
>>> data, hashes = memory.allocate(bytes(12288)), memory.allocate(32)
>>> Module(text, memory).launch("leaves", grid=1, block=64, arguments=[data, 12288, hashes])
>>> memory.read(hashes, 32)
"""

from .launch import BarrierError, Module
from .memory import AccessError, GlobalMemory, RaceError
from .text import PtxError, UnknownInstructionError

__all__ = [
    "AccessError",
    "BarrierError",
    "GlobalMemory",
    "Module",
    "PtxError",
    "RaceError",
    "UnknownInstructionError",
]
