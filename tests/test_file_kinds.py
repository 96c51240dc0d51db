# SPDX-License-Identifier: Apache-2.0
"""Each command says what a file of another kind is, and what takes it."""

import json
import os
import shutil
from pathlib import Path

import numpy
import pytest

from atlas12288._cli.file_kinds import (
    BINARY,
    DATASET,
    HASHDEEP,
    LEAVES,
    MANIFEST,
    PROOF,
    SIGNATURE,
    SUMS,
    TENSORS,
    WITNESSES,
    Kind,
    kind_of,
)
from atlas12288.tensors import ArrayWitness
from support.commandline import COULD_NOT_CHECK, HOLDS, run, run_each
from support.strategies import noise

_KINDS = {
    "data.atlas.json": MANIFEST,
    "manifest.sig": SIGNATURE,
    "tensors.json": TENSORS,
    "w.json": WITNESSES,
    "list": WITNESSES,
    "array": DATASET,
    "proof": PROOF,
    "sums": SUMS,
    "hashdeep": HASHDEEP,
    "w.json.atlas.leaves": LEAVES,
    "big": BINARY,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "data").mkdir()
    (folder / "data/a").write_bytes(b"a")
    (folder / "big").write_bytes(noise(30000))
    numpy.savez(folder / "model.npz", weights=numpy.ones(9))
    (folder / "array").write_text(ArrayWitness.generate(numpy.zeros(3)).to_json())
    before = Path.cwd()
    os.chdir(folder)
    try:
        commands = [
            ["witness", "data", "-o", "data.atlas.json"],
            ["witness", "--tree", "big", "-o", "w.json"],
            ["witness", "big", "data/a", "-o", "list"],
            ["witness", "--tensors", "model.npz", "-o", "tensors.json"],
            ["prove", "--window", "1", "big", "-o", "proof"],
            ["witness", "--format", "hashdeep", "data", "-o", "hashdeep"],
            ["sum", "big"],
        ]
        done = run_each(commands, os.environ)
    finally:
        os.chdir(before)
    assert [each.returncode for each in done] == [HOLDS] * len(commands)
    (folder / "sums").write_bytes(done[-1].stdout)
    (folder / "manifest.sig").write_text('{"mediaType": "x", "dsseEnvelope": {}}')
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "kinds")
    monkeypatch.chdir(tmp_path / "kinds")
    return tmp_path / "kinds"


@pytest.mark.parametrize(("name", "kind"), _KINDS.items())
def test_a_file_is_known_by_its_first_bytes(made: Path, name: str, kind: Kind) -> None:
    head = (made / name).read_bytes()
    assert kind_of(name, head) == kind
    if kind != LEAVES:
        assert kind_of("other", b" " * (head[:1] == b"{") + head) == kind


@pytest.mark.parametrize(
    "head", [b"", b"text\n", b"{}", b'{"a": "atlas12288/tensors/v1"}', b"\xff\n", b"k\0"]
)
def test_what_is_none_of_ours_is_left_to_its_reader(head: bytes) -> None:
    assert kind_of("name", head) is None


_OTHERS = [name for name, kind in _KINDS.items() if kind != MANIFEST]


@pytest.mark.parametrize("name", _OTHERS)
def test_what_takes_a_manifest_says_what_another_file_is(folder: Path, name: str) -> None:
    commands = {
        ("diff", name, "data.atlas.json"): "OLD",
        ("diff", "data.atlas.json", name): "NEW",
        ("diff", name, "data"): "OLD",
        ("show", name): "MANIFEST",
    }
    for command, argument in commands.items():
        done = run(*command)
        assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b""), command
        (line,) = done.stderr.decode().splitlines()
        begin = f"atlas12288: {name}: {_reason(name, argument, MANIFEST)}"
        assert line == begin, command
        report = json.loads(run(*command, "--json").stdout)
        assert report["holds"] is None if "holds" in report else True
        assert "must be a manifest" in report["error"]


def _reason(name: str, argument: str, wanted: Kind) -> str:
    kind = _KINDS[name]
    way = f": {kind.way.format(name)}" if kind.way else ""
    return f"is {kind.words}, and {argument} must be {wanted.words}{way}"


@pytest.mark.parametrize("name", [name for name, kind in _KINDS.items() if kind != WITNESSES])
def test_what_takes_a_witness_file_says_what_another_file_is(folder: Path, name: str) -> None:
    for command in (
        ("locate", name, "big"),
        ("prove", "--window=0", "--witness", name),
        ("verify-proof", "proof", "--from", "big", "--witness", name),
    ):
        done = run(*command)
        assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b""), command
        reason = _reason(name, "WITNESS", WITNESSES)
        if command[0] == "locate" and _KINDS[name] == TENSORS:  # which it takes, with trees
            reason = (
                "has sha256 digests, which know no windows; witness --tensors --tree makes trees"
            )
        line = f"atlas12288: {name}: {reason}\n"
        assert done.stderr.decode() == line, command


def test_verify_proof_says_what_another_file_is(folder: Path) -> None:
    for name in set(_KINDS) - {"proof"}:
        done = run("verify-proof", name, "--from", "big")
        assert done.returncode == COULD_NOT_CHECK
        assert _reason(name, "PROOF", PROOF) in done.stderr.decode()


@pytest.mark.parametrize("name", ["w.json", "list", "tensors.json"])
def test_options_for_manifests_say_what_the_witness_is(folder: Path, name: str) -> None:
    for options in (
        ("--path", "a"),
        ("--every", "1d", "--once"),
        ("--rate", "1MB/s"),
        ("--fail-fast",),
        ("--allow-extra",),
        ("--allow-cache",),
    ):
        done = run("verify", name, "big", *options)
        assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b"")
        kinds = "manifests and signatures" if options[0] == "--every" else "manifests"
        words = f"{options[0]} is for {kinds}, and WITNESS is {_KINDS[name].words}"
        assert words in " ".join(done.stderr.decode().split())


def test_verify_says_what_it_cannot_take(folder: Path) -> None:
    for name in ("array", "proof", "sums", "hashdeep", "w.json.atlas.leaves", "big"):
        kind = _KINDS[name]
        for rest in ((), ("big",), ("data",), ("data", "--path", "a"), ("--every", "1d")):
            done = run("verify", name, *rest)
            assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b""), (name, rest)
            line = f"atlas12288: {name}: is {kind.words}"
            assert done.stderr.decode().startswith(line), (name, rest)
    done = run("verify", "w.json", "data")
    assert done.returncode == COULD_NOT_CHECK
    reason = _reason("w.json", "WITNESS of a folder", MANIFEST)
    assert done.stderr.decode() == f"atlas12288: w.json: {reason}\n"


def test_a_witness_file_may_have_the_name_of_a_manifest(folder: Path) -> None:
    Path("w.json").rename("x.atlas.json")
    assert run("verify", "x.atlas.json", "big").returncode == HOLDS


def test_a_list_with_a_damaged_line_still_has_the_others(folder: Path) -> None:
    lines = Path("list").read_bytes()
    Path("list").write_bytes(b"\xff" + lines[1:])
    done = run("verify", "list", "big", "data/a")
    assert done.returncode == COULD_NOT_CHECK
    assert b"data/a: matches its witness" in done.stdout


def test_our_own_files_are_signed_as_files_only_where_that_is_said(folder: Path) -> None:
    pytest.importorskip("cryptography")
    from support.signing import private_key, private_pem

    Path("key.pem").write_bytes(private_pem(private_key()))
    for name in ("w.json", "manifest.sig", "tensors.json", "w.json.atlas.leaves"):
        sign = ("sign", name, "--private-key", "key.pem", "-o", "new.sig")
        done = run(*sign)
        assert done.returncode == COULD_NOT_CHECK
        assert not Path("new.sig").exists()
        words = " ".join(done.stderr.decode().split())
        assert f"{name}: is {_KINDS[name].words}, and what is signed must be a manifest" in words
        assert words.endswith("--method files signs its own bytes")
        done = run(*sign, "--method", "files")
        assert (done.returncode, done.stderr) == (HOLDS, b"")
        Path("new.sig").unlink()
