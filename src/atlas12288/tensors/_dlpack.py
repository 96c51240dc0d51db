# SPDX-License-Identifier: Apache-2.0
"""Tensors of other libraries, in host memory or on a GPU, and what a witness covers of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .. import _native
from .._tree import TreeWitness
from .._witness import Witness, WitnessStream
from ._content import How, Whole, witness_of
from ._dtypes import name_of_dlpack

if TYPE_CHECKING:
    from .._gpu.jobs import TreeParts


class Content(NamedTuple):
    """A tensor's element type and shape, and the witness of its bytes."""

    dtype: str
    shape: tuple[int, ...]
    witness: Witness | TreeWitness


if TYPE_CHECKING:
    # What was found of a tensor on a device: its tree, its content, or the error that it has there.
    Found = TreeParts | Content | Exception


def is_tensor(array: object) -> bool:
    """Return whether an object gives its memory by DLPack or as a CUDA array; not NumPy's."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(array, numpy.ndarray):
        return False
    return hasattr(array, "__dlpack_device__") or hasattr(array, "__cuda_array_interface__")


def whole_tensor(array: object, what: str) -> Whole:
    """Return what a witness of a tensor in host memory covers.

    Raises:
        BufferError, TypeError: as `tensor_content`.
    """
    tensor = _native.Tensor(array, what)
    dtype = name_of_dlpack(tensor.kind, what)
    if sys.byteorder == "big" and tensor.kind[1] > 8:
        raise TypeError(f"{what} is big-endian, must be little-endian or a NumPy array")
    return Whole(dtype, tensor.shape, _native.bytes_of(tensor))


def tensor_content(array: object, what: str, how: How) -> Content:
    """Return the witness of a tensor's bytes.

    Raises:
        BufferError: it is not C-contiguous; or it is on a device, and the witness flat.
        TypeError: its type has no name here.
        DeviceError: the device, its driver or its kernels are missing, or it failed.
    """
    device = _native.device_of(array)
    if device is None:
        dtype, shape, content = whole_tensor(array, what)
        return Content(dtype, shape, witness_of(content, how))
    ((found,),) = on_devices({device: [(array, what)]}, how)
    return content_of_found(found, what)


def on_devices(
    sources: Mapping[tuple[int, int], Sequence[tuple[object, str]]], how: How
) -> Iterator[Sequence[Found]]:
    """Yield what was found of the tensors of each device, in their order.

    What one device has is launched together, and all devices work at the same time.

    Args:
        sources: tensors by the device that `device_of` gave, each with what messages call it.
        how: as for other arrays.
    """
    from .. import _gpu

    if how.host or not how.tree:
        for device, some in sources.items():
            yield [_copied(array, what, device, how) for array, what in some]
        return
    started = [
        _gpu.trees(some, device, stream=how.stream, leaves=how.leaves, tolerant=True)
        for device, some in sources.items()
    ]
    for pending in started:
        yield pending.result()


def content_of_found(found: Found, what: str) -> Content:
    """Return the content of what was found of a tensor on a device.

    Raises:
        BufferError, TypeError: it has none, or its type has no name here.
        DeviceError: the device failed.
    """
    if isinstance(found, Exception):
        raise found
    if isinstance(found, Content):
        return found
    return Content(name_of_dlpack(found.kind, what), found.shape, TreeWitness._of_device(found))


def _copied(array: object, what: str, device: tuple[int, int], how: How) -> Content | Exception:
    """Return the content of a tensor on a device, copied to host memory; or the error it has."""
    try:
        return _copy(array, what, device, how)
    except (BufferError, TypeError) as error:
        return error


def _copy(array: object, what: str, device: tuple[int, int], how: How) -> Content:
    """Return the content of a tensor on a device, copied to host memory in pieces."""
    from .. import _gpu

    if not how.host:
        raise BufferError(
            f"{what} is on a device, where trees are made, must be in host memory for a flat "
            "witness: x.cpu() is, and host=True copies it there in pieces"
        )
    dtype, shape = _gpu.form_of(array, what, device, how.stream)
    if how.tree:
        tree = TreeWitness._of_copies(array, device, how.threads, how.leaves, how.stream)
        return Content(name_of_dlpack(dtype, what), shape, tree)
    flat = WitnessStream()
    with _gpu.host_chunks(array, device, stream=how.stream, threads=1) as chunks:
        for chunk in chunks:
            flat.update(chunk)
    return Content(name_of_dlpack(dtype, what), shape, flat.witness())
