/*
 * Endpoints: the places where servers listen, host and port as the
 * configuration names them, with what is known of each. One object per place
 * and process, shared by the pools of all databases that name it.
 *
 * What is known are its facts: who probes (health.c) or logs in finds them out,
 * and whoever opens a server reads them, without a lock.
 */
#ifndef PGSLUICE_POOL_ENDPOINT_H
#define PGSLUICE_POOL_ENDPOINT_H

#include <uthash.h>

#include "conf/conf.h"
#include "core/base.h"
#include "core/lock.h"
#include "net/sock.h"
#include "pool/breaker_set.h"

/* id, name in SHOW ENDPOINTS and in the log */
#define ENDPOINT_ROLE_TABLE(X)              \
	X(ENDPOINT_ROLE_UNKNOWN, "unknown") \
	X(ENDPOINT_PRIMARY, "primary")      \
	X(ENDPOINT_STANDBY, "standby")

enum endpoint_role {
#define X(id, name) id,
	ENDPOINT_ROLE_TABLE(X)
#undef X
		ENDPOINT_ROLES
};

const char *endpoint_role_name(enum endpoint_role role);

/* What is known of an endpoint at one moment. */
struct endpoint_facts {
	enum endpoint_role role;
	bool is_read_only;   /* transactions are read-only by default, whatever the role */
	bool is_fenced;      /* its timeline is older than one that was seen: it gets no writes */
	bool is_unreachable; /* the last probe has failed */
	bool is_silent;      /* ... because a new connection was not answered at all, see endpoint_is_silent_at() */
};

struct endpoints;

struct endpoint {
	UT_hash_handle hh; /* protected by the table's lock */
	unsigned refs;     /* likewise */
	/* constant */
	struct endpoints *table;
	char *host; /* name, address, or directory of a Unix socket */
	uint16_t port;
	char *name; /* host:port, whole: what it is found by */

	/* protected by the table's lock */
	struct breaker_set *sets; /* live as long as this does */
	bool is_pinned;           /* a breaker was opened by hand: that is not forgotten, and holds a reference */

	/* atomic */
	atomic_uint servers;             /* permits out for servers there */
	atomic_uint logging_in;          /* of them, not logged in yet */
	atomic_uint facts;               /* packed: see endpoint_facts() */
	_Atomic uint64_t facts_until_us; /* the role counts as unknown for new servers from then on */
	_Atomic uint64_t silent_at;      /* endpoint_mark() of the address that was silent last; 0: none */
	atomic_bool is_suspect;          /* a symptom was reported, and nobody has looked since */
	atomic_bool is_awaited;          /* somebody wants to know of the next login there */
};

/* Is told, on any thread, that something points to trouble at the endpoint: the first time since it was looked at. */
typedef void (*endpoint_symptom_fn)(struct endpoint *endpoint, const char *why, void *arg);

/* Is told, on any thread, that a server has logged in at an endpoint whose next login was awaited. */
typedef void (*endpoint_login_fn)(struct endpoint *endpoint, void *arg);

/* The table of a process. */
struct endpoints *endpoints_new(void);
/* All endpoints must be gone. Nulls the pointer. */
void endpoints_free(struct endpoints **table);

/* Who is to be told; each may be NULL. While no other thread runs. */
void endpoints_set_hooks(struct endpoints *table, endpoint_symptom_fn on_symptom, endpoint_login_fn on_login,
			 void *arg);

/* Who is to be told that breakers have changed, see endpoints_log_news(); before the threads start. */
void endpoints_set_news_hook(struct endpoints *table, void (*fn)(void *arg), void *arg);

/* Tells it, if they have: after a choice, when the pool's lock is gone. Any thread, no lock held. */
void endpoints_tell_news(struct endpoints *table);

/*
 * Logs the changes of all breakers; `probe` is called for each endpoint where
 * one is open or waits for a probe, when probing is on. Control thread.
 */
void endpoints_log_news(struct endpoints *table, void (*probe)(struct endpoint *endpoint, void *arg), void *arg);

/* Whether endpoints are probed when somebody asks for it, with endpoint_probed() for each answer. Any thread. */
void endpoints_set_probing(struct endpoints *table, bool is_on);

/* Calls fn for each, with a reference held during the call. Any thread, no lock held. */
void endpoints_each(struct endpoints *table, void (*fn)(struct endpoint *endpoint, void *arg), void *arg);

/* The endpoint of this name, made on first use, with a reference. Any thread. */
struct endpoint *endpoint_get(struct endpoints *table, const char *host, uint16_t port) MUSTCHECK;
struct endpoint *endpoint_hold(struct endpoint *endpoint) MUSTCHECK;
/* Gives a reference back and nulls the pointer; NULL inside is fine. */
void endpoint_release(struct endpoint **endpoint);

/* The endpoints of a database, in the order of its host list. */
struct endpoint_list {
	unsigned count; /* 0: it names neither a host nor a directory */
	struct endpoint **items;
	struct breaker_set **sets; /* of each, those that are for this database */
};

/*
 * Those that the database names; unix_dir (or NULL) stands in for a missing
 * host. The breakers are those of this name, which from now on go by `breaker`.
 */
void endpoint_list_make(struct endpoint_list *list, struct endpoints *table, const struct conf_db *db,
			const char *unix_dir, const struct breaker_conf *breaker, const char *breaker_name);
void endpoint_list_free(struct endpoint_list *list);

/*
 * The endpoint of the list at which a connection to this address was opened,
 * with a reference: the only one, or the one of that address, or the only one of
 * that port, since the others have names that may lead anywhere. NULL: unknown.
 */
struct endpoint *endpoint_list_find(const struct endpoint_list *list, const struct sock_addr *addr) MUSTCHECK;

/* ---- facts ---- */

/* What is known now, however old. Any thread. */
struct endpoint_facts endpoint_facts(const struct endpoint *endpoint);

/* Sets all of it; the role is believed until that time. Control thread. */
void endpoint_set_facts(struct endpoint *endpoint, const struct endpoint_facts *facts, uint64_t until_us);

/* A number for an address, whatever its port; not 0. */
uint64_t endpoint_mark(const struct sock_addr *addr);

/*
 * True when the last probe has found that nobody answers at this address. The
 * name of an endpoint may lead to several, and a probe asks one at a time: what
 * it finds says nothing about servers at the others. Any thread.
 */
bool endpoint_is_silent_at(const struct endpoint *endpoint, const struct sock_addr *addr);

/*
 * Nobody probes it any more: what only probes find out is taken back, and the
 * role is believed no longer. True when that is news to somebody. Control thread.
 */
bool endpoint_forget_probes(struct endpoint *endpoint, uint64_t now_us);

/*
 * What a server there has said of itself at a login, or later. It is believed
 * for a second, or as long as a probe that says the same; another role than the
 * one that was known counts as a symptom. Any thread, no lock held.
 */
void endpoint_note_role(struct endpoint *endpoint, enum endpoint_role role, bool is_read_only, uint64_t now_us);

/* Something points to trouble there: who watches is told, once until it has looked. Any thread, no lock held. */
void endpoint_symptom(struct endpoint *endpoint, const char *why);

/* True when a server with these facts may be used by a database that asks for that; unknown roles fit. */
bool endpoint_fits(const struct endpoint_facts *facts, enum conf_session_attrs attrs);

/*
 * True when servers at an endpoint of the list should go elsewhere: it has not
 * the role that is asked for, or it was not reached, or is not the preferred one,
 * and another is better. Any thread.
 */
bool endpoint_is_to_leave(const struct endpoint *endpoint, const struct endpoint_list *list,
			  enum conf_session_attrs attrs);

/* ---- choice ---- */

/* What a pool wants an endpoint for. */
struct endpoint_wish {
	const struct endpoint_list *list;
	enum conf_session_attrs attrs;
	unsigned login_max; /* logins to one endpoint at once; 0: no limit */
	unsigned max_eject; /* percent of the endpoints that breakers may leave out for overload */
	unsigned turn;      /* where in the list to begin, modulo its length */
	uint64_t now_us;
};

/*
 * The endpoint for the next server, with a reference, counted in `servers` and
 * `logging_in`, and admitted by its breakers with *pass; NULL when there is none
 * that would do now. Reachable ones go before others, known roles before unknown
 * ones, then the order of the list. Under the pool's lock; see struct permit.
 */
struct endpoint *endpoint_choose(const struct endpoint_wish *wish, struct breaker_pass *pass) MUSTCHECK;

/*
 * True while breakers keep new servers from every endpoint of the list;
 * *left_us: until the first may take one, or BREAKER_FOREVER; *index of that
 * one. An endpoint whose breakers do not refuse, but has another role than is
 * asked for, may come to that role: the answer is false. Any thread; takes no
 * lock.
 */
bool endpoint_list_refuses(const struct endpoint_list *list, unsigned max_eject, uint64_t now_us, uint64_t *left_us,
			   unsigned *index);

/* ---- breakers ---- */

/* A probe has succeeded or failed; true when a breaker waits for the next one. Any thread, no lock held. */
bool endpoint_probed(struct endpoint *endpoint, bool is_ok, uint64_t now_us);

/* What the console says: false when no endpoint has that name. Control thread. */
bool endpoints_breaker_by_hand(struct endpoints *table, const char *name, enum breaker_hand what, uint64_t now_us);

/*
 * The breakers of an endpoint that settings name at present, in no order; `max`
 * of them at most, their number is returned. They live as long as the endpoint.
 */
size_t endpoint_breaker_sets(struct endpoint *endpoint, struct breaker_set **sets, size_t max);

/* A login to a server has ended, for better or worse. */
void endpoint_login_over(struct endpoint *endpoint);

/* A login to a server has succeeded: the same, and whoever has awaited that is told. No lock held. */
void endpoint_login_done(struct endpoint *endpoint);

/* The server is gone: gives count and reference back and nulls the pointer; NULL inside is fine. No lock held. */
void endpoint_give(struct endpoint **endpoint, bool logging_in);

#endif
