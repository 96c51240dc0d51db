// SPDX-License-Identifier: Apache-2.0
/** @file Data of any size, read as a stream in constant memory. */

import { bytesOf } from "./arguments.js";
import { WINDOW_BYTES } from "./constants.js";
import { isBuffer, typeName } from "./values.js";

/**
 * @typedef {Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array> | Iterable<Uint8Array>} Data
 * A Blob or File, a stream (from `fetch(...)` or Node), or an iterable of chunks.
 */

/**
 * @typedef {object} ReadOptions
 * @property {AbortSignal} [signal] stops the reading, with its reason as the error
 * @property {(run: Uint8Array, offset: number) => void} [onRun] called with the bytes, run by run:
 *   whole windows, but at the end of the data. They are valid until it returns.
 */

/** A run: 256 windows. */
export const RUN_BYTES = 256 * WINDOW_BYTES;

/**
 * The data as runs of RUN_BYTES bytes, the last one possibly shorter. A run is valid until the next.
 * @param {Data} data
 * @param {ReadOptions} [options]
 * @returns {AsyncGenerator<Uint8Array, void, void>}
 * @throws {TypeError} `data` is nothing that can be read, or a chunk has no bytes
 */
export async function* runs(data, options = {}) {
  const { signal, onRun } = options;
  signal?.throwIfAborted();
  const source = isBlob(data) ? blobRuns(data) : joined(chunksOf(data, signal));
  let offset = 0;
  for await (const run of signal === undefined ? source : stoppable(source, signal)) {
    yield run;
    onRun?.(run, offset);
    offset += run.length;
  }
}

/**
 * The runs until the signal stops them, also while the source makes them wait.
 * @param {AsyncGenerator<Uint8Array, void, void>} source
 * @param {AbortSignal} signal
 */
async function* stoppable(source, signal) {
  let stop = () => {};
  /** @type {Promise<never>} */
  const stopped = new Promise((_, reject) => (stop = () => reject(signal.reason)));
  stopped.catch(() => {}); // a stop between two runs is seen below
  signal.addEventListener("abort", stop);
  let waits = false;
  try {
    for (;;) {
      signal.throwIfAborted();
      waits = true;
      const { done, value } = await Promise.race([source.next(), stopped]);
      waits = false;
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener("abort", stop);
    const end = source.return();
    end.catch(() => {}); // where the source waits, it ends after that; nobody is there to hear of it
    if (!waits) await end;
  }
}

/**
 * A Blob, also one of another realm.
 * @param {unknown} data
 * @returns {data is Blob}
 */
function isBlob(data) {
  const isObject = typeof data === "object" && data !== null;
  return isObject && "size" in data && "slice" in data && "arrayBuffer" in data;
}

/** @param {Blob} blob */
async function* blobRuns(blob) {
  for (let start = 0; start < blob.size; start += RUN_BYTES) {
    yield new Uint8Array(await blob.slice(start, start + RUN_BYTES).arrayBuffer());
  }
}

/** @param {AsyncIterable<Uint8Array> | Iterable<Uint8Array>} chunks */
async function* joined(chunks) {
  const run = new Uint8Array(RUN_BYTES);
  let filled = 0;
  for await (const chunk of chunks) {
    const bytes = bytesOf(chunk, "a chunk of data");
    for (let at = 0; at < bytes.length; ) {
      const some = bytes.subarray(at, at + RUN_BYTES - filled);
      run.set(some, filled);
      filled += some.length;
      at += some.length;
      if (filled === RUN_BYTES) {
        yield run;
        filled = 0;
      }
    }
  }
  if (filled > 0) yield run.subarray(0, filled);
}

/**
 * @param {Exclude<Data, Blob>} data
 * @param {AbortSignal} [signal]
 * @returns {AsyncIterable<Uint8Array> | Iterable<Uint8Array>}
 */
function chunksOf(data, signal) {
  const isObject = typeof data === "object" && data !== null;
  if (isObject && "getReader" in data) return streamChunks(data, signal);
  const isBytes = ArrayBuffer.isView(data) || isBuffer(data);
  if (isObject && !isBytes && (Symbol.asyncIterator in data || Symbol.iterator in data)) return data;
  throw new TypeError(
    `data is of type ${typeName(data)}, must be a Blob, a stream or an iterable of chunks`,
  );
}

/**
 * Not every engine iterates over a ReadableStream, and only its reader can end a pending read.
 * @param {ReadableStream<Uint8Array>} stream
 * @param {AbortSignal} [signal]
 */
async function* streamChunks(stream, signal) {
  const reader = stream.getReader();
  const cancel = () => reader.cancel(signal?.reason).catch(() => {});
  signal?.addEventListener("abort", cancel);
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      ended = done;
      if (done) return;
      yield value;
    }
  } finally {
    signal?.removeEventListener("abort", cancel);
    if (!ended) await reader.cancel();
    reader.releaseLock();
  }
}
