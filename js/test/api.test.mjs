// SPDX-License-Identifier: Apache-2.0
// The package as a user calls it: verdicts, errors, domains, budgets, handles.
import assert from "node:assert/strict";
import { test } from "node:test";
import { runInNewContext } from "node:vm";

import { atlas, inputBytes, MODULE, residueOf } from "./loaded.mjs";

const LENGTHS = [0, 1, 2, 15, 16, 95, 96, 97, 256, 12288, 12289, 196608, 196609, 500_000];

/** @param {number} length */
function conserved(length) {
  const bytes = inputBytes(length);
  atlas.fixup(bytes);
  return bytes;
}

for (const set of atlas.kernelSets()) {
  test(`${set}: residue, delta, copy and fill agree with plain JavaScript`, () => {
    atlas.selectKernelSet(set);
    for (const length of LENGTHS) {
      const one = inputBytes(length);
      const two = one.map((byte, i) => byte ^ (i * 7));
      const delta = (residueOf(two) - residueOf(one) + 96) % 96;
      assert.equal(atlas.residue(one), residueOf(one));
      assert.equal(atlas.isConserved(one), residueOf(one) === 0);
      assert.equal(atlas.delta(one, two), delta);
      for (const value of [0, 1, 47, 48, 95, 96, 255]) {
        atlas.conservedFill(two, value);
        const memory = new atlas.ModuleMemory(length);
        atlas.conservedFill(memory, value);
        assert.deepEqual(memory.bytes, two);
        memory.close();
        assert.ok(two.subarray(0, -1).every((byte) => byte === value));
        assert.equal(residueOf(two), 0);
        if (length > 0) assert.ok(Math.abs(two[length - 1] - value) <= 95);
      }
      const source = conserved(length);
      const copy = new Uint8Array(length);
      atlas.conservedCopy(copy, source);
      assert.deepEqual(copy, source);
      const [from, to] = [new atlas.ModuleMemory(length), new atlas.ModuleMemory(length)];
      from.bytes.set(source);
      atlas.conservedCopy(to, from);
      assert.deepEqual(to.bytes, source);
      assert.equal(atlas.delta(from, to), 0);
      from.close();
      to.close();
    }
  });
}

test("any bytes are taken: buffers, views at an offset, shared memory; nothing else", () => {
  const bytes = conserved(4096);
  const shared = new SharedArrayBuffer(4096);
  new Uint8Array(shared).set(bytes);
  const inner = new Uint8Array(bytes.buffer, 100, 1000);
  assert.equal(atlas.residue(bytes.buffer), 0);
  assert.equal(atlas.residue(shared), 0);
  assert.equal(atlas.residue(new DataView(bytes.buffer, 100, 1000)), residueOf(inner));
  assert.equal(atlas.residue(new Float64Array(bytes.buffer)), 0);
  for (const wrong of ["text", 12, null, undefined, [1, 2], {}]) {
    assert.throws(() => atlas.residue(/** @type {any} */ (wrong)), {
      name: "TypeError",
      message: /^buf is of type \w+, must be an ArrayBuffer, a view of one, a ModuleMemory or a Region$/,
    });
  }
  structuredClone(bytes, { transfer: [bytes.buffer] });
  for (const gone of [bytes, bytes.buffer]) {
    assert.throws(() => atlas.residue(gone), { message: "buf is detached, must have its bytes" });
  }
});

test("bytes of another realm are taken", () => {
  const kinds = ["ArrayBuffer(5)", "SharedArrayBuffer(5)", "Uint8Array(5)", "DataView(new ArrayBuffer(5))"];
  for (const kind of kinds) {
    assert.equal(atlas.Witness.generate(runInNewContext(`new ${kind}`)).length, 5, kind);
  }
  const text = atlas.Witness.generate(new Uint8Array(5)).toJson();
  const bytes = runInNewContext("Uint8Array.from(data)", { data: new TextEncoder().encode(text) });
  assert.equal(atlas.Witness.fromJson(bytes).toJson(), text);
});

test("a view that a shrunk buffer left behind is refused", () => {
  const Resizable = /** @type {any} */ (ArrayBuffer); // newer than the types
  for (const View of /** @type {any[]} */ ([Uint8Array, Float64Array, DataView])) {
    const buffer = new Resizable(64, { maxByteLength: 128 });
    const view = new View(buffer, 32, 1);
    assert.equal(atlas.residue(view), 0);
    buffer.resize(16);
    const message = "buf is outside of its buffer, must have its bytes";
    assert.throws(() => atlas.residue(view), { name: "TypeError", message });
    assert.throws(() => atlas.conservedFill(view, 3), { name: "TypeError" });
  }
});

test("fixup takes an index of a byte, and refuses one outside", () => {
  const bytes = inputBytes(8);
  const before = bytes.slice();
  for (const at of [8, -9, 2 ** 40]) {
    assert.throws(() => atlas.fixup(bytes, at), {
      name: "RangeError",
      message: `at is ${at}, must be in -8..7`,
    });
    assert.throws(() => atlas.fixup(new Uint8Array(), at), { name: "RangeError", message: /no bytes/ });
  }
  for (const at of /** @type {any[]} */ ([1.5, "1", null, NaN])) {
    assert.throws(() => atlas.fixup(bytes, at), { name: "TypeError", message: /must be an integer/ });
  }
  assert.deepEqual(bytes, before);
  atlas.fixup(new Uint16Array(bytes.buffer), 1);
  assert.ok(atlas.isConserved(bytes));
  bytes[1] = before[1];
  assert.deepEqual(bytes, before);
});

test("a refused copy changes nothing", () => {
  const source = conserved(300);
  source[3] += 1;
  const target = new Uint8Array(300).fill(9);
  const same = (/** @type {Uint8Array} */ bytes) => assert.ok(bytes.every((byte) => byte === 9));
  assert.throws(() => atlas.conservedCopy(target, source), {
    name: "ConservationError",
    code: 1,
    message: "residue of the 300 source bytes is 1, must be 0 (mod 96)",
  });
  same(target);
  assert.throws(() => atlas.conservedCopy(target, source.subarray(1)), RangeError);
  const overlapping = conserved(300);
  assert.throws(
    () => atlas.conservedCopy(overlapping.subarray(10, 110), overlapping.subarray(0, 100)),
    { name: "DomainMemoryError", code: 4, message: /are 10 bytes apart, must be at least 100/ },
  );
  atlas.conservedCopy(target.subarray(0, 0), source.subarray(0, 0));
  const memory = new atlas.ModuleMemory(400);
  memory.bytes.fill(9);
  const [to, from] = [memory.bytes.subarray(0, 100), memory.bytes.subarray(50, 150)];
  assert.throws(() => atlas.conservedCopy(to, from), { name: "DomainMemoryError", code: 4 });
  same(memory.bytes);
  memory.close();
});

test("a witness tells changes, is immutable and refuses what is none", () => {
  const bytes = inputBytes(30_000);
  const witness = atlas.Witness.generate(bytes);
  assert.ok(witness instanceof atlas.Witness && witness.algorithm === "sha256");
  assert.ok(witness.verify(bytes));
  assert.ok(!witness.verify(bytes.subarray(1)));
  bytes[5] += 96; // a change that the residue misses
  assert.equal(atlas.residue(bytes), witness.residue);
  assert.deepEqual(witness.differences(atlas.Witness.generate(bytes)), ["digest"]);
  assert.ok(!witness.verify(bytes));
  assert.throws(() => Object.assign(witness, { length: 1 }), TypeError);
  witness.digest.fill(0);
  assert.notEqual(witness.hexdigest(), "00".repeat(32));
  assert.ok(Math.abs(Number(witness.timestampNs / 1_000_000n) - Date.now()) < 60_000);
  assert.throws(() => witness.differences(atlas.TreeWitness.generate(bytes)), RangeError);

  const form = witness.toBytes();
  assert.deepEqual(atlas.Witness.fromBytes(form), witness);
  for (const length of [0, 55, 57, 10_000_000]) {
    assert.throws(() => atlas.Witness.fromBytes(new Uint8Array(length)), {
      name: "WitnessError",
      code: 2,
      message: `len is ${length}, must be 56`,
    });
  }
  form[6] = 96;
  assert.throws(() => atlas.Witness.fromBytes(form), /residue is 96, must be in 0\.\.95/);
  form[6] = 95;
  form.fill(255, 8, 16);
  assert.throws(() => atlas.Witness.fromBytes(form), {
    name: "WitnessError",
    message: "length is 18446744073709551615, must be an integer in 0..9007199254740991",
  });
});

for (const made of [atlas.Witness, atlas.TreeWitness]) {
  test(`a ${made.name} of many buffers is that of each alone`, () => {
    const bytes = inputBytes(300_000);
    const memory = new atlas.ModuleMemory(70_000);
    memory.bytes.set(bytes.subarray(9, 70_009));
    const lengths = [...Array(130).keys(), 12_288, 196_608, 196_609, 100_000, 100_000, 0, 63, 64];
    lengths.push(...Array(1100).fill(12), 12_287, 12_289, 24_576, 197_200, 197_241, 197_248);
    for (const count of [0, 1, 2, 47, 48, 49, lengths.length]) {
      const some = lengths.slice(lengths.length - count).map((n, i) => bytes.subarray(i, i + n));
      const witnesses = made.generateMany(count % 2 ? some : new Set([...some, memory]));
      const expected = count % 2 ? some : [...some, memory];
      assert.equal(witnesses.length, expected.length);
      for (const [i, witness] of witnesses.entries()) {
        assert.ok(witness instanceof made);
        const alone = made.generate(expected[i]);
        assert.deepEqual(witness.differences(alone), []);
        if (!(witness instanceof atlas.TreeWitness && alone instanceof atlas.TreeWitness)) continue;
        assert.deepEqual(witness.leaves, alone.leaves);
        assert.deepEqual(witness.windowResidues, alone.windowResidues);
      }
    }
    const none = /** @type {any} */ ([bytes, undefined]);
    assert.throws(() => made.generateMany(none), {
      name: "TypeError",
      message: /^buffers\[1\] is of type undefined, must be an ArrayBuffer/,
    });
    for (const wrong of /** @type {any[]} */ ([undefined, 5, bytes])) {
      assert.throws(() => made.generateMany(wrong), TypeError);
    }
    memory.close();
    assert.throws(() => made.generateMany([memory]), { name: "StateError" });
  });

  test(`a ${made.name} of many buffers in the module's memory is that of each alone`, () => {
    // Their results are longer than the stage, or fit on it together.
    const memory = new atlas.ModuleMemory(80_000_000);
    memory.bytes.set(inputBytes(12_345));
    const lengths = [0, 1, 100_000, 40_000_000, 80_000_000, 1, 100_000, 0];
    const witnesses = made.generateMany(lengths.map((n) => memory.bytes.subarray(0, n)));
    for (const [i, witness] of witnesses.entries()) {
      const alone = made.generate(memory.bytes.subarray(0, lengths[i]));
      assert.deepEqual(witness.differences(alone), []);
    }
    memory.close();
  });
}

test("a region is payload and balance in every call, and its payload stays as it is", () => {
  for (const length of [1, 95, 12287, 12288, 200_000]) {
    const region = new atlas.Region(length);
    assert.deepEqual([region.length, region.size, region.payload.length], [length, length + 1, length]);
    assert.deepEqual(region.whole, new Uint8Array(length + 1));
    const data = inputBytes(length);
    region.payload.set(data);
    const balance = (96 - residueOf(data)) % 96;
    assert.equal(region.balance(), balance);
    assert.deepEqual(region.whole, new Uint8Array([...data, balance]));
    assert.ok(atlas.isConserved(region));
    assert.equal(atlas.residue(region.payload), residueOf(data));
    const witness = atlas.Witness.generate(region);
    assert.equal(witness.length, length + 1);
    assert.ok(witness.verify(region) && witness.verify(region.whole));
    assert.ok(atlas.TreeWitness.generate(region).verify(region));
    region.payload[0] += 5;
    assert.ok(!witness.verify(region));
    assert.ok(!atlas.isConserved(region));
    atlas.fixup(region);
    assert.equal(region.payload[0], (data[0] + 5) & 255);
    assert.ok(atlas.isConserved(region));
    region.close();
    assert.throws(() => region.payload, { name: "StateError", message: /^the Region is closed/ });
    assert.throws(() => region.balance(), { name: "StateError" });
  }
  for (const wrong of [0, -1, 2 ** 31, 2 ** 32, 2 ** 53]) {
    assert.throws(() => new atlas.Region(wrong), { name: "DomainMemoryError", code: 4 });
  }
  assert.throws(() => new atlas.Region(1.5), TypeError);
});

test("a region is filled with any value and copied from any bytes of its payload's length", () => {
  const [region, other] = [new atlas.Region(1000), new atlas.Region(1000)];
  atlas.conservedFill(region, 7);
  assert.deepEqual(region.payload, new Uint8Array(1000).fill(7));
  assert.ok(atlas.isConserved(region));
  assert.throws(() => atlas.conservedFill(region, 256), RangeError);
  const data = inputBytes(1000);
  const memory = new atlas.ModuleMemory(1000);
  memory.bytes.set(data);
  for (const source of [data, memory]) {
    atlas.conservedFill(region, 0);
    atlas.conservedCopy(region, source);
    assert.deepEqual(region.payload, data);
    assert.ok(atlas.isConserved(region));
  }
  atlas.conservedCopy(other, region);
  assert.deepEqual(other.whole, region.whole);
  const outside = new Uint8Array(1001);
  atlas.conservedCopy(outside, region);
  assert.deepEqual(outside, region.whole);
  assert.throws(() => atlas.conservedCopy(region, data.subarray(1)), RangeError);
  assert.throws(() => atlas.conservedCopy(region, region.whole), RangeError);
  assert.throws(() => atlas.conservedCopy(region, region), { name: "DomainMemoryError" });
  assert.throws(() => atlas.conservedCopy(region, region.whole.subarray(1)), { name: "DomainMemoryError" });
  assert.throws(() => atlas.fixup(region, 3), { name: "RangeError", message: /must be left out for a Region/ });
  assert.deepEqual(region.payload, data);
  for (const one of [region, other, memory]) one.close();
});

test("a transaction on a region sets the balance, and balances no damage away", () => {
  const region = new atlas.Region(500);
  const domain = new atlas.Domain({ bytes: region.size });
  domain.attach(region);
  domain.transaction(() => {
    region.payload.set(inputBytes(500));
    domain.transaction(() => region.payload.fill(3, 100, 200));
  });
  assert.ok(domain.verify());
  const before = region.whole.slice();
  assert.throws(() => domain.transaction(() => {
    region.payload.fill(1);
    throw new Error("no");
  }), /no/);
  assert.deepEqual(region.whole, before);
  region.payload[9] ^= 64; // behind the back of the domain
  const damaged = region.whole.slice();
  assert.throws(() => domain.transaction(() => assert.fail("the body ran")), {
    name: "ConservationError",
    message: /^residue of the 501 bytes of the region is \d+ before the transaction/,
  });
  assert.deepEqual(region.whole, damaged);
  assert.ok(!domain.verify());
  region.balance();
  const witness = domain.commit();
  assert.ok(witness.verify(region) && domain.verify());
  region.payload[0] ^= 1;
  assert.ok(!domain.verify());
  region.close();
  assert.throws(() => domain.verify(), { name: "StateError", message: /Region is closed/ });
  domain.close();
});

test("witnesses are equal when all fields are, the time included; JSON.stringify knows them", () => {
  const bytes = inputBytes(30_000);
  for (const Kind of [atlas.Witness, atlas.TreeWitness]) {
    const witness = Kind.generate(bytes);
    const again = Kind.fromJson(JSON.stringify(witness));
    assert.equal(again.toJson(), witness.toJson());
    assert.ok(witness.equals(again));
    const later = witness.toJson().replace(witness.timestamp, "2025-01-31T12:00:00.000000000Z");
    assert.ok(!witness.equals(Kind.fromJson(later)));
    const others = [Kind.generate(bytes.subarray(1)), undefined, {}, witness.toJson()];
    for (const other of others) assert.ok(!witness.equals(other));
    assert.equal(JSON.stringify([witness]), JSON.stringify([JSON.parse(witness.toJson())]));
  }
  const [flat, tree] = [atlas.Witness.generate(bytes), atlas.TreeWitness.generate(bytes)];
  assert.ok(!flat.equals(tree) && !tree.equals(flat));
});

test("a tree says which windows changed, and follows changes", () => {
  const bytes = inputBytes(40 * 12288 + 77);
  const tree = atlas.TreeWitness.generate(bytes);
  assert.deepEqual(tree.changed(bytes), []);
  assert.deepEqual(tree.windowResidues, atlas.windowResidues(bytes));
  for (const at of [0, 12288 * 7 + 5, bytes.length - 1]) bytes[at] ^= 0x80;
  assert.deepEqual(tree.changed(bytes), [0, 7, 40]);
  assert.ok(!tree.verify(bytes));
  const bare = atlas.TreeWitness.fromJson(tree.toJson());
  assert.throws(() => bare.changed(bytes), { name: "StateError", code: 5 });
  assert.throws(() => bare.withLeaves(new Uint8Array(32)), { name: "WitnessError", code: 2 });
  assert.throws(() => bare.withLeaves(new Uint8Array(41 * 32)), /leaves have the root/);
  const now = atlas.TreeWitness.generate(bytes);
  for (const old of [tree, bare.withLeaves(tree.leaves ?? new Uint8Array())]) {
    assert.deepEqual(old.update(bytes, [40, 0, 7]).differences(now), []);
    assert.deepEqual(old.update(bytes, [40, 0]).differences(now).includes("digest"), true);
  }
  for (const length of [0, 1, 12288, 20 * 12288, 40 * 12288 + 78, 55 * 12288]) {
    const other = inputBytes(length);
    const all = Array.from({ length: Math.min(41, Math.ceil(length / 12288)) }, (_, i) => i);
    const expected = atlas.TreeWitness.generate(other);
    assert.deepEqual(tree.update(other, all).differences(expected), []);
    assert.equal(expected.windows, Math.ceil(length / 12288));
  }
  for (const window of [-1, 41]) assert.throws(() => tree.update(bytes, [window]), RangeError);
  assert.throws(() => tree.update(bytes, [0.5]), TypeError);
});

test("a tree hash takes leaves that were hashed elsewhere", () => {
  const bytes = inputBytes(30 * 12288 + 9);
  const tree = atlas.TreeWitness.generate(bytes);
  const hash = new atlas.TreeHash(bytes.subarray(0, 4 * 12288));
  const before = hash.copy();
  const middle = bytes.subarray(4 * 12288, 30 * 12288);
  hash.append(atlas.TreeWitness.generate(middle).leaves ?? new Uint8Array(), atlas.residue(middle));
  hash.update(bytes.subarray(30 * 12288));
  assert.deepEqual(hash.witness().differences(tree), []);
  assert.equal(before.length, 4 * 12288);
  // No argument stands for another object.
  const other = new (/** @type {any} */ (atlas.TreeHash))(undefined, before);
  assert.equal(other.length, 0);
  other.close();
  assert.throws(() => hash.append(new Uint8Array(32), 0), { name: "StateError", code: 5 });
  assert.throws(() => before.append(new Uint8Array(32), 96), { name: "ConservationError", code: 1 });
  assert.throws(() => before.append(new Uint8Array(0), 1), { name: "ConservationError", code: 1 });
  assert.throws(() => before.append(new Uint8Array(31), 1), {
    name: "RangeError",
    message: "leaves has 31 bytes, must have 32 for each hash",
  });
  hash.close();
  before.close();
});

/** @type {[string, (bytes: Uint8Array) => Uint8Array | import("atlas12288").ModuleMemory][]} */
const KINDS = [
  ["bytes of JavaScript", (bytes) => bytes],
  ["a ModuleMemory", (bytes) => {
    const memory = new atlas.ModuleMemory(bytes.length);
    memory.bytes.set(bytes);
    return memory;
  }],
];
for (const [kind, made] of KINDS) {
  test(`a domain over ${kind}: attach, verify, commit`, () => {
    const attached = made(conserved(12288));
    const set = (/** @type {number} */ at, /** @type {number} */ change) => {
      const bytes = attached instanceof atlas.ModuleMemory ? attached.bytes : attached;
      bytes[at] += change;
    };
    const domain = new atlas.Domain({ bytes: 12288, budgetClass: 50 });
    const refused = (/** @type {() => void} */ call, /** @type {string} */ name, /** @type {number} */ code) =>
      assert.throws(call, { name, code });
    assert.equal(domain.state, "OPEN");
    assert.equal(domain.witness, undefined);
    refused(() => domain.verify(), "StateError", 5);
    refused(() => domain.commit(), "StateError", 5);
    refused(() => domain.attach(new Uint8Array(0)), "DomainMemoryError", 4);
    assert.throws(() => domain.attach(new Uint8Array(12289)), {
      name: "DomainMemoryError",
      message: "len is 12289, must be in 1..12288, the capacity of the domain",
    });
    domain.attach(attached);
    refused(() => domain.attach(new Uint8Array(96)), "StateError", 5);
    assert.equal(domain.attached, attached);
    assert.ok(domain.verify());
    set(3, 5);
    assert.ok(!domain.verify());
    assert.throws(() => domain.commit(), {
      name: "ConservationError",
      code: 1,
      message: "residue of the 12288 attached bytes is 5, must be 0 (mod 96)",
    });
    assert.equal(domain.state, "OPEN");
    set(3, -5);
    const witness = domain.commit();
    assert.equal(domain.state, "COMMITTED");
    assert.ok(witness.verify(attached) && witness.residue === 0);
    assert.deepEqual(domain.witness, witness);
    refused(() => domain.commit(), "StateError", 5);
    refused(() => domain.transaction(() => 1), "StateError", 5);
    assert.ok(domain.verify());
    set(3, 1);
    set(4, -1); // conserved still, but other bytes
    assert.ok(!domain.verify());
    domain.budget.alloc(50);
    domain.close();
    domain.close();
    for (const call of [() => domain.verify(), () => domain.state, () => domain.budget, () => domain.attach(attached)]) {
      refused(call, "StateError", 5);
    }
    if (attached instanceof atlas.ModuleMemory) attached.close();
  });

  test(`a transaction over ${kind} restores what broke the law`, () => {
    const start = conserved(1000);
    const attached = made(start.slice());
    const bytes = () => (attached instanceof atlas.ModuleMemory ? attached.bytes : attached);
    const domain = new atlas.Domain({ bytes: 1000 });
    domain.attach(attached);
    assert.throws(() => domain.transaction(() => void (bytes()[0] += 7)), {
      name: "ConservationError",
      message: /^residue of the 1000 attached bytes is 7 after the transaction/,
    });
    assert.deepEqual(bytes(), start);
    const failed = () => {
      bytes()[0] += 96;
      throw new Error("stop");
    };
    assert.throws(() => domain.transaction(failed), /^Error: stop$/);
    assert.deepEqual(bytes(), start);
    const thenable = () => ({ then: () => bytes().fill(0) });
    for (const later of /** @type {any[]} */ ([async () => bytes().fill(0), thenable])) {
      assert.throws(() => domain.transaction(later), /^TypeError: body returned a promise/);
      assert.deepEqual(bytes(), start);
    }
    assert.throws(() => domain.transaction(() => domain.commit()), /a transaction is open/);
    assert.equal(domain.transaction(() => ((bytes()[0] += 96), "done")), "done");
    assert.equal(bytes()[0], start[0] + 96);
    domain.close();
    if (attached instanceof atlas.ModuleMemory) attached.close();
  });
}

test("what a domain cannot be, and a buffer that goes away under it", () => {
  for (const bytes of [0, -1, 2 ** 32]) {
    assert.throws(() => new atlas.Domain({ bytes }), { name: "DomainMemoryError", code: 4 });
  }
  for (const budgetClass of [-1, 96]) {
    assert.throws(() => new atlas.Domain({ bytes: 1, budgetClass }), { name: "BudgetError", code: 3 });
  }
  const text = /** @type {any} */ ("1");
  assert.throws(() => new atlas.Domain({ bytes: text }), /^TypeError: bytes is of type string, must be an integer/);
  const domain = new atlas.Domain({ bytes: 4096 });
  const bytes = new Uint8Array(96);
  const memory = new atlas.ModuleMemory(96);
  assert.throws(() => domain.attach(memory.bytes), /must be the ModuleMemory/);
  domain.attach(bytes);
  structuredClone(bytes, { transfer: [bytes.buffer] });
  assert.throws(() => domain.verify(), /the attached buffer is detached/);
  const moved = new atlas.Domain({ bytes: 96 });
  const there = new Uint8Array(96);
  moved.attach(there);
  const fails = () => {
    structuredClone(there, { transfer: [there.buffer] });
    throw new Error("of the body");
  };
  assert.throws(() => moved.transaction(fails), /^Error: of the body$/);
  moved.close();
  const other = new atlas.Domain({ bytes: 96 });
  other.attach(memory);
  memory.close();
  assert.throws(() => other.verify(), { name: "StateError", message: /ModuleMemory is closed/ });
  domain.close();
  other.close();
});

test("more bytes than a domain can have are refused, however many", () => {
  const domain = new atlas.Domain({ bytes: 2 ** 32 - 1 });
  assert.throws(() => domain.attach(new Uint8Array(2 ** 32)), {
    name: "DomainMemoryError",
    message: "len is 4294967296, must be in 1..4294967295, the capacity of the domain",
  });
  assert.throws(() => domain.attach(new Uint8Array(2 ** 31)), { name: "DomainMemoryError", code: 4 });
  domain.attach(new Uint8Array(96));
  assert.ok(domain.verify());
  domain.close();
});

test("budgets: alloc, release mod 96, leases", () => {
  const domain = new atlas.Domain({ bytes: 96, budgetClass: 50 });
  const { budget } = domain;
  budget.alloc(50);
  assert.equal(budget.available, 0);
  assert.throws(() => budget.alloc(1), { name: "BudgetError", code: 3 });
  budget.release(95);
  budget.release(2);
  assert.equal(budget.available, 1);
  for (const amt of [-1, 96]) {
    assert.throws(() => budget.alloc(amt), { name: "BudgetError", code: 3 });
    assert.throws(() => budget.release(amt), { name: "BudgetError", code: 3 });
  }
  const lease = budget.lease(1);
  assert.equal(budget.available, 0);
  assert.ok(!lease.closed);
  lease[Symbol.dispose]();
  lease.close();
  assert.ok(lease.closed);
  assert.equal(budget.available, 1);
  assert.throws(() => budget.lease(2), { name: "BudgetError" });
  const open = budget.lease(1);
  domain[Symbol.dispose]();
  open.close();
  assert.throws(() => budget.available, { name: "StateError", code: 5 });
});

test("no memory is an error of its own, and leaves all as it was", () => {
  for (const length of [2 ** 31, 2 ** 32 - 1, 2 ** 32, -1, 2 ** 53]) {
    assert.throws(() => new atlas.ModuleMemory(length), { name: "DomainMemoryError", code: 4 });
  }
  const memory = new atlas.ModuleMemory(100);
  memory.bytes.fill(1);
  assert.equal(atlas.residue(memory), 4);
  memory.close();
  assert.throws(() => memory.bytes, { name: "StateError", code: 5 });
});

test("the memory may grow within a call that reads bytes in it", () => {
  const memory = new atlas.ModuleMemory(1000);
  memory.bytes.fill(7);
  const witness = atlas.Witness.generate(memory);
  const tree = atlas.TreeWitness.generate(memory);
  /** @type {[() => unknown, () => { close(): void }][]} what to call, and what it makes meanwhile */
  const calls = [
    [() => assert.ok(witness.verify(memory)), () => new atlas.WitnessStream()],
    [() => assert.ok(witness.verify(memory.bytes)), () => new atlas.WitnessStream()],
    [() => atlas.Witness.generate(memory.bytes), () => new atlas.WitnessStream()],
    [() => assert.ok(tree.verify(memory.bytes)), () => new atlas.TreeHash()],
    [() => new atlas.TreeHash(memory.bytes).close(), () => new atlas.TreeHash()],
  ];
  for (const [call, make] of calls) {
    const held = [];
    for (let grew = false; !grew; ) {
      const { buffer } = memory.bytes;
      call();
      grew = memory.bytes.buffer !== buffer;
      held.push(make());
    }
    for (const one of held) one.close();
  }
  memory.close();
});

test("a domain holds no more of the module's memory than its bytes", () => {
  const probe = new atlas.ModuleMemory(1);
  const room = () => probe.bytes.buffer.byteLength;
  const domain = new atlas.Domain({ bytes: 2 ** 32 - 1 });
  const held = []; // what was freed before is used first
  for (const before = room(); room() === before; ) held.push(new atlas.ModuleMemory(1 << 24));
  const before = room();
  domain.attach(new Uint8Array(300 << 20));
  assert.ok(room() - before <= (300 << 20) + 65536, `${room() - before}`);
  for (const one of [domain, probe, ...held]) one.close();
});

test("views of module memory are found again after the memory grew", () => {
  const memory = new atlas.ModuleMemory(12288);
  atlas.conservedFill(memory, 3);
  const domain = new atlas.Domain({ bytes: 12288 });
  domain.attach(memory);
  const large = new atlas.ModuleMemory(200 << 20);
  assert.equal(large.bytes.length, 200 << 20);
  assert.ok(domain.verify());
  assert.equal(memory.bytes[0], 3);
  large.close();
  domain.close();
  memory.close();
});

test("what nobody closes is freed when nobody has it any more", { timeout: 60_000 }, async () => {
  assert.ok(globalThis.gc, "run with --expose-gc");
  const size = 64 << 20; // three of them and no more would be 6 GiB without the finalizer
  for (let i = 0; i < 96; i++) {
    (() => new atlas.Domain({ bytes: size }).attach(new Uint8Array(size)))();
    if (i % 4 === 3) {
      globalThis.gc?.();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
});

test("closed handles say so, whatever is called", () => {
  const stream = new atlas.WitnessStream();
  stream.update(inputBytes(10));
  assert.equal(stream.witness().length, 10);
  stream.close();
  assert.ok(stream.closed);
  for (const call of [() => stream.update(new Uint8Array(1)), () => stream.witness()]) {
    assert.throws(call, { name: "StateError", message: "the WitnessStream is closed, must be open for calls" });
  }
  const hash = new atlas.TreeHash();
  hash.close();
  for (const call of [() => hash.update(new Uint8Array(1)), () => hash.digest(), () => hash.copy()]) {
    assert.throws(call, { name: "StateError" });
  }
  const residue = new atlas.Residue(Uint8Array.of(90));
  const copy = residue.copy();
  residue.update(Uint8Array.of(10));
  assert.deepEqual([residue.value, copy.value], [4, 90]);
});

test("every error is an AtlasError with the contract's code", () => {
  const { AtlasError, ErrorCode } = atlas;
  const classes = { CONSERVATION: atlas.ConservationError, WITNESS: atlas.WitnessError };
  const more = { BUDGET: atlas.BudgetError, MEMORY: atlas.DomainMemoryError, STATE: atlas.StateError };
  for (const [name, Class] of Object.entries({ ...classes, ...more })) {
    const error = new Class("text");
    assert.ok(error instanceof AtlasError && error instanceof Error);
    assert.equal(error.code, Reflect.get(ErrorCode, name));
    assert.equal(error.name, Class.name);
  }
});

test("load: once, and again without a source", async () => {
  await atlas.load();
  await assert.rejects(atlas.load(MODULE), { name: "StateError", code: 5 });
});
