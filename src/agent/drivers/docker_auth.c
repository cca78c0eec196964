#include "agent/drivers/docker_auth.h"

#include <string.h>

#include "agent/drivers/docker_engine.h"
#include "base/base64.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/field.h"

#define AUTH_FILE_MAX (1 << 20)

/* As engines want it in a header: the alphabet that is safe in addresses. */
static char *encode_for_url(const struct buf *text)
{
    struct buf out = {0};
    base64_add(&out, text->data, text->len);
    for (size_t i = 0; i < out.len; i++)
        out.data[i] = out.data[i] == '+' ? '-' : out.data[i] == '/' ? '_' : out.data[i];
    return buf_steal(&out);
}

static const struct value *login_find(const struct value *file, const char *registry)
{
    const struct value *auths = value_path(file, "auths");
    if (!auths || auths->kind != VALUE_MAP)
        return NULL;
    const struct value_entry *e = value_get(auths, registry);
    if (e)
        return &e->value;
    CLEANUP_FREE char *with_scheme = mem_printf("https://%s", registry);
    e = value_get(auths, with_scheme);
    return e ? &e->value : NULL;
}

static int header_make(const struct value *login, const char *registry, char **header)
{
    const char *token = value_text(login, "identitytoken"), *auth = value_text(login, "auth");
    const char *user = value_text(login, "username"), *password = value_text(login, "password");
    CLEANUP_BUF struct buf pair = {0};
    char *colon = auth && base64_read(auth, &pair) && pair.len ? strchr(pair.data, ':') : NULL;
    if (colon) {
        *colon = 0;
        user = pair.data;
        password = colon + 1;
    }
    if (!token && (!user || !password))
        return -1;
    CLEANUP_BUF struct buf json = {0};
    const char *const pairs[][2] = {{"username", user}, {"password", token ? NULL : password}, {"identitytoken", token},
                                    {"serveraddress", registry}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        if (!pairs[i][1])
            continue;
        buf_add_string(&json, json.len ? "," : "{");
        json_add_string(&json, pairs[i][0]);
        buf_add_char(&json, ':');
        json_add_string(&json, pairs[i][1]);
    }
    buf_add_char(&json, '}');
    *header = encode_for_url(&json);
    return 0;
}

/* *header stays NULL when the text has no login for the registry. */
static int header_of_text(const char *text, size_t len, const char *registry, char **header, struct error *err)
{
    struct value json;
    struct problem_list problems = {0};
    if (value_from_json(text, len, &json, &problems) < 0) {
        problem_list_clear(&problems);
        return error_set(err, ERROR_INVALID, "it is not JSON as `docker login` writes it");
    }
    const struct value *login = login_find(&json, registry);
    int result = login && header_make(login, registry, header) < 0
        ? error_set(err, ERROR_INVALID, "the entry of %s has neither `auth` nor `username` and `password`", registry) : 0;
    value_clear(&json);
    return result;
}

int docker_auth_header(const char *file, const char *registry, char **header, struct error *err)
{
    *header = NULL;
    if (!file)
        return 0;
    CLEANUP_BUF struct buf text = {0};
    if (file_read(file, AUTH_FILE_MAX, &text, err) < 0)
        return error_context(err, "docker.auth_file");
    return header_of_text(text.data, text.len, registry, header, err) < 0 ? error_context(err, "docker.auth_file %s", file) : 0;
}

int docker_auth_login(const char *login, const char *registry, char **header, struct error *err)
{
    *header = NULL;
    if (*login == '{') {
        int rc = header_of_text(login, strlen(login), registry, header, err);
        if (rc == 0 && !*header)
            rc = error_set(err, ERROR_INVALID, "it has no login for %s", registry);
        return rc < 0 ? error_context(err, "config.registry_auth") : 0;
    }
    const char *colon = strchr(login, ':');
    if (!colon)
        return error_set(err, ERROR_INVALID, "config.registry_auth: the secret is neither USER:PASSWORD nor a file as `docker login` writes it");
    CLEANUP_WIPE struct buf entry = {0};
    buf_reserve(&entry, 2 * strlen(login) + 64);
    buf_add_string(&entry, "{\"auths\":{");
    json_add_string(&entry, registry);
    buf_add_string(&entry, ":{\"auth\":\"");
    base64_add(&entry, login, strcspn(login, "\r\n"));
    buf_add_string(&entry, "\"}}}");
    return header_of_text(entry.data, entry.len, registry, header, err);
}
