# SPDX-License-Identifier: Apache-2.0
"""Files with keys and certificates, and the passphrases of keys."""

import getpass
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from .._files import FileError, read_chunks
from .console import shown
from .witness_files import errors_about, read_whole

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

PEM_MOST_BYTES: Final = 1 << 20  # a chain of certificates has some thousand


def read_pem(name: str) -> bytes:
    """Return the bytes of a file with a key or certificates.

    Raises:
        FileError: not readable, or too long; it knows the file.
    """
    with errors_about(name):
        chunks = read_chunks(name, or_pipe=True)
        return bytes(read_whole(chunks, PEM_MOST_BYTES, "a key or certificate in PEM"))


def read_certificates(names: Iterable[str]) -> "list[x509.Certificate]":
    """Return the certificates of files in PEM, in their order.

    Raises:
        FileError: a file is not readable, or has none; it knows the file.
        ImportError: cryptography is not installed.
    """
    from ..signing._certificates import read_certificates as certificates_of

    found = []
    for name in names:
        try:
            found += certificates_of(read_pem(name))
        except ValueError as error:
            raise FileError(str(error), name) from error
    return found


def read_public_key(name: str) -> "ec.EllipticCurvePublicKey":
    """Return the public key of a file in PEM.

    Raises:
        FileError: the file is not readable, or has no suitable key; it knows the file.
        ImportError: cryptography is not installed.
    """
    from ..signing._keys import read_public_key as key_of

    try:
        return key_of(read_pem(name))
    except ValueError as error:
        raise FileError(str(error), name) from error


def read_private_key(name: str) -> "ec.EllipticCurvePrivateKey":
    """Return the private key of a file in PEM; ask for its passphrase if it is encrypted.

    Raises:
        FileError: the file is not readable, or has no suitable key, or its passphrase is not
            known; it knows the file.
        ImportError: cryptography is not installed.
    """
    from ..signing._keys import PassphraseError
    from ..signing._keys import read_private_key as key_of

    pem = read_pem(name)
    try:
        try:
            return key_of(pem)
        except PassphraseError:
            return key_of(pem, _passphrase(name))
    except ValueError as error:
        raise FileError(str(error), name) from error


def _passphrase(name: str) -> bytes:
    """Ask for the passphrase of a key at the terminal, wherever standard input comes from."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return getpass.getpass(f"Passphrase of {shown(name)}: ").encode()
    except (OSError, EOFError) as error:
        reason = "is encrypted, and there is no terminal to ask for its passphrase"
        raise FileError(reason, name) from error
