# SPDX-License-Identifier: Apache-2.0
"""Regions of our own memory."""

import ctypes

import atlas12288 as atlas


def region_of(data: bytes) -> atlas.Region:
    """Return a region whose payload is `data`, conserved."""
    region = atlas.Region(len(data))
    atlas.conserved_copy(region, data)
    return region


def strike(region: atlas.Region, at: int, value: int) -> None:
    """Set a byte of payload and balance behind the back of the region."""
    ctypes.memset(address_of(region) + at, value, 1)


def address_of(region: atlas.Region) -> int:
    """Return the address of the payload."""
    return ctypes.addressof((ctypes.c_char * region.nbytes).from_buffer(region))
