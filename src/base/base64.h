/* Base64: bytes as text (RFC 4648, with padding), where only text can stand. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

void base64_add(struct buf *out, const void *p, size_t n);
/* For addresses and tokens: "-" and "_", without padding. */
void base64_url_add(struct buf *out, const void *p, size_t n);
/* Appends the bytes that `text` stands for. False when it is no base64; then out is as it was. */
bool base64_read(const char *text, struct buf *out);
