# SPDX-License-Identifier: Apache-2.0
"""Trees and residues of what lies in the memory of a GPU; needs the extra `cuda`.

The functions take tensors with the device that `_native.device_of` found for them. With `host` they
copy them in pieces and hash them there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from .. import _native
from .._parallel import most_under_way
from .kernels import CUDA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import ModuleType

    from .._pending import Pending
    from .jobs import TreeParts

    Number = tuple[int, int]  # type and number of a device, as DLPack has them


@lru_cache(maxsize=1)
def _jobs() -> ModuleType:
    """Return what starts work; later, because most programs have no tensors on a GPU.

    An import costs two microseconds also where the module is there.
    """
    from . import jobs

    return jobs


def release_device_memory() -> None:
    """Give back the memory that we keep on all devices for later calls, at most 64 MiB each.

    Raises:
        DeviceError: a device failed.
    """
    from .device import release_memory

    release_memory()


def residue(buf: object, device: Number, stream: object, host: bool) -> int:
    """Return the residue of a tensor on a device."""
    number = _cuda_number(buf, device)
    if host:
        from .host import pieces

        total = _native.Residue()
        with pieces(buf, number, stream) as copied:
            for piece in copied:
                total.update(piece)
        return total.value
    found: Pending[list[int]] = _jobs().residues([(buf, "buf")], number, stream=stream)
    return found.result()[0]


def window_residues(buf: object, device: Number, stream: object, host: bool) -> bytes:
    """Return the residue of each window of a tensor on a device."""
    number = _cuda_number(buf, device)
    if host:
        from .host import pieces

        with pieces(buf, number, stream) as copied:  # of whole windows, all but the last one
            return b"".join(map(_native.window_residues, copied))
    found: Pending[bytes] = _jobs().window_residues(buf, number, stream=stream)
    return found.result()


def trees(
    sources: Sequence[tuple[object, str]],
    device: Number,
    *,
    stream: object,
    leaves: bool,
    tolerant: bool = False,
) -> Pending[list[TreeParts | Exception]]:
    """Start the trees of tensors on one device; `jobs.trees` says more."""
    number = _cuda_number(sources[0][0], device)
    found: Pending[list[TreeParts | Exception]] = _jobs().trees(
        sources, number, stream=stream, leaves=leaves, tolerant=tolerant
    )
    return found


def host_chunks(
    buf: object, device: Number, *, stream: object, threads: int
) -> AbstractContextManager[Iterator[memoryview]]:
    """Give the bytes of a tensor in chunks of whole blocks, for so many threads at once."""
    from .host import pieces

    return pieces(buf, _cuda_number(buf, device), stream, most_under_way(threads))


def form_of(
    source: object, name: str, device: Number, stream: object
) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Return DLPack's code, bits and lanes of a tensor's elements, and its shape."""
    from . import device as devices
    from .jobs import hold, job_on

    with devices.current(_cuda_number(source, device)) as found:
        held = hold(source, name, job_on(found, stream))
    return held.kind, held.shape


def _cuda_number(source: object, device: Number) -> int:
    """Return the number of a CUDA device.

    Raises:
        BufferError: the tensor is on a device of another make.
    """
    kind, number = device
    if kind not in CUDA:
        raise BufferError(
            f"the {type(source).__name__} is on a device of the DLPack type {kind}, must be in "
            "host memory or on a CUDA device: x.cpu() is in host memory"
        )
    return number
