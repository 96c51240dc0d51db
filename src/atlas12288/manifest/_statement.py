# SPDX-License-Identifier: Apache-2.0
"""A manifest as a file: an in-toto Statement v1 with one subject.

    {"_type":"https://in-toto.io/Statement/v1","predicate":{"files":[
    <entry>,
    <entry>
    ],"options":
    <options>
    ,"root":"<64 hex>"},"predicateType":"https://atlas12288/manifest/v1",
    "subject":[{"digest":{"sha256":"<64 hex>"},"name":"."}]}

The root and the subject's digest both cover the options and the entries, so the rules and all else
that decides a verdict cannot change without them. There is one subject because verifiers match
subjects one by one: with a subject per file they would not notice a removed file. A manifest
contains no time, so the same folder gives the same bytes. Keys are in the order of RFC 8785, and
the only white space is one line break after `[`, after each entry, and around the options. Readers
accept other white space and another order of keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from .. import _json
from .._errors import WitnessError
from .._files import FileError
from ._entries import DIGESTS, Entry, LineDigests, Lines, lines_of
from ._paths import check_outside, check_path, is_text

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://atlas12288/manifest/v1"
SUBJECT_ALGORITHM: Final = "sha256"  # a name that every reader of statements knows
# Of a manifest in JSON, which is read whole: enough for some twenty million files.
MANIFEST_MOST_BYTES: Final = 1 << 32
SUBJECT_NAME: Final = "."  # the folder, wherever it is
SYMLINKS: Final = ("record", "error", "follow")
# What is before the entries, and between them and the options.
MANIFEST_BEGIN: Final = b'{"_type":"%b","predicate":{"files":[\n' % STATEMENT_TYPE.encode()
OPTIONS_BEGIN: Final = b'\n],"options":\n'


class Options(NamedTuple):
    """The options that a manifest was generated with and is verified with.

    Attributes:
        digests: the algorithms of each file's digests, at least one, in the order of `DIGESTS`.
        symlinks: one of `SYMLINKS`.
        exclude: rules in gitignore syntax; files that they match are not part of the manifest.
        paths: the files and folders that it covers, relative to the folder; empty for all.
        links_below: folders outside the folder that links may also lead into, relative to it,
            sorted, each once; only if links are followed.
    """

    digests: tuple[str, ...] = DIGESTS[:1]
    symlinks: str = SYMLINKS[0]
    exclude: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    links_below: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return the canonical JSON, in UTF-8.

        Raises:
            WitnessError: `of_json` would refuse it, so that only valid manifests are written.
        """
        fields = {
            "digests": self.digests,
            "exclude": self.exclude,
            "linksBelow": self.links_below,
            "paths": self.paths,
            "symlinks": self.symlinks,
        }
        text = _text(fields)
        self.of_json(json.loads(text))
        return text.encode()

    @classmethod
    def of_json(cls, value: object) -> Options:
        """Return the options of a JSON object.

        Raises:
            WitnessError: not options; the message names the key, its value and the rule.
        """
        fields = _json.Fields.of(
            value, "options", ("digests", "exclude", "linksBelow", "paths", "symlinks")
        )
        digests = fields.value("digests")
        fields.check(
            "digests",
            isinstance(digests, list)
            and digests != []
            and digests == [d for d in DIGESTS if d in digests],
            f"a list of one or both of {', '.join(DIGESTS)}, in this order",
        )
        symlinks = fields.choice("symlinks", *SYMLINKS)
        exclude, links_below, paths = (
            _texts(fields, key) for key in ("exclude", "linksBelow", "paths")
        )
        for path in paths:
            check_path(path.encode(), "paths")
        for path in links_below:
            check_outside(path.encode(), "linksBelow")
        fields.check(
            "linksBelow", list(links_below) == sorted(set(links_below)), "sorted, each once"
        )
        holds = links_below == () or symlinks == "follow"
        fields.check("linksBelow", holds, "empty where symlinks is not 'follow'")
        return cls(tuple(digests), symlinks, exclude, paths, links_below)


class Witnessed(Protocol):
    """The content of a manifest that verification needs; `Manifest` has it."""

    @property
    def options(self) -> Options:
        """The options of the manifest."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """An entry for each file and symbolic link, sorted by path."""


def write_statement(options: Options, entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield the parts of a manifest's JSON, which ends with a line break, in constant memory.

    Args:
        options: options of the manifest.
        entries: its entries, sorted by path, at least one.

    Raises:
        WitnessError: entries are missing, unsorted or repeated, or a reader would refuse the
            options.
    """
    return write_lines(options, lines_of(entries))


def write_lines(options: Options, all_lines: Iterable[Lines]) -> Iterator[bytes]:
    """Yield the same as `write_statement` from the lines of the entries, which are in order."""
    chosen = options.to_json()
    digests = LineDigests()
    digests.add(Lines.of([chosen]))
    yield MANIFEST_BEGIN.removesuffix(b"\n")
    separator = b"\n"
    for lines in all_lines:
        digests.add(lines)
        yield separator + lines.text[:-1].replace(b"\n", b",\n")
        separator = b",\n"
    if separator == b"\n":
        raise WitnessError("files is empty, must have at least one")
    yield OPTIONS_BEGIN + chosen
    yield b"\n" + statement_end(digests.root(), digests.sha256())


def statement_end(root: bytes, sha256: bytes) -> bytes:
    """Return what follows the line of the options in a manifest's JSON."""
    subject = [{"digest": {SUBJECT_ALGORITHM: sha256.hex()}, "name": SUBJECT_NAME}]
    return (
        f',"root":{_text(root.hex())}}},"predicateType":{_text(PREDICATE_TYPE)},'
        f'"subject":{_text(subject)}}}\n'
    ).encode()


def bounded(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts of a manifest unchanged, up to the length that readers accept.

    Raises:
        FileError: it is longer than `MANIFEST_MOST_BYTES`.
    """
    size = 0
    for part in parts:
        size += len(part)
        if size > MANIFEST_MOST_BYTES:
            raise FileError(
                f"is a manifest of more than {MANIFEST_MOST_BYTES:,} bytes, which no reader takes: "
                "make one for each part of the folder"
            )
        yield part


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def line_digests(options: Options, entries: Iterable[Entry]) -> LineDigests:
    """Return the digests of a manifest's lines.

    Raises:
        WitnessError: the entries are not sorted by path, each path once; or a reader would refuse
            the options.
    """
    digests = LineDigests()
    digests.add(Lines.of([options.to_json()]))
    for lines in lines_of(entries):
        digests.add(lines)
    return digests


def read_statement(text: str | bytes) -> tuple[Options, tuple[Entry, ...], bytes]:
    """Return options, entries and root of a manifest in JSON; bytes are UTF-8.

    Raises:
        WitnessError: not a manifest, or its root or subject does not match options and entries;
            the message names the key, its value and the rule.
        TypeError: neither str nor bytes.
    """
    document = _json.Fields(text, ("_type", "predicate", "predicateType", "subject"))
    document.choice("_type", STATEMENT_TYPE)
    document.choice("predicateType", PREDICATE_TYPE)
    _refuse_former(document.value("predicate"))
    predicate = _json.Fields.of(
        document.value("predicate"), "predicate", ("files", "options", "root")
    )
    options = Options.of_json(predicate.value("options"))
    files = predicate.value("files")
    predicate.check("files", isinstance(files, list) and files != [], "a list of at least one")
    entries = tuple(_entries(files, options.digests))
    digests = line_digests(options, entries)
    root = digests.root()
    lined = "options and files"
    predicate.check(
        "root", predicate.digest("root") == root, f"{root.hex()}, the root over {lined}"
    )
    subjects = document.value("subject")
    document.check("subject", isinstance(subjects, list) and len(subjects) == 1, "a list of one")
    subject = _json.Fields.of(subjects[0], "subject", ("digest", "name"))
    subject.choice("name", SUBJECT_NAME)
    claimed = _json.Fields.of(subject.value("digest"), "digest", (SUBJECT_ALGORITHM,))
    found = digests.sha256()
    holds = claimed.digest(SUBJECT_ALGORITHM) == found
    claimed.check(SUBJECT_ALGORITHM, holds, f"{found.hex()}, the SHA-256 of {lined}")
    return options, entries, root


def _refuse_former(predicate: object) -> None:
    """Refuse the form that versions before the first release wrote."""
    if isinstance(predicate, dict) and "digests" in predicate and "options" not in predicate:
        raise WitnessError(
            "predicate has the key 'digests', must have 'options': the manifest is of a version "
            "before the release, and must be made anew"
        )


def _texts(fields: _json.Fields, key: str) -> tuple[str, ...]:
    values = fields.value(key)
    holds = isinstance(values, list) and all(map(is_text, values))
    fields.check(key, holds, "a list of texts of whole characters")
    return tuple(values)


def _entries(files: list[object], digests: tuple[str, ...]) -> Iterator[Entry]:
    for index, value in enumerate(files):
        try:
            yield Entry.of_json(value, digests)
        except WitnessError as error:
            raise WitnessError(f"files[{index}]: {error}") from error
