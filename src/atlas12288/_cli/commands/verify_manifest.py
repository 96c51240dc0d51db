# SPDX-License-Identifier: Apache-2.0
"""The part of `atlas12288 verify` that compares a folder with a manifest."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from ..._errors import WitnessError
from ..._files import STDIN, FileError, RegularFile
from ..._sidecars import WindowRange
from ..._witness import TREE_ALGORITHM
from ...manifest._beside import Outputs, folder_of, leaves_name, outputs_in, paths_in
from ...manifest._listener import Listener
from ...manifest._statement import MANIFEST_MOST_BYTES
from ..console import COULD_NOT_CHECK, Printer, complain, shown
from ..manifests import (
    KINDS,
    amount,
    content,
    counted,
    counts_in_words,
    more_of,
    show_difference,
    streams,
)
from ..plotting import SKETCH, require_plot, write_plot
from ..witness_files import read_whole

if TYPE_CHECKING:
    from ...manifest._differences import Difference, ManifestReport
    from ...manifest._file_comparison import FileComparison
    from ...manifest._lined import Lined
    from ...manifest._sources.source import Source
    from ...manifest._statement import Options
    from ..drawings.damage_map import DamageMap

# Facts in a manifest besides its entries; they decide the verdict too.
_IN_FORCE: Final = ("exclude", "paths", "symlinks", "links_below")
_SHOWN_BYTES: Final = 100
_NAMES_DRAWN: Final = 20  # of each kind of difference, below the maps


class SignatureView(NamedTuple):
    """A signature that holds, for the report on what was signed.

    Attributes:
        signer: whose it is, in words.
        fields: the fields of its JSON object.
        ignored: number of paths that the signer left out.
        comparison: how files are compared with what was signed.
        source: where the files are.
    """

    signer: str
    fields: dict[str, object]
    ignored: int
    comparison: "FileComparison"
    source: "Source"


class VerifyOptions(NamedTuple):
    """The options of `verify` for a manifest."""

    manifest: str
    root: str | None
    sidecar: str | None
    threads: int | None
    plot: str | None
    quiet: bool
    fail_fast: bool
    allow_extra: bool
    allow_cache: bool
    as_json: bool
    parts: tuple[str, ...] = ()
    command: str = "verify"
    rate: float | None = None  # bytes in a second
    every: float | None = None  # seconds from the beginning of a pass to the next
    once: bool = False


def verify(
    wanted: VerifyOptions, chunks: Iterable[bytes | memoryview], status: os.stat_result
) -> int:
    """Compare a folder with a manifest, and print what differs.

    Args:
        wanted: the options.
        chunks: the bytes of the manifest.
        status: status of the manifest when it was opened.

    Returns:
        The exit code.

    Raises:
        click.UsageError: the options do not fit each other or the manifest.
    """
    try:
        manifest = read_manifest(manifest_text(chunks))
    except (FileError, WitnessError) as error:
        return refused(wanted, str(error))
    return verify_read(wanted, manifest, status)


def verify_read(
    wanted: VerifyOptions,
    manifest: "Lined",
    status: os.stat_result,
    signature: SignatureView | None = None,
) -> int:
    """Compare a folder with a manifest that was read, as `verify` does.

    Args:
        wanted: the options.
        manifest: the manifest, or what was signed instead of one.
        status: status of its file when it was opened.
        signature: the signature that it comes from, which holds; None if it comes from none.
    """
    try:
        parts = parts_of(wanted, manifest)
        root = root_of(wanted, manifest)
    except (FileError, WitnessError) as error:
        return refused(wanted, str(error))
    sidecar = sidecar_of(wanted, manifest)
    if wanted.plot is not None:
        if sidecar is None:
            raise click.UsageError("--plot needs a manifest with leaves: witness --tree -o")
        require_plot(wanted.plot, (), [wanted.manifest, sidecar], wanted.as_json)
        inside = paths_in(root, wanted.plot)
        if not inside.isdisjoint(manifest.paths):
            raise click.UsageError(
                f"--plot {shown(wanted.plot)}: is also read, and is not replaced"
            )
    with Printer(wanted.command, wanted.as_json, None) as printer, ExitStack() as stack:
        view = VerifyProgress(wanted, root, manifest.options, printer, signature)
        if wanted.root is None and not wanted.quiet:
            printer.line(f"{shown(wanted.manifest)}: compared with {shown(root)}")
        leaves = None
        try:
            if sidecar is not None:
                is_named = wanted.sidecar is not None
                leaves = stack.enter_context(RegularFile(sidecar, follow=is_named))
        except FileError as error:
            printer.error(str(sidecar), str(error))
        signed = {} if signature is None else {"signature": signature.fields}
        if signature is not None and not wanted.quiet:
            printer.line(f"{shown(wanted.manifest)}: {signature.signer}: ", True, "signature holds")
        outputs = outputs_of(wanted, root, status)
        try:
            found = compared(manifest, parts, root, leaves, outputs, view)
        except (FileError, ImportError, ValueError) as error:
            printer.error(subject_of(wanted, root, error), str(error))
            fields = document(wanted, root, None, str(error), manifest.options)
            printer.document(fields | signed)
            return printer.code
        if found.leaves_error is not None:
            printer.error(str(sidecar), found.leaves_error)
        for hint in _hints(wanted, manifest, found, has_leaves=leaves is not None):
            printer.warning(wanted.manifest, hint)
        view.finish(found)
        printer.document(document(wanted, root, found, None, manifest.options) | signed)
    return printer.code


def read_manifest(text: bytes) -> "Lined":
    """Return a manifest in JSON.

    Raises:
        WitnessError: not a manifest.
    """
    from ...manifest._lined import Lined

    found = Lined.read(text)
    if found is None:
        from ...manifest._manifest import Manifest

        return Lined.of(Manifest.from_json(text))
    return found


def _hints(
    wanted: VerifyOptions,
    manifest: "Lined",
    found: "ManifestReport",
    has_leaves: bool,
) -> Iterator[str]:
    """Yield hints that may explain the differences."""
    places = any(
        each.kind == "changed" and "symlink" not in each.what for each in found.differences
    )
    if places and not has_leaves and _has_trees(manifest):
        name = "" if wanted.manifest == STDIN else f" {shown(leaves_name(wanted.manifest))}"
        yield f"which bytes changed is not known without its leaves{name}, which are not there"


def manifest_text(chunks: Iterable[bytes | memoryview]) -> bytes:
    """Return the bytes of a manifest; only the first ones if they cannot begin a manifest."""
    rest = iter(chunks)
    head = bytes(next(rest, b""))
    if not head.lstrip().startswith(b"{"):
        return head[:_SHOWN_BYTES]
    rule = f"a manifest of at most {MANIFEST_MOST_BYTES:,} bytes"
    return bytes(read_whole(chain((head,), rest), MANIFEST_MOST_BYTES, rule))


def root_of(wanted: VerifyOptions, manifest: "Lined") -> str:
    """Return the folder or URL to compare.

    Raises:
        FileError: none is named, and none is there.
    """
    if wanted.root is not None:
        return wanted.root
    return default_root(wanted.manifest, manifest)


def outputs_of(wanted: VerifyOptions, root: str, status: os.stat_result) -> Outputs:
    """Return the files in the folder that are not part of its content.

    They are the manifest that was read, the plot that will be replaced, states of earlier runs, and
    the files that standard output and standard error go to.
    """
    from ...manifest._state_folder import leave_out_states

    names = [] if wanted.plot is None or wanted.plot == SKETCH else [wanted.plot]
    outputs = outputs_in(root, names, streams())
    leave_out_states(outputs, root)
    if wanted.manifest != STDIN:
        outputs.add(wanted.manifest, status)
    return outputs


def parts_of(wanted: VerifyOptions, manifest: "Lined") -> tuple[bytes, ...]:
    """Return the paths that `--path` names, in their canonical form.

    Raises:
        WitnessError: the manifest has nothing there.
    """
    from ...manifest._paths import canonical_paths

    found = canonical_paths(map(os.fsencode, wanted.parts), "--path")
    manifest.part(found)
    return found


def subject_of(wanted: VerifyOptions, root: str, error: Exception) -> str:
    """Return what an error of a comparison is about: the manifest or the folder."""
    from ...manifest._verify import WrongRootError

    return wanted.manifest if isinstance(error, WrongRootError) else root


def compared(
    manifest: "Lined",
    parts: tuple[bytes, ...],
    root: str,
    leaves: RegularFile | None,
    outputs: Outputs,
    view: "VerifyProgress",
    done: bytes | None = None,
) -> "ManifestReport":
    """Return the report on a comparison, which `view` shows.

    Args:
        manifest, root, leaves, outputs, done: as for `manifest._verify.verify_manifest`.
        parts: its `paths`.
        view: the listener, with the options.
    """
    from ...manifest._arguments import open_source
    from ...manifest._verify import verify_manifest

    wanted = view.wanted
    signature = view.signature
    source = None if signature is None else signature.source
    source = source or open_source(root, allow_cache=wanted.allow_cache)
    if wanted.rate is not None:
        from ...manifest._sources.rated import RatedSource

        source = RatedSource(source, wanted.rate)
    return verify_manifest(
        manifest,
        source,
        paths=parts,
        leaves=leaves,
        threads=wanted.threads,
        allow_extra=wanted.allow_extra,
        fail_fast=wanted.fail_fast,
        refuse_other=True,
        outputs=outputs,
        listener=view,
        comparison=None if signature is None else signature.comparison,
        done=done,
    )


def default_root(name: str, manifest: "Lined") -> str:
    """Return the folder that a manifest describes, found from the manifest's own path.

    Raises:
        FileError: none of the manifest's files exists there.
    """
    if name == STDIN:
        raise click.UsageError("ROOT is needed if WITNESS is standard input (-)")
    folder = folder_of(name)
    if folder is not None and not manifest.options.paths and Path(folder).is_dir():
        return folder
    parent = Path(name).parent
    if any(os.path.lexists(parent / os.fsdecode(path)) for path in manifest.paths):
        return str(parent)
    wanting = "" if folder is None else f"there is no folder {shown(folder)}, and "
    raise FileError(
        f"is not of a folder here: {wanting}none of its files is in the folder "
        f"{shown(str(parent))} around it; name the folder as ROOT"
    )


def _has_trees(manifest: "Lined") -> bool:
    # Not by the entries: to make them all takes longer than to read the manifest.
    digests = manifest.options.digests
    return TREE_ALGORITHM in digests and any(trees.roots for trees in manifest.trees())


def sidecar_of(wanted: VerifyOptions, manifest: "Lined") -> str | None:
    """Return the sidecar that is named, or else there; None without one."""
    has_trees = _has_trees(manifest)
    if wanted.sidecar is not None:
        if not has_trees:
            raise click.UsageError("--leaves: the manifest has no tree roots, which alone have any")
        return wanted.sidecar
    if wanted.manifest == STDIN or not has_trees:
        return None
    sidecar = leaves_name(wanted.manifest)
    return sidecar if os.path.lexists(sidecar) else None


def refused(wanted: VerifyOptions, reason: str, name: str | None = None) -> int:
    """Report that a file or folder cannot be used; return the exit code.

    Args:
        wanted: the options.
        reason: why not.
        name: of the file or folder; None for the manifest.
    """
    name = wanted.manifest if name is None else name
    complain(name, reason)
    with Printer(wanted.command, wanted.as_json, None) as printer:
        printer.document(document(wanted, wanted.root, None, f"{shown(name)}: {reason}"))
    return COULD_NOT_CHECK


def empty_document(wanted: VerifyOptions) -> dict[str, object]:
    """Return the fields of a report where nothing was compared."""
    return document(wanted, wanted.root, None, None)


def document(
    wanted: VerifyOptions,
    root: str | None,
    found: "ManifestReport | None",
    error: str | None,
    options: "Options | None" = None,
) -> dict[str, object]:
    """Return the fields of the JSON object of a comparison."""
    from ...manifest._differences import ManifestReport

    fields: dict[str, object] = {"manifest": wanted.manifest, "root": root}
    if wanted.command == "diff":
        fields["other"] = None
    for key in _IN_FORCE:
        fields[key] = None if options is None else getattr(options, key)
    fields |= dict.fromkeys(ManifestReport().to_fields()) if found is None else found.to_fields()
    return fields | {"error": error}


def _new_maps(plot: str | None) -> "_Maps | None":
    if plot is None:
        return None
    from ..drawings.residue_map import MAX_PANELS

    return _Maps(None if plot == SKETCH else MAX_PANELS)


class VerifyProgress(Listener):
    """Shows a comparison while it runs."""

    def __init__(
        self,
        wanted: VerifyOptions,
        root: str,
        options: "Options",
        printer: Printer,
        signature: SignatureView | None = None,
    ) -> None:
        self.wanted = wanted
        self.printer = printer
        self.signature = signature
        self._in_force = _in_force(options) if signature is None else _left_out(signature)
        self.maps = _new_maps(wanted.plot)
        self._root = root

    def listed(self, count: int) -> None:
        self.printer.listed(count)

    def expect(self, size: int) -> None:
        self.printer.expect(size)

    def advance(self, size: int) -> None:
        self.printer.advance(size)

    def differing(self, path: bytes, windows: WindowRange) -> None:
        if self.maps is not None:
            self.maps.add(path, windows)

    def difference(self, difference: "Difference") -> None:
        printer = self.printer
        if difference.kind == "unreadable":
            printer.error(os.fsdecode(difference.path), difference.reason)
            return
        show_difference(printer, difference)
        if self.wanted.plot == SKETCH and self.maps is not None:
            damage_map = self.maps.take(difference)
            for line in () if damage_map is None else damage_map.sketch(printer.colour):
                printer.line(line)

    def finish(self, found: "ManifestReport") -> None:
        """Draw the maps and print the verdict, after everything was compared."""
        if self.maps is not None and self.wanted.plot not in (None, SKETCH):
            self._draw(str(self.wanted.plot), found, self.maps)
        if not self.wanted.quiet:
            self.printer.line(
                f"{shown(self._root)}: ",
                good=found.holds,
                verdict=_verdict(
                    found, "its manifest" if self.signature is None else "what was signed"
                ),
                more=f"; {_summary(found)}{self._in_force}",
            )

    def _draw(self, plot: str, found: "ManifestReport", maps: "_Maps") -> None:
        from ..drawings.damage_map import draw

        changed = [each for each in found.differences if each.ranges is not None]
        drawn = {each.path: taken for each in changed if (taken := maps.take(each))}
        heading = f"{shown(self._root)}: {_verdict(found)}; {_summary(found)}{self._in_force}"
        notes = _notes([each for each in found.differences if each.path not in drawn])
        draw_all = partial(draw, list(drawn.values()), heading=heading, notes=notes)
        write_plot(plot, draw_all, self.printer)


def _verdict(found: "ManifestReport", witness: str = "its manifest") -> str:
    part = "the part " if found.part else ""
    if found.holds is None:
        return f"{part}could not be checked"
    return f"{part}{'matches' if found.holds else 'does not match'} {witness}"


def _summary(found: "ManifestReport") -> str:
    if found.part:
        files = f"{found.files:,} of {counted(found.manifest_files, 'file')}"
        links = f", {found.links:,} of {counted(found.manifest_links, 'link')}"
        links = links if found.manifest_links else ""
        read = f"{files}{links} checked, {amount(found.bytes)}"
    else:
        read = content(found.files, found.links, found.bytes)
    text = counts_in_words(found.counts())
    if found.excluded:
        paths = sum(each.paths for each in found.excluded)
        text += f"; {counted(paths, 'path')} left out by rules"
    if found.left_out:
        text += f"; {counted(len(found.left_out), 'output')} left out"
    end = ":" if found.files > 0 or found.part else ";"
    return f"{read}{end} {text}" + ("" if found.complete else "; the rest was not compared")


def _in_force(options: "Options") -> str:
    """Return the manifest's options that limit the comparison, for the end of the last line."""
    counts = ((len(options.exclude), "rule"), (len(options.paths), "path"))
    texts = [counted(count, what) for count, what in counts if count]
    text = f"; {' and '.join(texts)} of the manifest in force" if texts else ""
    if options.links_below:
        text += f"; links below {', '.join(map(shown, options.links_below))} were followed"
    return text


def _left_out(signature: SignatureView) -> str:
    """Return the end of the last line for a signature: what its signer left out."""
    if not signature.ignored:
        return ""
    return f"; {counted(signature.ignored, 'path')} left out by the signer"


def _notes(differences: "list[Difference]") -> list[str]:
    """Return lines about the differences that the maps do not show."""
    lines = []
    for kind in KINDS:
        names = [
            f"{shown(os.fsdecode(each.path))}{more_of(each) if kind == 'moved' else ''}"
            for each in differences
            if each.kind == kind
        ]
        lines += [f"{kind}: {name}" for name in names[:_NAMES_DRAWN]]
        if len(names) > _NAMES_DRAWN:
            lines.append(f"{kind}: and {len(names) - _NAMES_DRAWN:,} more")
    return lines


class _Maps:
    """The maps of changed files.

    Args:
        most: number of files to keep maps of, the first ones by path.
    """

    def __init__(self, most: int | None) -> None:
        from ..drawings.damage_map import DamageMap

        self._new = DamageMap
        self._most = most
        self._maps: dict[bytes, DamageMap] = {}
        self._end: bytes | None = None  # maps of this path and later ones are not kept

    def add(self, path: bytes, changed: WindowRange) -> None:
        """Mark neighbouring windows of a file that differ."""
        damage_map = self._maps.get(path)
        if damage_map is None:
            if self._end is not None and path >= self._end:
                return
            damage_map = self._maps[path] = self._new(shown(os.fsdecode(path)))
            if self._most is not None and len(self._maps) > self._most:
                self._end = max(self._maps)
                del self._maps[self._end]
        damage_map.update(changed.first, changed.stop)

    def take(self, difference: "Difference") -> "DamageMap | None":
        """Return the finished map of a file; None if it was not kept."""
        damage_map = self._maps.pop(difference.path, None)
        if damage_map is not None:
            damage_map.finish(difference.size or 0, difference.found_size or 0)
        return damage_map
