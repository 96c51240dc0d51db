# SPDX-License-Identifier: Apache-2.0
"""Commit, attach and budget over all interleavings of three and four threads.

Twice: a model of it, by state, and the compiled C code, by schedule. In every state the rules of
runtime_steps.py hold, and every schedule ends as some order of whole operations ends. Each faulty
variant breaks a rule, and the test names it. Figures: pytest -rP.
"""

import inspect
import platform
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kernelgen import emit
from support import runtime_steps as steps
from support.c_fixtures import ALLOCATORS, C_PROGRAMS, ROOT, CInstall, run
from support.interleavings import BrokenRuleError, Exploration, Results, explore
from support.model import MODULUS
from support.runtime_steps import REGIONS, Domain, Run, Runtime
from support.shared import made_once
from support.slow import slow_but

RUNTIME = ROOT / "runtime"

Call = tuple[str | int | None, ...]
ATTACH_A, ATTACH_B = (("attach", *region) for region in REGIONS)
COMMIT, VERIFY, STATE, WITNESS = (("commit",), ("verify",), ("state",), ("witness",))
AVAILABLE = ("available",)


def alloc(amt: int) -> Call:
    return "alloc", amt


def release(amt: int) -> Call:
    return "release", amt


@dataclass(frozen=True)
class Scenario:
    """threads: what each one calls, one after the other."""

    start: Domain
    threads: tuple[tuple[Call, ...], ...]

    def outcomes(
        self, runtime: Runtime, allowed: frozenset[Hashable] | None
    ) -> Exploration[Domain]:
        """All interleavings; with `allowed`, each must end as one of them."""

        def thread(number: int, calls: tuple[Call, ...]) -> Run:
            results = []
            for name, *arguments in calls:
                results.append((yield from getattr(runtime, str(name))(number, *arguments)))
            return tuple(results)

        def start(number: int, calls: tuple[Call, ...]) -> Callable[[], Run]:
            return lambda: thread(number, calls)

        def check_end(domain: Domain, results: Results) -> None:
            steps.check_end(domain)
            ending = steps.observable(domain), results
            if allowed is not None and ending not in allowed:
                raise BrokenRuleError(f"no order of whole operations ends like this: {ending}")

        threads = [start(number, calls) for number, calls in enumerate(self.threads)]
        return explore(self.start, threads, steps.check_step, check_end)

    def explore(self, runtime: Runtime) -> Exploration[Domain]:
        whole = self.outcomes(steps.Contract(), None).outcomes
        allowed = frozenset((steps.observable(domain), results) for domain, results in whole)
        return self.outcomes(runtime, allowed)


ATTACHED = Domain(base=REGIONS[0][0], len=REGIONS[0][1])
SCENARIOS = {
    "three commits": Scenario(ATTACHED, ((COMMIT,), (COMMIT, VERIFY), (COMMIT, WITNESS))),
    "three commits, seen by a fourth thread": Scenario(
        ATTACHED, ((COMMIT,), (COMMIT,), (COMMIT,), (STATE, WITNESS, STATE))
    ),
    "two attaches, seen by a third thread": Scenario(
        Domain(), ((ATTACH_A, VERIFY), (ATTACH_B, VERIFY), (VERIFY, VERIFY))
    ),
    "attaches and commits": Scenario(
        Domain(), ((ATTACH_A, COMMIT), (ATTACH_B, COMMIT), (COMMIT, WITNESS))
    ),
    "a budget for two of three": Scenario(
        Domain(budget=50), ((alloc(30), release(30)), (alloc(20), release(20)), (alloc(25),))
    ),
    "a budget that wraps": Scenario(
        Domain(budget=90), ((release(10), alloc(5)), (alloc(90), release(95)), (release(95),))
    ),
    "a budget, seen by a fourth thread": Scenario(
        Domain(budget=1), ((alloc(1),), (release(1),), (alloc(2),), (AVAILABLE, AVAILABLE))
    ),
    "everything on one domain": Scenario(
        Domain(budget=10), ((ATTACH_A, COMMIT, alloc(7)), (ATTACH_B, COMMIT), (alloc(7), STATE))
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_interleaving_keeps_the_rules(name: str) -> None:
    found = SCENARIOS[name].explore(Runtime())
    assert len(found.outcomes) > 1  # the threads did meet
    print(f"{name}: {found.schedules:,} interleavings, {found.states:,} states")


@pytest.mark.parametrize("start", slow_but([0, 47], [0, 1, 47, 95]))
@pytest.mark.parametrize("amts", [(1, 1, 1), (48, 48, 48), (95, 95, 95), (0, 1, 95)])
def test_the_budget_is_the_first_one_less_allocs_plus_releases(
    start: int, amts: tuple[int, int, int]
) -> None:
    threads = tuple((alloc(amt), release((amt + 7) % MODULUS)) for amt in amts)
    scenario = Scenario(Domain(budget=start), threads)
    for domain, results in scenario.explore(Runtime()).outcomes:
        allocs = [result[0] for result in results]
        taken = sum(amt for amt, result in zip(amts, allocs, strict=True) if result == steps.OK)
        returned = sum((amt + 7) % MODULUS for amt in amts)
        assert domain.budget == (start - taken + returned) % MODULUS


# --- Faulty variants -----------------------------------------------------------------------------


class CommitByCheckThenSet(Runtime):
    def commit(self, thread: int) -> Run:
        base, length = yield from self.attached()
        if (yield steps.load("witness")) is not None:
            return steps.IS_COMMITTED
        witness = yield steps.keep(thread, steps.measured(base, length))
        yield steps.store("witness", witness)
        return steps.OK


class CommitThatLostSucceeds(Runtime):
    def commit(self, thread: int) -> Run:
        result = yield from super().commit(thread)
        return steps.OK if result == steps.IS_COMMITTED else result


class CommitByFlagThenWitness(Runtime):
    """COMMITTED for a moment without a witness."""

    def commit(self, thread: int) -> Run:
        base, length = yield from self.attached()
        won, _ = yield steps.exchange("flag", False, True)
        if not won:
            return steps.IS_COMMITTED
        yield steps.store("witness", (yield steps.keep(thread, steps.measured(base, length))))
        return steps.OK

    def state(self, thread: int) -> Run:
        return steps.IS_COMMITTED if (yield steps.load("flag")) else steps.IS_OPEN


class CommitBeforeTheWitnessIsFilled(Runtime):
    def commit(self, thread: int) -> Run:
        base, length = yield from self.attached()
        witness = yield steps.keep(thread, None)
        won, _ = yield steps.exchange("witness", None, witness)
        if not won:
            yield steps.free(witness)
            return steps.IS_COMMITTED
        yield steps.fill(witness, steps.measured(base, length))
        return steps.OK


class LoserLeaks(Runtime):
    def commit(self, thread: int) -> Run:
        base, length = yield from self.attached()
        witness = yield steps.keep(thread, steps.measured(base, length))
        won, _ = yield steps.exchange("witness", None, witness)
        return steps.OK if won else steps.IS_COMMITTED


class LoserFreesTheWinners(Runtime):
    def commit(self, thread: int) -> Run:
        base, length = yield from self.attached()
        witness = yield steps.keep(thread, steps.measured(base, length))
        won, found = yield steps.exchange("witness", None, witness)
        if not won:
            yield steps.free(found)
            return steps.IS_COMMITTED
        return steps.OK


class LoserFreesTwice(Runtime):
    def commit(self, thread: int) -> Run:
        base, length = yield from self.attached()
        witness = yield steps.keep(thread, steps.measured(base, length))
        won, _ = yield steps.exchange("witness", None, witness)
        if not won:
            yield steps.free(witness)
            yield steps.free(witness)
            return steps.IS_COMMITTED
        return steps.OK


class AttachPublishesLenBeforeBase(Runtime):
    def attach(self, thread: int, base: str, length: int) -> Run:
        claimed, _ = yield steps.exchange("len", 0, length)
        if not claimed:
            return steps.HAS_REGION
        yield steps.store("base", base)
        return steps.OK


class AttachByCheckThenSet(Runtime):
    def attach(self, thread: int, base: str, length: int) -> Run:
        if (yield steps.load("base")) is not None:
            return steps.HAS_REGION
        yield steps.store("base", base)
        yield steps.store("len", length)
        return steps.OK


class ReadsBaseBeforeLen(Runtime):
    def attached(self) -> Run:
        base = yield steps.load("base")
        length = yield steps.load("len")
        return base, length


class AllocByLoadThenStore(Runtime):
    def alloc(self, thread: int, amt: int) -> Run:
        budget = yield steps.load("budget")
        if amt > budget:
            return steps.REFUSED
        yield steps.store("budget", budget - amt)
        return steps.OK


class ReleaseByLoadThenStore(Runtime):
    def release(self, thread: int, amt: int) -> Run:
        budget = yield steps.load("budget")
        yield steps.store("budget", (budget + amt) % MODULUS)
        return steps.OK


class AllocChecksOnce(Runtime):
    """Not again after another thread was first."""

    def alloc(self, thread: int, amt: int) -> Run:
        budget = yield steps.load("budget")
        if amt > budget:
            return steps.REFUSED
        while True:
            done, budget = yield steps.exchange("budget", budget, budget - amt)
            if done:
                return steps.OK


class AllocRefusesAfterALostRace(Runtime):
    def alloc(self, thread: int, amt: int) -> Run:
        budget = yield steps.load("budget")
        if amt > budget:
            return steps.REFUSED
        done, _ = yield steps.exchange("budget", budget, budget - amt)
        return steps.OK if done else steps.REFUSED


class AllocTakesThenRepairs(Runtime):
    def alloc(self, thread: int, amt: int) -> Run:
        if (yield steps.add("budget", -amt)) >= amt:
            return steps.OK
        yield steps.add("budget", amt)
        return steps.REFUSED


class ReleaseAddsThenReduces(Runtime):
    def release(self, thread: int, amt: int) -> Run:
        if (yield steps.add("budget", amt)) + amt >= MODULUS:
            yield steps.add("budget", -MODULUS)
        return steps.OK


NO_ORDER = "no order of whole operations"
FAULTS: list[tuple[type[Runtime], str, str]] = [
    (CommitByCheckThenSet, "three commits", "the witness changes after the commit"),
    (CommitThatLostSucceeds, "three commits", NO_ORDER),
    (CommitByFlagThenWitness, "three commits, seen by a fourth thread", NO_ORDER),
    (CommitBeforeTheWitnessIsFilled, "three commits", "published before it records"),
    (LoserLeaks, "three commits", "never freed"),
    (LoserFreesTheWinners, "three commits", "the witness of the domain is freed"),
    (LoserFreesTwice, "three commits", "freed twice"),
    (AttachPublishesLenBeforeBase, "two attaches, seen by a third thread", "published as"),
    (AttachByCheckThenSet, "two attaches, seen by a third thread", "region"),
    (ReadsBaseBeforeLen, "two attaches, seen by a third thread", "no region was attached as"),
    (AllocByLoadThenStore, "a budget for two of three", NO_ORDER),
    (ReleaseByLoadThenStore, "a budget for two of three", NO_ORDER),
    (AllocChecksOnce, "a budget for two of three", "must be in 0..95"),
    (AllocRefusesAfterALostRace, "a budget for two of three", NO_ORDER),
    (AllocTakesThenRepairs, "a budget for two of three", "must be in 0..95"),
    (ReleaseAddsThenReduces, "a budget that wraps", "must be in 0..95"),
]


@pytest.mark.parametrize(
    ("fault", "scenario", "rule"), FAULTS, ids=[fault.__name__ for fault, *_ in FAULTS]
)
def test_a_faulty_variant_is_caught(fault: type[Runtime], scenario: str, rule: str) -> None:
    with pytest.raises(BrokenRuleError, match=rule) as caught:
        SCENARIOS[scenario].explore(fault())
    print(caught.value)


# --- The steps are those of the C code -----------------------------------------------------------

C_FUNCTIONS: dict[str, Callable[..., Run]] = {
    "atlas_domain_attach": Runtime.attach,
    "attached": Runtime.attached,
    "verify": Runtime.verify,
    "commit": Runtime.commit,
    "atlas_domain_state": Runtime.state,
    "atlas_domain_witness": Runtime.witness,
    "atlas_budget_alloc": Runtime.alloc,
    "atlas_budget_release": Runtime.release,
    "atlas_budget_available": Runtime.available,
}
ALONE = {"atlas_domain_create", "atlas_domain_destroy"}  # no other thread has the domain then


def test_the_steps_are_the_atomic_accesses_of_the_c_code() -> None:
    source = "".join((RUNTIME / f"{name}.c").read_text() for name in ("domain", "budget"))
    functions = re.findall(r"^[\w* ]+?\b(\w+)\([^;{}]*\)\n\{\n(.*?)^\}", source, re.M | re.S)
    access = r"atlas_atomic_(\w+)\(&domain->(\w+)|\b(attached)\("
    in_c = {name: re.findall(access, body) for name, body in functions}
    assert {name for name, found in in_c.items() if found} == set(C_FUNCTIONS) | ALONE
    for name, function in C_FUNCTIONS.items():
        step = r"yield (load|store|exchange)\(\"(\w+)\"|\bself\.(attached)\("
        assert re.findall(step, inspect.getsource(function)) == in_c[name], name


# --- The compiled C code -------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["whole", "torn"])
def c_interleavings(
    request: pytest.FixtureRequest, c_install: CInstall, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bool]:
    """tests/c/interleavings.c, and whether an exchange is check-then-set in it."""
    torn = request.param == "torn"

    def build(folder: Path) -> None:
        (folder / "atlas_kernels.h").write_text(emit.header(platform.machine()))
        includes = [f"-I{at}" for at in (C_PROGRAMS / "scheduled", RUNTIME, folder)]
        defines = ['-DATLAS_VERSION="0.0.0"', *(["-DTORN_EXCHANGE"] if torn else [])]
        # The runtime's sources come before the library, which gives the kernels alone.
        options: list[str | Path] = [
            *includes,
            *defines,
            "-Wno-keyword-macro",
            ALLOCATORS,
            *RUNTIME.glob("*.c"),
        ]
        c_install.compile_static(folder / "program", C_PROGRAMS / "interleavings.c", *options)

    folder = made_once(tmp_path_factory, f"interleavings-{request.param}", build)
    return folder / "program", torn


@pytest.mark.parametrize("case", slow_but(["commit", "attach"], ["commit", "attach", "budget"]))
def test_every_schedule_of_the_c_code(case: str, c_interleavings: tuple[Path, bool]) -> None:
    program, torn = c_interleavings
    if torn:
        with pytest.raises(AssertionError, match=f"case {case} .*must hold"):
            run(program, case)
    else:
        print(run(program, case))
