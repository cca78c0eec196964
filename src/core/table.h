/* Table: the rows of one type of the core's own records; their tags stand in logs and snapshots. */
#pragma once
#include "model/table.h"

#define ROWS(T, ...) static const struct field T##_rows[] = {__VA_ARGS__, {.name = NULL}}
