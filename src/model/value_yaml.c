/* One YAML document into a value, from libyaml's events. What services.yaml does not need, and what makes YAML
 * dangerous (aliases, anchors, tags, several documents), is refused with its place. The files of others have these: an
 * alias becomes a copy, and how much can be copied is limited. */
#include <string.h>
#include <yaml.h>

#include "model/value.h"

#define COPIED_MAX 100000               /* values that aliases may stand for, in all */

struct anchor { char *name; struct value value; };

struct reader {
    yaml_parser_t parser;
    struct problem_list *problems;
    bool stopped;                       /* the text cannot be read any further */
    bool foreign;                       /* anchors and their like are allowed */
    struct anchor *anchors;
    size_t n_anchors, copied;
};

static void refuse(struct reader *r, yaml_mark_t at, const char *message)
{
    problem_add_at(r->problems, "", (int)at.line + 1, (int)at.column + 1, "%s", message);
}

static bool next(struct reader *r, yaml_event_t *event)
{
    if (r->stopped)
        return false;
    if (yaml_parser_parse(&r->parser, event))
        return true;
    r->stopped = true;
    const char *problem = r->parser.problem ? r->parser.problem : "not YAML";
    yaml_mark_t at = r->parser.problem_mark;
    if (r->parser.error == YAML_READER_ERROR) {
        problem_add_at(r->problems, "", 0, 0, "byte %zu: %s", r->parser.problem_offset + 1, problem);
        return false;
    }
    if (r->parser.context)
        problem_add_at(r->problems, "", (int)at.line + 1, (int)at.column + 1, "%s (%s)", problem, r->parser.context);
    else
        refuse(r, at, problem);
    return false;
}

static void read_scalar(struct reader *r, const yaml_event_t *event, struct value *out)
{
    const char *text = (const char *)event->data.scalar.value;
    if (event->data.scalar.anchor && !r->foreign)
        refuse(r, event->start_mark, "anchors (&name) are not allowed: write the value out");
    if (event->data.scalar.tag && !r->foreign)
        refuse(r, event->start_mark, "tags (!name) are not allowed: remove it");
    if (strlen(text) != event->data.scalar.length)
        refuse(r, event->start_mark, "a text must not contain a NUL character");
    out->loose = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    out->kind = out->loose ? value_plain_kind(text) : VALUE_TEXT;
    if (*text || out->kind != VALUE_NULL)
        out->text = mem_strdup(text);
}

static void read_value(struct reader *r, yaml_event_t *event, struct value *out, int depth);
static void alias_put(struct reader *r, const yaml_event_t *event, struct value *out);

static void read_list(struct reader *r, struct value *out, int depth)
{
    yaml_event_t event;
    out->kind = VALUE_LIST;
    while (next(r, &event)) {
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        if (!end)
            read_value(r, &event, value_add(out, NULL), depth + 1);
        yaml_event_delete(&event);
        if (end)
            return;
    }
}

static int by_key_and_place(const void *a, const void *b)
{
    const struct value_entry *x = *(const struct value_entry *const *)a, *y = *(const struct value_entry *const *)b;
    int order = strcmp(x->key, y->key);
    return order ? order : x < y ? -1 : x > y;
}

/* The first of equal keys stays. By sorting, since a hostile map may have 200,000 keys. */
static void drop_repeated(struct reader *r, struct value *map)
{
    CLEANUP_FREE struct value_entry **sorted = mem_array(map->n, sizeof *sorted);
    for (uint32_t i = 0; i < map->n; i++)
        sorted[i] = &map->entries[i];
    qsort(sorted, map->n, sizeof *sorted, by_key_and_place);
    for (uint32_t i = 1, first = 0; i < map->n; i++) {
        if (strcmp(sorted[i]->key, sorted[first]->key)) {
            first = i;
            continue;
        }
        problem_add_at(r->problems, sorted[i]->key, sorted[i]->line, sorted[i]->column,
                       "the key stands twice in this map: remove one");
        value_clear(&sorted[i]->value);
        sorted[i]->line = 0;             /* marked */
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < map->n; i++) {
        if (map->entries[i].line)
            map->entries[kept++] = map->entries[i];
        else
            free(map->entries[i].key);
    }
    map->n = kept;
}

/* The entry's key has been read as the event; false when it is none. */
static bool read_key(struct reader *r, yaml_event_t *event, struct value *map, int depth)
{
    struct value key = {0};
    yaml_mark_t at = event->start_mark;
    read_value(r, event, &key, depth + 1);
    bool fits = key.text && key.kind < VALUE_LIST;
    if (fits) {
        value_add(map, key.text);
        map->entries[map->n - 1].line = (int)at.line + 1;
        map->entries[map->n - 1].column = (int)at.column + 1;
    } else if (!r->stopped) {
        refuse(r, at, "a key must be a plain text");
    }
    value_clear(&key);
    return fits;
}

static void merge_from(struct value *map, const struct value *from)
{
    for (uint32_t i = 0; from->kind == VALUE_MAP && i < from->n; i++) {
        const struct value_entry *e = &from->entries[i];
        if (value_get(map, e->key))
            continue;
        value_add(map, e->key);
        map->entries[map->n - 1].line = e->line;
        map->entries[map->n - 1].column = e->column;
        value_copy(&map->entries[map->n - 1].value, &e->value);
    }
}

/* "<<": a map, or a list of maps, whose keys are here where the map itself does not have them. */
static void merge_keys(struct reader *r, struct value *map)
{
    uint32_t at = 0;
    while (at < map->n && strcmp(map->entries[at].key, "<<"))
        at++;
    if (at == map->n)
        return;
    struct value_entry merge = map->entries[at];
    memmove(map->entries + at, map->entries + at + 1, (map->n - at - 1) * sizeof *map->entries);
    map->n--;
    free(merge.key);
    merge_from(map, &merge.value);
    for (uint32_t i = 0; merge.value.kind == VALUE_LIST && i < merge.value.n; i++)
        merge_from(map, &merge.value.entries[i].value);
    if (merge.value.kind != VALUE_MAP && merge.value.kind != VALUE_LIST)
        problem_add_at(r->problems, "", merge.line, merge.column, "`<<` takes a map, or a list of maps");
    value_clear(&merge.value);
}

static void read_map(struct reader *r, struct value *out, int depth)
{
    yaml_event_t event;
    out->kind = VALUE_MAP;
    while (next(r, &event)) {
        bool end = event.type == YAML_MAPPING_END_EVENT;
        bool fits = !end && read_key(r, &event, out, depth);
        yaml_event_delete(&event);
        if (end)
            break;
        if (next(r, &event)) {
            /* A broken key's value is read and dropped, so that what follows is still checked. */
            struct value dropped = {0};
            read_value(r, &event, fits ? &out->entries[out->n - 1].value : &dropped, depth + 1);
            yaml_event_delete(&event);
            value_clear(&dropped);
        }
    }
    if (out->n > 1)
        drop_repeated(r, out);
    if (r->foreign)
        merge_keys(r, out);
}

/* --- anchors and aliases --- */

static size_t count_values(const struct value *v)
{
    size_t n = 1;
    for (uint32_t i = 0; i < v->n; i++)
        n += count_values(&v->entries[i].value);
    return n;
}

static void anchor_keep(struct reader *r, const yaml_char_t *name, const struct value *v)
{
    r->copied += count_values(v);
    if (r->copied > COPIED_MAX)
        return;
    r->anchors = mem_realloc_array(r->anchors, r->n_anchors + 1, sizeof *r->anchors);
    r->anchors[r->n_anchors].name = mem_strdup((const char *)name);
    value_copy(&r->anchors[r->n_anchors++].value, v);
}

/* The last of a name counts. */
static void alias_put(struct reader *r, const yaml_event_t *event, struct value *out)
{
    const char *name = (const char *)event->data.alias.anchor;
    for (size_t i = r->n_anchors; i-- > 0; ) {
        if (strcmp(r->anchors[i].name, name))
            continue;
        r->copied += count_values(&r->anchors[i].value);
        if (r->copied <= COPIED_MAX) {
            value_copy(out, &r->anchors[i].value);
            return;
        }
        break;
    }
    refuse(r, event->start_mark, r->copied > COPIED_MAX ? "aliases stand for too much here: write the values out"
                                                        : "no anchor (&name) of this name comes before it");
    r->stopped = true;
}

static const yaml_char_t *anchor_of(const yaml_event_t *event)
{
    return event->type == YAML_SCALAR_EVENT ? event->data.scalar.anchor
         : event->type == YAML_SEQUENCE_START_EVENT ? event->data.sequence_start.anchor
         : event->type == YAML_MAPPING_START_EVENT ? event->data.mapping_start.anchor : NULL;
}

static void read_value(struct reader *r, yaml_event_t *event, struct value *out, int depth)
{
    out->line = (int)event->start_mark.line + 1;
    out->column = (int)event->start_mark.column + 1;
    if (depth > VALUE_DEPTH_MAX) {
        refuse(r, event->start_mark, "nested too deeply");
        r->stopped = true;
        return;
    }
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        read_scalar(r, event, out);
        break;
    case YAML_SEQUENCE_START_EVENT:
        if ((event->data.sequence_start.anchor || event->data.sequence_start.tag) && !r->foreign)
            refuse(r, event->start_mark, "anchors and tags are not allowed: write the list out");
        read_list(r, out, depth);
        break;
    case YAML_MAPPING_START_EVENT:
        if ((event->data.mapping_start.anchor || event->data.mapping_start.tag) && !r->foreign)
            refuse(r, event->start_mark, "anchors and tags are not allowed: write the map out");
        read_map(r, out, depth);
        break;
    case YAML_ALIAS_EVENT:
        if (r->foreign) {
            alias_put(r, event, out);
            break;
        }
        refuse(r, event->start_mark, "aliases (*name) are not allowed: write the value out");
        break;
    default:
        refuse(r, event->start_mark, "wanted a value");
        r->stopped = true;
        break;
    }
    if (r->foreign && anchor_of(event) && !r->stopped)
        anchor_keep(r, anchor_of(event), out);
}

static void read_stream(struct reader *r, struct value *out)
{
    yaml_event_t event;
    bool seen = false;
    while (next(r, &event)) {
        bool end = event.type == YAML_STREAM_END_EVENT;
        if (event.type == YAML_DOCUMENT_START_EVENT) {
            if (seen)
                refuse(r, event.start_mark, "a second document begins here: put it into a file of its own");
        } else if (event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_END_EVENT && !end) {
            struct value again = {0};
            read_value(r, &event, seen ? &again : out, 0);
            value_clear(&again);
            seen = true;
        }
        yaml_event_delete(&event);
        if (end)
            break;
    }
    if (!seen && !r->problems->n)
        problem_add_at(r->problems, "", 1, 1, "the file is empty");
}

static int read_document(const char *text, size_t len, bool foreign, struct value *out, struct problem_list *problems)
{
    *out = (struct value){0};
    if (len > VALUE_BYTES_MAX) {
        problem_add(problems, "", "larger than %u bytes", VALUE_BYTES_MAX);
        return -1;
    }
    uint32_t before = problems->n;
    struct reader r = {.problems = problems, .foreign = foreign};
    INVARIANT(yaml_parser_initialize(&r.parser));
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)(text ? text : ""), len);
    read_stream(&r, out);
    yaml_parser_delete(&r.parser);
    /* What could be read of a damaged text would only give misleading further problems. */
    if (r.stopped)
        value_clear(out);
    for (size_t i = 0; i < r.n_anchors; i++) {
        free(r.anchors[i].name);
        value_clear(&r.anchors[i].value);
    }
    free(r.anchors);
    return problems->n > before ? -1 : 0;
}

int value_from_yaml(const char *text, size_t len, struct value *out, struct problem_list *problems)
{
    return read_document(text, len, false, out, problems);
}

int value_from_foreign_yaml(const char *text, size_t len, struct value *out, struct problem_list *problems)
{
    return read_document(text, len, true, out, problems);
}
