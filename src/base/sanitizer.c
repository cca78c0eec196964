/* Settings of the sanitizers' runtimes, in sanitizer builds alone. They are part of the programs because not every
 * process has an environment or a stderr: shims have neither. ASAN_OPTIONS and its like still win. Each report becomes
 * a file reports/report.PID of the build directory, which scripts/check.sh looks for. */

#ifndef SANITIZER_LOG
#define SANITIZER_LOG ""
#endif
/* The runtimes ask before they are ready for instrumented code. */
#define ASKED_EARLY __attribute__((no_sanitize("address", "undefined", "thread"), used))

extern const char sanitizer_settings[];
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__tsan_default_options(void);
const char *__tsan_default_suppressions(void);

/* What the linker is told to want, so that this file is linked. */
const char sanitizer_settings[] = SANITIZER_LOG;

ASKED_EARLY const char *__asan_default_options(void)
{
    return SANITIZER_LOG "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1";
}

ASKED_EARLY const char *__ubsan_default_options(void)
{
    return SANITIZER_LOG "print_stacktrace=1";
}

/* die_after_fork=0: a test starts threads in the child of a fork. No program does. */
ASKED_EARLY const char *__tsan_default_options(void)
{
    return SANITIZER_LOG "second_deadlock_stack=1:die_after_fork=0";
}

/* libuv closes descriptors by bare system calls, and the runtime does not see opendir and openat: for it, whoever closes
 * what these opened closes the connection that had the number before. Only reports about a descriptor's end itself. */
ASKED_EARLY const char *__tsan_default_suppressions(void)
{
    return "race_top:^__interceptor_close$\n"
           "race_top:^__interceptor_closedir$\n";
}
