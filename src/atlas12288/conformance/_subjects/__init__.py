# SPDX-License-Identifier: Apache-2.0
"""The subjects of a test: this package's library, another shared library, a module."""
