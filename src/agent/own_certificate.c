#include "agent/own_certificate.h"

#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "join/enrol.h"

#define LOOK_MS 500
#define AGAIN_MS 3000

struct own_certificate {
    struct own_certificate_options o;
    struct credentials credentials;
    struct tls_context *context;
    struct enrol *enrol;
    uv_timer_t timer;
    char *mark;                      /* of the servers, as they said */
    char *refused;                   /* the token that was refused for good */
    char *told;                      /* why it waits, as it was logged */
    int64_t after_ms;                /* monotonic: not before that */
    bool by_token;                   /* the enrolment under way is */
    bool revoked;                    /* the present one, as a server said */
};

static bool expired(const struct own_certificate *c)
{
    return c->credentials.present && c->credentials.facts.until_ms <= time_now_ms();
}

/* Once, until something else is to be said. */
static void say(struct own_certificate *c, const char *text)
{
    if (c->told && !strcmp(c->told, text))
        return;
    LOG_W("this agent has no certificate that is good", "reason", text);
    mem_set_string(&c->told, text);
}

/* --- in use --- */

static int use(struct own_certificate *c, struct error *err)
{
    const struct credentials *own = &c->credentials;
    char until[TIME_TEXT_SIZE];
    time_format(until, own->facts.until_ms);
    free(steal(&c->told));
    c->revoked = false;
    if (c->context) {
        if (tls_context_reload(c->context, err))
            return -1;
        LOG_I("this agent has a new certificate", "until", until);
        c->o.changed(c->o.ctx);
        return 0;
    }
    c->context = tls_context_new(&(struct tls_options){.cert_file = own->identity_file, .key_file = own->identity_file,
                                 .ca_file = own->authorities_file, .client_cert = TLS_CLIENT_CERT_REQUIRED}, err);
    if (!c->context)
        return -1;
    LOG_I("this agent has a certificate", "until", until, "of", own->founding ? "its founding secret" : "the cluster");
    c->o.ready(c->o.ctx);
    return 0;
}

static void on_enrolled(void *ctx, const struct error *err)
{
    struct own_certificate *c = ctx;
    struct error why;
    c->enrol = NULL;
    c->after_ms = time_monotonic_ms() + AGAIN_MS;
    if (!err) {
        c->after_ms = 0;
        if (use(c, &why))
            LOG_E("the new certificate cannot be used", "error", why.text);
        return;
    }
    LOG_W("no certificate was given", "by", c->by_token ? "token" : "certificate", "error", err->text);
    bool for_good = c->by_token && (err->code == ERROR_DENIED || err->code == ERROR_INVALID);
    if (for_good) {
        struct error ignored;
        free(c->refused);
        c->refused = credentials_read_token(c->o.config->join_token_file, &ignored);
    }
}

/* --- asking --- */

static void start(struct own_certificate *c, const struct str_list *addresses, const struct join_token_text *token)
{
    struct error err;
    c->by_token = token != NULL;
    c->enrol = enrol_start(&(struct enrol_options){.loop = c->o.loop, .credentials = &c->credentials, .addresses = addresses,
                           .token = token, .tls = c->context, .done = on_enrolled, .ctx = c}, &err);
    if (c->enrol)
        return;
    c->after_ms = time_monotonic_ms() + AGAIN_MS;
    say(c, err.text);
}

static void ask_by_certificate(struct own_certificate *c)
{
    struct str_list addresses = {0};
    const char *server = c->o.server(c->o.ctx);
    if (server)
        str_list_add(&addresses, server);
    for (uint32_t i = 0; i < c->o.config->servers.n; i++)
        str_list_add(&addresses, c->o.config->servers.v[i]);
    start(c, &addresses, NULL);
    str_list_clear(&addresses);
}

static void found(struct own_certificate *c, const char *secret)
{
    static const struct str_list none;
    struct error err;
    if (credentials_check_secret(secret, c->o.config->join_token_file, &err) ||
        credentials_found(&c->credentials, secret, &none, time_now_ms(), &err) || use(c, &err))
        say(c, err.text);
}

/* NULL: there was none before. */
static char *why_another(const struct own_certificate *c)
{
    char until[TIME_TEXT_SIZE];
    if (c->revoked)
        return mem_strdup("the one that it had was revoked, as its node was removed from the cluster; ");
    if (!expired(c))
        return NULL;
    time_format(until, c->credentials.facts.until_ms);
    return mem_printf("the one that it had expired at %s; ", until);
}

/* A founding secret lets in for a day after the founding, and then a token in its place does. */
static bool has_token_instead(const struct own_certificate *c)
{
    struct error ignored;
    CLEANUP(certificate_key_free) char *text = credentials_read_token(c->o.config->join_token_file, &ignored);
    return text && credentials_is_join_token(text) && (!c->refused || strcmp(c->refused, text));
}

/* What it needs first of all stands in the file, now or later. */
static void ask_by_file(struct own_certificate *c)
{
    const char *path = c->o.config->join_token_file;
    struct error err;
    struct join_token_text token;
    CLEANUP_FREE char *old = why_another(c);
    CLEANUP(certificate_key_free) char *text = credentials_read_token(path, &err);
    c->after_ms = time_monotonic_ms() + AGAIN_MS;
    if (err.code != ERROR_NONE) {
        say(c, err.text);
    } else if (!text || (c->refused && !strcmp(c->refused, text))) {
        CLEANUP_FREE char *why = mem_printf("%s%sit waits for a join token in %s: mt node token", old ? old : "",
                                            text ? "the token was refused; " : "", path);
        say(c, why);
    } else if (!credentials_is_join_token(text)) {
        found(c, text);
    } else if (join_token_parse(text, &token, &err)) {
        say(c, err.text);
    } else {
        start(c, &token.addresses, &token);
        join_token_clear(&token);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct own_certificate *c = timer->data;
    const struct credentials *own = &c->credentials;
    if (c->enrol || time_monotonic_ms() < c->after_ms)
        return;
    bool other = c->mark && (!own->mark || strcmp(c->mark, own->mark));
    bool unheard = own->founding && !c->mark;        /* by any server */
    if (unheard)
        c->after_ms = time_monotonic_ms() + AGAIN_MS;
    if (!c->context || expired(c) || c->revoked || (unheard && has_token_instead(c)))
        ask_by_file(c);
    else if (other || (!own->founding && time_now_ms() >= own->renew_at_ms))
        ask_by_certificate(c);
}

/* --- */

int own_certificate_open(const struct own_certificate_options *o, struct own_certificate **out, struct error *err)
{
    struct own_certificate *c = NEW(struct own_certificate);
    CLEANUP_FREE char *folder = mem_printf("%s/tls", o->config->data_dir);
    c->o = *o;
    uv_timer_init(o->loop, &c->timer);
    c->timer.data = c;
    *out = c;
    if (credentials_open(&c->credentials, folder, "agent", o->config->name, err))
        return -1;
    /* One of a founding secret is made anew: the secret may be another one by now. */
    if (c->credentials.present && !c->credentials.founding && !expired(c) && use(c, err))
        return -1;
    on_timer(&c->timer);
    uv_timer_start(&c->timer, on_timer, LOOK_MS, LOOK_MS);
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct own_certificate *c = handle->data;
    credentials_close(&c->credentials);
    tls_context_free(c->context);
    free(c->mark);
    free(c->told);
    certificate_key_free(c->refused);
    free(c);
}

void own_certificate_close(struct own_certificate *c)
{
    if (!c)
        return;
    if (c->enrol)
        enrol_cancel(c->enrol);
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
}

struct tls_context *own_certificate_context(const struct own_certificate *c)
{
    return c->context;
}

void own_certificate_revoked(struct own_certificate *c)
{
    c->revoked = true;
}

void own_certificate_hear(struct own_certificate *c, const char *mark)
{
    mem_set_string(&c->mark, mark);
}

struct certificate_state own_certificate_state(const struct own_certificate *c)
{
    return credentials_state(&c->credentials);
}
