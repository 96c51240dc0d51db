# SPDX-License-Identifier: Apache-2.0
# Leases: what a thread or a task holds of a budget, or waits for in budget_queue.pxi.

@cython.final
@cython.no_gc_clear  # see _Claim
cdef class Lease(_Claim):
    """The context manager of `Budget.lease`. It can be entered again, but not while it is held."""

    def __cinit__(self, Domain domain=None, amt=0, timeout=0):
        if domain is None:
            raise not_made("Lease", "Budget.lease()")
        self.fill(domain, amt, timeout)

    def __init__(self, *args, **kwargs):
        raise not_made("Lease", "Budget.lease()")

    @property
    def amt(self):
        """Amount that the lease takes, in 0..95."""
        return self.amount

    def __enter__(self):
        if not self.take():
            self.wait()
        return self

    def __exit__(self, exc_type, exc, traceback):
        self.give()

    cdef int wait(self) except -1:
        """Wait in the queue, without the GIL; signal handlers run meanwhile."""
        cdef uint64_t now = monotonic_ns()
        cdef uint64_t end = UINT64_MAX
        cdef long long microseconds
        cdef int heard = PY_LOCK_INTR
        if self.timeout != WITHOUT_END:
            end = now + <uint64_t>(self.timeout * 1e9)
        if self.bell is NULL:
            self.bell = PyThread_allocate_lock()
            if self.bell is NULL:
                atlas_stage_set(&self.stage, STAGE_FREE)
                raise MemoryError
            PyThread_acquire_lock(self.bell, 0)
        if not self.queue_up():
            self.domain.check()
        while now < end:
            # At most 11 days at once, which no kind of lock has trouble with.
            microseconds = <long long>min((end - now) // 1000 + 1, <uint64_t>1_000_000_000_000)
            with nogil:
                heard = PyThread_acquire_lock_timed(self.bell, microseconds, 1)
            if heard == PY_LOCK_ACQUIRED:
                break
            if heard == PY_LOCK_INTR:
                try:
                    PyErr_CheckSignals()
                except BaseException:
                    self.give_up(False)
                    raise
            now = monotonic_ns()
        self.settle(heard == PY_LOCK_ACQUIRED)
        return 0


cdef object task_functions = None
cdef object task_module = None


def register_tasks(functions, /):
    """Wait in tasks by `functions`: a callable that returns a module, _tasks.py."""
    global task_functions
    task_functions = functions


cdef object in_tasks():
    global task_module
    if task_module is None:
        task_module = task_functions()
    return task_module


@cython.final
@cython.no_gc_clear  # see _Claim
cdef class AsyncLease(_Claim):
    """The async context manager of `Budget.lease_async`. It can be entered again, but not while it
    is held.
    """

    def __cinit__(self, Domain domain=None, amt=0, timeout=0):
        if domain is None:
            raise not_made("AsyncLease", "Budget.lease_async()")
        self.fill(domain, amt, timeout)

    def __init__(self, *args, **kwargs):
        raise not_made("AsyncLease", "Budget.lease_async()")

    @property
    def amt(self):
        """Amount that the lease takes, in 0..95."""
        return self.amount

    def __aenter__(self):
        return in_tasks().enter(self)

    def __aexit__(self, exc_type, exc, traceback):
        self.give()  # at once, and not when somebody awaits it
        return in_tasks().left()

    # What _tasks.enter needs.

    @property
    def _timeout(self):
        return None if self.timeout == WITHOUT_END else self.timeout

    def _take(self):
        """Take the amount at once and return True, or return False if this may wait for it."""
        return self.take()

    def _wait(self, task, /):
        """Stand in the queue; `task` tells when this is over."""
        if atlas_stage(&self.stage) != STAGE_ENTERING:
            raise_error(ATLAS_E_STATE, "the lease is not entered, must be before it waits")
        self.task = task
        if not self.queue_up():
            self.task = None
            self.domain.check()

    def _waits(self):
        """Return whether this is still in the queue."""
        return atlas_stage(&self.stage) == STAGE_WAITING

    def _settle(self):
        """End the wait: hold what was granted, raise BudgetError or StateError where nothing was.
        """
        self.settle(False)

    def _give_up(self):
        """Leave the queue, and give back what was granted meanwhile, or is held."""
        atlas_stage_change(&self.stage, STAGE_ENTERING, STAGE_FREE)
        self.give_up(False)
        self.give()
