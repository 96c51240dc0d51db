// SPDX-License-Identifier: Apache-2.0
// The vectors that Python reads too, by every kernel set of the module.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { atlas, fileOfProject, hexOf, inputBytes } from "./loaded.mjs";

const FLAT = JSON.parse(fileOfProject("tests/vectors/witness.json"));
const TREE = JSON.parse(fileOfProject("tests/vectors/tree.json"));

for (const set of atlas.kernelSets()) {
  for (const vector of FLAT.cases) {
    test(`${set}: ${vector.length} bytes`, () => {
      atlas.selectKernelSet(set);
      const data = inputBytes(vector.length);
      const witness = atlas.Witness.generate(data);
      assert.equal(witness.hexdigest(), vector.sha256);
      assert.equal(witness.residue, vector.residue);
      assert.equal(witness.length, vector.length);
      assert.equal(atlas.residue(data), vector.residue);
      assert.equal(hexOf(atlas.windowResidues(data)), vector.window_residues);
      const fixed = data.slice();
      atlas.fixup(fixed);
      assert.equal(fixed.at(-1) ?? null, vector.fixup_byte);
      assert.deepEqual(fixed.subarray(0, -1), data.subarray(0, -1));

      // The same in the module's own memory.
      const memory = new atlas.ModuleMemory(data.length);
      memory.bytes.set(data);
      assert.equal(atlas.Witness.generate(memory).hexdigest(), vector.sha256);
      assert.equal(atlas.residue(memory), vector.residue);
      assert.equal(hexOf(atlas.windowResidues(memory)), vector.window_residues);
      atlas.fixup(memory);
      assert.deepEqual(memory.bytes, fixed);
      memory.close();

      // At an index the byte becomes what it would in the last place.
      for (const at of data.length === 0 ? [] : [0, data.length >> 1, -data.length, -1]) {
        const index = at < 0 ? at + data.length : at;
        const swapped = data.slice();
        [swapped[index], swapped[data.length - 1]] = [data[data.length - 1], data[index]];
        atlas.fixup(swapped);
        const expected = data.slice();
        expected[index] = swapped[data.length - 1];
        const changed = data.slice();
        atlas.fixup(changed, at);
        assert.deepEqual(changed, expected);
        const inside = new atlas.ModuleMemory(data.length);
        inside.bytes.set(data);
        atlas.fixup(inside, at);
        assert.deepEqual(inside.bytes, expected);
        inside.close();
      }

      const read = atlas.Witness.fromJson(vector.json);
      assert.equal(read.toJson(), vector.json);
      assert.equal(hexOf(read.toBytes()), vector.witness);
      assert.equal(read.timestampNs, BigInt(FLAT.timestamp_ns.toString().slice(0, 10)) * 10n ** 9n + 123456789n);
      assert.deepEqual(atlas.Witness.fromBytes(Buffer.from(vector.witness, "hex")), read);
      assert.ok(read.verify(data));
      // Ours says the same but for the time.
      const withTime = witness.toJson().replace(witness.timestamp, FLAT.timestamp);
      assert.equal(withTime, vector.json);
    });
  }

  for (const vector of TREE.cases) {
    test(`${set}: tree of ${vector.length} bytes`, () => {
      atlas.selectKernelSet(set);
      const data = inputBytes(vector.length);
      const tree = atlas.TreeWitness.generate(data);
      const leaves = tree.leaves ?? assert.fail("no leaves");
      assert.equal(createHash("sha256").update(leaves).digest("hex"), vector.leaves);
      assert.equal(tree.toJson().replace(tree.timestamp, TREE.timestamp), vector.json);
      const read = atlas.TreeWitness.fromJson(vector.json);
      assert.equal(read.toJson(), vector.json);
      assert.equal(read.leaves, undefined);
      assert.ok(read.verify(data));
      assert.deepEqual(read.withLeaves(leaves).changed(data), []);
      const hash = new atlas.TreeHash();
      for (let at = 0; at < data.length; at += 10007) hash.update(data.subarray(at, at + 10007));
      assert.equal(hash.hexdigest(), vector.root);
      assert.equal(hash.length, vector.length);
      assert.equal(hash.residue, tree.residue);
      hash.close();
    });
  }
}
