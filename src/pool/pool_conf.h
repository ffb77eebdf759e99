/*
 * The settings in effect for one pool: what follows for it from the general
 * settings, its database and its user. Immutable, shared by reference count,
 * and complete in itself: it holds on to no snapshot, so that a pool whose
 * settings stay the same over a reload need not be touched.
 */
#ifndef PGSLUICE_POOL_POOL_CONF_H
#define PGSLUICE_POOL_POOL_CONF_H

#include "auth/secret.h"
#include "auth/users.h"
#include "conf/conf.h"
#include "core/base.h"
#include "net/sock.h"
#include "pool/endpoint.h"
#include "pool/tls_conf.h"

/* type, name: what is compared and copied as it is */
#define POOL_CONF_NUMBERS(X)                                                                           \
	X(enum conf_pool_mode, mode)                                                                   \
	X(unsigned, size) /* 0: no limit */                                                            \
	X(unsigned, min_size)                                                                          \
	X(unsigned, reserve_size)                                                                      \
	X(unsigned, max_waiting) /* clients in the queue; 0: no limit */                               \
	X(bool, queue_shed)                                                                            \
	X(unsigned, login_concurrency)                                                                 \
	X(uint64_t, reserve_timeout_us)                                                                \
	X(uint64_t, server_lifetime_us)                                                                \
	X(uint64_t, server_idle_timeout_us)                                                            \
	X(uint64_t, server_connect_timeout_us)                                                         \
	X(uint64_t, server_login_retry_us)                                                             \
	X(uint64_t, server_check_delay_us)                                                             \
	X(uint64_t, query_timeout_us)                                                                  \
	X(enum conf_timeout_action, query_timeout_action)                                              \
	X(uint64_t, cancel_grace_us)                                                                   \
	X(bool, timeout_includes_wait)                                                                 \
	X(bool, query_hints)  /* comments of queries may limit them */                                 \
	X(bool, cancels_gone) /* what a client that has gone was at is stopped, and its server kept */ \
	X(uint64_t, idle_transaction_timeout_us)                                                       \
	X(uint64_t, transaction_timeout_us)                                                            \
	X(uint64_t, query_wait_timeout_us)  /* of clients whose user has none of its own */            \
	X(uint64_t, client_idle_timeout_us) /* likewise */                                             \
	X(uint64_t, max_packet_size)                                                                   \
	X(int, prepared) /* statements kept on a server; 0: as they are, none is virtual; < 0: all */  \
	X(bool, reuse_unnamed)                                                                         \
	X(enum conf_sql_prepare, sql_prepare)                                                          \
	X(bool, retry) /* statements that failed are run again */                                      \
	X(unsigned, retry_max_attempts)                                                                \
	X(unsigned, retry_budget) /* percent */                                                        \
	X(bool, outlive)          /* clients outlive their servers */                                  \
	X(bool, round_robin)                                                                           \
	X(bool, backoff) /* server_login_retry is the cap of an exponential one */                     \
	X(enum conf_session_attrs, attrs)                                                              \
	X(unsigned, endpoint_login_max) /* logins to one endpoint, of all pools; 0: no limit */        \
	X(enum conf_open_action, open_action)                                                          \
	X(unsigned, max_eject) /* percent of the endpoints */                                          \
	X(bool, has_own_breakers)                                                                      \
	X(enum conf_sslmode, tls_mode)                                                                 \
	X(bool, tls_direct)           /* TLS begins without asking */                                  \
	X(unsigned, tls_version)      /* see struct tls_conf */                                        \
	X(bool, is_forced)            /* the pool's user is the forced one of the database */          \
	X(unsigned, template_version) /* of the * line that made the database; 0: its own did */

/* name: strings, each NULL or a text */
#define POOL_CONF_TEXTS(X)                                                \
	X(reset_query) /* NULL: none in this mode */                      \
	X(check_query) /* NULL: no check; "" stands for an empty query */ \
	X(unix_dir)

struct pool_conf {
	atomic_uint refs;
#define X(type, name) type name;
	POOL_CONF_NUMBERS(X)
#undef X
#define X(name) char *name;
	POOL_CONF_TEXTS(X)
#undef X
	struct conf_db *db; /* a copy; never NULL */
	struct endpoint_list endpoints;
	struct breaker_conf breaker;
	struct sock_tuning tuning;
	struct tls_ctx *tls;  /* held; NULL: servers are spoken to in plain text */
	struct secret secret; /* of the pool's user, for servers */
};

/*
 * The settings for the pool of `user` on the database that `db` defines. When
 * they equal those of `old` (NULL: none) the result is `old` itself, without a
 * reference more; else a new object with one. `tls` may be NULL: none. `template_version` is
 * that of the snapshot for a database made by the * line, else 0. Any thread.
 */
struct pool_conf *pool_conf_make(const struct conf *conf, const struct users *users, const struct tls_conf *tls,
				 struct endpoints *endpoints, const struct conf_db *db, const char *user,
				 unsigned template_version, struct pool_conf *old) MUSTCHECK;

/* The options of TCP connections, of any kind, that a configuration asks for. Any thread. */
void pool_conf_fill_tuning(struct sock_tuning *tuning, const struct conf *conf);

struct pool_conf *pool_conf_hold(struct pool_conf *conf) MUSTCHECK;
/* Gives a reference back and nulls the pointer; NULL inside is fine. */
void pool_conf_release(struct pool_conf **conf);

/* True when connections opened under one may go on to be used under the other. */
bool pool_conf_same_server(const struct pool_conf *a, const struct pool_conf *b);

#endif
