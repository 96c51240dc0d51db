// SPDX-License-Identifier: Apache-2.0
/** @file The errors of the library, one class for each error code of the contract. */

/** The error codes of the contract (atlas_error_t). */
export const ErrorCode = Object.freeze({
  OK: 0,
  CONSERVATION: 1,
  WITNESS: 2,
  BUDGET: 3,
  MEMORY: 4,
  STATE: 5,
});

/** What all errors of atlas12288 are. */
export class AtlasError extends Error {
  /**
   * @param {string} message
   * @param {number} code of the contract, one of ErrorCode
   */
  constructor(message, code) {
    super(message);
    this.name = new.target.name;
    /** @readonly The contract's code. */
    this.code = code;
  }
}

/** Bytes that must be conserved are not: their residue is not 0. */
export class ConservationError extends AtlasError {
  /** @param {string} message */
  constructor(message) {
    super(message, ErrorCode.CONSERVATION);
  }
}

/** What should be a witness is not one. */
export class WitnessError extends AtlasError {
  /** @param {string} message */
  constructor(message) {
    super(message, ErrorCode.WITNESS);
  }
}

/** An amount is larger than what is left of the budget, or not in 0..95. */
export class BudgetError extends AtlasError {
  /** @param {string} message */
  constructor(message) {
    super(message, ErrorCode.BUDGET);
  }
}

/** A region that cannot be: empty, larger than the domain, overlapping; or no memory is left. */
export class DomainMemoryError extends AtlasError {
  /** @param {string} message */
  constructor(message) {
    super(message, ErrorCode.MEMORY);
  }
}

/** The call does not fit the state: attached already, COMMITTED, closed, not loaded. */
export class StateError extends AtlasError {
  /** @param {string} message */
  constructor(message) {
    super(message, ErrorCode.STATE);
  }
}

const CLASSES = [ConservationError, WitnessError, BudgetError, DomainMemoryError, StateError];

/**
 * The error of a code, of its class.
 * @param {number} code
 * @param {string} message
 * @returns {AtlasError}
 */
export function errorOf(code, message) {
  return new CLASSES[code - 1](message);
}
