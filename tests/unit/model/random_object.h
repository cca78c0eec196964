/* Random object: any object of any table, from a seed; for round trips. */
#pragma once
#include "base/random.h"
#include "model/field.h"

/* A copy of a table without what validation demands (required keys, ranges, rules, checks, keys of one driver), so
 * that random objects of it may be read back. Lives until twins_free. */
const struct type *unchecked_twin(const struct type *t);
void twins_free(void);

/* Fills raw memory. Numbers stay within what JSON can say. */
void object_randomize(const struct type *t, struct random *r, void *object);
