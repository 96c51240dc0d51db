// SPDX-License-Identifier: Apache-2.0
// The types: the sources agree with their comments, and types/ is what `npm run types` makes.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
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

test("tsc --checkJs finds nothing", () => tsc("--project", "tsconfig.json"));

test("types/ is current", async () => {
  const folder = mkdtempSync(join(tmpdir(), "atlas12288-types-"));
  try {
    await tsc("--project", "tsconfig.types.json", "--outDir", folder);
    const files = readdirSync(folder).sort();
    assert.ok(files.includes("index.d.ts"));
    assert.deepEqual(readdirSync(join(ROOT, "types")).sort(), files);
    for (const file of files) {
      const committed = readFileSync(join(ROOT, "types", file), "utf8");
      assert.equal(committed, readFileSync(join(folder, file), "utf8"), `${file}: npm run types`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
