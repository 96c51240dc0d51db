# SPDX-License-Identifier: Apache-2.0
"""Conservation-checked memory: residues, witnesses, domains and budgets over any buffer.

The residue of a region is the sum of its bytes mod 96; a region is conserved when that is 0. The
residue is a law, not a security check: what proves integrity is the digest of a `Witness`.

>>> import atlas12288 as atlas
>>> buffer = bytearray(b"any bytes at all")
>>> atlas.fixup(buffer)
>>> with atlas.Domain(bytes=len(buffer), budget_class=50) as domain:
...     domain.attach(buffer)
...     witness = domain.commit()
>>> witness.verify(buffer)
True
>>> buffer[0] ^= 1
>>> witness.verify(buffer)
False
"""

import os as _os
import sys as _sys

# In the limited API, which builds without the GIL do not have, Cython imports it too, and crashes
# where that fails: because of Ctrl-C, or where there is no memory.
if "t" not in getattr(_sys, "abiflags", ""):
    import inspect as _inspect  # noqa: F401

from . import _native
from ._domain import Domain, State
from ._errors import (
    AtlasError,
    BudgetError,
    ConservationError,
    DomainMemoryError,
    ErrorCode,
    StateError,
    WitnessError,
)
from ._native import (
    API_VERSION,
    MODULUS,
    PAGE_BYTES,
    WINDOW_BYTES,
    Budget,
    Lease,
    Residue,
    Transaction,
    conserved_copy,
    conserved_fill,
    delta,
    fixup,
    is_conserved,
    kernel_set,
    kernel_set_supported,
    kernel_sets,
    residue,
    select_kernel_set,
    window_residues,
)
from ._proofs import ConsistencyProof, InclusionProof
from ._tree import TreeHash, TreeWitness, witness_from_json
from ._witness import Witness, WitnessStream

__all__ = [
    "API_VERSION",
    "MODULUS",
    "PAGE_BYTES",
    "WINDOW_BYTES",
    "AtlasError",
    "Budget",
    "BudgetError",
    "ConservationError",
    "ConsistencyProof",
    "Domain",
    "DomainMemoryError",
    "ErrorCode",
    "FileError",
    "InclusionProof",
    "Lease",
    "Manifest",
    "MismatchError",
    "Residue",
    "State",
    "StateError",
    "Transaction",
    "TreeHash",
    "TreeWitness",
    "UndecidedError",
    "Witness",
    "WitnessError",
    "WitnessStream",
    "__version__",
    "conserved_copy",
    "conserved_fill",
    "delta",
    "fixup",
    "is_conserved",
    "kernel_set",
    "kernel_set_supported",
    "kernel_sets",
    "residue",
    "select_kernel_set",
    "window_residues",
    "witness_from_json",
]

__version__ = _native.VERSION

TYPE_CHECKING = False  # `typing` costs as much as the rest of the import
if TYPE_CHECKING:
    from ._files import FileError as FileError
    from ._reports import MismatchError as MismatchError
    from ._reports import UndecidedError as UndecidedError
    from .manifest._manifest import Manifest as Manifest
else:

    def __getattr__(name: str) -> object:
        """What few programs need is imported with its first use."""
        if name == "FileError":
            from ._files import FileError

            return FileError
        if name == "Manifest":
            from .manifest._manifest import Manifest

            return Manifest
        if name in ("MismatchError", "UndecidedError"):
            from . import _reports

            return getattr(_reports, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# For tests: the kernel set to use instead of the best one.
_kernels = _os.environ.get("ATLAS12288_KERNELS")
if _kernels and not kernel_set_supported(_kernels):
    _choices = ", ".join(name for name in kernel_sets() if kernel_set_supported(name))
    raise ImportError(f"ATLAS12288_KERNELS is {_kernels!r}, must be one of {_choices}")
if _kernels:
    select_kernel_set(_kernels)
