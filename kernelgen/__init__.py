# SPDX-License-Identifier: Apache-2.0
"""Build-time generator of the kernels: LLVM IR written in Python, compiled ahead of time.

Three rooms, and the tables that join them:

- describe: what a kernel does, with no instruction set (``describe``, ``sha256``, ``contract``);
- lower: how one instruction set does it (``lower``, ``lower_x86``, ``lower_arm``);
- emit: LLVM's code generator makes objects, assembly and bitcode, and the C header (``emit``);
- tables: the kernels and their C types (``kernels``), the kernel sets (``targets``).

``python -m kernelgen --help`` is what the build calls. Nothing here is installed.
"""
