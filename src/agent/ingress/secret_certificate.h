/* Certificates that are secrets of the cluster: fetched when the table of routes names a version that this node lacks, and put
 * where certificate_step.c looks for certificates, so that the proxy takes them over without a restart. */
#pragma once
#include "model/model.h"

struct secret_certificate {
    char *name;                      /* of the secret */
    uint64_t wanted, have;           /* versions; 0: none */
    int64_t expires_at;
    char *problem;                   /* why it is not served; NULL: it is */
};
struct secret_certificates { struct secret_certificate *v; uint32_t n; };

struct ingress_node;

/* A new table came. */
void secret_certificates_follow(struct ingress_node *in);
void secret_certificates_report(const struct ingress_node *in, struct acme_certificate_list *out);
void secret_certificates_clear(struct ingress_node *in);
