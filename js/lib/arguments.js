// SPDX-License-Identifier: Apache-2.0
/** @file The bytes of arguments. */

import { isInside, ModuleMemory } from "./memory.js";
import { Region } from "./region.js";
import { isBuffer, typeName } from "./values.js";
import { heap } from "./wasm.js";

/**
 * @typedef {ArrayBufferLike | ArrayBufferView | ModuleMemory | Region} Bytes
 * What has bytes: an ArrayBuffer, any view of one (also of a shared one), a ModuleMemory or a Region.
 */

/**
 * The bytes of an argument, not copied; until a call that may allocate, see {@link lastingBytesOf}.
 * @param {Bytes} value
 * @param {string} name of the argument
 * @returns {Uint8Array}
 * @throws {TypeError} it has no bytes, or they are detached or outside of their buffer
 */
export function bytesOf(value, name) {
  if (value instanceof ModuleMemory) return value.bytes;
  if (value instanceof Region) return value.whole;
  const isView = ArrayBuffer.isView(value);
  if (!isView && !isBuffer(value)) {
    throw new TypeError(
      `${name} is of type ${typeName(value)}, ` +
        "must be an ArrayBuffer, a view of one, a ModuleMemory or a Region",
    );
  }
  const buffer = isView ? value.buffer : value;
  // Bytes that are gone say that there are none, or do not say; what needs them fails.
  if (fails(() => value.byteLength) || value.byteLength === 0) {
    if (fails(() => new Uint8Array(buffer))) {
      throw new TypeError(`${name} is detached, must have its bytes`);
    }
    const items = /** @type {Partial<Uint8Array>} */ (value);
    if (fails(() => (items.values === undefined ? value.byteLength : items.values()))) {
      throw new TypeError(`${name} is outside of its buffer, must have its bytes`);
    }
  }
  if (value instanceof Uint8Array) return value;
  return isView ? new Uint8Array(buffer, value.byteOffset, value.byteLength) : new Uint8Array(buffer);
}

/** @param {() => unknown} use */
function fails(use) {
  try {
    use();
    return false;
  } catch {
    return true;
  }
}

/**
 * What bytesOf() gives, also after calls that may allocate: where the memory of the module grows,
 * views of it lose their bytes.
 * @param {Bytes} value
 * @param {string} name of the argument
 * @returns {() => Uint8Array}
 */
export function lastingBytesOf(value, name) {
  const bytes = bytesOf(value, name);
  if (!isInside(bytes)) return () => bytes;
  const { byteOffset, length } = bytes;
  return () => heap().subarray(byteOffset, byteOffset + length);
}
