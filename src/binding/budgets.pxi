# SPDX-License-Identifier: Apache-2.0
# Budgets of domains.

@cython.final
@cython.no_gc_clear  # never without its domain, through which every cycle goes
cdef class Budget:
    """The budget of a domain, an integer in 0..95; got from `Domain.budget`. Thread-safe.

    Leases may wait for it; they are served in order of arrival. While one waits, a call that would
    take from the budget at once raises BudgetError, even for an amount of 0.

    Contract: Budget Operations.
    """

    cdef Domain domain

    def __cinit__(self, Domain domain=None):
        if domain is None:
            raise not_made("Budget", "Domain.budget")
        self.domain = domain

    def __init__(self, *args, **kwargs):
        raise not_made("Budget", "Domain.budget")

    @property
    def available(self):
        """Budget left, in 0..95. Raises StateError when the domain is closed."""
        cdef uint8_t left = 0
        self.domain.check()
        atlas_budget_available(self.domain.handle, &left)
        return left

    @property
    def waiting(self):
        """Number of leases that wait. Raises StateError when the domain is closed."""
        self.domain.check()
        forget_parent(self.domain)
        return atlas_count(&self.domain.waiting)

    def alloc(self, amt, /):
        """Take `amt` from the budget.

        Raises BudgetError where `amt` is larger than the budget left, or not in 0..95, or a lease
        waits; then the budget is unchanged. TypeError where it is not an int. StateError when the
        domain is closed.
        """
        self.domain.check()
        cdef int amount = byte_of(amt, "amt", ATLAS_MODULUS - 1, ATLAS_E_BUDGET)
        if atlas_count(&self.domain.waiting) != 0:
            must_come_first(self.domain, amount)
        if not atlas_budget_alloc(self.domain.handle, <uint8_t>amount):
            raise_last_error()

    def release(self, amt, /):
        """Give `amt` back: the budget becomes (budget + amt) mod 96. Leases that wait are served.

        Raises BudgetError where `amt` is not in 0..95; then the budget is unchanged. TypeError
        where it is not an int. StateError when the domain is closed.
        """
        self.domain.check()
        cdef int amount = byte_of(amt, "amt", ATLAS_MODULUS - 1, ATLAS_E_BUDGET)
        if not atlas_budget_release(self.domain.handle, <uint8_t>amount):
            raise_last_error()
        atlas_order()
        if atlas_count(&self.domain.waiting) != 0:
            serve_queue(self.domain)

    def lease(self, amt, /, timeout=0):
        """Return a context manager that takes `amt` on entry and gives exactly that back on exit.

        Where less than `amt` is left or others wait, each entry waits for `timeout` seconds, or
        without end if that is None. Leases that wait are served in order of arrival. Ctrl-C ends a
        wait, and so does closing the domain, by StateError.

        Raises BudgetError if `amt` is not in 0..95, and on entry if it cannot have `amt` in time;
        StateError when the domain is closed; TypeError or ValueError if `timeout` is neither None
        nor a number in 0..threading.TIMEOUT_MAX.
        """
        self.domain.check()
        return Lease.__new__(Lease, self.domain, amt, timeout)

    def lease_async(self, amt, /, timeout=None):
        """Return an async context manager that is to a task what `lease` is to a thread.

        For tasks of asyncio and Trio, and so of AnyIO; threads and tasks wait in the same queue. A
        task that is cancelled while it waits takes nothing, even if its turn comes at that moment.
        Where the amount is there, an entry does not pause. The end of a lease may be in any thread.

        Raises what `lease` raises, and RuntimeError where an entry would wait outside a task.
        """
        self.domain.check()
        return AsyncLease.__new__(AsyncLease, self.domain, amt, timeout)
