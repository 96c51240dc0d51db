// SPDX-License-Identifier: Apache-2.0
/** @file The page: takes files, gives them to the worker, shows what it found. */

import { AtlasError, WINDOW_BYTES, witnessFromJson } from "../lib/index.js";
import { plainName } from "../lib/text.js";
import { chosenFolder, walked } from "./folder.js";
import { isManifest } from "./manifest.js";
import { drawScale, WindowMap } from "./map.js";
import { showFolder } from "./verified.js";
import { byId, counted, fileName, grouped, isolated, joined, made, ROWS_MOST } from "./words.js";

/** @import { Folder } from "./folder.js" */
/** @import { Answer, Checked, Compared, Flipped, Job, Start, Tree } from "./messages.js" */
/** @import { Verified } from "./messages.js" */
/** @typedef {ReturnType<typeof witnessFromJson>} Witness of any algorithm */

/**
 * @typedef {object} Parts what belongs together
 * @property {Witness} [witness]
 * @property {File} [leaves]
 * @property {File} [manifest]
 * @property {Folder} [folder]
 * @property {Tree} [tree] a tree witness of a manifest, and its leaves
 */

const WITNESS_MOST = 4096; // a witness is 250 bytes; what is larger is data
const TAIL_BYTES = 4096; // what ends a manifest has 400
const TREE_ALGORITHM = "sha256-merkle-12288";
const RANGES_MOST = 5;
const LOADING = "Loading …";
const NO_START = "The page could not start. It needs WebAssembly and module workers.";

const message = byId("message");
const trouble = byId("trouble");
const verdict = byId("verdict");
const detail = byId("detail");
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
/** @type {Compared | undefined} */
let located;
/** @type {Parts} what came without the file or folder that it is of */
let waiting = {};
/** @type {Parts} what came with the file that is being read */
let expected = {};
/** @type {Parts} what the shown file or folder was held against last */
let judged = {};
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
    expected = {};
    refuse(`That did not work: ${text}`);
  },
  checked: showChecked,
  flipped: showFlipped,
  compared: showCompared,
  verified: showVerified,
  sample({ files }) {
    idle("");
    taken = taken.then(() => take({ files, folders: [] }));
  },
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
  detail.textContent = "";
  delete detail.dataset.windows;
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

/** @typedef {{ files: File[], folders: Folder[], problems?: (string | Node)[][] }} Came */

/** @param {Came} came */
async function take({ files, folders, problems = [] }) {
  clear();
  /** @type {Witness[]} */
  const witnesses = [];
  /** @type {File[]} */
  const manifests = [];
  /** @type {File[]} */
  const sidecars = [];
  /** @type {File[]} */
  const data = [];
  for (const file of files) {
    try {
      const text = await file.slice(0, WITNESS_MOST).text();
      if (file.size <= WITNESS_MOST && isWitness(text)) witnesses.push(witnessFromJson(text));
      else if (isManifest(text, await file.slice(-TAIL_BYTES).text())) manifests.push(file);
      else (file.name.endsWith(".leaves") ? sidecars : data).push(file);
    } catch (error) {
      const isRead = error instanceof AtlasError;
      const why = isRead ? [" is no witness: ", isolated(error.message)] : [" cannot be read: a folder, or gone"];
      problems.push([fileName(file.name), ...why, "."]);
    }
  }
  if (data.length > 0 && manifests.length === 0) {
    const why = " cannot be read beside a file: a folder is verified with its manifest.";
    problems.push(...folders.splice(0).map(({ name }) => [fileName(name), why]));
  }
  const isAlone = data.length + folders.length === 0;
  const hasOwner =
    witnesses.length + manifests.length > 0 ||
    (waiting.witness ?? waiting.manifest ?? (isAlone ? (judged.witness ?? judged.manifest) : undefined)) !== undefined;
  if (!hasOwner) data.push(...sidecars.splice(0)); // leaves of nothing that is here: a file as any other
  const came = [
    counted(witnesses.length, "witness", "witnesses"),
    counted(manifests.length, "manifest"),
    counted(sidecars.length, "sidecar of leaves", "sidecars of leaves"),
    counted(folders.length, "folder"),
    counted(data.length, "file"),
  ].filter((text) => !text.startsWith("0 "));
  const tooMany = [witnesses, manifests, sidecars, folders, data].some((list) => list.length > 1);
  const hasFolder = manifests.length + folders.length > 0;
  const unfit = hasFolder && witnesses.length + data.length > 0;
  if (tooMany) problems.push([`${joined(came)} came, must be at most one of each.`]);
  else if (unfit) {
    problems.push([`${joined(came)} came: a witness is of a file, and a manifest of a folder.`]);
  }
  if (broken !== undefined) problems.unshift([broken]);
  if (problems.length > 0) refuse(...problems.flatMap((parts, i) => (i > 0 ? [" ", ...parts] : parts)));
  if (tooMany || unfit || broken !== undefined) return;
  begin({ witness: witnesses[0], leaves: sidecars[0], manifest: manifests[0], folder: folders[0] }, data[0]);
}

/**
 * Begins what can be done with what came; the rest waits for what belongs to it.
 * @param {Parts} parts
 * @param {File | undefined} file
 */
function begin(parts, file) {
  const { witness, leaves, manifest, folder } = parts;
  if (file !== undefined) {
    byId("folder").hidden = true;
    const isWaiting = waiting.witness !== undefined;
    read(file, witness === undefined && isWaiting ? { ...waiting, leaves: leaves ?? waiting.leaves } : parts);
  } else if (manifest !== undefined || folder !== undefined) {
    const both = {
      manifest: manifest ?? waiting.manifest,
      folder: folder ?? waiting.folder,
      leaves: leaves ?? (manifest === undefined ? waiting.leaves : undefined),
    };
    waiting = both;
    if (both.manifest !== undefined && both.folder !== undefined) verify(both);
    else if (both.folder === undefined) say("A manifest is here. Now drop the folder that it is of.");
    else {
      const { name, files } = both.folder;
      say("The folder ", fileName(name), ` is here, with ${counted(files.length, "file")}. Now drop its manifest.`);
    }
  } else if (witness !== undefined) {
    if (shown !== undefined) judge(parts);
    else if (busy) expected = parts;
    else {
      waiting = parts;
      say(`A witness is here: ${named(witness)}. Now drop the file that it is of.`);
    }
  } else if (leaves !== undefined) {
    if (waiting.witness !== undefined || waiting.manifest !== undefined) {
      waiting.leaves = leaves;
      say("The leaves are here too. Now drop what they are of.");
    } else if (judged.manifest !== undefined) verify({ ...judged, leaves });
    else if (judged.witness !== undefined) judge({ ...judged, leaves });
  }
}

/** @param {(string | Node)[]} parts */
const say = (...parts) => message.replaceChildren(...parts);

/**
 * @param {File} file
 * @param {Parts} against
 */
function read(file, against) {
  expected = against;
  waiting = judged = {};
  shown = undefined;
  byId("result").hidden = true;
  say("Reading ", fileName(file.name), " …");
  ask({ kind: "check", file });
}

/** @param {Parts} parts a manifest and a folder */
function verify(parts) {
  const { manifest, folder, leaves } = parts;
  if (manifest === undefined || folder === undefined) return;
  waiting = expected = {};
  judged = parts;
  shown = undefined;
  byId("result").hidden = byId("folder").hidden = true;
  say("Reading the folder ", fileName(folder.name), " …");
  ask({ kind: "verify", manifest, leaves, files: folder.files });
}

let taken = Promise.resolve();
/** @param {DataTransfer} transfer what was dropped */
function takeDropped({ items, files }) {
  // Entries are there while the event lasts, and only with them a folder is known as one.
  const entries = [...items].filter(({ kind }) => kind === "file").map((item) => item.webkitGetAsEntry?.() ?? null);
  const plain = [...files].filter((_, i) => !entries[i]?.isDirectory);
  const tops = entries.filter((entry) => entry?.isDirectory);
  taken = taken.then(async () => {
    /** @type {Folder[]} */
    const folders = [];
    const problems = [];
    for (const top of tops) {
      if (top === null) continue;
      say("Listing the folder ", fileName(top.name), " …");
      try {
        folders.push(await walked(/** @type {FileSystemDirectoryEntry} */ (top)));
      } catch (error) {
        problems.push([fileName(top.name), ` cannot be taken: ${error instanceof Error ? error.message : error}.`]);
      }
      say("");
    }
    await take({ files: plain, folders, problems });
  });
}

/** @param {Witness} witness */
function named({ algorithm, timestamp }) {
  return `the ${algorithm} witness of ${timestamp.slice(0, 19).replace("T", " ")} UTC`;
}

/** @param {Parts} parts the witness of the shown file, or not */
function judge(parts) {
  const { witness, leaves } = parts;
  if (shown === undefined || witness === undefined) return;
  judged = parts;
  const made = [shown.flat, shown.tree].map((text) => witnessFromJson(text));
  const same = made.find(({ algorithm }) => algorithm === witness.algorithm) ?? made[0];
  const differences = witness.differences(same);
  const good = differences.length === 0;
  const differ = `${joined(differences)} ${differences.length === 1 ? "differs" : "differ"}`;
  const text = good ? ` matches ${named(witness)}.` : ` does not match ${named(witness)}: ${differ}.`;
  conclude(good ? "good" : "bad", fileName(shown.name), text);
  if (good) return;
  if (witness.algorithm !== TREE_ALGORITHM) {
    detail.textContent = "Which windows differ, only a tree witness with its leaves can say.";
  } else if (leaves === undefined) {
    detail.textContent = "Drop its leaves (.leaves) too, to see which windows differ.";
  } else {
    compare({ length: witness.length, residue: witness.residue, root: witness.hexdigest(), leaves });
  }
}

/** @param {Tree} tree what the shown file had */
function compare(tree) {
  say("Comparing the windows …");
  ask({ kind: "compare", tree });
}

/**
 * @param {"good" | "bad" | "unsure"} kind
 * @param {(string | Node)[]} parts
 */
function conclude(kind, ...parts) {
  verdict.replaceChildren(...parts);
  detail.textContent = "";
  verdict.className = kind;
  verdict.hidden = false;
}

const drop = byId("drop");
choose.addEventListener("change", () => {
  const files = [...(choose.files ?? [])];
  taken = taken.then(() => take({ files, folders: [] }));
  choose.value = ""; // so that the same file can be chosen again
});
/** @type {HTMLInputElement} */
const chooseFolder = byId("choose-folder");
chooseFolder.addEventListener("change", () => {
  const files = [...(chooseFolder.files ?? [])];
  chooseFolder.value = "";
  taken = taken.then(() => {
    if (files.length === 0) return refuse("The folder has no file that a browser shows.");
    try {
      return take({ files: [], folders: [chosenFolder(files)] });
    } catch (error) {
      refuse(`The folder cannot be taken: ${error instanceof Error ? error.message : error}.`);
    }
  });
});
for (const [id, isDamaged] of /** @type {const} */ ([["sample", false], ["damaged-sample", true]])) {
  byId(id).addEventListener("click", () => {
    clear();
    if (broken !== undefined) return refuse(broken);
    say("Making a sample …");
    ask({ kind: "sample", isDamaged });
  });
}
for (const [id, name] of [["digest", "SHA-256"], ["root", "root"]]) {
  byId(`copy-${id}`).addEventListener("click", () => copy(byId(id), name));
}

/**
 * @param {HTMLElement} element
 * @param {string} name
 */
async function copy(element, name) {
  try {
    await navigator.clipboard.writeText(element.textContent ?? "");
    say(`Copied the ${name}.`);
  } catch {
    // No clipboard where the page does not come from this machine or by https, or it is forbidden.
    getSelection()?.selectAllChildren(element);
    say(`The ${name} is selected: copy it with the keys of your system.`);
  }
}
// Everywhere on the page: a file beside the field would replace the page.
addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
addEventListener("dragleave", () => drop.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer !== null) takeDropped(event.dataTransfer);
});
byId("stop").addEventListener("click", () => {
  expected = {};
  ask({ kind: "stop" });
  message.textContent = "Stopped.";
});

// --- What was found ---

/** @param {Checked} answer */
function showChecked(answer) {
  shown = answer;
  located = undefined;
  restore();
  byId("result").hidden = false;
  byId("name").replaceChildren(fileName(answer.name));
  byId("length").textContent = counted(answer.length, "byte");
  byId("residue").textContent = String(answer.residue);
  byId("law").textContent = answer.residue === 0 ? "conserved" : "not conserved: the law asks for 0";
  byId("digest").textContent = answer.digest;
  byId("root").textContent = answer.root;
  const tree = `${answer.name}.tree.witness.json`;
  offer(byId("save-flat"), `${answer.name}.witness.json`, `${answer.flat}\n`);
  offer(byId("save-tree"), tree, `${answer.tree}\n`);
  offer(byId("save-leaves"), `${tree}.atlas.leaves`, answer.leaves);
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
  const against = expected;
  expected = {};
  if (against.tree !== undefined) {
    conclude("bad", fileName(answer.name), " does not match its manifest.");
    compare(against.tree);
  }
  else judge(against);
}

/**
 * @param {HTMLAnchorElement} link
 * @param {string} name
 * @param {string | Uint8Array<ArrayBuffer>} content
 */
function offer(link, name, content) {
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  const type = typeof content === "string" ? "application/json" : "application/octet-stream";
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = plainName(name);
}

/** @param {number} selected */
function showMap(selected) {
  if (shown === undefined) return;
  const count = shown.residues.length;
  mapCanvas.setAttribute("aria-valuemax", String(Math.max(0, count - 1)));
  mapCanvas.hidden = byId("legend").hidden = count === 0;
  const windows = (damage ?? located)?.windows ?? [];
  byId("key-damaged").hidden = windows.length === 0;
  byId("legend").classList.toggle("pale", windows.length > 0);
  map.show(damage?.residues ?? shown.residues, windows, selected);
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
  const flipped = damage?.windows.includes(window) ? `, damaged: residue was ${before}` : "";
  const changed = damage === undefined && located?.windows.includes(window) ? ", damaged" : flipped;
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

/** @param {Compared} answer */
function showCompared(answer) {
  if (shown === undefined) return;
  located = answer;
  restore();
  idle("Compared with the leaves.");
  const { windows, missing, total } = answer;
  const count = windows.length + missing;
  const parts = [`${counted(count, "window")} of ${grouped(total)} ${count === 1 ? "differs" : "differ"}`];
  const ranges = rangesOf(windows);
  const texts = ranges.slice(0, RANGES_MOST).map(([first, last]) => {
    const end = Math.min((last + 1) * WINDOW_BYTES, shown?.length ?? 0) - 1;
    const which = first === last ? `window ${grouped(first)}` : `windows ${grouped(first)} to ${grouped(last)}`;
    return `${which} (bytes ${grouped(first * WINDOW_BYTES)} to ${grouped(end)})`;
  });
  const more = ranges.length - texts.length;
  if (more > 0) texts.push(counted(more, "more range"));
  if (missing > 0) texts.push(`${grouped(missing)} past the end of the file`);
  detail.textContent = `${[...parts, ...(texts.length > 0 ? [joined(texts)] : [])].join(": ")}.`;
  detail.dataset.windows = windows.slice(0, ROWS_MOST).join(",");
  showMap(windows[0] ?? 0);
}

/**
 * The first and last of each run of neighbours.
 * @param {number[]} windows in order
 */
function rangesOf(windows) {
  /** @type {[number, number][]} */
  const ranges = [];
  for (const window of windows) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === window - 1) last[1] = window;
    else ranges.push([window, window]);
  }
  return ranges;
}

/** @param {Verified} answer */
function showVerified(answer) {
  const { manifest, folder, leaves } = judged;
  if (folder === undefined) return;
  idle(`Read ${counted(answer.bytes, "byte")} of the folder.`);
  const found = showFolder(folder.name, answer, ({ file, tree }) => {
    clear();
    read(file, { tree });
    judged = { manifest, folder, leaves };
  });
  conclude(...found);
}
