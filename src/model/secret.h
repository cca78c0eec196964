/* Secrets: values that the servers keep sealed, and the tasks of the services that name them get. */
#pragma once
#include "model/model.h"

#define SECRET_BYTES_MOST (64u << 10)   /* of one value */

/* By qualified name; NULL: there is none. */
const struct secret *secrets_find(const struct secrets *all, const char *name);
/* The one that this service, by its qualified name, means by the name: of its own namespace. */
const struct secret *secrets_find_for(const struct secrets *all, const char *service, const char *name);
/* A new one of this name, in its place; there is none yet. */
struct secret *secrets_insert(struct secrets *all, const char *name);
/* The version, or the newest for 0; NULL: it is not kept. */
const struct secret_version *secret_version(const struct secret *s, uint64_t version);
/* Whether this service, by its qualified name, may have it: one of its namespace, and of those that it names; a secret that
 * names none is for all of them. */
bool secret_is_for(const struct secret *s, const char *service);
/* Whether this service is of its namespace and names it: among its secrets, as a certificate or as the login of a registry. */
bool service_uses_secret(const struct service *s, const struct secret *secret);
/* The service's entry with this name, as its file has it; NULL: there is none. */
const struct secret_ref *service_names_secret(const struct service *s, const char *secret);
/* Whether one of its ways in from outside has this secret's certificate. */
bool service_serves_certificate(const struct service *s, const struct secret *secret);
/* The secret with the login of its image's registry; NULL: none. */
const char *service_login(const struct service *s);
/* Whether its tasks get anything of their own into their secrets directory or environment. */
bool service_has_secrets(const struct service *s);
