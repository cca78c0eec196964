#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/compose_import.h"
#include "cli/jobfile.h"

#define FILE_LIMIT (1024 * 1024)

/* Variables are those of --var, then of the environment, then of the .env beside the file, as Compose has it. */
struct source {
    const char *dir;
    struct kv_list vars, dot_env;
};

static const char *variable(void *ctx, const char *name)
{
    const struct source *s = ctx;
    const char *value = kv_get(&s->vars, name);
    if (!value)
        value = getenv(name);
    if (value && !text_is_utf8(value, strlen(value)))
        value = NULL;
    return value ? value : kv_get(&s->dot_env, name);
}

static int read_beside(void *ctx, const char *path, struct buf *out, struct error *err)
{
    const struct source *s = ctx;
    CLEANUP_FREE char *full = *path == '/' ? mem_strdup(path) : mem_printf("%s/%s", s->dir, path);
    return file_read(full, FILE_LIMIT, out, err);
}

static void add_variable(void *arg, const char *key, const char *value)
{
    struct source *s = arg;
    if (value)
        kv_set(&s->dot_env, key, value);
}

static void read_dot_env(struct source *s)
{
    CLEANUP_BUF struct buf text = {0};
    if (read_beside(s, ".env", &text, NULL) == 0 && text_is_utf8(text.data ? text.data : "", text.len))
        compose_env_lines(&text, add_variable, s);
}

static void tell_left(const char *path, const struct problem_list *left)
{
    CLEANUP_BUF struct buf report = {0};
    problem_list_format(left, path, &report);
    if (!report.len)
        return;
    text_tame(report.data, true);
    fprintf(stderr, "mt: what was not translated, or in another way:\n%s", report.data);
}

static void compose_file(const struct job *job, const struct problem_list *left, const char *path, struct buf *out)
{
    buf_printf(out, "# Imported from %s. Compose gives containers what `profile: docker-legacy` is; without it they are\n"
               "# docker-hardened, which needs a user other than root and no write access to the image.\n", path);
    if (left->n)
        buf_add_string(out, "# Not translated, or in another way:\n");
    for (uint32_t i = 0; i < left->n; i++) {
        const struct problem *p = &left->v[i];
        CLEANUP_FREE char *line = p->line ? mem_printf("#   %d:%d: %s: %s\n", p->line, p->column, p->path, p->message)
                                          : mem_printf("#   %s: %s\n", p->path, p->message);
        size_t n = strlen(line) - 1;
        line[n] = 0;
        text_tame(line, false);
        buf_printf(out, "%s\n", line);
    }
    type_to_yaml(&job_type, job, out);
}

static int write_out(struct cli *cli, const struct buf *text, struct error *err)
{
    const char *path = args_get(cli->args, "out");
    if (path && !args_has(cli->args, "force") && access(path, F_OK) == 0)
        return error_set(err, ERROR_EXISTS, "%s is there already; name another file, or give --force to replace it", path);
    if (path)
        return file_write(path, text->data, text->len, 0644, err);
    fwrite(text->data, 1, text->len, stdout);
    return 0;
}

static char *folder_name(const char *dir)
{
    char full[PATH_MAX];
    const char *last = realpath(dir, full) ? strrchr(full, '/') : NULL;
    return mem_strdup(last && last[1] ? last + 1 : "job");
}

static int import(struct cli *cli, struct source *s, const char *path, struct error *err)
{
    CLEANUP_BUF struct buf text = {0}, out = {0};
    CLEANUP_FREE char *project = folder_name(s->dir);
    struct str_list profiles = {0};
    struct problem_list left = {0}, problems = {0};
    struct job job;
    if (jobfile_text(path, &text, err) < 0)
        return STATUS_USAGE;
    for (size_t i = 0; i < cli->args->value_count; i++)
        if (!strcmp(cli->args->values[i].option->name, "profile"))
            str_list_add(&profiles, cli->args->values[i].value);
    struct compose_options options = {.job = args_get(cli->args, "name"), .project = project, .profiles = &profiles,
                                      .variable = variable, .read_file = read_beside, .ctx = s};
    const char *shown = strcmp(path, "-") ? path : "(stdin)";
    int status = compose_import(text.data ? text.data : "", text.len, &options, &job, &left, &problems) < 0 ? STATUS_USAGE : STATUS_DONE;
    tell_left(shown, &left);
    if (status == STATUS_DONE) {
        compose_file(&job, &left, shown, &out);
        status = write_out(cli, &out, err) < 0 ? STATUS_FAILED : STATUS_DONE;
        type_clear(&job_type, &job);
    } else {
        CLEANUP_BUF struct buf report = {0};
        problem_list_format(&problems, shown, &report);
        text_tame(report.data, true);
        fputs(report.data, stderr);
    }
    str_list_clear(&profiles);
    problem_list_clear(&left);
    problem_list_clear(&problems);
    return status;
}

static int run(struct cli *cli)
{
    struct error err = {0};
    const char *path = cli_operand(cli, 0), *slash = strrchr(path, '/');
    CLEANUP_FREE char *dir = slash ? mem_strndup(path, (size_t)(slash - path + (slash == path))) : mem_strdup(".");
    struct source s = {.dir = dir};
    int status = STATUS_USAGE;
    if (jobfile_vars(cli->args, &s.vars, &err) == 0) {
        read_dot_env(&s);
        status = import(cli, &s, path, &err);
    }
    if (err.code)
        cli_fail(cli, &err);
    kv_clear(&s.vars);
    kv_clear(&s.dot_env);
    return status;
}

static const struct option_row options[] = {
    {"out", 'O', "FILE", "Writes to FILE instead of standard output.", NULL},
    {"force", 0, NULL, "Replaces FILE of --out when it is there already.", NULL},
    {"name", 0, "NAME", "Name of the job; default: the file's `name`, else that of its folder.", NULL},
    {"profile", 0, "NAME", "Takes the services of this profile too; may be given several times.", NULL},
    JOBFILE_VAR_OPTION,
    {0},
};

const struct command_row cmd_import = {
    .name = "import", .operands = "FILE", .min = 1, .max = 1, .kind = OPERAND_FILE, .options = options, .run = run,
    .summary = "make a services.yaml of a compose.yaml",
    .help = "What could not be translated is listed on stderr with line and column, and in comments at the top of the file.\n"
            "Variables are taken from --var, the environment, and .env beside the file. \"-\" reads standard input. The file\n"
            "that is written passes `mt validate`; read it before `mt run`.",
};
