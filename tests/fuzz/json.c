/* JSON of the API and of the agents: whatever is accepted can be written, and reads back as the same. */
#include "fuzz.h"

#include <stdio.h>

#include "model/model.h"

static void check(const struct type *t, const uint8_t *data, size_t size, bool internal)
{
    struct problem_list problems = {0};
    void *object = mem_alloc(t->size), *again = mem_alloc(t->size);
    if (!type_from_json(t, (const char *)data, size, internal, object, &problems)) {
        CLEANUP_BUF struct buf text = {0};
        type_to_json(t, object, &text);
        int rc = type_from_json(t, text.data, text.len, internal, again, &problems);
        if (rc || !type_equal(t, object, again))
            fprintf(stderr, "written as %s: %s\n", text.data, problems.n ? problems.v[0].message : "differs");
        INVARIANT(!rc);
        INVARIANT(type_equal(t, object, again));
    } else {
        INVARIANT(problems.n > 0);
    }
    problem_list_clear(&problems);
    type_free(t, object);
    type_free(t, again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check(&job_type, data, size, false);
    check(&agent_work_type, data, size, true);
    check(&agent_hello_type, data, size, true);
    check(&agent_report_type, data, size, true);
    return 0;
}
