# SPDX-License-Identifier: Apache-2.0
# Small files.

def read_files(list folders not None, list names not None, list sizes not None,
               list mtimes_ns not None, buffer, /):
    """Read small files, one after another, to the buffer; the lock is free meanwhile.

    Args: folders, the descriptors of the folders that the files are in, open as long as the call
    lasts; names, in these folders, bytes; sizes in bytes and mtimes_ns, as listed; buffer, writable,
    with room for all files, whose bytes follow one another.
    Returns bytes, one for each file: 1 where it was read as `atlas_read_listed_file` says, else 0.
    Raises ValueError where the lists are not of one length, or the buffer is too short.
    """
    cdef Span room
    cdef size_t number = <size_t>len(folders), i
    names = list(names)  # nobody else may drop one meanwhile
    cdef uint64_t total = 0
    if not len(names) == len(sizes) == len(mtimes_ns) == len(folders):
        raise ValueError(
            f"names, sizes, mtimes_ns have {len(names)}, {len(sizes)}, {len(mtimes_ns)} items, "
            f"must have {len(folders)}, as folders"
        )
    hold(buffer, "buffer", PyBUF_WRITABLE, &room)
    cdef atlas_listed_file_t *files = <atlas_listed_file_t *>PyMem_Calloc(
        number + 1, sizeof(atlas_listed_file_t)
    )
    try:
        if files is NULL:
            raise MemoryError
        for i in range(number):
            name = names[i]
            if type(name) is not bytes or b"\0" in name:
                raise ValueError(f"names[{i}] is {name!r}, must be bytes without NUL")
            files[i].folder = folders[i]
            files[i].name = PyBytes_AsString(name)
            files[i].size = sizes[i]
            files[i].mtime_ns = mtimes_ns[i]
            if files[i].size > room.len - total:
                raise ValueError(f"buffer has {room.len} bytes, must have room for all files")
            files[i].bytes = <uint8_t *>room.data + total
            total += files[i].size
        read = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>number)
        flags = PyBytes_AsString(read)
        state = release_gil(1, 1)
        for i in range(number):
            flags[i] = <char>atlas_read_listed_file(&files[i])
        restore_gil(state)
        return read
    finally:
        PyMem_Free(files)
        release(&room)
