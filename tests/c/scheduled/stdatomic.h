/* SPDX-License-Identifier: Apache-2.0
 *
 * In place of the compiler's <stdatomic.h>, for interleavings.c: before each access another thread
 * may have its turn. With TORN_EXCHANGE it may also have it in the midst of an exchange.
 */
#ifndef SCHEDULED_STDATOMIC_H
#define SCHEDULED_STDATOMIC_H

void scheduled_turn(const volatile void* object);

#ifdef TORN_EXCHANGE
#define SCHEDULED_MIDST(object) scheduled_turn(object)
#else
#define SCHEDULED_MIDST(object) ((void)0)
#endif

#define _Atomic(type) type
#define atomic_load_explicit(object, order) (scheduled_turn(object), *(object))
#define atomic_store_explicit(object, desired, order)                                              \
    (scheduled_turn(object), (void)(*(object) = (desired)))
#define atomic_compare_exchange_strong_explicit(object, expected, desired, success, failure)       \
    (scheduled_turn(object), *(object) == *(expected)                                              \
                                 ? (SCHEDULED_MIDST(object), *(object) = (desired), true)          \
                                 : (*(expected) = *(object), false))

#endif
