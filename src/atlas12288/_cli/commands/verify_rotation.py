# SPDX-License-Identifier: Apache-2.0
"""The part of `atlas12288 verify` that compares a folder with a manifest again and again."""

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from ..._errors import WitnessError
from ..._files import STDIN, FileError, RegularFile
from ..._words import counted
from ...manifest._rotation import Rotation
from ...manifest._statement import MANIFEST_MOST_BYTES
from ..console import COULD_NOT_CHECK, DOES_NOT_HOLD, HOLDS, Printer, complain, shown
from ..file_kinds import MANIFEST
from ..manifests import KINDS, counts_in_words
from ..witness_files import open_witnesses, read_whole
from . import verify_manifest
from .verify_manifest import SignatureView, VerifyOptions, VerifyProgress

if TYPE_CHECKING:
    from ...manifest._differences import Difference, ManifestReport
    from ...manifest._lined import Lined

# What checks the signature in these bytes: the options, with ROOT, what was signed, and the signer.
ReadSignature = Callable[
    [VerifyOptions, Iterable[bytes]], "tuple[VerifyOptions, Lined, SignatureView]"
]

_SAVED_EVERY_S: Final = 5.0
_STEP_S: Final = 0.1  # of a wait: the clock may be set, the machine may sleep
# Until a pass that could not be made is tried again.
_RETRY_S: Final = 60.0


class _Expected(NamedTuple):
    """What a pass compares a folder with.

    Attributes:
        wanted: the options.
        digest: SHA-256 of the file of the manifest or signature, in hex.
        status: status of that file when it was opened.
        manifest: the manifest, or what was signed.
        parts: the paths that `--path` names.
        root: the folder or URL.
        sidecar: the leaves; None without any.
        signature: None for a manifest.
    """

    wanted: VerifyOptions
    digest: str
    status: os.stat_result
    manifest: "Lined"
    parts: tuple[bytes, ...]
    root: str
    sidecar: str | None
    signature: SignatureView | None


class _Problems:
    """What is in the way of passes, which is said once as long as it stays the same."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def is_new(self, about: str, reason: str | None) -> bool:
        """Return whether there is a reason, and another one than before."""
        before = self._said.get(about)
        if reason is None:
            self._said.pop(about, None)
        else:
            self._said[about] = reason
        return reason is not None and reason != before


def verify(wanted: VerifyOptions, read_signature: ReadSignature | None = None) -> int:
    """Compare a folder with its manifest again and again, or once; return the exit code.

    Args:
        wanted: the options.
        read_signature: reads WITNESS if it is a signature; None for a manifest.

    Raises:
        click.UsageError: the options do not fit each other.
        WitnessError, FileError, ImportError, ValueError: of `read_signature`, before the first
            pass.
    """
    if wanted.manifest == STDIN:
        raise click.UsageError("--every reads WITNESS again for each pass: not standard input (-)")
    for option, given in (("--plot", wanted.plot), ("--fail-fast", wanted.fail_fast)):
        if given:
            raise click.UsageError(f"{option} is for one comparison: not with --every")
    assert wanted.every is not None
    problems = _Problems()
    begins = True
    while True:
        started = time.time()
        retry = started + min(wanted.every, _RETRY_S)
        try:
            expected = _read(wanted, read_signature)
        except (FileError, WitnessError, ImportError, ValueError, click.UsageError) as error:
            if begins or wanted.once:
                if read_signature is not None or isinstance(error, click.UsageError):
                    raise
                return verify_manifest.refused(wanted, str(error))
            if problems.is_new("WITNESS", str(error)):
                complain(wanted.manifest, str(error))
            _wait_until(retry)
            continue
        problems.is_new("WITNESS", None)
        rotation = Rotation(wanted.manifest, expected.digest, expected.root, expected.parts)
        try:
            _say_state(wanted, rotation, problems)
            if begins:
                _begin(expected)
            begins = False
            code, due = _turn(expected, rotation, problems, started, retry)
            _say_state(wanted, rotation, problems)  # the disk may have become full
        finally:
            rotation.close()
        if wanted.once:
            return code
        _wait_until(due)


def _say_state(wanted: VerifyOptions, rotation: Rotation, problems: _Problems) -> None:
    if problems.is_new("state", rotation.problem):
        complain(wanted.manifest, f"goes on without a state: {rotation.problem}")


def _turn(
    expected: _Expected, rotation: Rotation, problems: _Problems, started: float, retry: float
) -> tuple[int, float]:
    """Make a pass if it is due; return the exit code, and when the next one is."""
    wanted = expected.wanted
    assert wanted.every is not None
    if rotation.in_use:
        if problems.is_new("run", "in use"):
            _say_wait(expected, rotation, None)
        return _known_code(rotation), retry
    problems.is_new("run", None)
    # A pass that began later than now did so by a clock that was wrong.
    ended = rotation.ended is not None and (rotation.began or 0.0) <= started
    due = (rotation.began or 0.0) + wanted.every if ended else started
    if due > started:
        _say_wait(expected, rotation, due)
        return _known_code(rotation), due
    code = _pass(expected, rotation, problems)
    if rotation.ended is None:
        return code, retry
    return code, (rotation.began or started) + wanted.every


def _begin(expected: _Expected) -> None:
    """Say what is compared with what, and by which signature."""
    wanted = expected.wanted
    if wanted.quiet or wanted.as_json:
        return
    name = shown(wanted.manifest)
    if expected.signature is not None:
        click.echo(f"{name}: {expected.signature.signer}: signature holds")
    click.echo(f"{name}: compared with {shown(expected.root)}{_how(wanted)}")


def _how(wanted: VerifyOptions) -> str:
    rate = ""
    if wanted.rate is not None:
        rate = f", at most {counted(int(wanted.rate), 'byte')} a second"
    return f" every {_duration(wanted.every or 0.0)}{rate}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _read(wanted: VerifyOptions, read_signature: ReadSignature | None) -> _Expected:
    """Read the manifest, or check the signature."""
    statuses: list[os.stat_result] = []
    kind, chunks = open_witnesses(wanted.manifest, statuses.append)
    signature: SignatureView | None = None
    if read_signature is not None:
        rule = f"a signature of at most {MANIFEST_MOST_BYTES:,} bytes"
        text = bytes(read_whole(chunks, MANIFEST_MOST_BYTES, rule))
        wanted, manifest, signature = read_signature(wanted, [text])
    elif kind == MANIFEST:
        text = verify_manifest.manifest_text(chunks)
        manifest = verify_manifest.read_manifest(text)
    else:
        raise FileError("is not a manifest, which --every needs")
    return _Expected(
        wanted=wanted,
        digest=sha256(text).hexdigest(),
        status=statuses[0],
        manifest=manifest,
        parts=verify_manifest.parts_of(wanted, manifest),
        root=verify_manifest.root_of(wanted, manifest),
        sidecar=verify_manifest.sidecar_of(wanted, manifest),
        signature=signature,
    )


def _wait_until(due: float) -> None:
    while (left := due - time.time()) > 0:
        time.sleep(min(left, _STEP_S))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Progress(VerifyProgress):
    """Shows a pass while it runs: what was not told before."""

    def __init__(self, expected: _Expected, printer: Printer, rotation: Rotation) -> None:
        options = expected.manifest.options
        super().__init__(expected.wanted, expected.root, options, printer, expected.signature)
        self._rotation = rotation
        self._saved = time.monotonic()
        self._told = False  # since the last step that was written down
        self.new = 0

    def compared(self, path: bytes) -> None:
        self._rotation.done = path
        if self._told or time.monotonic() - self._saved > _SAVED_EVERY_S:
            self._rotation.step()
            self._saved = time.monotonic()
            self._told = False

    def difference(self, difference: "Difference") -> None:
        if self._rotation.is_new(difference):
            self.new += 1
            super().difference(difference)
            self.printer.document(
                {
                    "event": "difference",
                    "manifest": self.wanted.manifest,
                    "root": self._root,
                    "holds": None if difference.kind == "unreadable" else False,
                    "time": _moment(time.time()),
                    "differences": [difference.to_fields()],
                }
            )
            sys.stdout.flush()
        self._rotation.note(difference)  # told once, also where this run is killed now
        self._told = True


def _pass(expected: _Expected, rotation: Rotation, problems: _Problems) -> int:
    """Make a pass, or go on with one; return its exit code."""
    wanted, root, manifest = expected.wanted, expected.root, expected.manifest
    goes_on = rotation.ended is None and rotation.done is not None
    rotation.begin()
    signed = {} if expected.signature is None else {"signature": expected.signature.fields}
    with Printer("verify", wanted.as_json, None) as printer, ExitStack() as stack:
        view = _Progress(expected, printer, rotation)
        if goes_on and not wanted.quiet:
            printer.line(
                f"{shown(root)}: goes on with the pass of {_moment(rotation.began or 0.0)}"
            )
        leaves = None
        leaves_error = None
        try:
            if expected.sidecar is not None:
                leaves = stack.enter_context(
                    RegularFile(expected.sidecar, follow=wanted.sidecar is not None)
                )
        except FileError as error:
            leaves_error = str(error)
        outputs = verify_manifest.outputs_of(wanted, root, expected.status)
        try:
            found = verify_manifest.compared(
                manifest, expected.parts, root, leaves, outputs, view, rotation.done or b""
            )
        except (FileError, ImportError, ValueError) as error:
            rotation.step()
            if problems.is_new("ROOT", str(error)):
                printer.error(verify_manifest.subject_of(wanted, root, error), str(error))
                fields = verify_manifest.document(wanted, root, None, str(error), manifest.options)
                printer.document(fields | signed | {"event": "pass"})
            return COULD_NOT_CHECK
        except BaseException:
            rotation.step()
            raise
        problems.is_new("ROOT", None)
        leaves_error = leaves_error or found.leaves_error
        if problems.is_new("leaves", leaves_error):
            printer.error(str(expected.sidecar), str(leaves_error))
        rotation.end()
        code = _code(rotation, found) if leaves_error is None else COULD_NOT_CHECK
        due = (rotation.began or 0.0) + (wanted.every or 0.0)
        _finish(expected, rotation, found, view, code, due)
        fields = verify_manifest.document(wanted, root, found, None, manifest.options)
        # The differences were told; what the rotation knows makes the counts and the verdict.
        fields |= {"differences": None, "holds": _HOLDS[code]}
        counts = found.to_fields()["counts"]
        assert isinstance(counts, dict)
        fields["counts"] = counts | _counts(rotation)
        printer.document(fields | signed | {"event": "pass", "next": _moment(due)})
    sys.stdout.flush()
    return code


_HOLDS: Final = {HOLDS: True, DOES_NOT_HOLD: False, COULD_NOT_CHECK: None}


def _counts(rotation: Rotation) -> dict[str, int]:
    kinds = [each.kind for each in rotation.told.values()]
    return {kind: kinds.count(kind) for kind in KINDS}


def _code(rotation: Rotation, found: "ManifestReport") -> int:
    counts = _counts(rotation)
    if counts["unreadable"] or found.files + found.links == 0:
        return COULD_NOT_CHECK
    return DOES_NOT_HOLD if any(counts.values()) else HOLDS


def _known_code(rotation: Rotation) -> int:
    """Return the exit code of what is known."""
    counts = _counts(rotation)
    if counts["unreadable"]:
        return COULD_NOT_CHECK
    if any(counts.values()):
        return DOES_NOT_HOLD
    was_made = rotation.ended is not None or rotation.number > 1
    return HOLDS if was_made else COULD_NOT_CHECK


def _finish(
    expected: _Expected,
    rotation: Rotation,
    found: "ManifestReport",
    view: _Progress,
    code: int,
    due: float,
) -> None:
    """Print the last line of a pass."""
    if expected.wanted.quiet:
        return
    witness = "its manifest" if expected.signature is None else "what was signed"
    verdict = {
        HOLDS: f"matches {witness}",
        DOES_NOT_HOLD: f"does not match {witness}",
        COULD_NOT_CHECK: "could not be checked in full",
    }[code]
    before = len(rotation.told) - view.new
    known = f"; {counted(before, 'difference')} told before" if before > 0 else ""
    part, read = "", counted(found.files, "file")
    if found.part:
        part = "the part "
        read = f"{found.files:,} of {counted(found.manifest_files, 'file')} checked"
    counts = counts_in_words(_counts(rotation))
    more = f"; {read}: {counts}{known}; next pass {_moment(due)}"
    root = shown(expected.root)
    view.printer.line(f"{root}: ", good=_HOLDS[code], verdict=f"{part}{verdict}", more=more)


def _say_wait(expected: _Expected, rotation: Rotation, due: float | None) -> None:
    """Say when the next pass is; None while another run makes one."""
    wanted, root = expected.wanted, expected.root
    with Printer("verify", wanted.as_json, None) as printer:
        if not wanted.quiet:
            told = len(rotation.told)
            known = f"; {counted(told, 'difference')} told before" if told else ""
            when = "another run makes a pass" if due is None else f"next pass {_moment(due)}"
            printer.line(f"{shown(root)}: {when}{known}")
        printer.document(
            {
                "event": "wait",
                "manifest": wanted.manifest,
                "root": root,
                "holds": _HOLDS[_known_code(rotation)],
                "counts": _counts(rotation),
                "next": None if due is None else _moment(due),
            }
        )
    sys.stdout.flush()
