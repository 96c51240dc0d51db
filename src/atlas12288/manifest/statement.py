# SPDX-License-Identifier: Apache-2.0
"""A manifest as a file: an in-toto Statement v1 with one subject, the root over the entries.

    {"_type":"https://in-toto.io/Statement/v1","predicate":{"digests":["sha256"],"exclude":[],
    "files":[
    <entry>,
    <entry>
    ],"paths":[],"symlinks":"record"},"predicateType":"https://atlas12288/manifest/v1",
    "subject":[{"digest":{"sha256-merkle-entries":"<64 hex>"},"name":"."}]}

One subject, because verifiers match subjects one by one: with a subject for each file they would
not miss a file that was removed. It holds no time, so that the same folder gives the same bytes.
The order of the keys is that of RFC 8785, and white space is one line end after `[` and after each
entry. Other white space and another order of keys are read too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from .. import _json
from ..errors import WitnessError
from .entries import DIGESTS, EntriesRoot, Entry, in_order
from .paths import check_path, is_text

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://atlas12288/manifest/v1"
ROOT_ALGORITHM: Final = "sha256-merkle-entries"
SUBJECT_NAME: Final = "."  # the folder, wherever it is
SYMLINKS: Final = ("record", "error", "follow")


class Options(NamedTuple):
    """What a manifest was made with, and is verified with.

    Attributes:
        digests: the algorithms of each file's digests, at least one, in the order of `DIGESTS`.
        symlinks: one of `SYMLINKS`.
        exclude: rules in the syntax of gitignore; what they match is no part of the manifest.
        paths: the files and folders that it is of, relative to the folder; all of it where empty.
        links_below: folders outside of the folder below which links may lead too, relative to it,
            sorted, each once; only where links are followed.
    """

    digests: tuple[str, ...] = DIGESTS[:1]
    symlinks: str = SYMLINKS[0]
    exclude: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    links_below: tuple[str, ...] = ()


def write_statement(options: Options, entries: Iterable[Entry]) -> Iterator[bytes]:
    """The parts of a manifest's JSON, which ends with a line end; in constant memory.

    Args:
        options: of the manifest.
        entries: sorted by path, at least one.

    Raises:
        WitnessError: they are not sorted by path, each path once, or there is none.
    """
    yield (
        f'{{"_type":{_text(STATEMENT_TYPE)},"predicate":{{"digests":{_text(options.digests)},'
        f'"exclude":{_text(options.exclude)},"files":['
    ).encode()
    root = EntriesRoot()
    separator = b"\n"
    for entry in in_order(entries):
        form = entry.to_json()
        root.add(form)
        yield separator + form
        separator = b",\n"
    if separator == b"\n":
        raise WitnessError("files is empty, must have at least one")
    subject = [{"digest": {ROOT_ALGORITHM: root.digest().hex()}, "name": SUBJECT_NAME}]
    below = f'"linksBelow":{_text(options.links_below)},' if options.links_below else ""
    yield (
        f'\n],{below}"paths":{_text(options.paths)},"symlinks":{_text(options.symlinks)}}},"predicateType":{_text(PREDICATE_TYPE)},'
        f'"subject":{_text(subject)}}}\n'
    ).encode()


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_statement(text: str | bytes) -> tuple[Options, tuple[Entry, ...], bytes]:
    """Options, entries and root of a manifest in JSON; bytes are UTF-8.

    Raises:
        WitnessError: not a manifest, or its subject is not the root over its entries; the message
            names the key, its value and the rule.
        TypeError: neither str nor bytes.
    """
    document = _json.Fields(text, ("_type", "predicate", "predicateType", "subject"))
    document.choice("_type", STATEMENT_TYPE)
    document.choice("predicateType", PREDICATE_TYPE)
    keys = ("digests", "exclude", "files", "paths", "symlinks")
    value = document.value("predicate")
    has_below = isinstance(value, dict) and "linksBelow" in value
    predicate = _json.Fields.of(value, "predicate", (*keys, "linksBelow") if has_below else keys)
    digests = predicate.value("digests")
    predicate.check(
        "digests",
        isinstance(digests, list)
        and digests != []
        and digests == [d for d in DIGESTS if d in digests],
        f"a list of one or both of {', '.join(DIGESTS)}, in this order",
    )
    exclude, paths = (_texts(predicate, key) for key in ("exclude", "paths"))
    for path in paths:
        check_path(path.encode(), "paths")
    options = Options(tuple(digests), predicate.choice("symlinks", *SYMLINKS), exclude, paths)
    if has_below:
        options = options._replace(links_below=_texts(predicate, "linksBelow"))
    files = predicate.value("files")
    predicate.check("files", isinstance(files, list) and files != [], "a list of at least one")
    root = EntriesRoot()
    entries = tuple(in_order(_entries(files, options.digests)))
    for entry in entries:
        root.add(entry.to_json())
    subjects = document.value("subject")
    document.check("subject", isinstance(subjects, list) and len(subjects) == 1, "a list of one")
    subject = _json.Fields.of(subjects[0], "subject", ("digest", "name"))
    subject.choice("name", SUBJECT_NAME)
    claimed = _json.Fields.of(subject.value("digest"), "digest", (ROOT_ALGORITHM,))
    found = root.digest()
    holds = claimed.digest(ROOT_ALGORITHM) == found
    claimed.check(ROOT_ALGORITHM, holds, f"{found.hex()}, the root over the files")
    return options, entries, found


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
