/* The groups of the server's unit tests; each returns the number of failed tests. */
#pragma once
#include "../cmocka_all.h"

int test_queue(void);
int test_routes(void);
int test_filter(void);
int test_identity(void);
int test_rates(void);
int test_seal(void);
