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

    def __getattr__(name: str) -> object:
        """Import a name on first use, so that each module loads only what it needs."""
        from importlib import import_module

        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name], __name__), name)


_MODULES = {
    "Bundle": "._bundle",
    "SignatureError": "._bundle",
    "sign": "._sign",
    "sign_folder": "._sign",
    "verify": "._verify",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
