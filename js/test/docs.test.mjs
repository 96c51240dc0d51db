// SPDX-License-Identifier: Apache-2.0
// The example of docs/webassembly.md runs, and its sizes are those of the modules.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { atlas, fileOfProject } from "./loaded.mjs";

const DOCS = fileOfProject("docs/webassembly.md");

test("the example", async () => {
  const [, example] = DOCS.match(/```js\n([^]*?)```/) ?? [];
  assert.match(example, /atlas\.load\(\)/);
  const body = example.replace(/^import.*$/m, "").replace("using ", "const "); // before Node 24
  const AsyncFunction = /** @type {any} */ (async () => {}).constructor;
  const run = new AsyncFunction("atlas", "file", `${body}; return { witness, tree, domain };`);
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

test("the sizes", () => {
  for (const [, name, size] of DOCS.matchAll(/^\| `(atlas12288.*\.wasm)` \| ([\d.]+) \|/gm)) {
    const { length } = readFileSync(new URL(`../lib/${name}`, import.meta.url));
    assert.ok(Math.abs(length / 1024 - Number(size)) < 2, `${name}: ${length / 1024} KiB`);
  }
});
