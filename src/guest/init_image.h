/* The program mentat-init, a static ELF file, in the agent's own memory. */
#pragma once

extern const char guest_init_begin[], guest_init_end[];
