/* Memory: what nobody is to read of a program that holds keys. */
#pragma once

/* No core dump, and no debugger but root's. Programs that it starts are as any other. Nothing in a sanitizer's build. */
void memory_hide(void);
