/**
 * The data as runs of RUN_BYTES bytes, the last one possibly shorter. A run is valid until the next.
 * @param {Data} data
 * @param {ReadOptions} [options]
 * @returns {AsyncGenerator<Uint8Array, void, void>}
 * @throws {TypeError} `data` is nothing that can be read, or a chunk has no bytes
 */
export function runs(data: Data, options?: ReadOptions): AsyncGenerator<Uint8Array, void, void>;
/**
 * @typedef {Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array> | Iterable<Uint8Array>} Data
 * A Blob or File, a stream (that of `fetch(...)` or of Node), or an iterable of chunks.
 */
/**
 * @typedef {object} ReadOptions
 * @property {AbortSignal} [signal] stops the reading, with its reason as the error
 * @property {(run: Uint8Array, offset: number) => void} [onRun] called with the bytes, run by run:
 *   whole windows, but at the end of the data. They are valid until it returns.
 */
/** A run: 256 windows. */
export const RUN_BYTES: number;
/**
 * A Blob or File, a stream (that of `fetch(...)` or of Node), or an iterable of chunks.
 */
export type Data = Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
export type ReadOptions = {
    /**
     * stops the reading, with its reason as the error
     */
    signal?: AbortSignal | undefined;
    /**
     * called with the bytes, run by run:
     * whole windows, but at the end of the data. They are valid until it returns.
     */
    onRun?: ((run: Uint8Array, offset: number) => void) | undefined;
};
