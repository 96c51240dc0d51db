# SPDX-License-Identifier: Apache-2.0
"""The part of `atlas12288 witness` that makes manifests."""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from ..._errors import WitnessError
from ..._files import STDIN, FileError, RegularFile
from ..._native import DIGEST_BYTES
from ..._outputs import OutputKind, Target, atomic_write_all
from ..._witness import ALGORITHM
from ...manifest._beside import is_url, leaves_name
from ...manifest._listener import Listener
from ..console import LIST_FORMS, Printer, shown
from ..manifests import (
    EVERYTHING,
    KINDS,
    content,
    counted,
    is_folder,
    more_of,
    option_notes,
    show_windows,
    streams,
)
from ..witness_files import ONLY_ROOT_IS_URL, output_at

if TYPE_CHECKING:
    from ...manifest._changes import Accept
    from ...manifest._differences import Changes
    from ...manifest._entries import Lines
    from ...manifest._generate import RunCounts
    from ...manifest._hashing.engine import HashFiles
    from ...manifest._sources.source import Source
    from ...manifest._statement import Options


def _list_kind(form: str) -> OutputKind:
    from ..._list_forms import is_list

    return OutputKind(f"list of {form}", lambda file: is_list(form, file.chunks()))


_LINES_MOST: Final = 20


def _may_be_leaves(file: RegularFile) -> bool:
    return file.size % DIGEST_BYTES == 0


class WitnessOptions(NamedTuple):
    """The options of `witness` for a manifest."""

    paths: tuple[str, ...]
    tree: bool
    threads: int | None
    output: str | None
    as_json: bool
    exclude: tuple[str, ...]
    symlinks: str | None
    links_below: tuple[str, ...]
    no_flat: bool
    update: bool
    state: str | None
    ignore_ctime: bool
    allow_cache: bool
    scheduler: str | None
    form: str | None
    accept: tuple[str, ...] = ()

    @property
    def as_sums(self) -> bool:
        """Whether to write a list of digests instead of a manifest."""
        return self.form not in (None, "manifest")

    @property
    def accepted(self) -> "Accept":
        """The files that --accept names, or True for all.

        Raises:
            WitnessError: a path leads out of the folder.
        """
        from ...manifest._paths import canonical_paths

        if EVERYTHING in self.accept:
            return True
        return canonical_paths(map(os.fsencode, self.accept), "--accept") or bool(self.accept) or ()

    @property
    def sidecar(self) -> str:
        """The name of the file beside the output that has the leaves of trees."""
        return leaves_name(self.output or "")


def witness(wanted: WitnessOptions) -> int:
    """Make the manifest.

    Returns:
        The exit code.

    Raises:
        click.UsageError: the options do not fit each other.
    """
    _require_sense(wanted)
    # Reported first: other errors about a mistyped name would not help.
    if gone := [path for path in wanted.paths if not (is_url(path) or os.path.lexists(path))]:
        return _refused(wanted, gone)
    try:
        root, paths = _root_and_paths(wanted.paths)
    except WitnessError as error:
        raise click.UsageError(f"{error}; run it in the folder that the paths are in") from error
    try:
        accept = wanted.accepted
    except WitnessError as error:
        raise click.UsageError(str(error)) from error
    with ExitStack() as stack:
        sums = _require_outputs(wanted, stack)
        printer = stack.enter_context(Printer("witness", wanted.as_json, None))
        try:
            from ...manifest._arguments import hasher

            client = None
            if wanted.scheduler is not None:
                from ...manifest._hashing.cluster import connect

                client = stack.enter_context(connect(wanted.scheduler))
            hash_files = hasher(wanted.threads, client)
            making = _Making(wanted, root, paths, printer, hash_files, sums, accept)
            outcome = making.run()
        except (FileError, ImportError, ValueError) as error:
            reason = " ".join(str(error).split())  # what libraries say may have several lines
            name = _name(wanted, root)
            if isinstance(error, FileError) and error.argument in ("output", "leaves"):
                # The names of Python's arguments; here both follow from -o.
                name, reason = error.name or name, error.reason
            printer.error(name, reason)
            printer.document(_document(wanted, root, None, reason))
        else:
            wanting = _not_written(outcome)
            if wanting is not None:
                printer.error(
                    "standard output" if wanted.output is None else wanted.output, wanting
                )
            printer.document(_document(wanted, root, outcome, wanting, making.changes))
    return printer.code


def _refused(wanted: WitnessOptions, gone: list[str]) -> int:
    """Report the paths that do not exist; return the exit code."""
    reason = os.strerror(errno.ENOENT)
    with Printer("witness", wanted.as_json, None) as printer:
        for path in gone:
            printer.error(path, reason)
        printer.document(_document(wanted, gone[0], None, reason))
    return printer.code


def _not_written(outcome: "RunCounts") -> str | None:
    """Return why no manifest was written; None if it was."""
    if outcome.errors == 0:
        return None
    paths = "1 path" if outcome.errors == 1 else f"{outcome.errors:,} paths"
    return f"not written, because {paths} could not be read"


def _require_sense(wanted: WitnessOptions) -> None:
    if wanted.no_flat and not wanted.tree:
        raise click.UsageError("--no-flat needs --tree: a file needs a digest")
    if wanted.as_sums and wanted.tree:
        raise click.UsageError(f"--format {wanted.form} has flat digests alone: not with --tree")
    if wanted.update and (wanted.output is None or wanted.as_sums):
        raise click.UsageError("--update needs -o with a manifest, which has what is known")
    if wanted.state is not None:
        _require_sense_of_state(wanted, wanted.state)
    if wanted.accept and (wanted.output is None or wanted.as_sums):
        raise click.UsageError("--accept needs -o with a manifest, which is replaced")
    if wanted.ignore_ctime and (wanted.output is None or wanted.as_sums):
        raise click.UsageError("--ignore-ctime needs -o with a manifest, as --update does")
    if wanted.links_below and wanted.symlinks != "follow":
        raise click.UsageError("--links-below needs --symlinks follow: others lead nowhere")
    if wanted.links_below and any(map(is_url, (*wanted.paths, *wanted.links_below))):
        raise click.UsageError("--links-below is for folders of this machine: not with a URL")
    if wanted.as_json and wanted.output is None:
        raise click.UsageError("--json needs -o: what is printed without it is the manifest")
    if STDIN in wanted.paths:
        raise click.UsageError("a manifest is of files and folders, not of standard input (-)")
    urls = [path for path in wanted.paths if is_url(path)]
    if urls and len(wanted.paths) > 1:
        raise click.UsageError(f"a URL is witnessed alone: {shown(urls[0])}")


def _require_sense_of_state(wanted: WitnessOptions, state: str) -> None:
    if wanted.output is None or wanted.as_sums:
        raise click.UsageError("--state needs -o with a manifest")
    if is_url(state):
        raise click.UsageError(f"--state {shown(state)}: {ONLY_ROOT_IS_URL}")
    for other in (wanted.output, wanted.sidecar):
        if os.path.realpath(other) == os.path.realpath(state):
            raise click.UsageError(f"--state {shown(state)}: is {shown(other)}, must be another")


def _require_outputs(wanted: WitnessOptions, stack: ExitStack) -> Target | None:
    """Refuse outputs that cannot be written, before any work is done; return the list of sums."""
    from ...manifest._kinds import WITNESSES, leaves_of

    output = wanted.output
    if output is None:
        return None
    inputs = [path for path in wanted.paths if not is_url(path)]
    if wanted.as_sums:
        return output_at(output, _list_kind(str(wanted.form)), inputs, stack)
    with ExitStack() as before:  # the run itself holds them
        output_at(output, WITNESSES, inputs, before)
        if wanted.tree:
            # The run checks them against the manifest, which takes time and is needed only once.
            leaves = leaves_of(output)._replace(is_one=_may_be_leaves)
            output_at(wanted.sidecar, leaves, inputs, before)
    return None


def _root_and_paths(paths: tuple[str, ...]) -> tuple[str, tuple[bytes, ...]]:
    """Return the folder that the manifest's paths are relative to, and the paths to witness."""
    from ...manifest._paths import canonical_paths

    if len(paths) == 1 and (is_url(paths[0]) or is_folder(paths[0])):
        return paths[0], ()
    return ".", canonical_paths(map(os.fsencode, paths), "PATH")


class _Making:
    def __init__(
        self,
        wanted: WitnessOptions,
        root: str,
        paths: tuple[bytes, ...],
        printer: Printer,
        hash_files: "HashFiles",
        sums: Target | None,
        accept: "Accept",
    ) -> None:
        self.changes: Changes | None = None
        self._accept = accept
        self._wanted = wanted
        self._root = root
        self._paths = paths
        self._printer = printer
        self._hash_files = hash_files
        self._sums = sums

    def run(self) -> "RunCounts":
        from ...manifest._arguments import open_source
        from ...manifest._generate import read_options
        from ...manifest._sources.links import folders_outside
        from ...manifest._statement import SYMLINKS

        wanted = self._wanted
        source = open_source(self._root, allow_cache=wanted.allow_cache)
        options = read_options(
            source,
            tree=wanted.tree,
            flat=not wanted.no_flat,
            symlinks=wanted.symlinks or SYMLINKS[0],
            exclude=wanted.exclude,
            paths=self._paths,
            links_below=folders_outside(self._root, wanted.links_below, "--links-below"),
        )
        if wanted.output is not None and not wanted.as_sums:
            return self._write(source, options, wanted.output)
        return self._print(source, options)

    def _write(self, source: "Source", options: "Options", output: str) -> "RunCounts":
        """Write the manifest to a file."""
        from ...manifest._generate import generate_manifest

        wanted, printer = self._wanted, self._printer
        outcome = generate_manifest(
            source,
            options,
            output,
            leaves=wanted.sidecar if wanted.tree else None,
            state=wanted.state or True,
            update=wanted.update,
            ignore_ctime=wanted.ignore_ctime,
            accept=self._accept,
            hash_files=self._hash_files,
            listener=(progress := _WitnessProgress(printer, output)),
            streams=streams(),
        )
        self.changes = changes = progress.changes
        if changes is not None:
            for note in option_notes(changes.report, "the manifest that it replaces"):
                printer.warning(output, note)
        if changes is not None and changes.refused > 0:
            _show_refused(output, changes, printer)
        elif outcome.errors == 0:
            if changes is not None:
                _show_changes(changes, printer)
            known = f"; {outcome.read:,} read, {outcome.known:,} known" if wanted.update else ""
            if wanted.update and outcome.known > 0:
                known += ", in which only a run without --update sees damage"
            if outcome.by_ctime > 0:
                known += f"; {counted(outcome.by_ctime, 'file')} read for the ctime alone"
            found = content(outcome.files, outcome.links, outcome.bytes)
            left_out = "".join(f"; {each}" for each in _excluded(options, outcome))
            changed = "" if changes is None else f"; {_since(changes)}"
            printer.line(f"{shown(output)}: {found}{known}{left_out}{changed}")
        return outcome

    def _print(self, source: "Source", options: "Options") -> "RunCounts":
        """Print the manifest, or print or write the list of sums."""
        if self._wanted.as_sums:
            return self._list(source, options)
        from ...manifest._generate import generate_lines
        from ...manifest._statement import bounded, write_lines

        wanted, printer = self._wanted, self._printer
        outcome, lines = generate_lines(
            source,
            options,
            hash_files=self._hash_files,
            listener=_WitnessProgress(printer, _name(wanted, self._root)),
            streams=streams(),
        )
        if outcome.errors == 0:
            for each in _excluded(options, outcome):
                printer.warning(_name(wanted, self._root), each)
            printer.raw(bounded(write_lines(options, lines)))
        return outcome

    def _list(self, source: "Source", options: "Options") -> "RunCounts":
        """Print or write the list of sums."""
        from ...manifest._generate import generate_lines

        wanted, printer = self._wanted, self._printer
        outcome, lines = generate_lines(
            source,
            options,
            outputs=() if wanted.output is None else (wanted.output,),
            hash_files=self._hash_files,
            listener=_WitnessProgress(printer, _name(wanted, self._root)),
            streams=streams(),
        )
        if outcome.errors > 0:
            return outcome
        for each in _excluded(options, outcome):
            printer.warning(_name(wanted, self._root), each)
        if outcome.files == 0:
            links = counted(outcome.links, "symbolic link")
            raise FileError(f"has no file that {wanted.form} could read, only {links}")
        parts = _sums(lines) if wanted.form == LIST_FORMS[0] else _list(str(wanted.form), lines)
        if self._sums is None:
            printer.raw(parts)
        else:
            with atomic_write_all(self._sums) as (file,):
                file.writelines(parts)
        if outcome.links:
            links = f"{outcome.links:,} symbolic links" if outcome.links > 1 else "a symbolic link"
            printer.warning(
                _name(wanted, self._root), f"{links} left out: {wanted.form} reads files"
            )
        return outcome


def _since(changes: "Changes") -> str:
    """Return how a new manifest differs from the one that it replaces, in words."""
    if not changes.counts:
        return "nothing differs from the manifest that it replaces"
    accepted = f" ({changes.accepted:,} accepted)" if changes.accepted else ""
    return f"{_kinds(changes, accepted)} since the manifest that it replaces"


def _kinds(changes: "Changes", accepted: str = "") -> str:
    return ", ".join(
        f"{changes.counts[kind]:,} {kind}{accepted if kind == 'changed' else ''}"
        for kind in KINDS
        if kind in changes.counts
    )


def _show_changes(changes: "Changes", printer: Printer) -> None:
    """Print the first differences from the manifest that is replaced."""
    for difference in changes.report.differences[:_LINES_MOST]:
        name = shown(os.fsdecode(difference.path))
        printer.line(f"{name}: {difference.kind}{more_of(difference)}")
        show_windows(printer, difference)
    others = sum(changes.counts.values()) - _LINES_MOST
    if others > 0:
        more = counted(others, "more difference")
        printer.line(f"and {more}; diff names them all, from a copy of the old manifest")


def _show_refused(output: str, changes: "Changes", printer: Printer) -> None:
    """Print why a manifest is not replaced."""
    printer.verdict(False)
    for difference in changes.unexplained[:_LINES_MOST]:
        name = shown(os.fsdecode(difference.path))
        printer.line(f"{name}: ", good=False, verdict=difference.reason)
        show_windows(printer, difference)
    if changes.refused > _LINES_MOST:
        printer.line(f"and {counted(changes.refused - _LINES_MOST, 'more file')}")
    one = changes.refused == 1
    files = f"{counted(changes.refused, 'file')} {'is' if one else 'are'}"
    accept = "--accept takes it" if one else "--accept takes them, --accept PATH one of them"
    if changes.accepted > 0:
        accept += f"; {counted(changes.accepted, 'accepted file')} must be named again"
    printer.line(
        f"{shown(output)}: ",
        good=False,
        verdict="not replaced",
        more=f"; {files} not known to have been edited: {accept}; "
        f"{_kinds(changes)} since it was made",
    )


class _WitnessProgress(Listener):
    """Shows the progress of making a manifest; `name` is the subject of its notes."""

    def __init__(self, printer: Printer, name: str) -> None:
        self.changes: Changes | None = None
        self._printer = printer
        self._name = name

    def listed(self, count: int) -> None:
        self._printer.listed(count)

    def expect(self, size: int) -> None:
        self._printer.expect(size)

    def advance(self, size: int) -> None:
        self._printer.advance(size)

    def problem(self, path: bytes, reason: str) -> None:
        self._printer.error(os.fsdecode(path), reason)

    def note(self, text: str) -> None:
        self._printer.warning(self._name, text)

    def replacing(self, changes: "Changes") -> None:
        self.changes = changes


def _sums(all_lines: "Iterable[Lines]") -> Iterator[bytes]:
    """Yield the list of sums of a manifest's lines, in parts."""
    from ..._sums import sums_line
    from ...manifest._entries import read_line

    # Of a file with a path in which nothing is escaped.
    usual = re.compile(
        rb'\{"path":"([^"\\]+)","residue":\d+,"%b":"([0-9a-f]{64})","size":\d+\}\n'
        % ALGORITHM.encode()
    )
    for lines in all_lines:
        text, count = usual.subn(rb"\2  \1\n", lines.text)
        if count < lines.text.count(b"\n"):  # a link, or a path that JSON or sha256sum escapes
            entries = (read_line(line, (ALGORITHM,)) for line in lines.text.split(b"\n")[:-1])
            text = b"".join(
                sums_line(entry.sha256, entry.path) + b"\n"
                for entry in entries
                if entry.sha256 is not None
            )
        yield text


def _list(form: str, all_lines: "Iterable[Lines]") -> Iterator[bytes]:
    """Yield the list of a manifest's lines in another form, in parts.

    Raises:
        FileError: the form cannot say a name.
    """
    from ..._list_forms import list_header, list_line
    from ...manifest._entries import read_line

    yield list_header(form)
    for lines in all_lines:
        entries = (read_line(line, (ALGORITHM,)) for line in lines.text.split(b"\n")[:-1])
        yield b"".join(
            list_line(form, entry.sha256, entry.path, entry.size)
            for entry in entries
            if entry.sha256 is not None
        )


def _excluded(options: "Options", outcome: "RunCounts") -> Iterator[str]:
    """Yield a line for each origin of rules: how many there are, and how much they left out."""
    from ...manifest._sources.selection import IGNORE_FILE

    counts = (outcome.own_rules, len(options.exclude) - outcome.own_rules)
    for rules, own, origin in zip(counts, (True, False), (IGNORE_FILE, "--exclude"), strict=True):
        if rules > 0:
            paths = sum(each.paths for each in outcome.excluded if each.own == own)
            many = "no path" if paths == 0 else counted(paths, "path")
            yield f"left out by {counted(rules, 'rule')} of {origin}: {many}"


def _name(wanted: WitnessOptions, root: str) -> str:
    return wanted.paths[0] if len(wanted.paths) == 1 else root


def _document(
    wanted: WitnessOptions,
    root: str,
    outcome: "RunCounts | None",
    error: str | None,
    changes: "Changes | None" = None,
) -> dict[str, object]:
    fields: dict[str, object] = {"manifest": wanted.output, "root": root, "error": error}
    if outcome is None:
        return fields | dict.fromkeys(("counts", "excluded", "changes", "differences"))
    counts = {
        "files": outcome.files,
        "links": outcome.links,
        "bytes": outcome.bytes,
        "read": outcome.read,
        "known": outcome.known,
        "unreadable": outcome.errors,
        "by_ctime": outcome.by_ctime,
        "own_rules": outcome.own_rules,
    }
    fields |= {"counts": counts, "excluded": [each._asdict() for each in outcome.excluded]}
    if changes is None:
        return fields | {"changes": None, "differences": None}
    found = changes.report.to_fields()
    return fields | {
        "holds": False if changes.refused else None,
        "changes": {
            **{kind: changes.counts.get(kind, 0) for kind in KINDS if kind != "unreadable"},
            "refused": changes.refused,
            "accepted": changes.accepted,
        },
        "differences": found["differences"],
    }
