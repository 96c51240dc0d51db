// SPDX-License-Identifier: Apache-2.0
/** @file Texts of strangers for people: one line, and no two of them look the same. */

// Controls, formats such as U+202E, which turns a line around, halves of characters, what Unicode
// has not assigned, and all white space but the plain one.
const UNPRINTABLE = /(?! )[\p{C}\p{Z}]/gu;
const NAMED = new Map([["\n", "\\n"], ["\r", "\\r"], ["\t", "\\t"]]);

/**
 * The text with a backslash as `\\`, and what cannot be printed as in Python's string literals, as
 * the command line shows names.
 * @param {string} text
 * @returns {string}
 */
export function printable(text) {
  return text.replaceAll("\\", "\\\\").replace(UNPRINTABLE, escaped);
}

/** @param {string} character */
function escaped(character) {
  const named = NAMED.get(character);
  if (named !== undefined) return named;
  const code = character.codePointAt(0) ?? 0;
  const [prefix, digits] = code < 0x100 ? ["x", 2] : code < 0x1_0000 ? ["u", 4] : ["U", 8];
  return `\\${prefix}${code.toString(16).padStart(digits, "0")}`;
}

/**
 * The text with `_` for each such character, for the name of a file.
 * @param {string} text
 * @returns {string}
 */
export function plainName(text) {
  return text.replace(UNPRINTABLE, "_");
}
