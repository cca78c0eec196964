/* A whole cluster in one command: a temporary directory, mentat-server, mentat-agent, then `mt run FILE` as a child, so
 * that signals are ours alone to handle. Whatever happens from the first start on, the end is the same: the agent with
 * its tasks, the server, the directory. Signals stay blocked and are taken by wait_signal. */
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
#define START_MS 30000
#define AGENT_STOP_MS 60000      /* tasks may take their kill timeouts */
#define SERVER_STOP_MS 15000
#define POLL_MS 20

struct dev {
    struct cli *cli;
    char dir[256];
    int port, agent_port;
    char *address;
    struct child server, agent, run;
    struct api *api;
    sigset_t signals;
    bool stop, hurry;            /* we were asked to end; once more */
};

/* --- ports and directory --- */

/* -1: it is taken. */
static int probe(int port)
{
    int rc = address_probe(&(struct address){.host = "127.0.0.1", .port = port}, ADDRESS_TCP);
    return rc < 0 ? -1 : rc;
}

static int choose_ports(struct dev *d, struct error *err)
{
    long long port = PORT_DEFAULT;
    if (args_number(d->cli->args, "port", 0, 65534, &port, err))
        return -1;
    d->port = probe((int)port);
    d->agent_port = d->port < 0 ? -1 : probe(port ? (int)port + 1 : 0);
    if (d->port < 0 || d->agent_port < 0)
        return error_set(err, ERROR_EXISTS, "port %lld is taken (is another `mt dev` running?); end what has it, or give "
                         "--port N (N and N+1 are used; 0 takes free ones)", d->port < 0 ? port : port + 1);
    d->address = mem_printf("http://127.0.0.1:%d", d->port);
    return 0;
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

static int start_program(struct dev *d, struct child *c, const char *name, const char *config, struct error *err)
{
    CLEANUP_FREE char *path = child_find_program(name, err);
    CLEANUP_FREE char *config_path = mem_printf("%s/%s.yaml", d->dir, name);
    char *argv[] = {(char *)(uintptr_t)name, (char *)(uintptr_t)"--config", config_path, NULL};
    c->name = name;
    c->log_path = mem_printf("%s/%s.log", d->dir, name);
    if (!path || file_write(config_path, config, strlen(config), 0644, err))
        return -1;
    return child_start(c, path, argv, err);
}

static int start_server(struct dev *d, struct error *err)
{
    CLEANUP_FREE char *config = mem_printf("name: dev\ndata_dir: %s/state\nbind: 127.0.0.1\nport: %d\n", d->dir, d->port);
    return start_program(d, &d->server, "mentat-server", config, err);
}

static int start_agent(struct dev *d, struct error *err)
{
    CLEANUP_FREE char *config = mem_printf(
        "name: dev\ndata_dir: %s/agent\nvolume_root: %s/volumes\nservers: [\"127.0.0.1:%d\"]\nbind: 127.0.0.1\nport: %d\n"
        "ip: 127.0.0.1\ncgroup_root: mentat-dev-%d\nstop_tasks_on_exit: true\n",
        d->dir, d->dir, d->port, d->agent_port, (int)getpid());
    return start_program(d, &d->agent, "mentat-agent", config, err);
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

static bool server_ready(struct dev *d)
{
    struct error err;
    CLEANUP(json_decref) json_t *ready = api_get(d->api, "/v1/readyz", &err);
    return ready != NULL;
}

static bool node_ready(struct dev *d)
{
    struct error err;
    CLEANUP(json_decref) json_t *nodes = api_list(d->api, "/v1/nodes", &err);
    return !strcmp(json_text(json_array_get(nodes, 0), "state"), "ready");
}

/* Waits until ready() holds; fails when the program ends or takes too long. 0 too when we were asked to end. */
static int wait_ready(struct dev *d, struct child *c, bool (*ready)(struct dev *d), struct error *err)
{
    char how[48];
    for (int64_t until = time_monotonic_ms() + START_MS; !d->stop; wait_signal(d, POLL_MS)) {
        if (!child_running(c)) {
            child_how_ended(c, how, sizeof how);
            child_show_log(c);
            return error_set(err, ERROR_SYSTEM, "%s %s while it started", c->name, how);
        }
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
    const char *const fixed[] = {"mt", "run", cli_operand(d->cli, 0), "--address", d->address};
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
    d->api = api_new(&(struct api_options){.addresses = d->address}, err);
    if (!d->api || start_server(d, err) || wait_ready(d, &d->server, server_ready, err))
        return -1;
    if (!d->stop && (start_agent(d, err) || wait_ready(d, &d->agent, node_ready, err)))
        return -1;
    if (d->stop)
        return 0;
    cli_say(d->cli, "server at %s, agent at 127.0.0.1:%d, files in %s", d->address, d->agent_port, d->dir);
    if (d->port != PORT_DEFAULT)
        cli_say(d->cli, "in another terminal: export MENTAT_ADDR=%s", d->address);
    if (cli_operand(d->cli, 0))
        return start_run(d, err);
    cli_say(d->cli, "ready; `mt run FILE` starts services, Ctrl-C ends the cluster");
    return 0;
}

/* Until a signal asks us to end. -1 when a program ended by itself. */
static int live(struct dev *d, struct error *err)
{
    bool running = d->run.pid != 0;
    char how[48];
    for (; !d->stop; wait_signal(d, -1)) {
        struct child *const programs[] = {&d->server, &d->agent};
        for (size_t i = 0; i < ARRAY_LEN(programs); i++)
            if (!child_running(programs[i])) {
                child_how_ended(programs[i], how, sizeof how);
                child_show_log(programs[i]);
                return error_set(err, ERROR_SYSTEM, "%s %s", programs[i]->name, how);
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

static void stop_all(struct dev *d)
{
    if (d->agent.pid)
        cli_say(d->cli, "\nstopping the tasks, the agent and the server");
    stop_child(d, &d->run, SERVER_STOP_MS);
    stop_child(d, &d->agent, AGENT_STOP_MS);
    stop_child(d, &d->server, SERVER_STOP_MS);
    if (d->api)
        api_free(d->api);
    if (d->dir[0] && args_has(d->cli->args, "keep"))
        cli_say(d->cli, "files are kept in %s", d->dir);
    else if (d->dir[0])
        dir_remove(d->dir);
    child_clear(&d->server);
    child_clear(&d->agent);
    free(d->address);
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
    {"port", 0, "N", "Port of the server, N+1 is the agent's; 0 takes free ones; default 4646.", NULL},
    {"keep", 0, NULL, "Keeps the temporary directory, with the logs of server and agent.", NULL},
    JOBFILE_VAR_OPTION,
    {0},
};

const struct command_row cmd_dev = {
    .name = "dev", .operands = "[FILE]", .max = 1, .kind = OPERAND_FILE, .options = options, .run = run,
    .summary = "a whole cluster on this machine in one command, then FILE on it, until Ctrl-C",
    .help = "Server and agent listen on loopback only. At the end all tasks are stopped and nothing is left.",
};
