// SPDX-License-Identifier: Apache-2.0
/** @file What was found in a folder, as the page shows it. */

import { byId, counted, fileName, grouped, isolated, made, ROWS_MOST } from "./words.js";

/** @import { Outcome, Verified } from "./messages.js" */
/** @typedef {(damage: NonNullable<Outcome["damage"]>) => void} ShowWindows of a changed file */

/** @type {{ [K in Outcome["kind"]]: "good" | "bad" | "unsure" }} */
const MEANS = {
  same: "good",
  changed: "bad",
  missing: "bad",
  added: "bad",
  moved: "bad",
  unreadable: "unsure",
  undecided: "unsure",
};

/**
 * Shows what was found in a folder; the verdict, in kind and words.
 * @param {string} folder its name
 * @param {Verified} answer
 * @param {ShowWindows} showWindows
 * @returns {["good" | "bad" | "unsure", ...(string | Node)[]]}
 */
export function showFolder(folder, { outcomes, same, root, notes }, showWindows) {
  byId("folder").hidden = false;
  byId("folder-name").replaceChildren("Folder ", fileName(folder));
  byId("folder-root").textContent = root;
  const counts = Object.keys(MEANS).map((kind) => {
    const count = kind === "same" ? same.length : outcomes.filter((outcome) => outcome.kind === kind).length;
    return kind === "same" ? `${counted(count, "file matches", "files match")}` : `${grouped(count)} ${kind}`;
  });
  byId("folder-counts").textContent = `${counts.join(", ")}.`;
  byId("folder-notes").replaceChildren(...notes.map((note) => made("li", note)));
  const rows = outcomes.slice(0, ROWS_MOST).map((outcome) => rowOf(outcome, showWindows));
  byId("differences").hidden = rows.length === 0;
  byId("differences").querySelector("tbody")?.replaceChildren(...rows);
  const more = outcomes.length - rows.length;
  byId("differences-more").textContent = more > 0 ? `And ${grouped(more)} more, which the command line lists.` : "";
  byId("same").hidden = same.length === 0;
  const [summary, list] = byId("same").children;
  const isAll = same.length <= ROWS_MOST;
  summary.textContent = `${counted(same.length, "file that matches", "files that match")}${isAll ? "" : `, the first ${grouped(ROWS_MOST)}`}`;
  list.replaceChildren(
    ...same.slice(0, ROWS_MOST).map((path) => {
      const item = made("li", "");
      item.append(isolated(path));
      return item;
    }),
  );
  const bad = outcomes.filter(({ kind }) => MEANS[kind] === "bad").length;
  const unsure = outcomes.length - bad;
  const name = fileName(folder);
  if (bad > 0) return ["bad", name, " does not match its manifest."];
  if (unsure === 0) return ["good", name, ` matches its manifest: ${counted(same.length, "file")}.`];
  const rest = counted(same.length, "file matches", "files match");
  return ["unsure", name, `: no verdict, because ${counted(unsure, "path")} could not be judged; ${rest}.`];
}

/**
 * @param {Outcome} outcome
 * @param {ShowWindows} showWindows
 */
function rowOf({ kind, path, why, to, damage: hurt }, showWindows) {
  const row = made("tr", "");
  const [where, what] = [made("td", ""), made("td", "")];
  where.append(isolated(path));
  what.append(Object.assign(made("b", kind), { className: `kind-${MEANS[kind]}` }), why);
  if (to !== undefined) what.append(isolated(to));
  if (hurt !== undefined) {
    const show = made("button", "Show windows");
    show.className = "quiet";
    show.setAttribute("type", "button");
    show.setAttribute("aria-label", `Show the windows of ${path}`);
    show.addEventListener("click", () => showWindows(hurt));
    what.append(show);
  }
  row.append(where, what);
  return row;
}
