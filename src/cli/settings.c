#include "cli/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "model/table.h"

#define FILE_MOST 65536u

static const struct field settings_fields[] = {
    STRING(settings, address, 1, .help = "Where the servers are."),
    STRING(settings, token, 2, .help = "Who asks; sent to no other address."),
    STRING(settings, ca, 3, .help = "File with the certificates of the authority that the servers must have."),
    STRING(settings, namespace, 4, .help = "In which namespace."),
    {0},
};
TABLE(settings, settings_fields, "What mt login keeps.");

static char *file_of(const char *name)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (config && *config == '/')
        return mem_printf("%s/mentat/%s", config, name);
    return home && *home == '/' ? mem_printf("%s/.config/mentat/%s", home, name) : NULL;
}

char *settings_path(void)
{
    return file_of("mt.yaml");
}

char *settings_ca_path(void)
{
    return file_of("ca.pem");
}

/* 0: there is one, and it is the user's alone; 1: there is none. */
static int look(const char *path, struct error *err)
{
    struct stat st;
    if (stat(path, &st))
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 1 : error_set_errno(err, errno, "%s", path);
    if (st.st_mode & 077 || (st.st_uid != geteuid() && st.st_uid != 0))
        return error_set(err, ERROR_DENIED, "%s holds a token, and others may read it: chmod 600 %s", path, path);
    return 0;
}

int settings_load(struct settings *s, struct error *err)
{
    CLEANUP_FREE char *path = settings_path();
    CLEANUP_BUF struct buf text = {0};
    struct problem_list problems = {0};
    *s = (struct settings){0};
    int rc = path ? look(path, err) : 1;
    if (rc)
        return rc < 0 ? -1 : 0;
    if (file_read(path, FILE_MOST, &text, err))
        return -1;
    rc = type_from_yaml(&settings_type, text.data ? text.data : "", text.len, s, &problems);
    if (rc)
        error_set(err, ERROR_INVALID, "%s: %s: %s; `mt login` writes it anew", path, problems.v[0].path, problems.v[0].message);
    problem_list_clear(&problems);
    return rc;
}

static int make_folders(const char *path, struct error *err)
{
    CLEANUP_FREE char *folder = mem_strdup(path);
    *strrchr(folder, '/') = '\0';
    CLEANUP_FREE char *above = mem_strdup(folder);
    *strrchr(above, '/') = '\0';
    return dir_make(above, 0700, err) || dir_make(folder, 0700, err) ? -1 : 0;
}

int settings_save_ca(const char *pem, struct error *err)
{
    CLEANUP_FREE char *path = settings_ca_path();
    if (!path)
        return error_set(err, ERROR_INVALID, "HOME is not set: there is no place for the settings");
    return make_folders(path, err) || file_write(path, pem, strlen(pem), 0600, err) ? -1 : 0;
}

int settings_save(const struct settings *s, struct error *err)
{
    CLEANUP_FREE char *path = settings_path();
    CLEANUP_BUF struct buf text = {0};
    if (!path)
        return error_set(err, ERROR_INVALID, "HOME is not set: there is no place for the settings");
    type_to_yaml(&settings_type, s, &text);
    return make_folders(path, err) || file_write(path, text.data ? text.data : "", text.len, 0600, err) ? -1 : 0;
}
