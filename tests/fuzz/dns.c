/* DNS: any bytes are a query, or none; what is answered is not longer than asked for, and answers that query. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "agent/dns_names.h"

static void table_make(struct agent_network *t)
{
    struct network_service *s = list_add_zero((struct list *)&t->services, &network_service_type);
    s->name = mem_strdup("web");
    s->job = mem_strdup("a");
    for (int i = 0; i < 60; i++) {
        struct network_replica *r = list_add_zero((struct list *)&s->replicas, &network_replica_type);
        *r = (struct network_replica){.replica = i, .ip = mem_strdup("192.0.2.1"), .address = mem_strdup("10.64.0.2"), .serves = i % 2};
        struct alloc_port *p = list_add_zero((struct list *)&r->ports, &alloc_port_type);
        *p = (struct alloc_port){.name = mem_strdup("p"), .port = 80, .host = 20000};
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct agent_network table;
    struct dns_query q;
    struct dns_answer a;
    if (!table.services.n)
        table_make(&table);
    int code = dns_query_read(data, size, &q);
    if (code < 0)
        return 0;
    if (q.end > size || strlen(q.name) >= DNS_NAME_SIZE || q.size < DNS_UDP_SIZE || q.size > DNS_UDP_MOST)
        abort();
    uint8_t *out = malloc(q.size);   /* of just that size, so that a sanitizer sees what goes beyond */
    if (code == DNS_OK)
        code = (int)dns_names_code(&table, "a", &q);
    dns_answer_begin(&a, out, q.size, data, &q, (enum dns_code)code, true);
    if (code == DNS_OK)
        dns_names_answer(&table, "a", &q, &a);
    size_t n = dns_answer_end(&a, &q);
    if (n > q.size || (code == DNS_OK && !dns_answers(out, n, data, size)))
        abort();
    dns_answers(data, size, out, n);
    free(out);
    return 0;
}
