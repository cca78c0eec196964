#include "base/process.h"

#include <signal.h>

int spawn_clean(pid_t *pid, const char *path, const posix_spawn_file_actions_t *files, short flags, char *const *argv,
                char *const *env)
{
    posix_spawnattr_t attr;
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, (short)(flags | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setsigmask(&attr, &none);
    int failed = posix_spawn(pid, path, files, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    return failed;
}
