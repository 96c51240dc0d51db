// SPDX-License-Identifier: Apache-2.0
// The page of js/demo in a real Chromium: real files, what it shows against other programs, the
// keyboard, both colour schemes. ATLAS12288 is the Python command line, PYTHON its interpreter,
// CHROMIUM the browser; SCREENSHOTS a folder for pictures (npm run screenshots: those of docs/).
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { createCipheriv } from "node:crypto";
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
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

/** @type {Browser} */
let browser;
/** @type {string} */
let address;
before(async () => {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  address = `http://127.0.0.1:${port}/demo/`;
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
});
after(async () => {
  await browser?.close();
  server.close();
  rmSync(folder, { recursive: true });
});

/**
 * Opens the page anew and fails on any error that it logs.
 * @param {(page: Page) => Promise<void>} use
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
async function opened(use, options) {
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
  assert.deepEqual(errors, []);
  const foreign = requests.filter((url) => !url.startsWith(new URL("..", address).href));
  assert.deepEqual(foreign.filter((url) => !/^(blob|data):/.test(url)), []);
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
  for (const type of /** @type {const} */ (["dragEnter", "dragOver", "drop"])) {
    const point = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
    await session.send("Input.dispatchDragEvent", { type, ...point, data });
  }
}

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
    assert.match((await verdict.textContent()) ?? "", /^changed\.bin does not match .*digest differ/);
  });
  await opened(async (page) => {
    await drop(page, "tree.json");
    await page.waitForFunction(() => /Now drop the file/.test(document.getElementById("message")?.textContent ?? ""));
    await drop(page, "data.bin");
    await page.waitForSelector("#verdict.good");
    writeFileSync(path("broken.json"), readFileSync(path("flat.json"), "utf8").replace('"residue"', '"rest"'));
    await drop(page, "broken.json");
    await page.waitForSelector("#verdict.bad");
    assert.match((await page.textContent("#verdict")) ?? "", /key 'rest' is unknown/);
    await drop(page, "data.bin", "changed.bin");
    assert.match((await page.textContent("#verdict")) ?? "", /2 files came, must be at most one/);
  });
});

test("by keyboard alone", async () => {
  await opened(async (page) => {
    await page.keyboard.press("Tab");
    const chooser = page.waitForEvent("filechooser");
    await page.keyboard.press("Space");
    await (await chooser).setFiles(path("data.bin"));
    await isRead(page);
    const focused = () => page.evaluate(() => document.activeElement?.id);
    for (const id of ["save-flat", "save-tree", "map"]) {
      await page.keyboard.press("Tab");
      assert.equal(await focused(), id);
    }
    await page.keyboard.press("Home");
    for (let i = 0; i < 7; i++) await page.keyboard.press("ArrowRight");
    assert.match((await page.getAttribute("#map", "aria-valuetext")) ?? "", /^Window 7: bytes 86,016 to 98,303/);
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "offset");
    assert.equal(await page.inputValue("#offset"), "86016");
    await page.keyboard.press("Enter");
    await page.waitForSelector('#found[data-windows="7"]');
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "restore");
    await page.keyboard.press("Enter");
    assert.equal(await focused(), "flip");
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

test("the page asked for nothing but its own files", () => {
  const own = /^\/(demo\/|demo\/[a-z]+\.(js|css)|lib\/[a-z0-9-]+\.(js|wasm))$/;
  assert.ok(asked.includes("/lib/atlas12288-simd.wasm"));
  assert.deepEqual([...new Set(asked)].filter((path) => !own.test(path)), []);
});
