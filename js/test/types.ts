// SPDX-License-Identifier: Apache-2.0
// How TypeScript sees the package; compiled, never run.
import * as atlas from "atlas12288";

await atlas.load();
await atlas.load(new Uint8Array(8));

const bytes = new Uint8Array(atlas.WINDOW_BYTES);
const part: atlas.Bytes = bytes.subarray(1);
const source: atlas.Source = new URL("https://example.org/atlas12288.wasm");
const options: atlas.ReadOptions = { signal: new AbortController().signal };
const data: atlas.Data = [bytes];
const record: atlas.WitnessRecord = await atlas.TreeWitness.generateFrom(data, options);
console.log(part, source, JSON.stringify(record), record.equals(record));

const residue: number = atlas.residue(bytes.buffer);
const changed: number[] = atlas.TreeWitness.generate(bytes).changed(bytes);
const many: atlas.TreeWitness[] = atlas.TreeWitness.generateMany([bytes, bytes.buffer]);
const either: atlas.Witness | atlas.TreeWitness = atlas.witnessFromJson("{}");
const later: Promise<atlas.Witness> = atlas.Witness.generateFrom(new Blob([bytes]), {
  onRun: (run, offset) => console.log(run.length + offset),
});

{
  using domain = new atlas.Domain({ bytes: 12288, budgetClass: 50 });
  using lease = domain.budget.lease(10);
  domain.attach(bytes);
  const seven: number = domain.transaction(() => 7);
  const state: "OPEN" | "COMMITTED" = domain.state;
  console.log(lease.amt, seven, state);
}
try {
  atlas.conservedCopy(bytes, new Float64Array(1536));
} catch (error) {
  if (error instanceof atlas.ConservationError) console.log(error.code, error.message);
}
console.log(residue, changed, many, either, later);

const region = new atlas.Region(100);
const balance: number = region.balance();
region.payload.set(bytes.subarray(0, 100));
console.log(atlas.Witness.generate(region).verify(region.whole), balance);

// @ts-expect-error a string has no bytes
atlas.residue("bytes");
// @ts-expect-error the capacity is missing
new atlas.Domain({ budgetClass: 3 });
// @ts-expect-error a witness is immutable
atlas.Witness.generate(bytes).length = 3;
