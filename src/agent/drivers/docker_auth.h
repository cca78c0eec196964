/* Docker auth: logins of registries, from a file as `docker login` writes it. */
#pragma once
#include "base/buf.h"
#include "base/error.h"

/* The value of X-Registry-Auth for this registry; *header stays NULL when the file (NULL: none) has no login for it.
 * The caller frees it. */
int docker_auth_header(const char *file, const char *registry, char **header, struct error *err);
/* The same from a login itself: "USER:PASSWORD", or the text of such a file. Errors do not repeat it. */
int docker_auth_login(const char *login, const char *registry, char **header, struct error *err);
