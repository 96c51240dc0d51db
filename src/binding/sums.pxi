# SPDX-License-Identifier: Apache-2.0
# Lists of SHA-256 sums.

cdef extern from "sums.h" nogil:
    ctypedef struct atlas_sum_t:
        char *name
        size_t name_len
        uint8_t digest[32]
        int64_t size

    char *atlas_read_sum(char *text, char *end, size_t name_most, atlas_sum_t *out)
    enum:
        ATLAS_SUM_BYTES

    char *atlas_write_sum(char *to, const atlas_sum_t *sum)
    size_t atlas_check_sums(
        atlas_sum_t *sums, size_t count, uint8_t *room, size_t size, uint64_t stop_ns,
        uint8_t *matches)
    size_t atlas_take_sums(
        atlas_sum_t *sums, size_t count, uint8_t *room, size_t size, uint64_t stop_ns,
        uint8_t *read)


cdef list sizes_of_next(atlas_sum_t *sums, size_t count, size_t *measured, stop_ns):
    """Take the sizes of the files behind those that are measured, as `file_sizes` does, until the
    time is over; the lock is free meanwhile. Return them, of one file at least if there is one."""
    cdef size_t first = measured[0], i = first, each  # another thread may measure them too
    cdef uint64_t most_ns = stop_ns, begin = monotonic_ns()
    cdef atlas_sum_t *file
    state = release_gil(1, 1)
    while i < count and (i == first or monotonic_ns() - begin < most_ns):
        file = &sums[i]
        if strlen(file.name) == file.name_len and strcmp(file.name, b"-") != 0:
            file.size = atlas_file_size(file.name)
        i += 1
    restore_gil(state)
    measured[0] = i
    sizes = []  # not a comprehension: without memory in one here, the interpreter crashes
    for each in range(first, i):
        sizes.append(sums[each].size)
    return sizes


@cython.final
cdef class SumLines:
    """Lines of a list of sums that follow one another, each as `atlas_read_sum` says.

    Args: text, bytes, with lines that end in a line feed; start, where the first one begins; most,
    of lines that are read; name_most, of bytes in a name. The first line that is not so ends them.
    """

    cdef char *text
    cdef atlas_sum_t *sums
    cdef size_t count, measured
    cdef readonly Py_ssize_t stop  # in the text, behind the last line

    def __cinit__(self, bytes text not None, Py_ssize_t start, size_t most, size_t name_most, /):
        cdef size_t size = <size_t>PyBytes_Size(text)
        cdef char *begin = PyBytes_AsString(text) + start
        cdef char *line = begin
        cdef size_t i, length = 0
        if not 0 <= start <= <Py_ssize_t>size:
            raise ValueError(f"start is {start}, must be in 0..{size}")
        size -= <size_t>start
        # No line has fewer bytes than the hex digits, two spaces, a name and a line feed.
        most = min(most, size // (2 * <size_t>ATLAS_DIGEST_BYTES + 4))
        self.sums = <atlas_sum_t *>PyMem_Malloc((most + 1) * sizeof(atlas_sum_t))
        if self.sums is NULL:
            raise MemoryError
        while self.count < most:
            line = atlas_read_sum(line, begin + size, name_most, &self.sums[self.count])
            if line is NULL:
                break
            line += 1
            self.sums[self.count].size = -1  # not known yet
            self.count += 1
            length = line - begin
        self.text = <char *>PyMem_Malloc(length + 1)
        if self.text is NULL:
            raise MemoryError
        memcpy(self.text, begin, length)
        self.stop = start + <Py_ssize_t>length
        for i in range(self.count):
            self.sums[i].name = self.text + (self.sums[i].name - begin)
            self.sums[i].name[self.sums[i].name_len] = 0

    def __dealloc__(self):
        PyMem_Free(self.text)
        PyMem_Free(self.sums)

    def __len__(self):
        return <Py_ssize_t>self.count

    def pairs(self):
        """Return a pair of digest and name for each line."""
        cdef size_t i
        found = []  # not a comprehension: without memory in one here, the interpreter crashes
        for i in range(self.count):
            digest = PyBytes_FromStringAndSize(<char *>self.sums[i].digest, ATLAS_DIGEST_BYTES)
            name = PyBytes_FromStringAndSize(self.sums[i].name, <Py_ssize_t>self.sums[i].name_len)
            found.append((digest, name))
        return found

    def measure(self, stop_ns, /):
        """Take the sizes of the files of the next lines, for `check`: see `FileSums.measure`."""
        return sizes_of_next(self.sums, self.count, &self.measured, stop_ns)

    def check(self, Py_ssize_t first, buffer, stop_ns, /):
        """Read and hash the files of the lines from `first` on by `atlas_check_sums`, after
        `measure`; the lock is free meanwhile.

        Args: first, number of a line, 0..len; buffer, writable; a file that does not fit is left
        out; stop_ns, nanoseconds after which it returns.
        Returns bytes, one for each line that is done, 1 where its file has the digest, else 0; and
        how many bytes the files with a 1 have. At least one line is done if there is one.
        """
        cdef Span room
        cdef size_t start = <size_t>first, done = 0, i
        cdef uint64_t most_ns = stop_ns
        cdef int64_t total = 0
        if not 0 <= first <= <Py_ssize_t>self.count:
            raise ValueError(f"first is {first}, must be in 0..{self.count}")
        hold(buffer, "buffer", PyBUF_WRITABLE, &room)
        try:
            matches = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(self.count - start))
            to = <uint8_t *>PyBytes_AsString(matches)
            if start < self.count:
                state = release_gil(1, 1)
                done = atlas_check_sums(
                    self.sums + start, self.count - start, room.data, room.len, most_ns, to
                )
                restore_gil(state)
                if done == 0:
                    raise MemoryError
            for i in range(done):
                total += self.sums[start + i].size if to[i] else 0
            return PyBytes_FromStringAndSize(<char *>to, <Py_ssize_t>done), total
        finally:
            release(&room)

    def verdicts(self, bytes verdict not None, /):
        """Return a line for each: its name, a colon, a space, the verdict and a line feed."""
        cdef size_t i, size = 0, length = <size_t>PyBytes_Size(verdict)
        cdef const char *text = PyBytes_AsString(verdict)
        cdef char *to
        for i in range(self.count):
            size += self.sums[i].name_len + length + 3
        lines = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        to = PyBytes_AsString(lines)
        for i in range(self.count):
            memcpy(to, self.sums[i].name, self.sums[i].name_len)
            to += self.sums[i].name_len
            to[0], to[1] = b":", b" "
            memcpy(to + 2, text, length)
            to += length + 3
            to[-1] = b"\n"
        return lines


cdef extern from "Python.h":
    object PyUnicode_EncodeFSDefault(object name)


@cython.final
cdef class FileSums:
    """Files and the lines of their sums.

    Args: names, each str or bytes. An empty name, a name with a NUL and "-" are the names of no
    file here.
    """

    cdef tuple paths  # what the names in `sums` point to
    cdef atlas_sum_t *sums
    cdef uint8_t *read  # 1 where a file has its digest
    cdef size_t count, measured, done

    def __cinit__(self, list names not None, /):
        cdef tuple kept = tuple(names)
        cdef size_t i
        paths = []
        for name in kept:
            if type(name) is str:
                name = PyUnicode_EncodeFSDefault(name)
            elif type(name) is not bytes:
                raise TypeError(
                    f"names[{len(paths)}] is of type {type(name).__name__}, must be str or bytes"
                )
            paths.append(name)
        self.paths = tuple(paths)
        self.count = <size_t>len(paths)
        self.sums = <atlas_sum_t *>PyMem_Calloc(self.count + 1, sizeof(atlas_sum_t))
        self.read = <uint8_t *>PyMem_Calloc(self.count + 1, 1)
        if self.sums is NULL or self.read is NULL:
            raise MemoryError
        for i in range(self.count):
            path = self.paths[i]
            self.sums[i].name = PyBytes_AsString(path)
            self.sums[i].name_len = <size_t>PyBytes_Size(path)
            self.sums[i].size = -1  # not known yet

    def __dealloc__(self):
        PyMem_Free(self.sums)
        PyMem_Free(self.read)

    def __len__(self):
        return <Py_ssize_t>self.count

    def measure(self, stop_ns, /):
        """Take the sizes of the next files, as by `file_sizes`, for `take`; the lock is free
        meanwhile.

        Args: stop_ns, nanoseconds after which it returns.
        Returns a list of them, of one file at least if there is one.
        """
        return sizes_of_next(self.sums, self.count, &self.measured, stop_ns)

    def take(self, size_most, buffer, stop_ns, /):
        """Read and hash the next files by `atlas_take_sums`, after `measure`; the lock is free
        meanwhile.

        Args: size_most, bytes of a file that is read, at most those of the buffer; buffer,
        writable; stop_ns, nanoseconds after which it returns.
        Returns how many files are done, at least one more than before if there is one.
        """
        cdef Span room
        cdef size_t first = self.done, more, i  # another thread may call it too
        cdef uint64_t most_ns = stop_ns
        cdef int64_t most = size_most
        hold(buffer, "buffer", PyBUF_WRITABLE, &room)
        try:
            if most < 0 or <uint64_t>most > room.len:
                raise ValueError(f"size_most is {size_most}, must be in 0..{room.len}")
            if first < self.count:
                for i in range(first, self.count):
                    if self.sums[i].size > most:
                        self.sums[i].size = -1
                state = release_gil(1, 1)
                more = atlas_take_sums(
                    self.sums + first, self.count - first, room.data, room.len, most_ns,
                    self.read + first
                )
                restore_gil(state)
                if more == 0:
                    raise MemoryError
                self.done = first + more
            return <Py_ssize_t>self.done
        finally:
            release(&room)

    def taken(self):
        """Return bytes, one for each file: 1 where `take` read it, else 0."""
        return PyBytes_FromStringAndSize(<const char *>self.read, <Py_ssize_t>self.count)

    def lines(self, Py_ssize_t start, Py_ssize_t stop, /):
        """Return the lines of files, by `atlas_write_sum`; `take` has read each of them."""
        cdef Py_ssize_t i
        cdef size_t most = 0
        cdef char *text
        cdef char *to
        if not 0 <= start <= stop <= <Py_ssize_t>self.count:
            raise ValueError(f"start and stop are {start}, {stop}, must be in 0..{self.count}")
        for i in range(start, stop):
            if not self.read[i]:
                raise ValueError(f"files[{i}] was not read")
            most += ATLAS_SUM_BYTES + 2 * self.sums[i].name_len
        text = to = <char *>PyMem_Malloc(most + 1)
        if text is NULL:
            raise MemoryError
        try:
            for i in range(start, stop):
                to = atlas_write_sum(to, &self.sums[i])
            return PyBytes_FromStringAndSize(text, to - text)
        finally:
            PyMem_Free(text)
