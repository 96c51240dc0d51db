# SPDX-License-Identifier: Apache-2.0
# Tensors of other libraries by DLPack (https://dmlc.github.io/dlpack/latest/c_api.html).

cdef extern from *:
    """
    /* The structures of DLPack 1.x; the second is what came before 1.0. */
    typedef struct { int32_t type, id; } atlas_dl_device_t;
    typedef struct { uint8_t code, bits; uint16_t lanes; } atlas_dl_type_t;
    typedef struct {
        void *data;
        atlas_dl_device_t device;
        int32_t ndim;
        atlas_dl_type_t dtype;
        int64_t *shape, *strides;
        uint64_t byte_offset;
    } atlas_dl_tensor_t;
    typedef struct atlas_dl_managed {
        atlas_dl_tensor_t tensor;
        void *context;
        void (*deleter)(struct atlas_dl_managed *);
    } atlas_dl_managed_t;
    typedef struct atlas_dl_versioned {
        uint32_t major, minor;
        void *context;
        void (*deleter)(struct atlas_dl_versioned *);
        uint64_t flags;
        atlas_dl_tensor_t tensor;
    } atlas_dl_versioned_t;
    enum { ATLAS_DL_READ_ONLY = 1, ATLAS_DL_PADDED = 4 };
    /* What a type of DLPack 1.3 has to give a tensor without Python, and the stream that it may
     * still be written on. The functions that are not called here have no types. */
    typedef struct {
        uint32_t major, minor;
        void *previous;
        void *allocate;
        int (*give)(void *object, atlas_dl_versioned_t **out);
        void *take;
        int (*lend)(void *object, atlas_dl_tensor_t *out);
        int (*work_stream)(int device_type, int32_t device_id, void **out);
    } atlas_dl_exchange_t;
    """
    ctypedef struct atlas_dl_device_t:
        int type
        int id

    ctypedef struct atlas_dl_type_t:
        uint8_t code
        uint8_t bits
        uint16_t lanes

    ctypedef struct atlas_dl_tensor_t:
        void *data
        atlas_dl_device_t device
        int ndim
        atlas_dl_type_t dtype
        int64_t *shape
        int64_t *strides
        uint64_t byte_offset

    ctypedef struct atlas_dl_managed_t:
        atlas_dl_tensor_t tensor
        void (*deleter)(atlas_dl_managed_t *) noexcept

    ctypedef struct atlas_dl_versioned_t:
        uint32_t major
        void (*deleter)(atlas_dl_versioned_t *) noexcept
        uint64_t flags
        atlas_dl_tensor_t tensor

    ctypedef struct atlas_dl_exchange_t:
        uint32_t major
        int (*give)(void *object, atlas_dl_versioned_t **out) except -1
        int (*lend)(void *object, atlas_dl_tensor_t *out) except -1
        int (*work_stream)(int device_type, int device_id, void **out) except -1

    const uint64_t ATLAS_DL_READ_ONLY
    const uint64_t ATLAS_DL_PADDED


cdef extern from "Python.h":
    void *PyCapsule_GetPointer(object capsule, const char *name) except NULL
    bint PyCapsule_IsValid(object capsule, const char *name) noexcept
    int PyCapsule_SetName(object capsule, const char *name) except -1

# Types of devices whose memory this process reads as its own: the CPU, and pinned memory of GPUs.
cdef enum:
    DL_CPU = 1
    DL_CUDA = 2
    DL_CUDA_HOST = 3
    DL_ROCM_HOST = 11
    DL_CUDA_MANAGED = 13

cdef enum:
    DL_COMPLEX = 5  # the code of a type


cdef bint is_host(int device_type) noexcept:
    return device_type == DL_CPU or device_type == DL_CUDA_HOST or device_type == DL_ROCM_HOST


cdef atlas_dl_exchange_t *exchange_of(object source) except? NULL:
    """Return the functions of an object's type, NULL if it has none of DLPack 1."""
    capsule = getattr(type(source), "__dlpack_c_exchange_api__", None)
    if capsule is None or not PyCapsule_IsValid(capsule, "dlpack_exchange_api"):
        return NULL
    # The type keeps the capsule, and what is in it belongs to the library.
    exchange = <atlas_dl_exchange_t *>PyCapsule_GetPointer(capsule, "dlpack_exchange_api")
    return exchange if exchange.major == 1 else NULL


cdef int refuse_view(object source, str name, str bit) except -1:
    """Raise BufferError for a tensor of PyTorch whose memory is not its value: `bit` says so."""
    ask = getattr(source, bit, None)
    if ask is not None and ask() is True:
        raise BufferError(f"{name} is a view with {bit}(), must be resolved to its value")
    return 0


cdef atlas_dl_type_t last_type
cdef tuple last_kind = (0, 0, 0)


cdef tuple kind_of(const atlas_dl_type_t *dtype):
    """Return code, bits and lanes, for the tensors of a model most often the same object."""
    global last_kind
    if (
        dtype.code != last_type.code or dtype.bits != last_type.bits
        or dtype.lanes != last_type.lanes
    ):
        last_kind = dtype.code, dtype.bits, dtype.lanes
        last_type.code, last_type.bits, last_type.lanes = dtype.code, dtype.bits, dtype.lanes
    return last_kind


cdef tuple shape_of(const atlas_dl_tensor_t *tensor):
    cdef list sizes = []  # not a comprehension: see sizes_of_next
    cdef int i
    for i in range(tensor.ndim):
        sizes.append(tensor.shape[i])
    return tuple(sizes)


@cython.final
@cython.no_gc  # a capsule is in no cycle that the collector could see
cdef class Tensor:
    """Tensor(source, name, stream=None)\n--\n
    A tensor of another library, held until this object is gone. In host memory it is a buffer.

    Args: source, an object with `__dlpack__`; name, of the argument, for messages; stream, the
    handle of the CUDA stream that reads it, None in host memory: the library makes it wait for the
    tensor, or leaves that to the caller, a `CudaJob`.
    Attributes: address and length in bytes; device, its DLPack type and number; kind, the code,
    bits and lanes of an element; shape.
    Raises BufferError where it is not C-contiguous, is not whole bytes, or its library refuses;
    TypeError where `source` gives no DLPack tensor.
    """

    cdef object capsule
    cdef atlas_dl_managed_t *managed
    cdef atlas_dl_versioned_t *versioned
    cdef atlas_dl_tensor_t *tensor
    cdef readonly uint64_t address
    cdef readonly uint64_t length
    cdef bint has_producer
    cdef size_t producer_stream
    cdef bint readonly_memory

    def __cinit__(self, source, str name not None, stream=None):
        # A parameter that is trained is the same bytes without its gradient.
        if getattr(source, "requires_grad", False) is True:
            source = source.detach()
        refuse_view(source, name, "is_neg")
        exchange = exchange_of(source)
        if exchange is NULL:
            refuse_view(source, name, "is_conj")
        try:
            if exchange is not NULL:
                self.take_by_exchange(exchange, source, stream)
            else:
                self.take_by_capsule(source, name, {} if stream is None else {"stream": stream})
        except (BufferError, RuntimeError, ValueError) as error:
            kind = type(source).__name__
            raise BufferError(f"{name} is of type {kind}, must be a DLPack tensor: {error}") from error
        if self.tensor.dtype.code == DL_COMPLEX:  # no other type has this bit
            refuse_view(source, name, "is_conj")
        self.measure(source, name)

    cdef int take_by_exchange(
        self, atlas_dl_exchange_t *exchange, object source, object stream
    ) except -1:
        """Take the tensor by the functions of its type."""
        cdef void *producer = NULL
        if exchange.give(<void *>source, &self.versioned) != 0 or self.versioned is NULL:
            raise BufferError("its type's functions give none")
        self.tensor = &self.versioned.tensor
        self.readonly_memory = self.versioned.flags & ATLAS_DL_READ_ONLY != 0
        if stream is not None:
            exchange.work_stream(self.tensor.device.type, self.tensor.device.id, &producer)
            self.producer_stream, self.has_producer = <size_t>producer, True
        return 0

    cdef int take_by_capsule(self, object source, str name, dict options) except -1:
        """Take the tensor that `__dlpack__` gives."""
        try:
            capsule = source.__dlpack__(max_version=(1, 1), **options)
        except TypeError:  # it is older than DLPack 1.0
            capsule = source.__dlpack__(**options)
        if PyCapsule_IsValid(capsule, "dltensor_versioned"):
            versioned = <atlas_dl_versioned_t *>PyCapsule_GetPointer(capsule, "dltensor_versioned")
            if versioned.major != 1:
                raise BufferError(f"it is of DLPack {versioned.major}, must be of 1")
            PyCapsule_SetName(capsule, "used_dltensor_versioned")
            self.versioned = versioned
            self.tensor = &versioned.tensor
            self.readonly_memory = versioned.flags & ATLAS_DL_READ_ONLY != 0
        elif PyCapsule_IsValid(capsule, "dltensor"):
            self.managed = <atlas_dl_managed_t *>PyCapsule_GetPointer(capsule, "dltensor")
            PyCapsule_SetName(capsule, "used_dltensor")
            self.tensor = &self.managed.tensor
            self.readonly_memory = True  # it does not say
        else:
            raise TypeError(f"{name} is of type {type(source).__name__}, must be a DLPack tensor")
        self.capsule = capsule
        return 0

    cdef int measure(self, object source, str name) except -1:
        """Set address and length; raise BufferError if the tensor is not C-contiguous bytes."""
        cdef atlas_dl_tensor_t *tensor = self.tensor
        cdef uint64_t bits = <uint64_t>tensor.dtype.bits * tensor.dtype.lanes
        cdef uint64_t elements = 1, size
        cdef bint contiguous = True, fits = True, empty = False
        if self.versioned is not NULL and self.versioned.flags & ATLAS_DL_PADDED:
            bits = (bits + 7) // 8 * 8
        cdef uint64_t most = <uint64_t>INT64_MAX // (bits or 1)
        for i in range(tensor.ndim - 1, -1, -1):
            if tensor.shape[i] < 0:
                self.refuse_shape(name)
            size = <uint64_t>tensor.shape[i]
            if tensor.strides is not NULL and size != 1:
                contiguous = contiguous and <uint64_t>tensor.strides[i] == elements
            if size == 0:
                empty = True
            elif fits and elements <= most // size:
                elements *= size
            else:
                fits = False
        if empty:
            elements = 0
        elif not fits:
            self.refuse_shape(name)
        elif not contiguous:
            kind = type(source).__name__
            raise BufferError(f"{name} is of type {kind}, must be C-contiguous")
        if elements * bits % 8:
            raise BufferError(f"{name} has {elements} elements of {bits} bits, must be whole bytes")
        self.length = elements * bits // 8
        self.address = (<uint64_t>tensor.data + tensor.byte_offset) if self.length else 0
        if self.length and tensor.data is NULL:
            raise BufferError(f"{name} has no memory, must have {self.length} bytes")
        return 0

    cdef int refuse_shape(self, str name) except -1:
        raise BufferError(f"{name} has the shape {self.shape}, must have less than 2^63 bits")

    @property
    def device(self):
        return self.tensor.device.type, self.tensor.device.id

    @property
    def kind(self):
        return kind_of(&self.tensor.dtype)

    @property
    def shape(self):
        return shape_of(self.tensor)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if not is_host(self.tensor.device.type):
            raise BufferError("the tensor is in the memory of a device, must be in host memory")
        data = <void *><size_t>self.address if self.length else <void *>&nothing
        PyBuffer_FillInfo(view, self, data, <Py_ssize_t>self.length, self.readonly_memory, flags)

    def __dealloc__(self):
        if self.managed is not NULL and self.managed.deleter is not NULL:
            self.managed.deleter(self.managed)
        if self.versioned is not NULL and self.versioned.deleter is not NULL:
            self.versioned.deleter(self.versioned)
        # Here, where an exception on its way is out of reach of what the capsule's owner does.
        self.capsule = None


def device_of(source, /):
    """Return the DLPack type and number of the device that a tensor lies on.

    None for what is in host memory or no tensor. An array that has `__cuda_array_interface__` alone
    is on a CUDA device, and its number is -1: the driver knows it.
    """
    kind = type(source)
    if kind is bytes or kind is bytearray or kind is memoryview:  # by far the most common
        return None
    if PyObject_CheckBuffer(source) and not hasattr(type(source), "__dlpack_device__"):
        return None
    cdef atlas_dl_tensor_t lent
    exchange = exchange_of(source)
    if exchange is not NULL and exchange.lend is not NULL:
        # PyTorch takes five microseconds for the same answer by its method.
        try:
            if exchange.lend(<void *>source, &lent) == 0:
                if is_host(lent.device.type):
                    return None
                return lent.device.type, lent.device.id
        except Exception:
            pass  # the method says more
    ask = getattr(source, "__dlpack_device__", None)
    if ask is None:
        if getattr(source, "__cuda_array_interface__", None) is None:
            return None
        return DL_CUDA, -1
    device_type, number = ask()
    return None if is_host(device_type) else (int(device_type), int(number))


cdef Tensor host_tensor(object source, str name):
    """Return a tensor in host memory; raise BufferError if it is on a device."""
    if device_of(source) is not None:
        raise BufferError(
            f"{name} is of type {type(source).__name__} on a device, must be in host memory: "
            "x.cpu() is"
        )
    return Tensor(source, name)


cdef bint get_tensor_buffer(object source, str name, int writable, Py_buffer *view) except -1:
    """Fill `view` by DLPack where the type has a buffer but not for this object; else False."""
    if not hasattr(source, "__dlpack__") or isinstance(source, Tensor):
        return False
    try:
        tensor = host_tensor(source, name)
        PyObject_GetBuffer(tensor, view, PyBUF_ND | PyBUF_FORMAT | writable)
    except (BufferError, TypeError):
        return False
    return True


# --- Functions that also take what is on a device ---

cdef object gpu_functions = None


def register_gpu(functions, /):
    """Sum tensors on a device by `functions`: a callable that returns a module."""
    global gpu_functions
    gpu_functions = functions


cdef object on_device(object buf, Span *span):
    """Hold the bytes of `buf` and return None; or return its device, with nothing held."""
    if hold_usual(buf, 0, span):
        return None
    device = device_of(buf)
    if device is None:
        hold_odd(buf, "buf", 0, span)
    return device
