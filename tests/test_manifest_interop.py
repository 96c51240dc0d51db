# SPDX-License-Identifier: Apache-2.0
"""Manifests by other people's code: in-toto's reader takes them, signed envelopes hold them.

`sha256sum` reads the exported lists in test_cli_manifest.py, and test_transparency_dev.py has the
trees of another implementation.
"""

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner
from sigstore import dsse
from sigstore.hashes import Hashed
from sigstore_models.common.v1 import HashAlgorithm

import atlas12288 as atlas

PAYLOAD_TYPE = "application/vnd.in-toto+json"  # in-toto spec/v1/envelope.md


@pytest.fixture
def manifest(tmp_path: Path) -> atlas.Manifest:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "sub" / "grüße.txt").write_text("x")
    (tmp_path / "sub" / "empty").touch()
    (tmp_path / "link").symlink_to("a.bin")
    Path(f"{tmp_path}/odd\udcff").write_text("no UTF-8")
    return atlas.Manifest.generate(tmp_path, tree=True)


def statement_of(text: str | bytes) -> Statement:
    """What in-toto's library reads."""
    message = statement_pb2.Statement()  # type: ignore[attr-defined]
    return Statement.copy_from_pb(json_format.Parse(text, message))


def subject_of(manifest: atlas.Manifest) -> bytes:
    """The digest that docs/manifests.md defines, from the manifest's values."""
    lines = (manifest.options.to_json(), *(entry.to_json() for entry in manifest.entries))
    return hashlib.sha256(b"".join(line + b"\n" for line in lines)).digest()


def test_in_toto_takes_a_manifest_as_a_statement_with_one_subject(manifest: atlas.Manifest) -> None:
    statement = statement_of(manifest.to_json())
    statement.validate()
    (subject,) = statement.pb.subject
    assert dict(subject.digest) == {"sha256": subject_of(manifest).hex()}
    assert statement.pb.predicate["root"] == manifest.hexdigest()
    assert len(statement.pb.predicate["files"]) == len(manifest.entries)


def test_in_toto_refuses_a_manifest_without_its_subject(manifest: atlas.Manifest) -> None:
    fields = json.loads(manifest.to_json())
    fields["subject"] = []
    with pytest.raises(ValueError, match="subject"):
        statement_of(json.dumps(fields)).validate()


def test_what_in_toto_writes_again_is_the_same_manifest(manifest: atlas.Manifest) -> None:
    written = json_format.MessageToDict(statement_of(manifest.to_json()).pb)
    for entry in written["predicate"]["files"]:  # protobuf has no integers in structures
        entry.update({key: int(entry[key]) for key in ("size", "residue") if key in entry})
    assert atlas.Manifest.from_json(json.dumps(written)) == manifest


@pytest.mark.parametrize("scheme", ["ed25519", "ecdsa"])
def test_a_signed_envelope_gives_the_manifest_back(scheme: str, manifest: atlas.Manifest) -> None:
    signer = getattr(CryptoSigner, f"generate_{scheme}")()
    envelope = Envelope(manifest.to_json().encode(), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    read = Envelope.from_dict(json.loads(json.dumps(envelope.to_dict())))
    assert list(read.verify([signer.public_key], 1)) == [signer.public_key.keyid]
    assert atlas.Manifest.from_json(read.payload) == manifest


def test_a_signature_does_not_hold_for_a_changed_manifest(manifest: atlas.Manifest) -> None:
    signer = CryptoSigner.generate_ed25519()
    envelope = Envelope(manifest.to_json().encode(), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    fields = envelope.to_dict()
    other = atlas.Manifest.from_entries(manifest.options, manifest.entries[1:])
    changed = Envelope(other.to_json().encode(), PAYLOAD_TYPE, {}).to_dict()
    fields["payload"] = changed["payload"]
    with pytest.raises(VerificationError):
        Envelope.from_dict(fields).verify([signer.public_key], 1)


# --- Sigstore's client takes the subject by its digest, and signs the bytes as they are


def hashed(digest: bytes) -> Hashed:
    return Hashed(algorithm=HashAlgorithm.SHA2_256, digest=digest)


def test_sigstore_takes_a_manifest_as_the_statement_of_its_subject(
    manifest: atlas.Manifest,
) -> None:
    statement = dsse.Statement(manifest.to_json().encode())
    assert statement._matches_digest(hashed(subject_of(manifest)))
    rules = manifest.options._replace(exclude=("*.so",))
    other = atlas.Manifest.from_entries(rules, manifest.entries)
    assert not statement._matches_digest(hashed(subject_of(other)))


def test_what_sigstore_signs_gives_the_manifest_back(manifest: atlas.Manifest) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    text = manifest.to_json().encode()
    envelope = dsse._sign(key, dsse.Statement(text))
    assert dsse._verify(key.public_key(), dsse.Envelope._from_json(envelope.to_json())) == text
