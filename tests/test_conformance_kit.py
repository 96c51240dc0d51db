# SPDX-License-Identifier: Apache-2.0
"""The conformance kit: it passes what is right, and fails each fault in the row that names it.

tests/wrong_implementations/faulty.c holds the mistakes, one a switch; the table in
support/wrong_implementations.py says which row must fail.
"""

import dataclasses
import json
import os
import re
import resource
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

import atlas12288
from atlas12288 import conformance
from atlas12288.conformance import CLAUSES, LoadError, Outcome, Status
from atlas12288.conformance import _kit as kit
from atlas12288.conformance._subjects import native
from atlas12288.conformance._subjects.library import Need
from support.c_fixtures import ROOT
from support.commandline import (
    COULD_NOT_CHECK,
    DOES_NOT_HOLD,
    HOLDS,
    INTERRUPTED,
    PROGRAM,
    TIMEOUT_S,
    run,
    run_on_terminal,
    start,
)
from support.shared import made_once
from support.slow import slow_but
from support.wrong_implementations import CHOICES, MISTAKES, RUNTIME, SOURCES

CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
IDS = {clause.id for clause in CLAUSES}

# The row of these says so in the words of the process that was lost.
EVIDENCE = {
    "READS_PAST_THE_END": "killed by SIGSEGV in atlas_",
    "NULL_CRASHES": "killed by SIGSEGV in atlas_domain_verify, as atlas_domain_verify(NULL)",
    "NULL_DESTROY_CRASHES": "killed by SIGSEGV in atlas_domain_destroy(NULL)",
    "NO_MEMORY_CRASHES": "killed by SIGSEGV in atlas_domain_create without memory",
    "SUM_32_BITS": "16843011 bytes",
    "ALLOC_BELOW_ZERO_WRAPS": "taking 1 from a budget of 0 is true, must be false",
    "BUDGET_CLAMPS": "must be 0 (mod 96)",
}

Build = Callable[..., Path]
NULL_CRASHES = MISTAKES["NULL_CRASHES"]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the library with a fault, or none; once for each."""
    directory = tmp_path_factory.mktemp("faulty")
    compiler = ("cc", "-std=gnu11", "-O2", "-fPIC", f"-I{ROOT / 'include'}", f"-I{SOURCES}")

    def compile_runtime(folder: Path) -> None:
        right = "-include", SOURCES / "right.h"
        for source in RUNTIME:
            target = folder / f"{source.stem}.o"
            subprocess.run((*compiler, *right, "-c", source, "-o", target), check=True)

    def build(fault: str | None, *flags: str) -> Path:
        if fault is not None and fault.startswith("HOSTILE_"):
            return build_hostile(fault)

        library = directory / f"{fault}{''.join(flags).replace('/', '_')}.so"
        if not library.exists():
            defines = ('-DATLAS_VERSION="0"', *([f"-DFAULT_{fault}"] if fault else []))
            objects = made_once(tmp_path_factory, "right_runtime", compile_runtime).iterdir()
            sources = (*objects, SOURCES / "faulty.c")
            command = (*compiler, *defines, "-shared", *flags, *sources, "-o", library, "-pthread")
            subprocess.run(command, check=True)
        return library

    def build_hostile(way: str) -> Path:
        library = directory / f"{way}.so"
        if not library.exists():
            source = SOURCES / "hostile.c"
            subprocess.run(
                ("cc", f"-D{way}", "-shared", "-fPIC", source, "-o", library), check=True
            )
        return library

    return build


# Plain C misses the targets, and a busy machine may.
NOT_SPEED = tuple(clause for clause in CLAUSES if not clause.id.startswith("speed-"))


# The clauses of functions that a library of C alone has not.
KERNELS = {"kernel-delta", "kernel-window-check", "kernel-update"}


def outcomes(
    library: Path | str,
    clauses: Sequence[conformance.Clause] = NOT_SPEED,
    time_limit: float = kit.TIME_LIMIT_S,
) -> dict[str, Outcome]:
    return {outcome.id: outcome for outcome in kit.run(str(library), clauses, time_limit)}


def failed(found: dict[str, Outcome]) -> list[str]:
    return [
        f"{outcome.id}: {outcome.evidence}"
        for outcome in found.values()
        if outcome.status is Status.FAIL
    ]


# --- The clauses ---


def test_the_words_of_each_clause_are_in_the_contract_letter_for_letter() -> None:
    flat = " ".join(CONTRACT.split())
    for clause in CLAUSES:
        assert " ".join(clause.words.split()) in flat, clause.id
        assert f"# {clause.section}\n" in CONTRACT, clause.id


def test_ids_are_unique_and_parts_come_before_what_they_decide() -> None:
    seen: set[str] = set()
    for clause in CLAUSES:
        assert clause.id not in seen
        assert {*clause.parts, *clause.shown_by} <= seen, clause.id
        assert (clause.check is None) == bool(clause.parts), clause.id
        seen.add(clause.id)


def test_all_declarations_invariants_and_requirements_of_the_contract_have_a_clause() -> None:
    words = {clause.words for clause in CLAUSES}
    signatures = CONTRACT.split("## API Signatures")[1].split("## Memory Model")[0]
    declarations = re.findall(r"^(?:declare .*|.*\);)$", signatures, re.MULTILINE)
    assert len(declarations) == 11 + 3
    assert set(declarations) <= words
    codes = re.findall(r"ATLAS_\w+ = \d", signatures)
    assert len(codes) == 6
    assert set(codes) <= words
    for heading, count in (("Core Invariants", 5), ("Conformance Requirements", 6)):
        section = CONTRACT.split(f"## {heading}\n")[1].split("\n## ")[0]
        listed = re.findall(r"^\d\. (?:\*\*.*?\*\*: )?(.*)$", section, re.MULTILINE)
        assert len(listed) == count
        assert set(listed) <= words


# --- What is right passes ---


def test_the_library_without_a_fault_passes(build: Build) -> None:
    """Here where another one fails, which passes all other rows: test_command_fails_a_fault."""
    found = outcomes(build(None), conformance.with_parts([NULL_CRASHES]))
    assert {outcome.status for outcome in found.values()} == {Status.PASS}


@pytest.mark.slow
def test_a_library_with_the_contracts_functions_alone_passes(build: Build) -> None:
    library = build(None, f"-Wl,--version-script={SOURCES / 'contract.map'}")
    found = outcomes(library)
    assert not failed(found)
    assert {id for id, outcome in found.items() if outcome.status is Status.NOT_OFFERED} == {
        *("witness-timestamp", "witness-sha256"),
        *KERNELS,
    }
    assert found["requirement-3"].status is Status.NOT_SHOWN


@pytest.mark.slow
def test_a_witness_that_is_not_seen_to_be_sha_256_is_not_shown_to_be_secure(
    build: Build, tmp_path: Path
) -> None:
    """Whatever the library, the row passes only where the digest can be seen."""
    secure = "Witnesses are cryptographically secure"
    assert [clause.id for clause in CLAUSES if clause.words == secure] == ["requirement-3"]
    rows = "--clause=requirement-3", "--clause=law-modulus"
    unseen = build(None, f"-Wl,--version-script={SOURCES / 'contract.map'}")
    junit = tmp_path / "report.xml"
    done = run("conformance", "--library", unseen, *rows, "--junit", junit)
    assert done.returncode == HOLDS
    *_, counts, last = done.stdout.decode().splitlines()
    assert "1 not shown" in counts
    assert last == f"conformant; not shown: requirement-3, {secure}"
    case = ET.parse(junit).find("testcase[@name='requirement-3']")
    assert case is not None
    skipped = case.find("skipped")
    assert skipped is not None
    assert skipped.get("message", "").startswith("not shown: ")
    report = json.loads(run("conformance", "--library", unseen, *rows, "--json").stdout)
    assert (report["holds"], report["not_shown"]) == (True, ["requirement-3"])
    row = report["clauses"][-1]
    assert (row["id"], row["status"]) == ("requirement-3", "not shown")
    assert "witness-sha256 is not offered: " in row["evidence"]
    # Where the digest can be seen, it is shown; where it is another one, it is not.
    report = json.loads(run("conformance", *rows, "--json").stdout)
    assert (report["not_shown"], report["clauses"][-1]["status"]) == ([], "pass")
    row = outcomes(build("WITNESS_IS_CRC32"), conformance.with_parts(["requirement-3"]))
    assert row["requirement-3"].status is Status.FAIL


@pytest.mark.slow
def test_what_the_contract_does_not_say_is_not_judged(build: Build) -> None:
    library = build(None, *(f"-DCHOICE_{choice}" for choice in CHOICES))
    found = outcomes(library)
    assert not failed(found)
    assert {id for id, outcome in found.items() if outcome.status is not Status.PASS} == KERNELS


@pytest.mark.parametrize("choice", CHOICES)
def test_commit_is_shown_without_judging_a_choice(choice: str, build: Build) -> None:
    alone = f"-Wl,--version-script={SOURCES / 'contract.map'}"
    rows = conformance.with_parts(["commit-witness", "code-witness", "code-budget"])
    found = outcomes(build(None, f"-DCHOICE_{choice}", alone), rows)
    assert not failed(found)
    seen_by_verify = choice != "COMMITTED_NOT_VERIFIED"
    assert (found["commit-witness"].status is Status.PASS) == seen_by_verify


@pytest.mark.slow
def test_slow_threads_are_no_fault(build: Build, tmp_path: Path) -> None:
    environment = preloaded(SLOW_THREADS, tmp_path, "-ldl")
    chosen = ("--clause", "thread-budget", "--clause", "thread-witness")
    done = run("conformance", "--library", build(None), *chosen, env=environment)
    assert done.returncode == HOLDS, done.stdout


def test_threads_that_sleep_too_long_are_no_fault(build: Build, tmp_path: Path) -> None:
    environment = preloaded(SLOW_SLEEP, tmp_path, "-ldl")
    done = run(
        "conformance", "--library", build(None), "--clause", "thread-commit", env=environment
    )
    assert done.returncode == HOLDS, done.stdout


def test_a_budget_that_gives_nothing_is_no_verdict_on_its_threads(build: Build) -> None:
    rows = conformance.with_parts(["thread-budget", "budget-alloc"])
    found = outcomes(build("BUDGET_GIVES_NOTHING"), rows)
    assert found["budget-alloc"].status is Status.FAIL
    assert found["thread-budget"].status is Status.NOT_CHECKED
    assert "none was given it" in found["thread-budget"].evidence


def test_speeds_that_are_stated_for_avx2_are_judged_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (native.lacks() == {}) == atlas12288.kernel_set_supported("x86-64-v3")
    monkeypatch.setattr(native._native, "kernel_sets", lambda: ("portable",))
    assert native.lacks().keys() == {Need.AVX2}


# --- What is wrong fails ---


@pytest.mark.slow
@pytest.mark.parametrize("fault", MISTAKES)
def test_fault(fault: str, build: Build) -> None:
    # Its row alone: no clause sees what another one did.
    row = MISTAKES[fault]
    found = outcomes(build(fault), conformance.with_parts([row]))[row]
    assert found.status is Status.FAIL, found.evidence
    assert EVIDENCE.get(fault, "") in found.evidence
    assert not found.evidence.startswith(("the kit itself failed", "not run"))


def test_every_switch_is_in_the_table() -> None:
    source = (SOURCES / "faulty.c").read_text()

    def switches(prefix: str) -> set[str]:
        return {
            word.removeprefix(prefix).rstrip(")")
            for line in source.splitlines()
            if line.startswith(("#if", "#elif"))
            for word in line.split()
            if word.startswith(prefix)
        }

    assert switches("FAULT_") == {*MISTAKES, "HANGS", "CRASHES_AT_LOAD"}
    assert switches("CHOICE_") == set(CHOICES)


def test_a_library_that_hangs_is_given_up(build: Build) -> None:
    found = outcomes(build("HANGS"), time_limit=0.3)
    assert found["law-modulus"].evidence == "no answer after 0.3 s in atlas_domain_verify"
    assert found["budget-mod-96"].evidence.startswith("not run: 3 checks")
    assert found["signature-atlas_domain_verify"].status is Status.PASS


def test_a_library_that_crashes_when_it_is_loaded_is_not_judged(build: Build) -> None:
    with pytest.raises(LoadError, match="killed by SIGABRT"):
        outcomes(build("CRASHES_AT_LOAD"))


# --- What abuses its process ---


def users(library: Path) -> list[int]:
    """The processes that have the library loaded."""
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            if str(library) in maps.read_text():
                found.append(int(maps.parent.name))
    return found


def wait_until_loaded(library: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not users(library):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def require_that_nothing_is_left(library: Path) -> None:
    deadline = time.monotonic() + 30
    while users(library):
        assert time.monotonic() < deadline, "the library still runs, after 30 s"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "way",
    slow_but(["BLOCKS_SIGNALS"], ["IGNORES_SIGNALS", "BLOCKS_SIGNALS", "LEAVES_A_PROCESS"]),
)
def test_the_time_limit_does_not_depend_on_the_library(way: str, build: Build) -> None:
    library = build(f"HOSTILE_{way}")
    started = time.monotonic()
    found = outcomes(library, conformance.with_parts(["domain-verify"]), time_limit=1)
    assert found["domain-verify"].evidence == "no answer after 1 s in atlas_domain_verify"
    assert time.monotonic() < started + 30
    assert users(library) == []


def test_a_process_that_a_library_leaves_keeps_no_row_waiting(build: Build) -> None:
    library = build("HOSTILE_LEAVES_A_PROCESS")
    started = time.monotonic()
    row = "signature-atlas_domain_verify"
    assert outcomes(library, conformance.with_parts([row]))[row].status is Status.PASS
    assert time.monotonic() < started + kit.TIME_LIMIT_S / 2
    assert users(library) == []


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("EXITS_AT_LOAD", "the process ended with exit code 0 while it was loaded"),
        ("HANGS_AT_LOAD", "no answer after 1 s while it was loaded"),
        ("WRITES_EVERYWHERE", "what its process answered cannot be read"),
    ],
)
def test_what_goes_wrong_while_a_library_is_loaded(way: str, reason: str, build: Build) -> None:
    with pytest.raises(LoadError, match=reason):
        outcomes(build(f"HOSTILE_{way}"), time_limit=1)


def test_kill_of_the_command_ends_the_library(build: Build) -> None:
    library = build("HOSTILE_IGNORES_SIGNALS")
    process = start("conformance", "--library", library, "--clause", "domain-verify")
    wait_until_loaded(library)
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    require_that_nothing_is_left(library)


def test_kill_of_the_worker_ends_the_library(build: Build) -> None:
    library = build("HOSTILE_IGNORES_SIGNALS")
    process = start("conformance", "--library", library, "--clause", "domain-verify")
    wait_until_loaded(library)
    worker = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(worker[0]), signal.SIGKILL)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode != HOLDS
    require_that_nothing_is_left(library)


# --- The command line ---


@pytest.mark.slow
def test_command_passes_ours(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    done = run("conformance", "--junit", report)
    text = done.stdout.decode()
    assert done.returncode == HOLDS, text
    assert done.stderr == b""
    for clause in CLAUSES:
        assert clause.id in text
    suite = ET.parse(report).getroot()
    assert suite.tag == "testsuite"
    assert suite.attrib["tests"] == str(len(CLAUSES))
    assert suite.attrib["failures"] == "0"
    assert [case.attrib["name"] for case in suite.iter("testcase")] == [c.id for c in CLAUSES]
    # Those of speed are the machine's, and all others pass.
    skipped = [case for case in suite.iter("testcase") if case.find("skipped") is not None]
    assert all(case.attrib["name"].startswith("speed-") for case in skipped), text


@pytest.mark.slow
def test_command_fails_a_fault(build: Build, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    done = run("conformance", "--library", build("NULL_CRASHES"), "--junit", report)
    assert done.returncode == DOES_NOT_HOLD
    assert b"not conformant" in done.stdout
    suite = ET.parse(report).getroot()
    broken = {
        case.attrib["name"]: failure.attrib["message"]
        for case in suite.iter("testcase")
        for failure in case.iter("failure")
    }
    # All others pass, which have nothing to do with the fault.
    assert set(broken) == {NULL_CRASHES, "requirement-5"}
    assert "SIGSEGV" in broken[NULL_CRASHES]


def test_command_json_and_chosen_clauses(build: Build) -> None:
    chosen = ("--clause", "requirement-5", "--clause", "law-modulus")
    library = build("NULL_CRASHES")
    done = run("conformance", "--library", library, "--json", *chosen)
    assert done.returncode == DOES_NOT_HOLD
    report = json.loads(done.stdout)
    assert report["library"] == str(library)
    assert report["holds"] is False
    assert report["error"] is None
    status = {row["id"]: row["status"] for row in report["clauses"]}
    assert status["law-modulus"] == "pass"
    assert status["error-null"] == status["requirement-5"] == "fail"
    assert set(report["clauses"][0]) == {
        *("id", "section", "words", "shows", "required", "status", "evidence", "seconds")
    }


@pytest.mark.parametrize("kind", ["missing", "text", "other library", "crash"])
def test_command_cannot_check(kind: str, build: Build, tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("no library")
    path = {
        "missing": tmp_path / "none.so",
        "text": text,
        "other library": tmp_path / "other.so",
        "crash": build("CRASHES_AT_LOAD"),
    }[kind]
    if kind == "other library":
        source = tmp_path / "other.c"
        source.write_text("int other(void) { return 0; }\n")
        subprocess.run(("cc", "-shared", "-fPIC", source, "-o", path), check=True)
    done = run("conformance", "--library", path, "--json")
    assert done.returncode == COULD_NOT_CHECK
    report = json.loads(done.stdout)
    assert report["holds"] is None
    assert report["error"]
    assert report["clauses"] == []
    assert done.stderr.decode() == f"atlas12288: {path}: {report['error']}\n"
    assert str(path) not in report["error"]


WITHOUT_WASMTIME = (
    "import sys\n"
    "class Hidden:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name.partition('.')[0] == 'wasmtime':\n"
    "            raise ModuleNotFoundError(name, name='wasmtime')\n"
    "sys.meta_path.insert(0, Hidden())\n"
)


# What needs wasmtime itself is in tests/wasm.
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"no module", "is not a WebAssembly module"),
        (b"", "is not a WebAssembly module"),
        (b"\0asm\1\0\0\0", "WebAssembly modules need wasmtime: pip install 'atlas12288[wasm]'"),
    ],
)
def test_command_cannot_check_a_module(content: bytes | None, reason: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_WASMTIME)
    module = tmp_path / "some.wasm"
    if content is not None:
        module.write_bytes(content)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = run("conformance", "--wasm", module, "--json", env=environment)
    assert done.returncode == COULD_NOT_CHECK
    report = json.loads(done.stdout)
    assert (report["library"], report["kind"]) == (str(module), "wasm")
    assert (report["holds"], report["error"], report["clauses"]) == (None, reason, [])
    assert done.stderr.decode() == f"atlas12288: {module}: {reason}\n"


def test_command_lists_clauses() -> None:
    done = run("conformance", "--list")
    assert done.returncode == HOLDS
    assert all(id.encode() in done.stdout for id in IDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--clause", "no-such-clause"),
        ("--time-limit", "0"),
        ("--time-limit", "nan"),
        ("--time-limit", "inf"),
        ("--time-limit", "1e30"),
        ("--library", ""),
        ("--wasm", ""),
        ("--junit", "/nowhere/report.xml"),
        ("--library", "some.so", "--wasm", "some.wasm"),
    ],
)
def test_command_usage(arguments: tuple[str, ...]) -> None:
    done = run("conformance", *arguments)
    assert done.returncode == COULD_NOT_CHECK
    assert done.stdout == b""
    assert arguments[0].encode() in done.stderr


def test_the_report_does_not_replace_what_is_judged(build: Build, tmp_path: Path) -> None:
    before = build(None).read_bytes()
    for option in ("--library", "--wasm"):
        path = tmp_path / "judged"
        path.write_bytes(before)
        done = run("conformance", option, path, "--junit", path, "--clause", "law-modulus")
        assert done.returncode == COULD_NOT_CHECK
        assert b"is also read, and is not replaced" in done.stderr
        assert path.read_bytes() == before


def test_a_run_that_judges_nothing_replaces_the_report(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    done = run("conformance", "--library", tmp_path / "none.so", "--junit", report)
    assert done.returncode == COULD_NOT_CHECK
    first = report.read_bytes()
    report.write_bytes(first.replace(b"errors", b"failed"))
    done = run("conformance", "--library", tmp_path / "none.so", "--junit", report)
    assert (done.returncode, report.read_bytes()) == (COULD_NOT_CHECK, first)
    suite = ET.parse(report).getroot()
    assert (suite.attrib["tests"], suite.attrib["errors"]) == ("1", "1")
    assert "No such file" in suite.findall("testcase/error")[0].attrib["message"]


def test_a_report_replaces_nothing_but_a_report(tmp_path: Path) -> None:
    other, link = tmp_path / "pytest.xml", tmp_path / "link.xml"
    other.write_text('<?xml version="1.0"?><testsuites><testsuite name="pytest" /></testsuites>')
    link.symlink_to(tmp_path / "none.xml")
    before = other.read_bytes()
    for path, reason in (
        (other, "is not a report of conformance, and is not replaced"),
        (link, f"is a symbolic link to {tmp_path}/none.xml, and is not replaced"),
    ):
        done = run("conformance", "--junit", path, "--clause", "law-modulus")
        assert done.returncode == COULD_NOT_CHECK
        assert done.stderr.decode().endswith(f"Error: --junit {path}: {reason}\n")
    assert other.read_bytes() == before
    assert not (tmp_path / "none.xml").exists()


# --- What could not be checked ---

# In place of a system that has no thread, or no process, left.
NO_THREADS = """
#include <errno.h>
#include <pthread.h>
int pthread_create(pthread_t* t, const pthread_attr_t* a, void* (*f)(void*), void* x)
{
    (void)t, (void)a, (void)f, (void)x;
    return EAGAIN;
}
"""
NO_PROCESSES = """
#include <errno.h>
#include <unistd.h>
pid_t fork(void)
{
    errno = EAGAIN;
    return -1;
}
"""


# In place of a busy machine, on which each thread takes its time to be there.
SLOW_THREADS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>
int pthread_create(pthread_t* t, const pthread_attr_t* a, void* (*f)(void*), void* x)
{
    int (*create)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) =
        dlsym(RTLD_NEXT, "pthread_create");
    usleep(20000);
    return create(t, a, f, x);
}
"""

# The same for a thread that sleeps: it is back late.
SLOW_SLEEP = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>
int nanosleep(const struct timespec* time, struct timespec* left)
{
    int (*sleep)(const struct timespec*, struct timespec*) = dlsym(RTLD_NEXT, "nanosleep");
    return sleep(gettid() == getpid() ? time : &(struct timespec){.tv_nsec = 20000000}, left);
}
"""


def preloaded(source: str, directory: Path, *libraries: str) -> dict[str, str]:
    """An environment in which functions of the C library are replaced."""
    code, library = directory / "preloaded.c", directory / "preloaded.so"
    code.write_text(source)
    subprocess.run(("cc", "-shared", "-fPIC", code, "-o", library, *libraries), check=True)
    return os.environ | {"LD_PRELOAD": str(library)}


@pytest.mark.parametrize("shortage", ["threads", "processes"])
def test_what_the_machine_cannot_try_is_never_conformant(
    shortage: str, build: Build, tmp_path: Path
) -> None:
    source = NO_THREADS if shortage == "threads" else NO_PROCESSES
    environment = preloaded(source, tmp_path)
    report = tmp_path / "report.xml"
    chosen = ("--clause", "requirement-4", "--clause", "thread-error")
    done = run(
        *("conformance", "--library", build(None), "--json", "--junit", report, *chosen),
        env=environment,
    )
    assert done.returncode == COULD_NOT_CHECK
    document = json.loads(done.stdout)
    assert document["holds"] is None
    if shortage == "processes":
        assert "no process can be started here" in document["error"]
        return
    rows = {row["id"]: row for row in document["clauses"]}
    for id in ("thread-commit", "thread-budget", "thread-error"):
        assert rows[id]["status"] == "not checked"
        assert "threads cannot be started here" in rows[id]["evidence"]
    assert rows["requirement-4"]["status"] == "not checked"
    assert "2 not checked: thread-commit, thread-budget" in rows["requirement-4"]["evidence"]
    suite = ET.parse(report).getroot()
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("0", "4")
    assert {
        case.attrib["name"] for case in suite.iter("testcase") if case.find("error") is not None
    } == {"thread-commit", "thread-budget", "thread-error", "requirement-4"}


def test_a_clause_that_fails_decides_beside_one_that_could_not_be_checked(
    build: Build, tmp_path: Path
) -> None:
    environment = preloaded(NO_THREADS, tmp_path)
    chosen = ("--clause", "thread-commit", "--clause", "law-modulus")
    done = run("conformance", "--library", build("MODULUS_97"), *chosen, env=environment)
    assert done.returncode == DOES_NOT_HOLD
    assert b"not conformant: law-modulus; not checked: thread-commit" in done.stdout


def test_a_limit_of_memory_is_not_the_librarys_fault(build: Build) -> None:
    limits = {resource.RLIMIT_DATA: 2**28, resource.RLIMIT_AS: 2**28}

    def limit() -> None:
        for which, size in limits.items():
            resource.setrlimit(which, (size, size))

    process = subprocess.run(
        (*PROGRAM, "conformance", "--library", build(None), "--clause", "delta-wide"),
        preexec_fn=limit,
        capture_output=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert process.returncode in (HOLDS, COULD_NOT_CHECK), process.stdout


def test_nothing_was_checked(build: Build) -> None:
    library = build(None, f"-Wl,--version-script={SOURCES / 'contract.map'}")
    done = run("conformance", "--library", library, "--clause", "witness-timestamp")
    assert done.returncode == COULD_NOT_CHECK
    assert b"nothing was checked" in done.stdout


def test_ctrl_c_ends_the_library_with_the_command(build: Build) -> None:
    library = build("HANGS")
    process = start("conformance", "--library", library, "--clause", "domain-verify")
    wait_until_loaded(library)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err.strip()) == (INTERRUPTED, b"", b"")
    require_that_nothing_is_left(library)


def test_command_on_a_terminal_fits_it() -> None:
    code, text, _ = run_on_terminal("conformance", "--clause", "law-modulus")
    assert code == HOLDS
    assert "law-modulus" in text


def test_python_api_says_what_it_exports() -> None:
    assert all(hasattr(conformance, name) for name in conformance.__all__)


def test_judge_gives_a_verdict_and_the_counts() -> None:
    clauses = conformance.with_parts(["law-modulus"])
    report = conformance.judge(conformance.own_library(), clauses)
    assert report
    assert (report.holds, str(report)) == (True, "conformant")
    assert report.counts()["pass"] == len(clauses)
    assert report.summary().startswith(f"{len(clauses)} clause")
    broken = tuple((c, dataclasses.replace(o, status=Status.FAIL)) for c, o in report.rows)
    assert conformance.ConformanceReport(broken).holds is False
    assert conformance.ConformanceReport(()).holds is None


def test_the_list_of_clauses_is_json_where_json_is_asked_for() -> None:
    report = json.loads(run("conformance", "--list", "--json").stdout)
    assert (report["type"], report["command"]) == ("atlas12288/report/v1", "conformance")
    assert [row["id"] for row in report["clauses"]] == [each.id for each in conformance.CLAUSES]
