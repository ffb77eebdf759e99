/*
 * How TLS is used: what follows from client_tls_* and server_tls_*. Immutable,
 * shared by reference count, one in each snapshot. It may be older than the
 * settings of its snapshot, when those could not be put into force.
 */
#ifndef PGSLUICE_POOL_TLS_CONF_H
#define PGSLUICE_POOL_TLS_CONF_H

#include "conf/conf.h"
#include "core/base.h"
#include "net/tls_ctx.h"

struct tls_conf {
	atomic_uint refs;              /* private */
	enum conf_sslmode client_mode; /* in force towards clients; they may come over TLS unless it is disable */
	struct tls_ctx *client;        /* NULL: disable */
	enum conf_sslmode server_mode; /* in force towards servers */
	bool server_direct;            /* the handshake comes first, without a question */
	struct tls_ctx *server;        /* NULL: disable */
	unsigned server_version;       /* servers opened under another one are to be replaced */
	char *server_words;            /* private: the settings server_tls_*, as they were */
};

/*
 * From a configuration; what is still right is taken from `old` (NULL: none),
 * with the sessions that may be resumed. When all of it is, the result is `old`
 * itself with one more reference. Fails with -E_* and a text in `err` when a
 * setting or a file is wrong, and warns in the log of what may not be meant. Reads
 * files; control thread.
 */
int tls_conf_make(const struct conf *conf, struct tls_conf *old, struct tls_conf **out,
		  struct conf_error *err) MUSTCHECK;

struct tls_conf *tls_conf_hold(struct tls_conf *tls) MUSTCHECK;
/* Nulls the pointer; NULL inside is fine. Any thread. */
void tls_conf_release(struct tls_conf **tls);

#endif
