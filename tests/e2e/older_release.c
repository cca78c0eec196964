/* Linked into a server that stands for an earlier release: it knows no command of the newest level, and says so. */
#include "core/command.h"

const int64_t command_level = COMMAND_LEVEL - 1;
const char *const command_release = "0.0.9";
