#include "../cmocka_all.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "model/model.h"
#include "model/release.h"

static void read_data(const char *name, struct buf *out)
{
    CLEANUP_FREE char *path = mem_printf("%s/%s", DATA_DIR, name);
    struct error err = {0};
    if (file_read(path, 1 << 20, out, &err) < 0)
        fail_msg("%s", err.text);
}

static int is_yaml(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    return n > 5 && !strcmp(entry->d_name + n - 5, ".yaml");
}

static void every_broken_file_gets_its_message(void **state)
{
    struct dirent **entries;
    int n = scandir(DATA_DIR "/bad-yaml", &entries, is_yaml, alphasort);
    assert_true(n >= 60);
    for (int i = 0; i < n; i++) {
        CLEANUP_BUF struct buf text = {0};
        CLEANUP_BUF struct buf expected = {0};
        CLEANUP_BUF struct buf got = {0};
        CLEANUP_FREE char *yaml = mem_printf("bad-yaml/%s", entries[i]->d_name);
        CLEANUP_FREE char *message = mem_printf("%.*s.expected", (int)strlen(yaml) - 5, yaml);
        read_data(yaml, &text);
        read_data(message, &expected);
        struct job job;
        struct problem_list problems = {0};
        assert_int_equal(job_from_yaml(text.data, text.len, NULL, &job, &problems), -1);
        problem_list_format(&problems, entries[i]->d_name, &got);
        assert_string_equal(got.data, expected.data);
        problem_list_clear(&problems);
        free(entries[i]);
    }
    free(entries);
}

static void the_reference_file_reads_and_writes_back(void **state)
{
    CLEANUP_BUF struct buf text = {0};
    CLEANUP_BUF struct buf again = {0};
    read_data("reference.yaml", &text);
    struct job job, copy;
    struct problem_list problems = {0};
    assert_int_equal(job_from_yaml(text.data, text.len, NULL, &job, &problems), 0);
    assert_int_equal(job.services.n, 3);
    assert_string_equal(job.services.v[0].name, "streamforge");
    assert_int_equal(job.services.v[0].count, 3);
    assert_int_equal(job.services.v[0].health.interval_ms, 2000);
    assert_int_equal(job.services.v[1].deploy.strategy, STRATEGY_BLUE_GREEN);
    assert_int_equal(job.services.v[2].mode, MODE_EVERY_NODE);
    type_to_yaml(&job_type, &job, &again);
    assert_int_equal(job_from_yaml(again.data, again.len, NULL, &copy, &problems), 0);
    assert_true(type_equal(&job_type, &job, &copy));
    type_clear(&job_type, &job);
    type_clear(&job_type, &copy);
}

static struct service service_of(const char *yaml)
{
    struct job job;
    struct problem_list problems = {0};
    if (job_from_yaml(yaml, strlen(yaml), NULL, &job, &problems) < 0) {
        CLEANUP_BUF struct buf text = {0};
        problem_list_format(&problems, NULL, &text);
        fail_msg("%s", text.data);
    }
    struct service s;
    type_copy(&service_type, &s, &job.services.v[0]);
    type_clear(&job_type, &job);
    return s;
}

static const struct change *change_at(const struct change_list *l, const char *path)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i].path, path))
            return &l->v[i];
    fail_msg("no change at %s", path);
    return NULL;
}

static void a_difference_says_what_changed_and_whether_replicas_are_replaced(void **state)
{
    struct service a = service_of("name: web\ndriver: exec\ncount: 1\nconfig: {command: /bin/a}\nenv: {A: x, B: y}\n"
                                  "ports: [{name: http, port: 80}, {name: old, port: 81}]\n");
    struct service b = service_of("name: web\ndriver: exec\ncount: 3\nconfig: {command: /bin/b}\nenv: {A: z, C: y}\n"
                                  "ports: [{name: new, port: 82}, {name: http, port: 8080}]\n");
    struct change_list l = {0};
    type_diff(&service_type, &a, &b, &l);
    assert_int_equal(l.n, 8);
    assert_false(change_at(&l, "count")->restart);
    assert_string_equal(change_at(&l, "count")->after, "3");
    assert_true(change_at(&l, "config.command")->restart);
    assert_string_equal(change_at(&l, "env.A")->before, "x");
    assert_null(change_at(&l, "env.B")->after);
    assert_null(change_at(&l, "env.C")->before);
    assert_string_equal(change_at(&l, "ports[http].port")->after, "8080");
    assert_null(change_at(&l, "ports[old]")->after);
    assert_null(change_at(&l, "ports[new]")->before);
    change_list_clear(&l);
    type_diff(&service_type, &a, &a, &l);
    assert_int_equal(l.n, 0);
    type_clear(&service_type, &a);
    type_clear(&service_type, &b);
}

static void a_balloon_that_is_there_changes_in_place(void **state)
{
    struct service a = service_of("name: web\ndriver: firecracker\nconfig: {image: /srv/web}\n");
    struct service b = service_of("name: web\ndriver: firecracker\nconfig: {image: /srv/web, balloon_mb: 32}\n");
    struct service c = service_of("name: web\ndriver: firecracker\nconfig: {image: /srv/web, balloon_mb: 64}\n");
    const struct { const struct service *from, *to; bool restart; } changes[] = {
        {&b, &c, false}, {&a, &b, true}, {&c, &a, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        struct change_list l = {0};
        type_diff(&service_type, changes[i].from, changes[i].to, &l);
        assert_int_equal(l.n, 1);
        assert_int_equal(change_at(&l, "config.balloon_mb")->restart, changes[i].restart);
        change_list_clear(&l);
    }
    type_clear(&service_type, &a);
    type_clear(&service_type, &b);
    type_clear(&service_type, &c);
}

static void what_this_release_does_not_do_is_told_by_its_key(void **state)
{
    static const char yaml[] =
        "job: j\nservices:\n"
        "  - {name: a, driver: docker, config: {image: x}, ports: [{name: http, port: 80}],\n"
        "     ingress: [{host: h, port: http}], secrets: [{name: s, env: S}], identity: {audience: a},\n"
        "     volumes: [{name: v, target: /v, read_only: true, size_mb: 5}]}\n"
        "  - {name: b, driver: firecracker, config: {image: x}, secrets: [{name: s, file: s}],\n"
        "     volumes: [{name: v, target: /v, size_mb: 5}]}\n"
        "  - {name: c, driver: exec, config: {command: /bin/a}, volumes: [{name: v, target: /v}, {name: w, target: /w,"
        " read_only: true}]}\n"
        "  - {name: d, driver: exec, config: {command: /bin/a}, deploy: {strategy: rolling}}\n";
    static const char *const paths[] = {
        "services[0].volumes[0].size_mb", "services[2].volumes[1].read_only"};
    struct job job;
    struct problem_list problems = {0};
    assert_int_equal(job_from_yaml(yaml, sizeof yaml - 1, NULL, &job, &problems), 0);
    job_release_check(&job, &problems);
    assert_int_equal(problems.n, ARRAY_LEN(paths));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        assert_string_equal(problems.v[i].path, paths[i]);
    problem_list_clear(&problems);
    type_clear(&job_type, &job);
}

static void a_file_says_of_which_namespace_it_is(void **state)
{
    static const char *const good[] = {
        "namespace: team-a\nname: web\ndriver: exec\nconfig: {command: /bin/a}\n",
        "job: web\nnamespace: team-a\nservices: [{name: web, driver: exec, config: {command: /bin/a}}]\n"};
    static const char bad[] = "namespace: Team\nname: web\ndriver: exec\nconfig: {command: /bin/a}\n",
                      inside[] = "job: web\nservices: [{name: web, namespace: a, driver: exec, config: {command: /bin/a}}]\n";
    struct job job;
    struct problem_list problems = {0};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(job_from_yaml(good[i], strlen(good[i]), NULL, &job, &problems), 0);
        assert_string_equal(job.namespace, "team-a");
        assert_string_equal(job.services.v[0].name, "web");
        type_clear(&job_type, &job);
    }
    assert_int_equal(job_from_yaml(bad, sizeof bad - 1, NULL, &job, &problems), -1);
    assert_string_equal(problems.v[0].path, "namespace");
    assert_int_equal(problems.v[0].line, 1);
    problem_list_clear(&problems);
    assert_int_equal(job_from_yaml(inside, sizeof inside - 1, NULL, &job, &problems), -1);
    problem_list_clear(&problems);
}

static void an_unknown_variable_is_told_once_with_its_way_out(void **state)
{
    static const char yaml[] = "name: web\ndriver: exec\nconfig: {command: /bin/a}\n"
                               "env: {A: \"$${X} ${X} ${X}\", B: \"${X:-none}\", C: \"$${X:-none}\"}\n";
    struct job job;
    struct problem_list problems = {0};
    assert_int_equal(job_from_yaml(yaml, sizeof yaml - 1, NULL, &job, &problems), -1);
    assert_int_equal(problems.n, 2);
    assert_string_equal(problems.v[0].message, "`${X}` is not known: give it with --var X=VALUE, or write `$${X}` to leave it "
                        "to the program");
    assert_string_equal(problems.v[1].path, "env.B");
    assert_string_equal(problems.v[1].message, "`${X:-none}` is not known: write `$${X:-none}` to leave it to the program");
    problem_list_clear(&problems);
}

static void variables_are_put_into_values_and_cannot_change_the_structure(void **state)
{
    static const char yaml[] = "name: web\ndriver: exec\ncount: ${N}\nconfig: {command: /bin/a}\nenv: {A: \"${T}-${replica}\"}\n";
    struct kv_list vars = {0};
    kv_set(&vars, "N", "4");
    kv_set(&vars, "T", "x}\nevil: 1");
    struct job job;
    struct problem_list problems = {0};
    assert_int_equal(job_from_yaml(yaml, sizeof yaml - 1, &vars, &job, &problems), 0);
    assert_int_equal(job.services.v[0].count, 4);
    assert_string_equal(kv_get(&job.services.v[0].env, "A"), "x}\nevil: 1-${replica}");
    type_clear(&job_type, &job);
    kv_clear(&vars);
}

/* The flags end with NULL. */
static int load(struct logs *logs, struct error *err, const char *default_file, ...)
{
    char *argv[8];
    int argc = 0;
    va_list ap;
    argv[argc++] = mem_strdup("x");
    va_start(ap, default_file);
    for (const char *flag; (flag = va_arg(ap, const char *));)
        argv[argc++] = mem_strdup(flag);
    va_end(ap);
    int rc = config_load(&logs_type, argc, argv, default_file, logs, err);
    while (argc)
        free(argv[--argc]);
    return rc;
}

static void configuration_comes_from_a_file_and_flags_win(void **state)
{
    char path[] = "/tmp/mentat-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    static const char text[] = "max_files: 3\nmax_mb: 1GiB\n";
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    struct logs logs;
    struct error err = {0};
    assert_int_equal(load(&logs, &err, NULL, "--config", path, "--max-files=7", NULL), 0);
    assert_int_equal(logs.max_files, 7);
    assert_int_equal(logs.max_mb, 1024);
    assert_int_equal(load(&logs, &err, NULL, "--max-fils", "7", NULL), -1);
    assert_string_equal(err.text, "unknown flag --max-fils; did you mean --max-files?");
    assert_int_equal(load(&logs, &err, NULL, "--config", "/nonexistent/x.yaml", NULL), -1);
    assert_int_equal(load(&logs, &err, "/nonexistent/x.yaml", NULL), 0);
    assert_int_equal(logs.max_files, 5);
    assert_int_equal(load(&logs, &err, NULL, "--help", NULL), 1);
    unlink(path);
}

static void json_reading_is_strict(void **state)
{
    static const char *const bad[] = {"", "{", "[]", "{\"max_files\":\"5\"}", "{\"max_files\":5,\"max_files\":6}",
                                      "{\"nope\":1}", "{\"max_files\":5} x", "{\"max_files\":1.5}", "{\"max_files\":true}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct logs logs;
        struct problem_list problems = {0};
        assert_int_equal(type_from_json(&logs_type, bad[i], strlen(bad[i]), false, &logs, &problems), -1);
        assert_true(problems.n > 0);
        problem_list_clear(&problems);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_broken_file_gets_its_message),
        cmocka_unit_test(the_reference_file_reads_and_writes_back),
        cmocka_unit_test(a_difference_says_what_changed_and_whether_replicas_are_replaced),
        cmocka_unit_test(a_balloon_that_is_there_changes_in_place),
        cmocka_unit_test(what_this_release_does_not_do_is_told_by_its_key),
        cmocka_unit_test(a_file_says_of_which_namespace_it_is),
        cmocka_unit_test(an_unknown_variable_is_told_once_with_its_way_out),
        cmocka_unit_test(variables_are_put_into_values_and_cannot_change_the_structure),
        cmocka_unit_test(configuration_comes_from_a_file_and_flags_win),
        cmocka_unit_test(json_reading_is_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
