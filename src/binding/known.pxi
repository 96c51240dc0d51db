# SPDX-License-Identifier: Apache-2.0
# What an earlier run left of small files: the lines of a manifest, each ended by a line feed, and
# the identities of their files, with a line feed between one and the next. An identity is the
# modification time and the ctime, with a space between, after NUL if it does not show later changes.

# What is known of a file, as a mark.
cdef enum:
    ABSENT      # it has no line, or its identity does not show later changes
    DIFFERS     # its size or modification time is another
    SAME
    BY_CTIME    # only its ctime is another

KNOWN_BY_CTIME = <int>BY_CTIME


def plain_lines(bytes lines not None, size_t first, bint flat, bint tree, path_most, size_most, /):
    """Read lines of small files by `atlas_read_line`, up to one that is not such a line.

    Args: lines, each ended by a line feed, and by a comma before it or not; first, where the first
    one begins; flat and tree, the digests of each file; path_most, the most bytes of a path;
    size_most, of a file.
    Returns (where it ended; the lines, each ended by a line feed; the size of each file, int64).
    """
    cdef const char *text = PyBytes_AsString(lines)
    cdef const char *end = text + PyBytes_Size(lines)
    cdef const char *begin = text
    cdef const char *stop
    cdef size_t path_len_most = path_most, length = <size_t>PyBytes_Size(lines), count = 0
    cdef int64_t most = size_most
    cdef atlas_line_t line
    cdef char *to = NULL
    cdef int64_t *sizes = NULL
    if first > length:
        raise ValueError(f"first is {first}, must be in 0..{length}")
    text += first
    # The shortest line of a file has more bytes than that.
    cdef size_t count_most = (length - first) // 32 + 1
    to = <char *>PyMem_Malloc(length - first + 1)
    sizes = <int64_t *>PyMem_Calloc(count_most, sizeof(int64_t))
    try:
        if to is NULL or sizes is NULL:
            raise MemoryError
        length = 0
        while text < end and count < count_most:
            stop = atlas_read_line(text, end, flat, tree, &line)
            if (stop is NULL or line.target is not NULL or line.path_len > path_len_most
                    or line.size > most):
                break
            memcpy(to + length, text, stop - text)
            if stop < end and stop[0] == b",":
                if stop + 1 == end or stop[1] != b"\n":
                    break
                stop += 1
                length += stop - text - 1
            elif stop == end or stop[0] != b"\n":
                break
            else:
                length += stop - text
            to[length] = b"\n"
            length += 1
            sizes[count] = line.size
            count += 1
            text = stop + 1
        return (
            <Py_ssize_t>(text - begin),
            PyBytes_FromStringAndSize(to, <Py_ssize_t>length),
            PyBytes_FromStringAndSize(<char *>sizes, <Py_ssize_t>(count * sizeof(int64_t))),
        )
    finally:
        PyMem_Free(to)
        PyMem_Free(sizes)


cdef struct Listed:
    # Files of a folder in order of path, and what becomes known of them.
    const char *parent      # what their paths begin with
    size_t parent_len, count
    const char *name        # of the next file
    int64_t *numbers
    uint8_t *results
    uint8_t *marks
    int64_t *leaves         # the place of the first leaf of each
    int replace             # write the ctime of the line for one that has another


cdef int by_path(const Listed *files, size_t name_len, const atlas_line_t *line) noexcept nogil:
    """Return how the path of the next file compares with that of a line."""
    cdef size_t path_len = files.parent_len + name_len
    cdef size_t some = files.parent_len if files.parent_len < line.path_len else line.path_len
    cdef int order = memcmp(files.parent, line.path, some)
    if order == 0 and some < line.path_len:
        some = name_len if path_len < line.path_len else line.path_len - files.parent_len
        order = memcmp(files.name, line.path + files.parent_len, some)
    if order == 0:
        order = (path_len > line.path_len) - (path_len < line.path_len)
    return order


cdef const char *read_number(const char *text, const char *end, int64_t *out) noexcept nogil:
    """Read an integer as `atlas_write_number` writes it, up to the end; return NULL if it is none."""
    cdef char written[ATLAS_NUMBER_BYTES]
    cdef uint64_t number = 0
    cdef const char *digit = text
    cdef int minus = text < end and text[0] == b"-"
    if minus:
        digit += 1
    if digit == end or end - digit > 19:
        return NULL
    while digit < end:
        if digit[0] < b"0" or digit[0] > b"9":
            return NULL
        number = 10 * number + <uint64_t>(digit[0] & 15)
        digit += 1
    out[0] = <int64_t>(0 - number if minus else number)
    if (atlas_write_number(written, out[0]) - written != end - text
            or memcmp(written, text, <size_t>(end - text)) != 0):
        return NULL
    return end


cdef int judge(const int64_t *numbers, int64_t size, const char *identity, const char *end,
               int64_t *ctime) noexcept nogil:
    """Return the mark of a file with these numbers, by its size and identity before."""
    cdef char written[ATLAS_NUMBER_BYTES]
    cdef size_t len
    if identity < end and identity[0] == 0:
        return ABSENT
    len = atlas_write_number(written, numbers[1]) - written
    if (size != numbers[0] or <size_t>(end - identity) <= len
            or memcmp(written, identity, len) != 0 or identity[len] != b" "
            or read_number(identity + len + 1, end, ctime) is NULL):
        return DIFFERS
    return SAME if ctime[0] == numbers[2] else BY_CTIME


cdef struct Known:
    # Lines and identities, and how far they were compared.
    const char *text
    const char *end
    const char *identity
    const char *identities_end
    int64_t leaf            # the place of the first leaf of the next line


cdef size_t compare(Known *known, Listed *files, size_t first, int flat, int tree) noexcept nogil:
    """Compare lines with files until there are no more of one of them; return the next file."""
    cdef atlas_line_t line
    cdef const char *stop
    cdef const char *identity_end
    cdef int64_t *numbers
    cdef int64_t ctime = 0
    cdef uint8_t *result
    cdef size_t i = first, name_len
    cdef int order, mark
    name_len = strlen(files.name) if i < files.count else 0
    while i < files.count and known.text < known.end:
        stop = atlas_read_line(known.text, known.end, flat, tree, &line)
        if stop is NULL or known.identity > known.identities_end:
            known.text = known.end
            break
        order = by_path(files, name_len, &line)
        if order >= 0:
            identity_end = <const char *>memchr(
                known.identity, b"\n", known.identities_end - known.identity
            )
            if identity_end is NULL:
                identity_end = known.identities_end
            if order == 0 and files.marks[i] == ABSENT:
                numbers = files.numbers + NUMBERS * i
                mark = judge(numbers, line.size, known.identity, identity_end, &ctime)
                files.marks[i] = <uint8_t>mark
                if mark == SAME or (mark == BY_CTIME and files.replace):
                    result = files.results + i * ATLAS_RESULT_BYTES
                    memset(result, 0, ATLAS_RESULT_BYTES)
                    result[0] = 1
                    result[1] = <uint8_t>line.residue
                    if line.sha256 is not NULL:
                        atlas_read_digest(line.sha256, result + 2)
                    if line.root is not NULL:
                        atlas_read_digest(line.root, result + 2 + ATLAS_DIGEST_BYTES)
                    files.leaves[i] = known.leaf
                    numbers[2] = ctime
            known.leaf += <int64_t>windows_of(line.size)
            known.text = stop + 1 # the line feed
            known.identity = identity_end + 1
        if order <= 0:
            i += 1
            files.name += name_len + 1
            name_len = strlen(files.name) if i < files.count else 0
    return i


def known_files(bytes parent not None, bytes names not None, numbers, results, marks, leaves,
                first, tuple known not None, bint flat, bint tree, bint replace, /):
    """Say of files of a folder, in order of path, what is known of them by lines in this order; the
    lock is free meanwhile.

    Args: parent, what the paths of the files begin with; names; numbers, writable; results,
    writable, RESULT_BYTES for each file, as of `witness_files`: written for a file that is known;
    marks, writable, a mark for each file, 0 at first: those that have another one are passed over;
    leaves, writable, an int64 for each file, for the place of its first leaf; first, the number of
    files to pass over; known, (lines, identities, where the next of each begins, the place of its first
    leaf); flat and tree, the digests of the lines; replace, whether a file is known whose ctime
    alone is another, which is then written to the numbers.
    Returns (how many files are done, where the next line and its identity begin, and the place of
    its first leaf), when there are no more files or no more lines.
    Raises ValueError where the arguments do not fit together.
    """
    cdef Span its_numbers, its_results, its_marks, its_leaves
    cdef Listed files
    cdef Known lines
    cdef size_t next_file = first, i, done
    cdef bytes text, identities
    cdef size_t text_at, identity_at
    text, identities, text_at, identity_at, lines.leaf = known
    if text is None or identities is None:
        raise TypeError("known has None, must have lines and identities")
    if text_at > <size_t>PyBytes_Size(text) or identity_at > <size_t>PyBytes_Size(identities) + 1:
        raise ValueError("known ends before its next line")
    hold(numbers, "numbers", PyBUF_WRITABLE, &its_numbers)
    try:
        hold(results, "results", PyBUF_WRITABLE, &its_results)
        try:
            hold(marks, "marks", PyBUF_WRITABLE, &its_marks)
            try:
                hold(leaves, "leaves", PyBUF_WRITABLE, &its_leaves)
                try:
                    files.count = names_in(names)
                    if (its_numbers.len != files.count * NUMBERS_BYTES
                            or its_results.len != files.count * ATLAS_RESULT_BYTES
                            or its_marks.len != files.count
                            or its_leaves.len != files.count * sizeof(int64_t)
                            or next_file > files.count):
                        raise ValueError(
                            f"numbers, results, marks and leaves must be for {files.count} files"
                        )
                    files.parent = PyBytes_AsString(parent)
                    files.parent_len = <size_t>PyBytes_Size(parent)
                    files.name = PyBytes_AsString(names)
                    for i in range(next_file):
                        files.name += strlen(files.name) + 1
                    files.numbers = <int64_t *>its_numbers.data
                    files.results = its_results.data
                    files.marks = its_marks.data
                    files.leaves = <int64_t *>its_leaves.data
                    files.replace = replace
                    lines.text = PyBytes_AsString(text)
                    lines.end = lines.text + PyBytes_Size(text)
                    lines.text += text_at
                    lines.identity = PyBytes_AsString(identities)
                    lines.identities_end = lines.identity + PyBytes_Size(identities)
                    lines.identity += identity_at
                    state = release_gil(1, 1)
                    done = compare(&lines, &files, next_file, flat, tree)
                    restore_gil(state)
                    return (
                        <Py_ssize_t>done,
                        <Py_ssize_t>(lines.text - PyBytes_AsString(text)),
                        <Py_ssize_t>(lines.identity - PyBytes_AsString(identities)),
                        lines.leaf,
                    )
                finally:
                    release(&its_leaves)
            finally:
                release(&its_marks)
        finally:
            release(&its_results)
    finally:
        release(&its_numbers)
