/*
 * The link between a client and a server, and the bytes that go through it.
 */
#ifndef PGSLUICE_POOL_LINK_H
#define PGSLUICE_POOL_LINK_H

#include "pool/client.h"
#include "pool/server.h"

/* Links both; sends the SET commands the client needs. The client goes on when it is told by client_resume(). */
void link_attach(struct client *client, struct server *server);

/* Links a client that is not greeted yet and the server that was opened for it, with its parameters. */
void link_attach_own(struct client *client, struct server *server);

/* Links two that were linked in another process. */
void link_carried(struct client *client, struct server *server);

/* Ends the link of both, whatever their state; no more is done with either. */
void link_detach(struct client *client, struct server *server);

/*
 * Works on bytes from the client, beginning at a message boundary or inside of
 * a body that is being streamed. Returns how many were consumed; the client may
 * be closed afterwards.
 */
size_t link_from_client(struct client *client, const uint8_t *data, size_t len);

/* The same for bytes from a server, linked or not. */
size_t link_from_server(struct server *server, const uint8_t *data, size_t len);

/*
 * Looks whether the server has become free of its client, or our own query on
 * it has ended, and does what follows. After link_from_server().
 */
void link_settle(struct server *server);

/* The client of this server is gone, or wants to be: the server is kept when its session is clean, else closed. */
void link_client_gone(struct client *client);

/* No server is to be had: the client is told why the last attempt failed, and closed. */
void link_refuse_failed(struct client *client, const char *failure);

/* True when the client has a server with nothing under way between them: outside of a transaction. Own thread. */
bool link_is_between(const struct client *client);

#endif
