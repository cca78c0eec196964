#include "base/roff.h"

#include <stdbool.h>
#include <string.h>

/* One line's characters; those that roff would take for its own or typeset otherwise are spelled out. bold: whether the
 * last backquote opened; it may span lines. */
static void add_line(struct buf *out, const char *s, size_t len, bool *bold)
{
    static const struct { char c; const char *spelled; } special[] = {
        {'\\', "\\e"}, {'-', "\\-"}, {'\'', "\\(aq"}, {'"', "\\(dq"}, {'~', "\\(ti"}, {'^', "\\(ha"},
    };
    if (len && *s == '.')
        buf_add_string(out, "\\&");
    for (size_t i = 0; i < len; i++) {
        const char *spelled = NULL;
        for (size_t k = 0; k < sizeof special / sizeof *special && !spelled; k++)
            if (s[i] == special[k].c)
                spelled = special[k].spelled;
        if (s[i] == '`') {
            *bold = !*bold;
            spelled = *bold ? "\\fB" : "\\fR";
        }
        if (spelled)
            buf_add_string(out, spelled);
        else
            buf_add_char(out, s[i]);
    }
    buf_add_char(out, '\n');
}

static void add_plain(struct buf *out, const char *s)
{
    bool bold = false;
    add_line(out, s, strlen(s), &bold);
}

void roff_page(struct buf *out, const char *name, int section, const char *summary)
{
    buf_printf(out, ".TH \"%s\" %d \"\" \"Mentat %s\"\n.SH NAME\n", name, section, MENTAT_VERSION);
    CLEANUP_BUF struct buf line = {0};
    buf_printf(&line, "%s - %s", name, summary);
    add_plain(out, line.data);
}

void roff_heading(struct buf *out, const char *title)
{
    buf_add_string(out, ".SH ");
    add_plain(out, title);
}

void roff_subheading(struct buf *out, const char *title)
{
    buf_add_string(out, ".SS ");
    add_plain(out, title);
}

void roff_text(struct buf *out, const char *text)
{
    bool bold = false, example = false, fresh = true;      /* fresh: at the beginning of a paragraph */
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, "\n");
        bool kept = len && *p == ' ';
        if (kept != example)
            buf_add_string(out, !kept ? ".fi\n" : fresh ? ".nf\n" : ".PP\n.nf\n");
        example = kept;
        fresh = !len;
        if (len)
            add_line(out, p, len, &bold);
        else
            buf_add_string(out, ".PP\n");
        p += len + (p[len] == '\n');
    }
    if (example)
        buf_add_string(out, ".fi\n");
}

void roff_item(struct buf *out, const char *term, const char *meaning)
{
    buf_add_string(out, ".TP\n.B ");
    add_plain(out, term);
    roff_text(out, meaning);
}
