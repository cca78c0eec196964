#include <signal.h>

#include "cli/cli.h"
#include "sandbox/memory.h"
#include "sandbox/syscalls.h"

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);     /* a server that goes away is an error, not the end */
    memory_hide();
    return cli_main(argc, argv, syscalls_restrict);
}
