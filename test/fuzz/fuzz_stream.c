/*
 * The protocol tracker between two streams of any bytes, of which it is shown
 * the messages; fuzz_track.c gives it a server that knows the protocol. The
 * input is cut into turns: whose they are, how many bytes, and these. In a turn
 * of the pooler's own, each byte is something that it does between messages: a
 * request of its own, or an answer that it owes, marked or not.
 *
 * Whatever a server says, the client gets no more answers of a kind than it has
 * asked for, every mark comes back once, and a session that is idle has none
 * left. A session that is lost is not asked any more.
 */
#include "fuzz.h"

#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/track.h"

#define STREAM_MAX 1024 /* the longest message */

struct stream {
	uint8_t data[STREAM_MAX];
	size_t n;
};

struct stream_test {
	struct track t;
	struct stream client, server;
	uint64_t asked[256]; /* messages of the client, by type */
	uint64_t told[256];  /* messages for it */
	uint64_t marks;      /* that have not come back */
};

static void stream_settle_marks(struct stream_test *s)
{
	ASSERT(s->t.marks_done == 0 || s->t.marks_dropped == 0);
	ASSERT(s->marks >= s->t.marks_done + s->t.marks_dropped);
	s->marks -= s->t.marks_done + s->t.marks_dropped;
	s->t.marks_done = s->t.marks_dropped = 0;
}

/* Answers that are due from the pooler itself. */
static void stream_take_owed(struct stream_test *s)
{
	uint8_t type;

	while ((type = track_take_owed(&s->t)) != 0) {
		ASSERT(type == BE_PARSE_COMPLETE || type == BE_CLOSE_COMPLETE);
		s->told[type]++;
		stream_settle_marks(s);
	}
}

static void stream_check(struct stream_test *s)
{
	const struct track *t = &s->t;

	ASSERT(t->count <= TRACK_MAX && t->owed <= t->count && s->marks <= t->count);
	ASSERT(!track_is_idle(t) || (s->marks == 0 && track_is_quiet(t) && track_is_batch_start(t)));
	if (track_is_lost(t))
		return;
	ASSERT(s->told[BE_PARSE_COMPLETE] <= s->asked[FE_PARSE]);
	ASSERT(s->told[BE_BIND_COMPLETE] <= s->asked[FE_BIND]);
	ASSERT(s->told[BE_CLOSE_COMPLETE] <= s->asked[FE_CLOSE]);
	/* These are parts of answers, not their ends. */
	ASSERT(s->told[BE_FUNCTION_RESULT] == 0 || s->asked[FE_FUNCTION_CALL] > 0);
	ASSERT(s->told[BE_PARAMETER_DESCRIPTION] == 0 || s->asked[FE_DESCRIBE] > 0);
	ASSERT(s->told[BE_READY] <= s->asked[FE_QUERY] + s->asked[FE_SYNC] + s->asked[FE_FUNCTION_CALL]);
}

/* A client's message; false at the end of the session. */
static bool stream_client(struct stream_test *s, uint8_t type, struct slice body UNUSED)
{
	enum track_verdict verdict = track_client(&s->t, type);

	ASSERT(verdict == TRACK_ILLEGAL ? !track_knows_client(type)
					: verdict != TRACK_SWALLOW && verdict != TRACK_ASYNC);
	s->asked[type] += verdict == TRACK_PASS;
	return verdict == TRACK_PASS || verdict == TRACK_FULL;
}

static bool stream_server(struct stream_test *s, uint8_t type, struct slice body)
{
	enum track_verdict verdict;

	stream_take_owed(s);
	verdict = track_server(&s->t, type, body.n == 1 ? (uint8_t)body.p[0] : 0);
	stream_settle_marks(s);
	ASSERT(verdict == TRACK_PASS || verdict == TRACK_SWALLOW || verdict == TRACK_ASYNC || verdict == TRACK_ILLEGAL);
	ASSERT(verdict != TRACK_ILLEGAL || s->t.broken);
	s->told[type] += verdict == TRACK_PASS;
	stream_take_owed(s);
	return verdict != TRACK_ILLEGAL;
}

/* What the pooler may do between messages. */
static void stream_pooler(struct stream_test *s, uint8_t what)
{
	static const uint8_t own[] = { FE_QUERY, FE_PARSE, FE_CLOSE, FE_SYNC };
	uint8_t owed = what & 4 ? FE_CLOSE : FE_PARSE;
	bool ok;

	if (s->t.copy_in || s->t.skip || s->t.count > TRACK_MAX / 2)
		return;
	if (what & 8) {
		ok = track_owe(&s->t, owed);
		s->asked[owed]++;
	} else {
		ok = track_ours(&s->t, own[what & 3]);
	}
	ASSERT(ok);
	if (what & 16) {
		track_mark(&s->t);
		s->marks++;
	}
}

/* Adds bytes to a stream and shows its whole messages; false at the end of the session. */
static bool stream_feed(struct stream_test *s, struct stream *from, struct slice bytes,
			bool (*show)(struct stream_test *, uint8_t, struct slice))
{
	bool go_on = true;
	size_t at = 0;
	struct frame f;

	if (bytes.n > STREAM_MAX - from->n)
		bytes.n = STREAM_MAX - from->n;
	if (bytes.n > 0)
		memcpy(from->data + from->n, bytes.p, bytes.n);
	from->n += bytes.n;
	while (go_on) {
		int err = frame_read(from->data + at, from->n - at, STREAM_MAX, &f);

		if (err != 0 && err != -E_AGAIN)
			return false;
		if (err != 0 || f.size > from->n - at)
			break;
		go_on = show(s, f.type, slice_make(from->data + at + FRAME_HEADER, f.size - FRAME_HEADER));
		at += f.size;
		stream_check(s);
	}
	memmove(from->data, from->data + at, from->n - at);
	from->n -= at;
	return go_on && !track_is_lost(&s->t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct stream_test s;
	struct slice input = slice_make(data, size);
	bool go_on = true;

	memset(&s, 0, sizeof(s));
	track_init(&s.t);
	while (go_on && input.n > 0) {
		uint8_t turn = fuzz_take_u8(&input);
		struct slice bytes = fuzz_take(&input, turn & 63);

		if (turn >> 6 < 2)
			go_on = stream_feed(&s, &s.client, bytes, stream_client);
		else if (turn >> 6 == 2)
			go_on = stream_feed(&s, &s.server, bytes, stream_server);
		else
			while (bytes.n > 0)
				stream_pooler(&s, fuzz_take_u8(&bytes));
		stream_check(&s);
	}
	track_fini(&s.t);
	return 0;
}
