/* Reading: from a value to an object of the model, by its table. Unknown keys, wrong kinds and keys of another driver
 * are found here; ranges, required keys and what the types check themselves are found by type_validate on the finished
 * object, and get their places from the value. */
#include <string.h>

#include "base/text.h"
#include "model/model.h"
#include "model/scalar.h"
#include "model/value.h"

struct context {
    unsigned flags;
    struct problem_list *problems;
    struct str_list bad_choices;     /* paths of objects of which an enum could not be read */
};

static void wrong_kind(struct context *c, const struct field *f, const struct value *v, const char *path)
{
    CLEANUP_BUF struct buf wanted = {0};
    CLEANUP_BUF struct buf found = {0};
    scalar_describe(f, &wanted);
    value_describe(v, &found);
    problem_add_at(c->problems, path, v->line, v->column, "wanted %s, found %s", wanted.data, found.data);
}

/* May this value stand for a text? */
static bool is_text(const struct value *v)
{
    return v->kind == VALUE_TEXT || (v->loose && (v->kind == VALUE_NUMBER || v->kind == VALUE_BOOL));
}

static bool kind_fits(const struct field *f, const struct value *v)
{
    switch (f->kind) {
    case FIELD_BOOL: return v->kind == VALUE_BOOL;
    case FIELD_INT:
    case FIELD_UINT:
    case FIELD_FLOAT: return v->kind == VALUE_NUMBER;
    case FIELD_SIZE_MB: return v->kind == VALUE_NUMBER || v->kind == VALUE_TEXT;
    case FIELD_STRING: return f->flags & FIELD_BOOL_TEXT ? v->kind == VALUE_BOOL : is_text(v);
    default: return is_text(v);
    }
}

/* Rules between the object's keys may depend on the choice: they are not applied. (A required choice has a value for
 * "none", which the rules know.) */
static void note_bad_choice(struct context *c, const struct field *f, const char *path)
{
    if (f->kind != FIELD_ENUM || f->flags & FIELD_REQUIRED)
        return;
    const char *dot = strrchr(path, '.');
    CLEANUP_FREE char *parent = mem_strndup(path, dot ? (size_t)(dot - path) : 0);
    str_list_add(&c->bad_choices, parent);
}

/* A variable without a value was told already. */
static bool is_unset_variable(const struct context *c, const struct value *v)
{
    if (!v->text || !strstr(v->text, "${"))
        return false;
    for (uint32_t i = 0; i < c->problems->n; i++)
        if (c->problems->v[i].line == v->line && c->problems->v[i].column == v->column)
            return true;
    return false;
}

static void read_scalar(struct context *c, const struct field *f, const struct value *v, const char *path, void *slot)
{
    struct error err;
    if (is_unset_variable(c, v))
        return;
    if (v->kind == VALUE_NULL && f->kind == FIELD_STRING) {
        mem_set_string(slot, NULL);
    } else if (!kind_fits(f, v)) {
        wrong_kind(c, f, v, path);
    } else if (scalar_parse(f, v->text, slot, &err) < 0) {
        note_bad_choice(c, f, path);
        const char *near = f->kind == FIELD_ENUM ? text_nearest(v->text, f->names + enum_first(f)) : NULL;
        if (near)
            problem_add_at(c->problems, path, v->line, v->column, "%s; did you mean `%s`?", err.text, near);
        else
            problem_add_at(c->problems, path, v->line, v->column, "%s", err.text);
    }
}

static void read_str_list(struct context *c, const struct field *f, const struct value *v, const char *path,
                          struct str_list *l)
{
    if (f->flags & FIELD_SCALAR_OK && is_text(v)) {
        str_list_add(l, v->text);
        return;
    }
    if (v->kind != VALUE_LIST) {
        wrong_kind(c, f, v, path);
        return;
    }
    for (uint32_t i = 0; i < v->n; i++) {
        const struct value *item = &v->entries[i].value;
        CLEANUP_FREE char *item_path = mem_printf("%s[%u]", path, i);
        static const struct field text = {.kind = FIELD_STRING};
        if (is_text(item))
            str_list_add(l, item->text);
        else
            wrong_kind(c, &text, item, item_path);
    }
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct kv *)a)->key, ((const struct kv *)b)->key);
}

/* Keys are known to be unique. */
static void read_string_map(struct context *c, const struct field *f, const struct value *v, const char *path,
                            struct kv_list *l)
{
    if (v->kind != VALUE_MAP) {
        wrong_kind(c, f, v, path);
        return;
    }
    if (!v->n)
        return;
    l->v = mem_array(v->n, sizeof *l->v);
    for (uint32_t i = 0; i < v->n; i++) {
        const struct value_entry *entry = &v->entries[i];
        static const struct field text = {.kind = FIELD_STRING};
        if (is_text(&entry->value)) {
            l->v[l->n++] = (struct kv){.key = mem_strdup(entry->key), .value = mem_strdup(entry->value.text)};
        } else {
            CLEANUP_FREE char *entry_path = mem_printf("%s.%s", path, entry->key);
            wrong_kind(c, &text, &entry->value, entry_path);
        }
    }
    qsort(l->v, l->n, sizeof *l->v, by_key);
}

static void read_object(struct context *c, const struct type *t, const struct value *v, const char *path, unsigned only,
                        void *object);

static void read_list(struct context *c, const struct field *f, const struct value *v, const char *path, unsigned only,
                      struct list *l)
{
    if (v->kind != VALUE_LIST) {
        wrong_kind(c, f, v, path);
        return;
    }
    for (uint32_t i = 0; i < v->n; i++) {
        CLEANUP_FREE char *item_path = mem_printf("%s[%u]", path, i);
        read_object(c, f->type, &v->entries[i].value, item_path, only, list_add(l, f->type));
    }
}

static void read_field(struct context *c, const struct field *f, const struct value *v, const char *path, unsigned only,
                       void *slot)
{
    bool written = v->text || !v->loose;   /* `null`, not just nothing */
    if (v->kind == VALUE_NULL && !(f->kind == FIELD_STRING && written)) {
        if (v->loose)
            problem_add_at(c->problems, path, v->line, v->column, "has no value: give it one or remove the key");
        return;                         /* JSON's null: absent */
    }
    switch (f->kind) {
    case FIELD_OBJECT: read_object(c, f->type, v, path, only, slot); break;
    case FIELD_LIST: read_list(c, f, v, path, only, slot); break;
    case FIELD_STR_LIST: read_str_list(c, f, v, path, slot); break;
    case FIELD_MAP: read_string_map(c, f, v, path, slot); break;
    default: read_scalar(c, f, v, path, slot); break;
    }
}

static const char *outer_name(const struct context *c, const struct field *f)
{
    return c->flags & READ_YAML_NAMES && f->yaml_name ? f->yaml_name : f->name;
}

static bool is_offered(const struct context *c, const struct field *f)
{
    return !(f->flags & FIELD_INTERNAL) || c->flags & READ_INTERNAL;
}

/* The object inside this type that has the key: `image` written beside `config` instead of under it. */
static const struct field *owner_of(const struct context *c, const struct type *t, const char *key)
{
    for (const struct field *f = t->fields; f->name; f++) {
        const struct field *inner = f->kind == FIELD_OBJECT ? type_field(f->type, key) : NULL;
        if (inner && is_offered(c, inner) && is_offered(c, f))
            return f;
    }
    return NULL;
}

/* What stands under this key in a file, or there under the other name, when it is asked for here by the wrong one. */
static const char *other_name(const struct context *c, const struct type *t, const struct value *v, const char *key)
{
    for (const struct field *f = t->fields; f->name; f++)
        if (f->yaml_name && is_offered(c, f) && strcmp(key, c->flags & READ_YAML_NAMES ? f->name : f->yaml_name) == 0)
            return value_get(v, outer_name(c, f)) ? NULL : outer_name(c, f);
    return NULL;
}

static void unknown_key(struct context *c, const struct type *t, const struct value *v, const struct value_entry *entry, const char *path)
{
    const char *names[128];
    size_t n = 0;
    for (const struct field *f = t->fields; f->name && n + 1 < ARRAY_LEN(names); f++)
        if (is_offered(c, f))
            names[n++] = outer_name(c, f);
    names[n] = NULL;
    const char *near = other_name(c, t, v, entry->key);
    if (!near)
        near = text_nearest(entry->key, names);
    const struct field *owner = owner_of(c, t, entry->key);
    if (owner)
        problem_add_at(c->problems, path, entry->line, entry->column, "unknown key of %s; it belongs under `%s`", t->name,
                       outer_name(c, owner));
    else if (near)
        problem_add_at(c->problems, path, entry->line, entry->column, "unknown key; did you mean `%s`?", near);
    else
        problem_add_at(c->problems, path, entry->line, entry->column, "unknown key of %s", t->name);
}

/* The driver is needed before the keys that depend on it, wherever it stands in the map. */
static unsigned driver_bit(struct context *c, const struct type *t, const struct value *v, unsigned only)
{
    const struct field *f = type_field(t, "driver");
    if (!f || f->kind != FIELD_ENUM)
        return only;
    const struct value_entry *entry = value_get(v, "driver");
    int driver = entry && entry->value.text ? enum_value(f->names, entry->value.text) : -1;
    return driver > 0 ? 1u << driver : 0;
}

static void other_drivers_key(struct context *c, const struct field *f, const struct value_entry *entry, const char *path,
                              unsigned only)
{
    CLEANUP_BUF struct buf owners = {0};
    const char *mine = "";
    for (int driver = 1; driver_kind_names[driver]; driver++) {
        if (f->only & 1u << driver)
            buf_printf(&owners, "%s%s", owners.len ? " and " : "", driver_kind_names[driver]);
        if (only & 1u << driver)
            mine = driver_kind_names[driver];
    }
    problem_add_at(c->problems, path, entry->line, entry->column, "is a key of %s, not of %s", owners.data, mine);
}

/* Numbers that may be zero are missed here; the other absent ones by the check of the whole, which sees their zero. */
static void miss_numbers(struct context *c, const struct type *t, const struct value *v, const char *path, unsigned only)
{
    if (c->flags & READ_INTERNAL)
        return;
    for (const struct field *f = t->fields; f->name; f++) {
        bool mine = !f->only || !only || f->only & only;
        bool needed = mine && f->flags & FIELD_REQUIRED && scalar_zero_is_value(f) && is_offered(c, f);
        const struct value_entry *entry = needed ? value_get(v, outer_name(c, f)) : NULL;
        if (!needed || (entry && entry->value.kind != VALUE_NULL))
            continue;
        CLEANUP_FREE char *missed = mem_printf("%s%s%s", path, *path ? "." : "", outer_name(c, f));
        CLEANUP_BUF struct buf wanted = {0};
        scalar_describe(f, &wanted);
        problem_add_at(c->problems, missed, v->line, v->column, "is required: %s", wanted.data);
    }
}

/* The object holds its defaults already. */
static void read_object(struct context *c, const struct type *t, const struct value *v, const char *path, unsigned only,
                        void *object)
{
    if (v->kind != VALUE_MAP) {
        static const struct field map = {.kind = FIELD_OBJECT};
        wrong_kind(c, &map, v, path);
        return;
    }
    only = driver_bit(c, t, v, only);
    for (uint32_t i = 0; i < v->n; i++) {
        const struct value_entry *entry = &v->entries[i];
        CLEANUP_FREE char *entry_path = *path ? mem_printf("%s.%s", path, entry->key) : mem_strdup(entry->key);
        const struct field *f = t->fields;
        while (f->name && strcmp(outer_name(c, f), entry->key))
            f++;
        bool offered = f->name && is_offered(c, f);
        if (!offered && (c->flags & READ_INTERNAL || (f->name && !(c->flags & READ_YAML_NAMES))))
            continue;                    /* of a newer release, or what the API itself had written */
        if (!offered)
            unknown_key(c, t, v, entry, entry_path);
        else if (f->only && only && !(f->only & only))
            other_drivers_key(c, f, entry, entry_path, only);
        else
            read_field(c, f, &entry->value, entry_path, only, field_slot(f, object));
    }
    miss_numbers(c, t, v, path, only);
}

/* What could not be read, or lies within what could not, is not also reported as missing or out of range. */
static bool is_told(const struct problem_list *told, uint32_t n, const char *path, const struct value *at)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct problem *p = &told->v[i];
        size_t len = strlen(p->path);
        if (len && !strncmp(p->path, path, len) && (!path[len] || path[len] == '.' || path[len] == '['))
            return true;
        if (p->line && p->line == at->line && p->column == at->column && at->kind == VALUE_NULL)
            return true;
    }
    return false;
}

/* Into the order of the file; what has the same place, or none, keeps its order. There are at most 101. */
static void sort_by_place(struct problem_list *l)
{
    for (uint32_t i = 1; i < l->n; i++) {
        struct problem p = l->v[i];
        uint32_t k = i;
        for (; k && (l->v[k - 1].line > p.line || (l->v[k - 1].line == p.line && l->v[k - 1].column > p.column)); k--)
            l->v[k] = l->v[k - 1];
        l->v[k] = p;
    }
}

void object_from_value(const struct type *t, const struct value *v, unsigned flags, void *object,
                       struct problem_list *problems)
{
    struct context c = {.flags = flags, .problems = problems};
    type_init(t, object);
    read_object(&c, t, v, "", 0, object);
    if (v->kind != VALUE_MAP || flags & READ_INTERNAL) {
        str_list_clear(&c.bad_choices);
        return;
    }
    uint32_t found = problems->n;
    struct problem_list further = {0};
    type_validate_except(t, object, &c.bad_choices, &further);
    str_list_clear(&c.bad_choices);
    for (uint32_t i = 0; i < further.n; i++) {
        const struct problem *p = &further.v[i];
        const struct field *f = type_field(t, p->path);
        const char *path = f ? outer_name(&c, f) : p->path;
        const struct value *at = value_at(v, path);
        if (i == PROBLEMS_MAX)
            problem_add(problems, "", "%s", p->message);
        else if (!is_told(problems, found, path, at))
            problem_add_at(problems, path, at->line, at->column, "%s", p->message);
    }
    problem_list_clear(&further);
    sort_by_place(problems);
}

static int finish(const struct type *t, struct value *v, unsigned flags, void *object, struct problem_list *problems)
{
    uint32_t before = problems->n;
    object_from_value(t, v, flags, object, problems);
    value_clear(v);
    if (problems->n == before)
        return 0;
    type_clear(t, object);
    return -1;
}

int type_from_yaml(const struct type *t, const char *text, size_t len, void *object, struct problem_list *problems)
{
    struct value v;
    memset(object, 0, t->size);
    if (value_from_yaml(text, len, &v, problems) < 0) {
        /* The rest of the file may have problems too: all are told at once. */
        if (v.kind != VALUE_NULL) {
            object_from_value(t, &v, READ_YAML_NAMES, object, problems);
            type_clear(t, object);
        }
        value_clear(&v);
        return -1;
    }
    return finish(t, &v, READ_YAML_NAMES, object, problems);
}

int type_from_json(const struct type *t, const char *text, size_t len, bool internal, void *object,
                   struct problem_list *problems)
{
    struct value v;
    memset(object, 0, t->size);
    if (value_from_json(text, len, &v, problems) < 0)
        return -1;
    return finish(t, &v, internal ? READ_INTERNAL : 0, object, problems);
}
