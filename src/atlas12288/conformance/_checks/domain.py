# SPDX-License-Identifier: Apache-2.0
"""Checks of domains: life cycle, commits, isolation."""

from .._numbers import MODULUS
from .._outcome import NotOfferedError, require
from .._subjects.library import E_CONSERVATION, E_STATE, OK, CallerBytes, Library, conserved, noise


def create(library: Library) -> str:
    sizes = (1, 96, 12288, 2**20)
    for size in sizes:
        library.destroy(library.new_domain(size, 50))
    others = [library.new_domain(96, 1) for _ in range(1000)]
    require(len(set(others)) == len(others), "two of 1000 domains have the same handle")
    for domain in others:
        library.destroy(domain)
    return f"domains of {', '.join(map(str, sizes))} bytes are created; 1000 at once all differ"


def attach(library: Library) -> str:
    region, other = library.region(conserved(noise(500))), library.region(b"\x01" * 500)
    with library.domain(region) as domain:
        require(library.verify(domain), "atlas_domain_verify is false for the attached bytes")
        region.bytes[7] ^= 1  # in place: the domain has no copy
        require(not library.verify(domain), "a change of the attached bytes is not seen")
        region.bytes[7] ^= 1
        require(
            library.verify(domain),
            "after the change was undone, atlas_domain_verify is still false",
        )
        other.bytes[0] = 2
        require(library.verify(domain), "a change of other bytes changed the domain")
    return "attach gives 0, and the domain judges the bytes in place"


def verify(library: Library) -> str:
    region = library.region(conserved(noise(1000)))
    with library.domain(region) as domain:
        for _ in range(3):
            require(
                library.verify(domain),
                "atlas_domain_verify is false for conserved bytes, must be true",
            )
        region.bytes[-1] += 1
        for _ in range(3):
            require(
                not library.verify(domain),
                "atlas_domain_verify is true for bytes with residue 1, must be false",
            )
    return "true for residue 0 and false for residue 1, on every call"


def code_ok(library: Library) -> str:
    region = library.region(conserved(noise(96)))
    with library.domain(region) as domain:
        code = library.commit(domain)
        require(code == OK, f"atlas_domain_commit of a conserved domain gives {code}, must give 0")
    return "attach and commit give 0"


def commit_verifies(library: Library) -> str:
    for residue in range(1, MODULUS):
        region = library.region(bytes([residue, 0]))
        with library.domain(region) as domain:
            code = library.commit(domain)
        require(
            code == E_CONSERVATION,
            f"atlas_domain_commit of bytes with residue {residue} gives {code}, must give "
            f"{E_CONSERVATION}, ATLAS_E_CONSERVATION",
        )
    return "residues 1 to 95: each gives ATLAS_E_CONSERVATION, 1"


def commit_once(library: Library) -> str:
    region = library.region(conserved(noise(96)))
    with library.domain(region) as domain:
        code = library.commit(domain)
        require(code == OK, f"the first commit gives {code}, must give 0")
        for _ in range(3):
            code = library.commit(domain)
            require(
                code == E_STATE,
                f"a commit after a commit gives {code}, must give {E_STATE}, ATLAS_E_STATE",
            )
    return "the first commit gives 0, each later one ATLAS_E_STATE, 5"


def commit_refused(library: Library) -> str:
    region = library.region(conserved(noise(96)))
    with library.domain(region, 5) as domain:
        for _ in range(3):
            region.bytes[0] ^= 1
            code = library.commit(domain)
            require(code != OK, "a domain that is not conserved is committed")
            region.bytes[0] ^= 1
        code = library.commit(domain)
        require(
            code == OK,
            f"after 3 refused commits the bytes are restored, but commit gives {code}, must give 0",
        )
    return "after refused commits the domain is still OPEN and can be committed"


def commit_witness(library: Library) -> str:
    region = library.region(conserved(noise(1000)))
    if not library.offers("atlas_domain_witness"):
        return _commit_witness_by_verify(library, region)
    witness_of = library.extension("atlas_domain_witness")
    with library.domain(region) as domain:
        require(witness_of(domain) is None, "an OPEN domain has a witness")
        library.commit(domain)
        witness = witness_of(domain)
        require(witness is not None, "a COMMITTED domain has no witness")
        require(
            library.matches(witness, region.address, region.size),
            "the witness of the commit does not match the committed bytes",
        )
        region.bytes[0] ^= 1
        require(
            not library.matches(witness, region.address, region.size),
            "the witness of the commit matches changed bytes",
        )
    return "commit makes a witness that matches the committed bytes and no others"


def _commit_witness_by_verify(library: Library, region: CallerBytes) -> str:
    """Return what `verify` shows; the contract does not require it to compare the witness."""
    with library.domain(region) as domain:
        code = library.commit(domain)
        require(code == OK, f"commit gives {code}, must give 0")
        before = library.verify(domain)
        region.bytes[0], region.bytes[1] = region.bytes[1], region.bytes[0]
        if not before or library.verify(domain):
            raise NotOfferedError(
                "atlas_domain_witness is not exported, and verify does not show a witness"
            )
    return "verify is false for a COMMITTED domain whose bytes changed with the same residue"


def destroy(library: Library) -> str:
    region = library.region(conserved(noise(96)))
    library.destroy(library.new_domain(96, 5))
    with library.domain(region):
        pass
    with library.domain(region) as domain:
        library.commit(domain)
    with library.domain(region) as domain:
        require(
            library.verify(domain),
            "verify is false for a region that is attached again after its domain was destroyed",
        )
    return "new, attached and COMMITTED domains are destroyed; the region can be attached again"


def isolation(library: Library) -> str:
    first_region, second_region = (
        library.region(conserved(noise(96, 1))),
        library.region(conserved(noise(96, 2))),
    )
    with library.domain(first_region, 10) as first, library.domain(second_region, 20) as second:
        library.alloc(first, 10)
        found = library.drain(second)
        require(found == 20, f"taking 10 from one domain leaves {found} of 20 in another")
        code = library.commit(first)
        require(code == OK, f"commit gives {code}, must give 0")
        first_region.bytes[0] ^= 1
        require(library.verify(second), "a change in one domain changed the verdict on another")
        code = library.commit(second)
        require(
            code == OK,
            f"after one domain was committed, committing another gives {code}, must give 0",
        )
    return "one domain does not change the state, budget or verdict of another"


def refusals_change_nothing(library: Library) -> str:
    region = library.region(conserved(noise(96)))
    before = bytes(region.bytes)
    witness = library.witness(region)
    with library.domain(region, 5) as domain:
        library.alloc(domain, 6)
        library.alloc(domain, 255)
        library.attach(domain, None, 96)
        library.matches(witness, region.address, region.size - 1)
        library.generate(None, 96)
        region.bytes[0] ^= 1
        library.commit(domain)
        library.matches(witness, region.address, region.size)
        region.bytes[0] ^= 1
        require(bytes(region.bytes) == before, "refused calls changed the bytes of the caller")
        require(library.verify(domain), "refused calls changed the verdict on the domain")
        require(
            library.matches(witness, region.address, region.size),
            "refused calls changed a witness",
        )
        left = library.drain(domain)
        require(left == 5, f"refused calls changed a budget of 5 to {left}")
        code = library.commit(domain)
        require(code == OK, f"after refused calls commit gives {code}, must give 0")
    library.forget(witness)
    return "7 refused calls leave bytes, budget, state and witness unchanged"


def example_lifecycle(library: Library) -> str:
    domain = library.new_domain(12288, 50)
    region = library.region(12288)
    library.attach(domain, region.address, 12288)
    require(library.verify(domain), "atlas_domain_verify of 12,288 zeros is false")
    code = library.commit(domain)
    require(code == OK, f"atlas_domain_commit gives {code}, must give 0")
    library.destroy(domain)
    return "create, attach, verify, commit and destroy work as in the example"
