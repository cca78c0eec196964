/* Doctor's checks: what the reference profile wants of a host, a row for each line of it. */
#pragma once
#include "cli/doctor/host.h"

enum verdict { VERDICT_OK, VERDICT_SKIPPED, VERDICT_WARNING, VERDICT_FAILED };
extern const char *const verdict_names[];   /* "ok", "skipped", "warning", "failed" */

struct finding {
    enum verdict verdict;
    struct buf found;            /* plain words */
    char *mend;                  /* what helps here, when it is another thing than the row says; NULL */
};

struct check {
    const char *name;
    const char *wanted;
    const char *mend;            /* what to do when it is not so */
    void (*run)(const struct host *h, struct finding *f);
};
extern const struct check doctor_checks[];   /* ended by a row without name */

/* Adds to what was found; the worst verdict stays. */
void find(struct finding *f, enum verdict verdict, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void find_mend(struct finding *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void finding_clear(struct finding *f);

/* The first number of the form A.B.C or A.B in the text; parts that are not there are 0. */
struct version { unsigned major, minor, patch; };
bool version_read(const char *text, struct version *out);
int version_compare(struct version a, struct version b);

/* The clock by what the kernel says of it (adjtimex). */
void judge_clock(int state, int status, long error_us, struct finding *f);

/* The reference profile in numbers. GB as makers of disks count. */
#define REFERENCE_CPUS 8
#define REFERENCE_MEMORY_GB 32
#define REFERENCE_BOOT_DISK_GB 150
#define REFERENCE_DATA_DISK_GB 512
#define REFERENCE_FIRECRACKER "1.7.0"
#define REFERENCE_DOCKER "28.2.2"

/* --- the rows' functions, by file --- */
/* machine.c */
void doctor_os(const struct host *h, struct finding *f);
void doctor_kernel(const struct host *h, struct finding *f);
void doctor_cgroup(const struct host *h, struct finding *f);
void doctor_cpu(const struct host *h, struct finding *f);
void doctor_virtualization(const struct host *h, struct finding *f);
void doctor_kvm(const struct host *h, struct finding *f);
void doctor_memory(const struct host *h, struct finding *f);
void doctor_memory_sharing(const struct host *h, struct finding *f);
void doctor_mitigations(const struct host *h, struct finding *f);
void doctor_clock(const struct host *h, struct finding *f);
void doctor_entropy(const struct host *h, struct finding *f);
/* disks.c */
void doctor_boot_disk(const struct host *h, struct finding *f);
void doctor_data_disk(const struct host *h, struct finding *f);
void doctor_layout(const struct host *h, struct finding *f);
/* programs.c */
void doctor_config(const struct host *h, struct finding *f);
void doctor_docker(const struct host *h, struct finding *f);
void doctor_firecracker(const struct host *h, struct finding *f);
void doctor_haproxy(const struct host *h, struct finding *f);
/* certificates.c */
void doctor_certificates(const struct host *h, struct finding *f);
/* network.c */
void doctor_ports(const struct host *h, struct finding *f);
void doctor_peers(const struct host *h, struct finding *f);
void doctor_vm_network(const struct host *h, struct finding *f);
