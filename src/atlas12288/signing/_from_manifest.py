# SPDX-License-Identifier: Apache-2.0
"""The statement of OpenSSF Model Signing from a manifest, without reading a file.

The statement says less than a manifest can: it knows no recorded links, no rules but paths, and no
parts of a folder. What it cannot say is refused, because it would be verified as something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from .._errors import WitnessError
from .._witness import ALGORITHM
from .._words import counted, word
from ..manifest._entries import Entry
from ..manifest._paths import is_utf8, quoted
from ..manifest._sources.gitignore import Rule
from ..manifest._statement import Options, Witnessed
from ._files_statement import (
    GIT_PATHS,
    FilesStatement,
    Serialization,
    SignedFile,
    check_ignored,
    ignored_files,
)

_SHOWN: Final = 3  # names in a message
_GIT: Final = frozenset(path.encode() for path in GIT_PATHS)
OTHER_FORM: Final = "the manifest itself can be signed (--form manifest)"


def files_statement(
    manifest: Witnessed,
    name: str,
    *,
    ignored: Iterable[str] = (),
    note: Callable[[str], object] | None = None,
) -> FilesStatement:
    """Return the statement with the digests of a manifest.

    Args:
        manifest: as above, with flat digests.
        name: name of the folder, for people.
        ignored: more paths to leave out, such as the signature in the folder.
        note: called with a sentence about files of the manifest that are left out.

    Raises:
        WitnessError: the manifest says what the statement cannot say; the message says what to do.
    """
    options = manifest.options
    if ALGORITHM not in options.digests:
        raise WitnessError(
            f"has no flat digests, which are what is signed: witness it without --no-flat; or "
            f"{OTHER_FORM}"
        )
    serialization = serialization_of(options, ALGORITHM, None, ignored)
    left_out = 0
    files = []
    for entry in _files(manifest.entries):
        assert entry.sha256 is not None
        if entry.path.partition(b"/")[0] in _GIT:
            left_out += 1
        else:
            files.append(SignedFile(entry.path, None, (entry.sha256,)))
    if not files:
        raise WitnessError(f"has no file but those of git ({', '.join(GIT_PATHS)}), must have one")
    if left_out and note is not None:
        note(f"{counted(left_out, 'file')} of git not signed, as the form demands")
    require_text(file.path for file in files)
    both = ignored_files([file.path for file in files], serialization.ignore_paths)
    if both:
        raise WitnessError(
            f"has {quoted(both[0])}, which is to be left out, such as the signature itself: "
            "witness the folder again with --exclude for it"
        )
    return FilesStatement(name, serialization, tuple(files))


def serialization_of(
    options: Options, algorithm: str, shard_size: int | None, ignored: Iterable[str] = ()
) -> Serialization:
    """Return how files are listed and hashed, from the options of a manifest.

    Args:
        options: the options.
        algorithm: the algorithm of the digests.
        shard_size: size of a shard in bytes; None to hash whole files.
        ignored: more paths to leave out.

    Raises:
        WitnessError: the options say what the statement cannot say.
    """
    if options.paths:
        raise WitnessError(
            f"is of {counted(len(options.paths), 'path')} of a folder, and what is signed is "
            f"always the whole; {OTHER_FORM}"
        )
    paths = [*_ignored_paths(options.exclude), *ignored]
    method = "files" if shard_size is None else "shards"
    follow = options.symlinks == "follow"
    found = tuple(sorted({check_ignored(path) for path in paths} - set(GIT_PATHS)))
    return Serialization(method, algorithm, shard_size, follow, found)


def _ignored_paths(rules: tuple[str, ...]) -> Iterator[str]:
    """Yield the paths that rules leave out, where each rule leaves out one."""
    refused = []
    for text in rules:
        rule = Rule(text)
        if not rule.matches_something:
            continue
        path = rule.literal
        if path is None or rule.in_names or rule.negative or rule.only_folders:
            refused.append(text)
            continue
        yield path.decode()
    if refused:
        raise WitnessError(
            f"has {counted(len(refused), 'rule')} that the form cannot say, such as "
            f"{', '.join(quoted(rule.encode()) for rule in refused[:_SHOWN])}: it knows paths "
            f"alone, such as /a/b, without '*', '?', '[', '!' and a '/' at the end; {OTHER_FORM}"
        )


def _files(entries: tuple[Entry, ...]) -> Iterator[Entry]:
    links = sum(entry.target is not None for entry in entries)
    if links:
        first = next(entry.path for entry in entries if entry.target is not None)
        raise WitnessError(links_refused(links, first, "witness --symlinks follow"))
    yield from entries


def links_refused(count: int, first: bytes, follow: str = "--symlinks follow") -> str:
    """Return why symbolic links cannot be signed, and what to do.

    Args:
        count: number of links.
        first: path of one.
        follow: what follows links instead.
    """
    return (
        f"has {counted(count, 'symbolic link')}, such as {quoted(first)}, and the form knows files "
        f"alone: {follow} takes the files that they lead to, --links-below DIR also those below "
        f"another folder; or {OTHER_FORM}"
    )


def require_text(paths: Iterable[bytes]) -> None:
    """Require that all paths are UTF-8.

    Raises:
        WitnessError: some are not; the message has their number.
    """
    wrong = [path for path in paths if not is_utf8(path)]
    if wrong:
        raise WitnessError(
            f"has {counted(len(wrong), 'name')} that {word(len(wrong), 'is', 'are')} not UTF-8, "
            f"such as {quoted(wrong[0])}, "
            f"which the form cannot say; {OTHER_FORM}"
        )
