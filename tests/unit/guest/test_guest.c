#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "guest/drive.h"
#include "guest/frame.h"

/* --- frames --- */

struct seen {
    struct buf text;                 /* "K id stream data;" for each frame */
    struct buf noise;
};

static void on_frame(void *arg, const struct frame *f)
{
    struct seen *s = arg;
    buf_printf(&s->text, "%c %u %u %.*s;", f->kind, f->id, f->stream, (int)f->n, (const char *)f->data);
}

static void on_noise(void *arg, const void *bytes, size_t n)
{
    buf_add(&((struct seen *)arg)->noise, bytes, n);
}

static const struct frame_events events = {.frame = on_frame, .noise = on_noise};

static void frame_add(struct buf *b, char kind, uint32_t id, uint8_t stream, const char *text)
{
    uint8_t bytes[FRAME_MAX];
    size_t n = frame_encode(&(struct frame){.kind = (uint8_t)kind, .stream = stream, .id = id, .data = (const uint8_t *)text,
                                            .n = strlen(text)}, bytes);
    buf_add(b, bytes, n);
}

static void read_in_pieces(const struct buf *b, size_t piece, struct seen *s)
{
    struct frame_reader r = {0};
    for (size_t at = 0; at < b->len; at += piece)
        frame_read(&r, b->data + at, b->len - at < piece ? b->len - at : piece, &events, s);
}

static void seen_free(struct seen *s)
{
    buf_free(&s->text);
    buf_free(&s->noise);
}

static void frames_are_found_among_what_the_kernel_prints(void **state)
{
    CLEANUP_BUF struct buf b = {0};
    buf_add_string(&b, "[    0.0] Linux\r\n");
    frame_add(&b, 'O', 0, 1, "hello");
    buf_add_string(&b, "\xf5M panic \xf5MT");
    frame_add(&b, 'X', 70000, 0, "");
    frame_add(&b, 'O', 3, 2, "\xf5MT\x01 inside");
    for (size_t piece = 1; piece <= b.len; piece++) {
        struct seen s = {0};
        read_in_pieces(&b, piece, &s);
        assert_string_equal(s.text.data, "O 0 1 hello;X 70000 0 ;O 3 2 \xf5MT\x01 inside;");
        assert_string_equal(s.noise.data, "[    0.0] Linux\r\n\xf5M panic \xf5MT");
        seen_free(&s);
    }
}

static void a_frame_that_was_broken_into_is_noise_and_the_next_one_is_whole(void **state)
{
    CLEANUP_BUF struct buf b = {0};
    frame_add(&b, 'O', 0, 1, "first");
    size_t middle = b.len / 2 + 4;
    CLEANUP_BUF struct buf broken = {0};
    buf_add(&broken, b.data, middle);
    buf_add_string(&broken, "Kernel panic");
    buf_add(&broken, b.data + middle, b.len - middle);
    frame_add(&broken, 'O', 0, 1, "second");
    struct seen s = {0};
    read_in_pieces(&broken, 7, &s);
    assert_string_equal(s.text.data, "O 0 1 second;");
    assert_int_equal(s.noise.len, broken.len - b.len - 1);
    seen_free(&s);
}

static void a_frame_of_full_size_passes_and_a_longer_one_is_noise(void **state)
{
    CLEANUP_FREE char *text = malloc(FRAME_DATA_MAX + 1);
    memset(text, 'x', FRAME_DATA_MAX);
    text[FRAME_DATA_MAX] = 0;
    CLEANUP_BUF struct buf b = {0};
    frame_add(&b, 'O', 0, 1, text);
    struct seen s = {0};
    read_in_pieces(&b, 1000, &s);
    assert_int_equal(s.text.len, FRAME_DATA_MAX + strlen("O 0 1 ;"));
    assert_int_equal(s.noise.len, 0);
    buf_clear(&s.text);
    b.data[7] = 0x7f;
    frame_add(&b, 'O', 0, 1, "after");
    read_in_pieces(&b, 1000, &s);
    assert_string_equal(s.text.data, "O 0 1 after;");
    seen_free(&s);
}

/* --- config drive --- */

static const char *args[] = {"/bin/web", "--port", ""}, *env[] = {"A=1", "B="}, *hosts[] = {"127.0.0.1 localhost"};
static struct drive_volume volumes[] = {{"/dev/vdc", "/data", false}, {"/dev/vdd", "/ro data", true}};
static const struct drive sample = {
    .root_device = "/dev/vdb", .root_type = "squashfs", .overlay_mb = 64, .pids = 33, .mtu = 1450, .hostname = "web-0", .address = "10.0.0.2/24",
    .gateway = "10.0.0.1", .hosts = {hosts, 1}, .args = {args, 3}, .env = {env, 2}, .volumes = {volumes, 2}, .user = "web",
    .workdir = "/srv", .vsock = true,
};

static uint8_t *sample_bytes(size_t *n)
{
    *n = drive_encode(&sample, NULL, 0);
    assert_int_equal(*n % DRIVE_SECTOR, 0);
    uint8_t *bytes = malloc(*n);
    assert_int_equal(drive_encode(&sample, bytes, *n), *n);
    return bytes;
}

static void a_drive_reads_back_as_it_was_written(void **state)
{
    size_t n;
    CLEANUP_FREE uint8_t *bytes = sample_bytes(&n);
    struct drive d;
    assert_null(drive_decode(bytes, n, &d));
    assert_string_equal(d.root_type, "squashfs");
    assert_null(d.overlay_device);
    assert_int_equal(d.overlay_mb, 64);
    assert_int_equal(d.pids, 33);
    assert_int_equal(d.mtu, 1450);
    assert_int_equal(d.args.n, 3);
    assert_string_equal(d.args.v[1], "--port");
    assert_string_equal(d.args.v[2], "");
    assert_null(d.args.v[3]);
    assert_string_equal(d.env.v[1], "B=");
    assert_int_equal(d.volumes.n, 2);
    assert_string_equal(d.volumes.v[1].target, "/ro data");
    assert_true(d.volumes.v[1].read_only);
    assert_false(d.volumes.v[0].read_only);
    assert_string_equal(d.workdir, "/srv");
    assert_true(d.vsock);
    drive_clear(&d);
}

static void a_damaged_drive_is_refused(void **state)
{
    size_t n;
    CLEANUP_FREE uint8_t *bytes = sample_bytes(&n);
    struct drive d;
    size_t payload = 20 + frame_get_u32(bytes + 12);
    for (size_t i = 0; i < payload; i++) {
        bytes[i] ^= 0x10;
        assert_non_null(drive_decode(bytes, n, &d));
        bytes[i] ^= 0x10;
    }
    for (size_t cut = 0; cut < payload; cut++) {
        CLEANUP_FREE uint8_t *part = malloc(cut + 1);
        memcpy(part, bytes, cut);
        assert_non_null(drive_decode(part, cut, &d));
    }
}

static void a_checksum_is_that_of_everybody(void **state)
{
    assert_int_equal(frame_crc(0, "123456789", 9), 0xcbf43926);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_found_among_what_the_kernel_prints),
        cmocka_unit_test(a_frame_that_was_broken_into_is_noise_and_the_next_one_is_whole),
        cmocka_unit_test(a_frame_of_full_size_passes_and_a_longer_one_is_noise),
        cmocka_unit_test(a_drive_reads_back_as_it_was_written),
        cmocka_unit_test(a_damaged_drive_is_refused),
        cmocka_unit_test(a_checksum_is_that_of_everybody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
