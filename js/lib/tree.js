// SPDX-License-Identifier: Apache-2.0
/**
 * @file Tree witnesses: the Merkle Tree Hash of RFC 9162, section 2.1.1, over windows of 12,288
 * bytes. They tell which windows changed. All witnesses have one JSON form.
 */

import { bytesOf, lastingBytesOf } from "./arguments.js";
import { DIGEST_BYTES, MODULUS, WINDOW_BYTES } from "./constants.js";
import { ConservationError, StateError, WitnessError } from "./errors.js";
import { toHex } from "./json.js";
import { ofMany, written } from "./many.js";
import { Handle, inPieces, outPointer, staged } from "./memory.js";
import { residue as residueOf, windowResidues } from "./residue.js";
import { runs } from "./source.js";
import { integer } from "./values.js";
import { check, heap, made, nowNs, PIECE_BYTES, wasm } from "./wasm.js";
import { ALGORITHM, readRecord, TREE_ALGORITHM, Witness, WitnessRecord } from "./witness.js";

/** @import { Bytes } from "./arguments.js" */
/** @import { Span } from "./many.js" */
/** @import { Data, ReadOptions } from "./source.js" */
/** @import { RecordFields } from "./witness.js" */

/**
 * @typedef {object} Leaves
 * @property {Uint8Array<ArrayBuffer>} hashes 32 bytes a window
 * @property {Uint8Array<ArrayBuffer> | undefined} residues of each window, where they are known
 */

/**
 * Immutable record of a region: algorithm, length, residue, root, time; and its leaves.
 *
 * Made by `generate(buf)`, `generateFrom(data)`, `fromJson` and `TreeHash.witness()`.
 */
export class TreeWitness extends WitnessRecord {
  /** @type {Leaves | undefined} */
  #leaves;

  /**
   * @param {RecordFields} fields
   * @param {Leaves} [leaves]
   */
  constructor(fields, leaves) {
    super(fields);
    this.#leaves = leaves;
    Object.freeze(this);
  }

  /**
   * The witness of the bytes of `buf`, which may be empty, with the present time.
   * @param {Bytes} buf
   * @returns {TreeWitness}
   * @throws {TypeError} `buf` has no bytes to read
   */
  static generate(buf) {
    const builder = new Builder();
    builder.add(bytesOf(buf, "buf"));
    return builder.witness();
  }

  /**
   * The witnesses of many buffers, in their order, with the present time and their leaves. The
   * windows of small ones are hashed beside one another, which is faster. Nothing is hashed before
   * all have bytes to read.
   * @param {Iterable<Bytes>} buffers
   * @returns {TreeWitness[]}
   * @throws {TypeError} one has no bytes to read; the message names its index
   */
  static generateMany(buffers) {
    return ofMany(buffers, bytesNeeded, treesOf, (bytes) => TreeWitness.generate(bytes));
  }

  /**
   * The witness of data of any size, in constant memory but for the leaves, 33 bytes a window.
   * @param {Data} data
   * @param {ReadOptions} [options]
   * @returns {Promise<TreeWitness>}
   * @throws {TypeError} `data` is nothing that can be read; and what reading it throws
   */
  static async generateFrom(data, options) {
    const builder = new Builder();
    for await (const run of runs(data, options)) builder.add(run);
    return builder.witness();
  }

  /**
   * The witness of a JSON text, as `toJson` gives it, without leaves; bytes are UTF-8.
   * @param {string | Uint8Array} text
   * @returns {TreeWitness}
   * @throws {WitnessError} not such a text; the message names the key, its value and the rule
   * @throws {TypeError} neither a string nor bytes
   */
  static fromJson(text) {
    return new TreeWitness(readRecord(text, TREE_ALGORITHM));
  }

  /** The root of the tree, 32 bytes; the same as `digest`. */
  get root() {
    return this.digest;
  }

  /** How many windows the region has, the last one possibly shorter. */
  get windows() {
    return windowCount(this.length);
  }

  /**
   * The leaf hashes, 32 bytes a window, where the witness has them; a copy.
   * @returns {Uint8Array<ArrayBuffer> | undefined}
   */
  get leaves() {
    return this.#leaves?.hashes.slice();
  }

  /**
   * The residue of each window, where the witness was made from the bytes; a copy.
   * @returns {Uint8Array<ArrayBuffer> | undefined}
   */
  get windowResidues() {
    return this.#leaves?.residues?.slice();
  }

  /**
   * The same witness with leaves, for example from a sidecar (`NAME.atlas.leaves`).
   * @param {Bytes} leaves
   * @returns {TreeWitness}
   * @throws {WitnessError} there are not 32 bytes a window, or they do not match the root
   * @throws {TypeError} `leaves` has no bytes to read
   */
  withLeaves(leaves) {
    const hashes = bytesOf(leaves, "leaves").slice();
    const size = this.windows * DIGEST_BYTES;
    if (hashes.length !== size) {
      throw new WitnessError(
        `leaves has ${hashes.length} bytes, must have ${size}, ` +
          `${DIGEST_BYTES} for each of ${this.windows} windows`,
      );
    }
    const root = toHex(rootOf(hashes));
    if (root !== this.hexdigest()) {
      throw new WitnessError(
        `leaves have the root ${root}, must have the witness's root, ${this.hexdigest()}`,
      );
    }
    return new TreeWitness(this, { hashes, residues: undefined });
  }

  /** @param {string} purpose */
  #known(purpose) {
    if (this.#leaves === undefined) {
      throw new StateError(
        `the witness has no leaves, must have them for ${purpose}; withLeaves() adds them`,
      );
    }
    return this.#leaves;
  }

  /**
   * The indices of the windows in which `buf` differs; as {@link changedWindows}.
   * @param {Bytes} buf
   * @returns {number[]}
   * @throws {StateError} the witness has no leaves
   * @throws {TypeError} `buf` has no bytes to read
   */
  changed(buf) {
    this.#known("changed()");
    return this.changedWindows(TreeWitness.generate(buf));
  }

  /**
   * The indices of the windows in which the regions of two witnesses differ, in order.
   *
   * A window that only one has differs, and so does a last window of another length.
   * @param {TreeWitness} other
   * @returns {number[]}
   * @throws {StateError} one of the witnesses has no leaves
   */
  changedWindows(other) {
    const one = this.#known("changedWindows()").hashes;
    const two = other.#known("changedWindows()").hashes;
    const changed = [];
    for (let at = 0; at < Math.max(one.length, two.length); at += DIGEST_BYTES) {
      for (let i = at; i < at + DIGEST_BYTES; i++) {
        if (one[i] !== two[i]) {
          changed.push(at / DIGEST_BYTES);
          break;
        }
      }
    }
    return changed;
  }

  /**
   * The witness of the region after a change of some windows, with the present time.
   *
   * Only these windows are read, but all of `buf` for its residues if the leaves came from
   * `withLeaves`. All nodes above the leaves, 1 in 384 of the bytes, are computed again. If the
   * region grew or shrank, the windows past the shorter length need not be named: they are hashed
   * again or dropped.
   * @param {Bytes} buf the whole region now
   * @param {Iterable<number>} windows indices, in any order, of all windows that changed
   * @returns {TreeWitness}
   * @throws {StateError} the witness has no leaves
   * @throws {RangeError} an index is not of an old or new window
   * @throws {TypeError} `buf` has no bytes to read, or an index is not an integer
   */
  update(buf, windows) {
    const known = this.#known("update()");
    const bytes = bytesOf(buf, "buf");
    const count = windowCount(bytes.length);
    const most = Math.max(count, this.windows) - 1;
    const changed = new Set();
    for (const window of windows) {
      if (integer(window, "window") < 0 || window > most) {
        throw new RangeError(
          most < 0
            ? "window must be in the region, the region is empty"
            : `window is ${window}, must be in 0..${most}`,
        );
      }
      changed.add(window);
    }
    if (bytes.length !== this.length) {
      const same = Math.floor(Math.min(bytes.length, this.length) / WINDOW_BYTES);
      for (let window = same; window < count; window++) changed.add(window);
    }
    const hashes = resized(known.hashes, count * DIGEST_BYTES);
    const residues = resized(known.residues ?? windowResidues(bytes), count);
    for (const window of changed) {
      if (window >= count) continue;
      const part = new Builder();
      part.add(bytes.subarray(window * WINDOW_BYTES, (window + 1) * WINDOW_BYTES));
      hashes.set(part.hashes, window * DIGEST_BYTES);
      residues.set(part.residues, window);
    }
    return treeOf(bytes.length, hashes, residues);
  }
}

/** Collects leaves and residues of a region that comes in runs of whole windows. */
class Builder {
  #length = 0;
  #hashes = new Uint8Array(DIGEST_BYTES);
  #residues = new Uint8Array(1);

  /** @param {Uint8Array} run all but the last a multiple of a window long */
  add(run) {
    const count = windowCount(this.#length + run.length);
    if (count > this.#residues.length) {
      const room = Math.max(count, 2 * this.#residues.length);
      this.#hashes = resized(this.#hashes, room * DIGEST_BYTES);
      this.#residues = resized(this.#residues, room);
    }
    const first = this.#length / WINDOW_BYTES;
    this.#residues.set(windowResidues(run), first);
    const out = outPointer();
    const keep = (/** @type {number} */ size, /** @type {number} */ offset) => {
      const at = (first + offset / WINDOW_BYTES) * DIGEST_BYTES;
      this.#hashes.set(heap().subarray(out, out + size), at);
    };
    inPieces(
      run,
      (pointer, length, offset) => {
        check(wasm().atlas_tree_leaves(pointer, length, out, 0));
        keep(windowCount(length) * DIGEST_BYTES, offset);
      },
      true,
    );
    this.#length += run.length;
  }

  get hashes() {
    return this.#hashes.slice(0, windowCount(this.#length) * DIGEST_BYTES);
  }

  get residues() {
    return this.#residues.slice(0, windowCount(this.#length));
  }

  witness() {
    return treeOf(this.#length, this.hashes, this.residues);
  }
}

/**
 * How many bytes the arguments and results for a buffer take: its address, its length and its root,
 * and a digest and a residue for each window.
 * @param {number} length
 */
function bytesNeeded(length) {
  return 8 + DIGEST_BYTES + (DIGEST_BYTES + 1) * windowCount(length);
}

/**
 * The witnesses of bytes in the module's memory.
 * @param {Span[]} spans
 * @param {number} room
 */
function treesOf(spans, room) {
  const [bases, lens, roots] = written(new DataView(heap().buffer), spans, room);
  const windows = spans.reduce((sum, [, length]) => sum + windowCount(length), 0);
  const leaves = roots + DIGEST_BYTES * spans.length;
  const parts = leaves + DIGEST_BYTES * windows;
  check(wasm().atlas_tree_leaves_many(bases, lens, spans.length, leaves, parts, roots));
  const results = heap().slice(roots, parts + windows); // the stage is used again below
  const [firstLeaf, firstPart] = [leaves - roots, parts - roots];
  let window = 0;
  return spans.map(([, length], i) => {
    const [first, stop] = [window, (window += windowCount(length))];
    return treeOf(
      length,
      results.slice(firstLeaf + DIGEST_BYTES * first, firstLeaf + DIGEST_BYTES * stop),
      results.slice(firstPart + first, firstPart + stop),
      results.slice(DIGEST_BYTES * i, DIGEST_BYTES * (i + 1)),
    );
  });
}

/**
 * @param {number} length
 * @param {Uint8Array<ArrayBuffer>} hashes
 * @param {Uint8Array<ArrayBuffer>} residues
 * @param {Uint8Array<ArrayBuffer>} [root]
 */
function treeOf(length, hashes, residues, root = rootOf(hashes)) {
  const fields = {
    algorithm: TREE_ALGORITHM,
    length,
    residue: residueOf(residues), // sums mod 96 add up
    digest: root,
    timestampNs: nowNs(),
  };
  return new TreeWitness(fields, { hashes, residues });
}

/**
 * The root over leaf hashes.
 * @param {Uint8Array} hashes
 */
function rootOf(hashes) {
  const tree = new TreeHash();
  try {
    tree.append(hashes, 0);
    return tree.digest();
  } finally {
    tree.close();
  }
}

/** @param {number} length */
function windowCount(length) {
  return Math.ceil(length / WINDOW_BYTES);
}

/**
 * A copy with another length: cut, or with zeros behind.
 * @param {Uint8Array} bytes
 * @param {number} length
 */
function resized(bytes, length) {
  const copy = new Uint8Array(length);
  copy.set(bytes.subarray(0, length));
  return copy;
}

const DESTROY = "atlas_tree_stream_destroy";

/** The root of data that comes in chunks of any size, in constant memory. */
export class TreeHash extends Handle {
  /**
   * @param {Bytes} [data] the first chunk
   * @throws {TypeError} `data` has no bytes to read
   */
  constructor(data) {
    const bytes = data === undefined ? undefined : lastingBytesOf(data, "data");
    super(made(wasm().atlas_tree_stream_create()), DESTROY);
    if (bytes !== undefined) this.update(bytes());
  }

  /**
   * Takes the next bytes.
   * @param {Bytes} chunk
   * @throws {TypeError} `chunk` has no bytes to read
   * @throws {StateError} the object is closed
   */
  update(chunk) {
    const stream = this.pointer;
    inPieces(bytesOf(chunk, "chunk"), (pointer, length) => {
      check(wasm().atlas_tree_stream_update(stream, pointer, length));
    });
  }

  /**
   * Takes whole windows by their leaf hashes and the residue of their bytes, so that they can be
   * hashed elsewhere, for example in workers.
   * @param {Bytes} leaves 32 bytes a window
   * @param {number} residue of all their bytes, in 0..95
   * @throws {RangeError} `leaves` is not a multiple of 32 bytes long
   * @throws {ConservationError} `residue` is not in 0..95, or not 0 without leaves
   * @throws {StateError} the bytes so far are not whole windows, or the object is closed
   * @throws {TypeError} `leaves` has no bytes to read, or `residue` is not an integer
   */
  append(leaves, residue) {
    const stream = this.pointer;
    const bytes = bytesOf(leaves, "leaves");
    if (bytes.length % DIGEST_BYTES !== 0) {
      throw new RangeError(
        `leaves has ${bytes.length} bytes, must have ${DIGEST_BYTES} for each hash`,
      );
    }
    if (integer(residue, "residue") < 0 || residue >= MODULUS) {
      throw new ConservationError(`residue is ${residue}, must be in 0..${MODULUS - 1}`);
    }
    let left = residue;
    const most = PIECE_BYTES;
    for (let at = 0; at === 0 || at < bytes.length; at += most) {
      const piece = bytes.subarray(at, at + most);
      const count = piece.length / DIGEST_BYTES;
      check(wasm().atlas_tree_stream_append(stream, staged(piece), count, left));
      left = 0;
    }
  }

  /**
   * Another object with the same bytes so far, to go on from here in two ways.
   * @returns {TreeHash}
   */
  copy() {
    const pointer = made(wasm().atlas_tree_stream_copy(this.pointer));
    // Past the constructor, which makes an empty one and takes no address from a caller.
    return /** @type {TreeHash} */ (Reflect.construct(Handle, [pointer, DESTROY], TreeHash));
  }

  /**
   * The root of all bytes so far, 32 bytes; more may follow.
   * @returns {Uint8Array<ArrayBuffer>}
   * @throws {StateError} the object is closed
   */
  digest() {
    return resultOf(this.pointer).root;
  }

  /**
   * The root in lowercase hex.
   * @returns {string}
   * @throws {StateError} the object is closed
   */
  hexdigest() {
    return toHex(this.digest());
  }

  /** How many bytes came so far. */
  get length() {
    return resultOf(this.pointer).length;
  }

  /** The residue of all bytes so far, in 0..95. */
  get residue() {
    return resultOf(this.pointer).residue;
  }

  /**
   * The witness of all bytes so far, without leaves, with the present time.
   * @returns {TreeWitness}
   * @throws {StateError} the object is closed
   */
  witness() {
    const { root, length, residue } = resultOf(this.pointer);
    return new TreeWitness({
      algorithm: TREE_ALGORITHM,
      length,
      residue,
      digest: root,
      timestampNs: nowNs(),
    });
  }
}

/**
 * Root, length and residue of all bytes so far.
 * @param {number} stream
 */
function resultOf(stream) {
  const out = outPointer();
  const [lengthAt, residueAt] = [out + DIGEST_BYTES, out + DIGEST_BYTES + 8];
  check(wasm().atlas_tree_stream_root(stream, out, lengthAt, residueAt));
  const memory = heap();
  const length = new DataView(memory.buffer).getBigUint64(lengthAt, true);
  return {
    root: memory.slice(out, out + DIGEST_BYTES),
    length: Number(length),
    residue: memory[residueAt],
  };
}

/**
 * The witness of a JSON text, of the class that its algorithm says; bytes are UTF-8.
 * @param {string | Uint8Array} text
 * @returns {Witness | TreeWitness}
 * @throws {WitnessError} not such a text; the message names the key, its value and the rule
 * @throws {TypeError} neither a string nor bytes
 */
export function witnessFromJson(text) {
  const { algorithm } = readRecord(text, ALGORITHM, TREE_ALGORITHM);
  return algorithm === ALGORITHM ? Witness.fromJson(text) : TreeWitness.fromJson(text);
}
