# SPDX-License-Identifier: Apache-2.0
"""The errors of the library as exceptions, one class for each error code of the contract."""

import enum

from . import _native


class ErrorCode(enum.IntEnum):
    """The error codes of the contract (atlas_error_t)."""

    OK = _native.OK
    CONSERVATION = _native.E_CONSERVATION
    WITNESS = _native.E_WITNESS
    BUDGET = _native.E_BUDGET
    MEMORY = _native.E_MEMORY
    STATE = _native.E_STATE

    @property
    def text(self) -> str:
        """What the code means, for example "conservation law violated"."""
        return _native.error_string(self)


class AtlasError(Exception):
    """What all errors are that the contract has a code for, which is in `code`. `FileError`, that a
    file could not be read or written, is none of them: the contract knows no files."""

    code: ErrorCode


class ConservationError(AtlasError, ValueError):
    """Bytes that must be conserved are not: their residue is not 0."""

    code = ErrorCode.CONSERVATION


class WitnessError(AtlasError, ValueError):
    """What should be a witness is not one."""

    code = ErrorCode.WITNESS


class BudgetError(AtlasError, ValueError):
    """An amount is larger than what is left of the budget, or not in 0..95."""

    code = ErrorCode.BUDGET


# MemoryError, which alone has a __new__ of its own, is the first base: otherwise
# DomainMemoryError.__new__, which some picklers call, is not the one that Python allows.
class DomainMemoryError(MemoryError, AtlasError, ValueError):
    """A region that cannot be: empty, larger than the domain, overlapping; or no memory is left."""

    code = ErrorCode.MEMORY


class StateError(AtlasError, RuntimeError):
    """The call does not fit the state: attached already, COMMITTED, closed, in use."""

    code = ErrorCode.STATE


_native.register_errors(
    {
        error.code: error
        for error in (ConservationError, WitnessError, BudgetError, DomainMemoryError, StateError)
    }
)
