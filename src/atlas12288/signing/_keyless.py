# SPDX-License-Identifier: Apache-2.0
"""Signatures without a key of one's own: of an identity that Sigstore's services vouched for.

Sigstore's own client verifies them: the certificate, the transparency log and the signature.
"""

from __future__ import annotations

from ._bundle import PAYLOAD_TYPE, Bundle, SignatureError

try:
    from sigstore import models
    from sigstore.errors import Error
    from sigstore.verify import Verifier, policy
except ImportError:
    raise ImportError(
        "signatures of identities need sigstore: pip install 'atlas12288[keyless]'", name="sigstore"
    ) from None


def require_identity(bundle: Bundle, identity: str, issuer: str) -> None:
    """Require that a bundle is signed by an identity.

    The trusted services are those of the public Sigstore instance, as the installed client knows
    them. Nothing is asked over the network.

    Args:
        bundle: the bundle.
        identity: who signed, such as an e-mail address or the URL of a workflow.
        issuer: the URL of the OpenID Connect provider that knew the identity.

    Raises:
        SignatureError: it is not.
    """
    if bundle.sigstore is None:
        raise SignatureError("is signed with a key, not by an identity: name the key or a root")
    try:
        found = models.Bundle.from_json(bundle.sigstore)
        whose = policy.Identity(identity=identity, issuer=issuer)
        kind, payload = Verifier.production(offline=True).verify_dsse(found, whose)
    except (Error, models.InvalidBundle, ValueError) as error:
        raise SignatureError(f"is not signed by {identity!r}: {error}") from error
    if (kind, payload) != (PAYLOAD_TYPE, bundle.payload):
        raise SignatureError("Sigstore's client reads another statement in it")
