// SPDX-License-Identifier: Apache-2.0
/**
 * @file What page and worker say to each other; types only. Jobs are numbered by `turn`, so that the
 * page knows an answer to one that it has given up.
 */

/**
 * @typedef {{ kind: "check", file: File } | { kind: "flip", offset: number } | { kind: "stop" }} Job
 */

/**
 * @typedef {object} Checked
 * @property {"checked"} kind
 * @property {string} name
 * @property {number} length
 * @property {number} residue
 * @property {string} digest
 * @property {string} root
 * @property {string} flat the flat witness in JSON
 * @property {string} tree the tree witness in JSON
 * @property {Uint8Array} residues of the windows
 * @property {number} seconds
 */

/**
 * @typedef {object} Flipped
 * @property {"flipped"} kind
 * @property {number} offset
 * @property {number[]} windows those that were found changed
 * @property {Uint8Array} residues of all windows with the flipped byte
 * @property {string} digest
 */

/**
 * @typedef {Checked | Flipped | { kind: "progress", done: number }
 *   | { kind: "failed", message: string }} Answer
 */

/**
 * @typedef {{ kind: "ready", version: string, kernels: string }
 *   | { kind: "broken", message: string }} Start how the start of the worker ended
 */

export {};
