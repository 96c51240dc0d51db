// SPDX-License-Identifier: Apache-2.0
/**
 * @file The page's worker: reads files and makes witnesses, one job at a time; a new job ends the
 * one before. The last file that was checked stays, for the damage test.
 */
import { DIGEST_BYTES, kernelSet, load, RUN_BYTES, TreeWitness, version } from "../lib/index.js";
import { WINDOW_BYTES, Witness, WitnessError, WitnessStream } from "../lib/index.js";
import { fromHex } from "../lib/json.js";
import { printable } from "../lib/text.js";
import { MANIFEST_MOST, paired, readManifest } from "./manifest.js";
import { moves } from "./moves.js";

/** @import { Answer, Found, Job, Outcome, Start, Tree } from "./messages.js" */
/** @import { Entry, Manifest } from "./manifest.js" */
/** @typedef {Job & { turn: number }} Asked */

/** @type {{ file: File, tree: TreeWitness } | undefined} */
let checked;
let stop = new AbortController();

const LEAVES_MOST = 64 << 20; // of a file of 25 GB; they are in memory twice
const PATHS_SHOWN = 5; // in a note

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
    if (job.kind === "compare") answer(await compare(job.tree, signal));
    if (job.kind === "sample") answer(sample(job.isDamaged));
    if (job.kind === "verify") answer(await verify(job, signal, answer));
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
 * @param {(answer: Answer) => void} answer told how far it is
 * @param {(run: Uint8Array) => void} [passed] called with each run
 */
async function witnesses(data, signal, answer, passed) {
  const stream = new WitnessStream();
  try {
    let shown = 0;
    const tree = await TreeWitness.generateFrom(data, {
      signal,
      onRun(run, offset) {
        stream.update(run);
        passed?.(run);
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
    leaves: tree.leaves ?? new Uint8Array(),
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

/**
 * The windows in which the file that was checked last differs.
 * @param {Tree} tree
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 */
async function compare(tree, signal) {
  if (checked === undefined) throw new Error("there is no file to compare");
  const had = await withLeaves(tree);
  signal.throwIfAborted();
  const windows = had.changedWindows(checked.tree);
  const count = checked.tree.windows;
  const present = windows.filter((window) => window < count);
  const missing = windows.length - present.length;
  return { kind: "compared", windows: present, missing, total: Math.max(count, had.windows) };
}

/**
 * The witness with its leaves. They are not read before they have the right size.
 * @param {Tree} tree
 */
async function withLeaves({ length, residue, root, leaves }) {
  const algorithm = "sha256-merkle-12288";
  const fields = { algorithm, length, residue, digest: fromHex(root), timestampNs: 0n };
  const witness = new TreeWitness(fields);
  const size = witness.windows * DIGEST_BYTES;
  if (leaves.size !== size) {
    throw new WitnessError(`leaves has ${leaves.size} bytes, must have ${size}, as its witness has`);
  }
  if (size > LEAVES_MOST) {
    throw new WitnessError(`leaves has ${size} bytes, must have at most ${LEAVES_MOST} on this page`);
  }
  return witness.withLeaves(await leaves.arrayBuffer());
}

/**
 * A file of 1.2 MB; with its witness and leaves if it is to be damaged.
 * @param {boolean} isDamaged
 * @returns {Answer}
 */
function sample(isDamaged) {
  const bytes = new Uint8Array(100 * WINDOW_BYTES - 100);
  let state = 1;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  if (!isDamaged) return { kind: "sample", files: [new File([bytes], "sample.bin")] };
  const tree = TreeWitness.generate(bytes);
  const witness = new File([tree.toJson()], "sample.bin.tree.witness.json");
  const leaves = new File([tree.leaves ?? ""], "sample.bin.tree.witness.json.atlas.leaves");
  bytes[500_000] ^= 1;
  bytes.fill(0, 900_000, 940_000);
  return { kind: "sample", files: [new File([bytes], "sample.bin"), witness, leaves] };
}

// --- Folders ---

/**
 * Holds a folder against a manifest, file by file.
 * @param {{ manifest: File, leaves?: File, files: Found[] }} job
 * @param {AbortSignal} signal
 * @param {(answer: Answer) => void} answer
 * @returns {Promise<Answer>}
 */
async function verify({ manifest: source, leaves, files }, signal, answer) {
  const some = source.size > MANIFEST_MOST ? source.slice(0, MANIFEST_MOST + 1) : source;
  const manifest = readManifest(new Uint8Array(await some.arrayBuffer()));
  if (leaves !== undefined && leaves.size !== manifest.leaves * DIGEST_BYTES) {
    const must = `must have ${manifest.leaves * DIGEST_BYTES}, as its manifest has`;
    throw new WitnessError(`leaves has ${leaves.size} bytes, ${must}`);
  }
  const { others, left } = await withoutOutputs(files, [source, leaves]);
  const { toRead, outcomes, outside, missing, added } = paired(manifest, others);
  const total = toRead.reduce((sum, { file }) => sum + file.size, 0);
  /** @type {string[]} */
  const same = [];
  let bytes = 0;
  let shown = 0;
  const advance = (/** @type {number} */ count) => {
    bytes += count;
    if (performance.now() - shown > 50) {
      shown = performance.now();
      answer({ kind: "progress", done: total === 0 ? 0 : Math.min(1, bytes / total) });
    }
  };
  for (const { entry, file } of toRead) {
    signal.throwIfAborted();
    const outcome = await held(entry, file, leaves, signal, advance);
    if (outcome.kind === "same") same.push(outcome.path);
    else outcomes.push(outcome);
  }
  const isFlat = manifest.options.digests.includes("sha256");
  const moved = await moves(missing, added, (file) => digestOf(file, isFlat, signal, advance));
  for (const [before, after] of moved) {
    outcomes.splice(outcomes.indexOf(after), 1);
    Object.assign(before, { kind: "moved", why: "to ", to: after.path });
  }
  outcomes.sort((one, two) => (one.path < two.path ? -1 : 1));
  const notes = notesOn(manifest, left, outside);
  return { kind: "verified", outcomes, same, bytes, root: manifest.root, notes };
}

/**
 * The digest of a file by which it is known where it was moved; undefined if it cannot be read.
 * @param {File} file
 * @param {boolean} isFlat
 * @param {AbortSignal} signal
 * @param {(count: number) => void} advance
 */
async function digestOf(file, isFlat, signal, advance) {
  const onRun = (/** @type {Uint8Array} */ run) => advance(run.length);
  try {
    return (await (isFlat ? Witness : TreeWitness).generateFrom(file, { signal, onRun })).hexdigest();
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

/**
 * The files that are not the manifest or its leaves themselves, which may lie in the folder.
 * @param {Found[]} files
 * @param {(File | undefined)[]} outputs
 */
async function withoutOutputs(files, outputs) {
  /** @type {Found[]} */
  const others = [];
  /** @type {Found[]} */
  const left = [];
  for (const found of files) {
    const { file } = found;
    const output = outputs.find((output) => output?.name === file?.name && output?.size === file?.size);
    const isSame = file !== undefined && output !== undefined && (await haveSameBytes(file, output));
    (isSame ? left : others).push(found);
  }
  return { others, left };
}

/**
 * @param {Blob} one
 * @param {Blob} two of the same size
 */
async function haveSameBytes(one, two) {
  try {
    for (let at = 0; at < one.size; at += RUN_BYTES) {
      const [a, b] = await Promise.all(
        [one, two].map(async (blob) => new Uint8Array(await blob.slice(at, at + RUN_BYTES).arrayBuffer())),
      );
      if (a.length !== b.length || a.some((byte, i) => byte !== b[i])) return false;
    }
    return true;
  } catch {
    return false; // it will be unreadable as any other file
  }
}

/**
 * What a file is against its entry.
 * @param {Entry} entry
 * @param {File} file
 * @param {File | undefined} leaves of all files of the manifest
 * @param {AbortSignal} signal
 * @param {(count: number) => void} advance
 * @returns {Promise<Outcome>}
 */
async function held(entry, file, leaves, signal, advance) {
  const { shown: path, size, residue, sha256, root, windows, firstLeaf } = entry;
  /** @type {Outcome} */
  const changed = { kind: "changed", path, why: "" };
  if (leaves !== undefined && root !== undefined) {
    const [start, end] = [firstLeaf, firstLeaf + windows].map((leaf) => leaf * DIGEST_BYTES);
    changed.damage = { file, tree: { length: size, residue, root, leaves: leaves.slice(start, end) } };
  }
  if (file.size !== size) {
    return { ...changed, why: `has ${file.size} bytes, must have ${size}` };
  }
  try {
    /** @type {string[]} */
    const differ = [];
    const onRun = (/** @type {Uint8Array} */ run) => advance(run.length);
    if (sha256 !== undefined && root !== undefined) {
      const both = await witnesses(file, signal, () => {}, onRun);
      if (both.flat.length !== size) return { ...changed, why: `had ${both.flat.length} bytes to read, must have ${size}` };
      if (both.flat.residue !== residue) differ.push("residue");
      if (both.flat.hexdigest() !== sha256) differ.push("sha256");
      if (both.tree.hexdigest() !== root) differ.push("tree root");
    } else {
      const kind = sha256 === undefined ? TreeWitness : Witness;
      const found = await kind.generateFrom(file, { signal, onRun });
      if (found.length !== size) return { ...changed, why: `had ${found.length} bytes to read, must have ${size}` };
      if (found.residue !== residue) differ.push("residue");
      if (found.hexdigest() !== (sha256 ?? root)) differ.push(sha256 === undefined ? "tree root" : "sha256");
    }
    if (differ.length === 0) return { kind: "same", path, why: "" };
    return { ...changed, why: `differs in ${differ.join(", ")}` };
  } catch (error) {
    signal.throwIfAborted();
    return { kind: "unreadable", path, why: told(error) };
  }
}

/**
 * What a verdict on a folder leaves out, a sentence each.
 * @param {Manifest} manifest
 * @param {Found[]} left
 * @param {number} outside
 */
function notesOn({ options, entries }, left, outside) {
  const notes = [];
  const links = entries.filter((entry) => entry.isLink).length;
  const listed = (/** @type {string[]} */ texts) => {
    const more = texts.length > PATHS_SHOWN ? `, and ${texts.length - PATHS_SHOWN} more` : "";
    return `${texts.slice(0, PATHS_SHOWN).map((text) => printable(text)).join(", ")}${more}`;
  };
  if (options.exclude.length > 0) {
    const what = "This page does not apply them: what is not in the manifest is not judged.";
    notes.push(`The manifest has rules that leave files out: ${listed(options.exclude)}. ${what}`);
  }
  if (options.paths.length > 0) {
    notes.push(`The manifest covers a part of the folder: ${listed(options.paths)}.`);
  }
  if (outside > 0) notes.push(`Files outside this part, not looked at: ${outside}.`);
  if (links > 0) notes.push(`Recorded links, which a browser does not show, are not checked: ${links}.`);
  if (options.symlinks === "follow") {
    notes.push("Links were followed. A browser may skip links; their files then count as missing.");
  }
  if (options.linksBelow.length > 0) {
    notes.push(`Links may lead into other folders: ${listed(options.linksBelow)}.`);
  }
  if (left.length > 0) {
    notes.push(`Left out, as the manifest or its leaves themselves: ${listed(left.map(({ path }) => path))}.`);
  }
  return notes;
}

const started = (/** @type {Start} */ start) => self.postMessage(start);
loaded.then(
  () => started({ kind: "ready", version: version(), kernels: kernelSet() }),
  (error) => started({ kind: "broken", message: told(error) }),
);
