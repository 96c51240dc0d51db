# SPDX-License-Identifier: Apache-2.0
# What every function needs: the GIL, errors, integers and buffers.

# --- The GIL ---
# To release and retake it costs about 0.1 us, and much more when other threads want it, so that it
# pays off from about 10 us of work: sums, copies and fills run at about 25 GB/s (memory, one core),
# 10 us are 250 KB; SHA-256 without SHA instructions runs at about 0.4 GB/s, 10 us are 4 KB.
cdef enum:
    SUM_GIL_BYTES = 256 * 1024
    HASH_GIL_BYTES = 4 * 1024


cdef inline PyThreadState *release_gil(size_t len, size_t enough) noexcept:
    """Release the GIL if work on `len` bytes is worth it; return the state for `restore_gil`."""
    return PyEval_SaveThread() if len >= enough else NULL


cdef inline void restore_gil(PyThreadState *state) noexcept:
    if state is not NULL:
        PyEval_RestoreThread(state)


# --- Errors ---

cdef extern from *:
    """
    /* To put lines of this module into a traceback, Cython in the limited API runs Python's
     * compiler for each error. It crashes when memory runs out, so there are no such lines. */
    #undef Py_CompileString
    #define Py_CompileString(text, filename, start) NULL
    #undef PyImport_ImportModule /* the end of light_import.h */
    """

cdef dict error_classes = {}


def register_errors(classes, /):
    """Raise the library's errors as instances of `classes`, a mapping from E_* codes to classes."""
    error_classes.update(classes)


cdef int raise_error(int code, str message) except -1:
    raise error_classes.get(code, RuntimeError)(message)


cdef int raise_last_error() except -1:
    """Raise the C library's last error of this thread, without the C function's name."""
    cdef str text = atlas_get_last_error().decode()
    raise_error(atlas_get_last_error_code(), text.partition(": ")[2])


def error_string(code, /):
    """Return the text of an error code, "unknown error code" if there is no such code."""
    cdef int overflow
    cdef long number = PyLong_AsLongAndOverflow(index_of(code, "code"), &overflow)
    return atlas_error_string(<int>number if number == <int>number else -1).decode()


# --- Integers ---

cdef object index_of(object value, str name):
    """Return `value` as an int; raise TypeError if it is not an integer or is a bool."""
    if type(value) is int:
        return value
    if not isinstance(value, bool):
        try:
            return PyNumber_Index(value)
        except TypeError:
            pass
    raise TypeError(f"{name} is of type {type(value).__name__}, must be an int")


cdef str shown(object value):
    """Return an int as text for a message; str() refuses ints of more than 4300 digits."""
    if value.bit_length() <= 128:
        return str(value)
    return f"an int of {value.bit_length()} bits"


cdef int byte_of(object value, str name, int most, int code) except -1:
    """Return `value` as int in 0..most, or raise the error of `code`, ValueError for ATLAS_OK."""
    cdef int overflow = 0
    value = index_of(value, name)
    cdef long number = PyLong_AsLongAndOverflow(value, &overflow)
    if overflow == 0 and 0 <= number <= most:
        return <int>number
    message = f"{name} is {shown(value)}, must be in 0..{most}"
    if code == ATLAS_OK:
        raise ValueError(message)
    raise_error(code, message)


cdef size_t byte_index(object value, str name, size_t len, bint of_byte) except? 0:
    """Return an index into `len` bytes, negative from the end, as one from the start.

    It names a byte, or a place between bytes, which may be the end. Nothing is clipped: raises
    IndexError outside.
    """
    value = index_of(value, name)
    if of_byte and len == 0:
        raise IndexError(f"{name} is {shown(value)}, but there are no bytes")
    cdef size_t most = len - of_byte
    index = value + len if value < 0 else value
    if not 0 <= index <= most:
        raise IndexError(f"{name} is {shown(value)}, must be in -{len}..{most}")
    return index


# --- Buffers ---

cdef struct Span:
    # The bytes of an argument until release(); the argument itself keeps a bytes object alive.
    uint8_t *data
    size_t len
    bint held
    PyObject *region  # a Region whose bytes they are, NULL for other arguments
    Py_buffer view

# The address of an empty region when the exporter gives NULL.
cdef uint8_t nothing = 0


cdef bint has_objects(const char *format) noexcept:
    """Return whether a buffer format (PEP 3118) has object pointers. NULL means "B".

    A name follows its field's type, in colons, and PEP 3118 has no word for a name that holds one:
    of ctypes, `i:a::<O:b:` is an int `a:` and an object `b`. So where a colon stands that cannot
    begin a name, or a name does not end, any O counts, and so does an O with a byte order in a
    name: no format hides an object of ctypes, and a format refused without need has an odd name.
    """
    cdef bint in_name = False, after_type = False, odd = False, letter = False
    cdef char last = 0
    if format is NULL:
        return False
    while format[0] != 0:
        if format[0] == b"O":
            if not in_name or last == b"<" or last == b">":
                return True
            letter = True
        if format[0] == b":":
            odd = odd or not (in_name or after_type)
            in_name = not in_name
            after_type = False
        elif not in_name:
            after_type = format[0] == b"?" or format[0] == b"}" or (
                b"A" <= format[0] <= b"Z" or b"a" <= format[0] <= b"z"
            )
        last = format[0]
        format += 1
    return letter and (odd or in_name)


cdef bint get_usual_buffer(object buf, int writable, Py_buffer *view) noexcept:
    """Fill `view` with the C-contiguous bytes of `buf`; return False, with no error set, if not."""
    if try_get_buffer(buf, view, PyBUF_ND | PyBUF_FORMAT | writable) != 0:
        PyErr_Clear()
        return False
    if has_objects(view.format):
        PyBuffer_Release(view)
        return False
    return True


cdef int get_odd_buffer(object buf, str name, int writable, Py_buffer *view) except -1:
    """Get the buffer another way where get_usual_buffer failed, or raise the reason."""
    cdef str kind = type(buf).__name__
    if not PyObject_CheckBuffer(buf):
        if hasattr(buf, "__dlpack__"):
            PyObject_GetBuffer(host_tensor(buf, name), view, PyBUF_ND | PyBUF_FORMAT | writable)
            return 0
        raise TypeError(f"{name} is of type {kind}, must be a buffer such as bytes or an array")
    reason = None
    objects = False
    try:
        try:
            PyObject_GetBuffer(buf, view, PyBUF_ND | PyBUF_FORMAT | writable)
            objects = has_objects(view.format)
        except (TypeError, ValueError):
            # NumPy has no format for some dtypes, such as datetime64, and gives them without one;
            # for scalars of dtypes that others made it says so by a TypeError.
            objects = getattr(getattr(buf, "dtype", None), "hasobject", False)
            PyObject_GetBuffer(buf, view, PyBUF_SIMPLE | writable)
    except (BufferError, ValueError) as error:
        reason = error
    if reason is not None:
        if get_tensor_buffer(buf, name, writable, view):
            return 0
        rule = "writable and C-contiguous" if writable else "C-contiguous"
        raise BufferError(f"{name} is of type {kind}, must be {rule}: {reason}") from reason
    if objects:
        PyBuffer_Release(view)
        raise TypeError(f"{name} is of type {kind} and holds pointers to objects, must hold bytes")


# What reads a Region reads payload and balance. What writes asks for its buffer, the payload alone,
# unless it knows Regions.

cdef inline bint hold_usual(object buf, int writable, Span *span) noexcept:
    span.region = NULL
    if type(buf) is bytes and not writable:
        span.data = <uint8_t *>PyBytes_AsString(buf)
        span.len = <size_t>PyBytes_Size(buf)
        span.held = False
        return True
    if isinstance(buf, Region) and not writable:
        return hold_whole(<Region>buf, span)
    span.held = get_usual_buffer(buf, writable, &span.view)
    if span.held:
        set_bytes(span)
    return span.held


cdef bint hold_whole(Region region, Span *span) noexcept:
    """Hold payload and balance by reference; return False, with no error set, if it is closed."""
    span.held = False
    if not region.try_keep():
        return False
    span.region = <PyObject *>region
    span.data = region.data()
    span.len = region.whole_bytes()
    return True


cdef int hold_odd(object buf, str name, int writable, Span *span) except -1:
    if isinstance(buf, Region):
        (<Region>buf).check()
    span.region = NULL
    get_odd_buffer(buf, name, writable, &span.view)
    span.held = True
    set_bytes(span)
    return 0


cdef inline void set_bytes(Span *span) noexcept:
    span.data = <uint8_t *>span.view.buf if span.view.buf is not NULL else &nothing
    span.len = <size_t>span.view.len


cdef inline int hold(object buf, str name, int writable, Span *span) except -1:
    """Get the bytes of `buf` as `span`; `writable` is PyBUF_WRITABLE or 0."""
    if not hold_usual(buf, writable, span):
        hold_odd(buf, name, writable, span)
    return 0


cdef inline void release(Span *span) noexcept:
    if span.held:
        PyBuffer_Release(&span.view)
    elif span.region is not NULL:
        (<Region>span.region).let_go()


cdef int hold_pair(
    object one, str one_name, int writable, Span *one_span, object two, str two_name, Span *two_span
) except -1:
    """Get two buffers of equal length; `writable` is the flag for the first, the second is read."""
    cdef size_t one_len, two_len
    hold(one, one_name, writable, one_span)
    if not hold_usual(two, 0, two_span):
        try:  # costs 40 ns, so not around the usual case
            hold_odd(two, two_name, 0, two_span)
        except BaseException:
            release(one_span)
            raise
    one_len, two_len = one_span.len, two_span.len
    if one_len != two_len:
        release(one_span)  # first, because there may be no memory for the message
        release(two_span)
        raise ValueError(
            f"{one_name} has {one_len} bytes and {two_name} has {two_len}, must be of equal length"
        )
    return 0


cdef extern from *:
    """
    /* The collector clears a memoryview that it finds in a cycle although it is still exported, and
     * Python crashes when that export ends. So the object of such a view is not shown to it. */
    static PyObject *atlas_hide_memoryview(Py_buffer *view)
    {
        PyObject *object = view->obj;
        if (object == NULL || !PyObject_TypeCheck(object, &PyMemoryView_Type))
            return NULL;
        view->obj = NULL;
        return object;
    }
    static void atlas_release_hidden(Py_buffer *view, PyObject *hidden)
    {
        if (hidden != NULL)
            view->obj = hidden;
        PyBuffer_Release(view);
    }
    """
    PyObject *atlas_hide_memoryview(Py_buffer *view)
    void atlas_release_hidden(Py_buffer *view, PyObject *hidden)


@cython.final
@cython.no_gc_clear  # tp_clear would drop the buffer without PyBuffer_Release
cdef class _Held:
    """The bytes of a buffer, of a Region payload and balance, held as long as this object lives.

    A buffer stays exported; a Region is held by reference, so that it has no view of this.
    """

    # Unused, but without it the collector would not see the object of the Py_buffer.
    cdef object unused
    cdef Region region  # None for other buffers
    cdef Py_buffer view
    cdef PyObject *hidden
    cdef bint held
    cdef bint in_open_domain  # what the region has counted

    def __cinit__(self, buf):
        if isinstance(buf, Region):
            (<Region>buf).keep()
            self.region = buf
            return
        if not get_usual_buffer(buf, 0, &self.view):
            get_odd_buffer(buf, "buf", 0, &self.view)
        self.hidden = atlas_hide_memoryview(&self.view)
        self.held = True

    def __dealloc__(self):
        if self.region is not None:
            self.count_open_domain(False)
            self.region.let_go()
        elif self.held:
            atlas_release_hidden(&self.view, self.hidden)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.region is not None:
            PyBuffer_FillInfo(
                view, self, self.region.data(), <Py_ssize_t>self.region.whole_bytes(), True, flags
            )
            return
        PyBuffer_FillInfo(view, self, self.view.buf, self.view.len, self.view.readonly, flags)

    cdef inline uint8_t *data(self) noexcept:
        if self.region is not None:
            return self.region.data()
        return <uint8_t *>self.view.buf if self.view.buf is not NULL else &nothing

    cdef inline size_t len(self) noexcept:
        return <size_t>self.view.len if self.region is None else self.region.whole_bytes()

    cdef inline size_t payload_bytes(self) noexcept:
        return <size_t>self.view.len if self.region is None else self.region.payload_bytes()

    cdef inline bint is_readonly(self) noexcept:
        return self.view.readonly if self.region is None else self.region.is_readonly()

    cdef void count_open_domain(self, bint is_open) noexcept:
        """Tell a Region whether the domain that holds it is OPEN."""
        if self.region is not None and self.in_open_domain != is_open:
            self.in_open_domain = is_open
            self.region.count_open_domain(1 if is_open else -1)
