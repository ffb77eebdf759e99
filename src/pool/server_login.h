/*
 * From a permit to a server that is logged in: name look-up, connect, login,
 * connect_query.
 */
#ifndef PGSLUICE_POOL_SERVER_LOGIN_H
#define PGSLUICE_POOL_SERVER_LOGIN_H

#include "pool/server.h"

/* Begins; the end is server_logged_in() or server_close(). */
void server_login_start(struct server *server);

/* The connect has ended, in one way or the other. */
void server_login_on_connected(struct server *server);

/* The handshake has ended; callback of the stream. */
void server_login_on_secured(void *owner, int err);

/* Bytes, or the end, came during the login. */
void server_login_on_readable(struct server *server);

/* Gives back what the login holds; harmless when there is none. */
void server_login_free(struct server *server);

/* True once the network has led to somebody; of a server that is logging in. Own thread. */
bool server_login_is_connected(const struct server *server);

#endif
