#include "agent/ingress/certificates.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/ingress/render.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"

#define FOLDER "certificates"
#define FILE_MAX 15000               /* the proxy takes it as one command while it runs */

/* --- one --- */

static void add_hosts(X509 *cert, struct str_list *hosts)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS)
            continue;
        CLEANUP_FREE char *host = mem_strndup((const char *)ASN1_STRING_get0_data(name->d.dNSName),
                                              (size_t)ASN1_STRING_length(name->d.dNSName));
        for (char *p = host; *p; p++)
            *p = (char)tolower((unsigned char)*p);
        str_list_add(hosts, host);
    }
    GENERAL_NAMES_free(names);
}

static int64_t time_ms(const ASN1_TIME *t)
{
    struct tm tm;
    if (ASN1_TIME_to_tm(t, &tm) != 1)
        return 0;
    return (int64_t)timegm(&tm) * 1000;
}

static int refuse_password(char *buf, int size, int writing, void *arg)
{
    return -1;
}

int certificate_parse(const char *pem, struct certificate *out, struct error *err)
{
    BIO *text = BIO_new_mem_buf(pem, -1), *again = BIO_new_mem_buf(pem, -1);
    X509 *cert = PEM_read_bio_X509(text, NULL, refuse_password, NULL);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(again, NULL, refuse_password, NULL);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int rc = 0;
    if (!cert)
        rc = error_set(err, ERROR_INVALID, "it holds no certificate");
    else if (!key)
        rc = error_set(err, ERROR_INVALID, "it holds no key, or one with a password");
    else if (X509_check_private_key(cert, key) != 1)
        rc = error_set(err, ERROR_INVALID, "its key is not that of its first certificate");
    else if (X509_digest(cert, EVP_sha1(), digest, &n) != 1 || n * 2 + 1 != FINGERPRINT_SIZE)
        rc = error_set(err, ERROR_SYSTEM, "its fingerprint cannot be made");
    for (unsigned i = 0; rc == 0 && i < n; i++)
        snprintf(out->fingerprint + 2 * i, 3, "%02X", digest[i]);
    if (rc == 0) {
        add_hosts(cert, &out->hosts);
        out->begins_at = time_ms(X509_get0_notBefore(cert));
        out->expires_at = time_ms(X509_get0_notAfter(cert));
        out->pem = mem_strdup(pem);
    }
    EVP_PKEY_free(key);
    X509_free(cert);
    BIO_free(text);
    BIO_free(again);
    return rc;
}

/* --- reading --- */

static bool name_ok(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && n < 200 && name[0] != '.' && !strcmp(name + n - 4, ".pem") &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._@+")] == '\0';
}

static bool has(const struct certificate_list *l, const char *name)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i].name + sizeof FOLDER, name))
            return true;
    return false;
}

static void read_one(const char *directory, const char *name, struct certificate_list *out)
{
    struct error err;
    CLEANUP_FREE char *path = mem_printf("%s/%s", directory, name);
    CLEANUP_BUF struct buf pem = {0};
    struct certificate c = {0};
    if (file_read(path, FILE_MAX, &pem, &err) < 0 || certificate_parse(pem.data, &c, &err) < 0) {
        CLEANUP_FREE char *problem = mem_printf("%s: %s", path, err.text);
        str_list_add(&out->problems, problem);
        return;
    }
    c.name = mem_printf(FOLDER "/%s", name);
    out->v = mem_realloc_array(out->v, out->n + 1, sizeof *out->v);
    out->v[out->n++] = c;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

void certificates_read(const char *const *directories, size_t n, struct certificate_list *out)
{
    for (size_t i = 0; i < n; i++) {
        struct dirent **entries = NULL;
        int count = scandir(directories[i], &entries, NULL, by_name);
        for (int k = 0; k < count; k++) {
            if (name_ok(entries[k]->d_name) && !has(out, entries[k]->d_name) && out->n < CERTIFICATES_MAX)
                read_one(directories[i], entries[k]->d_name, out);
            free(entries[k]);
        }
        free(entries);
    }
}

void certificate_clear(struct certificate *c)
{
    free(c->name);
    if (c->pem)
        explicit_bzero(c->pem, strlen(c->pem));
    free(c->pem);
    str_list_clear(&c->hosts);
}

void certificates_clear(struct certificate_list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        certificate_clear(&l->v[i]);
    free(l->v);
    str_list_clear(&l->problems);
    *l = (struct certificate_list){0};
}

bool certificates_cover(const struct certificate_list *l, const char *host)
{
    const char *rest = strchr(host, '.');
    for (uint32_t i = 0; i < l->n; i++)
        for (uint32_t k = 0; k < l->v[i].hosts.n; k++) {
            const char *name = l->v[i].hosts.v[k];
            if (!strcmp(name, host) || (text_has_prefix(name, "*.") && rest && !strcmp(name + 1, rest)))
                return true;
        }
    return false;
}

/* --- copies --- */

static int put_changed(const char *path, const char *text, struct error *err)
{
    CLEANUP_BUF struct buf now = {0};
    if (file_read(path, FILE_MAX * 10, &now, NULL) == 0 && !strcmp(now.data, text))
        return 0;
    return file_write(path, text, strlen(text), 0600, err);
}

static void remove_others(const char *folder, const struct certificate_list *l)
{
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (name_ok(e->d_name) && !has(l, e->d_name))
            unlinkat(dirfd(dir), e->d_name, 0);
    if (dir)
        closedir(dir);
}

int certificates_write(const char *directory, const char *fallback, const struct certificate_list *l, struct error *err)
{
    CLEANUP_FREE char *folder = mem_printf("%s/" FOLDER, directory);
    CLEANUP_FREE char *list_path = mem_printf("%s/" RENDER_CRT_LIST, directory);
    CLEANUP_BUF struct buf list = {0};
    if (dir_make(folder, 0700, err) < 0)
        return -1;
    buf_printf(&list, "%s\n", fallback);
    for (uint32_t i = 0; i < l->n; i++) {
        CLEANUP_FREE char *path = mem_printf("%s/%s", directory, l->v[i].name);
        if (put_changed(path, l->v[i].pem, err) < 0)
            return -1;
        buf_printf(&list, "%s\n", l->v[i].name);
    }
    if (put_changed(list_path, list.data, err) < 0)
        return -1;
    remove_others(folder, l);
    return 0;
}
