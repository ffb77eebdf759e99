/*
 * The health of endpoints: who is probed when, what follows from the answers,
 * and what is remembered of failovers. On the control loop.
 */
#ifndef PGSLUICE_POOL_HEALTH_H
#define PGSLUICE_POOL_HEALTH_H

#include "pool/endpoint.h"
#include "pool/engine.h"
#include "pool/health_facts.h"
#include "pool/health_judge.h"

struct health;

/* Failovers that are remembered. */
#define HEALTH_FAILOVERS_MAX 20

/* At the start, before the threads run. */
struct health *health_new(struct engine *engine) MUSTCHECK;

/* At the end of the engine, when no other thread runs. Nulls the pointer. */
void health_free(struct health **health);

/* The settings have changed. Control thread. */
void health_reload(struct health *health);

/*
 * Has the endpoint probed at once, and for some time to come, whether the
 * settings ask for it or not. What comes of it stands in its facts, and those
 * who watch endpoints are told (see endpoints_set_hooks). Any thread.
 */
void health_request_probe(struct engine *engine, struct endpoint *endpoint);

/*
 * Calls fn with what is known of each endpoint, as a text for another process,
 * where timelines and roles must not be forgotten. Control thread.
 */
void health_save(struct health *health, void (*fn)(const char *text, void *arg), void *arg);

/*
 * Goes on with what such a text says; one that cannot be read is left out. While
 * nothing is probed nothing is believed. Before the threads run.
 */
void health_load(struct health *health, const char *text);

/* A row of SHOW ENDPOINTS. */
struct health_row {
	const struct endpoint *endpoint;
	const struct health_facts *facts; /* of the last probe; NULL: there was none */
	uint64_t probed_us;               /* when that was answered; 0: never */
	uint32_t timeline;                /* the last one known; 0: none */
	uint64_t system_id;               /* likewise */
	int64_t lag_bytes;                /* behind the primary of its group; -1: not known */
};

/* Calls fn for each endpoint that is known, probed or not. Control thread. */
void health_each(struct health *health, void (*fn)(const struct health_row *row, void *arg), void *arg);

/* A row of SHOW FAILOVERS. */
struct health_failover {
	struct failover failover;
	char database[64]; /* one of those that have it */
};

/* The last ones, the newest first, up to HEALTH_FAILOVERS_MAX; returns how many. Control thread. */
size_t health_failovers(const struct health *health, const struct health_failover **out);

#endif
