/* The groups of tests in this program. */
#pragma once

int run_doctor_tests(void);
int run_output_tests(void);
