/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A region of memory under the law, with a budget; OPEN, then, by a commit, COMMITTED.
 *
 * Close it, or let `using` do so, to free its memory.
 */
export class Domain extends Handle {
    /**
     * @param {object} options
     * @param {number} options.bytes the capacity, the most that can be attached; at least 1
     * @param {number} [options.budgetClass] the first value of the budget, in 0..95
     * @throws {DomainMemoryError} `bytes` is out of range, or there is no memory
     * @throws {BudgetError} `budgetClass` is not in 0..95
     * @throws {TypeError} either is not an integer
     */
    constructor({ bytes, budgetClass }: {
        bytes: number;
        budgetClass?: number | undefined;
    });
    /** @readonly The capacity, the most that can be attached. */
    readonly bytes: number;
    /**
     * The state: "OPEN" or "COMMITTED".
     * @returns {"OPEN" | "COMMITTED"}
     * @throws {StateError} the domain is closed
     */
    get state(): "OPEN" | "COMMITTED";
    /**
     * The budget of the domain.
     * @returns {Budget}
     * @throws {StateError} the domain is closed
     */
    get budget(): Budget;
    /**
     * What was attached.
     * @returns {Bytes | undefined}
     * @throws {StateError} the domain is closed
     */
    get attached(): Bytes | undefined;
    /**
     * The witness that the commit made, while the domain is OPEN undefined.
     * @returns {Witness | undefined}
     * @throws {StateError} the domain is closed
     */
    get witness(): Witness | undefined;
    /**
     * Puts bytes under the law. They are not copied for good: each call judges them as they are then.
     *
     * Bytes outside the module's memory, less than 2 GiB, are copied into it for each judgement, which
     * takes as much memory again; those of a {@link Region} are judged where they are.
     * @param {Bytes} buf
     * @throws {DomainMemoryError} `buf` is empty or larger than the capacity, or there is no memory
     * @throws {StateError} bytes are attached already, or the domain is COMMITTED or closed
     * @throws {TypeError} `buf` has no bytes, or is a view of a Region: attach the Region itself
     */
    attach(buf: Bytes): void;
    /**
     * OPEN: is the region conserved? COMMITTED: is it, and is it what the witness says?
     * @returns {boolean}
     * @throws {StateError} nothing is attached, or the domain is closed
     */
    verify(): boolean;
    /**
     * OPEN -> COMMITTED, once.
     * @returns {Witness} the witness of the region
     * @throws {ConservationError} the residue is not 0; the state is unchanged
     * @throws {StateError} nothing is attached, the domain is COMMITTED or closed, or a transaction
     *   is open
     */
    commit(): Witness;
    /**
     * Calls `body` for changes that must keep the law. Where it throws, or leaves bytes that are not
     * conserved, they are restored to what they were. Transactions nest.
     * @template T
     * @param {() => T} body not asynchronous
     * @returns {T} what `body` returns
     * @throws {ConservationError} the bytes were not conserved after it; they are restored
     * @throws {StateError} nothing is attached, or the domain is COMMITTED or closed
     * @throws {TypeError} `body` returned a promise; the bytes are restored
     */
    transaction<T>(body: () => T): T;
    #private;
}
/** The budget of a domain, an integer in 0..95; got from `Domain.budget`. */
export class Budget {
    /** @param {() => number} domain gives its address, or throws where it is closed */
    constructor(domain: () => number);
    /**
     * What is left, in 0..95.
     * @returns {number}
     * @throws {StateError} the domain is closed
     */
    get available(): number;
    /**
     * Takes `amt` from the budget.
     * @param {number} amt
     * @throws {BudgetError} `amt` is larger than what is left, or not in 0..95; nothing is taken
     * @throws {StateError} the domain is closed
     * @throws {TypeError} `amt` is not an integer
     */
    alloc(amt: number): void;
    /**
     * Gives `amt` back: the budget becomes (budget + amt) mod 96.
     * @param {number} amt
     * @throws {BudgetError} `amt` is not in 0..95
     * @throws {StateError} the domain is closed
     * @throws {TypeError} `amt` is not an integer
     */
    release(amt: number): void;
    /**
     * Takes `amt` until the lease is closed, best by `using lease = budget.lease(10)`.
     * @param {number} amt
     * @returns {Lease}
     * @throws {BudgetError} `amt` is larger than what is left, or not in 0..95; nothing is taken
     * @throws {StateError} the domain is closed
     * @throws {TypeError} `amt` is not an integer
     */
    lease(amt: number): Lease;
    #private;
}
/** What `Budget.lease` gives: it gives back exactly what it took, once. */
export class Lease {
    /**
     * @param {Budget} budget
     * @param {number} amt
     */
    constructor(budget: Budget, amt: number);
    /** @readonly What the lease took, in 0..95. */
    readonly amt: number;
    /** Was it closed? */
    get closed(): boolean;
    /** Gives back what the lease took. Again, or where the domain is closed, it does nothing. */
    close(): void;
    /** Closes it, at the end of a block with `using`. */
    [Symbol.dispose](): void;
    #private;
}
import { Handle } from "./wasm.js";
import type { Bytes } from "./wasm.js";
import type { Witness } from "./witness.js";
