/*
 * Host names.
 *
 * The resolver's loop alone talks to libevent and alone changes the cache: it
 * adds entries, stores answers, forgets old names. It does so under the lock,
 * because other threads read: dns_lookup() serves a fresh answer at once, in
 * the asker's thread, and sends the request to the resolver's loop otherwise.
 * The resolver's loop itself reads without the lock, except for `turn`, which
 * every reader advances.
 *
 * Requests for a name that is being looked up wait at its entry; so there is
 * never more than one query per name. Every request comes back to its asker as
 * a message, whether it was served at once or not, so an asker never sees its
 * callback within its own call.
 *
 * libevent answers names from /etc/hosts within evdns_getaddrinfo() itself.
 * When it is torn down with queries in flight, their callbacks come in a later
 * turn of its loop; dns_free() therefore cancels and turns the loop.
 */
#include "net/dns.h"

#include <event2/dns.h>
#include <event2/util.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/lock.h"
#include "core/log.h"
#include "core/str.h"

#define DNS_RESOLV_CONF "/etc/resolv.conf"
#define DNS_HOSTS       "/etc/hosts"

#define DNS_BUCKETS     256

/* Names come from the configuration; beyond this many, old ones are forgotten. */
#define DNS_ENTRIES_MAX 1024

/* Turns that dns_free() gives to libevent; it needs one or two. */
#define DNS_FREE_TURNS  100

struct dns_entry {
	LIST_ENTRY(dns_entry) link; /* protected by the lock of struct dns */
	struct dns *dns;
	char *name;

	/* resolver's loop only */
	struct dns_zone *zone;                   /* or NULL */
	bool pending;                            /* being looked up */
	struct evdns_getaddrinfo_request *query; /* to cancel it; NULL while it is being started */
	STAILQ_HEAD(, dns_request) waiting;

	/* protected by the lock of struct dns; all but `turn` written by the resolver's loop only */
	uint64_t expires_us; /* 0: no answer yet */
	int err;             /* of the last answer */
	unsigned count;      /* addresses of the last good answer */
	unsigned turn;       /* which address goes first next time */
	struct sock_addr addrs[DNS_ADDRS_MAX];
};

LIST_HEAD(dns_bucket, dns_entry);

struct dns {
	/* resolver's loop only */
	struct loop *loop;
	struct evdns_base *base;
	struct dns_conf conf;
	char *resolv_conf;
	struct dns_zones *zones;
	dns_gone_fn gone_fn;
	void *gone_arg;
	unsigned entry_count;
	unsigned pending_count;
	bool stale_conf; /* resolv.conf is to be read again */
	bool closing;

	_Atomic unsigned asked; /* requests in the mailbox of the resolver's loop */
	struct lock lock CACHE_ALIGNED;
	struct dns_bucket buckets[DNS_BUCKETS]; /* protected by lock */
};

/* Requests --------------------------------------------------------------- */

static void dns_done_fn(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct dns_request *req = CONTAINER_OF(msg, struct dns_request, msg);

	req->done(req);
}

/* Sends a request back to its asker. */
static void dns_return(struct dns_request *req)
{
	req->msg.fn = dns_done_fn;
	loop_post(req->loop, &req->msg);
}

/* Copies the answer of an entry, each time beginning with another address. */
static void dns_copy_answer_locked(struct dns_entry *entry, struct dns_request *req)
{
	req->err = entry->err;
	req->count = entry->err == 0 ? entry->count : 0;
	for (unsigned i = 0; i < req->count; i++)
		req->addrs[i] = entry->addrs[(entry->turn + i) % entry->count];
	entry->turn++;
}

static void dns_set_ports(struct dns_request *req)
{
	for (unsigned i = 0; i < req->count; i++)
		sock_addr_set_port(&req->addrs[i], req->port);
}

/* The cache -------------------------------------------------------------- */

static struct dns_bucket *dns_bucket(struct dns *dns, const char *name)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (const char *p = name; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	return &dns->buckets[hash % DNS_BUCKETS];
}

/* Under the lock, or in the resolver's loop. */
static struct dns_entry *dns_find(struct dns *dns, const char *name)
{
	struct dns_entry *entry;

	LIST_FOREACH (entry, dns_bucket(dns, name), link)
		if (strcmp(entry->name, name) == 0)
			return entry;
	return NULL;
}

/* Answers from the cache if there is a fresh answer. Any thread. */
static bool dns_serve_cached(struct dns *dns, struct dns_request *req, uint64_t now_us)
{
	struct dns_entry *entry;
	bool fresh;

	lock_acquire(&dns->lock);
	entry = dns_find(dns, req->name);
	fresh = entry != NULL && now_us < entry->expires_us;
	if (fresh)
		dns_copy_answer_locked(entry, req);
	lock_release(&dns->lock);
	if (!fresh)
		return false;
	dns_set_ports(req);
	dns_return(req);
	return true;
}

static void dns_entry_free(struct dns_entry *entry)
{
	ASSERT(!entry->pending && STAILQ_EMPTY(&entry->waiting));
	dns_zone_leave(entry->dns->zones, &entry->zone);
	free(entry->name);
	free(entry);
}

/* Forgets answers that have expired before now_us. */
static void dns_forget(struct dns *dns, uint64_t now_us)
{
	for (size_t i = 0; i < DNS_BUCKETS; i++) {
		struct dns_entry *entry = LIST_FIRST(&dns->buckets[i]);

		while (entry != NULL) {
			struct dns_entry *next = LIST_NEXT(entry, link);

			if (!entry->pending && entry->expires_us <= now_us) {
				lock_acquire(&dns->lock);
				LIST_REMOVE(entry, link);
				lock_release(&dns->lock);
				dns_entry_free(entry);
				dns->entry_count--;
			}
			entry = next;
		}
	}
}

static struct dns_entry *dns_entry_new(struct dns *dns, const char *name)
{
	struct dns_entry *entry;

	if (dns->entry_count >= DNS_ENTRIES_MAX)
		dns_forget(dns, loop_now_us(dns->loop));
	entry = xcalloc(1, sizeof(*entry));
	entry->dns = dns;
	entry->name = xstrdup(name);
	STAILQ_INIT(&entry->waiting);
	lock_acquire(&dns->lock);
	LIST_INSERT_HEAD(dns_bucket(dns, name), entry, link);
	lock_release(&dns->lock);
	dns->entry_count++;
	entry->zone = dns_zone_join(dns->zones, name);
	return entry;
}

/* Answers ---------------------------------------------------------------- */

static bool dns_list_has(const struct sock_addr *addrs, unsigned count, const struct sock_addr *addr)
{
	for (unsigned i = 0; i < count; i++)
		if (sock_addr_same_host(&addrs[i], addr))
			return true;
	return false;
}

/* Collects up to DNS_ADDRS_MAX different addresses and returns their number. */
static unsigned dns_collect(const struct evutil_addrinfo *list, struct sock_addr *addrs)
{
	unsigned count = 0;
	struct sock_addr addr;

	for (; list != NULL && count < DNS_ADDRS_MAX; list = list->ai_next) {
		if (!sock_addr_set(&addr, list->ai_addr, (socklen_t)list->ai_addrlen))
			continue;
		sock_addr_set_port(&addr, 0);
		if (!dns_list_has(addrs, count, &addr))
			addrs[count++] = addr;
	}
	return count;
}

static int dns_err(int result)
{
	switch (result) {
	case 0:
		return 0;
	case EVUTIL_EAI_NONAME:
	case EVUTIL_EAI_NODATA:
		return -E_NOENT;
	case EVUTIL_EAI_AGAIN:
	case EVUTIL_EAI_FAIL: /* what libevent says for a silent server as well as for one that failed */
		return -E_TIMEOUT;
	case EVUTIL_EAI_CANCEL:
		return -E_CLOSED;
	default:
		return -E_IO;
	}
}

/* Tells which addresses of the answer before are not in the new one. */
static void dns_report_gone(struct dns_entry *entry, const struct sock_addr *addrs, unsigned count)
{
	struct dns *dns = entry->dns;

	if (dns->gone_fn == NULL)
		return;
	for (unsigned i = 0; i < entry->count; i++)
		if (!dns_list_has(addrs, count, &entry->addrs[i]))
			dns->gone_fn(entry->name, &entry->addrs[i], dns->gone_arg);
}

/* A failure leaves the last good addresses in place, only to compare the next answer with. */
static void dns_store(struct dns_entry *entry, int err, const struct sock_addr *addrs, unsigned count)
{
	struct dns *dns = entry->dns;
	uint64_t ttl_us = err == 0 ? dns->conf.max_ttl_us : dns->conf.nxdomain_ttl_us;
	uint64_t expires_us = loop_now_us(dns->loop) + ttl_us;

	lock_acquire(&dns->lock);
	entry->err = err;
	entry->expires_us = expires_us;
	if (err == 0) {
		entry->count = count;
		memcpy(entry->addrs, addrs, count * sizeof(*addrs));
	}
	lock_release(&dns->lock);
}

static void dns_answer_waiting(struct dns_entry *entry)
{
	struct dns_request *req;

	while ((req = STAILQ_FIRST(&entry->waiting)) != NULL) {
		STAILQ_REMOVE_HEAD(&entry->waiting, waiting);
		lock_acquire(&entry->dns->lock);
		dns_copy_answer_locked(entry, req);
		lock_release(&entry->dns->lock);
		dns_set_ports(req);
		dns_return(req);
	}
}

static void dns_answer_cb(int result, struct evutil_addrinfo *list, void *arg)
{
	struct dns_entry *entry = arg;
	struct sock_addr addrs[DNS_ADDRS_MAX];
	unsigned count = dns_collect(list, addrs);
	int err = dns_err(result);

	if (list != NULL)
		evutil_freeaddrinfo(list);
	if (err == 0 && count == 0)
		err = -E_NOENT;
	entry->pending = false;
	entry->query = NULL;
	entry->dns->pending_count--;
	if (err == 0)
		dns_report_gone(entry, addrs, count);
	else if (err != -E_CLOSED)
		log_warning("DNS lookup failed: %s: result=%d", entry->name, result);
	dns_store(entry, err, addrs, count);
	dns_answer_waiting(entry);
}

/* Questions -------------------------------------------------------------- */

/* Reads resolv.conf and hosts. Not while libevent has queries in flight. */
static void dns_load_conf(struct dns *dns)
{
	const char *path = dns->resolv_conf != NULL ? dns->resolv_conf : DNS_RESOLV_CONF;
	int rc;

	dns->stale_conf = false;
	evdns_base_clear_nameservers_and_suspend(dns->base);
	evdns_base_search_clear(dns->base);
	evdns_base_clear_host_addresses(dns->base);
	rc = evdns_base_resolv_conf_parse(dns->base, DNS_OPTION_SEARCH | DNS_OPTION_NAMESERVERS | DNS_OPTION_MISC,
					  path);
	/* 6: it names no servers, so libevent asks the one on this host. */
	if (rc != 0 && rc != 6)
		log_warning("could not read \"%s\", using the name server on this host", path);
	evdns_base_load_hosts(dns->base, DNS_HOSTS);
	evdns_base_resume(dns->base);
}

static void dns_start_query(struct dns_entry *entry)
{
	struct evutil_addrinfo hints = { .ai_family = AF_UNSPEC,
					 .ai_socktype = SOCK_STREAM,
					 .ai_protocol = IPPROTO_TCP };
	struct dns *dns = entry->dns;
	struct evdns_getaddrinfo_request *query;

	if (dns->stale_conf && dns->pending_count == 0)
		dns_load_conf(dns);
	entry->pending = true;
	dns->pending_count++;
	query = evdns_getaddrinfo(dns->base, entry->name, NULL, &hints, dns_answer_cb, entry);
	if (entry->pending)
		entry->query = query;
}

/* The names of a zone may lead elsewhere: ask for all of them, whatever their age. */
static void dns_on_zone_changed(const struct dns_zone *zone, void *arg)
{
	struct dns *dns = arg;
	struct dns_entry *entry;

	if (dns->closing)
		return;
	for (size_t i = 0; i < DNS_BUCKETS; i++)
		LIST_FOREACH (entry, &dns->buckets[i], link)
			if (entry->zone == zone && !entry->pending)
				dns_start_query(entry);
}

/* A request has arrived at the resolver's loop. */
static void dns_ask_fn(struct loop *loop, struct loop_msg *msg)
{
	struct dns_request *req = CONTAINER_OF(msg, struct dns_request, msg);
	struct dns *dns = req->dns;
	struct dns_entry *entry;

	atomic_fetch_sub(&dns->asked, 1);
	if (dns->closing) {
		req->err = -E_CLOSED;
		dns_return(req);
		return;
	}
	/* The answer may have come while the request was on its way. */
	if (dns_serve_cached(dns, req, loop_now_us(loop)))
		return;
	entry = dns_find(dns, req->name);
	if (entry == NULL)
		entry = dns_entry_new(dns, req->name);
	STAILQ_INSERT_TAIL(&entry->waiting, req, waiting);
	if (!entry->pending)
		dns_start_query(entry);
}

void dns_lookup(struct dns *dns, const char *name, uint16_t port, struct dns_request *req)
{
	ASSERT(req->loop != NULL && req->done != NULL);
	req->dns = dns;
	req->port = port;
	req->err = 0;
	req->count = 0;
	if (!str_copy(req->name, sizeof(req->name), name)) {
		req->err = -E_NOENT;
		dns_return(req);
		return;
	}
	if (dns_serve_cached(dns, req, loop_now_us(req->loop)))
		return;
	req->msg.fn = dns_ask_fn;
	atomic_fetch_add(&dns->asked, 1);
	loop_post(dns->loop, &req->msg);
}

/* The resolver ----------------------------------------------------------- */

static void dns_log_cb(int is_warning, const char *text)
{
	if (is_warning)
		log_warning("evdns: %s", text);
	else
		log_noise("evdns: %s", text);
}

struct dns *dns_new(struct loop *loop, const char *resolv_conf, const struct dns_conf *conf)
{
	struct evdns_base *base = evdns_base_new(loop_base(loop), EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	struct dns *dns;

	if (base == NULL)
		return NULL;
	evdns_set_log_fn(dns_log_cb);
	dns = xcalloc_aligned(sizeof(*dns));
	dns->loop = loop;
	dns->base = base;
	dns->conf = *conf;
	if (str_is_set(resolv_conf))
		dns->resolv_conf = xstrdup(resolv_conf);
	for (size_t i = 0; i < DNS_BUCKETS; i++)
		LIST_INIT(&dns->buckets[i]);
	lock_init(&dns->lock, LOCK_RANK_DNS);
	dns->zones = dns_zones_new(loop, dns->resolv_conf, dns_on_zone_changed, dns);
	dns_zones_set_period(dns->zones, conf->zone_check_us);
	dns_load_conf(dns);
	return dns;
}

static void dns_cancel_all(struct dns *dns)
{
	struct dns_entry *entry;

	for (size_t i = 0; i < DNS_BUCKETS; i++)
		LIST_FOREACH (entry, &dns->buckets[i], link)
			if (entry->query != NULL)
				evdns_getaddrinfo_cancel(entry->query);
}

void dns_free(struct dns **dnsp)
{
	struct dns *dns = *dnsp;

	*dnsp = NULL;
	if (dns == NULL)
		return;
	dns->closing = true;
	dns_zones_set_period(dns->zones, 0);
	dns_cancel_all(dns);
	for (int i = 0; i < DNS_FREE_TURNS && (dns->pending_count > 0 || dns->asked > 0); i++)
		event_base_loop(loop_base(dns->loop), EVLOOP_NONBLOCK);
	ASSERT(dns->pending_count == 0 && dns->asked == 0);
	evdns_base_free(dns->base, 0);
	dns_forget(dns, UINT64_MAX);
	dns_zones_free(&dns->zones);
	lock_fini(&dns->lock);
	free(dns->resolv_conf);
	free(dns);
}

void dns_reconfigure(struct dns *dns, const struct dns_conf *conf)
{
	dns->conf = *conf;
	dns->stale_conf = true;
	dns_zones_set_period(dns->zones, conf->zone_check_us);
}

void dns_set_gone_hook(struct dns *dns, dns_gone_fn fn, void *arg)
{
	dns->gone_fn = fn;
	dns->gone_arg = arg;
}

void dns_show(struct dns *dns, dns_row_fn fn, void *arg)
{
	uint64_t now_us = loop_now_us(dns->loop);
	struct dns_entry *entry;

	for (size_t i = 0; i < DNS_BUCKETS; i++) {
		LIST_FOREACH (entry, &dns->buckets[i], link) {
			struct dns_row row = {
				.name = entry->name,
				.ttl_s = entry->expires_us > now_us ? (entry->expires_us - now_us) / USEC_PER_SEC : 0,
				.count = entry->err == 0 ? entry->count : 0,
				.addrs = entry->addrs,
			};

			fn(&row, arg);
		}
	}
}

void dns_show_zones(const struct dns *dns, dns_zone_row_fn fn, void *arg)
{
	dns_zones_show(dns->zones, fn, arg);
}

void dns_count(const struct dns *dns, struct dns_counts *counts)
{
	*counts = (struct dns_counts){
		.names = dns->entry_count,
		.zones = dns_zones_count(dns->zones),
		.queries = dns->pending_count,
	};
}
