# SPDX-License-Identifier: Apache-2.0
"""Pictures and sketches: what the command line draws of residues and of damage."""
