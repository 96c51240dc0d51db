# SPDX-License-Identifier: Apache-2.0
"""The form of a manifest: entries, root, JSON, and every way in which a text is none."""

import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
import atlas12288.manifest
from atlas12288.manifest._entries import Entry
from atlas12288.manifest._statement import Options
from support import rfc9162

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
OPTIONS = (
    f'{{"digests":["sha256","{TREE}"],"exclude":["*.tmp"],"linksBelow":[],"paths":[],'
    '"symlinks":"record"}'
)
LINES = tuple(line.encode() for line in (OPTIONS, *ENTRIES))
ROOT = rfc9162.mth(LINES).hex()
SUBJECT = hashlib.sha256(b"".join(line + b"\n" for line in LINES)).hexdigest()
TEXT = (
    '{"_type":"https://in-toto.io/Statement/v1","predicate":{"files":[\n'
    + ",\n".join(ENTRIES)
    + '\n],"options":\n'
    + OPTIONS
    + f'\n,"root":"{ROOT}"}},"predicateType":"https://atlas12288/manifest/v1",'
    f'"subject":[{{"digest":{{"sha256":"{SUBJECT}"}},"name":"."}}]}}\n'
)
# What a version before the release wrote: a root over the files alone.
FORMER = (
    '{"_type":"https://in-toto.io/Statement/v1","predicate":{"digests":["sha256"],"exclude":[],'
    '"files":[\n{"path":"link","symlink":"a"}\n],"paths":[],"symlinks":"record"},'
    '"predicateType":"https://atlas12288/manifest/v1",'
    f'"subject":[{{"digest":{{"sha256-merkle-entries":"{EMPTY}"}},"name":"."}}]}}\n'
)


def test_a_manifest_has_exactly_these_bytes(tmp_path: Path) -> None:
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
    symlinks = draw(st.sampled_from(["record", "error", "follow"]))
    outside = st.sampled_from(["..", "../b", "../../b/c", "../é", "b"])
    options = Options(
        digests,
        symlinks,
        tuple(draw(st.lists(st.text(max_size=9), max_size=3))),
        tuple(draw(st.lists(st.sampled_from(["a", "b/c", "é"]), max_size=3))),
        tuple(sorted(draw(st.sets(outside, max_size=3)))) if symlinks == "follow" else (),
    )
    return atlas.Manifest.from_entries(options, entries)


def lines_of(text: str) -> tuple[bytes, ...]:
    """Options and entries, cut from a manifest by its line ends alone."""
    _, *entries, _, options, _, _ = text.encode().split(b"\n")
    return options, *(entry.removesuffix(b",") for entry in entries)


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
def test_root_and_subject_are_of_the_lines_with_options_and_entries(
    manifest: atlas.Manifest,
) -> None:
    text = manifest.to_json()
    lines = lines_of(text)
    assert len(lines) == 1 + len(manifest.entries)
    assert manifest.root == rfc9162.mth(lines)
    document = json.loads(text)
    assert document["predicate"]["root"] == manifest.hexdigest()
    ended = b"".join(line + b"\n" for line in lines)
    assert document["subject"][0]["digest"] == {"sha256": hashlib.sha256(ended).hexdigest()}


@pytest.mark.parametrize("count", [1, 2, 3, 31, 32, 33, 64, 65, 3000])
def test_root_and_subject_of_many_entries(count: int) -> None:
    entries = [Entry(b"%06d" % index, target=b"x") for index in range(count)]
    manifest = atlas.Manifest.from_entries(Options(), entries)
    lines = (Options().to_json(), *(entry.to_json() for entry in entries))
    assert manifest.root == rfc9162.mth(lines)
    subject = hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
    assert json.loads(manifest.to_json())["subject"][0]["digest"] == {"sha256": subject}


# --- What decides the verdict is under the root

DECIDING: dict[str, Callable[[dict[str, Any]], object]] = {
    "a rule": lambda options: options["exclude"].append("*.so"),
    "a rule less": lambda options: options["exclude"].clear(),
    "a path": lambda options: options["paths"].append("a.bin"),
    "the policy on links": lambda options: options.update(symlinks="error"),
    "a folder that links may lead below": lambda options: options.update(
        symlinks="follow", linksBelow=["../other"]
    ),
}


@pytest.mark.parametrize("what", DECIDING)
def test_options_put_into_a_manifest_change_its_root_and_are_refused(what: str) -> None:
    document = json.loads(TEXT)
    options = document["predicate"]["options"]
    DECIDING[what](options)
    with pytest.raises(atlas.WitnessError, match=f"^root is '{ROOT}', must be (.*), the root over"):
        atlas.Manifest.from_json(json.dumps(document))
    other = atlas.Manifest.from_entries(Options.of_json(options), MANIFEST.entries)
    assert other.hexdigest() != MANIFEST.hexdigest()
    document["predicate"]["root"] = other.hexdigest()
    with pytest.raises(atlas.WitnessError, match=f"^sha256 is '{SUBJECT}', must be"):
        atlas.Manifest.from_json(json.dumps(document))
    document["subject"] = json.loads(other.to_json())["subject"]
    assert atlas.Manifest.from_json(json.dumps(document)) == other != MANIFEST


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(digests=()), "digests is [], must be a list of one or both"),
        (Options(exclude=("\udcff",)), "exclude is ['\\udcff'], must be a list of texts of whole"),
        (Options(paths=("a/..",)), "paths is 'a/..', must be relative"),
        (Options(links_below=("../b",)), "must be empty where symlinks is not 'follow'"),
        (Options(symlinks="follow", links_below=("b", "a")), "must be sorted, each once"),
    ],
)
def test_options_that_a_reader_refuses_are_not_written(options: Options, message: str) -> None:
    with pytest.raises(atlas.WitnessError) as caught:
        atlas.Manifest.from_entries(options, MANIFEST.entries)
    assert message in str(caught.value)


# --- What is none

Change = Callable[[dict[str, Any]], object]


def files(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["predicate"]["files"]
    return found


def options(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["predicate"]["options"]
    return found


def links_below(*paths: object) -> Change:
    return lambda d: options(d).update(symlinks="follow", linksBelow=list(paths))


REFUSED: dict[str, tuple[Change, str]] = {
    "a key is missing": (lambda d: d.pop("subject"), "key 'subject' is missing"),
    "a key is unknown": (lambda d: d.update(more=1), "key 'more' is unknown"),
    "type": (lambda d: d.update(_type="x"), "_type is 'x', must be 'https://in-toto"),
    "predicate type": (lambda d: d.update(predicateType=1), "predicateType is 1, must be"),
    "predicate": (lambda d: d.update(predicate=[]), "predicate is [], must be a JSON object"),
    "predicate key": (lambda d: d["predicate"].pop("root"), "key 'root' is missing"),
    "options": (
        lambda d: d["predicate"].update(options=[]),
        "options is [], must be a JSON object",
    ),
    "options key": (lambda d: options(d).pop("exclude"), "key 'exclude' is missing"),
    "an option too many": (lambda d: options(d).update(flat=True), "key 'flat' is unknown"),
    "no digests": (lambda d: options(d).update(digests=[]), "digests is [], must be a list"),
    "digests twice": (
        lambda d: options(d).update(digests=["sha256", "sha256"]),
        "digests is ['sha256', 'sha256'], must be a list of one or both",
    ),
    "symlinks": (lambda d: options(d).update(symlinks="x"), "symlinks is 'x', must be"),
    "exclude": (lambda d: options(d).update(exclude=[1]), "exclude is [1], must be a list"),
    "half a character": (
        lambda d: options(d).update(exclude=["\ud800"]),
        "must be a list of texts of whole characters",
    ),
    "paths": (lambda d: options(d).update(paths=["../x"]), "paths is '../x', must be relative"),
    "links below without a list": (
        lambda d: options(d).update(linksBelow="../b"),
        "linksBelow is '../b', must be a list of texts",
    ),
    "links below where links are not followed": (
        lambda d: options(d).update(linksBelow=["../b"]),
        "linksBelow is ['../b'], must be empty where symlinks is not 'follow'",
    ),
    "links below nothing": (links_below(""), "linksBelow is '', must be relative"),
    "links below /": (links_below("/b"), "linksBelow is '/b', must be relative"),
    "links below a name with NUL": (links_below("../b\0"), "must be relative, without NUL"),
    "links below, dot": (links_below(".././b"), "linksBelow is '.././b', must be relative"),
    "links below, up behind a name": (
        links_below("../b/../c"),
        "linksBelow is '../b/../c', must be relative, without NUL, and without parts that",
    ),
    "links below twice": (
        links_below("../b", "../b"),
        "linksBelow is ['../b', '../b'], must be sorted, each once",
    ),
    "links below out of order": (links_below("../c", "../b"), "must be sorted, each once"),
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
        lambda d: options(d).update(digests=["sha256"]),
        f"files[0]: key '{TREE}' is unknown",
    ),
    "a link with a size": (lambda d: files(d)[2].update(size=1), "files[2]: key 'size' is unknown"),
    "an empty target": (lambda d: files(d)[2].update(symlink=""), "symlink is '', must have"),
    "order": (lambda d: files(d).reverse(), "follows"),
    "twice": (lambda d: files(d).insert(0, files(d)[0]), "path 'a.bin' follows 'a.bin', must be"),
    "a file is gone": (lambda d: files(d).pop(), f"root is '{ROOT}', must be"),
    "two subjects": (lambda d: d["subject"].append({}), "must be a list of one"),
    "subject name": (lambda d: d["subject"][0].update(name="x"), "name is 'x', must be '.'"),
    "root": (
        lambda d: d["predicate"].update(root=EMPTY),
        f"root is '{EMPTY}', must be {ROOT}, the root over options and files",
    ),
    "subject": (
        lambda d: d["subject"][0]["digest"].update(sha256=EMPTY),
        f"sha256 is '{EMPTY}', must be {SUBJECT}, the SHA-256 of options and files",
    ),
    "another digest of the subject": (
        lambda d: d["subject"][0]["digest"].update(sha512=EMPTY),
        "key 'sha512' is unknown, must be one of sha256",
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


def test_the_form_before_the_release_is_refused_with_one_sentence_that_says_so() -> None:
    with pytest.raises(atlas.WitnessError) as caught:
        atlas.Manifest.from_json(FORMER)
    assert str(caught.value) == (
        "predicate has the key 'digests', must have 'options': the manifest is of a version "
        "before the release, and must be made anew"
    )


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


def test_repr_shows_root_counts_and_digests() -> None:
    assert repr(MANIFEST) == f"<Manifest {ROOT} files 4 links 1 bytes 9 digests sha256 {TREE}>"


def test_the_package_has_it_without_importing_it_first() -> None:
    for name in ("Manifest", "FileError"):
        assert name in dir(atlas)
        assert name in atlas.__all__
        assert getattr(atlas, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'atlas12288' has no attribute 'Manifests'"):
        atlas.Manifests  # type: ignore[attr-defined] # noqa: B018


# The database belongs to those who make manifests: a verifier may have a Python without it.
WITHOUT_SQLITE = """
import sys
sys.modules["sqlite3"] = sys.modules["_sqlite3"] = None
from atlas12288._cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_manifest_is_verified_where_there_is_no_sqlite(tmp_path: Path) -> None:
    data, manifest = tmp_path / "data", tmp_path / "data.atlas.json"
    data.mkdir()
    (data / "a").write_bytes(b"one")
    atlas.Manifest.generate(data, output=manifest)
    command = (sys.executable, "-c", WITHOUT_SQLITE, "verify", str(manifest), str(data))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (data / "a").write_bytes(b"two")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "a: changed" in done.stdout


def test_to_read_and_verify_a_manifest_loads_no_database(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    program = (
        "import sys, atlas12288\n"
        "manifest = atlas12288.Manifest.from_json(sys.stdin.read())\n"
        "manifest.verify(sys.argv[1]).raise_unless_holds()\n"
        "assert 'sqlite3' not in sys.modules, 'sqlite3 was imported'\n"
    )
    subprocess.run(
        (sys.executable, "-c", program, str(tmp_path)),
        input=atlas.Manifest.generate(tmp_path).to_json(),
        text=True,
        check=True,
    )


def test_the_names_of_manifests_are_exported_in_one_place() -> None:
    package = atlas12288.manifest
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
        assert name in dir(package)
    assert package.Manifest is atlas.Manifest
    with pytest.raises(AttributeError, match="has no attribute 'api'"):
        _ = package.api  # type: ignore[attr-defined]
