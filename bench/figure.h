/* Figure: one measured number, printed as a JSON line: name, value, unit, and the run's parameters. */
#pragma once
#include <stddef.h>

/* params: further members of the JSON object, as in printf: "\"nodes\":%lld". */
void figure_print(const char *name, double value, const char *unit, const char *params, ...)
    __attribute__((format(printf, 4, 5)));

/* The value below which a share of them (0 to 1) lies: the nearest rank. Sorts them; n > 0. */
double figure_percentile(double *values, size_t n, double share);
