# SPDX-License-Identifier: Apache-2.0
"""Generate the manifest of a folder or other source: list it, read unknown files, write.

Known files are kept in a `Store`, so that a run takes little memory. With a `StateFile`, a run
resumes where the last one was killed, or updates a manifest by reading only changed files. The
result has the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, NamedTuple

from .._files import FileError, RegularFile, naming, shown
from .._outputs import Target, atomic_write_all, open_outdated
from .._witness import TREE_ALGORITHM, WitnessStream
from ._beside import Outputs, is_url, leaves_name, outputs_in, state_name
from ._entries import Entry, Lines, flat_and_tree, names_of
from ._file_table import ListingCounts
from ._hashing import engine
from ._hashing.engine import HashFiles
from ._hashing.siblings import hash_siblings
from ._keeper import KEPT_AFTER_S
from ._kept_states import Place, moment, open_state
from ._kinds import WITNESSES, leaves_of
from ._known_lines import Piece
from ._last_run import last_lines
from ._leaves_file import LeavesFile, remove_leaves
from ._listener import SILENT, Listener
from ._paths import is_text, quoted
from ._sources.links import leads_out
from ._sources.selection import (
    IGNORE_FILE,
    Excluded,
    Selection,
    ignore_file_rules,
    listed,
    walked,
)
from ._sources.siblings import Siblings
from ._sources.source import Found, NoFileError, Source
from ._state_file import StateFile
from ._state_folder import InUseError, leave_out_states, machine, real_path
from ._state_frames import REFUSED, Begun, Context, Finished, Known
from ._statement import SYMLINKS, Options, bounded, write_lines
from ._store import Store

if TYPE_CHECKING:
    from ._changes import Accept


class RunCounts(NamedTuple):
    """The counts of a run.

    Attributes:
        files: number of files.
        links: number of symbolic links.
        bytes: total size of the files.
        read: files read, including those that failed.
        known: files skipped because nothing about them has changed.
        errors: number of paths that could not be listed or read; if any, nothing was written.
        by_ctime: files read only because their ctime changed.
        own_rules: number of rules in the ignore file of the source.
        excluded: number of paths that each rule excluded, for rules that excluded any.
        refused: number of files whose change was not accepted; if any, nothing was written.
    """

    files: int
    links: int
    bytes: int
    read: int
    known: int
    errors: int
    by_ctime: int = 0
    own_rules: int = 0
    excluded: tuple[Excluded, ...] = ()
    refused: int = 0


def read_options(
    source: Source,
    *,
    tree: bool = False,
    flat: bool = True,
    symlinks: str = SYMLINKS[0],
    exclude: Sequence[str] = (),
    paths: Iterable[bytes] = (),
    links_below: Sequence[str] = (),
) -> Options:
    """Return the options of a new manifest; reads the `.atlasignore` of the source.

    Its rules come before `exclude`.

    Args:
        source: the source of the files.
        tree, flat: the digests to compute, at least one.
        symlinks: "record", "error" or "follow".
        exclude: rules in the syntax of gitignore.
        paths: the files and folders to witness; empty for all.
        links_below: other folders that links may lead into, as from `links.folders_outside`.

    Raises:
        ValueError: no digest is wanted, or an argument is not as above.
        FileError: the ignore file cannot be read.
    """
    digests = names_of((flat, tree))
    if not digests:
        raise ValueError("flat and tree are False, must not both be: a file needs a digest")
    if symlinks not in SYMLINKS:
        raise ValueError(f"symlinks is {symlinks!r}, must be one of {', '.join(SYMLINKS)}")
    if links_below and symlinks != "follow":
        raise ValueError(f"links_below has {links_below[0]!r}, must be empty without following")
    if isinstance(exclude, str):
        raise TypeError("exclude is of type str, must be a sequence of texts")
    try:
        text = source.read_small(IGNORE_FILE.encode())
        own = () if text is None else ignore_file_rules(text)
    except FileError as error:
        raise FileError(f"{IGNORE_FILE}: {error}") from error
    names = []
    for path in sorted(set(paths)):
        name = os.fsdecode(path)
        if not is_text(name):
            raise ValueError(f"paths has {quoted(path)}, must be UTF-8")
        names.append(name)
    return Options(digests, symlinks, (*own, *exclude), tuple(names), tuple(links_below))


def generate_manifest(
    source: Source,
    options: Options,
    output: str,
    *,
    leaves: str | None = None,
    state: Place | None = None,
    update: bool = False,
    ignore_ctime: bool = False,
    accept: Accept = (),
    hash_files: HashFiles = engine.hash_files,
    listener: Listener = SILENT,
    streams: frozenset[tuple[int, int]] = frozenset(),
) -> RunCounts:
    """Write a manifest, completely or not at all, in constant memory.

    Args:
        source: where the files are.
        options: the options of the manifest, as `read_options` returns them.
        output: the file to write; only a manifest or witness file is replaced.
        leaves: the sidecar to write; needs tree roots. Only the leaves of the manifest at `output`
            are replaced. A manifest without tree roots has no leaves: those beside the manifest
            that it replaces are removed.
        state: file for the data that the next run needs, True for one in the user's state folder,
            or None. If the state folder cannot be used, the run continues without a state.
        update: skip files whose size, modification time and ctime are the same as when the manifest
            of `state` was written.
        ignore_ctime: skip files whose ctime alone changed, as by a hard link.
        accept: the files whose content may have changed while their size and modification time did
            not, as `_changes.Accept`, if the last run refused them as they are now. If there are
            others, nothing is written: the counts say so. A run that accepts goes on with the
            results of the one that did not.
        hash_files: reads and hashes the files, as `_arguments.hasher` returns it.
        listener: called with the progress. Its notes say what is known from an earlier run or why
            nothing is, which paths of the options a rule leaves out, and how many links lead out
            of the folder and are not followed.
        streams: device and inode of open files that are written during the run; they are left out.

    Returns:
        The counts.

    Raises:
        FileError: there is nothing to witness, the source cannot be listed, a file cannot be
            written, or the state is in use by another run; also the errors of `open_state` for
            the path of a state.
        ValueError, TypeError: an argument is not as above.
        ImportError: an extra that is needed is not installed.
    """
    with ExitStack() as stack:
        targets = []
        for what, name, kind in (
            ("output", output, WITNESSES),
            ("leaves", leaves, leaves_of(output)),
        ):
            if name is not None:
                with naming(what, name):
                    targets.append(stack.enter_context(Target(name, kind)))
        outdated = None
        if TREE_ALGORITHM not in options.digests:
            outdated = open_outdated(leaves_name(output), leaves_of(output))
        run = _Run(source, options, hash_files, listener, accept)
        names = [target.name for target in targets]
        if outdated is not None:
            names.append(stack.enter_context(outdated).name)
        store = stack.enter_context(
            run.store(names, output, leaves, state, update, ignore_ctime, streams)
        )
        outcome = run.fill(store)
        if outcome.errors > 0:
            return outcome
        if (refused := run.refused(store, output, leaves)) > 0:
            store.keep_refused()
            return outcome._replace(refused=refused)
        digest = WitnessStream()
        with atomic_write_all(*targets, outdated=outdated) as files:
            lines = store.lines(None if leaves is None else files[-1].write, run.identities)
            write = files[0].write
            for part in bounded(write_lines(options, lines)):
                digest.update(part)
                write(part)
        run.finish(store, digest.digest(), outcome)
        if outdated is not None:
            listener.note(
                f"{shown(outdated.name)} is removed: it had the leaves of the manifest that was "
                "replaced, and this one has no trees"
            )
    return outcome


def generate_lines(
    source: Source,
    options: Options,
    *,
    outputs: Sequence[str] = (),
    state: str | None = None,
    ignore_ctime: bool = False,
    hash_files: HashFiles = engine.hash_files,
    listener: Listener = SILENT,
    streams: frozenset[tuple[int, int]] = frozenset(),
) -> tuple[RunCounts, tuple[Lines, ...]]:
    """Return the counts and the lines of a new manifest; none if there are errors. Arguments as
    for `generate_manifest`; `outputs` are files that will be written, and are left out. A state is
    only kept during the run, because there is no manifest to update."""
    run = _Run(source, options, hash_files, listener)
    with run.store(outputs, None, None, state, False, ignore_ctime, streams) as store:
        outcome = run.fill(store)
        if outcome.errors > 0:
            return outcome, ()
        lines = tuple(store.lines())
        run.finish(store, None, outcome)
        return outcome, lines


def _threads(hash_files: HashFiles) -> tuple[bool, int | None]:
    """Return whether threads of this process read and hash the files, and how many if not one for
    each core."""
    if isinstance(hash_files, partial):
        return hash_files.func is engine.hash_files, hash_files.keywords.get("threads")
    return hash_files is engine.hash_files, None


class _Run:
    def __init__(
        self,
        source: Source,
        options: Options,
        hash_files: HashFiles,
        listener: Listener,
        accept: Accept = (),
    ) -> None:
        self._source = source
        self._accept = accept
        self._options = options
        self._digests = flat_and_tree(options.digests)
        self._hash_files = hash_files
        # Small files are listed and read together where this process hashes.
        self._together, self._threads = _threads(hash_files)
        self._listener = listener
        self._note = listener.note
        self._errors = 0
        self._links_out = 0
        self._selection = Selection()
        self._listed = ListingCounts(0, 0, 0, 0, 0)
        self._context: Context = {}
        self._state: StateFile | None = None
        self._must_keep = False  # a state in a place that was named
        self._leaves: LeavesFile | None = None
        self._accepts = False  # does it go on with a run that was refused?

    @contextmanager
    def store(
        self,
        outputs: Iterable[str],
        output: str | None,
        leaves: str | None,
        place: Place | None,
        update: bool,
        ignore_ctime: bool,
        streams: frozenset[tuple[int, int]],
    ) -> Iterator[Store]:
        """Yield the store of the listed files and the facts known about them."""
        if leaves is not None and TREE_ALGORITHM not in self._options.digests:
            raise ValueError(f"leaves is {leaves!r}, must be None without tree roots")
        if update and place is None:
            raise ValueError("update is True, must be False if no state is kept")
        if ignore_ctime and is_url(self._source.name):
            raise ValueError("ignore_ctime is True, must be False for a URL: objects have none")
        with ExitStack() as stack:
            self._must_keep = place is not True
            self._state = state = self._open_state(place, output)
            if state is not None:
                stack.enter_context(state)
            self._context = self._context_of(output, leaves is not None)
            begun = self._begun(output)
            if leaves is not None and output is not None:
                sidecar = None if begun is None else begun.sidecar
                self._leaves = self._leaves or LeavesFile(output, sidecar)
                stack.callback(self._leaves.close)
            store = stack.enter_context(
                Store(
                    self._options.digests,
                    state,
                    self._leaves,
                    # A caller who names a place wants it kept, however short the run is.
                    kept_after=KEPT_AFTER_S if place is True else 0.0,
                    failed=self._give_up,
                    together=self._together,
                )
            )
            known_from = self._load(store, output, begun, update)
            options = self._options
            own = outputs_in(self._source.name, outputs, streams)
            self._leave_out(own)
            selection = Selection(
                options.exclude,
                options.symlinks,
                own,
                options.links_below,
                [path.encode() for path in options.paths],
            )
            self._selection = selection
            last_sidecar = None
            if leaves is not None:
                with suppress(FileError):  # the missing leaves are computed again
                    last_sidecar = RegularFile(leaves)
            self._listed = store.begin(
                self._listing(selection),
                self._context,
                update or (begun is not None and begun.update),
                last_sidecar,
                # What a refused run read is accepted as it was read, or not at all.
                ignore_ctime=ignore_ctime and not self._accepts,
            )
            if known_from is not None:
                known, parts = self._listed.known, self._listed.parts
                files = "1 file" if known == 1 else f"{known:,} files"
                more = f", {parts:,} in part" if parts else ""
                self._note(f"{known_from}: {files} known{more}")
            if self._links_out:
                many = f"{self._links_out:,} symbolic links lead"
                what = "a symbolic link leads" if self._links_out == 1 else many
                self._note(f"{what} out of the folder; what is there is not read")
            if selection.left_out:
                first, others = os.fsdecode(min(selection.left_out)), len(selection.left_out) - 1
                more = f", and {others} more" if others else ""
                self._note(f"left out, because a rule excludes it: {shown(first)}{more}")
            if self._listed.files + self._listed.links == 0 and self._errors == 0:
                raise NoFileError("has no file to witness")
            try:
                yield store
            except KeyboardInterrupt:
                if store.is_kept:
                    self._note("what was read is kept: the same command goes on from there")
                raise

    def _listing(self, selection: Selection) -> Iterator[Found | Siblings]:
        name = self._source.name
        # For a URL any root name will do: its links do not contain names of this machine.
        root = b"/root" if is_url(name) else os.path.realpath(os.fsencode(name))
        way = walked if self._together else listed
        count = 0
        for found in way(self._source, selection, self._tell):
            count += found.files if isinstance(found, Siblings) else 1
            self._listener.listed(count)
            if isinstance(found, Siblings):
                yield found
                continue
            if found.target is not None and leads_out(found.path, found.target, root):
                self._links_out += 1
            yield found

    def _open_state(self, place: Place | None, output: str | None) -> StateFile | None:
        if place is None:
            return None
        try:
            state = open_state(place, output)
        except InUseError:
            raise
        except FileError as error:
            if place is not True:
                raise
            self._note(f"keeps no state: {error}")
            return None
        if place is True and output is not None and os.path.lexists(state_name(output)):
            name = shown(state_name(output))
            self._note(f"{name} is not read: states lie elsewhere now, so that it can be removed")
        return state

    def _context_of(self, output: str | None, leaves: bool) -> Context:
        """Return the facts that must be equal in a run that resumes this one."""
        name = self._source.name
        if not is_url(name):
            name = str(Path(name).resolve())
        # Paths and rules are left out: known files count for the files that are listed now.
        return {
            "machine": machine(),
            "output": None if output is None else real_path(output),
            "source": name,
            "digests": list(self._options.digests),
            "leaves": leaves,
        }

    def _other(self, context: Context) -> str:
        """Return how another run differs from this one, in words."""
        return ", ".join(key for key in self._context if context.get(key) != self._context[key])

    def _begun(self, output: str | None) -> Begun | None:
        """Return the run to resume."""
        state = self._state
        if state is None:
            return None
        name = shown(state.path)
        if state.fault is not None:
            self._note(f"the state {name} {state.fault}: begins anew")
            state.end()
            return None
        begun = state.begun
        if begun is None:
            return None
        other = self._other(begun.context)
        if other:
            self._note(f"the state {name} is of a run with another choice of {other}: begins anew")
        elif begun.context.get(REFUSED) is True and not self._accept:
            # Damage since then would not be seen.
            when = moment(begun.time)
            self._note(f"the run at {when} was refused, and nothing is accepted now: begins anew")
        elif begun.sidecar is None or output is None:
            return begun
        else:
            try:
                self._leaves = LeavesFile(output, begun.sidecar)
            except FileError as error:
                why = f"the leaves of the run at {moment(begun.time)} cannot be used ({error})"
                self._note(f"{why}: begins anew")
            else:
                return begun
        if begun.sidecar is not None and begun.context.get("output") == self._context["output"]:
            remove_leaves(output or "", begun.sidecar)
        state.end()
        return None

    def _load(
        self, store: Store, output: str | None, begun: Begun | None, update: bool
    ) -> str | None:
        """Load the results of an earlier run, and return a sentence about that run."""
        state, known_from = self._state, None
        if state is None:
            return None
        if update or (begun is not None and begun.update):
            try:
                known_from = self._load_last(store, state, output)
            except FileError as error:
                self._note(f"{error}: all files are read")
        if begun is not None:
            self._accepts = begun.context.get(REFUSED) is True
            store.load_log(state.log(self._digests), refused=self._accepts)
            known_from = f"goes on with the state of the run at {moment(begun.time)}"
        return known_from

    def _load_last(self, store: Store, state: StateFile, output: str | None) -> str:
        finished = state.finished
        if finished is None or output is None:
            raise FileError("there is no state of a run that wrote the manifest")
        other = self._other(finished.context)
        if other:
            raise FileError(f"the last run had another choice of {other}")
        store.load_last(last_lines(state, finished, output, self._digests))
        return f"goes by the state of the run at {moment(finished.time)}"

    def refused(self, store: Store, output: str, leaves: str | None) -> int:
        """Tell the listener what differs from the manifest that is replaced, after all files were
        read; return the number of files whose change is not accepted."""
        if not os.path.lexists(output):
            return 0
        # Here, because a run that replaces nothing does without.
        from ._changes import Before, New, changes_since

        state = self._state
        finished = None if state is None else state.finished
        # Digests and leaves may be others: the times of the files are the same.
        if finished is not None and any(
            finished.context.get(key) != self._context[key]
            for key in ("machine", "output", "source")
        ):
            finished = None
        new = New(
            self._options,
            lambda identities: store.lines(None, identities),
            store.leaves_of,
            self._refused_entries,
        )
        with ExitStack() as stack:
            sidecar = None
            if leaves is not None:
                with suppress(FileError):  # then no windows are named
                    sidecar = stack.enter_context(RegularFile(leaves, follow=False))
            is_local = not is_url(self._source.name)
            before = Before(output, state, finished, is_local, sidecar)
            changes = changes_since(before, new, self._accept, self._note)
        if changes is None:
            return 0
        self._listener.replacing(changes)
        return changes.refused

    def _refused_entries(self) -> Iterator[tuple[Entry, str]]:
        """Yield what the refused run read with which this one goes on, with the identities."""
        if self._state is None or not self._accepts:
            return
        for record in self._state.log(self._digests):
            if isinstance(record, Known):
                yield Entry(record.path, record.size, *record.digests), record.identity
            elif isinstance(record, Piece):
                yield from (
                    (entry, identity) for entry, identity, _ in record.entries(self._digests)
                )

    def _leave_out(self, outputs: Outputs) -> None:
        """Leave out files that runs of this user write without being given their names."""
        if leave_out_states(outputs, self._source.name):
            self._note("left out: the states of runs, in your state folder")
        if self._state is not None:
            outputs.add(self._state.path, self._state.status)
        if self._leaves is not None and self._leaves.path is not None:
            outputs.add(self._leaves.path, self._leaves.status)

    def identities(self, some: list[bytes]) -> None:
        """Keep the identities of the next entries that are written."""
        if self._state is not None:
            try:
                self._state.keep(some)
            except FileError as error:
                self._give_up(error)

    def _give_up(self, error: FileError) -> None:
        """Stop keeping a state after an error."""
        if self._must_keep:
            raise error
        self._state = None
        self._note(f"nothing more of this run is kept for the next one: {error}")

    def finish(self, store: Store, sha256: bytes | None, outcome: RunCounts) -> None:
        """Record that the manifest was written."""
        store.end()
        if self._state is not None:
            try:
                if sha256 is None:
                    self._state.end()
                else:
                    count = outcome.files + outcome.links
                    self._state.finish(Finished(self._context, int(time()), sha256, count))
            except FileError as error:
                self._note(f"the next --update reads all files: {error}")
        if self._leaves is not None:
            self._leaves.remove()

    def _tell(self, path: bytes, reason: str) -> None:
        self._errors += 1
        self._listener.problem(path, reason)

    def fill(self, store: Store) -> RunCounts:
        """Read the files that are not known."""
        self._listener.expect(self._listed.unread)
        unknown = store.unknown()
        if (first := next(unknown, None)) is not None:
            self._fill_one_by_one(store, chain((first,), unknown))
        if self._together:
            self._fill_together(store)
        total = self._listed
        read = total.files - total.known
        return RunCounts(
            total.files,
            total.links,
            total.bytes,
            read,
            total.known,
            self._errors,
            total.by_ctime,
            self._selection.own,
            self._selection.excluded_by,
        )

    def _fill_together(self, store: Store) -> None:
        results = hash_siblings(
            self._source,
            store.siblings(),
            self._options.digests,
            leaves=self._leaves is not None,
            threads=self._threads,
            since_ns=store.since_ns,
            advance=self._listener.advance,
            problem=self._tell,
        )
        with closing(results):
            for hashed in results:
                store.hashed(hashed)

    def _fill_one_by_one(self, store: Store, founds: Iterable[Found]) -> None:
        results = self._hash_files(
            self._source,
            founds,
            self._options.digests,
            leaves=store.sink if self._leaves is not None else None,
            advance=self._listener.advance,
            progress=store.progress,
            resume=store.resume,
        )
        with closing(results):
            for found, result in results:
                if isinstance(result, FileError):
                    store.failed(found)
                    self._tell(found.path, str(result))
                else:
                    store.known(found, result)
