// SPDX-License-Identifier: Apache-2.0
// The examples of docs/webassembly.md and of the package's README run, and the sizes are right.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { atlas, fileOfProject } from "./loaded.mjs";

const DOCS = fileOfProject("docs/webassembly.md");

/**
 * The example of a document, as a function of `atlas` and `file`.
 * @param {string} text
 * @param {string} names that it declares, which the function returns
 */
function exampleOf(text, names) {
  const [, example] = text.match(/```js\n([^]*?)```/) ?? [];
  assert.match(example, /atlas\.load\(\)/);
  const body = example.replace(/^import.*$/m, "").replace("using ", "const "); // before Node 24
  const AsyncFunction = /** @type {any} */ (async () => {}).constructor;
  return new AsyncFunction("atlas", "file", `${body}; return { ${names} };`);
}

test("the example of the README", async () => {
  const run = exampleOf(fileOfProject("js/README.md"), "bytes, witness, tree");
  const { bytes, witness, tree } = await run(atlas);
  assert.ok(!witness.verify(bytes));
  assert.deepEqual(tree.changed(bytes), [1]);
});

test("the example", async () => {
  const run = exampleOf(DOCS, "witness, tree, domain");
  const { witness, tree, domain } = await run(atlas, new Blob([new Uint8Array(24576).fill(7)]));
  assert.equal(domain.state, "COMMITTED");
  assert.equal(witness.hexdigest(), domain.witness.hexdigest());
  assert.deepEqual(tree.changed(new Uint8Array(24576).fill(7)), []);
  domain.close();
});

test("the names are all there is", () => {
  const named = new Set();
  for (const [row] of DOCS.matchAll(/^\| (residues|witnesses|domains|errors|the module) \|.*$/gm)) {
    for (const [, name] of row.matchAll(/`([A-Za-z]+)`/g)) named.add(name);
  }
  for (const wrong of ["TypeError", "RangeError"]) named.delete(wrong);
  const constants = /^[A-Z_]+$|^ErrorCode$/;
  assert.deepEqual([...named].sort(), Object.keys(atlas).filter((name) => !constants.test(name)).sort());
});

const PARTS = ["kernels", "runtime", "C library", "data", "types and names"];

test("the sizes", () => {
  const columns = ["KiB", "whole", "with gzip", ...PARTS.slice(0, -1), "types, names"];
  const table = DOCS.slice(DOCS.indexOf(`| ${columns.join(" | ")} |`));
  const rows = [...table.matchAll(/^\| `(atlas12288.*\.wasm)` \| (.*) \|$/gm)];
  assert.equal(rows.length, 2);
  // The parts are what the build counted, while the modules still had the names of functions.
  const parts = JSON.parse(fileOfProject("build/wasm/parts.json"));
  for (const [, name, cells] of rows) {
    const bytes = readFileSync(new URL(`../lib/${name}`, import.meta.url));
    const sizes = [bytes.length, gzipSync(bytes).length, ...PARTS.map((part) => parts[name][part])];
    const stated = cells.split(" | ").map(Number);
    assert.equal(stated.length, sizes.length);
    for (const [i, size] of sizes.entries()) {
      const is = `${name}: ${columns[i + 1]} is ${(size / 1024).toFixed(1)} KiB`;
      assert.ok(Math.abs(size / 1024 - stated[i]) < 0.2, is);
    }
  }
});
