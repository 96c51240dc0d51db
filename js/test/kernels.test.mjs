// SPDX-License-Identifier: Apache-2.0
// Every kernel of every set: all tails and alignments, nothing touched outside, no sum wrapped.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { atlas, residueOf } from "./loaded.mjs";

const GUARD = 0xa5;
const MOST = 150; // a vector has 16 bytes, an unrolled loop 8 vectors
const OFFSETS = 17;

/** @param {number} length */
const random = (length) => createHash("shake128", { outputLength: length }).update("").digest();

for (const set of atlas.kernelSets()) {
  test(`${set}: every length to ${MOST} at every alignment, and not a byte beyond`, () => {
    atlas.selectKernelSet(set);
    const data = random(MOST + OFFSETS);
    const from = new atlas.ModuleMemory(data.length);
    const to = new atlas.ModuleMemory(2 * MOST + 64);
    for (let offset = 0; offset < OFFSETS; offset++) {
      for (let length = 0; length <= MOST; length++) {
        from.bytes.set(data);
        const source = from.bytes.subarray(offset, offset + length);
        const shift = (offset * 7 + length) % OFFSETS;
        const target = to.bytes.subarray(20 + shift, 20 + shift + length);
        const untouched = () => {
          const [before, after] = [to.bytes.subarray(0, 20 + shift), to.bytes.subarray(20 + shift + length)];
          return [before, after].every((bytes) => bytes.every((byte) => byte === GUARD));
        };
        assert.equal(atlas.residue(source), residueOf(source));
        atlas.fixup(source);
        to.bytes.fill(GUARD);
        assert.equal(atlas.delta(target, source), (96 - residueOf(target)) % 96);
        atlas.conservedCopy(target, source);
        assert.deepEqual(target, source);
        assert.ok(untouched());
        atlas.conservedFill(target, length);
        assert.ok(target.subarray(0, -1).every((byte) => byte === length));
        assert.equal(residueOf(target), 0);
        assert.ok(untouched());
      }
    }
    from.close();
    to.close();
  });

  test(`${set}: the largest sums do not wrap`, () => {
    atlas.selectKernelSet(set);
    const length = (80 << 20) + 13; // more than fills lanes of 32 bits with bytes of 255
    const memory = new atlas.ModuleMemory(length);
    memory.bytes.fill(255);
    for (const some of [16, 128, 256, 65_535, 65_536, length]) {
      const bytes = memory.bytes.subarray(0, some);
      assert.equal(atlas.residue(bytes), (some * 255) % 96);
      assert.equal(atlas.delta(bytes, bytes), 0);
    }
    const copy = new atlas.ModuleMemory(48 << 20); // stored as if past the cache
    atlas.conservedCopy(copy, memory.bytes.subarray(0, copy.length));
    assert.ok(Buffer.from(copy.bytes.buffer, copy.address, copy.length).equals(memory.bytes.subarray(0, copy.length)));
    atlas.conservedFill(copy, 1);
    assert.equal(copy.bytes.indexOf(255), -1);
    memory.close();
    copy.close();
  });

  test(`${set}: SHA-256 of every length to 300, and leaves of 0 to 13 windows`, () => {
    atlas.selectKernelSet(set);
    const data = random(13 * 12288 + 100);
    const sha256 = (/** @type {Uint8Array[]} */ ...parts) => {
      const hash = createHash("sha256");
      for (const part of parts) hash.update(part);
      return hash.digest("hex");
    };
    for (let length = 0; length <= 300; length++) {
      const bytes = data.subarray(length % 7, (length % 7) + length);
      assert.equal(atlas.Witness.generate(bytes).hexdigest(), sha256(bytes));
    }
    for (let windows = 0; windows <= 13; windows++) {
      for (const more of [0, 1, 55, 56, 63, 64]) {
        const bytes = data.subarray(0, windows * 12288 + more);
        const leaves = [];
        for (let at = 0; at < bytes.length; at += 12288) {
          leaves.push(sha256(Uint8Array.of(0), bytes.subarray(at, at + 12288)));
        }
        const found = atlas.TreeWitness.generate(bytes).leaves ?? new Uint8Array();
        assert.equal(Buffer.from(found).toString("hex"), leaves.join(""));
      }
    }
  });
}
