# SPDX-License-Identifier: Apache-2.0
"""Keep the results of a run in its state, about once a second, for the run that goes on with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import inf
from time import monotonic, time
from typing import Final, Protocol

from .._files import FileError
from ._hashing.siblings import Hashed
from ._known_lines import LINE_END, Piece, parted
from ._leaves_file import LeavesFile
from ._sources.siblings import OF_LAST, READ
from ._sources.source import UNTRUSTED
from ._state_file import StateFile
from ._state_frames import REFUSED, Begun, Context, Failed, Known, Part, Roots

# A run that is killed before costs no more than this to repeat, and most runs end before: they
# have nothing to write but their manifest.
KEPT_AFTER_S: Final = 5.0

_COMMIT_S: Final = 1.0


class Results(Protocol):
    """What a run has read."""

    def flush(self) -> None:
        """Pass on to the keeper what still waits."""

    def fresh(self, recent: bool) -> Iterator[Known | Hashed]:
        """Yield all that was read by this run or the one that it goes on with; `recent` says
        whether also files whose identity does not show later changes."""

    def progress_made(self) -> Iterable[Roots | Part]:
        """Return how far the run has come in files since the last call."""

    def first_leaf(self, hashed: Hashed) -> int:
        """Return the place of the first leaf of siblings."""

    def drop_progress(self) -> None:
        """Forget what `progress_made` would return."""


class Keeper:
    """Writes results to the state of a run. Used by one thread.

    Args:
        results: what the run has read.
        state: takes them; None to keep nothing.
        leaves: the leaves under way; None if they are not wanted.
        digests: whether there are flat digests and trees.
        kept_after: seconds until it starts to keep results.
        failed: called with the error when nothing more can be kept; may raise it.

    Attributes:
        is_kept: whether the next run could resume this one.
    """

    def __init__(
        self,
        results: Results,
        state: StateFile | None,
        leaves: LeavesFile | None,
        digests: tuple[bool, bool],
        kept_after: float,
        failed: Callable[[FileError], object],
    ) -> None:
        self._results = results
        self._state = state
        self._leaves = leaves
        self._digests = digests
        self._due = monotonic() + kept_after
        self._failed = failed
        self._context: Context = {}
        self._update = False
        self.is_kept = False

    @property
    def wants(self) -> bool:
        """Whether there is a state."""
        return self._state is not None

    def describe(self, context: Context, update: bool) -> None:
        """Set the facts of the run that stand in its state, as `Begun` has them."""
        self._context, self._update = context, update

    def go_on(self) -> None:
        """Append to the records of the run that this one goes on with."""
        self.is_kept = self._state is not None

    def wait(self) -> None:
        """Keep nothing before the end of the run, and leave the records of the one before."""
        self._due = inf

    @property
    def _refuses(self) -> bool:
        return REFUSED in self._context

    def end(self) -> None:
        """Keep nothing more."""
        self.is_kept = False

    def refuse(self) -> None:
        """Keep all results for a run that accepts them, because nothing is written now."""
        if self._state is not None:
            self._context = {**self._context, REFUSED: True}
            self.is_kept = False  # the records begin anew, with this
            self.commit()

    # --- Results

    def known(self, known: Known) -> None:
        """Keep a file that was read."""
        self._keep(lambda state: state.known(known))

    def hashed(self, hashed: Hashed) -> None:
        """Keep siblings that were read; others are kept already."""
        if self.is_kept and hashed.origin == READ:
            self._keep_hashed(hashed)

    def failed(self, path: bytes) -> None:
        """Keep that what was kept of a file no longer counts."""
        self._keep(lambda state: state.add(Failed(path)))

    def _keep(self, act: Callable[[StateFile], object]) -> None:
        """Do something with the state, if there is one; the run continues if that fails."""
        if self._state is None or not self.is_kept:
            return
        try:
            act(self._state)
            if self._state.is_full:
                self._write(self._state)
        except FileError as error:
            self._give_up(error)

    def _write(self, state: StateFile) -> None:
        if self._leaves is not None:
            self._leaves.flush()  # before what says that they are there
        state.commit()

    def _keep_hashed(self, hashed: Hashed) -> None:
        place = 0 if self._leaves is None else self._results.first_leaf(hashed)

        def keep(state: StateFile) -> None:
            identities = hashed.identities.split(LINE_END)
            for some in parted(hashed.text, identities, place, self._digests):
                if isinstance(some, Piece):
                    state.known_small(some)
                elif self._refuses or not some.identity.startswith(UNTRUSTED):
                    leaf = None if self._leaves is None else some.first_leaf
                    state.known(Known.of(some.entry, some.identity, leaf))

        self._keep(keep)

    # --- The state

    def tick(self) -> None:
        """Save results, about once a second; many are saved before."""
        if self._state is not None and monotonic() >= self._due:
            self.commit()
            self._due = monotonic() + _COMMIT_S

    def commit(self) -> None:
        """Save results now."""
        state = self._state
        if state is None:
            return
        self._results.flush()
        try:
            if not self.is_kept:
                self._begin(state)
            if self.is_kept:
                for record in self._results.progress_made():
                    state.add(record)
                self._write(state)
        except FileError as error:
            self._give_up(error)

    def _give_up(self, error: FileError) -> None:
        self.is_kept = False
        self._state = None
        self._results.drop_progress()
        self._failed(error)

    def _begin(self, state: StateFile) -> None:
        sidecar = None if self._leaves is None else self._leaves.named()
        try:
            state.begin(Begun(self._context, int(time()), self._update, sidecar))
        except FileError:
            if self._leaves is not None:
                self._leaves.remove()  # nobody would find them
            raise
        self.is_kept = True
        for some in self._results.fresh(self._refuses):
            if not self.is_kept:
                return  # it was given up
            if isinstance(some, Known):
                self.known(some)
            elif some.origin != OF_LAST:  # these are known from the manifest
                self._keep_hashed(some)
