// SPDX-License-Identifier: Apache-2.0
/** @file Data of any size, read as a stream in constant memory. */

import { WINDOW_BYTES } from "./constants.js";
import { bytesOf, typeName } from "./wasm.js";

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
  let offset = 0;
  for await (const run of data instanceof Blob ? blobRuns(data) : joined(chunksOf(data))) {
    signal?.throwIfAborted();
    yield run;
    onRun?.(run, offset);
    offset += run.length;
  }
  signal?.throwIfAborted();
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
 * @returns {AsyncIterable<Uint8Array> | Iterable<Uint8Array>}
 */
function chunksOf(data) {
  const isObject = typeof data === "object" && data !== null;
  const isBytes = isObject && (ArrayBuffer.isView(data) || data instanceof ArrayBuffer);
  if (isObject && !isBytes && (Symbol.asyncIterator in data || Symbol.iterator in data)) return data;
  if (isObject && "getReader" in data) return streamChunks(data);
  throw new TypeError(
    `data is of type ${typeName(data)}, must be a Blob, a stream or an iterable of chunks`,
  );
}

/**
 * Not every engine iterates over a ReadableStream.
 * @param {ReadableStream<Uint8Array>} stream
 */
async function* streamChunks(stream) {
  const reader = stream.getReader();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      ended = done;
      if (done) return;
      yield value;
    }
  } finally {
    if (!ended) await reader.cancel();
    reader.releaseLock();
  }
}
