#include "core/sched_constraint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pattern.h"
#include "base/text.h"

/* --- attributes --- */

static const char *number_text(char out[static ATTRIBUTE_NUMBER_SIZE], double v)
{
    snprintf(out, ATTRIBUTE_NUMBER_SIZE, "%.15g", v);
    return out;
}

/* "docker", "docker.version"; a driver that is not healthy is false, one that is not there is missing. */
static const char *driver_value(const struct node *n, const char *name)
{
    size_t len = strcspn(name, ".");
    for (uint32_t i = 0; i < n->drivers.n; i++) {
        const struct driver_info *d = &n->drivers.v[i];
        if (!d->name || strlen(d->name) != len || strncmp(d->name, name, len) != 0)
            continue;
        if (!name[len])
            return d->healthy ? "true" : "false";
        return strcmp(name + len, ".version") == 0 ? d->version : NULL;
    }
    return NULL;
}

const char *attribute_value(const struct node *n, const char *attribute, char number[static ATTRIBUTE_NUMBER_SIZE])
{
    const struct { const char *name, *value; } texts[] = {
        {"node", n->id}, {"node.id", n->id}, {"node.name", n->name}, {"node.class", n->node_class},
        {"cpu.arch", n->arch}, {"kernel.version", n->kernel}, {"kvm", n->kvm ? "true" : "false"},
    };
    if (!attribute)
        return NULL;
    if (text_has_prefix(attribute, "meta."))
        return kv_get(&n->meta, attribute + strlen("meta."));
    if (text_has_prefix(attribute, "driver."))
        return driver_value(n, attribute + strlen("driver."));
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (strcmp(attribute, texts[i].name) == 0)
            return texts[i].value;
    if (strcmp(attribute, "cpu.cores") == 0)
        return number_text(number, n->cpus);
    if (strcmp(attribute, "memory.mb") == 0)
        return number_text(number, (double)n->memory_mb);
    return NULL;
}

bool attribute_is_unique(const char *attribute)
{
    return strcmp(attribute, "node") == 0 || strcmp(attribute, "node.name") == 0 || strcmp(attribute, "node.id") == 0;
}

/* --- comparing --- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Compares runs of digits of any length as numbers. */
static int compare_digits(const char **a, const char **b)
{
    const char *p = *a, *q = *b;
    while (*p == '0')
        p++;
    while (*q == '0')
        q++;
    size_t n = strspn(p, "0123456789"), m = strspn(q, "0123456789");
    *a = p + n;
    *b = q + m;
    if (n != m)
        return n < m ? -1 : 1;
    return strncmp(p, q, n);
}

static bool next_part(const char **p)
{
    if (**p != '.' || !is_digit((*p)[1]))
        return false;
    (*p)++;
    return true;
}

int version_compare(const char *a, const char *b)
{
    a += *a == 'v';
    b += *b == 'v';
    bool more_a = is_digit(*a), more_b = is_digit(*b);
    while (more_a || more_b) {
        const char *zero_a = "", *zero_b = "";
        int r = compare_digits(more_a ? &a : &zero_a, more_b ? &b : &zero_b);
        if (r)
            return r;
        more_a = next_part(&a);
        more_b = next_part(&b);
    }
    return *a && *b ? strverscmp(a, b) : 0;
}

static bool read_number(const char *s, double *v)
{
    char *end;
    if (!is_digit(s[0]) && !((s[0] == '-' || s[0] == '+' || s[0] == '.') && (is_digit(s[1]) || s[1] == '.')))
        return false;
    *v = strtod(s, &end);
    return end != s && *end == '\0' && isfinite(*v);
}

static bool looks_like_version(const char *s)
{
    s += *s == 'v';
    const char *dot = strchr(s, '.');
    return is_digit(*s) && dot && is_digit(dot[1]);
}

/* Numbers as numbers, versions as versions, else as text. */
static int compare(const char *a, const char *b, bool version)
{
    double x, y;
    if (version)
        return version_compare(a, b);
    if (read_number(a, &x) && read_number(b, &y))
        return x < y ? -1 : x > y;
    if (looks_like_version(a) && looks_like_version(b))
        return version_compare(a, b);
    return strcmp(a, b);
}

/* --- matchers --- */

void matcher_init(struct matcher *m, const char *attribute, enum constraint_op op, const struct str_list *value)
{
    *m = (struct matcher){.attribute = mem_strdup(attribute ? attribute : ""), .op = op};
    for (uint32_t i = 0; i < value->n; i++)
        str_list_add(&m->value, value->v[i] ? value->v[i] : "");
    size_t n = strlen(m->attribute), suffix = strlen(".version");
    m->version = n > suffix && strcmp(m->attribute + n - suffix, ".version") == 0
                 && !text_has_prefix(m->attribute, "meta.");
    /* What the model's validation refuses is not expected here; should it come, it matches nothing. */
    if (op == OP_MATCHES && m->value.n)
        m->compiled = pattern_compile(m->value.v[0], &m->regex, NULL) == 0;
}

void matcher_clear(struct matcher *m)
{
    free(m->attribute);
    str_list_clear(&m->value);
    if (m->compiled)
        regfree(&m->regex);
    *m = (struct matcher){0};
}

bool matcher_matches(const struct matcher *m, const struct node *n)
{
    char number[ATTRIBUTE_NUMBER_SIZE];
    const char *have = attribute_value(n, m->attribute, number), *want = m->value.n ? m->value.v[0] : "";
    if (m->op == OP_DISTINCT)
        return true;
    if (!have)
        return m->op == OP_NE;
    switch (m->op) {
    case OP_EQ: return compare(have, want, m->version) == 0;
    case OP_NE: return compare(have, want, m->version) != 0;
    case OP_LT: return compare(have, want, m->version) < 0;
    case OP_LE: return compare(have, want, m->version) <= 0;
    case OP_GT: return compare(have, want, m->version) > 0;
    case OP_GE: return compare(have, want, m->version) >= 0;
    case OP_IN:
        for (uint32_t i = 0; i < m->value.n; i++)
            if (compare(have, m->value.v[i], m->version) == 0)
                return true;
        return false;
    case OP_MATCHES: return m->compiled && regexec(&m->regex, have, 0, NULL, 0) == 0;
    case OP_EXISTS: return text_has_prefix(m->attribute, "meta.") || strcmp(have, "false") != 0;  /* kvm, driver.docker */
    case OP_DISTINCT: break;
    }
    return true;
}

void matcher_format(const struct matcher *m, struct buf *out)
{
    buf_printf(out, "%s %s", m->attribute, enum_name(constraint_op_names, (int)m->op));
    if (m->op == OP_IN)
        buf_add_string(out, " [");
    for (uint32_t i = 0; i < m->value.n && m->op != OP_EXISTS && m->op != OP_DISTINCT; i++)
        buf_printf(out, "%s%s", i ? ", " : m->op == OP_IN ? "" : " ", m->value.v[i]);
    if (m->op == OP_IN)
        buf_add_char(out, ']');
}
