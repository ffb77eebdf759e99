/*
 * The addresses of this machine.
 */
#ifndef PGSLUICE_NET_NETIF_H
#define PGSLUICE_NET_NETIF_H

#include "net/sock.h"

/*
 * True when the address is one of this machine's interfaces, or, with
 * `whole_net`, in one of their networks. Asks the kernel each time, which does
 * not block. Any thread.
 */
bool netif_has(const struct sock_addr *addr, bool whole_net);

#endif
