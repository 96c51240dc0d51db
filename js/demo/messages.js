// SPDX-License-Identifier: Apache-2.0
/**
 * @file What page and worker say to each other; types only. Jobs are numbered by `turn`, so that the
 * page knows an answer to one that it has given up.
 */

/**
 * @typedef {object} Found a file that a folder has
 * @property {string} path relative to the folder
 * @property {File} [file]
 * @property {string} [error] why there is no file
 * @property {boolean} [isFolder] a folder that could not be listed; the folder itself has the path ""
 */

/**
 * @typedef {object} Tree a tree witness and its leaves
 * @property {number} length
 * @property {number} residue
 * @property {string} root
 * @property {Blob} leaves
 */

/**
 * @typedef {object} Outcome of a path of a manifest or folder
 * @property {"same" | "changed" | "missing" | "added" | "moved" | "unreadable" | "undecided"} kind
 * @property {string} path as it is shown; of a moved file, the path in the manifest
 * @property {string} why
 * @property {string} [to] the path that a moved file has now, as it is shown
 * @property {{ file: File, tree: Tree }} [damage] a changed file whose windows can be compared
 */

/**
 * @typedef {{ kind: "check", file: File } | { kind: "flip", offset: number }
 *   | { kind: "compare", tree: Tree } | { kind: "sample", isDamaged: boolean }
 *   | { kind: "verify", manifest: File, leaves?: File, files: Found[] }
 *   | { kind: "stop" }} Job
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
 * @property {Uint8Array<ArrayBuffer>} leaves
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
 * @typedef {object} Compared
 * @property {"compared"} kind
 * @property {number[]} windows of the checked file that differ
 * @property {number} missing how many windows past its end the witness has
 * @property {number} total how many windows either has
 */

/**
 * @typedef {object} Verified
 * @property {"verified"} kind
 * @property {Outcome[]} outcomes in order of path, without the kind "same"
 * @property {string[]} same the paths of the files that match, as they are shown
 * @property {number} bytes that were read
 * @property {string} root of the manifest
 * @property {string[]} notes sentences on what the verdict leaves out
 */

/**
 * @typedef {Checked | Flipped | Compared | Verified | { kind: "sample", files: File[] }
 *   | { kind: "progress", done: number } | { kind: "failed", message: string }} Answer
 */

/**
 * @typedef {{ kind: "ready", version: string, kernels: string }
 *   | { kind: "broken", message: string }} Start how the start of the worker ended
 */

export {};
