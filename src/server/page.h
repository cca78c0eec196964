/* Page: one bounded piece of a list, encoded as {"items":[…],"next_cursor":"…","index":N}. */
#pragma once
#include "server/request.h"

/* However many a filter passes over, one request looks at no more items than this. */
#define PAGE_SCAN_MAX 10000

struct page {
    struct request *r;
    const struct type *type;
    char *prefix;            /* of the keys; everywhere: of the names in them */
    bool everywhere;         /* of all namespaces: then those of one prefix do not stand together */
    char *last;              /* key of the last item looked at */
    uint32_t count, scanned;
    bool more;
};

/* The greatest key that is smaller than every key beginning with prefix; NULL for "" (the caller frees it). */
char *page_floor(const char *prefix);

/* Writes the head into the request's answer. page_start: the key after which to begin, NULL for the first; owned. */
void page_open(struct page *p, struct request *r, const struct type *type);
char *page_start(const struct page *p);
/* Offers the next item in order of keys. False: enough, stop. */
bool page_offer(struct page *p, const char *key, const void *object);
void page_close(struct page *p, uint64_t index);
