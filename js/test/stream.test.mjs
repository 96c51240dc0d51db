// SPDX-License-Identifier: Apache-2.0
// Data that comes as a stream: every kind of source, any split, constant memory.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createReadStream, mkdtempSync, openAsBlob, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { atlas, inputBytes } from "./loaded.mjs";

const RUN = 256 * 12288;
const DATA = inputBytes(2 * RUN + 12288 + 5);
const SHA256 = createHash("sha256").update(DATA).digest("hex");
const ROOT = atlas.TreeWitness.generate(DATA).hexdigest();
const folder = mkdtempSync(join(tmpdir(), "atlas12288-"));
const file = join(folder, "data.bin");
writeFileSync(file, DATA);
after(() => rmSync(folder, { recursive: true }));

/** @param {number} size */
function* split(size) {
  for (let at = 0; at < DATA.length; at += size) yield DATA.subarray(at, at + size);
}

/** @param {Iterable<Uint8Array>} chunks */
async function* later(chunks) {
  for (const chunk of chunks) {
    await null;
    yield chunk;
  }
}

/**
 * @param {Iterable<Uint8Array>} chunks
 * @returns {ReadableStream<Uint8Array>}
 */
function streamOf(chunks) {
  const iterator = chunks[Symbol.iterator]();
  return new ReadableStream({
    pull(controller) {
      const { done, value } = iterator.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
}

/** @type {Record<string, () => import("../lib/source.js").Data | Promise<Blob>>} */
const SOURCES = {
  "a Blob": () => new Blob([DATA]),
  "a Blob over a file": () => openAsBlob(file),
  "a stream of Node": () => createReadStream(file),
  "a ReadableStream": () => streamOf(split(100_000)),
  "a ReadableStream that cannot be iterated": () => {
    const stream = streamOf(split(RUN + 1));
    return /** @type {any} */ ({ getReader: () => stream.getReader() });
  },
  "an asynchronous iterable": () => later(split(12289)),
  "an iterable of large chunks": () => split(2 * RUN + 3),
  "a Blob of another realm": () => {
    const blob = new Blob([DATA]);
    const { size } = blob;
    return /** @type {any} */ ({ size, slice: blob.slice.bind(blob), arrayBuffer: () => blob.arrayBuffer() });
  },
  "an array": () => [DATA, new Uint8Array(0)],
};
for (const [name, source] of Object.entries(SOURCES)) {
  test(`${name} has the witness of its bytes`, async () => {
    /** @type {[number, number][]} */
    const seen = [];
    const total = new atlas.Residue();
    const flat = await atlas.Witness.generateFrom(await source(), {
      onRun: (run, offset) => {
        seen.push([offset, run.length]);
        total.update(run);
      },
    });
    assert.equal(flat.hexdigest(), SHA256);
    assert.equal(flat.length, DATA.length);
    assert.deepEqual(seen, [[0, RUN], [RUN, RUN], [2 * RUN, 12288 + 5]]);
    assert.equal(total.value, flat.residue);
    const tree = await atlas.TreeWitness.generateFrom(await source());
    assert.equal(tree.hexdigest(), ROOT);
    assert.deepEqual(tree.changed(DATA), []);
    assert.ok(await flat.verifyFrom(await source()));
    assert.ok(await tree.verifyFrom(await source()));
    assert.ok(!(await tree.verifyFrom(new Blob([DATA.subarray(1)]))));
  });
}

test("the empty source", async () => {
  for (const source of [new Blob([]), [], streamOf([])]) {
    const flat = await atlas.Witness.generateFrom(source);
    assert.equal(flat.hexdigest(), createHash("sha256").digest("hex"));
  }
});

test("what is no source, a chunk without bytes, an error of the source, a stop", async () => {
  const wrong = /** @type {any} */ (DATA);
  await assert.rejects(atlas.Witness.generateFrom(wrong), /data is of type Uint8Array, must be a Blob/);
  await assert.rejects(atlas.Witness.generateFrom(/** @type {any} */ (7)), TypeError);
  const text = /** @type {any} */ (["text"]);
  await assert.rejects(atlas.Witness.generateFrom(text), /a chunk of data is of type string/);
  async function* broken() {
    yield DATA;
    throw new Error("the disk is gone");
  }
  await assert.rejects(atlas.TreeWitness.generateFrom(broken()), /the disk is gone/);

  const stop = new AbortController();
  let cancelled = false;
  const endless = new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(RUN)),
    cancel: () => void (cancelled = true),
  });
  const onRun = () => stop.abort();
  const options = { signal: stop.signal, onRun };
  await assert.rejects(atlas.Witness.generateFrom(endless, options), { name: "AbortError" });
  assert.ok(cancelled);
  assert.ok(!endless.locked);
});

test("a stop is heard while the source waits, and before it is read at all", async () => {
  let ended = 0;
  const never = () => new Promise(() => {});
  const cancel = () => void (ended += 1);
  /** @type {Record<string, any>} */
  const waiting = {
    "a ReadableStream": new ReadableStream({ pull: never, cancel }),
    "an asynchronous iterable": {
      [Symbol.asyncIterator]: () => ({ next: never, return: async () => (cancel(), { done: true }) }),
    },
    "a Blob": { size: 1, slice: () => ({ arrayBuffer: never }), arrayBuffer: never },
  };
  for (const [name, source] of Object.entries(waiting)) {
    const stop = new AbortController();
    const result = atlas.Witness.generateFrom(source, { signal: stop.signal });
    await new Promise((resolve) => setTimeout(resolve, 10));
    stop.abort(new Error(name));
    await assert.rejects(result, { message: name });
  }
  assert.equal(ended, 1); // an iterator cannot be ended while it waits; a stream can
  assert.ok(!waiting["a ReadableStream"].locked);

  const reason = new Error("before");
  let read = 0;
  const counted = { [Symbol.asyncIterator]: () => ({ next: async () => ({ done: true, value: (read += 1) }) }) };
  for (const data of [/** @type {any} */ (counted), new Blob([])]) {
    await assert.rejects(atlas.TreeWitness.generateFrom(data, { signal: AbortSignal.abort(reason) }), reason);
  }
  assert.equal(read, 0);
});

test("more than 2 GiB take no more memory than a little", { timeout: 120_000 }, async () => {
  const chunk = inputBytes(4096 * 12288 / 64); // 64 windows, all of them different
  const leaf = (/** @type {number} */ i) => {
    const hash = createHash("sha256").update(Uint8Array.of(0));
    return hash.update(chunk.subarray(i * 12288, (i + 1) * 12288)).digest();
  };
  const count = 44 * 64; // 2,816 chunks of 64 windows: 2^31 bytes and more
  const node = (/** @type {Buffer} */ left, /** @type {Buffer} */ right) =>
    createHash("sha256").update(Uint8Array.of(1)).update(left).update(right).digest();
  // Of 2^k chunks, each half the other.
  const perfect = [Array.from({ length: 64 }, (_, i) => leaf(i)).reduce(fold, [])[0]];
  /**
   * @param {Buffer[]} levels
   * @param {Buffer} hash
   * @param {number} i
   */
  function fold(levels, hash, i) {
    let level = hash;
    for (let bits = i; bits & 1; bits >>= 1) level = node(/** @type {Buffer} */ (levels.pop()), level);
    return [...levels, level];
  }
  while (perfect.length < 12) perfect.push(node(perfect[perfect.length - 1], perfect[perfect.length - 1]));
  // 2,816 = 2,048 + 512 + 256
  const expected = node(perfect[11], node(perfect[9], perfect[8]));

  function* chunks() {
    for (let i = 0; i < count; i++) yield chunk;
  }
  globalThis.gc?.();
  const before = process.memoryUsage.rss();
  let most = 0;
  const onRun = () => void (most = Math.max(most, process.memoryUsage.rss()));
  const tree = await atlas.TreeWitness.generateFrom(chunks(), { onRun });
  assert.ok(tree.length > 2 ** 31, `${tree.length}`);
  assert.equal(tree.hexdigest(), expected.toString("hex"));
  const used = (most - before) / 2 ** 20;
  assert.ok(used < 64, `${used} MiB`);
});
