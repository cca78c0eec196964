/* Volumes: what lies below the node's volume root, and whose it is: block images of microVMs, directories of all others. A file
 * beside each says that, so an agent that lost its own store, or a node that comes back to the cluster, still knows. Blocking. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "model/model.h"

#define VOLUME_IMAGE "volume.ext4"   /* in the volume's directory of the replica */

/* Other hosts may have the same files: the root, or what of it there is, lies on a file system of a network. */
bool volumes_shared(const char *root);
/* Appends the volumes of the root, by name. Looks at ROOT/A and ROOT/A/B, no deeper; of a directory's files, at the first
 * VOLUME_FILES_MAX. */
#define VOLUME_FILES_MAX 20000
void volumes_list(const char *root, struct node_volume_list *out);
/* Refuses the image, or the directory, when it or a directory that it is in is of a service of another namespace, also by a
 * symbolic link. */
int volume_is_for(const char *image, const char *service, struct error *err);
int volume_directory_is_for(const char *dir, const char *service, struct error *err);
/* Says whose the image, or the directory, is: the file is written when it says something else. That of a directory stands beside
 * it, where its user cannot reach it. */
int volume_own(const char *image, const char *service, int64_t replica, struct error *err);
int volume_own_directory(const char *dir, const char *service, int64_t replica, struct error *err);

/* ROOT/NAME, which the caller frees, when name is one that volumes_list could give; else NULL with ERROR_INVALID. */
char *volume_path(const char *root, const char *name, struct error *err);
/* Deletes the data of the volume, which belongs to `want` (name, service, replica: else ERROR_CONFLICT). An image is gone at
 * once, and not while a process has it open to write. A directory is set aside as NAME VOLUME_LEFTOVER, which is a volume of
 * its own until volume_delete_rest has deleted it: *rest, the caller's; NULL: there is none. */
int volume_delete(const char *root, const struct node_volume *want, char **rest, struct error *err);
int volume_delete_rest(const char *rest, struct error *err);
/* Makes an image, which belongs to want->service and replica, of size_mb: ERROR_EXISTS when there is a volume, ERROR_NO_SPACE
 * when the disk has less left. */
int volume_create(const char *root, const struct node_volume *want, struct error *err);
