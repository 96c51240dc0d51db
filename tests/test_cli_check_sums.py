# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 check-sums`, against GNU `sha256sum -c`."""

import os
import pty
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas12288._files import CHUNK_BYTES
from support import gnu, strategies
from support.commandline import (
    BAR_AT_ONCE,
    COULD_NOT_CHECK,
    DOES_NOT_HOLD,
    HOLDS,
    INTERRUPTED,
    PROGRAM,
    TIMEOUT_S,
    bash,
    before_read,
    file_in,
    files_in,
    peak_kib,
    run,
    run_on_terminal,
    run_without_rights,
    sparse_file,
    start,
    wait_until_read,
    without_colour,
)
from support.files import REFUSED
from support.tools import needs

GIB = 2**30
KEYS = ["file", "list", "line", "sha256", "found", "holds", "error"]
MALFORMED = "improperly formatted SHA256 checksum line"

GOOD = f"{gnu.digest_of(b'plain')}  plain\n"
WRONG = f"{gnu.digest_of(b'other')}  1\n"
MISSING = f"{gnu.digest_of(b'missing')}  missing\n"
BAD = "no sum\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of gnu.NAMES, and LIST, which each test writes anew."""
    folder = tmp_path_factory.mktemp("sums")
    gnu.make_files(folder)
    return folder


def verdicts_of(output: bytes) -> list[tuple[bytes, str]]:
    """The names and verdicts of text: unlike that of older versions of GNU it has one meaning."""
    verdicts = []
    for line in output.splitlines(keepends=True):
        name, _, verdict = line.removesuffix(b"\n").rpartition(b": ")
        if name.startswith(b"\\"):
            name = name[1:].replace(rb"\\", b"\0").replace(rb"\n", b"\n").replace(rb"\r", b"\r")
            name = name.replace(b"\0", b"\\")
        verdicts.append((name, verdict.decode()))
    return verdicts


# --- beside GNU ---


@gnu.needed
@given(
    strategies.sum_lists(),
    st.lists(st.sampled_from(("--strict", "--ignore-missing")), unique=True),
    st.sampled_from(((), ("--quiet",), ("--status",), ("--warn",))),
    st.sampled_from(((), ("--threads", "1"), ("--threads", "3"))),
)
def test_the_same_verdicts_and_zero_where_gnu_has_zero(
    folder: Path,
    sums: bytes,
    rules: list[str],
    output: tuple[str, ...],
    threads: tuple[str, ...],
) -> None:
    (folder / "LIST").write_bytes(sums)
    theirs = gnu.sha256sum("-c", *rules, *output, "LIST", cwd=folder)
    ours = run("check-sums", *rules, *output, *threads, "LIST", cwd=folder)
    assert gnu.says(theirs.stdout, verdicts_of(ours.stdout))
    assert (ours.returncode == HOLDS) == (theirs.returncode == 0)
    assert b"Traceback" not in ours.stderr


def test_what_sum_writes_holds_for_names_of_any_bytes(folder: Path) -> None:
    sums = run("sum", "--", *gnu.NAMES, cwd=folder).stdout
    done = run("check-sums", "-", input=sums, cwd=folder)
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    assert verdicts_of(done.stdout) == [(name, "OK") for name in gnu.NAMES]


@gnu.needed
@pytest.mark.parametrize("option", ["--tag", "--binary"])
def test_other_forms_that_gnu_writes_are_read(folder: Path, option: str) -> None:
    sums = gnu.sha256sum(option, "--", *gnu.NAMES, cwd=folder).stdout
    done = run("check-sums", "-", input=sums, cwd=folder)
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    assert verdicts_of(done.stdout) == [(name, "OK") for name in gnu.NAMES]


@gnu.needed
def test_a_list_of_zero_is_refused_where_gnu_checks_its_first_file_alone(folder: Path) -> None:
    sums = gnu.sha256sum("--zero", "plain", "1", cwd=folder).stdout.replace(b"6", b"7")
    done = run("check-sums", "-", input=sums, cwd=folder)
    assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b"")


# --- exit codes ---


@pytest.mark.parametrize(
    ("sums", "options", "code"),
    [
        (GOOD, "", HOLDS),
        (GOOD + WRONG, "", DOES_NOT_HOLD),
        (GOOD + MISSING, "", COULD_NOT_CHECK),
        (WRONG + MISSING, "", COULD_NOT_CHECK),
        (GOOD + BAD, "", HOLDS),
        (GOOD + BAD, "--warn", HOLDS),
        (GOOD + BAD, "--strict", COULD_NOT_CHECK),
        (GOOD + BAD, "--strict --status", COULD_NOT_CHECK),
        (WRONG + BAD, "", DOES_NOT_HOLD),
        (BAD, "", COULD_NOT_CHECK),
        ("", "", COULD_NOT_CHECK),
        ("# nothing\n\n", "", COULD_NOT_CHECK),
        (GOOD + MISSING, "--ignore-missing", HOLDS),
        (WRONG + MISSING, "--ignore-missing", DOES_NOT_HOLD),
        (MISSING, "--ignore-missing", COULD_NOT_CHECK),
        (GOOD[:-8], "", COULD_NOT_CHECK),  # cut off in the name: the file has another name
        (GOOD + WRONG[:30], "", HOLDS),  # cut off in the digest: as any line that is no sum
        (GOOD + WRONG[:30], "--strict", COULD_NOT_CHECK),
    ],
)
def test_exit_codes(folder: Path, sums: str, options: str, code: int) -> None:
    for form in ((), ("--json",)) if "--status" not in options else ((),):
        done = run("check-sums", *options.split(), *form, "-", input=sums.encode(), cwd=folder)
        assert done.returncode == code


def test_each_list_must_have_a_sum_and_a_file(folder: Path) -> None:
    (folder / "LIST").write_text(GOOD)
    done = run("check-sums", "LIST", "-", input=BAD.encode(), cwd=folder)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stdout == b"plain: OK\n"
    assert done.stderr == b"atlas12288: -: no properly formatted SHA256 checksum lines found\n"
    done = run("check-sums", "--ignore-missing", "LIST", "-", input=MISSING.encode(), cwd=folder)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr == b"atlas12288: -: no file was verified\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--threads", "0", "-"), b"not in the range"),
        (("--json", "--quiet", "-"), b"--json prints every verdict"),
        (("--json", "--status", "-"), b"--json prints every verdict"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], words: bytes) -> None:
    done = run("check-sums", *arguments)
    assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b"")
    assert words in done.stderr


# --- what is printed ---


def test_verdicts_errors_and_the_sums_of_them(folder: Path) -> None:
    sums = GOOD + WRONG + MISSING + BAD + BAD + MISSING
    done = run("check-sums", "--warn", "-", input=sums.encode(), cwd=folder)
    assert done.stdout.decode().splitlines() == [
        "plain: OK",
        "1: FAILED",
        "missing: FAILED open or read",
        "missing: FAILED open or read",
    ]
    assert done.stderr.decode().splitlines() == [
        "atlas12288: missing: No such file or directory",
        f"atlas12288: -: 4: {MALFORMED}",
        f"atlas12288: -: 5: {MALFORMED}",
        "atlas12288: missing: No such file or directory",
        "atlas12288: -: WARNING: 2 lines are improperly formatted",
        "atlas12288: -: WARNING: 2 listed files could not be read",
        "atlas12288: -: WARNING: 1 computed checksum did NOT match",
    ]


def test_quiet_prints_what_does_not_match(folder: Path) -> None:
    sums = (GOOD + WRONG + BAD).encode()
    done = run("check-sums", "--quiet", "-", input=sums, cwd=folder)
    assert done.stdout == b"1: FAILED\n"
    assert done.stderr.count(b"WARNING") == 2


def test_status_prints_errors_alone(folder: Path) -> None:
    sums = (GOOD + WRONG + BAD).encode()
    done = run("check-sums", "--status", "--warn", "-", input=sums, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (DOES_NOT_HOLD, b"", b"")
    done = run("check-sums", "--status", "-", input=MISSING.encode(), cwd=folder)
    assert done.returncode == COULD_NOT_CHECK
    assert (done.stdout, done.stderr) == (
        b"",
        b"atlas12288: missing: No such file or directory\n",
    )


def test_json_has_an_element_for_each_line_and_each_failed_list(folder: Path) -> None:
    sums = "# comment\n" + GOOD + WRONG + MISSING + BAD
    done = run("check-sums", "--json", "-", "nolist", input=sums.encode(), cwd=folder)
    assert done.returncode == COULD_NOT_CHECK
    items = files_in(done.stdout)
    assert all(list(item) == KEYS for item in items)
    plain, one, other, missing = map(gnu.digest_of, (b"plain", b"1", b"other", b"missing"))
    enoent = "No such file or directory"
    assert [tuple(item.values()) for item in items] == [
        ("plain", "-", 2, plain, plain, True, None),
        ("1", "-", 3, other, one, False, None),
        ("missing", "-", 4, missing, None, None, enoent),
        (None, "-", 5, None, None, None, MALFORMED),
        (None, "nolist", None, None, None, None, enoent),
    ]


def test_json_names_are_of_any_bytes(folder: Path) -> None:
    sums = run("sum", "--", *gnu.NAMES, cwd=folder).stdout
    items = files_in(run("check-sums", "--json", "-", input=sums, cwd=folder).stdout)
    assert [file_in(item) for item in items] == list(gnu.NAMES)


def test_json_of_missing_files_that_are_ignored(folder: Path) -> None:
    sums = (MISSING + GOOD).encode()
    options = ("--json", "--ignore-missing")
    (item,) = files_in(run("check-sums", *options, "-", input=sums, cwd=folder).stdout)
    assert (item["line"], item["holds"]) == (2, True)
    (item,) = files_in(run("check-sums", *options, "-", input=MISSING.encode(), cwd=folder).stdout)
    assert (item["line"], item["error"]) == (None, "no file was verified")


def test_a_terminal_gets_colours_and_no_control_characters_of_a_list(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "LIST").write_text(GOOD + WRONG + f"{gnu.digest_of(b'x')}  \x1b[2J\n")
    monkeypatch.chdir(folder)
    code, text, done = run_on_terminal("check-sums", "LIST", streams=("stdout",))
    assert code == COULD_NOT_CHECK
    assert "\x1b[2J" not in text
    assert b"\x1b" not in done.stderr
    assert "plain: \x1b[32mOK" in text
    assert "1: \x1b[31mFAILED" in text
    assert without_colour(text).splitlines() == [
        "plain: OK",
        "1: FAILED",
        "\\x1b[2J: FAILED open or read",
    ]


# --- order, memory, progress, Ctrl-C ---


@pytest.mark.parametrize("threads", ["1", "2", "7"])
def test_verdicts_come_in_the_order_of_the_list(tmp_path: Path, threads: str) -> None:
    lines = []
    for index in range(300):
        path = tmp_path / f"{index}"
        path.write_bytes(bytes(index % 7 * 50_000))
        digest = gnu.digest_of(path.read_bytes() + b"!" * (index % 5 == 0))
        lines.append(f"{digest}  {index}\n")
    sums = "".join(lines).encode()
    done = run("check-sums", "--threads", threads, "-", input=sums, cwd=tmp_path)
    assert done.stdout.decode().splitlines() == [
        f"{index}: {'OK' if index % 5 else 'FAILED'}" for index in range(300)
    ]


def test_small_files_are_checked_while_a_large_one_is_read(folder: Path) -> None:
    (folder / "LIST").write_text(GOOD + GOOD.replace("plain", "./plain") * 10_000 + WRONG)
    # The first file is not done before the last one is.
    code = (
        "import sys, threading\n"
        "from atlas12288 import _many_files\n"
        "find, done = _many_files.witness_files, threading.Event()\n"
        "def ordered(paths, *more, **options):\n"
        "    if '1' in paths:\n"
        "        done.set()\n"
        f"    if 'plain' in paths and not done.wait({TIMEOUT_S}):\n"
        "        sys.exit('it waits for itself')\n"
        "    return find(paths, *more, **options)\n"
        "_many_files.witness_files = ordered\n"
    )
    done = run("check-sums", "--threads", "2", "LIST", cwd=folder, before=code)
    assert done.returncode == DOES_NOT_HOLD
    assert done.stdout.count(b": OK\n") == 10_001
    assert done.stdout.startswith(b"plain: OK\n")
    assert done.stdout.endswith(b"\n1: FAILED\n")


@pytest.mark.slow
def test_memory_is_constant(folder: Path, tmp_path: Path) -> None:
    sparse_file(tmp_path / "big", GIB // 4)
    big = run("sum", tmp_path / "big").stdout.decode()
    plain = f"{gnu.digest_of(b'plain')}  {folder / 'plain'}\n"
    (tmp_path / "LIST").write_text(big + plain * 50_000 + big)
    used = peak_kib("check-sums", "--threads", "8", str(tmp_path / "LIST")) - peak_kib()
    assert used <= 64 * 1024


def test_memory_is_constant_for_a_list_without_lines(tmp_path: Path) -> None:
    sums = sparse_file(tmp_path / "LIST", GIB // 4)
    assert peak_kib("check-sums", "--warn", str(sums)) - peak_kib() <= 64 * 1024


@pytest.mark.parametrize("threads", ["1", "2"])
def test_ctrl_c_ends_the_reading_of_large_files(tmp_path: Path, threads: str) -> None:
    for name in ("big", "large"):
        sparse_file(tmp_path / name, 1024 * GIB)
    digest = gnu.digest_of(b"")
    (tmp_path / "LIST").write_text(f"{digest}  big\n{digest}  large\n")
    process = start("check-sums", "--threads", threads, "LIST", cwd=tmp_path)
    wait_until_read(process, 2**26)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (INTERRUPTED, b"")
    assert b"Traceback" not in err


def test_the_bar_knows_how_much_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse_file(tmp_path / "big", GIB // 16)
    (tmp_path / "LIST").write_text(f"{gnu.digest_of(b'')}  big\n" * 2)
    monkeypatch.chdir(tmp_path)
    arguments = ("check-sums", "--threads", "1", "--status", "LIST")
    code, text, done = run_on_terminal(*arguments, streams=("stderr",), before=BAR_AT_ONCE)
    assert code == DOES_NOT_HOLD
    assert "/134.2 MB" in without_colour(text)
    assert done.stdout == b""


# --- when the outside world misbehaves ---


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        # GNU waits for a writer of a FIFO, and reads /dev/zero for ever.
        *((kind, reason) for kind, (_, reason) in REFUSED.items()),
        ("nofolder", "Not a directory"),
        ("long", "File name too long"),
    ],
)
@pytest.mark.parametrize("place", ["list", "listed"])
def test_what_cannot_be_read_is_named_and_the_rest_done(
    folder: Path, tmp_path: Path, kind: str, reason: str, place: str
) -> None:
    bad = tmp_path / "bad"
    if kind == "nofolder":
        bad = folder / "plain" / "x"
    elif kind == "long":
        bad = tmp_path / ("x" * 300)
    else:
        make, _ = REFUSED[kind]
        make(bad)
    good = f"{gnu.digest_of(b'plain')}  plain\n"
    if place == "list":
        done = run("check-sums", bad, "-", input=good.encode(), cwd=folder)
        assert done.stdout == b"plain: OK\n"
    else:
        sums = f"{gnu.digest_of(b'')}  {bad}\n{good}"
        done = run("check-sums", "-", input=sums.encode(), cwd=folder)
        assert done.stdout.decode() == f"{bad}: FAILED open or read\nplain: OK\n"
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.decode().startswith(f"atlas12288: {bad}: {reason}")
    # Only what is not there is passed over.
    if place == "listed":
        done = run("check-sums", "--ignore-missing", "-", input=sums.encode(), cwd=folder)
        assert done.returncode == (HOLDS if kind == "missing" else COULD_NOT_CHECK)


def test_a_file_without_permission(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    for name, mode in (("secret", 0), ("open", 0o644)):
        (folder / name).write_bytes(b"plain")
        (folder / name).chmod(mode)
    digest = gnu.digest_of(b"plain")
    (folder / "LIST").write_text(f"{digest}  secret\n{digest}  open\n")
    (folder / "LIST").chmod(0o644)
    done = run_without_rights(
        folder, ("check-sums", "--status", "LIST"), "check-sums", "LIST", "secret"
    )
    assert done.returncode == COULD_NOT_CHECK
    assert done.stdout == b"secret: FAILED open or read\nopen: OK\n"
    assert done.stderr.count(b"atlas12288: secret: Permission denied\n") >= 2


@pytest.mark.parametrize("change", ["vanishes", "shrinks", "grows"])
def test_a_file_that_changes_while_it_is_read(folder: Path, tmp_path: Path, change: str) -> None:
    big = sparse_file(tmp_path / "big", 4 * CHUNK_BYTES)
    (tmp_path / "LIST").write_text(f"{gnu.digest_of(b'')}  {big}\n{GOOD}")
    size = CHUNK_BYTES if change == "shrinks" else 4 * CHUNK_BYTES + 1
    line = (
        f"os.unlink({str(big)!r})" if change == "vanishes" else f"os.truncate({str(big)!r}, {size})"
    )
    done = run("check-sums", tmp_path / "LIST", cwd=folder, before=before_read(3, line))
    if change == "vanishes":  # the name only: what was opened is read to its end
        assert done.returncode == DOES_NOT_HOLD
        assert done.stdout.decode() == f"{big}: FAILED\nplain: OK\n"
    else:
        assert done.returncode == COULD_NOT_CHECK
        assert done.stdout.decode() == f"{big}: FAILED open or read\nplain: OK\n"
        assert done.stderr.decode().startswith(f"atlas12288: {big}: changed while it was read")


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_list_that_changes_while_it_is_read_is_an_error(folder: Path, threads: str) -> None:
    code = (
        "import os\n"
        "from atlas12288 import _many_files\n"
        "find = _many_files.witness_files\n"
        "def cut(*arguments, **options):\n"
        "    os.truncate('LIST', 1000)\n"
        "    return find(*arguments, **options)\n"
        "_many_files.witness_files = cut\n"
    )
    (folder / "LIST").write_text(GOOD * 10_000)
    done = run("check-sums", "--threads", threads, "LIST", cwd=folder, before=code)
    assert done.returncode == COULD_NOT_CHECK
    assert set(done.stdout.splitlines()) == {b"plain: OK"}
    assert done.stderr.startswith(b"atlas12288: LIST: changed while it was read")


@pytest.mark.parametrize(
    "data",
    [strategies.noise(2**20), GOOD.encode("utf-16"), b"\0" * 2**20, b"{}\n", b"\x1b[2J\n"],
    ids=["noise", "utf-16", "zeros", "json", "escape"],
)
def test_a_file_that_is_no_list(folder: Path, data: bytes) -> None:
    done = run("check-sums", "-", input=data, cwd=folder)
    assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b"")
    assert done.stderr == b"atlas12288: -: no properly formatted SHA256 checksum lines found\n"


def test_standard_input_as_a_listed_file(folder: Path) -> None:
    (folder / "LIST").write_text(f"{gnu.digest_of(b'data')}  -\n{GOOD}{gnu.digest_of(b'')}  -\n")
    done = run("check-sums", "LIST", input=b"data", cwd=folder)
    assert (done.returncode, done.stdout) == (HOLDS, b"-: OK\nplain: OK\n-: OK\n")
    # As a list and in it at once it is refused, as by GNU.
    sums = (GOOD + f"{gnu.digest_of(b'')}  -\n").encode()
    done = run("check-sums", "--warn", "-", input=sums, cwd=folder)
    assert done.stdout == b"plain: OK\n"
    assert f"-: 2: {MALFORMED}".encode() in done.stderr


def test_closed_standard_streams(folder: Path) -> None:
    (folder / "LIST").write_text(GOOD)

    def shell(redirection: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ("sh", "-c", f'exec "$0" -m atlas12288 check-sums LIST - {redirection}', PROGRAM[0]),
            cwd=folder,
            input=GOOD.encode(),
            capture_output=True,
            check=False,
        )

    assert shell("").returncode == HOLDS
    assert shell("2>&-").returncode == HOLDS
    done = shell(">&-")
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr == b"atlas12288: standard output: is closed\n"
    done = shell("<&-")
    assert (done.returncode, done.stdout) == (COULD_NOT_CHECK, b"plain: OK\n")
    assert done.stderr == b"atlas12288: -: standard input is closed\n"


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_closed_reader_of_the_output_ends_the_work(tmp_path: Path, threads: str) -> None:
    (tmp_path / "empty").write_bytes(b"")
    sparse_file(tmp_path / "big", 1024 * GIB)
    digest = gnu.digest_of(b"")
    (tmp_path / "LIST").write_text(f"{digest}  empty\n" * 20_000 + f"{digest}  big\n" * 2)
    process = start("check-sums", "--threads", threads, "LIST", cwd=tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"empty: OK\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(TIMEOUT_S) == COULD_NOT_CHECK


def test_a_full_disk_behind_the_output(folder: Path) -> None:
    (folder / "LIST").write_text(GOOD)
    with Path("/dev/full").open("wb") as full:
        done = run("check-sums", "LIST", stdout=full, cwd=folder)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr == b"atlas12288: standard output: No space left on device\n"


# --- Where lists come from ---


@pytest.mark.parametrize("arguments", [(), ("-",), ("/dev/stdin",)])
def test_a_list_may_be_standard_input_under_any_of_its_names(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    done = run("check-sums", *arguments, input=GOOD.encode(), cwd=folder)
    assert done.returncode == HOLDS
    assert done.stdout == b"plain: OK\n"


@needs("bash")
def test_a_list_may_be_the_output_of_a_command(folder: Path) -> None:
    (folder / "sums").write_text(GOOD)
    script = f"cd {shlex.quote(str(folder))} && {shlex.join(PROGRAM)} check-sums <(cat sums) sums"
    done = bash(script)
    assert (done.returncode, done.stdout) == (HOLDS, b"plain: OK\n" * 2)


def test_on_a_terminal_a_list_must_be_named() -> None:
    master, slave = pty.openpty()
    done = run("check-sums", stdin=slave)
    os.close(master)
    os.close(slave)
    assert done.returncode == COULD_NOT_CHECK
    assert b"LIST is needed, or a list on standard input" in done.stderr
