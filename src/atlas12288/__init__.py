# SPDX-License-Identifier: Apache-2.0
"""Conservation-checked memory: residues, witnesses, domains and budgets over any buffer.

The residue of a region is the sum of its bytes mod 96; a region is conserved if that is 0. The
residue is not a security check: the digest of a `Witness` proves integrity.

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

from . import _native
from ._domain import Domain, State
from ._errors import (
    AtlasError,
    BudgetError,
    ConservationError,
    DeviceError,
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
    AsyncLease,
    Budget,
    Lease,
    Region,
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
from ._types import TYPE_CHECKING
from ._types import imported_when_used as _imported_when_used
from ._witness import Witness, WitnessStream

__all__ = [
    "API_VERSION",
    "MODULUS",
    "PAGE_BYTES",
    "WINDOW_BYTES",
    "AsyncLease",
    "AtlasError",
    "Budget",
    "BudgetError",
    "ConservationError",
    "ConsistencyProof",
    "DeviceError",
    "Domain",
    "DomainMemoryError",
    "ErrorCode",
    "FileError",
    "InclusionProof",
    "Lease",
    "Manifest",
    "MismatchError",
    "Pending",
    "Region",
    "Residue",
    "ScrubReport",
    "Scrubber",
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
    "release_device_memory",
    "residue",
    "select_kernel_set",
    "window_residues",
    "witness_from_json",
]

__version__ = _native.VERSION

# Each of these needs more than the whole import, so its first use imports it.
if TYPE_CHECKING:
    from ._any_witness import witness_from_json as witness_from_json
    from ._files import FileError as FileError
    from ._gpu import release_device_memory as release_device_memory
    from ._pending import Pending as Pending
    from ._proofs import ConsistencyProof as ConsistencyProof
    from ._proofs import InclusionProof as InclusionProof
    from ._reports import MismatchError as MismatchError
    from ._reports import UndecidedError as UndecidedError
    from ._scrubber import Scrubber as Scrubber
    from ._scrubber import ScrubReport as ScrubReport
    from ._tree import TreeWitness as TreeWitness
    from ._tree_hash import TreeHash as TreeHash
    from .manifest._manifest import Manifest as Manifest
else:
    __getattr__ = _imported_when_used(
        __name__,
        {
            "ConsistencyProof": "._proofs",
            "FileError": "._files",
            "InclusionProof": "._proofs",
            "Manifest": ".manifest._manifest",
            "MismatchError": "._reports",
            "Pending": "._pending",
            "ScrubReport": "._scrubber",
            "Scrubber": "._scrubber",
            "TreeHash": "._tree_hash",
            "TreeWitness": "._tree",
            "UndecidedError": "._reports",
            "release_device_memory": "._gpu",
            "witness_from_json": "._any_witness",
        },
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _gpu_functions() -> object:
    """Import what sums tensors on a GPU."""
    from . import _gpu

    return _gpu


def _task_functions() -> object:
    """Import what waits in tasks."""
    from . import _tasks

    return _tasks


_native.register_gpu(_gpu_functions)
_native.register_tasks(_task_functions)

# For tests: the kernel set to use instead of the best one.
_kernels = _os.environ.get("ATLAS12288_KERNELS")
if _kernels and not kernel_set_supported(_kernels):
    _choices = ", ".join(name for name in kernel_sets() if kernel_set_supported(name))
    raise ImportError(f"ATLAS12288_KERNELS is {_kernels!r}, must be one of {_choices}")
if _kernels:
    select_kernel_set(_kernels)
