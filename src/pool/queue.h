/*
 * The queue of a pool: who stands in it, and who is told at once that waiting
 * is in vain. pool.c decides who gets a server.
 */
#ifndef PGSLUICE_POOL_QUEUE_H
#define PGSLUICE_POOL_QUEUE_H

#include "pool/client.h"
#include "pool/pool.h"

/* ---- under the pool's lock ---- */

/* Joins at the end, or again at the head: the server that was promised cannot be used. */
void queue_join_locked(struct client *client, uint64_t now_us);
void queue_rejoin_locked(struct client *client, uint64_t now_us);

/* Takes a client out that stands in it. */
void queue_leave_locked(struct client *client, uint64_t now_us);

/* Takes a client out because a server is free for it. */
void queue_grant_locked(struct client *client, uint64_t now_us);

/* Service stands still, or is of another kind from now on: how long a wait takes must be learnt anew. */
void queue_forget_locked(struct pool *pool);

/*
 * True when a client with a query is not to join, and *refusal says why; it has
 * been counted as refused.
 */
bool queue_refuses_locked(struct client *client, uint64_t now_us, struct pool_refusal *refusal);

/* ---- without it, on the client's thread ---- */

/*
 * True when a client that stands in the queue would wait in vain: it has been
 * taken out, and *refusal says why.
 */
bool queue_gives_up(struct client *client, uint64_t now_us, struct pool_refusal *refusal);

/* What there is to tell about a queue. */
struct queue_facts {
	uint64_t waiting;   /* clients with a query in it */
	uint64_t wait_us;   /* that a newcomer would wait; QUEUE_UNKNOWN */
	uint64_t oldest_us; /* since when the first of them waits; 0: nobody does */
	uint64_t refused;   /* ever, because of max_waiting_clients */
	uint64_t shed;      /* ever, because of queue_shed */
	unsigned limit;     /* max_waiting_clients; 0: none */
};
/* Any thread. */
void queue_get_facts(struct pool *pool, uint64_t now_us, struct queue_facts *facts);

/*
 * What a client in the queue may be told: an estimate of its wait from now on,
 * QUEUE_UNKNOWN if there is none, and its ticket; those of a pool have the order
 * of the queue. False: it stands in none. Its own thread.
 */
struct queue_place {
	uint64_t ticket;
	uint64_t wait_us;
};
bool queue_get_place(const struct client *client, uint64_t now_us, struct queue_place *place);

#endif
