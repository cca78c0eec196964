/* What joins hand to each other as text: join tokens, certificates and keys, requests to be signed, and lists of whom to
 * believe. Any text is taken or refused with words; what is accepted holds what it says. The first byte chooses. */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "join/token.h"
#include "net/certificate.h"
#include "net/tls.h"

#define NOW_MS 1700000000000LL
#define HOUR_MS 3600000LL

static void check_token(const char *text)
{
    struct join_token_text t, again;
    struct error err = {0};
    if (join_token_parse(text, &t, &err)) {
        INVARIANT(*err.text && !t.id && !t.addresses.n);
        return;
    }
    INVARIANT(*t.id && *t.secret && t.addresses.n);
    CLEANUP_FREE char *written = join_token_format(&t);
    INVARIANT(!join_token_parse(written, &again, &err));
    INVARIANT(!strcmp(t.id, again.id) && !strcmp(t.secret, again.secret) && t.addresses.n == again.addresses.n);
    INVARIANT(!t.ca_hash == !again.ca_hash && (!t.ca_hash || !strcmp(t.ca_hash, again.ca_hash)));
    join_token_clear(&t);
    join_token_clear(&again);
}

static void check_certificate(const char *text)
{
    struct certificate_facts facts;
    struct error err = {0};
    bool read = !certificate_read(text, &facts, &err);
    INVARIANT(read ? strlen(facts.key_hash) == CERTIFICATE_KEY_HASH_SIZE - 1 : *err.text != '\0');
    INVARIANT(!certificate_has_key(text, text) || read);
}

/* Whatever stands in the request: the certificate is for the name that was ordered, and signs nobody. */
static void check_request(const char *text)
{
    static char *authority, *key;
    struct error err = {0};
    if (!authority) {
        key = certificate_key_new();
        INVARIANT(!certificate_sign(&(struct certificate_order){.key = key, .name = "authority", .authority = true,
                                    .from_ms = NOW_MS, .until_ms = NOW_MS + HOUR_MS}, NULL, key, &authority, &err));
    }
    const char *const names[] = {"DNS:n1.agent.mentat", NULL};
    struct certificate_order order = {.request = text, .name = "n1", .names = names, .from_ms = NOW_MS, .until_ms = NOW_MS + HOUR_MS};
    struct certificate_facts facts;
    char *made;
    if (certificate_sign(&order, authority, key, &made, &err)) {
        INVARIANT(*err.text);
        return;
    }
    INVARIANT(!certificate_read(made, &facts, &err) && !strcmp(facts.name, "n1") && !facts.authority);
    INVARIANT(facts.from_ms == NOW_MS && facts.until_ms == NOW_MS + HOUR_MS);
    free(made);
}

/* As a file: how programs have it. */
static void check_list(const char *text)
{
    char path[32];
    struct error err = {0};
    int fd = memfd_create("authorities", MFD_CLOEXEC);
    INVARIANT(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct tls_context *made = tls_context_new(&(struct tls_options){.ca_file = path, .client_cert = TLS_CLIENT_CERT_OPTIONAL}, &err);
    INVARIANT(made || *err.text);
    tls_context_free(made);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const checks[])(const char *text) = {check_token, check_certificate, check_request, check_list};
    if (!size)
        return 0;
    CLEANUP_FREE char *text = mem_strndup((const char *)data + 1, size - 1);
    checks[data[0] % ARRAY_LEN(checks)](text);
    return 0;
}
