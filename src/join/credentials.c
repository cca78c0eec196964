#include "join/credentials.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"
#include "join/token.h"

#define FILE_MOST (256u << 10)
#define FOUNDING_NAME "mentat founding"
#define DAY_MS (24 * 3600 * 1000LL)
#define FOUNDING_SLACK_MS DAY_MS             /* hosts that were just made may not know the time yet */
#define FOUNDING_LIFE_MS (3650 * DAY_MS)
#define MARK "# mark "
#define TOKEN_MOST 4096u

/* That every certificate of this one carries. */
static char *own_name(const struct credentials *c)
{
    return mem_printf("DNS:%s.%s.mentat", c->name, c->role);
}

static void forget(struct credentials *c)
{
    free(steal(&c->certificate));
    free(steal(&c->authorities));
    free(steal(&c->mark));
    c->present = c->founding = false;
}

/* "# mark MARK TIME" stands in the first line of an identity that the cluster gave; TIME: when to renew it. */
static void read_head(struct credentials *c, const char *text)
{
    if (!text_has_prefix(text, MARK))
        return;
    size_t n = strcspn(text + strlen(MARK), " \n");
    c->mark = mem_strndup(text + strlen(MARK), n);
    c->renew_at_ms = strtoll(text + strlen(MARK) + n, NULL, 10);
}

static void take(struct credentials *c, const char *identity, const char *authorities)
{
    struct error ignored;
    struct certificate_facts facts;
    const char *key = strstr(identity, "-----BEGIN PRIVATE KEY");
    if (certificate_read(identity, &facts, &ignored) || !key || strcmp(facts.name, c->name) || !certificate_has_key(identity, key))
        return;
    forget(c);
    c->present = true;
    c->facts = facts;
    read_head(c, identity);
    c->founding = c->mark == NULL;
    c->certificate = mem_strndup(identity, (size_t)(key - identity));
    c->authorities = mem_strdup(authorities);
}

int credentials_open(struct credentials *c, const char *folder, const char *role, const char *name, struct error *err)
{
    CLEANUP_BUF struct buf identity = {0}, authorities = {0};
    struct error missing;
    *c = (struct credentials){.folder = mem_strdup(folder), .role = mem_strdup(role), .name = mem_strdup(name),
                              .identity_file = mem_printf("%s/identity.pem", folder),
                              .authorities_file = mem_printf("%s/authorities.pem", folder)};
    if (dir_make(folder, 0700, err))
        return -1;
    if (file_read(c->identity_file, FILE_MOST, &identity, &missing) || file_read(c->authorities_file, FILE_MOST, &authorities, &missing)) {
        if (missing.code == ERROR_NOT_FOUND)
            return 0;
        *err = missing;
        return -1;
    }
    take(c, identity.data, authorities.data);
    memset(identity.data, 0, identity.len);
    return 0;
}

void credentials_close(struct credentials *c)
{
    forget(c);
    free(c->folder);
    free(c->identity_file);
    free(c->authorities_file);
    free(c->role);
    free(c->name);
    *c = (struct credentials){0};
}

/* Whom it believes first: an identity without its authorities would be worse than the reverse. */
static int write_files(struct credentials *c, const char *key, const struct certificate_answer *given, struct error *err)
{
    CLEANUP_FREE char *head = given->mark ? mem_printf(MARK "%s %lld\n", given->mark, (long long)given->renew_at) : mem_strdup("");
    CLEANUP(certificate_key_free) char *identity = mem_printf("%s%s%s", head, given->certificate, key);
    if (file_write(c->authorities_file, given->authorities, strlen(given->authorities), 0600, err) ||
        file_write(c->identity_file, identity, strlen(identity), 0600, err))
        return -1;
    take(c, identity, given->authorities);
    return 0;
}

void credentials_founding_authority(const char *secret, int64_t now_ms, char **certificate, char **key)
{
    struct error err = {0};
    *key = secret ? certificate_key_of_secret(secret) : certificate_key_new();
    struct certificate_order o = {.key = *key, .name = FOUNDING_NAME, .authority = true, .from_ms = now_ms - FOUNDING_SLACK_MS,
                                  .until_ms = now_ms + FOUNDING_LIFE_MS};
    int rc = certificate_sign(&o, NULL, *key, certificate, &err);
    INVARIANT(rc == 0);
}

int credentials_found(struct credentials *c, const char *secret, const struct str_list *names, int64_t now_ms, struct error *err)
{
    CLEANUP(certificate_key_free) char *authority_key = NULL;
    CLEANUP(certificate_key_free) char *key = certificate_key_new();
    CLEANUP_FREE char *authority = NULL, *certificate = NULL, *own = own_name(c);
    const char **all = mem_array((size_t)names->n + 2, sizeof *all);
    all[0] = own;
    for (uint32_t i = 0; i < names->n; i++)
        all[i + 1] = names->v[i];
    credentials_founding_authority(secret, now_ms, &authority, &authority_key);
    struct certificate_order o = {.key = key, .name = c->name, .names = all, .from_ms = now_ms - FOUNDING_SLACK_MS,
                                  .until_ms = now_ms + FOUNDING_LIFE_MS};
    int rc = certificate_sign(&o, authority, authority_key, &certificate, err);
    free(all);
    if (rc)
        return -1;
    CLEANUP_FREE char *chain = mem_printf("%s%s", certificate, authority);
    struct certificate_answer made = {.certificate = chain, .authorities = authority};
    return write_files(c, key, &made, err);
}

int credentials_keep(struct credentials *c, const char *key, const struct certificate_answer *given, struct error *err)
{
    struct certificate_facts facts;
    bool whole = given->certificate && given->authorities && given->mark && *given->mark;
    if (!whole || certificate_read(given->certificate, &facts, err) || strcmp(facts.name, c->name) ||
        !certificate_has_key(given->certificate, key))
        return error_set(err, ERROR_CORRUPT, "the certificate that was given is not the one that was asked for");
    return write_files(c, key, given, err);
}

struct certificate_state credentials_state(const struct credentials *c)
{
    return (struct certificate_state){.mark = c->mark, .until = c->mark ? c->facts.until_ms : 0};
}

/* --- the file with a founding secret or a join token --- */

char *credentials_read_token(const char *path, struct error *err)
{
    CLEANUP_BUF struct buf text = {0};
    struct stat st;
    struct error missing;
    err->code = ERROR_NONE;
    if (stat(path, &st)) {
        if (errno != ENOENT)
            error_set_errno(err, errno, "%s", path);
        return NULL;
    }
    if (st.st_mode & 07) {
        error_set(err, ERROR_INVALID, "%s: everybody may read it; chmod 640 it", path);
        return NULL;
    }
    if (file_read(path, TOKEN_MOST, &text, &missing)) {
        *err = missing;
        return NULL;
    }
    size_t n = strcspn(text.data, "\r\n");
    return n ? mem_strndup(text.data, n) : NULL;
}

bool credentials_is_join_token(const char *text)
{
    return strchr(text, '@') != NULL;
}

/* With the authority's hash, as no secret that somebody thinks out. */
static bool is_cut_token(const char *text)
{
    struct error ignored;
    struct join_token_text token;
    CLEANUP(certificate_key_free) char *whole = mem_printf("%s@-", text);
    bool cut = join_token_parse(whole, &token, &ignored) == 0 && token.ca_hash;
    join_token_clear(&token);
    return cut;
}

int credentials_check_secret(const char *text, const char *path, struct error *err)
{
    if (is_cut_token(text))
        return error_set(err, ERROR_INVALID, "%s: this join token lacks the servers' addresses; copy all of it, with the @ and what "
                         "follows", path);
    if (strlen(text) >= CREDENTIALS_SECRET_LEAST)
        return 0;
    return error_set(err, ERROR_INVALID, "%s: a founding secret has at least %d characters: openssl rand -hex 32", path,
                     CREDENTIALS_SECRET_LEAST);
}
