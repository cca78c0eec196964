#include "join/revoked.h"

void revoked_use(struct tls_context *context, const struct revocation_list *all)
{
    struct tls_revocation *list = mem_array(all->n + 1u, sizeof *list);
    for (uint32_t i = 0; i < all->n; i++)
        list[i] = (struct tls_revocation){mem_printf("DNS:%s.mentat", all->v[i].name), all->v[i].before};
    tls_context_revoke(context, list, all->n);
    for (uint32_t i = 0; i < all->n; i++)
        free((char *)(uintptr_t)list[i].name);
    free(list);
}
