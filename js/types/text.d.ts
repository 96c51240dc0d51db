/**
 * The text with a backslash as `\\`, and what cannot be printed as in Python's string literals, as
 * the command line shows names.
 * @param {string} text
 * @returns {string}
 */
export function printable(text: string): string;
/**
 * The text with `_` for each such character, for the name of a file.
 * @param {string} text
 * @returns {string}
 */
export function plainName(text: string): string;
