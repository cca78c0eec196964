#include "cli/doctor/checks.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *const verdict_names[] = {"ok", "skipped", "warning", "failed", NULL};

/* Failed: something does not work here. Warning: it works, on less than the reference profile or less safely. */
const struct check doctor_checks[] = {
    {"os", "Ubuntu 24.04 or Debian 12",
     "others may do; these two are what Mentat is tested on", doctor_os},
    {"kernel", "Linux 5.10 or later",
     "install a newer kernel and restart the host", doctor_kernel},
    {"cgroup", "cgroup v2 with cpu, memory and pids",
     "boot without systemd.unified_cgroup_hierarchy=0, and without cgroup_disable= of one of these", doctor_cgroup},
    {"cpu", TEXT(REFERENCE_CPUS) " processors, x86_64",
     "give the host more processors; fewer only hold fewer tasks", doctor_cpu},
    {"virtualization", "VT-x or AMD-V",
     "switch it on in the firmware, or on a virtual machine ask its provider for nested virtualisation; a host "
     "that is to run no microVMs has drivers without firecracker in agent.yaml", doctor_virtualization},
    {"kvm", "/dev/kvm, usable by the runtime user",
     "load kvm_intel or kvm_amd, and put the user into the group of /dev/kvm: usermod -aG kvm mentat; a host that is to run no "
     "microVMs has drivers without firecracker in agent.yaml", doctor_kvm},
    {"memory", TEXT(REFERENCE_MEMORY_GB) " GB",
     "give the host more memory; less only holds fewer tasks", doctor_memory},
    {"memory-sharing", "no swap, no same-page merging",
     "swapoff -a and its lines out of /etc/fstab; echo 0 > /sys/kernel/mm/ksm/run: memory of one tenant is else read by way "
     "of another, or from the disk", doctor_memory_sharing},
    {"mitigations", "no known hole of the processor open",
     "install the processor's microcode package and boot without mitigations=off", doctor_mitigations},
    {"boot-disk", TEXT(REFERENCE_BOOT_DISK_GB) " GB SSD, a tenth of it free",
     "make room, or give the host a larger or faster disk", doctor_boot_disk},
    {"data-disk", TEXT(REFERENCE_DATA_DISK_GB) " GB SSD of its own with ext4 or xfs, a tenth of it free",
     "mount an SSD of its own at /mnt/unikernel-volumes, by its UUID in /etc/fstab; a smaller or slower one does, with less",
     doctor_data_disk},
    {"layout", "the directories and programs of the reference setup",
     "run install.sh, or install the package", doctor_layout},
    {"config", "server.yaml and agent.yaml can be read",
     "correct the file", doctor_config},
    {"certificates", "certificates of this server and agent that the others will believe",
     "without tls_cert the cluster gives them: see the log of the program; else put new files in their place", doctor_certificates},
    {"docker", "Docker " REFERENCE_DOCKER ", at least 20.10, usable by the runtime user",
     "install Docker and start it, and put the user into its group: usermod -aG docker mentat", doctor_docker},
    {"firecracker", "Firecracker " REFERENCE_FIRECRACKER " with its jailer, a kernel for guests, and the tools of images, volumes and networks",
     "put firecracker and jailer v" REFERENCE_FIRECRACKER " into /usr/local/bin, and a kernel where agent.yaml says "
     "(firecracker.kernel); apt install squashfs-tools e2fsprogs nftables. Or leave firecracker out of drivers in agent.yaml",
     doctor_firecracker},
    {"haproxy", "HAProxy 2.6 or later and uacme, on nodes with ingress: true",
     "apt install haproxy uacme, which makes its user too; the service haproxy stays off, the agent runs it", doctor_haproxy},
    {"ports", "4646, 4647 and 4648 free, or Mentat's; with ingress 80 and 443 too",
     "stop the other program, or give Mentat another port in its configuration", doctor_ports},
    {"peers", "4646, 4647 and 4648 of the other hosts can be reached, and prove that they are of this cluster",
     "open these ports between the hosts, in the firewalls of both and of the network", doctor_peers},
    {"vm-network", "no network of this host is among the addresses of microVMs",
     "set network.range in server.yaml of all servers to a network that no host is in", doctor_vm_network},
    {"clock", "synchronised",
     "install and start chrony or systemd-timesyncd", doctor_clock},
    {"entropy", "256 bits",
     "give a virtual machine a virtio-rng device", doctor_entropy},
    {0},
};

void find(struct finding *f, enum verdict verdict, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    CLEANUP_FREE char *text = NULL;
    INVARIANT(vasprintf(&text, fmt, ap) >= 0);
    va_end(ap);
    if (f->found.len)
        buf_add_string(&f->found, "; ");
    buf_add_string(&f->found, text);
    if (verdict > f->verdict)
        f->verdict = verdict;
}

void find_mend(struct finding *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    free(f->mend);
    INVARIANT(vasprintf(&f->mend, fmt, ap) >= 0);
    va_end(ap);
}

void finding_clear(struct finding *f)
{
    buf_free(&f->found);
    free(f->mend);
    *f = (struct finding){0};
}

bool version_read(const char *text, struct version *out)
{
    for (const char *s = text; *s; s++) {
        *out = (struct version){0};
        bool begins = isdigit((unsigned char)*s) && (s == text || !isdigit((unsigned char)s[-1]));
        if (begins && sscanf(s, "%u.%u.%u", &out->major, &out->minor, &out->patch) >= 2)
            return true;
    }
    return false;
}

int version_compare(struct version a, struct version b)
{
    if (a.major != b.major)
        return a.major < b.major ? -1 : 1;
    if (a.minor != b.minor)
        return a.minor < b.minor ? -1 : 1;
    return a.patch < b.patch ? -1 : a.patch > b.patch;
}
