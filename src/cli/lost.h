/* Lost: for commands that go on until their user ends them. When servers do not answer, or the one that is asked has no
 * leader, they say so once, turn to the next address, and go on when one answers. */
#pragma once
#include "base/error.h"
#include "cli/cli.h"

/* Zeroed: all is well. */
struct lost {
    bool told;
};
/* True: it may pass, and the next request goes to the next address, after a pause. False: err is of another kind. */
bool lost_wait(struct lost *l, struct cli *cli, const struct error *err);
/* The same without the pause, for callers that wait themselves. */
bool lost_note(struct lost *l, struct cli *cli, const struct error *err);
/* Something was answered. */
void lost_over(struct lost *l, struct cli *cli);
