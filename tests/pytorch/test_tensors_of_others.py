# SPDX-License-Identifier: Apache-2.0
"""Tensors of PyTorch and JAX, on the CPU and, where there is one, on a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

import atlas12288 as atlas
from atlas12288.tensors import ArrayWitness, TensorsWitness
from support.strategies import noise

torch = pytest.importorskip("torch")
WINDOW = atlas.WINDOW_BYTES
PLACES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
DTYPES = (
    *("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "bool", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
)


def same(found: atlas.TreeWitness, data: bytes) -> None:
    expected = atlas.TreeWitness.generate(data)
    facts = ("length", "root", "residue", "leaves")
    assert [getattr(found, fact) for fact in facts] == [getattr(expected, fact) for fact in facts]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_its_bytes_and_its_name(dtype: str, place: str) -> None:
    data = bytes([1, 0] * 4096)
    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(place)
    tensor = raw.view(getattr(torch, dtype)).reshape(8, -1)
    same(atlas.TreeWitness.generate(tensor), data)
    assert atlas.residue(tensor) == atlas.residue(data)
    found = ArrayWitness.generate(tensor, tree=True)
    assert (found.dtype, found.shape, found.length) == (dtype, tuple(tensor.shape), len(data))
    assert found.digest == atlas.TreeWitness.generate(data).root
    assert found.verify(tensor)
    if place == "cpu":
        assert ArrayWitness.generate(tensor).digest == atlas.Witness.generate(data).digest


@pytest.mark.parametrize("place", PLACES)
def test_a_parameter_is_the_same_bytes_without_its_gradient(place: str) -> None:
    weight = torch.nn.Parameter(torch.arange(5000, dtype=torch.float32, device=place))
    data = weight.detach().cpu().numpy().tobytes()
    same(atlas.TreeWitness.generate(weight), data)
    (weight * 2).sum().backward()
    same(atlas.TreeWitness.generate(weight), data)
    same(atlas.TreeWitness.generate(weight.detach()[100:200]), data[400:800])


@pytest.mark.parametrize("place", PLACES)
def test_memory_that_is_not_the_value_is_refused(place: str) -> None:
    conjugate = torch.ones(4, dtype=torch.complex64, device=place).conj()
    for view in (conjugate, conjugate.imag):
        with pytest.raises(BufferError, match="resolved"):
            atlas.residue(view)
        with pytest.raises(BufferError, match="array is a view"):
            ArrayWitness.generate(view, tree=True)
    same(
        atlas.TreeWitness.generate(conjugate.resolve_conj()),
        bytes(conjugate.resolve_conj().cpu().numpy()),
    )


@pytest.mark.parametrize("place", PLACES)
def test_what_is_not_contiguous_is_refused_and_what_has_no_elements_is_empty(place: str) -> None:
    for view in (torch.ones(4, 6, device=place).t(), torch.ones(10, device=place)[::2]):
        with pytest.raises(BufferError, match="contiguous"):
            atlas.residue(view)
    for empty in (torch.empty(0, 3, device=place), torch.empty(3, 0, device=place).t()):
        assert atlas.residue(empty) == 0
        same(atlas.TreeWitness.generate(empty), b"")
    row = torch.ones(6, 1, device=place).t()  # one row, however long its strides are
    same(atlas.TreeWitness.generate(row), bytes(torch.ones(6).numpy()))


@pytest.mark.parametrize("place", PLACES)
def test_a_saved_model_is_verified_where_it_serves(place: str, tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.torch")
    torch.manual_seed(3)
    model = torch.nn.Sequential(
        torch.nn.Linear(200, 300, dtype=torch.bfloat16),
        torch.nn.Linear(300, 7),
        torch.nn.Linear(7, 1),
    )
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state |= {"empty": torch.empty(0, 4), "scale": torch.tensor(2.5), "flag": torch.tensor([True])}
    path = tmp_path / "model.safetensors"
    save.save_file(state, path)
    for tree in (True, False):
        witness = TensorsWitness.from_file(path, tree=tree)
        served = {name: tensor.to(place) for name, tensor in state.items()}
        report = witness.verify(served, host=not tree)
        assert report.holds is True, list(report.lines())
        assert (
            TensorsWitness.generate(served, tree=tree, host=not tree).arrays.keys()
            == witness.arrays.keys()
        )
    witness = TensorsWitness.from_file(path, tree=True)
    served["0.weight"][280, 100] += 1
    served["more"] = served.pop("scale")
    served["1.weight"] = served["1.weight"].reshape(300, 7)
    served["2.weight"] = torch.ones(7, 1, device=place, dtype=torch.float32).expand(7, 3)
    report = witness.verify(served)
    assert report.holds is False
    told = {
        (each.kind, each.name): each
        for each in (*report.changed, *report.missing, *report.added, *report.unreadable)
    }
    assert set(told) == {
        ("changed", "0.weight"),
        ("changed", "1.weight"),
        ("missing", "scale"),
        ("added", "more"),
        ("unreadable", "2.weight"),
    }
    ranges = told["changed", "0.weight"].ranges
    assert ranges is not None
    assert [each.first for each in ranges] == [(280 * 200 + 100) * 2 // WINDOW]
    assert told["changed", "1.weight"].what == ("shape",)


@pytest.mark.parametrize("place", PLACES)
def test_what_the_command_witnesses_is_verified_in_any_layout(place: str, tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.torch")
    query, key = torch.randn(64, 300), torch.randn(64, 300)
    path, out = tmp_path / "model.safetensors", tmp_path / "w.json"
    save.save_file({"q": query, "k": key, "bias": torch.ones(5)}, path)
    command = ["witness", "--tensors", "--tree", path, "-o", out]
    subprocess.run([sys.executable, "-m", "atlas12288", *command], check=True)
    leaves = Path(f"{out}.atlas.leaves").read_bytes()
    witness = TensorsWitness.from_json(out.read_bytes()).with_leaves(leaves)

    class Model(torch.nn.Module):
        def __init__(self, **tensors: torch.Tensor) -> None:
            super().__init__()
            for name, tensor in tensors.items():
                setattr(self, name, torch.nn.Parameter(tensor.clone().to(place)))

    model = Model(q=query, k=key, bias=torch.ones(5))
    report = witness.verify(model.state_dict())
    assert report.holds is True, str(report)
    with torch.no_grad():
        model.k[63, 299] += 1
    assert str(witness.verify(model.state_dict())) == (
        "tensor 'k': residue, digest differ; bytes [73728, 76800), window 6"
    )
    # The fused projection and the first half of a tensor: other names, another shape, no windows.
    fused = Model(qk=torch.cat([query, key]), bias=torch.ones(5))
    assert witness.verify(fused.state_dict()).lines() == [
        "tensor 'k' is missing",
        "tensor 'q' is missing",
        "tensor 'qk' was added",
    ]
    shard = Model(q=query[:32], k=key, bias=torch.ones(5))
    (found,) = witness.verify(shard.state_dict()).differences
    assert (found.name, found.what[:2], found.ranges) == ("q", ("shape", "length"), None)
    # Half of it by columns is a view with holes, of which nothing is known before it is copied.
    report = witness.verify(model.state_dict() | {"k": key, "q": query.to(place)[:, :150]})
    assert report.holds is None
    assert [each.name for each in report.unreadable] == ["q"]


@pytest.mark.parametrize("place", PLACES)
def test_many_small_tensors_have_each_their_own_witness(place: str) -> None:
    content = noise(200_000)
    tensors, start = {}, 0
    for k in range(400):
        size = k * 7 % 900
        tensors[f"{k:03}"] = content[start : start + size]
        start += size
    placed = {
        name: torch.frombuffer(bytearray(data or b"x"), dtype=torch.uint8)[: len(data)].to(place)
        for name, data in tensors.items()
    }
    found = TensorsWitness.generate(placed, tree=True)
    for name, data in tensors.items():
        assert found.arrays[name].digest == atlas.TreeWitness.generate(data).root, name
        assert found.arrays[name].residue == atlas.residue(data)


def test_a_flat_witness_of_a_tensor_on_a_device_says_what_to_do() -> None:
    if "cuda" not in PLACES:
        pytest.skip("there is no CUDA device")
    tensor = torch.arange(50_000, dtype=torch.int32, device="cuda")
    with pytest.raises(BufferError, match=r"x\.cpu\(\)"):
        ArrayWitness.generate(tensor)
    found = ArrayWitness.generate(tensor, host=True)
    assert found.digest == ArrayWitness.generate(tensor.cpu()).digest
    assert ArrayWitness.generate(tensor, tree=True, host=True).verify(tensor)


def test_jax_arrays() -> None:
    jax = pytest.importorskip("jax")
    numpy = pytest.importorskip("numpy")
    data = noise(40 * WINDOW)
    host = numpy.frombuffer(data, dtype="uint8")
    for device in {jax.devices()[0], jax.devices("cpu")[0]}:
        array = jax.device_put(host, device)
        same(atlas.TreeWitness.generate(array), data)
        assert atlas.residue(array) == atlas.residue(data)
        half = array[:4096].view(jax.numpy.bfloat16)
        same(atlas.TreeWitness.generate(half), data[:4096])
        assert ArrayWitness.generate(half, tree=True).dtype == "bfloat16"
