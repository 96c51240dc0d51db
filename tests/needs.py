# SPDX-License-Identifier: Apache-2.0
"""Programs of others that a test runs, and that a machine with a C compiler and make may lack."""

import shutil

import pytest


def needs(tool: str) -> pytest.MarkDecorator:
    """Skips a test where the program is not installed."""
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")
