// SPDX-License-Identifier: Apache-2.0
/** @file The page: takes files, gives them to the worker, shows what it found. */

import { AtlasError, WINDOW_BYTES, witnessFromJson } from "../lib/index.js";
import { plainName, printable } from "../lib/text.js";
import { drawScale, WindowMap } from "./map.js";

/** @import { Answer, Checked, Flipped, Job, Start } from "./messages.js" */
/** @typedef {ReturnType<typeof witnessFromJson>} Witness of any algorithm */

const WITNESS_MOST = 4096; // a witness is 250 bytes; what is larger is data
const LOADING = "Loading …";
const NO_START = "The page could not start. It needs WebAssembly and module workers.";

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
const byId = (id) => /** @type {T} */ (document.getElementById(id));

const message = byId("message");
const trouble = byId("trouble");
const verdict = byId("verdict");
const found = byId("found");
/** @type {HTMLInputElement} */
const offsetInput = byId("offset");
/** @type {HTMLInputElement} */
const choose = byId("choose");
/** @type {HTMLCanvasElement} */
const mapCanvas = byId("map");
const map = new WindowMap(mapCanvas, selectWindow, describeMap);
message.textContent = LOADING;
const worker = started("worker.js");

/** @type {Checked | undefined} */
let shown;
/** @type {Flipped | undefined} */
let damage;
/** @type {Witness | undefined} one whose file did not come yet */
let waiting;
/** @type {Witness | undefined} that of the file that is being read */
let expected;
/** @type {string | undefined} why the worker cannot work */
let broken;
let busy = false;
let turn = 0; // number of the last job

/**
 * A worker from a blob that imports the script. It has the content security policy of the page; one
 * from the script's own address would have none, and it is the one that has the file's bytes.
 * @param {string} script
 */
function started(script) {
  const text = `import ${JSON.stringify(new URL(script, import.meta.url).href)};`;
  const blob = new Blob([text], { type: "text/javascript" });
  return new Worker(URL.createObjectURL(blob), { type: "module" });
}

const grouped = (/** @type {number} */ value) => value.toLocaleString("en");

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
const counted = (count, one, many = `${one}s`) => `${grouped(count)} ${count === 1 ? one : many}`;

/** @param {string[]} words */
const joined = (words) =>
  words.length < 2 ? words.join() : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;

/**
 * A text that comes with a file, apart from what is around it: letters that are written from right
 * to left turn nothing else around.
 * @param {string} text
 */
function isolated(text) {
  return Object.assign(document.createElement("bdi"), { textContent: text });
}

/** @param {string} name of a file */
const fileName = (name) => isolated(printable(name));

/** @param {Job} job */
function ask(job) {
  turn += 1;
  setBusy(job.kind !== "stop");
  byId("progress").setAttribute("value", "0");
  worker.postMessage({ ...job, turn });
}

/** @param {boolean} value is the worker reading a file? */
function setBusy(value) {
  busy = value;
  const leaves = !busy && document.activeElement === byId("stop");
  byId("work").hidden = !busy;
  if (leaves) choose.focus();
  byId("flip").setAttribute("aria-disabled", String(busy)); // where it is disabled it loses the focus
}

/** @type {{ [K in (Answer | Start)["kind"]]: (answer: any) => void }} */
const ON = {
  ready({ version, kernels }) {
    byId("engine").textContent = `Version ${version}, WebAssembly kernels: ${kernels}.`;
    if (message.textContent === LOADING) message.textContent = "Ready.";
    document.body.dataset.ready = "true";
  },
  broken: ({ message: text }) => breakDown(`${NO_START} ${text}`),
  progress({ done }) {
    byId("progress").setAttribute("value", String(done));
  },
  failed({ message: text }) {
    idle("");
    expected = undefined;
    refuse(`That did not work: ${text}`);
  },
  checked: showChecked,
  flipped: showFlipped,
};
/** @typedef {(Answer | Start) & { turn?: number }} Said */
worker.addEventListener("message", (/** @type {MessageEvent<Said>} */ { data }) => {
  if (data.turn === undefined || data.turn === turn) ON[data.kind](data);
});
worker.addEventListener("error", () => breakDown(NO_START));

/** @param {string} text */
function breakDown(text) {
  broken = text;
  idle("");
  refuse(text);
}

/** @param {string} text */
function idle(text) {
  message.textContent = text;
  setBusy(false);
}

/** @param {(string | Node)[]} parts what could not be done */
function refuse(...parts) {
  trouble.replaceChildren(...parts);
  trouble.hidden = false;
}

/** What was said of earlier files and jobs goes. */
function clear() {
  trouble.hidden = verdict.hidden = true;
}

// --- Files ---

/**
 * Is this text meant to be a witness? Also one that is cut off, but not all that speaks of witnesses.
 * @param {string} text
 */
function isWitness(text) {
  try {
    return String(JSON.parse(text)?.type).startsWith("atlas12288/witness/");
  } catch {
    return /^\s*{\s*"type"\s*:\s*"atlas12288\/witness\//.test(text);
  }
}

/** @param {File[]} files */
async function take(files) {
  clear();
  /** @type {Witness[]} */
  const witnesses = [];
  /** @type {File[]} */
  const data = [];
  /** @type {(string | Node)[][]} */
  const problems = [];
  for (const file of files) {
    try {
      const text = await (file.size <= WITNESS_MOST ? file : file.slice(0, 1)).text();
      if (isWitness(text)) witnesses.push(witnessFromJson(text));
      else data.push(file);
    } catch (error) {
      const isRead = error instanceof AtlasError;
      const why = isRead ? [" is no witness: ", isolated(error.message)] : [" cannot be read: a folder, or gone"];
      problems.push([fileName(file.name), ...why, "."]);
    }
  }
  const tooMany = witnesses.length > 1 || data.length > 1;
  if (tooMany) {
    const came = [counted(witnesses.length, "witness", "witnesses"), counted(data.length, "file")];
    problems.push([`${joined(came)} came, must be at most one of each.`]);
  }
  if (broken !== undefined) problems.unshift([broken]);
  if (problems.length > 0) refuse(...problems.flatMap((parts, i) => (i > 0 ? [" ", ...parts] : parts)));
  if (tooMany || broken !== undefined) return;
  const [file] = data;
  const [witness] = witnesses;
  if (file !== undefined) {
    expected = witness ?? waiting;
    waiting = shown = undefined;
    byId("result").hidden = true;
    message.replaceChildren("Reading ", fileName(file.name), " …");
    ask({ kind: "check", file });
  } else if (witness !== undefined) {
    if (shown !== undefined) judge(witness);
    else if (busy) expected = witness;
    else {
      waiting = witness;
      message.textContent = `A witness is here: ${named(witness)}. Now drop the file that it is of.`;
    }
  }
}

let taken = Promise.resolve();
/** @param {FileList | undefined | null} files taken when those before are */
function takeNext(files) {
  const list = [...(files ?? [])];
  taken = taken.then(() => take(list));
}

/** @param {Witness} witness */
function named({ algorithm, timestamp }) {
  return `the ${algorithm} witness of ${timestamp.slice(0, 19).replace("T", " ")} UTC`;
}

/** @param {Witness} witness of the shown file, or not */
function judge(witness) {
  if (shown === undefined) return;
  const made = [shown.flat, shown.tree].map((text) => witnessFromJson(text));
  const same = made.find(({ algorithm }) => algorithm === witness.algorithm) ?? made[0];
  const differences = witness.differences(same);
  const good = differences.length === 0;
  const differ = `${joined(differences)} ${differences.length === 1 ? "differs" : "differ"}`;
  const text = good ? ` matches ${named(witness)}.` : ` does not match ${named(witness)}: ${differ}.`;
  verdict.replaceChildren(fileName(shown.name), text);
  verdict.className = good ? "good" : "bad";
  verdict.hidden = false;
}

const drop = byId("drop");
choose.addEventListener("change", () => {
  takeNext(choose.files);
  choose.value = ""; // so that the same file can be chosen again
});
// Everywhere on the page: a file beside the field would replace the page.
addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
addEventListener("dragleave", () => drop.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  takeNext(event.dataTransfer?.files);
});
byId("stop").addEventListener("click", () => {
  expected = undefined;
  ask({ kind: "stop" });
  message.textContent = "Stopped.";
});

// --- What was found ---

/** @param {Checked} answer */
function showChecked(answer) {
  shown = answer;
  restore();
  byId("result").hidden = false;
  byId("name").replaceChildren(fileName(answer.name));
  byId("length").textContent = counted(answer.length, "byte");
  byId("residue").textContent = String(answer.residue);
  byId("law").textContent = answer.residue === 0 ? "conserved" : "not conserved: the law asks for 0";
  byId("digest").textContent = answer.digest;
  byId("root").textContent = answer.root;
  offer(byId("save-flat"), `${answer.name}.witness.json`, answer.flat);
  offer(byId("save-tree"), `${answer.name}.tree.witness.json`, answer.tree);
  const { seconds, length } = answer;
  const time = seconds < 1 ? `${Math.ceil(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
  const speed = `, ${(length / 1e6 / seconds).toFixed(0)} MB/s for both witnesses`;
  idle(`Read in ${time}${length < 1e6 ? "" : speed}.`);
  const none = answer.length === 0;
  byId("damage").toggleAttribute("inert", none);
  offsetInput.max = String(Math.max(0, answer.length - 1));
  offsetInput.value = String(Math.floor(answer.length / 2));
  drawScale(byId("scale"));
  showMap(Math.floor(answer.length / 2 / WINDOW_BYTES));
  if (expected !== undefined) judge(expected);
  expected = undefined;
}

/**
 * @param {HTMLAnchorElement} link
 * @param {string} name
 * @param {string} text
 */
function offer(link, name, text) {
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([`${text}\n`], { type: "application/json" }));
  link.download = plainName(name);
}

/** @param {number} selected */
function showMap(selected) {
  if (shown === undefined) return;
  const count = shown.residues.length;
  mapCanvas.setAttribute("aria-valuemax", String(Math.max(0, count - 1)));
  mapCanvas.hidden = byId("legend").hidden = count === 0;
  map.show(damage?.residues ?? shown.residues, damage?.windows ?? [], selected);
  describeMap();
  describeWindow(selected);
}

function describeMap() {
  if (shown === undefined || shown.residues.length === 0) {
    byId("map-about").textContent = "";
    return;
  }
  const cells = map.together === 1 ? "A cell" : `A cell is the first of ${map.together} windows, it`;
  byId("map-about").textContent =
    `${counted(shown.residues.length, "window")} of up to ${grouped(WINDOW_BYTES)} bytes. ${cells} ` +
    "has the colour of its residue; select one by a click or the arrow keys.";
}

/** @param {number} window */
function describeWindow(window) {
  if (shown === undefined || shown.residues.length === 0) {
    byId("window").textContent = "An empty file has no window.";
    return;
  }
  const before = shown.residues[window];
  const now = (damage ?? shown).residues[window];
  const end = Math.min((window + 1) * WINDOW_BYTES, shown.length) - 1;
  const changed = damage?.windows.includes(window) ? `, damaged: residue was ${before}` : "";
  const start = window * WINDOW_BYTES;
  const bytes = start === end ? `byte ${grouped(end)}` : `bytes ${grouped(start)} to ${grouped(end)}`;
  const text = `Window ${grouped(window)}: ${bytes}, residue ${now}${changed}`;
  byId("window").textContent = text;
  mapCanvas.setAttribute("aria-valuenow", String(window));
  mapCanvas.setAttribute("aria-valuetext", text);
}

/** @param {number} window */
function selectWindow(window) {
  describeWindow(window);
  if (shown !== undefined && damage === undefined && !busy) {
    offsetInput.value = String(Math.min(window * WINDOW_BYTES, shown.length - 1));
  }
}

byId("damage").addEventListener("submit", (event) => {
  event.preventDefault();
  if (shown === undefined || busy) return;
  clear();
  message.replaceChildren("Reading ", fileName(shown.name), " with a flipped byte …");
  ask({ kind: "flip", offset: offsetInput.valueAsNumber });
});
function restore() {
  damage = undefined;
  found.replaceChildren();
  delete found.dataset.windows;
  byId("restore").hidden = true;
}
byId("restore").addEventListener("click", () => {
  const offset = damage?.offset ?? 0;
  restore();
  showMap(Math.floor(offset / WINDOW_BYTES));
  byId("flip").focus();
});

/**
 * @param {string} tag
 * @param {string} text
 */
function made(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}

/** @param {Flipped} answer */
function showFlipped(answer) {
  if (shown === undefined) return;
  damage = answer;
  idle("Read again, with the flipped byte.");
  const [window] = answer.windows;
  const list = joined(answer.windows.map(grouped));
  const isOne = answer.windows.length === 1;
  const before = shown.residues[window];
  const where = isOne ? `window ${list} is` : `windows ${list} are`;
  const lines = [
    `Found: ${where} damaged (byte ${grouped(answer.offset)} was flipped).`,
    `Residue of the window: ${before}, now ${answer.residues[window]}.`,
    "SHA-256 with the flipped byte: ",
  ];
  found.replaceChildren(...lines.map((line) => made("p", line)));
  found.lastElementChild?.append(made("code", answer.digest));
  found.className = "bad";
  found.dataset.windows = answer.windows.join(",");
  byId("restore").hidden = false;
  showMap(window);
}
