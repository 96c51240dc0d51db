# SPDX-License-Identifier: Apache-2.0
# Work on CUDA devices, by functions of the driver at addresses that cuda.bindings gives.
#
# Nothing of CUDA is needed to build this module or to import it. Through cuda.core and cuda.bindings
# each of these calls takes a microsecond or more of Python, and a small tree has seven of them.

cdef struct CudaCalls:
    int (*context_get)(void **context) noexcept nogil
    int (*context_set)(void *context) noexcept nogil
    int (*event_create)(void **event, unsigned int flags) noexcept nogil
    int (*event_query)(void *event) noexcept nogil
    int (*event_record)(void *event, void *stream) noexcept nogil
    int (*event_synchronize)(void *event) noexcept nogil
    int (*launch)(
        void *kernel, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
        unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared,
        void *stream, void **values, void **extra
    ) noexcept nogil
    int (*allocate)(uint64_t *address, size_t size, void *pool, void *stream) noexcept nogil
    int (*free)(uint64_t address, void *stream) noexcept nogil
    int (*copy)(uint64_t to, uint64_t source, size_t size, void *stream) noexcept nogil
    int (*read)(void *to, uint64_t source, size_t size, void *stream) noexcept nogil
    int (*write)(uint64_t to, const void *source, size_t size, void *stream) noexcept nogil
    int (*capture_mode)(int *mode) noexcept nogil
    int (*stream_capturing)(void *stream, int *status) noexcept nogil
    int (*stream_synchronize)(void *stream) noexcept nogil
    int (*stream_wait)(void *stream, void *event, unsigned int flags) noexcept nogil

# The driver's names of the functions of CudaCalls, in their order there.
CUDA_CALLS = (
    *("cuCtxGetCurrent", "cuCtxSetCurrent", "cuEventCreate", "cuEventQuery", "cuEventRecord"),
    *("cuEventSynchronize", "cuLaunchKernel", "cuMemAllocFromPoolAsync", "cuMemFreeAsync"),
    *("cuMemcpyDtoDAsync", "cuMemcpyDtoHAsync", "cuMemcpyHtoDAsync"),
    *("cuThreadExchangeStreamCaptureMode", "cuStreamIsCapturing", "cuStreamSynchronize"),
    "cuStreamWaitEvent",
)

cdef enum:
    CUDA_SUCCESS = 0
    CUDA_NOT_READY = 600
    CUDA_CAPTURE_UNSUPPORTED = 900
    CUDA_CAPTURE_MODE_RELAXED = 2
    CUDA_EVENT_NO_TIMING = 2
    CUDA_LEGACY_STREAM = 1  # the handle by which DLPack and the driver know the default stream
    CUDA_ARGUMENTS = 8  # no kernel of ours has more

cdef object made_here = object()


def cuda_device(number, multiprocessors, addresses, handles, error, kernel, /):
    """Return the `CudaDevice` of a number.

    Args: multiprocessors, how many it has; addresses, of the functions of CUDA_CALLS, which are
    called; handles, of the device's context, of a memory pool, and of a stream that results are
    read on; error, returns the exception for a result of the driver; kernel, returns the handle of
    a kernel by its name.
    """
    return CudaDevice(made_here, number, multiprocessors, addresses, handles, error, kernel)


@cython.final
cdef class CudaDevice:
    """A device as its driver's functions know it; made by `cuda_device`."""

    cdef CudaCalls calls
    cdef void *context
    cdef void *pool
    cdef void *results
    cdef readonly int number
    cdef object multiprocessors
    cdef object error
    cdef object kernel
    cdef dict kernels
    cdef list events  # of ours, that nobody waits for any more

    def __cinit__(self, key, number, multiprocessors, addresses, handles, error, kernel):
        if key is not made_here:  # it would call what is at any address
            raise TypeError("a CudaDevice is made by cuda_device()")
        cdef void **calls = <void **>&self.calls
        cdef size_t address, place = 0
        for address in addresses:
            if place == sizeof(CudaCalls) // sizeof(void *) or address == 0:
                raise ValueError(f"addresses has no function {place}, must be those of CUDA_CALLS")
            calls[place] = <void *>address
            place += 1
        if place != sizeof(CudaCalls) // sizeof(void *):
            raise ValueError(f"addresses has {place} functions, must be those of CUDA_CALLS")
        context, pool, results = handles
        self.context = <void *><size_t>context
        self.pool = <void *><size_t>pool
        self.results = <void *><size_t>results
        self.number, self.multiprocessors = number, multiprocessors
        self.error, self.kernel = error, kernel
        self.kernels, self.events = {}, []

    def enter(self):
        """Make the device's context current, and let this thread wait while others make graphs.

        Where any thread makes one, CUDA otherwise breaks it at a wait of ours, although that has
        nothing to do with it. Returns what `leave` takes.
        """
        cdef CudaCalls *calls = &self.calls
        cdef void *context = self.context
        cdef void *before = NULL
        cdef int result, mode = CUDA_CAPTURE_MODE_RELAXED
        with nogil:
            result = calls.capture_mode(&mode)
            if result == CUDA_SUCCESS:
                result = calls.context_get(&before)
                if result == CUDA_SUCCESS and before != context:
                    result = calls.context_set(context)
                if result != CUDA_SUCCESS:
                    calls.capture_mode(&mode)
        self.check(result)
        return (None if before == context else <size_t>before), mode

    def leave(self, entered, /):
        """Make all as it was before `enter`, which returned `entered`."""
        cdef CudaCalls *calls = &self.calls
        cdef void *context = self.context
        cdef int mode
        before, mode = entered
        if before is not None:
            context = <void *><size_t>before
        with nogil:
            if context != self.context:
                calls.context_set(context)
            calls.capture_mode(&mode)

    cdef int check(self, int result) except -1:
        if result != CUDA_SUCCESS:
            raise self.error(result)
        return 0

    cdef void *take_event(self) except? NULL:
        """Return an event for `give_event`, so that few are ever made."""
        cdef CudaCalls *calls = &self.calls
        cdef void *event = NULL
        cdef int result
        if self.events:
            return <void *><size_t>self.events.pop()
        with nogil:
            result = calls.event_create(&event, CUDA_EVENT_NO_TIMING)
        self.check(result)
        return event

    cdef int give_event(self, void *event) except -1:
        self.events.append(<size_t>event)
        return 0

    cdef void *kernel_of(self, name) except? NULL:
        handle = self.kernels.get(name)
        if handle is None:
            handle = self.kernels[name] = self.kernel(name)
        return <void *><size_t>handle


@cython.final
@cython.no_gc_clear  # its end needs the device
cdef class CudaJob:
    """CudaJob(device, stream)\n--\n
    One call on a device and a stream, which is a handle, 0 for the default one: a `Machine` as
    gpu/plan.py has it. The device's context is current while its methods run.

    Its memory is freed in the order of the stream, by `release` or once its results were read. A
    stream whose work becomes a graph is refused: the results could not be waited for.
    """

    cdef readonly CudaDevice device
    cdef CudaCalls *calls  # of the device
    cdef readonly object handle
    cdef readonly object multiprocessors
    cdef void *stream
    cdef void *event  # at the end of what was launched, NULL before and once it was waited for
    cdef uint64_t memory  # 0 where there is none
    cdef uint64_t start
    cdef uint64_t stop  # of the results in it
    cdef bytes content  # the results, once they were read
    cdef set waited  # producers that the stream waited for; None: there are none
    cdef size_t last_waited

    def __cinit__(self, CudaDevice device not None, stream):
        self.device, self.multiprocessors = device, device.multiprocessors
        self.calls = &device.calls
        self.handle = stream or CUDA_LEGACY_STREAM
        self.last_waited = self.handle
        self.stream = <void *>self.last_waited
        cdef CudaCalls *calls = self.calls
        cdef void *on = self.stream
        cdef int result, capturing = 0
        with nogil:
            result = calls.stream_capturing(on, &capturing)
        self.device.check(CUDA_CAPTURE_UNSUPPORTED if capturing else result)

    def __dealloc__(self):
        if self.event is not NULL:
            self.device.events.append(<size_t>self.event)

    def hold(self, sources, bint tolerant, of_array, /):
        """Let the stream wait for tensors.

        Args: sources, pairs of a tensor and what messages call it; tolerant, whether the
        BufferError or TypeError that a tensor has takes its place; of_array, holds what has no
        DLPack, given the object, its name and this job.
        Returns what holds each of them, and the addresses and lengths of those that have bytes.
        Raises BufferError for a tensor that is not C-contiguous, lies on another device or that its
        library does not give; TypeError for what is no tensor.
        """
        cdef list held = [], addresses = [], lengths = []
        cdef Tensor tensor
        for source, name in sources:
            try:
                if exchange_of(source) is not NULL or hasattr(source, "__dlpack__"):
                    found = tensor = Tensor(source, name, self.handle)
                    self.order(tensor, name)
                    address, length = tensor.address, tensor.length
                else:
                    found = of_array(source, name, self)
                    address, length = found.address, found.length
            except (BufferError, TypeError) as error:
                if not tolerant:
                    raise
                found, length = error, 0
            held.append(found)
            if length:
                addresses.append(address)
                lengths.append(length)
        return held, addresses, lengths

    cdef int order(self, Tensor tensor, name) except -1:
        """Let the stream wait for what its library still writes into a tensor."""
        device_type = tensor.tensor.device.type
        if (
            device_type != DL_CUDA and device_type != DL_CUDA_MANAGED
            or tensor.tensor.device.id != self.device.number
        ):
            raise BufferError(
                f"{name} is on the device {tensor.device} by DLPack, must be on "
                f"{(DL_CUDA, self.device.number)} as it said"
            )
        if tensor.has_producer:
            self.wait_for(tensor.producer_stream)
        return 0

    def allocate(self, size_t size, /):
        """Return the address of `size` bytes for the results."""
        cdef CudaCalls *calls = self.calls
        cdef void *stream = self.stream
        cdef void *pool = self.device.pool
        cdef int result
        if self.memory:
            raise RuntimeError("a job has one memory")
        with nogil:
            result = calls.allocate(&self.memory, size, pool, stream)
        self.device.check(result)
        return self.memory

    def upload(self, uint64_t address, bytes data not None, /):
        cdef CudaCalls *calls = self.calls
        cdef void *stream = self.stream
        cdef const char *source = PyBytes_AsString(data)
        cdef size_t size = <size_t>PyBytes_Size(data)
        cdef int result
        with nogil:
            result = calls.write(address, source, size, stream)
        self.device.check(result)

    def launch(self, kernel, unsigned int groups, unsigned int threads, /, *arguments):
        cdef CudaCalls *calls = self.calls
        cdef void *stream = self.stream
        cdef uint64_t values[CUDA_ARGUMENTS]
        cdef void *places[CUDA_ARGUMENTS]
        cdef int result, count = 0
        cdef void *function = self.device.kernel_of(kernel)
        for value in arguments:
            if count == CUDA_ARGUMENTS:
                raise ValueError(f"a kernel has {CUDA_ARGUMENTS} arguments at most")
            values[count] = value
            places[count] = &values[count]
            count += 1
        with nogil:
            result = calls.launch(function, groups, 1, 1, threads, 1, 1, 0, stream, places, NULL)
        self.device.check(result)

    def copy(self, uint64_t target, uint64_t source, size_t size, /):
        cdef CudaCalls *calls = self.calls
        cdef void *stream = self.stream
        cdef int result
        with nogil:
            result = calls.copy(target, source, size, stream)
        self.device.check(result)

    def download(self, uint64_t address, size_t size, /):
        """Return what reads bytes of the results, all of which are read at once."""
        if self.memory == 0 or address < self.memory:
            raise RuntimeError("what is downloaded was allocated")
        self.start = min(self.start or address, address)
        self.stop = max(self.stop, address + size)
        return CudaDownload(self, address, size)

    def wait_for(self, size_t producer, /):
        """Let the stream wait for what is on another one now."""
        cdef CudaCalls *calls = self.calls
        cdef void *stream = self.stream
        cdef void *event
        cdef int result, capturing = 0
        producer = producer or CUDA_LEGACY_STREAM
        if producer == self.last_waited or producer == <size_t>stream:
            return
        if self.waited is None:
            self.waited = set()
        if producer in self.waited:
            return
        event = self.device.take_event()
        with nogil:
            # Who waits for a stream that is captured is captured too, and ours is everybody's.
            result = calls.stream_capturing(<void *>producer, &capturing)
            if result == CUDA_SUCCESS and capturing:
                result = CUDA_CAPTURE_UNSUPPORTED
            if result == CUDA_SUCCESS:
                result = calls.event_record(event, <void *>producer)
            if result == CUDA_SUCCESS:
                result = calls.stream_wait(stream, event, 0)
        self.device.give_event(event)  # the wait is for this record, also when it is recorded again
        self.device.check(result)
        self.waited.add(producer)
        self.last_waited = producer

    def end(self):
        """Mark the end of what was launched, for `done` and `wait`."""
        cdef CudaCalls *calls = self.calls
        cdef void *stream = self.stream
        cdef int result
        if self.event is NULL:
            self.event = self.device.take_event()
        with nogil:
            result = calls.event_record(self.event, stream)
        self.device.check(result)

    def done(self):
        """Return whether all that was launched before `end` has ended."""
        cdef CudaCalls *calls = self.calls
        cdef int result = CUDA_SUCCESS
        if self.event is not NULL:
            with nogil:
                result = calls.event_query(self.event)
        if result == CUDA_NOT_READY:
            return False
        self.device.check(result)
        return True

    def wait(self):
        """Wait for all that was launched before `end`."""
        cdef CudaCalls *calls = self.calls
        cdef int result
        cdef void *event = self.event
        if event is not NULL:
            with nogil:
                result = calls.event_synchronize(event)
            self.device.check(result)
            if self.event is event:
                self.event = NULL
                self.device.give_event(event)

    def release(self):
        """Give the memory back, in the order of the stream."""
        cdef CudaCalls *calls = self.calls
        cdef void *stream = self.stream
        cdef uint64_t memory = self.memory
        if memory:
            self.memory = 0
            with nogil:
                calls.free(memory, stream)

    cdef bytes read(self):
        """Return the results; what was launched has ended."""
        cdef CudaCalls *calls = self.calls
        cdef void *stream = self.device.results  # waits for nothing that others put on the job's
        cdef size_t size = self.stop - self.start
        cdef char *to
        cdef int result
        if self.content is None:
            content = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
            to = PyBytes_AsString(content)
            with nogil:
                result = calls.read(to, self.start, size, stream)
                if result == CUDA_SUCCESS:
                    result = calls.stream_synchronize(stream)
            self.device.check(result)
            self.content = content
            self.release()
        return self.content


@cython.final
cdef class CudaDownload:
    """CudaDownload(job, address, size)\n--\n
    Bytes on a device that no launch writes over any more; made by `CudaJob.download`.
    """

    cdef CudaJob job
    cdef uint64_t address
    cdef size_t size

    def __cinit__(self, CudaJob job not None, uint64_t address, size_t size):
        self.job, self.address, self.size = job, address, size

    def read(self):
        """Return the bytes; the launches before the download have ended."""
        start = self.address - self.job.start
        return PyMemoryView_FromObject(self.job.read())[start : start + self.size]


# --- Trees that a device made ---

cdef uint64_t length_of(object held) except? 0:
    """Return the bytes of what `CudaJob.hold` holds."""
    return (<Tensor>held).length if isinstance(held, Tensor) else held.length


cdef object parts_of(cls, held, root, residue, leaves, residues, blocks, block_residues):
    """Return the `TreeParts` of what `CudaJob.hold` holds."""
    if isinstance(held, Tensor):
        kind, shape = kind_of(&(<Tensor>held).tensor.dtype), shape_of((<Tensor>held).tensor)
    else:
        kind, shape = held.kind, held.shape
    parts = (
        length_of(held), root, residue, leaves, residues, blocks, block_residues, kind, shape
    )
    return tuple_new(cls, parts)


cdef tuple next_hashes(joined, Py_ssize_t first, Py_ssize_t count):
    """Return some hashes, joined, and their residues, which stand behind all hashes."""
    cdef Py_ssize_t size = ATLAS_DIGEST_BYTES
    cdef Py_ssize_t residues = len(joined) // (size + 1) * size + first
    return joined[size * first : size * (first + count)], joined[residues : residues + count]


def tree_parts(cls, list held not None, order, windows, bytes roots not None, leaves, blocks, /):
    """Return the parts of each tensor's tree, or the error in its place.

    Args: cls, `TreeParts`; held, as from `CudaJob.hold`; order, for each result the number of its
    tensor, counted without those that have no bytes; windows, how many each has, in this order;
    roots, of the tensors, and then their residues; leaves, of all windows, and blocks, the roots of
    blocks, both followed by residues, or None.
    Raises ValueError where these do not belong together.
    """
    cdef Py_ssize_t size = ATLAS_DIGEST_BYTES, count = PyBytes_Size(roots) // (size + 1)
    cdef Py_ssize_t place, index, some, first = 0, first_block = 0
    cdef const uint8_t *hashes = <const uint8_t *>PyBytes_AsString(roots)
    cdef list found = [], with_bytes = []
    no = None if leaves is None else b""
    for each in held:
        if not isinstance(each, Exception):
            if length_of(each):
                with_bytes.append(len(found))
            else:
                each = parts_of(cls, each, tree_root(b""), 0, no, no, no, no)
        found.append(each)
    if not len(order) == len(windows) == len(with_bytes) == count:
        raise ValueError(f"roots has {count} hashes, must have one for each of {len(with_bytes)}")
    of_windows = of_blocks = (None, None)
    for place in range(count):
        if leaves is not None:
            some = windows[place]
            of_windows = next_hashes(leaves, first, some)
            first += some
            some = (some + BLOCK_WINDOWS - 1) // BLOCK_WINDOWS
            of_blocks = next_hashes(blocks, first_block, some)
            first_block += some
        index = with_bytes[order[place]]
        root = PyBytes_FromStringAndSize(<const char *>hashes + size * place, size)
        found[index] = parts_of(
            cls, held[index], root, hashes[size * count + place],
            of_windows[0], of_windows[1], of_blocks[0], of_blocks[1],
        )
    return found
