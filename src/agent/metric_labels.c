#include "agent/metric_labels.h"

#include "base/mem.h"
#include "model/namespace.h"

char *metric_labels(const char *service)
{
    char namespace[NAMESPACE_SIZE];
    if (namespace_has(NULL, service))
        return mem_printf("service=\"%s\"", service);
    return mem_printf("service=\"%s\",namespace=\"%s\"", namespace_bare(service), namespace_of(service, namespace));
}
