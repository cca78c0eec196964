/* The groups of tests in this program; each returns the number that failed. */
#pragma once

int run_task_tests(void);
int run_adopt_tests(void);
int run_limit_tests(void);
int run_session_tests(void);
int run_log_tests(void);
int run_health_tests(void);
