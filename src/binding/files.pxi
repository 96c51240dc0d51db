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
    # Nobody else may drop one meanwhile. Not a list: without memory, list(names) leaks in 3.11.
    cdef tuple kept = tuple(names)
    cdef uint64_t total = 0
    if not len(kept) == len(sizes) == len(mtimes_ns) == len(folders):
        raise ValueError(
            f"names, sizes, mtimes_ns have {len(kept)}, {len(sizes)}, {len(mtimes_ns)} items, "
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
            name = kept[i]
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


cdef const char **paths_of(tuple paths) except NULL:
    """Return the characters of each path, which the items keep alive; the caller frees the array."""
    cdef size_t number = <size_t>len(paths), i
    cdef const char **found = <const char **>PyMem_Calloc(number + 1, sizeof(char *))
    if found is NULL:
        raise MemoryError
    try:
        for i in range(number):
            path = paths[i]
            if type(path) is not bytes or b"\0" in path:
                raise ValueError(f"paths[{i}] is {path!r}, must be bytes without NUL")
            found[i] = PyBytes_AsString(path)
    except BaseException:
        PyMem_Free(found)
        raise
    return found


def file_sizes(list paths not None, stop_ns, /):
    """Return the sizes of regular files in bytes, links followed; -1 for all that is none. The lock
    is free meanwhile.

    Args: paths, bytes; stop_ns, nanoseconds after which it returns with the sizes of the first ones
    alone, of one at least. Raises ValueError where a path is not bytes, or has a NUL.
    """
    cdef size_t number, i, done
    cdef uint64_t most_ns = stop_ns, begin = monotonic_ns()
    cdef int64_t *sizes
    cdef tuple kept = tuple(paths)  # nobody else may drop one meanwhile
    number = <size_t>len(kept)
    cdef const char **names = paths_of(kept)
    sizes = <int64_t *>PyMem_Calloc(number + 1, sizeof(int64_t))
    try:
        if sizes is NULL:
            raise MemoryError
        state = release_gil(1, 1)
        done = 0
        while done < number and (done == 0 or monotonic_ns() - begin < most_ns):
            sizes[done] = atlas_file_size(names[done])
            done += 1
        restore_gil(state)
        found = []  # not a comprehension: without memory in one here, the interpreter crashes
        for i in range(done):
            found.append(sizes[i])
        return found
    finally:
        PyMem_Free(names)
        PyMem_Free(sizes)


cdef struct Named:
    # The files of `witness_named_files`, and the arrays for those that are in the buffer.
    const char **paths
    uint64_t *sizes
    atlas_witness_t **made  # NULL where a file was not read
    const void **bases
    size_t *lens
    size_t *places
    atlas_witness_t **some


cdef int witness_named(Named *all, size_t number, uint8_t *room, size_t size, uint64_t most_ns,
                       size_t *done) noexcept nogil:
    """Fill the room with files, hash them, and again, until the time is over; return a code of the
    library."""
    cdef size_t i = 0, count, j
    cdef size_t filled
    cdef uint64_t begin = monotonic_ns()
    while i < number and (i == 0 or monotonic_ns() - begin < most_ns):
        count = 0
        filled = 0
        while (i < number and all.sizes[i] <= size - filled
                and (i == 0 or monotonic_ns() - begin < most_ns)):
            if atlas_read_named_file(all.paths[i], all.sizes[i], room + filled):
                all.bases[count] = room + filled
                all.lens[count] = <size_t>all.sizes[i]
                all.places[count] = i
                count += 1
                filled = atlas_next_place(filled, <size_t>all.sizes[i], size)
            i += 1
        code = atlas_witness_generate_many(all.bases, all.lens, count, all.some)
        if code != ATLAS_OK:
            return code
        for j in range(count):
            all.made[all.places[j]] = all.some[j]
    done[0] = i
    return ATLAS_OK


def witness_named_files(cls, list paths not None, list sizes not None, buffer, stop_ns, /):
    """Return the witnesses of small files, read by their paths, links followed; the lock is free
    meanwhile.

    Args: cls, `Witness` or a subclass; paths, bytes; sizes, as `file_sizes` gives them; buffer,
    writable, with room for the largest file; stop_ns, nanoseconds after which it returns.
    Returns a list with None where a file was not read as `atlas_read_named_file` says: of all files,
    or, where the time was over, of the first ones, of one at least.
    Raises ValueError where the lists are not of one length, the buffer is too short, or a path is
    not bytes, or has a NUL.
    """
    cdef Span room
    cdef Named files
    cdef size_t number, i, done = 0
    cdef uint64_t most_ns = stop_ns
    cdef atlas_witness_t *handle
    cdef tuple kept = tuple(paths)  # nobody else may drop one meanwhile
    number = <size_t>len(kept)
    if number != <size_t>len(sizes):
        raise ValueError(f"sizes has {len(sizes)} items, must have {number}, as paths")
    files.paths = paths_of(kept)
    try:
        hold(buffer, "buffer", PyBUF_WRITABLE, &room)
    except BaseException:
        PyMem_Free(files.paths)
        raise
    files.sizes = <uint64_t *>PyMem_Calloc(number + 1, sizeof(uint64_t))
    files.made = <atlas_witness_t **>PyMem_Calloc(number + 1, sizeof(void *))
    files.bases = <const void **>PyMem_Calloc(number + 1, sizeof(void *))
    files.lens = <size_t *>PyMem_Calloc(number + 1, sizeof(size_t))
    files.places = <size_t *>PyMem_Calloc(number + 1, sizeof(size_t))
    files.some = <atlas_witness_t **>PyMem_Calloc(number + 1, sizeof(void *))
    try:
        if (
            files.sizes is NULL or files.made is NULL or files.bases is NULL
            or files.lens is NULL or files.places is NULL or files.some is NULL
        ):
            raise MemoryError
        for i in range(number):
            files.sizes[i] = sizes[i]
            if files.sizes[i] > room.len:
                raise ValueError(f"buffer has {room.len} bytes, must have {sizes[i]} for a file")
        state = release_gil(1, 1)
        code = witness_named(&files, number, room.data, room.len, most_ns, &done)
        restore_gil(state)
        if code != ATLAS_OK:
            raise_last_error()
        found = []
        for i in range(done):
            handle = files.made[i]
            files.made[i] = NULL
            found.append(None if handle is NULL else Witness.adopt(cls, handle))
        return found
    finally:
        if files.made is not NULL:
            for i in range(number):
                atlas_witness_destroy(files.made[i])
        PyMem_Free(files.paths)
        PyMem_Free(files.sizes)
        PyMem_Free(files.made)
        PyMem_Free(files.bases)
        PyMem_Free(files.lens)
        PyMem_Free(files.places)
        PyMem_Free(files.some)
        release(&room)
