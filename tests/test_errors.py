# SPDX-License-Identifier: Apache-2.0
"""Errors: classes, codes, and messages that name the argument, its value and the rule."""

import inspect
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import atlas12288 as atlas
from atlas12288 import _native

CODES: dict[type[atlas.AtlasError], int] = {  # of the contract
    atlas.ConservationError: 1,
    atlas.WitnessError: 2,
    atlas.BudgetError: 3,
    atlas.DomainMemoryError: 4,
    atlas.StateError: 5,
}
BUILTINS: dict[type[atlas.AtlasError], tuple[type[Exception], ...]] = {
    atlas.ConservationError: (ValueError,),
    atlas.WitnessError: (ValueError,),
    atlas.BudgetError: (ValueError,),
    atlas.DomainMemoryError: (MemoryError, ValueError),
    atlas.StateError: (RuntimeError,),
}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


# --- Classes ---


@pytest.mark.parametrize("error", CODES)
def test_each_error_carries_its_code_of_the_contract(error: type[atlas.AtlasError]) -> None:
    assert error.code == error("text").code == CODES[error]
    assert isinstance(error.code, atlas.ErrorCode)


@pytest.mark.parametrize("error", CODES)
def test_each_error_is_an_atlas_error_and_the_builtin_that_a_user_would_catch(
    error: type[atlas.AtlasError],
) -> None:
    assert set(error.__bases__) == {atlas.AtlasError, *BUILTINS[error]}


@pytest.mark.parametrize("error", CODES)
def test_an_error_can_be_pickled(error: type[atlas.AtlasError]) -> None:
    again = pickle.loads(pickle.dumps(error("amt is 96, must be in 0..95")))
    assert type(again) is error
    assert str(again) == "amt is 96, must be in 0..95"


@pytest.mark.parametrize("error", CODES)
def test_an_error_can_be_made_as_picklers_of_others_make_it(error: type[atlas.AtlasError]) -> None:
    assert type(error.__new__(error, "amt")) is error


def test_each_code_has_its_text() -> None:
    assert [code.text for code in atlas.ErrorCode] == [
        "success",
        "conservation law violated",
        "witness verification failed",
        "budget constraint violated",
        "memory allocation failed",
        "invalid state transition",
    ]


@pytest.mark.parametrize("code", [-1, 6, 2**31, 2**32, 2**64, -(10**30)])
def test_a_number_that_is_no_code_has_a_text_too(code: int) -> None:
    assert _native.error_string(code) == "unknown error code"


# --- Integers out of range: the class, the argument, the value, the rule ---


@pytest.mark.parametrize("budget_class", [-1, 96, 255, 256, 300, 2**63, 10**30])
def test_a_budget_class_outside_0_to_95_is_a_budget_error(budget_class: int) -> None:
    rule = rf"^budget_class is {budget_class}, must be in 0\.\.95$"
    with pytest.raises(atlas.BudgetError, match=rule):
        atlas.Domain(bytes=1, budget_class=budget_class)


@pytest.mark.parametrize("size", [0, -1, 2**64, 10**30, -(10**30)])
def test_a_capacity_outside_size_t_is_a_domain_memory_error(size: int) -> None:
    with pytest.raises(atlas.DomainMemoryError, match=rf"^bytes is {size}, must be in 1\.\."):
        atlas.Domain(bytes=size)


def test_the_largest_capacity_is_accepted() -> None:
    assert atlas.Domain(bytes=2 * sys.maxsize + 1).bytes == 2 * sys.maxsize + 1


@pytest.mark.parametrize("value", [-1, 256, 2**63, 10**30])
def test_a_fill_value_outside_a_byte_is_a_value_error(value: int) -> None:
    region = bytearray(b"\xa5" * 96)
    with pytest.raises(ValueError, match=rf"^value is {value}, must be in 0\.\.255$"):
        atlas.conserved_fill(region, value)
    assert region == b"\xa5" * 96


def test_a_number_of_too_many_digits_is_told_by_its_bits() -> None:
    for call in (
        lambda: atlas.Domain(bytes=10**5000),
        lambda: atlas.Domain(bytes=1, budget_class=10**5000),
        lambda: atlas.conserved_fill(bytearray(1), 10**5000),
    ):
        with pytest.raises(ValueError, match="is an int of 16610 bits, must be in"):
            call()


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, [1]])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("bytes", lambda v: atlas.Domain(bytes=v)),
        ("budget_class", lambda v: atlas.Domain(bytes=1, budget_class=v)),
        ("value", lambda v: atlas.conserved_fill(bytearray(1), v)),
        ("repeats", lambda v: _native.time_operation("residue", bytearray(1), b"1", v)),
    ],
)
def test_what_is_no_integer_is_a_type_error(
    name: str, call: Callable[[object], object], value: object
) -> None:
    kind = type(value).__name__
    with pytest.raises(TypeError, match=rf"^{name} is of type {kind}, must be an int$"):
        call(value)


def test_what_has_an_index_is_an_integer() -> None:
    class Fifty:
        def __index__(self) -> int:
            return 50

    domain = atlas.Domain(bytes=Fifty(), budget_class=Fifty())
    assert (domain.bytes, domain.budget.available) == (50, 50)


# --- Messages ---


def test_messages_do_not_name_functions_of_c() -> None:
    domain = atlas.Domain(bytes=96, budget_class=1)
    calls: list[Callable[[], object]] = [
        domain.verify,
        lambda: domain.budget.alloc(2),
        lambda: domain.attach(bytes(97)),
        lambda: atlas.conserved_copy(bytearray(1), b"\x01"),
        lambda: atlas.Witness.from_bytes(b""),
        lambda: atlas.select_kernel_set("no such set"),
    ]
    for call in calls:
        with pytest.raises(atlas.AtlasError, match=r"must be|must have") as caught:
            call()
        assert "atlas_" not in str(caught.value)


def test_the_message_of_a_law_that_is_broken_names_residue_length_and_law() -> None:
    domain = atlas.Domain(bytes=96)
    domain.attach(b"\x07")
    with pytest.raises(atlas.ConservationError) as caught:
        domain.commit()
    assert str(caught.value) == "residue of the 1 attached bytes is 7, must be 0 (mod 96)"


# --- Kernel sets ---


@pytest.mark.parametrize("name", ["", "no such set", "portable\0", "\ud800", "PORTABLE"])
def test_a_kernel_set_that_is_not_there_is_refused_and_the_choice_stays(name: str) -> None:
    before = atlas.kernel_set()
    assert not atlas.kernel_set_supported(name)
    with pytest.raises(atlas.StateError, match=r"^kernel set is .+, must be one of .*portable"):
        atlas.select_kernel_set(name)
    assert atlas.kernel_set() == before


def test_the_portable_kernel_set_is_always_there() -> None:
    assert atlas.kernel_sets()[-1] == "portable"
    assert atlas.kernel_set_supported("portable")
    assert atlas.kernel_set() in atlas.kernel_sets()


@pytest.mark.parametrize("name", [None, 5, b"portable"])
def test_the_name_of_a_kernel_set_is_a_str(name: object) -> None:
    for call in (atlas.select_kernel_set, atlas.kernel_set_supported):
        with pytest.raises(TypeError):
            call(name)  # type: ignore[arg-type]


SHOW_KERNEL_SET = "import atlas12288; print(atlas12288.kernel_set())"


def test_the_environment_chooses_the_kernel_set() -> None:
    assert python(SHOW_KERNEL_SET, ATLAS12288_KERNELS="portable").stdout == "portable\n"
    default = python(SHOW_KERNEL_SET, ATLAS12288_KERNELS="").stdout.strip()
    # The pipeline runs on other CPUs too, a hundred times as slowly.
    is_amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    assert default == next(
        name
        for name in atlas.kernel_sets()
        if atlas.kernel_set_supported(name) and (is_amd or not name.endswith("+vbmi2"))
    )


def test_a_kernel_set_of_the_environment_that_is_not_there_is_an_import_error() -> None:
    result = python(SHOW_KERNEL_SET, ATLAS12288_KERNELS="warp")
    assert result.returncode == 1
    assert "ImportError: ATLAS12288_KERNELS is 'warp', must be one of " in result.stderr
    assert "portable" in result.stderr


# --- Import ---

# A fresh import loads these modules of ours. What else there is comes with the first use of a name.
OWN = {"_domain", "_errors", "_json", "_native", "_types", "_witness"}
# Each of these would take a good part of the time of the whole import.
HEAVY = {
    *("contextlib", "ctypes", "dataclasses", "datetime", "decimal", "inspect", "json", "re"),
    *("threading", "typing"),
}


def imported() -> set[str]:
    """Return the modules that `import atlas12288` loads in a process that has loaded no others.

    Without `site`: what it loads, for other packages too, would be taken for loaded by nobody.
    """
    code = f"""
import sys
sys.path[:0] = {sys.path}
before = {{*sys.modules}}
import atlas12288
print(*({{*sys.modules}} - before))
"""
    command = [sys.executable, "-I", "-S", "-c", code]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_import_takes_little_and_from_the_standard_library_only() -> None:
    modules = imported()
    ours = {name for name in modules if name.split(".")[0] == "atlas12288"}
    assert ours == {"atlas12288", *(f"atlas12288.{name}" for name in OWN)}
    # Cython keeps modules of its own, without files, for what its modules share.
    by_cython = {name for name in modules if name.startswith(("cython_runtime", "_cython_"))}
    others = {name.split(".")[0] for name in modules - ours - by_cython}
    assert others <= sys.stdlib_module_names
    # On 3.15 without the GIL, what Cython makes of the binding imports inspect by itself.
    by_itself = {"inspect"} if sys.version_info >= (3, 15) and "t" in sys.abiflags else set()
    assert not others & HEAVY - by_itself


def test_the_flags_of_code_objects_are_those_of_this_python() -> None:
    """The binding has them as numbers, so that it need not import inspect."""
    header = Path(__file__).parent.parent / "src" / "binding" / "light_import.h"
    flags = re.findall(r"^#define (CO_\w+) (0x\w+)$", header.read_text(), re.MULTILINE)
    assert len(flags) == 7
    for name, number in flags:
        assert getattr(inspect, name) == int(number, 16)


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "MemoryError"])
def test_an_import_that_is_interrupted_raises_what_interrupted_it(error: str) -> None:
    """Wherever it is interrupted: C code that imports must look whether it could."""
    names = imported()
    code = f"""
import os, sys
class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == interrupted:
            interrupts.append(name)
            raise {error}
sys.path[:0] = {sys.path}
sys.meta_path.insert(0, Interrupts())
for interrupted in {sorted(names)}:
    interrupts = []
    child = os.fork()
    if child == 0:
        raised = False
        try:
            import atlas12288
        except {error}:
            raised = True
        os._exit(0 if raised == bool(interrupts) else 1)
    if os.waitpid(child, 0)[1] != 0:
        print(interrupted)
"""
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""


# --- Benchmark operations ---


def test_each_timed_operation_runs_on_a_conserved_window() -> None:
    names = _native.timed_operations()
    assert "residue" in names
    source = bytes(atlas.WINDOW_BYTES)
    for name in names:
        assert _native.time_operation(name, bytearray(source), source, 3) >= 1


@pytest.mark.parametrize("repeats", [0, -1, 2**32, 2**64, 10**30])
def test_repeats_out_of_range_are_a_value_error(repeats: int) -> None:
    with pytest.raises(ValueError, match=rf"^repeats is {repeats}, must be in 1\.\."):
        _native.time_operation("residue", bytearray(1), b"1", repeats)


def test_an_operation_that_is_unknown_or_refused_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="operation is 'sleep', must be one of memcpy, "):
        _native.time_operation("sleep", bytearray(1), b"1", 1)
    with pytest.raises(ValueError, match=r"conserved_memcpy refused its input: .*is 49, must be 0"):
        _native.time_operation("conserved_memcpy", bytearray(1), b"1", 1)
    with pytest.raises(ValueError, match="dst has 1 bytes and src has 2, must be of equal length"):
        _native.time_operation("residue", bytearray(1), b"12", 1)
    with pytest.raises(BufferError, match="dst is of type bytes, must be writable"):
        _native.time_operation("residue", b"1", b"1", 1)
