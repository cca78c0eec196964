/* Configuration of server and agent: lines that begin with -- are flags, all others the file. */
#include "fuzz.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/agent_config.h"
#include "base/file.h"
#include "server/server_config.h"

enum { FLAGS_MOST = 8 };

static void check(int argc, char **argv)
{
    struct server_config server;
    struct agent_config agent = {0};
    struct error err = {0};
    int rc = server_config_load(argc, argv, &server, &err);
    INVARIANT(rc >= 0 || *err.text);
    type_clear(&server_config_type, &server);
    rc = agent_config_load(argc, argv, &agent, &err);
    INVARIANT(rc >= 0 || *err.text);
    type_clear(&agent_config_type, &agent);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = mem_strndup((const char *)data, size);
    CLEANUP_BUF struct buf file = {0};
    char *argv[FLAGS_MOST + 3] = {(char *)"mentat", NULL};
    int argc = 2;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (line[0] == '-' && line[1] == '-' && argc < FLAGS_MOST + 2) {
            argv[argc++] = line;
        } else {
            buf_add_string(&file, line);
            buf_add_char(&file, '\n');
        }
    }
    int fd = memfd_create("config", MFD_CLOEXEC);
    INVARIANT(fd >= 0 && write(fd, file.data ? file.data : "", file.len) == (ssize_t)file.len);
    CLEANUP_FREE char *flag = mem_printf("--config=/proc/self/fd/%d", fd);
    argv[1] = flag;
    check(argc, argv);
    close(fd);
    return 0;
}
