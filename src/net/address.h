/* Address: where to listen or connect, as people write it: "127.0.0.1:4646", "[::1]:4646", "unix:/run/x.sock". */
#pragma once
#include <stdbool.h>

#include "base/error.h"

#define ADDRESS_HOST_SIZE 256
#define ADDRESS_TEXT_SIZE 280

/* A plain value. For unix sockets `host` holds the path and port is 0. An empty host means every interface. */
struct address {
    bool is_unix;
    char host[ADDRESS_HOST_SIZE];
    int port;
};

/* Without a port in the text the default applies; default_port < 0 makes the port mandatory. 0, or -1 with err. */
int address_parse(const char *text, int default_port, struct address *out, struct error *err);
/* The same text form back, with brackets around IPv6 hosts. */
void address_format(char out[static ADDRESS_TEXT_SIZE], const struct address *a);
/* For listening: the host must be an IP address, "localhost", or empty. */
struct sockaddr_storage;
int address_sockaddr(const struct address *a, struct sockaddr_storage *out, struct error *err);
/* True for unix sockets, 127.0.0.0/8, ::1 and "localhost": what may be served without TLS. */
bool address_is_local(const struct address *a);
bool address_text_is_local(const char *text);           /* false for what is no address, too */
/* Our own address on the way to that one, as text; the caller's. NULL when there is no way, or host is a name: nothing is
 * looked up and nothing sent (connecting a datagram socket only asks the kernel for the route). */
char *address_local(const char *host, int port);
enum address_transport { ADDRESS_TCP, ADDRESS_UDP };
/* Takes the port for a moment, to see whether anybody has it; port 0 takes a free one. The host is numeric. Returns the
 * port, or a negative errno: -EADDRINUSE when it is taken. */
int address_probe(const struct address *a, enum address_transport transport);
/* Whom a peer ("10.0.0.1:5", "[2001:db8::1]:5", "unix") is counted as: its address; of IPv6 the network of 64 bits, all of which
 * one host may have. */
#define ADDRESS_HOLDER_SIZE 64
void address_holder(const char *peer, char out[static ADDRESS_HOLDER_SIZE]);
