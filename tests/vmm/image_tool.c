/* vm_image_get as a program, for vm_images.py: image-tool DIR ROOT MAX_MB SOURCE prints what came out of it as lines
 * "key value", or says why nothing did and ends with 1. */
#include <stdio.h>
#include <stdlib.h>

#include "agent/vm_image.h"
#include "base/log.h"

static void print_list(const char *key, const struct str_list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        printf("%s %s\n", key, l->v[i]);
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    log_init("image-tool", LOG_ERROR);
    struct str_list roots = {0};
    struct vm_image image;
    struct error err = {0};
    str_list_add(&roots, argv[2]);
    struct vm_images *images = vm_images_open(argv[1], &roots, atoll(argv[3]));
    int result = vm_image_get(images, argv[4], &image, &err);
    if (result < 0) {
        fprintf(stderr, "%s\n", err.text);
    } else {
        printf("path %s\ntype %s\n", image.path, image.type);
        print_list("entrypoint", &image.entrypoint);
        print_list("command", &image.command);
        print_list("env", &image.env);
        if (image.user)
            printf("user %s\n", image.user);
        if (image.workdir)
            printf("workdir %s\n", image.workdir);
        vm_image_clear(&image);
    }
    vm_images_collect(images, 3600000);
    vm_images_close(images);
    str_list_clear(&roots);
    return result < 0 ? 1 : 0;
}
