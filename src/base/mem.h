/* Memory: an allocator that never fails, scope cleanup, visible handing over of ownership. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* These never return NULL: out of memory ends the process with a message. Everything that comes from outside
 * has a limit long before that. What they return is freed with free(). */
void *mem_alloc(size_t size);                       /* zeroed */
void *mem_realloc(void *p, size_t size);            /* new bytes are not zeroed */
void *mem_array(size_t n, size_t size);             /* zeroed; aborts when n * size overflows */
void *mem_realloc_array(void *p, size_t n, size_t size);
void *mem_dup(const void *p, size_t size);
char *mem_strdup(const char *s);                    /* NULL gives NULL */
char *mem_strndup(const char *s, size_t n);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* NEW(type): one zeroed object. */
#define NEW(type) ((type *)mem_alloc(sizeof(type)))

/* Replaces *slot (freed) by a copy of s. */
void mem_set_string(char **slot, const char *s);

/* CLEANUP(f) T *x = NULL; calls f##_cleanup(&x) when x leaves its scope. Declare the cleanup function beside the
 * type's free function with DEFINE_CLEANUP. libuv handles never use it: the loop owns them until they are closed. */
#define CLEANUP(f) __attribute__((cleanup(f##_cleanup)))
#define DEFINE_CLEANUP(f, type) \
    static inline void f##_cleanup(type **p) { if (*p) f(*p); }

static inline void mem_free_cleanup(void *p) { free(*(void **)p); }
#define CLEANUP_FREE __attribute__((cleanup(mem_free_cleanup)))

/* Hands over what *p points to: returns it and clears *p, so that a cleanup does nothing. */
#define steal(p) ({ __typeof__(*(p)) steal_value = *(p); *(p) = NULL; steal_value; })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))
