#include <signal.h>

#include "cli/cli.h"

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);     /* a server that goes away is an error, not the end */
    return cli_main(argc, argv);
}
