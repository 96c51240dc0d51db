# SPDX-License-Identifier: Apache-2.0
"""Who hashes the files: threads of this process, or a cluster."""
