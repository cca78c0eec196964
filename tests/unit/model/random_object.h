/* Random object: any type of the model filled at random within its table's rules, for round trips. */
#pragma once
#include "base/random.h"
#include "model/field.h"

void random_object(const struct type *t, struct random *r, void *object);
