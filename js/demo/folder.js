// SPDX-License-Identifier: Apache-2.0
/** @file The files of a folder that was dropped or chosen, as far as a browser shows them. */

/** @import { Found } from "./messages.js" */

/** How many files and folders this page lists; the command line has no such bound. */
export const FOUND_MOST = 100_000;

/**
 * @typedef {object} Folder
 * @property {string} name
 * @property {Found[]} files
 */

const tooMany = () => new Error(`it has more than ${FOUND_MOST.toLocaleString("en")} files and folders`);

/**
 * All files below a folder that was dropped. What cannot be listed or opened is among them, with the
 * reason.
 * @param {FileSystemDirectoryEntry} top
 * @returns {Promise<Folder>}
 * @throws {Error} there are too many
 */
export async function walked(top) {
  /** @type {Found[]} */
  const files = [];
  /** @type {[string, FileSystemDirectoryEntry][]} */
  const folders = [["", top]];
  let count = 0;
  for (let next = folders.pop(); next !== undefined; next = folders.pop()) {
    const [path, folder] = next;
    try {
      for (const entry of await listed(folder)) {
        count += 1;
        if (count > FOUND_MOST) break;
        const inside = path === "" ? entry.name : `${path}/${entry.name}`;
        if (entry.isDirectory) folders.push([inside, /** @type {FileSystemDirectoryEntry} */ (entry)]);
        else files.push(await opened(inside, /** @type {FileSystemFileEntry} */ (entry)));
      }
    } catch (error) {
      files.push({ path, isFolder: true, error: `could not be listed: ${reason(error)}` });
    }
    if (count > FOUND_MOST) throw tooMany();
  }
  return { name: top.name, files };
}

/** @param {FileSystemDirectoryEntry} folder */
async function listed(folder) {
  const reader = folder.createReader();
  /** @type {FileSystemEntry[]} */
  const all = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    all.push(...some);
    if (some.length === 0 || all.length > FOUND_MOST) return all;
  }
}

/**
 * @param {string} path
 * @param {FileSystemFileEntry} entry
 * @returns {Promise<Found>}
 */
async function opened(path, entry) {
  try {
    return { path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) };
  } catch (error) {
    return { path, error: `could not be opened: ${reason(error)}` };
  }
}

/** @param {unknown} error */
const reason = (error) => (error instanceof Error || error instanceof DOMException ? error.message : String(error));

/**
 * The folder that was chosen in a field for folders.
 * @param {File[]} chosen its files, at least one
 * @returns {Folder}
 * @throws {Error} there are too many
 */
export function chosenFolder(chosen) {
  if (chosen.length > FOUND_MOST) throw tooMany();
  const parts = (/** @type {File} */ file) => file.webkitRelativePath.split("/");
  const files = chosen.map((file) => ({ path: parts(file).slice(1).join("/"), file }));
  return { name: parts(chosen[0])[0], files };
}
