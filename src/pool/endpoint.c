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
#include "core/siphash.h"
#include "core/str.h"

#define EP_LOGIN_BELIEF_US USEC_PER_SEC

/* Bits of endpoint->facts; the role is in those below. */
#define EP_ROLE_MASK       3u
#define EP_READ_ONLY       (1u << 2)
#define EP_FENCED          (1u << 3)
#define EP_UNREACHABLE     (1u << 4)
#define EP_SILENT          (1u << 5)

struct endpoints {
	struct lock lock;
	struct endpoint *by_name; /* protected by lock */
	endpoint_symptom_fn on_symptom;
	endpoint_login_fn on_login;
	void *arg;
	struct breaker_news news;
	atomic_bool is_probing;
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

/* Gives back the reference of a breaker that was opened by hand; the caller has one of its own. */
static void endpoint_unpin(struct endpoint *ep, void *arg UNUSED)
{
	lock_acquire(&ep->table->lock);
	if (ep->is_pinned) {
		ASSERT(ep->refs > 1);
		ep->refs--;
		ep->is_pinned = false;
	}
	lock_release(&ep->table->lock);
}

void endpoints_free(struct endpoints **tablep)
{
	struct endpoints *table = *tablep;

	*tablep = NULL;
	if (table == NULL)
		return;
	endpoints_each(table, endpoint_unpin, NULL);
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
		ASSERT(all != NULL);
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

static char *endpoint_make_name(const char *host, uint16_t port)
{
	size_t size = strlen(host) + sizeof("[]:65535");
	char *name = xmalloc(size);

	str_format(name, size, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
	return name;
}

static struct endpoint *endpoint_new(struct endpoints *table, const char *host, uint16_t port)
{
	struct endpoint *ep = xcalloc(1, sizeof(*ep));

	ep->refs = 1;
	ep->table = table;
	ep->host = xstrdup(host);
	ep->port = port;
	ep->name = endpoint_make_name(host, port);
	return ep;
}

static void endpoint_destroy(struct endpoint *ep)
{
	struct breaker_set *set;

	if (ep == NULL)
		return;
	ASSERT(atomic_load(&ep->servers) == 0 && atomic_load(&ep->logging_in) == 0);
	while ((set = ep->sets) != NULL) {
		ep->sets = set->next;
		breaker_set_free(set);
	}
	free(ep->host);
	free(ep->name);
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
		HASH_ADD_KEYPTR(hh, table->by_name, ep->name, strlen(ep->name), ep);
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

static struct breaker_set *endpoint_find_set_locked(const struct endpoint *ep, const char *name)
{
	struct breaker_set *set = ep->sets;

	while (set != NULL && strcmp(set->name, name) != 0)
		set = set->next;
	return set;
}

/* The breakers of this name, made on first use; they go by these settings from now on. */
static struct breaker_set *endpoint_use_set(struct endpoint *ep, const char *name, const struct breaker_conf *conf)
{
	uint64_t now_us = clock_mono_us();
	struct breaker_set *fresh = NULL;
	struct breaker_set *set;
	bool is_pinned;

	lock_acquire(&ep->table->lock);
	set = endpoint_find_set_locked(ep, name);
	if (set == NULL) {
		lock_release(&ep->table->lock);
		fresh = breaker_set_new(&ep->table->news, name, conf, now_us);
		lock_acquire(&ep->table->lock);
		set = endpoint_find_set_locked(ep, name); /* somebody else may have been faster */
	}
	if (set == NULL) {
		set = fresh;
		fresh = NULL;
		set->next = ep->sets;
		ep->sets = set;
	}
	set->users++;
	is_pinned = ep->is_pinned;
	lock_release(&ep->table->lock);
	breaker_set_configure(set, conf, now_us);
	if (is_pinned)
		breaker_set_by_hand(set, BREAKER_HAND_OPEN, now_us);
	if (fresh != NULL)
		breaker_set_free(fresh);
	return set;
}

void endpoint_list_make(struct endpoint_list *list, struct endpoints *table, const struct conf_db *db,
			const char *unix_dir, const struct breaker_conf *breaker, const char *breaker_name)
{
	bool has_dir = str_is_set(unix_dir);

	list->count = (unsigned)db->host.count;
	if (list->count == 0 && has_dir)
		list->count = 1;
	if (list->count == 0)
		return;
	list->items = xcalloc(list->count, sizeof(struct endpoint *));
	list->sets = xcalloc(list->count, sizeof(struct breaker_set *));
	for (unsigned i = 0; i < list->count; i++) {
		list->items[i] = endpoint_get(table, db->host.count == 0 ? unix_dir : db->host.items[i],
					      (uint16_t)conf_db_port(db, i));
		list->sets[i] = endpoint_use_set(list->items[i], breaker_name, breaker);
	}
}

void endpoint_list_free(struct endpoint_list *list)
{
	for (unsigned i = 0; i < list->count; i++) {
		struct endpoints *table = list->items[i]->table;

		lock_acquire(&table->lock);
		list->sets[i]->users--;
		lock_release(&table->lock);
		endpoint_release(&list->items[i]);
	}
	free(list->items);
	free(list->sets);
	*list = (struct endpoint_list){ .count = 0 };
}

/* True for an endpoint without a name, and of this address. */
static bool endpoint_is_at(const struct endpoint *ep, const struct sock_addr *addr)
{
	struct sock_addr own;

	return sock_addr_set_host(&own, ep->host, ep->port) == 0 && sock_addr_equal(&own, addr);
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
	       (f->is_unreachable ? EP_UNREACHABLE : 0) | (f->is_silent ? EP_SILENT : 0);
}

static struct endpoint_facts facts_unpack(unsigned bits)
{
	return (struct endpoint_facts){
		.role = (enum endpoint_role)(bits & EP_ROLE_MASK),
		.is_read_only = (bits & EP_READ_ONLY) != 0,
		.is_fenced = (bits & EP_FENCED) != 0,
		.is_unreachable = (bits & EP_UNREACHABLE) != 0,
		.is_silent = (bits & EP_SILENT) != 0,
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

uint64_t endpoint_mark(const struct sock_addr *addr)
{
	static const uint8_t key[16] = { 0 };
	char text[SOCK_ADDR_TEXT];
	size_t n = sock_addr_host(addr, text, sizeof(text));

	return siphash_bytes(key, text, n) | 1;
}

bool endpoint_is_silent_at(const struct endpoint *endpoint, const struct sock_addr *addr)
{
	return endpoint_facts(endpoint).is_silent &&
	       atomic_load_explicit(&endpoint->silent_at, memory_order_relaxed) == endpoint_mark(addr);
}

bool endpoint_forget_probes(struct endpoint *endpoint, uint64_t now_us)
{
	const unsigned probed = EP_FENCED | EP_UNREACHABLE | EP_SILENT;
	unsigned was = atomic_fetch_and_explicit(&endpoint->facts, ~probed, memory_order_release);

	atomic_store_explicit(&endpoint->facts_until_us, now_us, memory_order_relaxed);
	return (was & probed) != 0;
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
		facts.is_unreachable = facts.is_silent = false;
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

/*
 * Overload leaves out a share of the endpoints only, and never all of several:
 * those that were left out first. The classes that do not count for this one.
 */
static unsigned endpoint_excepted(const struct endpoint_list *list, unsigned index, unsigned max_eject)
{
	uint64_t since_us = atomic_load_explicit(&list->sets[index]->ejected_us, memory_order_relaxed);
	unsigned most = list->count * max_eject / 100;
	unsigned before = 0;

	if (since_us == 0 || list->count == 1)
		return 0;
	if (most == 0 && max_eject > 0)
		most = 1;
	if (most == list->count)
		most--;
	for (unsigned i = 0; i < list->count; i++) {
		uint64_t other_us = atomic_load_explicit(&list->sets[i]->ejected_us, memory_order_relaxed);

		before += other_us != 0 && (other_us < since_us || (other_us == since_us && i < index));
	}
	return before < most ? 0 : FAILURE_BIT(FAILURE_OVERLOAD);
}

/* Admits a server to an endpoint of the list, when the breakers do and logins are not too many. */
static bool endpoint_admit(const struct endpoint_wish *wish, unsigned index, struct breaker_pass *pass)
{
	struct endpoint *ep = wish->list->items[index];

	if (!endpoint_take_login(ep, wish->login_max))
		return false;
	if (breaker_set_admit(wish->list->sets[index], wish->now_us,
			      endpoint_excepted(wish->list, index, wish->max_eject),
			      atomic_load(&ep->table->is_probing), pass))
		return true;
	endpoint_login_over(ep);
	return false;
}

bool endpoint_list_refuses(const struct endpoint_list *list, unsigned max_eject, uint64_t now_us, uint64_t *left_us,
			   unsigned *index)
{
	uint64_t shortest_us = BREAKER_FOREVER;

	*index = 0;
	for (unsigned i = 0; i < list->count; i++) {
		if (!breaker_set_refuses(list->sets[i], now_us, endpoint_excepted(list, i, max_eject), left_us))
			return false;
		if (*left_us < shortest_us) {
			shortest_us = *left_us;
			*index = i;
		}
	}
	*left_us = shortest_us;
	return list->count > 0;
}

struct endpoint *endpoint_choose(const struct endpoint_wish *wish, struct breaker_pass *pass)
{
	const struct endpoint_list *list = wish->list;

	for (enum endpoint_rank rank = RANK_KNOWN; rank < RANKS; rank++)
		for (unsigned i = 0; i < list->count; i++) {
			unsigned index = (wish->turn + i) % list->count;
			struct endpoint *ep = list->items[index];

			if (endpoint_rank(ep, wish) != rank || !endpoint_admit(wish, index, pass))
				continue;
			atomic_fetch_add_explicit(&ep->servers, 1, memory_order_relaxed);
			return endpoint_hold(ep);
		}
	return NULL;
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

/* ---- breakers ---- */

size_t endpoint_breaker_sets(struct endpoint *endpoint, struct breaker_set **sets, size_t max)
{
	size_t n = 0;

	lock_acquire(&endpoint->table->lock);
	for (struct breaker_set *set = endpoint->sets; set != NULL && n < max; set = set->next)
		if (set->users > 0)
			sets[n++] = set;
	lock_release(&endpoint->table->lock);
	return n;
}

/* Calls fn for each of the endpoint's, used or not: none goes before the endpoint does, and new ones come first. */
static void endpoint_each_set(struct endpoint *ep, void (*fn)(struct breaker_set *set, void *arg), void *arg)
{
	struct breaker_set *set;

	lock_acquire(&ep->table->lock);
	set = ep->sets;
	lock_release(&ep->table->lock);
	for (; set != NULL; set = set->next)
		fn(set, arg);
}

struct endpoint_probe {
	bool is_ok;
	uint64_t now_us;
	bool is_wanted; /* another one */
};

static void endpoint_probed_set(struct breaker_set *set, void *arg)
{
	struct endpoint_probe *probe = arg;

	breaker_set_probed(set, probe->is_ok, probe->now_us);
	probe->is_wanted |= breaker_set_wants_probe(set);
}

bool endpoint_probed(struct endpoint *endpoint, bool is_ok, uint64_t now_us)
{
	struct endpoint_probe probe = { .is_ok = is_ok, .now_us = now_us };

	endpoint_each_set(endpoint, endpoint_probed_set, &probe);
	return probe.is_wanted;
}

void endpoints_set_probing(struct endpoints *table, bool is_on)
{
	atomic_store(&table->is_probing, is_on);
}

void endpoints_set_news_hook(struct endpoints *table, void (*fn)(void *arg), void *arg)
{
	table->news.fn = fn;
	table->news.arg = arg;
}

void endpoints_tell_news(struct endpoints *table)
{
	breaker_news_tell(&table->news);
}

struct endpoint_news {
	const char *name;
	bool wants_probe;
	void (*probe)(struct endpoint *endpoint, void *arg);
	void *arg;
};

static void endpoint_log_set(struct breaker_set *set, void *arg)
{
	struct endpoint_news *news = arg;

	breaker_set_log_news(set, news->name);
	news->wants_probe |= breaker_set_wants_probe(set);
}

static void endpoint_log_news(struct endpoint *ep, void *arg)
{
	struct endpoint_news *news = arg;

	news->name = ep->name;
	news->wants_probe = false;
	endpoint_each_set(ep, endpoint_log_set, news);
	if (news->wants_probe && atomic_load(&ep->table->is_probing))
		news->probe(ep, news->arg);
}

void endpoints_log_news(struct endpoints *table, void (*probe)(struct endpoint *endpoint, void *arg), void *arg)
{
	struct endpoint_news news = { .probe = probe, .arg = arg };

	endpoints_each(table, endpoint_log_news, &news);
}

struct endpoint_hand {
	const char *name;
	enum breaker_hand what;
	uint64_t now_us;
	bool is_found;
};

static void endpoint_hand_set(struct breaker_set *set, void *arg)
{
	const struct endpoint_hand *hand = arg;

	breaker_set_by_hand(set, hand->what, hand->now_us);
}

static void endpoint_by_hand(struct endpoint *ep, void *arg)
{
	struct endpoint_hand *hand = arg;
	bool pins;

	if (strcmp(ep->name, hand->name) != 0)
		return;
	hand->is_found = true;
	endpoint_each_set(ep, endpoint_hand_set, hand);
	if (hand->what != BREAKER_HAND_OPEN) {
		endpoint_unpin(ep, NULL);
		return;
	}
	lock_acquire(&ep->table->lock);
	pins = !ep->is_pinned;
	ep->is_pinned = true;
	ep->refs += pins;
	lock_release(&ep->table->lock);
}

bool endpoints_breaker_by_hand(struct endpoints *table, const char *name, enum breaker_hand what, uint64_t now_us)
{
	struct endpoint_hand hand = { .name = name, .what = what, .now_us = now_us };

	endpoints_each(table, endpoint_by_hand, &hand);
	return hand.is_found;
}
