// SPDX-License-Identifier: Apache-2.0
/**
 * @file Manifests for the page: read one, and pair its entries with the files of a folder.
 *
 * Only the canonical form is read, byte for byte as atlas12288 writes it: each line is parsed by
 * itself, written again and compared, so that repeated keys, other numbers and deep nesting cannot
 * mean anything. docs/manifests.md describes the form.
 */
import { DIGEST_BYTES, MODULUS, TreeHash, WINDOW_BYTES, Witness, WitnessStream } from "../lib/index.js";
import { fromHex } from "../lib/json.js";
import { printable } from "../lib/text.js";

/** @import { Found, Outcome } from "./messages.js" */
/** @import { Added, Missing } from "./moves.js" */

export const MANIFEST_MOST = 64 << 20; // some 300,000 files
const LINE_MOST = 1 << 20; // two texts of the longest path, each byte of it escaped
const PATH_MOST = 65536;
const LINES_AT_ONCE = 4096;
const STATEMENT_TYPE = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE = "https://atlas12288/manifest/v1";
const BEGIN = `{"_type":"${STATEMENT_TYPE}","predicate":{"files":[`;
const OPTIONS = '],"options":';
const DIGESTS = ["sha256", "sha256-merkle-12288"];
const SYMLINKS = ["record", "error", "follow"];

/**
 * @typedef {object} Entry
 * @property {string | undefined} path undefined where it is not UTF-8, and no browser can say it
 * @property {string} shown the path for people
 * @property {number} size
 * @property {number} residue
 * @property {string | undefined} sha256
 * @property {string | undefined} root
 * @property {number} windows of its tree
 * @property {number} firstLeaf the place of its first leaf in the sidecar
 * @property {boolean} isLink
 */

/**
 * @typedef {object} Options
 * @property {string[]} digests
 * @property {string[]} exclude
 * @property {string[]} linksBelow
 * @property {string[]} paths
 * @property {string} symlinks
 */

/**
 * @typedef {object} Manifest
 * @property {Options} options
 * @property {Entry[]} entries
 * @property {string} root
 * @property {number} leaves how many its sidecar has
 */

/** What should be a manifest is none, or none that this page reads. */
export class ManifestError extends Error {
  name = "ManifestError";
}

/**
 * Is a file with this beginning and end meant to be a manifest?
 * @param {string} head
 * @param {string} tail
 */
export function isManifest(head, tail) {
  const isStatement = /^\s*{\s*"_type"\s*:\s*"https:\/\/in-toto\.io\/Statement\/v1"/.test(head);
  return isStatement && (head.includes(PREDICATE_TYPE) || tail.includes(PREDICATE_TYPE));
}

/**
 * The manifest of a text.
 * @param {Uint8Array} bytes
 * @returns {Manifest}
 * @throws {ManifestError} the message names the line, its value and the rule
 */
export function readManifest(bytes) {
  if (bytes.length > MANIFEST_MOST) {
    const most = `must have at most ${MANIFEST_MOST} on this page`;
    throw new ManifestError(`the manifest has ${bytes.length} bytes, ${most}`);
  }
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ManifestError("the manifest must be UTF-8");
  }
  const lines = text.split("\n");
  const end = lines.length - 2; // behind it comes nothing but the last line break
  const written = "as atlas12288 writes it; another form is verified by the command line";
  if (lines[0] !== BEGIN || end < 4 || lines[end + 1] !== "" || lines[end - 2] !== OPTIONS) {
    throw new ManifestError(`the manifest must have its lines ${written}`);
  }
  const options = readOptions(parsed(lines[end - 1], end), lines[end - 1]);
  /** @type {Entry[]} */
  const entries = [];
  const covered = [lines[end - 1]];
  let leaves = 0;
  let last = new Uint8Array();
  for (let i = 1; i < end - 2; i++) {
    const hasComma = lines[i].endsWith(",");
    if (hasComma !== i < end - 3) throw new ManifestError(`line ${i + 1} must be ${written}`);
    const line = hasComma ? lines[i].slice(0, -1) : lines[i];
    const { key, ...entry } = readEntry(line, i + 1, options.digests, leaves);
    if (entries.length > 0 && compared(last, key) >= 0) {
      throw new ManifestError(`line ${i + 1}: paths must be sorted, each once`);
    }
    last = key;
    leaves += entry.windows;
    entries.push(entry);
    covered.push(line);
  }
  const { root, sha256 } = digestsOf(covered);
  const subject = `"subject":[{"digest":{"sha256":"${sha256}"},"name":"."}]`;
  if (lines[end] !== `,"root":"${root}"},"predicateType":"${PREDICATE_TYPE}",${subject}}`) {
    const must = `the root ${root} and the SHA-256 ${sha256}, those of its options and files`;
    throw new ManifestError(`the manifest must end with ${must}: it is damaged, or was changed`);
  }
  return { options, entries, root, leaves };
}

/**
 * @param {string} line
 * @param {number} number
 */
function parsed(line, number) {
  if (line.length > LINE_MOST) {
    const most = `must have at most ${LINE_MOST}`;
    throw new ManifestError(`line ${number} has ${line.length} characters, ${most}`);
  }
  try {
    return JSON.parse(line);
  } catch {
    throw new ManifestError(`line ${number} is ${cut(line)}, must be JSON`);
  }
}

/**
 * @param {any} value
 * @param {string} line
 * @returns {Options}
 */
function readOptions(value, line) {
  const { digests, exclude, linksBelow, paths, symlinks } = value ?? {};
  const areTexts = [digests, exclude, linksBelow, paths].every(
    (list) => Array.isArray(list) && list.every(isText),
  );
  const holds =
    areTexts &&
    SYMLINKS.includes(symlinks) &&
    digests.length > 0 &&
    String(digests) === String(DIGESTS.filter((name) => digests.includes(name))) &&
    (linksBelow.length === 0 || symlinks === "follow") &&
    paths.every(isPath);
  const options = { digests, exclude, linksBelow, paths, symlinks };
  if (!holds || JSON.stringify(options) !== line) {
    throw new ManifestError(`options are ${cut(line)}, must be those of a manifest`);
  }
  return options;
}

/**
 * @param {string} line
 * @param {number} number
 * @param {string[]} digests
 * @param {number} firstLeaf
 * @returns {Entry & { key: Uint8Array<ArrayBuffer> }}
 */
function readEntry(line, number, digests, firstLeaf) {
  const value = parsed(line, number) ?? {};
  /** @type {Record<string, unknown>} */
  const again = {};
  const named = value.pathHex === undefined ? "path" : "pathHex";
  again[named] = value[named];
  const isLink = value.symlink !== undefined || value.symlinkHex !== undefined;
  let holds = named === "path" ? isPath(value.path) : isHexOfBytes(value.pathHex);
  if (isLink) {
    const target = value.symlinkHex === undefined ? "symlink" : "symlinkHex";
    again[target] = value[target];
    const isTarget = (/** @type {unknown} */ text) => isText(text) && text !== "" && !text.includes("\0");
    holds &&= target === "symlink" ? isTarget(value.symlink) : isHexOfBytes(value.symlinkHex);
  } else {
    const { residue, size } = value;
    again.residue = residue;
    for (const name of digests) {
      again[name] = value[name];
      holds &&= typeof value[name] === "string" && /^[0-9a-f]{64}$/.test(value[name]);
    }
    again.size = size;
    holds &&= Number.isSafeInteger(size) && size >= 0 && Number.isSafeInteger(residue);
    holds &&= residue >= 0 && residue < (size === 0 ? 1 : MODULUS);
  }
  if (!holds || JSON.stringify(again) !== line) {
    throw new ManifestError(`line ${number} is ${cut(line)}, must be an entry`);
  }
  const key = named === "path" ? new TextEncoder().encode(value.path) : fromHex(value.pathHex);
  return {
    path: value.path,
    shown: named === "path" ? printable(value.path) : `${value.pathHex} (hex)`,
    size: isLink ? 0 : value.size,
    residue: isLink ? 0 : value.residue,
    sha256: isLink ? undefined : value.sha256,
    root: isLink ? undefined : value["sha256-merkle-12288"],
    windows: isLink ? 0 : Math.ceil(value.size / WINDOW_BYTES),
    firstLeaf,
    isLink,
    key,
  };
}

/**
 * A text of whole characters; JSON may name halves of one.
 * @param {unknown} value
 * @returns {value is string}
 */
const isText = (value) => typeof value === "string" && !/\p{Cs}/u.test(value);

/**
 * Is it relative, inside the folder, in its one form?
 * @param {unknown} value
 */
function isPath(value) {
  if (!isText(value) || value.includes("\0")) return false;
  if (value.length > PATH_MOST || new TextEncoder().encode(value).length > PATH_MOST) return false;
  return value.split("/").every((part) => part !== "" && part !== "." && part !== "..");
}

/**
 * Is it lowercase hex of bytes that are not UTF-8?
 * @param {unknown} value
 */
function isHexOfBytes(value) {
  if (typeof value !== "string" || value.length > 2 * PATH_MOST || !/^([0-9a-f]{2})+$/.test(value)) {
    return false;
  }
  const bytes = fromHex(value);
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return false;
  } catch {
    return !bytes.includes(0);
  }
}

/**
 * Negative, 0 or positive, as bytes are in order.
 * @param {Uint8Array} one
 * @param {Uint8Array} two
 */
function compared(one, two) {
  const both = Math.min(one.length, two.length);
  for (let i = 0; i < both; i++) if (one[i] !== two[i]) return one[i] - two[i];
  return one.length - two.length;
}

/**
 * The two digests of a manifest: the root over its lines (RFC 9162), and the SHA-256 of the lines.
 * @param {string[]} lines
 */
function digestsOf(lines) {
  const encoder = new TextEncoder();
  const flat = new WitnessStream();
  const tree = new TreeHash();
  try {
    for (let at = 0; at < lines.length; at += LINES_AT_ONCE) {
      const some = lines.slice(at, at + LINES_AT_ONCE);
      flat.update(encoder.encode(`${some.join("\n")}\n`));
      const leaves = new Uint8Array(some.length * DIGEST_BYTES);
      const witnesses = Witness.generateMany(some.map((line) => encoder.encode(`\0${line}`)));
      for (const [i, { digest }] of witnesses.entries()) leaves.set(digest, i * DIGEST_BYTES);
      tree.append(leaves, 0);
    }
    return { root: tree.hexdigest(), sha256: flat.witness().hexdigest() };
  } finally {
    flat.close();
    tree.close();
  }
}

/** @param {string} text */
function cut(text) {
  const shown = printable(text.slice(0, 120));
  return shown.length <= 80 ? shown : `${shown.slice(0, 77)}...`;
}

/**
 * Pairs entries with files: what is to be read, and what is known without reading.
 * @param {Manifest} manifest
 * @param {Found[]} files what the browser lists in the folder
 * @returns {{ toRead: { entry: Entry, file: File }[], outcomes: Outcome[], outside: number,
 *   missing: Missing[], added: Added[] }} `outcomes` has the missing and added ones too
 */
export function paired({ options, entries }, files) {
  const { exclude, paths } = options;
  const left = new Map(files.map((found) => [found.path, found]));
  const links = new Set(entries.filter((entry) => entry.isLink).map((entry) => entry.path));
  // Where a folder could not be listed, what it has is not known to be missing.
  const closed = new Set(files.filter((found) => found.isFolder).map((found) => found.path));
  const covered = new Set(paths);
  const hasBytes = entries.some((entry) => entry.path === undefined);
  /** @type {{ entry: Entry, file: File }[]} */
  const toRead = [];
  /** @type {Outcome[]} */
  const outcomes = [];
  /** @type {Missing[]} */
  const missing = [];
  /** @type {Added[]} */
  const added = [];
  const said = (/** @type {Outcome["kind"]} */ kind, /** @type {string} */ path, /** @type {string} */ why) => {
    const outcome = { kind, path, why };
    outcomes.push(outcome);
    return outcome;
  };
  for (const entry of entries) {
    if (entry.isLink) {
      said("undecided", entry.shown, "a link, which a browser does not show");
      left.delete(entry.path ?? "");
      continue;
    }
    if (entry.path === undefined) {
      said("undecided", entry.shown, "its name is not UTF-8, which a browser cannot say");
      continue;
    }
    const found = left.get(entry.path);
    if (found?.file !== undefined) toRead.push({ entry, file: found.file });
    else if (found !== undefined) said("unreadable", entry.shown, found.error ?? "a folder, must be a file");
    else if (isBelow(entry.path, closed)) {
      said("unreadable", entry.shown, "its folder could not be listed");
    } else missing.push({ entry, outcome: said("missing", entry.shown, "not in the folder") });
    left.delete(entry.path);
  }
  let outside = 0;
  for (const { path, file, isFolder, error } of left.values()) {
    const shown = printable(path);
    if (isFolder) said("unreadable", shown, error ?? "could not be listed");
    else if (paths.length > 0 && !covered.has(path) && !isBelow(path, covered)) outside += 1;
    else if (isBelow(path, links)) said("undecided", shown, "behind a recorded link");
    else if (hasBytes && path.includes("\ufffd")) said("undecided", shown, "its name is not UTF-8");
    else if (exclude.length > 0) {
      said("undecided", shown, "not in the manifest: added, or left out by a rule of it");
    } else {
      const outcome = said("added", shown, "not in the manifest");
      if (file !== undefined) added.push({ file, outcome });
    }
  }
  return { toRead, outcomes, outside, missing, added };
}

/**
 * Is a path below one of some folders?
 * @param {string} path
 * @param {Set<string | undefined>} folders
 */
function isBelow(path, folders) {
  if (folders.has("")) return true; // the folder itself
  for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) {
    if (folders.has(path.slice(0, at))) return true;
  }
  return false;
}
