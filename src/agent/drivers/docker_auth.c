#include "agent/drivers/docker_auth.h"

#include <openssl/evp.h>
#include <string.h>

#include "agent/drivers/docker_engine.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/field.h"

#define AUTH_FILE_MAX (1 << 20)

static char *base64_decode(const char *text)
{
    size_t n = strlen(text);
    if (n == 0 || n % 4)
        return NULL;
    unsigned char *out = mem_alloc(n);
    int len = EVP_DecodeBlock(out, (const unsigned char *)text, (int)n);
    if (len < 0) {
        free(out);
        return NULL;
    }
    len -= (text[n - 1] == '=') + (text[n - 2] == '=');
    out[len] = 0;
    return (char *)out;
}

/* As engines want it in a header: the alphabet that is safe in addresses. */
static char *base64_encode_url(const char *text)
{
    size_t n = strlen(text);
    char *out = mem_alloc(4 * ((n + 2) / 3) + 1);
    EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)text, (int)n);
    for (char *p = out; *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
    return out;
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
    CLEANUP_FREE char *pair = auth ? base64_decode(auth) : NULL;
    char *colon = pair ? strchr(pair, ':') : NULL;
    if (colon) {
        *colon = 0;
        user = pair;
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
    *header = base64_encode_url(json.data);
    return 0;
}

int docker_auth_header(const char *file, const char *registry, char **header, struct error *err)
{
    *header = NULL;
    if (!file)
        return 0;
    CLEANUP_BUF struct buf text = {0};
    if (file_read(file, AUTH_FILE_MAX, &text, err) < 0)
        return error_context(err, "docker.auth_file");
    struct value json;
    struct problem_list problems = {0};
    if (value_from_json(text.data, text.len, &json, &problems) < 0) {
        error_set(err, ERROR_INVALID, "docker.auth_file %s: %s", file, problems.v[0].message);
        problem_list_clear(&problems);
        return -1;
    }
    const struct value *login = login_find(&json, registry);
    int result = login && header_make(login, registry, header) < 0
        ? error_set(err, ERROR_INVALID, "docker.auth_file %s: the entry of %s has neither `auth` nor `username` and `password`",
                    file, registry) : 0;
    value_clear(&json);
    return result;
}
