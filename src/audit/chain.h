/* Chain: the lines of audit files, each with a hash over itself and the one before, so that a line that was changed, taken
 * out or put in between breaks it. Who may write the files can make the whole chain anew: keep copies, or its end, elsewhere.
 *
 * A line is a JSON object that ends with ,"hash":"…"}: SHA-256, hexadecimal, of the hash of the line before and the line
 * without that end. The first line of a file has the hash of the last one of the file before in "after". */
#pragma once
#include "base/buf.h"
#include "base/error.h"

#define CHAIN_HASH_SIZE 65
#define CHAIN_PREFIX "audit-"
#define CHAIN_SUFFIX ".log"

/* The hash before the first line of all. */
void chain_begin(char hash[static CHAIN_HASH_SIZE]);
/* Ends a line, which is "{…" without its brace, by its hash, which becomes the last one. */
void chain_close_line(struct buf *line, char hash[static CHAIN_HASH_SIZE]);

/* "audit-000012.log": 12; 0 when it is no such name. */
unsigned chain_file_number(const char *name);
char *chain_file_name(unsigned number);
/* The files of a directory by number; the caller frees. 0 files: NULL. */
int chain_files(const char *dir, unsigned **numbers, size_t *count, struct error *err);

struct chain_report { size_t files, lines; char hash[CHAIN_HASH_SIZE]; };
/* Reads all files of a directory. -1 with err: cannot be read, or ERROR_CORRUPT with file and line of the first break. A
 * last line without its end, of a crash, or of a writer that is just there, is not looked at. */
int chain_verify(const char *dir, struct chain_report *report, struct error *err);
