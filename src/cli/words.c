#include "cli/words.h"

#include <string.h>

json_t *words_list(const char *text)
{
    json_t *list = json_array();
    for (const char *p = text; *p; p += *p == ',') {
        size_t n = strcspn(p, ",");
        if (n)
            json_array_append_new(list, json_stringn(p, n));
        p += n;
    }
    return list;
}

void cell_words(const json_t *row, const json_t *value, struct buf *out)
{
    const json_t *item;
    size_t i;
    json_array_foreach(value, i, item)
        buf_printf(out, "%s%s", i ? "," : "", json_string_value(item) ? json_string_value(item) : "");
}
