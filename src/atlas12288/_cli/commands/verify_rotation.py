# SPDX-License-Identifier: Apache-2.0
"""The part of `atlas12288 verify` that compares a folder with a manifest again and again."""

import os
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import click

from ..._errors import WitnessError
from ..._files import STDIN, FileError, RegularFile
from ..._words import counted
from ...manifest._rotation import Rotation
from ..console import COULD_NOT_CHECK, DOES_NOT_HOLD, HOLDS, Printer, complain, shown
from ..file_kinds import MANIFEST
from ..manifests import KINDS, counts_in_words
from ..witness_files import open_witnesses
from . import verify_manifest
from .verify_manifest import VerifyOptions, VerifyProgress

if TYPE_CHECKING:
    from ...manifest._differences import Difference, ManifestReport
    from ...manifest._lined import Lined

_SAVED_EVERY_S: Final = 5.0
_STEP_S: Final = 0.1  # of a wait: the clock may be set, the machine may sleep


def verify(wanted: VerifyOptions) -> int:
    """Compare a folder with its manifest again and again, or once; return the exit code.

    Raises:
        click.UsageError: the options do not fit each other.
    """
    if wanted.manifest == STDIN:
        raise click.UsageError("--every reads WITNESS again for each pass: not standard input (-)")
    for option, given in (("--plot", wanted.plot), ("--fail-fast", wanted.fail_fast)):
        if given:
            raise click.UsageError(f"{option} is for one comparison: not with --every")
    assert wanted.every is not None
    begins = True
    while True:
        started = time.time()
        try:
            text, status = _read(wanted)
            manifest = verify_manifest.read_manifest(text)
            parts = verify_manifest.parts_of(wanted, manifest)
            root = verify_manifest.root_of(wanted, manifest)
        except (FileError, WitnessError) as error:
            if wanted.once or begins:
                return verify_manifest.refused(wanted, str(error))
            complain(wanted.manifest, str(error))
            _wait_until(started + wanted.every)
            continue
        digest = sha256(text).hexdigest()
        rotation = Rotation(wanted.manifest, digest, root, parts)
        if rotation.problem is not None:
            complain(wanted.manifest, f"goes on without a state: {rotation.problem}")
        if begins and not wanted.quiet and not wanted.as_json:
            click.echo(f"{shown(wanted.manifest)}: compared with {shown(root)}{_how(wanted)}")
        begins = False
        # Without a state, the next pass begins when this one should have.
        due = started if rotation.ended is None else (rotation.began or 0.0) + wanted.every
        if due <= time.time():
            code = _pass(wanted, manifest, parts, status, root, rotation)
            due = (rotation.began or started) + wanted.every
        else:
            code = _not_due(wanted, root, rotation, due)
        if wanted.once:
            return code
        _wait_until(due)


def _how(wanted: VerifyOptions) -> str:
    rate = "" if wanted.rate is None else f", at most {wanted.rate:,.0f} bytes a second"
    return f" every {_duration(wanted.every or 0.0)}{rate}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _read(wanted: VerifyOptions) -> tuple[bytes, os.stat_result]:
    """Return the text and the status of the manifest."""
    statuses: list[os.stat_result] = []
    kind, chunks = open_witnesses(wanted.manifest, statuses.append)
    if kind != MANIFEST:
        raise FileError("is not a manifest, which --every needs")
    return verify_manifest.manifest_text(chunks), statuses[0]


def _wait_until(due: float) -> None:
    while (left := due - time.time()) > 0:
        time.sleep(min(left, _STEP_S))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Progress(VerifyProgress):
    """Shows a pass while it runs: what was not told before."""

    def __init__(
        self,
        wanted: VerifyOptions,
        root: str,
        manifest: "Lined",
        report: Printer,
        rotation: Rotation,
    ) -> None:
        super().__init__(wanted, root, manifest.options, report)
        self._rotation = rotation
        self._saved = time.monotonic()
        self._told = False  # since the last file that was compared
        self.new = 0

    def compared(self, path: bytes) -> None:
        self._rotation.done = path
        if self._told or time.monotonic() - self._saved > _SAVED_EVERY_S:
            self.save()
            self._told = False

    def save(self) -> None:
        self._rotation.save()
        self._saved = time.monotonic()

    def difference(self, difference: "Difference") -> None:
        if not self._rotation.is_new(difference):
            return
        self.new += 1
        super().difference(difference)
        self.report.document(
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
        self.save()  # told once, also where this run is killed now
        self._told = True


def _pass(
    wanted: VerifyOptions,
    manifest: "Lined",
    parts: tuple[bytes, ...],
    status: os.stat_result,
    root: str,
    rotation: Rotation,
) -> int:
    """Make a pass, or go on with one; return its exit code."""
    goes_on = rotation.ended is None and rotation.done is not None
    rotation.begin()
    sidecar = verify_manifest.sidecar_of(wanted, manifest)
    with Printer("verify", wanted.as_json, None) as report, ExitStack() as stack:
        view = _Progress(wanted, root, manifest, report, rotation)
        view.save()
        if goes_on and not wanted.quiet:
            report.line(f"{shown(root)}: goes on with the pass of {_moment(rotation.began or 0.0)}")
        leaves = None
        try:
            if sidecar is not None:
                leaves = stack.enter_context(
                    RegularFile(sidecar, follow=wanted.sidecar is not None)
                )
        except FileError as error:
            report.error(str(sidecar), str(error))
        outputs = verify_manifest.outputs_of(wanted, root, status)
        try:
            found = verify_manifest.compared(
                manifest, parts, root, leaves, outputs, view, rotation.done or b""
            )
        except (FileError, ImportError, ValueError) as error:
            rotation.save()
            report.error(verify_manifest.subject_of(wanted, root, error), str(error))
            report.document(
                verify_manifest.document(wanted, root, None, str(error), manifest.options)
                | {"event": "pass"}
            )
            return report.code
        except BaseException:
            rotation.save()
            raise
        if found.leaves_error is not None:
            report.error(str(sidecar), found.leaves_error)
        rotation.end()
        rotation.save()
        code = max(report.code, _code(rotation, found))
        due = (rotation.began or 0.0) + (wanted.every or 0.0)
        _finish(wanted, root, rotation, found, view, code, due)
        fields = verify_manifest.document(wanted, root, found, None, manifest.options)
        # The differences were told; what the rotation knows makes the counts and the verdict.
        fields |= {"differences": None, "holds": _HOLDS[code]}
        counts = found.to_fields()["counts"]
        assert isinstance(counts, dict)
        fields["counts"] = counts | _counts(rotation)
        report.document(fields | {"event": "pass", "next": _moment(due)})
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


def _finish(
    wanted: VerifyOptions,
    root: str,
    rotation: Rotation,
    found: "ManifestReport",
    view: _Progress,
    code: int,
    due: float,
) -> None:
    """Print the last line of a pass."""
    if wanted.quiet:
        return
    verdict = {
        HOLDS: "matches its manifest",
        DOES_NOT_HOLD: "does not match its manifest",
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
    view.report.line(f"{shown(root)}: ", good=_HOLDS[code], verdict=f"{part}{verdict}", more=more)


def _not_due(wanted: VerifyOptions, root: str, rotation: Rotation, due: float) -> int:
    """Say when the next pass is; return the exit code of what is known."""
    counts = _counts(rotation)
    code = HOLDS if not any(counts.values()) else DOES_NOT_HOLD
    if counts["unreadable"]:
        code = COULD_NOT_CHECK
    with Printer("verify", wanted.as_json, None) as report:
        if not wanted.quiet:
            known = f"; {counted(len(rotation.told), 'difference')} told before"
            more = known if rotation.told else ""
            report.line(f"{shown(root)}: next pass {_moment(due)}{more}")
        report.document(
            {
                "event": "wait",
                "manifest": wanted.manifest,
                "root": root,
                "holds": _HOLDS[code],
                "counts": counts,
                "next": _moment(due),
            }
        )
    sys.stdout.flush()
    return code
