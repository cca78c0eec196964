#include "cli/jobfile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

#define FILE_LIMIT (1024 * 1024)

static int read_stdin(struct buf *out, struct error *err)
{
    char piece[65536];
    ssize_t n;
    while ((n = read(STDIN_FILENO, piece, sizeof piece)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "cannot read standard input");
        buf_add(out, piece, (size_t)n);
        if (out->len > FILE_LIMIT)
            return error_set(err, ERROR_TOO_LARGE, "standard input is larger than 1 MiB");
    }
    return 0;
}

int jobfile_vars(const struct args *a, struct kv_list *vars, struct error *err)
{
    for (size_t i = 0; i < a->value_count; i++) {
        if (strcmp(a->values[i].option->name, "var"))
            continue;
        const char *text = a->values[i].value, *equals = strchr(text, '=');
        if (!equals || equals == text)
            return error_set(err, ERROR_INVALID, "--var %.64s: write it as --var NAME=VALUE", text);
        CLEANUP_FREE char *key = mem_strndup(text, (size_t)(equals - text));
        kv_set(vars, key, equals + 1);
    }
    return 0;
}

int jobfile_text(const char *path, struct buf *out, struct error *err)
{
    return !strcmp(path, "-") ? read_stdin(out, err) : file_read(path, FILE_LIMIT, out, err);
}

/* What is asked for afterwards is of the file's namespace. */
static int take_namespace(struct cli *cli, const struct job *job, struct error *err)
{
    const char *asked = cli_namespace_asked(cli);
    if (asked && job->namespace && strcmp(asked, job->namespace))
        return error_set(err, ERROR_INVALID, "the file is for namespace %s, and --namespace or MENTAT_NAMESPACE says %s: take one of "
                         "them out", job->namespace, asked);
    cli->file_namespace = job->namespace;
    return 0;
}

int jobfile_read(struct cli *cli, struct job *job)
{
    const char *path = cli_operand(cli, 0);
    bool from_stdin = !strcmp(path, "-");
    CLEANUP_BUF struct buf text = {0}, report = {0};
    struct kv_list vars = {0};
    struct problem_list problems = {0};
    struct error err = {0};
    *job = (struct job){0};
    int rc = jobfile_vars(cli->args, &vars, &err);
    if (!rc)
        rc = jobfile_text(path, &text, &err);
    if (rc) {
        /* A file that cannot be read is a bad file, whatever the system called it. */
        cli_fail(cli, &err);
    } else if ((rc = job_from_yaml(text.data ? text.data : "", text.len, &vars, job, &problems))) {
        problem_list_format(&problems, from_stdin ? "(stdin)" : path, &report);
        if (report.data)
            text_tame(report.data, true);
        fflush(stdout);
        fputs(report.data ? report.data : "mt: the file is not valid\n", stderr);
    } else if ((rc = take_namespace(cli, job, &err))) {
        cli_fail(cli, &err);
    }
    kv_clear(&vars);
    problem_list_clear(&problems);
    return rc ? STATUS_USAGE : STATUS_DONE;
}

int jobfile_object(const char *path, const struct type *type, void *object, const char *failed, struct error *err)
{
    CLEANUP_BUF struct buf text = {0}, report = {0};
    struct problem_list problems = {0};
    if (jobfile_text(path, &text, err))
        return -1;
    int rc = type_from_yaml(type, text.data ? text.data : "", text.len, object, &problems);
    if (rc) {
        problem_list_format(&problems, path, &report);
        error_set(err, ERROR_INVALID, "%s\n%.480s", failed, report.data ? report.data : "");
    }
    problem_list_clear(&problems);
    return rc;
}
