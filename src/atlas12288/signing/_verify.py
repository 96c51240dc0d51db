# SPDX-License-Identifier: Apache-2.0
"""Verify a bundle: its signature first, then the files of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .. import _json
from .._errors import WitnessError
from .._files import FileError, naming
from .._types import Lazy
from .._witness import ALGORITHM
from ..manifest._arguments import Name, open_source
from ..manifest._beside import is_url, outputs_in
from ..manifest._differences import Difference, ManifestReport
from ..manifest._entries import UNKNOWN_SIZE, Entry
from ..manifest._file_comparison import FileComparison
from ..manifest._hashing.engine import hash_files
from ..manifest._hashing.file_hash import Digests
from ..manifest._lined import Lined
from ..manifest._listener import FunctionListener
from ..manifest._paths import quoted
from ..manifest._sources.folder import Folder
from ..manifest._sources.links import folders_outside
from ..manifest._sources.source import Found, NoFileError, Source
from ..manifest._statement import PREDICATE_TYPE as MANIFEST_TYPE
from ..manifest._statement import Options
from ..manifest._verify import verify_manifest
from ._bundle import Bundle, SignatureError
from ._files_statement import (
    GIT_PATHS,
    ONLY_FILE,
    FilesStatement,
    SignedFile,
    check_ignored,
    ignored_files,
)
from ._rules import rules_of
from ._shards import hash_shards, new_hasher

if TYPE_CHECKING:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
else:
    datetime, x509 = Lazy("datetime"), Lazy("cryptography.x509")
    ec = Lazy("cryptography.hazmat.primitives.asymmetric.ec")

_RANGES_SHOWN: Final = 3  # shards in a message


def verify(
    bundle: Bundle,
    root: Name,
    *,
    public_key: ec.EllipticCurvePublicKey | None = None,
    certificate_roots: Sequence[x509.Certificate] = (),
    at: datetime.datetime | None = None,
    identity: str | None = None,
    issuer: str | None = None,
    links_below: Sequence[Name] = (),
    ignored: Sequence[str] = (),
    outputs: Sequence[Name] = (),
    threads: int | None = None,
    allow_extra: bool = False,
    fail_fast: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    allow_cache: bool = False,
    advance: Callable[[int], None] | None = None,
    on_difference: Callable[[Difference], object] | None = None,
) -> ManifestReport:
    """Verify a signature, then compare a folder with what was signed.

    Nothing of the folder is looked at before the signature holds.

    Args:
        bundle: the signature and what it signs: the digests of files or shards, or a manifest.
        root: the folder, a single file, or an fsspec URL.
        public_key: the key of the signer, as from `cryptography`.
        certificate_roots: certificates that are trusted, instead of a key: the chain of the
            bundle must lead to one of them.
        at: when the certificates must be valid; None for now. A bundle does not say when it was
            signed.
        identity, issuer: who signed without a key, and the URL of the OpenID Connect provider that
            knew the identity; Sigstore's client verifies such a bundle, by what it knows of the
            public services, without asking them.
        links_below: folders outside the folder that links may also lead into, if the statement
            says that links were followed.
        ignored: paths that are left out with all below them, besides those that the signer left
            out; none of them may be signed.
        outputs: files that are not part of the folder, such as the one that the bundle was read
            from; as for `Manifest.verify`.
        threads, allow_extra, fail_fast, storage_options, allow_cache, advance, on_difference: as
            for `Manifest.verify`.

    Returns:
        The report, with all differences in order of path.

    Raises:
        SignatureError: the signature does not hold.
        WitnessError: what was signed is neither a manifest nor a statement of OpenSSF Model
            Signing.
        FileError: the folder cannot be listed at all.
        ValueError, TypeError: an argument is not as above.
        ImportError: an extra or package that is needed is not installed.
    """
    require_signer(bundle, public_key, certificate_roots, at, identity, issuer)
    folders = folders_outside(os.fspath(root), links_below, "links_below")
    with naming("root", root):
        source = open_signed(root, storage_options, allow_cache=allow_cache)
    signed = Signed.of(bundle.payload, folders, ignored, only_name(root))
    own = outputs_in(source.name, [os.fspath(name) for name in outputs])
    try:
        return verify_manifest(
            signed.content,
            source,
            threads=threads,
            allow_extra=allow_extra,
            fail_fast=fail_fast,
            outputs=own,
            listener=FunctionListener(advance=advance, difference=on_difference),
            comparison=signed.comparison,
        )
    except NoFileError as error:
        with naming("root", root):
            raise error


def require_signer(
    bundle: Bundle,
    public_key: ec.EllipticCurvePublicKey | None,
    certificate_roots: Sequence[x509.Certificate],
    at: datetime.datetime | None,
    identity: str | None = None,
    issuer: str | None = None,
) -> None:
    """Require that a signature holds, for one key, under trusted certificates, or of an identity.

    Raises:
        SignatureError: it does not hold.
        ValueError, TypeError: an argument is not as for `verify`.
        ImportError: cryptography, or for an identity sigstore, is not installed.
    """
    from ._keys import require_public_key, require_signature

    if [public_key is not None, bool(certificate_roots), identity is not None].count(True) != 1:
        raise ValueError("one of public_key, certificate_roots and identity must be given")
    if (identity is None) != (issuer is None):
        raise ValueError("identity and issuer must be given together")
    if at is not None and not certificate_roots:
        raise ValueError("at is for certificates, must be None without certificate_roots")
    if identity is not None and issuer is not None:
        from ._keyless import require_identity

        require_identity(bundle, identity, issuer)
        return
    if bundle.sigstore is not None:
        raise SignatureError("is signed by an identity: name it, and the issuer that knows it")
    if public_key is not None:
        key = require_public_key(public_key)
        if bundle.certificates:
            # The key is trusted for itself; certificates beside it say nothing more.
            from ._certificates import require_key_of

            require_key_of(bundle.certificates[0], key)
    else:
        from ._certificates import trusted_key

        key = trusted_key(bundle.certificates, certificate_roots, at)
    require_signature(bundle, key)


def open_signed(
    root: Name, storage_options: Mapping[str, Any] | None = None, *, allow_cache: bool = False
) -> Source:
    """Return the source of what is signed: a folder, a URL, or a single file.

    Raises:
        FileError, ImportError, ValueError: as `open_source`.
    """
    only = only_name(root)
    if only is None or storage_options or allow_cache:
        return open_source(root, storage_options, allow_cache=allow_cache)
    return Folder(Path(root).parent, only=only)


def only_name(root: Name) -> bytes | None:
    """Return the name of a single file; None for a folder or URL."""
    name = os.fspath(root)
    return os.fsencode(Path(name).name) if not is_url(name) and Path(name).is_file() else None


class Signed:
    """What was signed, as it is compared with a folder.

    Attributes:
        content: options and entries.
        comparison: how files are compared with the entries.
        ignored: number of paths that the signer left out.
    """

    def __init__(self, content: Lined, comparison: FileComparison, ignored: int = 0) -> None:
        self.content = content
        self.comparison = comparison
        self.ignored = ignored

    @classmethod
    def of(
        cls,
        payload: bytes,
        links_below: tuple[str, ...] = (),
        ignored: Sequence[str] = (),
        only: bytes | None = None,
    ) -> Signed:
        """Return the content of a payload whose signature holds.

        Args:
            payload: the statement.
            links_below: folders outside the folder that followed links may lead into, relative.
            ignored: more paths to leave out.
            only: the name of the only file that is compared; None for a folder.

        Raises:
            WitnessError: neither a manifest nor a statement of OpenSSF Model Signing; or a path
                that is to be left out is signed.
            ValueError: `links_below` or `ignored` are given, and what is signed has no use for
                them.
            ImportError: an algorithm needs a package that is not installed.
        """
        manifest = _manifest(payload)
        if manifest is not None:
            if links_below or ignored:
                raise ValueError("a manifest is signed, with its own rules and folders for links")
            return cls(manifest, FileComparison())
        statement = FilesStatement.of_json(_json.read(payload))
        chosen = statement.serialization
        if links_below and not chosen.allow_symlinks:
            raise ValueError("links_below must be empty: what is signed has no links")
        new_hasher(chosen.algorithm)  # raises ImportError before any work
        files = statement.files
        if files[0].path == ONLY_FILE:
            if only is None:
                raise WitnessError("is of a single file: name the file as ROOT, not its folder")
            files = (files[0]._replace(path=only),)
        paths = [file.path for file in files]
        for path in ignored_files(paths, map(check_ignored, ignored)):
            raise WitnessError(f"has {quoted(path)}, which is to be ignored and is signed")
        rules = rules_of(chosen, paths, ignored)
        follow = "follow" if chosen.allow_symlinks else "record"
        options = Options((ALGORITHM,), follow, rules, (), links_below)
        entries = tuple(map(_entry, files))
        content = Lined.of(_Content(options, entries))
        left_out = len(set(chosen.ignore_paths) - set(GIT_PATHS))
        return cls(content, _SignedComparison(statement), left_out)


class _Content:
    def __init__(self, options: Options, entries: tuple[Entry, ...]) -> None:
        self.options = options
        self.entries = entries


def _manifest(payload: bytes) -> Lined | None:
    """Return a signed manifest; None if something else is signed."""
    found = Lined.read(payload)
    if found is None and MANIFEST_TYPE.encode() in payload:
        statement = _json.read(payload)
        if isinstance(statement, dict) and statement.get("predicateType") == MANIFEST_TYPE:
            from ..manifest._manifest import Manifest

            return Lined.of(Manifest.from_json(payload))
    return found


def _entry(file: SignedFile) -> Entry:
    """Return a file as an entry; its digests, joined, are in the place of one."""
    size = UNKNOWN_SIZE if file.size is None else file.size
    return Entry(file.path, size, 0, b"".join(file.digests))


class _SignedComparison(FileComparison):
    """Hashes files as a statement says."""

    has_lines = False

    def __init__(self, statement: FilesStatement) -> None:
        self._chosen = statement.serialization

    def hash_files(
        self,
        source: Source,
        founds: Sequence[Found],
        digests: tuple[str, ...],
        *,
        threads: int | None,
        leaves: object = None,
        advance: Callable[[int], None] | None = None,
    ) -> Generator[tuple[Found, Digests | FileError], None, None]:
        """Yield the digests of files; those of shards are joined."""
        _, algorithm, size, _, _ = self._chosen
        if algorithm == ALGORITHM and size is None:
            yield from hash_files(source, founds, digests, threads=threads, advance=advance)
            return
        results = hash_shards(source, founds, algorithm, size, threads=threads, advance=advance)
        for found, result in results:
            if isinstance(result, FileError):
                yield found, result
            else:
                yield found, Digests(0, b"".join(result), None)

    def differing(
        self, entry: Entry, found: Found, digests: Digests
    ) -> tuple[tuple[str, ...], str]:
        """Return the algorithm if a digest differs, and for shards which ones."""
        if entry.sha256 == digests.sha256:
            return (), ""
        size = self._chosen.shard_size
        reason = "" if size is None else _shards_differing(entry, digests, size)
        return (self._chosen.algorithm,), reason

    def unlisted(self, found: Found) -> Entry | None:
        """Return what is expected of an empty file, which has no shard: that it is empty."""
        if self._chosen.shard_size is None or found.target is not None or found.size:
            return None
        return Entry(found.path, 0, 0, b"")


def _shards_differing(entry: Entry, digests: Digests, size: int) -> str:
    """Return words for the bytes of the shards that differ."""
    expected, now = entry.sha256 or b"", digests.sha256 or b""
    count = -(-entry.size // size)
    length = len(expected) // count if count else 0
    wrong = [
        number
        for number in range(count)
        if expected[number * length : (number + 1) * length]
        != now[number * length : (number + 1) * length]
    ]
    ranges = [f"[{n * size}, {min((n + 1) * size, entry.size)})" for n in wrong[:_RANGES_SHOWN]]
    more = f" and {len(wrong) - _RANGES_SHOWN:,} more" if len(wrong) > _RANGES_SHOWN else ""
    return f"differs in the shards of bytes {', '.join(ranges)}{more}"
