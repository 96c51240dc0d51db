# SPDX-License-Identifier: Apache-2.0
"""The bytes of a tensor on a device, copied to host memory in pieces."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._subtree import BLOCK_BYTES
from . import device as devices
from .jobs import hold, job_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .._native import _HeldOnDevice as Held

PIECE_BYTES = 2 * BLOCK_BYTES  # 6 MiB: long enough for the bus, and whole blocks of a tree


@contextmanager
def pieces(
    source: object, number: int, stream: object, under_way: int = 1
) -> Iterator[Iterator[memoryview]]:
    """Give the bytes in order, in pinned memory that is freed at the end of the block.

    The next piece is copied while a caller works on others.

    Args:
        source: the tensor.
        number: of its device.
        stream: the stream to copy on; None for ours.
        under_way: how many of the last pieces stay as they are while a caller works on them. The
            memory is 6 MiB for each, and for two more.
    """
    from cuda.core import LegacyPinnedMemoryResource, Stream

    with devices.current(number) as device:
        job = job_on(device, stream)
        on = Stream.from_handle(job.handle)
        held = hold(source, "buf", job)
        count = -(-held.length // PIECE_BYTES)
        memory = LegacyPinnedMemoryResource()
        buffers = [memory.allocate(PIECE_BYTES) for _ in range(min(count, under_way + 2))]
    try:
        yield _copied(number, held, on, [int(buffer.handle) for buffer in buffers], count)
    finally:
        with devices.current(number):
            on.record().sync()  # a copy may be under way into what is freed
            for buffer in buffers:
                buffer.close()


def _copied(
    number: int, held: Held, stream: Any, addresses: list[int], count: int
) -> Iterator[memoryview]:
    """Yield each piece when it is there, after the copy of the next one has begun."""
    events: list[Any] = []
    sizes = [min(PIECE_BYTES, held.length - PIECE_BYTES * k) for k in range(count)]
    api = devices.driver()
    for index, size in enumerate(sizes):
        address = addresses[index % len(addresses)]
        with devices.current(number):
            for k in range(len(events), min(index + 2, count)):
                start, target = held.address + PIECE_BYTES * k, addresses[k % len(addresses)]
                devices.check(api.cuMemcpyDtoHAsync(target, start, sizes[k], stream.handle))
                events.append(stream.record())
            events[index].sync()
        yield memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B").toreadonly()
