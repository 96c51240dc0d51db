# SPDX-License-Identifier: Apache-2.0
"""The kernel sets that this CPU can run."""

import atlas12288

RUNNABLE_KERNEL_SETS = tuple(
    name for name in atlas12288.kernel_sets() if atlas12288.kernel_set_supported(name)
)
