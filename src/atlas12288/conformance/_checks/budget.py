# SPDX-License-Identifier: Apache-2.0
"""Checks of budgets through alloc and release: the contract has no function that reads one."""

import random

from .._numbers import MODULUS
from .._outcome import require
from .._subjects.library import E_BUDGET, Library


def initial(library: Library) -> str:
    for budget_class in range(MODULUS):
        domain = library.new_domain(96, budget_class)
        found = library.drain(domain)
        require(
            found == budget_class,
            f"{found} can be taken from a new domain of budget class {budget_class}",
        )
        library.destroy(domain)
    return "budget classes 0 to 95: exactly that much can be taken"


def in_range(library: Library) -> str:
    for budget_class in range(MODULUS, 256):  # the contract allows refusing or reducing it
        domain = library.create(96, budget_class)
        if domain is not None:
            found = library.drain(domain)
            require(
                found < MODULUS,
                f"a domain of budget class {budget_class} has a budget of {found}, must be in "
                "0..95",
            )
            library.destroy(domain)
    steps = 2000
    chance = random.Random(steps)
    budget = 0
    domain = library.new_domain(96, budget)
    for step in range(steps):
        amount = chance.randrange(1, MODULUS)
        if chance.random() < 0.5:
            taken = library.alloc(domain, amount)
            require(
                taken == (amount <= budget),
                f"step {step}: taking {amount} from a budget of {budget} is {taken}".lower(),
            )
            budget -= amount if taken else 0
        else:
            given = library.release(domain, amount)
            require(given, f"step {step}: giving back {amount} to a budget of {budget} is false")
            budget = (budget + amount) % MODULUS
    found = library.drain(domain)
    require(found == budget, f"after {steps} steps the budget is {found}, must be {budget}")
    library.destroy(domain)
    return f"{steps} random steps: the budget equals the expected integer in 0..95"


def enough(library: Library) -> str:
    for budget in range(MODULUS):
        for amount in range(1, budget + 1):
            domain = library.new_domain(96, budget)
            require(
                library.alloc(domain, amount),
                f"taking {amount} from a budget of {budget} is false, must be true",
            )
            left = library.drain(domain)
            require(
                left == budget - amount,
                f"a budget of {budget} minus {amount} is {left}, must be {budget - amount}",
            )
            library.destroy(domain)
    return "every amount that a budget has can be taken, and the rest remains"


def insufficient(library: Library) -> str:
    for budget in range(MODULUS):
        domain = library.new_domain(96, budget)
        for amount in range(budget + 1, MODULUS):
            require(
                not library.alloc(domain, amount),
                f"taking {amount} from a budget of {budget} is true, must be false",
            )
        left = library.drain(domain)
        require(left == budget, f"refused amounts changed a budget of {budget} to {left}")
        library.destroy(domain)
    return "every amount up to 95 that a budget does not have is refused, and nothing changes"


def wraps(library: Library) -> str:
    for budget in range(MODULUS):
        for amount in range(1, MODULUS):
            domain = library.new_domain(96, budget)
            require(
                library.release(domain, amount),
                f"giving {amount} back to a budget of {budget} is false, must be true",
            )
            expected = (budget + amount) % MODULUS
            found = library.drain(domain)
            require(
                found == expected,
                f"a budget of {budget} plus {amount} given back is {found}, must be {expected} "
                f"(mod {MODULUS})",
            )
            library.destroy(domain)
    return "giving 1 to 95 back to each budget gives the sum mod 96"


def too_large(library: Library) -> str:
    refused = 0
    for budget in (0, 1, 50, 95):
        for amount in range(MODULUS, 256):
            domain = library.new_domain(96, budget)
            require(
                not library.alloc(domain, amount),
                f"taking {amount} from a budget of {budget} is true, must be false",
            )
            # The contract allows both: refuse it, or add it mod 96.
            given = library.release(domain, amount)
            refused += not given
            expected = (budget + amount) % MODULUS if given else budget
            found = library.drain(domain)
            require(
                found == expected,
                f"giving {amount} back to a budget of {budget} is {given} and leaves {found}, must "
                f"leave {expected}",
            )
            library.destroy(domain)
    release = "refused" if refused else "added mod 96"
    return f"amounts of 96 to 255 are never taken; given back, they are {release}"


def code_budget(library: Library) -> str:
    library.alloc(library.new_domain(96, 5), 6)
    return library.refused(E_BUDGET, "taking 6 from a budget of 5")


def example_budget(library: Library) -> str:
    domain = library.new_domain(12288, 50)
    require(library.alloc(domain, 10), "taking 10 from 50 is false")
    require(library.release(domain, 5), "giving 5 back is false")
    left = library.drain(domain)
    require(left == 45, f"50 - 10 + 5 is {left}, must be 45")
    library.destroy(domain)
    return "50 - 10 + 5 leaves 45"
