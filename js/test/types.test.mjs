// SPDX-License-Identifier: Apache-2.0
// The types: the sources agree with their comments, of which `npm run types` makes types/.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const TSC = join(ROOT, "node_modules", "typescript", "bin", "tsc");

/** @param {string[]} options */
async function tsc(...options) {
  try {
    await promisify(execFile)(process.execPath, [TSC, ...options], { cwd: ROOT });
  } catch (error) {
    assert.fail(/** @type {any} */ (error).stdout);
  }
}

test("types/ has a declaration of each module, made of the comments in it", async () => {
  rmSync(join(ROOT, "types"), { recursive: true, force: true });
  await tsc("--project", "tsconfig.types.json");
  const modules = readdirSync(join(ROOT, "lib")).filter((name) => name.endsWith(".js"));
  const declarations = modules.map((name) => name.replace(/\.js$/, ".d.ts"));
  assert.deepEqual(readdirSync(join(ROOT, "types")).sort(), declarations.sort());
});

// After the test above: `test/types.ts` imports the package by its name, and so what stands in types/.
test("tsc --checkJs finds nothing", () => tsc("--project", "tsconfig.json"));
