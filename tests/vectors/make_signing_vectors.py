# SPDX-License-Identifier: Apache-2.0
"""Writes tests/vectors/signing/model_signing.json: bundles that model_signing 1.1.1 made of the
folder of the tests. Run it from `tests` where `make check-sign` has installed that version:

    cd tests && ../.venv/bin/python vectors/make_signing_vectors.py

Each run makes new keys, and so other signatures over the same statements; the tests hold for any.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from model_signing import hashing, signing

from support.signing import (
    CURVES,
    certificate,
    certificate_pem,
    make_folder,
    private_key,
    private_pem,
    public_pem,
)

YEARS = (-10, 36_500)  # in days


def configs() -> dict[str, Any]:
    """How files are hashed, by the name of the vector."""
    linked = hashing.Config().set_allow_symlinks(True)
    linked.set_ignored_paths(paths=["notes"], ignore_git_paths=False)
    files = {
        f"files {name}": hashing.Config().use_file_serialization(hashing_algorithm=name)
        for name in ("sha256", "blake2", "blake3")
    }
    shards = {
        f"shards {name}": hashing.Config().use_shard_serialization(
            hashing_algorithm=name, shard_size=30_000
        )
        for name in ("sha256", "blake2")
    }
    return {**files, **shards, "ignored paths": linked}


def main() -> None:
    bundles: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data = make_folder(place / "data")
        for curve in CURVES:
            key = private_key(curve)
            (place / "key.pem").write_bytes(private_pem(key))
            made = signing.Config().use_elliptic_key_signer(private_key=place / "key.pem")
            for title, config in configs().items() if curve == "P-256" else {"": None}.items():
                if config is not None:
                    made.set_hashing_config(config)
                made.sign(data, place / "made.sig")
                bundles[f"{curve} {title}".strip()] = {
                    "bundle": (place / "made.sig").read_text(),
                    "public_key": public_pem(key).decode(),
                }
        root_key, middle_key, key = (private_key("P-256", number) for number in (1, 2, 3))
        root = certificate("root", root_key, authority=True, days=YEARS)
        chain = {
            "middle": certificate(
                "middle", middle_key, ("root", root_key), authority=True, days=YEARS
            ),
            "signer": certificate("signer", key, ("middle", middle_key), days=YEARS),
        }
        for each, made_certificate in chain.items():
            (place / f"{each}.pem").write_bytes(certificate_pem(made_certificate))
        (place / "key.pem").write_bytes(private_pem(key))
        signing.Config().use_certificate_signer(
            private_key=place / "key.pem",
            signing_certificate=place / "signer.pem",
            certificate_chain=[place / "middle.pem"],
        ).sign(data, place / "made.sig")
        bundles["certificates"] = {
            "bundle": (place / "made.sig").read_text(),
            "root": certificate_pem(root).decode(),
        }
    target = Path(__file__).parent / "signing" / "model_signing.json"
    target.write_text(json.dumps(bundles, indent=1) + "\n")


if __name__ == "__main__":
    main()
