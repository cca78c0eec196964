/* Configuration of a program: a YAML file, then flags of the same table, which win. Both become one value, so that the
 * one reader checks them alike. */
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "model/scalar.h"
#include "model/value.h"

enum { ANSWER_HELP = 1, ANSWER_VERSION = 2 };

/* "tls-cert" or "a.b-c" names a field. */
static const struct field *find_flag(const struct type *t, const char *flag, size_t n)
{
    for (const struct field *f = t->fields; f->name; f++) {
        size_t len = strlen(f->name);
        if (len > n || (len < n && (flag[len] != '.' || f->kind != FIELD_OBJECT)))
            continue;
        size_t i = 0;
        while (i < len && (flag[i] == f->name[i] || (flag[i] == '-' && f->name[i] == '_')))
            i++;
        if (i < len)
            continue;
        return len == n ? f : find_flag(f->type, flag + len + 1, n - len - 1);
    }
    return NULL;
}

static struct value *map_entry(struct value *map, const char *key, size_t n)
{
    map->kind = VALUE_MAP;
    CLEANUP_FREE char *name = mem_strndup(key, n);
    for (char *p = name; *p; p++)
        if (*p == '-')
            *p = '_';
    for (uint32_t i = 0; i < map->n; i++)
        if (!strcmp(map->entries[i].key, name))
            return &map->entries[i].value;
    return value_add(map, name);
}

static void set_text(struct value *v, const char *text)
{
    value_clear(v);
    v->kind = value_plain_kind(text);
    if (v->kind == VALUE_NULL)
        v->kind = VALUE_TEXT;
    v->loose = true;
    v->text = mem_strdup(text);
}

/* Lists and maps given by flags replace what the file had; `given` remembers those that flags began. */
static int set_flag(struct value *root, struct str_list *given, const struct type *t, const char *flag, size_t n,
                    const char *text, struct error *err)
{
    const struct field *f = find_flag(t, flag, n);
    struct value *v = root;
    for (const char *part = flag;;) {
        size_t len = strcspn(part, ".");
        if (len > (size_t)(flag + n - part))
            len = (size_t)(flag + n - part);
        v = map_entry(v, part, len);
        part += len;
        if (part >= flag + n)
            break;
        part++;
    }
    bool list = f->kind == FIELD_STR_LIST, map = f->kind == FIELD_MAP;
    if (f->kind == FIELD_LIST || f->kind == FIELD_OBJECT)
        return error_set(err, ERROR_INVALID, "--%.*s cannot be given as a flag: use the configuration file", (int)n, flag);
    if (!list && !map) {
        set_text(v, text);
        return 0;
    }
    bool begun = false;
    for (uint32_t i = 0; i < given->n; i++)
        begun |= !strcmp(given->v[i], f->name);
    if (!begun) {
        value_clear(v);
        str_list_add(given, f->name);
    }
    v->kind = list ? VALUE_LIST : VALUE_MAP;
    const char *equals = strchr(text, '=');
    if (map && !equals)
        return error_set(err, ERROR_INVALID, "--%.*s wants KEY=VALUE, found `%s`", (int)n, flag, text);
    CLEANUP_FREE char *key = map ? mem_strndup(text, (size_t)(equals - text)) : NULL;
    set_text(value_add(v, key), map ? equals + 1 : text);
    return 0;
}

static int unknown_flag(const struct type *t, const char *flag, struct error *err)
{
    const char *names[128];
    size_t n = 0;
    for (const struct field *f = t->fields; f->name && n + 1 < ARRAY_LEN(names); f++)
        names[n++] = f->name;
    names[n] = NULL;
    const char *near = text_nearest(flag, names);
    CLEANUP_FREE char *hint = mem_strdup(near);
    for (char *p = hint; p && *p; p++)
        if (*p == '_')
            *p = '-';
    return hint ? error_set(err, ERROR_INVALID, "unknown flag --%.60s; did you mean --%s?", flag, hint)
                : error_set(err, ERROR_INVALID, "unknown flag --%.60s; --help lists them", flag);
}

static int read_flags(const struct type *t, int argc, char **argv, struct value *root, struct error *err)
{
    struct str_list given = {0};
    int rc = 0;
    for (int i = 1; i < argc && !rc; i++) {
        if (!text_has_prefix(argv[i], "--")) {
            rc = error_set(err, ERROR_INVALID, "unexpected argument `%.80s`; flags begin with --", argv[i]);
            break;
        }
        const char *flag = argv[i] + 2;
        size_t n = strcspn(flag, "=");
        bool is_config = n == 6 && !memcmp(flag, "config", 6);
        const struct field *f = find_flag(t, flag, n);
        const char *text = flag[n] ? flag + n + 1 : NULL;
        if (!f && !is_config) {
            CLEANUP_FREE char *name = mem_strndup(flag, n);
            rc = unknown_flag(t, name, err);
        } else if (!text && f && f->kind == FIELD_BOOL) {
            text = "true";
        } else if (!text && i + 1 < argc) {
            text = argv[++i];
        } else if (!text) {
            rc = error_set(err, ERROR_INVALID, "--%s wants a value", flag);
        }
        if (!rc && f)
            rc = set_flag(root, &given, t, flag, n, text, err);
    }
    str_list_clear(&given);
    return rc;
}

static const char *config_file(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (text_has_prefix(argv[i], "--config="))
            return argv[i] + 9;
        if (!strcmp(argv[i], "--config") && i + 1 < argc)
            return argv[i + 1];
    }
    return NULL;
}

static int problems_to_error(struct problem_list *problems, const char *file, struct error *err)
{
    CLEANUP_BUF struct buf text = {0};
    problem_list_format(problems, file, &text);
    if (text.len && text.data[text.len - 1] == '\n')
        text.data[text.len - 1] = '\0';
    return error_set(err, ERROR_INVALID, "%s", text.data);
}

int config_read_file(const char *path, bool required, struct value *root, struct error *err)
{
    CLEANUP_BUF struct buf text = {0};
    if (file_read(path, VALUE_BYTES_MAX, &text, err) < 0)
        return !required && err->code == ERROR_NOT_FOUND ? 0 : -1;
    /* A file of comments only is a valid, empty configuration. */
    bool empty = true;
    for (const char *p = text.data; *p && empty; p += strcspn(p, "\n"), p += *p == '\n')
        empty = !p[strspn(p, " \t\r")] || strchr("#\n", p[strspn(p, " \t\r")]);
    if (empty)
        return 0;
    struct problem_list problems = {0};
    int rc = value_from_yaml(text.data, text.len, root, &problems);
    if (rc < 0)
        problems_to_error(&problems, path, err);
    problem_list_clear(&problems);
    return rc;
}

int config_load(const struct type *t, int argc, char **argv, const char *default_file, void *object, struct error *err)
{
    memset(object, 0, t->size);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return ANSWER_HELP;
        if (!strcmp(argv[i], "--version"))
            return ANSWER_VERSION;
    }
    const char *given = config_file(argc, argv);
    const char *file = given ? given : default_file;
    struct value root = {.kind = VALUE_MAP};
    struct problem_list problems = {0};
    int rc = file ? config_read_file(file, given != NULL, &root, err) : 0;
    if (!rc && root.kind != VALUE_MAP)
        rc = error_set(err, ERROR_INVALID, "%s: wanted keys and values", file);
    if (!rc)
        rc = read_flags(t, argc, argv, &root, err);
    if (!rc) {
        object_from_value(t, &root, READ_YAML_NAMES, object, &problems);
        if (problems.n) {
            rc = problems_to_error(&problems, root.line ? file : NULL, err);
            type_clear(t, object);
        }
    }
    problem_list_clear(&problems);
    value_clear(&root);
    return rc;
}

static void help_rows(const struct type *t, const char *prefix, struct buf *out)
{
    for (const struct field *f = t->fields; f->name; f++) {
        if (f->flags & FIELD_INTERNAL)
            continue;
        CLEANUP_FREE char *flag = mem_printf("%s%s", prefix, f->name);
        for (char *p = flag; *p; p++)
            if (*p == '_')
                *p = '-';
        if (f->kind == FIELD_OBJECT) {
            CLEANUP_FREE char *deeper = mem_printf("%s.", flag);
            help_rows(f->type, deeper, out);
            continue;
        }
        buf_printf(out, "  --%-22s %s", flag, f->help ? f->help : "");
        if (f->default_text)
            buf_printf(out, " (default: %s)", f->default_text);
        buf_add_char(out, '\n');
    }
}

void config_help(const struct type *t, struct buf *out)
{
    buf_printf(out, "  --%-22s %s\n", "config", "File with these keys, in YAML, with _ for -.");
    help_rows(t, "", out);
    buf_printf(out, "  --%-22s %s\n  --%-22s %s\n", "help", "Print this.", "version", "Print the version.");
}
