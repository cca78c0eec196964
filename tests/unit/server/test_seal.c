#include "test_server.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/seal.h"

static struct keyring *ring_of_one(char id[static KEYRING_ID_SIZE])
{
    struct keyring *ring = keyring_new();
    struct error err;
    assert_null(keyring_current(ring));
    assert_int_equal(keyring_make(ring, id, &err), 0);
    assert_string_equal(keyring_current(ring), id);
    return ring;
}

static void what_is_sealed_opens_again(void **state)
{
    char id[KEYRING_ID_SIZE], by[KEYRING_ID_SIZE];
    struct keyring *ring = ring_of_one(id);
    static const char text[300] = "the first letter";
    for (size_t n = 0; n <= sizeof text; n += n < 20 ? 1 : 70) {
        struct buf sealed = {0}, plain = {0}, again = {0};
        struct error err = {0};
        buf_add_string(&sealed, "before");
        buf_add_string(&plain, "before");
        seal(ring, "secret/a", text, n, &sealed);
        seal(ring, "secret/a", text, n, &again);
        assert_int_equal(sealed.len, 6 + n + SEAL_OVERHEAD);
        assert_memory_not_equal(sealed.data + 6, again.data, again.len);
        assert_true(seal_key_id(sealed.data + 6, sealed.len - 6, by));
        assert_string_equal(by, id);
        assert_int_equal(seal_open(ring, "secret/a", sealed.data + 6, sealed.len - 6, &plain, &err), 0);
        assert_int_equal(plain.len, 6 + n);
        assert_memory_equal(plain.data + 6, text, n);
        buf_free(&sealed);
        buf_free(&plain);
        buf_free(&again);
    }
    keyring_free(ring);
}

static void nothing_else_opens(void **state)
{
    char id[KEYRING_ID_SIZE], other_id[KEYRING_ID_SIZE];
    struct keyring *ring = ring_of_one(id), *other = ring_of_one(other_id);
    struct buf sealed = {0}, plain = {0};
    struct error err = {0};
    seal(ring, "secret/a", "value", 5, &sealed);
    assert_int_equal(seal_open(ring, "secret/b", sealed.data, sealed.len, &plain, &err), -1);
    assert_int_equal(err.code, ERROR_CORRUPT);
    assert_int_equal(seal_open(other, "secret/a", sealed.data, sealed.len, &plain, &err), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    for (size_t n = 0; n < sealed.len; n++)
        assert_int_equal(seal_open(ring, "secret/a", sealed.data, n, &plain, &err), -1);
    for (size_t bit = 0; bit < sealed.len * 8; bit++) {
        sealed.data[bit / 8] = (char)(sealed.data[bit / 8] ^ 1 << bit % 8);
        assert_int_equal(seal_open(ring, "secret/a", sealed.data, sealed.len, &plain, &err), -1);
        sealed.data[bit / 8] = (char)(sealed.data[bit / 8] ^ 1 << bit % 8);
    }
    assert_int_equal(plain.len, 0);
    assert_int_equal(seal_open(ring, "secret/a", sealed.data, sealed.len, &plain, &err), 0);
    buf_free(&sealed);
    buf_free(&plain);
    keyring_free(ring);
    keyring_free(other);
}

static void keys_are_changed(void **state)
{
    char old[KEYRING_ID_SIZE], new[KEYRING_ID_SIZE], by[KEYRING_ID_SIZE];
    struct keyring *ring = ring_of_one(old);
    struct buf first = {0}, second = {0}, plain = {0};
    struct error err = {0};
    seal(ring, "x", "1", 1, &first);
    assert_int_equal(keyring_make(ring, new, &err), 0);
    assert_string_equal(keyring_current(ring), old);
    assert_true(keyring_use(ring, new));
    assert_false(keyring_use(ring, "0123456789abcdef"));
    seal(ring, "x", "2", 1, &second);
    assert_true(seal_key_id(second.data, second.len, by));
    assert_string_equal(by, new);
    assert_int_equal(seal_open(ring, "x", first.data, first.len, &plain, &err), 0);
    assert_false(keyring_drop(ring, new));
    assert_true(keyring_drop(ring, old));
    assert_false(keyring_has(ring, old));
    assert_string_equal(keyring_current(ring), new);
    assert_int_equal(seal_open(ring, "x", first.data, first.len, &plain, &err), -1);
    assert_int_equal(seal_open(ring, "x", second.data, second.len, &plain, &err), 0);
    assert_string_equal(plain.data, "12");
    for (int i = 1; i < KEYRING_MOST; i++)
        assert_int_equal(keyring_make(ring, by, &err), 0);
    assert_int_equal(keyring_make(ring, by, &err), -1);
    buf_free(&first);
    buf_free(&second);
    buf_free(&plain);
    keyring_free(ring);
}

static void the_file(void **state)
{
    char id[KEYRING_ID_SIZE], second[KEYRING_ID_SIZE], path[] = "/tmp/mentat-keys-XXXXXX";
    close(mkstemp(path));
    struct keyring *ring = ring_of_one(id);
    struct error err = {0};
    assert_int_equal(keyring_make(ring, second, &err), 0);
    assert_true(keyring_use(ring, second));
    static const char *const passphrases[] = {NULL, "correct horse"};
    struct keyring_lock *wrong = keyring_lock_new("wrong");
    for (int i = 0; i < 2; i++) {
        struct keyring *read = keyring_new(), *none = keyring_new();
        struct stat st;
        struct buf text = {0};
        struct keyring_lock *lock = passphrases[i] ? keyring_lock_new(passphrases[i]) : NULL;
        assert_int_equal(keyring_save(ring, path, lock, &err), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(keyring_load(read, path, lock, &err), 0);
        assert_string_equal(keyring_current(read), second);
        assert_memory_equal(keyring_key(read, id), keyring_key(ring, id), KEYRING_KEY_LEN);
        if (passphrases[i]) {
            assert_int_equal(keyring_load(none, path, NULL, &err), -1);
            assert_non_null(strstr(err.text, "cluster_key_command"));
            assert_int_equal(keyring_load(none, path, wrong, &err), -1);
            assert_non_null(strstr(err.text, "passphrase"));
            assert_int_equal(file_read(path, 65536, &text, &err), 0);
            assert_null(strstr(text.data, "\n\n"));
        }
        assert_int_equal(chmod(path, 0640), 0);
        assert_int_equal(keyring_load(none, path, lock, &err), -1);
        assert_non_null(strstr(err.text, "chmod 600"));
        assert_null(keyring_current(none));
        buf_free(&text);
        keyring_free(read);
        keyring_free(none);
        keyring_lock_free(lock);
    }
    keyring_lock_free(wrong);
    unlink(path);
    assert_int_equal(keyring_load(ring, path, NULL, &err), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    keyring_free(ring);
}

#define LOCKED_SALT (strlen("locked ") + 16 / 3 * 4)      /* the word, and the salt's whole letters */

static void read_text(const char *path, struct buf *out)
{
    struct error err = {0};
    buf_clear(out);
    assert_int_equal(file_read(path, 65536, out, &err), 0);
}

/* Its key is made once: of the salt that the file has, which all files that it saves have, too. */
static void a_lock_keeps_its_key(void **state)
{
    char id[KEYRING_ID_SIZE], path[] = "/tmp/mentat-keys-XXXXXX";
    close(mkstemp(path));
    struct keyring *ring = ring_of_one(id), *read = keyring_new(), *again = keyring_new();
    struct keyring_lock *first = keyring_lock_new("correct horse"), *next = keyring_lock_new("correct horse");
    struct buf one = {0}, two = {0}, three = {0};
    struct error err = {0};
    assert_int_equal(keyring_save(ring, path, first, &err), 0);
    read_text(path, &one);
    assert_int_equal(keyring_make(ring, id, &err), 0);
    assert_int_equal(keyring_save(ring, path, first, &err), 0);
    read_text(path, &two);
    assert_memory_equal(one.data, two.data, LOCKED_SALT);
    assert_int_equal(keyring_load(read, path, next, &err), 0);
    assert_int_equal(keyring_save(read, path, next, &err), 0);
    read_text(path, &three);
    assert_memory_equal(two.data, three.data, LOCKED_SALT);
    assert_string_not_equal(two.data, three.data);
    /* A copy with another salt opens, and changes nothing. */
    struct keyring_lock *elsewhere = keyring_lock_new("correct horse");
    assert_int_equal(keyring_save(ring, path, elsewhere, &err), 0);
    read_text(path, &one);
    assert_memory_not_equal(one.data, three.data, LOCKED_SALT);
    assert_int_equal(keyring_read_file(again, one.data, next, &err), 0);
    assert_int_equal(keyring_count(again), 2);
    assert_int_equal(keyring_save(read, path, next, &err), 0);
    read_text(path, &two);
    assert_memory_equal(two.data, three.data, LOCKED_SALT);
    unlink(path);
    buf_free(&one);
    buf_free(&two);
    buf_free(&three);
    keyring_lock_free(first);
    keyring_lock_free(next);
    keyring_lock_free(elsewhere);
    keyring_free(ring);
    keyring_free(read);
    keyring_free(again);
}

static void text_that_is_no_key(void **state)
{
    static const char *const texts[] = {
        "x", "00", "zz00000000000000000000000000000000000000000000000000000000000000\n",
        "000000000000000000000000000000000000000000000000000000000000000011\n", "\n",
    };
    struct keyring *ring = keyring_new();
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_int_equal(keyring_read(ring, texts[i], &err), -1);
    assert_int_equal(keyring_read(ring, "", &err), 0);
    assert_null(keyring_current(ring));
    for (int i = 0; i < 2; i++)
        assert_int_equal(keyring_read(ring, "00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff", &err), 0);
    struct buf out = {0};
    keyring_write(ring, &out);
    assert_string_equal(out.data, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    buf_wipe(&out);
    assert_null(out.data);
    keyring_free(ring);
}

int test_seal(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sealed_opens_again), cmocka_unit_test(nothing_else_opens), cmocka_unit_test(keys_are_changed),
        cmocka_unit_test(the_file), cmocka_unit_test(a_lock_keeps_its_key),
        cmocka_unit_test(text_that_is_no_key),
    };
    return cmocka_run_group_tests_name("seal", tests, NULL, NULL);
}
