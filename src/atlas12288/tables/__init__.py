# SPDX-License-Identifier: Apache-2.0
"""Witnesses of Arrow tables, column by column, independent of chunks, slices and buffers.

>>> import pyarrow
>>> from atlas12288.tables import TableWitness
>>> table = pyarrow.table({"id": [1, 2, 3], "name": ["a", None, "c"]})
>>> witness = TableWitness.generate(table)
>>> witness.verify(pyarrow.concat_tables([table[:1], table[1:]])).holds
True
>>> print(witness.verify(table.set_column(1, "name", [["a", "b", "c"]])))
column 'name': length, residue, digest differ

This package needs pyarrow: `pip install "atlas12288[arrow]"`.
"""

from ._table import ColumnWitness, TableWitness

__all__ = ["ColumnWitness", "TableWitness"]
