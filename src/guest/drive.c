#include "guest/drive.h"

#include <stdlib.h>
#include <string.h>

#include "guest/frame.h"

static const char magic[8] = {'M', 'E', 'N', 'T', 'A', 'T', 'V', 'M'};
enum { AT_VERSION = 8, AT_LENGTH = 12, AT_CRC = 16, AT_PAYLOAD = 20, RECORD_HEADER = 5 };

enum tag {
    TAG_ROOT_DEVICE = 1, TAG_ROOT_TYPE, TAG_OVERLAY_DEVICE, TAG_OVERLAY_MB, TAG_VOLUME, TAG_HOSTNAME, TAG_ADDRESS,
    TAG_GATEWAY, TAG_HOSTS, TAG_RESOLV, TAG_ARG, TAG_ENV, TAG_USER, TAG_WORKDIR, TAG_VSOCK, TAG_PIDS, TAG_MTU,
    TAG_SECRETS_DIR, TAG_MAC, TAG_RESUME_SIGNAL,
};

/* --- encoding --- */

struct writer {
    uint8_t *out;
    size_t size, n;
};

static void put(struct writer *w, const void *bytes, size_t n)
{
    if (w->n + n <= w->size && n)
        memcpy(w->out + w->n, bytes, n);
    w->n += n;
}

static void put_header(struct writer *w, enum tag tag, size_t n)
{
    uint8_t header[RECORD_HEADER] = {(uint8_t)tag};
    frame_put_u32(header + 1, (uint32_t)n);
    put(w, header, sizeof header);
}

static void put_text(struct writer *w, enum tag tag, const char *text)
{
    if (!text)
        return;
    put_header(w, tag, strlen(text) + 1);
    put(w, text, strlen(text) + 1);
}

static void put_texts(struct writer *w, enum tag tag, const struct drive_text_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        put_text(w, tag, list->v[i]);
}

static void put_number(struct writer *w, enum tag tag, uint32_t v)
{
    uint8_t bytes[4];
    frame_put_u32(bytes, v);
    put_header(w, tag, sizeof bytes);
    put(w, bytes, sizeof bytes);
}

/* u8 read only, device, target. */
static void put_volume(struct writer *w, const struct drive_volume *v)
{
    uint8_t flag = v->read_only;
    put_header(w, TAG_VOLUME, 1 + strlen(v->device) + 1 + strlen(v->target) + 1);
    put(w, &flag, 1);
    put(w, v->device, strlen(v->device) + 1);
    put(w, v->target, strlen(v->target) + 1);
}

size_t drive_encode(const struct drive *d, uint8_t *out, size_t size)
{
    struct writer w = {.out = out, .size = size, .n = AT_PAYLOAD};
    put_text(&w, TAG_ROOT_DEVICE, d->root_device);
    put_text(&w, TAG_ROOT_TYPE, d->root_type);
    put_text(&w, TAG_OVERLAY_DEVICE, d->overlay_device);
    put_number(&w, TAG_OVERLAY_MB, d->overlay_mb);
    for (size_t i = 0; i < d->volumes.n; i++)
        put_volume(&w, &d->volumes.v[i]);
    put_text(&w, TAG_HOSTNAME, d->hostname);
    put_text(&w, TAG_ADDRESS, d->address);
    put_text(&w, TAG_GATEWAY, d->gateway);
    put_texts(&w, TAG_HOSTS, &d->hosts);
    put_texts(&w, TAG_RESOLV, &d->resolv);
    put_texts(&w, TAG_ARG, &d->args);
    put_texts(&w, TAG_ENV, &d->env);
    put_text(&w, TAG_USER, d->user);
    put_text(&w, TAG_WORKDIR, d->workdir);
    if (d->vsock)
        put_number(&w, TAG_VSOCK, 1);
    if (d->pids)
        put_number(&w, TAG_PIDS, d->pids);
    if (d->mtu)
        put_number(&w, TAG_MTU, d->mtu);
    put_text(&w, TAG_SECRETS_DIR, d->secrets_dir);
    put_text(&w, TAG_MAC, d->mac);
    if (d->resume_signal)
        put_number(&w, TAG_RESUME_SIGNAL, d->resume_signal);
    size_t whole = (w.n + DRIVE_SECTOR - 1) / DRIVE_SECTOR * DRIVE_SECTOR;
    if (whole > size)
        return whole;
    memset(out + w.n, 0, whole - w.n);
    memcpy(out, magic, sizeof magic);
    frame_put_u32(out + AT_VERSION, DRIVE_VERSION);
    frame_put_u32(out + AT_LENGTH, (uint32_t)(w.n - AT_PAYLOAD));
    frame_put_u32(out + AT_CRC, frame_crc(0, out + AT_PAYLOAD, w.n - AT_PAYLOAD));
    return whole;
}

/* --- decoding --- */

const char *drive_text_add(struct drive_text_list *list, const char *text)
{
    const char **v = realloc(list->v, (list->n + 2) * sizeof *v);
    if (!v)
        return "there is no memory for it";
    v[list->n++] = text;
    v[list->n] = NULL;
    list->v = v;
    return NULL;
}

static const char *volume_add(struct drive *d, const uint8_t *data, size_t n)
{
    const char *device = (const char *)data + 1;
    size_t length = n > 2 ? strnlen(device, n - 1) : 0;
    if (n < 4 || data[n - 1] || length + 2 >= n)
        return "a volume's record is damaged";
    struct drive_volume *v = realloc(d->volumes.v, (d->volumes.n + 1) * sizeof *v);
    if (!v)
        return "there is no memory for it";
    d->volumes.v = v;
    v[d->volumes.n++] = (struct drive_volume){.device = device, .target = device + length + 1, .read_only = data[0]};
    return NULL;
}

static const char *record_take(struct drive *d, uint8_t tag, const uint8_t *data, size_t n)
{
    const char **text = NULL;
    struct drive_text_list *list = NULL;
    switch (tag) {
    case TAG_ROOT_DEVICE: text = &d->root_device; break;
    case TAG_ROOT_TYPE: text = &d->root_type; break;
    case TAG_OVERLAY_DEVICE: text = &d->overlay_device; break;
    case TAG_HOSTNAME: text = &d->hostname; break;
    case TAG_ADDRESS: text = &d->address; break;
    case TAG_GATEWAY: text = &d->gateway; break;
    case TAG_USER: text = &d->user; break;
    case TAG_WORKDIR: text = &d->workdir; break;
    case TAG_SECRETS_DIR: text = &d->secrets_dir; break;
    case TAG_MAC: text = &d->mac; break;
    case TAG_HOSTS: list = &d->hosts; break;
    case TAG_RESOLV: list = &d->resolv; break;
    case TAG_ARG: list = &d->args; break;
    case TAG_ENV: list = &d->env; break;
    case TAG_VOLUME: return volume_add(d, data, n);
    case TAG_OVERLAY_MB:
        d->overlay_mb = n == 4 ? frame_get_u32(data) : 0;
        return NULL;
    case TAG_MTU:
        d->mtu = n == 4 ? frame_get_u32(data) : 0;
        return NULL;
    case TAG_RESUME_SIGNAL:
        d->resume_signal = n == 4 ? frame_get_u32(data) : 0;
        return NULL;
    case TAG_PIDS:
        d->pids = n == 4 ? frame_get_u32(data) : 0;
        return NULL;
    case TAG_VSOCK:
        d->vsock = true;
        return NULL;
    default:
        return NULL;
    }
    if (!n || data[n - 1])
        return "a text in it has no end";
    if (list)
        return drive_text_add(list, (const char *)data);
    *text = (const char *)data;
    return NULL;
}

const char *drive_decode(const uint8_t *bytes, size_t n, struct drive *d)
{
    *d = (struct drive){0};
    if (n < AT_PAYLOAD || memcmp(bytes, magic, sizeof magic) != 0)
        return "it is no config drive";
    if (frame_get_u32(bytes + AT_VERSION) != DRIVE_VERSION)
        return "its version is not known";
    size_t left = frame_get_u32(bytes + AT_LENGTH);
    if (left > n - AT_PAYLOAD)
        return "it is not complete";
    const uint8_t *p = bytes + AT_PAYLOAD;
    if (frame_crc(0, p, left) != frame_get_u32(bytes + AT_CRC))
        return "its checksum is wrong";
    const char *wrong = NULL;
    while (left && !wrong) {
        size_t length = left >= RECORD_HEADER ? frame_get_u32(p + 1) : 0;
        if (left < RECORD_HEADER || length > left - RECORD_HEADER) {
            wrong = "a record goes beyond its end";
            break;
        }
        wrong = record_take(d, p[0], p + RECORD_HEADER, length);
        p += RECORD_HEADER + length;
        left -= RECORD_HEADER + length;
    }
    if (!wrong && (!d->args.n || !d->root_device || !d->root_type))
        wrong = "it names no program or no image";
    if (wrong)
        drive_clear(d);
    return wrong;
}

void drive_clear(struct drive *d)
{
    free(d->volumes.v);
    free(d->hosts.v);
    free(d->resolv.v);
    free(d->args.v);
    free(d->env.v);
    *d = (struct drive){0};
}
