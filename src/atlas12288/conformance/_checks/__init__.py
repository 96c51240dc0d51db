# SPDX-License-Identifier: Apache-2.0
"""What the clauses try, one module for each part of the contract."""
