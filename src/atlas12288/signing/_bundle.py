# SPDX-License-Identifier: Apache-2.0
"""A signature and the statement that it signs, in one JSON file: a Sigstore bundle.

    {"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{...},
    "dsseEnvelope":{"payload":"<base64>","payloadType":"application/vnd.in-toto+json",
    "signatures":[{"sig":"<base64>","keyid":""}]}}

The payload is an in-toto statement. What is signed is not the payload alone but the Pre-
Authentication Encoding of DSSE, which also covers its type and its length.
"""

from __future__ import annotations

import json
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Any, Final, Self

from .. import _json
from .._errors import WitnessError
from .._value import Value

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
# As of a manifest, which a bundle may hold in base64.
BUNDLE_MOST_BYTES: Final = 1 << 32
CERTIFICATES_MOST: Final = 16  # in a chain
_MATERIALS: Final = ("publicKey", "x509CertificateChain", "certificate")
_BESIDE: Final = ("tlogEntries", "timestampVerificationData")


class SignatureError(ValueError):
    """A signature does not hold: it is of another key, of a certificate that is not trusted, or of
    other bytes."""


class Bundle(Value):
    """A signature with the statement that it signs.

    Made by `sign`, `sign_folder` and `from_json`. Nothing in a bundle may be believed before
    `verify` has found that its signature holds.

    Attributes:
        payload: the statement, as it was signed.
        signature: the signature, as an ECDSA signature in DER.
        hint: SHA-256 of the public key in PEM, in hex; None where there are certificates, and in
            bundles from before model_signing 1.1.0.
        certificates: the certificate of the signer and the chain behind it, each in DER; empty for
            a signature that is verified with a public key.
        sigstore: the text of a bundle that an identity signed without a key of its own, for
            Sigstore's client; None for any other.
    """

    __slots__ = _FIELDS = ("payload", "signature", "hint", "certificates", "sigstore")
    _MADE_BY = "sign(), sign_folder() or from_json()"

    payload: bytes
    signature: bytes
    hint: str | None
    certificates: tuple[bytes, ...]
    sigstore: bytes | None

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the bundle of a JSON text; bytes are UTF-8. The signature is not verified.

        Raises:
            WitnessError: not a bundle of version 0.3 with one signature over a statement; the
                message names the key, its value and the rule.
            TypeError: neither str nor bytes.
        """
        document = _json.Fields(
            text, ("mediaType", "verificationMaterial", "dsseEnvelope"), most=BUNDLE_MOST_BYTES
        )
        document.choice("mediaType", MEDIA_TYPE)
        hint, certificates, is_keyless = _material(document.value("verificationMaterial"))
        envelope = _json.Fields.of(
            document.value("dsseEnvelope"), "dsseEnvelope", ("payload", "payloadType", "signatures")
        )
        envelope.choice("payloadType", PAYLOAD_TYPE)
        signatures = envelope.value("signatures")
        is_one = isinstance(signatures, list) and len(signatures) == 1
        envelope.check("signatures", is_one, "a list of one")
        signature = _json.Fields.of(signatures[0], "signatures[0]", ("sig",), "keyid")
        return cls._of(
            payload=_bytes(envelope, "payload"),
            signature=_bytes(signature, "sig"),
            hint=hint,
            certificates=certificates,
            sigstore=(text.encode() if isinstance(text, str) else text) if is_keyless else None,
        )

    def to_json(self) -> str:
        """Return the bundle as JSON, on one line with its end; equal bundles give equal text.

        A bundle that an identity signed is returned as it was read.
        """
        if self.sigstore is not None:
            return self.sigstore.decode()
        material: dict[str, Any]
        if self.certificates:
            chain = [{"rawBytes": _base64(each)} for each in self.certificates]
            material = {"x509CertificateChain": {"certificates": chain}}
        else:
            material = {"publicKey": {} if self.hint is None else {"hint": self.hint}}
        signature = {"sig": _base64(self.signature), "keyid": ""}
        envelope = {
            "payload": _base64(self.payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [signature],
        }
        fields = {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": material | {"tlogEntries": []},
            "dsseEnvelope": envelope,
        }
        return json.dumps(fields, separators=(",", ":")) + "\n"

    def __repr__(self) -> str:
        signer = "identity" if self.sigstore is not None else f"hint {self.hint}"
        if self.certificates:
            signer = f"certificates {len(self.certificates)}"
        return f"<Bundle {signer} payload {len(self.payload)} bytes>"


def signed_head(payload: bytes) -> bytes:
    """Return what precedes a payload in the bytes that are signed: DSSE's encoding of its type and
    its length."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d " % (len(kind), kind, len(payload))


def open_fields(value: object, name: str, keys: tuple[str, ...]) -> _json.Fields:
    """Return the fields of an object that may have others beside the keys.

    Raises:
        WitnessError: not an object, or a key is missing.
    """
    return _json.Fields.of(value, name, keys, *(value if isinstance(value, dict) else ()))


def _material(value: object) -> tuple[str | None, tuple[bytes, ...], bool]:
    """Return hint and certificates of what a bundle is verified with, and whether that is left to
    Sigstore's client."""
    material = _json.Fields.of(value, "verificationMaterial", (), *_MATERIALS, *_BESIDE)
    found = [key for key in _MATERIALS if key in material]
    if len(found) != 1:
        raise WitnessError(
            f"verificationMaterial has {' and '.join(found) or 'none'}, must have one of "
            f"{', '.join(_MATERIALS)}"
        )
    if "certificate" in material:
        return None, (), True
    if "publicKey" in material:
        key = open_fields(material.value("publicKey"), "publicKey", ())
        if "hint" not in key:  # before model_signing 1.1.0
            return None, (), False
        key.check("hint", isinstance(key.value("hint"), str), "a text")
        return key.value("hint"), (), False
    chain = open_fields(material.value("x509CertificateChain"), "chain", ("certificates",))
    certificates = chain.value("certificates")
    is_list = isinstance(certificates, list) and 0 < len(certificates) <= CERTIFICATES_MOST
    chain.check("certificates", is_list, f"a list of 1..{CERTIFICATES_MOST}")
    each = (open_fields(value, "certificate", ("rawBytes",)) for value in certificates)
    return None, tuple(_bytes(fields, "rawBytes") for fields in each), False


def _bytes(fields: _json.Fields, key: str) -> bytes:
    """Return the bytes of a field in base64, at least one."""
    value = fields.value(key)
    try:
        found = a2b_base64(value, strict_mode=True) if isinstance(value, str) else b""
    except (Base64Error, ValueError):
        found = b""
    fields.check(key, found != b"", "base64 of at least one byte")
    return found


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
