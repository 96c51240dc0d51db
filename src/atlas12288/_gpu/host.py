# SPDX-License-Identifier: Apache-2.0
"""The bytes of a tensor on a device, copied to host memory in pieces."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from .._subtree import BLOCK_BYTES
from . import device as devices
from .jobs import held_tensor

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

PIECE_BYTES = 2 * BLOCK_BYTES  # 6 MiB: long enough for the bus, and whole blocks of a tree


def pieces(
    source: object, number: int, stream: object, under_way: int = 1
) -> Generator[memoryview, None, None]:
    """Yield the bytes in order, in pinned memory; the next pieces are copied meanwhile.

    Args:
        source: the tensor.
        number: of its device.
        stream: the stream to copy on; None for ours.
        under_way: how many of the last pieces stay as they are while a caller works on them. The
            memory is 6 MiB for each, and for two more.
    """
    from cuda.core import LegacyPinnedMemoryResource

    with devices.current(number) as device:
        on = device.stream_of(stream)
        held = held_tensor(source, "buf", on)
        starts = range(0, held.length, PIECE_BYTES)
        memory = LegacyPinnedMemoryResource()
        buffers = [memory.allocate(PIECE_BYTES) for _ in starts[: under_way + 2]]
    copied: list[Any] = []

    def copy(index: int) -> None:
        size = min(PIECE_BYTES, held.length - starts[index])
        target = int(buffers[index % len(buffers)].handle)
        api = devices.driver()
        with devices.current(number):
            started = api.cuMemcpyDtoHAsync(target, held.address + starts[index], size, on.handle)
            devices.check(started)
            copied.append(on.record())

    try:
        for index, start in enumerate(starts):
            # One piece is always under way beside those that the caller works on.
            while len(copied) <= min(index + 1, len(starts) - 1):
                copy(len(copied))
            with devices.current(number):
                copied[index].sync()
                copied[index] = None
            size = min(PIECE_BYTES, held.length - start)
            address = int(buffers[index % len(buffers)].handle)
            yield memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B").toreadonly()
    finally:
        with devices.current(number):
            for event in copied:
                if event is not None:
                    event.sync()  # its buffer is about to go
            for buffer in buffers:
                buffer.close()
