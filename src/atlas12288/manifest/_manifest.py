# SPDX-License-Identifier: Apache-2.0
"""The class `Manifest`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, Self

from .._files import FileError, RegularFile, naming
from .._types import Lazy
from .._value import Value
from ._arguments import Name, hasher, local_files, open_source, root_and_paths
from ._beside import outputs_in
from ._entries import Entry, LineDigests, Lines, read_text
from ._lined import Lined
from ._listener import FunctionListener
from ._paths import canonical_paths, quoted
from ._sources.links import folders_outside
from ._sources.source import NoFileError
from ._state_folder import leave_out_states
from ._statement import Options, line_digests, read_statement, write_statement

if TYPE_CHECKING:
    import distributed

    from . import _differences
else:
    distributed, _differences = Lazy("distributed"), Lazy(f"{__package__}._differences")


class Manifest(Value):
    """The digests of all files of a folder or bucket, with one root.

    Made by `Manifest.generate(folder)` and `from_json`. It contains no time, so the same files give
    equal manifests. It can be pickled. File format: docs/manifests.md.

    Attributes:
        options: the options that it was generated with and is verified with.
        entries: one entry for each file and symbolic link, sorted by path.
        root: the root over the options and the entries, 32 bytes.
    """

    __slots__ = _FIELDS = ("options", "entries", "root")
    _MADE_BY = "Manifest.generate() or from_json()"

    options: Options
    entries: tuple[Entry, ...]
    root: bytes

    @classmethod
    def generate(
        cls,
        paths: Name | Sequence[Name],
        *,
        root: Name | None = None,
        tree: bool = False,
        flat: bool = True,
        symlinks: Literal["record", "follow", "error"] = "record",
        links_below: Sequence[Name] = (),
        exclude: Sequence[str] = (),
        threads: int | None = None,
        leaves: Name | None = None,
        output: Name | None = None,
        state: Name | Literal[True] | None = None,
        update: bool = False,
        ignore_ctime: bool = False,
        accept: bool | Name | Sequence[Name] = False,
        client: distributed.Client | None = None,
        storage_options: Mapping[str, Any] | None = None,
        allow_cache: bool = False,
        advance: Callable[[int], None] | None = None,
        note: Callable[[str], object] | None = None,
    ) -> Self:
        """Generate the manifest of a folder, or of some of its files.

        Args:
            paths: a folder, an fsspec URL, or several files and folders below `root`.
            root: the folder or URL that `paths` are relative to; None for the current folder.
            tree: compute the root of each file's tree, on all cores even for one file. With
                `leaves` it later tells where a file changed.
            flat: compute the SHA-256 digest of each file.
            symlinks: "record" the targets of links, "follow" links inside the folder, or treat each
                link as an "error".
            links_below: with symlinks="follow", folders outside the folder that links may also
                lead into. They are recorded in the manifest, relative to the folder.
            exclude: rules in gitignore syntax, which follow the rules of the folder's
                `.atlasignore`.
            threads: number of threads; None for one per core that this process may use.
            leaves: write the leaves of all files to this file, the sidecar; needs `output`. Only
                the leaves of the manifest at `output` are replaced.
            output: write the manifest to this file, completely or not at all. Only a manifest or
                witness file is replaced.
            state: keep the state in this file, so that the next run can resume or update. True
                for a file in the user's state folder, as on the command line: then a run of a few
                seconds saves nothing until its end, and a run continues without a state if that
                folder cannot be used. None to keep no state.
            update: read only files whose size, modification time or ctime changed since the run
                that wrote `output` and kept `state`. Damage in the others is not seen.
            ignore_ctime: with `update`, skip files whose ctime alone changed, as by backups
                that make hard links or reset access times.
            accept: a file whose content changed since the manifest at `output` was written, while
                its size and modification time did not, is not known to have been edited: then
                nothing is written. True takes all such files into the new manifest; a path relative
                to the folder, or several, takes only these. The times come from `state`, which also
                has what a refused run read: only that is accepted, and nothing of it is read again.
            client: a Dask client; its cluster reads and hashes the files.
            storage_options: fsspec options, for a URL.
            allow_cache: allow URLs such as `simplecache::s3://bucket`, which read copies on this
                machine instead of the storage.
            advance: called with the number of bytes read since its last call.
            note: called with a sentence for each thing worth telling: what is known from an earlier
                run or why nothing is, which of `paths` a rule leaves out, how many links lead out
                of the folder and are not followed.

        Raises:
            FileError: there is no file, a file cannot be read (then nothing is written), or a file
                cannot be written.
            MismatchError: a file is not known to have been edited, see `accept`; a WitnessError.
                Its report has these files.
            WitnessError: a path leads out of the folder.
            ValueError, TypeError: an argument is not as above.
            ImportError: an extra that is needed is not installed.
        """
        # Here, so that reading and verifying a manifest do without SQLite.
        from ._generate import generate_lines, generate_manifest, read_options

        base, parts = root_and_paths(paths, root)
        what = "paths" if root is None and not parts else "root"
        written = local_files(output=output, leaves=leaves, state=None if state is True else state)
        with naming(what, base):
            source = open_source(base, storage_options, allow_cache=allow_cache)
        options = read_options(
            source,
            tree=tree,
            flat=flat,
            symlinks=symlinks,
            exclude=exclude,
            paths=parts,
            links_below=folders_outside(os.fspath(base), links_below, "links_below"),
        )
        if leaves is not None and output is None:
            raise ValueError(f"leaves is {os.fspath(leaves)!r}, must be None without output")
        if state is True and output is None:
            raise ValueError("state is True, must be a path or None without output")
        if update and output is None:
            raise ValueError("update is True, must be False without output")
        if accept and output is None:
            raise ValueError(f"accept is {accept!r}, must be False without output")
        problems = _Problems(advance, note)
        common: dict[str, Any] = {
            "state": True if state is True else written.get("state"),
            "ignore_ctime": ignore_ctime,
            "hash_files": hasher(threads, client),
            "listener": problems,
        }
        try:
            if output is None:
                _, lines = generate_lines(source, options, **common)
            else:
                made, sidecar = written["output"], written.get("leaves")
                generate_manifest(
                    source,
                    options,
                    made,
                    leaves=sidecar,
                    update=update,
                    accept=_accepted(accept),
                    **common,
                )
                if problems.changes is not None:
                    from ._changes import require_accepted

                    require_accepted(problems.changes, made)
        except NoFileError as error:
            with naming(what, base):
                raise error
        problems.check()
        if output is None:
            return cls._of_lines(options, lines)
        with RegularFile(made) as file:
            return cls.from_json(file.read(0, file.size))

    @classmethod
    def from_entries(cls, options: Options, entries: Iterable[Entry]) -> Self:
        """Return the manifest with these entries, which must be sorted by path.

        Raises:
            WitnessError: they are not sorted or are empty, or the options are not valid.
        """
        found = tuple(entries)
        root = line_digests(options, found).root()
        return cls._of(options=options, entries=found, root=root)

    @classmethod
    def _of_lines(cls, options: Options, all_lines: Iterable[Lines]) -> Self:
        """Return the manifest with these lines, which are in order and at least one."""
        digests = LineDigests()
        digests.add(Lines.of([options.to_json()]))
        entries: list[Entry] = []
        for lines in all_lines:
            digests.add(lines)
            entries += read_text(lines.text, options.digests)
        return cls._of(options=options, entries=tuple(entries), root=digests.root())

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the manifest of a JSON text, as `to_json` returns it; bytes are UTF-8.

        Raises:
            WitnessError: not a manifest, or its root does not match its options and files; the
                message names the key, its value and the rule.
            TypeError: neither str nor bytes.
        """
        if isinstance(text, bytes):
            lined = Lined.read(text)
            if lined is not None:
                return cls._of(options=lined.options, entries=lined.entries, root=lined.root)
        options, entries, root = read_statement(text)
        return cls._of(options=options, entries=entries, root=root)

    def to_json(self) -> str:
        """Return the manifest as JSON, an in-toto statement; equal manifests give equal text."""
        return b"".join(write_statement(self.options, self.entries)).decode()

    def hexdigest(self) -> str:
        """Return the root in lowercase hex."""
        return self.root.hex()

    def verify(
        self,
        root: Name,
        *,
        paths: Name | Sequence[Name] = (),
        leaves: Name | None = None,
        outputs: Sequence[Name] = (),
        threads: int | None = None,
        allow_extra: bool = False,
        fail_fast: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        allow_cache: bool = False,
        advance: Callable[[int], None] | None = None,
        on_difference: Callable[[_differences.Difference], object] | None = None,
    ) -> _differences.ManifestReport:
        """Compare a folder with the manifest; the rules in the manifest apply, not `.atlasignore`.

        Args:
            root: the folder, or an fsspec URL.
            paths: compare only these files and folders of the manifest, relative to the folder;
                empty for everything. The report's `part` has them.
            leaves: the sidecar of the manifest, to find the bytes that changed.
            outputs: files that `generate` wrote, and the file that this manifest was read from. If
                these regular files are in the folder, they are left out, as are `leaves` that
                belong to the manifest and states in the user's state folder. The report's
                `left_out` names them.
            threads, advance, storage_options, allow_cache: as for `generate`.
            allow_extra: allow files that are not in the manifest.
            fail_fast: stop at the first difference.
            on_difference: called with each difference, in order of path.

        Returns:
            The report, with all differences in order of path.

        Raises:
            FileError: the folder cannot be listed at all, or the sidecar cannot be opened.
            WitnessError: a path leads out of the folder, or the manifest has nothing there.
            ValueError, TypeError: an argument is not as above.
            ImportError: an extra that is needed is not installed.
        """
        from ._verify import verify_manifest

        with naming("root", root):
            source = open_source(root, storage_options, allow_cache=allow_cache)
        with ExitStack() as stack:
            sidecar = None
            own = outputs_in(source.name, [os.fspath(name) for name in outputs])
            leave_out_states(own, source.name)
            if leaves is not None:
                local_files(leaves=leaves)  # no URL
                with naming("leaves", leaves):
                    sidecar = stack.enter_context(RegularFile(os.fspath(leaves)))
            try:
                return verify_manifest(
                    self,
                    source,
                    paths=canonical_paths(map(os.fsencode, _several(paths)), "path"),
                    leaves=sidecar,
                    outputs=own,
                    threads=threads,
                    allow_extra=allow_extra,
                    fail_fast=fail_fast,
                    listener=FunctionListener(advance=advance, difference=on_difference),
                )
            except NoFileError as error:
                with naming("root", root):
                    raise error

    def diff(
        self,
        other: Manifest,
        *,
        leaves: Name | None = None,
        other_leaves: Name | None = None,
        on_difference: Callable[[_differences.Difference], object] | None = None,
    ) -> _differences.ManifestReport:
        """Compare this manifest with another one, which is taken as what there is now.

        Manifests with other digests, rules, paths or treatment of links are compared by what both
        have; the report's `other_options` and `not_compared` say so.

        Args:
            other: the other manifest.
            leaves, other_leaves: the sidecars of this manifest and of the other one, to find the
                bytes that changed; both or neither.
            on_difference: called with each difference, in order of path.

        Returns:
            The report, with all differences in order of path. No file was read: its `bytes` is 0.

        Raises:
            FileError: the manifests have nothing in common, or a sidecar cannot be opened.
            ValueError, TypeError: an argument is not as above.
        """
        from ._diff import Comparison
        from ._manifest_file import Entries

        if not isinstance(other, Manifest):
            raise TypeError(f"other is of type {type(other).__name__}, must be a Manifest")
        if (leaves is None) != (other_leaves is None):
            raise ValueError("leaves and other_leaves: one is given, must be both or neither")
        sidecars: list[RegularFile | None] = []
        with ExitStack() as stack:
            names = local_files(leaves=leaves, other_leaves=other_leaves)
            for argument in ("leaves", "other_leaves"):
                name = names.get(argument)
                with naming(argument, name or ""):
                    opened = None if name is None else stack.enter_context(RegularFile(name))
                sidecars.append(opened)
            comparison = stack.enter_context(Comparison(self.options, other.options))
            comparison.compare_manifests(
                Entries(self.options, self.entries, self.root),
                Entries(other.options, other.entries, other.root),
                (sidecars[0], sidecars[1]),
            )
            found = []
            for difference in comparison.differences():
                if on_difference is not None:
                    on_difference(difference)
                found.append(difference)
            return comparison.report(found)

    def __repr__(self) -> str:
        links = sum(entry.target is not None for entry in self.entries)
        size = sum(entry.size for entry in self.entries)
        return (
            f"<Manifest {self.hexdigest()} files {len(self.entries) - links} links {links} "
            f"bytes {size} digests {' '.join(self.options.digests)}>"
        )


def _accepted(accept: bool | Name | Sequence[Name]) -> Literal[True] | tuple[bytes, ...]:
    if isinstance(accept, bool):
        return accept or ()
    return canonical_paths(map(os.fsencode, _several(accept)), "path") or True


def _several(paths: Name | Sequence[Name]) -> Sequence[Name]:
    return [paths] if isinstance(paths, str | os.PathLike) else paths


class _Problems(FunctionListener):
    """Counts the paths that cannot be read, and keeps the first."""

    def __init__(
        self, advance: Callable[[int], None] | None, note: Callable[[str], object] | None
    ) -> None:
        super().__init__(advance=advance, note=note)
        self.changes: _differences.Changes | None = None
        self._count = 0
        self._first = ""

    def problem(self, path: bytes, reason: str) -> None:
        self._count += 1
        if self._count == 1:
            self._first = f"{quoted(path)} {reason}"

    def replacing(self, changes: _differences.Changes) -> None:
        self.changes = changes

    def check(self) -> None:
        if self._count > 0:
            more = f", and {self._count - 1} more" if self._count > 1 else ""
            raise FileError(f"not all could be read: {self._first}{more}")
