// SPDX-License-Identifier: Apache-2.0
/// <reference lib="esnext.disposable" preserve="true" />
/**
 * @file The WebAssembly module: how it is loaded, its memory, and the objects that live there.
 *
 * All code shares one instance. Its functions are declared in atlas/conservation.h, which is their
 * manual.
 */

import { DIGEST_BYTES, WINDOW_BYTES } from "./constants.js";
import { errorOf, ErrorCode, DomainMemoryError, StateError } from "./errors.js";

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

// --- The stage: where bytes from outside the module's memory pass through, piece by piece ---

// Whole windows, so that trees can be made piece by piece; small enough for the CPU's caches.
const STAGE_WINDOWS = 16;
// For each window of a piece a digest and a residue; more than for any other result.
const OUT_BYTES = (DIGEST_BYTES + 8) * STAGE_WINDOWS;
/** How many bytes pass through at once. */
export const PIECE_BYTES = STAGE_WINDOWS * WINDOW_BYTES;
const STAGE_BYTES = PIECE_BYTES + OUT_BYTES;

/**
 * Where small results of the functions go, OUT_BYTES behind the pieces; aligned for 64-bit words.
 * @returns {number}
 */
export function outPointer() {
  wasm();
  return stagePointer + PIECE_BYTES;
}

/**
 * Copies at most PIECE_BYTES to the stage.
 * @param {Uint8Array} bytes
 * @param {number} [at] offset on the stage
 * @returns {number} their address
 */
export function staged(bytes, at = 0) {
  heap().set(bytes, stagePointer + at);
  return stagePointer + at;
}

/**
 * Are these bytes in the memory of the module?
 * @param {Uint8Array} bytes
 * @returns {boolean}
 */
export function isInside(bytes) {
  return bytes.buffer === heap().buffer;
}

/**
 * Calls `use(address, length, offset)` for bytes in pieces of at most `most` bytes; once for all of
 * those that are in the module's memory, unless `split`. Not for none.
 * @param {Uint8Array} bytes
 * @param {(pointer: number, length: number, offset: number) => void} use
 * @param {boolean} [split]
 */
export function inPieces(bytes, use, split = false) {
  const inside = isInside(bytes);
  const { byteOffset, length: total } = bytes;
  const most = inside && !split ? total : PIECE_BYTES;
  for (let offset = 0; offset < total; offset += most) {
    const length = Math.min(most, total - offset);
    const piece = inside ? byteOffset + offset : staged(bytes.subarray(offset, offset + length));
    use(piece, length, offset);
  }
}

// --- Objects in the module's memory ---

// The net: an object that nobody closed and nobody has any more.
const forgotten = new FinalizationRegistry(
  /** @param {{ destroy: string, pointer: number }} held */
  ({ destroy, pointer }) => wasm()[destroy](pointer),
);

/** An object in the module's memory. Closed by `close()` or `using`, or when it is forgotten. */
export class Handle {
  #pointer;
  #destroy;

  /**
   * @param {number} pointer
   * @param {string} destroy the function that frees it
   */
  constructor(pointer, destroy) {
    this.#pointer = pointer;
    this.#destroy = destroy;
    forgotten.register(this, { destroy, pointer }, this);
  }

  /** Was it closed? */
  get closed() {
    return this.#pointer === 0;
  }

  /**
   * Its address.
   * @protected
   * @throws {StateError} it is closed
   */
  get pointer() {
    if (this.#pointer === 0) {
      throw new StateError(`the ${this.constructor.name} is closed, must be open for calls`);
    }
    return this.#pointer;
  }

  /** Frees its memory. Again, it does nothing. */
  close() {
    if (this.#pointer !== 0) {
      forgotten.unregister(this);
      wasm()[this.#destroy](this.#pointer);
      this.#pointer = 0;
    }
  }

  /** Closes it, at the end of a block with `using`; an engine without that never calls it. */
  [Symbol.dispose]() {
    this.close();
  }
}

/**
 * Bytes in the memory of the module, where all functions work on them without a copy.
 *
 * A Region stands for its bytes in every call. It is not cleared when it is made.
 */
export class Region extends Handle {
  /** @readonly How many bytes it has. */
  length;

  /**
   * @param {number} length in bytes
   * @throws {DomainMemoryError} there is no memory; a region has less than 2 GiB, all have 4
   * @throws {TypeError} the length is not an integer
   */
  constructor(length) {
    integer(length, "length");
    const fits = length >= 0 && length < 2 ** 32;
    const pointer = fits ? wasm().atlas_host_alloc(length) >>> 0 : 0;
    if (pointer === 0) throw new DomainMemoryError(`no memory for a region of ${length} bytes`);
    super(pointer, "atlas_host_free");
    this.length = length;
  }

  /**
   * The bytes. Take them anew after each call that may allocate: when the module's memory grows,
   * older views of it have no bytes any more.
   * @returns {Uint8Array<ArrayBuffer>}
   */
  get bytes() {
    return heap().subarray(this.pointer, this.pointer + this.length);
  }

  /** Its address in the module's memory, for calls of the module's own functions. */
  get address() {
    return this.pointer;
  }
}

// --- Arguments ---

/**
 * @typedef {ArrayBufferLike | ArrayBufferView | Region} Bytes
 * What has bytes: an ArrayBuffer, any view of one (also of a shared one), or a Region.
 */

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
 * The bytes of an argument, not copied; until a call that may allocate, see {@link lastingBytesOf}.
 * @param {Bytes} value
 * @param {string} name of the argument
 * @returns {Uint8Array}
 * @throws {TypeError} it has no bytes, or they are detached or outside of their buffer
 */
export function bytesOf(value, name) {
  if (value instanceof Region) return value.bytes;
  const isView = ArrayBuffer.isView(value);
  if (!isView && !isBuffer(value)) {
    throw new TypeError(
      `${name} is of type ${typeName(value)}, must be an ArrayBuffer, a view of one or a Region`,
    );
  }
  const buffer = isView ? value.buffer : value;
  // Bytes that are gone say that there are none, or do not say; what needs them fails.
  if (fails(() => value.byteLength) || value.byteLength === 0) {
    if (fails(() => new Uint8Array(buffer))) {
      throw new TypeError(`${name} is detached, must have its bytes`);
    }
    const items = /** @type {Partial<Uint8Array>} */ (value);
    if (fails(() => (items.values === undefined ? value.byteLength : items.values()))) {
      throw new TypeError(`${name} is outside of its buffer, must have its bytes`);
    }
  }
  if (value instanceof Uint8Array) return value;
  return isView ? new Uint8Array(buffer, value.byteOffset, value.byteLength) : new Uint8Array(buffer);
}

/** @param {() => unknown} use */
function fails(use) {
  try {
    use();
    return false;
  } catch {
    return true;
  }
}

/**
 * What bytesOf() gives, also after calls that may allocate: where the memory of the module grows,
 * views of it lose their bytes.
 * @param {Bytes} value
 * @param {string} name of the argument
 * @returns {() => Uint8Array}
 */
export function lastingBytesOf(value, name) {
  const bytes = bytesOf(value, name);
  if (!isInside(bytes)) return () => bytes;
  const { byteOffset, length } = bytes;
  return () => heap().subarray(byteOffset, byteOffset + length);
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

/**
 * The type of a value, for a message.
 * @param {unknown} value
 * @returns {string}
 */
export function typeName(value) {
  if (value === null) return "null";
  return typeof value === "object" ? (value.constructor?.name ?? "object") : typeof value;
}

// --- Kernel sets ---

/**
 * Name of the kernel set in use, for example "wasm32+simd128".
 * @returns {string}
 */
export function kernelSet() {
  return textAt(wasm().atlas_kernel_set());
}

/**
 * Names of the kernel sets in the module, best first.
 * @returns {string[]}
 */
export function kernelSets() {
  const names = [];
  for (let pointer; (pointer = wasm().atlas_kernel_set_name(names.length)) !== 0; ) {
    names.push(textAt(pointer));
  }
  return names;
}

/**
 * Uses another kernel set from now on: the same results at another speed.
 * @param {string} name
 * @throws {StateError} it is not in the module
 */
export function selectKernelSet(name) {
  const index = kernelSets().indexOf(name);
  if (index < 0) {
    throw new StateError(`kernel set is '${name}', must be one of ${kernelSets().join(", ")}`);
  }
  check(wasm().atlas_kernel_set_select(wasm().atlas_kernel_set_name(index)));
}

/**
 * Version of the library, "major.minor.patch".
 * @returns {string}
 */
export function version() {
  return textAt(wasm().atlas_version());
}
