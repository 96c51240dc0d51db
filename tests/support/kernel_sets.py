# SPDX-License-Identifier: Apache-2.0
"""The kernel sets that this CPU can run."""

import os
from itertools import takewhile

import pytest

import atlas12288
from support.slow import slow_but

RUNNABLE_KERNEL_SETS = tuple(
    name for name in atlas12288.kernel_sets() if atlas12288.kernel_set_supported(name)
)
# Better ones that are not chosen by themselves: they do not suit this CPU, which may take a hundred
# times as long with them.
_UNSUITED = frozenset(takewhile(lambda name: name != atlas12288.kernel_set(), RUNNABLE_KERNEL_SETS))
_CHOSEN = bool(os.environ.get("ATLAS12288_KERNELS"))
KERNEL_SET_PARAMS = [
    pytest.param(name, marks=pytest.mark.slow) if name in _UNSUITED and not _CHOSEN else name
    for name in RUNNABLE_KERNEL_SETS
]


# For what takes long with each set: the best one and the plainest, unless one was chosen.
ENDS = pytest.mark.parametrize(
    "kernel_set",
    RUNNABLE_KERNEL_SETS
    if _CHOSEN
    else slow_but((atlas12288.kernel_set(), RUNNABLE_KERNEL_SETS[-1]), RUNNABLE_KERNEL_SETS),
    indirect=True,
)
