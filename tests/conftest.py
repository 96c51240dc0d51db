# SPDX-License-Identifier: Apache-2.0
"""Fixtures and hypothesis profiles of all tests."""

import gc
import os
import signal
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import atlas12288
from atlas12288.manifest import _store
from support.kernel_sets import KERNEL_SET_PARAMS

pytest_plugins = ["support.c_fixtures"]

# Not every Python has these packages; the tests are about what is built or read with them.
NEEDED_BY = {
    "llvmlite": ("test_interleavings.py", "test_kernel_tables.py", "test_kernelgen.py"),
    "cryptography": ("test_cli_sign.py", "test_manifest_interop.py", "test_signing.py"),
    "sigstore": ("test_manifest_interop.py",),
    "bagit": ("test_list_forms.py",),
    "zarr_checksum": ("test_zarr_stores.py",),
}
MISSING = {name: tests for name, tests in NEEDED_BY.items() if find_spec(name) is None}
collect_ignore = [test for tests in MISSING.values() for test in tests]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave all modules and tests out of garbage collections: each would look at 500 MB."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True, scope="module")
def earlier_objects_are_kept() -> None:
    """Leave what earlier modules made out of garbage collections, which many tests ask for."""
    gc.collect()  # of what the module before this one made
    gc.freeze()


def pytest_configure() -> None:
    """Take SIGINT, which what a shell runs in the background ignores, and its children too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    return [f"left out, without {name}: {', '.join(tests)}" for name, tests in MISSING.items()]


@pytest.fixture(autouse=True)
def no_recent_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a test are as good as old: it can set no ctime. Files from the future are not."""
    monkeypatch.setattr(_store, "RACY_NS", 0)


# A fixture such as kernel_set holds for all examples of a test, as intended; a deadline would only
# measure the machine.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("default", _COMMON, max_examples=20)
settings.register_profile("ci", _COMMON, max_examples=40, derandomize=True)
settings.register_profile("full", _COMMON, max_examples=100)  # make check-all
settings.register_profile("thorough", _COMMON, max_examples=2000)
settings.load_profile("ci" if os.environ.get("CI") else "default")  # or --hypothesis-profile


@pytest.fixture(autouse=True, scope="session")
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's state folder of all tests and of the processes that they start."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder / "atlas12288"


@pytest.fixture(params=KERNEL_SET_PARAMS)
def kernel_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once with every kernel set that this CPU can run."""
    before = atlas12288.kernel_set()
    name: str = request.param
    atlas12288.select_kernel_set(name)
    assert atlas12288.kernel_set() == name
    yield name
    atlas12288.select_kernel_set(before)
