# SPDX-License-Identifier: Apache-2.0
"""Compare a folder with its manifest: find files that changed and where, and files that are
missing, added or unreadable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .._files import FileError, RegularFile, shown
from .._witness import TREE_ALGORITHM
from .._words import counted
from ._beside import Outputs, is_url
from ._differences import ManifestReport
from ._file_comparison import FileComparison
from ._lined import Lined
from ._listener import SILENT, Listener
from ._ranges import ManifestLeaves
from ._sources.source import Source
from ._statement import Options, Witnessed
from ._tally import Tally
from ._verify_listing import Listing
from ._verify_reading import Reading


class WrongRootError(FileError):
    """No path of the manifest is in the source, which is hardly the folder that was witnessed."""


def verify_manifest(
    manifest: Witnessed,
    source: Source,
    *,
    paths: Sequence[bytes] = (),
    leaves: RegularFile | None = None,
    threads: int | None = None,
    allow_extra: bool = False,
    fail_fast: bool = False,
    refuse_other: bool = False,
    outputs: Outputs | None = None,
    listener: Listener = SILENT,
    comparison: FileComparison | None = None,
    done: bytes | None = None,
) -> ManifestReport:
    """Compare a folder or other source with a manifest.

    The folder is listed once, by the rules in the manifest and no others, because a rule that came
    with the files could hide them. Only listed files are opened. Of the files that are not in the
    manifest, only those with the size of a missing one are read, to find what was moved. Several
    threads read files; memory grows with the entries and the differences, but not with the sizes of
    files. Any thread may call this, because it starts no process and touches no signal.

    Args:
        manifest: the content to expect.
        source: the folder.
        paths: compare only what is at these paths and below them, in their canonical form; empty
            for everything.
        leaves: the sidecar of the manifest, to find the ranges that changed. If it is damaged or
            belongs to another manifest, it is not used, and the report says so.
        threads: number of threads; None for one per core that this process may use.
        allow_extra: only count files that are not in the manifest.
        fail_fast: stop at the first difference found, which may not be the first by path. A file
            that was moved is then missing or added, because finding its content takes reading.
        refuse_other: raise an error instead of a report if no path of the manifest is there.
        outputs: files that are not part of the folder, unless the manifest has them. The sidecar is
            added to them if it has the leaves of the manifest.
        listener: called with the progress and each difference.
        comparison: how files are compared with entries that come from elsewhere.
        done: files up to this path are listed, but not read: they were compared before. b"" for
            none; None if the listener need not hear what was compared, which is quicker. If it is
            given, a file that was moved is missing and added, so that no file is read twice in
            comparisons that follow one another.

    Raises:
        FileError: the source cannot be listed at all.
        WrongRootError: as `refuse_other` says.
        WitnessError: the manifest has nothing at or below one of the paths.
        ValueError: `threads` is less than 1, or a rule of the manifest is not valid.
        TypeError: `threads` is not an int.
    """
    whole = Lined.of(manifest)
    lined = whole.part(paths) if paths else whole
    outputs = Outputs(source.name) if outputs is None else outputs
    comparison = FileComparison() if comparison is None else comparison
    tally = Tally(allow_extra, listener, outputs)
    known: ManifestLeaves | None = None
    if leaves is not None and TREE_ALGORITHM not in manifest.options.digests:
        tally.leaves_error = "is of no use: the manifest has no tree roots"
    elif leaves is not None:
        try:
            known = ManifestLeaves(whole, leaves)
            outputs.add(leaves.name, leaves.status)
        except FileError as error:
            tally.leaves_error = str(error)
    named = _selected(manifest.options, paths)
    together = comparison.has_lines and done is None
    listing = Listing(lined, named, source, outputs, tally, together)
    listing.judge(comparison, unread=known is None, done=done)
    if refuse_other and listing.is_other and not _has_any(source, whole, lined):
        raise WrongRootError(
            f"none of its {counted(len(whole.paths), 'path')} is in {shown(source.name)}: is that "
            "the folder that was witnessed?"
        )
    if fail_fast and (first := next(listing.known(None), None)) is not None:
        tally.add(first)
        return _of_part(tally.report(complete=False), paths, whole)
    candidates = listing.candidates() if done is None and not fail_fast else []
    listener.expect(
        sum(found.size for found in candidates)
        + sum(found.size for found in listing.to_read)
        + sum(siblings.size for _, siblings in listing.groups)
    )
    if candidates:
        listing.find_moves(source, candidates, threads, comparison)
    reading = Reading(tally, listing, known, fail_fast, comparison)
    run = reading.run_together if listing.groups else reading.run
    complete = run(source, threads)
    return _of_part(tally.report(complete=complete), paths, whole)


def _selected(options: Options, paths: Sequence[bytes]) -> list[bytes]:
    """Return the paths to list: those that the manifest covers, and of these, only what is at or
    below `paths`; empty for all."""
    covered = [path.encode() for path in options.paths]
    if not paths or not covered:
        return list(paths) or covered
    found = set()
    for one in paths:
        for other in covered:
            if one == other or one.startswith(other + b"/"):
                found.add(one)
            elif other.startswith(one + b"/"):
                found.add(other)
    return sorted(found)


def _has_any(source: Source, whole: Lined, part: Lined) -> bool:
    """Return whether the folder has a path of the manifest that the compared part has not."""
    if part is whole:
        return False
    # The storage of a URL is not asked once more.
    return is_url(source.name) or any(
        os.path.lexists(Path(source.name, os.fsdecode(path))) for path in whole.paths
    )


def _of_part(report: ManifestReport, paths: Sequence[bytes], whole: Lined) -> ManifestReport:
    """Return the report with what it says of the whole manifest."""
    links = whole.links
    files = len(whole.paths) - links
    return replace(report, part=tuple(paths), manifest_files=files, manifest_links=links)
