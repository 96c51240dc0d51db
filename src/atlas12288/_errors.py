# SPDX-License-Identifier: Apache-2.0
"""The exceptions of the library.

    Exception
      + AtlasError            has a code of the contract
      |   + ConservationError   (ValueError)
      |   + WitnessError        (ValueError)
      |   + BudgetError         (ValueError)
      |   + DomainMemoryError   (MemoryError, ValueError)
      |   + StateError          (RuntimeError)
      + FileError             a file could not be read or written: the contract does not cover files
      + DeviceError           (RuntimeError) a GPU is missing or failed: nor does it cover those

Each is also the built-in exception in brackets. An argument of the wrong type raises TypeError, and
a value that a function does not accept raises ValueError.
"""

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
        """The meaning of the code, for example "conservation law violated"."""
        return _native.error_string(self)


class AtlasError(Exception):
    """Base class of every error that has a code in the contract.

    `FileError` is not one: the contract does not cover files.

    Attributes:
        code: the code.
    """

    code: ErrorCode


class ConservationError(AtlasError, ValueError):
    """The residue of bytes that must be conserved is not 0."""

    code = ErrorCode.CONSERVATION


class WitnessError(AtlasError, ValueError):
    """Not a valid witness, manifest or proof."""

    code = ErrorCode.WITNESS


class BudgetError(AtlasError, ValueError):
    """An amount is not in 0..95, or larger than the rest of the budget."""

    code = ErrorCode.BUDGET


# MemoryError, which alone has a __new__ of its own, is the first base: otherwise
# DomainMemoryError.__new__, which some picklers call, is not the one that Python allows.
class DomainMemoryError(MemoryError, AtlasError, ValueError):
    """A region is empty, larger than the domain, or overlaps another; or no memory is left."""

    code = ErrorCode.MEMORY


class StateError(AtlasError, RuntimeError):
    """The state does not allow the call: already attached, COMMITTED, closed or in use."""

    code = ErrorCode.STATE


_native.register_errors(
    {
        error.code: error
        for error in (ConservationError, WitnessError, BudgetError, DomainMemoryError, StateError)
    }
)


class DeviceError(RuntimeError):
    """A GPU, its driver or a kernel for it is missing, or it failed.

    Nothing is known of the bytes then: it is never a verdict about them.
    """
