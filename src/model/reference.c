/* Reference: the keys of the tables for people, as Markdown and as manual pages. */
#include <string.h>

#include "base/roff.h"
#include "base/text.h"
#include "model/model.h"
#include "model/scalar.h"
#include "model/type_set.h"

/* Upper limits from here on only keep numbers sane; nobody plans with them. */
#define LIMIT_WORTH_TELLING (1 << 30)

static const char *const kinds[] = {
    [FIELD_BOOL] = "true or false", [FIELD_INT] = "number", [FIELD_UINT] = "number", [FIELD_FLOAT] = "number",
    [FIELD_STRING] = "text", [FIELD_ENUM] = "", [FIELD_DURATION] = "duration", [FIELD_SIZE_MB] = "size",
    [FIELD_TIME] = "time", [FIELD_OBJECT] = "map", [FIELD_LIST] = "list of maps", [FIELD_STR_LIST] = "list of texts",
    [FIELD_MAP] = "map of texts",
};

static bool offered(const struct field *f)
{
    return !(f->flags & (FIELD_INTERNAL | FIELD_SECRET));
}

static void add_range(const struct field *f, struct buf *out)
{
    if (f->max >= LIMIT_WORTH_TELLING && f->kind != FIELD_DURATION) {
        if (f->min > 0)
            buf_add_string(out, ", at least ");
        if (f->min > 0)
            scalar_format_limit(f, f->min, out);
    } else if (f->min != 0 || f->max != 0) {
        buf_add_string(out, ", ");
        scalar_format_limit(f, f->min, out);
        buf_add_string(out, " to ");
        scalar_format_limit(f, f->max, out);
    }
}

/* "number, 1 to 65535"; quote stands around each name of an enum. */
static void add_kind(const struct field *f, const char *quote, struct buf *out)
{
    bool bool_text = f->kind == FIELD_STRING && f->flags & FIELD_BOOL_TEXT;
    bool or_list = f->kind == FIELD_STR_LIST && f->flags & FIELD_SCALAR_OK;
    buf_add_string(out, or_list ? "text or list of texts" : kinds[bool_text ? FIELD_BOOL : f->kind]);
    for (int i = enum_first(f); f->kind == FIELD_ENUM && f->names[i]; i++)
        buf_printf(out, "%s%s%s%s", i > enum_first(f) ? ", " : "", quote, f->names[i], quote);
    add_range(f, out);
}

/* "docker, exec", of a key that not every driver has and whose help does not say so itself. */
static void add_drivers(const struct field *f, struct buf *out)
{
    for (unsigned driver = 1; driver_kind_names[driver]; driver++)
        if (f->help && text_has_prefix(f->help, driver_kind_names[driver]))
            return;
    for (unsigned driver = 1, n = 0; f->only && driver_kind_names[driver]; driver++)
        if (f->only & 1u << driver)
            buf_printf(out, "%s%s", n++ ? ", " : "", driver_kind_names[driver]);
}

static const char *key_of(const struct field *f)
{
    return f->yaml_name ? f->yaml_name : f->name;
}

static void markdown_type(struct buf *out, const struct type *t)
{
    buf_printf(out, "## %s\n\n%s\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n", t->name,
               t->help ? t->help : "");
    for (const struct field *f = t->fields; f->name; f++) {
        if (!offered(f))
            continue;
        buf_printf(out, "| `%s` | ", key_of(f));
        if (f->type)
            buf_printf(out, "%s[%s](#%s)", f->kind == FIELD_LIST ? "list of " : "", f->type->name, f->type->name);
        else
            add_kind(f, "`", out);
        buf_printf(out, " | %s%s%s | ", f->default_text ? "`" : f->flags & FIELD_REQUIRED ? "required" : "",
                   f->default_text ? f->default_text : "", f->default_text ? "`" : "");
        CLEANUP_BUF struct buf drivers = {0};
        add_drivers(f, &drivers);
        if (drivers.len)
            buf_printf(out, "*%s:* ", drivers.data);
        buf_printf(out, "%s |\n", f->help ? f->help : "");
    }
    buf_add_char(out, '\n');
}

void type_markdown(const struct type *t, struct buf *out)
{
    struct type_set set = {0};
    type_set_add(&set, t);
    for (size_t i = 0; i < set.n; i++)
        markdown_type(out, set.v[i]);
    type_set_clear(&set);
}

static void manual_field(const struct field *f, const char *term, struct buf *out)
{
    CLEANUP_BUF struct buf kind = {0}, drivers = {0}, text = {0};
    add_kind(f, "", &kind);
    add_drivers(f, &drivers);
    if (drivers.len)
        buf_printf(&text, "%s: ", drivers.data);
    buf_printf(&text, "%s (", f->help ? f->help : "");
    if (f->type)
        buf_printf(&text, "%s%s, see below", f->kind == FIELD_LIST ? "list of " : "", f->type->name);
    else
        buf_add_string(&text, kind.data);
    if (f->default_text)
        buf_printf(&text, "; default: %s", f->default_text);
    buf_add_string(&text, f->flags & FIELD_REQUIRED ? "; required)" : ")");
    roff_item(out, term, text.data);
}

void type_manual(const struct type *t, struct buf *out)
{
    struct type_set set = {0};
    type_set_add(&set, t);
    for (size_t i = 0; i < set.n; i++) {
        roff_subheading(out, set.v[i]->name);
        roff_text(out, set.v[i]->help ? set.v[i]->help : "");
        for (const struct field *f = set.v[i]->fields; f->name; f++)
            if (offered(f))
                manual_field(f, key_of(f), out);
    }
    type_set_clear(&set);
}

static void manual_flags(const struct type *t, const char *prefix, struct buf *out)
{
    for (const struct field *f = t->fields; f->name; f++) {
        CLEANUP_FREE char *flag = mem_printf("%s%s", prefix, f->name);
        for (char *p = flag; *p; p++)
            *p = *p == '_' ? '-' : *p;
        if (f->kind == FIELD_OBJECT && offered(f)) {
            CLEANUP_FREE char *deeper = mem_printf("%s.", flag);
            manual_flags(f->type, deeper, out);
        } else if (offered(f)) {
            manual_field(f, flag, out);
        }
    }
}

void config_manual(const struct type *t, const char *default_file, struct buf *out)
{
    CLEANUP_FREE char *file = mem_printf("File with these keys, in YAML, with _ for -; %s is read when it exists and no "
                                         "other is given. Flags win over the file.", default_file);
    roff_heading(out, "OPTIONS");
    roff_item(out, "--config", file);
    manual_flags(t, "--", out);
    roff_item(out, "--help", "Prints the options.");
    roff_item(out, "--man", "Prints this page, as roff: `--man | man -l -`.");
    roff_item(out, "--version", "Prints the release.");
}
