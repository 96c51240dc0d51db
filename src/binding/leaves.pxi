# SPDX-License-Identifier: Apache-2.0
# The leaves of many trees in one sidecar. Sizes are int64_t in the order of the machine, -1 for a
# symbolic link, which has no tree.

cdef uint64_t windows_of(int64_t size) noexcept nogil:
    return 0 if size < 0 else atlas_windows_of(<uint64_t>size)


cdef size_t hold_sizes(object sizes, Span *span) except? 0:
    """Hold a buffer of sizes until release(); return how many there are."""
    hold(sizes, "sizes", 0, span)
    if span.len % sizeof(int64_t) != 0:
        length = span.len
        release(span)
        raise ValueError(f"sizes has {length} bytes, must have {sizeof(int64_t)} for each")
    return span.len // sizeof(int64_t)


def leaf_places(sizes, /):
    """Return the place of the first leaf of each file, in leaves from the first one's, as int64_t,
    and behind them the number of all leaves; a link has none.

    Args: sizes, buffer.
    """
    cdef Span span
    cdef size_t count = hold_sizes(sizes, &span), i
    cdef int64_t place = 0
    try:
        places = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>((count + 1) * sizeof(int64_t)))
        to = <int64_t *>PyBytes_AsString(places)
        from_ = <const int64_t *>span.data
        for i in range(count):
            to[i] = place
            place += windows_of(from_[i])
        to[count] = place
        return places
    finally:
        release(&span)


cdef size_t match(const int64_t *sizes, const uint8_t *roots, size_t count, const uint8_t *leaves,
                  uint64_t *room) noexcept nogil:
    """Return how many of some trees, from the first on, have their leaves; `room`: the number of
    leaves, and then of those that are theirs."""
    cdef uint8_t root[ATLAS_DIGEST_BYTES]
    cdef uint64_t windows, used = 0
    cdef size_t i = 0
    while i < count:
        windows = windows_of(sizes[i])
        if sizes[i] < 0 or windows > room[0] - used:
            break
        # The root of one leaf is the leaf.
        if windows != 1:
            atlas_tree_root(leaves + used * ATLAS_DIGEST_BYTES, <size_t>windows, root)
        if memcmp(leaves + used * ATLAS_DIGEST_BYTES if windows == 1 else root,
                  roots + i * ATLAS_DIGEST_BYTES, ATLAS_DIGEST_BYTES) != 0:
            break
        used += windows
        i += 1
    room[0] = used
    return i


def match_leaves(sizes, roots, size_t first, leaves, /):
    """Compare trees with leaves that follow one another; the lock is free meanwhile.

    Args: sizes, buffer, of files and no links; roots, buffer, their roots, joined; first, the index
    of the tree that the leaves begin with; leaves, buffer, joined, which may end anywhere.
    Returns (how many trees, from `first` on, have exactly these leaves; how many leaves they have).
    They end before a tree with other leaves, or with more than are left.
    """
    cdef Span its_sizes, its_roots, its_leaves
    cdef size_t count = hold_sizes(sizes, &its_sizes), found
    cdef uint64_t room
    try:
        hold_hashes(roots, "roots", &its_roots)
        try:
            if its_roots.len != count * ATLAS_DIGEST_BYTES or first > count:
                raise ValueError(
                    f"roots has {its_roots.len} bytes and first is {first}, must be for {count} "
                    "sizes"
                )
            hold(leaves, "leaves", 0, &its_leaves)
            try:
                room = its_leaves.len // ATLAS_DIGEST_BYTES
                state = release_gil(1, 1)
                found = match(<const int64_t *>its_sizes.data + first,
                              its_roots.data + first * ATLAS_DIGEST_BYTES, count - first,
                              its_leaves.data, &room)
                restore_gil(state)
                return <Py_ssize_t>found, room
            finally:
                release(&its_leaves)
        finally:
            release(&its_roots)
    finally:
        release(&its_sizes)
