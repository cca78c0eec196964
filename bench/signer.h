/* Signer: a certificate authority of one measurement, and what it signs, as files below its directory. */
#pragma once
#include "base/error.h"

struct signer {
    const char *dir;             /* the caller's; must exist */
    char *cert, *key;
};

int signer_make(struct signer *a, const char *dir, struct error *err);
void signer_clear(struct signer *a);
/* DIR/ca.pem. The caller's. */
char *signer_file(const struct signer *a);
/* Makes DIR/NAME.pem and DIR/NAME.key, of who has `identity` ("7.server.mentat") on this machine's loopback. */
int signer_issue(const struct signer *a, const char *name, const char *identity, struct error *err);
