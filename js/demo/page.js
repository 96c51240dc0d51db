// SPDX-License-Identifier: Apache-2.0
/** @file The page: takes files, gives them to the worker, shows what it found. */

import { WINDOW_BYTES } from "../lib/constants.js";
import { drawScale, WindowMap } from "./map.js";

/** @import { Answer, Checked, Flipped, Job, Verified } from "./messages.js" */

const WITNESS_MOST = 4096; // a witness is 250 bytes; what is larger is data

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
const byId = (id) => /** @type {T} */ (document.getElementById(id));

const message = byId("message");
const verdict = byId("verdict");
const found = byId("found");
/** @type {HTMLInputElement} */
const offsetInput = byId("offset");
/** @type {HTMLCanvasElement} */
const mapCanvas = byId("map");
const map = new WindowMap(mapCanvas, selectWindow);
const worker = new Worker("worker.js", { type: "module" });

/** @type {Checked | undefined} */
let shown;
/** @type {Flipped | undefined} */
let damage;
/** @type {string | undefined} the witness that waits for its file */
let waiting;
let busy = false;

const grouped = (/** @type {number} */ value) => value.toLocaleString("en");

/** @param {Job} job */
function ask(job) {
  if (job.kind === "check" || job.kind === "flip") {
    setBusy(true);
    byId("progress").setAttribute("value", "0");
  }
  worker.postMessage(job);
}

/** @param {boolean} value is the worker reading a file? */
function setBusy(value) {
  busy = value;
  byId("work").hidden = !busy;
  byId("flip").toggleAttribute("disabled", busy);
}

/** @type {{ [K in Answer["kind"]]: (answer: any) => void }} */
const ON = {
  ready({ version, kernels }) {
    byId("engine").textContent = `Version ${version}, WebAssembly kernels: ${kernels}.`;
    message.textContent = "Ready.";
    document.body.dataset.ready = "true";
  },
  progress({ done }) {
    byId("progress").setAttribute("value", String(done));
  },
  failed({ job, message: text }) {
    if (job !== "verify") idle("");
    waiting = undefined;
    byId("result").hidden = shown === undefined;
    say(`That did not work: ${text}`, false);
  },
  checked: showChecked,
  flipped: showFlipped,
  verified: showVerified,
};
worker.addEventListener("message", (/** @type {MessageEvent<Answer>} */ { data }) => ON[data.kind](data));
worker.addEventListener("error", () => {
  idle("The page could not start. It needs WebAssembly and module workers, and to be served by http.");
});

/** @param {string} text */
function idle(text) {
  message.textContent = text;
  setBusy(false);
}

/**
 * @param {string} text
 * @param {boolean} good
 */
function say(text, good) {
  verdict.textContent = text;
  verdict.className = good ? "good" : "bad";
  verdict.hidden = false;
}

// --- Files ---

/** @param {File[]} files */
async function take(files) {
  verdict.hidden = true;
  const witnesses = [];
  const data = [];
  for (const file of files) {
    const text = file.size <= WITNESS_MOST ? await file.text() : "";
    if (text.includes("atlas12288/witness/")) witnesses.push(text);
    else data.push(file);
  }
  if (witnesses.length > 1 || data.length > 1) {
    say(`${witnesses.length} witnesses and ${data.length} files came, must be at most one of each`, false);
    return;
  }
  if (data.length === 1) {
    waiting = witnesses[0] ?? (shown === undefined ? waiting : undefined);
    shown = undefined;
    byId("result").hidden = true;
    message.textContent = `Reading ${data[0].name} …`;
    ask({ kind: "check", file: data[0] });
  } else if (witnesses.length === 1) {
    if (shown === undefined) waiting = witnesses[0];
    if (shown !== undefined || !busy) ask({ kind: "verify", text: witnesses[0] });
  }
}

const drop = byId("drop");
/** @type {HTMLInputElement} */
const choose = byId("choose");
choose.addEventListener("change", () => {
  take([...(choose.files ?? [])]);
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
  take([...(event.dataTransfer?.files ?? [])]);
});
byId("stop").addEventListener("click", () => {
  ask({ kind: "stop" });
  idle("Stopped.");
});

// --- What was found ---

/** @param {Checked} answer */
function showChecked(answer) {
  shown = answer;
  restore();
  byId("result").hidden = false;
  byId("name").textContent = answer.name;
  byId("length").textContent = `${grouped(answer.length)} bytes`;
  byId("residue").textContent = String(answer.residue);
  byId("law").textContent = answer.residue === 0 ? "conserved" : "not conserved: the law asks for 0";
  byId("digest").textContent = answer.digest;
  byId("root").textContent = answer.root;
  offer(byId("save-flat"), `${answer.name}.witness.json`, answer.flat);
  offer(byId("save-tree"), `${answer.name}.tree.witness.json`, answer.tree);
  const speed = answer.length / 1e6 / answer.seconds;
  idle(`Read in ${answer.seconds.toFixed(2)} s, ${speed.toFixed(0)} MB/s for both witnesses.`);
  const none = answer.length === 0;
  byId("damage").toggleAttribute("inert", none);
  offsetInput.max = String(Math.max(0, answer.length - 1));
  offsetInput.value = String(Math.floor(answer.length / 2));
  drawScale(byId("scale"));
  showMap(Math.floor(answer.length / 2 / WINDOW_BYTES));
  if (waiting !== undefined) {
    ask({ kind: "verify", text: waiting });
    waiting = undefined;
  }
}

/**
 * @param {HTMLAnchorElement} link
 * @param {string} name
 * @param {string} text
 */
function offer(link, name, text) {
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([`${text}\n`], { type: "application/json" }));
  link.download = name;
}

/** @param {number} selected */
function showMap(selected) {
  if (shown === undefined) return;
  map.show(damage?.residues ?? shown.residues, damage?.windows ?? [], selected);
  const count = shown.residues.length;
  const cells = map.together === 1 ? "A cell" : `A cell is the first of ${map.together} windows, it`;
  byId("map-about").textContent =
    `${grouped(count)} windows of ${grouped(WINDOW_BYTES)} bytes. ${cells} has the colour of its ` +
    "residue; select one by a click or the arrow keys.";
  mapCanvas.setAttribute("aria-valuemax", String(Math.max(0, count - 1)));
  mapCanvas.hidden = count === 0;
  describeWindow(selected);
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
  const text =
    `Window ${grouped(window)}: bytes ${grouped(window * WINDOW_BYTES)} to ${grouped(end)}, ` +
    `residue ${now}${changed}`;
  byId("window").textContent = text;
  mapCanvas.setAttribute("aria-valuenow", String(window));
  mapCanvas.setAttribute("aria-valuetext", text);
}

/** @param {number} window */
function selectWindow(window) {
  describeWindow(window);
  if (shown !== undefined && damage === undefined) {
    offsetInput.value = String(Math.min(window * WINDOW_BYTES, shown.length - 1));
  }
}

byId("damage").addEventListener("submit", (event) => {
  event.preventDefault();
  if (shown === undefined) return;
  message.textContent = `Reading ${shown.name} with a flipped byte …`;
  ask({ kind: "flip", offset: offsetInput.valueAsNumber });
});
function restore() {
  damage = undefined;
  found.replaceChildren();
  delete found.dataset.windows;
  byId("restore").hidden = true;
}
byId("restore").addEventListener("click", () => {
  restore();
  showMap(Math.floor(offsetInput.valueAsNumber / WINDOW_BYTES));
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
  const list = answer.windows.map(grouped).join(", ");
  const before = shown.residues[window];
  const lines = [
    `Found: window ${list} is damaged (byte ${grouped(answer.offset)} was flipped).`,
    `Residue of the window: ${before}, now ${answer.residues[window]}.`,
    "SHA-256 of the file now: ",
  ];
  found.replaceChildren(...lines.map((line) => made("p", line)));
  found.lastElementChild?.append(made("code", answer.digest));
  found.className = "bad";
  found.dataset.windows = answer.windows.join(",");
  byId("restore").hidden = false;
  showMap(window);
}

/** @param {Verified} answer */
function showVerified({ algorithm, time, name, differences }) {
  const witness = `the ${algorithm} witness of ${time.slice(0, 19).replace("T", " ")} UTC`;
  if (differences === undefined) {
    message.textContent = `A witness is here: ${witness}. Now drop the file that it is of.`;
  } else if (differences.length === 0) {
    say(`${name} matches ${witness}.`, true);
  } else {
    say(`${name} does not match ${witness}: ${differences.join(" and ")} differ.`, false);
  }
}
