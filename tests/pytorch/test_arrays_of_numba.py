# SPDX-License-Identifier: Apache-2.0
"""Arrays of numba-cuda, which are no DLPack tensors, by the driver without a GPU."""

import sys
from pathlib import Path

import pytest

from support.fake_device import build_driver, run_with_driver
from support.tools import needs

pytest.importorskip("numba.cuda")
pytestmark = [
    needs("cc"),
    pytest.mark.skipif(sys.platform != "linux", reason="the driver is built for Linux"),
]

CODE = """
import numpy
from numba import cuda
import atlas12288 as atlas
from atlas12288.tensors import ArrayWitness
from support.fake_device import FakeDriver
from support.strategies import noise

driver = FakeDriver()
data = noise(300)
host = numpy.frombuffer(data, "u1")
array = cuda.to_device(host)
assert not hasattr(array, "__dlpack__")
found, expected = atlas.TreeWitness.generate(array), atlas.TreeWitness.generate(data)
assert (found.root, found.residue, found.leaves) == (
    expected.root, expected.residue, expected.leaves
)
assert expected.verify(array) and atlas.window_residues(array) == atlas.window_residues(data)
for dtype in ("i2", "f4", "c16", "?"):
    typed = host[:96].view(dtype) if dtype != "?" else host[:96] > 99
    found = ArrayWitness.generate(cuda.to_device(typed), tree=True)
    expected = ArrayWitness.generate(typed, tree=True)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.digest == expected.digest

# A part of an array lies where it begins, and at any address.
assert atlas.residue(array[7:]) == atlas.residue(data[7:])
matrix = cuda.to_device(host.reshape(20, 15))
for part in (matrix[:, :3], array[::2]):  # a transpose would be compiled
    try:
        atlas.residue(part)
    except BufferError as error:
        assert "C-contiguous" in str(error)
    else:
        raise AssertionError(part)
assert atlas.residue(cuda.device_array((0, 3), "f8")) == 0

# What Numba still writes on a stream is waited for, on the device.
stream = cuda.stream()
waits = driver.calls("cuStreamWaitEvent")
late = cuda.to_device(host, stream=stream)
assert late.__cuda_array_interface__["stream"] == int(stream.handle)
assert atlas.residue(late) == atlas.residue(data)
assert driver.calls("cuStreamWaitEvent") > waits
"""


def test_arrays_of_numba_are_hashed_where_they_live(tmp_path: Path) -> None:
    done = run_with_driver(build_driver(tmp_path), CODE)
    assert done.returncode == 0, f"{done.stdout!r}\n{done.stderr.decode()}"
