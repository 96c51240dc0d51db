# SPDX-License-Identifier: Apache-2.0
"""Signatures over folders: what is signed, what is refused, and that nothing forged holds."""

import base64
import datetime
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
from atlas12288 import signing
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest._sources.gitignore import Rule
from atlas12288.manifest._sources.source import Found
from atlas12288.signing import Bundle, SignatureError, _sign
from atlas12288.signing._bundle import CERTIFICATES_MOST
from atlas12288.signing._certificates import read_certificates
from atlas12288.signing._files_statement import Serialization, check_ignored
from atlas12288.signing._keys import PassphraseError, read_private_key, read_public_key
from atlas12288.signing._rules import rules_of
from atlas12288.signing._verify import Signed
from support.leftovers import nothing_left
from support.manifest_runs import Disturbed
from support.signing import (
    CURVES,
    DAY,
    FILES,
    NOW,
    certificate,
    make_folder,
    payload_of,
    private_key,
    private_pem,
    public_pem,
    resigned,
    signed_text,
)

KEY = private_key()
PUBLIC = KEY.public_key()
ALGORITHMS = ("sha256", "blake2b")
THREADS = (1, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data")


@pytest.fixture
def manifest(folder: Path) -> atlas.Manifest:
    return atlas.Manifest.generate(folder)


def sign(manifest: atlas.Manifest, **options: Any) -> Bundle:
    return signing.sign(manifest, KEY, name="data", **options)


def verify(bundle: Bundle | str, folder: Path, **options: Any) -> Any:
    if isinstance(bundle, str):
        bundle = Bundle.from_json(bundle)
    return signing.verify(bundle, folder, public_key=PUBLIC, **options)


# --- What is signed


@pytest.mark.parametrize("curve", CURVES)
def test_a_manifest_is_signed_without_reading_a_file(
    curve: str, folder: Path, manifest: atlas.Manifest
) -> None:
    folder.rename(folder.with_name("elsewhere"))  # there is nothing to read
    key = private_key(curve)
    bundle = signing.sign(manifest, key, name="data")
    folder.with_name("elsewhere").rename(folder)
    again = Bundle.from_json(bundle.to_json())
    assert again == bundle
    assert again.to_json() == bundle.to_json()
    report = signing.verify(again, folder, public_key=key.public_key())
    assert report.holds
    assert report.files == len(FILES)
    assert report.bytes == sum(map(len, FILES.values()))


def test_the_bundle_has_the_form_of_the_specification(manifest: atlas.Manifest) -> None:
    bundle = sign(manifest, ignored=["data.sig"]).to_json()
    fields = json.loads(bundle)
    assert fields["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    hint = hashlib.sha256(public_pem(KEY)).hexdigest()
    assert fields["verificationMaterial"] == {"publicKey": {"hint": hint}, "tlogEntries": []}
    names = sorted(FILES)
    digests = [hashlib.sha256(FILES[name]) for name in names]
    joined = b"".join(digest.digest() for digest in digests)
    assert payload_of(bundle) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "data", "digest": {"sha256": hashlib.sha256(joined).hexdigest()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest.hexdigest()}
                for name, digest in zip(names, digests, strict=True)
            ],
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [".git", ".gitattributes", ".github", ".gitignore", "data.sig"],
            },
        },
    }


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [1, 100, 1000, 76_799, 76_800, 10**9])
@pytest.mark.parametrize("threads", THREADS)
def test_each_shard_has_its_own_digest(
    algorithm: str, size: int, threads: int, folder: Path
) -> None:
    if size == 1:
        (folder / "weights.bin").write_bytes(bytes(500))
    bundle = signing.sign_folder(
        folder, KEY, method="shards", shard_size=size, algorithm=algorithm, threads=threads
    )
    expected = []
    for name in FILES:
        content = (folder / name).read_bytes()
        for start in range(0, len(content), size):
            part = content[start : start + size]
            digest = hashlib.new(algorithm, part).hexdigest()
            expected.append((f"{name}:{start}:{start + len(part)}", digest))
    predicate = payload_of(bundle.to_json())["predicate"]
    assert [(each["name"], each["digest"]) for each in predicate["resources"]] == sorted(expected)
    assert {each["algorithm"] for each in predicate["resources"]} == {algorithm}
    assert verify(bundle, folder, threads=threads).holds


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("threads", THREADS)
def test_whole_files_are_signed_by_each_algorithm(
    algorithm: str, threads: int, folder: Path
) -> None:
    bundle = signing.sign_folder(folder, KEY, method="files", algorithm=algorithm, threads=threads)
    found = {
        each["name"]: each["digest"]
        for each in payload_of(bundle.to_json())["predicate"]["resources"]
    }
    assert found == {
        name: hashlib.new(algorithm, content).hexdigest() for name, content in FILES.items()
    }
    assert verify(bundle, folder, threads=threads).holds


def test_an_algorithm_whose_package_is_missing_is_refused_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(ImportError, match="BLAKE3 needs blake3: pip install blake3"):
        signing.sign_folder(folder, KEY, method="files", algorithm="blake3")


def test_without_cryptography_the_extra_is_named(
    manifest: atlas.Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "atlas12288.signing._keys", raising=False)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ImportError, match=r"pip install 'atlas12288\[sign\]'"):
        sign(manifest)


def test_the_manifest_itself_is_signed_with_all_that_it_says(folder: Path) -> None:
    (folder / "link").symlink_to("empty")
    Path(os.fsdecode(bytes(folder) + b"/\xff")).write_bytes(b"no UTF-8")
    manifest = atlas.Manifest.generate(folder, tree=True, exclude=["*.log"])
    bundle = sign(manifest, form="manifest")
    assert bundle.payload == manifest.to_json().encode()
    assert verify(bundle, folder).holds
    (folder / "x.log").write_bytes(b"")
    assert verify(bundle, folder).holds
    (folder / "link").unlink()
    assert [(d.path, d.kind) for d in verify(bundle, folder).differences] == [(b"link", "missing")]


def test_a_single_file_is_signed_and_verified(folder: Path) -> None:
    file = folder / "weights.bin"
    bundle = signing.sign_folder(file, KEY, method="files")
    (resource,) = payload_of(bundle.to_json())["predicate"]["resources"]
    assert resource["name"] == "weights.bin"
    assert verify(bundle, file).holds
    file.write_bytes(b"other")
    assert verify(bundle, file).holds is False


# --- What the form cannot say is refused

LINKS = r"2 symbolic links, such as 'one'.*--symlinks follow"


def test_recorded_links_are_refused_with_their_number_and_what_follows_them(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name).symlink_to("empty")
    with pytest.raises(atlas.WitnessError, match=LINKS):
        sign(atlas.Manifest.generate(folder))
    with pytest.raises(atlas.WitnessError, match=LINKS):
        signing.sign_folder(folder, KEY)


@given(st.lists(st.text("ab*?[]\\! #/", min_size=1), min_size=1).map("/".join))
def test_the_rule_for_an_ignored_path_matches_that_path_alone(path: str) -> None:
    try:
        check_ignored(path)
    except atlas.WitnessError:
        return
    chosen = Serialization("files", "sha256", None, False, (path,))
    rule = Rule(rules_of(chosen)[-1])
    assert rule.literal == path.encode()
    assert (rule.in_names, rule.negative, rule.only_folders) == (False, False, False)


@pytest.mark.parametrize("rule", ["*.log", "tmp", "/build/", "!/a", "/a?", "/[ab]"])
def test_rules_that_are_no_paths_are_refused_with_their_number(rule: str, folder: Path) -> None:
    manifest = atlas.Manifest.generate(folder, exclude=["/cache", rule, "*.bak"])
    with pytest.raises(atlas.WitnessError) as caught:
        sign(manifest)
    assert "has 2 rules that the form cannot say" in str(caught.value)
    assert repr(rule) in str(caught.value)


def test_rules_that_are_paths_are_signed_as_they_are(folder: Path) -> None:
    for name in ("cache", "a b", "x*"):
        (folder / name).mkdir()
        (folder / name / "file").write_bytes(b"left out")
    manifest = atlas.Manifest.generate(folder, exclude=["/cache", "a\\ b/file", "/x\\*"])
    bundle = sign(manifest)
    chosen = payload_of(bundle.to_json())["predicate"]["serialization"]
    assert chosen["ignore_paths"][4:] == ["a b/file", "cache", "x*"]
    assert verify(bundle, folder).holds
    (folder / "xy").write_bytes(b"")
    assert [d.path for d in verify(bundle, folder).differences] == [b"xy"]


def test_names_that_are_not_utf_8_are_refused_with_their_number(folder: Path) -> None:
    for name in (b"\xff", b"\xfe"):
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(b"")
    with pytest.raises(atlas.WitnessError, match=r"2 names that are not UTF-8, such as '\\xfe'"):
        sign(atlas.Manifest.generate(folder))
    with pytest.raises(atlas.WitnessError, match="2 names that are not UTF-8"):
        signing.sign_folder(folder, KEY)
    Path(os.fsdecode(bytes(folder) + b"/\xfe")).unlink()
    with pytest.raises(atlas.WitnessError, match=r"1 name that is not UTF-8, such as '\\xff'"):
        sign(atlas.Manifest.generate(folder))


def test_parts_of_a_folder_and_digests_of_trees_are_refused(folder: Path) -> None:
    part = atlas.Manifest.generate(["a"], root=folder)
    with pytest.raises(atlas.WitnessError, match="1 path of a folder"):
        sign(part)
    tree = atlas.Manifest.generate(folder, tree=True, flat=False)
    with pytest.raises(atlas.WitnessError, match="no flat digests"):
        sign(tree)


def test_files_of_git_are_left_out_and_told(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_bytes(b"ref")
    (folder / "a" / ".git").write_bytes(b"not at the top")
    notes: list[str] = []
    bundle = sign(atlas.Manifest.generate(folder), note=notes.append)
    assert notes == ["1 file of git not signed, as the form demands"]
    names = [each["name"] for each in payload_of(bundle.to_json())["predicate"]["resources"]]
    assert "a/.git" in names
    assert ".git/HEAD" not in names
    (folder / ".gitignore").write_bytes(b"x")
    assert verify(bundle, folder).holds


def test_a_manifest_that_has_the_signature_itself_is_refused(folder: Path) -> None:
    (folder / "data.sig").write_bytes(b"of last month")
    with pytest.raises(atlas.WitnessError, match=r"'data\.sig', which is to be left out"):
        sign(atlas.Manifest.generate(folder), ignored=["data.sig"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "tensors"}, "method is 'tensors'"),
        ({"algorithm": "md5"}, "algorithm is 'md5'"),
        ({"symlinks": "record"}, "symlinks is 'record'"),
        ({"shard_size": 0}, "shard_size"),
        ({"ignored": ["../x"]}, "ignore_paths is '../x'"),
        ({"ignored": ["/x"]}, "ignore_paths is '/x'"),
        ({"ignored": ["x\ny"]}, "one line"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: dict[str, Any], message: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        signing.sign_folder(folder, KEY, **arguments)


# --- What verification finds


@pytest.mark.parametrize("method", ["files", "shards", "manifest form"])
def test_each_kind_of_difference_is_found(method: str, folder: Path) -> None:
    if method == "manifest form":
        bundle = sign(atlas.Manifest.generate(folder), form="manifest")
    else:
        bundle = signing.sign_folder(folder, KEY, method=method, shard_size=1000)
    data = bytearray(FILES["weights.bin"])
    data[1500] ^= 1
    (folder / "weights.bin").write_bytes(data)
    (folder / "config.json").unlink()
    (folder / "new").write_bytes(b"new")
    report = verify(bundle, folder)
    found = [(each.path, each.kind) for each in report.differences]
    assert found == [(b"config.json", "missing"), (b"new", "added"), (b"weights.bin", "changed")]
    assert report.holds is False
    if method == "shards":
        assert report.differences[-1].reason == "differs in the shards of bytes [1000, 2000)"
        assert report.differences[-1].what == ("sha256",)
    assert verify(bundle, folder, allow_extra=True).counts()["added"] == 1
    assert verify(bundle, folder, fail_fast=True).complete is False


def test_a_file_of_another_size_is_not_read_for_its_shards(folder: Path) -> None:
    bundle = signing.sign_folder(folder, KEY, method="shards", shard_size=1000)
    with (folder / "weights.bin").open("ab") as file:
        file.write(b"x")
    (difference,) = verify(bundle, folder).differences
    assert difference.what == ("size",)


def test_of_shards_an_unsigned_empty_file_is_no_difference_and_any_other_is(folder: Path) -> None:
    bundle = signing.sign_folder(folder, KEY, method="shards")
    (folder / "another").touch()
    assert verify(bundle, folder).holds
    (folder / "another").write_bytes(b"x")
    assert [d.path for d in verify(bundle, folder).differences] == [b"another"]


def test_a_file_that_cannot_be_read_leaves_no_verdict(folder: Path) -> None:
    bundle = signing.sign_folder(folder, KEY, method="shards", shard_size=1000)
    (folder / "fifo").unlink(missing_ok=True)
    os.mkfifo(folder / "fifo")
    report = verify(bundle, folder)
    assert report.holds is None
    assert [(d.path, d.kind) for d in report.differences] == [(b"fifo", "unreadable")]


def test_a_link_is_a_difference_where_none_was(folder: Path) -> None:
    bundle = sign(atlas.Manifest.generate(folder))
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("empty")
    (folder / "link").symlink_to("/etc/passwd")
    found = [(d.path, d.kind, d.what) for d in verify(bundle, folder).differences]
    assert found == [(b"config.json", "changed", ("symlink",)), (b"link", "added", ())]


def test_links_are_followed_where_the_signer_followed_them(folder: Path, tmp_path: Path) -> None:
    (folder / "inside").symlink_to("weights.bin")
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "blob").write_bytes(b"outside")
    (folder / "outside").symlink_to("../blobs/blob")
    bundle = signing.sign_folder(
        folder, KEY, method="files", symlinks="follow", links_below=[blobs]
    )
    assert payload_of(bundle.to_json())["predicate"]["serialization"]["allow_symlinks"] is True
    assert verify(bundle, folder, links_below=[blobs]).holds
    # Out of the folder only with leave.
    assert verify(bundle, folder).holds is None
    (blobs / "blob").write_bytes(b"changed")
    report = verify(bundle, folder, links_below=[blobs])
    assert [d.path for d in report.differences] == [b"outside"]
    with pytest.raises(ValueError, match="no links"):
        verify(sign(atlas.Manifest.generate(blobs)), folder, links_below=[blobs])


def test_ignored_paths_of_one_run_are_not_those_of_the_next(folder: Path) -> None:
    (folder / "notes").write_bytes(b"x")
    wide = signing.sign_folder(folder, KEY, ignored=["notes"])
    narrow = signing.sign_folder(folder, KEY)
    (folder / "notes").write_bytes(b"y")
    for _ in range(2):
        assert verify(wide, folder).holds
        assert verify(narrow, folder).holds is False


def test_a_signed_path_cannot_be_ignored_by_who_verifies(folder: Path) -> None:
    bundle = sign(atlas.Manifest.generate(folder))
    (folder / "notes").write_bytes(b"x")
    assert verify(bundle, folder, ignored=["notes"]).holds
    for path in ("config.json", "a"):
        with pytest.raises(atlas.WitnessError, match="is signed"):
            verify(bundle, folder, ignored=[path])


# --- Forged and damaged bundles


def _resource(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda statement: statement["predicate"]["resources"][0].update(changes)


def _chosen(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda statement: statement["predicate"]["serialization"].update(changes)


def _resources(change: Callable[[list[Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda statement: change(statement["predicate"]["resources"])


def _drop(*keys: Any) -> Callable[[dict[str, Any]], object]:
    def change(statement: Any) -> None:
        for key in keys[:-1]:
            statement = statement[key]
        del statement[keys[-1]]

    return change


LIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "type": (lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"), "_type"),
    "predicate type": (lambda s: s.update(predicateType="https://slsa.dev"), "predicateType"),
    "former predicate": (
        lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"),
        "before 0.3",
    ),
    "key of the statement": (lambda s: s.update(more=1), "unknown"),
    "key of the predicate": (lambda s: s["predicate"].update(more=1), "unknown"),
    "two subjects": (lambda s: s["subject"].append(s["subject"][0]), "a list of one"),
    "no subject": (lambda s: s.update(subject=[]), "a list of one"),
    "subject without name": (lambda s: s["subject"][0].update(name=""), "name"),
    "no resources": (_resources(list.clear), "at least one"),
    "parent": (_resource(name="../a"), "'..'"),
    "parent within": (_resource(name="a/../../etc/passwd"), "'..'"),
    "absolute": (_resource(name="/etc/passwd"), "relative"),
    "empty name": (_resource(name=""), "empty"),
    "empty part": (_resource(name="a//b"), "empty"),
    "dot": (_resource(name="./a"), "'.'"),
    "single file among others": (_resource(name="."), "alone"),
    "NUL": (_resource(name="a\0b"), "NUL"),
    "surrogate": (_resource(name="\ud800"), "whole characters"),
    "number for a name": (_resource(name=1), "name"),
    "long name": (_resource(name="a" * 70_000), "65,536"),
    "twice": (_resources(lambda r: r.insert(0, r[0])), "twice"),
    "unsorted": (_resources(list.reverse), "sorted"),
    "short digest": (_resource(digest="00"), "64 lowercase hex"),
    "upper case": (_resource(digest="AB" * 32), "64 lowercase hex"),
    "digest of digits of other scripts": (_resource(digest="\u0661" * 64), "64 lowercase hex"),
    "other algorithm": (_resource(algorithm="sha512"), "algorithm"),
    "sharded algorithm": (_resource(algorithm="sha256-sharded-5"), "algorithm"),
    "method": (_chosen(method="tensors"), "method"),
    "hash": (_chosen(hash_type="md5"), "hash_type"),
    "shard size of files": (_chosen(shard_size=5), "shard_size"),
    "links": (_chosen(allow_symlinks="false"), "allow_symlinks"),
    "unknown choice": (_chosen(follow=True), "unknown"),
    "ignored parent": (_chosen(ignore_paths=["../x"]), "ignore_paths"),
    "ignored all": (_chosen(ignore_paths=["."]), "ignore_paths"),
    "ignored absolute": (_chosen(ignore_paths=["/x"]), "ignore_paths"),
    "ignored lines": (_chosen(ignore_paths=["x\ny"]), "one line"),
    "ignored and signed": (_chosen(ignore_paths=["a"]), "resources has it too"),
    "ignored text": (_chosen(ignore_paths="x"), "ignore_paths"),
    "no serialization": (_drop("predicate", "serialization"), "missing"),
    "no hash": (_drop("predicate", "serialization", "hash_type"), "missing"),
    "no digest": (_drop("predicate", "resources", 0, "digest"), "missing"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_signer_that_lies_about_the_form_is_refused(
    lie: str, folder: Path, manifest: atlas.Manifest
) -> None:
    change, message = LIES[lie]
    text = resigned(sign(manifest).to_json(), change, KEY)
    with pytest.raises(atlas.WitnessError) as caught:
        verify(text, folder)
    assert message in str(caught.value)


def test_a_wrong_root_is_refused(folder: Path, manifest: atlas.Manifest) -> None:
    text = resigned(sign(manifest).to_json(), _resource(digest="0" * 64), KEY, root=False)
    with pytest.raises(atlas.WitnessError, match="the one of all resources"):
        verify(text, folder)


def test_both_orders_of_names_are_taken(folder: Path, manifest: atlas.Manifest) -> None:
    """The specification sorts whole names; model_signing sorts part by part."""
    text = resigned(
        sign(manifest).to_json(),
        _resources(lambda r: r.sort(key=lambda each: each["name"].split("/"))),
        KEY,
    )
    names = [each["name"] for each in payload_of(text)["predicate"]["resources"]]
    assert names != sorted(names)
    assert verify(text, folder).holds


SHARD_LIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "hole": (_resources(lambda r: r.pop(1)), "each shard"),
    "no first": (_resources(lambda r: r.pop(0)), "each shard"),
    "overlap": (lambda s: s["predicate"]["resources"][0].update(name="a.b:0:150"), "each shard"),
    "too long": (_chosen(shard_size=50), "algorithm|each shard"),
    "empty": (_resource(name="a.b:0:0"), "each shard"),
    "backwards": (_resource(name="a.b:100:0"), "each shard"),
    "no range": (_resource(name="a.b"), "PATH:START:END"),
    "one number": (_resource(name="a.b:100"), "PATH:START:END"),
    "sign": (_resource(name="a.b:-0:100"), "PATH:START:END"),
    "leading zero": (_resource(name="a.b:00:100"), "PATH:START:END"),
    "other digits": (_resource(name="a.b:0:\u0661\u0660\u0660"), "PATH:START:END"),
    "parent": (_resource(name="../a.b:0:100"), "'..'"),
    "no path": (_resource(name=":0:100"), "empty"),
    "no size": (_drop("predicate", "serialization", "shard_size"), "shard_size"),
    "size 0": (_chosen(shard_size=0), "shard_size"),
    "half": (_chosen(shard_size=100.5), "shard_size"),
    "true": (_chosen(shard_size=True), "shard_size"),
    "infinite": (_chosen(shard_size=float("inf")), "shard_size"),
    "huge": (_chosen(shard_size=10**30), "shard_size"),
}


@pytest.mark.parametrize("lie", SHARD_LIES)
def test_a_signer_that_lies_about_shards_is_refused(lie: str, folder: Path) -> None:
    change, message = SHARD_LIES[lie]
    bundle = signing.sign_folder(folder, KEY, method="shards", shard_size=100)
    with pytest.raises(atlas.WitnessError, match=message):
        verify(resigned(bundle.to_json(), change, KEY), folder)


def test_what_model_signing_makes_of_numbers_and_names_of_shards_is_taken(folder: Path) -> None:
    bundle = signing.sign_folder(
        folder, KEY, method="shards", shard_size=100, for_model_signing=True
    )
    statement = payload_of(bundle.to_json())
    names = {each["algorithm"] for each in statement["predicate"]["resources"]}
    assert names == {"sha256-sharded-100"}
    assert verify(bundle, folder).holds
    assert verify(resigned(bundle.to_json(), _chosen(shard_size=100.0), KEY), folder).holds


@pytest.mark.parametrize("part", ["sig", "payload"])
def test_no_changed_bit_of_signature_or_statement_holds(
    part: str, folder: Path, manifest: atlas.Manifest
) -> None:
    text = sign(manifest).to_json()
    fields = json.loads(text)
    envelope = fields["dsseEnvelope"]
    place = envelope["signatures"][0] if part == "sig" else envelope
    data = base64.b64decode(place[part])
    for number in range(0, 8 * len(data), 8 if part == "sig" else 97):
        changed = bytearray(data)
        changed[number // 8] ^= 1 << number % 8
        place[part] = base64.b64encode(changed).decode()
        with pytest.raises(SignatureError):
            verify(json.dumps(fields), folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.update(mediaType="application/json"), "mediaType"),
        (lambda b: b.update(more=1), "unknown"),
        (lambda b: b["verificationMaterial"].clear(), "has none"),
        (lambda b: b["verificationMaterial"].update(x509CertificateChain={}), "and"),
        (lambda b: b["verificationMaterial"].update(publicKey={"hint": 5}), "hint"),
        (
            lambda b: b.update(verificationMaterial={"x509CertificateChain": {"certificates": []}}),
            "certificates",
        ),
        (
            lambda b: b.update(
                verificationMaterial={
                    "x509CertificateChain": {
                        "certificates": [{"rawBytes": "AAAA"}] * (CERTIFICATES_MOST + 1)
                    }
                }
            ),
            "certificates",
        ),
        (lambda b: b["dsseEnvelope"].update(payloadType="text/plain"), "payloadType"),
        (lambda b: b["dsseEnvelope"].update(payload=""), "base64"),
        (lambda b: b["dsseEnvelope"].update(payload="AA=A"), "base64"),
        (lambda b: b["dsseEnvelope"].update(payload="\u00e4"), "base64"),
        (lambda b: b["dsseEnvelope"].update(signatures=[]), "a list of one"),
        (lambda b: b["dsseEnvelope"]["signatures"].append({"sig": "AA=="}), "a list of one"),
        (lambda b: b["dsseEnvelope"]["signatures"][0].update(alg="none"), "unknown"),
    ],
)
def test_a_bundle_in_another_form_is_refused(
    change: Callable[[Any], object], message: str, manifest: atlas.Manifest
) -> None:
    fields = json.loads(sign(manifest).to_json())
    change(fields)
    with pytest.raises(atlas.WitnessError, match=message):
        Bundle.from_json(json.dumps(fields))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[" * 100_000,
        '{"mediaType":' * 100_000,
        '{"mediaType":"a","mediaType":"b"}',
        b"\xff",
        "{" + '"a":1,' * 1000 + '"b":2}',
    ],
    ids=["empty", "null", "deep list", "deep object", "key twice", "no UTF-8", "many keys"],
)
def test_what_is_no_bundle_is_refused(text: str | bytes) -> None:
    with pytest.raises(atlas.WitnessError):
        Bundle.from_json(text)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"_type":"a","_type":"b"}',
        b"\xff",
        b'{"predicateType":"https://atlas12288/manifest/v1"}',
    ],
    ids=["empty", "null", "deep", "key twice", "no UTF-8", "a manifest by its type alone"],
)
def test_what_is_signed_and_no_statement_is_refused(
    payload: bytes, folder: Path, manifest: atlas.Manifest
) -> None:
    text = signed_text(sign(manifest).to_json(), payload, KEY)
    with pytest.raises(atlas.WitnessError):
        verify(text, folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder and its bundle, for many examples."""
    folder = make_folder(tmp_path_factory.mktemp("data"))
    return folder, sign(atlas.Manifest.generate(folder)).to_json()


@given(index=st.integers(0), by=st.sampled_from(["", "A", "0", '"', "}", ",", "\\", " "]))
def test_no_change_of_a_bundle_holds(index: int, by: str, whole: tuple[Path, str]) -> None:
    folder, text = whole
    index %= len(text)
    changed = text[:index] + by + text[index + 1 :]
    try:
        report = verify(changed, folder)
    except (atlas.WitnessError, SignatureError):
        return
    # What is left says the same: only white space, or bits of base64 that stand for no byte.
    assert report.holds
    before, after = Bundle.from_json(text), Bundle.from_json(changed)
    assert (before.payload, before.signature) == (after.payload, after.signature)


def _many_shards(statement: dict[str, Any]) -> None:
    names = sorted(f"a:{n}:{n + 1}" for n in range(40_000))
    statement["predicate"]["resources"] = [
        {"name": name, "algorithm": "sha256", "digest": "0" * 64} for name in names
    ]
    statement["predicate"]["serialization"].update(method="shards", shard_size=1)


def _deep_paths(statement: dict[str, Any]) -> None:
    deep = "a/" * 30_000
    statement["predicate"]["resources"] = [
        {"name": f"{deep}{n:03}", "algorithm": "sha256", "digest": "0" * 64} for n in range(100)
    ]
    ignored = [f"{n}x" for n in range(40_000)]
    statement["predicate"]["serialization"]["ignore_paths"] = ignored


@pytest.mark.parametrize("change", [_many_shards, _deep_paths])
def test_the_time_to_read_a_statement_grows_with_its_length(
    change: Callable[[dict[str, Any]], object], manifest: atlas.Manifest
) -> None:
    """Where each is compared with all others, this takes hours."""
    payload = Bundle.from_json(resigned(sign(manifest).to_json(), change, KEY)).payload
    assert len(Signed.of(payload).content.entries) in (1, 100)


# --- Keys


def test_the_signature_of_another_key_does_not_hold(folder: Path, manifest: atlas.Manifest) -> None:
    other = private_key("P-256", 1)
    bundle = sign(manifest)
    with pytest.raises(SignatureError, match="another key, whose hint is"):
        signing.verify(bundle, folder, public_key=other.public_key())
    fields = json.loads(bundle.to_json())
    fields["verificationMaterial"]["publicKey"] = {"rawBytes": "AAAA"}  # before 1.1.0
    text = json.dumps(fields)
    assert verify(text, folder).holds
    with pytest.raises(SignatureError, match="not of this key"):
        signing.verify(Bundle.from_json(text), folder, public_key=other.public_key())


def test_a_signature_is_looked_at_before_the_folder(manifest: atlas.Manifest) -> None:
    bundle = sign(manifest)
    other = private_key("P-256", 1).public_key()
    with pytest.raises(SignatureError):
        signing.verify(bundle, "no such folder", public_key=other)
    with pytest.raises(atlas.FileError):
        signing.verify(bundle, "no such folder", public_key=PUBLIC)


def test_keys_that_are_not_suitable_are_refused_with_the_list_of_those_that_are(
    manifest: atlas.Manifest,
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    for key, kind in (
        (ec.generate_private_key(ec.SECP256K1()), "a key of ECDSA on secp256k1"),
        (ed25519.Ed25519PrivateKey.generate(), "a key of Ed25519"),
        (rsa.generate_private_key(65537, 2048), "a key of RSA"),
    ):
        for read, pem in ((read_private_key, private_pem(key)), (read_public_key, public_pem(key))):
            with pytest.raises(ValueError, match=f"is {kind}, must be .*P-256.*P-384.*P-521"):
                read(pem)
        with pytest.raises(ValueError, match="P-256"):
            signing.sign(manifest, key)  # type: ignore[arg-type]
    for read in (read_private_key, read_public_key):
        with pytest.raises(ValueError, match="in PEM"):
            read(b"nothing")
    with pytest.raises(ValueError, match="is a private key, must be its public key"):
        read_public_key(private_pem(KEY))


def test_an_encrypted_key_needs_its_own_passphrase() -> None:
    pem = private_pem(KEY, b"secret")
    for wrong in (None, b"other", b""):
        with pytest.raises(PassphraseError):
            read_private_key(pem, wrong)
    assert public_pem(read_private_key(pem, b"secret")) == public_pem(KEY)
    assert public_pem(read_private_key(private_pem(KEY), b"not needed")) == public_pem(KEY)


@pytest.mark.parametrize("roots", [(), "both"])
def test_one_of_a_key_and_certificates_is_needed(
    roots: Any, folder: Path, manifest: atlas.Manifest
) -> None:
    given: dict[str, Any] = {}
    if roots:
        given = {"public_key": PUBLIC, "certificate_roots": [certificate("root", KEY)]}
    with pytest.raises(ValueError, match="one of public_key, certificate_roots and identity"):
        signing.verify(sign(manifest), folder, **given)


# --- Certificates

ROOT = private_key("P-384", 7)
MIDDLE = private_key("P-256", 8)
ROOT_CERTIFICATE = certificate("root", ROOT, authority=True)
MIDDLE_CERTIFICATE = certificate("middle", MIDDLE, ("root", ROOT), authority=True)


def leaf(key: Any = KEY, **options: Any) -> Any:
    return certificate("signer", key, ("middle", MIDDLE), **options)


def certified(manifest: atlas.Manifest, *chain: Any, key: Any = KEY) -> Bundle:
    return signing.sign(manifest, key, name="data", certificates=chain)


@pytest.mark.parametrize("curve", CURVES)
def test_a_chain_to_a_trusted_root_holds(
    curve: str, folder: Path, manifest: atlas.Manifest
) -> None:
    key = private_key(curve)
    chain = (leaf(key), MIDDLE_CERTIFICATE)
    bundle = certified(manifest, *chain, key=key)
    text = bundle.to_json()
    assert json.loads(text)["verificationMaterial"].keys() == {
        "x509CertificateChain",
        "tlogEntries",
    }
    assert Bundle.from_json(text) == bundle
    assert signing.verify(bundle, folder, certificate_roots=[ROOT_CERTIFICATE]).holds
    # With the root in the chain, and trusted for its own key alone.
    whole = certified(manifest, *chain, ROOT_CERTIFICATE, key=key)
    assert signing.verify(whole, folder, certificate_roots=[ROOT_CERTIFICATE]).holds
    assert signing.verify(whole, folder, public_key=key.public_key()).holds
    with pytest.raises(SignatureError, match="of another key"):
        signing.verify(whole, folder, public_key=MIDDLE.public_key())


def test_a_certificate_that_is_trusted_itself_needs_no_chain(
    folder: Path, manifest: atlas.Manifest
) -> None:
    own = certificate("signer", KEY)
    assert signing.verify(certified(manifest, own), folder, certificate_roots=[own]).holds
    code = leaf(usage=False, code_signing=True)
    assert signing.verify(certified(manifest, code), folder, certificate_roots=[code]).holds


def test_a_chain_that_leads_elsewhere_does_not_hold(folder: Path, manifest: atlas.Manifest) -> None:
    other = private_key("P-256", 9)
    same_name = certificate("root", other, authority=True)
    unrelated = certificate("other", other, authority=True)
    bundle = certified(manifest, leaf(), MIDDLE_CERTIFICATE)
    for root in (same_name, unrelated):
        with pytest.raises(SignatureError, match="leads to no trusted root"):
            signing.verify(bundle, folder, certificate_roots=[root])
    # Without what is between, or with an issuer that is no authority.
    with pytest.raises(SignatureError, match="leads to no trusted root"):
        signing.verify(certified(manifest, leaf()), folder, certificate_roots=[ROOT_CERTIFICATE])
    false = certificate("middle", MIDDLE, ("root", ROOT), authority=False)
    with pytest.raises(SignatureError, match="leads to no trusted root"):
        signing.verify(
            certified(manifest, leaf(), false), folder, certificate_roots=[ROOT_CERTIFICATE]
        )
    with pytest.raises(SignatureError, match="signed with a key"):
        signing.verify(sign(manifest), folder, certificate_roots=[ROOT_CERTIFICATE])


def test_certificates_must_be_valid_when_they_are_verified_or_at_a_time_that_is_given(
    folder: Path, manifest: atlas.Manifest
) -> None:
    expired = certified(manifest, leaf(days=(-9, -1)), MIDDLE_CERTIFICATE)
    roots = [ROOT_CERTIFICATE]
    with pytest.raises(SignatureError, match=r"is valid from .* and not at"):
        signing.verify(expired, folder, certificate_roots=roots)
    assert signing.verify(expired, folder, certificate_roots=roots, at=NOW - 2 * DAY).holds
    # The authorities must be valid then too.
    old = certified(manifest, leaf(days=(-100, 100)), MIDDLE_CERTIFICATE)
    with pytest.raises(SignatureError, match="leads to no trusted root"):
        signing.verify(old, folder, certificate_roots=roots, at=NOW - 50 * DAY)
    with pytest.raises(ValueError, match="time zone"):
        signing.verify(old, folder, certificate_roots=roots, at=datetime.datetime(2026, 1, 1))
    east = datetime.timezone(datetime.timedelta(hours=14))
    first = datetime.datetime(1, 1, 1, tzinfo=east)
    with pytest.raises(ValueError, match="must be in the years 1 to 9999 of UTC"):
        signing.verify(old, folder, certificate_roots=roots, at=first)
    with pytest.raises(ValueError, match="at is for certificates"):
        signing.verify(old, folder, public_key=PUBLIC, at=NOW)


def test_a_certificate_that_is_not_for_signing_is_refused(
    folder: Path, manifest: atlas.Manifest
) -> None:
    wrong = leaf(usage=False)
    with pytest.raises(SignatureError, match="not for signing"):
        certified(manifest, wrong)
    text = json.loads(certified(manifest, leaf(), MIDDLE_CERTIFICATE).to_json())
    from cryptography.hazmat.primitives.serialization import Encoding

    chain = text["verificationMaterial"]["x509CertificateChain"]["certificates"]
    chain[0]["rawBytes"] = base64.b64encode(wrong.public_bytes(Encoding.DER)).decode()
    with pytest.raises(SignatureError, match="not for signing"):
        signing.verify(
            Bundle.from_json(json.dumps(text)), folder, certificate_roots=[ROOT_CERTIFICATE]
        )


def test_the_missing_certificate_of_a_chain_is_named(
    folder: Path, manifest: atlas.Manifest
) -> None:
    with pytest.raises(SignatureError) as refused:
        signing.verify(certified(manifest, leaf()), folder, certificate_roots=[ROOT_CERTIFICATE])
    assert str(refused.value) == (
        "the certificate of 'CN=signer' leads to no trusted root: the certificate of 'CN=middle', "
        "which issued 'CN=signer', is neither trusted nor in the bundle"
    )
    whole = certified(manifest, leaf(), MIDDLE_CERTIFICATE)
    other = certificate("other", private_key("P-256", 9), authority=True)
    with pytest.raises(SignatureError, match="'CN=root', which issued 'CN=middle', is neither"):
        signing.verify(whole, folder, certificate_roots=[other])


def test_a_chain_without_the_issuer_of_the_signer_is_not_signed_with(
    manifest: atlas.Manifest,
) -> None:
    namesake = certificate("middle", private_key("P-256", 9), ("root", ROOT), authority=True)
    for other in (ROOT_CERTIFICATE, namesake):
        with pytest.raises(SignatureError) as refused:
            certified(manifest, leaf(), other)
        assert str(refused.value) == (
            "the certificate of 'CN=signer' was issued by 'CN=middle', and the chain has another "
            "certificate instead"
        )
    # In any order.
    certified(manifest, leaf(), ROOT_CERTIFICATE, MIDDLE_CERTIFICATE)


def test_the_certificate_of_another_key_is_refused(manifest: atlas.Manifest) -> None:
    with pytest.raises(SignatureError, match="of another key"):
        certified(manifest, leaf(private_key("P-256", 3)), MIDDLE_CERTIFICATE)
    with pytest.raises(ValueError, match="at most 16"):
        certified(manifest, *[leaf()] * (CERTIFICATES_MOST + 1))


@pytest.mark.parametrize("data", [b"\0", b"0\x82\x01\x00", b"nothing"])
def test_bytes_that_are_no_certificate_do_not_hold(
    data: bytes, folder: Path, manifest: atlas.Manifest
) -> None:
    fields = json.loads(certified(manifest, leaf(), MIDDLE_CERTIFICATE).to_json())
    chain = fields["verificationMaterial"]["x509CertificateChain"]["certificates"]
    for each in chain:
        before, each["rawBytes"] = each["rawBytes"], base64.b64encode(data).decode()
        with pytest.raises(SignatureError, match="certificate"):
            signing.verify(
                Bundle.from_json(json.dumps(fields)), folder, certificate_roots=[ROOT_CERTIFICATE]
            )
        each["rawBytes"] = before


# --- Signatures of identities, by published bundles: none can be made without the services

KEYLESS = Path(__file__).parent / "vectors" / "signing" / "keyless"
WHO = json.loads((KEYLESS / "signer.json").read_text())


def test_a_published_bundle_of_an_identity_holds_for_that_identity_alone() -> None:
    pytest.importorskip("sigstore")
    bundle = Bundle.from_json((KEYLESS / "bundle.sig").read_bytes())
    assert Bundle.from_json(bundle.to_json()) == bundle
    assert signing.verify(bundle, KEYLESS / "model", **WHO).holds
    for change in ({"identity": "somebody@example.com"}, {"issuer": "https://example.com"}):
        with pytest.raises(SignatureError, match="is not signed by"):
            signing.verify(bundle, KEYLESS / "model", **WHO | change)


def test_a_changed_bundle_of_an_identity_does_not_hold(
    folder: Path, manifest: atlas.Manifest
) -> None:
    pytest.importorskip("sigstore")
    text = (KEYLESS / "bundle.sig").read_text()
    fields = json.loads(text)
    other = json.loads(sign(manifest).to_json())["dsseEnvelope"]
    for change in (
        lambda b: b["dsseEnvelope"].update(payload=other["payload"]),
        lambda b: b["dsseEnvelope"].update(signatures=other["signatures"]),
        lambda b: b["verificationMaterial"].update(tlogEntries=[]),
        lambda b: b["verificationMaterial"]["certificate"].update(rawBytes="AAAA"),
    ):
        changed = json.loads(text)
        change(changed)
        assert changed != fields
        with pytest.raises(SignatureError):
            signing.verify(Bundle.from_json(json.dumps(changed)), KEYLESS / "model", **WHO)


def test_keys_and_identities_are_not_taken_for_each_other(
    folder: Path, manifest: atlas.Manifest
) -> None:
    pytest.importorskip("sigstore")
    keyless = Bundle.from_json((KEYLESS / "bundle.sig").read_bytes())
    with pytest.raises(SignatureError, match="is signed by an identity"):
        verify(keyless, KEYLESS / "model")
    with pytest.raises(SignatureError, match="is signed with a key"):
        signing.verify(sign(manifest), folder, **WHO)
    with pytest.raises(ValueError, match="together"):
        signing.verify(keyless, KEYLESS / "model", identity="x")


def test_without_sigstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "atlas12288.signing._keyless", raising=False)
    monkeypatch.setitem(sys.modules, "sigstore", None)
    keyless = Bundle.from_json((KEYLESS / "bundle.sig").read_bytes())
    with pytest.raises(ImportError, match=r"pip install 'atlas12288\[keyless\]'"):
        signing.verify(keyless, KEYLESS / "model", **WHO)


# --- Bundles of model_signing 1.1.1; `make check-sign` makes new ones

THEIRS = json.loads((KEYLESS.parent / "model_signing.json").read_text())


@pytest.mark.parametrize("name", THEIRS)
def test_bundles_of_model_signing_hold(name: str, folder: Path) -> None:
    if "blake3" in name:
        pytest.importorskip("blake3")
    vector = THEIRS[name]
    bundle = Bundle.from_json(vector["bundle"])
    trust: dict[str, Any]
    if "root" in vector:
        trust = {"certificate_roots": read_certificates(vector["root"].encode())}
    else:
        trust = {"public_key": read_public_key(vector["public_key"].encode())}
    assert signing.verify(bundle, folder, **trust).holds
    data = bytearray(FILES["weights.bin"])
    data[-1] ^= 1
    (folder / "weights.bin").write_bytes(data)
    report = signing.verify(bundle, folder, **trust)
    assert [(each.path, each.kind) for each in report.differences] == [(b"weights.bin", "changed")]


# --- Others' readers of what is signed


@pytest.mark.parametrize("form", ["files", "shards", "manifest"])
def test_other_tools_take_what_the_documents_say(
    form: Any, folder: Path, manifest: atlas.Manifest
) -> None:
    dsse = pytest.importorskip("securesystemslib.dsse")
    signer = pytest.importorskip("securesystemslib.signer")
    sigstore_dsse = pytest.importorskip("sigstore.dsse")
    models = pytest.importorskip("sigstore.models")
    attestation = pytest.importorskip("in_toto_attestation.v1.statement")
    message = pytest.importorskip("in_toto_attestation.v1.statement_pb2").Statement()
    if form == "shards":
        bundle = signing.sign_folder(folder, KEY, method="shards", shard_size=1000)
    else:
        bundle = sign(manifest, form=form)
    fields = json.loads(bundle.to_json())
    key = signer.SSlibKey.from_crypto(PUBLIC)
    key.keyid = ""
    envelope = dsse.Envelope.from_dict(json.loads(json.dumps(fields["dsseEnvelope"])))
    assert envelope.verify([key], 1) == {"": key}
    assert envelope.payload == bundle.payload
    text = json.dumps(fields["dsseEnvelope"])
    read = sigstore_dsse.Envelope._from_json(text)
    assert sigstore_dsse._verify(PUBLIC, read) == bundle.payload
    sigstore_dsse.Statement(bundle.payload)
    with pytest.raises(models.InvalidBundle):
        models.Bundle.from_json(bundle.to_json())
    json_format = pytest.importorskip("google.protobuf.json_format")
    attestation.Statement.copy_from_pb(json_format.Parse(bundle.payload, message)).validate()


# --- Reading


@pytest.mark.parametrize("change_before", [1, 3], ids=["first", "last"])
@pytest.mark.parametrize("threads", THREADS)
def test_a_file_that_changes_while_its_shards_are_read_is_an_error(
    threads: int, change_before: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = itertools.count(1)

    def read(found: Found) -> None:
        if found.path == b"weights.bin" and next(reads) == change_before:
            with (folder / "weights.bin").open("ab") as file:
                file.write(b"more")

    (folder / "weights.bin").write_bytes(bytes(3 * BLOCK_BYTES))
    monkeypatch.setattr(_sign, "open_signed", lambda root: Disturbed(root, read=read))
    with pytest.raises(atlas.FileError, match=r"'weights\.bin' changed while it was read"):
        signing.sign_folder(folder, KEY, shard_size=BLOCK_BYTES, threads=threads)
    assert next(reads) == 4  # that each shard is one read


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_error_of_the_caller_leaves_no_open_file(
    threads: int, algorithm: str, folder: Path
) -> None:
    def advance(_: int) -> None:
        raise RuntimeError("enough")

    (folder / "weights.bin").write_bytes(bytes(8 << 20))
    with nothing_left(), pytest.raises(RuntimeError, match="enough"):
        signing.sign_folder(
            folder, KEY, shard_size=1 << 20, threads=threads, advance=advance, algorithm=algorithm
        )


def test_bytes_read_are_counted(folder: Path) -> None:
    counts: list[int] = []
    signing.sign_folder(folder, KEY, shard_size=1000, threads=2, advance=counts.append)
    assert sum(counts) == sum(map(len, FILES.values()))
