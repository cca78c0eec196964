/* Ingress rules: which hosts, paths and headers an `ingress` entry may name, and what it claims by them. The proxy's configuration is
 * made of these texts: what passes here holds nothing that means something there. */
#pragma once
#include "model/model.h"

#define INGRESS_HOST_MAX 253
#define INGRESS_PATH_MAX 512
#define INGRESS_HEADER_MAX 64

/* NULL: fine; else what is wrong and what to do, static text. */
const char *ingress_host_problem(const char *host);
const char *ingress_path_problem(const char *path);
const char *ingress_header_problem(const char *name);

/* Of a host, a token of base64url, and an answer of the same with dots: what proxies can have in a map. */
bool ingress_challenge_ok(const struct acme_challenge *a);

/* What a node says of several ways in that it cannot serve: INGRESS_OF, SERVICE, ": ", why, and "; " before the next. What begins
 * otherwise is said of all of its ways in; INGRESS_PROXY, what is wrong, and ": " come before words of the proxy's own, which may
 * name any service. */
#define INGRESS_OF "ingress of "
#define INGRESS_PROXY "the proxy "
/* The part that *at begins with, which moves behind it; false: there is none. service: NULL when it is of all; both are the
 * caller's. */
bool ingress_problem_next(const char **at, char **service, char **part);
/* A part of all services for who may not know of each: without the proxy's own words. The caller's. */
char *ingress_problem_in_short(const char *part);

/* What only one entry of the cluster can have: "tcp:PORT", or "HOST/PATH/" with a slash at the end, by which "/a" and "/a/"
 * are one. The caller's. The entry is a checked one. */
char *ingress_claim(const struct ingress *i);
