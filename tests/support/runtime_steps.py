# SPDX-License-Identifier: Apache-2.0
"""runtime/domain.c and runtime/budget.c, each atomic access one step, and what must hold.

Threads see each other's steps in one order here. That the orders of the accesses in C are strong
enough for that is the thread sanitizer's part.
"""

from collections.abc import Generator, Hashable
from typing import Any, NamedTuple

from support.interleavings import BrokenRuleError, Step
from support.model import MODULUS

Contents = tuple[str | None, int]
REGIONS: tuple[Contents, ...] = (("region a", 100), ("region b", 200))

OK, REFUSED = "ok", "budget error"
NO_REGION, HAS_REGION, IS_COMMITTED, IS_OPEN = (
    f"state error: {why}" for why in ("no region", "has a region", "is committed", "is open")
)


class Domain(NamedTuple):
    """A domain, and the witnesses on the heap: (name, what it records), in order of creation."""

    base: str | None = None
    len: int = 0
    witness: str | None = None
    budget: int = 0
    flag: bool = False  # of a faulty variant
    heap: tuple[tuple[str, Contents | None], ...] = ()
    freed: frozenset[str] = frozenset()


Run = Generator[Step[Domain], Any, Any]


# --- Steps ---------------------------------------------------------------------------------------


def load(field: str) -> Step[Domain]:
    return Step(f"load {field}", lambda domain: (domain, getattr(domain, field)))


def store(field: str, value: Any) -> Step[Domain]:
    return Step(f"{field} = {value}", lambda domain: (domain._replace(**{field: value}), None))


def exchange(field: str, expected: Hashable, desired: Any) -> Step[Domain]:
    """Compare-and-swap: whether it happened, and what was there."""

    def run(domain: Domain) -> tuple[Domain, Hashable]:
        found = getattr(domain, field)
        if found != expected:
            return domain, (False, found)
        return domain._replace(**{field: desired}), (True, found)

    return Step(f"exchange {field}: {expected} for {desired}", run)


def add(field: str, amount: int) -> Step[Domain]:
    """Fetch-and-add, as faulty variants use it: what was there."""

    def run(domain: Domain) -> tuple[Domain, Hashable]:
        found = getattr(domain, field)
        return domain._replace(**{field: found + amount}), found

    return Step(f"{field} += {amount}", run)


def keep(thread: int, contents: Contents | None) -> Step[Domain]:
    """A witness on the heap; its name says who made it."""

    def run(domain: Domain) -> tuple[Domain, Hashable]:
        mine = sum(name.startswith(f"witness {thread}.") for name, _ in domain.heap)
        name = f"witness {thread}.{mine}"
        heap = tuple(sorted((*domain.heap, (name, contents))))
        return domain._replace(heap=heap), name

    return Step(f"a witness of {contents}", run)


def fill(witness: str, contents: Contents) -> Step[Domain]:
    def run(domain: Domain) -> tuple[Domain, Hashable]:
        return domain._replace(heap=tuple({**dict(domain.heap), witness: contents}.items())), None

    return Step(f"fill {witness}", run)


def free(witness: str) -> Step[Domain]:
    def run(domain: Domain) -> tuple[Domain, Hashable]:
        if witness in domain.freed:
            raise BrokenRuleError(f"{witness} is freed twice")
        return domain._replace(freed=domain.freed | {witness}), None

    return Step(f"free {witness}", run)


def read(witness: str) -> Step[Domain]:
    """What the witness records."""

    def run(domain: Domain) -> tuple[Domain, Hashable]:
        if witness in domain.freed:
            raise BrokenRuleError(f"{witness} is read after it was freed")
        return domain, dict(domain.heap)[witness]

    return Step(f"read {witness}", run)


def measured(base: str | None, length: int) -> Contents:
    """Touches the region, which must be one that exists."""
    if (base, length) not in REGIONS:
        raise BrokenRuleError(f"no region was attached as ({base}, {length})")
    return base, length


# --- The runtime ---------------------------------------------------------------------------------


class Runtime:
    """Each method is the C function of its name; the first argument is the thread's number."""

    def attach(self, thread: int, base: str, length: int) -> Run:
        if (yield load("witness")) is not None:
            return IS_COMMITTED
        claimed, _ = yield exchange("base", None, base)
        if not claimed:
            return HAS_REGION
        yield store("len", length)
        return OK

    def attached(self) -> Run:
        length = yield load("len")
        base = yield load("base")
        return base, length

    def verify(self, thread: int) -> Run:
        base, length = yield from self.attached()
        if length == 0:
            return NO_REGION
        witness = yield load("witness")
        found = measured(base, length)
        if witness is not None and (yield read(witness)) != found:
            return "witness error"
        return OK

    def commit(self, thread: int) -> Run:
        base, length = yield from self.attached()
        if length == 0:
            return NO_REGION
        if (yield load("witness")) is not None:
            return IS_COMMITTED
        witness = yield keep(thread, measured(base, length))
        committed, _ = yield exchange("witness", None, witness)
        if not committed:
            yield free(witness)
            return IS_COMMITTED
        return OK

    def state(self, thread: int) -> Run:
        return IS_OPEN if (yield load("witness")) is None else IS_COMMITTED

    def witness(self, thread: int) -> Run:
        """What the domain's witness records, as its caller reads it."""
        witness = yield load("witness")
        return IS_OPEN if witness is None else (yield read(witness))

    def alloc(self, thread: int, amt: int) -> Run:
        budget = yield load("budget")
        while True:
            if amt > budget:
                return REFUSED
            done, budget = yield exchange("budget", budget, budget - amt)
            if done:
                return OK

    def release(self, thread: int, amt: int) -> Run:
        budget = yield load("budget")
        while True:
            done, budget = yield exchange("budget", budget, (budget + amt) % MODULUS)
            if done:
                return OK

    def available(self, thread: int) -> Run:
        return (yield load("budget"))


class Contract(Runtime):
    """The same functions as the contract has them: each one step. Attach alone has two, claim and
    publish: in between a second attach is refused, and there is no region yet."""

    def commit(self, thread: int) -> Run:
        def run(domain: Domain) -> tuple[Domain, Hashable]:
            if domain.len == 0:
                return domain, NO_REGION
            if domain.witness is not None:
                return domain, IS_COMMITTED
            name = f"witness {thread}"
            heap = ((name, (domain.base, domain.len)),)
            return domain._replace(witness=name, heap=heap), OK

        return (yield Step("commit", run))

    def verify(self, thread: int) -> Run:
        return NO_REGION if (yield load("len")) == 0 else OK

    def witness(self, thread: int) -> Run:
        def run(domain: Domain) -> tuple[Domain, Hashable]:
            return domain, IS_OPEN if domain.witness is None else dict(domain.heap)[domain.witness]

        return (yield Step("witness", run))

    def alloc(self, thread: int, amt: int) -> Run:
        def run(domain: Domain) -> tuple[Domain, Hashable]:
            if amt > domain.budget:
                return domain, REFUSED
            return domain._replace(budget=domain.budget - amt), OK

        return (yield Step("alloc", run))

    def release(self, thread: int, amt: int) -> Run:
        def run(domain: Domain) -> tuple[Domain, Hashable]:
            return domain._replace(budget=(domain.budget + amt) % MODULUS), OK

        return (yield Step("release", run))


# --- What must hold ------------------------------------------------------------------------------


def check_step(before: Domain, after: Domain) -> None:
    if not 0 <= after.budget < MODULUS:
        raise BrokenRuleError(f"the budget is {after.budget}, must be in 0..{MODULUS - 1}")
    if after.len != 0 and (after.base, after.len) not in REGIONS:
        raise BrokenRuleError(f"the region is published as ({after.base}, {after.len})")
    if before.len != 0 and (before.base, before.len) != (after.base, after.len):
        raise BrokenRuleError("the region changes after it was published")
    if before.witness is not None and before.witness != after.witness:
        raise BrokenRuleError("the witness changes after the commit")
    if after.witness is not None:
        if after.witness in after.freed:
            raise BrokenRuleError("the witness of the domain is freed")
        if dict(after.heap)[after.witness] != (after.base, after.len):
            raise BrokenRuleError("the witness is published before it records the region")


def check_end(domain: Domain) -> None:
    """After all threads; destroy frees the witness of the domain, and that must be the last one."""
    lost = {name for name, _ in domain.heap} - domain.freed - {domain.witness}
    if lost:
        raise BrokenRuleError(f"never freed: {sorted(lost)}")


def observable(domain: Domain) -> Hashable:
    """What a caller can see of the domain at the end."""
    witness = None if domain.witness is None else dict(domain.heap)[domain.witness]
    return domain.base, domain.len, domain.budget, witness
