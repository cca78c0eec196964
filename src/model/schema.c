/* JSON Schema (2020-12) of the tables, for editors and for the API's description. */
#include <string.h>

#include "model/json.h"
#include "model/model.h"
#include "model/scalar.h"

static void add_key(struct buf *out, const char *key, const char *text)
{
    buf_printf(out, ",\"%s\":", key);
    json_add_string(out, text);
}

/* `"type":…` and what else the kind demands; no braces. */
static void add_kind(struct buf *out, const struct field *f)
{
    switch (f->kind) {
    case FIELD_BOOL: buf_add_string(out, "\"type\":\"boolean\""); break;
    case FIELD_INT:
    case FIELD_UINT: buf_add_string(out, "\"type\":\"integer\""); break;
    case FIELD_FLOAT: buf_add_string(out, "\"type\":\"number\""); break;
    case FIELD_STRING:
        buf_add_string(out, f->flags & FIELD_BOOL_TEXT ? "\"type\":\"boolean\"" : "\"type\":\"string\"");
        if (f->flags & FIELD_NAME_RULE)
            buf_add_string(out, ",\"pattern\":\"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$\"");
        break;
    case FIELD_ENUM:
        buf_add_string(out, "\"enum\":[");
        for (int i = enum_first(f), first = i; f->names[i]; i++) {
            buf_add_string(out, i > first ? "," : "");
            json_add_string(out, f->names[i]);
        }
        buf_add_char(out, ']');
        break;
    case FIELD_DURATION:
        buf_add_string(out, "\"type\":\"string\",\"pattern\":\"^([0-9]+(\\\\.[0-9]+)?(ms|s|m|h|d))+$\"");
        break;
    case FIELD_SIZE_MB:
        buf_add_string(out, "\"anyOf\":[{\"type\":\"integer\"},"
                            "{\"type\":\"string\",\"pattern\":\"^[0-9]+ *([mMgGtT]([iI]?[bB])?)?$\"}]");
        break;
    case FIELD_TIME: buf_add_string(out, "\"type\":\"string\",\"format\":\"date-time\""); break;
    case FIELD_OBJECT: buf_printf(out, "\"$ref\":\"#/$defs/%s\"", f->type->name); break;
    case FIELD_LIST: buf_printf(out, "\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/%s\"}", f->type->name); break;
    case FIELD_STR_LIST: {
        /* YAML's plain numbers and booleans are taken as texts. */
        static const char items[] = "{\"type\":\"array\",\"items\":{\"type\":[\"string\",\"number\",\"boolean\"]}}";
        if (f->flags & FIELD_SCALAR_OK)
            buf_printf(out, "\"anyOf\":[{\"type\":[\"string\",\"number\",\"boolean\"]},%s]", items);
        else
            buf_add(out, items + 1, strlen(items) - 2);
        break;
    }
    case FIELD_MAP:
        buf_add_string(out, "\"type\":\"object\",\"additionalProperties\":{\"type\":[\"string\",\"number\",\"boolean\"]}");
        break;
    }
}

static void add_default(struct buf *out, const struct field *f)
{
    if (!f->default_text)
        return;
    bool bare = f->kind == FIELD_BOOL || f->kind == FIELD_INT || f->kind == FIELD_UINT || f->kind == FIELD_FLOAT ||
                f->kind == FIELD_SIZE_MB;
    buf_add_string(out, ",\"default\":");
    if (bare)
        buf_add_string(out, f->default_text);
    else
        json_add_string(out, f->default_text);
}

static void add_property(struct buf *out, const struct field *f)
{
    buf_add_char(out, '{');
    add_kind(out, f);
    if (f->kind == FIELD_INT || f->kind == FIELD_FLOAT)
        if (f->min != 0 || f->max != 0) {
            buf_add_string(out, ",\"minimum\":");
            number_format(f->min, out);
            buf_add_string(out, ",\"maximum\":");
            number_format(f->max, out);
        }
    add_default(out, f);
    if (f->help)
        add_key(out, "description", f->help);
    buf_add_char(out, '}');
}

static bool is_offered(const struct field *f, unsigned driver)
{
    return !(f->flags & (FIELD_INTERNAL | FIELD_SECRET)) && (!f->only || !driver || f->only & driver);
}

/* The body of an object's schema, for users' files (yaml) or the API. driver 0: the keys of every driver. */
static void add_type(struct buf *out, const struct type *t, bool yaml, unsigned driver)
{
    buf_add_string(out, "\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    bool first = true;
    for (const struct field *f = t->fields; f->name; f++) {
        if (yaml ? !is_offered(f, driver) : f->flags & FIELD_SECRET)
            continue;
        buf_add_string(out, first ? "" : ",");
        first = false;
        json_add_string(out, yaml && f->yaml_name ? f->yaml_name : f->name);
        buf_add_char(out, ':');
        add_property(out, f);
    }
    buf_add_char(out, '}');
    first = true;
    for (const struct field *f = t->fields; f->name; f++)
        if (f->flags & FIELD_REQUIRED && (!yaml || is_offered(f, driver))) {
            buf_add_string(out, first ? ",\"required\":[" : ",");
            first = false;
            json_add_string(out, yaml && f->yaml_name ? f->yaml_name : f->name);
        }
    if (!first)
        buf_add_char(out, ']');
    if (t->help)
        add_key(out, "description", t->help);
}

/* Every type below t, once, in the order in which they are first met. */
struct type_set { const struct type *v[64]; size_t n; };

static void collect(const struct type *t, struct type_set *set)
{
    for (const struct field *f = t->fields; f->name; f++) {
        if (!f->type)
            continue;
        size_t i = 0;
        while (i < set->n && set->v[i] != f->type)
            i++;
        if (i < set->n)
            continue;
        INVARIANT(set->n < ARRAY_LEN(set->v));
        set->v[set->n++] = f->type;
        collect(f->type, set);
    }
}

static void add_definitions(struct buf *out, const struct type_set *set, bool yaml)
{
    buf_add_string(out, "\"$defs\":{");
    for (size_t i = 0; i < set->n; i++) {
        buf_printf(out, "%s\"%s\":{", i ? "," : "", set->v[i]->name);
        add_type(out, set->v[i], yaml, 0);
        buf_add_char(out, '}');
    }
    buf_add_char(out, '}');
}

void type_schema(const struct type *t, struct buf *out)
{
    struct type_set set = {0};
    collect(t, &set);
    buf_add_string(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\"");
    add_key(out, "title", t->name);
    buf_add_char(out, ',');
    add_type(out, t, false, 0);
    buf_add_char(out, ',');
    add_definitions(out, &set, false);
    buf_add_char(out, '}');
}

/* `driver: exec` decides which keys `config` has. */
static void add_driver_rules(struct buf *out)
{
    buf_add_string(out, ",\"allOf\":[");
    for (unsigned driver = 1; driver_kind_names[driver]; driver++) {
        buf_printf(out, "%s{\"if\":{\"properties\":{\"driver\":{\"const\":\"%s\"}},\"required\":[\"driver\"]},"
                        "\"then\":{\"properties\":{\"config\":{", driver > 1 ? "," : "", driver_kind_names[driver]);
        add_type(out, &config_type, true, 1u << driver);
        buf_add_string(out, "}}}}");
    }
    buf_add_char(out, ']');
}

void job_schema(struct buf *out)
{
    struct type_set set = {0};
    collect(&job_type, &set);
    buf_add_string(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":\"services.yaml\","
                        "\"anyOf\":[{\"$ref\":\"#/$defs/job\"},{\"$ref\":\"#/$defs/service\"}],\"$defs\":{\"job\":{");
    add_type(out, &job_type, true, 0);
    buf_add_char(out, '}');
    for (size_t i = 0; i < set.n; i++) {
        buf_printf(out, ",\"%s\":{", set.v[i]->name);
        add_type(out, set.v[i], true, 0);
        if (set.v[i] == &service_type)
            add_driver_rules(out);
        buf_add_char(out, '}');
    }
    buf_add_string(out, "}}");
}

static void markdown_type(struct buf *out, const struct type *t)
{
    buf_printf(out, "## %s\n\n%s\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n", t->name,
               t->help ? t->help : "");
    for (const struct field *f = t->fields; f->name; f++) {
        if (f->flags & (FIELD_INTERNAL | FIELD_SECRET))
            continue;
        buf_printf(out, "| `%s` | ", f->yaml_name ? f->yaml_name : f->name);
        if (f->type)
            buf_printf(out, "%s[%s](#%s)", f->kind == FIELD_LIST ? "list of " : "", f->type->name, f->type->name);
        else
            scalar_describe(f, out);
        if (f->min != 0 || f->max != 0) {
            buf_add_string(out, ", ");
            union { int64_t number; double real; } low = {0}, high = {0};
            if (f->kind == FIELD_FLOAT) {
                low.real = f->min;
                high.real = f->max;
            } else {
                low.number = (int64_t)f->min;
                high.number = (int64_t)f->max;
            }
            scalar_format(f, &low, out);
            buf_add_string(out, " to ");
            scalar_format(f, &high, out);
        }
        buf_printf(out, " | %s%s%s | ", f->default_text ? "`" : f->flags & FIELD_REQUIRED ? "required" : "",
                   f->default_text ? f->default_text : "", f->default_text ? "`" : "");
        for (unsigned driver = 1, n = 0; f->only && driver_kind_names[driver]; driver++)
            if (f->only & 1u << driver)
                buf_printf(out, "%s%s", n++ ? ", " : "*", driver_kind_names[driver]);
        buf_printf(out, "%s%s |\n", f->only ? ":* " : "", f->help ? f->help : "");
    }
    buf_add_char(out, '\n');
}

void type_markdown(const struct type *t, struct buf *out)
{
    struct type_set set = {0};
    collect(t, &set);
    markdown_type(out, t);
    for (size_t i = 0; i < set.n; i++)
        markdown_type(out, set.v[i]);
}
