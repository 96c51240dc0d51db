# SPDX-License-Identifier: Apache-2.0
# Each target sets up all that it needs, in .venv.
#
#   make demo            build, install, then witness and verify a real folder, and damage copies (DATA=folder)
#   make test            the tests of the core, by as many processes as there are cores
#   make check-slow      the tests of the core that `make test` leaves out: each mistake that the conformance kit
#                        must find, its whole run on other libraries, more hostile folders, the types by mypy
#   make check-core      all tests of the core, with 100 examples of each rule (PYTEST_ARGS=file: of one file)
#   make check-all       every test there is: check-core, and check-native to test-wasm below
#   make check-native    the C library under sanitizers and valgrind, and on older CPUs
#   make check-aarch64   the C library on aarch64, under qemu
#   make check-s390x     the same on a big-endian CPU
#   make dist-c          the source archive for C users, who need a C compiler alone, in dist
#   make check-dist-c    the archive as its page says: gcc, clang, musl, other CPUs, CMake, meson
#   make check-kernels   all tests, once with each kernel set that this CPU can run
#   make check-faults    kills, full and failing disks, a million files
#   make check-remote    manifests of a web server, an FTP server and an S3 server, all started by the tests,
#                        with the newest fsspec and the oldest one; 2,000 storages that cannot be relied on;
#                        lists of names and digests, both ways with rclone
#   make check-cluster   manifests by processes of Dask, which are killed meanwhile
#   make check-sign      signatures, both ways with model_signing, and the schemas of the specification
#   make check-gpu       on a machine with a CUDA device: all results against the CPU's, then the table of docs/gpu.md
#   make check-gpu-model the kernels for GPUs without one: every class of lengths, and mistakes that must be seen
#                        (three minutes of one core)
#   make check-zarr      stores of Zarr, beside zarr-checksum
#   make check-torch     tensors of PyTorch and JAX on the CPU, arrays of Numba by the driver without a GPU, and the
#                        page of PyTorch (3 GB of packages)
#   make check-ptxas     the GPU kernels of the package through NVIDIA's assembler, for sm_80 to sm_120: registers,
#                        and an error for spills (PTX=folder: those in a folder)
#   make fuzz            random bytes in all that is read, FUZZ_SECONDS=60 for each target
#   make lint            ruff, clang-format, mypy, and pyright as editors use it
#   make bench           the benchmark, side by side with what people use today
#   make docs            the documentation site, in build/docs/index.html; warnings are errors
#   make docs-performance  measure, and write the tables and the picture of docs/performance.md
#   make wasm            the WebAssembly modules, in build/wasm and for the package in js
#   make test-wasm       the package in js under Node, the modules under wasmtime, the page in Chromium
#   make clean           remove what these targets made

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?=
FUZZ_SECONDS ?= 60

SOURCES := pyproject.toml meson.build meson.options \
	$(shell find include kernelgen runtime src -type f -not -path '*/__pycache__/*')

WASM := js/lib/atlas12288.wasm js/lib/atlas12288-simd.wasm

# In PYTEST_ARGS, -n0 runs the tests in one process, as a debugger needs it.
WORKERS := -n logical --dist worksteal

.PHONY: demo test check-slow check-all check-core check-native check-aarch64 check-s390x dist-c check-dist-c check-kernels check-faults check-remote check-cluster check-sign check-zarr check-gpu check-gpu-model check-torch check-ptxas fuzz lint bench docs docs-performance wasm test-wasm clean

demo: $(VENV)/.package
	$(BIN)/python demo/demo.py $(DATA)

# Built once for the tests of all these targets.
test check-slow check-core check-kernels check-native: $(VENV)/.c-library
test check-slow check-core check-kernels check-native: export ATLAS12288_PREFIX := $(abspath $(VENV))/c-library/prefix

test: $(VENV)/.test
	$(BIN)/python -m pytest $(WORKERS) -m "not slow" $(PYTEST_ARGS)

check-slow: $(VENV)/.test
	$(BIN)/python -m pytest $(WORKERS) -m slow $(PYTEST_ARGS)

check-core: $(VENV)/.test
	$(BIN)/python -m pytest $(WORKERS) --hypothesis-profile=full $(PYTEST_ARGS)

# One after another, also under make -j: each measures memory or kills processes as if it were alone.
check-all:
	for target in check-core check-native check-aarch64 check-s390x check-dist-c check-faults check-remote check-cluster check-sign check-zarr test-wasm; do \
	  $(MAKE) $$target || exit 1; \
	done

check-native: $(VENV)/.test
	$(BIN)/python -m pytest $(WORKERS) tests/native --ignore=tests/native/test_targets.py \
	  --ignore=tests/native/test_dist_c_builds.py $(PYTEST_ARGS)

check-aarch64 check-s390x: check-%: $(VENV)/.test
	$(BIN)/python -m pytest tests/native/test_targets.py -k $* $(PYTEST_ARGS)

dist-c: $(VENV)/.dist-c
	$(BIN)/python -B dist-c/build.py --output dist

check-dist-c: $(VENV)/.test
	$(BIN)/python -m pytest tests/native/test_dist_c_builds.py tests/test_dist_c.py $(PYTEST_ARGS)

check-kernels: $(VENV)/.test
	for name in $$($(BIN)/python -c \
	  'import atlas12288 as a; print(*filter(a.kernel_set_supported, a.kernel_sets()))'); do \
	  echo "== $$name"; ATLAS12288_KERNELS=$$name $(BIN)/python -m pytest -q $(WORKERS) $(PYTEST_ARGS) || exit 1; \
	done

check-faults: $(VENV)/.test
	$(BIN)/python -m pytest tests/faults $(PYTEST_ARGS)

REMOTE_TESTS := tests/remote tests/test_identities.py tests/test_manifest_archives.py \
	tests/test_manifest_remote.py tests/test_unreliable_storage.py

check-remote: $(VENV)/.remote $(VENV)/.remote-oldest
	$(BIN)/python -m pytest $(REMOTE_TESTS) $(PYTEST_ARGS)
	$(VENV)/remote-oldest/bin/python -m pytest $(REMOTE_TESTS) $(PYTEST_ARGS)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest tests/test_list_forms.py $(PYTEST_ARGS)

check-cluster: $(VENV)/.test
	$(BIN)/python -m pytest tests/cluster $(PYTEST_ARGS)

check-sign: $(VENV)/.sign
	$(BIN)/python -m pytest tests/signing tests/test_signing.py tests/test_cli_sign.py $(PYTEST_ARGS)

check-zarr: $(VENV)/.zarr
	$(BIN)/python -m pytest tests/test_zarr_stores.py tests/test_documents.py -k zarr $(PYTEST_ARGS)

PTX ?= $(wildcard $(VENV)/lib/python3*/site-packages/atlas12288)

check-ptxas: $(VENV)/.ptxas
	$(VENV)/ptxas/bin/python tests/gpu/ptxas.py $(PTX)

GPU_MODEL_TESTS := tests/test_grid.py tests/test_ptx.py tests/test_gpu.py tests/test_ptx_simulator.py \
	tests/test_fake_device.py

check-gpu-model: $(VENV)/.test
	$(BIN)/python -m pytest $(WORKERS) $(GPU_MODEL_TESTS) $(PYTEST_ARGS)

check-torch: $(VENV)/.torch
	$(BIN)/python -m pytest tests/pytorch $(PYTEST_ARGS)
	$(BIN)/python -m pytest tests/test_documents.py -k pytorch $(PYTEST_ARGS)

check-gpu: $(VENV)/.torch
	$(BIN)/python -m pytest tests/gpu tests/pytorch $(PYTEST_ARGS)
	$(BIN)/python benchmarks/gpu.py

fuzz: $(VENV)/.fuzz
	$(BIN)/python -B fuzz/run.py $(FUZZ_SECONDS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $$(find include js/wasm runtime src tests -name '*.[ch]' -o -name '*.cpp')
	$(BIN)/mypy
	$(BIN)/basedpyright --level error --pythonpath $(BIN)/python tests/support/typing_sample.py

bench: $(VENV)/.bench
	$(BIN)/atlas12288 bench --js js $(BENCH_ARGS)

docs: $(VENV)/.docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet docs build/docs

docs-performance: $(VENV)/.bench $(VENV)/.folders $(WASM)
	$(BIN)/python benchmarks/performance_docs.py

wasm: $(WASM)

# Both of one run. The version is that of meson.build.
$(WASM) &: $(VENV)/.wasm meson.build $(shell find js/wasm include kernelgen runtime -name '*.[chp]*')
	$(BIN)/python -B js/wasm/build.py --output build/wasm
	cp build/wasm/*.wasm js/lib/

# The page test drives Python's hashlib and command line too. As root, Debian's Chromium is installed
# for it.
test-wasm: $(WASM) js/node_modules/.package-lock.json $(VENV)/.test-wasm
	command -v chromium > /dev/null || { [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y chromium; } || \
	  { echo 'make test-wasm needs chromium (Debian: apt-get install chromium)' >&2; exit 1; }
	cd js && ATLAS12288_WASM=plain npm test
	cd js && ATLAS12288_WASM=simd npm test
	$(BIN)/python -m pytest tests/wasm $(PYTEST_ARGS)
	cd js && ATLAS12288=$(abspath $(BIN))/atlas12288 PYTHON=$(abspath $(BIN))/python npm run test-page

js/node_modules/.package-lock.json: js/package.json js/package-lock.json
	cd js && npm ci --no-audit --no-fund
	touch $@

clean:
	rm -rf $(VENV) dist/atlas12288-c-*.tar.gz build/docs build/wasm js/lib/*.wasm js/LICENSE js/node_modules

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.package: $(VENV)/.venv $(SOURCES)
	$(BIN)/python -m pip install --quiet .
	touch $@

$(VENV)/.test: $(VENV)/.package
	$(BIN)/python -m pip install --quiet --group test
	touch $@

$(VENV)/.c-library: $(VENV)/.test
	rm -rf $(VENV)/c-library
	PYTHONPATH=tests:. $(BIN)/python -m support.c_fixtures $(VENV)/c-library
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group lint
	touch $@

$(VENV)/.remote: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group remote --group lists
	touch $@

$(VENV)/.zarr: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group zarr
	touch $@

$(VENV)/.remote-oldest: $(VENV)/.package
	$(PYTHON) -m venv $(VENV)/remote-oldest
	$(VENV)/remote-oldest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/remote-oldest/bin/python -m pip install --quiet . --group remote-oldest
	touch $@

$(VENV)/.sign: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group sign
	touch $@

# An environment of its own: the assembler brings 300 MB that nothing else needs.
$(VENV)/.ptxas: $(VENV)/.package
	$(PYTHON) -m venv $(VENV)/ptxas
	$(VENV)/ptxas/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/ptxas/bin/python -m pip install --quiet --group ptxas
	touch $@

$(VENV)/.torch: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group torch
	touch $@

$(VENV)/.fuzz: $(VENV)/.package
	$(BIN)/python -m pip install --quiet --group fuzz
	touch $@

$(VENV)/.dist-c: $(VENV)/.venv
	$(BIN)/python -m pip install --quiet --group build-c
	touch $@

$(VENV)/.wasm: $(VENV)/.venv
	$(BIN)/python -m pip install --quiet --group build-wasm
	touch $@

$(VENV)/.test-wasm: $(VENV)/.test $(VENV)/.wasm
	$(BIN)/python -m pip install --quiet '.[wasm]'
	touch $@

$(VENV)/.docs: $(VENV)/.package
	$(BIN)/python -m pip install --quiet --group docs
	touch $@

$(VENV)/.folders: $(VENV)/.package
	$(BIN)/python -m pip install --quiet --group folders
	touch $@

$(VENV)/.bench: $(VENV)/.package
	$(BIN)/python -m pip install --quiet '.[bench,plot]'
	touch $@
