/*
 * Host names without blocking: libevent's resolver on one loop, a cache that
 * all loops share, requests from any loop. Literals never come here; see
 * sock_addr_parse().
 */
#ifndef PGSLUICE_NET_DNS_H
#define PGSLUICE_NET_DNS_H

#include "net/dns_zone.h"
#include "net/loop.h"
#include "net/sock.h"

struct dns;

#define DNS_ADDRS_MAX 16
#define DNS_NAME_MAX  253

/* How long answers live, whatever their own TTL says; 0: not at all. */
struct dns_conf {
	uint64_t max_ttl_us;      /* answers */
	uint64_t nxdomain_ttl_us; /* failures */
	uint64_t zone_check_us;   /* time between two looks at the serials of zones; 0: none */
};

/*
 * One question. The asker fills in loop, done and arg; the rest belongs to the
 * resolver until done() is called, which happens exactly once for each
 * dns_lookup(), later and on the asker's loop. So an asker that loses interest
 * must keep the request: it sets `cancelled` and frees it in done().
 *
 * err is then 0, -E_NOENT (no such name), -E_TIMEOUT (no server gave a good
 * answer in time), -E_IO (anything else) or -E_CLOSED (dns_free()).
 */
struct dns_request {
	struct loop_msg msg;                   /* private */
	STAILQ_ENTRY(dns_request) waiting;     /* private */
	struct dns *dns;                       /* private */
	struct loop *loop;                     /* the asker's loop */
	void (*done)(struct dns_request *req); /* called on that loop */
	void *arg;                             /* the asker's */
	bool cancelled;                        /* the asker's, on its own loop; not looked at by the resolver */
	char name[DNS_NAME_MAX + 1];           /* what was asked */
	uint16_t port;                         /* goes into each address */
	int err;                               /* 0 or as above */
	unsigned count;                        /* addresses; at least 1 when err is 0 */
	struct sock_addr addrs[DNS_ADDRS_MAX]; /* each time another one comes first */
};

/*
 * Called on the resolver's loop when a fresh answer for `name` lacks an
 * address (port 0) that the one before had.
 */
typedef void (*dns_gone_fn)(const char *name, const struct sock_addr *addr, void *arg);

/*
 * A resolver on `loop`, with the name servers of resolv_conf (NULL or empty:
 * /etc/resolv.conf) and the names of /etc/hosts. NULL: libevent failed. A line
 * "nameserver 127.0.0.1:5353" in resolv_conf may name a port. Called by the
 * loop's thread or before it runs.
 */
struct dns *dns_new(struct loop *loop, const char *resolv_conf, const struct dns_conf *conf) MUSTCHECK;

/*
 * Ends all look-ups with -E_CLOSED and frees the resolver. Called when all
 * loops have stopped and none has been freed. While look-ups are under way it
 * turns the resolver's loop, so other events there must still be fit to run.
 */
void dns_free(struct dns **dns);

/* New lifetimes for answers to come; resolv.conf and /etc/hosts are read again soon. Resolver's loop. */
void dns_reconfigure(struct dns *dns, const struct dns_conf *conf);

/* Resolver's loop, before the first look-up. */
void dns_set_gone_hook(struct dns *dns, dns_gone_fn fn, void *arg);

/*
 * Asks for the addresses of a name. Called by the thread of req->loop. A name
 * longer than DNS_NAME_MAX is answered with -E_NOENT.
 */
void dns_lookup(struct dns *dns, const char *name, uint16_t port, struct dns_request *req);

/* A row of SHOW DNS_HOSTS. */
struct dns_row {
	const char *name;
	uint64_t ttl_s; /* left; 0 when past */
	unsigned count;
	const struct sock_addr *addrs; /* port 0 */
};
typedef void (*dns_row_fn)(const struct dns_row *row, void *arg);

/* Calls fn for each cached name; it must not look up. Resolver's loop. */
void dns_show(struct dns *dns, dns_row_fn fn, void *arg);

/* Calls fn for each zone of the cached names; it must not look up. Resolver's loop. */
void dns_show_zones(const struct dns *dns, dns_zone_row_fn fn, void *arg);

/* For SHOW LISTS: names in the cache, their zones, look-ups under way. Resolver's loop. */
struct dns_counts {
	unsigned names;
	unsigned zones;
	unsigned queries;
};
void dns_count(const struct dns *dns, struct dns_counts *counts);

#endif
