/**
 * The object as JSON, on one line without its end.
 * @param {Record<string, string | number>} fields
 * @returns {string}
 */
export function write(fields: Record<string, string | number>): string;
/**
 * @param {Uint8Array} bytes
 * @returns {string} lowercase hex
 */
export function toHex(bytes: Uint8Array): string;
/** The fields of a JSON object, each to be checked when it is taken. */
export class Fields {
    /**
     * @param {string | Uint8Array} text JSON; bytes are UTF-8
     * @param {readonly string[]} keys those that the object has
     * @throws {WitnessError} here and from every method; the message names key, value and rule
     * @throws {TypeError} `text` is neither a string nor bytes
     */
    constructor(text: string | Uint8Array, keys: readonly string[]);
    /**
     * Refuses the field where the rule does not hold.
     * @param {string} key
     * @param {boolean} holds
     * @param {string} rule
     */
    check(key: string, holds: boolean, rule: string): void;
    /**
     * The field, one of the choices.
     * @param {string} key
     * @param {string[]} choices
     * @returns {string}
     */
    choice(key: string, ...choices: string[]): string;
    /**
     * The field, an integer in 0..most, written as one.
     * @param {string} key
     * @param {number} most
     * @returns {number}
     */
    integer(key: string, most: number): number;
    /**
     * The field where it is a text, "" otherwise.
     * @param {string} key
     * @returns {string}
     */
    text(key: string): string;
    /**
     * The field, a digest in hex.
     * @param {string} key
     * @returns {Uint8Array<ArrayBuffer>}
     */
    digest(key: string): Uint8Array<ArrayBuffer>;
    #private;
}
