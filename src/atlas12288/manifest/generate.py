# SPDX-License-Identifier: Apache-2.0
"""Makes the manifest of a folder, or its like: lists it, reads what is not known, writes.

What is known stands in a `Store`, so that a run takes little memory, goes on where the last one was
killed, and can update a manifest by reading only what changed. The result is the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .._outputs import Target, atomic_write_all
from ..files import FileError, RegularFile, shown
from ..witness import ALGORITHM, TREE_ALGORITHM
from . import engine
from .entries import Entry
from .kinds import WITNESSES, leaves_of
from .links import leads_out
from .names import is_url, outputs_in, state_files
from .paths import is_text, quoted
from .rules import IGNORE_FILE, Rules, ignore_file_rules
from .sources import Found, Problem, Source
from .statement import SYMLINKS, Options, write_statement
from .store import Listed, Store

if TYPE_CHECKING:
    from distributed import Client

Note = Callable[[str], object]


class NoFileError(FileError):
    """There is nothing to witness."""


@contextmanager
def naming(what: str, value: str) -> Iterator[None]:
    """Names the argument in the errors about the file that it is."""
    try:
        yield
    except FileError as error:
        raise FileError(f"{what} is '{shown(value)}': {error}") from error


class Outcome(NamedTuple):
    """What a run came to.

    Attributes:
        files: how many files there are.
        links: how many symbolic links.
        bytes: of all files.
        read: how many files were read, those that could not be included.
        known: how many were not, because they are as they were when they were.
        errors: how many paths could not be listed or read. Where there is one nothing was written.
        by_ctime: how many of those that were read are as they were but for their ctime.
    """

    files: int
    links: int
    bytes: int
    read: int
    known: int
    errors: int
    by_ctime: int = 0


def options_of(
    source: Source,
    *,
    tree: bool = False,
    flat: bool = True,
    symlinks: str = SYMLINKS[0],
    exclude: Sequence[str] = (),
    paths: Iterable[bytes] = (),
    links_below: Sequence[str] = (),
) -> Options:
    """The options of a new manifest; rules of the folder's own ignore file are before `exclude`.

    Args:
        source: its root may have an `.atlasignore`.
        tree, flat: which digests each file gets, at least one.
        symlinks: "record", "error" or "follow".
        exclude: rules in the syntax of gitignore.
        paths: those of the source; none for all of it.
        links_below: where links may lead besides, as `links.folders_outside` gives it.

    Raises:
        ValueError: no digest is wanted, or an argument is not as above.
        FileError: the ignore file cannot be read.
    """
    digests = tuple(name for name, on in ((ALGORITHM, flat), (TREE_ALGORITHM, tree)) if on)
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
    state: str | None = None,
    update: bool = False,
    ignore_ctime: bool = False,
    threads: int | None = None,
    client: Client | None = None,
    problem: Problem | None = None,
    expect: Callable[[int], object] | None = None,
    advance: Callable[[int], None] | None = None,
    note: Note | None = None,
    streams: frozenset[tuple[int, int]] = frozenset(),
) -> Outcome:
    """Writes a manifest, whole or not at all, in memory that does not grow with the files.

    Args:
        source: what it is of, made for `options.paths`.
        options: as `options_of` gives them.
        output: the file to write; it replaces nothing but a manifest or witness file.
        leaves: the sidecar to write beside it; needs tree roots. It replaces nothing but the leaves
            of what is at `output`.
        state: the file of the state, which stays there for the next run; None to keep none.
        update: files of which neither size, modification time nor ctime changed since the manifest
            was made for which `state` was kept are not read again.
        ignore_ctime: nor are those of which the ctime alone changed, as by a hard link.
        threads: as for `hash_files`.
        client: a Dask cluster that reads and hashes instead.
        problem: is told of each path that cannot be listed or read, and why; the others go on.
        expect: called with the bytes that will be read, when they are known.
        advance: called with the number of bytes read since its last call.
        note: is told, in a sentence, what happens to a state that was there, which paths of the
            options a rule leaves out, and how many links lead out of the folder and are not
            followed.
        streams: device and inode of open files that are written meanwhile, and are no part of it.

    Returns:
        The counts.

    Raises:
        FileError: nothing is there to witness, the source cannot be listed at all, or a file cannot
            be written; also what `Store` raises.
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
        run = _Run(source, options, threads, client, problem, expect, advance)
        names = [target.name for target in targets]
        store = stack.enter_context(
            run.store(names, leaves, state, update, ignore_ctime, note, streams)
        )
        outcome = run.fill(store)
        if outcome.errors > 0:
            return outcome
        with atomic_write_all(*targets) as files:
            entries = store.entries(None if leaves is None else files[-1].write)
            write = files[0].write
            for part in write_statement(options, entries):
                write(part)
        store.finish()
    return outcome


def generate_entries(
    source: Source,
    options: Options,
    *,
    outputs: Sequence[str] = (),
    state: str | None = None,
    update: bool = False,
    ignore_ctime: bool = False,
    threads: int | None = None,
    client: Client | None = None,
    problem: Problem | None = None,
    expect: Callable[[int], object] | None = None,
    advance: Callable[[int], None] | None = None,
    note: Note | None = None,
    streams: frozenset[tuple[int, int]] = frozenset(),
) -> tuple[Outcome, tuple[Entry, ...]]:
    """As `generate_manifest`, but gives the entries; none where there are errors. `outputs` are
    files that will be written, and are no part of it."""
    run = _Run(source, options, threads, client, problem, expect, advance)
    with run.store(outputs, None, state, update, ignore_ctime, note, streams) as store:
        outcome = run.fill(store)
        if outcome.errors > 0:
            return outcome, ()
        entries = tuple(store.entries())
        store.finish()
    return outcome, entries


def _files_of(state: str | None) -> frozenset[tuple[int, int]]:
    """Device and inode of a state; it is not opened, because to close it would unlock it."""
    found = set()
    for name in () if state is None else state_files(state):
        with suppress(OSError):
            status = os.lstat(name)
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)


class _Run:
    def __init__(
        self,
        source: Source,
        options: Options,
        threads: int | None,
        client: Client | None,
        problem: Problem | None,
        expect: Callable[[int], object] | None,
        advance: Callable[[int], None] | None,
    ) -> None:
        self._source = source
        self._options = options
        self._threads = threads
        self._client = client
        self._problem = problem
        self._expect = expect
        self._advance = advance
        self._errors = 0
        self._leaves = False
        self._links_out = 0
        self._listed = Listed(0, 0, 0, 0, 0)

    @contextmanager
    def store(
        self,
        outputs: Iterable[str],
        leaves: str | None,
        state: str | None,
        update: bool,
        ignore_ctime: bool,
        note: Note | None,
        streams: frozenset[tuple[int, int]],
    ) -> Iterator[Store]:
        """The state, with what is there now and what is known of it."""
        if leaves is not None and TREE_ALGORITHM not in self._options.digests:
            raise ValueError(f"leaves is {leaves!r}, must be None without tree roots")
        if update and state is None:
            raise ValueError("update is True, must be False where no state is kept")
        if ignore_ctime and is_url(self._source.name):
            raise ValueError("ignore_ctime is True, must be False for a URL: objects have none")
        self._leaves = leaves is not None
        note = note or (lambda _: None)
        with ExitStack() as stack:
            store = stack.enter_context(Store(state))
            context = self._context()
            self._choose(store, state, context, update, note)
            options = self._options
            own = outputs_in(self._source.name, outputs, streams | _files_of(state))
            rules = Rules(options.exclude, options.symlinks, own, options.links_below)
            sidecar = None
            if leaves is not None:
                with suppress(FileError):  # what it should have is read again
                    sidecar = RegularFile(leaves)
            self._listed = store.begin(
                json.dumps(context),
                self._listing(rules),
                sidecar,
                ignore_ctime=ignore_ctime,
            )
            if self._links_out:
                many = f"{self._links_out:,} symbolic links lead"
                what = "a symbolic link leads" if self._links_out == 1 else many
                note(f"{what} out of the folder; what is there is not read")
            if rules.left_out:
                first, others = os.fsdecode(min(rules.left_out)), len(rules.left_out) - 1
                more = f", and {others} more" if others else ""
                note(f"left out, because a rule excludes it: {shown(first)}{more}")
            if self._listed.files + self._listed.links == 0 and self._errors == 0:
                raise NoFileError("has no file to witness")
            yield store

    def _listing(self, rules: Rules) -> Iterator[Found]:
        name = self._source.name
        # Any name does for the root of a URL, whose links hold no names of this machine.
        root = b"/root" if is_url(name) else os.path.realpath(os.fsencode(name))
        for found in self._source.list(rules, self._tell):
            if found.target is not None and leads_out(found.path, found.target, root):
                self._links_out += 1
            yield found

    def _context(self) -> dict[str, object]:
        """What must be the same in the run that goes on."""
        name = self._source.name
        if not is_url(name):
            name = str(Path(name).resolve())
        # Not the paths and rules: the listing says of which files what is known counts.
        digests = list(self._options.digests)
        return {"source": name, "digests": digests, "leaves": self._leaves}

    def _choose(
        self, store: Store, state: str | None, context: dict[str, object], update: bool, note: Note
    ) -> None:
        """Goes on with the state, or begins anew."""
        name = "" if state is None else shown(state)
        if not store.is_usable:
            note(f"the state {name} is that of another version of atlas12288: begins anew")
            store.clear()
            return
        if store.options is None:
            if update:
                note(f"the state {name} is new: all files are read")
            return
        try:
            before = json.loads(store.options)
        except ValueError as error:
            raise store.damaged() from error
        other = [key for key in context if before.get(key) != context[key]]
        if other:
            keys = ", ".join(other)
            note(f"the state {name} is of a run with another choice of {keys}: begins anew")
            store.clear()
        elif not store.finished:
            note(f"goes on with the state {name}")
        elif not update:
            store.clear()

    def _tell(self, path: bytes, reason: str) -> None:
        self._errors += 1
        if self._problem is not None:
            self._problem(path, reason)

    def fill(self, store: Store) -> Outcome:
        """Reads what is not known."""
        if self._expect is not None:
            self._expect(self._listed.unread)
        hash_files = engine.hash_files
        if self._client is not None:
            from . import cluster

            hash_files = partial(cluster.hash_files, client=self._client)
        results = hash_files(
            self._source,
            store.unknown(),
            self._options.digests,
            threads=self._threads,
            leaves=store.sink if self._leaves else None,
            advance=self._advance,
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
        listed = self._listed
        read = listed.files - listed.known
        return Outcome(
            listed.files,
            listed.links,
            listed.bytes,
            read,
            listed.known,
            self._errors,
            listed.by_ctime,
        )
