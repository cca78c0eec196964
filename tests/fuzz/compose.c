/* compose.yaml: whatever is taken over is a valid services.yaml, and reads back as the same. */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/compose.h"

static const char *variable(void *ctx, const char *name)
{
    return !strcmp(name, "TAG") ? "a${b}" : !strcmp(name, "EMPTY") ? "" : NULL;
}

static int read_file(void *ctx, const char *path, struct buf *out, struct error *err)
{
    static const char text[] = "# comment\nexport A=\"quoted $x\"\nB=plain # rest\n =odd\nC\n1D=x\n";
    if (strcmp(path, "db.env"))
        return error_set(err, ERROR_NOT_FOUND, "%.100s is not there", path);
    buf_add(out, text, sizeof text - 1);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct job job, again;
    struct str_list profiles = {0};
    struct problem_list left = {0}, problems = {0};
    struct compose_options options = {.project = "folder", .profiles = &profiles, .variable = variable, .read_file = read_file};
    if (compose_import((const char *)data, size, &options, &job, &left, &problems) < 0) {
        INVARIANT(problems.n > 0);
    } else {
        CLEANUP_BUF struct buf text = {0};
        INVARIANT(!problems.n);
        type_to_yaml(&job_type, &job, &text);
        int rc = job_from_yaml(text.data, text.len, NULL, &again, &problems);
        if (rc) {
            CLEANUP_BUF struct buf report = {0};
            problem_list_format(&problems, NULL, &report);
            fprintf(stderr, "%s--- written as\n%s", report.data, text.data);
        }
        INVARIANT(!rc && type_equal(&job_type, &job, &again));
        type_clear(&job_type, &again);
        type_clear(&job_type, &job);
    }
    problem_list_clear(&left);
    problem_list_clear(&problems);
    return 0;
}
