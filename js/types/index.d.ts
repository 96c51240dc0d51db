export * from "./constants.js";
export { RUN_BYTES } from "./source.js";
export { Budget, Domain, Lease } from "./domain.js";
export { AtlasError, BudgetError, ConservationError, DomainMemoryError, ErrorCode, StateError, WitnessError } from "./errors.js";
export { conservedCopy, conservedFill, delta, fixup, isConserved, Residue, residue, windowResidues } from "./residue.js";
export { TreeHash, TreeWitness, witnessFromJson } from "./tree.js";
export { kernelSet, kernelSets, load, Region, selectKernelSet, simdSupported, version } from "./wasm.js";
export { Witness, WitnessStream } from "./witness.js";
