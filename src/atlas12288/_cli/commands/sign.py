# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 sign`."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from ..._errors import WitnessError
from ..._files import STDIN, FileError, read_chunks
from ..._outputs import Target, atomic_write_all
from ...manifest._beside import SUFFIX, is_url, leaves_name, outputs_in
from ..console import DOES_NOT_HOLD, Printer, file_name, json_option, shown, threads_option
from ..file_kinds import MANIFEST, Kind, require_kind
from ..key_files import read_certificates, read_private_key
from ..manifests import amount, counted, is_folder, streams
from ..witness_files import open_witnesses, output_at, output_file
from .verify_manifest import (
    VerifyOptions,
    VerifyProgress,
    compared,
    default_root,
    manifest_text,
    read_manifest,
    subject_of,
)

if TYPE_CHECKING:
    from ...manifest._lined import Lined
    from ...signing._bundle import Bundle

_FORMS: Final = ("files", "manifest")
_METHODS: Final = ("files", "shards")
_HASHES: Final = ("sha256", "blake2b", "blake3")
# Options for a folder, by their names here; all are None, False or () if not given.
_OF_FOLDERS: Final = ("method", "shard_size", "algorithm", "symlinks", "links_below", "ignored")
_OF_FOLDERS_TOO: Final = ("for_model_signing", "threads")
_NO_RESULT: Final[dict[str, object]] = dict.fromkeys(
    ("output", "signed", "form", "method", "algorithm", "files", "bytes_read")
)


class SignOptions(NamedTuple):
    """The options of `sign`."""

    signed: str
    private_key: str
    certificate: str | None
    chain: tuple[str, ...]
    output: str
    form: str | None
    root: str | None
    method: str | None
    shard_size: int | None
    algorithm: str | None
    symlinks: str | None
    links_below: tuple[str, ...]
    ignored: tuple[str, ...]
    for_model_signing: bool
    threads: int | None
    as_json: bool

    @property
    def certificates(self) -> tuple[str, ...]:
        """The files with certificates, the signer's first."""
        return () if self.certificate is None else (self.certificate, *self.chain)


@click.command(
    "sign",
    short_help="Sign a manifest, or a folder.",
    epilog="""\b
Examples:
  atlas12288 sign data.atlas.json --private-key key.pem -o data.sig
  atlas12288 sign data.atlas.json --private-key key.pem -o data.sig \\
      --verify data
  atlas12288 sign data.atlas.json --private-key key.pem -o data.sig \\
      --certificate signer.pem --chain authority.pem
  atlas12288 sign data.atlas.json --private-key key.pem -o data.sig \\
      --form manifest
  atlas12288 sign model --method shards --private-key key.pem -o model.sig

Exit codes: 0 it is signed; 1 with --verify: a file changed, is missing, or was added; 2 it could
not be signed.""",
)
@click.argument("signed", metavar="MANIFEST|FOLDER", type=file_name)
@click.option(
    "--private-key",
    metavar="KEY",
    required=True,
    type=file_name,
    help="The signer's key in PEM: ECDSA on P-256, P-384 or P-521.",
)
@click.option(
    "--certificate", metavar="CERT", type=file_name, help="The certificate of the key, in PEM."
)
@click.option(
    "--chain",
    metavar="CERT",
    multiple=True,
    type=file_name,
    help="With --certificate: the authorities behind it, in PEM; repeatable.",
)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    type=file_name,
    help="Write the signature to this file, completely or not at all.",
)
@click.option(
    "--form",
    type=click.Choice(_FORMS),
    help="For a manifest: sign its digests of files as model_signing does (default), or the "
    "manifest itself.",
)
@click.option(
    "--verify",
    "root",
    metavar="ROOT",
    type=file_name,
    help="For a manifest: read the folder first, and sign only if it matches.",
)
@click.option(
    "--method",
    type=click.Choice(_METHODS),
    help="For a folder: hash whole files (default), or shards of them, which is faster.",
)
@click.option(
    "--shard-size",
    metavar="BYTES",
    type=click.IntRange(min=1),
    help="For a folder: with --method shards, the size of a shard.  [default: 1000000000]",
)
@click.option(
    "--hash",
    "algorithm",
    type=click.Choice(_HASHES),
    help="For a folder: the hash of its files or shards.  [default: sha256]",
)
@click.option(
    "--symlinks",
    type=click.Choice(("error", "follow")),
    help="For a folder: refuse symbolic links (default), or follow links inside the folder.",
)
@click.option(
    "--links-below",
    metavar="DIR",
    multiple=True,
    type=file_name,
    help="For a folder: let followed links lead below this folder too; repeatable.",
)
@click.option(
    "--ignore",
    "ignored",
    metavar="PATH",
    multiple=True,
    help="For a folder: leave out this path, relative to it, with all below; repeatable.",
)
@click.option(
    "--for-model-signing",
    is_flag=True,
    help="For a folder: name the hash of shards as model_signing 1.1.1 does, against the "
    "specification: it verifies no other.",
)
@threads_option
@json_option
def command(**given: Any) -> int:
    """Sign what a manifest says of a folder, in the form of OpenSSF Model Signing.

    The signature is over the digests that MANIFEST has, so no file is read. Everybody who has the
    public key can verify it and all files: atlas12288 verify, model_signing verify.

    A FOLDER is read and signed without a manifest: for shards, and for other hashes.

    An encrypted KEY asks for its passphrase at the terminal.
    """
    output = output_file(given["output"], given["as_json"])
    if output is None:
        raise click.UsageError("-o must name a file")
    wanted = SignOptions(**{**given, "output": output})
    if wanted.chain and wanted.certificate is None:
        raise click.UsageError("--chain needs --certificate")
    kind = _kind(wanted.signed)
    of_folder = kind != MANIFEST
    if of_folder and wanted.method is None:
        _require_signable(wanted.signed, kind)
    _require_sense(wanted, of_folder)
    keys = [wanted.private_key, *wanted.certificates]
    inputs = keys if of_folder else [wanted.signed, *keys]
    fields: dict[str, object] = {**_NO_RESULT, "output": output, "signed": wanted.signed}
    with ExitStack() as stack:
        from ...signing._kinds import SIGNATURES

        target = output_at(output, SIGNATURES, inputs, stack)
        printer = stack.enter_context(Printer("sign", wanted.as_json, None))
        try:
            signing = _Signing(wanted, target, printer, fields)
            holds = signing.sign_folder() if of_folder else signing.sign_manifest()
        except (FileError, WitnessError, ImportError, ValueError) as error:
            name = getattr(error, "name", None) if isinstance(error, FileError) else None
            reason = error.reason if isinstance(error, FileError) and name else str(error)
            printer.error(name or wanted.signed, reason)
            printer.document(fields | {"error": f"{shown(name or wanted.signed)}: {reason}"})
        else:
            printer.document(fields | {"holds": holds})
    return printer.code


def _kind(name: str) -> Kind | None:
    """Return the kind of what is signed; None for a folder, and for a file of no kind."""
    if name == STDIN:
        return MANIFEST
    if is_folder(name) or is_url(name):
        return None
    try:
        kind, _ = open_witnesses(name)
    except FileError:
        kind = None
    return MANIFEST if kind is None and name.endswith(SUFFIX) else kind


def _require_signable(name: str, kind: Kind | None) -> None:
    """Refuse a file of ours that is no manifest, unless --method says that its bytes are meant.

    Raises:
        click.UsageError: it is one.
    """
    try:
        require_kind(kind, name, "what is signed", MANIFEST)
    except FileError as error:
        more = f"; --method {_METHODS[0]} signs its own bytes"
        raise click.UsageError(f"{shown(name)}: {error.reason}{more}") from error


def _require_sense(wanted: SignOptions, of_folder: bool) -> None:
    """Refuse options that do not fit what is signed.

    Raises:
        click.UsageError: they do not.
    """
    words = {"algorithm": "hash", "ignored": "ignore"}
    if of_folder:
        for name, option in (("form", "form"), ("root", "verify")):
            if getattr(wanted, name) is not None:
                raise click.UsageError(f"--{option} is for a manifest, not for a folder")
        if wanted.method != "shards" and (wanted.shard_size or wanted.for_model_signing):
            raise click.UsageError("--shard-size and --for-model-signing need --method shards")
        if wanted.links_below and wanted.symlinks != "follow":
            raise click.UsageError("--links-below needs --symlinks follow")
        return
    for name in (*_OF_FOLDERS, *_OF_FOLDERS_TOO):
        if getattr(wanted, name) and not (name == "threads" and wanted.root is not None):
            option = words.get(name, name).replace("_", "-")
            raise click.UsageError(
                f"--{option} is for a folder: a manifest has the SHA-256 digests of whole files"
            )


class _Signing:
    """One run of `sign`.

    Args:
        wanted: the options.
        target: where the signature is written.
        printer: prints what was done.
        fields: the fields of the JSON object, which are set.
    """

    def __init__(
        self, wanted: SignOptions, target: Target, printer: Printer, fields: dict[str, object]
    ) -> None:
        self._wanted = wanted
        self._target = target
        self._printer = printer
        self._fields = fields
        # Before anything is read, so that a mistyped passphrase costs no time.
        self._key = read_private_key(wanted.private_key)
        self._certificates = read_certificates(wanted.certificates)
        if wanted.certificate is not None:
            from ...signing._certificates import chain_of

            try:
                chain_of(self._certificates, self._key.public_key())
            except (ValueError, WitnessError) as error:
                raise FileError(str(error), wanted.certificate) from error

    def sign_manifest(self) -> bool | None:
        """Sign a manifest; return whether --verify found that the folder matches."""
        from ...signing._from_manifest import files_statement
        from ...signing._sign import sign_payload

        wanted = self._wanted
        chunks = read_chunks(wanted.signed, or_pipe=True)
        text = manifest_text(chunks)
        manifest = read_manifest(text)
        form = wanted.form or _FORMS[0]
        if form == "manifest":
            payload = text
            files = sum(entry.target is None for entry in manifest.entries)
        else:
            name, ignored = self._place(manifest)
            statement = files_statement(manifest, name, ignored=ignored, note=self._note)
            payload, files = statement.to_json(), len(statement.files)
        self._fields |= {"form": form, "method": "files", "algorithm": "sha256", "files": files}
        self._fields["bytes_read"] = 0
        if wanted.root is not None and not self._verified(manifest, wanted.root):
            return False
        self._write(sign_payload(payload, self._key, self._certificates))
        what = (
            "the manifest" if form == "manifest" else f"{counted(files, 'digest')} of the manifest"
        )
        read = (
            "no file was read"
            if wanted.root is None
            else f"all files in {shown(wanted.root)} match"
        )
        self._printer.line(f"{shown(wanted.output)}: {what} {shown(wanted.signed)} signed; {read}")
        return None if wanted.root is None else True

    def _place(self, manifest: "Lined") -> tuple[str, list[str]]:
        """Return the name of the folder, and the paths of our own files that are in it."""
        from ...signing._sign import name_of, paths_ignored

        wanted = self._wanted
        try:
            root = wanted.root
            if root is None and wanted.signed != STDIN:
                root = default_root(wanted.signed, manifest)
        except FileError:
            root = None
        if root is None or is_url(root):
            return Path(wanted.signed.removesuffix(SUFFIX)).name or "data", []
        manifest_files = []
        if wanted.signed != STDIN:
            sidecar = leaves_name(wanted.signed)
            manifest_files = [wanted.signed, *([sidecar] if Path(sidecar).is_file() else [])]
        own = [
            name
            for name in paths_ignored(root, manifest_files)
            if name.encode() not in manifest.paths
        ]
        return name_of(root), [*paths_ignored(root, [wanted.output]), *own]

    def _verified(self, manifest: "Lined", root: str) -> bool:
        """Read the folder and return whether it matches the manifest; print what differs."""
        wanted, printer = self._wanted, self._printer
        options = VerifyOptions(
            manifest=wanted.signed,
            root=root,
            sidecar=None,
            threads=wanted.threads,
            plot=None,
            quiet=False,
            fail_fast=False,
            allow_extra=False,
            allow_cache=False,
            as_json=wanted.as_json,
            command="sign",
        )
        view = VerifyProgress(options, root, manifest.options, printer)
        outputs = outputs_in(root, [wanted.signed, wanted.output], streams())
        try:
            found = compared(manifest, (), root, None, outputs, view)
        except FileError as error:
            raise FileError(str(error), subject_of(options, root, error)) from error
        view.finish(found)
        self._fields["bytes_read"] = found.bytes
        if found.holds is None:
            raise FileError(f"not signed, because {shown(root)} could not be read as a whole")
        if not found.holds:
            printer.line(f"{shown(wanted.output)}: ", False, "not signed")
            printer.code = max(printer.code, DOES_NOT_HOLD)
        return found.holds

    def sign_folder(self) -> bool | None:
        """Read and sign a folder; return None, as there is nothing that it must match."""
        from ...manifest._listener import FunctionListener
        from ...manifest._sources.links import folders_outside
        from ...signing._files_statement import SHARD_BYTES
        from ...signing._sign import name_of, paths_ignored, sign_payload, statement_of_folder
        from ...signing._verify import open_signed

        wanted, printer = self._wanted, self._printer
        read = 0

        def advance(size: int) -> None:
            nonlocal read
            read += size
            printer.advance(size)

        statement = statement_of_folder(
            open_signed(wanted.signed),
            name_of(wanted.signed),
            method=wanted.method or _METHODS[0],
            algorithm=wanted.algorithm or _HASHES[0],
            shard_size=wanted.shard_size or SHARD_BYTES,
            symlinks=wanted.symlinks or "error",
            links_below=folders_outside(wanted.signed, wanted.links_below, "--links-below"),
            ignored=[*wanted.ignored, *paths_ignored(wanted.signed, [wanted.output])],
            threads=wanted.threads,
            listener=FunctionListener(
                listed=printer.listed, expect=printer.expect, advance=advance
            ),
        )
        self._write(
            sign_payload(
                statement.to_json(mangled=wanted.for_model_signing), self._key, self._certificates
            )
        )
        chosen, files = statement.serialization, len(statement.files)
        self._fields |= {"form": "files", "method": chosen.method, "algorithm": chosen.algorithm}
        self._fields |= {"files": files, "bytes_read": read}
        shards = sum(len(file.digests) for file in statement.files)
        more = "" if chosen.shard_size is None else f", in {counted(shards, 'shard')}"
        what = f"{counted(files, 'file')}, {amount(read)} read and signed"
        self._printer.line(f"{shown(wanted.output)}: {what}{more}")
        return None

    def _write(self, bundle: "Bundle") -> None:
        try:
            with atomic_write_all(self._target) as (file,):
                file.write(bundle.to_json().encode())
        except FileError as error:
            raise FileError(str(error), self._wanted.output) from error

    def _note(self, text: str) -> None:
        self._printer.warning(self._wanted.signed, text)
