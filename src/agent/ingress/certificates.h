/* Certificates: the files that users, and later ACME and the cluster's secrets, put there for the proxy, checked and copied
 * to where it reads them, so that half a file or a wrong key never stands in the way of its start. Blocking: for a worker. */
#pragma once
#include "base/error.h"
#include "model/field.h"

#define FINGERPRINT_SIZE 41          /* SHA-1 in capital hexadecimal, as the proxy tells it */
#define CERTIFICATES_MAX 1000

struct certificate {
    char *name;                      /* of its copy: "certificates/NAME.pem" below the proxy's directory */
    char *pem;                       /* chain and key */
    char fingerprint[FINGERPRINT_SIZE];
    struct str_list hosts;           /* in lower case */
    int64_t begins_at, expires_at;   /* ms since 1970 */
};
struct certificate_list {
    struct certificate *v;
    uint32_t n;
    struct str_list problems;        /* files that are no use, each with its reason */
};

/* One certificate of its PEM text; fills everything but name. */
int certificate_parse(const char *pem, struct certificate *out, struct error *err);
void certificate_clear(struct certificate *c);
/* The *.pem of each of these directories, by name; a directory that is not there is empty. The first of a name counts. */
void certificates_read(const char *const *directories, size_t n, struct certificate_list *out);
/* Copies them below `directory`, removes copies of others, and writes the list by which the proxy finds them: that of
 * `fallback` (a name) first. */
int certificates_write(const char *directory, const char *fallback, const struct certificate_list *l, struct error *err);
void certificates_clear(struct certificate_list *l);
/* Whether one of them is for this host (which may be "*.example.com"). */
bool certificates_cover(const struct certificate_list *l, const char *host);
