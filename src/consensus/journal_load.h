/* Journal, its reading half: from files to entries, telling a torn tail from damage. Used by journal.c. */
#pragma once
#include "consensus/journal.h"

struct journal_file {
    uint64_t sequence;
    uint64_t highest;       /* index of any entry ever written into it, also truncated ones */
    uint64_t bytes;
};

struct journal_files {
    struct journal_file *items;
    size_t n, cap;
};
void journal_files_add(struct journal_files *files, struct journal_file file);
void journal_file_name(char out[static DISK_NAME_SIZE], uint64_t sequence);

/* Where writing goes on. */
struct journal_tail {
    uint64_t sequence;      /* of the last file with a good header; 0: there is no file */
    uint64_t bytes, end;
    uint64_t previous;
    uint64_t durable;       /* sequence of the last file with a record; 0: there is none */
};

/* Adds what the files hold to contents (the caller frees it, also after an error) and files. Blanks what lies behind
 * the tail, so that nothing of an interrupted write can ever be read again. Removes files behind the tail's. */
int journal_load(struct disk *disk, const struct record_place *place, struct journal_contents *contents,
                 struct journal_files *files, struct journal_tail *tail, struct error *err);
