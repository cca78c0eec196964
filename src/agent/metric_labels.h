/* Metric labels: whose something is, in the text format of Prometheus. */
#pragma once

/* `service="web"`, and its namespace where that is not default, of a qualified name. The caller's. */
char *metric_labels(const char *service);
