/* services.yaml: whatever is accepted can be printed, and reads back as the same. */
#include "fuzz.h"

#include <stdio.h>

#include "model/model.h"

static void explain(const struct problem_list *problems, const struct buf *text)
{
    CLEANUP_BUF struct buf message = {0};
    problem_list_format(problems, NULL, &message);
    fprintf(stderr, "%s--- printed as\n%s", message.data ? message.data : "", text->data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct job job, again;
    struct problem_list problems = {0};
    if (job_from_yaml((const char *)data, size, NULL, &job, &problems)) {
        INVARIANT(problems.n > 0);
        problem_list_clear(&problems);
        return 0;
    }
    INVARIANT(!problems.n);
    CLEANUP_BUF struct buf text = {0};
    type_to_yaml(&job_type, &job, &text);
    int rc = job_from_yaml(text.data, text.len, NULL, &again, &problems);
    if (rc || !type_equal(&job_type, &job, &again))
        explain(&problems, &text);
    INVARIANT(!rc);
    INVARIANT(type_equal(&job_type, &job, &again));
    type_clear(&job_type, &job);
    type_clear(&job_type, &again);
    return 0;
}
