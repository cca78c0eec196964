#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "model/namespace.h"
#include "model/type_set.h"
#include "server/route.h"

#define REF_FROM "#/$defs/"
#define REF_TO "#/components/schemas/"

/* References of a JSON Schema of its own become references into the document. */
static void rewrite_refs(json_t *v)
{
    if (json_is_array(v))
        for (size_t i = 0; i < json_array_size(v); i++)
            rewrite_refs(json_array_get(v, i));
    if (!json_is_object(v))
        return;
    const char *ref = json_string_value(json_object_get(v, "$ref"));
    if (ref && !strncmp(ref, REF_FROM, sizeof REF_FROM - 1)) {
        CLEANUP_FREE char *to = mem_printf(REF_TO "%s", ref + sizeof REF_FROM - 1);
        json_object_set_new(v, "$ref", json_string(to));
    }
    for (void *i = json_object_iter(v); i; i = json_object_iter_next(v, i))
        rewrite_refs(json_object_iter_value(i));
}

/* Adds the type and all below it once, and returns a reference to it. */
static json_t *schema_ref(json_t *schemas, const struct type *type)
{
    if (!json_object_get(schemas, type->name)) {
        CLEANUP_BUF struct buf text = {0};
        type_schema(type, &text);
        json_t *schema = json_loadb(text.data, text.len, 0, NULL);
        INVARIANT(schema);
        json_t *below = json_incref(json_object_get(schema, "$defs"));
        json_object_del(schema, "$defs");
        json_object_del(schema, "$schema");
        rewrite_refs(schema);
        rewrite_refs(below);
        json_object_update_missing(schemas, below);
        json_object_set_new(schemas, type->name, schema);
        json_decref(below);
    }
    return json_pack("{s:s++}", "$ref", REF_TO, type->name, "");
}

static json_t *content(const char *media, json_t *schema)
{
    return json_pack("{s:{s:o}}", media, "schema", schema);
}

static json_t *page_schema(json_t *item)
{
    return json_pack("{s:s,s:[s,s,s],s:{s:{s:s,s:o},s:{s:s},s:{s:s}}}", "type", "object", "required", "items",
                     "next_cursor", "index", "properties", "items", "type", "array", "items", item, "next_cursor",
                     "type", "string", "index", "type", "integer");
}

static json_t *response_of(const struct route *r, json_t *schemas)
{
    json_t *response = json_pack("{s:s}", "description", "Done.");
    if (r->response) {
        json_t *schema = schema_ref(schemas, r->response);
        json_object_set_new(response, "content", content("application/json", r->list ? page_schema(schema) : schema));
    } else if (r->content_type) {
        json_object_set_new(response, "content", content(r->content_type, json_object()));
    }
    return response;
}

static void add_parameters(const struct route *r, json_t *list)
{
    for (const char *p = strchr(r->path, '{'); p; p = strchr(p + 1, '{'))
        json_array_append_new(list, json_pack("{s:s%,s:s,s:b,s:{s:s}}", "name", p + 1, strcspn(p + 1, "}"), "in",
                                              "path", "required", 1, "schema", "type", "string"));
    const struct query_param *q;
    for (size_t i = 0; (q = route_query(r, i)); i++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:b,s:s,s:{s:s}}", "name", q->name, "in", "query", "required",
                                              (int)q->required, "description", q->help, "schema", "type", "string"));
    if (r->method != HTTP_METHOD_GET && r->right != RIGHT_AGENT)
        json_array_append_new(list, json_pack("{s:s,s:s,s:b,s:s,s:{s:s}}", "name", "Idempotency-Key", "in", "header",
                                              "required", 0, "description",
                                              "A repeated write with the same key is done once.", "schema", "type",
                                              "string"));
}

static json_t *operation(const struct route *r, json_t *schemas)
{
    json_t *parameters = json_array();
    add_parameters(r, parameters);
    json_t *error = content("application/json", json_pack("{s:s}", "$ref", REF_TO "error"));
    json_t *o = json_pack("{s:s,s:s,s:o,s:{s:o,s:{s:s,s:o}}}", "summary", r->help, "x-mentat-right",
                          right_name(r->right), "parameters", parameters, "responses",
                          r->response || r->content_type ? "200" : "2XX", response_of(r, schemas), "default",
                          "description", "It failed; nothing was done unless the code is unknown_outcome.", "content",
                          error);
    if (r->body != BODY_NONE) {
        json_t *schema = r->request ? schema_ref(schemas, r->request) : json_pack("{s:s}", "type", "object");
        json_object_set_new(o, "requestBody", json_pack("{s:b,s:o}", "required", r->body == BODY_REQUIRED, "content",
                                                        content("application/json", schema)));
    }
    return o;
}

static json_t *error_schema(void)
{
    json_t *detail = json_pack("{s:s,s:{s:{s:s},s:{s:s},s:{s:s},s:{s:s}}}", "type", "object", "properties", "path",
                               "type", "string", "message", "type", "string", "line", "type", "integer",
                               "column", "type", "integer");
    json_t *codes = json_array();
    for (enum error_code code = ERROR_INVALID; code < ERROR_CODE_COUNT; code++)
        json_array_append_new(codes, json_string(error_code_name(code)));
    return json_pack("{s:s,s:{s:{s:s,s:[s,s],s:{s:{s:s,s:o},s:{s:s},s:{s:s,s:o}}}}}", "type", "object", "properties",
                     "error", "type", "object", "required", "code", "message", "properties", "code", "type", "string",
                     "enum", codes, "message", "type", "string", "details", "type", "array", "items", detail);
}

void route_openapi(struct buf *out)
{
    json_t *schemas = json_object(), *paths = json_object();
    json_object_set_new(schemas, "error", error_schema());
    for (size_t i = 0; i < route_count; i++) {
        static const char *const names[] = {"get", "head", "post", "put", "delete", "patch", "options"};
        json_t *path = json_object_get(paths, routes[i].path);
        if (!path) {
            path = json_object();
            json_object_set_new(paths, routes[i].path, path);
        }
        json_object_set_new(path, names[routes[i].method], operation(&routes[i], schemas));
    }
    json_t *document = json_pack("{s:s,s:{s:s,s:s,s:s},s:o,s:{s:o}}", "openapi", "3.1.0", "info", "title", "Mentat",
                                 "version", MENTAT_VERSION, "description",
                                 "The API of mentat-server. Times are RFC 3339 in UTC.", "paths", paths, "components",
                                 "schemas", schemas);
    INVARIANT(document);
    char *text = json_dumps(document, JSON_COMPACT);
    INVARIANT(text);
    buf_add_string(out, text);
    free(text);
    json_decref(document);
}

/* --- docs/http-api.md --- */

static void add_type_name(const struct type *t, bool list, struct buf *out)
{
    buf_printf(out, "%s[%s](#%s)", list ? "a page of " : "", t->name, t->name);
}

static void add_route(const struct route *r, struct buf *out)
{
    buf_printf(out, "### %s %s\n\n%s Right: `%s`.\n\n", http_method_name(r->method), r->path, r->help,
               right_name(r->right));
    if (r->body != BODY_NONE) {
        buf_add_string(out, r->body == BODY_OPTIONAL ? "Body (may be absent): " : "Body: ");
        if (r->request)
            add_type_name(r->request, false, out);
        else
            buf_add_string(out, "a JSON object");
        buf_add_string(out, ".\n\n");
    }
    if (r->response) {
        buf_add_string(out, "Answer: ");
        add_type_name(r->response, r->list, out);
        buf_add_string(out, ".\n\n");
    } else if (r->content_type) {
        buf_printf(out, "Answer: %s.\n\n", r->content_type);
    }
    bool head = false;
    for (const struct query_param *q = r->query; q && q->name; q++) {
        if (!head)
            buf_add_string(out, "| query | meaning |\n| --- | --- |\n");
        head = true;
        buf_printf(out, "| `%s`%s | %s |\n", q->name, q->required ? " (needed)" : "", q->help);
    }
    if (head)
        buf_add_char(out, '\n');
    const char *page = r->query_sets & QUERY_PAGE ? "page" : "", *wait = r->query_sets & QUERY_WAIT ? "wait" : "";
    if (*page || *wait)
        buf_printf(out, "Also the parameters of a %s%s%s.\n\n", page, *page && *wait ? " and of a " : "", wait);
    if (route_takes_namespace(r))
        buf_add_string(out, "Also `namespace`.\n\n");
}

static void add_shared(const char *title, unsigned set, struct buf *out)
{
    const struct route shared = {.query_sets = set};
    buf_printf(out, "## %s\n\n| query | meaning |\n| --- | --- |\n", title);
    const struct query_param *q;
    for (size_t i = 0; (q = route_query(&shared, i)); i++)
        buf_printf(out, "| `%s` | %s |\n", q->name, q->help);
    buf_add_char(out, '\n');
}

static void add_field_type(const struct field *f, struct buf *out)
{
    static const char *const names[] = {
        [FIELD_BOOL] = "boolean", [FIELD_INT] = "integer", [FIELD_UINT] = "integer", [FIELD_FLOAT] = "number",
        [FIELD_STRING] = "string", [FIELD_ENUM] = "one of ", [FIELD_DURATION] = "duration (`10s`)",
        [FIELD_SIZE_MB] = "integer, MiB", [FIELD_TIME] = "time", [FIELD_OBJECT] = "", [FIELD_LIST] = "list of ",
        [FIELD_STR_LIST] = "list of strings", [FIELD_MAP] = "object of strings",
    };
    buf_add_string(out, names[f->kind]);
    if (f->type)
        buf_printf(out, "[%s](#%s)", f->type->name, f->type->name);
    for (const char *const *n = f->kind == FIELD_ENUM ? f->names : NULL; n && *n; n++)
        buf_printf(out, "%s%s", n == f->names ? "" : ", ", *n);
}

static void add_types(struct buf *out)
{
    struct type_set set = {0};
    for (size_t i = 0; i < route_count; i++) {
        if (routes[i].request)
            type_set_add(&set, routes[i].request);
        if (routes[i].response)
            type_set_add(&set, routes[i].response);
    }
    for (size_t i = 0; i < set.n; i++) {
        const struct type *t = set.v[i];
        buf_printf(out, "### %s\n\n%s\n\n| key | value | meaning |\n| --- | --- | --- |\n", t->name,
                   t->help ? t->help : "");
        for (const struct field *f = t->fields; f->name; f++) {
            if (f->flags & FIELD_SECRET)
                continue;
            buf_printf(out, "| `%s` | ", f->name);
            add_field_type(f, out);
            buf_printf(out, " | %s |\n", f->help ? f->help : "");
            if (f->flags & FIELD_NAMESPACE)
                buf_add_string(out, "| `namespace` | string | " NAMESPACE_HELP " |\n");
        }
        buf_add_char(out, '\n');
    }
    type_set_clear(&set);
}

void route_markdown(struct buf *out)
{
    add_shared("Parameters of a wait", QUERY_WAIT, out);
    add_shared("Parameters of a page", QUERY_PAGE, out);
    buf_add_string(out, "## Routes\n\n");
    for (size_t i = 0; i < route_count; i++)
        add_route(&routes[i], out);
    buf_add_string(out, "## Types\n\n");
    add_types(out);
}
