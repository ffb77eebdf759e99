/*
 * A probe: one connection to one endpoint, through libpq, on the loop that owns
 * it; it asks the server how it is. Nothing here blocks: names are looked up by
 * our own resolver, and the deadline is ours.
 */
#ifndef PGSLUICE_POOL_HEALTH_PROBE_H
#define PGSLUICE_POOL_HEALTH_PROBE_H

#include "conf/conf.h"
#include "core/base.h"
#include "net/dns.h"
#include "net/loop.h"
#include "pool/health_facts.h"

/* How to ask. The strings are borrowed; NULL or empty: not set. */
struct health_setup {
	const char *user; /* who asks; whether a password belongs to it or not */
	const char *password;
	const char *dbname;
	const char *query; /* to be run as well: health_query */
	enum conf_sslmode tls_mode;
	bool tls_direct;
	const char *tls_ca;
	const char *tls_cert;
	const char *tls_key;
	uint64_t timeout_us; /* for all of it, connecting included; 0: none */
};

struct health_probe;

/* What a probe tells its owner, on the loop. Both may free the probe. */
struct health_probe_ops {
	/* The answer; `facts` is valid during the call. */
	void (*done)(void *arg, const struct health_facts *facts);
	/* The connection, kept for the next time, was closed by the other side while nothing was asked. */
	void (*lost)(void *arg);
};

/* Before the first probe and before other threads run: the environment shall not choose servers for libpq. */
void health_probe_prepare(void);

/* A probe of `host` (name, address, or directory of a Unix socket). It does not connect yet. Loop's thread. */
struct health_probe *health_probe_new(struct loop *loop, struct dns *dns, const char *host, uint16_t port,
				      const struct health_probe_ops *ops, void *arg) MUSTCHECK;

/* How to ask from the next time on; a connection that was made in another way is closed. Loop's thread. */
void health_probe_set(struct health_probe *probe, const struct health_setup *setup);

/* Asks; done() is called when it is over, maybe before this returns. False when the last question is not answered yet.
 * Loop's thread. */
bool health_probe_start(struct health_probe *probe);

/* True while an answer is awaited. Loop's thread. */
bool health_probe_is_busy(const struct health_probe *probe);

/* Closes the connection without telling anybody and nulls the pointer; NULL inside is fine. Loop's thread. */
void health_probe_free(struct health_probe **probe);

#endif
