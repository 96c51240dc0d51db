// SPDX-License-Identifier: Apache-2.0
/**
 * @file Strict JSON objects: exactly the expected keys, each once, each value in one form.
 *
 * Objects are written on one line with the keys in order, so equal objects have equal text, the
 * same as in Python. Readers accept other order and white space.
 */

import { DIGEST_BYTES } from "./constants.js";
import { WitnessError } from "./errors.js";
import { printable } from "./text.js";
import { isA, typeName } from "./values.js";

// A witness has less than 300; parsing a text of millions could exhaust the stack.
const CHARACTERS_MOST = 65536;
// Strings whole, so that what stands in them is not taken for structure; then one sign or word.
const TOKENS = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g;

/**
 * The object as JSON, on one line without its end.
 * @param {Record<string, string | number>} fields
 * @returns {string}
 */
export function write(fields) {
  const members = Object.entries(fields).map(([key, value]) => `"${key}": ${JSON.stringify(value)}`);
  return `{${members.join(", ")}}`;
}

/** The fields of a JSON object, each to be checked when it is taken. */
export class Fields {
  /** @type {Map<string, string>} each value as it is written, without white space around it */
  #raw;

  /**
   * @param {string | Uint8Array} text JSON; bytes are UTF-8
   * @param {readonly string[]} keys those that the object has
   * @throws {WitnessError} here and from every method; the message names key, value and rule
   * @throws {TypeError} `text` is neither a string nor bytes
   */
  constructor(text, keys) {
    if (typeof text !== "string" && !isA("Uint8Array", text)) {
      throw new TypeError(`text is of type ${typeName(text)}, must be a string or a Uint8Array`);
    }
    this.#raw = members(text);
    for (const key of this.#raw.keys()) {
      if (!keys.includes(key)) {
        throw new WitnessError(`key ${quoted(key)} is unknown, must be one of ${keys.join(", ")}`);
      }
    }
    for (const key of keys) {
      if (!this.#raw.has(key)) throw new WitnessError(`key '${key}' is missing, must be there`);
    }
  }

  /**
   * Refuses the field where the rule does not hold.
   * @param {string} key
   * @param {boolean} holds
   * @param {string} rule
   */
  check(key, holds, rule) {
    if (!holds) throw new WitnessError(`${key} is ${this.#shown(key)}, must be ${rule}`);
  }

  /**
   * The field, one of the choices.
   * @param {string} key
   * @param {string[]} choices
   * @returns {string}
   */
  choice(key, ...choices) {
    const value = this.text(key);
    this.check(key, choices.includes(value), choices.map(quoted).join(" or "));
    return value;
  }

  /**
   * The field, an integer in 0..most, written as one.
   * @param {string} key
   * @param {number} most
   * @returns {number}
   */
  integer(key, most) {
    const raw = this.#raw.get(key) ?? "";
    const holds = /^-?\d+$/.test(raw) && BigInt(raw) >= 0n && BigInt(raw) <= BigInt(most);
    this.check(key, holds, `an integer in 0..${most}`);
    return Math.abs(Number(raw)); // of -0, which JSON has
  }

  /**
   * The field if it is a text, otherwise "".
   * @param {string} key
   * @returns {string}
   */
  text(key) {
    const raw = this.#raw.get(key) ?? "";
    return raw.startsWith('"') ? JSON.parse(raw) : "";
  }

  /**
   * The field, a digest in hex.
   * @param {string} key
   * @returns {Uint8Array<ArrayBuffer>}
   */
  digest(key) {
    const text = this.text(key);
    const digits = 2 * DIGEST_BYTES;
    const holds = text.length === digits && /^[0-9a-f]*$/.test(text);
    this.check(key, holds, `${digits} lowercase hex digits`);
    return fromHex(text);
  }

  /** @param {string} key */
  #shown(key) {
    const raw = this.#raw.get(key) ?? "";
    return cut(raw.startsWith('"') ? quoted(JSON.parse(raw)) : printable(raw));
  }
}

/**
 * The members of the one object of a text.
 * @param {string | Uint8Array} text
 */
function members(text) {
  if (text.length > CHARACTERS_MOST) {
    throw new WitnessError(`text has ${text.length} characters, must have at most ${CHARACTERS_MOST}`);
  }
  let value;
  let source = "";
  try {
    // A byte order mark is not white space in JSON.
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    source = typeof text === "string" ? text : decoder.decode(text);
    value = JSON.parse(source);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new WitnessError(`text must be JSON: ${printable(reason)}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new WitnessError(`text is ${cut(printable(source.trim()))}, must be a JSON object`);
  }
  // JSON.parse says that the text is well-formed, but forgets repeated keys and digits of numbers.
  const found = new Map();
  let depth = 0;
  let key;
  for (const [token] of source.matchAll(TOKENS)) {
    if (token === "}" || token === "]") depth -= 1;
    if (depth === 0 || (depth === 1 && (token === "," || token === ":"))) {
      if (token === ",") key = undefined;
    } else if (key === undefined) {
      key = JSON.parse(token);
      if (found.has(key)) {
        throw new WitnessError(`key ${quoted(key)} occurs twice, must occur once`);
      }
      found.set(key, "");
    } else {
      found.set(key, found.get(key) + token);
    }
    if (token === "{" || token === "[") depth += 1;
  }
  return found;
}

/** @param {string} text */
function quoted(text) {
  return `'${printable(text)}'`;
}

/** @param {string} text */
function cut(text) {
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}

/**
 * @param {Uint8Array} bytes
 * @returns {string} lowercase hex
 */
export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {string} digits
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function fromHex(digits) {
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
