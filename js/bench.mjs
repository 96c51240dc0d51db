// SPDX-License-Identifier: Apache-2.0
/**
 * @file Speeds under Node, in GB/s, next to what Node offers: `npm run bench`, after `make wasm`.
 *
 * "module" is for bytes in the module's memory (a Region), "JavaScript" for bytes outside, which
 * pass through it. A number is the median of several batches; goals are those of the design.
 */
import { createHash } from "node:crypto";
import { cpus } from "node:os";

import * as atlas from "./lib/index.js";

const SIZES = [12288, 1 << 20, 64 << 20];
const BATCHES = 9;
const BATCH_MS = 40;
const GOALS = { "conserved copy": 5, residue: 10 };

await atlas.load();

/** @param {number[]} values */
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

/**
 * Bytes a nanosecond of one call of `work`.
 * @param {number} size
 * @param {() => unknown} work
 */
async function speed(size, work) {
  let calls = 1;
  const batch = async () => {
    const start = performance.now();
    for (let i = 0; i < calls; i++) {
      const result = work();
      if (result instanceof Promise) await result;
    }
    return performance.now() - start;
  };
  while ((await batch()) < BATCH_MS) calls *= 2; // the engine optimises meanwhile
  const times = [];
  for (let i = 0; i < BATCHES; i++) times.push(await batch());
  return (size * calls) / (median(times) * 1e6);
}

/** @param {number} size */
function buffers(size) {
  const bytes = Uint8Array.from({ length: size }, (_, i) => i % 251);
  atlas.fixup(bytes);
  const [source, target] = [new atlas.Region(size), new atlas.Region(size)];
  source.bytes.set(bytes);
  return { bytes, copy: new Uint8Array(size), source, target };
}

/** @typedef {ReturnType<typeof buffers>} Buffers */
/** @type {[string, string, (b: Buffers) => unknown][]} */
const WORK = [
  ["conserved copy", "module", (b) => atlas.conservedCopy(b.target, b.source)],
  ["conserved copy", "JavaScript", (b) => atlas.conservedCopy(b.copy, b.bytes)],
  ["conserved fill", "module", (b) => atlas.conservedFill(b.target, 7)],
  ["residue", "module", (b) => atlas.residue(b.source)],
  ["residue", "JavaScript", (b) => atlas.residue(b.bytes)],
  ["delta", "module", (b) => atlas.delta(b.source, b.source)],
  ["flat witness (SHA-256)", "module", (b) => atlas.Witness.generate(b.source)],
  ["flat witness (SHA-256)", "JavaScript", (b) => atlas.Witness.generate(b.bytes)],
  ["tree witness", "module", (b) => atlas.TreeWitness.generate(b.source)],
  ["tree witness", "JavaScript", (b) => atlas.TreeWitness.generate(b.bytes)],
];
/** @type {[string, string, (b: Buffers) => unknown][]} */
const OTHERS = [
  ["Uint8Array.set, no check", "JavaScript", (b) => b.copy.set(b.bytes)],
  ["crypto.subtle.digest", "JavaScript", (b) => crypto.subtle.digest("SHA-256", b.bytes)],
  ["node:crypto SHA-256", "JavaScript", (b) => createHash("sha256").update(b.bytes).digest()],
];

/**
 * @param {string} set
 * @param {typeof WORK} work
 */
async function table(set, work) {
  for (const [name, where, call] of work) {
    const speeds = [];
    for (const size of SIZES) {
      const made = buffers(size);
      speeds.push(await speed(size, () => call(made)));
      made.source.close();
      made.target.close();
    }
    const goal = where === "module" && set.includes("simd") ? Reflect.get(GOALS, name) : undefined;
    const verdict = goal === undefined ? "" : `${goal}, ${speeds[0] >= goal ? "reached" : "missed"}`;
    const shown = speeds.map((value) => value.toPrecision(3));
    console.log(`| ${[name, where, set, ...shown, verdict].join(" | ")} |`);
  }
}

console.log(`Node ${process.version}, ${cpus()[0].model}, GB/s\n`);
console.log("| work | bytes in | kernels | 12,288 bytes | 1 MiB | 64 MiB | goal for a window |");
console.log("|---|---|---|---|---|---|---|");
for (const set of atlas.kernelSets()) {
  atlas.selectKernelSet(set);
  await table(set, WORK);
}
await table("-", OTHERS);
