// SPDX-License-Identifier: Apache-2.0
// Manifests as the page reads them: the canonical form, and nothing that lies. Manifests of the
// command line are read by the page test.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { isManifest, MANIFEST_MOST, paired, readManifest } from "../demo/manifest.js";
import { moves } from "../demo/moves.js";
import "./loaded.mjs";

const HEX = "0a".repeat(32);
const OPTIONS = { digests: ["sha256"], exclude: [], linksBelow: [], paths: [], symlinks: "record" };
const FILE = { path: "a.bin", residue: 6, sha256: HEX, size: 3 };
const LINK = { path: "link", symlink: "a.bin" };

/** @param {string | Buffer} text */
const sha256 = (text) => createHash("sha256").update(text).digest();

/**
 * The Merkle Tree Hash of RFC 9162, as it is written there.
 * @param {string[]} lines
 * @returns {Buffer}
 */
function rootOf(lines) {
  if (lines.length === 1) return sha256(`\0${lines[0]}`);
  let half = 1;
  while (2 * half < lines.length) half *= 2;
  return sha256(Buffer.concat([Buffer.of(1), rootOf(lines.slice(0, half)), rootOf(lines.slice(half))]));
}

/**
 * A manifest with these lines, whatever they say; its root and subject are right.
 * @param {(object | string)[]} entries
 * @param {object | string} [options]
 */
function text(entries, options = OPTIONS) {
  const [chosen, ...lines] = [options, ...entries].map((line) => (typeof line === "string" ? line : JSON.stringify(line)));
  const all = [chosen, ...lines];
  const subject = sha256(`${all.join("\n")}\n`).toString("hex");
  return `{"_type":"https://in-toto.io/Statement/v1","predicate":{"files":[\n${lines.join(",\n")}\n],"options":\n${chosen}\n` +
    `,"root":"${rootOf(all).toString("hex")}"},"predicateType":"https://atlas12288/manifest/v1",` +
    `"subject":[{"digest":{"sha256":"${subject}"},"name":"."}]}\n`;
}

/** @param {string} text */
const bytes = (text) => new TextEncoder().encode(text);
/** @param {(object | string)[]} entries @param {object | string} [options] */
const read = (entries, options) => readManifest(bytes(text(entries, options)));

test("a manifest is read: entries, options, places of leaves", () => {
  const tree = { ...OPTIONS, digests: ["sha256", "sha256-merkle-12288"], exclude: ["*.log"] };
  const big = { path: "b", residue: 0, sha256: HEX, "sha256-merkle-12288": HEX, size: 12289 };
  const last = { ...big, path: "c", size: 1 };
  const found = read([big, last, { path: "d\u2028\t", symlink: "\u{1f600}" }, { pathHex: "ff", symlinkHex: "fe" }], tree);
  assert.deepEqual(found.options, tree);
  assert.equal(found.leaves, 3);
  assert.deepEqual(found.entries.map((entry) => [entry.firstLeaf, entry.windows, entry.isLink]), [
    [0, 2, false], [2, 1, false], [3, 0, true], [3, 0, true],
  ]);
  assert.equal(found.entries[2].shown, "d\\u2028\\t");
  // More lines than are hashed at once.
  const many = Array.from({ length: 9000 }, (_, i) => ({ ...FILE, path: String(10_000 + i) }));
  assert.equal(read(many).entries.length, 9000);
});

const LIE = { ...FILE, path: "z" };
/** @type {[string, RegExp][]} */
const REFUSED = [
  ["", /^the manifest must have its lines/],
  [JSON.stringify(JSON.parse(text([FILE]))), /^the manifest must have its lines as atlas12288 writes it/],
  [text([FILE]).slice(0, -1), /^the manifest must have its lines/],
  [`${text([FILE])}\n`, /^the manifest must have its lines/],
  [`\ufeff${text([FILE])}`, /^the manifest must have its lines/],
  [text([FILE, LINK]).replace("},\n", "}\n"), /^line 2 must be as atlas12288/],
  [text([FILE]).replace('"size":3', '"size":4'), /^the manifest must end with the root [0-9a-f]{64} and the SHA-256/],
  [text([FILE]).replace('"exclude":[]', '"exclude":["*"]'), /^the manifest must end with the root/],
  [text([FILE]).replace('"name":"."', '"name":"/"'), /^the manifest must end/],
  [text([]), /^line 2 is , must be JSON/],
  [text([LIE, FILE]), /^line 3: paths must be sorted, each once/],
  [text([FILE, FILE]), /^line 3: paths must be sorted/],
  [text(["[]"]), /^line 2 is \[\], must be an entry/],
  [text(["null"]), /^line 2 is null, must be an entry/],
  [text(["["]), /^line 2 is \[, must be JSON/],
  [text([`${"[".repeat(500_000)}${"]".repeat(500_000)}`]), /^line 2 is \[\[/],
  [text([`{"path":"${"a".repeat(1 << 20)}"}`]), /^line 2 has \d+ characters, must have at most 1048576/],
  ...[
    { ...FILE, path: "../a" }, { ...FILE, path: "/a" }, { ...FILE, path: "a//b" }, { ...FILE, path: "" },
    { ...FILE, path: "a\0" }, { ...FILE, path: "\ud800" }, { ...FILE, path: "a".repeat(65537) }, { ...FILE, path: 1 },
    { ...FILE, size: -1 }, { ...FILE, size: 2 ** 53 }, { ...FILE, size: 0.5 }, { ...FILE, size: "3" },
    { ...FILE, residue: 96 }, { ...FILE, residue: -1 }, { ...FILE, size: 0 },
    { ...FILE, sha256: HEX.toUpperCase() }, { ...FILE, sha256: "0a" }, { ...FILE, sha256: [HEX] }, { ...FILE, more: 1 },
    { size: 3, path: "a", residue: 6, sha256: HEX }, { path: "a", size: 3 }, { ...LINK, symlink: "" }, { ...LINK, size: 3 },
    { path: "a", pathHex: "ff", symlink: "b" }, { pathHex: "FF", symlink: "b" }, { pathHex: "61", symlink: "b" },
    { pathHex: "f", symlink: "b" }, { path: "a", symlink: "b", symlinkHex: "ff" }, { pathHex: ["ff"], symlink: "b" },
    '{"path":"a.bin","residue":6,"residue":6,"sha256":"' + HEX + '","size":3}',
    '{"path":"a.bin","residue":6.0,"sha256":"' + HEX + '","size":3}',
    '{"path":"\\u0061","residue":6,"sha256":"' + HEX + '","size":3}',
    '{"path":"a.bin", "residue":6,"sha256":"' + HEX + '","size":3}',
    '{"__proto__":{"path":"a"},"residue":6,"sha256":"' + HEX + '","size":3}',
  ].map((entry) => /** @type {[string, RegExp]} */ ([text([entry]), /^line 2 is .*, must be an entry$/])),
  ...[
    "null", "[]", { ...OPTIONS, digests: [] }, { ...OPTIONS, digests: ["md5"] }, { ...OPTIONS, digests: "sha256" },
    { ...OPTIONS, digests: ["sha256-merkle-12288", "sha256"] }, { ...OPTIONS, digests: ["sha256", "sha256"] },
    { ...OPTIONS, symlinks: "all" }, { ...OPTIONS, linksBelow: ["a"] }, { ...OPTIONS, paths: [".."] },
    { ...OPTIONS, exclude: [1] }, { ...OPTIONS, exclude: "x" }, { ...OPTIONS, exclude: undefined }, { ...OPTIONS, more: 1 },
  ].map((options) => /** @type {[string, RegExp]} */ ([text([FILE], options), /^options are .*, must be those of a manifest$/])),
];

test("each manifest that lies is refused with one sentence", () => {
  for (const [lie, why] of REFUSED) {
    assert.throws(() => readManifest(bytes(lie)), (/** @type {any} */ error) => {
      assert.equal(error.name, "ManifestError", String(error.stack));
      assert.match(error.message, why);
      assert.ok(error.message.length < 400 && !error.message.includes("\n"), error.message);
      return true;
    });
  }
  assert.throws(() => readManifest(Uint8Array.of(0xff)), /^ManifestError: the manifest must be UTF-8$/);
  assert.throws(() => readManifest(new Uint8Array(MANIFEST_MOST + 1)), /has 67108865 bytes, must have at most 67108864/);
});

test("a statement of something else is a file as any other", () => {
  const ours = text([FILE]);
  assert.ok(isManifest(ours, ours));
  assert.ok(isManifest(JSON.stringify(JSON.parse(ours), undefined, 2).slice(0, 99), ours.slice(-400)));
  assert.ok(!isManifest(ours.replaceAll("atlas12288", "slsa"), ""));
  assert.ok(!isManifest(`about ${ours}`, ours));
});

/** @param {string} path */
const found = (path) => ({ path, file: new File(["abc"], "name") });

test("entries and files are paired; what cannot be judged is undecided", () => {
  const named = { pathHex: "ff", residue: 6, sha256: HEX, size: 3 };
  const paths = ["closed/x", "gone"].map((path) => ({ ...FILE, path }));
  const manifest = read([FILE, paths[0], { ...LINK, path: "dir" }, paths[1], named]);
  const { toRead, outcomes, outside } = paired(manifest, [
    found("a.bin"), found("new"), found("dir/behind"), found("\ufffd"), { path: "closed", isFolder: true, error: "no" },
  ]);
  assert.deepEqual(toRead.map(({ entry }) => entry.path), ["a.bin"]);
  assert.deepEqual(outcomes.map(({ kind, path }) => `${kind} ${path}`).sort(), [
    "added new", "missing gone", "undecided dir", "undecided dir/behind", "undecided ff (hex)",
    "undecided \ufffd", "unreadable closed", "unreadable closed/x",
  ]);
  assert.equal(outside, 0);
});

/** @param {string[]} texts @param {string} [name] */
const emptied = (texts, name = "x") => texts.map((text, i) => ({ path: `${name}${i}`, file: new File([text], "name") }));

test("a move is one digest that is missing once and was added once", async () => {
  /** @param {string} path @param {string} sha256 @param {number} size */
  const entry = (path, sha256, size) => ({ ...FILE, path, sha256: sha256.repeat(64), size, residue: 0 });
  const had = read([entry("a", "a", 1), entry("b", "b", 1), entry("c", "b", 1), entry("d", "d", 2), entry("e", "e", 0)]);
  const run = async (/** @type {string[]} */ texts, /** @type {string[]} */ asked = []) => {
    const { missing, added } = paired(had, emptied(texts));
    const found = await moves(missing, added, async (file) => {
      const text = await file.text();
      asked.push(text);
      return text === "?" ? undefined : text[0].repeat(64);
    });
    return [...found].map(([before, after]) => `${before.path} ${after.path}`);
  };
  const asked = /** @type {string[]} */ ([]);
  assert.deepEqual(await run(["a", "dd", "", "abc"], asked), ["a x0", "d x1"]);
  assert.deepEqual(asked, ["a", "dd"]); // the others have no size that is missing, or no byte
  assert.deepEqual(await run(["a", "a"]), []); // which of them?
  assert.deepEqual(await run(["b"]), []);
  assert.deepEqual(await run(["a", "?"]), []); // which may have the same content
});

test("rules leave what is not in the manifest undecided, and paths leave what is outside them out", () => {
  const rules = paired(read([FILE], { ...OPTIONS, exclude: ["*"] }), [found("new")]);
  assert.deepEqual(rules.outcomes.map(({ kind }) => kind), ["missing", "undecided"]);
  const part = paired(read([FILE], { ...OPTIONS, paths: ["a.bin", "sub"] }), [found("a.bin.x"), found("sub/x"), found("subs")]);
  assert.deepEqual(part.outcomes.map(({ kind, path }) => `${kind} ${path}`), ["missing a.bin", "added sub/x"]);
  assert.equal(part.outside, 2);
});
