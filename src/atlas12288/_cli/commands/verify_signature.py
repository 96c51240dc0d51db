# SPDX-License-Identifier: Apache-2.0
"""The part of `atlas12288 verify` that verifies signatures and what they sign."""

import logging
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..._errors import WitnessError
from ..._files import STDIN, FileError
from ..console import Printer, shown
from ..key_files import read_certificates, read_pem
from ..witness_files import read_whole
from . import verify_manifest
from .verify_manifest import SignatureView, VerifyOptions, refused

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from ...manifest._lined import Lined
    from ...signing._bundle import Bundle

_SUFFIX: Final = ".sig"
_OPTION_NAMES: Final = {"certificate_roots": "certificate-root", "ignored": "ignore"}


class _RootError(FileError):
    """ROOT cannot be opened."""


def require_none(options: Mapping[str, Any], what: str) -> None:
    """Refuse the options for signatures where WITNESS is none; `what` says what it is.

    Raises:
        click.UsageError: one was given.
    """
    for name, value in options.items():
        if value:
            option = _OPTION_NAMES.get(name, name).replace("_", "-")
            raise click.UsageError(f"--{option} is for signatures, and WITNESS {what}")


def verify(
    wanted: VerifyOptions,
    options: Mapping[str, Any],
    files: tuple[str, ...],
    chunks: Iterable[bytes | memoryview],
    status: os.stat_result,
) -> int:
    """Verify a signature, then compare a folder with what it signs; print what differs.

    Args:
        wanted: the options of `verify` for manifests.
        options: the options for signatures.
        files: what follows the signature on the command line.
        chunks: the bytes of the signature.
        status: status of its file when it was opened.

    Returns:
        The exit code.

    Raises:
        click.UsageError: the options do not fit each other or the signature.
    """
    if len(files) > 1:
        raise click.UsageError(f"WITNESS is a signature: one ROOT is compared, not {len(files)}")
    roots, identity, issuer = (
        options["certificate_roots"],
        options["identity"],
        options["issuer"],
    )
    if [options["public_key"] is not None, bool(roots), identity is not None].count(True) != 1:
        raise click.UsageError(
            "WITNESS is a signature: one of --public-key, --certificate-root and --identity must "
            "say whose it is"
        )
    if (identity is None) != (issuer is None):
        raise click.UsageError("--identity and --issuer belong together")
    if options["at"] is not None and not roots:
        raise click.UsageError("--at is for certificates: it needs --certificate-root")
    from ...signing._bundle import SignatureError

    try:
        if wanted.every is not None:
            from . import verify_rotation

            return verify_rotation.verify(wanted, partial(_read, options))
        wanted, content, view = _read(options, wanted, chunks)
    except SignatureError as error:
        return _does_not_hold(wanted, str(error))
    except _RootError as error:
        return refused(wanted, error.reason, error.name)
    except (FileError, WitnessError, ImportError, ValueError) as error:
        return refused(wanted, str(error))
    return verify_manifest.verify_read(wanted, content, status, view)


def _read(
    options: Mapping[str, Any], wanted: VerifyOptions, chunks: Iterable[bytes | memoryview]
) -> "tuple[VerifyOptions, Lined, SignatureView]":
    """Check a signature; return the options, with ROOT, and what was signed by whom.

    Raises:
        SignatureError: it does not hold.
        FileError, WitnessError, ImportError, ValueError: it cannot be checked.
    """
    from ...manifest._sources.links import folders_outside
    from ...signing._bundle import BUNDLE_MOST_BYTES, Bundle
    from ...signing._verify import Signed, only_name, open_signed, require_signer

    rule = f"a signature of at most {BUNDLE_MOST_BYTES:,} bytes"
    bundle = Bundle.from_json(bytes(read_whole(chunks, BUNDLE_MOST_BYTES, rule)))
    key, certificates = _trusted(options["public_key"], options["certificate_roots"])
    identity = options["identity"]
    if identity is not None:
        # What Sigstore's client would tell on standard error is told by our errors.
        logging.getLogger("sigstore").addHandler(logging.NullHandler())
    require_signer(bundle, key, certificates, options["at"], identity, options["issuer"])
    root = _folder_beside(wanted.manifest) if wanted.root is None else wanted.root
    below = folders_outside(root or ".", options["links_below"], "--links-below")
    only = None if root is None else only_name(root)
    signed = Signed.of(bundle.payload, below, options["ignored"], only)
    if root is None:
        root = verify_manifest.default_root(wanted.manifest, signed.content)
    try:
        source = open_signed(root, allow_cache=wanted.allow_cache)
    except (FileError, ImportError, ValueError) as error:
        raise _RootError(str(error), root) from error
    view = SignatureView(
        signer=_signer(bundle, key, identity),
        fields=_fields(bundle, holds=True),
        ignored=signed.ignored,
        comparison=signed.comparison,
        source=source,
    )
    return wanted._replace(root=root), signed.content, view


def _trusted(
    trust: str | None, roots: tuple[str, ...]
) -> "tuple[ec.EllipticCurvePublicKey | None, list[x509.Certificate]]":
    """Return the public key, or the certificates that are trusted instead."""
    from ...signing._keys import read_public_key

    if trust is None:
        return None, read_certificates(roots) if roots else []
    try:
        return read_public_key(read_pem(trust)), []
    except ValueError as error:
        raise FileError(str(error), trust) from error


def _folder_beside(name: str) -> str | None:
    """Return the folder `data` for `data.sig`; None if there is none."""
    folder = name.removesuffix(_SUFFIX)
    return folder if name != STDIN and folder != name and Path(folder).is_dir() else None


def _signer(bundle: "Bundle", key: "ec.EllipticCurvePublicKey | None", identity: str | None) -> str:
    """Return whose signature it is, in words."""
    if identity is not None:
        return f"signed by {shown(identity)}"
    if key is not None:
        from ...signing._keys import hint_of

        return f"signed with the key {hint_of(key)[:16]}"
    from ...signing._certificates import signer_of

    return f"signed by {shown(signer_of(bundle.certificates[0]))}"


def _fields(
    bundle: "Bundle | None", *, holds: bool, reason: str | None = None
) -> dict[str, object]:
    """Return the JSON object of a signature."""
    signer = None
    if bundle is not None and bundle.certificates:
        from ...signing._certificates import signer_of

        signer = signer_of(bundle.certificates[0])
    hint = None if bundle is None else bundle.hint
    return {"holds": holds, "reason": reason, "hint": hint, "subject": signer}


def _does_not_hold(wanted: VerifyOptions, reason: str) -> int:
    """Report that a signature does not hold; return the exit code."""
    with Printer("verify", wanted.as_json, None) as printer:
        printer.verdict(False)
        printer.line(f"{shown(wanted.manifest)}: ", False, "signature does not hold", f": {reason}")
        fields = verify_manifest.empty_document(wanted)
        signature = _fields(None, holds=False, reason=reason)
        printer.document(fields | {"holds": False, "signature": signature})
    return printer.code
