/* What a service of a compose file runs, and within which limits: one function for a key. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/compose_import.h"
#include "model/profile.h"

#define MB (1ll << 20)
#define MEMORY_GUESS_MB 256

static void set_text(char **to, const struct value_entry *e)
{
    CLEANUP_FREE char *text = value_literal(compose_scalar(&e->value));
    mem_set_string(to, *text ? text : NULL);
}

static void add_word(struct str_list *to, const char *text)
{
    CLEANUP_FREE char *word = value_literal(text);
    str_list_add(to, word);
}

/* A list of words, or one text that is taken apart as a shell does it. */
static void take_words(struct import_service *i, const struct value_entry *e, struct str_list *to)
{
    const struct value *v = &e->value;
    struct str_list words = {0};
    if (v->kind == VALUE_MAP)
        left_add(i, e, "neither a text nor a list");
    else if (v->kind == VALUE_LIST)
        for (uint32_t k = 0; k < v->n; k++)
            str_list_add(&words, compose_scalar(&v->entries[k].value));
    else if (!compose_words(compose_scalar(v), &words))
        left_add(i, e, "a quote is not closed");
    for (uint32_t k = 0; k < words.n; k++)
        add_word(to, words.v[k]);
    str_list_clear(&words);
}

static TAKE(image)
{
    set_text(&i->s->config.image, e);
}

static TAKE(build)
{
    CLEANUP_FREE char *name = mem_printf("%s-%s", i->im->job->name, i->s->name);
    if (!i->s->config.image)
        mem_set_string(&i->s->config.image, name);
    left_add(i, e, "Mentat builds no images: build it, push it to a registry, and give its name as config.image");
}

static TAKE(command)
{
    take_words(i, e, &i->s->config.command);
}

static TAKE(entrypoint)
{
    take_words(i, e, &i->s->config.entrypoint);
    if (!i->s->config.entrypoint.n)
        left_add(i, e, "an empty entry point is the image's own here");
}

static TAKE(user)
{
    set_text(&i->s->config.user, e);
    const char *user = compose_scalar(&e->value);
    size_t n = strcspn(user, ":");
    i->non_root = n && strspn(user, "0123456789") == n && strspn(user, "0") < n;
}

static TAKE(working_dir)
{
    set_text(&i->s->config.workdir, e);
}

static TAKE(pull_policy)
{
    const char *text = compose_scalar(&e->value);
    if (!strcmp(text, "always") || !strcmp(text, "never"))
        i->s->config.pull = *text == 'a' ? PULL_ALWAYS : PULL_NEVER;
    else if (strcmp(text, "missing") && strcmp(text, "if_not_present"))
        left_add(i, e, "there are always, never and missing");
}

/* --- environment --- */

static bool is_env_name(const char *name)
{
    return *name && !isdigit((unsigned char)*name) &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name);
}

static void add_env(struct import_service *i, const struct value_entry *e, const char *key, const char *value)
{
    if (!value)
        value = i->im->options->variable(i->im->options->ctx, key);
    if (!is_env_name(key)) {
        left_add(i, e, "`%.60s` cannot be the name of a variable here", key);
    } else if (!value) {
        left_add(i, e, "%.60s is not set where this was imported, and is left out", key);
    } else {
        CLEANUP_FREE char *text = value_literal(value);
        kv_set(&i->s->config.env, key, text);
    }
}

static void add_env_pair(struct import_service *i, const struct value_entry *e, const char *pair)
{
    const char *equals = strchr(pair, '=');
    CLEANUP_FREE char *key = equals ? mem_strndup(pair, (size_t)(equals - pair)) : mem_strdup(pair);
    add_env(i, e, key, equals ? equals + 1 : NULL);
}

static TAKE(environment)
{
    const struct value *v = &e->value;
    for (uint32_t k = 0; k < v->n; k++) {
        const struct value *item = &v->entries[k].value;
        if (v->kind == VALUE_MAP)
            add_env(i, &v->entries[k], v->entries[k].key, item->kind == VALUE_NULL ? NULL : compose_scalar(item));
        else
            add_env_pair(i, e, compose_scalar(item));
    }
    if (v->kind < VALUE_LIST && v->kind != VALUE_NULL)
        left_add(i, e, "neither a map nor a list");
}

struct env_lines { struct import_service *i; const struct value_entry *e; };

/* What is in `environment` wins. */
static void take_env_line(void *arg, const char *key, const char *value)
{
    const struct env_lines *l = arg;
    if (!kv_get(&l->i->s->config.env, key))
        add_env(l->i, l->e, key, value);
}

static void take_env_file(struct import_service *i, const struct value_entry *e, const struct value *item)
{
    const char *path = item->kind == VALUE_MAP ? value_text(item, "path") : compose_scalar(item);
    CLEANUP_BUF struct buf text = {0};
    struct error err;
    if (!path || !*path || !i->im->options->read_file)
        left_add(i, e, "no file is named, or none can be read here");
    else if (i->im->options->read_file(i->im->options->ctx, path, &text, &err) < 0)
        left_add(i, e, "%.300s", err.text);
    else if (!text_is_utf8(text.data ? text.data : "", text.len) || memchr(text.data ? text.data : "", 0, text.len))
        left_add(i, e, "%.100s is not text", path);
    else
        compose_env_lines(&text, take_env_line, &(struct env_lines){i, e});
}

static TAKE(env_file)
{
    const struct value *v = &e->value;
    if (v->kind != VALUE_LIST)
        take_env_file(i, e, v);
    /* The last file wins, so that it is the first to be read: what is there stays. */
    for (uint32_t k = v->kind == VALUE_LIST ? v->n : 0; k-- > 0; )
        take_env_file(i, e, &v->entries[k].value);
}

/* --- health, restart, end --- */

static void take_duration(struct import_service *i, const struct value_entry *e, int64_t *to)
{
    int64_t ms = e ? compose_duration(compose_scalar(&e->value)) : 0;
    if (e && ms < 0)
        left_add(i, e, "`%.60s` is no duration", compose_scalar(&e->value));
    else if (e)
        *to = ms;
}

static bool take_test(struct import_service *i, const struct value_entry *e, struct str_list *command)
{
    const struct value *v = &e->value;
    const char *kind = v->kind == VALUE_LIST && v->n ? compose_scalar(&v->entries[0].value) : "";
    bool shell = v->kind == VALUE_TEXT || !strcmp(kind, "CMD-SHELL");
    if (!strcmp(kind, "NONE"))
        return false;
    if (!shell && strcmp(kind, "CMD")) {
        left_add(i, e, "wanted a text, or a list that begins with CMD or CMD-SHELL");
        return false;
    }
    if (shell) {
        str_list_add(command, "/bin/sh");
        str_list_add(command, "-c");
    }
    if (v->kind == VALUE_TEXT)
        add_word(command, v->text);
    for (uint32_t k = 1; v->kind == VALUE_LIST && k < v->n; k++)
        add_word(command, compose_scalar(&v->entries[k].value));
    return command->n > (shell ? 2 : 0);
}

static TAKE(healthcheck)
{
    const struct value *v = &e->value;
    const struct value_entry *test = value_get(v, "test"), *retries = value_get(v, "retries");
    struct health *h = &i->s->health;
    if (value_true(v, "disable"))
        return;
    if (!test) {
        left_add(i, e, "the image's own check with other times cannot be had: write its command into `health`");
        return;
    }
    if (!take_test(i, test, &h->command)) {
        str_list_clear(&h->command);
        return;
    }
    h->type = HEALTH_EXEC;
    h->interval_ms = h->timeout_ms = 30000;
    take_duration(i, value_get(v, "interval"), &h->interval_ms);
    take_duration(i, value_get(v, "timeout"), &h->timeout_ms);
    take_duration(i, value_get(v, "start_period"), &h->grace_ms);
    if (retries && strtoll(compose_scalar(&retries->value), NULL, 10) > 0)
        h->unhealthy = strtoll(compose_scalar(&retries->value), NULL, 10);
    if (h->timeout_ms > h->interval_ms) {
        left_add(i, e, "its timeout is longer than its interval: it is as long as that here");
        h->timeout_ms = h->interval_ms;
    }
    int64_t patience = (h->grace_ms + h->interval_ms + h->timeout_ms + 999) / 1000;
    if (patience > i->s->deploy.health_timeout_secs && patience <= 86400)
        i->s->deploy.health_timeout_secs = patience;
}

static TAKE(restart)
{
    const char *text = compose_scalar(&e->value);
    const char *colon = strchr(text, ':');
    if (!strcmp(text, "no") || !strcmp(text, "false")) {
        i->s->restart.attempts = 0;
        i->s->restart.then = THEN_FAIL;
    } else if (text_has_prefix(text, "on-failure") && colon && atoll(colon + 1) > 0) {
        i->s->restart.attempts = atoll(colon + 1);
    } else if (strcmp(text, "always") && strcmp(text, "unless-stopped") && strcmp(text, "on-failure")) {
        left_add(i, e, "`%.60s` is no restart policy", text);
    }
}

static TAKE(stop_signal)
{
    set_text(&i->s->kill.signal, e);
}

static TAKE(stop_grace_period)
{
    take_duration(i, e, &i->s->kill.timeout_ms);
}

/* --- limits --- */

TAKE(memory_limit)
{
    int64_t bytes = compose_bytes(compose_scalar(&e->value));
    if (bytes <= 0) {
        left_add(i, e, "`%.60s` is no size", compose_scalar(&e->value));
        return;
    }
    i->s->resources.memory_mb = (bytes + MB - 1) / MB;
    i->has_memory = true;
}

static double number(const struct value_entry *e)
{
    return strtod(compose_scalar(&e->value), NULL);
}

TAKE(cpus)
{
    if (number(e) > 0)
        i->s->resources.cpu_max = number(e);
}

TAKE(pids_limit)
{
    i->s->resources.pids = number(e) > 0 && number(e) < 1e7 ? (int64_t)number(e) : 0;
}

static TAKE(cpu_shares)
{
    if (number(e) > 0)
        i->s->resources.cpus = number(e) / 1024;
}

static TAKE(ulimits)
{
    for (uint32_t k = 0; e->value.kind == VALUE_MAP && k < e->value.n; k++) {
        const struct value_entry *u = &e->value.entries[k];
        const struct value_entry *soft = value_get(&u->value, "soft"), *hard = value_get(&u->value, "hard");
        CLEANUP_FREE char *pair = soft && hard ? mem_printf("%s:%s", compose_scalar(&soft->value), compose_scalar(&hard->value))
                                               : mem_strdup(compose_scalar(&u->value));
        kv_set(&i->s->config.ulimits, u->key, pair);
    }
    if (e->value.kind != VALUE_MAP)
        left_add(i, e, "not a map");
}

/* --- what it may --- */

static bool names(const struct value *list, const char *name)
{
    for (uint32_t k = 0; list && list->kind == VALUE_LIST && k < list->n; k++) {
        const char *text = compose_scalar(&list->entries[k].value);
        if (!strcmp(text_has_prefix(text, "CAP_") ? text + 4 : text, name) || !strcmp(text, "ALL"))
            return true;
    }
    return false;
}

/* The engine's list with what is added and dropped. Both keys lead here; the second time changes nothing. */
static TAKE(capabilities)
{
    const struct value *add = value_path(i->v, "cap_add"), *drop = value_path(i->v, "cap_drop");
    const struct privileges *legacy = &profile_of(DRIVER_DOCKER, PROFILE_DOCKER_LEGACY)->may;
    struct str_list *to = &i->s->security.capabilities;
    str_list_clear(to);
    for (uint32_t k = 0; k < legacy->n_capabilities; k++)
        if (!names(drop, legacy->capabilities[k]))
            str_list_add(to, legacy->capabilities[k]);
    for (uint32_t k = 0; add && add->kind == VALUE_LIST && k < add->n; k++) {
        const char *text = compose_scalar(&add->entries[k].value);
        bool there = false;
        text += text_has_prefix(text, "CAP_") ? 4 : 0;
        for (uint32_t n = 0; n < to->n; n++)
            there |= !strcmp(to->v[n], text);
        if (!there)
            str_list_add(to, text);
    }
    if (!to->n)
        str_list_add(to, "none");
    if (add && add->n && !strcmp(e->key, "cap_add"))
        left_add(i, e, "what goes beyond docker-legacy needs an exception in the cluster's policy, and ALL is not to be had");
}

static TAKE(read_only)
{
    i->read_only = !strcmp(compose_scalar(&e->value), "true");
    mem_set_string(&i->s->security.writable_root, i->read_only ? "false" : NULL);
}

static TAKE(privileged)
{
    if (strcmp(compose_scalar(&e->value), "false"))
        left_add(i, e, "no security profile allows it");
}

static TAKE(security_opt)
{
    for (uint32_t k = 0; k < e->value.n; k++) {
        const char *text = compose_scalar(&e->value.entries[k].value);
        if (text_has_prefix(text, "no-new-privileges") && !strstr(text, "false"))
            mem_set_string(&i->s->security.new_privileges, "false");
        else
            left_add(i, e, "`%.60s` cannot be had: filters of system calls and AppArmor are the profile's", text);
    }
}

/* --- the rest --- */

static TAKE(labels)
{
    const struct value *v = &e->value;
    for (uint32_t k = 0; k < v->n; k++) {
        const char *text = compose_scalar(&v->entries[k].value), *equals = v->kind == VALUE_LIST ? strchr(text, '=') : NULL;
        CLEANUP_FREE char *key = v->kind == VALUE_MAP ? mem_strdup(v->entries[k].key)
                               : equals ? mem_strndup(text, (size_t)(equals - text)) : mem_strdup(text);
        kv_set(&i->s->meta, key, v->kind == VALUE_MAP ? text : equals ? equals + 1 : "");
    }
    left_add(i, e, "kept as `meta`; containers do not have them");
}

static TAKE(logging)
{
    const struct value *size = value_path(&e->value, "options/max-size"), *files = value_path(&e->value, "options/max-file");
    const char *driver = value_text(&e->value, "driver");
    int64_t bytes = size ? compose_bytes(compose_scalar(size)) : -1, count = files ? atoll(compose_scalar(files)) : 0;
    if (bytes > 0)
        i->s->logs.max_mb = (bytes + MB - 1) / MB;
    if (count > 0)
        i->s->logs.max_files = count;
    if (driver && strcmp(driver, "json-file") && strcmp(driver, "local"))
        left_add(i, e, "logs are Mentat's; they do not go to `%.60s`", driver);
}

static TAKE(scale)
{
    if (number(e) >= 0 && number(e) < 1e6)
        i->s->count = (int64_t)number(e);
}

static TAKE(nothing)
{
}

static const struct compose_key keys[] = {
    {"image", compose_image, NULL}, {"build", compose_build, NULL}, {"command", compose_command, NULL},
    {"entrypoint", compose_entrypoint, NULL}, {"user", compose_user, NULL}, {"working_dir", compose_working_dir, NULL},
    {"pull_policy", compose_pull_policy, NULL}, {"environment", compose_environment, NULL}, {"env_file", compose_env_file, NULL},
    {"healthcheck", compose_healthcheck, NULL}, {"restart", compose_restart, NULL}, {"stop_signal", compose_stop_signal, NULL},
    {"stop_grace_period", compose_stop_grace_period, NULL}, {"mem_limit", compose_memory_limit, NULL},
    {"cpus", compose_cpus, NULL}, {"cpu_shares", compose_cpu_shares, NULL}, {"pids_limit", compose_pids_limit, NULL},
    {"ulimits", compose_ulimits, NULL}, {"cap_add", compose_capabilities, NULL}, {"cap_drop", compose_capabilities, NULL},
    {"read_only", compose_read_only, NULL}, {"privileged", compose_privileged, NULL},
    {"security_opt", compose_security_opt, NULL}, {"labels", compose_labels, NULL}, {"logging", compose_logging, NULL},
    {"scale", compose_scale, NULL}, {"deploy", compose_deploy, NULL}, {"ports", compose_ports, NULL},
    {"volumes", compose_volumes, NULL}, {"tmpfs", compose_tmpfs, NULL}, {"networks", compose_networks, NULL},
    {"network_mode", compose_network_mode, NULL}, {"depends_on", compose_depends_on, NULL},
    {"profiles", compose_nothing, NULL},
    {"expose", NULL, "services of one job reach each other at every port"},
    {"container_name", NULL, "containers are named after their allocations; others of the job find the service by its name"},
    {"links", NULL, "services of one job find each other by their names"},
    {"extends", NULL, "write the keys of the other service out, or use `docker compose config` first"},
    {"secrets", NULL, "put each by `mt secret put`, and name it under `secrets` with the file: then it is in /run/secrets as well"},
    {"configs", NULL, "put the file into the image or a volume"},
    {"devices", NULL, "no security profile gives devices of the host"},
    {"gpus", NULL, "no security profile gives devices of the host"},
    {"pid", NULL, "no security profile shares the host's processes"},
    {"ipc", NULL, "no security profile shares the host's memory segments"},
    {"userns_mode", NULL, "no security profile leaves the engine's user namespace"},
    {"mem_reservation", NULL, "memory is a hard limit: resources.memory_mb"},
    {"memswap_limit", NULL, "there is no swap for tasks"},
    {"mem_swappiness", NULL, "there is no swap for tasks"},
    {"tty", NULL, "services have no terminal; `mt exec` gives one to a command"},
    {"stdin_open", NULL, "services have no standard input; `mt exec` gives one to a command"},
    {"hostname", NULL, "others of the job find the service by its name"},
};

const struct compose_key *compose_service_key(const char *name)
{
    for (size_t k = 0; k < ARRAY_LEN(keys); k++)
        if (!strcmp(keys[k].name, name))
            return &keys[k];
    return NULL;
}

void compose_service_finish(struct import_service *i)
{
    struct service *s = i->s;
    /* What Compose itself gives to containers. With these two a service needs none of it. */
    if (!i->non_root || !i->read_only || i->shares_volume || !names(value_path(i->v, "cap_drop"), "ALL")) {
        s->security.profile = PROFILE_DOCKER_LEGACY;
    } else {
        mem_set_string(&s->security.writable_root, NULL);
        if (!strcmp(s->security.capabilities.v[0], "none"))
            str_list_clear(&s->security.capabilities);
    }
    if (!i->has_memory) {
        s->resources.memory_mb = MEMORY_GUESS_MB;
        CLEANUP_FREE char *path = mem_printf("services.%s", i->key);
        left_add_at(i->im, path, i->v->line, i->v->column, "the service has no memory limit: %d MB is a guess, see "
                    "resources.memory_mb", MEMORY_GUESS_MB);
    }
    if (s->resources.cpu_max > 0 && s->resources.cpus > s->resources.cpu_max)
        s->resources.cpus = s->resources.cpu_max;
}
