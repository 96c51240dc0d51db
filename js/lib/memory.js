// SPDX-License-Identifier: Apache-2.0
/// <reference lib="esnext.disposable" preserve="true" />
/** @file The memory of the module: its stage, and the objects and bytes that live there. */

import { DomainMemoryError, StateError } from "./errors.js";
import { integer } from "./values.js";
import { heap, PIECE_BYTES, stage, wasm } from "./wasm.js";

/**
 * Where small results of the functions go, OUT_BYTES behind the pieces; aligned for 64-bit words.
 * @returns {number}
 */
export function outPointer() {
  return stage() + PIECE_BYTES;
}

/**
 * Copies at most PIECE_BYTES to the stage.
 * @param {Uint8Array} bytes
 * @param {number} [at] offset on the stage
 * @returns {number} their address
 */
export function staged(bytes, at = 0) {
  const pointer = stage() + at;
  heap().set(bytes, pointer);
  return pointer;
}

/**
 * Are these bytes in the memory of the module?
 * @param {Uint8Array} bytes
 * @returns {boolean}
 */
export function isInside(bytes) {
  return bytes.buffer === heap().buffer;
}

/**
 * Calls `use(address, length, offset)` for bytes in pieces of at most `most` bytes; once for all of
 * those that are in the module's memory, unless `split`. Not for none.
 * @param {Uint8Array} bytes
 * @param {(pointer: number, length: number, offset: number) => void} use
 * @param {boolean} [split]
 */
export function inPieces(bytes, use, split = false) {
  const inside = isInside(bytes);
  const { byteOffset, length: total } = bytes;
  const most = inside && !split ? total : PIECE_BYTES;
  for (let offset = 0; offset < total; offset += most) {
    const length = Math.min(most, total - offset);
    const piece = inside ? byteOffset + offset : staged(bytes.subarray(offset, offset + length));
    use(piece, length, offset);
  }
}

// The net: an object that nobody closed and nobody has any more.
const forgotten = new FinalizationRegistry(
  /** @param {{ destroy: string, pointer: number }} held */
  ({ destroy, pointer }) => wasm()[destroy](pointer),
);

/** An object in the module's memory. Closed by `close()` or `using`, or when it is forgotten. */
export class Handle {
  #pointer;
  #destroy;

  /**
   * @param {number} pointer
   * @param {string} destroy the function that frees it
   */
  constructor(pointer, destroy) {
    this.#pointer = pointer;
    this.#destroy = destroy;
    forgotten.register(this, { destroy, pointer }, this);
  }

  /** Was it closed? */
  get closed() {
    return this.#pointer === 0;
  }

  /**
   * Its address.
   * @protected
   * @throws {StateError} it is closed
   */
  get pointer() {
    if (this.#pointer === 0) {
      throw new StateError(`the ${this.constructor.name} is closed, must be open for calls`);
    }
    return this.#pointer;
  }

  /** Frees its memory. Again, it does nothing. */
  close() {
    if (this.#pointer !== 0) {
      forgotten.unregister(this);
      wasm()[this.#destroy](this.#pointer);
      this.#pointer = 0;
    }
  }

  /** Closes it, at the end of a block with `using`; an engine without that never calls it. */
  [Symbol.dispose]() {
    this.close();
  }
}

/**
 * Bytes in the memory of the module, where all functions work on them without a copy. A Region has a
 * balance besides.
 *
 * A ModuleMemory stands for its bytes in every call. It is not cleared when it is made.
 */
export class ModuleMemory extends Handle {
  /** @readonly How many bytes it has. */
  length;

  /**
   * @param {number} length in bytes
   * @throws {DomainMemoryError} there is no memory; one has less than 2 GiB, all together 4
   * @throws {TypeError} the length is not an integer
   */
  constructor(length) {
    integer(length, "length");
    const fits = length >= 0 && length < 2 ** 32;
    const pointer = fits ? wasm().atlas_host_alloc(length) >>> 0 : 0;
    if (pointer === 0) throw new DomainMemoryError(`no memory for ${length} bytes`);
    super(pointer, "atlas_host_free");
    this.length = length;
  }

  /**
   * The bytes. Take them anew after each call that may allocate: when the module's memory grows,
   * older views of it have no bytes any more.
   * @returns {Uint8Array<ArrayBuffer>}
   */
  get bytes() {
    return heap().subarray(this.pointer, this.pointer + this.length);
  }

  /** Its address in the module's memory, for calls of the module's own functions. */
  get address() {
    return this.pointer;
  }
}
