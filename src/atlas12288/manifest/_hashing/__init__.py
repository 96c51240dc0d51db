# SPDX-License-Identifier: Apache-2.0
"""Hashing of files: by threads of this process, or by a cluster."""
