// SPDX-License-Identifier: Apache-2.0
/** @file The kernel sets of the module. */

import { StateError } from "./errors.js";
import { check, textAt, wasm } from "./wasm.js";

/**
 * Name of the kernel set in use, for example "wasm32+simd128".
 * @returns {string}
 */
export function kernelSet() {
  return textAt(wasm().atlas_kernel_set());
}

/**
 * Names of the kernel sets in the module, best first.
 * @returns {string[]}
 */
export function kernelSets() {
  const names = [];
  for (let pointer; (pointer = wasm().atlas_kernel_set_name(names.length)) !== 0; ) {
    names.push(textAt(pointer));
  }
  return names;
}

/**
 * Uses another kernel set from now on: the same results at another speed.
 * @param {string} name
 * @throws {StateError} it is not in the module
 */
export function selectKernelSet(name) {
  const index = kernelSets().indexOf(name);
  if (index < 0) {
    throw new StateError(`kernel set is '${name}', must be one of ${kernelSets().join(", ")}`);
  }
  check(wasm().atlas_kernel_set_select(wasm().atlas_kernel_set_name(index)));
}
