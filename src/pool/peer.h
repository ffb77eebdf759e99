/*
 * Peers: other processes behind the same address, to which cancel requests
 * with their keys are forwarded. All of it belongs to the control loop.
 */
#ifndef PGSLUICE_POOL_PEER_H
#define PGSLUICE_POOL_PEER_H

#include "pool/cancel_io.h"
#include "pool/cancel_key.h"
#include "pool/engine.h"

struct peers;

/* The peers of the engine's snapshot. Before the loops run. */
struct peers *peers_new(struct engine *engine) MUSTCHECK;

/* Ends all requests and connections and frees everything; look-ups of names may still be under way. Control thread. */
void peers_free(struct peers **peers);

/* Peers come, go and change; requests for one that goes are dropped. Control thread. */
void peers_reload(struct peers *peers, const struct snapshot *snap);

/*
 * Forwards a cancel request to the peer that has made the key, which is sent
 * as it is. The connection of `asker` is taken over, as in cancel_request().
 * Any thread.
 */
void peer_forward(struct engine *engine, const struct cancel_asker *asker, const struct cancel_key *key);

/* Ends the request of this asker; false when there is none. Control thread. */
bool peers_kill(struct peers *peers, uint64_t asker_id);

/* A peer and what is under way to it. */
struct peer_info {
	int id;
	const char *host;
	int port;
	int pool_size;
	unsigned waiting; /* requests not sent yet */
	unsigned active;  /* requests sent */
	unsigned opening; /* connections that nothing was sent over yet: 0 or 1 */
	bool is_used;     /* a request for it has come */
};
typedef void (*peer_info_fn)(const struct peer_info *info, void *arg);

/* Calls fn for each peer, in the order of their numbers. Control thread. */
void peers_each(const struct peers *peers, peer_info_fn fn, void *arg);

/* Calls fn for each request and connection under way. Control thread. */
void peers_each_request(const struct peers *peers, cancel_view_fn fn, void *arg);

#endif
