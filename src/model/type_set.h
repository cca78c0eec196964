/* Type set: a few types and all that is below them, each once, in the order in which they are met. */
#pragma once
#include "model/field.h"

struct type_set { const struct type **v; size_t n; };

void type_set_add(struct type_set *set, const struct type *t);
void type_set_clear(struct type_set *set);
