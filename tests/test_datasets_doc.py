# SPDX-License-Identifier: Apache-2.0
"""docs/datasets.md: its tables are what the code does, and the examples of the modules run."""

import doctest
import re
from pathlib import Path
from types import ModuleType

import pytest

numpy = pytest.importorskip("numpy")
pyarrow = pytest.importorskip("pyarrow")

from atlas12288 import tables, tensors  # noqa: E402
from atlas12288.tables import TableWitness  # noqa: E402
from atlas12288.tensors import ArrayWitness, TensorsWitness  # noqa: E402
from atlas12288.tensors._dtypes import SAFETENSORS  # noqa: E402

TEXT = (Path(__file__).parent.parent / "docs" / "datasets.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", [tables, tensors])
def test_the_examples_of_the_modules(module: ModuleType) -> None:
    results = doctest.testmod(module)
    assert results.attempted > 5
    assert results.failed == 0


def test_the_tables_have_the_keys_in_their_order() -> None:
    for witness, parts in (
        (ArrayWitness.generate(numpy.zeros(1)), None),
        (TensorsWitness.generate({"a": numpy.zeros(1)}), "tensor"),
        (TableWitness.generate(pyarrow.table({"a": [1]})), "column"),
    ):
        text = witness.to_json()
        own = re.sub(r"\[\{.*\}\]", "[]", text)
        (kind,) = re.findall(r'"type": "(atlas12288/.*?)"', own)
        table = next(part for part in TEXT.split("\n\n") if f'`"{kind}"`' in part)
        first_cells = " ".join(re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE))
        assert re.findall(r"`(\w+)`", first_cells) == re.findall(r'"(\w+)": ', own)
        if parts is not None:
            (line,) = re.findall(rf"each {parts} has the keys (.*?):", TEXT)
            ((inner,),) = [re.findall(r"\[\{(.*)\}\]", text)]
            assert re.findall(r"`(\w+)`", line) == re.findall(r'"(\w+)": ', inner)


def test_the_table_of_types_has_every_name_of_safetensors() -> None:
    ranges = {"I16", "I32", "U16", "U32"}  # within "I8 to I64"
    for theirs in SAFETENSORS.keys() - ranges:
        assert f"`{theirs}`" in TEXT
