# SPDX-License-Identifier: Apache-2.0
"""Witnesses of NumPy arrays, and of sets of named arrays, tensor by tensor.

>>> import numpy
>>> from atlas12288.tensors import TensorsWitness
>>> arrays = {"bias": numpy.zeros(3, "f4"), "weight": numpy.ones((2, 3), "f4")}
>>> witness = TensorsWitness.generate(arrays)
>>> arrays["weight"][1, 2] = 0
>>> print(witness.verify(arrays))
tensor 'weight': residue, digest differ

Arrays and .npz files need NumPy, `pip install "atlas12288[numpy]"`; .safetensors files do not.
"""

from .._reports import PartDifference, Report
from ._set import TensorsWitness
from ._witness import ArrayWitness

__all__ = ["ArrayWitness", "PartDifference", "Report", "TensorsWitness"]
