/* Streams of archives: a range of a file, unpacked when it is gzip or zstd, with the digests of both sides. Blocking. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define SHA256_TEXT_SIZE 65          /* lower-case hexadecimal digits and NUL */

struct evp_md_ctx_st;
/* Ends a SHA-256 of OpenSSL's and writes it as text. */
void digest_format(struct evp_md_ctx_st *c, char out[static SHA256_TEXT_SIZE]);

struct stream_in;
/* budget: bytes that may still be unpacked, counted down by every stream that shares it; beyond: ERROR_TOO_LARGE. */
struct stream_in *stream_in_open(int fd, int64_t offset, int64_t size, int64_t *budget);
void stream_in_close(struct stream_in *s);
/* As many bytes as there are, at most n; 0 at the end; -1 with err set. */
ssize_t stream_in_read(struct stream_in *s, void *bytes, size_t n, struct error *err);
/* Reads what is left; then the digests of the packed and of the unpacked bytes. */
int stream_in_finish(struct stream_in *s, char packed[static SHA256_TEXT_SIZE], char unpacked[static SHA256_TEXT_SIZE],
                     struct error *err);
