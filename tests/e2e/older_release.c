/* Linked into a server that stands for an earlier release: it knows no commands of the level that brought roles, and says so. */
#include "core/command.h"

const int64_t command_level = 2;
const char *const command_release = "0.0.9";
