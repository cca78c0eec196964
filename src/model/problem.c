#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model/value.h"

static struct problem *add(struct problem_list *l)
{
    if (l->n > PROBLEMS_MAX)
        return NULL;
    l->v = mem_realloc_array(l->v, l->n + 1, sizeof *l->v);
    struct problem *p = &l->v[l->n++];
    *p = (struct problem){0};
    if (l->n <= PROBLEMS_MAX)
        return p;
    p->path = mem_strdup("");
    p->message = mem_strdup("there are more problems; they are shown when these are solved");
    return NULL;
}

void problem_add(struct problem_list *l, const char *path, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *message = NULL;
    INVARIANT(vasprintf(&message, fmt, ap) >= 0);
    va_end(ap);
    struct problem *p = add(l);
    if (!p) {
        free(message);
        return;
    }
    p->path = mem_strdup(path);
    p->message = message;
}

void problem_list_clear(struct problem_list *l)
{
    for (uint32_t i = 0; i < l->n; i++) {
        free(l->v[i].path);
        free(l->v[i].message);
    }
    free(l->v);
    *l = (struct problem_list){0};
}

void problem_list_format(const struct problem_list *l, const char *file, struct buf *out)
{
    for (uint32_t i = 0; i < l->n; i++) {
        const struct problem *p = &l->v[i];
        if (file)
            buf_printf(out, "%s:", file);
        if (p->line)
            buf_printf(out, "%d:%d:", p->line, p->column);
        if (file || p->line)
            buf_add_char(out, ' ');
        if (p->path && *p->path)
            buf_printf(out, "%s: ", p->path);
        buf_printf(out, "%s\n", p->message);
    }
}
