// SPDX-License-Identifier: Apache-2.0
/** @file Words and small elements of the page. */

import { printable } from "../lib/text.js";

export const ROWS_MOST = 1000; // of a list; the counts are of all

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
export const byId = (id) => /** @type {T} */ (document.getElementById(id));

export const grouped = (/** @type {number} */ value) => value.toLocaleString("en");

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export const counted = (count, one, many = `${one}s`) => `${grouped(count)} ${count === 1 ? one : many}`;

/** @param {string[]} words */
export const joined = (words) =>
  words.length < 2 ? words.join() : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;

/**
 * A text that comes with a file, apart from what is around it: letters that are written from right
 * to left turn nothing else around.
 * @param {string} text
 */
export function isolated(text) {
  return Object.assign(document.createElement("bdi"), { textContent: text });
}

/** @param {string} name of a file */
export const fileName = (name) => isolated(printable(name));

/**
 * @param {string} tag
 * @param {string} text
 */
export function made(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}
