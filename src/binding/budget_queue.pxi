# SPDX-License-Identifier: Apache-2.0
# The queue of leases that wait for a budget.
#
# A domain has one queue, for threads and tasks of all event loops, in order of arrival. Whoever
# gives budget back takes it for the first in the queue at once (`serve_queue`), so that nobody can
# come between, and wakes its thread or task. If that one was cancelled meanwhile, it gives the
# amount to the next.
#
# The queue changes in critical sections on the domain, in which no Python code runs: neither a
# finalizer nor a signal handler that uses the same budget finds it half changed. Who waits is told
# without memory: a thread by a lock that it makes before it stands in the queue. A task has to be
# told by its event loop, in Python; if that fails, the task is first in the queue again.

cdef extern from "clock.h":
    uint64_t monotonic_ns() nogil

cdef extern from *:
    """
    #include <unistd.h>

    static inline int atlas_count(const int *count)
    {
        return __atomic_load_n(count, __ATOMIC_SEQ_CST);
    }
    static inline void atlas_count_add(int *count, int change)
    {
        __atomic_add_fetch(count, change, __ATOMIC_SEQ_CST);
    }
    /* One thread changes the budget and then looks at the queue, another stands in the queue and
     * then looks at the budget: this between the two steps, so that one of them sees the other. The
     * GIL does it where there is one. */
    static inline void atlas_order(void)
    {
    #ifdef Py_GIL_DISABLED
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    #endif
    }
    static inline int atlas_stage(const int *stage)
    {
        return __atomic_load_n(stage, __ATOMIC_ACQUIRE);
    }
    static inline void atlas_stage_set(int *stage, int next)
    {
        __atomic_store_n(stage, next, __ATOMIC_RELEASE);
    }
    static inline int atlas_stage_change(int *stage, int from, int next)
    {
        return __atomic_compare_exchange_n(
            stage, &from, next, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    """
    int getpid() nogil
    int atlas_count(const int *count) noexcept nogil
    void atlas_count_add(int *count, int change) noexcept nogil
    void atlas_order() noexcept nogil
    int atlas_stage(const int *stage) noexcept nogil
    void atlas_stage_set(int *stage, int next) noexcept nogil
    bint atlas_stage_change(int *stage, int before, int next) noexcept nogil

cdef extern from "pythread.h":
    enum:
        PY_LOCK_ACQUIRED
        PY_LOCK_INTR
    # pythread.pxd leaves it out.
    int PyThread_acquire_lock_timed(PyThread_type_lock, long long microseconds, int interruptible) \
        nogil

cdef enum:
    STAGE_FREE = 0  # neither held nor waited for
    STAGE_ENTERING = 1  # of whoever enters it
    STAGE_WAITING = 2  # in the queue
    STAGE_GRANTED = 3  # the budget is taken for it, and it was not heard of since
    STAGE_DISMISSED = 4  # the domain was closed while it was in the queue
    STAGE_HELD = 5

# 2^63 nanoseconds: threading.TIMEOUT_MAX where clocks have 64 bits.
cdef long long TIMEOUT_MOST = 9_223_372_036
cdef double WITHOUT_END = -1


cdef double seconds_of(object timeout) except? -2:
    """Return a timeout in seconds, WITHOUT_END for None."""
    cdef double seconds
    cdef int overflow = 0
    if timeout is None:
        return WITHOUT_END
    number = timeout
    if isinstance(timeout, float):
        seconds = timeout
    else:
        try:
            number = index_of(timeout, "timeout")
        except TypeError:
            raise TypeError(
                f"timeout is of type {type(timeout).__name__}, must be a number of seconds, or "
                "None to wait without end"
            ) from None
        seconds = <double>PyLong_AsLongAndOverflow(number, &overflow)
    if overflow == 0 and 0 <= seconds <= TIMEOUT_MOST:  # nan is not
        return seconds
    written = repr(number) if isinstance(number, float) else shown(number)
    raise ValueError(
        f"timeout is {written}, must be in 0..{TIMEOUT_MOST} seconds, or None to wait without end"
    )


@cython.no_gc_clear  # never without its domain, through which every cycle goes
cdef class _Claim:
    """An amount of a budget that is free, waited for or held: what both kinds of lease are."""

    cdef Domain domain
    cdef double timeout  # seconds, WITHOUT_END if there is none
    cdef uint8_t amount
    cdef int stage  # atomic; critical sections on the domain guard the stages of the queue
    cdef _Claim behind  # in the queue
    cdef PyObject *ahead  # borrowed, from the queue
    cdef PyThread_type_lock bell  # of a thread: locked but while it is told
    cdef object task  # of a task: what tells it, in _tasks.py; None for threads

    def __init__(self, *args, **kwargs):
        raise not_made("_Claim", "Budget.lease()")

    def __dealloc__(self):
        if self.bell is not NULL:
            PyThread_free_lock(self.bell)

    cdef int fill(self, Domain domain, object amt, object timeout) except -1:
        self.domain = domain
        self.amount = <uint8_t>byte_of(amt, "amt", ATLAS_MODULUS - 1, ATLAS_E_BUDGET)
        self.timeout = seconds_of(timeout)
        return 0

    cdef bint take(self) except -1:
        """Take the amount at once and return True, or return False if this may wait for it.

        Raises BudgetError where it can do neither; StateError where it is held, or waited for.
        """
        cdef Domain domain = self.domain
        if not atlas_stage_change(&self.stage, STAGE_FREE, STAGE_ENTERING):
            forget_parent(domain)  # who waited for this there
            if not atlas_stage_change(&self.stage, STAGE_FREE, STAGE_ENTERING):
                raise_error(
                    ATLAS_E_STATE,
                    "the lease is held or waited for, must be left before it is entered",
                )
        if not domain.is_closed:
            if atlas_count(&domain.waiting) == 0:
                if atlas_budget_alloc(domain.handle, self.amount):
                    atlas_stage_set(&self.stage, STAGE_HELD)
                    return True
            if self.timeout != 0:
                return False
        try:  # costs more than all of the above
            domain.check()
            must_come_first(domain, self.amount)
            if not atlas_budget_alloc(domain.handle, self.amount):
                raise_last_error()
        except BaseException:
            atlas_stage_set(&self.stage, STAGE_FREE)
            raise
        atlas_stage_set(&self.stage, STAGE_HELD)
        return True

    cdef void give(self) noexcept:
        """Give the amount back if this is held."""
        # The handle outlives close(): on a closed domain this is harmless, and no error here masks
        # an error of the body.
        if atlas_stage_change(&self.stage, STAGE_HELD, STAGE_FREE):
            give_back(self.domain, self.amount)

    cdef int settle(self, bint told) except -1:
        """End the wait: hold what was granted, raise BudgetError or StateError where nothing was.

        `told`: whether the bell of a thread was heard.
        """
        cdef Domain domain = self.domain
        cdef uint8_t left = 0
        cdef int stage
        serve_queue(domain)  # what C code gave back told nobody
        atlas_budget_available(domain.handle, &left)  # before those behind are served
        stage = self.leave(told, STAGE_HELD)
        if stage == STAGE_DISMISSED:
            domain.check()
        if stage == STAGE_WAITING:
            rest = f"after a wait of {self.timeout:.15g} s"
            if left < self.amount:
                raise_error(
                    ATLAS_E_BUDGET,
                    f"amt is {self.amount}, must be in 0..{left}, what is left {rest}",
                )
            raise_error(
                ATLAS_E_BUDGET,
                f"amt is {self.amount}, must not overtake the leases that wait, {rest}",
            )
        return 0

    cdef int leave(self, bint told, int granted) noexcept:
        """Leave the queue, with `granted` as stage of what was granted; return the stage before."""
        cdef int stage
        task = None
        with cython.critical_section(self.domain):
            stage = self.stage
            if STAGE_WAITING <= stage <= STAGE_DISMISSED:
                if stage == STAGE_WAITING:
                    leave_queue(self)
                elif self.bell is not NULL and not told:
                    PyThread_acquire_lock(self.bell, 0)  # rung in the section that set the stage
                task = self.task
                self.task = None
                atlas_stage_set(&self.stage, granted if stage == STAGE_GRANTED else STAGE_FREE)
        del task  # the last reference may run code
        if stage == STAGE_WAITING:
            serve_queue(self.domain)  # the next may want less
        return stage

    cdef void give_up(self, bint told) noexcept:
        """Leave the queue, and give back what was granted meanwhile."""
        if self.leave(told, STAGE_FREE) == STAGE_GRANTED:
            give_back(self.domain, self.amount)

    cdef bint queue_up(self) noexcept:
        """Stand in the queue; return False if the domain is closed."""
        cdef Domain domain = self.domain
        cdef bint closed
        with cython.critical_section(domain):
            forget_queue_of_parent(domain)
            closed = domain.is_closed
            if closed:
                atlas_stage_set(&self.stage, STAGE_FREE)
            else:
                join_queue(self, False)
        if not closed:
            atlas_order()
            serve_queue(domain)
        return not closed


# --- The queue: in critical sections on the domain ---

cdef void join_queue(_Claim claim, bint as_first) noexcept:
    cdef Domain domain = claim.domain
    atlas_stage_set(&claim.stage, STAGE_WAITING)
    claim.ahead = NULL
    if domain.first is None:
        domain.first = claim
        domain.last = <PyObject *>claim
    elif as_first:
        claim.behind = domain.first
        domain.first.ahead = <PyObject *>claim
        domain.first = claim
    else:
        claim.ahead = domain.last
        (<_Claim>domain.last).behind = claim
        domain.last = <PyObject *>claim
    atlas_count_add(&domain.waiting, 1)


cdef void leave_queue(_Claim claim) noexcept:
    """Take a claim out of the queue; the caller has a reference to it."""
    cdef Domain domain = claim.domain
    if domain.first is None:  # the collector cleared the domain, and `ahead` leads nowhere
        return
    if claim.behind is not None:
        claim.behind.ahead = claim.ahead
    else:
        domain.last = claim.ahead
    if claim.ahead is not NULL:
        (<_Claim>claim.ahead).behind = claim.behind
    else:
        domain.first = claim.behind
    claim.ahead = NULL
    claim.behind = None
    atlas_count_add(&domain.waiting, -1)


cdef void forget_queue_of_parent(Domain domain) noexcept:
    """After a fork: nobody in this queue is in this process."""
    cdef _Claim claim
    cdef int pid = getpid()
    if domain.queue_pid == pid:
        return
    domain.queue_pid = pid
    while domain.first is not None:
        claim = domain.first
        leave_queue(claim)
        atlas_stage_set(&claim.stage, STAGE_FREE)


cdef _Claim serve_threads(Domain domain, PyObject **task):
    """Serve the queue as far as the budget goes, or up to a task: return its claim, else None.

    `task` gets a reference to what tells the task.
    """
    cdef _Claim claim = None
    cdef uint8_t left = 0
    with cython.critical_section(domain):
        forget_queue_of_parent(domain)
        while domain.first is not None:
            claim = domain.first
            if not domain.is_closed:
                atlas_budget_available(domain.handle, &left)
                if claim.amount > left:
                    claim = None
                    break
                if not atlas_budget_alloc(domain.handle, claim.amount):
                    continue  # another thread was first
            leave_queue(claim)
            atlas_stage_set(
                &claim.stage, STAGE_DISMISSED if domain.is_closed else STAGE_GRANTED
            )
            if claim.task is not None:
                Py_INCREF(claim.task)
                task[0] = <PyObject *>claim.task
                break
            PyThread_release_lock(claim.bell)
            claim = None
    return claim


# --- The queue: without a critical section ---

cdef void serve_queue(Domain domain) noexcept:
    """Serve the queue, in order of arrival, as far as the budget goes."""
    cdef _Claim claim
    cdef PyObject *found
    cdef bint interrupted = False
    while atlas_count(&domain.waiting) != 0:
        found = NULL
        claim = serve_threads(domain, &found)
        if claim is None:
            if first_is_lost(domain):
                continue
            break
        task = <object>found
        Py_DECREF(task)
        try:
            if not task.tell():
                take_back(claim, task, False)  # its event loop is closed
        except KeyboardInterrupt:
            take_back(claim, task, True)
            interrupted = True
        except BaseException as error:
            take_back(claim, task, True)
            report_unraisable(error)
            break
    if interrupted:
        PyErr_SetInterrupt()  # to be raised where the caller can be interrupted


cdef void forget_parent(Domain domain) noexcept:
    with cython.critical_section(domain):
        forget_queue_of_parent(domain)


cdef void take_back(_Claim claim, object task, bint as_first) noexcept:
    """Undo a grant that the task was not told of, unless it found out by itself."""
    cdef Domain domain = claim.domain
    cdef bint granted = False
    with cython.critical_section(domain):
        if claim.task is task and STAGE_GRANTED <= claim.stage <= STAGE_DISMISSED:
            if claim.stage == STAGE_GRANTED:
                atlas_budget_release(domain.handle, claim.amount)
            if as_first:
                join_queue(claim, True)
            else:
                claim.task = None  # the caller has another reference
                atlas_stage_set(&claim.stage, STAGE_FREE)


cdef bint first_is_lost(Domain domain) noexcept:
    """Put out the first in the queue if it is a task whose event loop is closed; return if so."""
    cdef _Claim claim
    cdef bint lost = False
    task = None
    with cython.critical_section(domain):
        claim = domain.first
        if claim is not None:
            task = claim.task
    if task is None:
        return False
    try:
        lost = task.lost()
    except BaseException as error:
        report_unraisable(error)
    if lost:
        with cython.critical_section(domain):
            if claim.task is task and claim.stage == STAGE_WAITING:
                leave_queue(claim)
                claim.task = None
                atlas_stage_set(&claim.stage, STAGE_FREE)
    return lost


cdef void report_unraisable(object error) noexcept:
    raise error  # no caller can have it, so it goes to sys.unraisablehook


cdef void give_back(Domain domain, uint8_t amount) noexcept:
    """Release an amount that was granted, and serve the queue."""
    atlas_budget_release(domain.handle, amount)
    atlas_order()
    if atlas_count(&domain.waiting) != 0:
        serve_queue(domain)


cdef int must_come_first(Domain domain, int amount) except -1:
    """Raise BudgetError if leases wait that cannot be served now."""
    cdef int waiting
    serve_queue(domain)
    waiting = atlas_count(&domain.waiting)
    if waiting != 0:
        raise_error(
            ATLAS_E_BUDGET,
            f"amt is {amount}, must not overtake the leases that wait ({waiting} of them): wait "
            "behind them by a lease with a timeout",
        )
    return 0
