# SPDX-License-Identifier: Apache-2.0
"""Pictures and sketches of residues and of damage."""
