#pragma once
#include <spawn.h>
#include <sys/types.h>

/* Starts a program as posix_spawn does, with none of the caller's blocked, ignored or handled signals. `files` may be NULL;
 * `flags` are further ones of posix_spawnattr_setflags, such as POSIX_SPAWN_SETSID. Returns 0 or an errno. */
int spawn_clean(pid_t *pid, const char *path, const posix_spawn_file_actions_t *files, short flags, char *const *argv,
                char *const *env);
