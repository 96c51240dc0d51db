# SPDX-License-Identifier: Apache-2.0
"""Keeps the weights of a model under watch while it serves, flips one bit of them, and shows what
the model says, what the scrubber tells, and what a pass costs.

Usage: python demo/scrubbing.py [--plot PICTURE] [MODEL]

MODEL is silero_vad_16k.safetensors (Silero VAD 6.2, MIT licence: is there speech in a sound?), by
default the one of the installed package: pip install --no-deps silero-vad. The model is computed
with NumPy alone, and hears a sound that this program makes. PICTURE is an .svg, .png or .pdf file
and needs matplotlib. Exits 0 when everything is as it must be.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

import atlas12288 as atlas

RATE = 16_000  # samples a second
CHUNK = 512  # samples of a request
CONTEXT = 64  # samples before them
REQUESTS = 120
FLIPPED_AT = 20  # the request before which the bit flips
TENSOR, INDEX, BIT = "conv1.weight", 101, 30
EVERY_S = 0.5

Array = npt.NDArray[np.float32]
Weights = dict[str, Array]


def installed_model() -> Path:
    """Return the model of the package silero-vad."""
    found = find_spec("silero_vad")
    if found is None or found.origin is None:
        sys.exit("name MODEL, or: pip install --no-deps silero-vad")
    return Path(found.origin).parent / "data" / "silero_vad_16k.safetensors"


def weights_in(content: bytearray) -> Weights:
    """Return the tensors of a .safetensors file as arrays over its bytes, without copies."""
    length = int.from_bytes(content[:8], "little")
    tensors: Weights = {}
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if name != "__metadata__":
            start, stop = (8 + length + offset for offset in entry["data_offsets"])
            flat = np.frombuffer(content, "<f4", (stop - start) // 4, start)
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


def convolved(signal: Array, weights: Weights, name: str, stride: int) -> Array:
    """Return a layer of the network: a convolution of 3 values, then the positive part."""
    padded = np.pad(signal, ((0, 0), (1, 1)))
    kernel = weights[f"{name}.weight"]
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=1)[:, ::stride]
    summed = np.einsum("oik,itk->ot", kernel, windows) + weights[f"{name}.bias"][:, None]
    positive: Array = np.maximum(summed, 0)
    return positive


def sigmoid(values: Array) -> Array:
    between: Array = (1 / (1 + np.exp(-values))).astype(np.float32)
    return between


class Model:
    """Silero VAD: the probability that there is speech, chunk by chunk."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._hidden = self._cell = np.zeros(128, np.float32)

    def probability(self, samples: Array) -> float:
        """Return the probability for 64 samples of context and 512 new ones."""
        weights = self._weights
        padded = np.pad(samples, (0, 64), "reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, 256)[::128]
        spectrum = weights["stft_conv.weight"][:, 0] @ frames.T
        signal = np.sqrt(spectrum[:129] ** 2 + spectrum[129:] ** 2)
        for name, stride in (("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 1)):
            signal = convolved(signal, weights, name, stride)
        gates = weights["lstm_cell.weight_ih"] @ signal[:, -1] + weights["lstm_cell.bias_ih"]
        gates += weights["lstm_cell.weight_hh"] @ self._hidden + weights["lstm_cell.bias_hh"]
        take, keep, new, give = np.split(gates, 4)
        self._cell = sigmoid(keep) * self._cell + sigmoid(take) * np.tanh(new)
        self._hidden = sigmoid(give) * np.tanh(self._cell)
        logit = weights["final_conv.weight"][:, :, 0] @ np.maximum(self._hidden, 0)
        return float(sigmoid(logit + weights["final_conv.bias"])[0])


def sound() -> Array:
    """Return something like vowels, with pauses."""
    seconds = np.arange(REQUESTS * CHUNK + CONTEXT) / RATE
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * seconds)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = ((600, 120, 1.0), (1100, 160, 0.5), (2500, 250, 0.2))
    wave = np.zeros_like(seconds)
    for harmonic in range(1, 30):
        hertz = 120 * harmonic
        loud = sum(each / (1 + ((hertz - at) / width) ** 2) for at, width, each in formants)
        wave += loud * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 3 * seconds), 0, 1)
    pauses = np.sin(2 * np.pi * 0.55 * seconds) > -0.4
    quiet = np.random.default_rng(1).normal(0, 0.002, len(seconds))
    mixed: Array = (0.15 * wave * syllables * pauses + quiet).astype(np.float32)
    return mixed


def serve(model: Model, wave: Array, before: Callable[[int], None]) -> list[float]:
    """Return the probability for each chunk; `before` is called before each."""
    found = []
    for number in range(REQUESTS):
        before(number)
        found.append(model.probability(wave[number * CHUNK : (number + 1) * CHUNK + CONTEXT]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep the weights of a model under watch.")
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL")
    parser.add_argument("--plot", type=Path, metavar="PICTURE")
    options = parser.parse_args()
    path = options.model or installed_model()
    content = bytearray(path.read_bytes())
    weights = weights_in(content)
    witness = atlas.TreeWitness.generate(content)
    wave = sound()
    expected = serve(Model(weights), wave, lambda _: None)

    told: list[tuple[int, atlas.ScrubReport]] = []
    now = 0

    def flip_or_wait(number: int) -> None:
        nonlocal now
        now = number
        if number == FLIPPED_AT:
            weights[TENSOR].reshape(-1).view("<u4")[INDEX] ^= np.uint32(1 << BIT)
        time.sleep(CHUNK / RATE)  # as sound comes

    targets = {path.name: (content, witness)}
    print(f"{path.name}: {len(content):,} bytes, {witness.windows} windows")
    scrubber = atlas.Scrubber(
        targets, every=EVERY_S, on_damage=lambda report: told.append((now, report))
    )
    with scrubber, np.errstate(all="ignore"):
        found = serve(Model(weights), wave, flip_or_wait)
        passes = scrubber.report
    if len(told) != 1 or passes is None:
        sys.exit(f"{len(told)} reports, must be 1")
    at, report = told[0]
    wrong = [number for number in range(REQUESTS) if abs(found[number] - expected[number]) > 0.01]
    print(f"bit {BIT} of {TENSOR}[{INDEX}] flipped before request {FLIPPED_AT}")
    print(f"told before request {at + 1}, {(at - FLIPPED_AT) * CHUNK / RATE:.2f} s later:")
    print(f"  {report}")
    print(f"{len(wrong)} of {REQUESTS} answers were wrong by more than 0.01")
    cost(content, targets)
    if options.plot is not None:
        draw(options.plot, expected, found, at, report, witness.windows)


def cost(content: bytearray, targets: dict[str, tuple[bytearray, atlas.TreeWitness]]) -> None:
    """Print what one pass costs beside one answer of the model."""
    scrubber = atlas.Scrubber(targets)
    scrubber.scan()
    rounds = 200
    used = time.thread_time()
    for _ in range(rounds):
        scrubber.scan()
    one = (time.thread_time() - used) / rounds
    model, samples = Model(weights_in(content)), np.zeros(CHUNK + CONTEXT, np.float32)
    used = time.thread_time()
    with np.errstate(all="ignore"):
        for _ in range(rounds):
            model.probability(samples)
    answer = (time.thread_time() - used) / rounds
    print(f"one pass: {one * 1e6:.0f} us of a core; one answer of the model: {answer * 1e6:.0f} us")


def draw(
    path: Path,
    expected: list[float],
    found: list[float],
    at: int,
    report: atlas.ScrubReport,
    windows: int,
) -> None:
    """Draw the answers, the flip and the report, and the windows of the weights."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "atlas12288"
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["font.size"] = 9
    from matplotlib import pyplot as plt

    figure, (answers, map_of) = plt.subplots(
        2, 1, figsize=(8, 3.6), height_ratios=(5, 1), layout="constrained"
    )
    seconds = np.arange(REQUESTS) * CHUNK / RATE
    answers.plot(seconds, expected, color="0.6", label="intact weights")
    answers.plot(seconds, found, color="tab:blue", label="while the bit is flipped")
    flipped, said = FLIPPED_AT * CHUNK / RATE, at * CHUNK / RATE
    answers.axvline(flipped, color="tab:red", linestyle=":")
    answers.axvline(said, color="tab:green", linestyle=":")
    answers.annotate("a bit flips ", (flipped, 1.06), ha="right", color="tab:red")
    answers.annotate(" the scrubber tells", (said, 1.06), color="tab:green")
    answers.set(xlabel="seconds", ylabel="speech", ylim=(-0.05, 1.18), xlim=(0, seconds[-1]))
    answers.legend(loc="center right")
    damaged = {
        window
        for each in report.changed
        for run in each.ranges or ()
        for window in range(run.first, run.stop)
    }
    colours = ["tab:red" if window in damaged else "tab:green" for window in range(windows)]
    map_of.bar(range(windows), 1, width=0.85, color=colours)
    map_of.set(xlabel="window of the weights (12,288 bytes each)", yticks=[], xlim=(-1, windows))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
