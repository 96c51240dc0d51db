/**
 * The residue: the sum of the bytes mod 96, in 0..95. Of no bytes it is 0.
 * @param {Bytes} buf
 * @returns {number}
 * @throws {TypeError} `buf` has no bytes to read
 */
export function residue(buf: Bytes): number;
/**
 * Is the residue 0?
 * @param {Bytes} buf
 * @returns {boolean}
 * @throws {TypeError} `buf` has no bytes to read
 */
export function isConserved(buf: Bytes): boolean;
/**
 * The residue of every window, one item each; the last window may be shorter.
 * @param {Bytes} buf
 * @returns {Uint8Array<ArrayBuffer>}
 * @throws {TypeError} `buf` has no bytes to read
 */
export function windowResidues(buf: Bytes): Uint8Array<ArrayBuffer>;
/**
 * (residue(after) - residue(before)) mod 96, in 0..95.
 * @param {Bytes} before
 * @param {Bytes} after
 * @returns {number}
 * @throws {RangeError} the lengths differ
 * @throws {TypeError} an argument has no bytes to read
 */
export function delta(before: Bytes, after: Bytes): number;
/**
 * Copies `src`, which must be conserved, to `dst`, of equal length, all or nothing.
 * @param {Bytes} dst
 * @param {Bytes} src
 * @throws {ConservationError} `src` is not conserved; `dst` is unchanged, here and below
 * @throws {DomainMemoryError} the two overlap
 * @throws {RangeError} the lengths differ
 * @throws {TypeError} an argument has no bytes to read
 */
export function conservedCopy(dst: Bytes, src: Bytes): void;
/**
 * Makes every byte `value`, but the last, which makes the bytes conserved (see {@link fixup}).
 * @param {Bytes} dst
 * @param {number} value
 * @throws {RangeError} `value` is not in 0..255
 * @throws {TypeError} `value` is not an integer, or `dst` has no bytes
 */
export function conservedFill(dst: Bytes, value: number): void;
/**
 * Makes the bytes conserved: the last becomes the nearest that does so, the smaller on a tie.
 * @param {Bytes} buf
 * @throws {TypeError} `buf` has no bytes
 */
export function fixup(buf: Bytes): void;
/** The residue of data that comes in chunks. */
export class Residue {
    /**
     * @param {Bytes} [data] the first chunk
     * @throws {TypeError} `data` has no bytes to read
     */
    constructor(data?: Bytes);
    /**
     * Adds the bytes of a chunk.
     * @param {Bytes} chunk
     * @throws {TypeError} `chunk` has no bytes to read
     */
    update(chunk: Bytes): void;
    /**
     * Another Residue of the same chunks, to go on from here in two ways.
     * @returns {Residue}
     */
    copy(): Residue;
    /** The residue of all chunks so far, in 0..95. */
    get value(): number;
    #private;
}
import type { Bytes } from "./wasm.js";
