// SPDX-License-Identifier: Apache-2.0
// Witnesses in JSON: strict, and every refusal names key, value and rule.
import assert from "node:assert/strict";
import { test } from "node:test";

import { atlas } from "./loaded.mjs";

const FIELDS = {
  type: '"atlas12288/witness/v1"',
  algorithm: '"sha256"',
  length: "12288",
  residue: "7",
  digest: `"${"0a".repeat(32)}"`,
  timestamp: '"2025-01-31T12:00:00.123456789Z"',
};
/** @param {Record<string, string | undefined>} [changes] */
function text(changes) {
  const members = Object.entries({ ...FIELDS, ...changes }).filter(([, value]) => value !== undefined);
  return `{${members.map(([key, value]) => `"${key}": ${value}`).join(", ")}}`;
}
const TIME = "must be like 2025-01-31T12:00:00.000000000Z, from 1970 to 2554";

test("a witness is read and written back, in any order, with any white space, from bytes too", () => {
  assert.equal(atlas.Witness.fromJson(text()).toJson(), text());
  assert.equal(atlas.Witness.fromJson(new TextEncoder().encode(text())).toJson(), text());
  const turned = `\n{ ${Object.entries(FIELDS).reverse().map(([k, v]) => `"${k}" :\t${v}`).join("\n,")} }\r\n`;
  assert.equal(atlas.Witness.fromJson(turned).toJson(), text());
  const escaped = text().replace('"digest"', '"\\u0064igest"').replace("sha256", "sh\\u0061256");
  assert.equal(atlas.Witness.fromJson(escaped).toJson(), text());
  assert.ok(atlas.witnessFromJson(text()) instanceof atlas.Witness);
  const tree = text({ algorithm: '"sha256-merkle-12288"' });
  assert.ok(atlas.witnessFromJson(tree) instanceof atlas.TreeWitness);
  assert.equal(atlas.witnessFromJson(tree).toJson(), tree);
  for (const time of ["1970-01-01T00:00:00.000000000Z", "2554-07-21T23:34:33.709551615Z"]) {
    const extreme = text({ timestamp: `"${time}"`, length: "9007199254740991" });
    assert.equal(atlas.Witness.fromJson(extreme).toJson(), extreme);
  }
});

/** @type {[string, string | RegExp][]} */
const REFUSED = [
  ["", /^text must be JSON: /],
  ["{", /^text must be JSON: /],
  [`${text()} x`, /^text must be JSON: /],
  [`\ufeff${text()}`, /^text must be JSON: /],
  [" ".repeat(65536) + text(), /^text has \d+ characters, must have at most 65536$/],
  [text({ length: "9".repeat(10_000_000) }), /^text has \d+ characters, must have at most 65536$/],
  [`{"type": "${"x".repeat(30_000_000)}"}`, /^text has \d+ characters, must have at most 65536$/],
  ["[1, 2]", "text is [1, 2], must be a JSON object"],
  ["null", "text is null, must be a JSON object"],
  [text({ more: "1" }), "key 'more' is unknown, must be one of type, algorithm, length, residue, digest, timestamp"],
  [text({ digest: undefined }), "key 'digest' is missing, must be there"],
  [text().replace("{", '{"length": 3, '), "key 'length' occurs twice, must occur once"],
  [text().replace("{", '{"l\\u0065ngth": 12288, '), "key 'length' occurs twice, must occur once"],
  [text({ type: '"atlas12288/witness/v2"' }), "type is 'atlas12288/witness/v2', must be 'atlas12288/witness/v1'"],
  [text({ type: "1" }), "type is 1, must be 'atlas12288/witness/v1'"],
  [text({ algorithm: '"md5"' }), "algorithm is 'md5', must be 'sha256'"],
  [text({ length: "12288.0" }), "length is 12288.0, must be an integer in 0..9007199254740991"],
  [text({ length: "1e3" }), "length is 1e3, must be an integer in 0..9007199254740991"],
  [text({ length: "true" }), "length is true, must be an integer in 0..9007199254740991"],
  [text({ length: '"3"' }), "length is '3', must be an integer in 0..9007199254740991"],
  [text({ length: "-1" }), "length is -1, must be an integer in 0..9007199254740991"],
  [text({ length: "9007199254740992" }), "length is 9007199254740992, must be an integer in 0..9007199254740991"],
  [text({ length: "[1, {}]" }), "length is [1,{}], must be an integer in 0..9007199254740991"],
  [text({ residue: "96" }), "residue is 96, must be an integer in 0..95"],
  [text({ length: "0" }), "residue is 7, must be 0 where length is 0"],
  [text({ digest: `"${"0A".repeat(32)}"` }), `digest is '${"0A".repeat(32)}', must be 64 lowercase hex digits`],
  [text({ digest: '"00"' }), "digest is '00', must be 64 lowercase hex digits"],
  [text({ timestamp: "7" }), `timestamp is 7, ${TIME}`],
  ...["2025-01-31T12:00:00Z", "2025-02-30T12:00:00.000000000Z", "2025-01-31T12:00:00.000000000+00:00",
    "2025-01-31T24:00:00.000000000Z", "1969-12-31T23:59:59.999999999Z", "2554-07-21T23:34:33.709551616Z"]
    .map((time) => /** @type {[string, string]} */ ([text({ timestamp: `"${time}"` }), `timestamp is '${time}', ${TIME}`])),
];
const MOST = "must have at most 65536";
REFUSED.push(
  [text({ length: "7".repeat(60_000) }), `length is ${"7".repeat(77)}..., must be an integer in 0..9007199254740991`],
  [text({ length: "[".repeat(30_000) + "]".repeat(30_000) }), `length is ${"[".repeat(77)}..., must be an integer in 0..9007199254740991`],
  [text({ digest: `"${"a\\\\".repeat(20_000)}"` }), /^digest is 'a.*\.\.\., must be 64 lowercase hex digits$/],
  [text().padEnd(65_537), `text has 65537 characters, ${MOST}`],
  [text({ digest: `"${"é".repeat(5_000_000)}"` }), /^text has 50001\d\d characters, must have at most 65536$/],
  [text({ residue: "9".repeat(1_000_000) }), /^text has 1000\d{3} characters, must have at most 65536$/],
  // What turns a line around, or begins a new one, is shown by its number.
  [text({ timestamp: '"\\u202e\\u001b\\n\\ud800"' }), `timestamp is '\\u202e\\x1b\\n\\ud800', ${TIME}`],
  [text({ "\u2067": "1" }), /^key '\\u2067' is unknown, must be one of type, /],
  ["[\"\u202e\"]", 'text is ["\\u202e"], must be a JSON object'],
);
for (const [json, message] of REFUSED) {
  test(`refused: ${String(message).slice(0, 100)}`, () => {
    assert.throws(() => atlas.Witness.fromJson(json), { name: "WitnessError", code: 2, message });
  });
}

test("a text is read up to its bound, and so are bytes", () => {
  assert.equal(atlas.Witness.fromJson(text().padEnd(65_536)).toJson(), text());
  const bytes = (/** @type {number} */ count) => new TextEncoder().encode(text().padEnd(count));
  assert.equal(atlas.Witness.fromJson(bytes(65_536)).toJson(), text());
  const message = `text has 65537 characters, ${MOST}`;
  assert.throws(() => atlas.Witness.fromJson(bytes(65_537)), { name: "WitnessError", message });
});

test("neither text nor UTF-8", () => {
  const refused = (/** @type {any} */ value) => () => atlas.Witness.fromJson(value);
  assert.throws(refused(7), { name: "TypeError", message: "text is of type number, must be a string or a Uint8Array" });
  assert.throws(refused(Uint8Array.of(0xff)), { name: "WitnessError" });
});
