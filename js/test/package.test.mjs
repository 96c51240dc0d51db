// SPDX-License-Identifier: Apache-2.0
// The package as a user gets it: packed, installed, imported, compiled with plain options.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const TSC = join(ROOT, "node_modules", "typescript", "bin", "tsc");
const folder = mkdtempSync(join(tmpdir(), "atlas12288-package-"));
after(() => rmSync(folder, { recursive: true }));

// Packed from a copy without types/, as it is in the repository: packing makes them.
const source = join(folder, "repository", "js");

/**
 * @param {string} cwd
 * @param {string} command
 * @param {string[]} options
 */
async function printed(cwd, command, ...options) {
  try {
    return (await promisify(execFile)(command, options, { cwd })).stdout;
  } catch (error) {
    const { stdout, stderr } = /** @type {any} */ (error);
    return assert.fail(`${command} ${options.join(" ")}: ${stdout}${stderr}`);
  }
}

/** @type {string[]} */
let files;
before(async () => {
  mkdirSync(source, { recursive: true });
  cpSync(join(ROOT, "..", "LICENSE"), join(source, "..", "LICENSE"));
  for (const name of ["lib", "package.json", "README.md", "tsconfig.json", "tsconfig.types.json"]) {
    cpSync(join(ROOT, name), join(source, name), { recursive: true });
  }
  symlinkSync(join(ROOT, "node_modules"), join(source, "node_modules"));
  const packing = ["pack", "--json", "--silent", "--pack-destination", folder];
  const output = await printed(source, "npm", ...packing);
  const [packed] = JSON.parse(output.slice(output.indexOf("[\n"))); // behind what prepack says
  files = packed.files.map((/** @type {{ path: string }} */ { path }) => path);
  writeFileSync(join(folder, "package.json"), "{}");
  const quiet = ["--offline", "--no-audit", "--no-fund", "--silent"];
  await printed(folder, "npm", "install", ...quiet, join(folder, packed.filename));
});

test("it holds the library, its types, both modules, the licence and a README; nothing else", () => {
  const own = ["LICENSE", "README.md", "package.json"];
  for (const kind of ["lib", "types"]) {
    own.push(...readdirSync(join(source, kind)).map((name) => `${kind}/${name}`));
  }
  assert.deepEqual([...files].sort(), own.sort());
  for (const name of ["atlas12288.wasm", "atlas12288-simd.wasm"]) assert.ok(files.includes(`lib/${name}`));
});

test("it is imported by its name", async () => {
  const program = 'import * as a from "atlas12288"; await a.load(); console.log(a.residue(Uint8Array.of(97)))';
  const output = await printed(folder, process.execPath, "--input-type=module", "--eval", program);
  assert.equal(output, "1\n");
});

test("a file that uses it compiles with plain options", async () => {
  cpSync(join(ROOT, "test", "types.ts"), join(folder, "user.mts"));
  // No types of Node, no `skipLibCheck`, no library but those of the target.
  const plain = ["--strict", "--noEmit", "--target", "es2022", "--module", "nodenext"];
  await printed(folder, process.execPath, TSC, ...plain, "user.mts");
});

test("no file of it names a module of Node where bundlers look", () => {
  const lib = join(ROOT, "lib");
  for (const name of readdirSync(lib).filter((name) => name.endsWith(".js"))) {
    const text = readFileSync(join(lib, name), "utf8");
    for (const [, from] of text.matchAll(/(?<!typeof )\b(?:from|import)\b[\s(]*["']([^"']+)["']/g)) {
      assert.match(from, /^\.\/|^atlas12288$/, name);
    }
  }
});
