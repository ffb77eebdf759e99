/*
 * A client from accept to authenticated, on a login loop.
 */
#ifndef PGSLUICE_POOL_LOGIN_H
#define PGSLUICE_POOL_LOGIN_H

#include "core/reason_tbl.h"
#include "net/listen.h"
#include "pool/engine.h"

/* Callback of the listening sockets; arg is the struct loop_ctx of the loop. */
void login_on_accept(struct loop *loop, int fd, const struct listener *from, const struct sock_addr *peer, void *arg);

/* Closes logins that take longer than client_login_timeout. Own thread. */
void login_sweep(struct loop_ctx *ctx, uint64_t now_us);

/* Closes all logins. Own thread. */
void login_close_all(struct loop_ctx *ctx);

/* The same; they are told why. */
void login_fail_all(struct loop_ctx *ctx, enum reason reason);

/* A login under way as SHOW tells it; valid during the call. */
struct login_view {
	const struct stream *stream;
	uint64_t id;
	uint64_t connect_us;
	const char *user; /* empty: not known yet */
	const void *ptr;
};
typedef void (*login_view_fn)(const struct login_view *view, void *arg);

/* Calls fn for each login under way on this loop. Own thread. */
void login_each(const struct loop_ctx *ctx, login_view_fn fn, void *arg);

/* The budgets of the logins of one loop; see login_turn.c. Own thread, but for login_turns_count(). */
struct login_turns;
struct prelogin_counts;

/* The turns of the logins of one loop, for that loop only. */
struct login_turns *login_turns_new(struct loop_ctx *ctx) MUSTCHECK;
/* After all logins are over. */
void login_turns_free(struct login_turns **t);
/* The limits of ctx->snap are in force from now on. */
void login_turns_reload(struct login_turns *t);
/* Any thread. */
void login_turns_count(const struct login_turns *t, struct prelogin_counts *counts);

#endif
