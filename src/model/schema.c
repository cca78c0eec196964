/* JSON Schema (2020-12) of the tables, for editors and for the API's description. */
#include <string.h>

#include "model/json.h"
#include "model/namespace.h"
#include "model/scalar.h"
#include "model/type_set.h"

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

static void add_named_property(struct buf *out, const char *name, const struct field *f)
{
    json_add_string(out, name);
    buf_add_char(out, ':');
    add_property(out, f);
}

/* `also`: a key before those of the type; NULL: none. */
static void add_type_and(struct buf *out, const struct type *t, const struct field *also, bool yaml, unsigned driver)
{
    buf_add_string(out, "\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    bool first = !also;
    if (also)
        add_named_property(out, also->name, also);
    for (const struct field *f = t->fields; f->name; f++) {
        if (yaml ? !is_offered(f, driver) : f->flags & FIELD_SECRET)
            continue;
        buf_add_string(out, first ? "" : ",");
        first = false;
        add_named_property(out, yaml && f->yaml_name ? f->yaml_name : f->name, f);
        if (f->flags & FIELD_NAMESPACE && !yaml)
            buf_add_string(out, ",\"namespace\":{\"type\":\"string\",\"description\":\"" NAMESPACE_HELP "\"}");
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

/* The body of an object's schema, for users' files (yaml) or the API. driver 0: the keys of every driver. */
static void add_type(struct buf *out, const struct type *t, bool yaml, unsigned driver)
{
    add_type_and(out, t, NULL, yaml, driver);
}

/* Of what is below the first type. */
static void add_definitions(struct buf *out, const struct type_set *set, bool yaml)
{
    buf_add_string(out, "\"$defs\":{");
    for (size_t i = 1; i < set->n; i++) {
        buf_printf(out, "%s\"%s\":{", i > 1 ? "," : "", set->v[i]->name);
        add_type(out, set->v[i], yaml, 0);
        buf_add_char(out, '}');
    }
    buf_add_char(out, '}');
}

void type_schema(const struct type *t, struct buf *out)
{
    struct type_set set = {0};
    type_set_add(&set, t);
    buf_add_string(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\"");
    add_key(out, "title", t->name);
    buf_add_char(out, ',');
    add_type(out, t, false, 0);
    buf_add_char(out, ',');
    add_definitions(out, &set, false);
    type_set_clear(&set);
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

/* A file of one service alone says of which namespace it is among the service's own keys. */
static void add_lone_service(struct buf *out)
{
    add_type_and(out, &service_type, type_field(&job_type, "namespace"), true, 0);
    add_driver_rules(out);
}

void job_schema(struct buf *out)
{
    struct type_set set = {0};
    type_set_add(&set, &job_type);
    buf_add_string(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":\"services.yaml\","
                        "\"anyOf\":[{\"$ref\":\"#/$defs/job\"},{\"$ref\":\"#/$defs/lone_service\"}],\"$defs\":{\"lone_service\":{");
    add_lone_service(out);
    buf_add_string(out, "},");
    for (size_t i = 0; i < set.n; i++) {
        buf_printf(out, "%s\"%s\":{", i ? "," : "", set.v[i]->name);
        add_type(out, set.v[i], true, 0);
        if (set.v[i] == &service_type)
            add_driver_rules(out);
        buf_add_char(out, '}');
    }
    type_set_clear(&set);
    buf_add_string(out, "}}");
}
