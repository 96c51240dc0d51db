/* SPDX-License-Identifier: Apache-2.0 */
/* A CUDA driver without a GPU, for tests: built as libcuda.so.1, so that cuda-bindings loads it.
 *
 * Memory of the device is an arena that the host may touch only through the driver: outside of copies
 * and launches it is not readable, and an access is SIGSEGV. Kernels run in callbacks of the test.
 * Streams are late on request: work waits until somebody waits for it, so that a missing wait shows.
 * Any call can be told to fail. fake_device.py has the other side. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

typedef int Result;
typedef uint64_t Pointer;
typedef int Device;

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    INVALID_PTX = 218,
    UNSUPPORTED_PTX_VERSION = 222,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
};

/* --- settings, failures and the count of calls --- */

/* As the driver's: those of captures. */
enum { CAPTURE_UNSUPPORTED = 900, CAPTURE_ISOLATION = 905, RELAXED = 2 };

enum { MOST_DEVICES = 8, MOST_CALLS = 200, MOST_FAILURES = 32 };

static int devices = 1, version = 13000, chip_major = 9, chip_minor = 0, late, initialized;
static uintptr_t capturing;
static int broken;
static __thread int capture_mode; /* 0: what must not be done while anybody captures is refused */
static size_t arena_size = (size_t)256 << 20, free_limit;
static int sticky;
static pthread_mutex_t lock;

static struct {
    const char* name;
    uint64_t count;
} calls[MOST_CALLS];

static struct {
    char name[64];
    int64_t left; /* calls until the one that fails; 0 is none */
    Result result;
    int sticks;
} failures[MOST_FAILURES];

static struct {
    int (*load)(const char* text, char* log, size_t size);
    int (*kernel)(int module, const char* name, int* sizes, int most);
    int (*launch)(int kernel, const unsigned* grid, const unsigned* block, unsigned shared,
                  void** values);
    void (*allocated)(Pointer start, uint64_t size);
    void (*freed)(Pointer start, uint64_t size);
    void (*written)(Pointer start, uint64_t size);
} callback;

/* Lets the nth call from now of an entry point ("*": of any) fail; with sticks, all later ones too. */
void fakecuda_fail(const char* name, int64_t nth, Result result, int sticks)
{
    pthread_mutex_lock(&lock);
    for (int k = 0; k < MOST_FAILURES && nth == 0; k++)
        failures[k].left = 0;
    for (int k = 0; k < MOST_FAILURES && nth > 0; k++)
        if (failures[k].left == 0) {
            snprintf(failures[k].name, sizeof failures[k].name, "%s", name);
            failures[k].left = nth, failures[k].result = result, failures[k].sticks = sticks;
            break;
        }
    pthread_mutex_unlock(&lock);
}

int fakecuda_set(const char* name, int64_t value)
{
    if (strcmp(name, "devices") == 0)
        devices = (int)value;
    else if (strcmp(name, "version") == 0)
        version = (int)value;
    else if (strcmp(name, "chip") == 0) /* 90: compute capability 9.0 */
        chip_major = (int)value / 10, chip_minor = (int)value % 10;
    else if (strcmp(name, "late") == 0)
        late = (int)value;
    else if (strcmp(name, "capturing") == 0) /* the handle of a stream; 0: none */
        capturing = (uintptr_t)value, broken = 0;
    else if (strcmp(name, "memory") == 0) /* bytes that allocations may take; 0: all of the arena */
        free_limit = (size_t)value;
    else
        return -1;
    return 0;
}

/* Whether the graph that is captured is worth nothing any more. */
int fakecuda_broken(void)
{
    return broken;
}

uint64_t fakecuda_calls(const char* name)
{
    for (int k = 0; k < MOST_CALLS && calls[k].name; k++)
        if (strcmp(calls[k].name, name) == 0)
            return calls[k].count;
    return 0;
}

void fakecuda_callbacks(void** functions)
{
    memcpy(&callback, functions, sizeof callback);
}

__attribute__((constructor)) static void prepare(void)
{
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind,
                              PTHREAD_MUTEX_RECURSIVE); /* a launch calls back, and that may copy */
    pthread_mutex_init(&lock, &kind);
    const char* names[] = {"devices", "version", "chip", "late", "memory", "capturing"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char variable[32] = "FAKECUDA_";
        for (int i = 0; names[k][i]; i++)
            variable[9 + i] = (char)(names[k][i] - 32), variable[10 + i] = 0;
        const char* value = getenv(variable);
        if (value)
            fakecuda_set(names[k], atoll(value));
    }
    /* FAKECUDA_FAIL=cuMemAlloc:2:2,cuLaunchKernel:1:719! */
    char *list = getenv("FAKECUDA_FAIL") ? strdup(getenv("FAKECUDA_FAIL")) : NULL, *rest = list;
    for (char* item; rest && (item = strsep(&rest, ","));) {
        char name[64], sticks = 0;
        long long nth;
        int result;
        if (sscanf(item, "%63[^:]:%lld:%d%c", name, &nth, &result, &sticks) >= 3)
            fakecuda_fail(name, nth, result, sticks == '!');
    }
    free(list);
}

/* Counts a call; returns what it has to fail with. */
static Result begin(const char* name, int needs_context);

/* An entry point. It holds the lock to its end. */
static void unlock(int* unused)
{
    (void)unused;
    pthread_mutex_unlock(&lock);
}
#define BEGIN(name, needs_context)                                                                 \
    pthread_mutex_lock(&lock);                                                                     \
    __attribute__((cleanup(unlock))) int locked = 0;                                               \
    (void)locked;                                                                                  \
    {                                                                                              \
        Result refused = begin(name, needs_context);                                               \
        if (refused)                                                                               \
            return refused;                                                                        \
    }

/* The same for what no thread may do while one captures, but in its relaxed mode: it breaks the
 * graph. */
#define BEGIN_UNSAFE(name, needs_context)                                                          \
    BEGIN(name, needs_context)                                                                     \
    if (capturing && capture_mode != RELAXED)                                                      \
        return broken = 1, CAPTURE_UNSUPPORTED;

/* --- contexts --- */

typedef struct {
    Device device;
    int retained;
} Context;
static Context contexts[MOST_DEVICES];
static __thread Context* stack[16];
static __thread int depth; /* stack[depth - 1] is current */

static Context* current(void)
{
    return depth ? stack[depth - 1] : NULL;
}

static Result begin(const char* name, int needs_context)
{
    for (int k = 0; k < MOST_CALLS; k++) {
        if (!calls[k].name)
            calls[k].name = name;
        if (strcmp(calls[k].name, name) == 0) {
            calls[k].count++;
            break;
        }
    }
    if (sticky)
        return sticky;
    for (int k = 0; k < MOST_FAILURES; k++) {
        if (failures[k].left == 0 ||
            (strcmp(failures[k].name, name) && strcmp(failures[k].name, "*")))
            continue;
        if (--failures[k].left == 0) {
            if (failures[k].sticks)
                sticky = failures[k].result;
            return failures[k].result;
        }
    }
    if (!initialized && strcmp(name, "cuInit"))
        return NOT_INITIALIZED;
    if (needs_context && (!current() || !current()->retained))
        return INVALID_CONTEXT;
    return SUCCESS;
}

Result cuInit(unsigned flags)
{
    BEGIN("cuInit", 0)
    if (flags)
        return INVALID_VALUE;
    if (devices == 0)
        return NO_DEVICE;
    initialized = 1;
    return SUCCESS;
}
Result cuDriverGetVersion(int* value)
{
    return *value = version, SUCCESS;
}
Result cuDeviceGetCount(int* count)
{
    BEGIN("cuDeviceGetCount", 0)
    return *count = devices, SUCCESS;
}
static int is_device(Device device)
{
    return device >= 0 && device < devices && device < MOST_DEVICES;
}
Result cuDeviceGet(Device* device, int number)
{
    BEGIN("cuDeviceGet", 0)
    if (!is_device(number))
        return INVALID_DEVICE;
    return *device = number, SUCCESS;
}
Result cuDeviceGetName(char* name, int size, Device device)
{
    BEGIN("cuDeviceGetName", 0)
    if (!is_device(device))
        return INVALID_DEVICE;
    snprintf(name, (size_t)size, "Fake GPU %d", device);
    return SUCCESS;
}
Result cuDeviceGetUuid_v2(char* uuid, Device device)
{
    BEGIN("cuDeviceGetUuid", 0)
    memset(uuid, 0xFA + device, 16);
    return is_device(device) ? SUCCESS : INVALID_DEVICE;
}
Result cuDeviceGetAttribute(int* value, int attribute, Device device)
{
    BEGIN("cuDeviceGetAttribute", 0)
    if (!is_device(device))
        return INVALID_DEVICE;
    switch (attribute) {
    case 1: return *value = 1024, SUCCESS; /* threads of a block */
    case 2:
    case 3: return *value = 1024, SUCCESS; /* block x, y */
    case 4: return *value = 64, SUCCESS;
    case 5: return *value = 0x7FFFFFFF, SUCCESS; /* grid x */
    case 6:
    case 7: return *value = 65535, SUCCESS;
    case 8: return *value = 49152, SUCCESS; /* shared memory of a block */
    case 10: return *value = 32, SUCCESS;   /* threads of a warp */
    case 13: return *value = 1755000, SUCCESS;
    case 16: return *value = 4, SUCCESS;    /* multiprocessors */
    case 39: return *value = 2048, SUCCESS; /* threads of a multiprocessor */
    case 41: return *value = 1, SUCCESS;    /* unified addresses */
    case 75: return *value = chip_major, SUCCESS;
    case 76: return *value = chip_minor, SUCCESS;
    case 97: return *value = 232448, SUCCESS;
    case 115: return *value = 1, SUCCESS; /* memory pools */
    default: return *value = 0, SUCCESS;
    }
}
Result cuDeviceTotalMem_v2(size_t* size, Device device)
{
    BEGIN("cuDeviceTotalMem", 0)
    return *size = free_limit ? free_limit : arena_size,
           is_device(device) ? SUCCESS : INVALID_DEVICE;
}
Result cuDevicePrimaryCtxRetain(Context** context, Device device)
{
    BEGIN("cuDevicePrimaryCtxRetain", 0)
    if (!is_device(device))
        return INVALID_DEVICE;
    contexts[device].device = device;
    contexts[device].retained++;
    return *context = &contexts[device], SUCCESS;
}
Result cuDevicePrimaryCtxRelease_v2(Device device)
{
    BEGIN("cuDevicePrimaryCtxRelease", 0)
    if (!is_device(device))
        return INVALID_DEVICE;
    if (!contexts[device].retained)
        return INVALID_CONTEXT;
    contexts[device].retained--;
    return SUCCESS;
}
Result cuDevicePrimaryCtxGetState(Device device, unsigned* flags, int* active)
{
    BEGIN("cuDevicePrimaryCtxGetState", 0)
    *flags = 0, *active = contexts[device].retained > 0;
    return SUCCESS;
}
Result cuCtxSetCurrent(Context* context)
{
    BEGIN("cuCtxSetCurrent", 0)
    if (depth)
        depth--;
    if (context)
        stack[depth++] = context;
    return SUCCESS;
}
Result cuCtxGetCurrent(Context** context)
{
    BEGIN("cuCtxGetCurrent", 0)
    return *context = current(), SUCCESS;
}
Result cuCtxPushCurrent_v2(Context* context)
{
    BEGIN("cuCtxPushCurrent", 0)
    if (!context || depth == 16)
        return INVALID_CONTEXT;
    stack[depth++] = context;
    return SUCCESS;
}
Result cuCtxPopCurrent_v2(Context** context)
{
    BEGIN("cuCtxPopCurrent", 0)
    if (!depth)
        return INVALID_CONTEXT;
    depth--;
    if (context)
        *context = stack[depth];
    return SUCCESS;
}
Result cuCtxGetDevice(Device* device)
{
    BEGIN("cuCtxGetDevice", 1)
    return *device = current()->device, SUCCESS;
}
Result cuCtxGetStreamPriorityRange(int* least, int* greatest)
{
    BEGIN("cuCtxGetStreamPriorityRange", 1)
    return *least = 0, *greatest = -5, SUCCESS;
}

/* --- memory --- */

typedef struct Block {
    Pointer start;
    uint64_t size, number;
    Device device;
    int pinned; /* memory of the host */
    struct Block* next;
} Block;
static Block* blocks;
static unsigned char* arena;
static size_t arena_used, allocated;
static int opened;

uint64_t fakecuda_allocated(void)
{
    return allocated;
}
uint64_t fakecuda_arena(uint64_t* size)
{
    pthread_mutex_lock(&lock);
    if (!arena) {
        arena = mmap((void*)0x7E0000000000, arena_size, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (arena == MAP_FAILED)
            abort();
    }
    *size = arena_size;
    pthread_mutex_unlock(&lock);
    return (uint64_t)(uintptr_t)arena;
}
static void open_arena(void)
{
    if (opened++ == 0 && arena)
        mprotect(arena, arena_size, PROT_READ | PROT_WRITE);
}
static void close_arena(void)
{
    if (--opened == 0 && arena)
        mprotect(arena, arena_size, PROT_NONE);
}
void fakecuda_open(int yes)
{
    pthread_mutex_lock(&lock);
    yes ? open_arena() : close_arena();
    pthread_mutex_unlock(&lock);
}

static Block* block_of(Pointer pointer)
{
    for (Block* b = blocks; b; b = b->next)
        if (pointer >= b->start && pointer < b->start + b->size)
            return b;
    return NULL;
}
static int is_device_range(Pointer pointer, size_t size)
{
    Block* b = block_of(pointer);
    return b && !b->pinned && pointer + size <= b->start + b->size;
}
static Result allocate(Pointer* pointer, size_t size, Device device)
{
    static uint64_t number;
    uint64_t whole;
    if (size == 0)
        return INVALID_VALUE;
    fakecuda_arena(&whole);
    if (free_limit && allocated + size > free_limit)
        return OUT_OF_MEMORY;
    size_t room =
        (size + 1023) / 512 * 512; /* never two that touch; addresses are not used again */
    if (size > arena_size || arena_used + room > arena_size)
        return OUT_OF_MEMORY;
    Block* b = calloc(1, sizeof *b);
    b->start = (Pointer)(uintptr_t)arena + 512 + arena_used, b->size = size, b->number = ++number;
    b->device = device, b->next = blocks, blocks = b;
    arena_used += room, allocated += size;
    if (callback.allocated)
        callback.allocated(b->start, size);
    return *pointer = b->start, SUCCESS;
}
static Result release(Pointer pointer)
{
    for (Block** b = &blocks; *b; b = &(*b)->next)
        if ((*b)->start == pointer && !(*b)->pinned) {
            Block* gone = *b;
            if (callback.freed)
                callback.freed(gone->start, gone->size);
            allocated -= gone->size, *b = gone->next;
            free(gone);
            return SUCCESS;
        }
    return INVALID_VALUE;
}

/* Memory of other programs' tensors: neither counted as calls nor refused. */
Pointer fakecuda_allocate(Device device, size_t size)
{
    Pointer pointer = 0;
    pthread_mutex_lock(&lock);
    allocate(&pointer, size, device);
    pthread_mutex_unlock(&lock);
    return pointer;
}
void fakecuda_release(Pointer pointer)
{
    pthread_mutex_lock(&lock);
    release(pointer);
    pthread_mutex_unlock(&lock);
}

/* --- streams: lists of work --- */

typedef struct Event Event;
typedef struct Kernel Kernel;
typedef struct Work {
    enum { COPY_IN, COPY_OUT, COPY, FILL, LAUNCH, RECORD, WAIT, FREE } kind;
    Pointer to, from;
    void* host;
    size_t size;
    int staged; /* host is a copy of ours */
    unsigned value, unit;
    struct Mark* mark;
    Kernel* kernel;
    unsigned grid[3], block[3], shared;
    void** values;
    struct Work* next;
} Work;
typedef struct Stream {
    int open, captured;
    unsigned flags;
    Device device;
    Work *first, **last;
    struct Stream* next;
} Stream;
/* One record of an event. Who waits for it waits for this one, also when the event is recorded
 * again on another stream. Never freed: work may still name it. */
typedef struct Mark {
    Stream* stream;
    int reached;
    struct timespec time;
} Mark;
struct Event {
    Mark* mark; /* of the last record; none before the first */
    unsigned queries;
};
struct Kernel {
    int number, sizes[64], parameters;
    char name[128];
    struct Module* module;
};
static Stream default_stream[MOST_DEVICES], *streams;

static Stream* stream_of(Stream* stream)
{
    uintptr_t number = (uintptr_t)stream;
    if (number > 2) {
        for (Stream* s = streams; s; s = s->next)
            if (s == stream)
                return s->open ? s : NULL;
        return NULL;
    }
    Stream* s = &default_stream[current() ? current()->device : 0];
    if (!s->open)
        s->open = 1, s->last = &s->first;
    return s;
}

static Result drain(Stream* stream);

static Result perform(Work* work)
{
    Result result = SUCCESS;
    open_arena();
    switch (work->kind) {
    case COPY_IN:
        if (!is_device_range(work->to, work->size)) {
            result = 700;
            break;
        }
        memcpy((void*)work->to, work->host, work->size);
        if (callback.written)
            callback.written(work->to, work->size);
        break;
    case COPY_OUT:
        if (!is_device_range(work->from, work->size))
            result = 700;
        else
            memcpy(work->host, (void*)work->from, work->size);
        break;
    case COPY:
        if (!is_device_range(work->from, work->size) || !is_device_range(work->to, work->size)) {
            result = 700;
            break;
        }
        memmove((void*)work->to, (void*)work->from, work->size);
        if (callback.written)
            callback.written(work->to, work->size);
        break;
    case FILL:
        if (!is_device_range(work->to, work->size)) {
            result = 700;
            break;
        }
        for (size_t k = 0; k < work->size; k++)
            ((unsigned char*)work->to)[k] = (unsigned char)(work->value >> 8 * (k % work->unit));
        if (callback.written)
            callback.written(work->to, work->size);
        break;
    case LAUNCH:
        if (callback.launch)
            result = callback.launch(work->kernel->number, work->grid, work->block, work->shared,
                                     work->values);
        break;
    case RECORD:
        work->mark->reached = 1;
        clock_gettime(CLOCK_MONOTONIC, &work->mark->time);
        break;
    case WAIT:
        if (work->mark && !work->mark->reached)
            result = drain(work->mark->stream);
        break;
    case FREE: result = release(work->to); break;
    }
    close_arena();
    if (result)
        sticky = result; /* what a kernel or a late copy did wrong breaks the context */
    return result;
}
static void forget(Work* work)
{
    if (work->staged)
        free(work->host);
    for (int k = 0; work->kind == LAUNCH && k < work->kernel->parameters; k++)
        free(work->values[k]);
    free(work->values);
    free(work);
}
static Result drain(Stream* stream)
{
    while (stream->first) {
        Work* work = stream->first;
        stream->first = work->next;
        if (!stream->first)
            stream->last = &stream->first;
        Result result = sticky ? sticky : perform(work);
        forget(work);
        if (result)
            return result;
    }
    return SUCCESS;
}
static Result drain_all(void)
{
    Result result = SUCCESS;
    for (int k = 0; k < MOST_DEVICES && !result; k++)
        if (default_stream[k].open)
            result = drain(&default_stream[k]);
    for (Stream* s = streams; s && !result; s = s->next)
        if (s->open)
            result = drain(s);
    return result;
}
/* Puts work into a stream. The default stream waits for all streams that are not non-blocking, and
 * they for it. */
static Result submit(Stream* handle, Work what)
{
    Stream* stream = stream_of(handle);
    if (!stream)
        return INVALID_HANDLE;
    int is_default = (uintptr_t)handle <= 2;
    Work* work = malloc(sizeof *work);
    *work = what, work->next = NULL;
    for (Stream* s = streams; is_default && s; s = s->next)
        if (s->open && !(s->flags & 1))
            drain(s);
    if (!is_default && !(stream->flags & 1) && default_stream[stream->device].open)
        drain(&default_stream[stream->device]);
    *stream->last = work, stream->last = &work->next;
    return late ? SUCCESS : drain(stream);
}

static int is_pinned(const void* host)
{
    Block* b = block_of((Pointer)(uintptr_t)host);
    return b && b->pinned;
}
static Result copy_in(Pointer to, const void* host, size_t size, Stream* stream)
{
    if (!is_device_range(to, size))
        return INVALID_VALUE;
    Work work = {.kind = COPY_IN, .to = to, .host = (void*)host, .size = size};
    if (late && !is_pinned(host)) { /* pageable memory is read before the call returns */
        work.host = memcpy(malloc(size), host, size);
        work.staged = 1;
    }
    return submit(stream, work);
}
static Result copy_out(void* host, Pointer from, size_t size, Stream* stream)
{
    if (!is_device_range(from, size))
        return INVALID_VALUE;
    Result result =
        submit(stream, (Work){.kind = COPY_OUT, .from = from, .host = host, .size = size});
    return result || is_pinned(host) ? result
                                     : drain(stream_of(stream)); /* into pageable memory it waits */
}
static Result copy(Pointer to, Pointer from, size_t size, Stream* stream)
{
    if (!is_device_range(to, size) || !is_device_range(from, size))
        return INVALID_VALUE;
    return submit(stream, (Work){.kind = COPY, .to = to, .from = from, .size = size});
}
static Result fill(Pointer to, unsigned value, unsigned unit, size_t count, Stream* stream)
{
    if (!is_device_range(to, count * unit) || to % unit)
        return INVALID_VALUE;
    return submit(
        stream, (Work){.kind = FILL, .to = to, .value = value, .unit = unit, .size = count * unit});
}
#define THEN_DRAIN(action)                                                                         \
    Result result = (action);                                                                      \
    return result ? result : drain(stream_of(NULL));

Result cuMemAlloc_v2(Pointer* pointer, size_t size)
{
    BEGIN_UNSAFE("cuMemAlloc", 1)
    return allocate(pointer, size, current()->device);
}
Result cuMemAllocAsync(Pointer* pointer, size_t size, Stream* stream)
{
    BEGIN("cuMemAllocAsync", 1)
    return stream_of(stream) ? allocate(pointer, size, current()->device) : INVALID_HANDLE;
}
Result cuMemAllocFromPoolAsync(Pointer* pointer, size_t size, void* pool, Stream* stream)
{
    BEGIN("cuMemAllocFromPoolAsync", 1)
    (void)pool;
    return stream_of(stream) ? allocate(pointer, size, current()->device) : INVALID_HANDLE;
}
Result cuMemFree_v2(Pointer pointer)
{
    BEGIN_UNSAFE("cuMemFree", 1)
    Result result = drain_all();
    return result ? result : pointer ? release(pointer) : SUCCESS;
}
Result cuMemFreeAsync(Pointer pointer, Stream* stream)
{
    BEGIN("cuMemFreeAsync", 1)
    if (!is_device_range(pointer, 1))
        return INVALID_VALUE;
    return submit(stream, (Work){.kind = FREE, .to = pointer});
}
static Result host_memory(void** pointer, size_t size)
{
    Block* b = calloc(1, sizeof *b);
    *pointer = aligned_alloc(512, (size + 511) / 512 * 512);
    b->start = (Pointer)(uintptr_t)*pointer, b->size = size, b->pinned = 1, b->next = blocks,
    blocks = b;
    return SUCCESS;
}
/* Pinned memory of another program. */
void* fakecuda_allocate_host(size_t size)
{
    void* pointer;
    pthread_mutex_lock(&lock);
    host_memory(&pointer, size);
    pthread_mutex_unlock(&lock);
    return pointer;
}
Result cuMemAllocHost_v2(void** pointer, size_t size)
{
    BEGIN_UNSAFE("cuMemAllocHost", 1)
    return host_memory(pointer, size);
}
Result cuMemHostAlloc(void** pointer, size_t size, unsigned flags)
{
    BEGIN_UNSAFE("cuMemHostAlloc", 1)
    (void)flags;
    return host_memory(pointer, size);
}
Result cuMemFreeHost(void* pointer)
{
    BEGIN_UNSAFE("cuMemFreeHost", 1)
    for (Block** b = &blocks; *b; b = &(*b)->next)
        if ((*b)->pinned && (void*)(uintptr_t)(*b)->start == pointer) {
            Block* gone = *b;
            Result result = drain_all();
            *b = gone->next;
            free(gone), free(pointer);
            return result;
        }
    return INVALID_VALUE;
}
Result cuMemGetInfo_v2(size_t* available, size_t* total)
{
    BEGIN("cuMemGetInfo", 1)
    *total = free_limit ? free_limit : arena_size;
    return *available = *total - allocated, SUCCESS;
}
Result cuMemGetAddressRange_v2(Pointer* start, size_t* size, Pointer pointer)
{
    BEGIN("cuMemGetAddressRange", 1)
    Block* b = block_of(pointer);
    if (!b || b->pinned)
        return NOT_FOUND;
    if (start)
        *start = b->start;
    if (size)
        *size = b->size;
    return SUCCESS;
}
static Result attribute_of(void* value, int attribute, Pointer pointer)
{
    Block* b = block_of(pointer);
    if (!b)
        return INVALID_VALUE;
    switch (attribute) {
    case 1: return *(Context**)value = &contexts[b->device], SUCCESS;
    case 2: return *(unsigned*)value = b->pinned ? 1 : 2, SUCCESS;
    case 3: return *(Pointer*)value = pointer, SUCCESS;
    case 4:
        return *(void**)value = b->pinned ? (void*)(uintptr_t)pointer : NULL,
               b->pinned ? SUCCESS : INVALID_VALUE;
    case 7: return *(uint64_t*)value = b->number, SUCCESS;
    case 8: return *(unsigned char*)value = 0, SUCCESS; /* managed */
    case 9: return *(int*)value = b->device, SUCCESS;
    case 11: return *(Pointer*)value = b->start, SUCCESS;
    case 12: return *(size_t*)value = b->size, SUCCESS;
    default: return INVALID_VALUE;
    }
}
Result cuPointerGetAttribute(void* value, int attribute, Pointer pointer)
{
    BEGIN("cuPointerGetAttribute", 0)
    return attribute_of(value, attribute, pointer);
}
Result cuPointerGetAttributes(unsigned count, int* attributes, void** values, Pointer pointer)
{
    BEGIN("cuPointerGetAttributes", 0)
    for (unsigned k = 0; k < count; k++)
        if (attribute_of(values[k], attributes[k], pointer))
            memset(values[k], 0, 4);
    return SUCCESS;
}
Result cuMemcpyHtoD_v2(Pointer to, const void* host, size_t size){
    BEGIN("cuMemcpyHtoD", 1) THEN_DRAIN(copy_in(to, host, size, NULL))} Result
    cuMemcpyDtoH_v2(void* host, Pointer from, size_t size){
        BEGIN("cuMemcpyDtoH", 1) THEN_DRAIN(copy_out(host, from, size, NULL))} Result
    cuMemcpyDtoD_v2(Pointer to, Pointer from, size_t size)
{
    BEGIN("cuMemcpyDtoD", 1)
    return copy(to, from, size, NULL);
}
Result cuMemcpyHtoDAsync_v2(Pointer to, const void* host, size_t size, Stream* stream)
{
    BEGIN("cuMemcpyHtoDAsync", 1)
    return copy_in(to, host, size, stream);
}
Result cuMemcpyDtoHAsync_v2(void* host, Pointer from, size_t size, Stream* stream)
{
    BEGIN("cuMemcpyDtoHAsync", 1)
    return copy_out(host, from, size, stream);
}
Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t size, Stream* stream)
{
    BEGIN("cuMemcpyDtoDAsync", 1)
    return copy(to, from, size, stream);
}
static Result copy_any(Pointer to, Pointer from, size_t size, Stream* stream)
{
    int into = is_device_range(to, size), out = is_device_range(from, size);
    if (into && out)
        return copy(to, from, size, stream);
    if (into)
        return copy_in(to, (void*)from, size, stream);
    return out ? copy_out((void*)to, from, size, stream) : INVALID_VALUE;
}
Result cuMemcpy(Pointer to, Pointer from,
                size_t size){BEGIN("cuMemcpy", 1) THEN_DRAIN(copy_any(to, from, size, NULL))} Result
    cuMemcpyAsync(Pointer to, Pointer from, size_t size, Stream* stream)
{
    BEGIN("cuMemcpyAsync", 1)
    return copy_any(to, from, size, stream);
}
Result cuMemsetD8_v2(Pointer to, unsigned char value, size_t count)
{
    BEGIN("cuMemsetD8", 1)
    return fill(to, value, 1, count, NULL);
}
Result cuMemsetD32_v2(Pointer to, unsigned value, size_t count)
{
    BEGIN("cuMemsetD32", 1)
    return fill(to, value, 4, count, NULL);
}
Result cuMemsetD8Async(Pointer to, unsigned char value, size_t count, Stream* stream)
{
    BEGIN("cuMemsetD8Async", 1)
    return fill(to, value, 1, count, stream);
}
Result cuMemsetD32Async(Pointer to, unsigned value, size_t count, Stream* stream)
{
    BEGIN("cuMemsetD32Async", 1)
    return fill(to, value, 4, count, stream);
}

static int pool;
Result cuDeviceGetDefaultMemPool(void** made, Device device)
{
    BEGIN("cuDeviceGetDefaultMemPool", 0)
    return *made = &pool, is_device(device) ? SUCCESS : INVALID_DEVICE;
}
Result cuDeviceGetMemPool(void** made, Device device)
{
    return cuDeviceGetDefaultMemPool(made, device);
}
Result cuMemPoolCreate(void** made, const void* properties)
{
    BEGIN_UNSAFE("cuMemPoolCreate", 0)
    (void)properties;
    return *made = &pool, SUCCESS;
}
Result cuMemPoolDestroy(void* of)
{
    BEGIN("cuMemPoolDestroy", 0)
    return of == &pool ? SUCCESS : INVALID_HANDLE;
}
Result cuMemPoolSetAccess(void* of, const void* access, size_t count)
{
    BEGIN("cuMemPoolSetAccess", 0)
    (void)of, (void)access, (void)count;
    return SUCCESS;
}
Result cuMemPoolSetAttribute(void* of, int attribute, void* value)
{
    BEGIN("cuMemPoolSetAttribute", 0)
    (void)of, (void)attribute, (void)value;
    return SUCCESS;
}
Result cuMemPoolGetAttribute(void* of, int attribute, void* value)
{
    BEGIN("cuMemPoolGetAttribute", 0)
    (void)of, (void)attribute;
    return *(uint64_t*)value = 0, SUCCESS;
}
Result cuMemPoolTrimTo(void* of, size_t keep)
{
    BEGIN("cuMemPoolTrimTo", 0)
    (void)of, (void)keep;
    return SUCCESS;
}

static Result make_stream(Stream** made, unsigned flags, Device device)
{
    Stream* s = calloc(1, sizeof *s);
    s->open = 1, s->flags = flags, s->device = device, s->last = &s->first;
    s->next = streams, streams = s;
    return *made = s, SUCCESS;
}
/* Another program's stream: no call is counted. */
Stream* fakecuda_stream(Device device)
{
    Stream* made;
    pthread_mutex_lock(&lock);
    make_stream(&made, 1, device);
    pthread_mutex_unlock(&lock);
    return made;
}
Result cuStreamCreate(Stream** made, unsigned flags)
{
    BEGIN("cuStreamCreate", 1)
    return make_stream(made, flags, current()->device);
}
Result cuStreamCreateWithPriority(Stream** made, unsigned flags, int priority)
{
    BEGIN("cuStreamCreateWithPriority", 1)
    (void)priority;
    return make_stream(made, flags, current()->device);
}
Result cuStreamDestroy_v2(Stream* stream)
{
    BEGIN("cuStreamDestroy", 1)
    if ((uintptr_t)stream <= 2 || !stream_of(stream))
        return INVALID_HANDLE;
    Result result = drain(stream);
    return stream->open = 0, result;
}
Result cuStreamSynchronize(Stream* stream)
{
    BEGIN_UNSAFE("cuStreamSynchronize", 1)
    return stream_of(stream) ? drain(stream_of(stream)) : INVALID_HANDLE;
}
static unsigned stream_queries;
Result cuStreamQuery(Stream* stream)
{
    BEGIN_UNSAFE("cuStreamQuery", 1)
    if (!stream_of(stream))
        return INVALID_HANDLE;
    if (stream_of(stream)->first && ++stream_queries % 3)
        return NOT_READY; /* ready when asked often */
    return drain(stream_of(stream));
}
/* The stream's work becomes a graph: it captures, or it waited for one that does. */
static int is_captured(const Stream* stream)
{
    return stream && (stream->captured || (capturing && stream == stream_of((Stream*)capturing)));
}
Result cuStreamWaitEvent(Stream* stream, Event* event, unsigned flags)
{
    BEGIN("cuStreamWaitEvent", 1)
    (void)flags;
    if (!event || !stream_of(stream))
        return INVALID_HANDLE;
    if (event->mark && is_captured(event->mark->stream))
        stream_of(stream)->captured = 1;
    else if (is_captured(stream_of(stream)))
        return broken = 1, CAPTURE_ISOLATION;
    return submit(stream, (Work){.kind = WAIT, .mark = event->mark});
}
Result cuStreamGetCtx(Stream* stream, Context** context)
{
    BEGIN("cuStreamGetCtx", 1)
    if (!stream_of(stream))
        return INVALID_HANDLE;
    return *context = (uintptr_t)stream > 2 ? &contexts[stream->device] : current(), SUCCESS;
}
Result cuStreamGetDevice(Stream* stream, Device* device)
{
    BEGIN("cuStreamGetDevice", 1)
    if (!stream_of(stream))
        return INVALID_HANDLE;
    return *device = (uintptr_t)stream > 2 ? stream->device : current()->device, SUCCESS;
}
Result cuStreamGetFlags(Stream* stream, unsigned* flags)
{
    BEGIN("cuStreamGetFlags", 1)
    return *flags = stream_of(stream) ? stream_of(stream)->flags : 0, SUCCESS;
}
Result cuStreamGetPriority(Stream* stream, int* priority)
{
    BEGIN("cuStreamGetPriority", 1)
    (void)stream;
    return *priority = 0, SUCCESS;
}
Result cuStreamIsCapturing(Stream* stream, int* status)
{
    BEGIN("cuStreamIsCapturing", 1)
    return *status = is_captured(stream_of(stream)), SUCCESS;
}
Result cuThreadExchangeStreamCaptureMode(int* mode)
{
    BEGIN("cuThreadExchangeStreamCaptureMode", 0)
    int before = capture_mode;
    if (*mode < 0 || *mode > RELAXED)
        return INVALID_VALUE;
    capture_mode = *mode, *mode = before;
    return SUCCESS;
}
Result cuCtxSynchronize(void)
{
    BEGIN_UNSAFE("cuCtxSynchronize", 1)
    return drain_all();
}
Result cuEventCreate(Event** made, unsigned flags)
{
    BEGIN("cuEventCreate", 1)
    (void)flags;
    return *made = calloc(1, sizeof(Event)), SUCCESS;
}
Result cuEventDestroy_v2(Event* event)
{
    BEGIN("cuEventDestroy", 0)
    (void)event; /* work may still name it */
    return SUCCESS;
}
Result cuEventRecord(Event* event, Stream* stream)
{
    BEGIN("cuEventRecord", 1)
    Stream* s = stream_of(stream);
    if (!event || !s)
        return INVALID_HANDLE;
    event->mark = calloc(1, sizeof(Mark)), event->queries = 0;
    event->mark->stream = s;
    return submit(stream, (Work){.kind = RECORD, .mark = event->mark});
}
Result cuEventQuery(Event* event)
{
    BEGIN_UNSAFE("cuEventQuery", 1)
    if (!event)
        return INVALID_HANDLE;
    if (!event->mark || event->mark->reached)
        return SUCCESS;
    return ++event->queries < 3 ? NOT_READY : drain(event->mark->stream);
}
Result cuEventSynchronize(Event* event)
{
    BEGIN_UNSAFE("cuEventSynchronize", 1)
    if (!event)
        return INVALID_HANDLE;
    return event->mark && !event->mark->reached ? drain(event->mark->stream) : SUCCESS;
}
Result cuEventElapsedTime(float* ms, Event* from, Event* to)
{
    BEGIN("cuEventElapsedTime", 1)
    if (!from->mark || !to->mark || !from->mark->reached || !to->mark->reached)
        return NOT_READY;
    *ms = 1e3f * (float)(to->mark->time.tv_sec - from->mark->time.tv_sec) +
          1e-6f * (float)(to->mark->time.tv_nsec - from->mark->time.tv_nsec);
    return SUCCESS;
}
Result cuEventElapsedTime_v2(float* ms, Event* from, Event* to)
{
    return cuEventElapsedTime(ms, from, to);
}

/* --- modules and launches --- */

typedef struct Module {
    int number, loaded;
    Kernel kernels[64];
} Module;

static Result load(Module** made, const char* text, unsigned count, const int* options,
                   void** values)
{
    char nowhere[1], *log = nowhere;
    size_t size = 1;
    for (unsigned k = 0; k < count; k++) {
        if (options[k] == 5)
            log = values[k];
        if (options[k] == 6)
            size = (size_t)(uintptr_t)values[k];
    }
    if (log == nowhere || !log)
        log = nowhere, size = 1;
    log[0] = 0;
    const char *target = strstr(text, ".target sm_"), *ptx = strstr(text, ".version ");
    if (!target || !ptx)
        return snprintf(log, size, "no PTX"), INVALID_PTX;
    if (atoi(target + 11) > 10 * chip_major + chip_minor)
        return snprintf(log, size, "the target is newer than this GPU"), NO_BINARY_FOR_GPU;
    /* PTX 9.0 came with CUDA 13.0, 8.0 with 12.0, 7.8 with 11.8. */
    int most = version >= 13000   ? 90
               : version >= 12000 ? 80 + (version - 12000) / 10
               : version >= 11000 ? 70 + (version - 11000) / 10
                                  : 65;
    int major = 0, minor = 0;
    sscanf(ptx, ".version %d.%d", &major, &minor);
    if (10 * major + minor > most)
        return snprintf(log, size, "PTX is too new"), UNSUPPORTED_PTX_VERSION;
    int number = callback.load ? callback.load(text, log, size) : -1;
    if (number < 0)
        return INVALID_PTX;
    Module* m = calloc(1, sizeof *m);
    m->number = number, m->loaded = 1;
    return *made = m, SUCCESS;
}
static Result find(Kernel** made, Module* module, const char* name)
{
    if (!module || !module->loaded)
        return INVALID_HANDLE;
    for (int k = 0; k < 64; k++) {
        Kernel* kernel = &module->kernels[k];
        if (kernel->name[0] && strcmp(kernel->name, name))
            continue;
        if (!kernel->name[0]) {
            int number = callback.kernel(module->number, name, kernel->sizes, 63);
            if (number < 0)
                return NOT_FOUND;
            snprintf(kernel->name, sizeof kernel->name, "%s", name);
            kernel->number = number, kernel->module = module;
            while (kernel->sizes[kernel->parameters])
                kernel->parameters++;
        }
        return *made = kernel, SUCCESS;
    }
    return NOT_FOUND;
}
Result cuModuleLoadData(Module** made, const void* image)
{
    BEGIN_UNSAFE("cuModuleLoadData", 1)
    return load(made, image, 0, NULL, NULL);
}
Result cuModuleLoadDataEx(Module** made, const void* image, unsigned count, int* options,
                          void** values)
{
    BEGIN_UNSAFE("cuModuleLoadDataEx", 1)
    return load(made, image, count, options, values);
}
Result cuModuleUnload(Module* module)
{
    BEGIN("cuModuleUnload", 1)
    return module->loaded = 0, SUCCESS;
}
Result cuModuleGetFunction(Kernel** made, Module* module, const char* name)
{
    BEGIN("cuModuleGetFunction", 1)
    return find(made, module, name);
}
Result cuLibraryLoadData(Module** made, const void* image, int* options, void** values,
                         unsigned count, void* library_options, void** library_values,
                         unsigned library_count)
{
    BEGIN_UNSAFE("cuLibraryLoadData", 0)
    (void)library_options, (void)library_values, (void)library_count;
    return load(made, image, count, options, values);
}
Result cuLibraryUnload(Module* module)
{
    BEGIN("cuLibraryUnload", 0)
    return module->loaded = 0, SUCCESS;
}
Result cuLibraryGetKernel(Kernel** made, Module* module, const char* name)
{
    BEGIN("cuLibraryGetKernel", 0)
    return find(made, module, name);
}
Result cuKernelGetFunction(Kernel** made, Kernel* kernel)
{
    BEGIN("cuKernelGetFunction", 1)
    return *made = kernel, SUCCESS;
}
Result cuLibraryGetModule(Module** made, Module* module)
{
    BEGIN("cuLibraryGetModule", 1)
    return *made = module, SUCCESS;
}
static Result kernel_attribute(int* value, int attribute)
{
    int known[] = {1024, 0,  0, 0,     64,
                   80,   80, 0, 49152, 0}; /* most threads, shared, const, local, registers, .. */
    return *value = attribute < 10 ? known[attribute] : 0, SUCCESS;
}
Result cuFuncGetAttribute(int* value, int attribute, Kernel* kernel)
{
    BEGIN("cuFuncGetAttribute", 1)
    (void)kernel;
    return kernel_attribute(value, attribute);
}
Result cuKernelGetAttribute(int* value, int attribute, Kernel* kernel, Device device)
{
    BEGIN("cuKernelGetAttribute", 0)
    (void)kernel, (void)device;
    return kernel_attribute(value, attribute);
}
Result cuFuncSetAttribute(Kernel* kernel, int attribute, int value)
{
    BEGIN("cuFuncSetAttribute", 1)
    (void)kernel, (void)attribute, (void)value;
    return SUCCESS;
}
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* count, Kernel* kernel, int block,
                                                   size_t shared)
{
    BEGIN("cuOccupancyMaxActiveBlocksPerMultiprocessor", 1)
    (void)kernel, (void)shared;
    return *count = 1024 / block, block > 0 ? SUCCESS : INVALID_VALUE;
}
static Result launch(Kernel* kernel, const unsigned* grid, const unsigned* block, unsigned shared,
                     Stream* stream, void** values)
{
    if (!kernel || !kernel->module || !kernel->module->loaded)
        return INVALID_HANDLE;
    uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
    if (!threads || threads > 1024 || block[2] > 64 || shared > 232448)
        return INVALID_VALUE;
    if (!grid[0] || !grid[1] || !grid[2] || grid[0] > 0x7FFFFFFF || grid[1] > 65535 ||
        grid[2] > 65535)
        return INVALID_VALUE;
    if (kernel->parameters && !values)
        return INVALID_VALUE;
    Work work = {.kind = LAUNCH, .kernel = kernel, .shared = shared};
    memcpy(work.grid, grid, sizeof work.grid), memcpy(work.block, block, sizeof work.block);
    if (!stream_of(stream))
        return INVALID_HANDLE;
    work.values = calloc((size_t)kernel->parameters + 1, sizeof(void*));
    for (int k = 0; k < kernel->parameters; k++)
        work.values[k] =
            memcpy(malloc((size_t)kernel->sizes[k]), values[k], (size_t)kernel->sizes[k]);
    return submit(stream, work);
}
Result cuLaunchKernel(Kernel* kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                      unsigned by, unsigned bz, unsigned shared, Stream* stream, void** values,
                      void** extra)
{
    BEGIN("cuLaunchKernel", 1)
    if (extra)
        return INVALID_VALUE;
    return launch(kernel, (unsigned[]){gx, gy, gz}, (unsigned[]){bx, by, bz}, shared, stream,
                  values);
}
typedef struct {
    unsigned grid[3], block[3], shared;
    Stream* stream;
    void* attributes;
    unsigned count;
} LaunchConfig;
Result cuLaunchKernelEx(const LaunchConfig* config, Kernel* kernel, void** values, void** extra)
{
    BEGIN("cuLaunchKernel", 1)
    if (extra)
        return INVALID_VALUE;
    return launch(kernel, config->grid, config->block, config->shared, config->stream, values);
}

/* --- errors, and how entry points are found --- */

static const struct {
    Result result;
    const char *name, *text;
} errors[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {UNSUPPORTED_PTX_VERSION, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain."},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};
Result cuGetErrorName(Result result, const char** name)
{
    for (size_t k = 0; k < sizeof errors / sizeof *errors; k++)
        if (errors[k].result == result)
            return *name = errors[k].name, SUCCESS;
    return *name = NULL, INVALID_VALUE;
}
Result cuGetErrorString(Result result, const char** text)
{
    for (size_t k = 0; k < sizeof errors / sizeof *errors; k++)
        if (errors[k].result == result)
            return *text = errors[k].text, SUCCESS;
    return *text = NULL, INVALID_VALUE;
}

#include <dlfcn.h>
Result cuGetProcAddress_v2(const char* name, void** function, int since, uint64_t flags,
                           int* status)
{
    char newer[96];
    (void)since, (void)flags;
    static void* self;
    if (!self) {
        Dl_info info;
        dladdr((void*)(uintptr_t)cuInit, &info);
        self = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    }
    snprintf(newer, sizeof newer, "%s_v2", name);
    *function = dlsym(self, newer);
    if (!*function)
        *function = dlsym(self, name);
    if (status)
        *status = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}
Result cuGetProcAddress(const char* name, void** function, int since, uint64_t flags)
{
    return cuGetProcAddress_v2(name, function, since, flags, NULL);
}
