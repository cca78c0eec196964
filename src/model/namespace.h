/* Namespace: whose a name is. Inside of the cluster the names of jobs, services and secrets are qualified: those of the
 * namespace `default` are as users write them, all others have their namespace and a dot before them, "team-a.web". No name
 * can contain a dot, so one text is enough in every table, file and label, and two namespaces never meet there. What users
 * read and write has the name and the namespace apart (field.h: FIELD_QUALIFIED). */
#pragma once
#include "model/model.h"

#define NAMESPACE_DEFAULT "default"
#define NAMESPACE_ANY "*"                /* in questions: all of them */
#define NAMESPACE_HELP "Its namespace, where that is not default."
#define NAMESPACE_SIZE 64                /* of its name, and the end of the text */

/* namespace NULL: default. The caller's; NULL for no name. */
char *namespace_qualify(const char *namespace, const char *name);
/* The name without its namespace: the end of the same text. */
const char *namespace_bare(const char *qualified);
/* Into out; gives it back. Of no name: default. */
const char *namespace_of(const char *qualified, char out[static NAMESPACE_SIZE]);
/* Whether it is of this namespace; NULL: of default. */
bool namespace_has(const char *namespace, const char *qualified);
bool namespace_same(const char *a, const char *b);       /* of qualified names */
bool namespace_is_default(const char *namespace);        /* also NULL */
bool namespace_is_any(const char *namespace);            /* not NULL */
/* A name, or a namespace, a dot and a name. */
bool namespace_is_qualified_name(const char *text);
/* The names of a job that was written by a user, and those of its services, become qualified. */
void job_qualify(struct job *job);

/* Whose an event is, into out; NULL: it is about the cluster. */
const char *event_namespace(const struct event *e, char out[static NAMESPACE_SIZE]);
/* As users see it: borrows from e and from own. As JSON. */
struct event event_shown(const struct event *e, char own[static NAMESPACE_SIZE]);
void event_show(const struct event *e, struct buf *out);

/* What is kept of it; NULL: nothing is, which is all right for default. */
const struct namespace *namespace_find(const struct access *access, const char *name);
bool namespace_exists(const struct access *access, const char *name);
