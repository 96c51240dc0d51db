# SPDX-License-Identifier: Apache-2.0
"""Signatures both ways with model_signing 1.1.1, and the form by the schemas of the specification.

`make check-sign` runs it. What model_signing itself cannot verify is said where it is tested.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("model_signing")

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from model_signing import hashing
from model_signing import signing as peer_signing
from model_signing import verifying as peer_verifying
from referencing import Registry, Resource

import atlas12288 as atlas
from atlas12288 import signing
from atlas12288.signing import Bundle
from support.signing import (
    CURVES,
    FILES,
    certificate,
    certificate_pem,
    make_folder,
    private_key,
    private_pem,
    public_pem,
)

SCHEMAS = Path(__file__).parent / "schemas"
ROOT, MIDDLE = private_key("P-384", 7), private_key("P-256", 8)
HASHES = {"sha256": "sha256", "blake2b": "blake2", "blake3": "blake3"}  # ours: theirs
SHARD = 100


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder `data`, and files with keys and certificates."""
    make_folder(tmp_path / "data")
    for curve in CURVES:
        key = private_key(curve)
        (tmp_path / f"{curve}.pem").write_bytes(private_pem(key))
        (tmp_path / f"{curve}.pub").write_bytes(public_pem(key))
        leaf = certificate("signer", key, ("middle", MIDDLE))
        (tmp_path / f"{curve}.cert").write_bytes(certificate_pem(leaf))
    root = certificate("root", ROOT, authority=True)
    middle = certificate("middle", MIDDLE, ("root", ROOT), authority=True)
    (tmp_path / "root.cert").write_bytes(certificate_pem(root))
    (tmp_path / "middle.cert").write_bytes(certificate_pem(middle))
    return tmp_path


def their_hashing(method: str, algorithm: str) -> Any:
    config = hashing.Config()
    name: Any = HASHES[algorithm]
    if method == "files":
        return config.use_file_serialization(hashing_algorithm=name)
    return config.use_shard_serialization(hashing_algorithm=name, shard_size=SHARD)


def they_verify(place: Path, text: str, curve: str = "P-256", config: Any = None) -> None:
    """Raises what model_signing raises where it does not verify a bundle."""
    (place / "ours.sig").write_text(text)
    verifier = peer_verifying.Config().use_elliptic_key_verifier(public_key=place / f"{curve}.pub")
    if config is not None:
        verifier = verifier.set_hashing_config(config)
    verifier.verify(place / "data", place / "ours.sig")


def we_verify(place: Path, curve: str = "P-256") -> Any:
    bundle = Bundle.from_json((place / "theirs.sig").read_bytes())
    key = private_key(curve).public_key()
    return signing.verify(bundle, place / "data", public_key=key)


def without_colons(place: Path) -> None:
    """model_signing 1.1.1 cannot read its own bundle of shards where a name has a colon."""
    for path in (place / "data").iterdir():
        if ":" in path.name:
            path.unlink()


def problems_of(text: str) -> list[str]:
    """What the schemas of the specification say about a bundle and its parts."""
    schemas = {
        name: json.loads((SCHEMAS / f"{name}.schema.json").read_text())
        for name in ("bundle", "envelope", "statement", "predicate")
    }
    resources = [(each["$id"], Resource.from_contents(each)) for each in schemas.values()]
    registry: Any = Registry().with_resources(resources)
    bundle = json.loads(text)
    envelope = bundle["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    parts = {
        "bundle": bundle,
        "envelope": envelope,
        "statement": statement,
        "predicate": statement["predicate"],
    }
    return [
        error.message
        for name, part in parts.items()
        for error in Draft202012Validator(schemas[name], registry=registry).iter_errors(part)
    ]


# --- Ours, verified by theirs


@pytest.mark.parametrize("curve", CURVES)
def test_what_we_sign_from_a_manifest_they_verify(curve: str, place: Path) -> None:
    manifest = atlas.Manifest.generate(place / "data")
    text = signing.sign(manifest, private_key(curve), name="data").to_json()
    assert problems_of(text) == []
    they_verify(place, text, curve)
    (place / "data" / "config.json").write_bytes(b"[]")
    with pytest.raises(ValueError, match=r"Hash mismatch for 'config\.json'"):
        they_verify(place, text, curve)


@pytest.mark.parametrize("algorithm", HASHES)
def test_whole_files_by_each_hash_they_verify(algorithm: Any, place: Path) -> None:
    bundle = signing.sign_folder(place / "data", private_key(), method="files", algorithm=algorithm)
    assert problems_of(bundle.to_json()) == []
    # It does not find out that a bundle is of BLAKE2b, also of its own.
    they_verify(place, bundle.to_json(), config=their_hashing("files", algorithm))


@pytest.mark.parametrize("algorithm", ["sha256", "blake2b"])
def test_shards_they_verify_by_names_of_their_own(algorithm: Any, place: Path) -> None:
    without_colons(place)
    options: dict[str, Any] = {"method": "shards", "shard_size": SHARD, "algorithm": algorithm}
    key = private_key()
    text = signing.sign_folder(place / "data", key, **options, for_model_signing=True).to_json()
    they_verify(place, text, config=their_hashing("shards", algorithm))
    if algorithm == "sha256":
        they_verify(place, text)
    assert problems_of(text) != []
    # The form of the specification they refuse.
    text = signing.sign_folder(place / "data", key, **options).to_json()
    assert problems_of(text) == []
    with pytest.raises(ValueError, match="mismatch"):
        they_verify(place, text, config=their_hashing("shards", algorithm))


@pytest.mark.parametrize("curve", CURVES)
def test_certificates_they_verify(curve: str, place: Path) -> None:
    key = private_key(curve)
    chain = [
        certificate("signer", key, ("middle", MIDDLE)),
        certificate("middle", MIDDLE, ("root", ROOT), authority=True),
    ]
    manifest = atlas.Manifest.generate(place / "data")
    text = signing.sign(manifest, key, name="data", certificates=chain).to_json()
    assert problems_of(text) == []
    (place / "ours.sig").write_text(text)
    peer_verifying.Config().use_certificate_verifier(
        certificate_chain=[place / "root.cert"]
    ).verify(place / "data", place / "ours.sig")


def test_their_command_line_verifies_what_ours_signed(place: Path) -> None:
    ours = (sys.executable, "-m", "atlas12288")
    theirs = (sys.executable, "-m", "model_signing")
    for command in (
        (*ours, "witness", "data", "-o", "data.atlas.json"),
        (*ours, "sign", "data.atlas.json", "--private-key", "P-256.pem", "-o", "data/data.sig"),
        (
            *theirs,
            *["verify", "key", "--public_key", "P-256.pub", "--signature", "data/data.sig", "data"],
        ),
    ):
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert "Verification succeeded" in done.stdout


# --- Theirs, verified by ours


@pytest.mark.parametrize("curve", CURVES)
def test_what_they_sign_we_verify(curve: str, place: Path) -> None:
    peer_signing.Config().use_elliptic_key_signer(private_key=place / f"{curve}.pem").sign(
        place / "data", place / "theirs.sig"
    )
    assert we_verify(place, curve).holds
    (place / "data" / "new").touch()
    assert we_verify(place, curve).holds is False


@pytest.mark.parametrize("method", ["files", "shards"])
@pytest.mark.parametrize("algorithm", HASHES)
def test_each_method_and_hash_of_theirs_we_verify(method: str, algorithm: str, place: Path) -> None:
    peer_signing.Config().use_elliptic_key_signer(
        private_key=place / "P-256.pem"
    ).set_hashing_config(their_hashing(method, algorithm)).sign(
        place / "data", place / "theirs.sig"
    )
    report = we_verify(place)
    assert report.holds
    assert report.files == len(FILES)
    data = bytearray(FILES["weights.bin"])
    data[250] ^= 1
    (place / "data" / "weights.bin").write_bytes(data)
    (difference,) = we_verify(place).differences
    assert (difference.path, difference.what) == (b"weights.bin", (algorithm,))
    if method == "shards" and algorithm != "blake3":  # which they do not cut
        assert difference.reason == "differs in the shards of bytes [200, 300)"


def test_their_certificates_we_verify(place: Path) -> None:
    peer_signing.Config().use_certificate_signer(
        private_key=place / "P-384.pem",
        signing_certificate=place / "P-384.cert",
        certificate_chain=[place / "middle.cert"],
    ).sign(place / "data", place / "theirs.sig")
    bundle = Bundle.from_json((place / "theirs.sig").read_bytes())
    trusted = [certificate("root", ROOT, authority=True)]
    assert signing.verify(bundle, place / "data", certificate_roots=trusted).holds


def test_their_options_we_verify(place: Path) -> None:
    data = place / "data"
    (data / "link").symlink_to("config.json")
    (data / "notes").mkdir()
    (data / "notes" / "x").write_bytes(b"left out")
    (data / ".gitattributes").write_bytes(b"* text")
    config = hashing.Config().set_allow_symlinks(True)
    config.set_ignored_paths(paths=["notes", "theirs.sig"], ignore_git_paths=False)
    peer_signing.Config().use_elliptic_key_signer(
        private_key=place / "P-256.pem"
    ).set_hashing_config(config).sign(data, place / "theirs.sig")
    assert we_verify(place).holds
    (data / "notes" / "y").write_bytes(b"left out too")
    assert we_verify(place).holds
    (data / ".gitattributes").write_bytes(b"changed")
    assert [each.path for each in we_verify(place).differences] == [b".gitattributes"]


def test_a_single_file_of_theirs_we_verify(place: Path) -> None:
    file = place / "data" / "weights.bin"
    peer_signing.Config().use_elliptic_key_signer(private_key=place / "P-256.pem").sign(
        file, place / "theirs.sig"
    )
    bundle = Bundle.from_json((place / "theirs.sig").read_bytes())
    key = private_key().public_key()
    assert signing.verify(bundle, file, public_key=key).holds
    with pytest.raises(atlas.WitnessError, match="name the file as ROOT"):
        signing.verify(bundle, place / "data", public_key=key)


# --- Any folder

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]),
    min_size=1,
    max_size=8,
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FOLDERS = st.dictionaries(PATHS, st.binary(max_size=500), min_size=1, max_size=6)


@given(files=FOLDERS)
def test_both_make_and_verify_signatures_over_any_folder(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("any")
    data = place / "data"
    data.mkdir()
    for name, content in files.items():
        path = data / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:
            continue  # a file is where a folder should be
    tops = {path.name for path in data.iterdir()}
    if tops <= {".git", ".gitattributes", ".github", ".gitignore", ".atlasignore"}:
        return
    (place / "P-256.pem").write_bytes(private_pem(private_key()))
    (place / "P-256.pub").write_bytes(public_pem(private_key()))
    manifest = atlas.Manifest.generate(data)
    text = signing.sign(manifest, private_key(), name="data").to_json()
    assert problems_of(text) == []
    they_verify(place, text)
    peer_signing.Config().use_elliptic_key_signer(private_key=place / "P-256.pem").sign(
        data, place / "theirs.sig"
    )
    assert we_verify(place).holds
    shards = (
        signing.sign_folder(data, private_key(), shard_size=7)
        if any(each.size for each in manifest.entries)
        else None
    )
    if shards is not None:
        assert problems_of(shards.to_json()) == []
        assert signing.verify(shards, data, public_key=private_key().public_key()).holds


def test_their_faults_are_not_ours(place: Path) -> None:
    """Names with a colon in shards: they refuse their own bundle, and we verify it."""
    config = their_hashing("shards", "sha256")
    peer_signing.Config().use_elliptic_key_signer(
        private_key=place / "P-256.pem"
    ).set_hashing_config(config).sign(place / "data", place / "theirs.sig")
    with pytest.raises(ValueError, match="expected 3 components"):
        they_verify(place, (place / "theirs.sig").read_text(), config=config)
    assert we_verify(place).holds
