/* Roles, memberships and outcomes as texts. */
#include "consensus/consensus.h"

static const char *const role_names[] = {"starting", "follower", "candidate", "leader"};
const char *consensus_role_name(enum consensus_role role) { return role_names[role]; }

static const char *const membership_names[] = {"none", "standby", "voter"};
const char *consensus_membership_name(enum consensus_membership membership) { return membership_names[membership]; }

int consensus_outcome_error(enum consensus_outcome outcome, struct error *err)
{
    static const struct {
        enum error_code code;
        const char *text;
    } rows[] = {
        [CONSENSUS_COMMITTED] = {ERROR_NONE, ""},
        [CONSENSUS_NOT_LEADER] = {ERROR_UNAVAILABLE, "this server does not lead the cluster; nothing was changed, try again"},
        [CONSENSUS_UNKNOWN] = {ERROR_UNKNOWN_OUTCOME, "the leader changed meanwhile: the change may or may not be made; "
                               "repeat the request with the same Idempotency-Key"},
        [CONSENSUS_NO_SPACE] = {ERROR_NO_SPACE, "the server's disk is full; nothing was changed. Free some space under its "
                                "state directory"},
        [CONSENSUS_TOO_LARGE] = {ERROR_TOO_LARGE, "the change is too large for the log; nothing was changed"},
        [CONSENSUS_BUSY] = {ERROR_TOO_MANY, "too many changes are waiting; nothing was changed, try again"},
    };
    return outcome == CONSENSUS_COMMITTED ? 0 : error_set(err, rows[outcome].code, "%s", rows[outcome].text);
}
