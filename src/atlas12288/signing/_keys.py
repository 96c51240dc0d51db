# SPDX-License-Identifier: Apache-2.0
"""Keys of ECDSA: which are suitable, what they sign, whether a signature is of one."""

from __future__ import annotations

import hashlib
from typing import Final

from ._bundle import Bundle, SignatureError, signed_head

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
except ImportError:
    raise ImportError(
        "signatures need cryptography: pip install 'atlas12288[sign]'", name="cryptography"
    ) from None

# The curves of the specification, and the hash that goes with each.
_HASHES: Final = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
SUITABLE: Final = (
    "a key of ECDSA on P-256 (secp256r1, prime256v1), P-384 (secp384r1) or P-521 (secp521r1)"
)


class PassphraseError(ValueError):
    """A private key is encrypted, and no passphrase was given, or another one."""


def read_private_key(pem: bytes, passphrase: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """Return a private key in PEM.

    Args:
        pem: the text.
        passphrase: of an encrypted key; None for one that is not.

    Raises:
        PassphraseError: the key is encrypted, and the passphrase is missing or wrong.
        ValueError: not a private key, or not a suitable one; the message lists those.
    """
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except TypeError as error:  # a passphrase is missing, or there is nothing to decrypt
        if passphrase is not None:
            return read_private_key(pem)
        raise PassphraseError("is encrypted, and needs its passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if passphrase is not None:
            raise PassphraseError("cannot be decrypted: is this its passphrase?") from error
        raise ValueError(f"is not a private key in PEM, must be {SUITABLE}") from error
    return require_private_key(key)


def require_private_key(key: object) -> ec.EllipticCurvePrivateKey:
    """Return a private key that can sign.

    Raises:
        ValueError: a key that is not suitable; the message lists those.
    """
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _HASHES:
        return key
    raise _unsuitable(key)


def read_public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Return a public key in PEM.

    Raises:
        ValueError: not a public key, or not a suitable one; the message lists those.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        if b"PRIVATE KEY-----" in pem:
            must = "must be its public key, which openssl pkey -in KEY -pubout prints"
            raise ValueError(f"is a private key, {must}") from error
        raise ValueError(f"is not a public key in PEM, must be {SUITABLE}") from error
    return require_public_key(key)


def require_public_key(key: object) -> ec.EllipticCurvePublicKey:
    """Return a public key that can verify.

    Raises:
        ValueError: a key that is not suitable; the message lists those.
    """
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES:
        return key
    raise _unsuitable(key)


def _unsuitable(key: object) -> ValueError:
    return ValueError(f"is {_described(key)}, must be {SUITABLE}")


def _described(key: object) -> str:
    """Return the kind of a key in words."""
    curve = getattr(key, "curve", None)
    if curve is not None:
        return f"a key of ECDSA on {curve.name}"
    kind = type(key).__name__.strip("_").removesuffix("Key")
    return f"a key of {kind.removesuffix('Public').removesuffix('Private')}"


def hint_of(key: ec.EllipticCurvePublicKey) -> str:
    """Return the hint of a public key: SHA-256 of its PEM, in hex."""
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(pem).hexdigest()


def _signed(payload: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    """Return the hash of what is signed; a payload may be large, and is not copied."""
    hasher = hashlib.new(algorithm.name, signed_head(payload))
    hasher.update(payload)
    return hasher.digest()


def sign_payload(payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the signature of a payload."""
    algorithm = _HASHES[key.curve.name]
    return key.sign(_signed(payload, algorithm), ec.ECDSA(Prehashed(algorithm)))


def require_signature(bundle: Bundle, key: ec.EllipticCurvePublicKey) -> None:
    """Require that the signature of a bundle is of a key.

    Raises:
        SignatureError: it is not.
    """
    hint = hint_of(key)
    if bundle.hint and bundle.hint != hint:
        raise SignatureError(
            f"is signed with another key, whose hint is {bundle.hint!r}, the SHA-256 of its PEM: "
            f"this key's is {hint}"
        )
    algorithm = _HASHES[key.curve.name]
    digest = _signed(bundle.payload, algorithm)
    try:
        key.verify(bundle.signature, digest, ec.ECDSA(Prehashed(algorithm)))
    except InvalidSignature as error:
        raise SignatureError(
            "the signature is not of this key, or not of this statement"
        ) from error
