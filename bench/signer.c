#include "signer.h"

#include <string.h>

#include "base/file.h"
#include "base/timefmt.h"
#include "net/certificate.h"

#define SLACK_MS 60000
#define LIFETIME_MS 86400000

static struct certificate_order order_of(const char *key, const char *name)
{
    int64_t now = time_now_ms();
    return (struct certificate_order){.key = key, .name = name, .from_ms = now - SLACK_MS, .until_ms = now + LIFETIME_MS};
}

static int write_text(const char *path, const char *text, struct error *err)
{
    return file_write(path, text, strlen(text), 0600, err);
}

char *signer_file(const struct signer *a)
{
    return mem_printf("%s/ca.pem", a->dir);
}

int signer_make(struct signer *a, const char *dir, struct error *err)
{
    *a = (struct signer){.dir = dir, .key = certificate_key_new()};
    struct certificate_order order = order_of(a->key, "bench");
    CLEANUP_FREE char *path = signer_file(a);
    order.authority = true;
    if (certificate_sign(&order, NULL, a->key, &a->cert, err))
        return -1;
    return write_text(path, a->cert, err);
}

void signer_clear(struct signer *a)
{
    free(a->cert);
    certificate_key_free(a->key);
    *a = (struct signer){0};
}

int signer_issue(const struct signer *a, const char *name, const char *identity, struct error *err)
{
    CLEANUP(certificate_key_free) char *key = certificate_key_new();
    CLEANUP_FREE char *dns = mem_printf("DNS:%s", identity), *cert = NULL;
    CLEANUP_FREE char *cert_path = mem_printf("%s/%s.pem", a->dir, name), *key_path = mem_printf("%s/%s.key", a->dir, name);
    const char *names[] = {dns, "IP:127.0.0.1", NULL};
    struct certificate_order order = order_of(key, name);
    order.names = names;
    if (certificate_sign(&order, a->cert, a->key, &cert, err) || write_text(cert_path, cert, err))
        return -1;
    return write_text(key_path, key, err);
}
