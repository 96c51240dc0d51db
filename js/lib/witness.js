// SPDX-License-Identifier: Apache-2.0
/**
 * @file Witnesses and their JSON form.
 *
 *     {"type": "atlas12288/witness/v1", "algorithm": "sha256", "length": 12288, "residue": 0,
 *      "digest": "<64 lowercase hex digits>", "timestamp": "2025-01-31T12:00:00.000000000Z"}
 *
 * on one line, with the keys in this order, so that equal witnesses give equal text, the same as
 * from Python.
 */

import { bytesOf, lastingBytesOf } from "./arguments.js";
import { DIGEST_BYTES, MODULUS, WITNESS_BYTES } from "./constants.js";
import { WitnessError } from "./errors.js";
import { Fields, toHex, write } from "./json.js";
import { ofMany, written } from "./many.js";
import { Handle, inPieces, staged } from "./memory.js";
import { runs } from "./source.js";
import { check, heap, made, wasm } from "./wasm.js";

/** @import { Bytes } from "./arguments.js" */
/** @import { Span } from "./many.js" */
/** @import { Data, ReadOptions } from "./source.js" */

const JSON_TYPE = "atlas12288/witness/v1";
const KEYS = /** @type {const} */ (["type", "algorithm", "length", "residue", "digest", "timestamp"]);
export const ALGORITHM = "sha256";
export const TREE_ALGORITHM = "sha256-merkle-12288";

const NS_PER_S = 1_000_000_000n;
const UINT64_MAX = 2n ** 64n - 1n;
// A number of JavaScript holds no larger integer exactly; 9 PB.
const LENGTH_MAX = Number.MAX_SAFE_INTEGER;

/**
 * @typedef {object} RecordFields
 * @property {string} algorithm
 * @property {number} length
 * @property {number} residue
 * @property {Uint8Array} digest
 * @property {bigint} timestampNs
 */

/**
 * @typedef {object} Kind a class of witnesses
 * @property {(buf: Bytes) => WitnessRecord} generate
 * @property {(data: Data, options?: ReadOptions) => Promise<WitnessRecord>} generateFrom
 */

/** What witnesses of all algorithms have: algorithm, length, residue, digest, time. Immutable. */
export class WitnessRecord {
  #digest;

  /**
   * Witnesses are made by `generate`, `fromJson` and the like.
   * @param {RecordFields} fields
   */
  constructor({ algorithm, length, residue, digest, timestampNs }) {
    /** @readonly Name of the digest's algorithm. */
    this.algorithm = algorithm;
    /** @readonly Length of the region in bytes. */
    this.length = length;
    /** @readonly Residue of the region, in 0..95. */
    this.residue = residue;
    /** @readonly When it was made: nanoseconds since 1970-01-01T00:00:00Z. */
    this.timestampNs = timestampNs;
    this.#digest = digest.slice();
  }

  /**
   * The digest, 32 bytes; a copy.
   * @returns {Uint8Array<ArrayBuffer>}
   */
  get digest() {
    return new Uint8Array(this.#digest);
  }

  /**
   * The digest in lowercase hex.
   * @returns {string}
   */
  hexdigest() {
    return toHex(this.#digest);
  }

  /**
   * When it was made: RFC 3339, UTC, nanoseconds.
   * @returns {string}
   */
  get timestamp() {
    return formatTimestamp(this.timestampNs);
  }

  /**
   * Which of "length", "residue" and "digest" differ in another witness.
   *
   * If nothing differs, both witness the same bytes; the time is not compared.
   * @param {WitnessRecord} other
   * @returns {("length" | "residue" | "digest")[]}
   * @throws {RangeError} the algorithms differ, so that the digests cannot be compared
   */
  differences(other) {
    if (this.algorithm !== other.algorithm) {
      throw new RangeError(`algorithm of other is ${other.algorithm}, must be ${this.algorithm}`);
    }
    /** @type {("length" | "residue" | "digest")[]} */
    const names = [];
    if (this.length !== other.length) names.push("length");
    if (this.residue !== other.residue) names.push("residue");
    if (!this.#sameDigest(other)) names.push("digest");
    return names;
  }

  /**
   * Is it a witness of the same class with the same fields, the time included?
   * @param {unknown} other
   * @returns {boolean}
   */
  equals(other) {
    return (
      other instanceof WitnessRecord &&
      this.algorithm === other.algorithm &&
      this.timestampNs === other.timestampNs &&
      this.differences(other).length === 0
    );
  }

  /**
   * Whether `buf` has this length, residue and digest. The digest is compared in constant time.
   * @param {Bytes} buf
   * @returns {boolean}
   * @throws {TypeError} `buf` has no bytes to read
   */
  verify(buf) {
    if (bytesOf(buf, "buf").length !== this.length) return false;
    return this.differences(this.#kind.generate(buf)).length === 0;
  }

  /**
   * The same for data of any size.
   * @param {Data} data
   * @param {ReadOptions} [options]
   * @returns {Promise<boolean>}
   * @throws {TypeError} `data` is nothing that can be read; and what reading it throws
   */
  async verifyFrom(data, options) {
    return this.differences(await this.#kind.generateFrom(data, options)).length === 0;
  }

  get #kind() {
    return /** @type {Kind} */ (/** @type {unknown} */ (this.constructor));
  }

  /**
   * In a time that does not depend on the bytes.
   * @param {WitnessRecord} other
   */
  #sameDigest(other) {
    let different = 0;
    for (let i = 0; i < DIGEST_BYTES; i++) different |= this.#digest[i] ^ other.#digest[i];
    return different === 0;
  }

  /**
   * The witness as JSON, on one line without its end; equal witnesses give equal text.
   * @returns {string}
   */
  toJson() {
    return write(this.toJSON());
  }

  /**
   * What JSON.stringify() writes: the fields of `toJson`, in the same order.
   * @returns {{ type: string, algorithm: string, length: number, residue: number, digest: string,
   *   timestamp: string }}
   */
  toJSON() {
    return {
      type: JSON_TYPE,
      algorithm: this.algorithm,
      length: this.length,
      residue: this.residue,
      digest: this.hexdigest(),
      timestamp: this.timestamp,
    };
  }
}

/** Immutable record of a region: algorithm, length, residue, SHA-256 digest, time. */
export class Witness extends WitnessRecord {
  /** @param {RecordFields} fields */
  constructor(fields) {
    super(fields);
    Object.freeze(this);
  }

  /**
   * The witness of the bytes of `buf`, which may be empty, with the present time.
   * @param {Bytes} buf
   * @returns {Witness}
   * @throws {TypeError} `buf` has no bytes to read
   */
  static generate(buf) {
    const bytes = lastingBytesOf(buf, "buf");
    const stream = new WitnessStream();
    try {
      stream.update(bytes());
      return stream.witness();
    } finally {
      stream.close();
    }
  }

  /**
   * The witnesses of many buffers, in their order, with the present time. Small ones are hashed
   * beside one another, which is faster. Nothing is hashed before all have bytes to read.
   * @param {Iterable<Bytes>} buffers
   * @returns {Witness[]}
   * @throws {TypeError} one has no bytes to read; the message names its index
   */
  static generateMany(buffers) {
    return ofMany(buffers, () => MANY_BYTES, witnessesOf, (bytes) => Witness.generate(bytes));
  }

  /**
   * The witness of data of any size, in constant memory, with the present time.
   * @param {Data} data
   * @param {ReadOptions} [options]
   * @returns {Promise<Witness>}
   * @throws {TypeError} `data` is nothing that can be read; and what reading it throws
   */
  static async generateFrom(data, options) {
    const stream = new WitnessStream();
    try {
      for await (const run of runs(data, options)) stream.update(run);
      return stream.witness();
    } finally {
      stream.close();
    }
  }

  /**
   * The witness of a byte form, as `toBytes` gives it.
   * @param {Bytes} data
   * @returns {Witness}
   * @throws {WitnessError} `data` is not the byte form of a witness
   * @throws {TypeError} `data` has no bytes to read
   */
  static fromBytes(data) {
    const bytes = bytesOf(data, "data");
    const length = Math.min(bytes.length, 2 ** 32 - 1); // no other length may wrap to the right one
    const form = staged(bytes.subarray(0, WITNESS_BYTES));
    return adopted(made(wasm().atlas_witness_from_bytes(form, length)));
  }

  /**
   * The witness of a JSON text, as `toJson` gives it; bytes are UTF-8.
   * @param {string | Uint8Array} text
   * @returns {Witness}
   * @throws {WitnessError} not such a text; the message names the key, its value and the rule
   * @throws {TypeError} neither a string nor bytes
   */
  static fromJson(text) {
    return new Witness(readRecord(text, ALGORITHM));
  }

  /**
   * The byte form, 56 bytes, see atlas_witness_to_bytes() in conservation.h.
   * @returns {Uint8Array<ArrayBuffer>}
   */
  toBytes() {
    const form = new Uint8Array(WITNESS_BYTES);
    const view = new DataView(form.buffer);
    form.set([0x41, 0x54, 0x4c, 0x57, 1, 1, this.residue, 0]); // "ATLW", version, algorithm
    view.setBigUint64(8, BigInt(this.length), true);
    view.setBigUint64(16, this.timestampNs, true);
    form.set(this.digest, 24);
    return form;
  }
}

// The address and the length of a buffer, and the address of its witness.
const MANY_BYTES = 12;

/**
 * The witnesses of bytes in the module's memory.
 * @param {Span[]} spans
 * @param {number} room
 */
function witnessesOf(spans, room) {
  const [bases, lens, out] = written(new DataView(heap().buffer), spans, room);
  const count = spans.length;
  check(wasm().atlas_witness_generate_many(bases, lens, count, out));
  const results = new DataView(heap().buffer.slice(out, out + 4 * count));
  return spans.map((_, i) => adopted(results.getUint32(4 * i, true)));
}

/**
 * The witness at an address, which is freed.
 * @param {number} pointer
 */
function adopted(pointer) {
  try {
    return witnessAt(pointer);
  } finally {
    wasm().atlas_witness_destroy(pointer);
  }
}

/**
 * The witness at an address.
 * @param {number} pointer
 * @returns {Witness}
 * @throws {WitnessError} it witnesses more than a number of JavaScript can say
 */
export function witnessAt(pointer) {
  const functions = wasm();
  const length = BigInt.asUintN(64, functions.atlas_witness_length(pointer));
  if (length > LENGTH_MAX) {
    throw new WitnessError(`length is ${length}, must be an integer in 0..${LENGTH_MAX}`);
  }
  const digest = functions.atlas_witness_digest(pointer) >>> 0;
  return new Witness({
    algorithm: ALGORITHM,
    length: Number(length),
    residue: functions.atlas_witness_residue(pointer),
    digest: heap().subarray(digest, digest + DIGEST_BYTES),
    timestampNs: BigInt.asUintN(64, functions.atlas_witness_timestamp_ns(pointer)),
  });
}

/** The witness of data that comes in chunks of any size, in constant memory. */
export class WitnessStream extends Handle {
  constructor() {
    super(made(wasm().atlas_witness_stream_create()), "atlas_witness_stream_destroy");
  }

  /**
   * Takes the next bytes.
   * @param {Bytes} chunk
   * @throws {TypeError} `chunk` has no bytes to read
   * @throws {StateError} the stream is closed
   */
  update(chunk) {
    const stream = this.pointer;
    inPieces(bytesOf(chunk, "chunk"), (pointer, length) => {
      check(wasm().atlas_witness_stream_update(stream, pointer, length));
    });
  }

  /**
   * The witness of all bytes so far, with the present time; more may follow.
   * @returns {Witness}
   * @throws {StateError} the stream is closed
   */
  witness() {
    return adopted(made(wasm().atlas_witness_stream_witness(this.pointer)));
  }
}

/**
 * The fields of a witness in JSON.
 * @param {string | Uint8Array} text
 * @param {string[]} algorithms
 * @returns {RecordFields}
 * @throws {WitnessError} not a witness of one of the algorithms
 */
export function readRecord(text, ...algorithms) {
  const fields = new Fields(text, KEYS);
  fields.choice("type", JSON_TYPE);
  const algorithm = fields.choice("algorithm", ...algorithms);
  const length = fields.integer("length", LENGTH_MAX);
  const residue = fields.integer("residue", MODULUS - 1);
  fields.check("residue", residue === 0 || length > 0, "0 where length is 0");
  const digest = fields.digest("digest");
  const timestampNs = parseTimestamp(fields.text("timestamp"));
  const rule = "like 2025-01-31T12:00:00.000000000Z, from 1970 to 2554";
  fields.check("timestamp", timestampNs >= 0n, rule);
  return { algorithm, length, residue, digest, timestampNs };
}

/** @param {bigint} timestampNs */
function formatTimestamp(timestampNs) {
  const seconds = new Date(Number(timestampNs / NS_PER_S) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String(timestampNs % NS_PER_S).padStart(9, "0")}Z`;
}

/**
 * Nanoseconds since 1970, -1 for all that formatTimestamp does not give.
 * @param {string} text
 */
function parseTimestamp(text) {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/.test(text)) return -1n;
  const milliseconds = Date.parse(`${text.slice(0, 19)}Z`);
  if (Number.isNaN(milliseconds)) return -1n;
  const timestampNs = BigInt(milliseconds / 1000) * NS_PER_S + BigInt(text.slice(20, 29));
  const isTime = timestampNs >= 0n && timestampNs <= UINT64_MAX;
  return isTime && formatTimestamp(timestampNs) === text ? timestampNs : -1n;
}
