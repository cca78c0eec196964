#include "cli/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "base/timefmt.h"
#include "cli/api.h"
#include "model/namespace.h"

#define GAP 2

/* --- cells --- */

const json_t *json_at(const json_t *object, const char *path)
{
    while (object && *path) {
        char key[64];
        size_t len = strcspn(path, ".");
        if (len >= sizeof key)
            return NULL;
        memcpy(key, path, len);
        key[len] = '\0';
        object = json_object_get(object, key);
        path += len + (path[len] == '.');
    }
    return object;
}

const char *json_text(const json_t *object, const char *path)
{
    const char *s = json_string_value(json_at(object, path));
    return s ? s : "";
}

char *json_qualified(const json_t *object, const char *path)
{
    return namespace_qualify(json_string_value(json_object_get(object, "namespace")), json_text(object, path));
}

long long json_number(const json_t *object, const char *path)
{
    const json_t *v = json_at(object, path);
    return json_is_real(v) ? (long long)json_real_value(v) : json_integer_value(v);
}

static void add_scalar(const json_t *v, struct buf *out)
{
    if (json_is_string(v)) {
        buf_add_string(out, json_string_value(v));
    } else if (json_is_integer(v)) {
        buf_printf(out, "%lld", (long long)json_integer_value(v));
    } else if (json_is_real(v)) {
        buf_printf(out, "%.12g", json_real_value(v));
    } else if (json_is_boolean(v)) {
        buf_add_string(out, json_is_true(v) ? "yes" : "no");
    } else if (json_is_array(v)) {
        size_t i;
        json_t *item;
        json_array_foreach(v, i, item) {
            if (i)
                buf_add_string(out, ", ");
            add_scalar(item, out);
        }
    } else if (json_is_object(v)) {
        const char *key;
        json_t *item;
        size_t n = 0;
        json_object_foreach((json_t *)(uintptr_t)v, key, item) {
            buf_printf(out, "%s%s=", n++ ? ", " : "", key);
            add_scalar(item, out);
        }
    }
}

void cell_age(const json_t *row, const json_t *value, struct buf *out)
{
    static const struct { int64_t ms; char unit; } units[] = {
        {86400000, 'd'}, {3600000, 'h'}, {60000, 'm'}, {1000, 's'}};
    int64_t then;
    if (!json_is_string(value) || time_parse(json_string_value(value), &then))
        return;
    int64_t age = time_now_ms() - then;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (age >= 2 * units[i].ms || units[i].unit == 's') {
            buf_printf(out, "%lld%c", (long long)(age > 0 ? age / units[i].ms : 0), units[i].unit);
            return;
        }
}

void cell_time(const json_t *row, const json_t *value, struct buf *out)
{
    int64_t ms;
    struct tm tm;
    char text[32];
    if (!json_is_string(value) || time_parse(json_string_value(value), &ms))
        return;
    time_t seconds = (time_t)(ms / 1000);
    if (localtime_r(&seconds, &tm) && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm))
        buf_add_string(out, text);
}

void cell_ports(const json_t *row, const json_t *value, struct buf *out)
{
    const char *ip = json_text(row, "ip");
    size_t i;
    json_t *port;
    json_array_foreach(value, i, port)
        buf_printf(out, "%s%s=%s:%lld", i ? " " : "", json_text(port, "name"), *ip ? ip : "?", json_number(port, "host"));
}

const char *state_color(const char *state)
{
    static const struct { const char *color, *states[10]; } colors[] = {
        {"\033[32m", {"running", "healthy", "ready", "successful", "complete", "yes", "ok", NULL}},
        {"\033[33m", {"pending", "starting", "stopping", "draining", "ineligible", "degraded", "paused", "warning", NULL}},
        {"\033[31m", {"failed", "lost", "unhealthy", "down", "reverted", NULL}},
        {"\033[2m", {"stopped", "cancelled", "skipped", NULL}},
    };
    for (size_t i = 0; i < ARRAY_LEN(colors); i++)
        for (const char *const *s = colors[i].states; *s; s++)
            if (!strcmp(*s, state))
                return colors[i].color;
    return "";
}

/* --- aligned columns --- */

/* What a terminal shows of s, in characters. */
static int text_width(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static char *make_cell(const struct column *c, const json_t *row)
{
    struct buf out = {0};
    const json_t *value = json_at(row, c->key);
    if (c->cell)
        c->cell(row, value, &out);
    else
        add_scalar(value, &out);
    char *s = buf_steal(&out);
    text_tame(s, false);     /* texts come from tasks too */
    return s;
}

/* Appends s cut to `room` characters, with an ellipsis where it was cut. */
static void add_cut(struct buf *out, const char *s, int room)
{
    if (text_width(s) <= room) {
        buf_add_string(out, s);
        return;
    }
    for (int n = 0; *s && n < room - 1; n++) {
        do
            buf_add_char(out, *s++);
        while (((unsigned char)*s & 0xc0) == 0x80);
    }
    if (room > 0)
        buf_add_string(out, "…");
}

static void add_line(struct buf *out, char **cells, const struct column *const *shown, const int *widths, size_t n,
                     struct table_style style, bool head)
{
    int at = 0;
    for (size_t i = 0; i < n; i++) {
        int pad = widths[i] - text_width(cells[i]);
        bool last = i + 1 == n;
        const char *color = !style.color ? "" : head ? "\033[1m" : state_color(cells[i]);
        if (shown[i]->right)
            buf_printf(out, "%*s", pad, "");
        buf_add_string(out, color);
        if (last && style.width > 0)
            add_cut(out, cells[i], style.width - at > 8 ? style.width - at : 8);
        else
            buf_add_string(out, cells[i]);
        if (*color)
            buf_add_string(out, COLOR_OFF);
        if (!last)
            buf_printf(out, "%*s", (shown[i]->right ? 0 : pad) + GAP, "");
        at += widths[i] + GAP;
    }
    while (out->len && out->data[out->len - 1] == ' ')
        out->data[--out->len] = '\0';
    buf_add_char(out, '\n');
}

static bool is_somewhere(const json_t *rows, const char *key)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
        if (json_at(row, key))
            return true;
    return false;
}

void table_format(const json_t *rows, const struct column *columns, struct table_style style, struct buf *out)
{
    const struct column *shown[32];
    int widths[32];
    size_t n = 0, count = json_array_size(rows);
    for (const struct column *c = columns; c->title && n < ARRAY_LEN(shown); c++)
        if ((style.wide || !c->wide) && (!c->sparse || is_somewhere(rows, c->key)))
            shown[n++] = c;
    char **cells = mem_array((count + 1) * n, sizeof *cells);
    for (size_t r = 0; r <= count; r++)
        for (size_t i = 0; i < n; i++) {
            char *cell = r ? make_cell(shown[i], json_array_get(rows, r - 1)) : mem_strdup(shown[i]->title);
            int width = text_width(cell);
            cells[r * n + i] = cell;
            if (!r || width > widths[i])
                widths[i] = width;
        }
    for (size_t r = 0; r <= count; r++)
        add_line(out, cells + r * n, shown, widths, n, style, !r);
    for (size_t i = 0; i < (count + 1) * n; i++)
        free(cells[i]);
    free(cells);
}

/* --- by --output --- */

static void print(const struct buf *out)
{
    fwrite(out->data ? out->data : "", 1, out->len, stdout);
}

bool output_value(const struct cli *cli, const json_t *value)
{
    if (cli->format == OUTPUT_JSON) {
        json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
        putchar('\n');
        return true;
    }
    if (cli->format == OUTPUT_YAML) {
        CLEANUP_BUF struct buf out = {0};
        yaml_format(value, &out);
        print(&out);
        return true;
    }
    return false;
}

void output_rows(const struct cli *cli, const json_t *rows, const struct column *columns, const char *id_key,
                 const char *none)
{
    if (output_value(cli, rows))
        return;
    if (cli->quiet) {
        bool everywhere = cli->api && namespace_is_any(api_namespace(cli->api));
        bool qualify = everywhere && !strcmp(id_key, "name");
        size_t i;
        json_t *row;
        json_array_foreach(rows, i, row) {
            CLEANUP_FREE char *name = qualify ? json_qualified(row, id_key) : mem_strdup(json_text(row, id_key));
            printf("%s\n", name);
        }
        return;
    }
    if (!json_array_size(rows)) {
        printf("%s\n", none);
        return;
    }
    CLEANUP_BUF struct buf out = {0};
    table_format(rows, columns, (struct table_style){cli->color, cli->format == OUTPUT_WIDE, cli->columns}, &out);
    print(&out);
}

void output_facts(const struct cli *cli, const json_t *object, const struct column *columns)
{
    int width = 0;
    for (const struct column *c = columns; c->title; c++)
        width = text_width(c->title) > width ? text_width(c->title) : width;
    for (const struct column *c = columns; c->title; c++) {
        CLEANUP_FREE char *cell = make_cell(c, object);
        const char *color = cli->color ? state_color(cell) : "";
        if (*cell && (!c->wide || cli->format == OUTPUT_WIDE))
            printf("%s%-*s%s  %s%s%s\n", cli->color ? "\033[1m" : "", width, c->title, cli->color ? COLOR_OFF : "", color,
                   cell, *color ? COLOR_OFF : "");
    }
}
