// SPDX-License-Identifier: Apache-2.0
/** @file What kind of value something is. */

/**
 * Whether a value is of a class of the platform, also in another realm, such as a frame.
 * @param {string} name of the class
 * @param {unknown} value
 */
export function isA(name, value) {
  return Object.prototype.toString.call(value) === `[object ${name}]`;
}

/**
 * Is it an ArrayBuffer or a SharedArrayBuffer?
 * @param {unknown} value
 */
export function isBuffer(value) {
  return isA("ArrayBuffer", value) || isA("SharedArrayBuffer", value);
}

/**
 * The type of a value, for a message.
 * @param {unknown} value
 * @returns {string}
 */
export function typeName(value) {
  if (value === null) return "null";
  return typeof value === "object" ? (value.constructor?.name ?? "object") : typeof value;
}

/**
 * Refuses what is not an integer.
 * @param {number} value
 * @param {string} name of the argument
 * @returns {number}
 */
export function integer(value, name) {
  if (!Number.isInteger(value)) {
    const shown = typeof value === "number" ? String(value) : `of type ${typeName(value)}`;
    throw new TypeError(`${name} is ${shown}, must be an integer`);
  }
  return value;
}
