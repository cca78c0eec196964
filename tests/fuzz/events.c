/* The stream of events as mt reads and prints it: any bytes, in any pieces, give the same events, and whatever JSON an
 * event is can be printed. */
#include "fuzz.h"

#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/api.h"
#include "cli/event_stream.h"
#include "cli/table.h"
#include "cli/views.h"

static void print(const char *text)
{
    CLEANUP(json_decref) json_t *event = json_loads(text, 0, NULL);
    if (!event)
        return;
    CLEANUP(json_decref) json_t *rows = json_pack("[O]", event);
    CLEANUP_BUF struct buf table = {0}, yaml = {0};
    table_format(rows, view_events, (struct table_style){.color = true}, &table);
    INVARIANT(strchr(table.data, '\n'));
    yaml_format(event, &yaml);
    json_text(event, "error.message");
}

static bool on_event(void *arg, bool is_error, const char *data)
{
    buf_printf(arg, "%c%s\n", is_error ? '!' : ' ', data);
    print(data);
    return !is_error;
}

/* Pieces of `step` bytes; 0: all at once. */
static void run(const uint8_t *data, size_t size, size_t step, struct buf *seen)
{
    struct event_stream s = {0};
    bool more = true;
    for (size_t at = 0; more && at < size;) {
        size_t n = step && step < size - at ? step : size - at;
        more = event_stream_add(&s, (const char *)data + at, n, on_event, seen);
        at += n;
    }
    event_stream_clear(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    CLEANUP_BUF struct buf whole = {0}, cut = {0};
    run(data + 1, size - 1, 0, &whole);
    run(data + 1, size - 1, data[0], &cut);
    INVARIANT(whole.len == cut.len && (!whole.len || !memcmp(whole.data, cut.data, whole.len)));
    return 0;
}
