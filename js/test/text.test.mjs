// SPDX-License-Identifier: Apache-2.0
// Texts of strangers are shown on one line, as by the command line of Python.
import assert from "node:assert/strict";
import { test } from "node:test";

import { plainName, printable } from "../lib/text.js";

// What Python's atlas12288._files.shown gives.
const SHOWN = [
  ["data.bin", "data.bin"],
  ["é 文 😀 שלום", "é 文 😀 שלום"],
  ["a\u202eb", "a\\u202eb"],
  ["\u2066\u2068\u200b\ufeff", "\\u2066\\u2068\\u200b\\ufeff"],
  ["\x1b[31m\x9b\x7f\0", "\\x1b[31m\\x9b\\x7f\\x00"],
  ["a\nb\r\tc", "a\\nb\\r\\tc"],
  ["\xa0\u2028\u3000", "\\xa0\\u2028\\u3000"],
  ["\\u202e", "\\\\u202e"],
  ["\ud800x", "\\ud800x"],
  ["\u{e0001}\u{10ffff}", "\\U000e0001\\U0010ffff"],
];
for (const [text, wanted] of SHOWN) {
  test(`shown as ${wanted}`, () => assert.equal(printable(text), wanted));
}

test("the name of a file that is saved has none of these characters", () => {
  assert.equal(plainName("photo\u202egpj.exe\n.witness.json"), "photo_gpj.exe_.witness.json");
  assert.equal(plainName("é 文 😀.json"), "é 文 😀.json");
});
