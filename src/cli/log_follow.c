/* Happy path: look at the service and its allocations, begin a stream for each log that is not known yet, then wait until
 * the service changes (a waiting read, beside the streams) and look again. A log ends with its allocation. The whole
 * ends when no stream is left and nothing more can come.
 *
 * Fails: a stream that breaks while its allocation lives (an agent or a server that restarts) goes on at the byte where it
 * broke; when servers go away it goes on once one answers again (lost.h). */
#include "cli/log_follow.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/timefmt.h"
#include "cli/api.h"
#include "cli/follow.h"
#include "cli/lost.h"
#include "cli/table.h"
#include "cli/views.h"

#define ROUND_MS 100             /* least time between two looks */
#define QUIET_MS 60000
#define RETRY_MS 500
#define LOST_MS 15000
#define TELL_MS 3000             /* a stream that is broken for longer is told of */
#define LAST_MS 5000             /* for what is on its way after an allocation has ended */
#define ALLOCS_MAX 200           /* each needs two connections, here and to its node */

struct log_stream {
    struct log_source *source;
    struct api_part part;
    char *path;
    bool begun;                  /* the server gave the place where the log begins */
    uint64_t number, offset;     /* that place */
    bool live;                   /* the allocation is */
    bool told;                   /* that it is broken */
    int64_t retry_at, broken_since, ended_at;    /* 0: not */
    struct log_stream *next;
};

struct log_follow {
    struct cli *cli;
    struct log_style *style;
    const struct target *target;
    struct log_choice choice;
    char *first;                 /* the replica of the first log */
    struct log_stream *streams;
    json_t *known;               /* allocation → true: its log is, was, or need not be told */
    size_t followed;             /* allocations */
    struct api_part watch;
    char *watch_path;
    uint64_t index;
    int64_t looked_at, lost_since;
    struct lost lost;
    bool looked, over, crowded;
    int status;
};

static bool is(const json_t *object, const char *path, const char *text)
{
    return !strcmp(json_text(object, path), text);
}

/* For people who watch; a pipe gets the logs alone. */
static void note(const struct log_follow *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(const struct log_follow *f, const char *fmt, ...)
{
    if (!f->cli->terminal || f->cli->quiet)
        return;
    va_list ap;
    va_start(ap, fmt);
    CLEANUP_FREE char *text = NULL;
    INVARIANT(vasprintf(&text, fmt, ap) >= 0);
    va_end(ap);
    text_tame(text, true);
    fflush(stdout);
    fprintf(stderr, "mt: %s\n", text);
}

/* --- streams --- */

static void stream_begin(struct log_follow *f, struct log_stream *s)
{
    CLEANUP_FREE char *from = NULL;
    if (s->begun)
        from = mem_printf("%" PRIu64 "-%" PRIu64, s->number, s->offset + s->source->received);
    free(s->path);
    s->path = log_source_path(s->source, from);
    s->retry_at = 0;
    s->part = (struct api_part){.path = s->path, .on_data = log_source_data, .arg = s->source};
    api_part_begin(f->cli->api, &s->part);
}

static void stream_free(struct log_stream *s)
{
    api_part_cut(&s->part);
    log_source_free(s->source);
    free(s->path);
    free(s);
}

static void note_position(struct log_stream *s)
{
    if (!s->begun && sscanf(s->part.position, "%" SCNu64 "-%" SCNu64, &s->number, &s->offset) == 2)
        s->begun = true;
}

/* What a pause may mend. */
static bool may_mend(enum error_code code)
{
    return code != ERROR_INVALID && code != ERROR_DENIED && code != ERROR_UNAUTHENTICATED && code != ERROR_UNSUPPORTED;
}

static void stream_broke(struct log_follow *f, struct log_stream *s, int64_t now)
{
    const struct error *err = &s->part.error;
    s->broken_since = s->broken_since ? s->broken_since : now;
    s->retry_at = now + RETRY_MS;
    if (s->told || now - s->broken_since < TELL_MS)
        return;
    s->told = true;
    note(f, "%s: %s; trying again", s->source->name, err->text);
}

/* False when it is over for good. */
static bool stream_step(struct log_follow *f, struct log_stream *s, int64_t now)
{
    if (s->retry_at) {
        if (now >= s->retry_at)
            stream_begin(f, s);
        return true;
    }
    bool over = api_part_over(&s->part);
    note_position(s);
    if (s->part.position[0])
        s->broken_since = 0;
    if (!over)
        return !s->ended_at || now - s->ended_at < LAST_MS;
    if (s->part.error.code == ERROR_NONE)
        return false;
    if (s->live && may_mend(s->part.error.code)) {
        stream_broke(f, s, now);
        return true;
    }
    CLEANUP_FREE char *which = mem_printf("%s (%s)", s->source->name, s->source->alloc);
    error_context(&s->part.error, "%s", which);
    f->status = cli_fail(f->cli, &s->part.error);
    return false;
}

static void streams_step(struct log_follow *f)
{
    int64_t now = time_monotonic_ms();
    for (struct log_stream **p = &f->streams; *p;) {
        struct log_stream *s = *p;
        if (stream_step(f, s, now)) {
            p = &s->next;
            continue;
        }
        *p = s->next;
        stream_free(s);
    }
}

static void add_streams(struct log_follow *f, const json_t *alloc)
{
    struct log_source *sources[2];
    size_t n = log_sources_make(f->style, alloc, sources);
    struct log_stream **end = &f->streams;
    while (*end)
        end = &(*end)->next;
    for (size_t i = 0; i < n; i++) {
        struct log_stream *s = *end = NEW(struct log_stream);
        *s = (struct log_stream){.source = sources[i], .live = follow_alloc_live(alloc)};
        end = &s->next;
        stream_begin(f, s);
    }
}

/* --- looking --- */

static void take_alloc(struct log_follow *f, const json_t *a, bool ended_too)
{
    const char *id = json_text(a, "id");
    bool first = !f->looked;
    if (json_object_get(f->known, id) || is(a, "state", "pending"))
        return;
    json_object_set_new(f->known, id, json_true());
    if (first && !ended_too && !view_alloc_current(a))
        return;
    if (f->followed == ALLOCS_MAX) {
        if (!f->crowded)
            fprintf(stderr, "mt: %s has many replicas: only the logs of %d are followed; choose one with %s%s\n",
                    f->target->name, ALLOCS_MAX, f->target->name, f->style->by_node ? "@NODE" : "/N");
        f->crowded = true;
        return;
    }
    CLEANUP_FREE char *name = target_replica_name(a, f->style->by_node);
    if (f->followed++ == 0)
        f->first = mem_strdup(name);
    else if (strcmp(name, f->first) && !f->cli->quiet)
        f->style->prefixed = true;
    if (!first)
        note(f, "%s is %s on %s, allocation %s", name, json_text(a, "state"), json_text(a, "node_name"), id);
    add_streams(f, a);
}

static bool is_asked(const struct log_follow *f, const json_t *alloc)
{
    return (f->choice.replica < 0 || json_number(alloc, "replica") == f->choice.replica) &&
           (!f->choice.node || is(alloc, "node_name", f->choice.node));
}

static void take_allocs(struct log_follow *f, const json_t *allocs)
{
    size_t i;
    json_t *a;
    bool current = false;
    json_array_foreach(allocs, i, a)
        current = current || (is_asked(f, a) && view_alloc_current(a));
    json_array_foreach(allocs, i, a)
        if (is_asked(f, a))
            take_alloc(f, a, !current);
    for (struct log_stream *s = f->streams; s; s = s->next) {
        s->live = false;
        json_array_foreach(allocs, i, a)
            s->live = s->live || (is(a, "id", s->source->alloc) && follow_alloc_live(a));
        s->ended_at = s->live ? 0 : s->ended_at ? s->ended_at : time_monotonic_ms();
    }
}

static bool any_live(const struct log_follow *f, const json_t *allocs)
{
    size_t i;
    json_t *a;
    json_array_foreach(allocs, i, a)
        if (is_asked(f, a) && follow_alloc_live(a))
            return true;
    return false;
}

/* A service that failed is tried again by itself unless restart.then says otherwise. */
static bool nothing_comes(const struct log_follow *f, const json_t *subject, const json_t *allocs)
{
    if (!subject || f->target->kind == TARGET_ALLOC)
        return !subject || !follow_alloc_live(subject);
    if (any_live(f, allocs))
        return false;
    const json_t *spec = json_at(subject, "current.spec");
    bool scheduled = *json_text(spec, "schedule");
    return is(subject, "status.state", "stopped") || (is(subject, "status.state", "complete") && !scheduled) ||
           (is(subject, "status.state", "failed") && is(spec, "restart.then", "fail") && !scheduled) ||
           (is(spec, "mode", "service") && f->choice.replica >= json_number(spec, "count"));
}

/* 404 is an answer: whatever it was is forgotten. */
static int look(struct log_follow *f, struct error *err)
{
    struct error gone = {0};
    CLEANUP(json_decref) json_t *subject = NULL, *allocs = NULL;
    if (api_call(f->cli->api, HTTP_METHOD_GET, f->watch_path, NULL, &subject, &f->index, &gone) &&
        gone.code != ERROR_NOT_FOUND) {
        *err = gone;
        return -1;
    }
    if (!subject || f->target->kind == TARGET_ALLOC)
        allocs = subject ? json_pack("[O]", subject) : json_array();
    else if (!(allocs = target_allocs(f->cli, f->target->name, true, &gone))) {
        *err = gone;
        return -1;
    }
    take_allocs(f, allocs);
    f->over = nothing_comes(f, subject, allocs);
    f->looked = true;
    return 0;
}

static int look_or_wait(struct log_follow *f, struct error *err)
{
    int64_t now = time_monotonic_ms();
    if (f->watch.exchange && !api_part_over(&f->watch))
        return 0;
    if (now < f->looked_at + (f->lost_since ? RETRY_MS : ROUND_MS))
        return 0;
    f->looked_at = now;
    if (look(f, err)) {
        f->lost_since = f->lost_since ? f->lost_since : now;
        /* Not found: it went between two questions. */
        bool between = err->code == ERROR_NOT_FOUND && now - f->lost_since < LOST_MS;
        return f->looked && (between || lost_note(&f->lost, f->cli, err)) ? 0 : -1;
    }
    f->lost_since = 0;
    lost_over(&f->lost, f->cli);
    return 0;
}

static bool on_watch(const char *data, size_t len, void *arg)
{
    return true;
}

/* From before a look on, so that what changes while it looks is not missed. */
static void watch_begin(struct log_follow *f, char **path)
{
    free(*path);
    *path = mem_printf("%s?index=%" PRIu64 "&wait=60s", f->watch_path, f->index);
    f->watch = (struct api_part){.path = *path, .on_data = on_watch};
    api_part_begin(f->cli->api, &f->watch);
}

/* Nothing is due but what the servers send. */
static bool is_quiet(const struct log_follow *f)
{
    for (const struct log_stream *s = f->streams; s; s = s->next)
        if (s->retry_at || s->ended_at)
            return false;
    return f->watch.exchange;
}

int log_follow(struct cli *cli, const struct target *target, const struct log_choice *choice, struct log_style *style)
{
    struct log_follow f = {.cli = cli, .style = style, .target = target, .choice = *choice, .known = json_object(),
                           .status = STATUS_DONE};
    struct error err = {0};
    CLEANUP_FREE char *waiting = NULL;
    bool ended = false;
    f.watch_path = api_path(target->kind == TARGET_ALLOC ? "/v1/allocs/" : "/v1/services/", target->name, "");
    while (!ended) {
        if (look_or_wait(&f, &err)) {
            f.status = cli_fail(cli, &err);
            break;
        }
        if (!f.watch.exchange && !f.over && !f.lost_since)
            watch_begin(&f, &waiting);
        streams_step(&f);
        ended = (f.over && !f.streams) || ferror(stdout);
        if (!ended)
            api_turn(cli->api, is_quiet(&f) ? QUIET_MS : ROUND_MS);
    }
    api_part_cut(&f.watch);
    while (f.streams) {
        struct log_stream *s = f.streams;
        f.streams = s->next;
        stream_free(s);
    }
    json_decref(f.known);
    free(f.first);
    free(f.watch_path);
    return f.status;
}
