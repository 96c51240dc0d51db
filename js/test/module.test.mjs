// SPDX-License-Identifier: Apache-2.0
// The WebAssembly modules themselves: what they import, export and are made of.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import openWabt from "wabt";

import { atlas, fileOfProject, inputBytes, residueOf, SIMD } from "./loaded.mjs";

const HEADER = fileOfProject("include/atlas/conservation.h");
const NAMES = ["atlas12288.wasm", "atlas12288-simd.wasm"];
const wabt = await openWabt();

/** @param {string} name */
function opened(name) {
  const bytes = readFileSync(new URL(`../lib/${name}`, import.meta.url));
  const text = wabt.readWasm(bytes, { simd: true, threads: true }).toText({});
  return { bytes, text, module: new WebAssembly.Module(bytes) };
}

for (const name of NAMES) {
  const { bytes, text, module } = opened(name);

  test(`${name}: the clock is all it imports`, () => {
    const imports = WebAssembly.Module.imports(module);
    assert.deepEqual(imports, [{ module: "atlas", name: "now_ns", kind: "function" }]);
  });

  test(`${name}: every function of the header and the three kernels are exported`, () => {
    const declared = HEADER.matchAll(/^[a-z].*?\b(atlas_\w+)\(/gm);
    const expected = new Set([...declared].map(([, name]) => name));
    assert.ok(expected.size > 45 && expected.has("atlas_domain_create"));
    for (const name of ["delta", "window.check", "update"]) expected.add(`atlas.conserved.${name}`);
    for (const name of ["alloc", "free"]) expected.add(`atlas_host_${name}`);
    for (const name of ["memory", "_initialize"]) expected.add(name);
    const exported = WebAssembly.Module.exports(module).map(({ name }) => name);
    assert.deepEqual(exported.sort(), [...expected].sort());
  });

  test(`${name}: no atomics, and vectors only where the name says so`, () => {
    assert.ok(text.length > 100_000);
    assert.doesNotMatch(text, /\batomic\b|\.atomic\.|shared/);
    assert.equal(/\bv128\b/.test(text), name.includes("simd"));
  });

  test(`${name}: needs no more of an engine than docs/webassembly.md says`, () => {
    const older = { reference_types: false, threads: false, multi_value: false, tail_call: false };
    const newer = { gc: false, memory64: false, exceptions: false, extended_const: false };
    // wabt has those of its own time on, all others off.
    wabt.readWasm(bytes, { ...older, ...newer, simd: name.includes("simd") }).validate();
  });

  test(`${name}: is small and has no custom sections`, () => {
    assert.ok(bytes.length < 100 * 1024, `${bytes.length} bytes`);
    for (const section of ["name", "producers", "target_features"]) {
      assert.deepEqual(WebAssembly.Module.customSections(module, section), []);
    }
  });

  test(`${name}: the contract's kernels and functions by their own types`, async () => {
    let now = 1_767_225_600_123_456_789n;
    const { exports } = await WebAssembly.instantiate(module, { atlas: { now_ns: () => now } });
    const c = /** @type {any} */ (exports);
    c._initialize();
    const data = inputBytes(12289);
    const at = c.atlas_host_alloc(2 * data.length);
    const other = at + data.length;
    const memory = new Uint8Array(c.memory.buffer);
    memory.set(data, at);
    memory.set(data, other);
    memory[other + 7] += 5;
    const length = BigInt(data.length);
    assert.equal(c["atlas.conserved.delta"](at, other, length) & 0x7f, 5);
    assert.equal(c["atlas.conserved.delta"](other, at, length) & 0x7f, 91);
    assert.equal(c["atlas.conserved.window.check"](at, length) & 1, 0);
    assert.equal(c.atlas_conserved_fixup(at, data.length), 0);
    assert.equal(c["atlas.conserved.window.check"](at, length) & 1, 1);
    const state = c.atlas_host_alloc(8);
    new DataView(c.memory.buffer).setBigUint64(state, 95n, true);
    c["atlas.conserved.update"](state, other, length);
    const expected = (95 + residueOf(data) + 5) % 96;
    assert.equal(Number(new DataView(c.memory.buffer).getBigUint64(state, true)), expected);

    // The contract's example, with sizes as i32 and the time from the host.
    const domain = c.atlas_domain_create(12289, 50);
    assert.equal(c.atlas_domain_attach(domain, at, data.length), 0);
    assert.equal(c.atlas_domain_verify(domain), 1);
    assert.equal(c.atlas_domain_commit(domain), 0);
    assert.equal(c.atlas_domain_commit(domain), 5);
    assert.equal(c.atlas_budget_alloc(domain, 51), 0);
    assert.equal(c.atlas_get_last_error_code(), 3);
    const witness = c.atlas_domain_witness(domain);
    assert.equal(c.atlas_witness_timestamp_ns(witness), now);
    assert.equal(c.atlas_witness_length(witness), length);
    assert.equal(c.atlas_witness_verify(witness, at, data.length), 1);
    c.atlas_domain_destroy(domain);
    c.atlas_domain_destroy(0);
  });

  test(`${name}: a region has a balance, from a page of the model on`, async () => {
    const { exports } = await WebAssembly.instantiate(module, { atlas: { now_ns: () => 0n } });
    const c = /** @type {any} */ (exports);
    c._initialize();
    for (const length of [1, 255, 256, 12289]) {
      const region = c.atlas_region_create(length);
      const at = c.atlas_region_payload(region);
      assert.equal(at % 256, 0);
      assert.equal(c.atlas_region_payload_bytes(region), length);
      assert.equal(c.atlas_region_size(region), length + 1);
      const whole = new Uint8Array(c.memory.buffer, at, length + 1);
      assert.deepEqual(whole, new Uint8Array(length + 1));
      const data = inputBytes(length);
      whole.set(data);
      assert.equal(c.atlas_region_balance(region, 0), 0);
      assert.deepEqual(whole.subarray(0, length), data);
      assert.equal(whole[length], (96 - residueOf(data)) % 96);
      assert.equal(c.atlas_region_fill(region, 7), 0);
      assert.deepEqual(whole.subarray(0, length), data.fill(7));
      assert.equal(residueOf(whole), 0);
      assert.equal(c.atlas_region_copy(region, at, length), 4); // itself: it overlaps
      assert.equal(c.atlas_region_sealed(region), 0);
      c.atlas_region_destroy(region);
    }
    assert.equal(c.atlas_region_create(0), 0);
    assert.equal(c.atlas_region_create(2 ** 31 - 2), 0);
  });
}

for (const name of NAMES) {
  test(`${name}: large blocks take their size and at most a page more, and are used again`, async () => {
    const { exports } = await WebAssembly.instantiate(opened(name).module, { atlas: { now_ns: () => 0n } });
    const c = /** @type {any} */ (exports);
    c._initialize();
    const pages = () => c.memory.buffer.byteLength / 65536;
    const alloc = (/** @type {number} */ size) => c.atlas_host_alloc(size) >>> 0;
    const before = pages();
    const large = Array.from({ length: 12 }, () => alloc(2 ** 28));
    assert.ok(large.every((pointer) => pointer > 0 && pointer % 64 === 0), `${large}`);
    assert.ok(pages() - before <= 12 * (2 ** 12 + 1), `${pages() - before} pages`);
    for (const i of [3, 0, 2, 1, 11, 5, 7, 6, 10, 4, 9, 8]) c.atlas_host_free(large[i]);
    const all = pages();
    const [one, two] = [alloc(1.4 * 2 ** 30), alloc(1.4 * 2 ** 30)];
    assert.ok(one > 0 && two > 0);
    assert.equal(alloc(2 ** 31), 0);
    assert.equal(alloc(1.4 * 2 ** 30), 0);
    c.atlas_host_free(one);
    c.atlas_host_free(two);
    assert.equal(pages(), all);

    // In any order, none on another; small ones, which are malloc's, among them.
    /** @type {Map<number, number>} */
    const held = new Map();
    let seed = 1;
    const next = (/** @type {number} */ most) => (seed = (seed * 48271) % 2147483647) % most;
    for (let i = 0; i < 3000; i++) {
      const size = 1 + next(i % 2 === 0 ? 5000 : 1_000_000);
      const pointer = alloc(size);
      new Uint8Array(c.memory.buffer).fill(pointer / 16, pointer, pointer + size);
      held.set(pointer, size);
      if (held.size > 40) {
        const [at, length] = [...held][next(held.size)];
        const bytes = new Uint8Array(c.memory.buffer).subarray(at, at + length);
        assert.ok(bytes.every((byte) => byte === ((at / 16) & 255)));
        c.atlas_host_free(at);
        held.delete(at);
      }
    }
    assert.ok(pages() - all < 50, `${pages() - all} pages`); // malloc's
  });
}

test("the kernel sets of the module in use, best first", () => {
  const sets = SIMD ? ["wasm32+simd128", "portable"] : ["portable"];
  assert.deepEqual(atlas.kernelSets(), sets);
  assert.equal(atlas.kernelSet(), sets[0]);
  assert.throws(() => atlas.selectKernelSet("x86-64-v4"), {
    name: "StateError",
    message: `kernel set is 'x86-64-v4', must be one of ${sets.join(", ")}`,
  });
});

test("the numbers are those of the header, the version that of the project", () => {
  const names = ["API_VERSION", "MODULUS", "PAGE_BYTES", "WINDOW_BYTES", "DIGEST_BYTES"];
  for (const name of [...names, "WITNESS_BYTES"]) {
    const [, value] = HEADER.match(new RegExp(`^#define ATLAS_${name} (\\d+)`, "m")) ?? [];
    assert.equal(Reflect.get(atlas, name), Number(value), name);
  }
  for (const [name, value] of Object.entries(atlas.ErrorCode)) {
    const constant = name === "OK" ? "ATLAS_OK" : `ATLAS_E_${name}`;
    assert.match(HEADER, new RegExp(`${constant} = ${value}\\b`));
  }
  const [, version] = fileOfProject("meson.build").match(/version: '([^']+)'/) ?? [];
  assert.equal(atlas.version(), version);
  assert.equal(JSON.parse(fileOfProject("js/package.json")).version, version);
});
