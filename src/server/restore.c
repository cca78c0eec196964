/* PUT /v1/snapshot: check the file and, on a worker, that its state can be read; then send it through the log in pieces, a
 * few at a time; the last command puts it in place (core/apply_restore.c). Whatever goes wrong before that one changes
 * nothing; pieces that were sent are dropped. */
#include <string.h>

#include "base/base64.h"
#include "base/id.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "model/snapshot_file.h"
#include "server/api.h"

#define PIECE_BYTES (96 * 1024)
#define WINDOW 8

struct piece {
    struct proposal proposal;
    struct restore *restore;
    bool used;
};

struct restore {
    struct control *c;
    struct request *r;
    struct snapshot_info info;
    const void *state;               /* in the request's body */
    size_t len, sent;
    char *upload;
    uv_work_t work;
    struct error error;              /* the first thing that went wrong */
    unsigned flying;
    struct piece pieces[WINDOW];
};

static void finish(struct restore *s)
{
    struct request *r = s->r;
    if (s->error.code != ERROR_NONE)
        r->answer.error = s->error;
    for (int i = 0; i < WINDOW; i++)
        core_result_clear(&s->pieces[i].proposal.result);
    type_clear(&snapshot_info_type, &s->info);
    free(s->upload);
    free(s);
    control_answer(r);
}

static void on_restored(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct restore *s = container_of(p, struct piece, proposal)->restore;
    if (!proposal_error(c, p, outcome, &s->error)) {
        s->r->answer.index = core_index(c->core);
        s->r->answer.body = p->result.body;
        p->result.body = (struct buf){0};
    }
    finish(s);
}

static void put_in_place(struct restore *s)
{
    CLEANUP_BUF struct buf command = {0};
    struct command_restore payload = {.upload = s->upload, .size = (int64_t)s->len,
                                      .hash = hash_bytes(s->state, s->len, 0), .taken_at = s->info.taken_at};
    command_encode_payload(COMMAND_RESTORE, time_now_ms(), NULL, s->r->who.name, &payload, &command);
    control_propose(s->c, &s->pieces[0].proposal, command.data, command.len, on_restored);
}

static void send_pieces(struct restore *s);

static void on_piece(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct piece *piece = container_of(p, struct piece, proposal);
    struct restore *s = piece->restore;
    struct error err;
    piece->used = false;
    s->flying--;
    if (proposal_error(c, p, outcome, &err) && s->error.code == ERROR_NONE) {
        s->error = err;
        /* A piece of unknown fate changed nothing that anybody sees. */
        if (err.code == ERROR_UNKNOWN_OUTCOME)
            error_set(&s->error, ERROR_UNAVAILABLE, "the leader changed meanwhile: nothing was restored, try again");
    }
    send_pieces(s);
}

static void send_piece(struct restore *s, struct piece *piece)
{
    CLEANUP_BUF struct buf command = {0}, text = {0};
    size_t n = s->len - s->sent < PIECE_BYTES ? s->len - s->sent : PIECE_BYTES;
    base64_add(&text, (const char *)s->state + s->sent, n);
    struct command_restore_chunk payload = {.upload = s->upload, .offset = (int64_t)s->sent, .data = text.data};
    command_encode_payload(COMMAND_RESTORE_CHUNK, time_now_ms(), NULL, s->r->who.name, &payload, &command);
    s->sent += n;
    s->flying++;
    piece->used = true;
    piece->restore = s;
    control_propose(s->c, &piece->proposal, command.data, command.len, on_piece);
}

static void send_pieces(struct restore *s)
{
    for (int i = 0; i < WINDOW && s->sent < s->len && s->error.code == ERROR_NONE; i++)
        if (!s->pieces[i].used)
            send_piece(s, &s->pieces[i]);
    if (s->flying)
        return;
    if (s->error.code == ERROR_NONE)
        put_in_place(s);
    else
        finish(s);
}

/* On a worker: reading a large state takes long enough to disturb heartbeats. */
static void check(uv_work_t *work)
{
    struct restore *s = work->data;
    struct core *trial = core_new();
    core_restore(trial, s->state, s->len, &s->error);
    core_free(trial);
}

static void on_checked(uv_work_t *work, int status)
{
    struct restore *s = work->data;
    if (s->error.code == ERROR_NONE && s->c->stopping)
        error_set(&s->error, ERROR_UNAVAILABLE, "this server is stopping; nothing was done");
    if (s->error.code == ERROR_NONE)
        send_pieces(s);
    else
        finish(s);
}

void api_snapshot_restore(struct control *c, struct request *r)
{
    struct restore *s = NEW(struct restore);
    *s = (struct restore){.c = c, .r = r, .upload = id_new()};
    if (core_level(c->core) < command_kind_level(COMMAND_RESTORE)) {
        error_set(&s->error, ERROR_UNSUPPORTED, "some server runs a release that cannot restore snapshots; upgrade it first");
        finish(s);
        return;
    }
    const struct buf *body = &r->http->body;
    if (snapshot_file_read(body->data, body->len, &s->info, &s->state, &s->len, &s->error)) {
        finish(s);
        return;
    }
    for (int i = 0; i < WINDOW; i++)
        s->pieces[i].restore = s;
    s->work.data = s;
    uv_queue_work(c->loop, &s->work, check, on_checked);
}
