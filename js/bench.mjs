// SPDX-License-Identifier: Apache-2.0
/**
 * @file Speeds under Node, next to what Node offers; after `make wasm`.
 *
 * `npm run --silent bench` prints the table of docs/webassembly.md in GB/s; a number is the median
 * of several batches. `node bench.mjs --serve` times what `atlas12288 bench` asks for: a line of
 * JSON in, {"work", "kernels", "size", "repeats"}, and {"ns"} out.
 *
 * "module" is for bytes in the module's memory (a ModuleMemory), "JavaScript" for bytes outside,
 * which pass through it.
 */
import { createHash } from "node:crypto";
import { cpus } from "node:os";
import { createInterface } from "node:readline";

import * as atlas from "./lib/index.js";

const SIZES = [12288, 1 << 20, 64 << 20];
const PLAIN_SIZE = 1 << 20; // for the kernels without simd128
const BATCHES = 9;
const BATCH_MS = 40;

/** @param {number} size */
function buffers(size) {
  const bytes = Uint8Array.from({ length: size }, (_, i) => i % 251);
  atlas.fixup(bytes);
  const [source, target] = [new atlas.ModuleMemory(size), new atlas.ModuleMemory(size)];
  source.bytes.set(bytes);
  const close = () => {
    source.close();
    target.close();
  };
  return { bytes, copy: new Uint8Array(size), source, target, close };
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
 * Nanoseconds of all repeats of a work.
 * @param {() => unknown} work
 * @param {number} repeats
 */
async function time(work, repeats) {
  const start = process.hrtime.bigint();
  for (let i = 0; i < repeats; i++) {
    const result = work();
    if (result instanceof Promise) await result;
  }
  return Math.max(1, Number(process.hrtime.bigint() - start));
}

/**
 * Repeats that take as long as a batch, after the engine has optimised.
 * @param {() => unknown} work
 */
async function warmUp(work) {
  let repeats = 1;
  while ((await time(work, repeats)) < BATCH_MS * 1e6) repeats *= 2;
  return repeats;
}

// --- The table ---

/**
 * Gigabytes a second of a work.
 * @param {number} size
 * @param {(b: Buffers) => unknown} work
 */
async function speed(size, work) {
  const made = buffers(size);
  const call = () => work(made);
  const repeats = await warmUp(call);
  const times = [];
  for (let i = 0; i < BATCHES; i++) times.push(await time(call, repeats));
  made.close();
  const median = times.sort((a, b) => a - b)[BATCHES >> 1];
  return ((size * repeats) / median).toPrecision(3);
}

async function printTable() {
  const [simd, plain] = atlas.kernelSets();
  if (plain === undefined) throw new Error("this engine has no simd128: there is no second column");
  console.error(`Node ${process.version}, ${cpus()[0].model}`);
  console.log("| work | bytes in | 12,288 bytes | 1 MiB | 64 MiB | without simd128, 1 MiB |");
  console.log("|---|---|---|---|---|---|");
  for (const [name, where, work] of [...WORK, ...OTHERS]) {
    const cells = [name, where];
    atlas.selectKernelSet(simd);
    for (const size of SIZES) cells.push(await speed(size, work));
    atlas.selectKernelSet(plain);
    cells.push(OTHERS.some((other) => other[2] === work) ? "" : await speed(PLAIN_SIZE, work));
    console.log(`| ${cells.join(" | ")} |`);
  }
}

// --- Requests of `atlas12288 bench` ---

async function serve() {
  /** @type {Buffers | undefined} */
  let made;
  const warm = new Set();
  for await (const line of createInterface({ input: process.stdin })) {
    const { work: name, kernels, size, repeats } = JSON.parse(line);
    const found = [...WORK, ...OTHERS].find(([each]) => each === name); // in the module, if there
    if (found === undefined) throw new RangeError(`work is '${name}', must be one of the table`);
    if (kernels !== null) atlas.selectKernelSet(kernels);
    if (made === undefined || made.bytes.length !== size) {
      made?.close();
      made = buffers(size);
      warm.clear();
    }
    const [, , work] = found;
    const held = made;
    const call = () => work(held);
    if (!warm.has(name)) await warmUp(call);
    warm.add(name);
    console.log(JSON.stringify({ ns: await time(call, repeats) }));
  }
}

await atlas.load();
await (process.argv.includes("--serve") ? serve() : printTable());
