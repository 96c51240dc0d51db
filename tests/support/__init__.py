# SPDX-License-Identifier: Apache-2.0
"""Helpers of the tests, and the programs that tests start in processes of their own."""
