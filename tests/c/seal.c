/* SPDX-License-Identifier: Apache-2.0
 *
 * Sealed commits on Linux. Linked with the static library and with wrapped system calls, so that
 * each call of the library in turn can fail, or end the process.
 */
#define _GNU_SOURCE
#include "check.h"
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NBYTES = 2 * ATLAS_WINDOW_BYTES + 7, SIZE = NBYTES + 1 };
enum { SEALS = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

/* --- System calls ----------------------------------------------------------------------------- */

static long calls_left = -1;       /* calls that still go on; below 0: all do                 */
static int failure;                /* what the next one fails with; 0: it kills the process   */
static bool fails_for_good;        /* and all that follow                                     */
static bool without_memfd;         /* as on an old kernel or in a sandbox                     */
static bool without_shared_sealed; /* as on kernels before 6.7                                */

static bool fails(void)
{
    if (calls_left != 0) {
        calls_left -= calls_left > 0;
        return false;
    }
    if (failure == 0)
        raise(SIGKILL);
    if (!fails_for_good)
        calls_left = -1;
    errno = failure;
    return true;
}

#define WRAP_MMAP(name)                                                                            \
    void* __real_##name(void*, size_t, int, int, int, off_t);                                      \
    void* __wrap_##name(void* at, size_t len, int prot, int flags, int fd, off_t from);            \
    void* __wrap_##name(void* at, size_t len, int prot, int flags, int fd, off_t from)             \
    {                                                                                              \
        if (fails())                                                                               \
            return MAP_FAILED;                                                                     \
        if (without_shared_sealed && prot == PROT_READ && (flags & MAP_SHARED) != 0) {             \
            errno = EPERM;                                                                         \
            return MAP_FAILED;                                                                     \
        }                                                                                          \
        return __real_##name(at, len, prot, flags, fd, from);                                      \
    }
WRAP_MMAP(mmap)
WRAP_MMAP(mmap64)

#define WRAP_FCNTL(name)                                                                           \
    int __real_##name(int, int, ...);                                                              \
    int __wrap_##name(int fd, int command, ...);                                                   \
    int __wrap_##name(int fd, int command, ...)                                                    \
    {                                                                                              \
        va_list arguments;                                                                         \
        va_start(arguments, command);                                                              \
        int argument = va_arg(arguments, int);                                                     \
        va_end(arguments);                                                                         \
        return fails() ? -1 : __real_##name(fd, command, argument);                                \
    }
WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)

int __real_mprotect(void* at, size_t len, int prot);
int __wrap_mprotect(void* at, size_t len, int prot);
int __wrap_mprotect(void* at, size_t len, int prot)
{
    return fails() ? -1 : __real_mprotect(at, len, prot);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    va_list arguments;
    va_start(arguments, number);
    const char* name = va_arg(arguments, const char*);
    unsigned flags = va_arg(arguments, unsigned);
    va_end(arguments);
    if (without_memfd && number == SYS_memfd_create) {
        errno = ENOSYS;
        return -1;
    }
    return fails() ? -1 : __real_syscall(number, name, flags);
}

/* --- What all cases need ---------------------------------------------------------------------- */

static atlas_region_t* region;
static atlas_domain_t* domain;

static void begin(void)
{
    CHECK((region = atlas_region_create(NBYTES)) != NULL);
    CHECK(atlas_region_fill(region, 55) == ATLAS_OK);
    CHECK((domain = atlas_domain_create(SIZE, 0)) != NULL);
    CHECK(atlas_domain_attach(domain, atlas_region_payload(region), SIZE) == ATLAS_OK);
}

static void end(void)
{
    atlas_domain_destroy(domain);
    atlas_region_destroy(region);
}

static bool is_committed(void)
{
    atlas_state_t state;
    CHECK(atlas_domain_state(domain, &state) == ATLAS_OK);
    return state == ATLAS_STATE_COMMITTED;
}

/* The bytes are those of begin(). */
static bool is_intact(const atlas_region_t* which)
{
    const uint8_t* bytes = atlas_region_payload(which);
    for (size_t i = 0; i < NBYTES; i++)
        if (bytes[i] != 55)
            return false;
    return atlas_conserved_check(bytes, SIZE);
}

/* How a child ends that writes to the payload. */
static int write_status(void)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        *(volatile uint8_t*)atlas_region_payload(region) ^= 1;
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static bool write_is_refused(void)
{
    int status = write_status();
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

/* Nothing happened: OPEN, not sealed, and the bytes can be written. */
static void check_untouched(void)
{
    CHECK(!is_committed());
    CHECK(!atlas_region_sealed(region));
    CHECK(is_intact(region));
    volatile uint8_t* bytes = atlas_region_payload(region);
    bytes[5] = 56;
    CHECK(!atlas_conserved_check(atlas_region_payload(region), SIZE));
    bytes[5] = 55;
    CHECK(atlas_region_fill(region, 55) == ATLAS_OK);
}

/* Lines of a file of /proc: mappings, or entries of a folder by their count. */
static long mappings(void)
{
    long lines = 0;
    FILE* file = fopen("/proc/self/maps", "r");
    CHECK(file != NULL);
    for (int c; (c = getc(file)) != EOF;)
        lines += c == '\n';
    fclose(file);
    return lines;
}

/* The descriptor that the next file gets: the number of open ones, as long as none is left open. */
static int next_descriptor(void)
{
    int fd = dup(STDERR_FILENO);
    CHECK(fd >= 0 && close(fd) == 0);
    return fd;
}

/* --- Cases ------------------------------------------------------------------------------------ */

static void case_commit(void)
{
    begin();
    atlas_witness_t* expected = atlas_witness_generate(atlas_region_payload(region), SIZE);
    CHECK_OK(atlas_domain_commit_sealed(domain, region) == ATLAS_OK);
    CHECK(is_committed());
    CHECK_OK(atlas_region_sealed(region));
    CHECK(atlas_witness_verify(expected, atlas_region_payload(region), SIZE));
    CHECK(atlas_witness_length(atlas_domain_witness(domain)) == SIZE);
    CHECK(memcmp(atlas_witness_digest(atlas_domain_witness(domain)), atlas_witness_digest(expected),
                 ATLAS_DIGEST_BYTES) == 0);
    CHECK(write_is_refused());
    CHECK(is_intact(region));
    uint8_t balance;
    CHECK_REFUSED(atlas_region_balance(region, &balance) == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_region_balance", "sealed");
    CHECK_REFUSED(atlas_region_fill(region, 1) == ATLAS_E_STATE, ATLAS_E_STATE, "atlas_region_fill",
                  "sealed");
    CHECK_REFUSED(atlas_domain_commit_sealed(domain, region) == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_domain_commit_sealed", "COMMITTED");
    atlas_domain_t* other = atlas_domain_create(SIZE, 0);
    CHECK(atlas_domain_attach(other, atlas_region_payload(region), SIZE) == ATLAS_OK);
    CHECK_OK(atlas_domain_commit_sealed(other, region) == ATLAS_OK);
    CHECK(atlas_domain_verify(other));
    atlas_domain_destroy(other);
    atlas_witness_destroy(expected);
    end();
}

static void case_refused(void)
{
    begin();
    CHECK_REFUSED(atlas_domain_commit_sealed(NULL, region) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_domain_commit_sealed", "domain");
    CHECK_REFUSED(atlas_domain_commit_sealed(domain, NULL) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_domain_commit_sealed", "region");
    atlas_domain_t* other = atlas_domain_create(SIZE, 0);
    CHECK_REFUSED(atlas_domain_commit_sealed(other, region) == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_domain_commit_sealed", "must have one attached");
    /* The payload alone is not the region. */
    CHECK(atlas_domain_attach(other, atlas_region_payload(region), NBYTES) == ATLAS_OK);
    CHECK_REFUSED(atlas_domain_commit_sealed(other, region) == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_domain_commit_sealed", "the whole region");
    atlas_domain_destroy(other);
    ((uint8_t*)atlas_region_payload(region))[3]++;
    CHECK_REFUSED(atlas_domain_commit_sealed(domain, region) == ATLAS_E_CONSERVATION,
                  ATLAS_E_CONSERVATION, "atlas_domain_commit_sealed", "residue");
    ((uint8_t*)atlas_region_payload(region))[3]--;
    check_untouched();
    int fd = 7;
    CHECK_REFUSED(atlas_region_fd(region, &fd) == ATLAS_E_STATE, ATLAS_E_STATE, "atlas_region_fd",
                  "not sealed");
    CHECK_REFUSED(atlas_region_fd(NULL, &fd) == ATLAS_E_MEMORY, ATLAS_E_MEMORY, "atlas_region_fd",
                  "region");
    CHECK_REFUSED(atlas_region_fd(region, NULL) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_region_fd", "out");
    CHECK(fd == 7);
    end();
}

static void case_child(void)
{
    begin();
    int pipes[2];
    char byte;
    CHECK(pipe(pipes) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(pipes[1]);
        _exit(read(pipes[0], &byte, 1) == 0 ? 0 : 1);
    }
    CHECK_REFUSED(atlas_domain_commit_sealed(domain, region) == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_domain_commit_sealed", "another process");
    check_untouched();
    close(pipes[0]);
    close(pipes[1]);
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK_OK(atlas_domain_commit_sealed(domain, region) == ATLAS_OK);
    end();
}

static void case_descriptor(void)
{
    int fd = -1;
    begin();
    CHECK(atlas_domain_commit_sealed(domain, region) == ATLAS_OK);
    CHECK_OK(atlas_region_fd(region, &fd) == ATLAS_OK);
    CHECK((fcntl(fd, F_GET_SEALS) & SEALS) == SEALS);
    CHECK(pwrite(fd, "x", 1, 0) == -1 && errno == EPERM);
    CHECK(ftruncate(fd, 0) == -1 && errno == EPERM);
    CHECK(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    atlas_region_t* same = NULL;
    CHECK_OK((same = atlas_region_from_fd(fd)) != NULL);
    CHECK(atlas_region_sealed(same));
    CHECK(atlas_region_payload_bytes(same) == NBYTES);
    CHECK(atlas_domain_verify(domain));
    end();
    CHECK(is_intact(same)); /* it does not need the other one */
    atlas_region_destroy(same);
}

static void case_foreign_descriptors(void)
{
    const int seals[] = {0, SEALS & ~F_SEAL_WRITE, SEALS & ~F_SEAL_SHRINK, SEALS & ~F_SEAL_GROW,
                         SEALS & ~F_SEAL_SEAL};
    const char* whys[] = {"F_SEAL_WRITE", "F_SEAL_WRITE", "F_SEAL_SHRINK", "F_SEAL_GROW",
                          "F_SEAL_SEAL"};
    for (size_t i = 0; i < sizeof seals / sizeof *seals; i++) {
        int fd = memfd_create("foreign", MFD_ALLOW_SEALING);
        CHECK(ftruncate(fd, 4096) == 0 && fcntl(fd, F_ADD_SEALS, seals[i]) == 0);
        int next = next_descriptor();
        CHECK_REFUSED(atlas_region_from_fd(fd) == NULL, ATLAS_E_STATE, "atlas_region_from_fd",
                      whys[i]);
        CHECK(next_descriptor() == next);
        close(fd);
    }
    for (off_t size = 0; size < 4; size++) {
        int fd = memfd_create("foreign", MFD_ALLOW_SEALING);
        CHECK(ftruncate(fd, size) == 0 && fcntl(fd, F_ADD_SEALS, SEALS) == 0);
        atlas_region_t* found = atlas_region_from_fd(fd);
        CHECK((found != NULL) == (size >= 2));
        CHECK(found != NULL || atlas_get_last_error_code() == ATLAS_E_STATE);
        atlas_region_destroy(found);
        close(fd);
    }
    CHECK_REFUSED(atlas_region_from_fd(-1) == NULL, ATLAS_E_STATE, "atlas_region_from_fd", "open");
    CHECK_REFUSED(atlas_region_from_fd(STDERR_FILENO) == NULL, ATLAS_E_STATE,
                  "atlas_region_from_fd", "memfd");
}

/* Each system call in turn fails: nothing happened, or all did. */
static void case_failures(void)
{
    bool done = false;
    long failures = 0;
    for (long step = 0; !done; step++) {
        begin();
        calls_left = step;
        failure = step % 2 == 0 ? ENOMEM : EBUSY;
        int code = atlas_domain_commit_sealed(domain, region);
        done = calls_left > 0; /* it took fewer calls */
        calls_left = -1;
        if (code == ATLAS_OK) {
            CHECK(is_committed() && atlas_region_sealed(region) && write_is_refused());
        } else {
            failures++;
            CHECK(code == ATLAS_E_MEMORY || code == ATLAS_E_STATE);
            check_untouched();
            CHECK(atlas_domain_commit_sealed(domain, region) == ATLAS_OK);
        }
        end();
    }
    CHECK(failures >= 2); /* the private mapping and the seals */
}

/* The seals are refused, and so is the way back: the region stays read-only, and says so. */
static void case_no_way_back(void)
{
    begin();
    calls_left = 1; /* the private mapping */
    failure = EBUSY;
    fails_for_good = true;
    CHECK_REFUSED(atlas_domain_commit_sealed(domain, region) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_domain_commit_sealed", "read-only from now on");
    calls_left = -1;
    fails_for_good = false;
    CHECK(!is_committed());
    CHECK(atlas_region_sealed(region));
    CHECK(is_intact(region) && write_is_refused());
    CHECK_OK(atlas_domain_commit_sealed(domain, region) == ATLAS_OK);
    end();
}

/* Regions are made, and made from descriptors, while each system call in turn fails: nothing is
 * left behind. */
static void case_failures_to_make(void)
{
    int fd;
    begin();
    CHECK(atlas_domain_commit_sealed(domain, region) == ATLAS_OK);
    CHECK(atlas_region_fd(region, &fd) == ATLAS_OK);
    for (int from_fd = 0; from_fd < 2; from_fd++) {
        bool done = false;
        for (long step = 0; !done; step++) {
            long before = mappings();
            int next = next_descriptor();
            calls_left = step;
            failure = ENOMEM;
            atlas_region_t* made = from_fd ? atlas_region_from_fd(fd) : atlas_region_create(NBYTES);
            done = calls_left > 0;
            calls_left = -1;
            CHECK(made != NULL || atlas_get_last_error_code() == ATLAS_E_MEMORY ||
                  (from_fd && atlas_get_last_error_code() == ATLAS_E_STATE));
            CHECK(made != NULL || !done);
            atlas_region_destroy(made);
            CHECK(mappings() == before);
            CHECK(next_descriptor() == next);
        }
    }
    end();
}

/* A process that seals is killed before each of its system calls: of the seals there are none or
 * all, and the bytes are what they were. */
static void case_kills(void)
{
    bool done = false;
    bool sealed = false;
    for (long step = 0; !done; step++) {
        int to_child[2], status, fd;
        int from_child[2];
        CHECK(pipe(to_child) == 0 && pipe(from_child) == 0);
        pid_t child = fork();
        if (child == 0) {
            char byte;
            begin();
            CHECK(write(from_child[1], &region->fd, sizeof region->fd) == sizeof region->fd);
            CHECK(read(to_child[0], &byte, 1) == 1);
            calls_left = step;
            failure = 0;
            int code = atlas_domain_commit_sealed(domain, region);
            calls_left = -1;
            end();
            _exit(code);
        }
        CHECK(read(from_child[0], &fd, sizeof fd) == sizeof fd);
        char name[64];
        snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)child, fd);
        int held = open(name, O_RDONLY);
        CHECK(held >= 0);
        CHECK(write(to_child[1], "x", 1) == 1);
        CHECK(waitpid(child, &status, 0) == child);
        done = WIFEXITED(status);
        CHECK(done ? WEXITSTATUS(status) == ATLAS_OK : WTERMSIG(status) == SIGKILL);
        int seals = fcntl(held, F_GET_SEALS) & SEALS;
        CHECK(seals == 0 || seals == SEALS);
        CHECK(seals == SEALS || !sealed); /* once there, in all later steps too */
        sealed = seals == SEALS;
        uint8_t* bytes = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, held, 0);
        CHECK(bytes != MAP_FAILED);
        CHECK(bytes[0] == 55 && bytes[NBYTES - 1] == 55 && atlas_conserved_check(bytes, SIZE));
        munmap(bytes, SIZE);
        close(held);
        for (int i = 0; i < 2; i++) {
            close(to_child[i]);
            close(from_child[i]);
        }
    }
    CHECK(sealed);
}

static void case_without_memfd(void)
{
    int fd;
    without_memfd = true;
    begin();
    CHECK_OK(atlas_domain_commit_sealed(domain, region) == ATLAS_OK);
    CHECK(atlas_region_sealed(region) && write_is_refused() && is_intact(region));
    CHECK_REFUSED(atlas_region_fd(region, &fd) == ATLAS_E_STATE, ATLAS_E_STATE, "atlas_region_fd",
                  "memfd");
    end();
    begin();
    calls_left = 0;
    failure = ENOMEM;
    CHECK_REFUSED(atlas_domain_commit_sealed(domain, region) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_domain_commit_sealed", "protect");
    calls_left = -1;
    check_untouched();
    end();
    without_memfd = false;
}

static void case_without_shared_sealed(void)
{
    int fd;
    without_shared_sealed = true;
    begin();
    CHECK_OK(atlas_domain_commit_sealed(domain, region) == ATLAS_OK);
    CHECK(write_is_refused() && is_intact(region));
    CHECK(atlas_region_fd(region, &fd) == ATLAS_OK);
    atlas_region_t* same = NULL;
    CHECK_OK((same = atlas_region_from_fd(fd)) != NULL);
    CHECK(is_intact(same));
    atlas_region_destroy(same);
    end();
    without_shared_sealed = false;
}

#define CASES(X)                                                                                   \
    X(commit, "a sealed commit has the usual witness, and writes are refused")                     \
    X(refused, "what is refused leaves domain and region as they were")                            \
    X(child, "a child that has the region mapped forbids the seal")                                \
    X(descriptor, "a descriptor gives the same memory, which nobody changes")                      \
    X(foreign_descriptors, "nothing is believed of a descriptor")                                  \
    X(failures, "where a system call fails, nothing happened or all did")                          \
    X(no_way_back, "a region that stays read-only says so")                                        \
    X(failures_to_make, "a region that cannot be made leaves nothing behind")                      \
    X(kills, "of the seals there are none or all, wherever a process is killed")                   \
    X(without_memfd, "without a memfd the pages are protected")                                    \
    X(without_shared_sealed, "kernels before 6.7 keep the private mapping")

CHECK_MAIN(CASES)
