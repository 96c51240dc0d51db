/**
 * The witness at an address.
 * @param {number} pointer
 * @returns {Witness}
 * @throws {WitnessError} it witnesses more than a number of JavaScript can say
 */
export function witnessAt(pointer: number): Witness;
/**
 * The fields of a witness in JSON.
 * @param {string | Uint8Array} text
 * @param {string[]} algorithms
 * @returns {RecordFields}
 * @throws {WitnessError} not a witness of one of the algorithms
 */
export function readRecord(text: string | Uint8Array, ...algorithms: string[]): RecordFields;
export const ALGORITHM: "sha256";
export const TREE_ALGORITHM: "sha256-merkle-12288";
/**
 * @typedef {object} RecordFields
 * @property {string} algorithm
 * @property {number} length
 * @property {number} residue
 * @property {Uint8Array} digest
 * @property {bigint} timestampNs
 */
/**
 * @typedef {object} Kind a class of witnesses
 * @property {(buf: Bytes) => WitnessRecord} generate
 * @property {(data: Data, options?: ReadOptions) => Promise<WitnessRecord>} generateFrom
 */
/** What witnesses of all algorithms have: algorithm, length, residue, digest, time. Immutable. */
export class WitnessRecord {
    /**
     * Witnesses are made by `generate`, `fromJson` and the like.
     * @param {RecordFields} fields
     */
    constructor({ algorithm, length, residue, digest, timestampNs }: RecordFields);
    /** @readonly Name of the digest's algorithm. */
    readonly algorithm: string;
    /** @readonly Length of the region in bytes. */
    readonly length: number;
    /** @readonly Residue of the region, in 0..95. */
    readonly residue: number;
    /** @readonly When it was made: nanoseconds since 1970-01-01T00:00:00Z. */
    readonly timestampNs: bigint;
    /**
     * The digest, 32 bytes; a copy.
     * @returns {Uint8Array<ArrayBuffer>}
     */
    get digest(): Uint8Array<ArrayBuffer>;
    /**
     * The digest in lowercase hex.
     * @returns {string}
     */
    hexdigest(): string;
    /**
     * When it was made: RFC 3339, UTC, nanoseconds.
     * @returns {string}
     */
    get timestamp(): string;
    /**
     * Which of "length", "residue" and "digest" differ from those of another witness.
     *
     * No difference says that both witness the same bytes; the time does not count.
     * @param {WitnessRecord} other
     * @returns {("length" | "residue" | "digest")[]}
     * @throws {RangeError} the algorithms differ, so that the digests cannot be compared
     */
    differences(other: WitnessRecord): ("length" | "residue" | "digest")[];
    /**
     * Is it a witness of the same class with the same fields, the time included?
     * @param {unknown} other
     * @returns {boolean}
     */
    equals(other: unknown): boolean;
    /**
     * Are length, residue and digest those of `buf`? The digest is compared in constant time.
     * @param {Bytes} buf
     * @returns {boolean}
     * @throws {TypeError} `buf` has no bytes to read
     */
    verify(buf: Bytes): boolean;
    /**
     * The same for data of any size.
     * @param {Data} data
     * @param {ReadOptions} [options]
     * @returns {Promise<boolean>}
     * @throws {TypeError} `data` is nothing that can be read; and what reading it throws
     */
    verifyFrom(data: Data, options?: ReadOptions): Promise<boolean>;
    /**
     * The witness as JSON, on one line without its end; equal witnesses give equal text.
     * @returns {string}
     */
    toJson(): string;
    /**
     * What JSON.stringify() writes: the fields of `toJson`, in the same order.
     * @returns {{ type: string, algorithm: string, length: number, residue: number, digest: string,
     *   timestamp: string }}
     */
    toJSON(): {
        type: string;
        algorithm: string;
        length: number;
        residue: number;
        digest: string;
        timestamp: string;
    };
    #private;
}
/** Immutable record of a region: algorithm, length, residue, SHA-256 digest, time. */
export class Witness extends WitnessRecord {
    /**
     * The witness of the bytes of `buf`, which may be empty, with the present time.
     * @param {Bytes} buf
     * @returns {Witness}
     * @throws {TypeError} `buf` has no bytes to read
     */
    static generate(buf: Bytes): Witness;
    /**
     * The witness of data of any size, in constant memory, with the present time.
     * @param {Data} data
     * @param {ReadOptions} [options]
     * @returns {Promise<Witness>}
     * @throws {TypeError} `data` is nothing that can be read; and what reading it throws
     */
    static generateFrom(data: Data, options?: ReadOptions): Promise<Witness>;
    /**
     * The witness of a byte form, as `toBytes` gives it.
     * @param {Bytes} data
     * @returns {Witness}
     * @throws {WitnessError} `data` is not the byte form of a witness
     * @throws {TypeError} `data` has no bytes to read
     */
    static fromBytes(data: Bytes): Witness;
    /**
     * The witness of a JSON text, as `toJson` gives it; bytes are UTF-8.
     * @param {string | Uint8Array} text
     * @returns {Witness}
     * @throws {WitnessError} not such a text; the message names the key, its value and the rule
     * @throws {TypeError} neither a string nor bytes
     */
    static fromJson(text: string | Uint8Array): Witness;
    /**
     * The byte form, 56 bytes, see atlas_witness_to_bytes() in conservation.h.
     * @returns {Uint8Array<ArrayBuffer>}
     */
    toBytes(): Uint8Array<ArrayBuffer>;
}
/** The witness of data that comes in chunks of any size, in constant memory. */
export class WitnessStream extends Handle {
    constructor();
    /**
     * Takes the next bytes.
     * @param {Bytes} chunk
     * @throws {TypeError} `chunk` has no bytes to read
     * @throws {StateError} the stream is closed
     */
    update(chunk: Bytes): void;
    /**
     * The witness of all bytes so far, with the present time; more may follow.
     * @returns {Witness}
     * @throws {StateError} the stream is closed
     */
    witness(): Witness;
}
export type RecordFields = {
    algorithm: string;
    length: number;
    residue: number;
    digest: Uint8Array;
    timestampNs: bigint;
};
/**
 * a class of witnesses
 */
export type Kind = {
    generate: (buf: Bytes) => WitnessRecord;
    generateFrom: (data: Data, options?: ReadOptions) => Promise<WitnessRecord>;
};
import type { Bytes } from "./wasm.js";
import type { Data } from "./source.js";
import type { ReadOptions } from "./source.js";
import { Handle } from "./wasm.js";
