#include "server/page.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "model/namespace.h"
#include "server/scope.h"

char *page_floor(const char *prefix)
{
    size_t len = strlen(prefix);
    if (!len)
        return NULL;
    /* The last character lowered by one, followed by the highest byte: names and ids are ASCII. */
    char *floor = mem_printf("%s\xff", prefix);
    if (floor[len - 1] > 1)
        floor[len - 1]--;
    else
        floor[len - 1] = '\0';
    return floor;
}

/* Without its namespace; behind the name there may be more. */
static const char *bare_key(const char *key)
{
    const char *end = key + strcspn(key, "./");
    return *end == '.' ? end + 1 : key;
}

void page_open(struct page *p, struct request *r, const struct type *type)
{
    const char *prefix = request_query(r, "prefix");
    bool by_name = route_takes_namespace(r->route) && type->fields->flags & FIELD_NAMESPACE;
    *p = (struct page){.r = r, .type = type, .everywhere = by_name && namespace_is_any(r->namespace)};
    p->prefix = namespace_qualify(by_name && !p->everywhere ? r->namespace : NULL, prefix ? prefix : "");
    buf_add_string(&r->answer.body, "{\"items\":[");
}

char *page_start(const struct page *p)
{
    char *floor = p->everywhere ? NULL : page_floor(p->prefix);
    const char *cursor = request_query(p->r, "cursor");
    if (!cursor || !*cursor || (floor && strcmp(cursor, floor) < 0))
        return floor;
    free(floor);
    return mem_strdup(cursor);
}

bool page_offer(struct page *p, const char *key, const void *object)
{
    if (!p->everywhere && !text_has_prefix(key, p->prefix))
        return false;
    if (p->count == p->r->limit || p->scanned == PAGE_SCAN_MAX) {
        p->more = true;
        return false;
    }
    p->scanned++;
    mem_set_string(&p->last, key);
    if (p->everywhere && !text_has_prefix(bare_key(key), p->prefix))
        return true;
    if (!scope_sees(p->r, p->type, object) || !list_filter_match(&p->r->filter, object))
        return true;
    if (p->count++)
        buf_add_char(&p->r->answer.body, ',');
    type_show_json(p->type, object, &p->r->answer.body);
    return true;
}

void page_close(struct page *p, uint64_t index)
{
    struct buf *out = &p->r->answer.body;
    buf_add_string(out, "],\"next_cursor\":");
    json_add_string(out, p->more ? p->last : "");
    buf_printf(out, ",\"index\":%llu}", (unsigned long long)index);
    free(p->prefix);
    free(p->last);
    p->last = p->prefix = NULL;
}
