# SPDX-License-Identifier: Apache-2.0
# Folders with many small files. Names of files are bytes, each ended by NUL; their numbers are
# int64_t in the order of the machine, three of each: size, modification time, ctime.

cdef extern from "folders.h" nogil:
    enum:
        ATLAS_RESULT_BYTES

    ctypedef struct atlas_entry_t:
        const char *name
        uint64_t size
        int64_t mtime_ns, ctime_ns
        int kind

    ctypedef struct atlas_file_id_t:
        uint64_t device, inode

    ctypedef struct atlas_listing_bounds_t:
        uint64_t size_most
        size_t entries_most
        const atlas_file_id_t *watched
        size_t watched_count

    ctypedef struct atlas_folder_t:
        atlas_entry_t *entries
        size_t count
        size_t names_bytes

    int atlas_folder_list(
        int descriptor, const atlas_listing_bounds_t *bounds, atlas_folder_t *out)
    void atlas_folder_free(atlas_folder_t *folder)

    ctypedef struct atlas_wanted_t:
        int flat, tree
        uint8_t *results
        uint8_t *leaves

    size_t atlas_witness_files(
        atlas_listed_file_t *files, size_t count, uint8_t *buffer, size_t room, uint64_t stop_ns,
        const atlas_wanted_t *wanted)
    uint64_t atlas_windows_of(uint64_t size)

RESULT_BYTES = <int>ATLAS_RESULT_BYTES

cdef enum:
    NUMBERS = 3
    NUMBERS_BYTES = 24


def list_folder(int descriptor, size_most, entries_most, list watched not None, /):
    """List an open folder by `atlas_folder_list`; the lock is free meanwhile.

    Args: descriptor of the folder; size_most, of a file that counts as one; entries_most, of the
    folder; watched, pairs of device and inode.
    Returns (names, numbers, kinds), bytes: of all entries in the order of their paths. Kinds are
    ATLAS_ENTRY_FILE, _FOLDER, _OTHER. None where the folder is left to the caller.
    """
    cdef atlas_listing_bounds_t bounds
    cdef atlas_folder_t folder
    cdef atlas_file_id_t *ids = NULL
    cdef size_t i, end = 0
    cdef int64_t *to
    cdef const char *name
    bounds.size_most, bounds.entries_most = size_most, entries_most
    bounds.watched_count = <size_t>len(watched)
    ids = <atlas_file_id_t *>PyMem_Calloc(bounds.watched_count + 1, sizeof(atlas_file_id_t))
    if ids is NULL:
        raise MemoryError
    try:
        for i in range(bounds.watched_count):
            ids[i].device, ids[i].inode = watched[i]
        bounds.watched = ids
        state = release_gil(1, 1)
        good = atlas_folder_list(descriptor, &bounds, &folder)
        restore_gil(state)
    finally:
        PyMem_Free(ids)
    try:
        if not good:
            return None
        for i in range(folder.count):
            end += strlen(folder.entries[i].name) + 1
        names = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>end)
        numbers = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(folder.count * NUMBERS_BYTES))
        kinds = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>folder.count)
        text, marks = PyBytes_AsString(names), PyBytes_AsString(kinds)
        to = <int64_t *>PyBytes_AsString(numbers)
        for i in range(folder.count):
            name = folder.entries[i].name
            end = strlen(name) + 1
            memcpy(text, name, end)
            text += end
            to[NUMBERS * i] = <int64_t>folder.entries[i].size
            to[NUMBERS * i + 1] = folder.entries[i].mtime_ns
            to[NUMBERS * i + 2] = folder.entries[i].ctime_ns
            marks[i] = <char>folder.entries[i].kind
        return names, numbers, kinds
    finally:
        atlas_folder_free(&folder)


cdef size_t names_in(bytes names) except? 0:
    """Return how many names there are."""
    cdef const char *text = PyBytes_AsString(names)
    cdef size_t length = <size_t>PyBytes_Size(names), count = 0, i
    for i in range(length):
        count += text[i] == 0
    if length > 0 and text[length - 1] != 0:
        raise ValueError("names must each be ended by NUL")
    return count


cdef size_t count_of(bytes names, bytes numbers) except? 0:
    """Return how many files there are names and numbers of."""
    cdef size_t size = <size_t>PyBytes_Size(numbers), count = names_in(names)
    if size != count * NUMBERS_BYTES:
        raise ValueError(
            f"numbers has {size} bytes, must have {NUMBERS_BYTES} for each name of {count}"
        )
    return count


cdef uint64_t windows_in(const atlas_listed_file_t *files, size_t count) noexcept nogil:
    cdef uint64_t windows = 0
    cdef size_t i
    for i in range(count):
        windows += atlas_windows_of(files[i].size)
    return windows


def witness_files(list groups not None, first, buffer, stop_ns, bint flat, bint tree, bint leaves,
                  /):
    """Read and hash small files by `atlas_witness_files`; the lock is free meanwhile.

    Args: groups, tuples (descriptor of a folder, which stays open as long as the call lasts, names,
    numbers); first, the number of files of all groups to pass over; buffer, writable; stop_ns,
    nanoseconds after which it returns; flat and tree, which digests are wanted; leaves, whether the
    leaves of the trees are wanted.
    Returns (results, leaves), bytes: RESULT_BYTES for each of the files that are done, at least
    one: 1 or 0, whether it was read as `atlas_read_listed_file` says; residue; SHA-256; root. The
    leaf hashes of these files, as many as their listed sizes say, undefined where a file was not
    read; none if they are not wanted.
    """
    cdef Span room
    cdef size_t total = 0, count, skipped = first, i, done
    cdef uint64_t most_ns = stop_ns, windows = 0
    cdef atlas_wanted_t wanted
    cdef const char *name
    cdef const int64_t *numbers
    cdef int descriptor
    cdef tuple held = tuple(groups)  # nobody else may drop one meanwhile
    for _, names, sizes in held:
        total += count_of(names, sizes)
    if skipped >= total:
        raise ValueError(f"first is {first}, must be in 0..{total} - 1")
    hold(buffer, "buffer", PyBUF_WRITABLE, &room)
    cdef atlas_listed_file_t *files = <atlas_listed_file_t *>PyMem_Calloc(
        total, sizeof(atlas_listed_file_t)
    )
    try:
        if files is NULL:
            raise MemoryError
        total = 0
        for descriptor, names, sizes in held:
            name = PyBytes_AsString(names)
            numbers = <const int64_t *>PyBytes_AsString(sizes)
            count = <size_t>PyBytes_Size(sizes) // NUMBERS_BYTES
            for i in range(count):
                files[total].folder = descriptor
                files[total].name = name
                files[total].size = <uint64_t>numbers[NUMBERS * i]
                files[total].mtime_ns = numbers[NUMBERS * i + 1]
                name += strlen(name) + 1
                total += 1
        total -= skipped
        results = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(total * ATLAS_RESULT_BYTES))
        wanted.flat, wanted.tree = flat, tree
        wanted.results = <uint8_t *>PyBytes_AsString(results)
        wanted.leaves = NULL
        hashes = b""
        if tree and leaves:
            windows = windows_in(files + skipped, total)
            hashes = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(windows * ATLAS_DIGEST_BYTES))
            wanted.leaves = <uint8_t *>PyBytes_AsString(hashes)
        state = release_gil(1, 1)
        done = atlas_witness_files(files + skipped, total, room.data, room.len, most_ns, &wanted)
        restore_gil(state)
        if done == 0:
            raise MemoryError
        if done < total:
            results = results[:done * ATLAS_RESULT_BYTES]
            hashes = hashes[:windows_in(files + skipped, done) * ATLAS_DIGEST_BYTES]
        return results, hashes
    finally:
        PyMem_Free(files)
        release(&room)
