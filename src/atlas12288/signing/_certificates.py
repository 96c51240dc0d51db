# SPDX-License-Identifier: Apache-2.0
"""Certificates of signers: who may sign, and which chain leads to a trusted root."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from ._bundle import CERTIFICATES_MOST, SignatureError
from ._keys import require_public_key


def read_certificates(pem: bytes) -> list[x509.Certificate]:
    """Return the certificates of a text in PEM, in their order.

    Raises:
        ValueError: there is none, or one is not valid.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ValueError("has no certificate in PEM, or one that is not valid") from error


def trusted_key(
    chain: Sequence[bytes], roots: Sequence[x509.Certificate], at: datetime.datetime | None
) -> ec.EllipticCurvePublicKey:
    """Return the key of a signer whose certificate leads to a trusted root.

    Args:
        chain: the signer's certificate, and those of the authorities behind it, each in DER.
        roots: the certificates that are trusted. The signer's own may be one of them.
        at: when all of the chain must be valid; None for now.

    Raises:
        SignatureError: there is no such chain, or the certificate is not for signing.
        ValueError: `at` has no time zone, or is no time of UTC.
    """
    if not chain:
        raise SignatureError("is signed with a key, not under a certificate: name the public key")
    leaf, *others = (_certificate(each) for each in chain)
    require_for_signing(leaf)
    moment = datetime.datetime.now(datetime.UTC) if at is None else at
    if moment.tzinfo is None:
        raise ValueError(f"at is {at}, must have a time zone")
    try:
        moment = moment.astimezone(datetime.UTC)
    except OverflowError:
        raise ValueError(f"at is {at}, must be in the years 1 to 9999 of UTC") from None
    if leaf in roots:
        _require_valid(leaf, moment)
        return _key_of(leaf)
    # What a browser asks of a server's certificate, such as its names, is not asked of a signer's.
    policy = (
        verification.PolicyBuilder()
        .store(verification.Store(list(roots)))
        .time(moment)
        .max_chain_depth(CERTIFICATES_MOST)
        .extension_policies(
            ca_policy=_authorities(), ee_policy=verification.ExtensionPolicy.permit_all()
        )
    )
    _require_valid(leaf, moment)
    try:
        policy.build_client_verifier().verify(leaf, others)
    except verification.VerificationError as error:
        reason = _gap(leaf, others, roots) or " ".join(str(error).split())
        raise SignatureError(
            f"the certificate of {_subject(leaf)} leads to no trusted root: {reason}"
        ) from error
    return _key_of(leaf)


def _gap(
    leaf: x509.Certificate, others: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> str | None:
    """Return which certificate is missing between a signer and the roots; None if none is."""
    last, left = leaf, list(others)
    while not any(root.subject == last.issuer for root in roots):
        issuers = [each for each in left if each.subject == last.issuer]
        if not issuers:
            wanting = f"{_issuer(last)}, which issued {_subject(last)}"
            return f"the certificate of {wanting}, is neither trusted nor in the bundle"
        last = issuers[0]
        left.remove(last)
    return None


def _authorities() -> verification.ExtensionPolicy:
    """Return what is asked of an authority: that it is one, and may sign certificates."""

    def is_authority(
        policy: verification.Policy,
        certificate: x509.Certificate,
        constraints: x509.BasicConstraints,
    ) -> None:
        if not constraints.ca:
            raise ValueError(f"{_subject(certificate)} is not an authority")

    def may_certify(
        policy: verification.Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None
    ) -> None:
        if usage is not None and not usage.key_cert_sign:
            raise ValueError(f"{_subject(certificate)} may not sign certificates")

    return (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, is_authority)
        .may_be_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, may_certify)
    )


def require_for_signing(certificate: x509.Certificate) -> None:
    """Require that a certificate is one for signing: by its key usage digitalSignature, or by its
    extended key usage codeSigning.

    Raises:
        SignatureError: it is not.
    """
    try:
        extensions = certificate.extensions
    except ValueError as error:
        raise SignatureError(f"a certificate has extensions that are not valid: {error}") from error
    for extension in extensions:
        if isinstance(extension.value, x509.KeyUsage) and extension.value.digital_signature:
            return
        if isinstance(extension.value, x509.ExtendedKeyUsage) and (
            ExtendedKeyUsageOID.CODE_SIGNING in extension.value
        ):
            return
    raise SignatureError(
        f"the certificate of {_subject(certificate)} is not for signing: it has neither the key "
        "usage digitalSignature nor the extended key usage codeSigning"
    )


def chain_of(
    certificates: Sequence[x509.Certificate], key: ec.EllipticCurvePublicKey
) -> tuple[bytes, ...]:
    """Return the chain of a signer for a bundle, each certificate in DER.

    Args:
        certificates: the signer's, and those of the authorities behind it.
        key: the key of the signer.

    Raises:
        SignatureError: the first is of another key, or not for signing, or none of the others
            issued it.
        ValueError: there are too many.
    """
    if len(certificates) > CERTIFICATES_MOST:
        count = f"{len(certificates)} certificates"
        raise ValueError(f"certificates has {count}, must have at most {CERTIFICATES_MOST}")
    chain = tuple(each.public_bytes(Encoding.DER) for each in certificates)
    leaf, *others = certificates
    require_for_signing(leaf)
    require_key_of(chain[0], key)
    if others and not any(_issued(each, leaf) for each in others):
        raise SignatureError(
            f"the certificate of {_subject(leaf)} was issued by {_issuer(leaf)}, and the chain has "
            "another certificate instead"
        )
    return chain


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def require_key_of(leaf: bytes, key: ec.EllipticCurvePublicKey) -> None:
    """Require that a certificate is of a key.

    Raises:
        SignatureError: it is of another one.
    """
    certificate = _certificate(leaf)
    if certificate.public_key() != key:
        raise SignatureError(f"the certificate of {_subject(certificate)} is of another key")


def _require_valid(certificate: x509.Certificate, at: datetime.datetime) -> None:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= at <= last:
        raise SignatureError(
            f"the certificate of {_subject(certificate)} is valid from {first:%Y-%m-%d %H:%M} to "
            f"{last:%Y-%m-%d %H:%M}, and not at {at:%Y-%m-%d %H:%M}"
        )


def _certificate(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise SignatureError(f"a certificate is not valid: {error}") from error


def _key_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    try:
        return require_public_key(certificate.public_key())
    except ValueError as error:
        raise SignatureError(f"the key of {_subject(certificate)} {error}") from error


def _subject(certificate: x509.Certificate) -> str:
    return repr(subject_of(certificate))


def subject_of(certificate: x509.Certificate) -> str:
    """Return whom a certificate is of, as the text of its name."""
    try:
        return certificate.subject.rfc4514_string()
    except ValueError:
        return "a name that is not valid"


def _issuer(certificate: x509.Certificate) -> str:
    try:
        return repr(certificate.issuer.rfc4514_string())
    except ValueError:
        return "a name that is not valid"


def signer_of(leaf: bytes) -> str:
    """Return the name of a signer, from the certificate in DER."""
    return subject_of(_certificate(leaf))
