/* A volume is of one namespace with all that is in it, by whatever way one comes there. */
#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/volumes.h"
#include "base/file.h"
#include "base/mem.h"

static int setup(void **state)
{
    char root[] = "/tmp/mentat-volumes-XXXXXX";
    assert_non_null(mkdtemp(root));
    *state = mem_strdup(root);
    return 0;
}

static int teardown(void **state)
{
    dir_remove(*state);
    free(*state);
    return 0;
}

static void make(const char *root, const char *name)
{
    struct error err;
    CLEANUP_FREE char *dir = mem_printf("%s/%s", root, name);
    assert_int_equal(dir_make(dir, 0755, &err), 0);
}

static void expect(const char *root, const char *name, const char *service, int rc)
{
    struct error err = {0};
    CLEANUP_FREE char *dir = mem_printf("%s/%s", root, name), *image = mem_printf("%s/" VOLUME_IMAGE, dir);
    assert_int_equal(volume_directory_is_for(dir, service, &err), rc);
    assert_int_equal(volume_is_for(image, service, &err), rc);
    assert_true(!rc || strstr(err.text, "another namespace"));
}

static void what_is_below_a_volume_is_part_of_it(void **state)
{
    const char *root = *state;
    struct error err;
    CLEANUP_FREE char *dir = mem_printf("%s/db/0", root), *image = mem_printf("%s/vm/0/" VOLUME_IMAGE, root);
    make(root, "db/0/sub");
    make(root, "vm/0");
    assert_int_equal(volume_own_directory(dir, "team-b.db", 0, &err), 0);
    assert_int_equal(volume_own(image, "team-b.vm", 0, &err), 0);
    static const char *const ways[] = {"db/0", "db/0/sub", "db/0/sub/0", "db/0/new/0", "db/./0/sub", "vm/0", "vm/0/sub"};
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        expect(root, ways[i], "team-a.db", -1);
        expect(root, ways[i], "db", -1);
        expect(root, ways[i], "team-b.other", 0);
    }
    expect(root, "db/1", "team-a.db", 0);
    expect(root, "other/0/sub", "team-a.db", 0);
}

static void a_link_leads_into_no_other_volume(void **state)
{
    const char *root = *state;
    struct error err;
    CLEANUP_FREE char *dir = mem_printf("%s/db/0", root), *sub = mem_printf("%s/sub", dir), *link = mem_printf("%s/a/0/x", root);
    make(root, "db/0/sub");
    make(root, "a/0");
    assert_int_equal(volume_own_directory(dir, "team-b.db", 0, &err), 0);
    assert_int_equal(symlink(sub, link), 0);
    expect(root, "a/0/x", "team-a.a", -1);
    expect(root, "a/0/x/0", "team-a.a", -1);
    expect(root, "a/0", "team-a.a", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_below_a_volume_is_part_of_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_link_leads_into_no_other_volume, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
