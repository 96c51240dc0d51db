// SPDX-License-Identifier: Apache-2.0
/** @file The package with the module that ATLAS12288_WASM names ("simd", the default, or "plain"). */
import { readFileSync } from "node:fs";

import * as atlas from "atlas12288";

export const SIMD = (process.env.ATLAS12288_WASM ?? "simd") === "simd";
export const MODULE = new URL(`../lib/atlas12288${SIMD ? "-simd" : ""}.wasm`, import.meta.url);

await atlas.load(MODULE);

/** @param {string} path from the root of the repository */
export const fileOfProject = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

/**
 * Byte i is i mod 251, as in the vectors.
 * @param {number} length
 */
export const inputBytes = (length) => Uint8Array.from({ length }, (_, i) => i % 251);

/**
 * The law in plain JavaScript.
 * @param {Uint8Array} bytes
 */
export const residueOf = (bytes) => bytes.reduce((total, byte) => total + byte, 0) % 96;

/** @param {Uint8Array} bytes */
export const hexOf = (bytes) => Buffer.from(bytes).toString("hex");

export { atlas };
