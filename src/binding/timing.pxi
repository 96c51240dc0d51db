# SPDX-License-Identifier: Apache-2.0
# Benchmarks.

def time_operation(str operation not None, dst, src, repeats, /):
    """Run an operation of `timed_operations` `repeats` times in C; return the total nanoseconds.

    Args: dst, src, buffers of equal length; the operation may write dst.
    Raises ValueError where the operation is unknown or refuses its input, the lengths differ, or
    `repeats` is not in 1..2^32 - 1; TypeError or BufferError for a wrong buffer.
    """
    cdef Span to, source
    number = index_of(repeats, "repeats")
    if operation not in timed_operations():
        raise ValueError(
            f"operation is {operation!r}, must be one of {', '.join(timed_operations())}"
        )
    if not 1 <= number < 2**32:
        raise ValueError(f"repeats is {shown(number)}, must be in 1..{2**32 - 1}")
    cdef uint64_t runs = number
    encoded = operation.encode()
    cdef const char *name = encoded
    hold_pair(dst, "dst", PyBUF_WRITABLE, &to, src, "src", &source)
    state = release_gil(1, 1)
    cdef uint64_t elapsed_ns = atlas_time_operation(name, to.data, source.data, to.len, runs)
    restore_gil(state)
    release(&to)
    release(&source)
    if elapsed_ns == 0:
        raise ValueError(f"{operation} refused its input: {atlas_get_last_error().decode()}")
    return elapsed_ns


def timed_operations():
    """Return the names of the operations that `time_operation` knows."""
    return names(atlas_timed_operation)


cdef tuple names(const char *(*name_at)(size_t) noexcept nogil):
    """Return the names in a C table, which ends with NULL."""
    cdef size_t index = 0
    cdef list found = []
    while name_at(index) is not NULL:
        found.append(name_at(index).decode())
        index += 1
    return tuple(found)
