/*
 * The protocol tracker.
 *
 * Every message that makes the server answer is an entry in a queue; every
 * answer is held against the oldest entry. Two tables say what happens: one
 * row per client message, one row per server message with a column per kind
 * of the oldest entry.
 *
 *     client ->  Parse Bind Execute Sync  ->  queue [P B E S]  ->  server
 *     client <-  1  2  D D D C  Z         <-  pops   1 2 C  Z
 *
 * What makes this more than counting ReadyForQuery messages:
 *
 * Errors. After an error in an extended message the backend reads and discards
 * everything up to the next Sync: a simple Query among it is never answered.
 * So an ErrorResponse removes all entries up to the first Sync. If none was
 * sent yet the model is in `skip` and what is sent is discarded, not queued.
 * An error in a simple Query, a FunctionCall or in the commit that a Sync
 * makes does not start skipping; ReadyForQuery follows.
 *
 * COPY. While the backend reads COPY data it swallows Sync and Flush. When it
 * asks for data (CopyInResponse) the Syncs that were sent behind the COPY and
 * before CopyDone or CopyFail are therefore removed: they will not be
 * answered. Unless the backend leaves COPY by an error before it has read
 * them; the model cannot know how far it had read. Then the session is in
 * `doubt`: what is not expected is let through, and the session never serves
 * anybody else. A ReadyForQuery is the answer to such a Sync, and not to the
 * Query that stands first in the queue, as long as nothing else has come for
 * that (`begun`).
 *
 * Replication. After CopyBothResponse both sides send COPY data until both
 * have said CopyDone. What the client may send meanwhile is what it may send
 * in any COPY. A backend that shuts down completes the command without
 * waiting for the client's CopyDone, and goes.
 *
 * Answers of ours. What the pooler knows without asking (that the server has a
 * statement already) is not sent to the server, but its answer has a place in
 * the order: an entry stands for it, and an error before it drops it as the
 * server would have dropped the message.
 *
 * Marks. A message sent on a belief (that this Parse will succeed) is marked by
 * its sender, who is told whether it was answered or dropped.
 *
 * Flush. Answers may have come for everything that was sent while the backend
 * is still inside the implicit transaction of a batch without Sync; `unsynced`
 * keeps such a session with its client.
 *
 * Loss. When the server is lost, the queue says which ends of batches the client
 * is owed, by the rule for errors: the oldest request has failed, and so has each
 * that follows. What a batch does to the transaction block was noted with its
 * end, since only the texts tell, and these are gone by then.
 *
 * A Query in the place of a Sync. It ends the batch, and until PostgreSQL 17 the
 * transaction. Version 18 leaves that open for a Sync, as ReadyForQuery says;
 * but behind this Sync the next statement fails for an internal error, once. So
 * such a session is `tainted`, and must not come to another client.
 */
#include "proto/track.h"

#define TRACK_OURS         0x80
#define TRACK_MARK         0x40
#define TRACK_KIND_MASK    0x0f
#define TRACK_EFFECT_SHIFT 8 /* of an end of a batch: enum classify_effect */

/* What a client message does. */
enum client_action {
	TRACK_CL_ILLEGAL = 0,
	TRACK_CL_OWES,     /* queue an entry */
	TRACK_CL_SYNC,     /* the same, and the end of a batch */
	TRACK_CL_COPY_END, /* queue an entry that is answered by nothing */
	TRACK_CL_SILENT,   /* nothing is owed: Flush, CopyData */
	TRACK_CL_END,      /* Terminate */
};

struct client_row {
	uint8_t action; /* enum client_action */
	uint8_t kind;   /* enum track_kind */
	bool extended;  /* opens a batch that only a Sync (or Query) ends */
	bool in_copy;   /* the backend accepts it while it reads COPY data */
};

static const struct client_row client_rows[256] = {
	[FE_QUERY] = { TRACK_CL_SYNC, TRACK_QUERY, false, false },
	[FE_FUNCTION_CALL] = { TRACK_CL_SYNC, TRACK_FUNCTION, false, false },
	[FE_SYNC] = { TRACK_CL_SYNC, TRACK_SYNC, false, true },
	[FE_PARSE] = { TRACK_CL_OWES, TRACK_PARSE, true, false },
	[FE_BIND] = { TRACK_CL_OWES, TRACK_BIND, true, false },
	[FE_DESCRIBE] = { TRACK_CL_OWES, TRACK_DESCRIBE, true, false },
	[FE_EXECUTE] = { TRACK_CL_OWES, TRACK_EXECUTE, true, false },
	[FE_CLOSE] = { TRACK_CL_OWES, TRACK_CLOSE, true, false },
	[FE_FLUSH] = { TRACK_CL_SILENT, TRACK_NONE, false, true },
	[FE_COPY_DATA] = { TRACK_CL_SILENT, TRACK_NONE, false, true },
	[FE_COPY_DONE] = { TRACK_CL_COPY_END, TRACK_COPY_END, false, true },
	[FE_COPY_FAIL] = { TRACK_CL_COPY_END, TRACK_COPY_END, false, true },
	[FE_TERMINATE] = { TRACK_CL_END, TRACK_NONE, false, true },
};

/* What a server message does when the oldest entry is of the column's kind. */
enum server_action {
	TRACK_SV_ILLEGAL = 0,
	TRACK_SV_PASS,    /* part of an answer */
	TRACK_SV_POP,     /* the end of the answer to the oldest entry */
	TRACK_SV_DONE,    /* the end of one statement: pops an Execute, may end COPY */
	TRACK_SV_READY,   /* ReadyForQuery */
	TRACK_SV_COPY_IN, /* CopyInResponse */
	TRACK_SV_BOTH,    /* CopyBothResponse: the same, and data comes, too */
	TRACK_SV_ERROR,   /* ErrorResponse */
	TRACK_SV_ASYNC,   /* may come at any time */
};

#define ANY_KIND(action)                                                                                       \
	{                                                                                                      \
		action, action, action, action, action, action, action, action, action, action, action, action \
	}

/* clang-format off */
static const uint8_t server_rows[256][TRACK_KINDS] = {
	/* columns: NONE QUERY FUNCTION PARSE BIND DESCRIBE EXECUTE CLOSE SYNC COPY_END */
	[BE_READY]            = { [TRACK_NONE] = TRACK_SV_READY, [TRACK_QUERY] = TRACK_SV_READY,
				  [TRACK_FUNCTION] = TRACK_SV_READY, [TRACK_SYNC] = TRACK_SV_READY },
	[BE_PARSE_COMPLETE]   = { [TRACK_PARSE] = TRACK_SV_POP },
	[BE_BIND_COMPLETE]    = { [TRACK_BIND] = TRACK_SV_POP },
	[BE_CLOSE_COMPLETE]   = { [TRACK_CLOSE] = TRACK_SV_POP },
	[BE_PARAMETER_DESCRIPTION] = { [TRACK_DESCRIBE] = TRACK_SV_PASS },
	[BE_ROW_DESCRIPTION]  = { [TRACK_QUERY] = TRACK_SV_PASS, [TRACK_DESCRIBE] = TRACK_SV_POP },
	[BE_NO_DATA]          = { [TRACK_DESCRIBE] = TRACK_SV_POP },
	[BE_DATA_ROW]         = { [TRACK_QUERY] = TRACK_SV_PASS, [TRACK_EXECUTE] = TRACK_SV_PASS },
	[BE_COMMAND_COMPLETE] = { [TRACK_QUERY] = TRACK_SV_DONE, [TRACK_EXECUTE] = TRACK_SV_DONE },
	[BE_EMPTY_QUERY]      = { [TRACK_QUERY] = TRACK_SV_PASS, [TRACK_EXECUTE] = TRACK_SV_POP },
	[BE_PORTAL_SUSPENDED] = { [TRACK_EXECUTE] = TRACK_SV_POP },
	[BE_FUNCTION_RESULT]  = { [TRACK_FUNCTION] = TRACK_SV_PASS },
	[BE_COPY_IN]          = { [TRACK_QUERY] = TRACK_SV_COPY_IN, [TRACK_EXECUTE] = TRACK_SV_COPY_IN },
	[BE_COPY_OUT]         = { [TRACK_QUERY] = TRACK_SV_PASS, [TRACK_EXECUTE] = TRACK_SV_PASS },
	[BE_COPY_BOTH]        = { [TRACK_QUERY] = TRACK_SV_BOTH, [TRACK_EXECUTE] = TRACK_SV_BOTH },
	[BE_COPY_DATA]        = { [TRACK_QUERY] = TRACK_SV_PASS, [TRACK_EXECUTE] = TRACK_SV_PASS },
	[BE_COPY_DONE]        = { [TRACK_QUERY] = TRACK_SV_PASS, [TRACK_EXECUTE] = TRACK_SV_PASS },
	[BE_ERROR]            = ANY_KIND(TRACK_SV_ERROR),
	[BE_NOTICE]           = ANY_KIND(TRACK_SV_ASYNC),
	[BE_NOTIFICATION]     = ANY_KIND(TRACK_SV_ASYNC),
	[BE_PARAMETER_STATUS] = ANY_KIND(TRACK_SV_ASYNC),
};
/* clang-format on */

static const char *const kind_names[TRACK_KINDS] = {
	"none",    "query", "function", "parse",    "bind",       "describe",
	"execute", "close", "sync",     "copy-end", "owed parse", "owed close",
};

const char *track_kind_name(enum track_kind kind)
{
	return kind < TRACK_KINDS ? kind_names[kind] : "invalid";
}

void track_init(struct track *t)
{
	memset(t, 0, sizeof(*t));
	t->size = TRACK_INLINE;
	t->status = TX_IDLE;
}

void track_fini(struct track *t)
{
	free(t->ring);
	t->ring = NULL;
}

static inline uint16_t *track_base(struct track *t)
{
	return t->ring != NULL ? t->ring : t->inline_ring;
}

static inline uint16_t *track_at(struct track *t, uint32_t i)
{
	return &track_base(t)[(t->head + i) & (t->size - 1)];
}

static inline enum track_kind track_kind_at(struct track *t, uint32_t i)
{
	return (enum track_kind)(*track_at(t, i) & TRACK_KIND_MASK);
}

static bool track_grow(struct track *t)
{
	uint16_t *ring;

	if (t->size >= TRACK_MAX)
		return false;
	ring = malloc((size_t)t->size * 2 * sizeof(*ring));
	if (ring == NULL)
		return false;
	for (uint32_t i = 0; i < t->count; i++)
		ring[i] = *track_at(t, i);
	free(t->ring);
	t->ring = ring;
	t->head = 0;
	t->size *= 2;
	return true;
}

static inline bool track_push(struct track *t, uint16_t entry)
{
	if (UNLIKELY(t->count == t->size) && !track_grow(t))
		return false;
	*track_at(t, t->count) = entry;
	t->count++;
	return true;
}

bool track_reserve(struct track *t, uint32_t n)
{
	while (UNLIKELY(t->size - t->count < n))
		if (!track_grow(t))
			return false;
	return true;
}

/* A session that has grown for one long pipeline does not stay large. */
static void track_shrink(struct track *t)
{
	free(t->ring);
	t->ring = NULL;
	t->head = 0;
	t->size = TRACK_INLINE;
}

static inline void track_pop(struct track *t)
{
	uint16_t entry = *track_at(t, 0);

	ASSERT(t->count > 0);
	t->marks_done += (entry & TRACK_MARK) != 0;
	t->owed -= (entry & TRACK_KIND_MASK) >= TRACK_OWED_PARSE;
	t->head = (t->head + 1) & (t->size - 1);
	t->count--;
	if (t->count == 0 && UNLIKELY(t->ring != NULL))
		track_shrink(t);
}

/* Removes the oldest entry for an error. */
static void track_drop(struct track *t)
{
	uint16_t *entry = track_at(t, 0);

	t->marks_dropped += (*entry & TRACK_MARK) != 0;
	*entry &= (uint16_t)~TRACK_MARK;
	track_pop(t);
}

/* Removes entry i, keeping the order of the others. */
static void track_remove(struct track *t, uint32_t i)
{
	uint16_t entry = *track_at(t, i);

	for (; i > 0; i--)
		*track_at(t, i) = *track_at(t, i - 1);
	*track_at(t, 0) = entry;
	track_pop(t);
}

/* The end of COPY data outside of COPY is read and ignored by the server. */
static void track_drop_copy_ends(struct track *t)
{
	while (t->count > 0 && !t->copy_in && track_kind_at(t, 0) == TRACK_COPY_END)
		track_pop(t);
}

bool track_head_is_ours(const struct track *t)
{
	struct track *u = (struct track *)(uintptr_t)t;

	return t->count > 0 && (*track_at(u, 0) & TRACK_OURS) != 0;
}

uint32_t track_marks(const struct track *t)
{
	struct track *u = (struct track *)(uintptr_t)t;
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->count; i++)
		n += (*track_at(u, i) & TRACK_MARK) != 0;
	return n;
}

bool track_head_is_marked(const struct track *t)
{
	struct track *u = (struct track *)(uintptr_t)t;

	return t->count > 0 && (*track_at(u, 0) & TRACK_MARK) != 0;
}

enum track_kind track_head_kind(const struct track *t)
{
	return t->count > 0 ? track_kind_at((struct track *)(uintptr_t)t, 0) : TRACK_NONE;
}

void track_mark(struct track *t)
{
	ASSERT(t->count > 0);
	*track_at(t, t->count - 1) |= TRACK_MARK;
}

bool track_owe(struct track *t, uint8_t type)
{
	ASSERT(type == FE_PARSE || type == FE_CLOSE);
	ASSERT(!t->copy_open && !t->skip);
	if (!track_push(t, type == FE_PARSE ? TRACK_OWED_PARSE : TRACK_OWED_CLOSE))
		return false;
	t->owed++;
	return true;
}

uint8_t track_take_owed(struct track *t)
{
	enum track_kind kind = track_head_kind(t);

	if (kind != TRACK_OWED_PARSE && kind != TRACK_OWED_CLOSE)
		return 0;
	t->marks_done = t->marks_dropped = 0;
	track_pop(t);
	track_drop_copy_ends(t);
	return kind == TRACK_OWED_PARSE ? BE_PARSE_COMPLETE : BE_CLOSE_COMPLETE;
}

/* The server reads this message as part of COPY data. */
static enum track_verdict track_client_in_copy(struct track *t, const struct client_row *row)
{
	if (!row->in_copy) {
		t->broken = true; /* the backend answers with an error it cannot recover from */
		t->strayed = true;
		return TRACK_PASS;
	}
	if (row->action == TRACK_CL_SYNC) {
		t->copy_sync = true;
		return TRACK_PASS;
	}
	if (row->action == TRACK_CL_COPY_END) {
		if (!track_push(t, TRACK_COPY_END))
			return TRACK_FULL;
		t->copy_open = false;
	}
	return TRACK_PASS;
}

static enum track_verdict track_request(struct track *t, uint8_t type, uint16_t flag)
{
	const struct client_row *row = &client_rows[type];

	if (UNLIKELY(row->action == TRACK_CL_ILLEGAL))
		return TRACK_ILLEGAL;
	if (row->action == TRACK_CL_END)
		return TRACK_END;
	if (UNLIKELY(t->copy_open))
		return track_client_in_copy(t, row);
	if (UNLIKELY(t->skip) && row->kind != TRACK_SYNC)
		return TRACK_PASS;
	if (row->action == TRACK_CL_SYNC)
		flag |= (uint16_t)(t->effect << TRACK_EFFECT_SHIFT);
	if (row->action != TRACK_CL_SILENT && !track_push(t, row->kind | flag))
		return TRACK_FULL;
	if (row->action == TRACK_CL_SYNC) {
		t->effect = CLASSIFY_EFFECT_NONE;
		t->mixed |= t->unsynced && !t->skip && row->kind != TRACK_SYNC;
		t->erred |= t->skip;
		t->skip = false;
		t->unsynced = false;
	} else if (row->extended) {
		t->unsynced = true;
	} else if (row->action == TRACK_CL_COPY_END) {
		track_drop_copy_ends(t);
	}
	return TRACK_PASS;
}

bool track_knows_client(uint8_t type)
{
	return client_rows[type].action != TRACK_CL_ILLEGAL;
}

enum track_verdict track_client(struct track *t, uint8_t type)
{
	return track_request(t, type, 0);
}

bool track_ours(struct track *t, uint8_t type)
{
	enum track_verdict verdict = track_request(t, type, TRACK_OURS);

	ASSERT(verdict == TRACK_PASS || verdict == TRACK_FULL);
	return verdict == TRACK_PASS;
}

static bool track_ends_batch(enum track_kind kind)
{
	return kind == TRACK_SYNC || kind == TRACK_QUERY || kind == TRACK_FUNCTION;
}

static enum classify_effect track_effect_at(struct track *t, uint32_t i)
{
	return (enum classify_effect)(*track_at(t, i) >> TRACK_EFFECT_SHIFT);
}

void track_note(struct track *t, enum classify_effect effect)
{
	if (t->skip || t->copy_open)
		return; /* the server does not run it */
	if (t->unsynced) {
		t->effect = classify_effect_join(t->effect, effect);
	} else if (t->count > 0) {
		uint16_t *entry = track_at(t, t->count - 1);

		effect = classify_effect_join(effect, track_effect_at(t, t->count - 1));
		*entry = (uint16_t)((*entry & ((1u << TRACK_EFFECT_SHIFT) - 1)) | (effect << TRACK_EFFECT_SHIFT));
	}
}

void track_lose(const struct track *t, struct track_loss *loss)
{
	*loss = (struct track_loss){
		.track = t,
		.status = t->status,
		.is_known = !t->doubt && !t->strayed && t->status != 0,
		.is_silent = t->count == 0 && !t->skip,
		.is_erred = t->skip,
		.is_told = t->erred && !track_head_is_ours(t),
		.is_open = t->skip || t->unsynced,
		.effect = t->unsynced ? t->effect : CLASSIFY_EFFECT_NONE,
	};
}

/* An error in the entry at `at`, which is no end of a batch: what stands before the next Sync is skipped. */
static void track_lose_batch(struct track *t, struct track_loss *loss, enum classify_effect *effect)
{
	while (loss->at < t->count && track_kind_at(t, loss->at) != TRACK_SYNC)
		*effect = classify_effect_join(*effect, track_effect_at(t, loss->at++));
}

bool track_next_loss(struct track_loss *loss, enum classify_effect *effect)
{
	struct track *t = (struct track *)(uintptr_t)loss->track;

	*effect = CLASSIFY_EFFECT_NONE;
	while (loss->at < t->count) {
		enum track_kind kind = track_kind_at(t, loss->at);

		if (kind == TRACK_COPY_END || ((*track_at(t, loss->at) & TRACK_OURS) != 0 && track_ends_batch(kind))) {
			loss->at++; /* answered by nothing, or not to the client */
			continue;
		}
		if (!track_ends_batch(kind))
			track_lose_batch(t, loss, effect);
		if (loss->at == t->count) {
			loss->is_open = true;
			break;
		}
		*effect = classify_effect_join(*effect, track_effect_at(t, loss->at++));
		return true;
	}
	loss->effect = classify_effect_join(loss->effect, *effect);
	return false;
}

uint32_t track_open_batches(const struct track *t)
{
	struct track *u = (struct track *)(uintptr_t)t;
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->count; i++)
		n += (*track_at(u, i) & TRACK_OURS) == 0 && track_ends_batch(track_kind_at(u, i));
	return n;
}

uint32_t track_skipped_batches(const struct track *t)
{
	struct track *u = (struct track *)(uintptr_t)t;
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->count && track_kind_at(u, i) != TRACK_SYNC; i++)
		n += track_ends_batch(track_kind_at(u, i));
	return n;
}

/* True when a message that ends a batch stands in the queue behind the oldest entry. */
static bool track_has_batch_end(struct track *t)
{
	for (uint32_t i = 1; i < t->count; i++)
		if (track_ends_batch(track_kind_at(t, i)))
			return true;
	return false;
}

/*
 * The server begins to read COPY data for the oldest entry. What stands behind
 * it up to the end of the data is read as data: Syncs vanish, anything else is
 * an error.
 */
static void track_begin_copy(struct track *t, enum track_kind head)
{
	uint32_t i = 1;

	t->copy_in = true;
	t->copy_open = true;
	t->copy_sync = t->copy_both = false;
	while (i < t->count && t->copy_open) {
		enum track_kind kind = track_kind_at(t, i);

		if (kind == TRACK_SYNC) {
			track_remove(t, i);
			t->copy_sync = true;
		} else {
			t->copy_open = kind != TRACK_COPY_END;
			t->broken |= t->copy_open;
			i++;
		}
	}
	if (head == TRACK_EXECUTE && !track_has_batch_end(t))
		t->unsynced = true;
}

static void track_leave_copy(struct track *t)
{
	t->copy_in = t->copy_open = t->copy_sync = t->copy_both = false;
}

/* The statement of the oldest entry is complete, and with it its COPY. */
static bool track_end_copy(struct track *t)
{
	if (t->copy_open && t->copy_both) {
		t->broken = true; /* the backend shuts down */
		track_leave_copy(t);
		return true;
	}
	if (t->copy_open || t->count < 2 || track_kind_at(t, 1) != TRACK_COPY_END)
		return false; /* complete without CopyDone: not PostgreSQL */
	track_remove(t, 1);
	track_leave_copy(t);
	return true;
}

static void track_error(struct track *t, enum track_kind head)
{
	if (t->copy_in) {
		t->doubt |= t->copy_sync;
		t->begun = t->doubt;
		track_leave_copy(t);
	}
	if (head == TRACK_QUERY || head == TRACK_FUNCTION || head == TRACK_SYNC) {
		uint16_t *entry = track_at(t, 0);

		t->marks_dropped += (*entry & TRACK_MARK) != 0;
		*entry &= (uint16_t)~TRACK_MARK;
		t->erred = true;
		return;
	}
	if (head == TRACK_NONE)
		return;
	while (t->count > 0 && track_kind_at(t, 0) != TRACK_SYNC)
		track_drop(t);
	t->skip = t->count == 0;
	t->erred = !t->skip;
}

static bool track_is_status(uint8_t status)
{
	return status == TX_IDLE || status == TX_BLOCK || status == TX_FAILED;
}

/* Of a ReadyForQuery; false when the server owes none. */
static bool track_ready(struct track *t, enum track_kind head, uint8_t status)
{
	if (!track_is_status(status))
		return false;
	if (t->copy_in)
		return false;
	if (head == TRACK_NONE)
		return false;
	track_pop(t);
	t->erred = false;
	t->tainted |= t->mixed && status == TX_BLOCK && t->status == TX_IDLE && head != TRACK_SYNC;
	t->status = status;
	return true;
}

static enum track_verdict track_violation(struct track *t)
{
	t->broken = true;
	return TRACK_ILLEGAL;
}

/* What the model holds for right. */
static enum track_verdict track_answer(struct track *t, uint8_t type, uint8_t status)
{
	enum track_kind head = track_head_kind(t);
	enum track_verdict verdict = track_head_is_ours(t) ? TRACK_SWALLOW : TRACK_PASS;

	switch ((enum server_action)server_rows[type][head]) {
	case TRACK_SV_ILLEGAL:
		return track_violation(t);
	case TRACK_SV_PASS:
		return verdict;
	case TRACK_SV_POP:
		track_pop(t);
		break;
	case TRACK_SV_DONE:
		if (t->copy_in && !track_end_copy(t))
			return track_violation(t);
		if (head == TRACK_EXECUTE)
			track_pop(t);
		break;
	case TRACK_SV_READY:
		if (!track_ready(t, head, status))
			return track_violation(t);
		break;
	case TRACK_SV_COPY_IN:
	case TRACK_SV_BOTH:
		if (t->copy_in)
			return track_violation(t);
		track_begin_copy(t, head);
		t->copy_both = type == BE_COPY_BOTH;
		return verdict;
	case TRACK_SV_ERROR:
		if (head == TRACK_NONE && !t->skip)
			t->broken = true; /* unasked: the backend is about to go */
		track_error(t, head);
		if (head >= TRACK_PARSE && head <= TRACK_CLOSE)
			verdict = TRACK_PASS; /* an error of ours in the client's batch ends that batch */
		break;
	case TRACK_SV_ASYNC:
		return type == BE_NOTICE && verdict == TRACK_SWALLOW ? TRACK_SWALLOW : TRACK_ASYNC;
	}
	track_drop_copy_ends(t);
	return verdict;
}

static bool track_knows_server(uint8_t type)
{
	for (int kind = 0; kind < TRACK_KINDS; kind++)
		if (server_rows[type][kind] != TRACK_SV_ILLEGAL)
			return true;
	return false;
}

/* A server of which the model does not know what it owes: everything is for the client that it is linked to. */
static enum track_verdict track_answer_in_doubt(struct track *t, uint8_t type, uint8_t status)
{
	enum track_kind head = track_head_kind(t);
	bool is_ready = type == BE_READY && track_is_status(status);

	if (is_ready && (head == TRACK_SYNC || (head != TRACK_NONE && t->begun))) {
		t->begun = false;
		return track_answer(t, type, status);
	}
	if (is_ready) {
		t->skip = false; /* a Sync within the data was not swallowed */
		t->status = status;
		return TRACK_PASS;
	}
	if (server_rows[type][head] != TRACK_SV_ILLEGAL) {
		t->begun |= server_rows[type][head] != TRACK_SV_ASYNC;
		return track_answer(t, type, status);
	}
	return track_knows_server(type) && type != BE_READY ? TRACK_PASS : track_violation(t);
}

enum track_verdict track_server(struct track *t, uint8_t type, uint8_t status)
{
	t->marks_done = t->marks_dropped = 0;
	return UNLIKELY(t->doubt) ? track_answer_in_doubt(t, type, status) : track_answer(t, type, status);
}

/* ---- as text: the status, a letter for each flag, a colon, a letter for each entry, the effect of what is open.
 * Before a letter stand a plus if it is marked, a star if it is our own, and its effect, in reverse order ---- */

#define TRACK_FLAGS(X)    \
	X('i', copy_in)   \
	X('o', copy_open) \
	X('y', copy_sync) \
	X('w', copy_both) \
	X('k', skip)      \
	X('e', erred)     \
	X('u', unsynced)  \
	X('m', mixed)     \
	X('t', tainted)   \
	X('d', doubt)     \
	X('n', begun)     \
	X('b', broken)    \
	X('s', strayed)

static const char track_letters[TRACK_KINDS + 1] = "-QFPBDECScpl";

/* As a digit. */
static int track_save_effect(enum classify_effect effect, struct buf *b)
{
	char digit = (char)('0' + effect);

	return effect == CLASSIFY_EFFECT_NONE ? 0 : buf_append(b, &digit, 1);
}

int track_save(const struct track *t, struct buf *b)
{
	struct track *u = (struct track *)(uintptr_t)t;
	char head[] = { (char)t->status, '\0' };
	int err = buf_append(b, head, 1);

#define X(letter, flag)          \
	if (err == 0 && t->flag) \
		err = buf_append(b, (char[]){ letter }, 1);
	TRACK_FLAGS(X)
#undef X
	if (err == 0)
		err = buf_append(b, ":", 1);
	for (uint32_t i = 0; err == 0 && i < t->count; i++) {
		err = track_save_effect(track_effect_at(u, i), b);
		if (err == 0 && (*track_at(u, i) & TRACK_OURS) != 0)
			err = buf_append(b, "*", 1);
		if (err == 0 && (*track_at(u, i) & TRACK_MARK) != 0)
			err = buf_append(b, "+", 1);
		if (err == 0)
			err = buf_append(b, &track_letters[track_kind_at(u, i)], 1);
	}
	return err == 0 ? track_save_effect((enum classify_effect)t->effect, b) : err;
}

static int track_load_entries(struct track *t, struct slice text)
{
	uint16_t flag = 0;
	uint16_t effect = 0;

	for (size_t i = 0; i < text.n; i++) {
		const char *at = text.p[i] == '\0' ? NULL : strchr(track_letters, text.p[i]);

		if (text.p[i] == '*' && flag == 0) {
			flag = TRACK_OURS;
			continue;
		}
		if (text.p[i] == '+' && (flag & TRACK_MARK) == 0) {
			flag |= TRACK_MARK;
			continue;
		}
		if (text.p[i] > '0' && text.p[i] <= '0' + CLASSIFY_EFFECT_UNSEEN && effect == 0 && flag == 0) {
			effect = (uint16_t)(text.p[i] - '0');
			continue;
		}
		if (at == NULL || at == track_letters)
			return -E_SYNTAX;
		if (!track_push(t, (uint16_t)((at - track_letters) | flag | (effect << TRACK_EFFECT_SHIFT))))
			return -E_NOMEM;
		t->owed += at - track_letters >= TRACK_OWED_PARSE;
		flag = effect = 0;
	}
	t->effect = (uint8_t)effect;
	return flag == 0 ? 0 : -E_SYNTAX;
}

int track_load(struct track *t, struct slice text)
{
	size_t at = 1;

	if (text.n < 2 || !track_is_status((uint8_t)text.p[0]))
		return -E_SYNTAX;
	t->status = (uint8_t)text.p[0];
	for (; at < text.n && text.p[at] != ':'; at++) {
		bool known = false;

#define X(letter, flag)             \
	if (text.p[at] == (letter)) \
		known = t->flag = true;
		TRACK_FLAGS(X)
#undef X
		if (!known)
			return -E_SYNTAX;
	}
	if (at == text.n)
		return -E_SYNTAX;
	return track_load_entries(t, slice_make(text.p + at + 1, text.n - at - 1));
}
