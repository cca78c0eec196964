#include "figure.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void figure_print(const char *name, double value, const char *unit, const char *params, ...)
{
    va_list ap;
    printf("{\"name\":\"%s\",\"value\":%.6g,\"unit\":\"%s\",", name, value, unit);
    va_start(ap, params);
    vprintf(params, ap);
    va_end(ap);
    printf(",\"version\":\"" MENTAT_VERSION "\"}\n");
    fflush(stdout);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double figure_percentile(double *values, size_t n, double share)
{
    qsort(values, n, sizeof *values, by_value);
    size_t rank = (size_t)ceil(share * (double)n);
    return values[rank ? rank - 1 : 0];
}
