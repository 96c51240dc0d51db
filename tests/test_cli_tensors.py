# SPDX-License-Identifier: Apache-2.0
"""Tensors on the command line: `witness --tensors`, `verify` and `check --tensors`."""

import json
from pathlib import Path
from typing import Any

import pytest

numpy = pytest.importorskip("numpy")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

from atlas12288 import WINDOW_BYTES  # noqa: E402
from atlas12288._cli import tensor_files  # noqa: E402
from atlas12288._cli.tensor_files import read_tensors_witness  # noqa: E402
from atlas12288._files import FileError  # noqa: E402
from atlas12288.tensors import TensorsWitness  # noqa: E402
from support.commandline import (  # noqa: E402
    COULD_NOT_CHECK,
    DOES_NOT_HOLD,
    HOLDS,
    files_in,
    ranges,
    run,
)
from support.strategies import noise  # noqa: E402

ARRAYS = {
    "embed": numpy.frombuffer(noise(20 * WINDOW_BYTES + 5), "u1"),
    "head": numpy.zeros(64, "f4"),
    "norm": numpy.ones(7, "f2"),
    "none": numpy.zeros((0, 3), "f4"),
}
LEAVES = "t.json.atlas.leaves"


def save_shards(arrays: dict[str, Any]) -> None:
    folder = Path("shards")
    folder.mkdir()
    places = {name: f"model-{index}.safetensors" for index, name in enumerate(arrays)}
    for name, shard in places.items():
        safetensors_numpy.save_file({name: arrays[name]}, folder / shard, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The working folder has a model in each form, and its witnesses `w.json` and `t.json`."""
    monkeypatch.chdir(tmp_path)
    safetensors_numpy.save_file(ARRAYS, "m.safetensors", {"format": "pt"})
    numpy.savez("m.npz", **ARRAYS)
    save_shards(ARRAYS)
    assert run("witness", "--tensors", "m.safetensors", "-o", "w.json").returncode == HOLDS
    tree = run("witness", "--tensors", "--tree", "m.safetensors", "-o", "t.json")
    assert (tree.returncode, tree.stdout, tree.stderr) == (HOLDS, b"", b"")
    return "m.safetensors"


def damage(name: str, array: str, place: int) -> None:
    """Change one byte of an array in a .safetensors file."""
    content = bytearray(Path(name).read_bytes())
    length = int.from_bytes(content[:8], "little")
    begin = json.loads(content[8 : 8 + length])[array]["data_offsets"][0]
    content[8 + length + begin + place] ^= 1
    Path(name).write_bytes(content)


def complaint(*arguments: str) -> str:
    """The last line on standard error of a run that could not check."""
    done = run(*arguments)
    assert done.returncode == COULD_NOT_CHECK
    assert b"Traceback" not in done.stderr
    return done.stderr.decode().splitlines()[-1]


# --- witness --tensors ---


def test_a_witness_is_the_one_of_python(model: str) -> None:
    made = TensorsWitness.from_json(Path("w.json").read_text())
    assert made.verify(ARRAYS).holds
    assert made.metadata == {"format": "pt"}
    assert f"{made.to_json()}\n" == Path("w.json").read_text()
    printed = TensorsWitness.from_json(run("witness", "--tensors", model).stdout)
    assert printed.verify(ARRAYS).holds
    tree = TensorsWitness.from_json(Path("t.json").read_text())
    whole = tree.with_leaves(Path(LEAVES).read_bytes())
    assert whole.leaves == TensorsWitness.from_file(model, tree=True).leaves
    (item,) = files_in(run("witness", "--tensors", "--json", "shards").stdout)
    assert item.keys() == {"file", "witness", "error"}
    assert TensorsWitness.from_json(json.dumps(item["witness"])).verify(ARRAYS).holds


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("tree", [(), ("--tree",)])
def test_every_number_of_threads_gives_the_same(
    model: str, tree: tuple[str, ...], threads: str
) -> None:
    done = run("witness", "--tensors", *tree, "--threads", threads, model, "-o", "x.json")
    assert done.returncode == HOLDS
    found, known = (
        TensorsWitness.from_json(Path(name).read_text())
        for name in ("x.json", "t.json" if tree else "w.json")
    )
    assert [array.digest for array in found.arrays.values()] == [
        array.digest for array in known.arrays.values()
    ]
    if tree:
        assert Path("x.json.atlas.leaves").read_bytes() == Path(LEAVES).read_bytes()


def test_nothing_is_written_where_a_tensor_cannot_be_read(model: str) -> None:
    before = {path.name: path.read_bytes() for path in Path().glob("*.json*")}
    content = Path(model).read_bytes()
    Path(model).write_bytes(content[:-1])
    for tree, output in (((), "w.json"), (("--tree",), "t.json"), (("--tree",), "new.json")):
        line = complaint("witness", "--tensors", *tree, model, "-o", output)
        assert line.startswith(f"atlas12288: {model}: tensor ")
        assert "the file ended at byte" in line
    assert {path.name: path.read_bytes() for path in Path().glob("*.json*")} == before
    assert not list(Path().glob(".atlas*"))


def test_a_witness_without_trees_takes_the_leaves_of_the_old_one_away(model: str) -> None:
    assert Path(LEAVES).exists()
    done = run("witness", "--tensors", model, "-o", "t.json")
    assert (done.returncode, done.stderr.decode()) == (
        HOLDS,
        f"atlas12288: {LEAVES}: is removed: it had the leaves of t.json, which has no trees now\n",
    )
    assert not Path(LEAVES).exists()
    assert run("witness", "--tensors", "--tree", model, "-o", "t.json").returncode == HOLDS
    assert Path(LEAVES).exists()


def test_an_output_replaces_a_witness_of_tensors_and_nothing_else(model: str) -> None:
    assert run("witness", "--tensors", "--tree", "shards", "-o", "t.json").returncode == HOLDS
    Path("notes.json").write_text('{"type": "atlas12288/tensors/v1"}, my notes\n')
    assert run("witness", model, "-o", "plain.json").returncode == HOLDS
    for output in ("notes.json", "plain.json"):
        before = Path(output).read_bytes()
        line = complaint("witness", "--tensors", model, "-o", output)
        assert "is not a witness of tensors, and is not replaced" in line
        assert Path(output).read_bytes() == before
    assert "is not a manifest or witness file" in complaint("witness", model, "-o", "w.json")
    for source in ("shards/model-0.safetensors", "shards/model.safetensors.index.json"):
        line = complaint("witness", "--tensors", "shards", "-o", source)
        assert "is also read" in line or "and is not replaced" in line
    leaves = Path(LEAVES).read_bytes()
    Path(LEAVES).write_bytes(leaves[::-1])
    line = complaint("witness", "--tensors", "--tree", model, "-o", "t.json")
    assert "is not a file with the leaves of t.json as it is" in line


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("m.safetensors", "m.npz"), "--tensors takes one PATH"),
        (("m.safetensors", "-o", "x.atlas.json"), "must not end in .atlas.json"),
        (("--update", "shards"), "--update is for manifests: not with --tensors"),
        (("-",), "path is '-', must end in .safetensors or .npz"),
        (("w.json",), "w.json: index must be a JSON object with the object 'weight_map'"),
        (("none.safetensors",), "none.safetensors: No such file or directory"),
        (("none",), "must end in"),
        ((".",), "must have one index NAME.safetensors.index.json, has none"),
    ],
)
def test_what_holds_no_tensors(model: str, arguments: tuple[str, ...], reason: str) -> None:
    assert reason in complaint("witness", "--tensors", *arguments)


# --- verify ---


@pytest.mark.parametrize("witness", ["w.json", "t.json"])
@pytest.mark.parametrize("form", ["m.safetensors", "m.npz", "shards"])
def test_the_same_tensors_in_any_form_match(model: str, witness: str, form: str) -> None:
    done = run("verify", witness, form)
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    assert done.stdout.decode() == f"{form}: matches its witness; 4 tensors\n"
    assert run("verify", "--quiet", witness, form).stdout == b""
    report = json.loads(run("verify", "--json", witness, form).stdout)
    assert (report["type"], report["command"]) == ("atlas12288/report/v1", "verify")
    assert (report["holds"], report["file"], report["differences"]) == (True, form, [])
    assert report["counts"] == {
        "tensors": 4,
        "changed": 0,
        "missing": 0,
        "added": 0,
        "unreadable": 0,
    }


@pytest.mark.parametrize("form", ["m.safetensors", "shards"])
def test_a_changed_tensor_is_named_with_its_windows(model: str, form: str) -> None:
    name = model if form == model else "shards/model-0.safetensors"
    for place in (5 * WINDOW_BYTES, 7 * WINDOW_BYTES + 3, 8 * WINDOW_BYTES):
        damage(name, "embed", place)
    done = run("verify", "t.json", form)
    assert done.returncode == DOES_NOT_HOLD
    lines = done.stdout.decode().splitlines()
    assert lines[0] == f"{form}: does not match its witness; 4 tensors: 1 changed"
    assert lines[1].startswith("  tensor 'embed': ")
    assert lines[2:] == [
        "  windows  3 of 21 differ:",
        "           bytes [61440, 73728)  window 5",
        "           bytes [86016, 110592)  windows 7 to 8",
    ]
    report = json.loads(run("verify", "--json", "t.json", form).stdout)
    (difference,) = report["differences"]
    assert (difference["part"], difference["name"]) == ("tensor", "embed")
    assert difference["ranges"] == ranges((61440, 73728), (86016, 110592))
    assert report["counts"]["changed"] == 1
    flat = run("verify", "w.json", form)
    assert flat.returncode == DOES_NOT_HOLD
    assert flat.stdout.decode().splitlines() == lines[:2]
    Path(LEAVES).rename("elsewhere")
    without = run("verify", "t.json", form).stdout.decode().splitlines()
    assert without == [*lines[:2], "  windows  not known without the leaves of the witness"]
    assert run("verify", "--leaves", "elsewhere", "t.json", form).stdout == done.stdout


def test_leaves_that_are_damaged_are_an_error_and_the_digests_still_tell(model: str) -> None:
    leaves = bytearray(Path(LEAVES).read_bytes())
    leaves[70] ^= 1
    for content, reason in (
        (leaves, "has leaves with the root"),
        (leaves[:-1], "bytes, must have"),
    ):
        Path(LEAVES).write_bytes(content)
        done = run("verify", "--json", "t.json", model)
        assert done.returncode == COULD_NOT_CHECK
        report = json.loads(done.stdout)
        assert report["holds"] is True
        assert reason in report["leaves_error"]
        assert reason in done.stderr.decode()
    link = Path(LEAVES)
    link.unlink()
    Path("elsewhere").write_bytes(leaves)
    link.symlink_to("elsewhere")
    assert "is a symbolic link, which is not followed" in complaint("verify", "t.json", model)


def test_missing_added_and_other_tensors_are_named(model: str) -> None:
    arrays = {name: ARRAYS[name] for name in ("embed", "head", "none")}
    arrays["extra"] = numpy.zeros(2)
    arrays["head"] = ARRAYS["head"].astype("f2")
    safetensors_numpy.save_file(arrays, "other.safetensors", {"format": "np"})
    done = run("verify", "w.json", "other.safetensors")
    assert done.returncode == DOES_NOT_HOLD
    assert done.stdout.decode().splitlines() == [
        "other.safetensors: does not match its witness; 4 tensors: 1 changed, 1 missing, 1 added",
        "  tensor 'head': dtype, length, digest differ",
        "  tensor 'norm' is missing",
        "  tensor 'extra' was added",
        "  metadata 'format' differs",
    ]


def test_a_lost_shard_is_no_verdict_and_damage_elsewhere_is_one(model: str) -> None:
    Path("shards/model-1.safetensors").unlink()
    done = run("verify", "--json", "w.json", "shards")
    assert done.returncode == COULD_NOT_CHECK
    report = json.loads(done.stdout)
    assert (report["holds"], report["counts"]["unreadable"]) == (None, 1)
    reason = "tensor 'head' is unreadable: shard 'model-1.safetensors': No such file or directory"
    assert done.stderr.decode() == f"atlas12288: shards: {reason}\n"
    assert run("verify", "w.json", "shards").stdout.decode().startswith("shards: could not be")
    damage("shards/model-0.safetensors", "embed", 0)
    done = run("verify", "--json", "w.json", "shards")
    assert (done.returncode, json.loads(done.stdout)["holds"]) == (COULD_NOT_CHECK, False)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("w.json",), "one FILE is compared with it, not none"),
        (("w.json", "m.npz", "m.npz"), "one FILE is compared with it, not 2"),
        (("--leaves", LEAVES, "w.json", "m.npz"), "WITNESS has no trees"),
        (("--plot=x.gif", "w.json", "m.npz"), "must end in .png"),
        (("--allow-extra", "w.json", "m.npz"), "--allow-extra is for manifests"),
        (("m.safetensors", "w.json"), "w.json is a witness of tensors: name WITNESS first"),
        (("w.json", "w.json"), "index must be a JSON object"),
        (("w.json", "none.npz"), "none.npz: No such file or directory"),
    ],
)
def test_what_cannot_be_compared(model: str, arguments: tuple[str, ...], reason: str) -> None:
    assert reason in complaint("verify", *arguments)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"name": "head"', '"name": "zzz"', "after 'zzz', in order"),
        ('"name": "head"', '"name": "embed"', "after 'embed', in order"),
        ('"name": "head"', '"name": "head", "name": "head"', "key 'name' occurs twice"),
        ('"name": "norm"', '"name": "\\ud800"', "must be UTF-8"),
        ('"length": 256', '"length": 255', "length is 255"),
        ('"tensors": [', '"tensors": [[], ', "tensor 0: it is []"),
        ("}\n", "", "must be JSON"),
    ],
)
def test_a_witness_of_tensors_that_is_none_is_refused(
    model: str, old: str, new: str, reason: str
) -> None:
    text = Path("w.json").read_text()
    assert old in text
    Path("w.json").write_text(text.replace(old, new))
    done = run("verify", "--json", "w.json", model)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.count(b"\n") == 1
    report = json.loads(done.stdout)
    assert report["holds"] is None
    assert report["error"].startswith("w.json: is not a witness of tensors: ")
    assert reason in report["error"]


def test_a_witness_of_tensors_is_bounded(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path("w.json").read_bytes()
    monkeypatch.setattr(tensor_files, "TENSORS_MOST_BYTES", len(text))
    assert read_tensors_witness([text]).verify(ARRAYS).holds
    monkeypatch.setattr(tensor_files, "TENSORS_MOST_BYTES", len(text) - 1)
    with pytest.raises(FileError, match="too long"):
        read_tensors_witness([text])


# --- locate, --plot, prove ---


def test_locate_names_tensor_and_bytes(model: str) -> None:
    assert run("locate", "t.json", model).stdout == b""
    damage(model, "embed", 3 * WINDOW_BYTES)
    damage(model, "embed", 20 * WINDOW_BYTES + 1)
    damage(model, "norm", 3)
    done = run("locate", "t.json", model)
    assert (done.returncode, done.stderr) == (DOES_NOT_HOLD, b"")
    assert done.stdout.decode().splitlines() == [
        "36864 49152 embed",
        f"{20 * WINDOW_BYTES} {20 * WINDOW_BYTES + 5} embed",
        "0 14 norm",
    ]
    (item,) = files_in(run("locate", "--json", "t.json", model).stdout)
    assert item["holds"] is False
    assert item["ranges"][0] == {"tensor": "embed", "start": 36864, "end": 49152}
    with Path("t.json").open("rb") as witness:
        done = run("locate", "--leaves", LEAVES, "-", model, stdin=witness)
    assert done.stdout.startswith(b"36864 49152 embed\n")


def test_locate_does_not_hide_what_has_no_range(model: str) -> None:
    arrays = {name: ARRAYS[name] for name in ("head", "none", "norm")}
    arrays["norm"] = ARRAYS["norm"].astype("u2")
    arrays["head"] = ARRAYS["head"] + 1
    safetensors_numpy.save_file(arrays, "other.safetensors", {"format": "pt"})
    done = run("locate", "t.json", "other.safetensors")
    assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b"0 256 head\n")
    assert done.stderr.decode() == (
        "atlas12288: other.safetensors: tensor 'norm': dtype, residue, digest differ: there are no "
        "ranges of this; and 1 more difference: verify names all\n"
    )
    for witness, reason in (("w.json", "witness --tensors --tree makes trees"),):
        assert reason in complaint("locate", witness, model)
    Path(LEAVES).write_bytes(b"")
    assert f"{LEAVES}: has 0 bytes, must have" in complaint("locate", "t.json", model)
    Path(LEAVES).unlink()
    assert "t.json: has no leaves" in complaint("locate", "t.json", model)


def test_a_map_for_each_tensor_with_damage(model: str) -> None:
    pytest.importorskip("matplotlib")
    damage(model, "embed", 3 * WINDOW_BYTES)
    damage(model, "norm", 0)
    done = run("verify", "--plot", "map.svg", "t.json", model)
    assert (done.returncode, done.stderr) == (DOES_NOT_HOLD, b"")
    picture = Path("map.svg").read_text()
    for text in ("tensor 'embed'", "1 of 21 windows differ", "tensor 'norm'", "does not match"):
        assert text in picture
    assert "tensor 'head'" not in picture
    done = run("verify", "--plot", "flat.svg", "w.json", model)
    assert done.returncode == DOES_NOT_HOLD
    assert "tensor 'embed': residue, digest differ" in Path("flat.svg").read_text()


@pytest.mark.parametrize("where", [("m.safetensors",), ("m.npz",), ("shards",), ()])
def test_a_window_of_a_tensor_is_proven(model: str, where: tuple[str, ...]) -> None:
    place = where or ("--witness", "t.json")
    prove = ("prove", "--tensor", "embed", "--window", "7", *place, "-o", "p.json")
    assert run(*prove).returncode == HOLDS
    Path("window").write_bytes(ARRAYS["embed"].tobytes()[7 * WINDOW_BYTES : 8 * WINDOW_BYTES])
    check = ("verify-proof", "--witness", "t.json", "--tensor", "embed", "p.json")
    assert run(*check, "window").returncode == HOLDS
    Path("window").write_bytes(ARRAYS["embed"].tobytes()[8 * WINDOW_BYTES : 9 * WINDOW_BYTES])
    assert run(*check, "window").returncode == DOES_NOT_HOLD


def test_a_proof_of_one_tensor_is_none_of_another(model: str) -> None:
    assert run("prove", "--tensor=norm", "--window=0", model, "-o", "p.json").returncode == HOLDS
    Path("window").write_bytes(ARRAYS["norm"].tobytes())
    check = ("verify-proof", "--witness", "t.json", "p.json", "window", "--tensor")
    assert run(*check, "norm").returncode == HOLDS
    assert run(*check, "head").returncode == DOES_NOT_HOLD
    assert "t.json: has no tensor 'x'" in complaint(*check, "x")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("prove", "--window=0", "--tensor=x", "m.safetensors"), "has no tensor 'x'"),
        (("prove", "--window=0", "--tensor=x", "--witness=t.json"), "t.json: has no tensor 'x'"),
        (("prove", "--window=21", "--tensor=embed", "m.npz"), "has the windows 0..20, not 21"),
        (("prove", "--window=0", "--tensor=none", "m.npz"), "is empty, has no window, not 0"),
        (("prove", "--window=0", "--tensor=embed", "--witness=w.json"), "--tree makes trees"),
        (("prove", "--window=0", "--tensor=embed", "gone.npz"), "gone.npz: No such file"),
        (("prove", "--window=0", "--witness=t.json"), "--tensor NAME takes one of them"),
        (("verify-proof", "--tensor=x", "p", "w"), "--tensor needs --witness"),
        (
            ("verify-proof", "--tensor=x", "--witness=t.json", "p", "--from=m.npz"),
            "name a WINDOW with the bytes of the tensor",
        ),
    ],
)
def test_what_cannot_be_proven(model: str, arguments: tuple[str, ...], reason: str) -> None:
    assert reason in complaint(*arguments)


# --- check --tensors ---


def test_check_names_the_tensors_that_are_not_conserved(model: str) -> None:
    residues = {name: int(array.view("u1").sum(dtype="u8")) % 96 for name, array in ARRAYS.items()}
    assert residues["head"] == residues["none"] == 0
    done = run("check", "--tensors", "shards", "m.npz")
    assert done.returncode == DOES_NOT_HOLD
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "shards: 2 of 4 tensors conserved"
    assert lines[1] == f"  tensor 'embed': 245765 bytes, residue {residues['embed']}"
    assert lines[3] == "m.npz: 2 of 4 tensors conserved"
    (item,) = files_in(run("check", "--tensors", "--json", model).stdout)
    assert {each["name"]: each["residue"] for each in item["tensors"]} == residues
    assert item["residue"] == sum(residues.values()) % 96
    assert item["length"] == sum(array.nbytes for array in ARRAYS.values())
    numpy.savez("zero.npz", a=numpy.zeros(9))
    assert run("check", "--tensors", "zero.npz").returncode == HOLDS
    assert "none.npz: No such file" in complaint("check", "--tensors", "none.npz")
    assert "not with --tensors" in complaint("check", "--tensors", "--windows", model)
