# SPDX-License-Identifier: Apache-2.0
"""The commands of `atlas12288`, and how they end.

Each command is a module of `commands` with its name. Heavy imports (rich, matplotlib, the
benchmark's peers) are inside the functions that need them, so that a command starts quickly.
"""

import errno
import io
import os
import sys
from importlib import import_module
from typing import Final

import click

from .console import COULD_NOT_CHECK, INTERRUPTED, complain
from .version import PROGRAM, VERSION_LINE

_COMMANDS: Final = (
    *("bench", "check", "check-sums", "conformance", "delta", "diff", "info", "locate", "prove"),
    *("show", "sign", "sum", "verify", "verify-proof", "witness"),
)


class _Commands(click.Group):
    """The commands, each imported when it is asked for: a run needs one of them."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = import_module(f".commands.{name.replace('-', '_')}", __package__)
        command: click.Command = module.command
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  atlas12288 witness model.bin > model.witness.json
  atlas12288 verify model.witness.json model.bin
  atlas12288 witness --tree data -o data.atlas.json
  atlas12288 verify data.atlas.json

\b
Exit codes of all commands:
  0    it holds
  1    it does not hold
  2    it could not be checked: unreadable file, wrong usage, nothing to check
  130  stopped by Ctrl-C

FILE can be - for standard input. Each command's --help has examples.""",
)
@click.version_option("", "-V", "--version", message=VERSION_LINE)
def cli() -> None:
    """Find out whether files or folders have changed, and where.

    A witness records the length, residue, SHA-256 digest and time of a file. A manifest records all
    files of a folder. The residue is the sum of all bytes mod 96; bytes are "conserved" if it is 0,
    as the Atlas-12288 model requires.
    """


def _discard_output() -> None:
    """Redirect a broken standard output to nowhere, so that Python's flush at exit succeeds."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str] | None) -> int:
    """Run the command line.

    Args:
        arguments: the command-line arguments; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    if sys.stdout is None:
        complain("standard output", "is closed")
        return COULD_NOT_CHECK
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names and locales of any kind must not crash
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except click.ClickException as error:
        error.show()
        return COULD_NOT_CHECK
    except (click.Abort, KeyboardInterrupt):
        _discard_output()  # the rest of a line would not help
        return INTERRUPTED
    except (SystemExit, BrokenPipeError) as error:  # click turns a broken pipe into SystemExit(1)
        if isinstance(error, SystemExit) and not error.code:
            return 0  # click's shell completion
        _discard_output()
        return COULD_NOT_CHECK
    except OSError as error:
        _discard_output()
        complain("standard output", error.strerror or str(error))
        return COULD_NOT_CHECK
    except MemoryError:
        _discard_output()
        complain("memory", os.strerror(errno.ENOMEM))
        return COULD_NOT_CHECK
    except Exception:
        # Python's exit code for a crash is 1, and here 1 is a verdict.
        import traceback

        traceback.print_exc()
        return COULD_NOT_CHECK
