# SPDX-License-Identifier: Apache-2.0
"""Manifests on the command line: `witness FOLDER` and `verify MANIFEST`."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atlas12288 import WINDOW_BYTES, TreeWitness
from atlas12288._cli.console import shown
from atlas12288._cli.manifests import amount
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest._entries import DIGESTS, Entry
from atlas12288.manifest._statement import Options, write_statement
from support.commandline import (
    BAR_AT_ONCE,
    COULD_NOT_CHECK,
    DOES_NOT_HOLD,
    HOLDS,
    INTERRUPTED,
    TIMEOUT_S,
    before_read,
    files_in,
    peak_kib,
    run,
    run_on_terminal,
    sparse_file,
    start,
    wait_until_read,
    without_colour,
)
from support.files import write_files
from support.strategies import noise

GIB = 2**30
BIG = noise(300 * WINDOW_BYTES + 1000)
FILES = {"big": BIG, "empty": b"", "sub/deep/x": b"deep", "sub/y": b"why", "bad\udcff\n": b"z"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the folder `data` in it."""
    monkeypatch.chdir(tmp_path)
    write_files(Path("data"), FILES)
    Path("data/link").symlink_to("nowhere")
    return tmp_path


@pytest.fixture
def manifest(folder: Path) -> str:
    """Its manifest, with leaves."""
    done = run("witness", "--tree", "data", "-o", "data.atlas.json")
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    return "data.atlas.json"


def files_of(name: str | bytes) -> list[dict[str, object]]:
    text = name if isinstance(name, bytes) else Path(name).read_bytes()
    found = json.loads(text)["predicate"]["files"]
    assert isinstance(found, list)
    return found


def paths_of(name: str | bytes) -> list[object]:
    return [entry.get("path", entry.get("pathHex")) for entry in files_of(name)]


def damage(name: str, window: int) -> None:
    with Path(name).open("r+b") as file:
        file.seek(window * WINDOW_BYTES + 1)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """The last line on standard error of a run that could not check."""
    assert done.returncode == COULD_NOT_CHECK
    return done.stderr.decode().splitlines()[-1]


# --- witness ---


def test_a_manifest_has_every_file_of_the_folder(manifest: str) -> None:
    expected: list[dict[str, object]] = []
    for name, content in FILES.items():
        entry: dict[str, object] = {"path": name}
        if not name.isascii():
            entry = {"pathHex": os.fsencode(name).hex()}
        entry |= {"residue": sum(content) % 96, "size": len(content)}
        entry |= {"sha256": hashlib.sha256(content).hexdigest()}
        entry |= {"sha256-merkle-12288": TreeWitness.generate(content).root.hex()}
        expected.append(entry)
    expected.append({"path": "link", "symlink": "nowhere"})
    found = files_of(manifest)
    assert sorted(found, key=str) == sorted(expected, key=str)
    raw = [os.fsencode(name) for name in (*FILES, "link")]
    at = {
        bytes.fromhex(str(e["pathHex"])) if "pathHex" in e else os.fsencode(str(e["path"]))
        for e in found
    }
    assert at == set(raw)


def test_the_same_files_give_the_same_bytes(manifest: str) -> None:
    before = Path(manifest).read_bytes(), Path("data.atlas.leaves").read_bytes()
    os.utime("data/big", (1, 1))
    for threads in "1", "3":
        done = run("witness", "--tree", f"--threads={threads}", "data", "-o", manifest)
        assert done.returncode == HOLDS
        assert (Path(manifest).read_bytes(), Path("data.atlas.leaves").read_bytes()) == before
    Path("data").rename("elsewhere")
    assert run("witness", "--tree", "elsewhere/", "-o", "other.atlas.json").returncode == HOLDS
    assert Path("other.atlas.json").read_bytes() == before[0]


def test_thousands_of_files(folder: Path) -> None:
    names = [f"many/{index // 100}/{index:0200}" for index in range(2500)]
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    assert run("witness", "--tree", "many", "-o", "many.atlas.json").returncode == HOLDS
    assert Path("many.atlas.json").stat().st_size > 10**6  # several chunks of it are read
    done = run("verify", "many.atlas.json")
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    assert b"; 2,500 files, " in done.stdout
    Path(names[2321]).write_text(names[1234])
    done = run("verify", "--quiet", "many.atlas.json")
    assert done.stdout.startswith(f"{names[2321].removeprefix('many/')}: changed".encode())
    assert run("verify", "-", "many", input=Path("many.atlas.json").read_bytes()).returncode == 1


def test_leaves_are_beside_it_in_order_of_path(manifest: str) -> None:
    names = sorted(FILES, key=os.fsencode)
    leaves = b"".join(TreeWitness.generate(FILES[name]).leaves or b"" for name in names)
    assert Path("data.atlas.leaves").read_bytes() == leaves


def test_the_line_says_how_much_it_was(folder: Path) -> None:
    done = run("witness", "data", "-o", "data.atlas.json")
    assert done.stdout == b"data.atlas.json: 5 files, 1 link, 3.7 MB\n"
    assert not Path("data.atlas.leaves").exists()
    done = run("witness", "data", "-o", "x.json", "--json")
    fields = json.loads(done.stdout)
    assert fields["manifest"] == "x.json"
    assert [fields["counts"][key] for key in ("files", "links", "read", "unreadable")] == [
        5,
        1,
        5,
        0,
    ]


def test_which_digests_are_in_it(folder: Path) -> None:
    for options, digests in (
        ((), ["sha256"]),
        (("--tree",), ["sha256", "sha256-merkle-12288"]),
        (("--tree", "--no-flat"), ["sha256-merkle-12288"]),
    ):
        done = run("witness", *options, "data")
        assert json.loads(done.stdout)["predicate"]["options"]["digests"] == digests
        assert set(files_of(done.stdout)[0]) - {"pathHex", "residue", "size"} == set(digests)


def test_without_o_it_goes_to_standard_output(folder: Path) -> None:
    done = run("witness", "data")
    assert run("witness", "data", "-o", "m.json").returncode == HOLDS
    assert done.stdout == Path("m.json").read_bytes()
    assert done.stderr == b""


def test_where_there_are_links_alone_it_is_said_that_no_content_was_read(folder: Path) -> None:
    Path("links").mkdir()
    Path("links/big").symlink_to("../data/big")
    done = run("witness", "links", "-o", "links.atlas.json")
    assert done.stdout == b"links.atlas.json: 0 files, 1 link; no content was read\n"
    assert done.stderr == (
        b"atlas12288: links.atlas.json: a symbolic link leads out of the folder; what is there is "
        b"not read\n"
    )
    done = run("verify", "links.atlas.json")
    assert done.returncode == HOLDS
    assert done.stdout.endswith(
        b"links: matches its manifest; 0 files, 1 link; no content was read; "
        b"0 changed, 0 missing, 0 added, 0 unreadable\n"
    )
    report = json.loads(run("verify", "--json", "links.atlas.json").stdout)
    assert (report["counts"]["files"], report["counts"]["links"]) == (0, 1)
    done = run("witness", "--json", "links", "-o", "links.atlas.json")
    made = json.loads(done.stdout)
    assert (made["counts"]["files"], made["counts"]["links"]) == (0, 1)
    for output in ((), ("-o", "SUMS")):
        done = run("witness", "--format", "sha256sum", "links", *output)
        assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b"")
        assert done.stderr.endswith(
            b"links: has no file that sha256sum could read, only 1 symbolic link\n"
        )
    assert not Path("SUMS").exists()


def test_links_may_lead_below_a_folder_that_is_named(folder: Path) -> None:
    Path("cache/snapshots/rev").mkdir(parents=True)
    Path("cache/blobs").mkdir()
    Path("cache/blobs/1").write_bytes(b"weights")
    Path("cache/snapshots/rev/model").symlink_to("../../blobs/1")
    options = ("witness", "--symlinks=follow", "cache/snapshots/rev", "-o", "c.atlas.json")
    assert run(*options).returncode == COULD_NOT_CHECK
    done = run(*options, "--links-below", "cache/blobs")
    assert (done.returncode, done.stdout) == (HOLDS, b"c.atlas.json: 1 file, 7 B\n")
    done = run("verify", "c.atlas.json", "cache/snapshots/rev")
    assert done.returncode == HOLDS
    assert done.stdout.endswith(b"0 unreadable; links below ../../blobs were followed\n")
    Path("cache/blobs/1").write_bytes(b"damaged")
    assert run("verify", "c.atlas.json", "cache/snapshots/rev").returncode == DOES_NOT_HOLD
    for folders, reason in (
        ("none", b"--links-below has 'none': No such file or directory"),
        ("cache/blobs/1", b"--links-below has 'cache/blobs/1': is not a folder"),
    ):
        done = run(*options, "--links-below", folders)
        assert done.returncode == COULD_NOT_CHECK
        assert reason in done.stderr


def test_an_update_says_what_was_read_for_its_ctime_alone(folder: Path) -> None:
    make_old()
    witness = ("witness", "data", "-o", "m.atlas.json")
    assert run(*witness).returncode == HOLDS
    os.link("data/big", "backup")
    done = run(*witness, "--update", "--ignore-ctime")
    assert done.stdout.startswith(b"m.atlas.json: 5 files, 1 link, 3.7 MB; 0 read, 5 known, in")
    done = run(*witness, "--update")
    assert b"; 1 read, 4 known, in which" in done.stdout
    assert b" sees damage; 1 file read for the ctime alone; nothing differs " in done.stdout


def test_a_terminal_gets_no_character_that_it_obeys(folder: Path) -> None:
    for name in ("a\u009b31m", "b\u202egnp", "c\x1b[2J", "d\x7f", "e\U000e0041"):
        Path("data", name).touch()
    for options in ((), ("--format=sha256sum",)):
        code, text, _ = run_on_terminal("witness", *options, "data", streams=("stdout",))
        assert code == HOLDS
        assert all(each.isprintable() or each == "\n" for each in text)
        assert "b\\u202egnp" in text
        assert "e\\udb40\\udc41" in text
    code, text, _ = run_on_terminal("sum", "data/c\x1b[2J", streams=("stdout",))
    assert text.endswith("data/c\\u001b[2J\n")
    code, text, _ = run_on_terminal("witness", "data", streams=("stdout",))
    assert json.loads(text) == json.loads(run("witness", "data").stdout)


def test_several_paths_are_relative_to_the_current_folder(folder: Path) -> None:
    Path("alone").write_text("1")
    Path("ignored").write_text("2")
    assert run("witness", "./alone", "data//sub/", "-o", "some.atlas.json").returncode == HOLDS
    assert paths_of("some.atlas.json") == ["alone", "data/sub/deep/x", "data/sub/y"]
    done = run("verify", "some.atlas.json")
    assert done.returncode == HOLDS
    assert done.stdout.startswith(b"some.atlas.json: compared with .\n")
    Path("data/sub/new").write_text("3")
    done = run("verify", "some.atlas.json")
    assert done.returncode == DOES_NOT_HOLD
    assert b"data/sub/new: added\n" in done.stdout
    assert b"ignored" not in done.stdout


def test_a_file_alone_can_have_a_manifest(folder: Path) -> None:
    assert run("witness", "data/big", "-o", "one.atlas.json").returncode == HOLDS
    assert paths_of("one.atlas.json") == ["data/big"]
    assert run("verify", "one.atlas.json").returncode == HOLDS


def test_overlapping_paths_are_listed_once(folder: Path) -> None:
    assert run("witness", "data/sub", "data", "-o", "x.atlas.json").returncode == HOLDS
    assert len(paths_of("x.atlas.json")) == len(FILES) + 1
    assert run("verify", "x.atlas.json").returncode == HOLDS


def test_written_into_the_folder_it_is_no_part_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("data")
    for _ in range(2):
        assert run("witness", "--tree", ".", "-o", "m.atlas.json").returncode == HOLDS
        assert len(paths_of("m.atlas.json")) == len(FILES) + 1
        done = run("verify", "m.atlas.json")
        assert (done.returncode, done.stderr) == (HOLDS, b"")
    assert run("verify", "--plot", "damage.png", "m.atlas.json", ".").returncode == HOLDS
    assert run("verify", "--plot", "damage.png", "m.atlas.json", ".").returncode == HOLDS
    # As one of the files of another manifest it is a file like others.
    assert run("witness", ".", "-o", "../whole.atlas.json").returncode == HOLDS
    assert "m.atlas.json" in paths_of("../whole.atlas.json")
    assert run("verify", "../whole.atlas.json", ".").returncode == HOLDS
    Path("m.atlas.json").write_text("{}")
    assert run("verify", "../whole.atlas.json", ".").returncode == DOES_NOT_HOLD


def test_rules_leave_files_out(folder: Path) -> None:
    Path("data/.atlasignore").write_text("# a comment\n*.log\n\n")
    Path("data/a.log").write_text("1")
    Path("data/sub/b.log").write_text("2")
    options = ("--exclude", "/sub/deep", "--exclude", "empty")
    assert run("witness", *options, "data", "-o", "data.atlas.json").returncode == HOLDS
    found = paths_of("data.atlas.json")
    assert found == [".atlasignore", b"bad\xff\n".hex(), "big", "link", "sub/y"]
    predicate = json.loads(Path("data.atlas.json").read_text())["predicate"]
    assert predicate["options"]["exclude"] == ["*.log", "/sub/deep", "empty"]
    assert run("verify", "data.atlas.json").returncode == HOLDS


def test_what_is_done_with_symbolic_links(folder: Path) -> None:
    Path("data/link").unlink()
    Path("data/link").symlink_to("big")
    run("witness", "--symlinks=follow", "data", "-o", "f.atlas.json")
    run("witness", "--symlinks=record", "data", "-o", "r.atlas.json")
    (followed,) = [entry for entry in files_of("f.atlas.json") if entry.get("path") == "link"]
    (recorded,) = [entry for entry in files_of("r.atlas.json") if entry.get("path") == "link"]
    assert (followed["size"], recorded["symlink"]) == (len(BIG), "big")
    done = run("witness", "--symlinks=error", "data", "-o", "e.atlas.json")
    assert "not written, because 1 path could not be read" in complaint(done)
    assert b"atlas12288: link: is a symbolic link to 'big'" in done.stderr
    assert not Path("e.atlas.json").exists()
    for name in "f.atlas.json", "r.atlas.json":
        assert run("verify", name, "data").returncode == HOLDS
    Path("data/link").unlink()
    Path("data/link").write_bytes(BIG)
    assert run("verify", "f.atlas.json", "data").returncode == HOLDS
    done = run("verify", "r.atlas.json", "data")
    assert b"link: changed, is a file, must be a symbolic link to 'big'\n" in done.stdout


def test_files_that_cannot_be_read_are_named_and_nothing_is_written(folder: Path) -> None:
    os.mkfifo("data/fifo")
    os.mkfifo("data/sub/fifo")
    done = run("witness", "--tree", "data", "-o", "data.atlas.json")
    lines = done.stderr.decode().splitlines()
    assert complaint(done) == (
        "atlas12288: data.atlas.json: not written, because 2 paths could not be read"
    )
    reason = "is a FIFO, must be a regular file"
    assert sorted(lines[:2]) == [
        f"atlas12288: fifo: {reason}",
        f"atlas12288: sub/fifo: {reason}",
    ]
    assert not Path("data.atlas.json").exists()
    assert not Path("data.atlas.leaves").exists()
    done = run("witness", "data")
    assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b"")
    fields = json.loads(run("witness", "--json", "data", "-o", "data.atlas.json").stdout)
    assert fields["counts"]["unreadable"] == 2
    assert fields["error"] == "not written, because 2 paths could not be read"


def test_an_empty_folder_has_no_manifest(folder: Path) -> None:
    Path("nothing").mkdir()
    done = run("witness", "nothing", "-o", "n.atlas.json")
    assert complaint(done) == "atlas12288: nothing: has no file to witness"


def make_old() -> None:
    """Files that were modified within two seconds before the run are read again by --update."""
    for path in Path("data").rglob("*"):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)


def test_update_reads_only_what_changed_and_says_so(folder: Path) -> None:
    make_old()
    assert run("witness", "--tree", "data", "-o", "m.atlas.json").returncode == HOLDS
    before = Path("m.atlas.json").read_bytes()
    done = run("witness", "--update", "--tree", "data", "-o", "m.atlas.json")
    blind = b", in which only a run without --update sees damage; "
    since = b" the manifest that it replaces\n"
    line = b"m.atlas.json: 5 files, 1 link, 3.7 MB; "
    assert done.stdout == line + b"0 read, 5 known" + blind + b"nothing differs from" + since
    assert Path("m.atlas.json").read_bytes() == before
    Path("data/sub/y").write_bytes(b"new")
    done = run("witness", "--update", "--tree", "data", "-o", "m.atlas.json")
    (changed, *windows, last) = done.stdout.splitlines(keepends=True)
    assert windows == [b"  windows  1 of 1 differ:\n", b"           bytes [0, 3)  window 0\n"]
    assert changed == b"sub/y: changed, differs in residue, sha256, sha256-merkle-12288\n"
    assert last == line + b"1 read, 4 known" + blind + b"1 changed since" + since
    fresh = run("witness", "--tree", "data", "-o", "fresh.atlas.json")
    assert fresh.returncode == HOLDS
    assert Path("m.atlas.json").read_bytes() == Path("fresh.atlas.json").read_bytes() != before
    assert run("verify", "m.atlas.json", "data").returncode == HOLDS


def test_a_run_that_was_killed_goes_on_and_says_so(folder: Path) -> None:
    sparse_file(Path("data/huge"), 8 * BLOCK_BYTES)
    make_old()
    command = ("witness", "--tree", "--no-flat", "data", "-o", "m.atlas.json", "--state", "kept")
    code = (
        "import signal\n"
        "from atlas12288.manifest import _keeper\n"
        "_keeper._COMMIT_S = 0.0\n"  # after each block
        f"{before_read(7, 'os.kill(os.getpid(), signal.SIGKILL)')}"
    )
    killed = run(*command, "--threads", "1", before=code)
    assert killed.returncode == -signal.SIGKILL
    assert not Path("m.atlas.json").exists()
    done = run(*command)
    assert done.returncode == HOLDS
    said = rb"atlas12288: m.atlas.json: goes on with the state of the run at [^\n]*, 1 in part\n"
    assert re.fullmatch(said, done.stderr)
    assert not list(folder.glob(".atlas12288-*"))
    assert run("witness", "--tree", "--no-flat", "data", "-o", "new.atlas.json").returncode == HOLDS
    assert Path("m.atlas.json").read_bytes() == Path("new.atlas.json").read_bytes()


def test_ctrl_c_leaves_no_part_of_a_manifest(manifest: str) -> None:
    before = Path(manifest).read_bytes(), Path("data.atlas.leaves").read_bytes()
    sparse_file(Path("data/huge"), 64 * GIB)
    process = start("witness", "--tree", "data", "-o", manifest)
    wait_until_read(process, 2**26)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (INTERRUPTED, b"")
    assert b"Traceback" not in err
    assert (Path(manifest).read_bytes(), Path("data.atlas.leaves").read_bytes()) == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("data", "/etc/hostname", "-o", "x.atlas.json"), "PATH is '/etc/hostname'"),
        (("/etc/hostname", "-o", "x.atlas.json"), "must be relative"),
        (("data/../data/big", "data", "-o", "x.atlas.json"), "PATH is 'data/../data/big'"),
        (("--no-flat", "data"), "--no-flat needs --tree"),
        (("--update", "data"), "--update needs -o"),
        (("--ignore-ctime", "data"), "--ignore-ctime needs -o"),
        (("--links-below", "data", "data", "-o", "x.atlas.json"), "needs --symlinks follow"),
        (
            ("--symlinks=follow", "--links-below", "data", "memory://x", "-o", "x.atlas.json"),
            "--links-below is for folders of this machine",
        ),
        (("--links-below", "data", "data/big", "-o", "x.json"), "--links-below is for manifests"),
        (("--json", "data"), "--json needs -o"),
        (("--format=sha256sum", "--tree", "data"), "not with --tree"),
        (
            ("--format=sha256sum", "--update", "data", "-o", "s"),
            "--update needs -o with a manifest",
        ),
        (("data", "-"), "not of standard input"),
        (("data", "memory://x"), "a URL is witnessed alone: memory://x"),
        (("data", "-o", "no/x.atlas.json"), "the folder"),
        (("data", "-o", "data"), "is not a regular file"),
        (("--exclude", "*.log", "data/big"), "--exclude is for manifests"),
        (("--symlinks", "record", "data/big"), "--symlinks is for manifests"),
        (("--no-flat", "data/big"), "--no-flat is for manifests"),
        (("--update", "data/big", "-o", "x.json"), "--update is for manifests"),
        (("--scheduler", "tcp://x:1", "data/big"), "--scheduler is for manifests"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_refused(
    folder: Path, arguments: tuple[str, ...], reason: str
) -> None:
    before = sorted(folder.rglob("*"))
    done = run("witness", *arguments)
    assert done.returncode == COULD_NOT_CHECK
    assert reason in done.stderr.decode()
    assert done.stderr.count(b"Error: ") == 1
    assert done.stdout == b""
    assert sorted(folder.rglob("*")) == before


def test_only_what_is_witnessed_may_be_a_url(folder: Path) -> None:
    reason = "is a URL, must be a file of this machine: only what is witnessed may be elsewhere"
    for path in "data", "data/big":
        done = run("witness", path, "-o", "memory://x/y.json")
        assert complaint(done) == f"Error: -o memory://x/y.json: {reason}"
    done = run("verify", "memory://x/y.atlas.json", "data")
    assert complaint(done) == f"atlas12288: memory://x/y.atlas.json: {reason}"


def test_a_file_that_is_no_sidecar_is_not_replaced(folder: Path) -> None:
    reason = "is not a file with the leaves of data.atlas.json as it is, and is not replaced"
    for content in ("my own notes", 64 * "k"):  # a key, say
        Path("data.atlas.leaves").write_text(content)
        done = run("witness", "--tree", "data", "-o", "data.atlas.json")
        assert complaint(done).endswith(f"{reason}: remove it if it has old leaves")
        assert "data.atlas.leaves" in complaint(done)
        assert Path("data.atlas.leaves").read_text() == content
        assert not Path("data.atlas.json").exists()
    Path("data.atlas.leaves").unlink()
    for _ in range(2):
        assert run("witness", "--tree", "data", "-o", "data.atlas.json").returncode == HOLDS
    Path("data.atlas.json").unlink()  # then nobody knows of what they are
    assert reason in complaint(run("witness", "--tree", "data", "-o", "data.atlas.json"))


def test_a_manifest_without_trees_takes_the_leaves_of_the_old_one_away(folder: Path) -> None:
    for output, sidecar in (
        ("data.atlas.json", "data.atlas.leaves"),
        ("data/own.atlas.json", "data/own.atlas.leaves"),  # in the folder: no file of it
    ):
        made = "witness", "data", "-o", output
        assert run(*made, "--tree").returncode == HOLDS
        assert Path(sidecar).exists()
        assert complaint(run(*made, "nosuch")).startswith("atlas12288: nosuch: ")
        assert Path(sidecar).exists()
        done = run(*made)
        assert done.returncode == HOLDS
        assert (
            f"atlas12288: {output}: {sidecar} is removed: it had the leaves of the manifest that "
            "was replaced, and this one has no trees\n"
        ) in done.stderr.decode()
        assert not Path(sidecar).exists()
        assert run("verify", output, "data", "--quiet").returncode == HOLDS
        assert run(*made, "--tree").returncode == HOLDS
        Path(output).unlink()
        Path(sidecar).unlink()


def test_what_is_no_output_of_ours_is_not_replaced(folder: Path) -> None:
    Path("thesis.txt").write_text("my only copy\n")
    Path("data/sums").write_text("text\n")
    Path("SUMS").write_text(f"{64 * '0'}  a\nand my own notes\n")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    no_manifest = "is not a manifest or witness file, and is not replaced"
    for options, output, reason in (
        ((), "data/big", no_manifest),
        ((), "thesis.txt", no_manifest),
        (("--tree",), "thesis.txt", no_manifest),
        (("--format=sha256sum",), "data/sums", "is not a list of sha256sum, and is not replaced"),
        (("--format=sha256sum",), "SUMS", "is not a list of sha256sum, and is not replaced"),
    ):
        done = run("witness", *options, "data", "-o", output)
        assert complaint(done) == f"Error: -o {output}: {reason}"
    assert {path: path.read_bytes() for path in before} == before
    Path("data/empty.json").touch()  # as mktemp makes it
    assert run("witness", "data", "-o", "data/empty.json").returncode == HOLDS
    assert run("witness", "data", "-o", "data/empty.json").returncode == HOLDS


def test_o_follows_a_link_only_to_an_output_of_ours(folder: Path) -> None:
    Path("home").mkdir()
    Path("home/.profile").write_text("umask 077\n")
    Path("home/empty").touch()
    for leads_to, reason in (
        ("home/.profile", "which is not a manifest or witness file, and is not followed"),
        ("home/empty", "which is not a manifest or witness file, and is not followed"),
        ("home/authorized_keys", "and is not followed: No such file or directory"),
    ):
        Path("m.atlas.json").symlink_to(leads_to)
        done = run("witness", "data", "-o", "m.atlas.json")
        link = f"Error: -o m.atlas.json: is a symbolic link to {leads_to}"
        assert complaint(done).startswith(link)
        assert reason in complaint(done)
        Path("m.atlas.json").unlink()
    assert {path.name for path in Path("home").iterdir()} == {".profile", "empty"}
    assert Path("home/.profile").read_text() == "umask 077\n"
    assert run("witness", "data/big", "data/sub", "-o", "home/m.atlas.json").returncode == HOLDS
    Path("m.atlas.json").symlink_to("home/m.atlas.json")
    assert run("witness", "data", "-o", "m.atlas.json").returncode == HOLDS
    assert Path("m.atlas.json").is_symlink()
    assert len(paths_of("home/m.atlas.json")) == len(FILES) + 1
    Path("SUMS").symlink_to("home/SUMS")
    Path("home/SUMS").write_bytes(run("witness", "--format=sha256sum", "data").stdout)
    done = run("witness", "--format=sha256sum", "data", "-o", "SUMS")
    assert complaint(done) == (
        "Error: -o SUMS: is a symbolic link to home/SUMS, and is not replaced"
    )


def test_a_private_output_stays_private(manifest: str) -> None:
    for name in (manifest, "data.atlas.leaves"):
        Path(name).chmod(0o600)
    assert run("witness", "--tree", "data", "-o", manifest).returncode == HOLDS
    for name in (manifest, "data.atlas.leaves"):
        assert Path(name).stat().st_mode & 0o777 == 0o600


def test_leaves_through_a_link_are_not_used(manifest: str) -> None:
    Path("data.atlas.leaves").rename("elsewhere")
    Path("data.atlas.leaves").symlink_to("elsewhere")
    done = run("verify", manifest)
    assert complaint(done) == (
        "atlas12288: data.atlas.leaves: is a symbolic link, which is not followed"
    )
    assert b"data: matches its manifest" in done.stdout
    assert run("verify", "--leaves", "data.atlas.leaves", manifest).returncode == HOLDS


def test_nothing_is_left_out_for_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("witness", "data", "-o", "m.atlas.json").returncode == HOLDS
    Path("m.atlas.json").rename("data/m.atlas.json")
    monkeypatch.chdir("data")
    hidden = (".atlas12288-00112233445566ff.tmp", "m.atlas.leaves", "m.atlas.state-shm")
    for name in hidden:
        Path(name, "plugins").mkdir(parents=True)
        Path(name, "plugins", "evil.py").write_text("evil")
        Path(name, "link").symlink_to("/etc/passwd")
    Path("x.json").hardlink_to("m.atlas.json")
    done = run("verify", "--json", "m.atlas.json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["counts"]["added"]) == (DOES_NOT_HOLD, 2 * len(hidden) + 1)
    assert report["left_out"] == [{"path": "m.atlas.json"}]
    expected = {f"{name}/{what}" for name in hidden for what in ("plugins/evil.py", "link")}
    assert {each["path"] for each in report["differences"]} == expected | {"x.json"}
    # A new manifest has them too, and so does a list.
    assert run("witness", ".", "-o", "m.atlas.json").returncode == HOLDS
    assert expected | {"x.json"} <= set(paths_of("m.atlas.json"))
    found = run("witness", "--format=sha256sum", ".", "-o", "SUMS").stdout
    assert found == b""
    assert Path("SUMS").read_bytes().count(b"evil.py") == len(hidden)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_told_beside_a_manifest(
    folder: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.chdir("data")
    assert run("witness", ".", "-o", "m.atlas.json").returncode == HOLDS
    make(Path("m.atlas.leaves"))
    if Path("m.atlas.leaves").is_dir():
        Path("m.atlas.leaves/x").touch()
        assert b"m.atlas.leaves/x: added" in run("verify", "m.atlas.json").stdout
    else:
        assert "m.atlas.leaves: is a FIFO" in complaint(run("verify", "m.atlas.json"))


def test_what_is_left_out_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("witness", "--tree", "data", "-o", "m.atlas.json").returncode == HOLDS
    for name in ("m.atlas.json", "m.atlas.leaves"):
        Path(name).rename(f"data/{name}")
    monkeypatch.chdir("data")
    counts = b": 0 changed, 0 missing, 0 added, 0 unreadable; 2 outputs left out\n"
    assert run("verify", "m.atlas.json").stdout.endswith(counts)
    Path("m.atlas.leaves").write_bytes(b"x" + Path("m.atlas.leaves").read_bytes()[1:])
    done = run("verify", "m.atlas.json")
    assert b"m.atlas.leaves: added\n" in done.stdout
    assert done.stdout.endswith(b" 1 added, 0 unreadable; 1 output left out\n")
    with Path("report").open("wb") as out:
        run("verify", "--json", "m.atlas.json", stdout=out)
    report = json.loads(Path("report").read_bytes())
    assert report["left_out"] == [{"path": "m.atlas.json"}, {"path": "report"}]


def test_a_picture_replaces_no_file_of_the_manifest(folder: Path) -> None:
    Path("data/photo.png").write_bytes(b"a photo")
    Path("data/gone.png").write_bytes(b"a photo")
    assert run("witness", "--tree", "data", "-o", "data.atlas.json").returncode == HOLDS
    Path("data/gone.png").unlink()
    for name, reason in (
        ("photo.png", "is not a picture (png) that atlas12288 drew, and is not replaced"),
        ("gone.png", "is also read, and is not replaced"),
    ):
        done = run("verify", "--plot", f"data/{name}", "data.atlas.json")
        assert complaint(done) == f"Error: --plot data/{name}: {reason}"
    assert Path("data/photo.png").read_bytes() == b"a photo"
    assert not Path("data/gone.png").exists()


def test_what_is_printed_into_the_folder_is_no_part_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("data")
    with Path("SHA256SUMS").open("wb") as out:
        assert run("witness", "--format=sha256sum", ".", stdout=out).returncode == HOLDS
    assert Path("SHA256SUMS").read_bytes().count(b"\n") == len(FILES)
    assert run("check-sums", "SHA256SUMS").returncode == HOLDS
    with Path("m.atlas.json").open("wb") as out:
        done = run("witness", "--exclude=/SHA256SUMS", ".", stdout=out)
    assert (done.returncode, len(paths_of("m.atlas.json"))) == (HOLDS, len(FILES) + 1)
    with Path("report").open("wb") as out:
        assert run("verify", "m.atlas.json", ".", stdout=out).returncode == HOLDS
    assert run("verify", "m.atlas.json", ".").returncode == DOES_NOT_HOLD  # it is a file now
    Path("report").unlink()
    with Path("sub/y").open("wb") as out:  # one of the manifest counts, whatever is done to it
        done = run("verify", "m.atlas.json", ".", stdout=out)
    assert done.returncode == DOES_NOT_HOLD
    assert b"sub/y: changed, has 0 bytes, must have 3" in Path("sub/y").read_bytes()


def test_a_path_that_a_rule_excludes_is_left_out_and_that_is_said(folder: Path) -> None:
    Path("a.log").write_text("1")
    Path("b").write_text("2")
    done = run("witness", "--exclude=*.log", "a.log", "b", "data/sub", "-o", "x.atlas.json")
    assert done.returncode == HOLDS
    assert done.stderr.decode() == (
        "atlas12288: x.atlas.json: left out, because a rule excludes it: a.log\n"
    )
    assert paths_of("x.atlas.json") == ["b", "data/sub/deep/x", "data/sub/y"]


def test_sha256sum_accepts_the_list(folder: Path) -> None:
    done = run("witness", "--format=sha256sum", "data", "-o", "data/SHA256SUMS")
    assert done.returncode == HOLDS
    assert done.stderr == b"atlas12288: data: a symbolic link left out: sha256sum reads files\n"
    check = ("sha256sum", "--strict", "--check", "SHA256SUMS")
    checked = subprocess.run(check, cwd="data", capture_output=True, check=False)
    assert (checked.returncode, checked.stdout.count(b"OK")) == (0, len(FILES))
    lines = Path("data/SHA256SUMS").read_bytes()
    again = run("witness", "--format=sha256sum", "data", "-o", "data/SHA256SUMS")
    assert (again.returncode, Path("data/SHA256SUMS").read_bytes()) == (HOLDS, lines)
    Path("data/SHA256SUMS").unlink()
    assert run("witness", "--format=sha256sum", "data").stdout == lines
    assert run("check-sums", "-", input=lines).returncode == COULD_NOT_CHECK  # not in data
    assert run("check-sums", "-", input=lines, cwd=folder / "data").returncode == HOLDS


def test_a_url_is_a_folder_too(folder: Path) -> None:
    pytest.importorskip("fsspec")
    (folder / "data/link").unlink()  # fsspec shows where it leads, or nothing
    url = f"file://{folder}/data"
    assert run("witness", "--tree", url, "-o", "u.atlas.json").returncode == HOLDS
    assert run("witness", "--tree", "data", "-o", "p.atlas.json").returncode == HOLDS
    assert Path("u.atlas.json").read_bytes() == Path("p.atlas.json").read_bytes()
    assert run("verify", "p.atlas.json", url).returncode == HOLDS
    damage("data/big", 3)
    done = run("verify", "p.atlas.json", url)
    assert done.returncode == DOES_NOT_HOLD
    assert b"bytes [36864, 49152)  window 3" in done.stdout
    done = run("verify", "p.atlas.json", "nosuch://x")
    assert complaint(done).startswith("atlas12288: nosuch://x: ")


def test_a_dask_cluster_gives_the_same_bytes(folder: Path) -> None:
    distributed = pytest.importorskip("distributed")
    run("witness", "--tree", "data", "-o", "here.atlas.json")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        done = run("witness", f"--scheduler={address}", "--tree", "data", "-o", "there.atlas.json")
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    assert Path("there.atlas.json").read_bytes() == Path("here.atlas.json").read_bytes()
    assert Path("there.atlas.leaves").read_bytes() == Path("here.atlas.leaves").read_bytes()


# --- verify ---


def test_a_folder_that_holds(manifest: str) -> None:
    done = run("verify", manifest)
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    counts = "0 changed, 0 missing, 0 added, 0 unreadable"
    assert done.stdout.decode().splitlines() == [
        "data.atlas.json: compared with data",
        f"data: matches its manifest; 5 files, 1 link, 3.7 MB: {counts}",
    ]
    assert run("verify", "--quiet", manifest).stdout == b""


IN_FORCE = {
    Options(exclude=("*.tmp",)): "; 1 rule of the manifest in force",
    Options(exclude=("*.tmp", "/sub"), paths=("link",)): (
        "; 2 rules and 1 path of the manifest in force"
    ),
    Options(paths=("link", "sub/y")): "; 2 paths of the manifest in force",
    Options(symlinks="follow", links_below=("../other",)): ("; links below ../other were followed"),
    Options((DIGESTS[0],), "follow", ("*.tmp",), ("link", "x"), ("../a", "../b")): (
        "; 1 rule and 2 paths of the manifest in force; links below ../a, ../b were followed"
    ),
    Options(symlinks="error"): "",
}


@pytest.mark.parametrize("options", IN_FORCE)
def test_what_in_the_manifest_decides_the_verdict_is_said(folder: Path, options: Options) -> None:
    entries = [Entry(b"link", target=b"big")]
    for below in options.links_below:
        Path("data", below).mkdir()
    Path("m.atlas.json").write_bytes(b"".join(write_statement(options, entries)))
    last = run("verify", "m.atlas.json", "data").stdout.decode().splitlines()[-1]
    counts, _, in_force = last.partition(" unreadable")
    assert counts.startswith("data: ")
    assert in_force == IN_FORCE[options]
    document = json.loads(run("verify", "--json", "m.atlas.json", "data").stdout)
    for key in ("exclude", "paths", "links_below"):
        assert document[key] == list(getattr(options, key))
    assert document["symlinks"] == options.symlinks


def test_rules_put_into_a_manifest_are_refused_and_hide_nothing(manifest: str) -> None:
    Path("data/sub/evil.so").write_bytes(b"evil")
    text = Path(manifest).read_text()
    Path(manifest).write_text(text.replace('"exclude":[]', '"exclude":["*.so"]'))
    done = run("verify", manifest)
    assert done.returncode == COULD_NOT_CHECK
    assert ": root is '" in complaint(done)
    document = json.loads(run("verify", "--json", manifest).stdout)
    assert (document["holds"], document["exclude"]) == (None, None)


def test_every_difference_has_a_line_in_order_of_path(manifest: str) -> None:
    damage("data/big", 0)
    damage("data/big", 7)
    damage("data/big", 8)
    Path("data/empty").write_bytes(b"no more")
    Path("data/sub/y").unlink()
    Path("data/sub/new\x1b[31m").write_bytes(b"")
    done = run("verify", manifest, "data")
    assert done.returncode == DOES_NOT_HOLD
    assert done.stdout.decode().splitlines() == [
        "big: changed, differs in residue, sha256, sha256-merkle-12288",
        "  windows  3 of 301 differ:",
        "           bytes [0, 12288)  window 0",
        "           bytes [86016, 110592)  windows 7 to 8",
        "empty: changed, has 7 bytes, must have 0",
        "  windows  1 of 1 differ:",
        "           bytes [0, 7)  window 0",
        "sub/new\\x1b[31m: added",
        "sub/y: missing",
        "data: does not match its manifest; 5 files, 1 link, 3.7 MB: "
        "2 changed, 1 missing, 1 added, 0 unreadable",
    ]
    quiet = run("verify", "--quiet", manifest).stdout
    assert quiet.splitlines() == done.stdout.splitlines()[:-1]


def test_names_in_reasons_are_shown_as_names_are(manifest: str) -> None:
    Path("data/link").unlink()
    Path("data/link").symlink_to("bad\udcff\n")
    done = run("verify", manifest)
    assert b"link: changed, is a symbolic link to 'bad\\xff\\n', must be a" in done.stdout


def test_unreadable_files_win_over_changed_ones(manifest: str) -> None:
    damage("data/big", 1)
    Path("data/sub/y").unlink()
    os.mkfifo("data/sub/y")
    done = run("verify", manifest)
    assert done.returncode == COULD_NOT_CHECK
    assert complaint(done).startswith("atlas12288: sub/y: is a FIFO")
    assert b"big: changed" in done.stdout
    assert done.stdout.endswith(b"1 changed, 0 missing, 0 added, 1 unreadable\n")


def test_where_nothing_is_known_to_differ_and_not_all_was_read_there_is_no_verdict(
    manifest: str,
) -> None:
    Path("data/sub/y").unlink()
    os.mkfifo("data/sub/y")
    done = run("verify", manifest)
    assert done.returncode == COULD_NOT_CHECK
    assert b"\ndata: could not be checked; 5 files, 1 link, " in done.stdout
    done = run("verify", "--json", manifest)
    assert done.returncode == COULD_NOT_CHECK
    assert json.loads(done.stdout)["holds"] is None


def test_json_is_one_object_with_the_report(manifest: str) -> None:
    damage("data/big", 7)
    Path("data/bad\udcff\n").unlink()
    done = run("verify", "--json", manifest)
    assert done.returncode == DOES_NOT_HOLD
    report = json.loads(done.stdout)
    assert report["manifest"] == manifest
    assert (report["root"], report["holds"], report["error"]) == ("data", False, None)
    first, second = report["differences"]
    assert first["pathHex"] == b"bad\xff\n".hex()
    assert (first["kind"], second["kind"]) == ("missing", "changed")
    assert second["ranges"] == [{"start": 86016, "end": 98304}]
    Path(manifest).write_text("{" + '"_type": 1}')
    broken = json.loads(run("verify", "--json", manifest).stdout)
    assert broken["holds"] is None
    assert broken["error"].startswith("data.atlas.json: ")
    assert set(broken) == set(report)


def test_fail_fast_stops_at_the_first(manifest: str) -> None:
    damage("data/big", 7)
    Path("data/empty").unlink()
    Path("data/new").write_text("")
    done = run("verify", "--fail-fast", manifest)
    assert done.returncode == DOES_NOT_HOLD
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 3
    assert lines[-1].endswith("; the rest was not compared")


def test_fail_fast_tells_a_moved_file_as_missing_or_added(manifest: str) -> None:
    Path("data/big").rename("data/moved")
    assert b"big: moved to moved" in run("verify", manifest).stdout
    done = run("verify", "--fail-fast", manifest)
    assert done.returncode == DOES_NOT_HOLD
    first, last = done.stdout.decode().splitlines()[-2:]
    assert first in ("big: missing", "moved: added")
    assert "moved" not in last
    words = " ".join(run("verify", "--help").stdout.decode().split())
    assert "A moved file is then told as missing or added." in words


def test_fail_fast_does_not_read_on(folder: Path) -> None:
    found = json.loads(run("witness", "data").stdout)["predicate"]["files"]
    entries = [Entry.of_json(each, DIGESTS[:1]) for each in found]
    size = 8192 * GIB  # an hour to read
    entries.append(Entry(b"huge", size, 0, bytes(32)))
    entries.sort()
    Path("m.atlas.json").write_bytes(b"".join(write_statement(Options(), entries)))
    sparse_file(Path("data/huge"), size)
    Path("data/sub/y").write_text("yes")
    done = run("verify", "--fail-fast", "m.atlas.json", "data")
    assert done.returncode == DOES_NOT_HOLD
    assert b"sub/y: changed" in done.stdout


def test_ctrl_c_ends_it(manifest: str) -> None:
    text = Path(manifest).read_text().replace('"size":4', f'"size":{64 * GIB}')
    entries = [Entry.of_json(each, DIGESTS) for each in json.loads(text)["predicate"]["files"]]
    options = Options(digests=DIGESTS)
    Path(manifest).write_bytes(b"".join(write_statement(options, entries)))
    Path("data.atlas.leaves").unlink()
    sparse_file(Path("data/sub/deep/x"), 64 * GIB)
    process = start("verify", manifest)
    wait_until_read(process, 2**26)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == INTERRUPTED
    assert b"Traceback" not in err


def test_extra_files_are_allowed_where_one_says_so(manifest: str) -> None:
    Path("data/new").write_text("")
    assert run("verify", manifest).returncode == DOES_NOT_HOLD
    done = run("verify", "--allow-extra", manifest)
    assert done.returncode == HOLDS
    assert done.stdout.endswith(b"0 changed, 0 missing, 1 added, 0 unreadable\n")


def test_a_later_ignore_file_hides_nothing(manifest: str) -> None:
    Path("data/.atlasignore").write_text("*\n")
    Path("data/evil").write_text("")
    done = run("verify", manifest)
    assert b".atlasignore: added\n" in done.stdout
    assert b"evil: added\n" in done.stdout


def test_which_folder_is_compared(manifest: str, folder: Path) -> None:
    (folder / "copy").mkdir()
    Path(manifest).rename("copy/data.atlas.json")
    Path("data.atlas.leaves").rename("copy/data.atlas.leaves")
    Path("data").rename("copy/data")
    done = run("verify", "copy/data.atlas.json")
    assert done.stdout.startswith(b"copy/data.atlas.json: compared with copy/data\n")
    assert done.returncode == HOLDS
    Path("copy/data").rename("copy2")
    for path in Path("copy2").iterdir():
        path.rename(Path("copy") / path.name)
    done = run("verify", "copy/data.atlas.json")
    assert done.stdout.startswith(b"copy/data.atlas.json: compared with copy\n")
    assert done.returncode == HOLDS
    text = Path("copy/data.atlas.json").read_bytes()
    assert run("verify", "-", "copy", "--allow-extra", input=text).returncode == HOLDS
    assert run("verify", "-", "copy", input=text).returncode == DOES_NOT_HOLD
    assert "ROOT is needed" in complaint(run("verify", "-", input=text))


def test_a_manifest_is_known_by_its_content_in_any_form(manifest: str) -> None:
    loose = json.dumps(json.loads(Path(manifest).read_text()), indent=2, sort_keys=False)
    Path("any name").write_text("\n" + loose)
    assert run("verify", "any name", "data").returncode == HOLDS


def test_with_the_folder_gone_nothing_else_is_compared(manifest: str) -> None:
    Path("data").rename("elsewhere")
    done = run("verify", manifest)
    assert complaint(done) == (
        "atlas12288: data.atlas.json: is not of a folder here: there is no folder data, and "
        "none of its files is in the folder . around it; name the folder as ROOT"
    )
    assert done.stdout == b""
    report = json.loads(run("verify", "--json", manifest).stdout)
    assert (report["holds"], report["root"]) == (None, None)
    assert "there is no folder data" in report["error"]
    assert run("verify", manifest, "elsewhere").returncode == HOLDS


def test_a_manifest_without_a_name_before_its_ending(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("data")
    assert run("witness", "--tree", ".", "-o", ".atlas.json").returncode == HOLDS
    done = run("verify", ".atlas.json")
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    assert done.stdout.startswith(b".atlas.json: compared with .\n")
    done = run("verify", "../data/.atlas.json")
    assert done.stdout.startswith(b"../data/.atlas.json: compared with ../data\n")


@pytest.mark.parametrize("text", ["", "\ufeff", "{}", "[]"])
def test_what_is_no_manifest_is_not_blamed_on_the_folder(manifest: str, text: str) -> None:
    good = Path(manifest).read_text()
    Path(manifest).write_text(text + good if text == "\ufeff" else text)
    for root in ((), ("data",)):
        done = run("verify", manifest, *root)
        assert complaint(done).startswith("atlas12288: data.atlas.json: ")
        assert json.loads(run("verify", "--json", manifest, *root).stdout)["holds"] is None


def test_a_witness_that_cannot_be_read_is_said_in_json_too(folder: Path) -> None:
    for root in ((), ("data",)):
        done = run("verify", "--json", "none.atlas.json", *root)
        assert done.returncode == COULD_NOT_CHECK
        report = json.loads(done.stdout)
        assert report["error"] == "none.atlas.json: No such file or directory"
        assert (report["manifest"], report["holds"]) == ("none.atlas.json", None)
    Path("w.json").write_text("nonsense")
    for name, reason in (("none.json", "No such file"), ("w.json", "has 1 witnesses for 2 files")):
        done = run("verify", "--json", name, "data/big", "data/sub/y")
        assert done.returncode == COULD_NOT_CHECK
        items = files_in(done.stdout)
        assert [item["file"] for item in items] == ["data/big", "data/sub/y"]
        assert all(item["error"].startswith(f"{name}: {reason}") for item in items)
        assert {item["holds"] for item in items} == {None}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"size":4', '"size":5', "the root over options and files"),
        ('"path":"big"', '"path":"../big"', "must be relative"),
        ('"path":"big"', '"path":"/big"', "must be relative"),
        ('"symlinks":"record"', '"symlinks":"maybe"', "symlinks is 'maybe'"),
        ("]}", "", "must be JSON"),
    ],
)
def test_a_manifest_that_is_none_is_refused(manifest: str, old: str, new: str, reason: str) -> None:
    text = Path(manifest).read_text()
    assert old in text
    Path(manifest).write_text(text.replace(old, new))
    done = run("verify", manifest)
    assert complaint(done).startswith("atlas12288: data.atlas.json: ")
    assert reason in complaint(done)
    assert done.stdout == b""


def test_a_root_that_is_none(manifest: str) -> None:
    for root, reason in (("missing", "No such file or directory"), (manifest, "is not a folder")):
        done = run("verify", manifest, root)
        assert complaint(done) == f"atlas12288: {root}: {reason}"
        assert done.stdout == b""


def test_without_leaves_it_is_not_known_where(manifest: str) -> None:
    Path("data.atlas.leaves").unlink()
    damage("data/big", 7)
    done = run("verify", manifest, "data")
    assert done.returncode == DOES_NOT_HOLD
    assert len(done.stdout.splitlines()) == 2


def test_leaves_elsewhere(manifest: str) -> None:
    Path("data.atlas.leaves").rename("elsewhere")
    damage("data/big", 7)
    done = run("verify", "--leaves", "elsewhere", manifest)
    assert b"window 7\n" in done.stdout


def test_damaged_leaves_are_an_error_and_the_verdict_still_stands(manifest: str) -> None:
    damage("data/big", 7)
    data = bytearray(Path("data.atlas.leaves").read_bytes())
    data[50] ^= 1
    for spoiled in bytes(data), bytes(data[:-1]):
        Path("data.atlas.leaves").write_bytes(spoiled)
        done = run("verify", manifest)
        assert "damaged" in complaint(done)
        assert complaint(done).startswith("atlas12288: data.atlas.leaves: ")
        assert b"big: changed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("data.atlas.json", "data", "data"), "one ROOT is compared, not 2"),
        (("--quiet", "--json", "data.atlas.json"), "not with --quiet"),
        (("--leaves=x", "flat.json", "data"), "the manifest has no tree roots"),
        (("--plot=x.png", "flat.json", "data"), "--plot needs a manifest with leaves"),
        (("--plot", "data.atlas.json"), "needs a terminal"),
        (("--plot=link.png", "data.atlas.json"), "is a symbolic link to data.atlas.leaves, and"),
        (("--fail-fast", "w", "data/big"), "--fail-fast is for manifests"),
        (("--allow-extra", "w", "data/big"), "--allow-extra is for manifests"),
        (("w",), "FILE is needed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_of_the_other_kind_are_refused(
    manifest: str, arguments: tuple[str, ...], reason: str
) -> None:
    Path("w").write_bytes(run("witness", "data/big").stdout)
    Path("flat.json").write_bytes(run("witness", "data").stdout)
    Path("link.png").symlink_to("data.atlas.leaves")
    done = run("verify", *arguments)
    assert done.returncode == COULD_NOT_CHECK
    assert reason in done.stderr.decode()
    assert done.stderr.count(b"Error: ") == 1
    assert done.stdout == b""


def test_quiet_is_for_witness_files_too(manifest: str) -> None:
    Path("w").write_bytes(run("witness", "data/big", "data/sub/y").stdout)
    assert run("verify", "--quiet", "w", "data/big", "data/sub/y").stdout == b""
    damage("data/big", 1)
    done = run("verify", "--quiet", "w", "data/big", "data/sub/y")
    assert done.stdout.startswith(b"data/big: does not match its witness\n")
    assert b"sub" not in done.stdout


def test_other_commands_say_that_it_is_a_manifest(manifest: str) -> None:
    for arguments in (
        ("locate", manifest, "data/big"),
        ("prove", "--window=0", "--witness", manifest),
    ):
        assert complaint(run(*arguments)) == (
            "atlas12288: data.atlas.json: is a manifest, and WITNESS must be a witness file: "
            "atlas12288 verify data.atlas.json compares it with its folder"
        )


# --- Pictures, progress, memory ---


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (3_200_000_000, "3.2 GB"),
        (10**19, "10000.0 PB"),
    ],
)
def test_amounts_for_people(count: int, text: str) -> None:
    assert amount(count) == text


def test_a_picture_of_the_damage(manifest: str) -> None:
    assert run("verify", "--plot", "none.png", manifest).returncode == HOLDS
    damage("data/big", 7)
    damage("data/sub/y", 0)
    Path("data/new").write_text("")
    Path("data/empty").unlink()
    for name, start_bytes in (("map.png", b"\x89PNG"), ("map.svg", b"<?xml")):
        done = run("verify", "--plot", name, manifest)
        assert (done.returncode, done.stderr) == (DOES_NOT_HOLD, b"")
        assert Path(name).read_bytes().startswith(start_bytes)
    assert Path("none.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_picture_has_the_first_files_by_path(folder: Path) -> None:
    Path("many").mkdir()
    for index in range(40):
        Path(f"many/{index:02}").write_bytes(noise(3 * WINDOW_BYTES, index))
    run("witness", "--tree", "many", "-o", "many.atlas.json")
    for index in range(39, -1, -1):
        damage(f"many/{index:02}", index % 3)
    done = run("verify", "--plot", "map.svg", "many.atlas.json")
    assert (done.returncode, done.stderr) == (DOES_NOT_HOLD, b"")
    text = Path("map.svg").read_text()
    assert text.count("<!-- 3") > 0
    assert "<!-- changed: 32 -->" in text
    assert "<!-- changed: 31 -->" not in text


def test_a_sketch_on_a_terminal(manifest: str) -> None:
    damage("data/big", 3)
    code, text, _ = run_on_terminal("verify", "--plot", manifest)
    assert code == DOES_NOT_HOLD
    (row, *_) = [line for line in without_colour(text).splitlines() if "|" in line]
    assert row.split("|")[1].startswith("···X··")
    assert "\x1b[31mX" in text
    assert "big: \x1b[31mchanged\x1b[0m" in text


def test_progress_is_one_bar_for_the_whole(folder: Path) -> None:
    for name in "ab":
        sparse_file(Path("data", name), GIB // 16)
    options: dict[str, Any] = {"streams": ("stderr",), "before": BAR_AT_ONCE}
    code, terminal, done = run_on_terminal("witness", "data", "-o", "m.json", **options)
    assert code == HOLDS
    assert "/s" in terminal
    assert "137.9 MB" in terminal  # of both, and what else is there
    code, terminal, done = run_on_terminal("verify", "m.json", "data", **options)
    assert code == HOLDS
    assert "137.9 MB" in terminal
    assert b"matches" in done.stdout


def test_files_are_counted_while_a_folder_is_listed() -> None:
    code = (
        "import sys, time\n"
        "from atlas12288._cli.console import Printer\n"
        "with Printer('check', False, None) as report:\n"
        "    report.listed(100)\n"
        "    time.sleep(1.1)\n"
        "    report.listed(1234)\n"
        "    time.sleep(0.3)\n"
        "    report.expect(10)\n"
        "    report.advance(5)\n"
        "    time.sleep(0.3)\n"
    )
    import pty

    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
    process = subprocess.Popen((sys.executable, "-c", code), stderr=slave, env=environment)
    os.close(slave)
    text = b""
    try:
        while part := os.read(master, 65536):
            text += part
    except OSError:
        pass
    assert process.wait(TIMEOUT_S) == 0
    os.close(master)
    shown = without_colour(text.decode())
    assert "1,234 files found" in shown
    assert "5/10 bytes" in shown


@pytest.mark.slow
def test_memory_does_not_grow_with_the_size_of_files(folder: Path) -> None:
    sparse_file(Path("data/huge"), GIB // 4)
    base = peak_kib()
    assert peak_kib("witness", "--tree", "data", "-o", "m.atlas.json") - base <= 64 * 1024
    with Path("data/huge").open("r+b") as file:
        for window in range(0, 10_000, 2):
            file.seek(window * WINDOW_BYTES)
            file.write(b"x")
    assert peak_kib("verify", "m.atlas.json", "data") - base <= 64 * 1024
    report = json.loads(run("verify", "--json", "m.atlas.json", "data").stdout)
    assert report["differences"][0]["counts"]["ranges"] == 5000
    assert len(report["differences"][0]["ranges"]) == 1000


# --- Said before anything else ---


@pytest.mark.parametrize("path", ["/no/such/folder", "nothing", "no\nthing"])
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_path_that_is_not_there_is_said_to_be_that(
    tmp_path: Path, path: str, options: tuple[str, ...]
) -> None:
    done = run("witness", path, tmp_path, "-o", "n.atlas.json", *options, cwd=tmp_path)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.decode() == f"atlas12288: {shown(path)}: No such file or directory\n"
    if options:
        assert json.loads(done.stdout)["error"] == "No such file or directory"


def test_a_root_that_has_nothing_in_common_with_the_manifest_is_questioned(tmp_path: Path) -> None:
    for name in ("data/sub/a", "data/sub/b"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert run("witness", "data", "-o", "data.atlas.json", cwd=tmp_path).returncode == HOLDS
    hint = b"data.atlas.json: none of its 2 paths is in data/sub: is that the folder that was"
    for root in ("data/sub", "empty"):
        (tmp_path / root).mkdir(exist_ok=True)
        done = run("verify", "data.atlas.json", root, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b"")
        assert done.stderr.startswith(b"atlas12288: " + hint.replace(b"data/sub", root.encode()))
        assert done.stderr.count(b"\n") == 1
        report = json.loads(run("verify", "--json", "data.atlas.json", root, cwd=tmp_path).stdout)
        assert (report["holds"], report["differences"]) == (None, None)
        assert report["error"] in done.stderr.decode()
    (tmp_path / "data/sub/b").unlink()
    assert run("verify", "data.atlas.json", cwd=tmp_path).stderr == b""


def test_leaves_that_are_missed_are_named_where_a_file_changed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "x").write_bytes(b"before")
    assert run("witness", "--tree", "data", "-o", "m.atlas.json", cwd=tmp_path).returncode == HOLDS
    (tmp_path / "m.atlas.leaves").rename(tmp_path / "elsewhere")
    assert run("verify", "m.atlas.json", "data", cwd=tmp_path).stderr == b""
    (data / "x").write_bytes(b"behind")
    done = run("verify", "m.atlas.json", "data", cwd=tmp_path)
    assert done.returncode == DOES_NOT_HOLD
    assert done.stderr == (
        b"atlas12288: m.atlas.json: which bytes changed is not known without its leaves "
        b"m.atlas.leaves, which are not there\n"
    )
    found = run("verify", "--leaves", "elsewhere", "m.atlas.json", "data", cwd=tmp_path)
    assert (found.returncode, found.stderr) == (DOES_NOT_HOLD, b"")
