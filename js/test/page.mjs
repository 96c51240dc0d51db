// SPDX-License-Identifier: Apache-2.0
// The page of js/demo in a real Chromium: real files, what it shows against other programs, the
// keyboard, both colour schemes. ATLAS12288 is the Python command line, PYTHON its interpreter,
// CHROMIUM the browser; SCREENSHOTS a folder for pictures (npm run screenshots: those of docs/).
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { createCipheriv } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, extname, join, normalize } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

/** @import { Browser, Page } from "playwright-core" */

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PYTHON = process.env.PYTHON ?? "python3";
const ATLAS = process.env.ATLAS12288 ?? "atlas12288";
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = [
  ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
  ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
];
const TYPES = new Map([
  [".html", "text/html; charset=utf-8"],
  [".css", "text/css"],
  [".js", "text/javascript"],
  [".wasm", "application/wasm"],
]);

const folder = mkdtempSync(join(tmpdir(), "atlas12288-page-"));
/** @param {string} name */
const path = (name) => join(folder, name);
// As good as random, and the same in every run.
const DATA = createCipheriv("aes-128-ctr", Buffer.alloc(16), Buffer.alloc(16)).update(Buffer.alloc(9_000_001));
writeFileSync(path("data.bin"), DATA);

const HASHLIB = "import hashlib, sys; print(hashlib.file_digest(open(sys.argv[1], 'rb'), 'sha256').hexdigest())";
/**
 * The digest of a file by Python's hashlib, which has no code in common with the page.
 * @param {string} name
 */
function hashlib(name) {
  return execFileSync(PYTHON, ["-c", HASHLIB, path(name)], { encoding: "utf8" }).trim();
}
const SHA256 = hashlib("data.bin");

// A plain file server of js/, which remembers what was asked for.
/** @type {string[]} */
const asked = [];
const server = createServer((request, response) => {
  const { pathname } = new URL(request.url ?? "/", "http://localhost");
  asked.push(pathname);
  const file = join(ROOT, normalize(pathname), pathname.endsWith("/") ? "index.html" : "");
  if (!existsSync(file)) {
    response.writeHead(404).end();
    return;
  }
  response.setHeader("Content-Type", TYPES.get(extname(file)) ?? "application/octet-stream");
  createReadStream(file).pipe(response);
});

// Another origin, which would answer all.
/** @type {string[]} */
const strayed = [];
const stranger = createServer((request, response) => {
  strayed.push(request.url ?? "");
  response.setHeader("Access-Control-Allow-Origin", "*").end("here");
});

/** @param {import("node:http").Server} server */
async function listening(server) {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return `http://127.0.0.1:${port}/`;
}

/** @type {Browser} */
let browser;
/** @type {string} */
let address;
/** @type {string} */
let elsewhere;
before(async () => {
  address = `${await listening(server)}demo/`;
  elsewhere = await listening(stranger);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
});
after(async () => {
  await browser?.close();
  server.close();
  stranger.close();
  rmSync(folder, { recursive: true });
});

/**
 * Opens the page anew and fails on any error that it logs, unless `logs`.
 * @param {(page: Page) => Promise<void>} use
 * @param {import("playwright-core").BrowserContextOptions & { logs?: RegExp }} [options] logs: what
 *   the browser may log, that it refused something
 */
async function opened(use, { logs = /^$/, ...options } = {}) {
  const context = await browser.newContext({ acceptDownloads: true, ...options });
  const page = await context.newPage();
  /** @type {string[]} */
  const errors = [];
  /** @type {string[]} */
  const requests = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (line) => void (line.type() === "error" && errors.push(line.text())));
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(address);
  await page.waitForSelector("body[data-ready]");
  await use(page);
  assert.deepEqual(errors.filter((text) => !logs.test(text)), []);
  const foreign = requests.filter((url) => !url.startsWith(new URL("..", address).href));
  assert.deepEqual(foreign.filter((url) => !/^(blob|data):/.test(url) && !url.startsWith(elsewhere)), []);
  assert.deepEqual(strayed, []);
  await context.close();
}

/**
 * Drops files of the disk on the page, as a file manager does.
 * @param {Page} page
 * @param {string[]} files
 */
async function drop(page, ...files) {
  const session = await page.context().newCDPSession(page);
  await page.locator("#drop").scrollIntoViewIfNeeded();
  const box = (await page.locator("#drop").boundingBox()) ?? assert.fail("no place to drop");
  const data = { items: [], files: files.map(path), dragOperationsMask: 1 };
  await forgetRead(page);
  for (const type of /** @type {const} */ (["dragEnter", "dragOver", "drop"])) {
    const point = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
    await session.send("Input.dispatchDragEvent", { type, ...point, data });
  }
}

/**
 * Waits until an element is shown and has such a text, which it returns. A text of an earlier drop
 * stays where it is hidden.
 * @param {Page} page
 * @param {string} id
 * @param {RegExp} text
 */
async function says(page, id, text) {
  const found = (/** @type {string[]} */ [id, text]) => {
    const element = document.getElementById(id);
    return element?.hidden === false && new RegExp(text).test(element.textContent ?? "");
  };
  await page.waitForFunction(found, [id, text.source]);
  return (await page.textContent(`#${id}`)) ?? "";
}

/**
 * Drops files that the page makes, so that nothing of the disk is waited for.
 * @param {Page} page
 * @param {Record<string, string | number>} files texts, or numbers of bytes
 */
async function dropMade(page, files) {
  await forgetRead(page);
  await page.evaluate((files) => {
    const dataTransfer = new DataTransfer();
    for (const [name, content] of Object.entries(files)) {
      const part = typeof content === "string" ? content : new Uint8Array(content);
      dataTransfer.items.add(new File([part], name));
    }
    dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
  }, files);
}

/** @param {Page} page */
const focused = (page) => page.evaluate(() => document.activeElement?.id);

/**
 * Empties the message that a file was read, so that `isRead` waits for the file that comes next: the
 * page opens it before it says that it reads it.
 * @param {Page} page
 */
const forgetRead = (page) => page.evaluate(() => {
  const message = document.getElementById("message");
  if (message?.textContent?.startsWith("Read in")) message.textContent = "";
});

/** @param {Page} page */
const isRead = (page) => page.waitForFunction(() => {
  const message = document.getElementById("message")?.textContent ?? "";
  return message.startsWith("Read in");
});

/**
 * @param {Page} page
 * @param {string} selector of the link
 * @param {string} name of the file to save it to
 */
async function save(page, selector, name) {
  const waiting = page.waitForEvent("download");
  await page.click(selector);
  const download = await waiting;
  await download.saveAs(path(name));
  return download.suggestedFilename();
}

/** @param {string[]} command */
async function atlas(...command) {
  try {
    const { stdout } = await promisify(execFile)(ATLAS, command, { cwd: folder });
    return { code: 0, text: stdout };
  } catch (error) {
    const { code, stdout, stderr } = /** @type {any} */ (error);
    return { code, text: `${stdout}${stderr}` };
  }
}

test("a dropped file: what the page shows is what other programs say", async () => {
  await opened(async (page) => {
    await drop(page, "data.bin");
    await isRead(page);
    assert.equal(await page.textContent("#digest"), SHA256);
    assert.equal(await page.textContent("#length"), "9,000,001 bytes");
    const residue = DATA.reduce((total, byte) => total + byte, 0) % 96;
    assert.equal(await page.textContent("#residue"), String(residue));
    assert.match((await page.textContent("#map-about")) ?? "", /^733 windows/);

    // Its witnesses, verified by the Python command line, for the file and for a changed one.
    assert.equal(await save(page, "#save-flat", "flat.json"), "data.bin.witness.json");
    assert.equal(await save(page, "#save-tree", "tree.json"), "data.bin.tree.witness.json");
    const changed = Buffer.from(DATA);
    changed[5_000_000] ^= 1;
    writeFileSync(path("changed.bin"), changed);
    for (const witness of ["flat.json", "tree.json"]) {
      const good = await atlas("verify", witness, "data.bin");
      assert.equal(good.code, 0, good.text);
      const bad = await atlas("verify", witness, "changed.bin");
      assert.equal(bad.code, 1, bad.text);
    }
    // Python's witness is the same text, but for the time.
    const made = await atlas("witness", "data.bin", "-o", "python.json");
    assert.equal(made.code, 0, made.text);
    const withoutTime = (/** @type {string} */ name) =>
      readFileSync(path(name), "utf8").replace(/"timestamp": "[^"]+"/, "");
    assert.equal(withoutTime("flat.json"), withoutTime("python.json"));

    // Loaded anew, the page knows its own witness and Python's.
    for (const witness of ["flat.json", "python.json"]) {
      await page.reload();
      await page.waitForSelector("body[data-ready]");
      await drop(page, witness, "data.bin");
      await page.waitForSelector("#verdict.good");
    }
  });
});

test("a flipped byte: the right window is marked, and the file restored", async () => {
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    await opened(
      async (page) => {
        await drop(page, "data.bin");
        await isRead(page);
        const before = await page.locator("#map").screenshot();
        const offset = 12288 * 345 + 678;
        await page.fill("#offset", String(offset));
        await page.click("#flip");
        await page.waitForSelector("#found[data-windows]");
        assert.equal(await page.getAttribute("#found", "data-windows"), "345");
        const text = (await page.textContent("#found")) ?? "";
        assert.match(text, /window 345 is damaged/);
        const damaged = Buffer.from(DATA);
        damaged[offset] ^= 1;
        writeFileSync(path("damaged.bin"), damaged);
        assert.ok(text.includes(hashlib("damaged.bin")));
        const window = (/** @type {Buffer} */ bytes) =>
          bytes.subarray(345 * 12288, 346 * 12288).reduce((total, byte) => total + byte, 0) % 96;
        assert.ok(text.includes(`Residue of the window: ${window(DATA)}, now ${window(damaged)}.`));
        assert.match((await page.textContent("#window")) ?? "", /^Window 345: .*damaged/);
        assert.notDeepEqual(await page.locator("#map").screenshot(), before);
        if (process.env.SCREENSHOTS) {
          const name = `webassembly-demo${colorScheme === "dark" ? "-dark" : ""}.png`;
          await page.screenshot({ path: join(process.env.SCREENSHOTS, name), fullPage: true });
        }
        await page.click("#restore");
        assert.equal(await page.getAttribute("#found", "data-windows"), null);
        assert.equal(await page.textContent("#digest"), SHA256);
      },
      { colorScheme, viewport: { width: 1000, height: 900 } },
    );
  }
});

test("a witness and a file, together, in either order, and one that does not fit", async () => {
  await opened(async (page) => {
    const verdict = page.locator("#verdict");
    await drop(page, "flat.json", "data.bin");
    await verdict.waitFor();
    assert.match((await verdict.textContent()) ?? "", /^data\.bin matches the sha256 witness of /);
    assert.equal(await verdict.getAttribute("class"), "good");
    await drop(page, "tree.json");
    await page.waitForFunction(() => /sha256-merkle/.test(document.getElementById("verdict")?.textContent ?? ""));
    assert.match((await verdict.textContent()) ?? "", /^data\.bin matches the sha256-merkle-12288/);
    await drop(page, "changed.bin", "tree.json");
    await page.waitForSelector("#verdict.bad");
    assert.match((await verdict.textContent()) ?? "", /^changed\.bin does not match .*: (residue and )?digest differs?\.$/);
  });
  await opened(async (page) => {
    await drop(page, "tree.json");
    await page.waitForFunction(() => /Now drop the file/.test(document.getElementById("message")?.textContent ?? ""));
    await drop(page, "data.bin");
    await page.waitForSelector("#verdict.good");
    writeFileSync(path("broken.json"), readFileSync(path("flat.json"), "utf8").replace('"residue"', '"rest"'));
    await drop(page, "broken.json");
    await says(page, "trouble", /^broken\.json is no witness: key 'rest' is unknown/);
    await drop(page, "data.bin", "changed.bin");
    await says(page, "trouble", /^2 files came, must be at most one of each/);
  });
});

/**
 * Writes a file into the folder, also below other folders.
 * @param {string} name
 * @param {string | Uint8Array} content
 */
function put(name, content) {
  mkdirSync(dirname(path(name)), { recursive: true });
  writeFileSync(path(name), content);
}

/** Five windows of data.bin damaged, in two places, and the file cut. */
function damagedData() {
  const bytes = Buffer.from(DATA.subarray(0, 8_999_000));
  bytes[12288 * 100 + 5] ^= 1;
  bytes.fill(0, 12288 * 500, 12288 * 503);
  return bytes;
}

test("a file with its witness and leaves: each damaged window is named and on the map", async () => {
  const made = await atlas("witness", "--tree", "data.bin", "-o", "made.json");
  assert.equal(made.code, 0, made.text);
  put("hurt/data.bin", damagedData());
  const leaves = "made.json.atlas.leaves";
  const windows = "100,500,501,502,732";
  await opened(async (page) => {
    // All at once.
    await drop(page, "hurt/data.bin", "made.json", leaves);
    const text = await says(page, "detail", /windows of 733 differ/);
    const places = "window 100 (bytes 1,228,800 to 1,241,087), windows 500 to 502 (bytes 6,144,000 to 6,180,863)";
    assert.equal(text, `5 windows of 733 differ: ${places} and window 732 (bytes 8,994,816 to 8,998,999).`);
    assert.equal(await page.getAttribute("#detail", "data-windows"), windows);
    assert.match((await page.textContent("#window")) ?? "", /^Window 100: .*, damaged$/);
    assert.ok(await page.isVisible("#key-damaged"));
    const red = await bounds(page, [0xe0, 0x10, 0x20]);
    assert.ok(red.right > red.left, JSON.stringify(red));
    // A flipped byte on top, and back to the real damage.
    await page.click("#flip");
    await page.waitForSelector("#found[data-windows]");
    await page.click("#restore");
    assert.ok(await page.isVisible("#key-damaged"));
    assert.ok(await page.isVisible("#legend.pale .zero")); // the cells of the map are pale too
    // A good file has no damage, and no key of it.
    await drop(page, "data.bin", "made.json", leaves);
    await page.waitForSelector("#verdict.good");
    assert.ok(!(await page.isVisible("#key-damaged")));
    assert.ok(await page.isVisible("#legend:not(.pale) .zero"));
    // The leaves last, first, and those that the page saved.
    await drop(page, "hurt/data.bin", "made.json");
    await says(page, "detail", /^Drop its leaves/);
    await drop(page, leaves);
    await page.waitForSelector(`#detail[data-windows="${windows}"]`);
    await drop(page, "made.json");
    await says(page, "detail", /^Drop its leaves/);
  });
  await opened(async (page) => {
    await drop(page, "made.json");
    await says(page, "message", /Now drop the file/);
    await drop(page, leaves);
    await says(page, "message", /^The leaves are here too/);
    await drop(page, "hurt/data.bin");
    await page.waitForSelector(`#detail[data-windows="${windows}"]`);
    await drop(page, "data.bin");
    await isRead(page);
    assert.equal(await save(page, "#save-leaves", "saved.leaves"), "data.bin.tree.witness.json.atlas.leaves");
    assert.deepEqual(readFileSync(path("saved.leaves")), readFileSync(path(leaves)));
  });
});

test("leaves that are cut, of another file, or of a flat witness name no window", async () => {
  const whole = readFileSync(path("made.json.atlas.leaves"));
  put("cut.leaves", whole.subarray(0, -1));
  const other = Buffer.from(whole);
  other[40] ^= 1;
  put("other.leaves", other);
  await opened(async (page) => {
    for (const [leaves, why] of /** @type {[string, RegExp][]} */ ([
      ["cut.leaves", /leaves has 23455 bytes, must have 23456/],
      ["other.leaves", /leaves have the root [0-9a-f]{64}, must have the witness's root/],
    ])) {
      await drop(page, "hurt/data.bin", "made.json", leaves);
      await says(page, "trouble", why);
      assert.equal(await page.getAttribute("#verdict", "class"), "bad");
      assert.equal(await page.getAttribute("#detail", "data-windows"), null);
    }
    await drop(page, "hurt/data.bin", "flat.json", "other.leaves");
    await says(page, "detail", /^Which windows differ, only a tree witness/);
    // Of nothing that is here: a file as any other.
    await page.reload();
    await page.waitForSelector("body[data-ready]");
    await drop(page, "cut.leaves");
    await says(page, "length", /^23,455 bytes$/);
  });
});

/** @param {Page} page */
const rows = (page) => page.locator("#differences tbody tr").evaluateAll(
  (all) => all.map((row) => [...row.children].map((cell) => cell.textContent)),
);

/** The folder good/data with its manifest and leaves, and bad/data, which differs from it. */
async function goodAndBad() {
  if (existsSync(path("good"))) return;
  for (const top of ["good", "bad"]) {
    put(`${top}/data/a.bin`, DATA.subarray(0, 100_000));
    put(`${top}/data/sub/deep/b.bin`, DATA.subarray(100_000, 100_100));
    put(`${top}/data/size.txt`, "one");
    put(`${top}/data/none`, "");
    put(`${top}/data/שלום \u202e.txt`, "names");
  }
  put("good/data/gone.txt", "gone");
  put("good/data/name.txt", "renamed");
  const made = await atlas("witness", "--tree", "good/data", "-o", "good/data.atlas.json");
  assert.equal(made.code, 0, made.text);
  const hurt = Buffer.from(DATA.subarray(0, 100_000));
  hurt[12288 * 3] ^= 1;
  put("bad/data/a.bin", hurt);
  put("bad/data/size.txt", "three");
  put("bad/data/sub/new.txt", "new");
  put("bad/data/sub/name \u202e.txt", "renamed");
}

/** The folder odd, whose manifest has a rule and a link. */
async function odd() {
  if (existsSync(path("odd"))) return;
  put("odd/a.txt", "a");
  put("odd/b.log", "b");
  symlinkSync("a.txt", path("odd/link"));
  const made = await atlas("witness", "--exclude", "*.log", "odd", "-o", "odd.atlas.json");
  assert.equal(made.code, 0, made.text);
}

test("a folder and its manifest: each file is judged, as the command line does", async () => {
  await goodAndBad();
  await opened(async (page) => {
    await drop(page, "good/data", "good/data.atlas.json");
    await says(page, "verdict", /^data matches its manifest: 7 files\.$/);
    assert.equal(await page.getAttribute("#verdict", "class"), "good");
    assert.equal(await page.locator("#same li").count(), 7);
    assert.ok(!(await page.isVisible("#differences")));
    const { root } = JSON.parse(readFileSync(path("good/data.atlas.json"), "utf8")).predicate;
    assert.equal(await page.textContent("#folder-root"), root);
    // In the other order, and with what differs.
    await drop(page, "bad/data");
    await says(page, "message", /^The folder data is here, with 7 files/);
    await drop(page, "good/data.atlas.json");
    await says(page, "verdict", /^data does not match its manifest\.$/);
    assert.deepEqual(await rows(page), [
      ["a.bin", "changeddiffers in residue, sha256, tree root"],
      ["gone.txt", "missingnot in the folder"],
      ["name.txt", "movedto sub/name \\u202e.txt"],
      ["size.txt", "changedhas 5 bytes, must have 3"],
      ["sub/new.txt", "addednot in the manifest"],
    ]);
    assert.match(await says(page, "folder-counts", /./), /^3 files match, 2 changed, 1 missing, 1 added, 1 moved, 0 unreadable/);
    // The leaves come last: the windows of a changed file can be shown.
    await drop(page, "good/data.atlas.leaves");
    await page.click("#differences button");
    await page.waitForSelector('#detail[data-windows="3"]');
    assert.match(await says(page, "window", /./), /^Window 3: .*, damaged$/);
    assert.match(await says(page, "detail", /./), /^1 window of 9 differs/);
    await page.click('#differences button[aria-label="Show the windows of size.txt"]');
    await page.waitForSelector('#detail[data-windows="0"]');
    // A manifest waits too, and is no file.
    await drop(page, "data.bin");
    await isRead(page);
    assert.ok(!(await page.isVisible("#folder")));
    await drop(page, "good/data.atlas.json");
    await says(page, "message", /^A manifest is here\. Now drop the folder/);
    await drop(page, "good/data");
    await page.waitForSelector("#verdict.good");
    await drop(page, "good/data.atlas.json", "data.bin");
    await says(page, "trouble", /^1 manifest and 1 file came: a witness is of a file, and a manifest of a folder/);
    // By the field for folders.
    const chooser = page.waitForEvent("filechooser");
    await page.focus("#choose-folder");
    await page.keyboard.press("Enter");
    await (await chooser).setFiles(path("bad/data"));
    await says(page, "message", /^The folder data is here, with 7 files/);
  });
});

test("what the page cannot judge has no verdict, and is said", async () => {
  await goodAndBad();
  await odd();
  const own = await atlas("witness", "--no-flat", "--tree", "bad/data", "-o", "bad/data/own.atlas.json");
  assert.equal(own.code, 0, own.text);
  await opened(async (page) => {
    await drop(page, "odd", "odd.atlas.json");
    await says(page, "verdict", /^odd: no verdict, because 2 paths could not be judged; 1 file matches\.$/);
    assert.equal(await page.getAttribute("#verdict", "class"), "unsure");
    assert.deepEqual((await rows(page)).map(([name]) => name), ["b.log", "link"]);
    const notes = await page.locator("#folder-notes li").allTextContents();
    assert.match(notes[0], /^The manifest has rules that leave files out: \*\.log\. This page does not apply them/);
    assert.match(notes[1], /^Recorded links.* are not checked: 1\.$/);
    // A manifest inside its folder is no added file, and one with tree roots alone is read.
    await drop(page, "bad/data", "bad/data/own.atlas.json", "bad/data/own.atlas.leaves");
    await says(page, "verdict", /^data matches its manifest: 7 files\.$/);
    const left = await page.locator("#folder-notes li").allTextContents();
    assert.match(left.join(), /^Left out, as the manifest or its leaves themselves: own\.atlas\.json, own\.atlas\.leaves\.$/);
    await drop(page, "bad/data", "bad/data/own.atlas.json");
    await says(page, "verdict", /^data does not match/);
    assert.deepEqual(await rows(page), [["own.atlas.leaves", "addednot in the manifest"]]);
    rmSync(path("bad/data/own.atlas.json"));
    rmSync(path("bad/data/own.atlas.leaves"));
    // A damaged manifest is an error of one sentence.
    put("damaged.atlas.json", readFileSync(path("odd.atlas.json"), "utf8").replace('"size":1', '"size":2'));
    await drop(page, "odd", "damaged.atlas.json");
    await says(page, "trouble", /^That did not work: the manifest must end with the root [0-9a-f]{64} and/);
    assert.ok(!(await page.isVisible("#folder")));
  });
});

test("samples show what the page does, copies are exact, and the documents are beside the page", async () => {
  await opened(async (page) => {
    await page.click("#sample");
    await isRead(page);
    assert.ok(!(await page.isVisible("#verdict")));
    await page.click("#copy-digest");
    await says(page, "message", /^Copied the SHA-256\.$/);
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await page.textContent("#digest"));
    await page.click("#damaged-sample");
    await page.waitForSelector("#detail[data-windows]");
    assert.equal(await page.getAttribute("#detail", "data-windows"), "40,73,74,75,76");
    await page.click("#copy-root");
    await says(page, "message", /^Copied the root\.$/);
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await page.textContent("#root"));
    await page.click("#ways a");
    assert.equal(await page.textContent("h1"), "What the page can do");
  }, { permissions: ["clipboard-read", "clipboard-write"] });
  await opened(async (page) => {
    // Without a clipboard the text is selected.
    await page.evaluate(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
    await page.click("#sample");
    await isRead(page);
    await page.click("#copy-digest");
    await says(page, "message", /^The SHA-256 is selected/);
    assert.equal(await page.evaluate(() => String(getSelection())), await page.textContent("#digest"));
  });
});

test("narrow and wide, light and dark, nothing is cut off", async () => {
  await goodAndBad();
  await odd();
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    for (const width of [360, 1280]) {
      await opened(
        async (page) => {
          const look = async (/** @type {string} */ what) => {
            assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), what);
            if (!process.env.LOOKS) return;
            const file = join(process.env.LOOKS, `${what}-${colorScheme}-${width}.png`);
            await page.screenshot({ path: file, fullPage: true });
          };
          await look("start");
          await page.click("#damaged-sample");
          await page.waitForSelector("#detail[data-windows]");
          await look("damage");
          await drop(page, "bad/data", "good/data.atlas.json", "good/data.atlas.leaves");
          await page.waitForSelector("#verdict.bad");
          await look("folder");
          await drop(page, "odd", "odd.atlas.json");
          await page.waitForSelector("#verdict.unsure");
          await look("undecided");
          await page.goto(new URL("help.html", address).href);
          await look("help");
        },
        { colorScheme, viewport: { width, height: 800 } },
      );
    }
  }
});

test("by keyboard alone", async () => {
  await opened(async (page) => {
    await page.keyboard.press("Tab");
    const chooser = page.waitForEvent("filechooser");
    await page.keyboard.press("Space");
    await (await chooser).setFiles(path("data.bin"));
    await isRead(page);
    for (const id of ["choose-folder", "sample", "damaged-sample"]) {
      await page.keyboard.press("Tab");
      assert.equal(await focused(page), id);
    }
    await page.keyboard.press("Tab"); // the link to the documents
    for (const id of ["copy-digest", "save-flat", "copy-root", "save-tree", "save-leaves", "map"]) {
      await page.keyboard.press("Tab");
      assert.equal(await focused(page), id);
    }
    await page.keyboard.press("Home");
    for (let i = 0; i < 7; i++) await page.keyboard.press("ArrowRight");
    assert.match((await page.getAttribute("#map", "aria-valuetext")) ?? "", /^Window 7: bytes 86,016 to 98,303/);
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "offset");
    assert.equal(await page.inputValue("#offset"), "86016");
    await page.keyboard.press("Enter");
    await page.waitForSelector('#found[data-windows="7"]');
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "restore");
    await page.keyboard.press("Enter");
    assert.equal(await focused(page), "flip");
  });
});

test("small files, an empty one, and a narrow screen", async () => {
  writeFileSync(path("empty"), "");
  writeFileSync(path("short"), "these bytes matter");
  await opened(
    async (page) => {
      await drop(page, "short");
      await isRead(page);
      assert.equal(await page.textContent("#digest"), "91327c172973c4be87e3ef9c13024cd0e74b52d3796013e89a3abd6156836d9b");
      await page.click("#flip");
      await page.waitForSelector('#found[data-windows="0"]');
      await drop(page, "empty");
      await page.waitForFunction(() => document.getElementById("length")?.textContent === "0 bytes");
      assert.equal(await page.textContent("#window"), "An empty file has no window.");
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    },
    { viewport: { width: 360, height: 700 } },
  );
});

test("while a large file is read the page answers, and can be stopped", async () => {
  writeFileSync(path("large.bin"), Buffer.alloc(600 << 20, 7));
  await opened(async (page) => {
    await drop(page, "large.bin");
    await page.waitForFunction(() => Number(document.getElementById("progress")?.getAttribute("value")) > 0.02);
    const longest = await page.evaluate(async () => {
      let most = 0;
      for (let i = 0; i < 20; i++) {
        const start = performance.now();
        await new Promise((resolve) => setTimeout(resolve, 10));
        most = Math.max(most, performance.now() - start);
      }
      return most;
    });
    assert.ok(longest < 500, `${longest} ms`);
    await page.click("#stop");
    assert.equal(await page.textContent("#message"), "Stopped.");
    await drop(page, "data.bin");
    await isRead(page);
    assert.equal(await page.textContent("#digest"), SHA256);
  });
  rmSync(path("large.bin"));
});

test("from the page and from its worker, no other address is reached", async () => {
  await opened(
    async (page) => {
      const [worker] = page.workers();
      for (const place of [page, worker]) {
        const ask = (/** @type {string} */ url) => fetch(url).then(() => "answered", (error) => error.name);
        const evaluate = /** @type {Page} */ (place).evaluate.bind(place);
        assert.equal(await evaluate(ask, elsewhere), "TypeError");
      }
      assert.deepEqual(strayed, []);
      await drop(page, "data.bin");
      await isRead(page);
    },
    { logs: /Content Security Policy|Failed to load resource|Fetch API cannot load/ },
  );
});

test("from a file, without JavaScript and without its worker the page says what it needs", async () => {
  const bare = await browser.newPage();
  await bare.goto(new URL("../demo/index.html", import.meta.url).href);
  assert.match((await bare.textContent("#message")) ?? "", /must be served by http/);
  await bare.close();
  const context = await browser.newContext({ javaScriptEnabled: false });
  const still = await context.newPage();
  await still.goto(address);
  assert.ok(await still.isVisible("#status noscript p"));
  await context.close();
  for (const missing of ["**/worker.js", "**/*.wasm"]) {
    const page = await browser.newPage();
    await page.route(missing, (route) => route.fulfill({ status: 404 }));
    await page.goto(address);
    await says(page, "trouble", /^The page could not start/);
    await dropMade(page, { short: 3 });
    await says(page, "trouble", /^The page could not start/);
    assert.ok(!(await page.isVisible("#work")));
    assert.equal(await page.textContent("#message"), "");
    await page.close();
  }
});

test("names and values of strangers turn nothing around, and stay on their line", async () => {
  // What turns the line around is shown by its number, and Hebrew stays apart from what is around it.
  const hostile = "nib.\u202etad\u2067\n.dib\u001b[31m";
  const told = "nib.\\u202etad\\u2067\\n.dib\\x1b[31m";
  const hebrew = "שלום";
  await opened(async (page) => {
    const inBdi = (/** @type {string} */ id) => page.locator(`#${id} bdi`).allTextContents();
    for (const [name, wanted] of [[hostile, told], [hebrew, hebrew]]) {
      await dropMade(page, { [name]: 20_000 });
      await isRead(page);
      assert.deepEqual(await inBdi("name"), [wanted]);
      await save(page, "#save-flat", "hostile.json");
      assert.equal(await page.getAttribute("#save-flat", "download"), `${name.replace(/[\u202e\u2067\n\x1b]/g, "_")}.witness.json`);
      await dropMade(page, { [name]: 20_001, "w.json": readFileSync(path("hostile.json"), "utf8") });
      const text = await says(page, "verdict", /does not match/);
      assert.ok(text.startsWith(`${wanted} does not match the sha256 witness of 2`), text);
      assert.deepEqual(await inBdi("verdict"), [wanted]);
      // Where it is drawn: the name first, and what the page says behind it, in its order.
      const places = await page.evaluate(() => {
        const verdict = document.getElementById("verdict") ?? document.body;
        const left = (/** @type {Node | null} */ node, /** @type {number} */ from) => {
          const range = document.createRange();
          range.setStart(node ?? verdict, from);
          range.setEnd(node ?? verdict, from + 1);
          return range.getBoundingClientRect().left;
        };
        const said = verdict.lastChild;
        return [left(verdict, 0), left(said, 1), left(said, 6), left(said, 10)];
      });
      assert.deepEqual(places, [...places].sort((a, b) => a - b));
    }
    await dropMade(page, { [hostile]: `{"type": "atlas12288/witness/v1", "x\\u202e": 1}` });
    await says(page, "trouble", /is no witness/);
    assert.deepEqual(await inBdi("trouble"), [
      told,
      "key 'x\\u202e' is unknown, must be one of type, algorithm, length, residue, digest, timestamp",
    ]);
  });
});

test("a folder or a file that is gone is named, and a good file beside it is read", async () => {
  mkdirSync(path("folder"));
  await opened(async (page) => {
    await drop(page, "folder", "data.bin");
    await isRead(page);
    assert.match((await page.textContent("#trouble")) ?? "", /^folder cannot be read/);
    assert.equal(await page.textContent("#digest"), SHA256);
    await drop(page, "folder");
    await says(page, "message", /^The folder folder is here, with 0 files\. Now drop its manifest/);
    await drop(page, "folder", "data.bin");
    await says(page, "trouble", /^folder cannot be read/);
    await drop(page, "data.bin");
    await page.waitForSelector("#trouble", { state: "hidden" });
  });
});

test("a file that changed on the disk is said to have", async () => {
  writeFileSync(path("log"), "one");
  await opened(async (page) => {
    await drop(page, "log");
    await isRead(page);
    writeFileSync(path("log"), "another");
    utimesSync(path("log"), 1, 1);
    await page.click("#flip");
    await says(page, "trouble", /^That did not work: the file changed on the disk or is gone/);
  });
});

test("a witness judges the file that it came with or before, no later one", async () => {
  const flat = readFileSync(path("flat.json"), "utf8");
  const large = { large: 200 << 20 };
  await opened(async (page) => {
    // Left over from a file that was stopped.
    await dropMade(page, large);
    await page.waitForSelector("#stop");
    await dropMade(page, { "flat.json": flat });
    await page.click("#stop");
    await dropMade(page, { short: 10 });
    await isRead(page);
    assert.ok(!(await page.isVisible("#verdict")));
    // An answer about an earlier file, which comes while a later one is read.
    for (let i = 0; i < 20; i++) {
      await dropMade(page, { first: 100_000 });
      await page.waitForTimeout(i);
      await drop(page, "data.bin", "flat.json");
      await says(page, "verdict", /^data\.bin matches/);
    }
    // What was said of one file goes when another job begins.
    await dropMade(page, { short: 10 });
    await page.waitForSelector("#verdict", { state: "hidden" });
  });
  await opened(async (page) => {
    // One that is malformed does not take the place of one that waits.
    await dropMade(page, { "flat.json": flat });
    await says(page, "message", /Now drop the file/);
    await dropMade(page, { "cut.json": flat.slice(0, 100) });
    await says(page, "trouble", /^cut\.json is no witness: text must be JSON/);
    await drop(page, "data.bin");
    await says(page, "verdict", /^data\.bin matches/);
    await page.click("#flip");
    await page.waitForSelector("#verdict", { state: "hidden" });
  });
});

test("a file that speaks of witnesses is a file", async () => {
  await opened(async (page) => {
    for (const text of ["I use atlas12288/witness/v1 here", '{"about": "atlas12288/witness/v1"}']) {
      await dropMade(page, { notes: text });
      await says(page, "length", new RegExp(`^${text.length} bytes$`));
    }
  });
});

test("while a byte is flipped, its offset stays, and the focus too", async () => {
  await opened(async (page) => {
    await drop(page, "data.bin");
    await isRead(page);
    await page.fill("#offset", "5000000");
    await page.focus("#flip");
    await page.evaluate(() => {
      const click = (/** @type {string} */ id) => document.getElementById(id)?.dispatchEvent(
        new MouseEvent("click", { bubbles: true, cancelable: true }));
      click("flip");
      click("map");
      click("flip"); // again, which does nothing while the first one works
    });
    assert.equal(await page.inputValue("#offset"), "5000000");
    await page.waitForSelector('#found[data-windows="406"]');
    assert.equal(await focused(page), "flip");
  });
});

test("after a stop the focus is where files are chosen, also where the file was read meanwhile", async () => {
  await opened(async (page) => {
    await dropMade(page, { large: 200 << 20 });
    await page.waitForSelector("#stop");
    await page.focus("#stop");
    await page.keyboard.press("Enter");
    assert.equal(await focused(page), "choose");
    assert.equal(await page.textContent("#message"), "Stopped.");
    await dropMade(page, { large: 50 << 20 });
    await page.waitForSelector("#stop");
    await page.focus("#stop");
    await isRead(page);
    assert.equal(await focused(page), "choose");
  });
});

test("keys of the map stay in their column, and the text follows the width of the page", async () => {
  await opened(async (page) => {
    await dropMade(page, { large: 12288 * 3000 + 1 });
    await isRead(page);
    const selected = async () => Number(await page.getAttribute("#map", "aria-valuenow"));
    /** @param {string[]} keys */
    const press = async (...keys) => {
      for (const key of keys) await page.keyboard.press(key);
      return selected();
    };
    await page.focus("#map");
    assert.equal(await press("Home", "ArrowRight", "ArrowRight", "ArrowUp", "PageUp"), 2);
    const row = (await press("ArrowDown")) - 2;
    assert.ok(row > 10, `${row}`);
    assert.equal(await press("ArrowUp"), 2);
    assert.equal(await press("End"), 3000);
    assert.equal(await press("ArrowDown", "PageDown", "ArrowRight"), 3000);
    assert.equal(await press("ArrowUp"), 3000 - row);
    assert.match(await says(page, "window", /3,000|,/), /^Window/);
    assert.match((await page.textContent("#map-about")) ?? "", /^3,001 windows of up to 12,288 bytes\. A cell has/);
    await page.locator("section:has(#map)").evaluate((card) => {
      if (card instanceof HTMLElement) card.style.width = "53px"; // 11 cells in a row
    });
    await says(page, "map-about", /A cell is the first of \d+ windows/);
  });
});

/**
 * Where the map has pixels of a colour: their left, top, right and bottom, and its size.
 * @param {Page} page
 * @param {number[]} colour
 */
const bounds = (page, colour) => page.locator("#map").evaluate((canvas, [red, green, blue]) => {
  const { width, height } = /** @type {HTMLCanvasElement} */ (canvas);
  const pen = /** @type {HTMLCanvasElement} */ (canvas).getContext("2d");
  const { data } = /** @type {CanvasRenderingContext2D} */ (pen).getImageData(0, 0, width, height);
  const found = { left: width, top: height, right: -1, bottom: -1, width, height };
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] !== red || data[i + 1] !== green || data[i + 2] !== blue || data[i + 3] !== 255) continue;
    const [x, y] = [(i / 4) % width, Math.floor(i / 4 / width)];
    found.left = Math.min(found.left, x);
    found.top = Math.min(found.top, y);
    found.right = Math.max(found.right, x);
    found.bottom = Math.max(found.bottom, y);
  }
  return found;
}, colour);

test("the ring of a window is whole at every edge, and seen around the smallest cells", async () => {
  await opened(async (page) => {
    await dropMade(page, { few: 12288 * 3 });
    await isRead(page);
    await page.fill("#offset", "0");
    await page.click("#flip");
    await page.waitForSelector('#found[data-windows="0"]');
    const red = await bounds(page, [0xe0, 0x10, 0x20]);
    assert.ok(red.right > red.left && red.left > 0 && red.top > 0, JSON.stringify(red));
    await dropMade(page, { many: 12288 * 20_000 });
    await says(page, "length", /^245,760,000 bytes$/);
    await page.focus("#map");
    await page.keyboard.press("End");
    const text = await bounds(page, [0x22, 0x25, 0x2b]);
    assert.ok(text.right - text.left >= 9 && text.bottom - text.top >= 9, JSON.stringify(text));
    assert.ok(text.left > 0 && text.bottom < text.height - 1, JSON.stringify(text));
  });
});

test("the border of the place to drop has a contrast of 3 and more", async () => {
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    await opened(
      async (page) => {
        const colours = await page.evaluate(() => {
          const styleOf = (/** @type {string} */ selector) =>
            getComputedStyle(/** @type {Element} */ (document.querySelector(selector)));
          const label = styleOf("#drop label");
          return [label.borderTopColor, label.backgroundColor, styleOf("body").backgroundColor];
        });
        const [border, ...grounds] = colours.map((colour) => {
          const parts = (colour.match(/\d+/g) ?? []).map((part) => Number(part) / 255);
          const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
        });
        for (const ground of grounds) {
          const contrast = Math.max(border / ground, ground / border);
          assert.ok(contrast >= 3, `${colours}: ${contrast}`);
        }
      },
      { colorScheme },
    );
  }
});

test("the words fit the numbers", async () => {
  await opened(async (page) => {
    await dropMade(page, { one: 1 });
    assert.match(await says(page, "message", /^Read in/), /^Read in \d+ ms\.$/);
    assert.equal(await page.textContent("#length"), "1 byte");
    assert.match((await page.textContent("#map-about")) ?? "", /^1 window of up to/);
    assert.equal(await page.textContent("#window"), "Window 0: byte 0, residue 0");
    await drop(page, "flat.json");
    await says(page, "verdict", /: length, residue and digest differ\.$/);
    const names = await page.locator("a[download]").allTextContents();
    assert.equal(new Set(names).size, 3);
    await dropMade(page, { none: 0 });
    await says(page, "length", /^0 bytes$/);
    assert.ok(await page.evaluate(() => document.getElementById("damage")?.inert));
    assert.equal(await page.locator("#damage").evaluate((form) => getComputedStyle(form).opacity), "0.5");
  });
});

test("the page asked for nothing but its own files", () => {
  const own = /^\/(demo\/|demo\/[a-z]+\.(js|css|html)|lib\/[a-z0-9-]+\.(js|wasm))$/;
  assert.ok(asked.includes("/lib/atlas12288-simd.wasm"));
  assert.deepEqual([...new Set(asked)].filter((path) => !own.test(path)), []);
});
