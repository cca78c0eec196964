/* What the engine says of a container that somebody else made: any JSON gives a service that is valid, or an obstacle. */
#include "agent/drivers/docker_describe.h"
#include "base/mem.h"
#include "fuzz.h"
#include "model/profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct value v = {0};
    struct problem_list problems = {0};
    struct found_container found;
    struct error err;
    struct describe_facts facts = {.node = "n1", .ip = "127.0.0.1", .volume_root = "/mnt/volumes", .memory_bytes = 1 << 20};
    if (value_from_json((const char *)data, size, &v, &problems) == 0) {
        int rc = docker_describe(&v, value_path(&v, "image"), &facts, &found, &err);
        problem_list_clear(&problems);
        type_validate(&job_type, &found.job, "", &problems);
        INVARIANT(rc < 0 || !problems.n || found.obstacles.n);
        /* The file that is made of it is read as the same. */
        if (rc == 0 && !found.obstacles.n) {
            struct buf text = {0};
            struct job again;
            type_to_yaml(&job_type, &found.job, &text);
            INVARIANT(job_from_yaml(text.data, text.len, NULL, &again, &problems) == 0 &&
                       type_equal(&job_type, &again, &found.job));
            type_clear(&job_type, &again);
            buf_free(&text);
        }
        struct privileges none = {0};
        docker_describe_allowed(&v, &none, &err);
        type_clear(&found_container_type, &found);
    }
    value_clear(&v);
    problem_list_clear(&problems);
    return 0;
}
