# SPDX-License-Identifier: Apache-2.0
"""The part of `atlas12288 witness` that makes manifests."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from ..errors import WitnessError
from ..files import STDIN, FileError, atomic_write, require_writable
from ..manifest.names import is_url, leaves_name, outputs_in, state_name
from ..sums import read_sums, sums_line
from .manifests import amount, files, is_folder, source_at, streams
from .report import Report, shown
from .witnesses import open_witnesses, require_own_sidecar

if TYPE_CHECKING:
    from distributed import Client

    from ..manifest.entries import Entry
    from ..manifest.generate import Outcome
    from ..manifest.sources import Source
    from ..manifest.statement import Options


class Wanted(NamedTuple):
    """The options of `witness` for a manifest."""

    paths: tuple[str, ...]
    tree: bool
    threads: int | None
    output: str | None
    as_json: bool
    exclude: tuple[str, ...]
    symlinks: str | None
    no_flat: bool
    update: bool
    allow_cache: bool
    scheduler: str | None
    form: str | None

    @property
    def as_sums(self) -> bool:
        """Is it to be a list of sha256sum?"""
        return self.form == "sha256sum"


def witness(wanted: Wanted) -> int:
    """Makes the manifest.

    Returns:
        The exit code.

    Raises:
        click.UsageError: the options do not fit each other.
    """
    _require_sense(wanted)
    try:
        root, below = _root_and_paths(wanted.paths)
        if wanted.output is not None:
            _require_ours(wanted, root, wanted.output)
    except WitnessError as error:
        raise click.UsageError(f"{error}; run it in the folder that the paths are in") from error
    with Report(wanted.as_json, None) as report, ExitStack() as stack:
        try:
            client = None
            if wanted.scheduler is not None:
                from ..manifest.cluster import connect

                client = stack.enter_context(connect(wanted.scheduler))
            outcome = _Making(wanted, root, below, report, client).run()
        except (FileError, ImportError, ValueError) as error:
            reason = " ".join(str(error).split())  # what libraries say may have several lines
            report.error(_name(wanted, root), reason)
            report.document(_document(wanted, root, None, reason))
        else:
            wanting = _not_written(outcome)
            if wanting is not None:
                report.error("standard output" if wanted.output is None else wanted.output, wanting)
            report.document(_document(wanted, root, outcome, wanting))
    return report.code


def _not_written(outcome: "Outcome") -> str | None:
    """Why there is no manifest."""
    if outcome.errors == 0:
        return None
    paths = "1 path" if outcome.errors == 1 else f"{outcome.errors:,} paths"
    return f"not written, because {paths} could not be read"


def _require_sense(wanted: Wanted) -> None:
    if wanted.no_flat and not wanted.tree:
        raise click.UsageError("--no-flat needs --tree: a file needs a digest")
    if wanted.as_sums and wanted.tree:
        raise click.UsageError("--format sha256sum has flat digests alone: not with --tree")
    if wanted.update and (wanted.output is None or wanted.as_sums):
        raise click.UsageError("--update needs -o with a manifest: beside it is what is known")
    if wanted.as_json and wanted.output is None:
        raise click.UsageError("--json needs -o: what is printed without it is the manifest")
    if STDIN in wanted.paths:
        raise click.UsageError("a manifest is of files and folders, not of standard input (-)")
    urls = [path for path in wanted.paths if is_url(path)]
    if urls and len(wanted.paths) > 1:
        raise click.UsageError(f"a URL is witnessed alone: {shown(urls[0])}")
    if wanted.output is not None:
        names = [wanted.output, *([leaves_name(wanted.output)] if wanted.tree else [])]
        inputs = [path for path in wanted.paths if not is_url(path)]
        for name in names:
            try:
                require_writable(name, inputs)
                if name != wanted.output:
                    require_own_sidecar(wanted.output, Path(state_name(wanted.output)).is_file())
            except FileError as error:
                raise click.UsageError(f"-o {shown(name)}: {error}") from error


def _require_ours(wanted: Wanted, root: str, output: str) -> None:
    """Refuses to replace a file of the folder that no such run as this one wrote."""
    if not outputs_in(root, (output,)).paths or not Path(output).is_file():
        return
    try:
        is_manifest, chunks = open_witnesses(output)
        ours = is_manifest
        if wanted.as_sums:
            ours = next(read_sums(chunks), (0, None))[1] is not None
        if not ours and Path(output).stat().st_size > 0:
            kind = "list of sha256sum" if wanted.as_sums else "manifest"
            raise FileError(f"is a file of the folder and no {kind}, and is not replaced")
    except FileError as error:
        raise click.UsageError(f"-o {shown(output)}: {error}") from error


def _root_and_paths(paths: tuple[str, ...]) -> tuple[str, tuple[bytes, ...]]:
    """The folder that paths in the manifest are relative to, and what it is of."""
    from ..manifest.paths import below

    if len(paths) == 1 and (is_url(paths[0]) or is_folder(paths[0])):
        return paths[0], ()
    return ".", below(map(os.fsencode, paths), "PATH")


class _Making:
    def __init__(
        self,
        wanted: Wanted,
        root: str,
        below: tuple[bytes, ...],
        report: Report,
        client: "Client | None",
    ) -> None:
        self._wanted = wanted
        self._root = root
        self._below = below
        self._report = report
        self._client = client

    def run(self) -> "Outcome":
        from ..manifest.generate import options_of
        from ..manifest.statement import SYMLINKS

        wanted = self._wanted
        source = source_at(self._root, self._below, self._report, allow_cache=wanted.allow_cache)
        options = options_of(
            source,
            tree=wanted.tree,
            flat=not wanted.no_flat,
            symlinks=wanted.symlinks or SYMLINKS[0],
            exclude=wanted.exclude,
            paths=self._below,
        )
        if wanted.output is not None and not wanted.as_sums:
            return self._write(source, options, wanted.output)
        return self._print(source, options)

    def _write(self, source: "Source", options: "Options", output: str) -> "Outcome":
        """The manifest as a file."""
        from ..manifest.generate import generate_manifest

        wanted, report = self._wanted, self._report
        outcome = generate_manifest(
            source,
            options,
            output,
            leaves=leaves_name(output) if wanted.tree else None,
            state=state_name(output),
            update=wanted.update,
            threads=wanted.threads,
            client=self._client,
            problem=self._problem,
            expect=report.expect,
            advance=report.advance,
            note=lambda text: report.warning(output, text),
            streams=streams(),
        )
        if outcome.errors == 0:
            known = f"; {outcome.read:,} read, {outcome.known:,} known" if wanted.update else ""
            count = files(outcome.files + outcome.links)
            report.line(f"{shown(output)}: {count}, {amount(outcome.bytes)}{known}")
        return outcome

    def _print(self, source: "Source", options: "Options") -> "Outcome":
        """The manifest on standard output, or the list of sums there or as a file."""
        from ..manifest.generate import generate_entries
        from ..manifest.statement import write_statement

        wanted, report = self._wanted, self._report
        outcome, entries = generate_entries(
            source,
            options,
            outputs=() if wanted.output is None else (wanted.output,),
            threads=wanted.threads,
            client=self._client,
            problem=self._problem,
            expect=report.expect,
            advance=report.advance,
            note=lambda text: report.warning(_name(wanted, self._root), text),
            streams=streams(),
        )
        if outcome.errors > 0:
            return outcome
        if not wanted.as_sums:
            report.raw(write_statement(options, entries))
            return outcome
        if wanted.output is None:
            report.raw(_sums(entries))
        else:
            with atomic_write(wanted.output) as file:
                file.writelines(_sums(entries))
        if outcome.links:
            links = f"{outcome.links:,} symbolic links" if outcome.links > 1 else "a symbolic link"
            report.warning(_name(wanted, self._root), f"{links} left out: sha256sum reads files")
        return outcome

    def _problem(self, path: bytes, reason: str) -> None:
        self._report.error(os.fsdecode(path), reason)


def _sums(entries: "tuple[Entry, ...]") -> Iterator[bytes]:
    for entry in entries:
        if entry.sha256 is not None:
            yield sums_line(entry.sha256, entry.path) + b"\n"


def _name(wanted: Wanted, root: str) -> str:
    return wanted.paths[0] if len(wanted.paths) == 1 else root


def _document(
    wanted: Wanted, root: str, outcome: "Outcome | None", error: str | None
) -> dict[str, object]:
    from ..manifest.generate import Outcome

    fields: dict[str, object] = {"manifest": wanted.output, "root": root}
    fields |= dict.fromkeys(Outcome._fields) if outcome is None else outcome._asdict()
    return fields | {"error": error}
