# SPDX-License-Identifier: Apache-2.0
"""Manifests: one file with the digests of all files of a folder or bucket."""

from typing import TYPE_CHECKING

__all__ = ["Difference", "Entry", "Excluded", "Manifest", "ManifestReport", "Options"]

if TYPE_CHECKING:
    from ._differences import Difference as Difference
    from ._differences import ManifestReport as ManifestReport
    from ._entries import Entry as Entry
    from ._manifest import Manifest as Manifest
    from ._sources.selection import Excluded as Excluded
    from ._statement import Options as Options
else:
    from .._types import imported_when_used

    # Each module loads only what it needs.
    __getattr__ = imported_when_used(
        __name__,
        {
            "Difference": "._differences",
            "Entry": "._entries",
            "Excluded": "._sources.selection",
            "Manifest": "._manifest",
            "ManifestReport": "._differences",
            "Options": "._statement",
        },
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
