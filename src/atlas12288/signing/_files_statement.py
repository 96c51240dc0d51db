# SPDX-License-Identifier: Apache-2.0
"""What OpenSSF Model Signing signs: an in-toto statement with the digests of all files of a folder.

    {"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"data","digest":
    {"sha256":"<64 hex>"}}],"predicateType":"https://model_signing/signature/v1.0","predicate":
    {"resources":[{"name":"a.bin","algorithm":"sha256","digest":"<64 hex>"}],"serialization":
    {"method":"files","hash_type":"sha256","allow_symlinks":false,"ignore_paths":[".git"]}}}

A resource is a file, or a shard: the bytes of a file from one multiple of the shard size to the
next, with the name `path:start:end`. The digest of the one subject is the SHA-256 of the digests of
all resources, joined.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Final, NamedTuple

from .. import _json
from .._errors import WitnessError
from ..manifest._entries import SIZE_MOST
from ..manifest._paths import check_path, is_text, quoted
from ..manifest._statement import STATEMENT_TYPE
from ._bundle import open_fields

PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
_FORMER_TYPE: Final = "https://model_signing/Digests/v0.1"
METHODS: Final = ("files", "shards")
# The length of a digest in bytes, by the name of its algorithm.
ALGORITHMS: Final = {"sha256": 32, "blake2b": 64, "blake3": 32}
# The path with which model_signing signs a single file; the specification has its name.
ONLY_FILE: Final = b"."
SHARD_BYTES: Final = 1_000_000_000  # the default of the specification
# Left out at the top of a folder, whether a statement names them or not.
GIT_PATHS: Final = (".git", ".gitattributes", ".github", ".gitignore")
_HEX: Final = re.compile("[0-9a-f]*")
_OFFSET: Final = re.compile("0|[1-9][0-9]{0,15}")


class Serialization(NamedTuple):
    """How the files of a statement were listed and hashed.

    Attributes:
        method: one of `METHODS`.
        algorithm: one of `ALGORITHMS`.
        shard_size: size of a shard in bytes; None where whole files are hashed.
        allow_symlinks: whether symbolic links were followed; else there was none.
        ignore_paths: paths that are left out with all below them, besides `GIT_PATHS`.
    """

    method: str
    algorithm: str
    shard_size: int | None
    allow_symlinks: bool
    ignore_paths: tuple[str, ...]


class SignedFile(NamedTuple):
    """A file of a statement.

    Attributes:
        path: relative to the folder, in UTF-8, parts joined by slashes.
        size: size in bytes; None where whole files are hashed, which says nothing of sizes.
        digests: the digest of the file, or of each of its shards.
    """

    path: bytes
    size: int | None
    digests: tuple[bytes, ...]


class FilesStatement(NamedTuple):
    """A statement about the files of a folder.

    Attributes:
        name: name of the folder; it says nothing.
        serialization: how the files were listed and hashed.
        files: at least one, sorted by path, each path once.
    """

    name: str
    serialization: Serialization
    files: tuple[SignedFile, ...]

    def to_json(self, *, mangled: bool = False) -> bytes:
        """Return the statement as JSON, in UTF-8.

        Args:
            mangled: name the algorithm of shards as model_signing 1.1.1 does, which verifies no
                other: `sha256-sharded-1000000000`.
        """
        chosen = self.serialization
        algorithm = _mangled(chosen) if mangled else chosen.algorithm
        resources = sorted(self._resources())
        options: dict[str, object] = {"method": chosen.method, "hash_type": chosen.algorithm}
        if chosen.shard_size is not None:
            options["shard_size"] = chosen.shard_size
        options["allow_symlinks"] = chosen.allow_symlinks
        options["ignore_paths"] = sorted({*GIT_PATHS, *chosen.ignore_paths})
        root = _root(digest for _, digest in resources)
        fields = {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": self.name, "digest": {"sha256": root}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "resources": [
                    {"name": name, "algorithm": algorithm, "digest": digest.hex()}
                    for name, digest in resources
                ],
                "serialization": options,
            },
        }
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    def _resources(self) -> Iterator[tuple[str, bytes]]:
        size = self.serialization.shard_size
        for file in self.files:
            path = file.path.decode()
            if size is None or file.size is None:
                yield path, file.digests[0]
                continue
            for start, digest in zip(range(0, file.size, size), file.digests, strict=True):
                yield f"{path}:{start}:{min(start + size, file.size)}", digest

    @classmethod
    def of_json(cls, value: object) -> FilesStatement:
        """Return the statement of a JSON object.

        Args:
            value: the object, as `_json.read` returns it.

        Raises:
            WitnessError: not such a statement, or its subject is not the digest of its resources;
                the message names the key, its value and the rule.
        """
        document = _json.Fields.of(
            value, "statement", ("_type", "subject", "predicateType", "predicate")
        )
        document.choice("_type", STATEMENT_TYPE)
        if document.value("predicateType") == _FORMER_TYPE:
            raise WitnessError(
                f"predicateType is {_FORMER_TYPE!r}, of model_signing before 0.3: sign it anew"
            )
        document.choice("predicateType", PREDICATE_TYPE)
        predicate = _json.Fields.of(
            document.value("predicate"), "predicate", ("resources", "serialization")
        )
        serialization = _serialization(predicate.value("serialization"))
        values = predicate.value("resources")
        is_list = isinstance(values, list) and values != []
        predicate.check("resources", is_list, "a list of at least one")
        resources = list(_read_resources(values, serialization))
        name, root = _subject(document)
        found = _root(digest for _, digest in resources)
        if root != found:
            raise WitnessError(
                f"subject has the digest {root}, must be {found}, the one of all resources"
            )
        if serialization.shard_size is None:
            files = _whole_files(resources)
        else:
            files = _sharded_files(resources, serialization.shard_size)
        if len(files) > 1 and files[0].path == ONLY_FILE:
            raise WitnessError("resources has '.' and others, must have it alone")
        both = ignored_files([file.path for file in files], serialization.ignore_paths)
        if both:
            raise WitnessError(f"ignore_paths has {quoted(both[0])}, and resources has it too")
        return cls(name, serialization, files)


def _mangled(serialization: Serialization) -> str:
    if serialization.shard_size is None:
        return serialization.algorithm
    return f"{serialization.algorithm}-sharded-{serialization.shard_size}"


def _root(digests: Iterable[bytes]) -> str:
    return sha256(b"".join(digests)).hexdigest()


def _subject(document: _json.Fields) -> tuple[str, str]:
    """Return name and digest of the only subject."""
    subjects = document.value("subject")
    is_one = isinstance(subjects, list) and len(subjects) == 1
    document.check("subject", is_one, "a list of one")
    subject = open_fields(subjects[0], "subject", ("name", "digest"))
    name = subject.value("name")
    subject.check("name", is_text(name) and name != "", "a text of at least one character")
    return name, open_fields(subject.value("digest"), "digest", ("sha256",)).digest("sha256").hex()


def _serialization(value: object) -> Serialization:
    fields = _json.Fields.of(
        value,
        "serialization",
        ("method", "hash_type", "allow_symlinks"),
        *("shard_size", "ignore_paths"),
    )
    method = fields.choice("method", *METHODS)
    algorithm = fields.choice("hash_type", *ALGORITHMS)
    follow = fields.value("allow_symlinks")
    fields.check("allow_symlinks", isinstance(follow, bool), "true or false")
    shard_size = None
    if method == "shards":
        shard_size = _shard_size(fields)
    elif "shard_size" in fields:
        fields.check("shard_size", False, "there only where method is 'shards'")
    ignored = fields.value("ignore_paths") if "ignore_paths" in fields else []
    is_list = isinstance(ignored, list) and all(map(is_text, ignored))
    fields.check("ignore_paths", is_list, "a list of texts of whole characters")
    for path in ignored:
        check_ignored(path)
    return Serialization(method, algorithm, shard_size, follow, tuple(ignored))


def _shard_size(fields: _json.Fields) -> int:
    if "shard_size" not in fields:
        raise WitnessError("key 'shard_size' is missing, must be there where method is 'shards'")
    size = fields.value("shard_size")
    # model_signing writes 1000000000.0, the same number in JSON.
    whole = int(size) if type(size) is float and size.is_integer() else size
    holds = type(whole) is int and 0 < whole <= SIZE_MOST
    fields.check("shard_size", holds, f"an integer in 1..{SIZE_MOST}")
    return int(whole)


def check_ignored(path: str) -> str:
    """Require a path that a statement may leave out.

    Raises:
        WitnessError: not a path below the folder in its one form, or of several lines.
    """
    check_path(path.encode(), "ignore_paths")
    if "\n" in path:
        raise WitnessError(f"ignore_paths has {quoted(path.encode())}, must be of one line")
    return path


def _read_resources(
    values: list[object], serialization: Serialization
) -> Iterator[tuple[str, bytes]]:
    """Yield name and digest of each resource."""
    digits = 2 * ALGORITHMS[serialization.algorithm]
    algorithms = (serialization.algorithm, _mangled(serialization))
    for index, value in enumerate(values):
        try:
            fields = open_fields(value, "resource", ("name", "digest", "algorithm"))
            name, digest = fields.value("name"), fields.value("digest")
            fields.check("name", is_text(name), "a text of whole characters")
            fields.choice("algorithm", *dict.fromkeys(algorithms))
            is_hex = isinstance(digest, str) and _HEX.fullmatch(digest) is not None
            fields.check(
                "digest", is_hex and len(digest) == digits, f"{digits} lowercase hex digits"
            )
        except WitnessError as error:
            raise WitnessError(f"resources[{index}]: {error}") from error
        yield name, bytes.fromhex(digest)


def _path(name: str) -> bytes:
    path = name.encode()
    return path if path == ONLY_FILE else check_path(path, "resources")


def _whole_files(resources: list[tuple[str, bytes]]) -> tuple[SignedFile, ...]:
    files = [SignedFile(_path(name), None, (digest,)) for name, digest in resources]
    paths = [file.path for file in files]
    in_order = sorted(files)
    _require_order(paths, [file.path for file in in_order], [path.split(b"/") for path in paths])
    return tuple(in_order)


def _sharded_files(resources: list[tuple[str, bytes]], shard_size: int) -> tuple[SignedFile, ...]:
    """Return the files of shards, whose ranges must be those of a file of some size."""
    shards = []
    for name, digest in resources:
        before, *offsets = name.rsplit(":", 2)
        if len(offsets) != 2 or not all(map(_OFFSET.fullmatch, offsets)):
            raise WitnessError(f"resources has {quoted(name.encode())}, must be PATH:START:END")
        shards.append((_path(before), int(offsets[0]), int(offsets[1]), digest))
    names = [name.encode() for name, _ in resources]
    by_parts = [(path.split(b"/"), start) for path, start, _, _ in shards]
    _require_order(names, sorted(names), by_parts)
    files: list[tuple[bytes, list[int], list[bytes]]] = []  # path, ends and digests of shards
    for path, start, end, digest in sorted(shards):
        if not files or files[-1][0] != path:
            files.append((path, [0], []))
        _, ends, digests = files[-1]
        if start != ends[-1] or start % shard_size or not 0 < end - start <= shard_size:
            raise WitnessError(
                f"resources has bytes [{start}, {end}) of {quoted(path)} after {ends[-1]}, must "
                f"have each shard of {shard_size} bytes once, the last one of 1..{shard_size}"
            )
        ends.append(end)
        digests.append(digest)
    return tuple(SignedFile(path, ends[-1], tuple(digests)) for path, ends, digests in files)


def _require_order(names: list[bytes], in_order: list[bytes], by_parts: Sequence[object]) -> None:
    """Require names in the order of the specification, or in the order in which model_signing
    writes them: part by part, and shards by their numbers; each once."""
    for name, following in pairwise(in_order):
        if name == following:
            raise WitnessError(f"resources has {quoted(name)} twice, must have it once")
    if names != in_order and any(map(_descends, by_parts, by_parts[1:])):
        wrong = next(each for each, right in zip(names, in_order, strict=True) if each != right)
        raise WitnessError(f"resources has {quoted(wrong)} in another place, must be sorted")


def _descends(first: object, second: object) -> bool:
    return not first < second  # type: ignore[operator]  # lists, or tuples of a list and a number


def ignored_files(paths: list[bytes], ignored: Iterable[str]) -> list[bytes]:
    """Return the ignored paths that are among the paths of files, or above some.

    Args:
        paths: the paths of files, sorted.
        ignored: the paths that are left out.
    """
    found = []
    for each in ignored:
        path = each.encode()
        index, below = bisect_left(paths, path), bisect_left(paths, path + b"/")
        candidates = (*paths[index : index + 1], *paths[below : below + 1])
        if any(other == path or other.startswith(path + b"/") for other in candidates):
            found.append(path)
    return found
