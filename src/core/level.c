#include "core/command.h"

const int64_t command_level = COMMAND_LEVEL;
const char *const command_release = MENTAT_VERSION;
