/* One YAML document into a value, from libyaml's events. What services.yaml does not need, and what makes YAML
 * dangerous (aliases, anchors, tags, several documents), is refused with its place. */
#include <string.h>
#include <yaml.h>

#include "model/value.h"

struct reader {
    yaml_parser_t parser;
    struct problem_list *problems;
    bool stopped;                       /* the text cannot be read any further */
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
    if (event->data.scalar.anchor)
        refuse(r, event->start_mark, "anchors (&name) are not allowed: write the value out");
    if (event->data.scalar.tag)
        refuse(r, event->start_mark, "tags (!name) are not allowed: remove it");
    if (strlen(text) != event->data.scalar.length)
        refuse(r, event->start_mark, "a text must not contain a NUL character");
    out->loose = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    out->kind = out->loose ? value_plain_kind(text) : VALUE_TEXT;
    if (*text || out->kind != VALUE_NULL)
        out->text = mem_strdup(text);
}

static void read_value(struct reader *r, yaml_event_t *event, struct value *out, int depth);

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
        if (event->data.sequence_start.anchor || event->data.sequence_start.tag)
            refuse(r, event->start_mark, "anchors and tags are not allowed: write the list out");
        read_list(r, out, depth);
        break;
    case YAML_MAPPING_START_EVENT:
        if (event->data.mapping_start.anchor || event->data.mapping_start.tag)
            refuse(r, event->start_mark, "anchors and tags are not allowed: write the map out");
        read_map(r, out, depth);
        break;
    case YAML_ALIAS_EVENT:
        refuse(r, event->start_mark, "aliases (*name) are not allowed: write the value out");
        break;
    default:
        refuse(r, event->start_mark, "wanted a value");
        r->stopped = true;
        break;
    }
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

int value_from_yaml(const char *text, size_t len, struct value *out, struct problem_list *problems)
{
    *out = (struct value){0};
    if (len > VALUE_BYTES_MAX) {
        problem_add(problems, "", "larger than %u bytes", VALUE_BYTES_MAX);
        return -1;
    }
    uint32_t before = problems->n;
    struct reader r = {.problems = problems};
    INVARIANT(yaml_parser_initialize(&r.parser));
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)(text ? text : ""), len);
    read_stream(&r, out);
    yaml_parser_delete(&r.parser);
    /* What could be read of a damaged text would only give misleading further problems. */
    if (r.stopped)
        value_clear(out);
    return problems->n > before ? -1 : 0;
}
