# SPDX-License-Identifier: Apache-2.0
"""The witness of one array, and its JSON form.

    {"type": "atlas12288/array/v1", "algorithm": "sha256", "dtype": "float32", "shape": [2, 3],
     "length": 24, "residue": 90, "digest": "<64 lowercase hex digits>",
     "timestamp": "2025-01-31T12:00:00.000000000Z"}

on one line; as strict as the JSON of a witness.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Self

from .. import _json
from .._native import MODULUS
from .._parallel import thread_count
from .._tree import TreeWitness
from .._types import Lazy, Memory, Stream
from .._value import Value
from .._witness import ALGORITHM, TREE_ALGORITHM, UINT64_MAX, Record, Witness, read_timestamp
from ._content import Chunks, How, content_of, require_numpy, witness_of
from ._dlpack import is_tensor, tensor_content
from ._dtypes import SHAPE_RULE, WHOLE_RULE, bits_of, form_of, is_shape, length_of

if TYPE_CHECKING:
    import numpy
else:
    numpy = Lazy("numpy")

JSON_TYPE = "atlas12288/array/v1"
_KEYS = (*("type", "algorithm", "dtype", "shape", "length", "residue", "digest", "timestamp"),)


class ArrayWitness(Record, Value):
    """Immutable record of an array: type of its elements, shape, and the witness of its content.

    Made by `generate(array)` and `from_json`, and by `TensorsWitness`. The content is the elements
    in C order, little-endian and without padding. Two are equal if all their fields are
    equal, the time included.

    Attributes:
        algorithm: "sha256" or "sha256-merkle-12288".
        dtype: name of the element type, such as "float32", "bfloat16", "datetime64[ns]".
        shape: sizes of the dimensions.
        length: length of the content in bytes.
        residue: residue of the content, in 0..95.
        digest: digest of the content, 32 bytes; the root if the algorithm is a tree.
        timestamp_ns: when it was made, in nanoseconds since 1970-01-01T00:00:00Z.
        tree: the tree witness with its leaves; None if the leaves are not known.
    """

    _FIELDS = (*("algorithm", "dtype", "shape", "length", "residue", "digest", "timestamp_ns"),)
    _DERIVED = ("tree",)
    __slots__ = (*_FIELDS, *_DERIVED)
    _MADE_BY = "ArrayWitness.generate() or from_json()"

    algorithm: str
    dtype: str
    shape: tuple[int, ...]
    length: int
    residue: int
    digest: bytes
    timestamp_ns: int
    tree: TreeWitness | None

    @classmethod
    def generate(
        cls,
        array: numpy.ndarray[Any, Any] | Memory,
        /,
        *,
        tree: bool = False,
        leaves: bool = True,
        threads: int | None = None,
        stream: Stream = None,
        host: bool = False,
    ) -> Self:
        """Return the witness of an array, with the present time.

        An array in C order, little-endian and packed, is not copied; any other is copied in pieces
        of less than 1 MiB.

        Args:
            array: a NumPy array of any shape and strides, or a C-contiguous tensor with
                `__dlpack__` or `__cuda_array_interface__`. It must not change during the call.
            tree: make a tree witness, which can say which windows changed, instead of a flat one.
            leaves: keep the leaves of the tree, 33 bytes a window.
            threads: how many threads hash a tree; None for one for each core that this process
                may use.
            stream, host: for a tensor on a GPU, as in `TreeWitness.generate`. A flat witness of it
                needs `host=True`.

        Raises:
            TypeError: no array, a masked array, or a type whose bytes are not its value
                (objects, long double, int4 and similar); or `threads` is not an int.
            BufferError: a tensor that is not C-contiguous, or is on a GPU and the witness flat.
            ValueError: `threads` is less than 1.
            DeviceError: the GPU, its driver or its kernels are missing, or it failed.
            ImportError: NumPy is not installed.
        """
        count = thread_count(threads)
        how = How(tree, leaves, count, stream=stream, host=host)
        return cls._of_array(array, "array", how)

    @classmethod
    def _of_array(cls, array: object, what: str, how: How) -> Self:
        if is_tensor(array):
            found = tensor_content(array, what, how)
            return cls._made(found.dtype, found.shape, found.witness, how)
        dtype, shape, content = array_content(array, what)
        return cls._made(dtype, shape, witness_of(content, how), how)

    @classmethod
    def _made(
        cls, dtype: str, shape: tuple[int, ...], content: Witness | TreeWitness, how: How
    ) -> Self:
        """Return the witness of a content that was just hashed."""
        made_ns = content.timestamp_ns if how.made_ns is None else how.made_ns
        tree = content if isinstance(content, TreeWitness) and content._tree else None
        value = cls.__new__(cls)
        # Not through _of(), which takes three times as long: a file can have a million tensors.
        _PUT[0](value, content.algorithm)
        _PUT[1](value, dtype)
        _PUT[2](value, shape)
        _PUT[3](value, content.length)
        _PUT[4](value, content.residue)
        _PUT[5](value, content.digest)
        _PUT[6](value, made_ns)
        _PUT[7](value, tree)
        return value

    def _with(self, tree: TreeWitness | None) -> Self:
        slots = {name: getattr(self, name) for name in (*self._FIELDS, *self._DERIVED)}
        return self._of(**slots | {"tree": tree})

    def differences(self, other: Record | numpy.ndarray[Any, Any] | Memory, /) -> tuple[str, ...]:
        """Return which of "dtype", "shape", "length", "residue" and "digest" differ, in this order.

        Args:
            other: an array or a witness. With a witness that is not of an array, dtype and shape
                are not compared.

        Raises:
            ValueError: the algorithms of two witnesses differ.
            TypeError, ImportError: as `generate`.
        """
        if not isinstance(other, Record):
            other = self.generate(other, tree=self.algorithm == TREE_ALGORITHM, leaves=False)
        own = ("dtype", "shape") if isinstance(other, ArrayWitness) else ()
        found = tuple(name for name in own if getattr(self, name) != getattr(other, name))
        return found + super().differences(other)

    def verify(
        self,
        array: numpy.ndarray[Any, Any] | Memory,
        /,
        *,
        threads: int | None = None,
        stream: Stream = None,
        host: bool = False,
    ) -> bool:
        """Return whether the array has this type, shape, residue and digest. The digest is compared
        in constant time.

        Args, Raises: as `generate`.
        """
        tree = self.algorithm == TREE_ALGORITHM
        found = self.generate(
            array, tree=tree, leaves=False, threads=threads, stream=stream, host=host
        )
        return compare_digest(found.digest, self.digest) and not self.differences(found)

    def to_json(self) -> str:
        """Return the witness as one line of JSON; equal witnesses give equal text."""
        facts = self._facts()
        values = (JSON_TYPE, self.algorithm, *facts.values(), self.timestamp)
        return _json.write(dict(zip(_KEYS, values, strict=True)))

    def _facts(self) -> dict[str, object]:
        """Return the JSON members that it has both alone and in a set, in this order."""
        return {
            "dtype": self.dtype,
            "shape": list(self.shape),
            "length": self.length,
            "residue": self.residue,
            "digest": self.hexdigest(),
        }

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the witness, without leaves, from the JSON text of `to_json`; bytes are UTF-8.

        Raises:
            WitnessError: the text is not such JSON; the message names the key, its value and the
                rule.
            TypeError: neither str nor bytes.
        """
        fields = _json.Fields(text, _KEYS)
        fields.choice("type", JSON_TYPE)
        algorithm = fields.choice("algorithm", ALGORITHM, TREE_ALGORITHM)
        return cls._of_facts(fields, algorithm, read_timestamp(fields))

    @classmethod
    def _of_facts(cls, fields: _json.Fields, algorithm: str, timestamp_ns: int) -> Self:
        dtype = fields.text("dtype")
        bits = bits_of(dtype)
        fields.check("dtype", bits is not None, "the name of an element type")
        shape = fields.value("shape")
        fields.check("shape", is_shape(shape), SHAPE_RULE)
        size = length_of(shape, bits or 0)
        fields.check("shape", size is not None, WHOLE_RULE)
        length = fields.integer("length", UINT64_MAX)
        fields.check("length", length == size, f"{size}, by shape and dtype")
        residue = fields.integer("residue", MODULUS - 1)
        fields.check("residue", residue == 0 or length > 0, "0 where length is 0")
        return cls._of(
            algorithm=algorithm,
            dtype=dtype,
            shape=tuple(shape),
            length=length,
            residue=residue,
            digest=fields.digest("digest"),
            timestamp_ns=timestamp_ns,
            tree=None,
        )

    def _as_tree(self) -> TreeWitness:
        """Return the tree witness of the content, without leaves if they are not known."""
        return self.tree or TreeWitness._of_parts(
            self.length, self.residue, self.digest, self.timestamp_ns, None
        )

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.dtype} {list(self.shape)} {self.algorithm} "
            f"{self.hexdigest()} residue {self.residue} at {self.timestamp}>"
        )


def array_content(array: object, what: str) -> tuple[str, tuple[int, ...], memoryview | Chunks]:
    """Return element type, shape and content of an object that is no tensor.

    Raises:
        TypeError, ImportError: as `ArrayWitness.generate`.
    """
    numpy = require_numpy("arrays")
    if not isinstance(array, numpy.ndarray):
        raise TypeError(f"{what} is of type {type(array).__name__}, must be a numpy.ndarray")
    if isinstance(array, numpy.ma.MaskedArray):
        raise TypeError(
            f"{what} is a masked array, must have no mask: "
            "its data and its mask can have a witness each"
        )
    form = form_of(array.dtype, what)
    return form.name, array.shape, content_of(array, form)


_PUT = tuple(getattr(ArrayWitness, name).__set__ for name in ArrayWitness.__slots__)
