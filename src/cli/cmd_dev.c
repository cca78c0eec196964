/* A whole cluster in one command: a temporary directory, servers, an agent, then `mt run FILE` as a child, so that signals
 * are ours alone to handle. Whatever happens from the first start on, the end is the same: the agent with its tasks and its
 * proxy, the servers, the directory. What outlives an agent that was killed, another one takes away. Signals stay blocked and
 * are taken by wait_signal. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/timefmt.h"
#include "cli/api.h"
#include "cli/child.h"
#include "cli/commands.h"
#include "cli/jobfile.h"
#include "cli/table.h"
#include "net/address.h"

#define PORT_DEFAULT 4646
#define HTTP_PORT_DEFAULT 8080
#define HTTPS_PORT_DEFAULT 8443
#define HAPROXY "/usr/sbin/haproxy"
#define START_MS 30000
#define AGENT_STOP_MS 60000      /* tasks may take their kill timeouts */
#define SERVER_STOP_MS 15000
#define POLL_MS 20
#define SERVERS_MOST 5

static const char *const server_names[SERVERS_MOST] = {"server 1", "server 2", "server 3", "server 4", "server 5"};

struct dev {
    struct cli *cli;
    char dir[256];
    long long count;             /* of servers */
    int ports[SERVERS_MOST], raft_ports[SERVERS_MOST], agent_port;
    int http_port, https_port;   /* of the ingress; 0: there is none */
    struct buf address;          /* of all servers, as --address takes them */
    struct child servers[SERVERS_MOST], agent, run;
    bool lost[SERVERS_MOST];     /* it ended, and that was told */
    struct api *api;
    sigset_t signals;
    bool stop, hurry;            /* we were asked to end; once more */
    bool agent_lost;             /* it ended after it was there, and what it ran goes on */
};

/* --- ports and directory --- */

/* -1: it is taken. */
static int probe(int port)
{
    int rc = address_probe(&(struct address){.host = "127.0.0.1", .port = port}, ADDRESS_TCP);
    return rc < 0 ? -1 : rc;
}

static bool is_chosen(const struct dev *d, int port)
{
    for (int i = 0; i < d->count; i++)
        if (d->ports[i] == port || d->raft_ports[i] == port)
            return true;
    return d->agent_port == port || d->http_port == port || d->https_port == port;
}

/* None is opened before all are chosen: the system may offer one twice. */
static int take_port(const struct dev *d, long long base, int offset, int *out, struct error *err)
{
    int port;
    do
        port = probe(base ? (int)base + offset : 0);
    while (!base && port > 0 && is_chosen(d, port));
    *out = port;
    return port >= 0 ? 0 : error_set(err, ERROR_EXISTS, "port %lld is taken (is another `mt dev` running?); end what has it, or "
                                     "give --port N (0 takes free ones)", base + offset);
}

/* The first server's, the agent's and the first server's for others, as in a real cluster; then two for each further one. */
static int choose_ingress_ports(struct dev *d, long long port, struct error *err)
{
    if (!args_has(d->cli->args, "ingress"))
        return 0;
    if (access(HAPROXY, X_OK))
        return error_set(err, ERROR_UNSUPPORTED, "--ingress needs HAProxy as " HAPROXY ": apt install haproxy");
    return take_port(d, port ? HTTP_PORT_DEFAULT : 0, 0, &d->http_port, err) ||
           take_port(d, port ? HTTPS_PORT_DEFAULT : 0, 0, &d->https_port, err) ? -1 : 0;
}

static int choose_ports(struct dev *d, struct error *err)
{
    long long port = PORT_DEFAULT;
    d->count = 1;
    if (args_number(d->cli->args, "servers", 1, SERVERS_MOST, &d->count, err) ||
        args_number(d->cli->args, "port", 0, 65535 - 2 * SERVERS_MOST, &port, err))
        return -1;
    if (d->count % 2 == 0)
        return error_set(err, ERROR_INVALID, "--servers: 1, 3 or 5; %lld survive no more losses than %lld", d->count, d->count - 1);
    if (take_port(d, port, 0, &d->ports[0], err) || take_port(d, port, 1, &d->agent_port, err))
        return -1;
    for (int i = 0; i < d->count; i++) {
        if ((i && take_port(d, port, 2 * i + 1, &d->ports[i], err)) || take_port(d, port, 2 * i + 2, &d->raft_ports[i], err))
            return -1;
        buf_printf(&d->address, "%shttp://127.0.0.1:%d", i ? "," : "", d->ports[i]);
    }
    return choose_ingress_ports(d, port, err);
}

static int make_dir(struct dev *d, struct error *err)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(d->dir, sizeof d->dir, "%.200s/mentat-dev-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp");
    if (!mkdtemp(d->dir)) {
        int failure = errno;
        d->dir[0] = '\0';
        return error_set_errno(err, failure, "cannot make a temporary directory");
    }
    /* Tasks that run as another user have to pass through to their own directories. */
    return chmod(d->dir, 0711) ? error_set_errno(err, errno, "cannot open %s to tasks", d->dir) : 0;
}

/* --- programs --- */

/* suffix: of the names of its files. */
static int start_program(struct dev *d, struct child *c, const char *program, const char *suffix, const char *config,
                         struct error *err)
{
    CLEANUP_FREE char *path = child_find_program(program, err);
    CLEANUP_FREE char *config_path = mem_printf("%s/%s%s.yaml", d->dir, program, suffix);
    char *argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)"--config", config_path, NULL};
    c->log_path = mem_printf("%s/%s%s.log", d->dir, program, suffix);
    if (!path || file_write(config_path, config, strlen(config), 0644, err))
        return -1;
    return child_start(c, path, argv, err);
}

static void add_servers(const struct dev *d, struct buf *config)
{
    buf_add_string(config, "servers: [");
    for (int i = 0; i < d->count; i++)
        buf_printf(config, "%s\"127.0.0.1:%d\"", i ? ", " : "", d->ports[i]);
    buf_add_string(config, "]\n");
}

static int start_server(struct dev *d, int i, struct error *err)
{
    CLEANUP_BUF struct buf config = {0};
    char suffix[16] = "";
    if (d->count > 1)
        snprintf(suffix, sizeof suffix, "-%d", i + 1);
    buf_printf(&config, "name: dev%s\ndata_dir: %s/state%s\nbind: 127.0.0.1\nport: %d\nraft_port: %d\n"
               "new_cluster_policy: open\n", suffix, d->dir, suffix,
               d->ports[i], d->raft_ports[i]);
    if (d->count > 1)
        add_servers(d, &config);
    d->servers[i].name = d->count > 1 ? server_names[i] : "mentat-server";
    return start_program(d, &d->servers[i], "mentat-server", suffix, config.data, err);
}

static int start_servers(struct dev *d, struct error *err)
{
    for (int i = 0; i < d->count; i++)
        if (start_server(d, i, err))
            return -1;
    return 0;
}

static int start_agent(struct dev *d, struct error *err)
{
    CLEANUP_BUF struct buf config = {0};
    buf_printf(&config, "name: dev\ndata_dir: %s/agent\nvolume_root: %s/volumes\nbind: 127.0.0.1\nport: %d\nip: 127.0.0.1\n"
               "cgroup_root: mentat-dev-%d\nstop_tasks_on_exit: true\n", d->dir, d->dir, d->agent_port, (int)getpid());
    add_servers(d, &config);
    if (d->http_port)
        buf_printf(&config, "ingress: true\nproxy: {haproxy: " HAPROXY ", bind: 127.0.0.1, http_port: %d, https_port: %d, certificates: "
                   "%s/certificates}\n", d->http_port, d->https_port, d->dir);
    d->agent.name = "mentat-agent";
    return start_program(d, &d->agent, "mentat-agent", "", config.data, err);
}

/* A signal that came within wait_ms; 0 when none did. Sets stop when it is one that ends us. */
static int wait_signal(struct dev *d, int wait_ms)
{
    struct timespec time = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000L};
    int signum = sigtimedwait(&d->signals, NULL, wait_ms < 0 ? &(struct timespec){.tv_sec = 3600} : &time);
    if (signum <= 0)
        return 0;
    d->stop = d->stop || signum != SIGCHLD;
    return signum;
}

static bool servers_ready(struct dev *d)
{
    struct error err;
    CLEANUP(json_decref) json_t *list = api_list(d->api, "/v1/cluster/servers", &err);
    long long voters = 0;
    size_t i;
    json_t *row;
    json_array_foreach(list, i, row)
        voters += !strcmp(json_text(row, "server.membership"), "voter");
    return voters == d->count;
}

static bool node_ready(struct dev *d)
{
    struct error err;
    CLEANUP(json_decref) json_t *nodes = api_list(d->api, "/v1/nodes", &err);
    return !strcmp(json_text(json_array_get(nodes, 0), "state"), "ready");
}

static bool proxy_listens(struct dev *d)
{
    return probe(d->http_port) < 0 && probe(d->https_port) < 0;
}

static int ended(struct child *c, const char *when, struct error *err)
{
    char how[48];
    child_how_ended(c, how, sizeof how);
    child_show_log(c);
    return error_set(err, ERROR_SYSTEM, "%s %s%s", c->name, how, when);
}

/* Waits until ready() holds; fails when one of the n programs ends or it takes too long. 0 too when we were asked to end. */
static int wait_ready(struct dev *d, struct child *c, long long n, bool (*ready)(struct dev *d), struct error *err)
{
    for (int64_t until = time_monotonic_ms() + START_MS; !d->stop; wait_signal(d, POLL_MS)) {
        for (int i = 0; i < n; i++)
            if (!child_running(&c[i]))
                return ended(&c[i], " while it started", err);
        if (ready(d))
            return 0;
        if (time_monotonic_ms() > until) {
            child_show_log(c);
            return error_set(err, ERROR_TIMEOUT, "%s was not ready within %d s", c->name, START_MS / 1000);
        }
    }
    return 0;
}

static int start_run(struct dev *d, struct error *err)
{
    const struct args *a = d->cli->args;
    char *argv[64];
    size_t n = 0;
    const char *const fixed[] = {"mt", "run", cli_operand(d->cli, 0), "--address", d->address.data};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        argv[n++] = (char *)(uintptr_t)fixed[i];
    if (args_has(a, "no-color"))
        argv[n++] = (char *)(uintptr_t)"--no-color";
    for (size_t i = 0; i < a->value_count && n + 3 < ARRAY_LEN(argv); i++)
        if (!strcmp(a->values[i].option->name, "var")) {
            argv[n++] = (char *)(uintptr_t)"--var";
            argv[n++] = (char *)(uintptr_t)a->values[i].value;
        }
    argv[n] = NULL;
    d->run.name = "mt run";
    return child_start(&d->run, "/proc/self/exe", argv, err);
}

/* --- the life of the cluster --- */

static int start_all(struct dev *d, struct error *err)
{
    if (choose_ports(d, err) || make_dir(d, err))
        return -1;
    d->api = api_new(&(struct api_options){.addresses = d->address.data}, err);
    if (!d->api || start_servers(d, err) || wait_ready(d, d->servers, d->count, servers_ready, err))
        return -1;
    if (!d->stop && (start_agent(d, err) || wait_ready(d, &d->agent, 1, node_ready, err)))
        return -1;
    if (!d->stop && d->http_port && wait_ready(d, &d->agent, 1, proxy_listens, err))
        return -1;
    if (d->stop)
        return 0;
    cli_say(d->cli, "server%s at %s, agent at 127.0.0.1:%d, files in %s", d->count > 1 ? "s" : "", d->address.data, d->agent_port,
            d->dir);
    if (d->http_port)
        cli_say(d->cli, "ingress at http://127.0.0.1:%d and https://127.0.0.1:%d: curl -H 'Host: NAME' http://127.0.0.1:%d/",
                d->http_port, d->https_port, d->http_port);
    cli_say(d->cli, "every service may use every security profile here; other clusters begin with a policy (mt policy get)");
    if (d->ports[0] != PORT_DEFAULT || d->count > 1)
        cli_say(d->cli, "in another terminal: export MENTAT_ADDR=%s", d->address.data);
    if (cli_operand(d->cli, 0))
        return start_run(d, err);
    cli_say(d->cli, "ready; `mt run FILE` starts services, Ctrl-C ends the cluster");
    return 0;
}

/* One of several may be killed, to see what happens. */
static int look_at_servers(struct dev *d, struct error *err)
{
    char how[48];
    long long left = 0;
    for (int i = 0; i < d->count; i++)
        left += child_running(&d->servers[i]);
    for (int i = 0; i < d->count; i++) {
        struct child *c = &d->servers[i];
        if (c->pid || d->lost[i])
            continue;
        d->lost[i] = true;
        if (!left)
            return ended(c, "", err);
        child_how_ended(c, how, sizeof how);
        cli_say(d->cli, "%s (127.0.0.1:%d) %s; %s", c->name, d->ports[i], how,
                left > d->count / 2 ? "the others go on" : "the others are no majority, and have no leader");
    }
    return 0;
}

/* Until a signal asks us to end. -1 when the agent or all servers ended by themselves. */
static int live(struct dev *d, struct error *err)
{
    bool running = d->run.pid != 0;
    for (; !d->stop; wait_signal(d, -1)) {
        if (look_at_servers(d, err))
            return -1;
        if (!child_running(&d->agent)) {
            d->agent_lost = true;
            return ended(&d->agent, "", err);
        }
        if (running && !child_running(&d->run)) {
            running = false;
            cli_say(d->cli, "%s; Ctrl-C ends the cluster",
                    d->run.status ? "the file did not run; the cluster stays, to look at" : "all is running");
        }
    }
    return 0;
}

/* SIGTERM; a second one when we are asked again: the agent kills its tasks then. SIGKILL when even that takes too long. */
static void stop_child(struct dev *d, struct child *c, int limit_ms)
{
    child_signal(c, SIGTERM);
    int64_t until = time_monotonic_ms() + limit_ms;
    while (child_running(c)) {
        int signum = wait_signal(d, POLL_MS);
        bool asked = signum && signum != SIGCHLD;
        if (asked && !d->hurry) {
            cli_say(d->cli, "killing the tasks that still run");
            d->hurry = true;
            child_signal(c, SIGTERM);
        } else if (asked || time_monotonic_ms() > until) {
            fprintf(stderr, "mt: %s does not end; killing it, tasks of its may be left\n", c->name);
            child_signal(c, SIGKILL);
            until = INT64_MAX;
        }
    }
}

static bool agent_answers(struct dev *d)
{
    struct error err;
    CLEANUP_FREE char *address = mem_printf("http://127.0.0.1:%d", d->agent_port);
    struct api *api = api_new(&(struct api_options){.addresses = address}, &err);
    CLEANUP(json_decref) json_t *answer = api ? api_get(api, "/v1/healthz", &err) : NULL;
    if (api)
        api_free(api);
    return answer != NULL;
}

/* Finds tasks and proxy again, and ends with them as any other. */
static void bring_agent_back(struct dev *d)
{
    struct error err = {0};
    cli_say(d->cli, "starting the agent once more, to end what it left running");
    child_clear(&d->agent);
    d->stop = false;
    if (start_agent(d, &err) || wait_ready(d, &d->agent, 1, agent_answers, &err))
        fprintf(stderr, "mt: %s; tasks and the proxy may be left\n", err.text);
}

static void stop_all(struct dev *d)
{
    if (d->agent_lost)
        bring_agent_back(d);
    if (d->agent.pid)
        cli_say(d->cli, "\nstopping the tasks, the agent and the server%s", d->count > 1 ? "s" : "");
    stop_child(d, &d->run, SERVER_STOP_MS);
    stop_child(d, &d->agent, AGENT_STOP_MS);
    for (int i = 0; i < d->count; i++)
        child_signal(&d->servers[i], SIGTERM);
    for (int i = 0; i < d->count; i++)
        stop_child(d, &d->servers[i], SERVER_STOP_MS);
    if (d->api)
        api_free(d->api);
    if (d->dir[0] && args_has(d->cli->args, "keep"))
        cli_say(d->cli, "files are kept in %s", d->dir);
    else if (d->dir[0])
        dir_remove(d->dir);
    for (int i = 0; i < SERVERS_MOST; i++)
        child_clear(&d->servers[i]);
    child_clear(&d->agent);
    buf_free(&d->address);
}

static int run(struct cli *cli)
{
    struct dev d = {.cli = cli};
    struct error err = {0};
    if (cli_operand(cli, 0) && !strcmp(cli_operand(cli, 0), "-")) {
        error_set(&err, ERROR_INVALID, "dev needs a file; `mt run -` reads standard input once the cluster is there");
        return cli_fail(cli, &err);
    }
    if (cli_operand(cli, 0)) {
        struct job job;
        int status = jobfile_read(cli, &job);
        type_clear(&job_type, &job);
        if (status)
            return status;
    }
    const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD};
    sigemptyset(&d.signals);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        sigaddset(&d.signals, signals[i]);
    sigprocmask(SIG_BLOCK, &d.signals, NULL);
    int rc = start_all(&d, &err);
    if (!rc)
        rc = live(&d, &err);
    int status = rc ? cli_fail(cli, &err) : STATUS_DONE;
    stop_all(&d);
    sigprocmask(SIG_UNBLOCK, &d.signals, NULL);
    return status;
}

static const struct option_row options[] = {
    {"servers", 0, "N", "So many servers: 1, 3 or 5; default 1.", NULL},
    {"port", 0, "N", "Port of the server, N+1 is the agent's, those behind it are for servers; 0 takes free ones; default "
                     "4646.", NULL},
    {"ingress", 0, NULL, "Takes requests for services with `ingress` on 127.0.0.1:8080 and 8443, by HAProxy; with --port 0 on free ports.", NULL},
    {"keep", 0, NULL, "Keeps the temporary directory, with the logs of servers and agent.", NULL},
    JOBFILE_VAR_OPTION,
    {0},
};

const struct command_row cmd_dev = {
    .name = "dev", .starts_programs = true, .operands = "[FILE]", .max = 1, .kind = OPERAND_FILE, .options = options, .run = run,
    .summary = "a whole cluster on this machine in one command, then FILE on it, until Ctrl-C",
    .help = "Servers and agent listen on loopback only. At the end all tasks are stopped and nothing is left. With several "
            "servers one may be killed: the others go on. Every service may use every security profile, which another "
            "cluster has to be told first (mt policy set).",
};
