# SPDX-License-Identifier: Apache-2.0
"""Keys, certificates and bundles of tests, also such as no signer makes."""

import base64
import copy
import datetime
import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from support.files import write_files

CURVES: dict[str, tuple[type[ec.EllipticCurve], hashes.HashAlgorithm]] = {
    "P-256": (ec.SECP256R1, hashes.SHA256()),
    "P-384": (ec.SECP384R1, hashes.SHA384()),
    "P-521": (ec.SECP521R1, hashes.SHA512()),
}
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
FILES = {
    "a/c": b"in a folder that sorts behind a.b",
    "a.b": b"b" * 1000,
    "config.json": b"{}",
    "empty": b"",
    "gr\u00fc\u00dfe:1:2": b"a colon in the name",
    "weights.bin": bytes(range(256)) * 300,
}


def make_folder(place: Path) -> Path:
    """Make a folder with `FILES`."""
    write_files(place, FILES)
    return place


def private_key(curve: str = "P-256", number: int = 0) -> ec.EllipticCurvePrivateKey:
    """Return a key, the same for the same arguments."""
    return _made(curve, number)


@cache
def _made(curve: str, number: int) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(CURVES[curve][0]())


def private_pem(key: Any, passphrase: bytes | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase),
    )


def public_pem(key: Any) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def certificate(
    name: str,
    key: Any,
    issuer: tuple[str, Any] | None = None,
    *,
    authority: bool = False,
    usage: bool = True,
    code_signing: bool = False,
    days: tuple[int, int] = (-10, 10),
) -> x509.Certificate:
    """Return a certificate.

    Args:
        name: of the subject.
        key: the subject's.
        issuer: name and key of who issues it; None for the subject itself.
        authority: whether the subject may issue others.
        usage: whether it has the key usage digitalSignature.
        code_signing: whether it has the extended key usage codeSigning.
        days: from when to when it is valid, in days from now.
    """
    issuer_name, issuer_key = (name, key) if issuer is None else issuer
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + days[0] * DAY)
        .not_valid_after(NOW + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=usage and not authority,
                key_cert_sign=authority,
                crl_sign=authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=not usage and not authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if code_signing:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())


def certificate_pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def payload_of(bundle: str) -> dict[str, Any]:
    """Return the statement of a bundle."""
    envelope = json.loads(bundle)["dsseEnvelope"]
    statement: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
    return statement


def resigned(
    bundle: str, change: Callable[[dict[str, Any]], object], key: Any, *, root: bool = True
) -> str:
    """Return a bundle whose statement was changed and signed again: by a signer who lies.

    Args:
        bundle: the bundle, of a signature with `key`.
        change: changes the statement.
        root: make the digest of the subject fit again.
    """
    statement = payload_of(bundle)
    change(statement)
    if root:
        try:
            resources = statement["predicate"]["resources"]
            joined = b"".join(bytes.fromhex(each["digest"]) for each in resources)
            statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(joined).hexdigest()
        except (KeyError, TypeError, ValueError, IndexError):
            pass
    return signed_text(bundle, json.dumps(statement).encode(), key)


def signed_text(bundle: str, payload: bytes, key: Any) -> str:
    """Return a bundle with another payload, signed by an implementation of our own."""
    kind = b"application/vnd.in-toto+json"
    encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    name = {256: "P-256", 384: "P-384", 521: "P-521"}[key.curve.key_size]
    signature = key.sign(encoded, ec.ECDSA(CURVES[name][1]))
    fields = copy.deepcopy(json.loads(bundle))
    envelope = fields["dsseEnvelope"]
    envelope["payload"] = base64.b64encode(payload).decode()
    envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return json.dumps(fields)
