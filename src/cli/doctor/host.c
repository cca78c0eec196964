#include "cli/doctor/host.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "base/text.h"
#include "base/timefmt.h"

#define FILE_BYTES_MAX (8u << 20)        /* /proc/net/tcp of a busy host */
#define RUN_MS 5000
#define RUN_BYTES_MAX 4096

extern char **environ;

bool host_is_this(const struct host *h)
{
    return !*h->root;
}

char *host_path(const struct host *h, const char *path)
{
    return mem_printf("%s%s", h->root, path);
}

bool host_read(const struct host *h, const char *path, struct buf *out)
{
    CLEANUP_FREE char *full = host_path(h, path);
    bool read = file_read(full, FILE_BYTES_MAX, out, NULL) == 0;
    if (!read)
        buf_clear(out);
    buf_reserve(out, 0);
    out->data[out->len] = '\0';
    return read;
}

int64_t host_number(const struct host *h, const char *path, int64_t missing)
{
    CLEANUP_BUF struct buf text = {0};
    char *end;
    if (!host_read(h, path, &text))
        return missing;
    int64_t n = strtoll(text.data, &end, 10);
    return end == text.data ? missing : n;
}

bool host_exists(const struct host *h, const char *path)
{
    CLEANUP_FREE char *full = host_path(h, path);
    return access(full, F_OK) == 0;
}

/* --- configuration --- */

static void read_config(struct host *h, const char *dir, const char *name, struct value *out)
{
    CLEANUP_FREE char *path = mem_printf("%s%s/%s", h->root, dir, name);
    struct error err = {0};
    if (config_read_file(path, false, out, &err))
        mem_set_string(&h->config_problem, err.text);
}

void host_open(struct host *h, const char *root, const char *config_dir, const char *user)
{
    *h = (struct host){.root = root, .user = user};
    read_config(h, config_dir, "server.yaml", &h->server);
    read_config(h, config_dir, "agent.yaml", &h->agent);
}

void host_close(struct host *h)
{
    value_clear(&h->server);
    value_clear(&h->agent);
    str_list_clear(&h->peers);
    free(h->config_problem);
}

const char *host_setting(const struct value *config, const char *key, const char *otherwise)
{
    const char *text = value_text(config, key);
    return text && *text ? text : otherwise;
}

int64_t host_setting_number(const struct value *config, const char *key, int64_t otherwise)
{
    const struct value *v = value_path(config, key);
    return v && v->kind == VALUE_NUMBER ? value_number(config, key) : otherwise;
}

bool host_offers_driver(const struct host *h, const char *driver)
{
    const struct value *drivers = value_path(&h->agent, "drivers");
    if (!drivers || drivers->kind == VALUE_NULL)
        return true;
    if (drivers->kind != VALUE_LIST)
        return drivers->text && !strcmp(drivers->text, driver);
    for (uint32_t i = 0; i < drivers->n; i++)
        if (drivers->entries[i].value.text && !strcmp(drivers->entries[i].value.text, driver))
            return true;
    return false;
}

/* --- users: by the files, since a static program has no other sources of names --- */

/* The line of a passwd or group file that begins with "name:"; its fields, at most n, cut apart in place. */
static int find_line(char *text, const char *name, char **fields, int n)
{
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        size_t len = strlen(name);
        if (strncmp(line, name, len) || line[len] != ':')
            continue;
        int count = 0;
        while (count < n && line)
            fields[count++] = strsep(&line, ":");
        return count;
    }
    return 0;
}

struct host_user host_find_user(const struct host *h, const char *name)
{
    CLEANUP_BUF struct buf text = {0};
    char *fields[4];
    if (!host_read(h, "/etc/passwd", &text) || find_line(text.data, name, fields, 4) < 4)
        return (struct host_user){0};
    return (struct host_user){true, (uid_t)strtoul(fields[2], NULL, 10), (gid_t)strtoul(fields[3], NULL, 10)};
}

/* Whether one of the groups with that id lists the user. */
static bool is_member(const struct host *h, const char *name, gid_t gid)
{
    CLEANUP_BUF struct buf text = {0};
    host_read(h, "/etc/group", &text);
    char *lines = text.data, *line;
    while ((line = strsep(&lines, "\n"))) {
        char *fields[4] = {0};
        for (int i = 0; i < 4 && line; i++)
            fields[i] = strsep(&line, ":");
        if (!fields[3] || (gid_t)strtoul(fields[2], NULL, 10) != gid)
            continue;
        char *member;
        while ((member = strsep(&fields[3], ",")))
            if (!strcmp(member, name))
                return true;
    }
    return false;
}

bool host_user_may_use(const struct host *h, const char *name, const char *path)
{
    CLEANUP_FREE char *full = host_path(h, path);
    struct host_user user = host_find_user(h, name);
    struct stat st;
    if (!user.exists || stat(full, &st))
        return false;
    mode_t both = S_IROTH | S_IWOTH, allowed = st.st_mode & both;
    if (user.uid == 0)
        return true;
    if (st.st_uid == user.uid)
        allowed = st.st_mode >> 6 & both;
    else if (st.st_gid == user.gid || is_member(h, name, st.st_gid))
        allowed = st.st_mode >> 3 & both;
    return allowed == both;
}

/* --- file systems --- */

/* The kernel writes spaces and the like in names as \040. */
static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++)
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
            *to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
            s += 3;
        } else {
            *to++ = *s;
        }
    *to = '\0';
}

/* ID PARENT MAJOR:MINOR ROOT POINT OPTIONS … - TYPE SOURCE … */
static bool parse_mount(char *line, struct host_mount *m)
{
    char *tail = strstr(line, " - ");
    if (!tail || sscanf(line, "%*s %*s %23s %*s %255s", m->device, m->point) != 2 ||
        sscanf(tail, " - %31s %255s", m->type, m->source) != 2)
        return false;
    unescape(m->point);
    unescape(m->source);
    return true;
}

static bool is_below(const char *path, const char *point)
{
    size_t len = strlen(point);
    return !strcmp(point, "/") || (!strncmp(path, point, len) && (!path[len] || path[len] == '/'));
}

bool host_find_mount(const struct host *h, const char *path, struct host_mount *out)
{
    CLEANUP_BUF struct buf text = {0};
    CLEANUP_FREE char *real = host_is_this(h) ? realpath(path, NULL) : NULL;
    bool found = false;
    char *rest = NULL;
    host_read(h, "/proc/self/mountinfo", &text);
    /* The last one of a place covers those before it. */
    for (char *line = strtok_r(text.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        struct host_mount m;
        if (!parse_mount(line, &m) || !is_below(real ? real : path, m.point) ||
            (found && strlen(m.point) < strlen(out->point)))
            continue;
        *out = m;
        found = true;
    }
    return found;
}

/* --- programs --- */

char *host_find_program(const struct host *h, const char *name)
{
    static const char *const directories[] = {"/opt/mentat/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                              "/usr/bin", "/sbin", "/bin"};
    for (size_t i = 0; i < ARRAY_LEN(directories); i++) {
        char *path = mem_printf("%s%s/%s", h->root, directories[i], name);
        if (access(path, X_OK) == 0)
            return path;
        free(path);
    }
    return NULL;
}

/* Reads until the writers are gone, there is enough, or the time is over; false in the last case. */
static bool collect(int fd, struct buf *out)
{
    int64_t end = time_monotonic_ms() + RUN_MS;
    while (out->len < RUN_BYTES_MAX) {
        int64_t left = end - time_monotonic_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return false;
        buf_reserve(out, 1024);
        ssize_t n = read(fd, out->data + out->len, 1024);
        if (n <= 0)
            break;
        out->len += (size_t)n;
    }
    buf_reserve(out, 0);
    out->data[out->len] = '\0';
    return true;
}

bool host_run(const char *path, const char *option, struct buf *out)
{
    int fds[2], status = -1;
    pid_t pid;
    if (pipe2(fds, O_CLOEXEC))
        return false;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    char *const argv[] = {(char *)(uintptr_t)path, (char *)(uintptr_t)option, NULL};
    bool done = spawn_clean(&pid, path, &actions, 0, argv, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    if (done) {
        done = collect(fds[0], out);
        if (!done)
            kill(pid, SIGKILL);
        close(fds[0]);           /* it may have more to say than was read, and would wait */
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    } else {
        close(fds[0]);
    }
    return done && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
