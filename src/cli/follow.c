/* Each round asks for the services that are followed and their allocations, tells what changed since the last, and then
 * waits (a waiting read) until anything changes. Rounds are at least ROUND_MS apart, so that a deployment of a thousand
 * replicas does not ask a thousand times. Fails: when servers go away it goes on once one answers again (lost.h), for what it follows goes on too. */
#include "cli/follow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/timefmt.h"
#include "cli/api.h"
#include "cli/lost.h"
#include "cli/table.h"

#define ROUND_MS 100
#define WAIT "10s"
#define LINES_TOLD_MAX 40     /* a service of more replicas tells only those that go wrong */

bool follow_alloc_live(const json_t *alloc)
{
    const char *state = json_text(alloc, "state");
    return strcmp(state, "complete") && strcmp(state, "failed") && strcmp(state, "lost");
}

static bool goes_wrong(const char *state)
{
    return !strcmp(state, "failed") || !strcmp(state, "lost") || !strcmp(state, "unhealthy");
}

/* --- telling --- */

static void tell_alloc(const struct cli *cli, const json_t *a, bool many)
{
    const char *state = json_text(a, "state"), *reason = json_text(a, "reason"), *node = json_text(a, "node_name");
    if (many && !goes_wrong(state))
        return;
    cli_say(cli, "%s/%lld %s: %s%s%s%s%s", json_text(a, "service"), json_number(a, "replica"), json_text(a, "id"), state,
            *node ? " on " : "", node, *reason ? ": " : "", reason);
}

static bool is_on_the_way(const char *state)
{
    return !strcmp(state, "pending") || !strcmp(state, "starting") || !strcmp(state, "stopping");
}

/* The first round only notes what stood so before the change: it is no news. */
static void tell_allocs(const struct cli *cli, struct follow_item *item, const json_t *allocs, bool first)
{
    size_t i;
    json_t *a;
    bool many = json_array_size(allocs) > LINES_TOLD_MAX;
    json_array_foreach(allocs, i, a) {
        const char *id = json_text(a, "id"), *state = json_text(a, "state");
        if (!strcmp(json_text(item->seen, id), state))
            continue;
        json_object_set_new(item->seen, id, json_string(state));
        if (!cli->terminal && (!first || is_on_the_way(state)))
            tell_alloc(cli, a, many);
    }
}

static void tell_note(const struct cli *cli, struct follow_item *item, char *note)
{
    if (note)
        text_tame(note, false);
    bool news = note && (!item->note || strcmp(note, item->note));
    if (news && !cli->terminal && item->state == FOLLOW_GOING)
        cli_say(cli, "%s: %s", item->service, note);
    free(item->note);
    item->note = note;
}

static bool is_live(const struct cli *cli)
{
    return cli->terminal && !cli->quiet && cli->format != OUTPUT_JSON && cli->format != OUTPUT_YAML;
}

/* Draws one line for each item over those of the last time. */
static void draw(const struct cli *cli, const struct follow_item *items, size_t count, bool again)
{
    static const char *const marks[] = {[FOLLOW_GOING] = "…", [FOLLOW_DONE] = "✓", [FOLLOW_FAILED] = "✗"};
    static const char *const colors[] = {[FOLLOW_GOING] = "\033[33m", [FOLLOW_DONE] = "\033[32m", [FOLLOW_FAILED] = "\033[31m"};
    if (again)
        printf("\033[%zuA", count);
    for (size_t i = 0; i < count; i++) {
        enum follow_state s = items[i].state;
        int room = cli->columns > 0 ? cli->columns - (int)strlen(items[i].service) - 6 : 200;
        printf("\r\033[K%s%s%s %s  %.*s\n", cli->color ? colors[s] : "", marks[s], cli->color ? COLOR_OFF : "",
               items[i].service, room > 0 ? room : 0, items[i].note ? items[i].note : "");
    }
    fflush(stdout);
}

/* --- rounds --- */

static int look(struct cli *cli, struct follow_item *item, bool first, struct error *err)
{
    CLEANUP_FREE char *service_path = api_path("/v1/services/", item->service, "");
    CLEANUP_FREE char *allocs_path = api_path("/v1/allocs?service=", item->service, "");
    struct error gone = {0};
    CLEANUP(json_decref) json_t *service = api_get(cli->api, service_path, &gone);
    CLEANUP(json_decref) json_t *allocs = service ? api_list(cli->api, allocs_path, &gone) : json_array();
    if ((!service || !allocs) && gone.code != ERROR_NOT_FOUND) {
        *err = gone;
        return -1;
    }
    char *note = NULL;
    tell_allocs(cli, item, allocs, first);
    if (item->judge(cli, item, service, allocs, &item->state, &note, err)) {
        free(note);
        return -1;
    }
    tell_note(cli, item, note);
    return 0;
}

static int round_of(struct cli *cli, struct follow_item *items, size_t count, bool first, bool *going, struct error *err)
{
    *going = false;
    for (size_t i = 0; i < count; i++) {
        if (items[i].state != FOLLOW_GOING)
            continue;
        if (look(cli, &items[i], first, err))
            return -1;
        *going = *going || items[i].state == FOLLOW_GOING;
    }
    return 0;
}

static int wait_for_change(struct cli *cli, uint64_t *index, struct error *err)
{
    CLEANUP_FREE char *path = mem_printf("/v1/services?limit=1&index=%llu&wait=" WAIT, (unsigned long long)*index);
    return api_call(cli->api, HTTP_METHOD_GET, path, NULL, NULL, index, err);
}

static int finish(struct cli *cli, struct follow_item *items, size_t count)
{
    int status = STATUS_DONE;
    for (size_t i = 0; i < count; i++) {
        struct follow_item *item = &items[i];
        if (item->state == FOLLOW_FAILED) {
            fflush(stdout);
            fprintf(stderr, "mt: %s: %s; see `mt status %s` and `mt logs %s`\n", item->service,
                    item->note ? item->note : "it failed", item->service, item->service);
            status = STATUS_FAILED;
        } else if (item->state == FOLLOW_DONE && !cli->terminal) {
            cli_say(cli, "%s: %s", item->service, item->note ? item->note : "done");
        }
        free(item->note);
        json_decref(item->seen);
    }
    return status;
}

int follow_run(struct cli *cli, struct follow_item *items, size_t count)
{
    struct error err = {0};
    uint64_t index = 0;
    struct lost lost = {0};
    bool going = count > 0, first = true;
    for (size_t i = 0; i < count; i++)
        items[i].seen = json_object();
    while (going) {
        /* The index first: what changes while the round looks wakes the next wait. */
        if (wait_for_change(cli, &index, &err) || round_of(cli, items, count, first, &going, &err)) {
            if (lost_wait(&lost, cli, &err)) {
                going = true;
                continue;
            }
            finish(cli, items, count);
            return cli_fail(cli, &err);
        }
        lost_over(&lost, cli);
        if (is_live(cli))
            draw(cli, items, count, !first);
        first = false;
        if (going)
            usleep(ROUND_MS * 1000);
    }
    return finish(cli, items, count);
}
