// SPDX-License-Identifier: Apache-2.0
/** @file Regions: memory with a byte of its own for the law. */

import { DomainMemoryError } from "./errors.js";
import { Handle, outPointer } from "./memory.js";
import { integer } from "./values.js";
import { check, heap, wasm } from "./wasm.js";

/**
 * Memory in the module with a payload, which the law never touches, and one byte behind it, the
 * balance, which makes both together conserved. It begins with zeros.
 *
 * In every call a Region stands for payload and balance. conservedFill() and conservedCopy() set its
 * payload and then the balance, fixup() the balance.
 */
export class Region extends Handle {
  /** @readonly How many bytes the payload has. */
  length;

  /**
   * @param {number} length of the payload, in bytes
   * @throws {DomainMemoryError} the length is less than 1, or there is no memory
   * @throws {TypeError} the length is not an integer
   */
  constructor(length) {
    if (integer(length, "length") < 1) {
      throw new DomainMemoryError(`length is ${length}, must be at least 1`);
    }
    const pointer = length < 2 ** 32 ? wasm().atlas_region_create(length) >>> 0 : 0;
    if (pointer === 0) throw new DomainMemoryError(`no memory for a region of ${length} bytes`);
    super(pointer, "atlas_region_destroy");
    this.length = length;
  }

  /** How many bytes payload and balance have: one more than the payload. */
  get size() {
    return this.length + 1;
  }

  /** The address of the payload in the module's memory. */
  get address() {
    return wasm().atlas_region_payload(this.pointer) >>> 0;
  }

  /**
   * The payload. Take it anew after each call that may allocate: when the module's memory grows,
   * older views of it have no bytes any more. Call balance() after you wrote.
   * @returns {Uint8Array<ArrayBuffer>}
   */
  get payload() {
    return this.whole.subarray(0, this.length);
  }

  /**
   * Payload and balance; take them anew as the payload.
   * @returns {Uint8Array<ArrayBuffer>}
   */
  get whole() {
    const address = this.address;
    return heap().subarray(address, address + this.size);
  }

  /**
   * Sets the balance so that payload and balance are conserved.
   * @returns {number} the balance, in 0..95
   */
  balance() {
    check(wasm().atlas_region_balance(this.pointer, outPointer()));
    return heap()[outPointer()];
  }
}
