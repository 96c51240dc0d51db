# SPDX-License-Identifier: Apache-2.0
"""Checks of errors and memory: NULL, messages, failed allocations, alignment, bounds, leaks."""

from collections.abc import Callable
from ctypes import c_void_p
from typing import Final

from ..._words import counted
from .._numbers import MODULUS
from .._outcome import BrokenClauseError, NotCheckedError, require
from .._subjects import driver
from .._subjects.library import E_MEMORY, OK, Library, conserved, noise
from .law import LENGTHS

# --- Errors ---


def null_destroy(library: Library) -> str:
    library.under("(NULL)")
    library.destroy(None)
    library.forget(None)
    return "atlas_domain_destroy(NULL) and atlas_witness_destroy(NULL) do nothing"


def null_arguments(library: Library) -> str:
    region = library.region(96)
    domain = library.new_domain(96, 5)
    witness = library.witness(region)
    address = region.address
    # A call and the result that it must not give; None if the function cannot report failure.
    calls: list[tuple[str, Callable[[], object], object]] = [
        ("atlas_domain_attach(NULL, base, 96)", lambda: library.attach(None, address, 96), OK),
        ("atlas_domain_attach(domain, NULL, 96)", lambda: library.attach(domain, None, 96), OK),
        ("atlas_domain_verify(NULL)", lambda: library.verify(None), True),
        ("atlas_domain_commit(NULL)", lambda: library.commit(None), OK),
        ("atlas_budget_alloc(NULL, 1)", lambda: library.alloc(None, 1), True),
        ("atlas_budget_release(NULL, 1)", lambda: library.release(None, 1), True),
        ("atlas_witness_verify(NULL, base, 96)", lambda: library.matches(None, address, 96), True),
        ("atlas_witness_verify(w, NULL, 96)", lambda: library.matches(witness, None, 96), True),
        ("atlas_conserved_delta(NULL, after, 96)", lambda: library.delta(None, address, 96), None),
        ("atlas_conserved_delta(before, NULL, 96)", lambda: library.delta(address, None, 96), None),
    ]
    for text, call, never in calls:
        library.under(f", as {text}")
        found = call()
        if never is not None:
            require(found != never, f"{text} gives {found}, must fail".lower())
    text = "atlas_witness_generate(NULL, 96)"
    library.under(f", as {text}")
    require(library.generate(None, 96) is None, f"{text} gives a witness, must give NULL")
    return (
        f"{len(calls) + 1} calls with NULL: none crashes, and each reports failure if its type can"
    )


def unattached(library: Library) -> str:
    domain = library.new_domain(96, 5)
    library.under(" of a domain with nothing attached")
    library.verify(domain)
    code = library.commit(domain)
    require(code in range(6), f"atlas_domain_commit gives {code}, must be an error code")
    library.destroy(domain)
    return f"no crash; the contract does not define the results, commit gives {code}"


def last_error(library: Library) -> str:
    region = library.region(bytes([1, 0]))
    texts = []

    def provoked(what: str) -> None:
        text: bytes | None = library.last_error()
        require(text, f"after {what} atlas_get_last_error() gives {text!r}, must give a text")
        texts.append(text)

    with library.domain(region, 5) as domain:
        require(library.commit(domain) != OK, "bytes with residue 1 are committed")
        provoked("a commit of bytes with residue 1")
        require(not library.alloc(domain, 6), "taking 6 from 5 is true")
        provoked("taking 6 from a budget of 5")
    require(library.generate(None, 96) is None, "a witness of NULL is made")
    provoked("a witness of NULL")
    witness = library.witness(region)
    region.bytes[1] = 1
    require(not library.matches(witness, region.address, 2), "changed bytes match")
    provoked("a witness that does not match")
    library.forget(witness)
    require(library.attach(None, region.address, 2) != OK, "attach to NULL gives 0")
    provoked("an attach to NULL")
    return f'{len(texts)} errors have a text; the first is "{_text(texts[0])}"'


def error_detail(library: Library) -> str:
    region = library.region(bytes([1, 0]))
    texts: dict[bytes, str] = {}

    def provoked(what: str) -> None:
        text: bytes = library.last_error() or b""
        require(
            text not in texts,
            f'after {what} the text is "{_text(text)}", as after {texts.get(text)}',
        )
        texts[text] = what

    with library.domain(region, 5) as domain:
        library.commit(domain)
        provoked("a commit of bytes with residue 1")
        library.alloc(domain, 6)
        provoked("taking 6 from a budget of 5")
        witness = library.witness(region)
        region.bytes[1] = 1
        library.matches(witness, region.address, region.size)
        provoked("a witness that does not match")
        library.forget(witness)
    return f"{len(texts)} different errors have different texts"


def _text(message: bytes | None) -> str:
    return (message or b"").decode(errors="backslashreplace")


def out_of_memory(library: Library) -> str:
    most = 500_000
    handles, made = (c_void_p * most)(), (c_void_p * most)()
    region = library.region(conserved(noise(96)))
    address = region.address
    domain = library.new_domain(96, 0)
    library.attach(domain, address, region.size)
    library.under(" without memory")
    domains = witnesses = 0
    # All memory that Python needs is allocated already: nothing below creates an object that stays.
    with library.without_memory():
        while domains < most and (handle := library.create(96, 0)) is not None:
            handles[domains] = handle
            domains += 1
        text = library.last_error()
        # The remaining memory may be too small for a domain but large enough for a witness.
        while witnesses < most and (handle := library.generate(address, region.size)) is not None:
            made[witnesses] = handle
            witnesses += 1
        code = library.commit(domain)
    if most in (domains, witnesses):
        raise NotCheckedError(f"{most} domains and witnesses did not use up the memory")
    require(
        text, "atlas_get_last_error() is empty after a domain could not be created without memory"
    )
    require(
        code in (OK, E_MEMORY),
        f"atlas_domain_commit without memory gives {code}, must give {E_MEMORY}, or 0",
    )
    for i in range(domains):
        library.destroy(handles[i])
    for i in range(witnesses):
        library.forget(made[i])
    if code != OK:
        code_after = library.commit(domain)
        require(code_after == OK, f"with memory again, commit gives {code_after}, must give 0")
    library.destroy(domain)
    library.destroy(library.new_domain(96, 0))
    return (
        f"without memory, domain {domains + 1} and witness {witnesses + 1} are NULL and commit "
        f"gives {code}; with memory, all work again"
    )


# --- Memory ---


def alignment(library: Library) -> str:
    data = conserved(noise(1000))
    before = noise(1000, 1)
    for offset in range(64):
        region = library.region(data, offset)
        with library.domain(region) as domain:
            require(library.verify(domain), f"verify is false at offset {offset}")
            code = library.commit(domain)
            require(code == OK, f"commit gives {code} at offset {offset}")
        witness = library.witness(region)
        require(
            library.matches(witness, region.address, region.size),
            f"a witness does not match at offset {offset}",
        )
        library.forget(witness)
        other = library.region(before, 63 - offset)
        found = library.delta(other.address, region.address, region.size)
        expected = (region.residue() - other.residue()) % MODULUS
        require(found == expected, f"delta is {found} at offset {offset}, must be {expected}")
    return "verify, commit, witness and delta are correct at offsets 0 to 63 of a page"


def bounds(library: Library) -> str:
    for size in LENGTHS:
        other = library.region(size)
        region = library.region(conserved(noise(size)), at_end=True)
        library.under(f" on {size} read-only bytes at the end of readable memory")
        with region.read_only():
            with library.domain(region) as domain:
                library.verify(domain)
                library.commit(domain)
            witness = library.witness(region)
            library.matches(witness, region.address, size)
            library.forget(witness)
            library.delta(region.address, other.address, size)
            library.delta(other.address, region.address, size)
    return (
        f"{len(LENGTHS)} lengths before the end of a page: nothing past the end is read, nothing "
        "is written"
    )


def ownership(library: Library) -> str:
    size = 3000
    data = conserved(noise(size))
    for commits in (False, True):
        address = library.allocate(size)
        library.write(address, data)
        domain = library.new_domain(size, 0)
        code = library.attach(domain, address, size)
        require(code == OK, f"attach gives {code}")
        if commits:
            library.commit(domain)
        library.under(" of a domain with memory of malloc() attached")
        library.destroy(domain)
        # malloc returns freed memory next for the same size.
        others = [library.allocate(size) for _ in range(50)]
        require(
            address not in others,
            "atlas_domain_destroy freed the attached memory: malloc() returned it again",
        )
        require(
            library.read(address, size) == data,
            "atlas_domain_destroy changed the attached memory",
        )
    return "memory from malloc() still belongs to the caller after destroy, with and without commit"


# --- Leaks ---

_BATCHES: Final = 6
_THREADS: Final = 4


def _no_leak(library: Library, what: str, rounds: int, work: Callable[[], None]) -> str:
    """Require that memory stops growing.

    Caches fill and garbage collectors wait, so only growth in every batch proves a leak.

    Args:
        library: the library whose memory is measured.
        what: describes one round, for the evidence.
        rounds: number of rounds in a batch.
        work: does one round.
    """
    gauges = library.gauges()
    for _ in range(rounds // 10 + 1):
        work()
    most = 0
    for batch in range(_BATCHES):
        before = [gauge.read() for gauge in gauges]
        for _ in range(rounds):
            work()
        grown = [gauge.read() - start for gauge, start in zip(gauges, before, strict=True)]
        if not any(
            growth >= max(gauge.least, gauge.least_a_round * rounds)
            for gauge, growth in zip(gauges, grown, strict=True)
        ):
            grew = f" after {counted(batch, 'batch', 'batches')} in which it did" if batch else ""
            return f"{rounds} rounds of {what}: memory in use does not grow{grew}"
        most = max(grown)
    raise BrokenClauseError(
        f"{_BATCHES} batches of {rounds} rounds of {what}: memory in use grew in each batch, in "
        f"the last one by {most / rounds:.0f} bytes a round"
    )


def leak_domains(library: Library) -> str:
    region = library.region(conserved(noise(96)))

    def work() -> None:
        with library.domain(region, 5) as domain:
            library.verify(domain)
            library.alloc(domain, 5)
            library.commit(domain)
        with library.domain(region):
            pass
        library.destroy(library.new_domain(96, 5))

    what = "creating and destroying a committed, an attached and a new domain"
    return _no_leak(library, what, 3000, work)


def leak_witnesses(library: Library) -> str:
    region = library.region(noise(96))

    def work() -> None:
        witness = library.generate(region.address, region.size)
        library.matches(witness, region.address, region.size)
        library.forget(witness)

    return _no_leak(library, "generating, verifying and destroying a witness", 5000, work)


def leak_deltas(library: Library) -> str:
    before, after = library.region(noise(96, 1)), library.region(noise(96, 2))

    def work() -> None:
        library.delta(before.address, after.address, before.size)

    return _no_leak(library, "computing a delta", 5000, work)


def leak_refusals(library: Library) -> str:
    region = library.region(bytes([1, 0]))
    kept = library.witness(library.region(b"ab"))

    def work() -> None:
        with library.domain(region, 5) as domain:
            library.commit(domain)
            library.alloc(domain, 6)
        unattached = library.new_domain(96, 0)
        library.attach(unattached, None, 96)
        library.destroy(unattached)
        library.attach(None, region.address, region.size)
        library.matches(kept, region.address, region.size)
        library.generate(None, 96)
        library.commit(None)

    return _no_leak(library, "7 refused calls", 3000, work)


def leak_commits(library: Library) -> str:
    region = library.region(conserved(noise(4096)))

    def work() -> None:
        with library.domain(region) as domain:
            library.commit(domain)
            library.commit(domain)
            driver.commits(library, domain, _THREADS)
        with library.domain(region) as domain:
            driver.commits(library, domain, _THREADS)

    return _no_leak(library, f"committing two domains from {_THREADS} threads", 150, work)


def leak_threads(library: Library) -> str:
    region = library.region(conserved(noise(96)))

    def work() -> None:
        driver.lives(library, region, _THREADS)

    return _no_leak(library, f"using all functions in {_THREADS} threads", 150, work)
