// SPDX-License-Identifier: Apache-2.0
/**
 * @file The page's worker: reads files and makes witnesses, one job at a time; a new job ends the
 * one before. The last file that was checked stays, for the damage test.
 */
import { kernelSet, load, RUN_BYTES, TreeWitness } from "../lib/index.js";
import { version, witnessFromJson, WitnessStream } from "../lib/index.js";

/** @import { Job, Answer } from "./messages.js" */

/** @type {{ file: File, flat: import("../lib/index.js").Witness, tree: TreeWitness } | undefined} */
let checked;
let stop = new AbortController();

/** @param {Answer} answer */
const answer = (answer) => self.postMessage(answer);

const loaded = load();

self.addEventListener("message", async (/** @type {MessageEvent<Job>} */ { data: job }) => {
  if (job.kind !== "verify") {
    stop.abort();
    stop = new AbortController();
  }
  const { signal } = stop;
  try {
    await loaded;
    if (job.kind === "check") await check(job.file, signal);
    if (job.kind === "flip") await flip(job.offset, signal);
    if (job.kind === "verify") verify(job.text);
  } catch (error) {
    // A job that a newer one ended has nothing to say any more.
    if (!signal.aborted) failed(job.kind, error);
  }
});

/**
 * @param {Job["kind"]} job
 * @param {unknown} error
 */
function failed(job, error) {
  const message = error instanceof Error ? error.message : String(error);
  answer({ kind: "failed", job, message });
}

/**
 * Both witnesses of a file, in one pass.
 * @param {File} file
 * @param {AbortSignal} signal
 * @param {number} [flipped] offset of a byte whose lowest bit is turned over on the way
 */
async function witnesses(file, signal, flipped) {
  const stream = new WitnessStream();
  try {
    let shown = 0;
    const tree = await TreeWitness.generateFrom(runsOf(file, flipped), {
      signal,
      onRun(run, offset) {
        stream.update(run);
        if (performance.now() - shown > 50) {
          shown = performance.now();
          answer({ kind: "progress", done: (offset + run.length) / file.size });
        }
      },
    });
    return { tree, flat: stream.witness() };
  } finally {
    stream.close();
  }
}

/**
 * @param {File} file
 * @param {number} [flipped]
 */
async function* runsOf(file, flipped = -1) {
  for (let start = 0; start < file.size; start += RUN_BYTES) {
    const run = new Uint8Array(await file.slice(start, start + RUN_BYTES).arrayBuffer());
    if (flipped >= start && flipped < start + run.length) run[flipped - start] ^= 1;
    yield run;
  }
}

/**
 * @param {File} file
 * @param {AbortSignal} signal
 */
async function check(file, signal) {
  checked = undefined;
  const start = performance.now();
  const { tree, flat } = await witnesses(file, signal);
  checked = { file, flat, tree };
  answer({
    kind: "checked",
    name: file.name,
    length: flat.length,
    residue: flat.residue,
    digest: flat.hexdigest(),
    root: tree.hexdigest(),
    flat: flat.toJson(),
    tree: tree.toJson(),
    residues: tree.windowResidues ?? new Uint8Array(),
    seconds: (performance.now() - start) / 1000,
  });
}

/**
 * @param {number} offset
 * @param {AbortSignal} signal
 */
async function flip(offset, signal) {
  if (checked === undefined) throw new Error("there is no file to flip a byte of");
  const found = await witnesses(checked.file, signal, offset);
  answer({
    kind: "flipped",
    offset,
    windows: checked.tree.changedWindows(found.tree),
    residues: found.tree.windowResidues ?? new Uint8Array(),
    differences: checked.flat.differences(found.flat),
    digest: found.flat.hexdigest(),
  });
}

/** @param {string} text */
function verify(text) {
  const witness = witnessFromJson(text); // throws what is wrong with it
  const { algorithm } = witness;
  if (checked === undefined) {
    answer({ kind: "verified", algorithm, time: witness.timestamp });
    return;
  }
  const found = algorithm === "sha256" ? checked.flat : checked.tree;
  answer({
    kind: "verified",
    algorithm,
    time: witness.timestamp,
    name: checked.file.name,
    differences: witness.differences(found),
  });
}

loaded.then(
  () => answer({ kind: "ready", version: version(), kernels: kernelSet() }),
  (error) => failed("check", error),
);
