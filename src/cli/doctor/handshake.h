/* Doctor's handshakes: whether other hosts prove themselves to this one, as they would to its server or agent. */
#pragma once
#include <stddef.h>

#include "cli/doctor/host.h"
#include "net/address.h"
#include "net/tls.h"

struct stream;

/* What the server of this host shows to others and believes, or else its agent; *server says whose it is. NULL when there is
 * nothing, when only root may read it, or when it is no good, which doctor_certificates tells. */
struct tls_context *doctor_tls(const struct host *h, bool *server);

struct handshake {
    struct address to;
    char *problem;               /* NULL: none; the caller's */
    struct stream *stream;       /* its own */
};
/* All of them side by side; a few seconds at most. */
void doctor_handshakes(struct tls_context *tls, struct handshake *list, size_t n);
