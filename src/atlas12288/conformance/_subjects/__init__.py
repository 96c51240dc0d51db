# SPDX-License-Identifier: Apache-2.0
"""What can be tried: the library itself, any other shared library, a WebAssembly module."""
