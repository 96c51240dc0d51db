// SPDX-License-Identifier: Apache-2.0
/** @file The numbers of the model, as atlas/conservation.h writes them; a test compares the two. */

export const API_VERSION = 1;
/** The law: the sum of the bytes mod 96 is 0. */
export const MODULUS = 96;
/** A page. */
export const PAGE_BYTES = 256;
/** A window: 48 pages. */
export const WINDOW_BYTES = 12288;
/** SHA-256. */
export const DIGEST_BYTES = 32;
/** The byte form of a witness. */
export const WITNESS_BYTES = 56;
