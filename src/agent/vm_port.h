/* VM port: a network namespace of a virtual machine's monitor's own, in which there is the tap device that the guest is behind
 * (SHIM_VM_TAP), and its way to a bridge of the host. It goes with the last process that is in it, and the last descriptor of
 * it. */
#pragma once
#include "agent/shim_protocol.h"

/* From here on the caller, and what it starts, is in that namespace: in the one that `ready` says, or a new one; without root in the
 * agent's as before. For a process that has one thread. */
int vm_port_enter(const struct shim_port *port, struct error *err);
/* A descriptor of a new one, the caller's, for `ready`; -1 with err. Any thread, which stays where it is; needs root. */
int vm_port_prepare(const struct shim_port *port, struct error *err);
