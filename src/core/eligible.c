#include "core/eligible.h"

#include <string.h>

static void prepare(struct eligible *e, const struct service *spec)
{
    e->ready = true;
    e->driver = enum_name(driver_kind_names, (int)spec->driver);
    e->n = spec->constraints.n;
    e->matchers = mem_array(e->n ? e->n : 1, sizeof(*e->matchers));
    for (uint32_t i = 0; i < e->n; i++) {
        const struct constraint *k = &spec->constraints.v[i];
        matcher_init(&e->matchers[i], k->attribute, k->op, &k->value);
    }
}

static bool has_driver(const struct node *n, const char *driver)
{
    for (uint32_t i = 0; i < n->drivers.n; i++)
        if (n->drivers.v[i].name && strcmp(n->drivers.v[i].name, driver) == 0)
            return n->drivers.v[i].healthy;
    return false;
}

bool eligible_node(struct eligible *e, const struct service *spec, const struct node *n)
{
    if (!e->ready)
        prepare(e, spec);
    if (!has_driver(n, e->driver))
        return false;
    for (uint32_t i = 0; i < e->n; i++)
        if (!matcher_matches(&e->matchers[i], n))
            return false;
    return true;
}

void eligible_clear(struct eligible *e)
{
    for (uint32_t i = 0; i < e->n; i++)
        matcher_clear(&e->matchers[i]);
    free(e->matchers);
    *e = (struct eligible){0};
}
