/* Lists have no capacity of their own: the heap block is asked how much room it has. That keeps the structs at two
 * words and makes growing a list that was allocated to measure (by type_copy) safe. */
#include <malloc.h>
#include <string.h>

#include "model/field.h"

/* Makes room for one more item of `size` bytes. */
static void *grow(void *v, uint32_t n, size_t size)
{
    INVARIANT(n < UINT32_MAX);
    if (v && malloc_usable_size(v) / size > n)
        return v;
    size_t capacity = n < 4 ? (n ? 4 : 1) : (size_t)n + n / 2;
    return mem_realloc_array(v, capacity, size);
}

void *list_add_zero(struct list *l, const struct type *t)
{
    l->v = grow(l->v, l->n, t->size);
    return memset((char *)l->v + (size_t)l->n++ * t->size, 0, t->size);
}

void *list_add(struct list *l, const struct type *t)
{
    void *item = list_add_zero(l, t);
    type_init(t, item);
    return item;
}

void list_remove(struct list *l, const struct type *t, uint32_t i)
{
    INVARIANT(i < l->n);
    char *item = (char *)l->v + (size_t)i * t->size;
    type_clear(t, item);
    l->n--;
    memmove(item, item + t->size, (size_t)(l->n - i) * t->size);
}

void list_clear(struct list *l, const struct type *t)
{
    for (uint32_t i = 0; i < l->n; i++)
        type_clear(t, (char *)l->v + (size_t)i * t->size);
    free(l->v);
    *l = (struct list){0};
}

void str_list_add(struct str_list *l, const char *s)
{
    l->v = grow(l->v, l->n, sizeof *l->v);
    l->v[l->n++] = mem_strdup(s);
}

bool str_list_has(const struct str_list *l, const char *s)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i], s) == 0)
            return true;
    return false;
}

void str_list_clear(struct str_list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
    *l = (struct str_list){0};
}

void str_list_wipe(struct str_list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (l->v[i])                 /* not in every list that was half read */
            explicit_bzero(l->v[i], strlen(l->v[i]));
    str_list_clear(l);
}

/* The place of key, or the one where it belongs. */
static uint32_t kv_find(const struct kv_list *l, const char *key, bool *found)
{
    uint32_t low = 0, high = l->n;
    *found = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(l->v[middle].key, key);
        if (!order) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const char *kv_get(const struct kv_list *l, const char *key)
{
    bool found;
    uint32_t i = kv_find(l, key, &found);
    return found ? l->v[i].value : NULL;
}

void kv_set(struct kv_list *l, const char *key, const char *value)
{
    bool found;
    uint32_t i = kv_find(l, key, &found);
    if (found) {
        mem_set_string(&l->v[i].value, value);
        return;
    }
    l->v = grow(l->v, l->n, sizeof *l->v);
    memmove(l->v + i + 1, l->v + i, (size_t)(l->n - i) * sizeof *l->v);
    l->v[i] = (struct kv){.key = mem_strdup(key), .value = mem_strdup(value)};
    l->n++;
}

void kv_remove(struct kv_list *l, const char *key)
{
    bool found;
    uint32_t i = kv_find(l, key, &found);
    if (!found)
        return;
    free(l->v[i].key);
    free(l->v[i].value);
    l->n--;
    memmove(l->v + i, l->v + i + 1, (size_t)(l->n - i) * sizeof *l->v);
}

void kv_clear(struct kv_list *l)
{
    for (uint32_t i = 0; i < l->n; i++) {
        free(l->v[i].key);
        free(l->v[i].value);
    }
    free(l->v);
    *l = (struct kv_list){0};
}
