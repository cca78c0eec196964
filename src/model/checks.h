/* Checks: what no single field of a services.yaml can say about itself; the `check` functions of the spec's types. */
#pragma once
#include "model/field.h"

void check_volume(const void *object, const char *path, struct problem_list *problems);
void check_config(const void *object, const char *path, struct problem_list *problems);
void check_resources(const void *object, const char *path, struct problem_list *problems);
void check_constraint(const void *object, const char *path, struct problem_list *problems);
void check_affinity(const void *object, const char *path, struct problem_list *problems);
void check_health(const void *object, const char *path, struct problem_list *problems);
void check_analysis(const void *object, const char *path, struct problem_list *problems);
void check_kill(const void *object, const char *path, struct problem_list *problems);
void check_ingress(const void *object, const char *path, struct problem_list *problems);
void check_security(const void *object, const char *path, struct problem_list *problems);
void check_policy_profile(const void *object, const char *path, struct problem_list *problems);
void check_policy_exception(const void *object, const char *path, struct problem_list *problems);
void check_secret_ref(const void *object, const char *path, struct problem_list *problems);
void check_identity_spec(const void *object, const char *path, struct problem_list *problems);
void check_service(const void *object, const char *path, struct problem_list *problems);
void check_job(const void *object, const char *path, struct problem_list *problems);
