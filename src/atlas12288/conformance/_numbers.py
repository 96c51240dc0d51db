# SPDX-License-Identifier: Apache-2.0
"""The contract's numbers, repeated so that the kit does not depend on the library it judges."""

from typing import Final

MODULUS: Final = 96
WINDOW_BYTES: Final = 12288
