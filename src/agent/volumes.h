/* Volumes: the block images below the node's volume root, and whose they are. Beside each image stands a file that says
 * that, so an agent that lost its own store, or a node that comes back to the cluster, still knows. Blocking. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "model/model.h"

#define VOLUME_IMAGE "volume.ext4"   /* in the volume's directory of the replica */

/* Other hosts may have the same files: the root, or what of it there is, lies on a file system of a network. */
bool volumes_shared(const char *root);
/* Appends the volumes of the root, by name. Looks at ROOT/A and ROOT/A/B, no deeper. */
void volumes_list(const char *root, struct node_volume_list *out);
/* Says whose the image is: the file is written when it says something else. */
int volume_own(const char *image, const char *service, int64_t replica, struct error *err);
