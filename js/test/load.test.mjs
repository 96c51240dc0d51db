// SPDX-License-Identifier: Apache-2.0
// Loading: each way in a process of its own, since a module is loaded once.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { test } from "node:test";

import { MODULE } from "./loaded.mjs";

const PATH = fileURLToPath(MODULE);
const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** @param {string} script */
async function printed(script) {
  const program = `import * as atlas from "atlas12288"; import { readFileSync } from "node:fs"; ${script}`;
  const options = ["--input-type=module", "--eval", program];
  const { stdout } = await promisify(execFile)(process.execPath, options, { cwd: ROOT });
  return stdout.trim();
}

const RESIDUE = "console.log(atlas.residue(Uint8Array.of(90, 10)))";
const WAYS = {
  "the file beside it": "",
  "a path": JSON.stringify(PATH),
  "a file URL as text": JSON.stringify(MODULE.href),
  "a URL": `new URL(${JSON.stringify(MODULE.href)})`,
  bytes: `readFileSync(${JSON.stringify(PATH)})`,
  "an ArrayBuffer": `new Uint8Array(readFileSync(${JSON.stringify(PATH)})).buffer`,
  "a module": `new WebAssembly.Module(readFileSync(${JSON.stringify(PATH)}))`,
  "a response": `new Response(readFileSync(${JSON.stringify(PATH)}))`,
};
for (const [name, source] of Object.entries(WAYS)) {
  test(`from ${name}`, async () => {
    assert.equal(await printed(`await atlas.load(${source}); ${RESIDUE}`), "4");
  });
}

test("from a server, and a clear error where it has no such file", async () => {
  const server = createServer((request, response) => {
    if (request.url !== "/a.wasm") response.writeHead(404);
    response.end(request.url === "/a.wasm" ? readFileSync(PATH) : "no");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  const base = `http://127.0.0.1:${port}`;
  try {
    const failed = `await atlas.load("${base}/b.wasm").catch((error) => console.log(error.message));`;
    const text = await printed(`${failed} await atlas.load("${base}/a.wasm"); ${RESIDUE}`);
    assert.equal(text, `${base}/b.wasm has status 404, must have 200\n4`);
  } finally {
    server.close();
  }
});

test("before it is loaded, every call says what to do", async () => {
  const calls = "atlas.residue(new Uint8Array(1)); ";
  const script = `try { ${calls} } catch (error) { console.log(error.name, error.message) }`;
  const expected = "StateError the module is not loaded, must be loaded: await load()";
  assert.equal(await printed(script), expected);
});

test("what is no module is refused", async () => {
  const script = "await atlas.load(new Uint8Array(9)).catch((error) => console.log(error.name))";
  assert.equal(await printed(script), "CompileError");
});

test("what is no source, a file that is not there and another module are refused, each for what it is", async () => {
  const other = "new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])"; // an empty module
  for (const [source, expected] of [
    ["null", "TypeError source is of type null, must be a path, a URL, bytes, a Response or a WebAssembly.Module"],
    ["5", "TypeError source is of type number, must be a path, a URL, bytes, a Response or a WebAssembly.Module"],
    ["{}", "TypeError source is of type Object, must be a path, a URL, bytes, a Response or a WebAssembly.Module"],
    ['"no/such.wasm"', "ENOENT: no such file or directory, open 'no/such.wasm'"],
    [other, "TypeError source exports no 'atlas_domain_create', must be a module of atlas12288"],
  ]) {
    const script = `await atlas.load(${source}).catch((e) => console.log(e.code ? e.message : e.name + " " + e.message));`;
    assert.equal(await printed(`${script} await atlas.load(); ${RESIDUE}`), `${expected}\n4`);
  }
});
