#include "audit/chain.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define FILE_MOST ((size_t)1 << 30)
#define HASH_KEY ",\"hash\":\""
#define HASH_LEN (CHAIN_HASH_SIZE - 1)
#define TAIL_LEN (sizeof HASH_KEY - 1 + HASH_LEN + 2)      /* the key, the hash, "} */

void chain_begin(char hash[static CHAIN_HASH_SIZE])
{
    memset(hash, '0', HASH_LEN);
    hash[HASH_LEN] = '\0';
}

static void hash_line(const char *before, const char *line, size_t len, char out[static CHAIN_HASH_SIZE])
{
    uint8_t bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    INVARIANT(ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(ctx, before, HASH_LEN) == 1 &&
              EVP_DigestUpdate(ctx, line, len) == 1 && EVP_DigestFinal_ex(ctx, bytes, &n) == 1 && n * 2 == HASH_LEN);
    EVP_MD_CTX_free(ctx);
    for (unsigned i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

void chain_close_line(struct buf *line, char hash[static CHAIN_HASH_SIZE])
{
    char own[CHAIN_HASH_SIZE];
    hash_line(hash, line->data, line->len, own);
    buf_printf(line, HASH_KEY "%s\"}\n", own);
    memcpy(hash, own, sizeof own);
}

/* --- the files --- */

unsigned chain_file_number(const char *name)
{
    unsigned number = 0;
    char end[8] = "";
    return sscanf(name, CHAIN_PREFIX "%9u%7s", &number, end) == 2 && !strcmp(end, CHAIN_SUFFIX) ? number : 0;
}

char *chain_file_name(unsigned number)
{
    return mem_printf(CHAIN_PREFIX "%06u" CHAIN_SUFFIX, number);
}

static int by_number(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return x < y ? -1 : x > y;
}

int chain_files(const char *dir, unsigned **numbers, size_t *count, struct error *err)
{
    DIR *d = opendir(dir);
    *numbers = NULL;
    *count = 0;
    if (!d)
        return error_set_errno(err, errno, "%s", dir);
    for (struct dirent *e; (e = readdir(d));) {
        unsigned number = chain_file_number(e->d_name);
        if (!number)
            continue;
        *numbers = mem_realloc_array(*numbers, *count + 1, sizeof **numbers);
        (*numbers)[(*count)++] = number;
    }
    closedir(d);
    if (*count)
        qsort(*numbers, *count, sizeof **numbers, by_number);
    return 0;
}

/* --- verification --- */

/* The hash that the line before had, by the first line of a file; false: it names none. */
static bool read_after(const char *line, size_t len, char hash[static CHAIN_HASH_SIZE])
{
    static const char key[] = "\"after\":\"";
    const char *at = memmem(line, len, key, sizeof key - 1);
    if (!at || (size_t)(line + len - at) < sizeof key - 1 + HASH_LEN)
        return false;
    memcpy(hash, at + sizeof key - 1, HASH_LEN);
    hash[HASH_LEN] = '\0';
    return true;
}

static int broken(struct error *err, const char *path, size_t line, const char *why)
{
    return error_set(err, ERROR_CORRUPT, "%s:%zu: %s", path, line, why);
}

static int verify_line(const char *path, size_t number, const char *line, size_t len, struct chain_report *report,
                       struct error *err)
{
    char own[CHAIN_HASH_SIZE];
    if (len <= TAIL_LEN || memcmp(line + len - TAIL_LEN, HASH_KEY, sizeof HASH_KEY - 1) || memcmp(line + len - 2, "\"}", 2))
        return broken(err, path, number, "this is no line of an audit file");
    hash_line(report->hash, line, len - TAIL_LEN, own);
    if (memcmp(own, line + len - 2 - HASH_LEN, HASH_LEN))
        return broken(err, path, number, "the chain is broken here: this line or one before it was changed, taken out or put in");
    memcpy(report->hash, own, sizeof own);
    report->lines++;
    return 0;
}

static int verify_file(const char *path, bool first, struct chain_report *report, struct error *err)
{
    CLEANUP_BUF struct buf text = {0};
    char after[CHAIN_HASH_SIZE];
    size_t number = 0;
    if (file_read(path, FILE_MOST, &text, err))
        return -1;
    for (const char *p = text.data, *end = p + text.len, *stop; p < end && (stop = memchr(p, '\n', (size_t)(end - p))); p = stop + 1) {
        size_t len = (size_t)(stop - p);
        if (++number == 1) {
            if (!read_after(p, len, after))
                return broken(err, path, 1, "the beginning of the file is missing");
            if (first)
                memcpy(report->hash, after, sizeof after);         /* older files may have been removed by their age */
            else if (strcmp(after, report->hash))
                return broken(err, path, 1, "it does not follow the file before: lines at its end, or a file, are missing");
        }
        if (verify_line(path, number, p, len, report, err))
            return -1;
    }
    report->files++;
    return 0;
}

int chain_verify(const char *dir, struct chain_report *report, struct error *err)
{
    unsigned *numbers;
    size_t count;
    *report = (struct chain_report){0};
    chain_begin(report->hash);
    if (chain_files(dir, &numbers, &count, err))
        return -1;
    int rc = 0;
    for (size_t i = 0; !rc && i < count; i++) {
        CLEANUP_FREE char *name = chain_file_name(numbers[i]);
        CLEANUP_FREE char *path = mem_printf("%s/%s", dir, name);
        rc = i && numbers[i] != numbers[i - 1] + 1 ? broken(err, path, 1, "the file before it is missing")
                                                    : verify_file(path, i == 0, report, err);
    }
    free(numbers);
    return rc;
}
