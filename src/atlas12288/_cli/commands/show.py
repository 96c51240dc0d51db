# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 show`."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from ..._files import STDIN, FileError
from ..._native import DIGEST_BYTES
from ..._witness import TREE_ALGORITHM
from ...manifest._beside import SUFFIX, leaves_name
from ...manifest._statement import Options
from ..console import Printer, file_name, json_option, shown
from ..manifests import content, open_manifest
from ..witness_files import errors_about

if TYPE_CHECKING:
    from ...manifest._entries import Entry
    from ...manifest._manifest_file import Listed, Text

_SIGNATURE: Final = ".sig"
_DIGITS: Final = 2 * DIGEST_BYTES
_SIZE: Final = 12
_OPTIONS: Final = ("digests", "exclude", "paths", "symlinks", "links_below")


class _Shown(NamedTuple):
    """What a manifest says, without its entries."""

    options: Options
    root: bytes
    files: int
    links: int
    bytes: int


@click.command(
    "show",
    short_help="Say what is in a manifest.",
    epilog="""\b
Examples:
  atlas12288 show data.atlas.json
  atlas12288 show --entries data.atlas.json
  atlas12288 show --json data.atlas.json

Exit codes: 0 it is a manifest, and is shown; 2 it is none, or could not be read.""",
)
@click.argument("manifest", metavar="MANIFEST", type=file_name)
@click.option("--entries", is_flag=True, help="Print a line for each file and symbolic link.")
@json_option
def command(manifest: str, entries: bool, as_json: bool) -> int:
    """Say how many files a manifest has, its digests, rules and root, and what is beside it.

    No other file is read: whether the folder is still what the manifest says, verify finds out. A
    signature or leaves beside it are named, and not checked.
    """
    with Printer("show", as_json, None) as printer, ExitStack() as stack:
        try:
            with errors_about(manifest):
                found, listed = _read(open_manifest(manifest, "MANIFEST", stack))
                if entries and not as_json:
                    for entry in _entries(listed):
                        printer.line(_line(entry))
                elif not as_json:
                    _show(manifest, found, printer)
                each = _entries(listed) if entries and as_json else None
                printer.document(_document(manifest, found, each, None))
        except FileError as error:
            printer.error(manifest, error.reason)
            reason = f"{shown(manifest)}: {error.reason}"
            printer.document(_document(manifest, None, None, reason))
    return printer.code


def _read(text: "Text") -> "tuple[_Shown, Listed]":
    """Return what a manifest says, after all of it was read, and the manifest."""
    from ...manifest._manifest_file import NotCanonicalError, in_memory, opened

    manifest = opened(text)
    try:
        return _counted(manifest), manifest
    except NotCanonicalError:
        manifest = in_memory(text)
        return _counted(manifest), manifest


def _counted(manifest: "Listed") -> _Shown:
    from ...manifest._manifest_file import LINK

    files = links = size = 0
    for block in manifest.blocks():
        links += block.sizes.count(LINK)
        files += len(block.sizes)
        size += sum(block.sizes)
    return _Shown(manifest.options, manifest.root, files - links, links, size - links * LINK)


def _entries(manifest: "Listed") -> "Iterator[Entry]":
    from ...manifest._entries import read_line

    for block in manifest.blocks():
        for line in block.lines:
            yield read_line(line, manifest.options.digests)


def _beside(manifest: str) -> tuple[str | None, list[str]]:
    """Return the leaves and the signatures that lie beside a manifest."""
    if manifest == STDIN:
        return None, []
    leaves = leaves_name(manifest)
    names = dict.fromkeys((manifest.removesuffix(SUFFIX) + _SIGNATURE, manifest + _SIGNATURE))
    return leaves if os.path.lexists(leaves) else None, [*filter(os.path.lexists, names)]


def _show(manifest: str, found: _Shown, printer: Printer) -> None:
    options = found.options
    leaves, signatures = _beside(manifest)
    printer.line(f"{shown(manifest)}: {content(found.files, found.links, found.bytes)}")
    lines: list[tuple[str, Iterable[str]]] = [
        ("digests", [", ".join(options.digests)]),
        ("root", [found.root.hex()]),
        ("rules", map(shown, options.exclude)),
        ("paths", map(shown, options.paths)),
        ("symlinks", [options.symlinks]),
        ("links", map(shown, options.links_below)),
    ]
    if TREE_ALGORITHM in options.digests:
        lines.append(("leaves", [shown(leaves) if leaves is not None else "none beside it"]))
    signed = [f"{shown(name)}, which is not checked here" for name in signatures]
    lines.append(("signature", signed or ["none beside it"]))
    for name, values in lines:
        for value in values:
            printer.line(f"  {name:9}  {value}")


def _line(entry: "Entry") -> str:
    """Return the line of an entry: digest, size, path."""
    name = shown(os.fsdecode(entry.path))
    if entry.target is not None:
        return f"{'link':{_DIGITS}}  {'':>{_SIZE}}  {name} -> {shown(os.fsdecode(entry.target))}"
    digest = entry.sha256 or entry.root or b""
    return f"{digest.hex()}  {entry.size:>{_SIZE}}  {name}"


def _document(
    manifest: str, found: _Shown | None, entries: "Iterable[Entry] | None", error: str | None
) -> dict[str, object]:
    fields: dict[str, object] = {"manifest": manifest, "error": error}
    if found is None:
        return fields | dict.fromkeys((*_OPTIONS, "root", "counts", "leaves", "signatures"))
    leaves, signatures = _beside(manifest)
    fields |= {key: getattr(found.options, key) for key in _OPTIONS}
    fields |= {
        "root": found.root.hex(),
        "counts": {"files": found.files, "links": found.links, "bytes": found.bytes},
        "leaves": leaves,
        "signatures": [{"file": name} for name in signatures],
    }
    if entries is not None:
        fields["entries"] = [json.loads(entry.to_json()) for entry in entries]
    return fields
