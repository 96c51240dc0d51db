# SPDX-License-Identifier: Apache-2.0
"""The form of a manifest: entries, root, JSON, and every way in which a text is none."""

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
import rfc9162
from atlas12288.manifest.entries import Entry
from atlas12288.manifest.statement import Options

TREE = "sha256-merkle-12288"

# --- A known answer

CONTENT = b"abc"
SHA256_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
LEAF_ABC = hashlib.sha256(b"\0abc").hexdigest()
ENTRIES = (
    f'{{"path":"a.bin","residue":6,"sha256":"{SHA256_ABC}","{TREE}":"{LEAF_ABC}","size":3}}',
    f'{{"path":"empty","residue":0,"sha256":"{EMPTY}","{TREE}":"{EMPTY}","size":0}}',
    '{"path":"latest","symlink":"a.bin"}',
    f'{{"path":"é\\"\\n","residue":6,"sha256":"{SHA256_ABC}","{TREE}":"{LEAF_ABC}","size":3}}',
    f'{{"pathHex":"ff","residue":6,"sha256":"{SHA256_ABC}","{TREE}":"{LEAF_ABC}","size":3}}',
)
ROOT = rfc9162.mth(tuple(entry.encode() for entry in ENTRIES)).hex()
TEXT = (
    '{"_type":"https://in-toto.io/Statement/v1","predicate":{"digests":["sha256",'
    f'"{TREE}"],"exclude":["*.tmp"],"files":[\n'
    + ",\n".join(ENTRIES)
    + '\n],"paths":[],"symlinks":"record"},"predicateType":"https://atlas12288/manifest/v1",'
    f'"subject":[{{"digest":{{"sha256-merkle-entries":"{ROOT}"}},"name":"."}}]}}\n'
)


def test_a_manifest_has_exactly_these_bytes(tmp_path: Path) -> None:
    pytest.importorskip("pathspec")
    assert sum(CONTENT) % 96 == 6
    for name in (b"a.bin", b"\xff", 'é"\n'.encode()):
        (tmp_path / name.decode("utf-8", "surrogateescape")).write_bytes(CONTENT)
    (tmp_path / "empty").touch()
    (tmp_path / "left-out.tmp").write_bytes(CONTENT)
    (tmp_path / "latest").symlink_to("a.bin")
    manifest = atlas.Manifest.generate(tmp_path, tree=True, exclude=["*.tmp"])
    assert manifest.to_json() == TEXT
    assert manifest.hexdigest() == ROOT == manifest.root.hex()
    assert atlas.Manifest.from_json(TEXT) == manifest
    assert atlas.Manifest.from_json(TEXT.encode()) == manifest


# --- Any entries

PARTS = st.binary(min_size=1, max_size=8).filter(
    lambda part: b"/" not in part and b"\0" not in part and part not in (b".", b"..")
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(b"/".join)
HASHES = st.binary(min_size=32, max_size=32)
TARGETS = st.binary(min_size=1, max_size=20).filter(lambda target: b"\0" not in target)


@st.composite
def manifests(draw: st.DrawFn) -> atlas.Manifest:
    digests = draw(st.sampled_from([("sha256",), (TREE,), ("sha256", TREE)]))
    entries = []
    for path in sorted(draw(st.sets(PATHS, min_size=1, max_size=20))):
        if draw(st.booleans()):
            entries.append(Entry(path, target=draw(TARGETS)))
            continue
        size = draw(st.integers(0, 2**53 - 1))
        residue = draw(st.integers(0, 95)) if size else 0
        sha256, root = (draw(HASHES) if name in digests else None for name in ("sha256", TREE))
        entries.append(Entry(path, size, residue, sha256, root))
    options = Options(
        digests,
        draw(st.sampled_from(["record", "error", "follow"])),
        tuple(draw(st.lists(st.text(max_size=9), max_size=3))),
        tuple(draw(st.lists(st.sampled_from(["a", "b/c", "é"]), max_size=3))),
    )
    return atlas.Manifest.from_entries(options, entries)


@given(manifests())
def test_json_and_pickle_give_the_manifest_back(manifest: atlas.Manifest) -> None:
    text = manifest.to_json()
    again = atlas.Manifest.from_json(text)
    assert again == manifest
    assert hash(again) == hash(manifest)
    assert again.to_json() == text
    assert pickle.loads(pickle.dumps(manifest)) == manifest


@given(manifests())
def test_the_json_is_canonical_but_for_line_ends(manifest: atlas.Manifest) -> None:
    text = manifest.to_json()
    # RFC 8785 for these values: sorted keys, no space, no escapes that need not be.
    canonical = json.dumps(
        json.loads(text), sort_keys=True, ensure_ascii=False, separators=(",", ":")
    )
    assert text.replace("\n", "") == canonical


@given(manifests())
def test_the_root_is_that_of_rfc_9162_over_the_entries(manifest: atlas.Manifest) -> None:
    lines = manifest.to_json().encode().split(b"\n")[1:-2]
    entries = tuple(line.removesuffix(b",") for line in lines)
    assert len(entries) == len(manifest.entries)
    assert manifest.root == rfc9162.mth(entries)


@pytest.mark.parametrize("count", [1, 2, 3, 1023, 1024, 1025, 3000])
def test_the_root_of_many_entries(count: int) -> None:
    entries = [Entry(b"%06d" % index, target=b"x") for index in range(count)]
    manifest = atlas.Manifest.from_entries(Options(), entries)
    assert manifest.root == rfc9162.mth(tuple(entry.to_json() for entry in entries))


# --- What is none

Change = Callable[[dict[str, Any]], object]


def files(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["predicate"]["files"]
    return found


REFUSED: dict[str, tuple[Change, str]] = {
    "a key is missing": (lambda d: d.pop("subject"), "key 'subject' is missing"),
    "a key is unknown": (lambda d: d.update(more=1), "key 'more' is unknown"),
    "type": (lambda d: d.update(_type="x"), "_type is 'x', must be 'https://in-toto"),
    "predicate type": (lambda d: d.update(predicateType=1), "predicateType is 1, must be"),
    "predicate": (lambda d: d.update(predicate=[]), "predicate is [], must be a JSON object"),
    "predicate key": (lambda d: d["predicate"].pop("exclude"), "key 'exclude' is missing"),
    "no digests": (lambda d: d["predicate"].update(digests=[]), "digests is [], must be a list"),
    "digests twice": (
        lambda d: d["predicate"].update(digests=["sha256", "sha256"]),
        "digests is ['sha256', 'sha256'], must be a list of one or both",
    ),
    "symlinks": (lambda d: d["predicate"].update(symlinks="x"), "symlinks is 'x', must be"),
    "exclude": (lambda d: d["predicate"].update(exclude=[1]), "exclude is [1], must be a list"),
    "half a character": (
        lambda d: d["predicate"].update(exclude=["\ud800"]),
        "must be a list of texts of whole characters",
    ),
    "paths": (lambda d: d["predicate"].update(paths=["../x"]), "paths is '../x', must be relative"),
    "no files": (lambda d: d["predicate"].update(files=[]), "files is [], must be a list of"),
    "not an entry": (
        lambda d: d["predicate"].update(files=[1]),
        "files[0]: entry is 1, must be a JSON",
    ),
    "no path": (lambda d: files(d)[0].pop("path"), "files[0]: key 'path' is missing"),
    "entry key": (lambda d: files(d)[0].update(mode=1), "files[0]: key 'mode' is unknown"),
    "up": (lambda d: files(d)[0].update(path="a/../b"), "path is 'a/../b', must be relative"),
    "absolute": (lambda d: files(d)[0].update(path="/a"), "path is '/a', must be relative"),
    "dot": (lambda d: files(d)[0].update(path="./a"), "path is './a', must be relative"),
    "empty part": (lambda d: files(d)[0].update(path="a//b"), "path is 'a//b', must be relative"),
    "NUL": (lambda d: files(d)[0].update(path="a\0b"), "must be relative, without NUL"),
    "no text": (lambda d: files(d)[0].update(path=1), "path is 1, must be a text of whole"),
    "both paths": (lambda d: files(d)[0].update(pathHex="ff"), "key 'pathHex' is beside 'path'"),
    "hex of text": (lambda d: files(d)[4].update(pathHex="61"), "pathHex is '61', must be lower"),
    "upper hex": (lambda d: files(d)[4].update(pathHex="FF"), "pathHex is 'FF', must be lower"),
    "no hex": (lambda d: files(d)[4].update(pathHex="fg"), "pathHex is 'fg', must be lowercase"),
    "size": (lambda d: files(d)[0].update(size=2**53), "files[0]: size is 9007199254740992, must"),
    "negative": (lambda d: files(d)[0].update(size=-1), "size is -1, must be an integer in 0.."),
    "true": (lambda d: files(d)[0].update(size=True), "size is True, must be an integer"),
    "residue": (lambda d: files(d)[0].update(residue=96), "residue is 96, must be an integer in"),
    "residue of nothing": (
        lambda d: files(d)[1].update(residue=1),
        "files[1]: residue is 1, must be 0 where size is 0",
    ),
    "digest": (
        lambda d: files(d)[0].update(sha256=SHA256_ABC.upper()),
        "must be 64 lowercase hex digits",
    ),
    "no digest": (lambda d: files(d)[0].pop("sha256"), "files[0]: key 'sha256' is missing"),
    "a digest too many": (
        lambda d: d["predicate"].update(digests=["sha256"]),
        f"files[0]: key '{TREE}' is unknown",
    ),
    "a link with a size": (lambda d: files(d)[2].update(size=1), "files[2]: key 'size' is unknown"),
    "an empty target": (lambda d: files(d)[2].update(symlink=""), "symlink is '', must have"),
    "order": (lambda d: files(d).reverse(), "follows"),
    "twice": (lambda d: files(d).insert(0, files(d)[0]), "path 'a.bin' follows 'a.bin', must be"),
    "a file is gone": (lambda d: files(d).pop(), f"sha256-merkle-entries is '{ROOT}', must be"),
    "two subjects": (lambda d: d["subject"].append({}), "must be a list of one"),
    "subject name": (lambda d: d["subject"][0].update(name="x"), "name is 'x', must be '.'"),
    "root": (
        lambda d: d["subject"][0]["digest"].update({"sha256-merkle-entries": EMPTY}),
        f"sha256-merkle-entries is '{EMPTY}', must be {ROOT}, the root over the files",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_manifest_is_refused_with_key_value_and_rule(what: str) -> None:
    change, message = REFUSED[what]
    document = json.loads(TEXT)
    change(document)
    with pytest.raises(atlas.WitnessError) as caught:
        atlas.Manifest.from_json(json.dumps(document))
    assert message in str(caught.value)


def test_other_order_of_keys_and_white_space_is_read() -> None:
    document = json.loads(TEXT)
    turned = {key: document[key] for key in reversed(document)}
    assert atlas.Manifest.from_json(json.dumps(turned, indent=3)).to_json() == TEXT


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"_type":1,"_type":1}', b"\xff"])
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(atlas.WitnessError):
        atlas.Manifest.from_json(text)


def test_no_text_at_all_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="text is of type int, must be str or bytes"):
        atlas.Manifest.from_json(1)  # type: ignore[arg-type]


# --- A value

MANIFEST = atlas.Manifest.from_json(TEXT)


def test_a_manifest_is_immutable_and_made_by_its_methods_only() -> None:
    with pytest.raises(AttributeError, match="a Manifest is immutable, root cannot be set"):
        MANIFEST.root = b""  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"a Manifest is made by Manifest\.generate\(\) or from_"):
        atlas.Manifest()


def test_the_options_are_a_part_of_it() -> None:
    other = TEXT.replace("*.tmp", "*.bak")
    assert atlas.Manifest.from_json(other).root == MANIFEST.root
    assert atlas.Manifest.from_json(other) != MANIFEST


def test_repr_shows_root_counts_and_digests() -> None:
    assert repr(MANIFEST) == f"<Manifest {ROOT} files 4 links 1 bytes 9 digests sha256 {TREE}>"


def test_the_package_has_it_without_importing_it_first() -> None:
    for name in ("Manifest", "FileError"):
        assert name in dir(atlas)
        assert name in atlas.__all__
        assert getattr(atlas, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'atlas12288' has no attribute 'Manifests'"):
        atlas.Manifests  # type: ignore[attr-defined] # noqa: B018
