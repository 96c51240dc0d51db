# SPDX-License-Identifier: Apache-2.0
"""What all commands of the command line share: help, usage, names, channels, exit codes."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288
from atlas12288._cli.console import FilesCommand, files_argument, json_option, shown
from support.commandline import (
    COULD_NOT_CHECK,
    DOES_NOT_HOLD,
    HOLDS,
    PROGRAM,
    file_in,
    files_in,
    in_a_process,
    run,
    run_each,
    run_on_terminal,
    without_colour,
)

COMMANDS = (
    *("bench", "check", "check-sums", "conformance", "delta", "info", "locate", "prove", "sum"),
    *("verify", "verify-proof", "witness"),
)
ODD_NAMES = (
    b"plain",
    b"two words",
    b"new\nline",
    b"carriage\rreturn",
    b"back\\slash",
    b"bad\xffutf8",
    b"esc\x1b[31mape",
    "schön 漢字".encode(),
    b"--looks-like-an-option",
    b"$HOME `x`",
)


@pytest.fixture
def conserved(tmp_path: Path) -> Path:
    path = tmp_path / "conserved.bin"
    path.write_bytes(bytes([48, 48]))
    return path


@pytest.fixture
def unconserved(tmp_path: Path) -> Path:
    path = tmp_path / "unconserved.bin"
    path.write_bytes(bytes([48, 49]))
    return path


def test_the_program_is_installed_under_its_name() -> None:
    program = Path(sysconfig.get_path("scripts")) / "atlas12288"
    done = subprocess.run((program, "--version"), capture_output=True, check=True)
    assert done.stdout.decode().split() == ["atlas12288,", "version", atlas12288.__version__]
    assert run("--version").stdout == done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "check - conserved.bin missing",
        "sum conserved.bin -",
        "info",
        "witness -o /none/a -",
        "delta",
    ],
)
def test_the_forks_of_these_tests_do_what_a_process_of_its_own_does(
    conserved: Path, command: str
) -> None:
    options: dict[str, Any] = {"input": b"a\r\nb", "cwd": conserved.parent}
    fork, process = run(*command.split(), **options), in_a_process(*command.split(), **options)
    assert fork.returncode == process.returncode
    assert (fork.stdout, fork.stderr) == (process.stdout, process.stderr)


def test_help_lists_every_command_and_every_exit_code() -> None:
    done = run("--help")
    assert done.returncode == HOLDS
    text = done.stdout.decode()
    assert all(f"\n  {command} " in text for command in COMMANDS)
    assert all(f"\n    {code} " in text for code in ("0", "1", "2", "130"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_an_example_and_its_exit_codes(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == HOLDS
    assert f"\n    atlas12288 {command}" in done.stdout.decode()
    assert "Exit codes: 0" in done.stdout.decode()
    # A terminal of 80 columns breaks no line.
    assert max(map(len, done.stdout.decode().splitlines())) <= 80


def test_help_and_the_package_load_no_heavy_module() -> None:
    code = (
        "import sys, atlas12288\n"
        "light = set(sys.modules)\n"
        "import atlas12288._cli\n"
        "print(sorted({m.split('.')[0] for m in light} & {'click', 'rich', 'numpy'}))\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'rich', 'numpy', 'matplotlib'}))\n"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, check=True)
    assert done.stdout.decode().splitlines() == ["[]", "[]"]


def test_a_sum_of_a_file_loads_no_module_that_it_does_not_need(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"atlas")
    code = (
        "import sys\n"
        "from atlas12288._cli import main\n"
        "assert main(['sum', sys.argv[1]]) == 0\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run((sys.executable, "-c", code, file), capture_output=True, check=True)
    loaded = done.stdout.decode().splitlines()[-1].split()
    assert "atlas12288._make_sums" in loaded
    assert not {"json", "pathlib", "hashlib", "atlas12288._tree", "atlas12288._outputs"} & {*loaded}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nosuchcommand",),
        ("check",),
        ("witness",),
        ("sum",),
        ("verify",),
        ("verify", "-", "-"),
        ("delta", "one"),
        ("delta", "-", "-"),
        ("check", "--nosuchoption", "file"),
        ("info", "surplus"),
        ("bench", "--size", "0"),
        ("bench", "--size", "many"),
        ("bench", "--kernels", "z80"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_says_so_on_standard_error(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stdout == b""
    assert b"Usage: atlas12288" in done.stderr


def test_2_wins_over_1_and_all_files_are_done(conserved: Path, unconserved: Path) -> None:
    missing = conserved.with_name("missing")
    done = run("check", unconserved, missing, conserved)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stdout.decode().splitlines() == [
        f"{unconserved}: 2 bytes, residue 1, not conserved",
        f"{conserved}: 2 bytes, residue 0, conserved",
    ]
    assert done.stderr.decode() == f"atlas12288: {missing}: No such file or directory\n"


def test_a_crash_is_not_a_verdict(conserved: Path) -> None:
    code = "from atlas12288._cli.commands import check\ncheck._check_file = None"
    done = run("check", conserved, before=code)
    assert done.returncode == COULD_NOT_CHECK
    assert b"Traceback" in done.stderr


# --- Names of any bytes ---


@pytest.mark.parametrize("name", ODD_NAMES, ids=repr)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_names_of_any_bytes(tmp_path: Path, name: bytes, locale: str) -> None:
    path = os.fsencode(tmp_path / os.fsdecode(name))
    Path(os.fsdecode(path)).write_bytes(b"a")
    environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    commands = [
        (command, *option, "--", path, path + b"missing")
        for command in ("check", "witness", "sum")
        for option in ((), ("--json",))
    ]
    for command, done in zip(commands, run_each(commands, env=environment), strict=True):
        assert done.returncode == COULD_NOT_CHECK
        assert b"Traceback" not in done.stderr
        assert done.stderr.count(b"\n") == 1  # one line an error, whatever is in the name
        assert b"\x1b" not in done.stderr
        if "--json" in command:
            items = files_in(done.stdout)
            assert [file_in(item) for item in items] == [path, path + b"missing"]
        elif command[0] != "sum":
            assert done.stdout.count(b"\n") == (1 if command[0] == "check" else 2)
            assert b"\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain é 漢", "plain é 漢"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("a\\nb", "a\\\\nb"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\x1b[31m\x7f", "\\x1b[31m\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("café", "café"),
        ("cafe\u0301", "cafe\\u0301"),
        ("\u212bngström", "\\u212bngström"),  # the sign of the unit, which is Å in NFC
        ("\u1112\u1161\u11ab 한", "\u1112\\u1161\\u11ab 한"),
        ("क\u093c and क\u094d", "क\u093c and क\u094d"),  # marks with no letter of their own in NFC
    ],
)
def test_shown_names_are_one_line_and_cannot_be_confused(name: str, text: str) -> None:
    assert shown(name) == text


# --- Channels ---


def test_a_closed_reader_of_the_output_is_quiet(conserved: Path) -> None:
    process = subprocess.Popen(
        (*PROGRAM, "check", *[str(conserved)] * 5000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == COULD_NOT_CHECK


@pytest.mark.parametrize("command", ["check", "witness", "sum", "info", "--help"])
def test_a_full_disk_behind_the_output_is_an_error(conserved: Path, command: str) -> None:
    files = [conserved] if command in ("check", "witness", "sum") else []
    with Path("/dev/full").open("wb") as full:
        done = run(command, *files, stdout=full)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr == b"atlas12288: standard output: No space left on device\n"


def test_closed_standard_streams(conserved: Path) -> None:
    def shell(redirection: str) -> subprocess.CompletedProcess[bytes]:
        command = f'exec "$0" -m atlas12288 check "$1" - {redirection}'
        return subprocess.run(
            ("sh", "-c", command, sys.executable, conserved),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )

    assert shell("").returncode == HOLDS
    closed_output = shell(">&-")
    assert closed_output.returncode == COULD_NOT_CHECK
    assert closed_output.stderr == b"atlas12288: standard output: is closed\n"
    closed_input = shell("<&-")
    assert closed_input.returncode == COULD_NOT_CHECK
    assert closed_input.stderr == b"atlas12288: -: standard input is closed\n"
    assert closed_input.stdout.count(b"\n") == 1  # the other file is done
    assert shell("2>&-").returncode == HOLDS


def test_a_terminal_gets_the_same_text_in_colour(conserved: Path, unconserved: Path) -> None:
    arguments = ("check", "--windows", str(conserved), str(unconserved))
    plain = run(*arguments)
    code, text, _ = run_on_terminal(*arguments)
    assert code == plain.returncode == DOES_NOT_HOLD
    assert "\x1b[32mconserved" in text
    assert "\x1b[31mnot conserved" in text
    assert without_colour(text) == plain.stdout.decode()
    assert b"\x1b" not in plain.stdout


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_colour_is_refused_politely(conserved: Path, environment: dict[str, str]) -> None:
    _, text, _ = run_on_terminal("check", conserved, environment=environment)
    assert text == run("check", conserved).stdout.decode()


# --- info ---


def test_info_says_what_the_library_says() -> None:
    done = run("info", "--json")
    assert done.returncode == HOLDS
    fields = json.loads(done.stdout)
    assert fields["version"] == atlas12288.__version__
    assert fields["kernel_set"] == atlas12288.kernel_set()
    assert fields["kernel_sets_compiled"] == list(atlas12288.kernel_sets())
    assert fields["kernel_sets_supported"] == [
        name for name in atlas12288.kernel_sets() if atlas12288.kernel_set_supported(name)
    ]
    text = run("info").stdout.decode()
    assert f"\nkernel set             {atlas12288.kernel_set()}\n" in text
    assert len(text.splitlines()) == len(fields.keys() - {"type", "command", "holds", "error"})


ARGUMENTS = (
    "a",
    "b",
    "",
    "-",
    "--",
    "--json",
    "--js",
    "-x",
    "-x",
    "--text",
    "--text=a",
    "-",
    "--no",
)


@given(
    arguments=st.lists(st.sampled_from(ARGUMENTS), max_size=9),
    operands=st.integers(0, 9),
    has_first=st.booleans(),
)
def test_many_files_are_parsed_as_few_are(
    arguments: list[str], operands: int, has_first: bool
) -> None:
    def parsed(kind: type[click.Command]) -> object:
        @click.command(cls=kind)
        @files_argument
        @json_option
        @click.option("-x", "--text")
        def command(**values: object) -> object:
            return sorted(values.items())

        if has_first:
            command.params.insert(0, click.Argument(["first"]))
        try:
            return command.main([*arguments, *("c",) * operands], "command", standalone_mode=False)
        except click.UsageError as error:
            return error.format_message()

    assert parsed(FilesCommand) == parsed(click.Command)


def test_names_are_completed_after_many_files() -> None:
    context = click.Context(click.Command("sum"), resilient_parsing=True)
    command = FilesCommand("sum", params=[click.Argument(["files"], nargs=-1, required=True)])
    for arguments in (["--nosuch", "a", "b", "c", "d"], ["a"] * 9, []):
        assert command.make_context("sum", list(arguments), context, resilient_parsing=True)
