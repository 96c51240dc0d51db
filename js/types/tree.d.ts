/**
 * The witness of a JSON text, of the class that its algorithm says; bytes are UTF-8.
 * @param {string | Uint8Array} text
 * @returns {Witness | TreeWitness}
 * @throws {WitnessError} not such a text; the message names the key, its value and the rule
 * @throws {TypeError} neither a string nor bytes
 */
export function witnessFromJson(text: string | Uint8Array): Witness | TreeWitness;
/** @import { Bytes } from "./wasm.js" */
/** @import { Data, ReadOptions } from "./source.js" */
/** @import { RecordFields } from "./witness.js" */
/**
 * @typedef {object} Leaves
 * @property {Uint8Array<ArrayBuffer>} hashes 32 bytes a window
 * @property {Uint8Array<ArrayBuffer> | undefined} residues of each window, where they are known
 */
/**
 * Immutable record of a region: algorithm, length, residue, root, time; and its leaves.
 *
 * Made by `generate(buf)`, `generateFrom(data)`, `fromJson` and `TreeHash.witness()`.
 */
export class TreeWitness extends WitnessRecord {
    /**
     * The witness of the bytes of `buf`, which may be empty, with the present time.
     * @param {Bytes} buf
     * @returns {TreeWitness}
     * @throws {TypeError} `buf` has no bytes to read
     */
    static generate(buf: Bytes): TreeWitness;
    /**
     * The witness of data of any size, in constant memory but for the leaves, 33 bytes a window.
     * @param {Data} data
     * @param {ReadOptions} [options]
     * @returns {Promise<TreeWitness>}
     * @throws {TypeError} `data` is nothing that can be read; and what reading it throws
     */
    static generateFrom(data: Data, options?: ReadOptions): Promise<TreeWitness>;
    /**
     * The witness of a JSON text, as `toJson` gives it, without leaves; bytes are UTF-8.
     * @param {string | Uint8Array} text
     * @returns {TreeWitness}
     * @throws {WitnessError} not such a text; the message names the key, its value and the rule
     * @throws {TypeError} neither a string nor bytes
     */
    static fromJson(text: string | Uint8Array): TreeWitness;
    /**
     * @param {RecordFields} fields
     * @param {Leaves} [leaves]
     */
    constructor(fields: RecordFields, leaves?: Leaves);
    /** The root of the tree, 32 bytes; the same as `digest`. */
    get root(): Uint8Array<ArrayBuffer>;
    /** How many windows the region has, the last one possibly shorter. */
    get windows(): number;
    /**
     * The leaf hashes, 32 bytes a window, where the witness has them; a copy.
     * @returns {Uint8Array<ArrayBuffer> | undefined}
     */
    get leaves(): Uint8Array<ArrayBuffer> | undefined;
    /**
     * The residue of each window, where the witness was made from the bytes; a copy.
     * @returns {Uint8Array<ArrayBuffer> | undefined}
     */
    get windowResidues(): Uint8Array<ArrayBuffer> | undefined;
    /**
     * The same witness with leaves, for example those of a sidecar (`NAME.atlas.leaves`).
     * @param {Bytes} leaves
     * @returns {TreeWitness}
     * @throws {WitnessError} there are not 32 bytes a window, or the root over them is another one
     * @throws {TypeError} `leaves` has no bytes to read
     */
    withLeaves(leaves: Bytes): TreeWitness;
    /**
     * The indices of the windows in which `buf` differs; as {@link changedWindows}.
     * @param {Bytes} buf
     * @returns {number[]}
     * @throws {StateError} the witness has no leaves
     * @throws {TypeError} `buf` has no bytes to read
     */
    changed(buf: Bytes): number[];
    /**
     * The indices of the windows in which the regions of two witnesses differ, in order.
     *
     * A window that only one has differs, and so does a last window of another length.
     * @param {TreeWitness} other
     * @returns {number[]}
     * @throws {StateError} one of the witnesses has no leaves
     */
    changedWindows(other: TreeWitness): number[];
    /**
     * The witness of the region after a change of some windows, with the present time.
     *
     * No more than these windows are read; but all of `buf` for its residues where the leaves came
     * from `withLeaves`. The nodes above the leaves, 1 in 384 of the bytes, are all made anew. The
     * region may have grown or shrunk: the windows from the first length on that is not that of both
     * are hashed or dropped without being named.
     * @param {Bytes} buf the whole region as it is now
     * @param {Iterable<number>} windows indices, in any order, of all windows that changed
     * @returns {TreeWitness}
     * @throws {StateError} the witness has no leaves
     * @throws {RangeError} an index is not that of a window before or now
     * @throws {TypeError} `buf` has no bytes to read, or an index is not an integer
     */
    update(buf: Bytes, windows: Iterable<number>): TreeWitness;
    #private;
}
/** The root of data that comes in chunks of any size, in constant memory. */
export class TreeHash extends Handle {
    /**
     * @param {Bytes} [data] the first chunk
     * @throws {TypeError} `data` has no bytes to read
     */
    constructor(data?: Bytes);
    /**
     * Takes the next bytes.
     * @param {Bytes} chunk
     * @throws {TypeError} `chunk` has no bytes to read
     * @throws {StateError} the object is closed
     */
    update(chunk: Bytes): void;
    /**
     * Takes whole windows by their leaf hashes and the residue of their bytes, so that they can be
     * hashed elsewhere, for example in workers.
     * @param {Bytes} leaves 32 bytes a window
     * @param {number} residue of all their bytes, in 0..95
     * @throws {RangeError} `leaves` is not a multiple of 32 bytes long
     * @throws {ConservationError} `residue` is not in 0..95, or not 0 where there are no leaves
     * @throws {StateError} the bytes so far are not whole windows, or the object is closed
     * @throws {TypeError} `leaves` has no bytes to read, or `residue` is not an integer
     */
    append(leaves: Bytes, residue: number): void;
    /**
     * Another object with the same bytes so far, to go on from here in two ways.
     * @returns {TreeHash}
     */
    copy(): TreeHash;
    /**
     * The root of all bytes so far, 32 bytes; more may follow.
     * @returns {Uint8Array<ArrayBuffer>}
     * @throws {StateError} the object is closed
     */
    digest(): Uint8Array<ArrayBuffer>;
    /**
     * The root in lowercase hex.
     * @returns {string}
     * @throws {StateError} the object is closed
     */
    hexdigest(): string;
    /** How many bytes came so far. */
    get length(): number;
    /** The residue of all bytes so far, in 0..95. */
    get residue(): number;
    /**
     * The witness of all bytes so far, without leaves, with the present time.
     * @returns {TreeWitness}
     * @throws {StateError} the object is closed
     */
    witness(): TreeWitness;
}
export type Leaves = {
    /**
     * 32 bytes a window
     */
    hashes: Uint8Array<ArrayBuffer>;
    /**
     * of each window, where they are known
     */
    residues: Uint8Array<ArrayBuffer> | undefined;
};
import { Witness } from "./witness.js";
import { WitnessRecord } from "./witness.js";
import type { Bytes } from "./wasm.js";
import type { Data } from "./source.js";
import type { ReadOptions } from "./source.js";
import type { RecordFields } from "./witness.js";
import { Handle } from "./wasm.js";
