// SPDX-License-Identifier: Apache-2.0
/// <reference lib="esnext.disposable" preserve="true" />
/**
 * @file The WebAssembly module: how it is loaded, its functions and their errors.
 *
 * All code shares one instance. Its functions are declared in atlas/conservation.h, which is their
 * manual.
 */

import { DIGEST_BYTES, WINDOW_BYTES } from "./constants.js";
import { errorOf, ErrorCode, DomainMemoryError, StateError } from "./errors.js";
import { isA, isBuffer, typeName } from "./values.js";

/**
 * @typedef {string | URL | BufferSource | WebAssembly.Module | Response} Source
 * A path (under Node), a URL, bytes, or what the engine made of them.
 */

/**
 * @typedef {Record<string, (...values: any[]) => any> & {
 *   memory: WebAssembly.Memory, atlas_host_alloc(size: number): number,
 * }} Exports
 */

/** @type {Exports | undefined} */
let instance;
/** @type {Promise<void> | undefined} */
let loading;
let heapView = new Uint8Array(0);
let stagePointer = 0;

// The stage: where bytes from outside the module's memory pass through, piece by piece.
// Whole windows, so that trees can be made piece by piece; small enough for the CPU's caches.
const STAGE_WINDOWS = 16;
// For each window of a piece a digest and a residue; more than for any other result.
const OUT_BYTES = (DIGEST_BYTES + 8) * STAGE_WINDOWS;
/** How many bytes pass through the stage at once. */
export const PIECE_BYTES = STAGE_WINDOWS * WINDOW_BYTES;
/** How many bytes the stage has: a piece, and results behind it. */
export const STAGE_BYTES = PIECE_BYTES + OUT_BYTES;

// A function that makes a vector and reads a lane of one: valid where the engine has simd128.
const SIMD_PROBE = Uint8Array.of(
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0],
  ...[10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11],
);

/**
 * Does the engine have simd128?
 * @returns {boolean}
 */
export function simdSupported() {
  return WebAssembly.validate(SIMD_PROBE);
}

/**
 * Loads the WebAssembly module; everything else needs it. Another call waits for the first one.
 * @param {Source} [source] the module; without it the file beside this one that the engine runs
 *   best: atlas12288-simd.wasm or atlas12288.wasm
 * @returns {Promise<void>}
 * @throws {StateError} a source is given, and the module is loaded already
 * @throws {TypeError} `source` is none of these, another module, or a URL that cannot be fetched.
 *   An unreadable path gives Node's error, and bytes that are not a module
 *   {@link WebAssembly.CompileError}
 */
export async function load(source) {
  if (loading !== undefined && source !== undefined) {
    throw new StateError("the module is loaded already, must be loaded once");
  }
  if (loading === undefined) {
    loading = start(source === undefined ? fileBeside() : source);
    loading.catch(() => (loading = undefined)); // so that it can be tried again
  }
  return loading;
}

/** Each address in full, so that bundlers find the files. */
function fileBeside() {
  return simdSupported()
    ? new URL("./atlas12288-simd.wasm", import.meta.url)
    : new URL("./atlas12288.wasm", import.meta.url);
}

/** @param {Source} source */
async function start(source) {
  const module = isA("WebAssembly.Module", source)
    ? /** @type {WebAssembly.Module} */ (source)
    : await WebAssembly.compile(await read(/** @type {Readable} */ (source)));
  if (!WebAssembly.Module.exports(module).some(({ name }) => name === FIRST)) {
    throw new TypeError(`source exports no '${FIRST}', must be a module of atlas12288`);
  }
  const { exports } = await WebAssembly.instantiate(module, { atlas: { now_ns: nowNs } });
  const started = /** @type {Exports} */ (/** @type {unknown} */ (exports));
  started._initialize();
  stagePointer = started.atlas_host_alloc(STAGE_BYTES) >>> 0;
  if (stagePointer === 0) throw new DomainMemoryError("no memory for the module");
  instance = started;
}

const FIRST = "atlas_domain_create"; // of the contract's functions

/** The present time in nanoseconds since 1970. */
export function nowNs() {
  return BigInt(Date.now()) * 1_000_000n;
}

/** @typedef {string | URL | BufferSource | Response} Readable */

// In a variable, because bundlers for browsers look for the modules that an import names.
const NODE_FILES = "node:fs/promises";

/**
 * @param {Readable} source
 * @returns {Promise<BufferSource>}
 */
async function read(source) {
  if (isA("Response", source)) return body(/** @type {Response} */ (source));
  if (typeof source !== "string" && !isA("URL", source)) {
    if (isBuffer(source) || ArrayBuffer.isView(source)) return /** @type {BufferSource} */ (source);
    throw new TypeError(
      `source is of type ${typeName(source)}, must be a path, a URL, bytes, a Response or a ` +
        "WebAssembly.Module",
    );
  }
  const isNode = typeof process === "object" && Boolean(process.versions?.node);
  const path = String(source);
  if (isNode && (path.startsWith("file:") || !/^[a-z][a-z0-9+.-]+:/i.test(path))) {
    /** @type {typeof import("node:fs/promises")} */
    const { readFile } = await import(/* webpackIgnore: true */ /* @vite-ignore */ NODE_FILES);
    return readFile(path.startsWith("file:") ? new URL(path) : path);
  }
  return body(await fetch(path));
}

/** @param {Response} response */
async function body(response) {
  if (!response.ok) {
    throw new TypeError(`${response.url} has status ${response.status}, must have 200`);
  }
  return response.arrayBuffer();
}

/**
 * The functions of the module.
 * @returns {Exports}
 */
export function wasm() {
  if (instance === undefined) {
    throw new StateError("the module is not loaded, must be loaded: await load()");
  }
  return instance;
}

/**
 * The memory of the module, as it is until something is allocated.
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function heap() {
  // Growing the memory detaches the old buffer.
  if (heapView.byteLength === 0) {
    heapView = new Uint8Array(/** @type {ArrayBuffer} */ (wasm().memory.buffer));
  }
  return heapView;
}

/**
 * The address of the stage.
 * @returns {number}
 */
export function stage() {
  wasm();
  return stagePointer;
}

/**
 * The text at a pointer.
 * @param {number} pointer to UTF-8 that ends with 0; not NULL
 * @returns {string}
 */
export function textAt(pointer) {
  const start = pointer >>> 0;
  const memory = heap();
  return new TextDecoder().decode(memory.subarray(start, memory.indexOf(0, start)));
}

/**
 * The error of the last call, without the C function's name.
 * @returns {Error}
 */
export function lastError() {
  const text = textAt(wasm().atlas_get_last_error());
  return errorOf(wasm().atlas_get_last_error_code(), text.slice(text.indexOf(": ") + 2));
}

/**
 * Throws the error of the last call if it failed.
 * @param {number} code what the call returned
 */
export function check(code) {
  if (code !== ErrorCode.OK) throw lastError();
}

/**
 * The address of a new object; throws the error of the last call if it is NULL.
 * @param {number} pointer
 * @returns {number}
 */
export function made(pointer) {
  if (pointer === 0) throw lastError();
  return pointer >>> 0; // the engine gives addresses as signed numbers
}

/**
 * Version of the library, "major.minor.patch".
 * @returns {string}
 */
export function version() {
  return textAt(wasm().atlas_version());
}
