/* SPDX-License-Identifier: Apache-2.0
 *
 * What the C tests share. A broken rule is printed with its case and place, and ends the program
 * with 1. A program takes the name of a kernel set as its argument; without one it uses the
 * library's own choice. If the library has the set and this CPU cannot run it, the program ends
 * with CHECK_SKIPPED, which CTest and meson know.
 */
#ifndef CHECK_H
#define CHECK_H

#include <atlas/conservation.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char* name;
    void (*run)(void);
    const char* rule; /* in words */
} check_case_t;

static const check_case_t* check_current;

static inline void check_that(bool holds, const char* condition, const char* file, int line)
{
    if (holds)
        return;
    fprintf(stderr, "%s:%d: case %s (%s): must hold: %s\n  last error: \"%s\"\n", file, line,
            check_current ? check_current->name : "-", check_current ? check_current->rule : "-",
            condition, atlas_get_last_error());
    exit(1);
}

#define CHECK(condition) check_that((condition), #condition, __FILE__, __LINE__)

/* The condition holds, and the call in it reports success, although the call before it failed. */
#define CHECK_OK(condition)                                                                        \
    do {                                                                                           \
        CHECK(atlas_witness_length(NULL) == 0 && atlas_get_last_error_code() == ATLAS_E_MEMORY);   \
        CHECK(condition);                                                                          \
        CHECK(atlas_get_last_error_code() == ATLAS_OK);                                            \
        CHECK(strcmp(atlas_get_last_error(), "") == 0);                                            \
    } while (0)

/* The condition holds, and the call in it reports `code` in a text that begins with the function
 * and tells `why`, although the call before it succeeded. */
#define CHECK_REFUSED(condition, code, function, why)                                              \
    do {                                                                                           \
        CHECK(atlas_conserved_check("", 0) && atlas_get_last_error_code() == ATLAS_OK);            \
        CHECK(condition);                                                                          \
        CHECK(atlas_get_last_error_code() == (code));                                              \
        CHECK(strncmp(atlas_get_last_error(), function ": ", sizeof function ": " - 1) == 0);      \
        CHECK(strstr(atlas_get_last_error(), (why)) != NULL);                                      \
    } while (0)

#define CHECK_SKIPPED 77

static inline bool check_is_in_library(const char* kernel_set)
{
    const char* name;
    for (size_t i = 0; (name = atlas_kernel_set_name(i)) != NULL; i++)
        if (strcmp(name, kernel_set) == 0)
            return true;
    return false;
}

static inline int check_main(int argc, char** argv, const check_case_t* cases, size_t count)
{
    if (argc > 1 && check_is_in_library(argv[1]) && !atlas_kernel_set_supported(argv[1])) {
        printf("skipped: this CPU cannot run the kernel set %s\n", argv[1]);
        return CHECK_SKIPPED;
    }
    if (argc > 1)
        CHECK(atlas_kernel_set_select(argv[1]) == ATLAS_OK);
    for (size_t i = 0; i < count; i++) {
        check_current = &cases[i];
        cases[i].run();
        printf("ok %s: %s\n", cases[i].name, cases[i].rule);
    }
    printf("%zu cases, kernel set %s\n", count, atlas_kernel_set());
    return 0;
}

/* Defines main(). CASES is a list X(name, rule); the test of a case is the function case_<name>. */
#define CHECK_CASE_ROW(name, rule) {#name, case_##name, rule},
#define CHECK_MAIN(CASES)                                                                          \
    int main(int argc, char** argv)                                                                \
    {                                                                                              \
        const check_case_t cases[] = {CASES(CHECK_CASE_ROW)};                                      \
        return check_main(argc, argv, cases, sizeof cases / sizeof cases[0]);                      \
    }

#endif /* CHECK_H */
