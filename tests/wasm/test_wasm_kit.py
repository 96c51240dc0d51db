# SPDX-License-Identifier: Apache-2.0
"""The conformance kit on WebAssembly: it passes our modules, and fails each fault in its row.

Run by `make test-wasm`, which makes the modules and has compiler and engine.
"""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import wasmtime

from atlas12288 import conformance
from atlas12288.conformance import CLAUSES, Kind, LoadError, Outcome, Status
from atlas12288.conformance import _kit as kit
from atlas12288.conformance._clauses import BY_ID
from atlas12288.conformance._subjects.library import CONTRACT, Need
from js.wasm import build as wasm_build
from support.c_fixtures import ROOT
from support.commandline import COULD_NOT_CHECK, DOES_NOT_HOLD, HOLDS, run
from support.wrong_implementations import MISTAKES, RUNTIME, SOURCES

OURS = ("atlas12288.wasm", "atlas12288-simd.wasm")
# Of one thread no race can be seen.
OF_THREADS = {fault for fault, row in MISTAKES.items() if BY_ID[row].needs is Need.THREADS}
# A build for one thread may have errors without detail.
OF_DETAIL = {fault for fault, row in MISTAKES.items() if BY_ID[row].needs is Need.DETAILED_ERRORS}
# NULL is an address of the memory like another one: a wrong access to it does not trap.
OF_NULL = {"NULL_CRASHES", "NULL_DESTROY_CRASHES", "NO_MEMORY_CRASHES"}
SHOWN = sorted(MISTAKES.keys() - OF_THREADS - OF_DETAIL - OF_NULL)
ALLOCATOR = ("malloc", "free")

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the module with a fault, or none; once for each."""
    directory = tmp_path_factory.mktemp("faulty")

    def build(fault: str | None, more_exports: Sequence[str] = ALLOCATOR) -> Path:
        module = directory / f"{fault} {' '.join(more_exports)}.wasm"
        if not module.exists():
            missing = MISTAKES["FUNCTION_MISSING"].removeprefix("signature-")
            exports = [name for name in CONTRACT if fault != "FUNCTION_MISSING" or name != missing]
            wasm_build.compile_and_link(
                (*RUNTIME, SOURCES / "faulty.c"),
                (*exports, *more_exports),
                module,
                *("-I", str(SOURCES), "-include", str(SOURCES / "right.h")),
                *([f"-DFAULT_{fault}"] if fault else []),
            )
        return module

    return build


def outcomes(
    module: Path,
    clauses: Sequence[conformance.Clause] = CLAUSES,
    time_limit: float = kit.TIME_LIMIT_S,
) -> dict[str, Outcome]:
    found = kit.run(str(module), clauses, time_limit, Kind.WASM)
    return {outcome.id: outcome for outcome in found}


def by_status(found: dict[str, Outcome], status: Status) -> dict[str, str]:
    """Ids and evidence; without the speeds, which are those of the machine."""
    return {
        id: outcome.evidence
        for id, outcome in found.items()
        if outcome.status is status and not id.startswith("speed-")
    }


NEEDS_THREADS = {clause.id for clause in CLAUSES if clause.needs is Need.THREADS}


def text_module(directory: Path, text: str) -> Path:
    path = directory / "module.wasm"
    path.write_bytes(wasmtime.wat2wasm(text))
    return path


# --- What is right passes ---


@pytest.mark.parametrize("name", OURS)
def test_our_modules_pass_every_clause_that_applies(name: str) -> None:
    done = run("conformance", "--wasm", ROOT / "js" / "lib" / name, "--json")
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    report = json.loads(done.stdout)
    assert (report["kind"], report["holds"], report["error"]) == ("wasm", True, None)
    rows = {row["id"]: row for row in report["clauses"]}
    assert list(rows) == [clause.id for clause in CLAUSES]
    for id, row in rows.items():
        if id in NEEDS_THREADS:
            assert row["status"] == "not applicable", row
            assert "one thread" in row["evidence"]
        elif id == "error-detail":
            assert row["status"] == "not applicable", row
        elif not id.startswith("speed-"):
            assert row["status"] == "pass", row
    assert rows["speed-memcpy"]["status"] == "not applicable"
    assert rows["speed-delta"]["status"] == "pass"
    assert "2 not applicable: thread-commit, thread-budget" in rows["requirement-4"]["evidence"]


def test_the_clauses_of_threads_are_those_that_say_so() -> None:
    threaded = {clause.id for clause in CLAUSES if clause.id.startswith("thread-")}
    assert threaded | {"leak-commits", "leak-threads"} == NEEDS_THREADS


def test_the_module_without_a_fault_passes(build: Build) -> None:
    found = outcomes(build(None))
    assert not by_status(found, Status.FAIL)
    assert by_status(found, Status.NOT_APPLICABLE).keys() == NEEDS_THREADS | {"error-detail"}


def test_a_module_with_the_contracts_functions_alone_passes(build: Build) -> None:
    found = outcomes(build(None, ()))
    assert not by_status(found, Status.FAIL)
    assert by_status(found, Status.NOT_OFFERED).keys() == {
        *("witness-timestamp", "witness-sha256"),
        *("kernel-delta", "kernel-window-check", "kernel-update"),
        "memory-ownership",  # it needs memory of malloc()
    }
    assert by_status(found, Status.NOT_SHOWN).keys() == {"requirement-3"}


def test_the_clock_and_wasi_can_be_imported(tmp_path: Path) -> None:
    module = text_module(
        tmp_path,
        '(module (import "atlas" "now_ns" (func (result i64)))'
        ' (import "wasi_snapshot_preview1" "clock_time_get"'
        " (func (param i32 i64 i32) (result i32)))"
        ' (memory (export "memory") 1)'
        ' (func (export "atlas_domain_verify") (param i32) (result i32) i32.const 0))',
    )
    row = "signature-atlas_domain_verify"
    assert outcomes(module, conformance.with_parts([row]))[row].status is Status.PASS


# --- What is wrong fails ---


@pytest.mark.parametrize("fault", SHOWN)
def test_fault(fault: str, build: Build) -> None:
    row = MISTAKES[fault]
    found = outcomes(build(fault), conformance.with_parts([row]))[row]
    assert found.status is Status.FAIL, found.evidence
    assert not found.evidence.startswith(("the kit itself failed", "not run"))


def test_most_faults_are_shown_and_the_others_are_of_threads_of_detail_and_of_null() -> None:
    assert {
        *("COMMIT_CHECK_THEN_SET", "BUDGET_NOT_ATOMIC", "HASH_STATE_SHARED", "ERROR_SHARED"),
        *("RELEASE_NOT_ATOMIC", "RELEASE_ADDS_THEN_REDUCES", "VERIFY_STATE_SHARED"),
        "LEAK_PER_THREAD",
    } == OF_THREADS
    assert {"ERROR_TEXT_CONSTANT"} == OF_DETAIL
    assert len(SHOWN) == len(MISTAKES) - 12


def test_a_trap_is_a_failed_row_that_names_the_call_and_the_cause(build: Build) -> None:
    rows = conformance.with_parts(["memory-bounds", "error-null"])
    found = outcomes(build("READS_PAST_THE_END"), rows)
    assert found["memory-bounds"].evidence == (
        "trapped in atlas_domain_verify on 1 read-only bytes at the end of readable memory: "
        "wasm trap: out of bounds memory access"
    )
    assert found["error-null"].status is Status.PASS


def test_a_module_that_hangs_is_given_up(build: Build) -> None:
    found = outcomes(build("HANGS"), time_limit=0.5)
    assert found["law-modulus"].evidence == "no answer after 0.5 s in atlas_domain_verify"
    assert found["budget-mod-96"].evidence.startswith("not run: 3 checks")
    assert found["signature-atlas_domain_verify"].status is Status.PASS
    assert found["thread-commit"].status is Status.NOT_APPLICABLE


def test_a_function_of_another_type_fails_and_the_evidence_has_both_types(tmp_path: Path) -> None:
    module = text_module(
        tmp_path,
        '(module (memory (export "memory") 1)'
        ' (func (export "atlas_domain_create") (param i64 i32) (result i32) i32.const 0))',
    )
    row = "signature-atlas_domain_create"
    found = outcomes(module, conformance.with_parts([row]))[row]
    assert found.status is Status.FAIL
    assert "has the type (i64, i32) -> (i32), must have (i32, i32) -> (i32)" in found.evidence


# --- What cannot be judged ---

ONE_FUNCTION = '(func (export "atlas_domain_verify") (param i32) (result i32) i32.const 0)'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"(module {ONE_FUNCTION})", "exports no memory named 'memory'"),
        ('(module (memory (export "memory") i64 1))', "its memory has 64-bit addresses"),
        ('(module (memory (export "memory") 1))', "exports none of the contract's functions"),
        (
            f'(module (memory (export "memory") 1 2) {ONE_FUNCTION})',
            "its memory cannot grow by 4194304 bytes",
        ),
        (
            '(module (memory (export "memory") 1) (func (export "malloc") (param i32) (result i32)'
            f" i32.const 0x7fffffff) {ONE_FUNCTION})",
            r"malloc\(\d+\) gives the address 2147483648, which is not in its memory",
        ),
        (
            '(module (import "env" "now" (func)))',
            r"imports env\.now, must import only atlas\.now_ns and functions of wasi_",
        ),
        (
            '(module (import "atlas" "now_ns" (func (param i32))))',
            "cannot be started: types incompatible: .*i32.*i64",
        ),
        (
            '(module (memory (export "memory") 1) (func (export "_initialize") unreachable))',
            "cannot be started: wasm trap: .*unreachable",
        ),
    ],
)
def test_a_module_that_cannot_be_judged(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=reason):
        outcomes(text_module(tmp_path, text))


def test_a_damaged_module_is_not_judged(tmp_path: Path) -> None:
    module = tmp_path / "damaged.wasm"
    module.write_bytes((ROOT / "js" / "lib" / OURS[0]).read_bytes()[:1000])
    done = run("conformance", "--wasm", module, "--json")
    assert done.returncode == COULD_NOT_CHECK
    assert json.loads(done.stdout)["error"].startswith("is not a WebAssembly module that wasmtime")
    assert done.stderr.count(b"\n") == 1


def test_a_module_that_crashes_at_its_start_is_not_judged(build: Build) -> None:
    with pytest.raises(LoadError, match="cannot be started"):
        outcomes(build("CRASHES_AT_LOAD"))


# --- The command line ---


def test_command_fails_a_fault(build: Build, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    chosen = ("--clause", "requirement-2", "--clause", "requirement-4")
    done = run("conformance", "--wasm", build("BUDGET_CLAMPS"), "--junit", report, *chosen)
    text = done.stdout.decode()
    assert done.returncode == DOES_NOT_HOLD
    assert text.startswith("wasm: ")
    assert "not conformant: " in text
    suite = ET.parse(report).getroot()
    broken = {
        case.attrib["name"] for case in suite.iter("testcase") if case.find("failure") is not None
    }
    assert broken == {"budget-mod-96", "budget-range", "requirement-2"}
    skipped = {
        case.attrib["name"] for case in suite.iter("testcase") if case.find("skipped") is not None
    }
    assert skipped == {"thread-commit", "thread-budget"}
