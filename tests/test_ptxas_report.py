# SPDX-License-Identifier: Apache-2.0
"""What `make check-ptxas` takes out of the assembler's report."""

import sys
from pathlib import Path

import pytest

from gpu import ptxas

REPORT = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'leaves' for 'sm_90'
ptxas info    : Function properties for leaves
    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads
ptxas info    : Used 72 registers, used 1 barriers, 16384 bytes smem, 400 bytes cmem[0]
"""
MODULE = ".version 7.8\n.target sm_80\n.visible .entry leaves()\n{ ret; }\n"


def assembler(folder: Path, report: str, code: int = 0) -> Path:
    """Return a program that reports as ptxas does."""
    program = folder / "ptxas"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.stderr.write({report!r})\nsys.exit({code})\n"
    )
    program.chmod(0o755)
    return program


def check(monkeypatch: pytest.MonkeyPatch, folder: Path, report: str, code: int = 0) -> int:
    program = assembler(folder, report, code)
    monkeypatch.setattr(ptxas, "find_ptxas", lambda: program)
    (folder / "leaves.ptx").write_text(MODULE)
    return ptxas.main([str(folder)])


def test_registers_and_shared_memory_are_printed_for_each_chip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(monkeypatch, tmp_path, REPORT.format(stack=0, stores=0, loads=0)) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"leaves.ptx leaves {chip}: 72 registers, 16384 bytes of shared memory"
        for chip in ptxas.CHIPS
    ]


@pytest.mark.parametrize("where", ["stack", "stores", "loads"])
def test_spills_and_a_stack_are_errors(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {"stack": 0, "stores": 0, "loads": 0} | {where: 8}
    assert check(monkeypatch, tmp_path, REPORT.format(**numbers)) == 1


def test_a_refused_module_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(monkeypatch, tmp_path, "ptxas fatal", code=255) == 1


def test_a_kernel_that_the_report_lacks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(monkeypatch, tmp_path, "ptxas info    : 0 bytes gmem") == 1


def test_a_folder_without_modules_is_an_error(tmp_path: Path) -> None:
    assert ptxas.main([str(tmp_path)]) == 1
