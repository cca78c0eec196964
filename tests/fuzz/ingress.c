/* The ingress: what the servers send becomes a configuration of the proxy (first byte even), and what the proxy says is read
 * (odd). Whatever a table holds, every line of the configuration is one that the renderer knows. */
#include "fuzz.h"

#include <string.h>

#include "agent/ingress/access_log.h"
#include "agent/ingress/answers.h"
#include "agent/ingress/changes.h"
#include "agent/ingress/plan.h"
#include "agent/ingress/render.h"
#include "base/text.h"
#include "model/model.h"

static void on_stat(void *ctx, const struct answer_stat *s)
{
    INVARIANT(s->proxy && s->server);
}

static void read_answers(const char *text)
{
    struct answer_processes processes;
    struct layout l = {0};
    struct kv_list map = {0};
    char structure[STRUCTURE_SIZE];
    answer_processes(text, &processes, NULL);
    answer_servers(text, &l, NULL);
    answer_map(text, &map);
    answer_certificates(text, &map);
    answer_structure(text, structure);
    answer_stats(text, on_stat, NULL, NULL);
    struct access_line line;
    if (access_line_parse(text, strlen(text), &line))
        INVARIANT(*line.backend && *line.ip && line.port > 0 && line.response_ms >= 0);
    struct layout adopted = {0};
    plan_adopt(&adopted, &l);
    layout_clear(&adopted);
    layout_clear(&l);
    kv_clear(&map);
}

/* Lines of backends have but these beginnings; names are words. */
static void check_config(const char *text)
{
    static const char *const beginnings[] = {"frontend ", "backend ", "    mode tcp", "    option ", "    bind ", "    default_backend ",
                                             "    cookie MENTAT ", "    dynamic-cookie-key ", "    server s",
                                             "    http-after-response replace-header Set-Cookie ^(MENTAT=",
                                             "    http-request set-var(txn.number) req.fhdr(", "    use-server %[str(",
                                             "    stick-table type ipv6 ", "    http-request track-sc1 src table ",
                                             "    http-request deny deny_status 413 if { req.body_size gt ",
                                             "    http-request deny deny_status 429 if { sc_http_req_rate(1) gt ", NULL};
    const char *own = strstr(text, "\nbackend unknown\n");
    INVARIANT(own);
    for (int i = 0; i < 3; i++)      /* behind it */
        own = strchr(own, '\n') + 1;
    for (const char *line = own; *line; line = strchr(line, '\n') + 1) {
        bool known = false;
        for (size_t i = 0; beginnings[i]; i++)
            known |= text_has_prefix(line, beginnings[i]);
        INVARIANT(known);
    }
}

static void render_table(const char *json, size_t len)
{
    struct agent_ingress table;
    struct problem_list problems = {0};
    if (type_from_json(&agent_ingress_type, json, len, true, &table, &problems) < 0) {
        problem_list_clear(&problems);
        return;
    }
    struct ingress_config config;
    type_init(&ingress_config_type, &config);
    struct render_options o = {.config = &config, .directory = "/d", .open_files = 20000, .cookie_key = "k"};
    struct layout l = {0}, empty = {0};
    struct str_list touched = {0};
    CLEANUP_BUF struct buf text = {0};
    CLEANUP_BUF struct buf commands = {0};
    char *problem = NULL;
    plan_follow(&l, &table, &(struct plan_limits){.http = true, .https = true}, &problem);
    render_config(&l, &o, &text);
    check_config(text.data);
    for (int i = 0; i < MAP_COUNT; i++)
        render_map(&l.maps[i], &text);
    for (uint32_t i = 0; i < l.n; i++)
        backend_grow(layout_add(&empty, l.backends[i]->name), l.backends[i]->n_slots);
    changes_between(&empty, &l, &commands, &touched);
    for (size_t i = 0; i < commands.len; i++)
        INVARIANT(commands.data[i] != ';' && commands.data[i] != '<' && commands.data[i] != '\\');
    free(problem);
    str_list_clear(&touched);
    layout_clear(&l);
    layout_clear(&empty);
    type_clear(&agent_ingress_type, &table);
    type_clear(&ingress_config_type, &config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    CLEANUP_FREE char *text = mem_strndup((const char *)data + 1, size - 1);
    if (data[0] % 2)
        read_answers(text);
    else
        render_table((const char *)data + 1, size - 1);
    return 0;
}
