/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel set in use, and the only CPU detection. What a set needs is said by its row in
 * kernelgen/targets.py; each need is a flag ATLAS_CPU_* here.
 */
#include "internal.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

typedef struct {
    const atlas_kernels_t* kernels;
    uint32_t needs; /* to run */
    uint32_t suits; /* to be chosen by itself */
} kernel_set_t;

#define ROW(table, needs, suits) {&table, needs, suits},
static const kernel_set_t SETS[] = {ATLAS_KERNEL_SETS(ROW)};
#undef ROW
#define SET_COUNT (sizeof SETS / sizeof SETS[0])

/* Any CPU runs the portable set, so a call from a constructor that runs before ours is safe.
 * The kernels in LLVM IR read this pointer too, as a relaxed atomic. */
ATLAS_ATOMIC(const atlas_kernels_t*) ATLAS_KERNELS_ACTIVE = &atlas_kernels_portable;

#if defined(__x86_64__)
/* The vector registers that the system saves, as bits of XCR0. */
static uint32_t saved_registers(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return low;
}

/* The levels are those of the x86-64 psABI. From cpuid itself: __builtin_cpu_supports is false for
 * everything where the compiler's library does not fill its table, as Zig's does not. */
static uint32_t cpu_features(void)
{
    unsigned eax, ebx, ecx, edx;
    uint32_t vendor = 0, leaf_1_ecx = 0, leaf_7_ebx = 0, leaf_7_ecx = 0, extended_ecx = 0;
    if (__get_cpuid(0, &eax, &ebx, &ecx, &edx))
        vendor = ebx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        leaf_1_ecx = ecx;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        leaf_7_ebx = ebx, leaf_7_ecx = ecx;
    if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx))
        extended_ecx = ecx;
    /* Of leaf 0, ebx: the first letters of "AuthenticAMD". */
    const uint32_t amd = 0x68747541;
    /* Of leaf 1, ecx: */
    const uint32_t ssse3 = 1U << 9, fma = 1U << 12, sse4_1 = 1U << 19, sse4_2 = 1U << 20;
    const uint32_t movbe = 1U << 22, popcnt = 1U << 23, osxsave = 1U << 27, avx = 1U << 28;
    const uint32_t f16c = 1U << 29;
    /* Of leaf 7, ebx: */
    const uint32_t bmi = 1U << 3, avx2 = 1U << 5, bmi2 = 1U << 8, avx512f = 1U << 16;
    const uint32_t avx512dq = 1U << 17, avx512cd = 1U << 28, sha = 1U << 29, avx512bw = 1U << 30;
    const uint32_t avx512vl = 1U << 31;
    /* Of leaf 7, ecx: */
    const uint32_t avx512vbmi2 = 1U << 6;
    /* Of leaf 0x80000001, ecx: */
    const uint32_t lzcnt = 1U << 5;
    /* Of XCR0: */
    const uint32_t ymm = 0x06, zmm = 0xe6;

    const uint32_t v3_1 = sse4_2 | popcnt | avx | fma | f16c | movbe | osxsave;
    const uint32_t v3_7 = avx2 | bmi | bmi2;
    const uint32_t v4_7 = avx512f | avx512bw | avx512cd | avx512dq | avx512vl;
    const uint32_t saved = (leaf_1_ecx & osxsave) != 0 ? saved_registers() : 0;
    uint32_t features = 0;
    if ((leaf_1_ecx & ssse3) && (leaf_1_ecx & sse4_1) && (leaf_7_ebx & sha))
        features |= ATLAS_CPU_SHA;
    if ((leaf_1_ecx & v3_1) == v3_1 && (leaf_7_ebx & v3_7) == v3_7 && (extended_ecx & lzcnt) &&
        (saved & ymm) == ymm)
        features |= ATLAS_CPU_X86_64_V3;
    if ((features & ATLAS_CPU_X86_64_V3) && (leaf_7_ebx & v4_7) == v4_7 && (saved & zmm) == zmm)
        features |= ATLAS_CPU_X86_64_V4;
    if ((features & ATLAS_CPU_X86_64_V4) && (leaf_7_ecx & avx512vbmi2))
        features |= ATLAS_CPU_VBMI2;
    if (vendor == amd)
        features |= ATLAS_CPU_AMD;
    return features;
}
#elif defined(__aarch64__) && defined(__linux__)
static uint32_t cpu_features(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_SHA2) != 0 ? ATLAS_CPU_SHA2 : 0;
}
#elif defined(__aarch64__) && defined(__APPLE__)
static uint32_t cpu_features(void)
{
    return ATLAS_CPU_SHA2; /* every Arm Mac has it */
}
#else
static uint32_t cpu_features(void)
{
    return 0;
}
#endif

/* The set of that name; NULL where it is not compiled in. */
static const kernel_set_t* find(const char* name)
{
    for (size_t i = 0; i < SET_COUNT; i++)
        if (strcmp(SETS[i].kernels->name, name) == 0)
            return &SETS[i];
    return NULL;
}

static bool runs(const kernel_set_t* set, uint32_t features)
{
    return (set->needs & ~features) == 0;
}

#if defined(__GNUC__)
__attribute__((constructor)) static void select_best(void)
{
    uint32_t features = cpu_features();
    size_t best = 0; /* the last set needs nothing, so there is one that runs */
    while (!runs(&SETS[best], features) || (SETS[best].suits & ~features) != 0)
        best++;
    atlas_atomic_store(&ATLAS_KERNELS_ACTIVE, SETS[best].kernels);
}
#endif

const char* atlas_kernel_set(void)
{
    return atlas_kernels()->name;
}

const char* atlas_kernel_set_name(size_t index)
{
    return index < SET_COUNT ? SETS[index].kernels->name : NULL;
}

bool atlas_kernel_set_supported(const char* name)
{
    const kernel_set_t* set = name == NULL ? NULL : find(name);
    return set != NULL && runs(set, cpu_features());
}

int atlas_kernel_set_select(const char* name)
{
    if (name == NULL)
        return atlas_error_null(__func__, "name");
    const kernel_set_t* set = find(name);
    if (set == NULL)
        return atlas_error_set(ATLAS_E_STATE, __func__,
                               "name is \"%.64s\", must be a kernel set of this library", name);
    if (!runs(set, cpu_features()))
        return atlas_error_set(ATLAS_E_STATE, __func__,
                               "name is \"%s\", must be a kernel set that this CPU can run", name);
    atlas_atomic_store(&ATLAS_KERNELS_ACTIVE, set->kernels);
    return atlas_error_clear();
}
