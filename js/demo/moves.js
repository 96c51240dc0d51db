// SPDX-License-Identifier: Apache-2.0
/** @file Files that were moved: their content is missing at one path and was added at another. */

/** @import { Entry } from "./manifest.js" */
/** @import { Outcome } from "./messages.js" */

/**
 * @typedef {object} Missing
 * @property {Entry} entry
 * @property {Outcome} outcome
 */

/**
 * @typedef {object} Added
 * @property {File} file
 * @property {Outcome} outcome
 */

/**
 * Pairs missing files with added ones. A move is a digest of more than 0 bytes that is missing under
 * exactly one path and was added under exactly one other; where there are more, nobody can tell which
 * became which.
 * @param {Missing[]} missing
 * @param {Added[]} added only those with the size of a missing one are read
 * @param {(file: File) => Promise<string | undefined>} digestOf undefined where it cannot be read
 * @returns {Promise<Map<Outcome, Outcome>>} what was said of the path before, and of the path after
 */
export async function moves(missing, added, digestOf) {
  /** @type {Map<string, Outcome[]>} */
  const gone = new Map();
  for (const { entry, outcome } of missing) {
    if (entry.size > 0) put(gone, entry.sha256 ?? entry.root ?? "", outcome);
  }
  const sizes = new Set(missing.map(({ entry }) => entry.size));
  /** @type {Map<string, Outcome[]>} */
  const came = new Map();
  const unread = new Set(); // one of this size may have any content
  for (const { file, outcome } of added) {
    if (file.size === 0 || !sizes.has(file.size)) continue;
    const digest = await digestOf(file);
    if (digest === undefined) unread.add(file.size);
    else put(came, digest, outcome);
  }
  /** @type {Map<Outcome, Outcome>} */
  const found = new Map();
  for (const { entry } of missing) {
    const digest = entry.sha256 ?? entry.root ?? "";
    const [before, after] = [gone.get(digest) ?? [], came.get(digest) ?? []];
    if (before.length === 1 && after.length === 1 && !unread.has(entry.size)) found.set(before[0], after[0]);
  }
  return found;
}

/**
 * @param {Map<string, Outcome[]>} lists
 * @param {string} digest
 * @param {Outcome} outcome
 */
function put(lists, digest, outcome) {
  lists.set(digest, [...(lists.get(digest) ?? []), outcome]);
}
