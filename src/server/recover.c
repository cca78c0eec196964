/* mentat-server recover: what to do when a majority of the servers is gone for good. See docs/cluster.md. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "consensus/consensus.h"
#include "server/addresses.h"
#include "server/server.h"

static void report(const struct server_config *config, const struct consensus_directory *d)
{
    printf("%s: server %" PRIu64 " of cluster %" PRIu64 ", %s\n"
           "last term %" PRIu64 ", last index %" PRIu64 ", snapshot at %" PRIu64 ", %zu voters\n",
           config->data_dir, d->server_id, d->cluster_id, consensus_membership_name(d->self), d->last_term, d->last_index,
           d->snapshot_index, d->voters);
}

int server_recover(const struct server_config *config, bool really, struct error *err)
{
    struct consensus_directory d;
    struct server_addresses addresses = {0};
    if (consensus_inspect(config->data_dir, &d, err))
        return -1;
    if (!d.server_id)
        return error_set(err, ERROR_NOT_FOUND, "%s holds no state of a server", config->data_dir);
    report(config, &d);
    if (!really) {
        printf("\nNothing was changed. Compare this with the other servers that are left: recover only the one with the highest "
               "last term and,\nof these, the highest last index, with --yes. The others must never start again on their "
               "directories.\n");
        return 0;
    }
    if (server_addresses_find(config, (int)config->port, &addresses, err))
        return -1;
    int rc = consensus_recover(config->data_dir, addresses.raft, err);
    if (!rc)
        printf("\nThis server is the only one of its cluster now, at %s. Start it, then let new servers join.\n", addresses.raft);
    server_addresses_clear(&addresses);
    return rc;
}
