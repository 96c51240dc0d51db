# SPDX-License-Identifier: Apache-2.0
"""Recognise signatures over folders, which outputs may replace."""

from __future__ import annotations

from typing import Final

from .._errors import WitnessError
from .._files import RegularFile
from .._outputs import OutputKind
from ..manifest._statement import PREDICATE_TYPE as MANIFEST_TYPE
from ._bundle import BUNDLE_MOST_BYTES, Bundle
from ._files_statement import PREDICATE_TYPE

# What a signed statement is about stands near its beginning, and in a manifest near its end.
_ENDS_BYTES: Final = 4096


def _is_signature(file: RegularFile) -> bool:
    if file.size > BUNDLE_MOST_BYTES or file.read(0, 1) != b"{":
        return False
    try:
        payload = Bundle.from_json(file.read(0, file.size)).payload
    except WitnessError:
        return False
    ends = payload[:_ENDS_BYTES] + payload[-_ENDS_BYTES:]
    return PREDICATE_TYPE.encode() in ends or MANIFEST_TYPE.encode() in ends


SIGNATURES: Final = OutputKind("signature over a folder", _is_signature)
