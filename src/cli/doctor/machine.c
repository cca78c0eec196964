/* Checks of the machine and its kernel. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "base/text.h"
#include "cli/doctor/checks.h"

static void cut_line(struct buf *text)
{
    text->data[strcspn(text->data, "\n")] = '\0';
}

/* A value of os-release, without its quotes; the caller's. */
static char *os_field(const char *text, const char *key)
{
    size_t len = strlen(key);
    for (const char *s = text; s; s = strchr(s, '\n') ? strchr(s, '\n') + 1 : NULL)
        if (!strncmp(s, key, len) && s[len] == '=') {
            s += len + 1;
            s += *s == '"';
            return mem_strndup(s, strcspn(s, "\"\n"));
        }
    return mem_strdup("");
}

void doctor_os(const struct host *h, struct finding *f)
{
    static const struct { const char *id, *version; } tested[] = {{"ubuntu", "24.04"}, {"debian", "12"}};
    CLEANUP_BUF struct buf text = {0};
    if (!host_read(h, "/etc/os-release", &text) && !host_read(h, "/usr/lib/os-release", &text)) {
        find(f, VERDICT_WARNING, "there is no /etc/os-release");
        return;
    }
    CLEANUP_FREE char *name = os_field(text.data, "PRETTY_NAME");
    CLEANUP_FREE char *id = os_field(text.data, "ID");
    CLEANUP_FREE char *version = os_field(text.data, "VERSION_ID");
    bool known = false;
    for (size_t i = 0; i < ARRAY_LEN(tested); i++)
        known |= !strcmp(tested[i].id, id) && !strcmp(tested[i].version, version);
    find(f, known ? VERDICT_OK : VERDICT_WARNING, "%s", *name ? name : "a system without a name");
}

void doctor_kernel(const struct host *h, struct finding *f)
{
    static const struct version wanted = {5, 10, 0}, least = {5, 3, 0};
    CLEANUP_BUF struct buf text = {0};
    struct version v;
    host_read(h, "/proc/sys/kernel/osrelease", &text);
    cut_line(&text);
    if (!version_read(text.data, &v))
        find(f, VERDICT_WARNING, "its release is not known");
    else if (version_compare(v, least) < 0)
        find(f, VERDICT_FAILED, "%s, which has no process descriptors", text.data);
    else
        find(f, version_compare(v, wanted) < 0 ? VERDICT_WARNING : VERDICT_OK, "%s", text.data);
}

/* Whether the word is one of those in the text, between blanks or line ends. */
static bool has_word(const char *text, const char *word)
{
    size_t len = strlen(word);
    for (const char *s = text; (s = strstr(s, word)); s += len) {
        bool begins = s == text || strchr(" \t\n", s[-1]), ends = strchr(" \t\n", s[len]);
        if (begins && ends)
            return true;
    }
    return false;
}

void doctor_cgroup(const struct host *h, struct finding *f)
{
    static const char *const controllers[] = {"cpu", "memory", "pids"};
    CLEANUP_BUF struct buf text = {0};
    if (host_read(h, "/sys/fs/cgroup/cgroup.controllers", &text)) {
        find(f, VERDICT_OK, "cgroup v2");
        for (size_t i = 0; i < ARRAY_LEN(controllers); i++)
            if (!has_word(text.data, controllers[i]))
                find(f, VERDICT_FAILED, "the controller %s is missing", controllers[i]);
    } else if (host_exists(h, "/sys/fs/cgroup/memory") && host_exists(h, "/sys/fs/cgroup/cpu")) {
        find(f, VERDICT_WARNING, "cgroup v1");
    } else {
        find(f, VERDICT_FAILED, "no control groups at /sys/fs/cgroup: limits of tasks would not work");
    }
}

static int count_lines(const char *text, const char *prefix)
{
    int n = 0;
    for (const char *s = text; s; s = strchr(s, '\n') ? strchr(s, '\n') + 1 : NULL)
        n += text_has_prefix(s, prefix);
    return n;
}

/* The flags line of the first processor; "" when there is none. */
static char *cpu_flags(const struct host *h)
{
    CLEANUP_BUF struct buf text = {0};
    host_read(h, "/proc/cpuinfo", &text);
    const char *line = strstr(text.data, "\nflags");
    return line ? mem_strndup(line + 1, strcspn(line + 1, "\n")) : mem_strdup("");
}

void doctor_cpu(const struct host *h, struct finding *f)
{
    CLEANUP_BUF struct buf text = {0};
    CLEANUP_FREE char *flags = cpu_flags(h);
    host_read(h, "/proc/cpuinfo", &text);
    int n = count_lines(text.data, "processor\t");
    if (!has_word(flags, "lm"))
        find(f, VERDICT_FAILED, "not x86_64");
    else
        find(f, n < REFERENCE_CPUS ? VERDICT_WARNING : VERDICT_OK, "%d processor%s, x86_64", n, n == 1 ? "" : "s");
}

static bool needs_no_kvm(const struct host *h, struct finding *f)
{
    if (host_offers_driver(h, "firecracker"))
        return false;
    find(f, VERDICT_SKIPPED, "drivers in agent.yaml are without firecracker");
    return true;
}

void doctor_virtualization(const struct host *h, struct finding *f)
{
    CLEANUP_FREE char *flags = cpu_flags(h);
    if (needs_no_kvm(h, f))
        return;
    if (has_word(flags, "vmx"))
        find(f, VERDICT_OK, "VT-x%s", has_word(flags, "hypervisor") ? ", nested" : "");
    else if (has_word(flags, "svm"))
        find(f, VERDICT_OK, "AMD-V%s", has_word(flags, "hypervisor") ? ", nested" : "");
    else
        find(f, VERDICT_FAILED, "neither VT-x nor AMD-V, so no microVM can run here");
}

/* Whether the device answers as KVM; true where we may not ask. */
static bool kvm_answers(const struct host *h, struct finding *f)
{
    int fd = host_is_this(h) ? open("/dev/kvm", O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0 && host_is_this(h) && errno != EACCES && errno != EPERM) {
        find(f, VERDICT_FAILED, "/dev/kvm cannot be opened: %s", strerror(errno));
        return false;
    }
    int version = fd >= 0 ? ioctl(fd, KVM_GET_API_VERSION, 0) : KVM_API_VERSION;
    if (fd >= 0)
        close(fd);
    if (version != KVM_API_VERSION)
        find(f, VERDICT_FAILED, "/dev/kvm is not a KVM that is known (API version %d)", version);
    return version == KVM_API_VERSION;
}

void doctor_kvm(const struct host *h, struct finding *f)
{
    if (needs_no_kvm(h, f))
        return;
    if (!host_exists(h, "/dev/kvm")) {
        find(f, VERDICT_FAILED, "there is no /dev/kvm");
        return;
    }
    if (!kvm_answers(h, f))
        return;
    find(f, VERDICT_OK, "/dev/kvm is there");
    if (!host_find_user(h, h->user).exists) {
        find(f, VERDICT_WARNING, "there is no user %s yet", h->user);
        find_mend(f, "install.sh and the package make the user mentat; --user names another one");
    } else if (host_user_may_use(h, h->user, "/dev/kvm")) {
        find(f, VERDICT_OK, "%s may use it", h->user);
    } else {
        find(f, VERDICT_FAILED, "%s may not read and write it", h->user);
        find_mend(f, "usermod -aG kvm %s, and see that /dev/kvm is of that group with mode 0660", h->user);
    }
}

void doctor_memory(const struct host *h, struct finding *f)
{
    CLEANUP_BUF struct buf text = {0};
    host_read(h, "/proc/meminfo", &text);
    const char *line = strstr(text.data, "MemTotal:");
    int64_t mb = line ? strtoll(line + strlen("MemTotal:"), NULL, 10) / 1024 : 0;
    /* Firmware and kernel keep some of what was bought. */
    int64_t wanted = REFERENCE_MEMORY_GB * 1024 * 9 / 10;
    find(f, mb < 512 ? VERDICT_FAILED : mb < wanted ? VERDICT_WARNING : VERDICT_OK, "%.1f GB", (double)mb / 1024);
}

void doctor_memory_sharing(const struct host *h, struct finding *f)
{
    CLEANUP_BUF struct buf text = {0};
    host_read(h, "/proc/swaps", &text);
    const char *first = strchr(text.data, '\n');
    bool swap = first && first[1];
    if (swap)
        find(f, VERDICT_WARNING, "swap on %.*s", (int)strcspn(first + 1, " \t\n"), first + 1);
    if (host_number(h, "/sys/kernel/mm/ksm/run", 0) == 1)
        find(f, VERDICT_WARNING, "same-page merging is on");
    if (f->verdict == VERDICT_OK)
        find(f, VERDICT_OK, "neither swap nor same-page merging");
}

#define VULNERABILITIES "/sys/devices/system/cpu/vulnerabilities"

void doctor_mitigations(const struct host *h, struct finding *f)
{
    CLEANUP_FREE char *path = host_path(h, VULNERABILITIES);
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort);
    if (n < 0) {
        find(f, VERDICT_SKIPPED, "the kernel does not say");
        return;
    }
    for (int i = 0; i < n; i++) {
        CLEANUP_BUF struct buf text = {0};
        CLEANUP_FREE char *file = mem_printf(VULNERABILITIES "/%s", names[i]->d_name);
        if (names[i]->d_name[0] != '.' && host_read(h, file, &text) && text_has_prefix(text.data, "Vulnerable"))
            find(f, VERDICT_WARNING, "open: %s", names[i]->d_name);
        free(names[i]);
    }
    free(names);
    if (f->verdict == VERDICT_OK)
        find(f, VERDICT_OK, "none is open");
    if (host_number(h, "/sys/devices/system/cpu/smt/active", 0) == 1)
        find(f, VERDICT_OK, "threads share cores");
}

void judge_clock(int state, int status, long error_us, struct finding *f)
{
    if (state < 0)
        find(f, VERDICT_SKIPPED, "the kernel does not say");
    else if (state == TIME_ERROR || status & STA_UNSYNC)
        find(f, VERDICT_WARNING, "not synchronised");
    else
        find(f, VERDICT_OK, "synchronised, at most %ld ms off", error_us / 1000);
}

void doctor_clock(const struct host *h, struct finding *f)
{
    struct timex t = {0};
    if (host_is_this(h)) {
        int state = adjtimex(&t);
        judge_clock(state, t.status, t.maxerror, f);
    } else {
        find(f, VERDICT_SKIPPED, "files do not show it");
    }
}

void doctor_entropy(const struct host *h, struct finding *f)
{
    int64_t bits = host_number(h, "/proc/sys/kernel/random/entropy_avail", -1);
    if (bits < 0)
        find(f, VERDICT_SKIPPED, "the kernel does not say");
    else
        find(f, bits < 256 ? VERDICT_WARNING : VERDICT_OK, "%lld bits", (long long)bits);
}
