/* Settings: what `mt login` keeps for the user: where the servers are, who asks, in which namespace, and
 * whom to believe. */
#pragma once
#include "base/error.h"
#include "model/field.h"

struct settings { char *address, *token, *ca, *namespace; };
extern const struct type settings_type;

/* $XDG_CONFIG_HOME/mentat/mt.yaml, or ~/.config/mentat/mt.yaml; NULL without a home. The caller's. */
char *settings_path(void);
/* Where login keeps the authorities' certificates, beside it. The caller's; NULL without a home. */
char *settings_ca_path(void);
/* All NULL when there is no file. A file that others may read is refused: it holds a token. *s is cleared by the caller. */
int settings_load(struct settings *s, struct error *err);
/* Keeps the authorities' certificates. */
int settings_save_ca(const char *pem, struct error *err);
int settings_save(const struct settings *s, struct error *err);
