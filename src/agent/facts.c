#include "agent/facts.h"

#include <arpa/inet.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <uv.h>

#include "base/buf.h"
#include "base/file.h"
#include "agent/volumes.h"
#include "net/address.h"

static double count_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        return CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (double)n : 1;
}

static int64_t count_memory_mb(void)
{
    CLEANUP_BUF struct buf text = {0};
    if (file_read("/proc/meminfo", 65536, &text, NULL) == 0) {
        const char *line = strstr(text.data, "MemTotal:");
        if (line)
            return strtoll(line + strlen("MemTotal:"), NULL, 10) / 1024;
    }
    return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / (1 << 20);
}

/* What is used by others is gone; what tasks of ours use is counted as theirs, so the whole size is the base. */
static int64_t count_disk_mb(const char *path)
{
    struct statvfs st;
    if (statvfs(path, &st) < 0)
        return 0;
    return (int64_t)((uint64_t)st.f_blocks * st.f_frsize >> 20);
}

char *facts_ip(const struct agent_config *config)
{
    if (config->ip)
        return mem_strdup(config->ip);
    for (uint32_t i = 0; i < config->servers.n; i++) {
        const char *text = config->servers.v[i], *scheme = strstr(text, "://");
        struct address a;
        if (address_parse(scheme ? scheme + 3 : text, 4646, &a, NULL) < 0 || a.is_unix)
            continue;
        char *ip = address_local(address_is_local(&a) ? "127.0.0.1" : a.host, a.port);
        if (ip)
            return ip;
    }
    return mem_strdup("127.0.0.1");
}

void facts_gather(const struct agent_config *config, struct node *node)
{
    mem_set_string(&node->name, config->name);
    mem_set_string(&node->node_class, config->node_class);
    mem_set_string(&node->version, MENTAT_VERSION);
    free(node->ip);
    node->ip = facts_ip(config);
    node->cpus = (config->cpus > 0 ? config->cpus : count_cpus()) - config->reserved_cpus;
    node->memory_mb = (config->memory_mb ? config->memory_mb : count_memory_mb()) - config->reserved_memory_mb;
    node->disk_mb = config->disk_mb ? config->disk_mb : count_disk_mb(config->data_dir);
    if (node->cpus < 0)
        node->cpus = 0;
    if (node->memory_mb < 0)
        node->memory_mb = 0;
    struct utsname u;
    if (uname(&u) == 0) {
        mem_set_string(&node->arch, u.machine);
        mem_set_string(&node->kernel, u.release);
    }
    node->ingress = config->ingress;
    node->kvm = access("/dev/kvm", R_OK | W_OK) == 0;
    for (uint32_t i = 0; i < config->meta.n; i++)
        kv_set(&node->meta, config->meta.v[i].key, config->meta.v[i].value);
    node->volume_lease_ms = config->shared_volumes || volumes_shared(config->volume_root) ? config->volume_lease_ms : 0;
    volumes_list(config->volume_root, &node->volumes);
}
