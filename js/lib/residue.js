// SPDX-License-Identifier: Apache-2.0
/** @file Conservation utilities: the law on bytes that belong to no domain. */

import { bytesOf } from "./arguments.js";
import { MODULUS, WINDOW_BYTES } from "./constants.js";
import { ConservationError, DomainMemoryError } from "./errors.js";
import { inPieces, isInside, outPointer, staged } from "./memory.js";
import { Region } from "./region.js";
import { integer } from "./values.js";
import { check, heap, PIECE_BYTES, wasm } from "./wasm.js";

/** @import { Bytes } from "./arguments.js" */

/** @param {Uint8Array} bytes */
function residueOf(bytes) {
  let total = 0;
  inPieces(bytes, (pointer, length) => {
    total += wasm().atlas_conserved_residue(pointer, length);
  });
  return total % MODULUS;
}

/**
 * @param {Bytes} one
 * @param {string} oneName
 * @param {Bytes} two
 * @param {string} twoName
 */
function pairOf(one, oneName, two, twoName) {
  const [first, second] = [bytesOf(one, oneName), bytesOf(two, twoName)];
  if (first.length !== second.length) {
    throw new RangeError(
      `${oneName} has ${first.length} bytes and ${twoName} has ${second.length}, ` +
        "must be of equal length",
    );
  }
  return [first, second];
}

/**
 * The residue: the sum of the bytes mod 96, in 0..95. Of no bytes it is 0.
 * @param {Bytes} buf
 * @returns {number}
 * @throws {TypeError} `buf` has no bytes to read
 */
export function residue(buf) {
  return residueOf(bytesOf(buf, "buf"));
}

/**
 * Is the residue 0?
 * @param {Bytes} buf
 * @returns {boolean}
 * @throws {TypeError} `buf` has no bytes to read
 */
export function isConserved(buf) {
  return residue(buf) === 0;
}

/**
 * The residue of every window, one item each; the last window may be shorter.
 * @param {Bytes} buf
 * @returns {Uint8Array<ArrayBuffer>}
 * @throws {TypeError} `buf` has no bytes to read
 */
export function windowResidues(buf) {
  const bytes = bytesOf(buf, "buf");
  const residues = new Uint8Array(Math.ceil(bytes.length / WINDOW_BYTES));
  const out = outPointer();
  inPieces(bytes, takePiece, true);
  return residues;

  /** @type {Parameters<typeof inPieces>[1]} */
  function takePiece(pointer, length, offset) {
    check(wasm().atlas_conserved_window_residues(pointer, length, out));
    const count = Math.ceil(length / WINDOW_BYTES);
    residues.set(heap().subarray(out, out + count), offset / WINDOW_BYTES);
  }
}

/**
 * (residue(after) - residue(before)) mod 96, in 0..95.
 * @param {Bytes} before
 * @param {Bytes} after
 * @returns {number}
 * @throws {RangeError} the lengths differ
 * @throws {TypeError} an argument has no bytes to read
 */
export function delta(before, after) {
  const [one, two] = pairOf(before, "before", after, "after");
  if (isInside(one) && isInside(two)) {
    return wasm().atlas_conserved_delta(one.byteOffset, two.byteOffset, one.length);
  }
  const half = PIECE_BYTES / 2;
  let total = 0;
  for (let offset = 0; offset < one.length; offset += half) {
    const first = staged(one.subarray(offset, offset + half));
    const second = staged(two.subarray(offset, offset + half), half);
    const length = Math.min(half, one.length - offset);
    total += wasm().atlas_conserved_delta(first, second, length);
  }
  return total % MODULUS;
}

/**
 * Copies `src`, which must be conserved, to `dst`, of equal length, all or nothing.
 *
 * To a Region, any bytes of the payload's length are copied, of a Region its payload, and the balance
 * is set.
 * @param {Bytes} dst
 * @param {Bytes} src
 * @throws {ConservationError} `src` is not conserved; `dst` is unchanged, here and below
 * @throws {DomainMemoryError} the two overlap
 * @throws {RangeError} the lengths differ
 * @throws {TypeError} an argument has no bytes to read
 */
export function conservedCopy(dst, src) {
  if (dst instanceof Region) {
    copyToRegion(dst, src);
    return;
  }
  const [to, from] = pairOf(dst, "dst", src, "src");
  const length = from.length;
  if (isInside(to) && isInside(from)) {
    check(wasm().atlas_conserved_memcpy(to.byteOffset, from.byteOffset, length));
    return;
  }
  // From here, atlas_conserved_memcpy for bytes that are not in the module's memory.
  requireApart(to, from);
  const left = residueOf(from);
  if (left !== 0) {
    throw new ConservationError(
      `residue of the ${length} source bytes is ${left}, must be 0 (mod ${MODULUS})`,
    );
  }
  to.set(from);
}

/**
 * @param {Region} region
 * @param {Bytes} src
 */
function copyToRegion(region, src) {
  const payload = src instanceof Region ? src.payload : src;
  const [to, from] = pairOf(region.payload, "dst", payload, "src");
  requireApart(to, from);
  to.set(from);
  region.balance();
}

/**
 * Refuses bytes of equal length that overlap.
 * @param {Uint8Array} to
 * @param {Uint8Array} from
 */
function requireApart(to, from) {
  const apart = Math.abs(to.byteOffset - from.byteOffset);
  if (to.buffer === from.buffer && apart < from.length) {
    throw new DomainMemoryError(
      `dst and src are ${apart} bytes apart, must be at least ${from.length}, the length`,
    );
  }
}

/**
 * Makes every byte `value`, but the last, which makes the bytes conserved (see {@link fixup}).
 * Of a Region it is every byte of the payload, and the balance.
 * @param {Bytes} dst
 * @param {number} value
 * @throws {RangeError} `value` is not in 0..255
 * @throws {TypeError} `value` is not an integer, or `dst` has no bytes
 */
export function conservedFill(dst, value) {
  if (integer(value, "value") < 0 || value > 255) {
    throw new RangeError(`value is ${value}, must be in 0..255`);
  }
  if (dst instanceof Region) {
    dst.payload.fill(value);
    dst.balance();
    return;
  }
  const bytes = bytesOf(dst, "dst");
  const length = bytes.length;
  if (isInside(bytes)) {
    check(wasm().atlas_conserved_memset(bytes.byteOffset, value, length));
  } else if (length > 0) {
    // A shorter fill ends with the same byte: 96 times a byte is 0 mod 96.
    const short = ((length - 1) % MODULUS) + 1;
    check(wasm().atlas_conserved_memset(outPointer(), value, short));
    bytes.fill(value);
    bytes[length - 1] = heap()[outPointer() + short - 1];
  }
}

/**
 * Makes the bytes conserved: one becomes the nearest that does so, the smaller on a tie. Of a Region
 * it is the balance that is set, and never a byte of the payload.
 * @param {Bytes} buf
 * @param {number} [at] index of the byte, in bytes also where the items are larger, negative from
 *   the end; without it the last one
 * @throws {RangeError} there is no byte `at`, or it is given for a Region
 * @throws {TypeError} `at` is not an integer, or `buf` has no bytes
 */
export function fixup(buf, at) {
  if (buf instanceof Region) {
    if (at !== undefined) {
      throw new RangeError(`at is ${at}, must be left out for a Region: the balance is set`);
    }
    buf.balance();
    return;
  }
  const bytes = bytesOf(buf, "buf");
  const length = bytes.length;
  if (at !== undefined && (integer(at, "at") < -length || at >= length)) {
    throw new RangeError(
      length === 0
        ? `at is ${at}, but there are no bytes`
        : `at is ${at}, must be in ${-length}..${length - 1}`,
    );
  }
  if (length === 0) return;
  const place = at ?? -1;
  const index = place < 0 ? place + length : place;
  if (isInside(bytes)) {
    check(wasm().atlas_conserved_fixup_at(bytes.byteOffset, length, index));
  } else {
    // Two bytes are enough: one that has the residue of all the others, and this one.
    const others = (residueOf(bytes) + 3 * MODULUS - bytes[index]) % MODULUS;
    const pair = outPointer();
    heap().set([others, bytes[index]], pair);
    check(wasm().atlas_conserved_fixup(pair, 2));
    bytes[index] = heap()[pair + 1];
  }
}

/** The residue of data that comes in chunks. */
export class Residue {
  #value = 0;

  /**
   * @param {Bytes} [data] the first chunk
   * @throws {TypeError} `data` has no bytes to read
   */
  constructor(data) {
    if (data !== undefined) this.update(data);
  }

  /**
   * Adds the bytes of a chunk.
   * @param {Bytes} chunk
   * @throws {TypeError} `chunk` has no bytes to read
   */
  update(chunk) {
    this.#value = (this.#value + residueOf(bytesOf(chunk, "chunk"))) % MODULUS;
  }

  /**
   * Another Residue of the same chunks, to go on from here in two ways.
   * @returns {Residue}
   */
  copy() {
    const other = new Residue();
    other.#value = this.#value;
    return other;
  }

  /** The residue of all chunks so far, in 0..95. */
  get value() {
    return this.#value;
  }
}
