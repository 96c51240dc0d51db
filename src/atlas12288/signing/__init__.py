# SPDX-License-Identifier: Apache-2.0
"""Signatures over the digests of a folder, in the form of OpenSSF Model Signing."""

from typing import TYPE_CHECKING

__all__ = ["Bundle", "SignatureError", "sign", "sign_folder", "verify"]

if TYPE_CHECKING:
    from ._bundle import Bundle as Bundle
    from ._bundle import SignatureError as SignatureError
    from ._sign import sign as sign
    from ._sign import sign_folder as sign_folder
    from ._verify import verify as verify
else:
    from .._types import imported_when_used

    # Each module loads only what it needs.
    __getattr__ = imported_when_used(
        __name__,
        {
            "Bundle": "._bundle",
            "SignatureError": "._bundle",
            "sign": "._sign",
            "sign_folder": "._sign",
            "verify": "._verify",
        },
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
