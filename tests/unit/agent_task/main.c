/* The driver starts its shims from /proc/self/exe, so this program is also the shim. */
#include "agent/shim.h"
#include "groups.h"

int main(int argc, char **argv)
{
    if (shim_wanted(argc, argv))
        return shim_main();
    int failed = run_task_tests() + run_adopt_tests() + run_limit_tests() + run_session_tests() + run_log_tests()
        + run_health_tests();
    return failed ? 1 : 0;
}
