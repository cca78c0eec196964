/* One JSON document into a value, by jansson. */
#include <jansson.h>
#include <string.h>

#include "model/scalar.h"
#include "model/value.h"

static bool convert(const json_t *from, int depth, struct value *out)
{
    if (depth > VALUE_DEPTH_MAX)
        return false;
    switch (json_typeof(from)) {
    case JSON_NULL: break;
    case JSON_TRUE:
    case JSON_FALSE:
        out->kind = VALUE_BOOL;
        out->text = mem_strdup(json_is_true(from) ? "true" : "false");
        break;
    case JSON_INTEGER:
        out->kind = VALUE_NUMBER;
        out->text = mem_printf("%" JSON_INTEGER_FORMAT, json_integer_value(from));
        break;
    case JSON_REAL: {
        struct buf text = {0};
        number_format(json_real_value(from), &text);
        out->kind = VALUE_NUMBER;
        out->text = buf_steal(&text);
        break;
    }
    case JSON_STRING:
        out->kind = VALUE_TEXT;
        out->text = mem_strdup(json_string_value(from));
        break;
    case JSON_ARRAY: {
        size_t i;
        json_t *item;
        out->kind = VALUE_LIST;
        json_array_foreach(from, i, item)
            if (!convert(item, depth + 1, value_add(out, NULL)))
                return false;
        break;
    }
    case JSON_OBJECT: {
        const char *key;
        json_t *item;
        out->kind = VALUE_MAP;
        json_object_foreach((json_t *)from, key, item)
            if (!convert(item, depth + 1, value_add(out, key)))
                return false;
        break;
    }
    }
    return true;
}

int value_from_json(const char *text, size_t len, struct value *out, struct problem_list *problems)
{
    *out = (struct value){0};
    json_error_t error;
    json_t *root = json_loadb(text ? text : "", len, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        problem_add_at(problems, "", error.line > 0 ? error.line : 0, error.column > 0 ? error.column : 0,
                       "not valid JSON: %s", error.text);
        return -1;
    }
    bool ok = convert(root, 0, out);
    json_decref(root);
    if (ok)
        return 0;
    value_clear(out);
    problem_add(problems, "", "nested deeper than %d levels", VALUE_DEPTH_MAX);
    return -1;
}
