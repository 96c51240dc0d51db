/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Does the engine have simd128?
 * @returns {boolean}
 */
export function simdSupported(): boolean;
/**
 * Loads the WebAssembly module; everything else needs it. Another call waits for the first one.
 * @param {Source} [source] the module; without it the file beside this one that the engine runs
 *   best: atlas12288-simd.wasm or atlas12288.wasm
 * @returns {Promise<void>}
 * @throws {StateError} a source is given, and the module is loaded already
 * @throws {TypeError} `source` is none of these, or a module of something else; also where a URL
 *   cannot be fetched. A path that cannot be read gives the error of Node, bytes that are no module
 *   {@link WebAssembly.CompileError}
 */
export function load(source?: Source): Promise<void>;
/** The present time in nanoseconds since 1970. */
export function nowNs(): bigint;
/**
 * The functions of the module.
 * @returns {Exports}
 */
export function wasm(): Exports;
/**
 * The memory of the module, as it is until something is allocated.
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function heap(): Uint8Array<ArrayBuffer>;
/**
 * The text at a pointer.
 * @param {number} pointer to UTF-8 that ends with 0; not NULL
 * @returns {string}
 */
export function textAt(pointer: number): string;
/**
 * The error of the last call, without the C function's name.
 * @returns {Error}
 */
export function lastError(): Error;
/**
 * Throws the error of the last call where there is one.
 * @param {number} code what the call returned
 */
export function check(code: number): void;
/**
 * The address of a new object; throws the error of the last call where that is NULL.
 * @param {number} pointer
 * @returns {number}
 */
export function made(pointer: number): number;
/**
 * Where small results of the functions go, OUT_BYTES behind the pieces; aligned for 64-bit words.
 * @returns {number}
 */
export function outPointer(): number;
/**
 * Copies at most PIECE_BYTES to the stage.
 * @param {Uint8Array} bytes
 * @param {number} [at] offset on the stage
 * @returns {number} their address
 */
export function staged(bytes: Uint8Array, at?: number): number;
/**
 * Are these bytes in the memory of the module?
 * @param {Uint8Array} bytes
 * @returns {boolean}
 */
export function isInside(bytes: Uint8Array): boolean;
/**
 * Calls `use(address, length, offset)` for bytes in pieces of at most `most` bytes; once for all of
 * those that are in the module's memory, unless `split`. Not for none.
 * @param {Uint8Array} bytes
 * @param {(pointer: number, length: number, offset: number) => void} use
 * @param {boolean} [split]
 */
export function inPieces(bytes: Uint8Array, use: (pointer: number, length: number, offset: number) => void, split?: boolean): void;
/**
 * @typedef {ArrayBufferLike | ArrayBufferView | Region} Bytes
 * What has bytes: an ArrayBuffer, any view of one (also of a shared one), or a Region.
 */
/**
 * Is the value of a class of the platform, also of that of another realm, such as a frame?
 * @param {string} name of the class
 * @param {unknown} value
 */
export function isA(name: string, value: unknown): boolean;
/**
 * Is it an ArrayBuffer or a SharedArrayBuffer?
 * @param {unknown} value
 */
export function isBuffer(value: unknown): boolean;
/**
 * The bytes of an argument, not copied; until a call that may allocate, see {@link lastingBytesOf}.
 * @param {Bytes} value
 * @param {string} name of the argument
 * @returns {Uint8Array}
 * @throws {TypeError} it has no bytes, or they are detached or outside of their buffer
 */
export function bytesOf(value: Bytes, name: string): Uint8Array;
/**
 * What bytesOf() gives, also after calls that may allocate: where the memory of the module grows,
 * views of it lose their bytes.
 * @param {Bytes} value
 * @param {string} name of the argument
 * @returns {() => Uint8Array}
 */
export function lastingBytesOf(value: Bytes, name: string): () => Uint8Array;
/**
 * Refuses what is not an integer.
 * @param {number} value
 * @param {string} name of the argument
 * @returns {number}
 */
export function integer(value: number, name: string): number;
/**
 * The type of a value, for a message.
 * @param {unknown} value
 * @returns {string}
 */
export function typeName(value: unknown): string;
/**
 * Name of the kernel set in use, for example "wasm32+simd128".
 * @returns {string}
 */
export function kernelSet(): string;
/**
 * Names of the kernel sets in the module, best first.
 * @returns {string[]}
 */
export function kernelSets(): string[];
/**
 * Uses another kernel set from now on: the same results at another speed.
 * @param {string} name
 * @throws {StateError} it is not in the module
 */
export function selectKernelSet(name: string): void;
/**
 * Version of the library, "major.minor.patch".
 * @returns {string}
 */
export function version(): string;
/** How many bytes pass through at once. */
export const PIECE_BYTES: number;
/** An object in the module's memory. Closed by `close()` or `using`, or when it is forgotten. */
export class Handle {
    /**
     * @param {number} pointer
     * @param {string} destroy the function that frees it
     */
    constructor(pointer: number, destroy: string);
    /** Was it closed? */
    get closed(): boolean;
    /**
     * Its address.
     * @protected
     * @throws {StateError} it is closed
     */
    protected get pointer(): number;
    /** Frees its memory. Again, it does nothing. */
    close(): void;
    /** Closes it, at the end of a block with `using`; an engine without that never calls it. */
    [Symbol.dispose](): void;
    #private;
}
/**
 * Bytes in the memory of the module, where all functions work on them without a copy.
 *
 * A Region stands for its bytes in every call. It is not cleared when it is made.
 */
export class Region extends Handle {
    /**
     * @param {number} length in bytes
     * @throws {DomainMemoryError} there is no memory; a region has less than 2 GiB, all have 4
     * @throws {TypeError} the length is not an integer
     */
    constructor(length: number);
    /** @readonly How many bytes it has. */
    readonly length: number;
    /**
     * The bytes. Take them anew after each call that may allocate: when the module's memory grows,
     * older views of it have no bytes any more.
     * @returns {Uint8Array<ArrayBuffer>}
     */
    get bytes(): Uint8Array<ArrayBuffer>;
    /** Its address in the module's memory, for calls of the module's own functions. */
    get address(): number;
}
/**
 * What has bytes: an ArrayBuffer, any view of one (also of a shared one), or a Region.
 */
export type Bytes = ArrayBufferLike | ArrayBufferView | Region;
/**
 * A path (under Node), a URL, bytes, or what the engine made of them.
 */
export type Source = string | URL | BufferSource | WebAssembly.Module | Response;
export type Exports = Record<string, (...values: any[]) => any> & {
    memory: WebAssembly.Memory;
    atlas_host_alloc(size: number): number;
};
export type Readable = string | URL | BufferSource | Response;
