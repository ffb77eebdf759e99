/*
 * Endpoints, what is known of them, and which is chosen for a server.
 *
 * An endpoint lives as long as the settings of a pool name it, or a server is
 * there. It is found by its text: two names of one machine are two endpoints,
 * since either may be moved elsewhere on its own.
 *
 * Facts are packed into one word, so that a reader never sees half of a change.
 * Those of a login are believed for EP_LOGIN_BELIEF_US only: without probes
 * nobody would notice that a standby was promoted. After that time the role
 * counts as unknown, and the next login finds it out.
 */
#include "pool/endpoint.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/str.h"

#define EP_LOGIN_BELIEF_US USEC_PER_SEC

/* Bits of endpoint->facts; the role is in those below. */
#define EP_ROLE_MASK       3u
#define EP_READ_ONLY       (1u << 2)
#define EP_FENCED          (1u << 3)
#define EP_UNREACHABLE     (1u << 4)

struct endpoints {
	struct lock lock;
	struct endpoint *by_name; /* protected by lock */
	endpoint_symptom_fn on_symptom;
	endpoint_login_fn on_login;
	void *arg;
};

const char *endpoint_role_name(enum endpoint_role role)
{
	static const char *const names[] = {
#define X(id, name) name,
		ENDPOINT_ROLE_TABLE(X)
#undef X
	};

	return names[role];
}

/* ---- the table ---- */

struct endpoints *endpoints_new(void)
{
	struct endpoints *table = xcalloc(1, sizeof(*table));

	lock_init(&table->lock, LOCK_RANK_ENDPOINTS);
	return table;
}

void endpoints_free(struct endpoints **tablep)
{
	struct endpoints *table = *tablep;

	*tablep = NULL;
	if (table == NULL)
		return;
	ASSERT(table->by_name == NULL);
	lock_fini(&table->lock);
	free(table);
}

void endpoints_set_hooks(struct endpoints *table, endpoint_symptom_fn on_symptom, endpoint_login_fn on_login, void *arg)
{
	table->on_symptom = on_symptom;
	table->on_login = on_login;
	table->arg = arg;
}

/* All of them, with a reference each; *count of them. */
static struct endpoint **endpoints_list(struct endpoints *table, size_t *count)
{
	struct endpoint **all = NULL;
	struct endpoint *ep;
	struct endpoint *next;
	size_t room = 0;

	for (;;) {
		lock_acquire(&table->lock);
		*count = HASH_COUNT(table->by_name);
		if (*count <= room)
			break;
		lock_release(&table->lock);
		room = *count;
		free(all);
		all = xcalloc(room, sizeof(struct endpoint *));
	}
	*count = 0;
	HASH_ITER (hh, table->by_name, ep, next) {
		ep->refs++;
		all[(*count)++] = ep;
	}
	lock_release(&table->lock);
	return all;
}

void endpoints_each(struct endpoints *table, void (*fn)(struct endpoint *endpoint, void *arg), void *arg)
{
	size_t count;
	struct endpoint **all = endpoints_list(table, &count);

	for (size_t i = 0; i < count; i++) {
		fn(all[i], arg);
		endpoint_release(&all[i]);
	}
	free(all);
}

static struct endpoint *endpoint_new(struct endpoints *table, const char *host, uint16_t port)
{
	struct endpoint *ep = xcalloc(1, sizeof(*ep));

	ep->refs = 1;
	ep->table = table;
	ep->host = xstrdup(host);
	ep->port = port;
	str_format(ep->name, sizeof(ep->name), strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
	return ep;
}

static void endpoint_destroy(struct endpoint *ep)
{
	if (ep == NULL)
		return;
	ASSERT(atomic_load(&ep->servers) == 0 && atomic_load(&ep->logging_in) == 0);
	free(ep->host);
	free(ep);
}

struct endpoint *endpoint_get(struct endpoints *table, const char *host, uint16_t port)
{
	struct endpoint *fresh = endpoint_new(table, host, port);
	struct endpoint *ep;

	lock_acquire(&table->lock);
	HASH_FIND_STR(table->by_name, fresh->name, ep);
	if (ep != NULL) {
		ep->refs++;
	} else {
		ep = fresh;
		fresh = NULL;
		HASH_ADD_STR(table->by_name, name, ep);
	}
	lock_release(&table->lock);
	endpoint_destroy(fresh);
	return ep;
}

struct endpoint *endpoint_hold(struct endpoint *endpoint)
{
	lock_acquire(&endpoint->table->lock);
	endpoint->refs++;
	lock_release(&endpoint->table->lock);
	return endpoint;
}

void endpoint_release(struct endpoint **epp)
{
	struct endpoint *ep = *epp;
	struct endpoints *table;
	bool is_last;

	*epp = NULL;
	if (ep == NULL)
		return;
	table = ep->table;
	lock_acquire(&table->lock);
	ASSERT(ep->refs > 0);
	is_last = --ep->refs == 0;
	if (is_last)
		HASH_DEL(table->by_name, ep);
	lock_release(&table->lock);
	if (is_last)
		endpoint_destroy(ep);
}

void endpoint_list_make(struct endpoint_list *list, struct endpoints *table, const struct conf_db *db,
			const char *unix_dir)
{
	bool has_dir = unix_dir != NULL && unix_dir[0] != '\0';

	list->count = (unsigned)db->host.count;
	if (list->count == 0 && has_dir)
		list->count = 1;
	if (list->count == 0)
		return;
	list->items = xcalloc(list->count, sizeof(struct endpoint *));
	for (unsigned i = 0; i < list->count; i++)
		list->items[i] = endpoint_get(table, db->host.count == 0 ? unix_dir : db->host.items[i],
					      (uint16_t)conf_db_port(db, i));
}

void endpoint_list_free(struct endpoint_list *list)
{
	for (unsigned i = 0; i < list->count; i++)
		endpoint_release(&list->items[i]);
	free(list->items);
	*list = (struct endpoint_list){ .count = 0 };
}

/* True for an endpoint without a name, and of this address. */
static bool endpoint_is_at(const struct endpoint *ep, const struct sock_addr *addr)
{
	struct sock_addr own;
	int err;

	if (ep->host[0] == '/' || ep->host[0] == '@')
		err = sock_addr_set_unix_dir(&own, ep->host, ep->port);
	else
		err = sock_addr_parse(&own, ep->host, ep->port);
	return err == 0 && sock_addr_equal(&own, addr);
}

struct endpoint *endpoint_list_find(const struct endpoint_list *list, const struct sock_addr *addr)
{
	struct endpoint *found = NULL;
	unsigned n = 0;

	if (list->count == 1)
		return endpoint_hold(list->items[0]);
	for (unsigned i = 0; i < list->count; i++)
		if (endpoint_is_at(list->items[i], addr))
			return endpoint_hold(list->items[i]);
	for (unsigned i = 0; i < list->count; i++) {
		if (list->items[i]->port != sock_addr_port(addr))
			continue;
		found = list->items[i];
		n++;
	}
	return n == 1 ? endpoint_hold(found) : NULL;
}

/* ---- facts ---- */

static unsigned facts_pack(const struct endpoint_facts *f)
{
	return (unsigned)f->role | (f->is_read_only ? EP_READ_ONLY : 0) | (f->is_fenced ? EP_FENCED : 0) |
	       (f->is_unreachable ? EP_UNREACHABLE : 0);
}

static struct endpoint_facts facts_unpack(unsigned bits)
{
	return (struct endpoint_facts){
		.role = (enum endpoint_role)(bits & EP_ROLE_MASK),
		.is_read_only = (bits & EP_READ_ONLY) != 0,
		.is_fenced = (bits & EP_FENCED) != 0,
		.is_unreachable = (bits & EP_UNREACHABLE) != 0,
	};
}

struct endpoint_facts endpoint_facts(const struct endpoint *endpoint)
{
	return facts_unpack(atomic_load_explicit(&endpoint->facts, memory_order_acquire));
}

void endpoint_set_facts(struct endpoint *endpoint, const struct endpoint_facts *facts, uint64_t until_us)
{
	atomic_store_explicit(&endpoint->facts_until_us, until_us, memory_order_relaxed);
	atomic_store_explicit(&endpoint->facts, facts_pack(facts), memory_order_release);
}

void endpoint_note_role(struct endpoint *endpoint, enum endpoint_role role, bool is_read_only, uint64_t now_us)
{
	uint64_t until_us = atomic_load_explicit(&endpoint->facts_until_us, memory_order_relaxed);
	unsigned bits = atomic_load_explicit(&endpoint->facts, memory_order_relaxed);
	struct endpoint_facts facts;
	enum endpoint_role old_role;
	bool is_news;

	do {
		facts = facts_unpack(bits);
		old_role = facts.role;
		is_news = facts.role != role || facts.is_read_only != is_read_only;
		facts.role = role;
		facts.is_read_only = is_read_only;
		facts.is_unreachable = false;
	} while (!atomic_compare_exchange_weak_explicit(&endpoint->facts, &bits, facts_pack(&facts),
							memory_order_release, memory_order_relaxed));
	if (is_news || until_us < now_us + EP_LOGIN_BELIEF_US)
		atomic_store_explicit(&endpoint->facts_until_us, now_us + EP_LOGIN_BELIEF_US, memory_order_relaxed);
	if (old_role != role && old_role != ENDPOINT_ROLE_UNKNOWN)
		endpoint_symptom(endpoint, "a server there has another role");
}

void endpoint_symptom(struct endpoint *endpoint, const char *why)
{
	struct endpoints *table = endpoint->table;

	if (table->on_symptom != NULL && !atomic_exchange(&endpoint->is_suspect, true))
		table->on_symptom(endpoint, why, table->arg);
}

bool endpoint_fits(const struct endpoint_facts *facts, enum conf_session_attrs attrs)
{
	bool is_known = facts->role != ENDPOINT_ROLE_UNKNOWN;

	switch (attrs) {
	case CONF_ATTRS_READ_WRITE:
		return !facts->is_fenced && facts->role != ENDPOINT_STANDBY && !facts->is_read_only;
	case CONF_ATTRS_PRIMARY:
		return !facts->is_fenced && facts->role != ENDPOINT_STANDBY;
	case CONF_ATTRS_READ_ONLY:
		return !is_known || facts->role == ENDPOINT_STANDBY || facts->is_read_only;
	case CONF_ATTRS_STANDBY:
		return !is_known || facts->role == ENDPOINT_STANDBY;
	default:
		return true;
	}
}

/* True for facts that leave nothing to be desired. */
static bool facts_are_best(const struct endpoint_facts *facts, enum conf_session_attrs attrs)
{
	if (facts->is_unreachable || !endpoint_fits(facts, attrs))
		return false;
	if (attrs == CONF_ATTRS_PREFER_STANDBY)
		return facts->role == ENDPOINT_STANDBY;
	return attrs == CONF_ATTRS_ANY || facts->role != ENDPOINT_ROLE_UNKNOWN;
}

bool endpoint_is_to_leave(const struct endpoint *endpoint, const struct endpoint_list *list,
			  enum conf_session_attrs attrs)
{
	struct endpoint_facts facts = endpoint_facts(endpoint);

	if (!endpoint_fits(&facts, attrs))
		return true;
	if (LIKELY(!facts.is_unreachable) && (attrs != CONF_ATTRS_PREFER_STANDBY || facts.role != ENDPOINT_PRIMARY))
		return false;
	for (unsigned i = 0; i < list->count; i++) {
		facts = endpoint_facts(list->items[i]);
		if (list->items[i] != endpoint && facts_are_best(&facts, attrs))
			return true;
	}
	return false;
}

/* ---- choice ---- */

/* How well an endpoint would do: the lower the better. */
enum endpoint_rank {
	RANK_KNOWN,       /* all is well */
	RANK_SECOND_BEST, /* prefer-standby finds no standby here; or the role is not known */
	RANK_UNREACHABLE, /* it did not answer when it was last asked */
	RANKS,            /* it will not do */
};

static enum endpoint_rank endpoint_rank(const struct endpoint *ep, const struct endpoint_wish *wish)
{
	struct endpoint_facts facts = endpoint_facts(ep);

	if (atomic_load_explicit(&ep->facts_until_us, memory_order_relaxed) < wish->now_us) {
		facts.role = ENDPOINT_ROLE_UNKNOWN;
		facts.is_read_only = facts.is_unreachable = false;
	}
	if (!endpoint_fits(&facts, wish->attrs))
		return RANKS;
	if (facts.is_unreachable)
		return RANK_UNREACHABLE;
	if (wish->attrs == CONF_ATTRS_PREFER_STANDBY)
		return facts.role == ENDPOINT_STANDBY ? RANK_KNOWN : RANK_SECOND_BEST;
	if (wish->attrs != CONF_ATTRS_ANY && facts.role == ENDPOINT_ROLE_UNKNOWN)
		return RANK_SECOND_BEST;
	return RANK_KNOWN;
}

/* Counts one login more, unless there are as many as there may be. */
static bool endpoint_take_login(struct endpoint *ep, unsigned max)
{
	unsigned n = atomic_load_explicit(&ep->logging_in, memory_order_relaxed);

	do {
		if (max > 0 && n >= max)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&ep->logging_in, &n, n + 1, memory_order_relaxed,
							memory_order_relaxed));
	return true;
}

struct endpoint *endpoint_choose(const struct endpoint_wish *wish)
{
	const struct endpoint_list *list = wish->list;

	for (enum endpoint_rank rank = RANK_KNOWN; rank < RANKS; rank++)
		for (unsigned i = 0; i < list->count; i++) {
			struct endpoint *ep = list->items[(wish->turn + i) % list->count];

			if (endpoint_rank(ep, wish) != rank || !endpoint_take_login(ep, wish->login_max))
				continue;
			atomic_fetch_add_explicit(&ep->servers, 1, memory_order_relaxed);
			return endpoint_hold(ep);
		}
	return NULL;
}

void endpoint_login_over(struct endpoint *endpoint)
{
	unsigned old = atomic_fetch_sub_explicit(&endpoint->logging_in, 1, memory_order_relaxed);

	ASSERT(old > 0);
}

void endpoint_login_done(struct endpoint *endpoint)
{
	struct endpoints *table = endpoint->table;

	endpoint_login_over(endpoint);
	if (UNLIKELY(atomic_load_explicit(&endpoint->is_awaited, memory_order_relaxed)) &&
	    atomic_exchange(&endpoint->is_awaited, false) && table->on_login != NULL)
		table->on_login(endpoint, table->arg);
}

void endpoint_give(struct endpoint **epp, bool logging_in)
{
	unsigned old;

	if (*epp == NULL)
		return;
	if (logging_in)
		endpoint_login_over(*epp);
	old = atomic_fetch_sub_explicit(&(*epp)->servers, 1, memory_order_relaxed);
	ASSERT(old > 0);
	endpoint_release(epp);
}
