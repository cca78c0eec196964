/* Secret: the random half of a token. Servers keep only its hash, whose guessing the secret's length forbids. */
#pragma once
#include <stdbool.h>

#define SECRET_SIZE 33          /* 128 random bits, hexadecimal, and the end of the text */
#define SECRET_HASH_SIZE 65

void secret_new(char out[static SECRET_SIZE]);
/* SHA-256, hexadecimal. */
void secret_hash(const char *secret, char out[static SECRET_HASH_SIZE]);
/* Whether the hash is the secret's; takes as long wherever they differ. */
bool secret_fits(const char *secret, const char *hash);
