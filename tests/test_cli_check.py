# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 check` and `atlas12288 delta`, against plain Python."""

import json
import os
from pathlib import Path

import pytest

from atlas12288 import MODULUS, WINDOW_BYTES
from atlas12288._files import CHUNK_BYTES
from support.commandline import (
    COULD_NOT_CHECK,
    DOES_NOT_HOLD,
    HOLDS,
    files_in,
    run,
    run_on_terminal,
)

LENGTHS = (0, 1, 95, 96, 97, WINDOW_BYTES - 1, WINDOW_BYTES, WINDOW_BYTES + 1, 2 * WINDOW_BYTES + 1)


def pattern(length: int) -> bytes:
    return bytes(i % 251 for i in range(length))  # a prime, so that windows differ


def windows_of(data: bytes) -> list[int]:
    return [sum(data[i : i + WINDOW_BYTES]) % MODULUS for i in range(0, len(data), WINDOW_BYTES)]


@pytest.mark.parametrize("length", LENGTHS)
def test_check_agrees_with_plain_python(tmp_path: Path, length: int) -> None:
    data = pattern(length)
    path = tmp_path / "data"
    path.write_bytes(data)
    residue = sum(data) % MODULUS
    done = run("check", "--json", path)
    assert files_in(done.stdout) == [
        {
            "file": str(path),
            "length": length,
            "residue": residue,
            "holds": residue == 0,
            "error": None,
        }
    ]
    assert done.returncode == (HOLDS if residue == 0 else DOES_NOT_HOLD)
    verdict = "conserved" if residue == 0 else "not conserved"
    text = run("check", path).stdout.decode()
    assert (
        text
        == f"{path}: {length} {'byte' if length == 1 else 'bytes'}, residue {residue}, {verdict}\n"
    )


@pytest.mark.parametrize("length", [*LENGTHS, CHUNK_BYTES, CHUNK_BYTES + WINDOW_BYTES + 1])
def test_windows_agree_with_plain_python(tmp_path: Path, length: int) -> None:
    data = pattern(length)
    path = tmp_path / "data"
    path.write_bytes(data)
    expected = windows_of(data)
    done = run("check", "--windows", "--json", path)
    (item,) = files_in(done.stdout)
    assert item["windows"] == expected
    assert item["length"] == length
    holds = not any(expected)
    assert done.returncode == (HOLDS if holds else DOES_NOT_HOLD)
    lines = run("check", "--windows", path).stdout.decode().splitlines()
    assert lines[1].split() == ["window", "offset", "residue"]
    assert [[int(word) for word in line.split()[:3]] for line in lines[2:-1]] == [
        [index, index * WINDOW_BYTES, residue] for index, residue in enumerate(expected)
    ]
    assert [line.endswith("conserved") for line in lines[2:-1]] == [r == 0 for r in expected]
    unit = "window" if len(expected) == 1 else "windows"
    assert lines[-1].endswith(f"; {expected.count(0)} of {len(expected)} {unit} conserved")


def test_with_windows_every_window_must_hold(tmp_path: Path) -> None:
    path = tmp_path / "data"
    data = bytearray(2 * WINDOW_BYTES)
    data[0], data[-1] = 1, 95  # the file is conserved, its two windows are not
    path.write_bytes(data)
    assert run("check", path).returncode == HOLDS
    assert run("check", "--windows", path).returncode == DOES_NOT_HOLD


def test_standard_input_of_any_kind(tmp_path: Path) -> None:
    data = pattern(3 * CHUNK_BYTES + 5)
    piped = files_in(run("check", "--windows", "--json", "-", input=data).stdout)
    path = tmp_path / "data"
    path.write_bytes(data)
    with path.open("rb") as file:
        redirected = files_in(run("check", "--windows", "--json", "-", stdin=file).stdout)
    assert piped == redirected
    assert piped[0] == {
        "file": "-",
        "windows": windows_of(data),
        "length": len(data),
        "residue": sum(data) % MODULUS,
        "holds": False,
        "error": None,
    }


def test_json_stays_whole_when_a_file_cannot_be_read(tmp_path: Path) -> None:
    done = run("check", "--windows", "--json", tmp_path, "-")
    first, second = files_in(done.stdout)
    assert first["windows"] == []
    assert first["holds"] is None
    assert first["error"].startswith("is a directory")
    assert second["holds"] is True
    assert done.returncode == COULD_NOT_CHECK


# --- --plot ---


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG\r\n"), ("svg", b"<?xml"), ("PDF", b"%PDF-")]
)
def test_plot_writes_an_image(tmp_path: Path, suffix: str, start: bytes) -> None:
    pytest.importorskip("matplotlib")
    path, empty = tmp_path / "$data_{x}^\n漢", tmp_path / "empty"  # a title must not be TeX
    path.write_bytes(pattern(5 * WINDOW_BYTES))
    empty.touch()
    image = tmp_path / f"map.{suffix}"
    done = run("check", path, "--plot", image, empty)
    assert done.stderr == b""
    assert done.returncode == DOES_NOT_HOLD
    assert image.read_bytes().startswith(start)
    assert sorted(tmp_path.iterdir()) == sorted([path, empty, image])


def test_plot_never_takes_a_data_file_for_the_image(tmp_path: Path) -> None:
    path, other = tmp_path / "data.bin", tmp_path / "other.bin"
    path.write_bytes(b"data")
    other.write_bytes(b"data")
    for arguments in (("--plot", path, other), (f"--plot={path}", other)):
        assert run("check", *arguments).returncode == COULD_NOT_CHECK  # no terminal; no image
        assert path.read_bytes() == b"data"
    image = tmp_path / "photo.png"
    image.write_bytes(b"data")
    done = run("check", "--plot", image, image)
    assert done.returncode == COULD_NOT_CHECK
    assert b"is also read" in done.stderr
    assert image.read_bytes() == b"data"


def test_plot_is_refused_before_any_work_where_it_cannot_be_written(tmp_path: Path) -> None:
    for image in ("/nonexistent/map.png", tmp_path / "map.jpg"):
        done = run("check", f"--plot={image}", tmp_path)
        assert done.returncode == COULD_NOT_CHECK
        assert done.stdout == b""
        assert b"is a directory" not in done.stderr  # the FILE was not looked at


def test_plot_leaves_out_what_could_not_be_read(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path, image = tmp_path / "data", tmp_path / "map.svg"
    path.write_bytes(b"data")
    assert run("check", tmp_path / "missing", "--plot", image).returncode == COULD_NOT_CHECK
    assert not image.exists()
    done = run("check", tmp_path / "missing", path, "--plot", image)
    assert done.returncode == COULD_NOT_CHECK
    assert image.read_bytes().count(b"windows conserved") == 1


def test_plot_without_matplotlib_says_what_to_install(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules['matplotlib'] = None\n")
    done = run(
        "check",
        "--plot",
        "map.png",
        "-",
        env=os.environ | {"PYTHONPATH": str(hidden)},
        cwd=tmp_path,
    )
    assert done.returncode == COULD_NOT_CHECK
    assert b"pip install 'atlas12288[plot]'" in done.stderr
    assert done.stdout == b""


def test_sketch_on_a_terminal_shows_where_windows_are_conserved(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes([1]) * (32 * WINDOW_BYTES - 1) + bytes(1 + 32 * WINDOW_BYTES))
    code, text, _ = run_on_terminal("check", "--plot", path, environment={"NO_COLOR": "1"})
    assert code == DOES_NOT_HOLD
    rows = dict(line.split("|")[:2] for line in text.splitlines() if line.count("|") == 2)
    assert rows["   conserved "] == "█" * 31 + " " + "█" * 32  # 12288 is 0 mod 96, 12287 is 95
    assert rows["       88-95 "] == " " * 31 + "█" + " " * 32
    assert all(set(row) == {" "} for name, row in rows.items() if name.strip()[0] not in "c8")


def test_sketch_needs_a_terminal(tmp_path: Path) -> None:
    done = run("check", "--plot", "-")
    assert done.returncode == COULD_NOT_CHECK
    assert b"needs a terminal" in done.stderr


# --- delta ---


@pytest.mark.parametrize("length", LENGTHS)
def test_delta_agrees_with_plain_python(tmp_path: Path, length: int) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.write_bytes(pattern(length))
    after.write_bytes(pattern(length + 3)[3:])
    first, second = (sum(path.read_bytes()) % MODULUS for path in (before, after))
    expected = (second - first) % MODULUS
    done = run("delta", "--json", before, after)
    assert json.loads(done.stdout) == {
        "type": "atlas12288/report/v1",
        "command": "delta",
        "holds": expected == 0,
        "before": {"file": str(before), "length": length, "residue": first},
        "after": {"file": str(after), "length": length, "residue": second},
        "delta": expected,
        "error": None,
    }
    assert done.returncode == (DOES_NOT_HOLD if expected else HOLDS)
    text = run("delta", before, after).stdout.decode()
    assert text == f"delta {expected}: residue {first} -> {second}\n"


def test_delta_from_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"\x05")
    assert run("delta", "-", path, input=b"\x04").stdout == b"delta 1: residue 4 -> 5\n"
    assert run("delta", path, "-", input=b"\x04").stdout == b"delta 95: residue 5 -> 4\n"


def test_delta_needs_equal_lengths(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"abc")
    done = run("delta", path, "-", input=b"ab")
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr == b"atlas12288: -: has 2 bytes, must have the 3 of BEFORE\n"
    assert done.stdout == b""
    assert json.loads(run("delta", "--json", path, "-", input=b"ab").stdout)["delta"] is None
