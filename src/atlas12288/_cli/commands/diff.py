# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 diff`."""

import os
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from ..._files import STDIN, FileError, RegularFile
from ...manifest._beside import is_url, leaves_name
from ..console import Printer, file_name, json_option, shown, threads_option
from ..file_kinds import MANIFEST, require_kind
from ..manifests import (
    allow_cache_option,
    counted,
    counts_in_words,
    is_folder,
    open_manifest,
    option_notes,
    show_difference,
)
from ..witness_files import errors_about, open_witnesses

if TYPE_CHECKING:
    from ...manifest._differences import Difference, ManifestReport


@click.command(
    "diff",
    short_help="Say what changed from one manifest to another, or to a folder.",
    epilog="""\b
Examples:
  atlas12288 diff 2026-01.atlas.json 2026-03.atlas.json
  atlas12288 diff 2026-01.atlas.json data
  atlas12288 diff --json old.atlas.json new.atlas.json

Exit codes: 0 nothing differs; 1 something differs; 2 they could not be compared.""",
)
@click.argument("before", metavar="OLD", type=file_name)
@click.argument("after", metavar="NEW", type=file_name)
@threads_option
@click.option("-q", "--quiet", is_flag=True, help="Print only differences and errors.")
@allow_cache_option
@json_option
def command(
    before: str,
    after: str,
    threads: int | None,
    quiet: bool,
    allow_cache: bool,
    as_json: bool,
) -> int:
    """Say which files of the manifest NEW changed, are missing, were added or moved since OLD.

    No file but the manifests is read. If both have their leaves beside them, the windows that
    differ are named. A file was moved if its content is missing at exactly one path and was added
    at exactly one other.

    If NEW is a folder or URL, it is compared with OLD as verify does.
    """
    if as_json and quiet:
        raise click.UsageError("--json prints every verdict: not with --quiet")
    if before == after == STDIN:
        raise click.UsageError("OLD and NEW cannot both be standard input (-)")
    if is_url(after) or is_folder(after):
        from . import verify_manifest

        wanted = verify_manifest.VerifyOptions(
            manifest=before,
            root=after,
            sidecar=None,
            threads=threads,
            plot=None,
            quiet=quiet,
            fail_fast=False,
            allow_extra=False,
            allow_cache=allow_cache,
            as_json=as_json,
            command="diff",
        )
        statuses: list[os.stat_result] = []
        try:
            kind, chunks = open_witnesses(before, statuses.append)
            require_kind(kind, before, "OLD", MANIFEST)
        except FileError as error:
            return verify_manifest.refused(wanted, error.reason)
        return verify_manifest.verify(wanted, chunks, statuses[0])
    for option, given in (("--threads", threads), ("--allow-cache", allow_cache)):
        if given:
            raise click.UsageError(f"{option} is for a folder or URL, and NEW is neither")
    with Printer("diff", as_json, None) as printer:
        try:
            _compare(before, after, printer, quiet, as_json)
        except FileError as error:
            name = after if error.name is None else error.name
            printer.error(name, error.reason)
            printer.document(_document(before, after, None, f"{shown(name)}: {error.reason}"))
    return printer.code


def _compare(before: str, after: str, printer: Printer, quiet: bool, as_json: bool) -> None:
    from ...manifest._diff import comparison_of

    with ExitStack() as stack:
        texts = open_manifest(before, "OLD", stack), open_manifest(after, "NEW", stack)
        leaves = _leaves(before, stack), _leaves(after, stack)
        comparison = stack.enter_context(comparison_of(*texts, leaves))
        for note in option_notes(comparison.report(()), shown(before)):
            printer.warning(after, note)
        kinds: Counter[str] = Counter()
        kept: list[Difference] = []  # for JSON: lines need none of them
        for difference in comparison.differences():
            kinds[difference.kind] += 1
            show_difference(printer, difference)
            if as_json:
                kept.append(difference)
        found = comparison.report(kept)
        if found.leaves_error is not None:
            printer.error(after, f"leaves are not used: {found.leaves_error}")
        if not quiet:
            same = f"is the same as {shown(before)}"
            printer.line(
                f"{shown(after)}: ",
                good=not kinds,
                verdict=f"differs from {shown(before)}" if kinds else same,
                more=f"; {_content(found)} compared: {counts_in_words(kinds)}",
            )
        printer.document(_document(before, after, found, None))


def _content(found: "ManifestReport") -> str:
    links = f", {counted(found.links, 'link')}" if found.links else ""
    return f"{counted(found.files, 'file')}{links}"


def _leaves(manifest: str, stack: ExitStack) -> RegularFile | None:
    """Return the sidecar beside a manifest; None if there is none."""
    name = leaves_name(manifest)
    if manifest == STDIN or not os.path.lexists(name):
        return None
    with errors_about(name):
        return stack.enter_context(RegularFile(name, follow=False))


def _document(
    before: str, after: str, found: "ManifestReport | None", error: str | None
) -> dict[str, object]:
    from ...manifest._differences import ManifestReport

    fields: dict[str, object] = {"manifest": before, "other": after, "root": None}
    fields |= dict.fromkeys(ManifestReport().to_fields()) if found is None else found.to_fields()
    return fields | {"error": error}
