/* --var K=V: done on the parsed values, not on the file's text, so that a value can neither change the structure of the
 * file nor move the places of problems. */
#include <string.h>

#include "base/text.h"
#include "model/value.h"

static bool is_agents(const char *name)
{
    static const char *const whole[] = {"replica", "ip", "node.name"};
    static const char *const families[] = {"port.", "peers.", "meta."};
    for (size_t i = 0; i < ARRAY_LEN(whole); i++)
        if (!strcmp(name, whole[i]))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        if (text_has_prefix(name, families[i]) && name[strlen(families[i])])
            return true;
    return false;
}

/* Whether ${name} stands in text before `at` too: it is one mistake. */
static bool told_before(const char *text, const char *at, const char *name)
{
    CLEANUP_FREE char *whole = mem_printf("${%s}", name);
    for (const char *p = text; (p = strstr(p, whole)) && p < at; p++)
        if (p == text || p[-1] != '$')
            return true;
    return false;
}

/* --var is of no help where a shell's own notation stands, such as ${HOME:-/root}. */
static void not_known(const struct value *v, const char *path, const char *name, struct problem_list *problems)
{
    static const char of_names[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    if (*name && !name[strspn(name, of_names)])
        problem_add_at(problems, path, v->line, v->column, "`${%.60s}` is not known: give it with --var %.60s=VALUE, or "
                       "write `$${%.60s}` to leave it to the program", name, name, name);
    else
        problem_add_at(problems, path, v->line, v->column, "`${%.60s}` is not known: write `$${%.60s}` to leave it to the "
                       "program", name, name);
}

static void substitute_text(struct value *v, const struct kv_list *vars, const char *path, struct problem_list *problems)
{
    CLEANUP_BUF struct buf out = {0};
    const char *at = v->text, *start;
    while ((start = strstr(at, "${"))) {
        if (start > v->text && start[-1] == '$') {     /* $${: the agent makes ${ of it */
            buf_add(&out, at, (size_t)(start + 2 - at));
            at = start + 2;
            continue;
        }
        const char *end = strchr(start, '}');
        buf_add(&out, at, (size_t)(start - at));
        if (!end) {
            problem_add_at(problems, path, v->line, v->column, "`${` without `}` in `%.80s`", v->text);
            return;
        }
        CLEANUP_FREE char *name = mem_strndup(start + 2, (size_t)(end - start - 2));
        const char *value = vars ? kv_get(vars, name) : NULL;
        if (value)
            buf_add_string(&out, value);
        else
            buf_add(&out, start, (size_t)(end + 1 - start));
        if (!value && !is_agents(name) && !told_before(v->text, start, name))
            not_known(v, path, name, problems);
        at = end + 1;
    }
    if (at == v->text)
        return;
    buf_add_string(&out, at);
    free(v->text);
    v->text = buf_steal(&out);
    if (v->loose)
        v->kind = value_plain_kind(v->text);
}

static void substitute(struct value *v, const struct kv_list *vars, struct buf *path, struct problem_list *problems)
{
    if (v->kind == VALUE_TEXT)
        substitute_text(v, vars, path->data, problems);
    size_t before = path->len;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->kind == VALUE_LIST)
            buf_printf(path, "[%u]", i);
        else
            buf_printf(path, "%s%s", before ? "." : "", v->entries[i].key);
        substitute(&v->entries[i].value, vars, path, problems);
        path->len = before;
        path->data[before] = '\0';
    }
}

void value_substitute(struct value *v, const struct kv_list *vars, struct problem_list *problems)
{
    CLEANUP_BUF struct buf path = {0};
    buf_reserve(&path, 0);
    path.data[0] = '\0';
    substitute(v, vars, &path, problems);
}

char *value_literal(const char *text)
{
    struct buf out = {0};
    for (const char *p = text; *p; p++) {
        if (p[0] == '$' && p[1] == '{')
            buf_add_char(&out, '$');
        buf_add_char(&out, *p);
    }
    return out.data ? buf_steal(&out) : mem_strdup("");
}
