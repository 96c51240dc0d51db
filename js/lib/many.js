// SPDX-License-Identifier: Apache-2.0
/** @file Many buffers at once: those that fit on the stage together are one call of the module. */

import { lastingBytesOf } from "./arguments.js";
import { isInside, staged } from "./memory.js";
import { stage, STAGE_BYTES } from "./wasm.js";

/** @import { Bytes } from "./arguments.js" */

/** @typedef {[base: number, length: number]} Span Bytes in the memory of the module. */

// What a call gets, so that a slice of all is short.
const MANY_MOST = 1024;
const ALIGNMENT = 8;

/**
 * What is made of many buffers, in their order. Nothing is made before all have bytes to read.
 * @template T
 * @param {Iterable<Bytes>} buffers
 * @param {(length: number) => number} needed how many bytes of the stage the arguments and results
 *   of a buffer of a length take
 * @param {(spans: Span[], room: number) => T[]} together makes those of some buffers; `room` is the
 *   address of what they need, together
 * @param {(bytes: Uint8Array) => T} alone makes that of a buffer that does not fit on the stage
 * @returns {T[]}
 * @throws {TypeError} one has no bytes to read; the message names its index
 */
export function ofMany(buffers, needed, together, alone) {
  const all = [...buffers].map((buf, index) => lastingBytesOf(buf, `buffers[${index}]`));
  /** @type {T[]} */
  const made = [];
  while (made.length < all.length) {
    const { spans, room } = spansOf(all, made.length, needed);
    if (spans.length > 0) made.push(...together(spans, room));
    else made.push(alone(all[made.length]()));
  }
  return made;
}

/**
 * The buffers from an index on, as many as fit on the stage together, and what is free behind them.
 * @param {(() => Uint8Array)[]} all
 * @param {number} start
 * @param {(length: number) => number} needed
 */
function spansOf(all, start, needed) {
  /** @type {Span[]} */
  const spans = [];
  let used = 0;
  let results = ALIGNMENT - 1;
  for (const bytesNow of all.slice(start, start + MANY_MOST)) {
    const bytes = bytesNow();
    const isThere = isInside(bytes) && bytes.length > 0;
    const more = isThere ? 0 : bytes.length;
    if (used + more + results + needed(bytes.length) > STAGE_BYTES) break;
    spans.push([isThere ? bytes.byteOffset : staged(bytes, used), bytes.length]);
    used += more;
    results += needed(bytes.length);
  }
  return { spans, room: Math.ceil((stage() + used) / ALIGNMENT) * ALIGNMENT };
}

/**
 * Writes two arrays to an address: where the buffers are, and how long each is.
 * @param {DataView} memory of the module
 * @param {Span[]} spans
 * @param {number} at
 * @returns {[bases: number, lens: number, end: number]} addresses; `end` is behind both
 */
export function written(memory, spans, at) {
  const lens = at + 4 * spans.length;
  for (const [i, [base, length]] of spans.entries()) {
    memory.setUint32(at + 4 * i, base, true);
    memory.setUint32(lens + 4 * i, length, true);
  }
  return [at, lens, lens + 4 * spans.length];
}
