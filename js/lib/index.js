// SPDX-License-Identifier: Apache-2.0
/**
 * @file Conservation-checked memory: residues, witnesses, domains and budgets over any bytes.
 *
 *     import * as atlas from "atlas12288";
 *     await atlas.load();
 *     const witness = atlas.Witness.generate(bytes);
 *     witness.verify(bytes);                            // true
 *
 * The residue of bytes is their sum mod 96; they are conserved when that is 0. The residue is a
 * law, not a security check: what proves integrity is the digest of a Witness.
 */

/** @typedef {import("./arguments.js").Bytes} Bytes */
/** @typedef {import("./wasm.js").Source} Source */
/** @typedef {import("./source.js").Data} Data */
/** @typedef {import("./source.js").ReadOptions} ReadOptions */
/** @typedef {import("./witness.js").WitnessRecord} WitnessRecord */

export * from "./constants.js";
export { Budget, Domain, Lease } from "./domain.js";
export {
  AtlasError,
  BudgetError,
  ConservationError,
  DomainMemoryError,
  ErrorCode,
  StateError,
  WitnessError,
} from "./errors.js";
export {
  conservedCopy,
  conservedFill,
  delta,
  fixup,
  isConserved,
  Residue,
  residue,
  windowResidues,
} from "./residue.js";
export { kernelSet, kernelSets, selectKernelSet } from "./kernel-sets.js";
export { ModuleMemory } from "./memory.js";
export { Region } from "./region.js";
export { RUN_BYTES } from "./source.js";
export { TreeHash, TreeWitness, witnessFromJson } from "./tree.js";
export { load, simdSupported, version } from "./wasm.js";
export { Witness, WitnessStream } from "./witness.js";
