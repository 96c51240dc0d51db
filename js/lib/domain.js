// SPDX-License-Identifier: Apache-2.0
/// <reference lib="esnext.disposable" preserve="true" />
/** @file Domains: a region of memory under the law, with a budget, committed once. */

import { bytesOf } from "./arguments.js";
import { MODULUS } from "./constants.js";
import { BudgetError, ConservationError, DomainMemoryError, StateError } from "./errors.js";
import { Handle, ModuleMemory, outPointer } from "./memory.js";
import { Region } from "./region.js";
import { residue } from "./residue.js";
import { integer } from "./values.js";
import { check, heap, lastError, made, wasm } from "./wasm.js";
import { witnessAt } from "./witness.js";

/** @import { Bytes } from "./arguments.js" */
/** @import { Witness } from "./witness.js" */

const SIZE_MAX = 2 ** 32 - 1; // of size_t in the module
const NAMES = /** @type {const} */ (["OPEN", "COMMITTED"]); // atlas_state_t

/**
 * A region of memory under the law, with a budget; OPEN, then, by a commit, COMMITTED.
 *
 * Close it, or let `using` do so, to free its memory.
 */
export class Domain extends Handle {
  /** @readonly The capacity, the most that can be attached. */
  bytes;
  /** @type {Bytes | undefined} */
  #attached;
  /** @type {ModuleMemory | undefined} for attached bytes outside the module: what it sees of them */
  #copy;
  #length = 0;
  #transactions = 0;

  /**
   * @param {object} options
   * @param {number} options.bytes the capacity, the most that can be attached; at least 1
   * @param {number} [options.budgetClass] the first value of the budget, in 0..95
   * @throws {DomainMemoryError} `bytes` is out of range, or there is no memory
   * @throws {BudgetError} `budgetClass` is not in 0..95
   * @throws {TypeError} either is not an integer
   */
  constructor({ bytes, budgetClass = 0 }) {
    if (integer(bytes, "bytes") < 1 || bytes > SIZE_MAX) {
      throw new DomainMemoryError(`bytes is ${bytes}, must be in 1..${SIZE_MAX}`);
    }
    const budget = amount(budgetClass, "budgetClass");
    super(made(wasm().atlas_domain_create(bytes, budget)), "atlas_domain_destroy");
    this.bytes = bytes;
  }

  /**
   * The state: "OPEN" or "COMMITTED".
   * @returns {"OPEN" | "COMMITTED"}
   * @throws {StateError} the domain is closed
   */
  get state() {
    check(wasm().atlas_domain_state(this.pointer, outPointer()));
    return NAMES[heap()[outPointer()]];
  }

  /**
   * The budget of the domain.
   * @returns {Budget}
   * @throws {StateError} the domain is closed
   */
  get budget() {
    return new Budget(() => this.pointer);
  }

  /**
   * What was attached.
   * @returns {Bytes | undefined}
   * @throws {StateError} the domain is closed
   */
  get attached() {
    return this.pointer === 0 ? undefined : this.#attached;
  }

  /**
   * The witness that the commit made, while the domain is OPEN undefined.
   * @returns {Witness | undefined}
   * @throws {StateError} the domain is closed
   */
  get witness() {
    const pointer = wasm().atlas_domain_witness(this.pointer);
    return pointer === 0 ? undefined : witnessAt(pointer);
  }

  /**
   * Puts bytes under the law. No copy is kept: each call judges their present state.
   *
   * Bytes outside the module's memory, less than 2 GiB, are copied into it for each judgement, which
   * takes as much memory again. The bytes of a {@link ModuleMemory} or a {@link Region}
   * are judged in place.
   * @param {Bytes} buf
   * @throws {DomainMemoryError} `buf` is empty or larger than the capacity, or there is no memory
   * @throws {StateError} bytes are attached already, or the domain is COMMITTED or closed
   * @throws {TypeError} `buf` has no bytes, or is a view of the module's memory: attach what has it
   */
  attach(buf) {
    const domain = this.pointer;
    const { length, buffer } = bytesOf(buf, "buf");
    const inPlace = buf instanceof ModuleMemory || buf instanceof Region;
    if (!inPlace && buffer === heap().buffer) {
      throw new TypeError(
        "buf is a view of the module's memory, must be the ModuleMemory or Region, which keeps it",
      );
    }
    if (length > this.bytes) {
      throw new DomainMemoryError(
        `len is ${length}, must be in 1..${this.bytes}, the capacity of the domain`,
      );
    }
    // Where it will be refused, without a copy; the address is then not looked at.
    const fits = length >= 1 && this.#attached === undefined;
    const copy = fits && !inPlace ? new ModuleMemory(length) : undefined;
    const base = (inPlace ? buf : copy)?.address ?? outPointer();
    if (wasm().atlas_domain_attach(domain, base, length) !== 0) {
      const error = lastError();
      copy?.close();
      throw error;
    }
    this.#attached = buf;
    this.#copy = copy;
    this.#length = length;
  }

  /** The attached bytes, checked to be there still. */
  #bytes() {
    if (this.pointer === 0 || this.#attached === undefined) {
      throw new StateError("the domain has no region, must have one attached");
    }
    const bytes = bytesOf(this.#attached, "the attached buffer");
    if (bytes.length !== this.#length) {
      throw new StateError(
        `the attached buffer has ${bytes.length} bytes now, must have ${this.#length} still`,
      );
    }
    return bytes;
  }

  /** Shows the module the attached bytes as they are now. */
  #show() {
    const bytes = this.#bytes();
    this.#copy?.bytes.set(bytes);
  }

  /**
   * OPEN: is the region conserved? COMMITTED: is it, and is it what the witness says?
   * @returns {boolean}
   * @throws {StateError} nothing is attached, or the domain is closed
   */
  verify() {
    this.#show();
    return Boolean(wasm().atlas_domain_verify(this.pointer));
  }

  /**
   * OPEN -> COMMITTED, once.
   * @returns {Witness} the witness of the region
   * @throws {ConservationError} the residue is not 0; the state is unchanged
   * @throws {StateError} nothing is attached, the domain is COMMITTED or closed, or a transaction
   *   is open
   */
  commit() {
    this.#show();
    if (this.#transactions > 0) {
      throw new StateError("a transaction is open, must be closed before a commit");
    }
    check(wasm().atlas_domain_commit(this.pointer));
    return witnessAt(wasm().atlas_domain_witness(this.pointer));
  }

  /**
   * Calls `body` for changes that must keep the law. Where it throws, or leaves bytes that are not
   * conserved, they are restored to what they were. Transactions nest.
   *
   * Of a Region, the balance is set at the end, and when an inner transaction begins. It
   * must be conserved before the first one: otherwise damage would be balanced away.
   * @template T
   * @param {() => T} body not asynchronous
   * @returns {T} what `body` returns
   * @throws {ConservationError} the bytes were not conserved after it, and are restored; or a Region
   *   was not before it
   * @throws {StateError} nothing is attached, or the domain is COMMITTED or closed
   * @throws {TypeError} `body` returned a promise; the bytes are restored
   */
  transaction(body) {
    this.#bytes();
    if (this.state !== "OPEN") throw new StateError("the domain is COMMITTED, must be OPEN");
    const attached = /** @type {Bytes} */ (this.#attached);
    if (attached instanceof Region) this.#requireBalance(attached);
    const before = this.#bytes().slice();
    const restore = () => bytesOf(attached, "the attached buffer").set(before);
    this.#transactions += 1;
    let result;
    try {
      result = body();
    } catch (error) {
      try {
        restore();
      } catch {
        // Bytes that are gone cannot be restored; why the body failed says more.
      }
      throw error;
    } finally {
      this.#transactions -= 1;
    }
    if (typeof (/** @type {any} */ (result)?.then) === "function") {
      restore();
      throw new TypeError("body returned a promise, must do its work before it returns");
    }
    if (attached instanceof Region) attached.balance();
    const left = residue(attached);
    if (left !== 0) {
      restore();
      throw new ConservationError(
        `residue of the ${this.#length} attached bytes is ${left} after the transaction, ` +
          `must be 0 (mod ${MODULUS}); they are restored`,
      );
    }
    return result;
  }

  /** @param {Region} region where a transaction begins */
  #requireBalance(region) {
    if (this.#transactions > 0) region.balance(); // what the outer one has written so far
    const left = residue(region);
    if (left !== 0) {
      throw new ConservationError(
        `residue of the ${this.#length} bytes of the region is ${left} before the transaction, ` +
          `must be 0 (mod ${MODULUS}); balance() makes it so, where the payload is known to be right`,
      );
    }
  }

  /** Frees its memory, never the attached bytes. Again, it does nothing. */
  close() {
    super.close();
    this.#copy?.close();
    this.#copy = this.#attached = undefined;
  }
}

/**
 * Refuses an amount that no budget can have.
 * @param {number} value
 * @param {string} name
 */
function amount(value, name) {
  if (integer(value, name) < 0 || value >= MODULUS) {
    throw new BudgetError(`${name} is ${value}, must be in 0..${MODULUS - 1}`);
  }
  return value;
}

/** The budget of a domain, an integer in 0..95; got from `Domain.budget`. */
export class Budget {
  #domain;

  /** @param {() => number} domain gives its address, or throws if it is closed */
  constructor(domain) {
    this.#domain = domain;
    domain();
  }

  /**
   * What is left, in 0..95.
   * @returns {number}
   * @throws {StateError} the domain is closed
   */
  get available() {
    check(wasm().atlas_budget_available(this.#domain(), outPointer()));
    return heap()[outPointer()];
  }

  /**
   * Takes `amt` from the budget.
   * @param {number} amt
   * @throws {BudgetError} `amt` is larger than what is left, or not in 0..95; nothing is taken
   * @throws {StateError} the domain is closed
   * @throws {TypeError} `amt` is not an integer
   */
  alloc(amt) {
    if (!wasm().atlas_budget_alloc(this.#domain(), amount(amt, "amt"))) throw lastError();
  }

  /**
   * Gives `amt` back: the budget becomes (budget + amt) mod 96.
   * @param {number} amt
   * @throws {BudgetError} `amt` is not in 0..95
   * @throws {StateError} the domain is closed
   * @throws {TypeError} `amt` is not an integer
   */
  release(amt) {
    if (!wasm().atlas_budget_release(this.#domain(), amount(amt, "amt"))) throw lastError();
  }

  /**
   * Takes `amt` until the lease is closed, best by `using lease = budget.lease(10)`.
   * @param {number} amt
   * @returns {Lease}
   * @throws {BudgetError} `amt` is larger than what is left, or not in 0..95; nothing is taken
   * @throws {StateError} the domain is closed
   * @throws {TypeError} `amt` is not an integer
   */
  lease(amt) {
    this.alloc(amt);
    return new Lease(this, amt);
  }
}

/** What `Budget.lease` gives: it gives back exactly what it took, once. */
export class Lease {
  #budget;
  #held = true;

  /**
   * @param {Budget} budget
   * @param {number} amt
   */
  constructor(budget, amt) {
    this.#budget = budget;
    /** @readonly What the lease took, in 0..95. */
    this.amt = amt;
  }

  /** Was it closed? */
  get closed() {
    return !this.#held;
  }

  /** Gives back what the lease took. Again, or where the domain is closed, it does nothing. */
  close() {
    if (!this.#held) return;
    this.#held = false;
    try {
      this.#budget.release(this.amt);
    } catch (error) {
      // The error of a closed domain must not mask the error of the body.
      if (!(error instanceof StateError)) throw error;
    }
  }

  /** Closes it, at the end of a block with `using`. */
  [Symbol.dispose]() {
    this.close();
  }
}
