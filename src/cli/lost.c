#include "cli/lost.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/api.h"

#define RETRY_MS 300

static bool passes(enum error_code code)
{
    return code == ERROR_UNAVAILABLE || code == ERROR_UNKNOWN_OUTCOME || code == ERROR_TIMEOUT || code == ERROR_TOO_MANY;
}

static void say(const struct cli *cli, const char *text, const char *rest)
{
    if (cli->quiet)
        return;
    CLEANUP_FREE char *tame = mem_strdup(text);
    text_tame(tame, true);
    fflush(stdout);
    fprintf(stderr, "mt: %s%s\n", tame, rest);
}

bool lost_note(struct lost *l, struct cli *cli, const struct error *err)
{
    if (!passes(err->code))
        return false;
    if (!l->told)
        say(cli, err->text, "; going on when a server answers (Ctrl-C ends this)");
    l->told = true;
    api_turn_to_next(cli->api);
    return true;
}

bool lost_wait(struct lost *l, struct cli *cli, const struct error *err)
{
    if (!lost_note(l, cli, err))
        return false;
    usleep(RETRY_MS * 1000);
    return true;
}

void lost_over(struct lost *l, struct cli *cli)
{
    if (l->told)
        say(cli, api_address(cli->api), " answers; going on");
    l->told = false;
}
