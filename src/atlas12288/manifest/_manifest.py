# SPDX-License-Identifier: Apache-2.0
"""Manifests for Python users."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, Self

from .._files import FileError, RegularFile, naming
from .._types import Lazy
from .._value import Value
from ._arguments import Name, local_files, open_source, root_and_paths
from ._beside import outputs_in
from ._entries import Entry
from ._listener import FunctionListener
from ._paths import quoted
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
    """The digests of all files of a folder, a bucket or their like, with one root.

    Made by `Manifest.generate(folder)` and `from_json`. It holds no time, so that the same files
    give equal manifests. It can be pickled. Form: docs/manifests.md.

    Attributes:
        options: what it was made with, and is verified with.
        entries: one for each file and symbolic link, sorted by path.
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
        client: distributed.Client | None = None,
        storage_options: Mapping[str, Any] | None = None,
        allow_cache: bool = False,
        advance: Callable[[int], None] | None = None,
        note: Callable[[str], object] | None = None,
    ) -> Self:
        """Return the manifest of a folder, or of some of its files.

        Args:
            paths: a folder, or a URL of fsspec; or several files and folders below `root`.
            root: the folder or URL that `paths` are relative to; the current folder where None.
            tree: each file gets the root of its tree, which is made on all cores, also of one file,
                and says where the file changed if `leaves` are there.
            flat: each file gets its SHA-256 digest.
            symlinks: "record" where they lead, "follow" them where that is in the folder, or
                "error" where there is one.
            links_below: with symlinks="follow", folders outside of the folder below which links may
                lead too. Recorded in the manifest, relative to the folder.
            exclude: rules in the syntax of gitignore, after the rules of `.atlasignore` in the
                folder.
            threads: how many; None for one for each core that this process may use.
            leaves: write the sidecar with the leaves of all files to this file; needs `output`. It
                replaces nothing but the leaves of the manifest that is at `output`.
            output: write the manifest to this file, whole or not at all. It replaces nothing but a
                manifest or witness file.
            state: keep in this file what the next run needs: if this one is killed, that one goes
                on. True for a file in the user's state folder, as on the command line: then a run
                of seconds keeps nothing meanwhile, and goes on without where that folder cannot be
                used. None to keep nothing.
            update: read only files whose size, modification time or ctime changed since the run
                that wrote `output` and kept `state`.
            ignore_ctime: what is known of a file counts where its ctime alone changed, as by a
                backup that makes hard links or sets access times back.
            client: a Dask cluster that reads and hashes.
            storage_options: of fsspec, for a URL.
            allow_cache: read what a URL such as `simplecache::s3://bucket` keeps on this machine,
                which is not the storage itself.
            advance: called with the number of bytes read since its last call.
            note: is told, in a sentence, what the run knows from one before, or why it knows
                nothing, which paths a rule leaves out, and how many links lead out of the folder
                and are not followed.

        Raises:
            FileError: there is no file, or one of them cannot be read; then nothing is written. Or
                a file cannot be written.
            WitnessError: a path leads out of the folder.
            ValueError, TypeError: an argument is not as above.
            ImportError: an extra that is needed is not installed.
        """
        # Here, so that reading and verifying a manifest do without SQLite.
        from ._generate import generate_entries, generate_manifest, read_options

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
        problems = _Problems(advance, note)
        common: dict[str, Any] = {
            "state": True if state is True else written.get("state"),
            "ignore_ctime": ignore_ctime,
            "threads": threads,
            "client": client,
            "listener": problems,
        }
        try:
            if output is None:
                _, entries = generate_entries(source, options, **common)
            else:
                made, sidecar = written["output"], written.get("leaves")
                generate_manifest(source, options, made, leaves=sidecar, update=update, **common)
        except NoFileError as error:
            with naming(what, base):
                raise error
        problems.check()
        if output is None:
            return cls.from_entries(options, entries)
        with RegularFile(made) as file:
            return cls.from_json(file.read(0, file.size))

    @classmethod
    def from_entries(cls, options: Options, entries: Iterable[Entry]) -> Self:
        """Return the manifest of entries that are sorted by path.

        Raises:
            WitnessError: they are not, or there is none; or a reader would refuse the options.
        """
        found = tuple(entries)
        root = line_digests(options, found).root()
        return cls._of(options=options, entries=found, root=root)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the manifest of a JSON text, as `to_json` returns it; bytes are UTF-8.

        Raises:
            WitnessError: not such a text, or its root does not fit its options and files; the
                message names the key, its value and the rule.
            TypeError: neither str nor bytes.
        """
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
        """Compare a folder with the manifest; its own rules apply, not a present `.atlasignore`.

        Args:
            root: the folder, or a URL of fsspec.
            leaves: the sidecar of the manifest, to know in which bytes files changed.
            outputs: what `generate` was told to write, and the file that this manifest was read
                from: where these regular files are in the folder they are left out, and the report
                says which. So are `leaves`, if they belong to the manifest, and states in the
                user's state folder.
            threads, advance, storage_options, allow_cache: as for `generate`.
            allow_extra: files that are not in the manifest are no difference.
            fail_fast: the first difference ends it.
            on_difference: called with each difference, in order of path.

        Returns:
            A report, with all differences by path.

        Raises:
            FileError: the folder cannot be listed at all, or the sidecar not be opened.
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

    def __repr__(self) -> str:
        links = sum(entry.target is not None for entry in self.entries)
        size = sum(entry.size for entry in self.entries)
        return (
            f"<Manifest {self.hexdigest()} files {len(self.entries) - links} links {links} "
            f"bytes {size} digests {' '.join(self.options.digests)}>"
        )


class _Problems(FunctionListener):
    """Counts the paths that cannot be read, and keeps the first."""

    def __init__(
        self, advance: Callable[[int], None] | None, note: Callable[[str], object] | None
    ) -> None:
        super().__init__(advance=advance, note=note)
        self._count = 0
        self._first = ""

    def problem(self, path: bytes, reason: str) -> None:
        self._count += 1
        if self._count == 1:
            self._first = f"{quoted(path)} {reason}"

    def check(self) -> None:
        if self._count > 0:
            more = f", and {self._count - 1} more" if self._count > 1 else ""
            raise FileError(f"not all could be read: {self._first}{more}")
