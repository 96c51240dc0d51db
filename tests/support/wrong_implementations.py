# SPDX-License-Identifier: Apache-2.0
"""The mistakes of tests/wrong_implementations/faulty.c, and the row of the kit that each fails."""

from support.c_fixtures import ROOT

SOURCES = ROOT / "tests" / "wrong_implementations"
# The files of the runtime that these implementations are built with.
RUNTIME = tuple(
    ROOT / "runtime" / f"{name}.c"
    for name in ("budget", "conserve", "domain", "region", "seal", "sha256", "witness")
)
MISTAKES = {
    "MODULUS_97": "law-modulus",
    "SUM_16_BITS": "law-wide-16",
    "SUM_32_BITS": "law-wide-32",
    "LAST_BYTE_SKIPPED": "law-every-byte",
    "TAIL_SKIPPED": "law-every-byte",
    "FIRST_WINDOW_ONLY": "law-every-window",
    "SIGNED_BYTES": "law-unsigned",
    "READS_PAST_THE_END": "memory-bounds",
    "DELTA_SIGN_TURNED": "delta-direction",
    "DELTA_OF_WRAPPED_SUM": "delta-negative",
    "ATTACH_COPIES": "domain-attach",
    "COMMIT_DOES_NOT_VERIFY": "code-conservation",
    "WRONG_CODE": "code-conservation",
    "SECOND_COMMIT_SUCCEEDS": "code-state",
    "REFUSED_COMMIT_CLOSES": "commit-transition",
    "COMMIT_CHECK_THEN_SET": "thread-commit",
    "DESTROY_FREES_THE_REGION": "memory-ownership",
    "CLASS_NOT_CHECKED": "budget-range",
    "BUDGET_NOT_REDUCED": "budget-mod-96",
    "BUDGET_CLAMPS": "budget-mod-96",
    "ALLOC_BELOW_ZERO_WRAPS": "budget-insufficient",
    "BUDGET_LARGE_AMOUNTS": "budget-amount",
    "BUDGET_GIVES_NOTHING": "budget-alloc",
    "BUDGET_NOT_ATOMIC": "thread-budget",
    "RELEASE_NOT_ATOMIC": "thread-budget",
    "RELEASE_ADDS_THEN_REDUCES": "thread-budget",
    "VERIFY_STATE_SHARED": "thread-domains",
    "VERIFY_ALWAYS_TRUE": "witness-verify",
    "WITNESS_IS_XOR": "witness-not-xor",
    "WITNESS_IS_RESIDUE": "witness-not-residue",
    "WITNESS_IS_CRC32": "witness-not-crc",
    "WITNESS_IS_ADLER32": "witness-not-adler",
    "WITNESS_IS_POLYNOMIAL": "witness-not-polynomial",
    "WITNESS_IS_FNV1A": "witness-not-fnv",
    "WITNESS_OF_FIRST_4_KIB": "witness-whole-region",
    "WITNESS_OF_FIRST_MIB": "witness-whole-region",
    "WITNESS_IGNORES_A_BIT": "witness-every-bit",
    "WITNESS_KEEPS_A_POINTER": "witness-record",
    "WITNESS_CHANGES_THE_REGION": "witness-generate",
    "LENGTH_IGNORED": "witness-length",
    "HASH_STATE_SHARED": "thread-witness",
    "LEAK_PER_WITNESS": "leak-witnesses",
    "LEAK_PER_REFUSED_COMMIT": "leak-refusals",
    "LEAK_PER_REFUSED_ATTACH": "leak-refusals",
    "LEAK_PER_UNATTACHED_DOMAIN": "leak-domains",
    "LEAK_PER_DELTA": "leak-deltas",
    "LEAK_PER_THREAD": "leak-threads",
    "NULL_CRASHES": "error-null",
    "NULL_DESTROY_CRASHES": "error-null-destroy",
    "NO_MEMORY_CRASHES": "code-memory",
    "NO_ERROR_TEXT": "error-text",
    "ERROR_TEXT_CONSTANT": "error-detail",
    "ERROR_SHARED": "thread-error",
    "FUNCTION_MISSING": "signature-atlas_get_last_error",
}
# What faulty.c decides otherwise than this project where the contract is silent: no row fails.
CHOICES = (
    "COMMITTED_NOT_VERIFIED",
    "NO_AMOUNT_ZERO",
    "NO_BUDGET_AFTER_COMMIT",
    "NO_WITNESS_OF_NOTHING",
)
