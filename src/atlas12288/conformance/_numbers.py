# SPDX-License-Identifier: Apache-2.0
"""The contract's numbers, written once more so that the kit does not rest on what it judges."""

from typing import Final

MODULUS: Final = 96
WINDOW_BYTES: Final = 12288
