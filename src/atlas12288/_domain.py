# SPDX-License-Identifier: Apache-2.0
"""Domains: a region of memory under the law, with a budget, committed once."""

import enum

from . import _native
from ._errors import StateError
from ._witness import Witness


class State(enum.IntEnum):
    """The state of a domain (atlas_state_t); str() gives its name."""

    OPEN = _native.STATE_OPEN
    COMMITTED = _native.STATE_COMMITTED

    def __str__(self) -> str:
        return self.name


class Domain(_native.Domain):
    """A region of memory under the law, with a budget; OPEN until a commit makes it COMMITTED.

    A context manager, which closes the domain. The attached buffer stays exported until then.

    Args:
        bytes: the capacity, the most that can be attached; at least 1.
        budget_class: the first value of the budget, in 0..95.

    Raises:
        DomainMemoryError: `bytes` is out of range, or there is no memory.
        BudgetError: `budget_class` is not in 0..95.
        TypeError: either is not an int.
        StateError: from every method, once the domain is closed.

    Contract: Domain Management, Budget Operations.
    """

    __slots__ = ("__weakref__",)

    @property
    def state(self) -> State:
        """State.OPEN or State.COMMITTED."""
        return State(super().state)

    @property
    def witness(self) -> Witness | None:
        """The witness that the commit made; None while the domain is OPEN."""
        form = self._witness_bytes()
        return None if form is None else Witness.from_bytes(form)

    def commit(self, *, seal: bool = False) -> Witness:
        """Commit the domain once: OPEN -> COMMITTED. If commits race, exactly one returns.

        Args:
            seal: from the commit on, let the system refuse writes to the attached `Region`, which
                nobody may write to meanwhile. What each system refuses:
                docs/howto/sealed-memory.md.

        Returns:
            The witness of the region.

        Raises:
            ConservationError: the residue is not 0; the state is unchanged.
            StateError: nothing is attached, the domain is COMMITTED, or a transaction is open. With
                `seal` also: what is attached is not a Region, a writable view of it is left,
                another OPEN domain has it attached, or another process has it mapped. Domain and
                region are as they were then, unless a race was lost: the region's `sealed` tells.
            TypeError: `seal` is not a bool.
            MemoryError: there is no memory; the state is unchanged. If the C library has memory for
                its witness but not for the caller's copy, the domain is COMMITTED.
        """
        if not isinstance(seal, bool):
            raise TypeError(f"seal is {seal!r}, must be True or False")
        return self._commit(Witness, seal)

    def __repr__(self) -> str:
        name = type(self).__name__
        try:
            region, state, left = self.attached, self.state, self.budget.available
        except StateError:
            return f"<{name} closed>"
        length = 0 if region is None else len(region)
        return f"<{name} {state}: {length} of {self.bytes} bytes attached, budget {left}>"
