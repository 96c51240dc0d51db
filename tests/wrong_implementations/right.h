/* SPDX-License-Identifier: Apache-2.0
 *
 * Included before every file of the runtime: its functions of the contract get the prefix right_,
 * and faulty.c exports functions of the contract's names that go wrong on the way to these.
 */
#define atlas_domain_create right_domain_create
#define atlas_domain_attach right_domain_attach
#define atlas_domain_verify right_domain_verify
#define atlas_domain_commit right_domain_commit
#define atlas_domain_destroy right_domain_destroy
#define atlas_budget_alloc right_budget_alloc
#define atlas_budget_release right_budget_release
#define atlas_witness_generate right_witness_generate
#define atlas_witness_verify right_witness_verify
#define atlas_witness_destroy right_witness_destroy
#define atlas_conserved_delta right_conserved_delta
#define atlas_get_last_error right_get_last_error
