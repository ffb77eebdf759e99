/*
 * Cancel requests: from the key that a client shows to the server that works
 * for the key's owner at this moment, or to nobody.
 */
#ifndef PGSLUICE_POOL_CANCEL_H
#define PGSLUICE_POOL_CANCEL_H

#include "pool/client.h"
#include "pool/engine.h"

#define CANCEL_KEY_LEN 8

/* Makes the key for the client of this slot. Any thread. */
void cancel_key_make(const struct engine *engine, unsigned worker, uint32_t slot, uint16_t generation,
		     uint8_t key[CANCEL_KEY_LEN]);

/*
 * A key that another process has given out and whose client is here now. The
 * client of that slot has it as its cancel_key. Any thread.
 */
void cancel_key_carry(struct engine *engine, const uint8_t key[CANCEL_KEY_LEN], unsigned worker, uint32_t slot,
		      uint16_t generation);
/* The client of such a key is gone. Any thread. */
void cancel_key_drop(struct engine *engine, const uint8_t key[CANCEL_KEY_LEN]);

/* Keys of console sessions name no worker. */
#define CANCEL_WORKER_CONSOLE 127

/*
 * A cancel request was read from `fd`, which is taken over and closed when the
 * outcome is known. `who` describes the one who asks, for the log. Login
 * thread, with its own context.
 */
void cancel_request(struct loop_ctx *ctx, int fd, const uint8_t key[CANCEL_KEY_LEN], const char *who);

/* Closes requests that have waited longer than cancel_wait_timeout. Own thread. */
void cancel_sweep(struct worker *worker, uint64_t now_us);

/* Ends the requests for clients of a pool that is taken away. Own thread. */
void cancel_end_pool(struct worker *worker, const struct pool *pool);

/* Ends all requests. Own thread. */
void cancel_close_all(struct worker *worker);

/* Requests under way on this worker, for SHOW POOLS: those of the pool that wait, that are sent. Own thread. */
void cancel_count(struct worker *worker, const struct pool *pool, unsigned *waiting, unsigned *active);

/* The target of requests is gone or has changed hands: those not sent yet are dropped. Own thread. */
void cancel_detach(struct worker *worker, struct server *server);

#endif
