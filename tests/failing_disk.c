/* A library to preload in tests: makes syncs of files fail whose paths begin with SLOTH_FAILING_FILES, while the file
   SLOTH_FAILING_WHILE exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    const char *files = getenv("SLOTH_FAILING_FILES"), *flag = getenv("SLOTH_FAILING_WHILE");
    char link[64], path[4096];
    ssize_t length;
    if (!files || !flag || access(flag, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, files, strlen(files)) == 0;
}

#define SYNC(name)                                                     \
    int name(int fd) {                                                 \
        static int (*real)(int);                                       \
        if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, #name);       \
        if (fails(fd)) { errno = EIO; return -1; }                     \
        return real(fd);                                               \
    }

SYNC(fdatasync)
SYNC(fsync)
