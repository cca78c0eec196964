#include "consensus/record.h"

#include <endian.h>
#include <string.h>

#include "base/random.h"

#define SEGMENT_MAGIC 0x676f4c7461746e4dull   /* "MntatLog" */
#define SEGMENT_FORMAT 1

static void put64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, 8);
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return le64toh(v);
}

static uint64_t record_seed(const struct record_place *place, uint64_t offset)
{
    uint64_t h = hash_mix(place->cluster_id);
    h = hash_mix(h ^ place->server_id);
    h = hash_mix(h ^ place->sequence);
    return hash_mix(h ^ offset);
}

/* Layout: checksum 0, previous 8, term 16, index 24, len 32 and batch 36 (32 bits each), type 40, zeros to 48, bytes. */
void record_encode(struct buf *out, const struct record_place *place, uint64_t offset, struct record *r)
{
    size_t size = record_size(r->len);
    buf_reserve(out, size);
    uint8_t *p = (uint8_t *)out->data + out->len;
    put64(p + 8, r->previous);
    put64(p + 16, r->term);
    put64(p + 24, r->index);
    put64(p + 32, (uint64_t)r->batch << 32 | r->len);
    put64(p + 40, r->type);
    if (r->len)
        memcpy(p + RECORD_HEADER_SIZE, r->bytes, r->len);
    memset(p + RECORD_HEADER_SIZE + r->len, 0, size - RECORD_HEADER_SIZE - r->len);
    r->checksum = hash_bytes(p + 8, size - 8, record_seed(place, offset));
    put64(p, r->checksum);
    out->len += size;
    out->data[out->len] = '\0';
}

bool record_decode(const uint8_t *file, uint64_t file_size, const struct record_place *place, uint64_t offset,
                   struct record *r)
{
    if (offset > file_size || file_size - offset < RECORD_HEADER_SIZE)
        return false;
    const uint8_t *p = file + offset;
    uint64_t sizes = get64(p + 32), type = get64(p + 40);
    /* Cheap questions first: recovery asks at every eighth byte behind the end. */
    if (type == 0 || type > RECORD_NEXT_FILE || (sizes >> 32) < SEGMENT_HEADER_SIZE || (sizes >> 32) > offset)
        return false;
    uint64_t size = record_size((uint32_t)sizes);
    if (size > file_size - offset)
        return false;
    *r = (struct record){
        .checksum = get64(p),
        .previous = get64(p + 8),
        .term = get64(p + 16),
        .index = get64(p + 24),
        .len = (uint32_t)sizes,
        .batch = (uint32_t)(sizes >> 32),
        .type = (uint8_t)type,
        .bytes = p + RECORD_HEADER_SIZE,
    };
    return hash_bytes(p + 8, size - 8, record_seed(place, offset)) == r->checksum;
}

/* Layout: magic 0, format 8, cluster 16, server 24, sequence 32, bytes 40, checksum 48, zeros. */
void segment_header_encode(uint8_t out[static SEGMENT_HEADER_SIZE], const struct segment_header *h)
{
    memset(out, 0, SEGMENT_HEADER_SIZE);
    put64(out, SEGMENT_MAGIC);
    put64(out + 8, SEGMENT_FORMAT);
    put64(out + 16, h->place.cluster_id);
    put64(out + 24, h->place.server_id);
    put64(out + 32, h->place.sequence);
    put64(out + 40, h->bytes);
    put64(out + 48, hash_bytes(out, 48, SEGMENT_MAGIC));
}

enum segment_header_state segment_header_decode(const uint8_t *file, uint64_t file_size,
                                                const struct record_place *expected, struct segment_header *h)
{
    if (file_size < SEGMENT_HEADER_SIZE || get64(file) != SEGMENT_MAGIC ||
        get64(file + 48) != hash_bytes(file, 48, SEGMENT_MAGIC))
        return SEGMENT_HEADER_DAMAGED;
    *h = (struct segment_header){
        .place = {get64(file + 16), get64(file + 24), get64(file + 32)},
        .bytes = get64(file + 40),
    };
    bool ours = get64(file + 8) == SEGMENT_FORMAT && h->place.cluster_id == expected->cluster_id &&
                h->place.server_id == expected->server_id && h->place.sequence == expected->sequence;
    return ours ? SEGMENT_HEADER_VALID : SEGMENT_HEADER_FOREIGN;
}
