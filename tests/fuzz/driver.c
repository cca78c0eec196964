/* Runs a fuzz target over its corpus without libFuzzer, so that the corpus is part of the unit tests: each file as it
 * is, then with a fixed number of changes from a seed. Usage: fuzz-TARGET FOLDER... */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/random.h"
#include "fuzz.h"

/* Changes of a folder in all, and of one file at most. */
enum { CHANGES = 6000, CHANGES_OF_FILE = 150, FILE_LIMIT = 1 << 20 };

/* An exact copy on the heap, so that the sanitizers see every byte that is read too far. */
static void run(const struct buf *input)
{
    uint8_t *copy = mem_dup(input->data, input->len);
    LLVMFuzzerTestOneInput(copy, input->len);
    free(copy);
}

static void change(struct buf *b, struct random *r)
{
    static const char *const pieces[] = {"${", "}", ": ", "- ", "[", "{", "\"", "\\u0000", "\n", "&a ", "*a", "!!str ", "\xff",
                                         "9999999999999999999", "-1", "null", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02"};
    size_t at = random_below(r, b->len + 1);
    switch (random_below(r, 4)) {
    case 0: b->len = at; break;
    case 1:
        if (at < b->len)
            b->data[at] = (char)random_next(r);
        break;
    case 2: {
        const char *piece = pieces[random_below(r, ARRAY_LEN(pieces))];
        size_t n = strlen(piece);
        buf_reserve(b, n);
        memmove(b->data + at + n, b->data + at, b->len - at);
        memcpy(b->data + at, piece, n);
        b->len += n;
        break;
    }
    default: {
        size_t n = random_below(r, b->len - at + 1);
        n = n > 64 ? 64 : n;
        buf_reserve(b, n);
        memmove(b->data + at + n, b->data + at, b->len - at);
        b->len += n;
    }
    }
}

static int run_folder(const char *folder, struct random *r)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, alphasort);
    if (n < 0) {
        perror(folder);
        return -1;
    }
    for (int i = 0; i < n; i++) {
        CLEANUP_FREE char *path = mem_printf("%s/%s", folder, entries[i]->d_name);
        bool hidden = entries[i]->d_name[0] == '.';
        free(entries[i]);
        CLEANUP_BUF struct buf file = {0};
        struct error err = {0};
        if (hidden)
            continue;
        if (file_read(path, FILE_LIMIT, &file, &err)) {
            fprintf(stderr, "%s\n", err.text);
            n = -1;
            break;
        }
        run(&file);
        for (int k = 0; k < CHANGES_OF_FILE && k < 1 + CHANGES / n; k++) {
            CLEANUP_BUF struct buf changed = {0};
            buf_add(&changed, file.data ? file.data : "", file.len);
            for (uint64_t times = 1 + random_below(r, 3); times; times--)
                change(&changed, r);
            run(&changed);
        }
    }
    free(entries);
    return n < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
    struct random r = {.state = 1};
    for (int i = 1; i < argc; i++)
        if (run_folder(argv[i], &r))
            return 1;
    return argc < 2;
}
