# SPDX-License-Identifier: Apache-2.0
"""Sign the digests of a manifest, or a folder that is read for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from .._errors import WitnessError
from .._files import FileError, naming
from .._native import int_in
from .._types import Lazy
from .._witness import ALGORITHM
from ..manifest._arguments import Name
from ..manifest._beside import paths_in
from ..manifest._entries import SIZE_MOST
from ..manifest._hashing.engine import hash_files
from ..manifest._listener import SILENT, FunctionListener, Listener
from ..manifest._paths import quoted
from ..manifest._sources.links import folders_outside
from ..manifest._sources.selection import Selection, listed
from ..manifest._sources.source import Found, NoFileError, Source
from ..manifest._statement import Witnessed, write_statement
from ._bundle import Bundle
from ._files_statement import (
    ALGORITHMS,
    METHODS,
    SHARD_BYTES,
    FilesStatement,
    Serialization,
    SignedFile,
)
from ._from_manifest import files_statement, links_refused, require_text, serialization_of
from ._rules import rules_of
from ._shards import Hashed, hash_shards, new_hasher
from ._verify import open_signed

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
else:
    x509 = Lazy("cryptography.x509")
    ec = Lazy("cryptography.hazmat.primitives.asymmetric.ec")

FORMS: Final = ("files", "manifest")


def sign(
    manifest: Witnessed,
    key: ec.EllipticCurvePrivateKey,
    *,
    form: Literal["files", "manifest"] = "files",
    certificates: Sequence[x509.Certificate] = (),
    name: str = "data",
    ignored: Sequence[str] = (),
    note: Callable[[str], object] | None = None,
) -> Bundle:
    """Sign the digests of a manifest. No file is read.

    Args:
        manifest: an `atlas12288.Manifest`.
        key: the private key of the signer, ECDSA on P-256, P-384 or P-521.
        form: what is signed: "files", the statement of OpenSSF Model Signing with the flat digests
            of the manifest, which `model_signing` verifies too; or "manifest", the manifest as it
            is, with all that it says.
        certificates: the certificate of the signer and the authorities behind it, in this order;
            empty to sign with a key alone.
        name: name of the folder, for people; only in "files".
        ignored: paths that whoever verifies leaves out, such as the signature in the folder; only
            in "files".
        note: called with a sentence about files of the manifest that the form leaves out.

    Raises:
        WitnessError: the manifest says what the form cannot say; the message says what to do.
        SignatureError: the certificate is of another key, or not for signing.
        ValueError, TypeError: an argument is not as above.
        ImportError: cryptography is not installed.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}, must be one of {', '.join(FORMS)}")
    if form == "manifest":
        return sign_payload(
            b"".join(write_statement(manifest.options, manifest.entries)), key, certificates
        )
    statement = files_statement(manifest, name, ignored=ignored, note=note)
    return sign_payload(statement.to_json(), key, certificates)


def sign_folder(
    root: Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    method: Literal["files", "shards"] = "shards",
    algorithm: Literal["sha256", "blake2b", "blake3"] = "sha256",
    shard_size: int = SHARD_BYTES,
    symlinks: Literal["error", "follow"] = "error",
    links_below: Sequence[Name] = (),
    ignored: Sequence[str] = (),
    outputs: Sequence[Name] = (),
    certificates: Sequence[x509.Certificate] = (),
    for_model_signing: bool = False,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Bundle:
    """Read and sign the files of a folder, with digests that a manifest does not have.

    The paths that the folder's `.atlasignore` leaves out are left out.

    Args:
        root: the folder, a single file, or an fsspec URL.
        key, certificates: as for `sign`.
        method: what has a digest: each of the "files", or "shards" of them, which are hashed many
            at once.
        algorithm: "sha256", "blake2b", or "blake3", which needs the package blake3.
        shard_size: size of a shard in bytes.
        symlinks: treat each link as an "error", or "follow" links inside the folder.
        links_below: with symlinks="follow", folders outside the folder that links may also lead
            into.
        ignored: paths that are left out with all below them, relative to the folder.
        outputs: files that are not part of the folder, such as the one that the bundle is written
            to; those in the folder are among the paths that are left out.
        for_model_signing: name the algorithm of shards as model_signing 1.1.1 does, against the
            specification; it verifies no other.
        threads, advance: as for `Manifest.generate`.

    Raises:
        WitnessError: the folder has what the form cannot say; the message says what to do.
        FileError: there is no file, or a file cannot be read.
        SignatureError, ValueError, TypeError, ImportError: as for `sign`.
    """
    base = os.fspath(root)
    with naming("root", root):
        source = open_signed(root)
    statement = statement_of_folder(
        source,
        name_of(base),
        method=method,
        algorithm=algorithm,
        shard_size=shard_size,
        symlinks=symlinks,
        links_below=folders_outside(base, links_below, "links_below"),
        ignored=[*ignored, *paths_ignored(base, [os.fspath(name) for name in outputs])],
        threads=threads,
        listener=FunctionListener(advance=advance),
    )
    return sign_payload(statement.to_json(mangled=for_model_signing), key, certificates)


def sign_payload(
    payload: bytes, key: ec.EllipticCurvePrivateKey, certificates: Sequence[x509.Certificate] = ()
) -> Bundle:
    """Return the bundle of a payload; arguments as for `sign`."""
    from ._keys import hint_of, require_private_key
    from ._keys import sign_payload as signature_of

    require_private_key(key)
    chain: tuple[bytes, ...] = ()
    if certificates:
        from ._certificates import chain_of

        chain = chain_of(certificates, key.public_key())
    return Bundle._of(
        payload=payload,
        signature=signature_of(payload, key),
        hint=None if chain else hint_of(key.public_key()),
        certificates=chain,
        sigstore=None,
    )


def paths_ignored(root: str, outputs: Iterable[str]) -> list[str]:
    """Return the paths of outputs that are in a folder, relative to it.

    Raises:
        WitnessError: one of them is not UTF-8.
    """
    paths = sorted(path for name in outputs for path in paths_in(root, name))
    require_text(paths)
    return [path.decode() for path in paths]


def name_of(folder: str) -> str:
    """Return the name of a folder for its statement."""
    name = Path(os.path.realpath(folder)).name or "data"
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def statement_of_folder(
    source: Source,
    name: str,
    *,
    method: str = METHODS[0],
    algorithm: str = ALGORITHM,
    shard_size: int = SHARD_BYTES,
    symlinks: str = "error",
    links_below: tuple[str, ...] = (),
    ignored: Iterable[str] = (),
    threads: int | None = None,
    listener: Listener = SILENT,
) -> FilesStatement:
    """Read the files of a source and return the statement about them; arguments as for
    `sign_folder`.

    Raises:
        WitnessError, FileError, ValueError, ImportError: as `sign_folder`.
    """
    from ..manifest._generate import read_options

    if method not in METHODS:
        raise ValueError(f"method is {method!r}, must be one of {', '.join(METHODS)}")
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm is {algorithm!r}, must be one of {', '.join(ALGORITHMS)}")
    if symlinks not in ("error", "follow"):
        raise ValueError(f"symlinks is {symlinks!r}, must be one of error, follow")
    size = int_in(shard_size, "shard_size", 1, SIZE_MOST) if method == "shards" else None
    new_hasher(algorithm)  # raises ImportError before any work
    follow = "follow" if symlinks == "follow" else "record"
    options = read_options(source, symlinks=follow, links_below=links_below)
    serialization = serialization_of(options, algorithm, size, ignored)
    founds = _listed(source, serialization, follow, links_below, listener)
    listener.expect(sum(found.size for found in founds))
    files = []
    results = _hashed(source, founds, serialization, threads, listener)
    problems = _Problems()
    with closing(results):
        for found, digests in results:
            if isinstance(digests, FileError):
                problems.add(found.path, str(digests))
            elif digests:
                known = None if size is None else found.size
                files.append(SignedFile(found.path, known, digests))
    problems.check()
    if not files:
        raise FileError("has no file with a byte, which alone has a shard")
    return FilesStatement(name, serialization, tuple(sorted(files)))


def _listed(
    source: Source,
    serialization: Serialization,
    symlinks: str,
    links_below: tuple[str, ...],
    listener: Listener,
) -> list[Found]:
    """Return the files of a folder in order of path."""
    problems = _Problems()
    selection = Selection(rules_of(serialization), symlinks, links_below=links_below)
    founds = []
    for found in listed(source, selection, problems.add):
        founds.append(found)
        listener.listed(len(founds))
    problems.check()
    founds.sort()
    links = [found.path for found in founds if found.target is not None]
    if links:
        raise WitnessError(links_refused(len(links), links[0]))
    if not founds:
        raise NoFileError("has no file to sign")
    require_text(found.path for found in founds)
    return founds


def _hashed(
    source: Source,
    founds: list[Found],
    serialization: Serialization,
    threads: int | None,
    listener: Listener,
) -> Generator[Hashed, None, None]:
    _, algorithm, size, _, _ = serialization
    advance = listener.advance
    if algorithm != ALGORITHM or size is not None:
        yield from hash_shards(source, founds, algorithm, size, threads=threads, advance=advance)
        return
    results = hash_files(source, founds, (ALGORITHM,), threads=threads, advance=advance)
    for found, result in results:
        if isinstance(result, FileError):
            yield found, result
        else:
            assert result.sha256 is not None
            yield found, (result.sha256,)


class _Problems:
    """Counts the paths that cannot be listed or read, and keeps the first."""

    def __init__(self) -> None:
        self._count = 0
        self._first = ""

    def add(self, path: bytes, reason: str) -> None:
        self._count += 1
        self._first = self._first or f"{quoted(path)} {reason}"

    def check(self) -> None:
        """Raise FileError if there are any."""
        if self._count:
            more = f", and {self._count - 1:,} more" if self._count > 1 else ""
            raise FileError(f"not all could be read: {self._first}{more}")
