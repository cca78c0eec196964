/* The filters of lists. A byte for the type, then the text. */
#include "fuzz.h"

#include "model/model.h"
#include "server/list_filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct type *const types[] = {&alloc_type, &node_type, &service_status_type, &event_type, &deployment_type};
    if (!size)
        return 0;
    const struct type *t = types[data[0] % ARRAY_LEN(types)];
    CLEANUP_FREE char *text = mem_strndup((const char *)data + 1, size - 1);
    struct list_filter filter;
    struct error err = {0};
    if (list_filter_parse(t, text, &filter, &err)) {
        INVARIANT(err.code == ERROR_INVALID && *err.text);
        return 0;
    }
    INVARIANT(filter.count <= LIST_FILTER_MAX);
    void *object = type_new(t);
    bool all = true;
    for (size_t i = 0; i < filter.count; i++) {
        struct list_filter one = {.terms = &filter.terms[i], .count = 1};
        bool matches = list_filter_match(&one, object);
        all = all && matches;
        filter.terms[i].negate = !filter.terms[i].negate;
        INVARIANT(list_filter_match(&one, object) == !matches);
        filter.terms[i].negate = !filter.terms[i].negate;
    }
    INVARIANT(list_filter_match(&filter, object) == all);
    type_free(t, object);
    list_filter_clear(&filter);
    return 0;
}
