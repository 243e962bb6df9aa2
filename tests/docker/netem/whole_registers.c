/* User-mode Linux asks ptrace for the extended registers and knows 2696 bytes of them. Processors
 * with AMX have more, and Linux sets them whole or not at all; so what UML has not got is added in
 * its first state, and what it cannot hold is kept from it. Loaded by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

enum { STATE_BITS = 512, KNOWN = 0x2ff };

static char whole[65536];
static size_t size;

long ptrace(enum __ptrace_request what, ...)
{
    static long (*real)(int, int, void *, void *);
    va_list rest;
    va_start(rest, what);
    int pid = va_arg(rest, int);
    void *at = va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);
    if (!real)
        real = dlsym(RTLD_NEXT, "ptrace");
    if (at != (void *)NT_X86_XSTATE || (what != PTRACE_GETREGSET && what != PTRACE_SETREGSET))
        return real(what, pid, at, data);

    struct iovec *uml = data, all = {whole, sizeof whole};
    if (what == PTRACE_GETREGSET) {
        long failed = real(what, pid, at, &all);
        if (failed)
            return failed;
        size = all.iov_len;
        if (uml->iov_len > size)
            uml->iov_len = size;
        memcpy(uml->iov_base, whole, uml->iov_len);
        return 0;
    }
    if (!size || uml->iov_len >= size)
        return real(what, pid, at, data);
    memset(whole, 0, size);
    memcpy(whole, uml->iov_base, uml->iov_len);
    *(unsigned long *)(whole + STATE_BITS) &= KNOWN;
    all.iov_len = size;
    return real(what, pid, at, &all);
}
