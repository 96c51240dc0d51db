# SPDX-License-Identifier: Apache-2.0
"""Where files come from: folders, remote storage, and the rules that choose among them."""
