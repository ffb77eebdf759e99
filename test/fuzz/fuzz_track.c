/*
 * The protocol tracker against a model of the backend. The input is a script
 * of three kinds of steps, in any order, so that both directions may lag:
 *
 *     send     client (or pooler) -> track_client() -> `to_backend`
 *     process  the backend takes one message from `to_backend` and puts its
 *              answers into `to_pooler`, with a fate chosen by the script
 *     deliver  one answer from `to_pooler` -> track_server()
 *
 * The backend's own rules are few: after an error in an extended message it
 * ignores everything up to a Sync; while it reads COPY data it swallows Sync
 * and Flush and dies of anything else; in a COPY in both directions it dies of
 * those, too; COPY messages outside of COPY are ignored. The tracker sees none of that, only types passing by, and must
 *
 *  - never call an answer of this backend illegal,
 *  - never say "idle" while the backend is not, or an answer is on its way,
 *  - say "idle" when all is quiet and the backend is,
 *  - know whose request an answer belongs to,
 *
 * except that a session it has given up (track_is_lost) only must not be idle.
 * It may give up only with a reason: a request or a Sync between the message
 * that begins a COPY and the end of its data.
 */
#include "fuzz.h"

#include "proto/msg.h"
#include "proto/track.h"

#define QUEUE_MAX 4096 /* messages on their way in one direction */

struct message {
	uint8_t type;
	uint8_t status; /* of a ReadyForQuery */
	bool ours;      /* the pooler's own request, or the answer to one */
};

struct queue {
	struct message m[QUEUE_MAX];
	unsigned head, tail;
};

enum copy_state {
	COPY_NONE,
	COPY_IN_QUERY,
	COPY_IN_EXECUTE,
	COPY_BOTH, /* in a Query */
};

struct backend {
	struct queue to_backend;
	struct queue to_pooler;
	enum copy_state copy;
	bool copy_ours;     /* whose statement it is */
	bool ignoring;      /* up to the next Sync */
	bool batch;         /* extended messages since the last Sync */
	bool dead;          /* sent its last message */
	uint8_t status;     /* as told in the last ReadyForQuery */
	unsigned in_way;    /* answers in to_pooler that are not asynchronous */
	unsigned copy_at;   /* in to_backend: what the last COPY reads first; 0 before any */
	bool may_be_broken; /* requests were sent as COPY data */
	bool may_be_doubt;  /* Syncs were */
};

/* A backend right after the login; what the queues held stays there unseen. */
static void backend_init(struct backend *be)
{
	be->to_backend.head = be->to_backend.tail = be->to_pooler.head = be->to_pooler.tail = 0;
	memset((char *)be + offsetof(struct backend, copy), 0, sizeof(*be) - offsetof(struct backend, copy));
	be->status = TX_IDLE;
}

static bool queue_is_empty(const struct queue *q)
{
	return q->head == q->tail;
}

static bool queue_put(struct queue *q, struct message m)
{
	if (q->tail == QUEUE_MAX)
		return false;
	q->m[q->tail++] = m;
	return true;
}

static bool message_is_async(uint8_t type)
{
	return type == BE_NOTICE || type == BE_NOTIFICATION || type == BE_PARAMETER_STATUS;
}

/* The backend says something. */
static void backend_say(struct backend *be, uint8_t type, bool ours)
{
	if (be->dead)
		return;
	if (!queue_put(&be->to_pooler, (struct message){ type, be->status, ours })) {
		be->dead = true;
		return;
	}
	be->in_way += !message_is_async(type);
}

static void backend_ready(struct backend *be, uint8_t fate, bool ours)
{
	static const uint8_t statuses[] = { TX_IDLE, TX_IDLE, TX_BLOCK, TX_FAILED };

	be->status = statuses[fate % ARRAY_LEN(statuses)];
	be->batch = false;
	backend_say(be, BE_READY, ours);
}

/* An error ends what the backend does; what follows depends on the message it stood in. */
static void backend_fail(struct backend *be, bool extended, uint8_t fate, bool ours)
{
	be->copy = COPY_NONE;
	backend_say(be, BE_ERROR, ours && !extended); /* the client's batch fails with it */
	if (extended)
		be->ignoring = true;
	else
		backend_ready(be, fate, ours);
}

static void backend_begin_copy(struct backend *be, enum copy_state copy, bool ours)
{
	be->copy = copy;
	be->copy_ours = ours;
	be->copy_at = be->to_backend.head;
	backend_say(be, copy == COPY_BOTH ? BE_COPY_BOTH : BE_COPY_IN, ours);
}

/* The statements of a simple Query, until it ends or begins to read COPY data. */
static void backend_statements(struct backend *be, struct slice *script, bool ours)
{
	for (;;) {
		uint8_t fate = fuzz_take_u8(script);

		switch (fate & 7) {
		case 0:
			backend_ready(be, fate >> 4, ours);
			return;
		case 1:
			backend_fail(be, false, fate >> 4, ours);
			return;
		case 2:
			backend_begin_copy(be, COPY_IN_QUERY, ours);
			return;
		case 3:
			backend_say(be, BE_COPY_OUT, ours);
			backend_say(be, BE_COPY_DATA, ours);
			backend_say(be, BE_COPY_DONE, ours);
			backend_say(be, BE_COMMAND_COMPLETE, ours);
			break;
		case 4:
			backend_say(be, BE_EMPTY_QUERY, ours);
			break;
		case 5:
			backend_say(be, BE_COMMAND_COMPLETE, ours);
			break;
		case 6:
			backend_begin_copy(be, COPY_BOTH, ours);
			return;
		default:
			backend_say(be, BE_ROW_DESCRIPTION, ours);
			backend_say(be, BE_DATA_ROW, ours);
			backend_say(be, BE_COMMAND_COMPLETE, ours);
			break;
		}
	}
}

static void backend_execute(struct backend *be, uint8_t fate, bool ours)
{
	switch (fate & 7) {
	case 1:
		backend_fail(be, true, fate, ours);
		break;
	case 2:
		backend_begin_copy(be, COPY_IN_EXECUTE, ours);
		break;
	case 3:
		backend_say(be, BE_COPY_OUT, ours);
		backend_say(be, BE_COPY_DATA, ours);
		backend_say(be, BE_COPY_DONE, ours);
		backend_say(be, BE_COMMAND_COMPLETE, ours);
		break;
	case 4:
		backend_say(be, BE_EMPTY_QUERY, ours);
		break;
	case 5:
		backend_say(be, BE_DATA_ROW, ours);
		backend_say(be, BE_PORTAL_SUSPENDED, ours);
		break;
	default:
		backend_say(be, BE_DATA_ROW, ours);
		backend_say(be, BE_COMMAND_COMPLETE, ours);
		break;
	}
}

/* A message while COPY data goes both ways. */
static void backend_in_both(struct backend *be, struct message m, struct slice *script)
{
	uint8_t fate = fuzz_take_u8(script);

	switch (m.type) {
	case FE_COPY_DATA:
		if ((fate & 3) == 3)
			backend_fail(be, false, fate >> 4, be->copy_ours);
		else
			backend_say(be, BE_COPY_DATA, be->copy_ours);
		return;
	case FE_COPY_DONE:
		be->copy = COPY_NONE;
		backend_say(be, BE_COPY_DONE, be->copy_ours);
		backend_say(be, BE_COMMAND_COMPLETE, be->copy_ours);
		backend_statements(be, script, be->copy_ours);
		return;
	default:
		backend_say(be, BE_ERROR, be->copy_ours);
		be->dead = true;
		return;
	}
}

/* A message while the backend reads COPY data. */
static void backend_in_copy(struct backend *be, struct message m, struct slice *script)
{
	bool extended = be->copy == COPY_IN_EXECUTE;
	uint8_t fate;

	switch (m.type) {
	case FE_FLUSH:
	case FE_SYNC:
		return;
	case FE_COPY_FAIL:
		backend_fail(be, extended, fuzz_take_u8(script), be->copy_ours);
		return;
	case FE_COPY_DATA:
		fate = fuzz_take_u8(script);
		if ((fate & 3) == 3)
			backend_fail(be, extended, fate >> 4, be->copy_ours);
		return;
	case FE_COPY_DONE:
		fate = fuzz_take_u8(script);
		if ((fate & 3) == 3) {
			backend_fail(be, extended, fate >> 4, be->copy_ours);
			return;
		}
		be->copy = COPY_NONE;
		backend_say(be, BE_COMMAND_COMPLETE, be->copy_ours);
		if (!extended)
			backend_statements(be, script, be->copy_ours);
		return;
	default:
		backend_say(be, BE_ERROR, be->copy_ours);
		backend_say(be, BE_ERROR, be->copy_ours);
		be->dead = true;
		return;
	}
}

/* Parse, Bind, Describe, Execute, Close. */
static void backend_extended(struct backend *be, struct message m, uint8_t fate)
{
	be->batch = true;
	if (m.type == FE_EXECUTE) {
		backend_execute(be, fate, m.ours);
		return;
	}
	if ((fate & 7) == 1 && m.type != FE_CLOSE) {
		backend_fail(be, true, fate, m.ours);
		return;
	}
	switch (m.type) {
	case FE_PARSE:
		backend_say(be, BE_PARSE_COMPLETE, m.ours);
		break;
	case FE_BIND:
		backend_say(be, BE_BIND_COMPLETE, m.ours);
		break;
	case FE_CLOSE:
		backend_say(be, BE_CLOSE_COMPLETE, m.ours);
		break;
	default:
		if (fate & 8)
			backend_say(be, BE_PARAMETER_DESCRIPTION, m.ours);
		backend_say(be, fate & 16 ? BE_ROW_DESCRIPTION : BE_NO_DATA, m.ours);
		break;
	}
}

/* The backend reads its next message. */
static void backend_process(struct backend *be, struct slice *script)
{
	struct message m;
	uint8_t fate;

	if (be->dead || queue_is_empty(&be->to_backend))
		return;
	m = be->to_backend.m[be->to_backend.head++];
	if (be->copy != COPY_NONE) {
		(be->copy == COPY_BOTH ? backend_in_both : backend_in_copy)(be, m, script);
		return;
	}
	if (m.type == FE_SYNC) {
		be->ignoring = false;
		fate = fuzz_take_u8(script);
		if ((fate & 7) == 1)
			backend_say(be, BE_ERROR, m.ours); /* a deferred constraint */
		backend_ready(be, fate >> 4, m.ours);
		return;
	}
	if (be->ignoring)
		return;
	switch (m.type) {
	case FE_QUERY:
		backend_statements(be, script, m.ours);
		break;
	case FE_FUNCTION_CALL:
		fate = fuzz_take_u8(script);
		backend_say(be, (fate & 7) == 1 ? BE_ERROR : BE_FUNCTION_RESULT, m.ours);
		backend_ready(be, fate >> 4, m.ours);
		break;
	case FE_FLUSH:
	case FE_COPY_DATA:
	case FE_COPY_DONE:
	case FE_COPY_FAIL:
		break;
	default:
		backend_extended(be, m, fuzz_take_u8(script));
		break;
	}
}

/* It completes what it streams and goes. */
static void backend_shut_down(struct backend *be)
{
	backend_say(be, BE_COMMAND_COMPLETE, be->copy_ours);
	be->dead = be->may_be_broken = true;
}

/* Something that nobody asked for. */
static void backend_spontaneous(struct backend *be, uint8_t what)
{
	static const uint8_t types[] = { BE_NOTICE, BE_NOTIFICATION, BE_PARAMETER_STATUS };

	if (what % 4 < ARRAY_LEN(types))
		backend_say(be, types[what % 4], false);
	else if (be->copy == COPY_BOTH && (what & 4) != 0)
		backend_shut_down(be);
	else if (be->copy != COPY_NONE)
		backend_fail(be, be->copy == COPY_IN_EXECUTE, what >> 4, be->copy_ours); /* statement_timeout */
}

static void fuzz_send(struct backend *be, struct track *t, uint8_t what, bool ours)
{
	static const uint8_t types[] = {
		FE_QUERY,     FE_PARSE,     FE_BIND,    FE_DESCRIBE,  FE_EXECUTE,       FE_CLOSE,
		FE_FLUSH,     FE_SYNC,      FE_EXECUTE, FE_SYNC,      FE_FUNCTION_CALL, FE_COPY_DATA,
		FE_COPY_DONE, FE_COPY_FAIL, FE_SYNC,    FE_COPY_DONE,
	};
	static const uint8_t own_types[] = { FE_QUERY, FE_PARSE, FE_CLOSE, FE_SYNC };
	struct message m = { .ours = ours };

	if (be->to_backend.tail == QUEUE_MAX)
		return;
	if (ours) {
		if (t->copy_open || t->skip)
			return; /* the pooler does not interfere there */
		m.type = own_types[what % ARRAY_LEN(own_types)];
		ASSERT(track_ours(t, m.type));
	} else {
		m.type = types[what % ARRAY_LEN(types)];
		ASSERT(track_client(t, m.type) == TRACK_PASS);
	}
	ASSERT(queue_put(&be->to_backend, m));
}

static void fuzz_deliver(struct backend *be, struct track *t)
{
	bool lost = track_is_lost(t);
	enum track_verdict verdict;
	struct message m;

	if (queue_is_empty(&be->to_pooler))
		return;
	m = be->to_pooler.m[be->to_pooler.head++];
	verdict = track_server(t, m.type, m.status);
	if (message_is_async(m.type)) {
		ASSERT(verdict == TRACK_ASYNC || (verdict == TRACK_SWALLOW && m.type == BE_NOTICE));
		return;
	}
	be->in_way--;
	if (!lost)
		ASSERT(verdict == (m.ours ? TRACK_SWALLOW : TRACK_PASS));
}

/* True when some message that is still to be read makes the backend answer. */
static bool backend_will_answer(const struct backend *be)
{
	for (unsigned i = be->to_backend.head; i < be->to_backend.tail; i++) {
		uint8_t type = be->to_backend.m[i].type;

		if (type != FE_FLUSH && type != FE_COPY_DATA && type != FE_COPY_DONE && type != FE_COPY_FAIL)
			return true;
	}
	return false;
}

static bool backend_is_idle(const struct backend *be)
{
	return be->copy == COPY_NONE && !be->ignoring && !be->batch && !be->dead && be->status == TX_IDLE &&
	       be->in_way == 0 && !backend_will_answer(be);
}

/* Looks for what gives the tracker a reason to give up, in the data of the last COPY. */
static void backend_judge(struct backend *be)
{
	if (be->copy_at == 0)
		return;
	for (unsigned i = be->copy_at; i < be->to_backend.tail; i++) {
		uint8_t type = be->to_backend.m[i].type;

		if (type == FE_COPY_DONE || type == FE_COPY_FAIL)
			return;
		if (type == FE_SYNC)
			be->may_be_doubt = true;
		else if (type != FE_FLUSH && type != FE_COPY_DATA)
			be->may_be_broken = true;
	}
}

static void fuzz_check(struct backend *be, const struct track *t)
{
	bool idle = track_is_idle(t);

	backend_judge(be);
	ASSERT(!idle || backend_is_idle(be));
	ASSERT(!t->broken || be->may_be_broken || be->may_be_doubt);
	ASSERT(!t->doubt || be->may_be_doubt || be->may_be_broken);
	if (!queue_is_empty(&be->to_backend) || !queue_is_empty(&be->to_pooler) || be->dead || track_is_lost(t))
		return;
	ASSERT(idle == backend_is_idle(be));
	ASSERT(track_is_quiet(t) == (be->copy == COPY_NONE));
	ASSERT(t->skip == be->ignoring);
	ASSERT(t->status == be->status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct backend be;
	struct slice script = slice_make(data, size);
	struct track t;

	backend_init(&be);
	track_init(&t);
	while (script.n > 0) {
		uint8_t step = fuzz_take_u8(&script);

		switch (step >> 4) {
		case 0:
		case 1:
		case 2:
		case 3:
		case 4:
			fuzz_send(&be, &t, step & 15, false);
			break;
		case 5:
			fuzz_send(&be, &t, step & 15, true);
			break;
		case 6:
			backend_spontaneous(&be, step & 15);
			break;
		case 7:
		case 8:
		case 9:
		case 10:
			backend_process(&be, &script);
			break;
		default:
			fuzz_deliver(&be, &t);
			break;
		}
		fuzz_check(&be, &t);
	}
	while (!be.dead && !queue_is_empty(&be.to_backend)) {
		backend_process(&be, &script);
		fuzz_check(&be, &t);
	}
	while (!queue_is_empty(&be.to_pooler)) {
		fuzz_deliver(&be, &t);
		fuzz_check(&be, &t);
	}
	track_fini(&t);
	return 0;
}
