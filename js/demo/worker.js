// SPDX-License-Identifier: Apache-2.0
/**
 * @file The page's worker: reads files and makes witnesses, one job at a time; a new job ends the
 * one before. The last file that was checked stays, for the damage test.
 */
import { kernelSet, load, TreeWitness, version, WitnessStream } from "../lib/index.js";

/** @import { Answer, Job, Start } from "./messages.js" */
/** @typedef {Job & { turn: number }} Asked */

/** @type {{ file: File, tree: TreeWitness } | undefined} */
let checked;
let stop = new AbortController();

const loaded = load();

self.addEventListener("message", async (/** @type {MessageEvent<Asked>} */ { data: job }) => {
  stop.abort();
  stop = new AbortController();
  const { signal } = stop;
  const answer = (/** @type {Answer} */ answer) => self.postMessage({ ...answer, turn: job.turn });
  try {
    await loaded;
    if (job.kind === "check") answer(await check(job.file, signal, answer));
    if (job.kind === "flip") answer(await flip(job.offset, signal, answer));
  } catch (error) {
    // A job that a newer one ended has nothing to say any more.
    if (!signal.aborted) answer({ kind: "failed", message: told(error) });
  }
});

/** @param {unknown} error */
function told(error) {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotReadableError" || name === "NotFoundError") {
    return "the file changed on the disk or is gone, choose it again";
  }
  return error instanceof Error ? error.message : String(error);
}

/**
 * Both witnesses of data, in one pass.
 * @param {Blob} data
 * @param {AbortSignal} signal
 * @param {(answer: Answer) => void} answer
 */
async function witnesses(data, signal, answer) {
  const stream = new WitnessStream();
  try {
    let shown = 0;
    const tree = await TreeWitness.generateFrom(data, {
      signal,
      onRun(run, offset) {
        stream.update(run);
        if (performance.now() - shown > 50) {
          shown = performance.now();
          answer({ kind: "progress", done: (offset + run.length) / data.size });
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
 * @param {AbortSignal} signal
 * @param {(answer: Answer) => void} answer
 * @returns {Promise<Answer>}
 */
async function check(file, signal, answer) {
  checked = undefined;
  const start = performance.now();
  const { tree, flat } = await witnesses(file, signal, answer);
  checked = { file, tree };
  return {
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
  };
}

/**
 * @param {number} offset of the byte whose lowest bit is turned over on the way
 * @param {AbortSignal} signal
 * @param {(answer: Answer) => void} answer
 * @returns {Promise<Answer>}
 */
async function flip(offset, signal, answer) {
  if (checked === undefined) throw new Error("there is no file to flip a byte of");
  const { file, tree } = checked;
  const byte = new Uint8Array(await file.slice(offset, offset + 1).arrayBuffer());
  byte[0] ^= 1;
  // The parts are not read before the whole is.
  const flipped = new Blob([file.slice(0, offset), byte, file.slice(offset + 1)]);
  const found = await witnesses(flipped, signal, answer);
  return {
    kind: "flipped",
    offset,
    windows: tree.changedWindows(found.tree),
    residues: found.tree.windowResidues ?? new Uint8Array(),
    digest: found.flat.hexdigest(),
  };
}

const started = (/** @type {Start} */ start) => self.postMessage(start);
loaded.then(
  () => started({ kind: "ready", version: version(), kernels: kernelSet() }),
  (error) => started({ kind: "broken", message: told(error) }),
);
