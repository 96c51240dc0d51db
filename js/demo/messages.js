// SPDX-License-Identifier: Apache-2.0
/** @file What page and worker say to each other; types only. */

/**
 * @typedef {{ kind: "check", file: File } | { kind: "flip", offset: number }
 *   | { kind: "verify", text: string } | { kind: "stop" }} Job
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
 * @property {Uint8Array} residues of all windows now
 * @property {string[]} differences of the flat witness
 * @property {string} digest
 */

/**
 * @typedef {object} Verified
 * @property {"verified"} kind
 * @property {string} algorithm
 * @property {string} time
 * @property {string} [name] of the file, where there is one
 * @property {string[]} [differences]
 */

/**
 * @typedef {Checked | Flipped | Verified | { kind: "progress", done: number }
 *   | { kind: "failed", job: Job["kind"], message: string }
 *   | { kind: "ready", version: string, kernels: string }} Answer
 */

export {};
