# SPDX-License-Identifier: Apache-2.0
"""The clauses of the contract as data: its words, and the check that tries each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from ._checks import budget, domain, law, safety, speed, threads, witness
from ._subjects.library import CONTRACT, Library, Need


@dataclass(frozen=True)
class Clause:
    """A row of the report.

    Args:
        id: identifies the clause for `--clause` and in reports.
        section: heading in the contract.
        words: the contract's words, verbatim.
        shows: what the check tries, in a few words.
        check: returns the evidence, or raises `BrokenClauseError`, `NotOfferedError` or
            `NotCheckedError`; None if `parts` decide.
        required: the library must pass it to be conformant.
        parts: ids of the clauses that together decide this one.
        shown_by: ids of clauses that must also pass before this one counts as shown.
        needs: feature without which the clause does not apply to a build.
    """

    id: str
    section: str
    words: str
    shows: str
    check: Callable[[Library], str] | None = None
    required: bool = True
    parts: tuple[str, ...] = ()
    shown_by: tuple[str, ...] = ()
    needs: Need | None = None


def _exported(name: str, library: Library) -> str:
    library.symbol(name)
    return "exported"


def _signatures() -> Iterator[Clause]:
    for name, prototype in CONTRACT.items():
        words, section = prototype.declaration, "API Signatures"
        if name == "atlas_get_last_error":
            section = "Error Handling"
        check = partial(_exported, name)
        yield Clause(f"signature-{name}", section, words, "the library exports it", check)


def _optional(
    id: str,
    section: str,
    words: str,
    shows: str,
    check: Callable[[Library], str],
    needs: Need | None = None,
) -> Clause:
    return Clause(id, section, words, shows, check, required=False, needs=needs)


def _threaded(
    id: str, section: str, words: str, shows: str, check: Callable[[Library], str]
) -> Clause:
    return Clause(id, section, words, shows, check, needs=Need.THREADS)


_LAW: Final = "The sum of all bytes in a domain modulo 96 must equal 0"
_BUDGET: Final = "Budget values are always in range [0, 95]"
_WITNESSES: Final = "Witness Operations"
_FOUND: Final = "Verify witness against memory"
_SECURE: Final = "Witnesses are cryptographically secure"
_DELTA: Final = "Compute conservation delta between two buffers"
_LEAK: Final = "Memory is never leaked"
_CREATE: Final = "Create a new domain with specified budget"
_ALLOC: Final = "Allocate budget (fails if insufficient)"

_INVARIANTS: Final = (
    Clause("law-modulus", "Core Invariants", _LAW, "sums are taken mod 96", law.modulus),
    Clause("law-every-byte", "Core Invariants", _LAW, "every byte counts", law.every_byte),
    Clause("law-every-window", "Core Invariants", _LAW, "every window counts", law.every_window),
    Clause("law-unsigned", "Core Invariants", _LAW, "bytes above 127 are positive", law.unsigned),
    Clause("law-wide-16", "Core Invariants", _LAW, "sums beyond 16 bits", law.wide_16),
    Clause("law-wide-32", "Core Invariants", _LAW, "sums beyond 32 bits", law.wide_32),
    Clause(
        "budget-range",
        "Core Invariants",
        _BUDGET,
        "random amounts taken and given back",
        budget.in_range,
    ),
    Clause(
        "witness-immutable",
        "Core Invariants",
        "Once generated, witnesses cannot be modified",
        "other bytes, verdicts and witnesses do not change one",
        witness.immutable,
    ),
    Clause(
        "commit-transition",
        "Core Invariants",
        "Domain state transitions are atomic (OPEN → COMMITTED)",
        "a refused commit leaves the domain OPEN",
        domain.commit_refused,
    ),
    Clause(
        "failure-closed",
        "Core Invariants",
        "Invalid operations fail safely without corrupting state",
        "refused calls change no bytes, budget, state or witness",
        domain.refusals_change_nothing,
    ),
)

_CODES: Final = (
    Clause("code-ok", "Error Codes", "ATLAS_OK = 0", "attach and commit", domain.code_ok),
    Clause(
        "code-conservation",
        "Error Codes",
        "ATLAS_E_CONSERVATION = 1",
        "commit with residues 1 to 95",
        domain.commit_verifies,
    ),
    _optional(
        "code-witness",
        "Error Codes",
        "ATLAS_E_WITNESS = 2",
        "the code from an extension, else an error text",
        witness.code_witness,
    ),
    _optional(
        "code-budget",
        "Error Codes",
        "ATLAS_E_BUDGET = 3",
        "the code from an extension, else an error text",
        budget.code_budget,
    ),
    Clause(
        "code-memory",
        "Error Codes",
        "ATLAS_E_MEMORY = 4",
        "failing allocations",
        safety.out_of_memory,
    ),
    Clause(
        "code-state",
        "Error Codes",
        "ATLAS_E_STATE = 5",
        "a commit after a commit",
        domain.commit_once,
    ),
)

# Changes that weaker checksums miss. None of these rows shows that a witness is secure.
_DETECTION: Final = (
    Clause(
        "witness-not-residue",
        _WITNESSES,
        _FOUND,
        "changes that keep the residue",
        witness.residue_kept,
    ),
    Clause("witness-not-xor", _WITNESSES, _FOUND, "changes that keep the XOR", witness.xor_kept),
    Clause("witness-not-crc", _WITNESSES, _FOUND, "changes that keep a CRC", witness.crc_kept),
    Clause(
        "witness-not-adler",
        _WITNESSES,
        _FOUND,
        "changes that keep sums and sums of sums",
        witness.adler_kept,
    ),
    Clause(
        "witness-not-polynomial",
        _WITNESSES,
        _FOUND,
        "changes that keep polynomials in 31, 33, ...",
        witness.polynomial_kept,
    ),
    Clause("witness-not-fnv", _WITNESSES, _FOUND, "equal FNV-1a or FNV-1", witness.fnv_kept),
    Clause("witness-every-bit", _WITNESSES, _FOUND, "each bit of 200 bytes", witness.every_bit),
    Clause(
        "witness-whole-region",
        _WITNESSES,
        _FOUND,
        "all parts of 6 windows and of 4 MiB",
        witness.whole_region,
    ),
)

_FUNCTIONS: Final = (
    Clause(
        "domain-create", "Domain Management", _CREATE, "several sizes; many domains", domain.create
    ),
    Clause(
        "budget-initial", "Domain Management", _CREATE, "budget classes 0 to 95", budget.initial
    ),
    Clause(
        "domain-attach",
        "Domain Management",
        "Attach memory region to domain (non-owning)",
        "in place, without a copy",
        domain.attach,
    ),
    Clause(
        "domain-verify",
        "Domain Management",
        "Verify domain conservation laws",
        "repeated calls",
        domain.verify,
    ),
    Clause(
        "domain-unattached",
        "Domain Management",
        "Verify domain conservation laws",
        "no crash if nothing is attached",
        safety.unattached,
    ),
    _optional(
        "commit-witness",
        "Domain Management",
        "Commit domain (OPEN → COMMITTED), generates witness",
        "the witness from an extension, else verify",
        domain.commit_witness,
    ),
    Clause(
        "domain-destroy",
        "Domain Management",
        "Destroy domain and free resources",
        "domains in each state",
        domain.destroy,
    ),
    Clause(
        "domain-isolation",
        "Overview",
        "domain isolation",
        "two domains side by side",
        domain.isolation,
    ),
    Clause(
        "budget-alloc", "Budget Operations", _ALLOC, "amounts that the budget has", budget.enough
    ),
    Clause(
        "budget-insufficient",
        "Budget Operations",
        _ALLOC,
        "amounts that it lacks",
        budget.insufficient,
    ),
    Clause("budget-amount", "Budget Operations", _ALLOC, "amounts 96 to 255", budget.too_large),
    Clause(
        "budget-mod-96",
        "Budget Operations",
        "Release budget back to domain",
        "mod 96, as requirement 2 says",
        budget.wraps,
    ),
    Clause(
        "witness-generate",
        _WITNESSES,
        "Generate witness for memory region",
        "several lengths",
        witness.generate,
    ),
    Clause(
        "witness-verify",
        _WITNESSES,
        _FOUND,
        "equal and changed bytes",
        witness.verify,
    ),
    Clause(
        "witness-length",
        _WITNESSES,
        _FOUND,
        "shorter and longer regions",
        witness.length,
    ),
    *_DETECTION,
    Clause(
        "witness-destroy",
        _WITNESSES,
        "Destroy witness and free resources",
        "other witnesses still match",
        witness.destroy,
    ),
    Clause("delta-value", "Conservation Utilities", _DELTA, "random bytes", law.delta_value),
    Clause(
        "delta-direction", "Conservation Utilities", _DELTA, "after - before", law.delta_direction
    ),
    Clause(
        "delta-negative", "Conservation Utilities", _DELTA, "sums that fall", law.delta_negative
    ),
    Clause(
        "delta-wide", "Conservation Utilities", _DELTA, "sums beyond 16 and 32 bits", law.delta_wide
    ),
)

_IR: Final = "LLVM IR Kernels (Hot Paths)"
_KERNELS: Final = (
    _optional(
        "kernel-delta",
        _IR,
        "declare i7 @atlas.conserved.delta(ptr before, ptr after, i64 len)",
        "symbol and value",
        law.kernel_delta,
    ),
    _optional(
        "kernel-window-check",
        _IR,
        "declare i1 @atlas.conserved.window.check(ptr data, i64 len)",
        "symbol and value",
        law.kernel_check,
    ),
    _optional(
        "kernel-update",
        _IR,
        "declare void @atlas.conserved.update(ptr state, ptr chunk, i64 n)",
        "symbol",
        law.kernel_update,
    ),
)

_MEMORY: Final = (
    Clause(
        "memory-alignment",
        "Memory Model",
        "Byte-aligned (no special alignment required)",
        "offsets 0 to 63",
        safety.alignment,
    ),
    Clause(
        "memory-bounds",
        "Memory Model",
        "Domains do not own attached memory; caller manages lifetime",
        "nothing past the region is read, nothing is written",
        safety.bounds,
    ),
    Clause(
        "memory-ownership",
        "Memory Model",
        "Domains do not own attached memory; caller manages lifetime",
        "memory after destroy",
        safety.ownership,
    ),
    Clause(
        "witness-record",
        "Memory Model",
        "Immutable once generated, contain checksums and timestamps",
        "it holds a checksum, not a pointer",
        witness.own_record,
    ),
    _optional(
        "witness-timestamp",
        "Memory Model",
        "Immutable once generated, contain checksums and timestamps",
        "the time, from an extension",
        witness.timestamp,
    ),
)

_TABLE: Final = "Performance Characteristics"
_SPEED: Final = (
    _optional(
        "speed-memcpy",
        _TABLE,
        "Conserved memcpy | ≥25 GB/s (AVX2)",
        "an extension",
        speed.copy,
        Need.AVX2,
    ),
    _optional(
        "speed-memset",
        _TABLE,
        "Conserved memset | ≥30 GB/s (AVX2)",
        "an extension",
        speed.fill,
        Need.AVX2,
    ),
    _optional("speed-generate", _TABLE, "Witness generate | ≥1 GB/s", "1 MiB", speed.generate),
    _optional("speed-verify", _TABLE, "Witness verify | ≥1 GB/s", "1 MiB", speed.verify),
    _optional("speed-delta", _TABLE, "Delta computation | <10 ns/byte", "64 windows", speed.delta),
    _optional(
        "witness-sha256", _TABLE, "SHA-256 based", "the digest, from an extension", witness.sha256
    ),
)

_EXAMPLES: Final = (
    Clause(
        "example-lifecycle",
        "Usage Examples",
        "Basic Domain Lifecycle",
        "the example's calls in order",
        domain.example_lifecycle,
    ),
    Clause(
        "example-budget",
        "Usage Examples",
        "Budget Management",
        "the example's calls in order",
        budget.example_budget,
    ),
    Clause(
        "example-witness",
        "Usage Examples",
        "Witness Verification",
        "the example's calls in order",
        witness.example_witness,
    ),
)

_ERRORS: Final = (
    Clause(
        "error-null",
        "Error Handling",
        "All functions that can fail return error codes or NULL",
        "NULL arguments",
        safety.null_arguments,
    ),
    Clause(
        "error-text",
        "Error Handling",
        "Use `atlas_get_last_error()` for detailed error messages",
        "a text after each kind of refusal",
        safety.last_error,
    ),
    Clause(
        "error-detail",
        "Error Handling",
        "Use `atlas_get_last_error()` for detailed error messages",
        "different texts for different errors",
        safety.error_detail,
        needs=Need.DETAILED_ERRORS,
    ),
    Clause(
        "error-null-destroy",
        "Error Handling",
        "NULL pointers to destroy functions are safe (no-op)",
        "both functions",
        safety.null_destroy,
    ),
)

_THREADS: Final = (
    _threaded(
        "thread-commit",
        "Thread Safety",
        "Atomic transitions, one successful commit per domain",
        "racing commits",
        threads.commit,
    ),
    _threaded(
        "thread-budget",
        "Thread Safety",
        "Thread-safe via atomic compare-and-swap",
        "no amount is lost or overdrawn",
        threads.budget,
    ),
    _threaded(
        "thread-witness",
        "Thread Safety",
        "Thread-safe, can generate multiple witnesses",
        "many threads at once",
        threads.witness,
    ),
    _threaded(
        "thread-domains",
        "Thread Safety",
        "Atomic transitions",
        "a domain per thread",
        threads.domains,
    ),
    _threaded(
        "thread-error",
        "Thread Safety",
        "Use `atlas_get_last_error()` for detailed error messages",
        "each thread has its own text",
        threads.last_error,
    ),
)

_CONFORMANCE: Final = "Conformance Requirements"
_LEAKS: Final = (
    Clause("leak-domains", _CONFORMANCE, _LEAK, "domains", safety.leak_domains),
    Clause("leak-witnesses", _CONFORMANCE, _LEAK, "witnesses", safety.leak_witnesses),
    Clause("leak-deltas", _CONFORMANCE, _LEAK, "deltas", safety.leak_deltas),
    Clause("leak-refusals", _CONFORMANCE, _LEAK, "refused calls", safety.leak_refusals),
    _threaded("leak-commits", _CONFORMANCE, _LEAK, "racing commits", safety.leak_commits),
    _threaded("leak-threads", _CONFORMANCE, _LEAK, "threads", safety.leak_threads),
)


def _ids(*prefixes: str) -> tuple[str, ...]:
    """Return the ids of the required clauses that begin with a prefix."""
    groups = _INVARIANTS, _CODES, _FUNCTIONS, _MEMORY, _ERRORS, _THREADS, _LEAKS
    return tuple(
        clause.id
        for group in groups
        for clause in group
        if clause.required and clause.id.startswith(prefixes)
    )


def _requirement(number: int, words: str, *prefixes: str, shown_by: tuple[str, ...] = ()) -> Clause:
    parts = _ids(*prefixes)
    shows = "all of: " + ", ".join(
        [*(f"{p}*" if p.endswith("-") else p for p in prefixes), *shown_by]
    )
    id = f"requirement-{number}"
    return Clause(id, _CONFORMANCE, words, shows, parts=parts, shown_by=shown_by)


_REQUIREMENTS: Final = (
    _requirement(
        1, "All conservation laws are preserved", "law-", "delta-", "code-conservation", "domain-"
    ),
    _requirement(2, "Budget arithmetic is mod-96", "budget-"),
    # No test can show it for an unknown hash, so the digest must be the contract's SHA-256.
    _requirement(3, _SECURE, "witness-", shown_by=("witness-sha256",)),
    _requirement(
        4, "State transitions are atomic", "commit-", "code-state", "thread-commit", "thread-budget"
    ),
    _requirement(5, "All error conditions are handled safely", "error-", "failure-", "code-"),
    _requirement(6, _LEAK, "leak-", "memory-ownership"),
)

# In the order in which they run and are shown; a clause comes after its parts.
CLAUSES: Final = (
    *_signatures(),
    *_INVARIANTS,
    *_CODES,
    *_FUNCTIONS,
    *_KERNELS,
    *_MEMORY,
    *_SPEED,
    *_EXAMPLES,
    *_ERRORS,
    *_THREADS,
    *_LEAKS,
    *_REQUIREMENTS,
)
BY_ID: Final = {clause.id: clause for clause in CLAUSES}
