# SPDX-License-Identifier: Apache-2.0
"""The types of Arrow columns: their names in a witness, and how their arrays lie in memory."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow


class Layout(Enum):
    """How the values of a type lie in memory."""

    NULL = "nothing: the type says it"
    FIXED = "values of one width"
    TEXT = "joined bytes between offsets"
    VIEW = "bytes anywhere in several buffers"
    LIST = "joined items between offsets"
    LIST_VIEW = "items anywhere in one array"
    FIXED_LIST = "joined items, as many for each"
    STRUCT = "an array for each field"
    # The remaining layouts, for nested and encoded types:
    EXTENSION = "as its storage"
    DICTIONARY = "indices of values"
    RUNS = "values, and the row before which each ends"


ENCODED: Final = (Layout.DICTIONARY, Layout.RUNS)
LISTS: Final = (Layout.LIST, Layout.LIST_VIEW, Layout.FIXED_LIST)


def layout_of(kind: pyarrow.DataType) -> Layout:
    """Return the layout of a type in memory."""
    import pyarrow
    from pyarrow import types

    if isinstance(kind, pyarrow.BaseExtensionType):
        return Layout.EXTENSION
    for layout, tests in (
        (Layout.NULL, (types.is_null,)),
        (Layout.STRUCT, (types.is_struct,)),
        (Layout.DICTIONARY, (types.is_dictionary,)),
        (Layout.RUNS, (types.is_run_end_encoded,)),
        (Layout.LIST, (types.is_list, types.is_large_list, types.is_map)),
        (Layout.LIST_VIEW, (types.is_list_view, types.is_large_list_view)),
        (Layout.FIXED_LIST, (types.is_fixed_size_list,)),
        (Layout.VIEW, (types.is_string_view, types.is_binary_view)),
        (Layout.TEXT, (types.is_string, types.is_binary)),
        (Layout.TEXT, (types.is_large_string, types.is_large_binary)),
    ):
        if any(is_one(kind) for is_one in tests):
            return layout
    return Layout.FIXED


def levels_of(kind: pyarrow.DataType) -> list[tuple[Layout, pyarrow.DataType]]:
    """Return the layout of a type, then of its storage type or of the type that it encodes, and so
    on down to the type of the values."""
    levels = [(layout_of(kind), kind)]
    while levels[-1][0] in (Layout.EXTENSION, *ENCODED):
        kind = kind.storage_type if levels[-1][0] is Layout.EXTENSION else kind.value_type
        levels.append((layout_of(kind), kind))
    return levels


def is_large(kind: pyarrow.DataType) -> bool:
    """Return whether a text or list type has 64-bit offsets."""
    from pyarrow import types

    texts = (types.is_large_string, types.is_large_binary)
    return any(is_one(kind) for is_one in (*texts, types.is_large_list, types.is_large_list_view))


def width_of(kind: pyarrow.DataType) -> int:
    """Return how many bytes a fixed-width value has in a witness; a bool has one."""
    from pyarrow import types

    return 1 if types.is_boolean(kind) else int(kind.byte_width)


def types_inside(kind: pyarrow.DataType) -> list[pyarrow.DataType]:
    """Return the types of the child arrays of a list or structure; none for other types."""
    import pyarrow
    from pyarrow import types

    if types.is_struct(kind):
        return [kind.field(index).type for index in range(kind.num_fields)]
    if types.is_map(kind):
        return [pyarrow.struct([kind.key_field, kind.item_field])]
    return [kind.value_type] if layout_of(kind) in LISTS else []


def name_of(kind: pyarrow.DataType) -> str:
    """Return the name of a type, unique to it, with names and nullability of fields.

    An extension type has the name of its storage type. Field names inside lists and maps are left
    out, because pyarrow ignores them when it compares types.

    Raises:
        TypeError: the type is or contains a union, which cannot be witnessed.
    """
    from pyarrow import types

    if layout_of(kind) is Layout.EXTENSION:
        return name_of(kind.storage_type)
    if types.is_struct(kind):
        fields = (kind.field(index) for index in range(kind.num_fields))
        return f"struct<{', '.join(f'{json.dumps(f.name)}: {_field_name(f)}' for f in fields)}>"
    if types.is_map(kind):
        order = ", sorted" if kind.keys_sorted else ""
        return f"map<{name_of(kind.key_type)}, {_field_name(kind.item_field)}{order}>"
    if types.is_fixed_size_list(kind):
        return f"fixed_size_list<{_field_name(kind.value_field)}>[{kind.list_size}]"
    if layout_of(kind) in LISTS:
        return f"{str(kind).partition('<')[0]}<{_field_name(kind.value_field)}>"
    if types.is_dictionary(kind):
        order = ", ordered" if kind.ordered else ""
        return f"dictionary<{name_of(kind.index_type)}, {name_of(kind.value_type)}{order}>"
    if types.is_run_end_encoded(kind):
        return f"run_end_encoded<{name_of(kind.run_end_type)}, {name_of(kind.value_type)}>"
    if types.is_timestamp(kind):
        return f"timestamp[{kind.unit}{'' if kind.tz is None else f', {json.dumps(kind.tz)}'}]"
    if types.is_floating(kind):
        return f"float{kind.bit_width}"
    if types.is_fixed_size_binary(kind):
        return f"fixed_size_binary[{kind.byte_width}]"
    if types.is_union(kind):
        raise TypeError(f"{kind} must not be a union; its fields can have a column each")
    return str(kind)


def _field_name(field: pyarrow.Field) -> str:
    return name_of(field.type) + ("" if field.nullable else " not null")
