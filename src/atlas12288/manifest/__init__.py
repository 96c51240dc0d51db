# SPDX-License-Identifier: Apache-2.0
"""Manifests: the digests of all files of a folder, a bucket or a cluster's storage in one file."""
