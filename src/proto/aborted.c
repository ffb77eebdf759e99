/*
 * PostgreSQL answers every statement of a failed transaction by an error, until
 * the client ends it. So does this, where the session with the transaction is
 * no more: another session knows nothing of it, and a statement that came to
 * one would run on its own.
 *
 * COMMIT is the one that needs care. In a failed transaction it is answered by
 * the tag ROLLBACK, which many drivers do not look at, since they have been told
 * of the failure before. A client that does not know of the loss yet must not
 * take its transaction for committed: it is told now, as the answer to COMMIT.
 *
 * Only a text that is one statement ends the transaction, without AND CHAIN. Of
 * a text with more nothing may be run, and half of it cannot be.
 *
 * The same goes for a batch of extended messages outside of a block, of which
 * a part was done by the server that is lost: all of it is void up to the Sync.
 */
#include "proto/aborted.h"

#include "proto/build.h"
#include "proto/classify.h"
#include "proto/msg.h"
#include "proto/wire.h"

enum aborted_text aborted_judge(struct slice sql)
{
	const uint32_t ends = CLASSIFY_BIT(CLASSIFY_COMMIT) | CLASSIFY_BIT(CLASSIFY_ROLLBACK);
	struct classify c;

	classify_init(&c, CLASSIFY_F_SCS);
	classify_feed(&c, sql.p, sql.n);
	if (classify_end(&c) != 0)
		return ABORTED_OTHER;
	if (c.statements == 0)
		return ABORTED_EMPTY;
	if ((c.kinds & ends) == 0 || (c.kinds & CLASSIFY_BIT(CLASSIFY_CHAIN)) != 0)
		return ABORTED_OTHER;
	if (c.statements > 1)
		return ABORTED_SEVERAL;
	return (c.kinds & CLASSIFY_BIT(CLASSIFY_COMMIT)) != 0 ? ABORTED_COMMIT : ABORTED_ROLLBACK;
}

/* True when the statement is no error. */
static bool aborted_allows(const struct aborted *a, enum aborted_text text)
{
	return a->is_block && text >= ABORTED_EMPTY;
}

static int aborted_refuse(struct aborted *a, enum aborted_text text, struct buf *out)
{
	const struct aborted_errors *errors = &a->errors;
	struct slice error = text == ABORTED_SEVERAL ? errors->several : errors->refusal;

	if (!a->is_told)
		error = errors->loss;
	a->is_told = true;
	return buf_append(out, error.p, error.n);
}

/* An error in an extended message. */
static int aborted_refuse_batch(struct aborted *a, enum aborted_text text, struct buf *out)
{
	a->is_skipping = true;
	return aborted_refuse(a, text, out);
}

/* Runs an allowed statement. */
static int aborted_run(struct aborted *a, enum aborted_text text, struct buf *out)
{
	if (text == ABORTED_EMPTY)
		return build_empty_query(out);
	a->is_over = true;
	if (text == ABORTED_COMMIT && !a->is_told)
		return aborted_refuse_batch(a, text, out);
	return build_command_complete(out, "ROLLBACK");
}

/* ReadyForQuery, after which nothing of a batch is left. */
static int aborted_ready(struct aborted *a, struct buf *out)
{
	a->is_skipping = false;
	a->is_over |= !a->is_block;
	return build_ready(out, a->is_over ? TX_IDLE : TX_FAILED);
}

static int aborted_query(struct aborted *a, struct slice body, struct buf *out)
{
	enum aborted_text text = aborted_judge(body);
	int err = aborted_allows(a, text) ? aborted_run(a, text, out) : aborted_refuse(a, text, out);

	a->unnamed = a->portal = ABORTED_NONE;
	return err == 0 ? aborted_ready(a, out) : err;
}

/* ---- the extended protocol ---- */

static int aborted_parse(struct aborted *a, struct slice body, struct buf *out)
{
	struct reader r;
	struct slice name;
	struct slice rest;
	struct slice sql;
	enum aborted_text text;

	rd_init_slice(&r, body);
	name = rd_cstr(&r);
	rest = slice_make(r.p, r.n);
	sql = rd_cstr(&r);
	(void)rd_bytes(&r, (size_t)4 * rd_u16(&r));
	if (!rd_done(&r))
		return -E_PROTO;
	text = aborted_judge(sql);
	if (!aborted_allows(a, text) || (name.n > 0 && !a->names->define(a->arg, name, rest)))
		return aborted_refuse_batch(a, text, out);
	if (name.n == 0)
		a->unnamed = text;
	return build_parse_complete(out);
}

static enum aborted_text aborted_find(const struct aborted *a, struct slice name)
{
	struct slice sql;

	if (name.n == 0 && a->unnamed != ABORTED_NONE)
		return a->unnamed;
	return a->names->find(a->arg, name, &sql) ? aborted_judge(sql) : ABORTED_NONE;
}

static int aborted_bind(struct aborted *a, struct slice body, struct buf *out)
{
	struct reader r;
	struct slice portal;
	struct slice name;
	enum aborted_text text;

	rd_init_slice(&r, body);
	portal = rd_cstr(&r);
	name = rd_cstr(&r);
	if (r.err != 0)
		return -E_PROTO;
	text = aborted_find(a, name);
	if (portal.n > 0 || !aborted_allows(a, text))
		return aborted_refuse_batch(a, text, out);
	a->portal = text;
	return build_bind_complete(out);
}

/* Reads what Describe and Close are about; false when that is malformed. */
static bool aborted_read_target(struct slice body, bool *is_portal, struct slice *name)
{
	struct reader r;
	uint8_t target;

	rd_init_slice(&r, body);
	target = rd_u8(&r);
	*name = rd_cstr(&r);
	*is_portal = target == TARGET_PORTAL;
	return rd_done(&r) && (target == TARGET_PORTAL || target == TARGET_STATEMENT);
}

static int aborted_describe(struct aborted *a, struct slice body, struct buf *out)
{
	struct slice name;
	bool is_portal;
	enum aborted_text text;
	int err = 0;

	if (!aborted_read_target(body, &is_portal, &name))
		return -E_PROTO;
	text = is_portal ? (name.n == 0 ? a->portal : ABORTED_NONE) : aborted_find(a, name);
	if (!aborted_allows(a, text))
		return aborted_refuse_batch(a, text, out);
	if (!is_portal)
		err = build_parameter_description(out, NULL, 0);
	return err == 0 ? build_no_data(out) : err;
}

static int aborted_execute(struct aborted *a, struct slice body, struct buf *out)
{
	struct reader r;
	struct slice portal;
	enum aborted_text text;

	rd_init_slice(&r, body);
	portal = rd_cstr(&r);
	(void)rd_u32(&r);
	if (!rd_done(&r))
		return -E_PROTO;
	text = portal.n == 0 ? a->portal : ABORTED_NONE;
	if (!aborted_allows(a, text))
		return aborted_refuse_batch(a, text, out);
	return aborted_run(a, text, out);
}

static int aborted_close(struct aborted *a, struct slice body, struct buf *out)
{
	struct slice name;
	bool is_portal;

	if (!aborted_read_target(body, &is_portal, &name))
		return -E_PROTO;
	if (name.n == 0 && is_portal)
		a->portal = ABORTED_NONE;
	else if (name.n == 0)
		a->unnamed = ABORTED_NONE;
	else if (!is_portal)
		a->names->forget(a->arg, name);
	return build_close_complete(out);
}

/* Sync. A batch that is no block's is void, and its client has to know that before it is ready. */
static int aborted_sync(struct aborted *a, struct buf *out)
{
	int err = a->is_block || a->is_told ? 0 : aborted_refuse(a, ABORTED_OTHER, out);

	return err == 0 ? aborted_ready(a, out) : err;
}

/* ---- all ---- */

static int aborted_call(struct aborted *a, struct buf *out)
{
	int err = aborted_refuse(a, ABORTED_OTHER, out);

	return err == 0 ? aborted_ready(a, out) : err;
}

static int aborted_answer(struct aborted *a, uint8_t type, struct slice body, struct buf *out)
{
	switch (type) {
	case FE_QUERY:
		return aborted_query(a, body, out);
	case FE_FUNCTION_CALL:
		return aborted_call(a, out);
	case FE_PARSE:
		return aborted_parse(a, body, out);
	case FE_BIND:
		return aborted_bind(a, body, out);
	case FE_DESCRIBE:
		return aborted_describe(a, body, out);
	case FE_EXECUTE:
		return aborted_execute(a, body, out);
	case FE_CLOSE:
		return aborted_close(a, body, out);
	case FE_SYNC:
		return aborted_sync(a, out);
	case FE_FLUSH:
	case FE_COPY_DATA: /* the rest of a COPY that has failed */
	case FE_COPY_DONE:
	case FE_COPY_FAIL:
		return 0;
	default:
		return -E_PROTO;
	}
}

/* True when an answer to this type ends in ReadyForQuery. */
static bool aborted_is_end(uint8_t type)
{
	return type == FE_QUERY || type == FE_FUNCTION_CALL || type == FE_SYNC;
}

static bool aborted_is_silent(uint8_t type)
{
	return type == FE_FLUSH || type == FE_COPY_DATA || type == FE_COPY_DONE || type == FE_COPY_FAIL;
}

enum aborted_verdict aborted_take(struct aborted *a, uint8_t type, struct slice body, struct buf *out)
{
	if (a->is_skipping && type != FE_SYNC)
		return ABORTED_GOES_ON;
	if (a->is_over && type != FE_SYNC && !aborted_is_silent(type))
		return ABORTED_LEAVES;
	if (aborted_answer(a, type, body, out) != 0)
		return ABORTED_FAILS;
	return a->is_over && aborted_is_end(type) ? ABORTED_ENDS : ABORTED_GOES_ON;
}

enum aborted_verdict aborted_take_long(struct aborted *a, uint8_t type, struct buf *out)
{
	int err;

	if (a->is_skipping || aborted_is_silent(type))
		return ABORTED_GOES_ON;
	if (a->is_over)
		return ABORTED_LEAVES;
	err = type == FE_QUERY || type == FE_FUNCTION_CALL ? aborted_call(a, out)
							   : aborted_refuse_batch(a, ABORTED_OTHER, out);
	if (err != 0)
		return ABORTED_FAILS;
	return a->is_over && aborted_is_end(type) ? ABORTED_ENDS : ABORTED_GOES_ON;
}
