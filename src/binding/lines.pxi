# SPDX-License-Identifier: Apache-2.0
# The lines of a manifest.

cdef extern from "lines.h" nogil:
    enum:
        ATLAS_JSON_BYTES
        ATLAS_LINE_BYTES
        ATLAS_NUMBER_BYTES

    ctypedef struct atlas_line_t:
        const char *path
        size_t path_len
        int64_t size
        int64_t residue
        const char *sha256
        const char *root
        const char *target
        size_t target_len

    char *atlas_write_json(char *to, const char *text, size_t len)
    char *atlas_write_line(
        char *to, const char *folder, size_t folder_len, const char *name, const uint8_t *result,
        uint64_t size, int flat, int tree)
    char *atlas_write_number(char *to, int64_t number)
    int atlas_leaf_hashes(
        const void *const *messages, const size_t *lens, size_t count, uint8_t *out)
    const char *atlas_read_line(
        const char *text, const char *end, int flat, int tree, atlas_line_t *out)
    const char *atlas_read_root(const char *text, const char *end)
    void atlas_read_digest(const char *hex, uint8_t *out)


cdef struct Lines:
    # What the lines of a folder's files are made from, and where they go.
    const char *names
    const int64_t *numbers
    const uint8_t *results
    size_t count
    int64_t since_ns
    int flat, tree      # the digests in the lines
    char *folder        # in JSON, with its slash
    size_t folder_len
    char *messages      # the lines, each after the prefix of a leaf
    const void **bases
    size_t *lens
    char *identities
    size_t identities_len, lines_len


cdef void write_lines(Lines *lines) noexcept nogil:
    cdef const char *name = lines.names
    cdef const int64_t *numbers = lines.numbers
    cdef char *to = lines.messages
    cdef char *identity = lines.identities
    cdef char *begin
    cdef size_t i
    lines.lines_len = 0
    for i in range(lines.count):
        begin = to
        to[0] = 0
        to = atlas_write_line(to + 1, lines.folder, lines.folder_len, name,
                              lines.results + i * ATLAS_RESULT_BYTES, <uint64_t>numbers[0],
                              lines.flat, lines.tree)
        lines.bases[i] = begin
        lines.lens[i] = to - begin
        lines.lines_len += lines.lens[i]
        if i > 0:
            identity[0] = b"\n"
            identity += 1
        if numbers[1] >= lines.since_ns or numbers[2] >= lines.since_ns:
            identity[0] = 0
            identity += 1
        identity = atlas_write_number(identity, numbers[1])
        identity[0] = b" "
        identity = atlas_write_number(identity + 1, numbers[2])
        name += strlen(name) + 1
        numbers += NUMBERS
    lines.identities_len = identity - lines.identities


def entry_lines(bytes folder not None, bytes names not None, bytes numbers not None, results,
                since_ns, bint flat, bint tree, /):
    """Return the lines of a manifest about files, the hashes of the lines, and their identities.

    Args: folder, the path around them, "" or with a slash at its end; names and numbers; results,
    as `witness_files` returns them. All paths are UTF-8. since_ns: the identity of a file whose
    modification time or ctime is then or later begins with NUL; flat and tree, the digests in the lines.
    Returns (lines, each ended by a line feed; their leaf hashes, RFC 9162; the identities,
    modification time and ctime, with a line feed between one and the next).
    """
    cdef Lines lines
    cdef Span found
    cdef size_t i, folder_most, names_most, text_most
    lines.count = count_of(names, numbers)
    lines.since_ns = since_ns
    lines.flat, lines.tree = flat, tree
    lines.names = PyBytes_AsString(names)
    lines.numbers = <const int64_t *>PyBytes_AsString(numbers)
    folder_most = ATLAS_JSON_BYTES * <size_t>PyBytes_Size(folder)
    names_most = ATLAS_JSON_BYTES * <size_t>PyBytes_Size(names)
    hold(results, "results", 0, &found)
    lines.results = found.data
    lines.folder = lines.messages = lines.identities = NULL
    lines.bases = NULL
    lines.lens = NULL
    try:
        if found.len != lines.count * ATLAS_RESULT_BYTES:
            raise ValueError(
                f"results has {found.len} bytes, must have {ATLAS_RESULT_BYTES} for each file"
            )
        lines.folder = <char *>PyMem_Malloc(folder_most + 1)
        if lines.folder is NULL:
            raise MemoryError
        lines.folder_len = atlas_write_json(
            lines.folder, PyBytes_AsString(folder), <size_t>PyBytes_Size(folder)
        ) - lines.folder
        text_most = (lines.folder_len + ATLAS_LINE_BYTES) * lines.count + names_most
        lines.messages = <char *>PyMem_Malloc(text_most + 1)
        lines.identities = <char *>PyMem_Malloc(
            lines.count * (2 * ATLAS_NUMBER_BYTES + NUMBERS) + 1
        )
        lines.bases = <const void **>PyMem_Calloc(lines.count + 1, sizeof(void *))
        lines.lens = <size_t *>PyMem_Calloc(lines.count + 1, sizeof(size_t))
        if (lines.messages is NULL or lines.identities is NULL or lines.bases is NULL
                or lines.lens is NULL):
            raise MemoryError
        hashes = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(lines.count * ATLAS_DIGEST_BYTES))
        to_hashes = <uint8_t *>PyBytes_AsString(hashes)
        state = release_gil(1, 1)
        write_lines(&lines)
        good = atlas_leaf_hashes(lines.bases, lines.lens, lines.count, to_hashes)
        restore_gil(state)
        if not good:
            raise MemoryError
        text = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>lines.lines_len)
        to = PyBytes_AsString(text)
        for i in range(lines.count):
            memcpy(to, <const char *>lines.bases[i] + 1, lines.lens[i] - 1)
            to += lines.lens[i]
            (to - 1)[0] = b"\n"
        identities = PyBytes_FromStringAndSize(lines.identities, <Py_ssize_t>lines.identities_len)
        return text, hashes, identities
    finally:
        PyMem_Free(lines.folder)
        PyMem_Free(lines.messages)
        PyMem_Free(lines.identities)
        PyMem_Free(lines.bases)
        PyMem_Free(lines.lens)
        release(&found)


def leaf_hashes(lines, /):
    """Return the leaf hashes (RFC 9162) of lines, joined; the lock is free meanwhile.

    Args: lines, buffer, each ended by a line feed, which is not hashed.
    Raises ValueError where the last one has no end.
    """
    cdef Span span
    cdef size_t count = 0, i
    cdef char *text = NULL
    cdef const void **bases = NULL
    cdef size_t *lens = NULL
    hold(lines, "lines", 0, &span)
    try:
        if span.len > 0 and span.data[span.len - 1] != b"\n":
            raise ValueError("lines have no line feed at their end")
        for i in range(span.len):
            count += span.data[i] == b"\n"
        text = <char *>PyMem_Malloc(span.len + 1)
        bases = <const void **>PyMem_Calloc(count + 1, sizeof(void *))
        lens = <size_t *>PyMem_Calloc(count + 1, sizeof(size_t))
        if text is NULL or bases is NULL or lens is NULL:
            raise MemoryError
        hashes = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(count * ATLAS_DIGEST_BYTES))
        to = <uint8_t *>PyBytes_AsString(hashes)
        state = release_gil(1, 1)
        # The byte before a line, which was the end of another, becomes its prefix.
        text[0] = 0
        bases[0] = text
        count = 0
        for i in range(span.len):
            text[i + 1] = <char>span.data[i]
            if span.data[i] == b"\n":
                text[i + 1] = 0
                lens[count] = (text + i + 1) - <const char *>bases[count]
                count += 1
                bases[count] = text + i + 1
        good = atlas_leaf_hashes(bases, lens, count, to)
        restore_gil(state)
        if not good:
            raise MemoryError
        return hashes
    finally:
        PyMem_Free(text)
        PyMem_Free(bases)
        PyMem_Free(lens)
        release(&span)


cdef struct Entries:
    # The entries of a manifest, as `read_lines` finds them.
    char *text          # the lines, each ended by a line feed
    char *paths         # each ended by NUL
    int64_t *places     # for each line, its size and where it begins; then the end
    size_t text_len, paths_len, count


cdef bint find_lines(const Span *entries, int flat, int tree, size_t path_most,
                     Entries *found) noexcept nogil:
    cdef const char *text = <const char *>entries.data
    cdef const char *end = text + entries.len
    cdef const char *line
    cdef const char *before = NULL
    cdef size_t before_len = 0, least
    cdef int order
    cdef atlas_line_t read
    found.text_len = found.paths_len = found.count = 0
    while True:
        line = text
        text = atlas_read_line(line, end, flat, tree, &read)
        if text is NULL or read.path_len > path_most:
            return False
        if before is not NULL:
            least = before_len if before_len < read.path_len else read.path_len
            order = memcmp(before, read.path, least)
            if order > 0 or (order == 0 and before_len >= read.path_len):
                return False
        before = read.path
        before_len = read.path_len
        memcpy(found.paths + found.paths_len, before, before_len)
        found.paths[found.paths_len + before_len] = 0
        found.paths_len += before_len + 1
        found.places[2 * found.count] = read.size
        found.places[2 * found.count + 1] = found.text_len
        found.count += 1
        memcpy(found.text + found.text_len, line, text - line)
        found.text_len += text - line
        found.text[found.text_len] = b"\n"
        found.text_len += 1
        if text == end:
            break
        if end - text < 2 or text[0] != b"," or text[1] != b"\n":
            return False
        text += 2
    found.places[2 * found.count] = 0
    found.places[2 * found.count + 1] = found.text_len
    return True


def read_lines(entries, bint flat, bint tree, path_most, /):
    """Read the entries of a manifest by `atlas_read_line`; the lock is free meanwhile.

    Args: entries, buffer, lines with a comma and a line feed between one and the next; flat and
    tree, the digests of each file; path_most, the most bytes of a path.
    Returns (the lines, each ended by a line feed; the paths, each ended by NUL; for each line its
    size as int64, -1 for a link, and where it begins; then 0 and where the last one ends). None
    where an entry is not written so, or they are not sorted by path, each once.
    """
    cdef Span span
    cdef Entries found
    cdef size_t most = path_most
    cdef size_t lines, i
    hold(entries, "entries", 0, &span)
    found.text = found.paths = NULL
    found.places = NULL
    try:
        lines = 1
        for i in range(span.len):
            lines += span.data[i] == b"\n"
        found.text = <char *>PyMem_Malloc(span.len + 1)
        found.paths = <char *>PyMem_Malloc(span.len + 1)
        found.places = <int64_t *>PyMem_Calloc(lines + 1, 2 * sizeof(int64_t))
        if found.text is NULL or found.paths is NULL or found.places is NULL:
            raise MemoryError
        state = release_gil(1, 1)
        good = find_lines(&span, flat, tree, most, &found)
        restore_gil(state)
        if not good:
            return None
        return (
            PyBytes_FromStringAndSize(found.text, <Py_ssize_t>found.text_len),
            PyBytes_FromStringAndSize(found.paths, <Py_ssize_t>found.paths_len),
            PyBytes_FromStringAndSize(
                <char *>found.places, <Py_ssize_t>((found.count + 1) * 2 * sizeof(int64_t))
            ),
        )
    finally:
        PyMem_Free(found.text)
        PyMem_Free(found.paths)
        PyMem_Free(found.places)
        release(&span)


cdef object tuple_new = tuple.__new__

cdef enum:
    LINES_BETWEEN_SIGNALS = 1024


cdef object digest_of(const char *hex):
    if hex is NULL:
        return None
    digest = PyBytes_FromStringAndSize(NULL, ATLAS_DIGEST_BYTES)
    atlas_read_digest(hex, <uint8_t *>PyBytes_AsString(digest))
    return digest


cdef object utf8_of(const char *text, size_t length):
    """Return bytes; None where they are not UTF-8."""
    cdef size_t i
    cdef unsigned char above = 0
    found = PyBytes_FromStringAndSize(text, <Py_ssize_t>length)
    for i in range(length):
        above |= <unsigned char>text[i]
    if above >= 0x80:
        try:
            found.decode()
        except UnicodeDecodeError:
            return None
    return found


cdef object entry_of(const atlas_line_t *line, cls):
    """Return an entry; None where the line is not UTF-8."""
    path = utf8_of(line.path, line.path_len)
    target = None if line.target is NULL else utf8_of(line.target, line.target_len)
    if path is None or (target is None and line.target is not NULL):
        return None
    size = 0 if line.target is not NULL else line.size
    return tuple_new(
        cls, (path, size, line.residue, digest_of(line.sha256), digest_of(line.root), target)
    )


def read_entries(bytes lines not None, bint flat, bint tree, path_most, cls, other, /):
    """Return the entries of lines, each ended by a line feed, by `atlas_read_line`.

    Args: lines; flat and tree, the digests of each file; path_most, the most bytes of a path; cls,
    the tuple that an entry is: path, size, residue, SHA-256, root, target, None for what it has
    not; other, called with a line that is not written so, without its line feed, returns its entry.
    Raises ValueError where the last one has no end; what `other` raises.
    """
    cdef const char *text = PyBytes_AsString(lines)
    cdef const char *end = text + PyBytes_Size(lines)
    cdef const char *stop
    cdef size_t most = path_most, count = 0
    cdef atlas_line_t line
    entries = []
    while text < end:
        if count % LINES_BETWEEN_SIGNALS == 0:
            PyErr_CheckSignals()
        count += 1
        stop = atlas_read_line(text, end, flat, tree, &line)
        entry = None
        if stop is not NULL and stop < end and stop[0] == b"\n" and line.path_len <= most:
            entry = entry_of(&line, cls)
        if entry is None:
            stop = <const char *>memchr(text, b"\n", end - text)
            if stop is NULL:
                raise ValueError("lines have no line feed at their end")
            entry = other(PyBytes_FromStringAndSize(text, stop - text))
        entries.append(entry)
        text = stop + 1
    return entries


def read_roots(bytes lines not None, /):
    """Return the roots in lines by `atlas_read_root`, joined, without a place for a line that has
    none.

    Args: lines, each ended by a line feed, as `read_lines` returns them.
    Raises ValueError where the last one has no end.
    """
    cdef const char *text = PyBytes_AsString(lines)
    cdef const char *end = text + PyBytes_Size(lines)
    cdef const char *stop
    cdef const char *hex
    cdef size_t count = 0, i
    for i in range(<size_t>(end - text)):
        count += text[i] == b"\n"
    roots = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(count * ATLAS_DIGEST_BYTES))
    to = <uint8_t *>PyBytes_AsString(roots)
    count = 0
    while text < end:
        stop = <const char *>memchr(text, b"\n", end - text)
        if stop is NULL:
            raise ValueError("lines have no line feed at their end")
        hex = atlas_read_root(text, stop)
        if hex is not NULL:
            atlas_read_digest(hex, to + count * ATLAS_DIGEST_BYTES)
            count += 1
        text = stop + 1
    return roots[:count * ATLAS_DIGEST_BYTES]
