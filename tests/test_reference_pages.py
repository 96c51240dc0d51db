# SPDX-License-Identifier: Apache-2.0
"""The pages of the C header and of the JavaScript package describe every name that is declared."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTENSIONS = ROOT / "docs" / "_extensions"
HEADER = (ROOT / "include" / "atlas" / "conservation.h").read_text(encoding="utf-8")


@pytest.fixture
def source_reference(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(EXTENSIONS)
    import source_reference

    yield source_reference
    sys.modules.pop("source_reference")


def test_every_declaration_of_the_header_is_described(source_reference) -> None:
    page = source_reference.c_reference(HEADER)
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", HEADER, flags=re.DOTALL)
    functions = set(re.findall(r"\b(atlas_\w+)\(", code))
    described = set(re.findall(r"^(?:\.\. c:function::| +) [^\n]*?\b(atlas_\w+)\(", page, re.M))
    assert functions - described == set()
    assert len(functions) > 40
    values = set(re.findall(r"\b(ATLAS_[A-Z_]+) = \d|#define (ATLAS_\w+) \w", code))
    for name in {either for pair in values for either in pair if either}:
        assert re.search(rf"\.\. c:(?:macro|enumerator):: {name}\b", page), name
    for kind in re.findall(r"\b(atlas_\w+_t);", code):
        assert re.search(rf"\.\. c:(?:type|enum):: .*\b{kind}\b", page), kind


def test_no_words_of_the_headers_comments_are_lost(source_reference) -> None:
    page = set(re.findall(r"\w+", source_reference.c_reference(HEADER)))
    found = re.findall(r"/\*(.*?)\*/", HEADER, re.DOTALL)
    comments = " ".join(comment for comment in found if "clang-format" not in comment)
    kept_out = {"SPDX", "License", "Identifier", "Apache", "ATLAS_CONSERVATION_H"}
    assert set(re.findall(r"\w+", comments)) - page <= kept_out


def test_every_export_of_the_javascript_package_is_described(source_reference) -> None:
    folder = ROOT / "js" / "lib"
    page = source_reference.javascript_reference(folder)
    names = source_reference.exported_names(folder)
    assert {"Witness", "load", "MODULUS", "DomainMemoryError"} <= names.keys()
    for name in names:
        assert re.search(rf"^\.\. js:(?:class|function|data):: {name}\b", page, re.M), name


def test_an_inherited_method_of_javascript_is_described_with_the_class(source_reference) -> None:
    page = source_reference.javascript_reference(ROOT / "js" / "lib")
    own = page.split(".. js:class:: Witness(")[-1].split(".. js:class::")[0]
    assert ".. js:method:: verify(buf)" in own
    assert ".. js:method:: generateFrom(data, [options])" in own
