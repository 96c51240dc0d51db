# SPDX-License-Identifier: Apache-2.0
"""Models in shards, as one set of tensors: where the index or a shard lies, that is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

numpy = pytest.importorskip("numpy")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

from atlas12288.tensors import TensorsWitness, _shards  # noqa: E402
from support.strategies import noise  # noqa: E402

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
PT = {"format": "pt"}
ARRAYS = {
    "embed": numpy.frombuffer(noise(80_000), "u1").reshape(800, 100),
    "head": numpy.zeros(64, "f4"),
    "norm": numpy.ones(7, "f2"),
}
PLACES = {"embed": ONE, "head": TWO, "norm": TWO}


def save(path: Path, names: tuple[str, ...], metadata: dict[str, str] | None = PT) -> None:
    safetensors_numpy.save_file({name: ARRAYS[name] for name in names}, path, metadata)


def save_index(folder: Path, places: dict[str, Any], **others: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places, **others}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model in two shards, beside another file of tensors that is no part of it."""
    save(tmp_path / ONE, ("embed",))
    save(tmp_path / TWO, ("head", "norm"))
    save(tmp_path / "adapter.safetensors", ("head",))
    save_index(tmp_path, PLACES)
    return tmp_path


def parts(witness: TensorsWitness) -> dict[str, bytes]:
    return {name: array.digest for name, array in witness.arrays.items()}


@pytest.mark.parametrize("tree", [False, True])
def test_shards_have_the_witness_of_one_file_with_all_their_tensors(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, tree: bool
) -> None:
    whole = tmp_path_factory.mktemp("whole") / "model.safetensors"
    save(whole, tuple(ARRAYS))
    one = TensorsWitness.from_file(whole, tree=tree)
    for path in (folder, folder / INDEX):
        shards = TensorsWitness.from_file(path, tree=tree)
        assert parts(shards) == parts(one)
        assert shards.metadata == PT
        assert shards.verify_file(whole).holds
        assert one.verify_file(path).holds
        assert one.verify(ARRAYS).holds


def test_an_index_and_shards_that_are_links_are_followed(folder: Path) -> None:
    """As in the cache of Hugging Face: snapshots/REV has links to blobs."""
    snapshot = folder / "snapshot"
    snapshot.mkdir()
    for number, name in enumerate((INDEX, ONE, TWO)):
        (folder / name).rename(folder / f"blob{number}")
        (snapshot / name).symlink_to(f"../blob{number}")
    assert parts(TensorsWitness.from_file(snapshot)).keys() == ARRAYS.keys()


def drop_from_index(folder: Path) -> None:
    save_index(folder, {name: PLACES[name] for name in ("embed", "head")})


def point_elsewhere(folder: Path) -> None:
    save_index(folder, PLACES | {"norm": ONE})


def repeat(folder: Path) -> None:
    save(folder / ONE, ("embed", "norm"))


def other_metadata(folder: Path) -> None:
    save(folder / TWO, ("head", "norm"), {"format": "np"})


def no_metadata(folder: Path) -> None:
    save(folder / TWO, ("head", "norm"), None)


def longer(folder: Path) -> None:
    with (folder / TWO).open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (drop_from_index, [f"does not name tensor 'norm' of shard '{TWO}'"]),
        (
            point_elsewhere,
            [
                f"has tensor 'norm' in '{ONE}', and shard '{TWO}' has it too",
                f"has tensor 'norm' in shard '{ONE}', which does not have it",
            ],
        ),
        (repeat, [f"has tensor 'norm' in '{TWO}', and shard '{ONE}' has it too"]),
        (other_metadata, [f"has shards '{ONE}' and '{TWO}' whose metadata 'format' differ"]),
        (no_metadata, [f"has shards '{ONE}' and '{TWO}' whose metadata 'format' differ"]),
        (longer, [f"has a shard '{TWO}' that has "]),
    ],
)
def test_shards_that_are_not_as_the_index_says(
    folder: Path, change: Callable[[Path], None], reasons: list[str]
) -> None:
    witness = TensorsWitness.from_file(folder)
    change(folder)
    report = witness.verify_file(folder)
    assert report.holds is False
    assert len(report.other) == len(reasons)
    for line, reason in zip(report.other, reasons, strict=True):
        assert line.reason.startswith(reason)
    with pytest.raises(ValueError, match=INDEX) as caught:
        TensorsWitness.from_file(folder)
    assert str(caught.value).startswith(f"{folder / INDEX} {reasons[0]}")
    missing = ["norm"] if change in (drop_from_index, point_elsewhere) else []
    assert [each.name for each in report.missing] == missing


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (Path.unlink, "No such file or directory"),
        (lambda path: path.write_bytes(b"x"), "has 1 bytes, must have 8 for the header's length"),
        (lambda path: (path.unlink(), path.mkdir()), "must be a regular file"),
    ],
)
def test_the_tensors_of_a_lost_shard_are_unreadable_and_the_others_compared(
    folder: Path, damage: Callable[[Path], object], reason: str
) -> None:
    witness = TensorsWitness.from_file(folder)
    damage(folder / TWO)
    report = witness.verify_file(folder)
    assert report.holds is None
    assert [(each.kind, each.name) for each in report.differences] == [
        ("unreadable", "head"),
        ("unreadable", "norm"),
    ]
    assert report.unreadable[0].reason == f"shard '{TWO}': {reason}"
    with pytest.raises(ValueError, match=f"tensor 'head': shard '{TWO}': {reason}"):
        TensorsWitness.from_file(folder)
    content = bytearray((folder / ONE).read_bytes())
    content[-1] ^= 1
    (folder / ONE).write_bytes(content)
    assert [each.name for each in witness.verify_file(folder).changed] == ["embed"]


def test_a_tensor_that_is_cut_off_names_its_shard(folder: Path) -> None:
    witness = TensorsWitness.from_file(folder)
    content = (folder / TWO).read_bytes()
    (folder / TWO).write_bytes(content[:-3])
    (lost,) = witness.verify_file(folder).unreadable
    assert (lost.name, lost.reason.startswith(f"shard '{TWO}': the file ended")) == ("norm", True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "text must be JSON"),
        ("[]", "must be a JSON object with the object 'weight_map'"),
        ("{}", "must be a JSON object with the object 'weight_map'"),
        ('{"weight_map": []}', "must be a JSON object with the object 'weight_map'"),
        (
            f'{{"weight_map": {{"a": "{ONE}", "a": "{TWO}"}}}}',
            "key 'a' occurs twice, must occur once",
        ),
        ('{"weight_map": {"a": 1}}', "shard of tensor 'a' must be the name of"),
        ('{"weight_map": {"a": "x.bin"}}', "shard of tensor 'a' must be the name of"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "shard of tensor 'a' must be the name"),
        ('{"weight_map": {"a": "/x.safetensors"}}', "shard of tensor 'a' must be the name"),
        ('{"weight_map": {"a": "x\\u0000.safetensors"}}', "shard of tensor 'a' must be the name"),
        ('{"weight_map": {"a": "\\ud800.safetensors"}}', "shard of tensor 'a' must be the name"),
        ('{"weight_map": {"\\ud800": "x.safetensors"}}', "must be UTF-8"),
        ('{"weight_map": ' * 5000 + "1" + "}" * 5000, "nested too deeply"),
    ],
    ids=lambda text: text[:40],
)
def test_what_is_no_index_is_refused(folder: Path, text: str, reason: str) -> None:
    witness = TensorsWitness.from_file(folder)
    (folder / INDEX).write_text(text)
    for call in (TensorsWitness.from_file, witness.verify_file):
        with pytest.raises(ValueError, match=reason) as caught:
            call(folder)
        assert str(caught.value).startswith(f"{folder / INDEX}: ")


def test_an_index_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shards, "INDEX_MOST", (folder / INDEX).stat().st_size)
    assert TensorsWitness.from_file(folder)
    monkeypatch.setattr(_shards, "INDEX_MOST", (folder / INDEX).stat().st_size - 1)
    with pytest.raises(ValueError, match=r"index has \d+ bytes, must have at most"):
        TensorsWitness.from_file(folder)


def test_a_folder_must_have_one_index(folder: Path) -> None:
    (folder / "other.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match=f"must have one index .* has '{INDEX}' and 'other"):
        TensorsWitness.from_file(folder)
    for path in folder.glob("*.json"):
        path.unlink()
    with pytest.raises(ValueError, match=r"must have one index .* has none"):
        TensorsWitness.from_file(folder)
