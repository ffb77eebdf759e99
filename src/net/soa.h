/*
 * The serial number of a DNS zone: one question over UDP to the name servers
 * of a resolv.conf, without blocking. libevent's resolver cannot ask for it.
 */
#ifndef PGSLUICE_NET_SOA_H
#define PGSLUICE_NET_SOA_H

#include "net/loop.h"

struct soa_query;

/*
 * How a question ended: 0 with the serial, -E_NOENT (the servers know no such
 * zone), -E_TIMEOUT (none gave a good answer), -E_SYS (no socket). Called once,
 * on the loop, never from within soa_ask(); the query is gone already.
 */
typedef void (*soa_fn)(int err, uint32_t serial, void *arg);

/*
 * Asks for the serial of `zone`. resolv_conf as in dns_new(); it is read each
 * time. The query is ours until fn is called; soa_cancel() ends it before. Own
 * thread of the loop.
 */
struct soa_query *soa_ask(struct loop *loop, const char *resolv_conf, const char *zone, soa_fn fn, void *arg);

/* Takes the query and nulls it; fn is not called. *query may be NULL. Own thread of the loop. */
void soa_cancel(struct soa_query **query);

/* The messages, apart from the network. */

#define SOA_MESSAGE_MAX 512

/* Writes a question with this id; its length, or -E_SYNTAX when the zone is no name of the DNS. */
int soa_build(uint8_t dst[static SOA_MESSAGE_MAX], uint16_t id, const char *zone) MUSTCHECK;

/*
 * Reads what came back for a question of soa_build(), of q_len bytes. 0 and the
 * serial; -E_NOENT: a good answer without one; -E_AGAIN: no answer to this
 * question, wait on; -E_CLOSED: this server will not say.
 */
int soa_parse(const uint8_t *data, size_t len, const uint8_t *question, size_t q_len, uint32_t *serial) MUSTCHECK;

#endif
