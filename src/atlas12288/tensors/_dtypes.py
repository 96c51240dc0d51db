# SPDX-License-Identifier: Apache-2.0
"""The names of element types: one vocabulary for NumPy, ml_dtypes and safetensors.

A name gives the type, not its layout in memory: byte order and padding are not in it. Structured
types are the JSON list of their fields, `[["x", "float32"], ["y", "int16", [2]]]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import numpy

# Name in the header of a safetensors file -> name here. float4 and float6 lie packed in the file.
SAFETENSORS: Final = {
    "BOOL": "bool",
    "F4": "float4_e2m1fn",
    "F6_E2M3": "float6_e2m3fn",
    "F6_E3M2": "float6_e3m2fn",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
# The types of ml_dtypes that fill their bytes. In the others (int4, float6 and similar) an
# element takes a byte but uses only some of its bits.
_ML_BITS: Final[dict[str, int]] = {
    "bfloat16": 16,
    "float8_e3m4": 8,
    "float8_e4m3": 8,
    "float8_e4m3b11fnuz": 8,
    "float8_e4m3fn": 8,
    "float8_e4m3fnuz": 8,
    "float8_e5m2": 8,
    "float8_e5m2fnuz": 8,
    "float8_e8m0fnu": 8,
}
_NUMBER_BITS: Final[dict[str, int]] = {
    "bool": 8,
    **{f"int{bits}": bits for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": bits for bits in (8, 16, 32, 64)},
    **{f"float{bits}": bits for bits in (16, 32, 64)},
    **{f"complex{bits}": bits for bits in (64, 128)},
}
_PACKED_BITS: Final = {"float4_e2m1fn": 4, "float6_e2m3fn": 6, "float6_e3m2fn": 6}
# Codes of DLPack whose name has the number of bits, and codes whose name is all.
_DLPACK_NUMBERS: Final = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex"}
_DLPACK_NAMES: Final = {
    6: "bool",
    7: "float8_e3m4",
    8: "float8_e4m3",
    9: "float8_e4m3b11fnuz",
    10: "float8_e4m3fn",
    11: "float8_e4m3fnuz",
    12: "float8_e5m2",
    13: "float8_e5m2fnuz",
    14: "float8_e8m0fnu",
    15: "float6_e2m3fn",
    16: "float6_e3m2fn",
    17: "float4_e2m1fn",
}
_BITS: Final = _NUMBER_BITS | _ML_BITS | _PACKED_BITS
SHAPE_MOST: Final = 64  # dimensions, as in NumPy; their product takes quadratic time
_SIZE_MOST: Final = 2**64 - 1
_BITS_MOST: Final = 8 * (2**63 - 1)  # of an element: a NumPy type has at most 2^63 - 1 bytes
_NUMBER_KINDS: Final = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
_TEXT_KINDS: Final = {"S": ("bytes", 1), "U": ("str", 4), "V": ("void", 1)}
_TEXT_NAME: Final = re.compile(r"(bytes|str|void)(0|[1-9][0-9]{0,9})")
_TIME_NAME: Final = re.compile(
    r"(datetime64|timedelta64)(\[([2-9]|[1-9][0-9]{1,9})?(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
)


class Form(NamedTuple):
    """The name and the layouts of an array's element type.

    Attributes:
        name: name of the type.
        layout: the type as it lies in memory. Types of ml_dtypes become unsigned integers of the
            same byte order, which NumPy can swap; fields without width are left out, because NumPy
            cannot convert structures that have them.
        canonical: the same type packed and little-endian, as it is hashed.
    """

    name: str
    layout: numpy.dtype[Any]
    canonical: numpy.dtype[Any]


def name_of_dlpack(kind: tuple[int, int, int], what: str) -> str:
    """Return the name of a type of DLPack: its code, bits and lanes.

    Raises:
        TypeError: it has no name here; the message calls the tensor `what`.
    """
    code, bits, lanes = kind
    name = _DLPACK_NAMES.get(code, f"{_DLPACK_NUMBERS.get(code, 'none')}{bits}")
    if lanes != 1 or _BITS.get(name) != bits:
        raise TypeError(
            f"{what} has the DLPack type of code {code}, {bits} bits and {lanes} lanes, "
            "must have one with a name here, such as float32 or bfloat16"
        )
    return name


def form_of(dtype: numpy.dtype[Any], what: str) -> Form:
    """Return the form of a NumPy type.

    Raises:
        TypeError: its bytes are not exactly its value; the message calls it `what`.
    """
    name, layout, canonical = _parts(dtype, what)
    return Form(name if isinstance(name, str) else json.dumps(name), layout, canonical)


def _parts(
    dtype: numpy.dtype[Any], what: str
) -> tuple[str | list[Any], numpy.dtype[Any], numpy.dtype[Any]]:
    import numpy

    if dtype.names is not None:
        return _fields(dtype, what)
    bits = 8 * dtype.itemsize
    if dtype.type.__module__.split(".")[0] == "ml_dtypes":
        if _ML_BITS.get(dtype.name) == bits:
            layout = numpy.dtype(f"u{dtype.itemsize}").newbyteorder(dtype.byteorder)
            return dtype.name, layout, layout.newbyteorder("<")
    elif dtype.type.__module__.split(".")[0] != "numpy":
        pass  # a type of another library, and only that library knows what its bytes mean
    elif dtype.kind in _NUMBER_KINDS:
        name = _NUMBER_KINDS[dtype.kind] + ("" if dtype.kind == "b" else str(bits))
        if name in _NUMBER_BITS:
            return name, dtype, dtype.newbyteorder("<")
    elif dtype.kind in "mM":
        return dtype.name, dtype, dtype.newbyteorder("<")
    elif dtype.kind in _TEXT_KINDS:
        text, unit = _TEXT_KINDS[dtype.kind]
        return f"{text}{dtype.itemsize // unit}", dtype, dtype.newbyteorder("<")
    raise TypeError(
        f"{what} has the type {dtype}, must have one whose bytes are its value: bool, int8 to "
        "int64, uint8 to uint64, float16 to float64, complex64, complex128, bfloat16, float8, "
        "bytes, str, void, datetime64, timedelta64, or a structure of them"
    )


def _fields(
    dtype: numpy.dtype[Any], what: str
) -> tuple[list[Any], numpy.dtype[Any], numpy.dtype[Any]]:
    import numpy

    names: list[Any] = []
    places: dict[str, list[Any]] = {"names": [], "formats": [], "offsets": []}
    canonicals = []
    fields: Any = dtype.fields
    for field in dtype.names or ():
        of_field, offset = fields[field][:2]
        name, layout, canonical = _parts(of_field.base, f"field {field!r} of {what}")
        shape = of_field.shape
        names.append([field, name, list(shape)] if shape else [field, name])
        if of_field.itemsize == 0 or canonical.itemsize == 0:
            continue
        places["names"].append(field)
        places["formats"].append(numpy.dtype((layout, shape)))
        places["offsets"].append(offset)
        canonicals.append((field, canonical, shape))
    layout = numpy.dtype({**places, "itemsize": dtype.itemsize})  # type: ignore[call-overload]
    return names, layout, numpy.dtype(canonicals)


def bits_of(name: str) -> int | None:
    """Return the bits of an element of the named type; None if there is no such type."""
    if name in _BITS:
        return _BITS[name]
    if match := _TEXT_NAME.fullmatch(name):
        return int(match[2]) * (32 if match[1] == "str" else 8)
    if _TIME_NAME.fullmatch(name):
        return 64
    if not name.startswith("["):
        return None
    try:
        fields = json.loads(name)
        return _bits_of_fields(fields) if json.dumps(fields) == name else None
    except (ValueError, RecursionError):
        return None


def _bits_of_fields(fields: object) -> int | None:
    if not isinstance(fields, list):
        return None
    total = 0
    seen = set()
    for field in fields:
        if not isinstance(field, list) or len(field) not in (2, 3):
            return None
        name, kind, shape = (*field, [1])[:3]
        if not isinstance(name, str) or name == "" or name in seen:
            return None
        seen.add(name)
        if isinstance(kind, str):
            bits = None if kind.startswith("[") or kind in _PACKED_BITS else bits_of(kind)
        else:
            bits = _bits_of_fields(kind)
        if bits is None or not is_shape(shape) or shape == []:
            return None
        total += product(shape, bits)
        if total > _BITS_MOST:
            return None
    return total


def is_shape(value: object) -> bool:
    """Return whether a JSON value is a list of at most 64 sizes."""
    if not isinstance(value, list) or len(value) > SHAPE_MOST:
        return False
    for size in value:  # noqa: SIM110 - called for a million shapes
        # By type, not isinstance: true is not a number.
        if type(size) is not int or not 0 <= size <= _SIZE_MOST:
            return False
    return True


SHAPE_RULE: Final = f"a list of at most {SHAPE_MOST} integers in 0..{_SIZE_MOST}"

WHOLE_RULE: Final = "one whose elements fill whole bytes, fewer than 2^64"


def product(shape: Sequence[int], factor: int) -> int:
    """Return the product of a shape and a factor."""
    for size in shape:
        factor *= size
    return factor


def length_of(shape: Sequence[int], bits: int) -> int | None:
    """Return the length in bytes of an array; None if its elements do not fill the last byte, or if
    the length exceeds 2^64 - 1, the most that a witness can state."""
    total = product(shape, bits)
    return None if total % 8 or total > 8 * _SIZE_MOST else total // 8
