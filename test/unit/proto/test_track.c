/*
 * The protocol tracker, driven by small scripts of what passes by:
 *
 *     >P    the client sends Parse; it must pass
 *     +P    the pooler sends a Parse of its own
 *     <1    the server sends ParseComplete; it must pass to the client
 *     -1    the same, and it must be swallowed
 *     ~N    the same, and it must be asynchronous
 *     !1    the same, and it must be illegal
 *     <ZI   ReadyForQuery with its status
 */
#include "proto/track.h"

#include "proto_test.h"

#include "proto/msg.h"

static struct track t;

static int setup(void **state)
{
	(void)state;
	track_init(&t);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	track_fini(&t);
	return 0;
}

/* Every script goes on, after every step, with what the model was written down as. */
static void reload(void)
{
	struct buf b;

	if (t.count > 100 && t.count % 4096 != 0)
		return; /* long pipelines would take long */
	buf_init(&b, 2 * TRACK_MAX + 64);
	assert_int_equal(track_save(&t, &b), 0);
	track_fini(&t);
	track_init(&t);
	assert_int_equal(track_load(&t, slice_make(buf_ptr(&b), buf_len(&b))), 0);
	buf_fini(&b);
}

/* One step of a script. */
static void play_step(char who, uint8_t type, uint8_t status)
{
	reload();
	switch (who) {
	case '>':
		assert_int_equal(track_client(&t, type), TRACK_PASS);
		break;
	case '+':
		assert_true(track_ours(&t, type));
		break;
	case '=':
		assert_true(track_owe(&t, type));
		break;
	case '*':
		assert_int_equal(track_take_owed(&t), type);
		break;
	case '<':
		assert_int_equal(track_server(&t, type, status), TRACK_PASS);
		break;
	case '-':
		assert_int_equal(track_server(&t, type, status), TRACK_SWALLOW);
		break;
	case '~':
		assert_int_equal(track_server(&t, type, status), TRACK_ASYNC);
		break;
	case '!':
		assert_int_equal(track_server(&t, type, status), TRACK_ILLEGAL);
		break;
	default:
		fail_msg("bad script");
	}
}

static void play(const char *script)
{
	for (const char *p = script; *p != '\0';) {
		size_t n = strcspn(p, " ");

		play_step(p[0], (uint8_t)p[1], n > 2 ? (uint8_t)p[2] : 0);
		p += n;
		p += strspn(p, " ");
	}
}

/* From a fresh session. */
static void replay(const char *script)
{
	track_fini(&t);
	track_init(&t);
	play(script);
}

static void assert_idle(void)
{
	assert_true(track_is_idle(&t));
	assert_true(track_is_quiet(&t));
	assert_false(track_is_lost(&t));
}

/* Nothing is owed, but the session belongs to its client. */
static void assert_quiet_not_idle(void)
{
	assert_true(track_is_quiet(&t));
	assert_false(track_is_idle(&t));
}

static void assert_busy(void)
{
	assert_false(track_is_quiet(&t));
	assert_false(track_is_idle(&t));
}

/* --- every message in every state --- */

struct state_row {
	const char *name;
	const char *script; /* leads to the state from a fresh session */
	const char *server; /* legal answers: PASS */
	const char *queued; /* client messages that add an entry */
	const char *breaks; /* client messages after which the session is lost */
	bool lost;          /* it is lost before */
};

#define REQUESTS "QFPBDECS"

/* In all states N, A and S from the server are asynchronous, and E passes. */
static const struct state_row states[] = {
	{ "idle", "", "", REQUESTS, "", false },
	{ "query", ">Q", "ZTDCIGHWdc", REQUESTS "cf", "", false },
	{ "function", ">F", "ZV", REQUESTS "cf", "", false },
	{ "parse", ">P", "1", REQUESTS "cf", "", false },
	{ "bind", ">B", "2", REQUESTS "cf", "", false },
	{ "describe", ">D", "tTn", REQUESTS "cf", "", false },
	{ "execute", ">E", "DCIsGHWdc", REQUESTS "cf", "", false },
	{ "close", ">C", "3", REQUESTS "cf", "", false },
	{ "sync", ">S", "Z", REQUESTS "cf", "", false },
	{ "unsynced", ">P <1", "", REQUESTS, "", false },
	{ "batch", ">P >B >E >S", "1", REQUESTS "cf", "", false },
	{ "skip", ">P <E", "", "S", "", false },
	{ "in transaction", ">Q <C <ZT", "", REQUESTS, "", false },
	{ "failed transaction", ">Q <E <ZE", "", REQUESTS, "", false },
	{ "copy in query", ">Q <G", "TDIHdc", "cf", "QFPBDEC", false },
	{ "copy in execute", ">B >E <2 <G", "DIsHdc", "cf", "QFPBDEC", false },
	{ "copy in query, done sent", ">Q <G >c", "TDCIHdc", REQUESTS "cf", "", false },
	{ "copy in execute, done sent", ">E <G >c", "DCIsHdc", REQUESTS "cf", "", false },
	{ "copy failed in query", ">Q <G <E", "ZTDCIGHWdc", REQUESTS "cf", "", false },
	{ "copy failed in execute", ">E <G <E", "", "S", "", false },
	{ "copy both", ">Q <W", "TDCIHdc", "cf", "QFPBDEC", false },
	{ "copy both, done sent", ">Q <W >c", "TDCIHdc", REQUESTS "cf", "", false },
	{ "doubt", ">E >S <G <E", "ZTDCIGHWdcV12n3ts", "S", "", true },
	{ "broken", "!1", "", REQUESTS, "", true },
};

static bool is_in(const char *set, unsigned c)
{
	return c != 0 && strchr(set, (int)c) != NULL;
}

static void every_server_message_has_a_verdict_in_every_state(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		for (unsigned c = 0; c < 256; c++) {
			enum track_verdict expect = is_in("NAS", c)                          ? TRACK_ASYNC
						    : c == 'E' || is_in(states[i].server, c) ? TRACK_PASS
											     : TRACK_ILLEGAL;

			replay(states[i].script);
			assert_int_equal(track_is_lost(&t), states[i].lost);
			if (track_server(&t, (uint8_t)c, 'I') != expect)
				fail_msg("state %s, server message '%c'", states[i].name, (int)c);
			if (expect == TRACK_ILLEGAL) {
				assert_true(track_is_lost(&t));
				assert_false(track_is_idle(&t));
			}
		}
	}
}

static void every_client_message_has_a_verdict_in_every_state(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		for (unsigned c = 0; c < 256; c++) {
			enum track_verdict expect = c == 'X'                    ? TRACK_END
						    : is_in(REQUESTS "Hdcf", c) ? TRACK_PASS
										: TRACK_ILLEGAL;
			uint32_t before;

			replay(states[i].script);
			before = t.count;
			if (track_client(&t, (uint8_t)c) != expect ||
			    t.count - before != (is_in(states[i].queued, c) ? 1 : 0) ||
			    track_is_lost(&t) != (states[i].lost || is_in(states[i].breaks, c)))
				fail_msg("state %s, client message '%c'", states[i].name, (int)c);
			if (is_in(REQUESTS, c))
				assert_false(track_is_idle(&t));
		}
	}
}

static void ready_has_three_statuses(void **state)
{
	(void)state;
	for (unsigned c = 0; c < 256; c++) {
		bool good = is_in("ITE", c);

		replay(">S");
		assert_int_equal(track_server(&t, 'Z', (uint8_t)c), good ? TRACK_PASS : TRACK_ILLEGAL);
		assert_int_equal(track_is_idle(&t), c == 'I');
		assert_int_equal(track_is_lost(&t), !good);
	}
}

/* --- ordinary traffic --- */

static void a_fresh_session_is_idle(void **state)
{
	(void)state;
	assert_idle();
	assert_false(track_head_is_ours(&t));
}

static void simple_queries_end_with_ready(void **state)
{
	static const char *const answers[] = {
		"<T <D <D <C",    "<C", "<I", "<E", "<T <D <E", "<C <C <T <D <C", "<C <E", "<H <d <d <c <C",
		"~N <T ~S <C ~A",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		replay(">Q");
		assert_busy();
		play(answers[i]);
		assert_busy();
		play("<ZI");
		assert_idle();
	}
}

static void transactions_keep_their_client(void **state)
{
	(void)state;
	play(">Q <C <ZT");
	assert_quiet_not_idle();
	play(">Q <E <ZE");
	assert_quiet_not_idle();
	play(">Q <C <ZI");
	assert_idle();
	play(">F <V <ZI");
	assert_idle();
}

static void extended_batches_end_with_ready(void **state)
{
	(void)state;
	play(">P >D >B >D >E >C >S <1 <t <T <2 <n <D <D <C <3");
	assert_busy();
	play("<ZI");
	assert_idle();
	play(">B >E >S <2 <D <s <ZT");
	assert_quiet_not_idle();
	play(">E >S <D <C <ZI");
	assert_idle();
}

static void every_extended_message_opens_a_batch(void **state)
{
	static const char *const scripts[] = { ">P <1", ">B <2", ">D <n", ">E <C", ">C <3" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
		replay(scripts[i]);
		assert_quiet_not_idle();
		play(">S <ZI");
		assert_idle();
	}
}

/* Everything is answered, and yet the backend is inside of an implicit transaction. */
static void a_batch_without_sync_keeps_its_client(void **state)
{
	(void)state;
	play(">P >B >E >H <1 <2 <D <C");
	assert_quiet_not_idle();
	assert_false(track_is_lost(&t));
	play(">S");
	assert_busy();
	play("<ZI");
	assert_idle();
	play(">P <1");
	assert_quiet_not_idle();
	play(">Q <C <ZI"); /* a simple query ends the implicit transaction too */
	assert_idle();
	play(">Q >P <C <ZI <1");
	assert_quiet_not_idle();
}

static void pipelines_count_every_sync(void **state)
{
	(void)state;
	play(">P >B >E >S >B >E >S >Q >S");
	play("<1 <2 <C <ZI");
	assert_busy();
	play("<2 <C <ZI");
	assert_busy();
	play("<T <D <C <ZI");
	assert_busy();
	play("<ZI");
	assert_idle();
}

static void answers_out_of_order_are_illegal(void **state)
{
	static const char *const scripts[] = {
		">P >B !2", ">P >S !Z",  ">B >E !C", ">P <1 !1", ">Q <C <ZI !ZI", ">S <ZI !C",         ">P <E !1",
		">E <C !C", ">Q <G !ZI", ">Q <G !C", ">Q <G !G", ">D <t <n !n",   ">B >E >S <2 <s !s",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
		replay(scripts[i]);
		assert_true(track_is_lost(&t));
		assert_false(track_is_idle(&t));
	}
}

/* The queue grows behind its inline part, wraps, and becomes small again. */
static void long_pipelines_are_followed(void **state)
{
	(void)state;
	for (uint32_t n = 1; n < 200; n++) {
		for (uint32_t i = 0; i < n; i++)
			play(">B >E >S");
		for (uint32_t i = 0; i < n; i++) {
			assert_busy();
			play("<2 <C <ZI");
		}
		assert_idle();
	}
	for (unsigned i = 0; i < 1000; i++) {
		play(">P >S >Q");
		if (i >= 13)
			play("<1 <ZI <I <ZI");
	}
	for (unsigned i = 0; i < 13; i++)
		play("<1 <ZI <I <ZI");
	assert_idle();
	assert_null(t.ring);
	assert_int_equal(t.size, TRACK_INLINE);
}

static void the_pipeline_has_a_limit(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TRACK_MAX; i++)
		assert_int_equal(track_client(&t, 'S'), TRACK_PASS);
	assert_int_equal(track_client(&t, 'S'), TRACK_FULL);
	assert_int_equal(track_client(&t, 'Q'), TRACK_FULL);
	assert_int_equal(track_client(&t, 'H'), TRACK_PASS);
	assert_false(track_ours(&t, 'Q'));
	play("<ZI");
	assert_int_equal(track_client(&t, 'S'), TRACK_PASS);
	for (unsigned i = 0; i < TRACK_MAX; i++)
		play("<ZI");
	assert_idle();
}

/* --- errors --- */

/* Plays the answers to "P D B E C" up to the i-th, and an error in its place. */
static void play_with_error_at(size_t place)
{
	static const char *const answers[] = { "<1", "<t <n", "<2", "<D <C", "<3" };

	for (size_t i = 0; i < place; i++)
		play(answers[i]);
	play("<E");
}

static void an_error_anywhere_skips_to_sync(void **state)
{
	(void)state;
	for (size_t place = 0; place < 5; place++) {
		/* Two batches behind it are not touched. */
		replay(">P >D >B >E >C >S >P >S >Q");
		play_with_error_at(place);
		play("<ZI <1 <ZI <C <ZI");
		assert_idle();

		/* The Sync comes only after the error. */
		replay(">P >D >B >E >C");
		play_with_error_at(place);
		assert_quiet_not_idle();
		assert_false(track_is_lost(&t));
		play(">P >B >E >H");
		assert_quiet_not_idle();
		play(">S");
		assert_busy();
		play("<ZI");
		assert_idle();
	}
}

static void every_batch_of_a_pipeline_may_fail(void **state)
{
	(void)state;
	play(">P >B >E >S >P >B >E >S >P >B >E >S");
	play("<1 <E <ZI <E <ZI <1 <2 <D <E <ZI");
	assert_idle();
}

/*
 * The trap: a simple Query behind a failing batch, before its Sync, is never
 * answered. Whoever waits for its ReadyForQuery waits for ever.
 */
static void a_query_behind_a_failed_batch_is_not_answered(void **state)
{
	(void)state;
	play(">P >B >E >Q >S <1 <2 <E");
	assert_busy();
	play("<ZI");
	assert_idle();

	replay(">P >B >E >Q <1 <2 <E");
	assert_quiet_not_idle();
	play(">Q >F");
	assert_quiet_not_idle();
	play(">S <ZI");
	assert_idle();

	/* Without the error it is. */
	replay(">P >B >E >Q >S <1 <2 <C <T <D <C <ZI");
	assert_busy();
	play("<ZI");
	assert_idle();

	/* Several of them, and a whole batch that counts again. */
	replay(">B >Q >Q >F >S >Q <E <ZI <C <ZI");
	assert_idle();
}

static void errors_outside_of_a_batch_do_not_skip(void **state)
{
	(void)state;
	play(">Q >P >S <E <ZI <1 <ZI");
	assert_idle();
	play(">F >P >S <E <ZI <1 <ZI");
	assert_idle();
	play(">P >S >P >S <1 <E <ZI <1 <ZI"); /* the commit that Sync makes fails */
	assert_idle();
}

static void an_error_that_nobody_asked_for_ends_the_session(void **state)
{
	(void)state;
	play("<E");
	assert_true(track_is_lost(&t));
	assert_false(track_is_idle(&t));
	replay(">Q <C <ZT <E");
	assert_true(track_is_lost(&t));
}

/* --- COPY --- */

static void copy_in_simple_protocol(void **state)
{
	static const char *const good[] = {
		">Q <G >d >d >c <C <ZI",
		">Q >d >c <G <C <ZI", /* sent ahead of the invitation */
		">Q <G >d >H >c <C <ZI",
		">Q <G >d >f <E <ZI",
		">Q <G >d <E <ZI >d >c", /* the server fails, the client sends on */
		">Q <G >d <E >d >c <ZI",
		">Q <G >d >c <E <ZI",             /* it fails at the end */
		">Q <G >c <C <G >d >c <C <C <ZI", /* two COPY in one query */
		">Q >c >c <G <C <G <C <ZI",
		">Q >c >Q <G <C <ZI <T <C <ZI", /* a query behind it */
		">Q >c >Q <G <E <ZI <T <C <ZI",
		">Q >c >Q <E <ZI <T <C <ZI", /* the COPY never began */
		">Q >c >f <T <D <C <ZI",     /* nor was it one */
		">c >f >d >Q <C <ZI",        /* stray data is ignored */
		">Q <G >c >P >S <C <ZI <1 <ZI",
		">Q <G ~N ~S >c ~A <C <ZI",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		replay(good[i]);
		assert_idle();
	}
}

static void copy_keeps_its_client(void **state)
{
	(void)state;
	play(">Q <G");
	assert_busy();
	play(">d >c");
	assert_busy();
	play("<C");
	assert_busy();
	play("<ZT");
	assert_quiet_not_idle();
}

static void copy_in_extended_protocol(void **state)
{
	static const char *const good[] = {
		">P >B >E >H <1 <2 <G >d >c >S <C <ZI",
		">P >B >E <1 <2 <G >d >c <C >S <ZI",
		">B >E >S <2 <G >d >c >S <C <ZI", /* the first Sync is swallowed */
		">B >E >S >d >c >S <2 <G <C <ZI", /* all sent ahead */
		">B >E >S >S >S >c >S <2 <G <C <ZI",
		">B >E <2 <G >S >S >c >S <C <ZI",
		">B >E >c >S <2 <G <E <ZI", /* fails after the data was read */
		">B >E <2 <G >f >S <E <ZI",
		">B >E <2 <G >d <E >d >c >S <ZI", /* fails before: the rest is discarded */
		">B >E <2 <G >d <E >d >c >Q >S <ZI",
		">B >E >c >B >E >c >S <2 <G <C <2 <G <C <ZI",
		">B >E >c >S >P >S <2 <G <C <ZI <1 <ZI",
		">B >E >c >S >P >S <2 <G <E <ZI <1 <ZI",
		">B >c >S <2 <ZI", /* stray, in the middle of a batch */
		">B >E >c >f >S <2 <D <C <ZI",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		replay(good[i]);
		assert_idle();
	}
}

/* The only Sync was read as data, so the batch is still open. */
static void a_swallowed_sync_does_not_end_the_batch(void **state)
{
	(void)state;
	play(">B >E >S >c <2 <G <C");
	assert_quiet_not_idle();
	assert_false(track_is_lost(&t));
	play(">S <ZI");
	assert_idle();
}

/* There is a Sync behind the COPY, but extended messages behind the Sync. */
static void a_batch_behind_a_copy_keeps_its_client(void **state)
{
	(void)state;
	play(">E >c >S >P >H <G <C <ZI <1");
	assert_quiet_not_idle();
	assert_false(track_is_lost(&t));
	play(">S <ZI");
	assert_idle();
}

/* Nobody can know whether the Sync was read before or after the error. */
static void a_copy_that_fails_near_a_sync_is_in_doubt(void **state)
{
	static const char *const scripts[] = {
		">B >E >S <2 <G <E",           ">B >E >S <2 <G <E <ZI",
		">B >E >S >c >S <2 <G <E <ZI", ">B >E >S >c >S <2 <G <E <ZI <ZI",
		">B >E <2 <G >S >d <E >S <ZI", ">Q <G >S <E <ZI",
		">Q <G >S <E <ZI <ZI",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
		replay(scripts[i]);
		assert_true(track_is_lost(&t));
		assert_false(track_is_idle(&t));
	}
}

static void other_messages_in_copy_break_the_session(void **state)
{
	(void)state;
	for (const char *p = "QFPBDEC"; *p != '\0'; p++) {
		replay(">Q <G");
		assert_int_equal(track_client(&t, (uint8_t)*p), TRACK_PASS);
		assert_true(track_is_lost(&t));

		/* Sent before the invitation came. */
		replay(">Q");
		assert_int_equal(track_client(&t, (uint8_t)*p), TRACK_PASS);
		assert_false(track_is_lost(&t));
		play("<G");
		assert_true(track_is_lost(&t));
	}
}

/* Replication: data both ways until both have said CopyDone, then commands again. */
static void copy_both_ways(void **state)
{
	static const char *const good[] = {
		">Q <W <d >d <d >c <c <C <ZI",
		">Q <W <d >c <d <d <c <C <ZI",    /* what was under way still comes */
		">Q <W <c >d >c <T <D <C <C <ZI", /* the end of a timeline: the server is first, and tells the next one
						   */
		">Q <W <c >c <T <D <C <C <ZI >Q <W <d >c <c <C <ZI",
		">Q <W <E <ZI",
		">Q <W >d <E >d >c <ZI",
		">Q <W <c >c <E <ZI",
		">Q <W >c >Q <c <C <ZI <T <D <C <ZI", /* the next command does not wait */
		">Q <W ~N ~S <d >c ~A <c <C <ZI",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		replay(good[i]);
		assert_idle();
	}
}

static void copy_both_keeps_its_client(void **state)
{
	(void)state;
	play(">Q <W");
	assert_busy();
	play("<d >d <c");
	assert_busy();
	play(">c <C");
	assert_busy();
	play("<ZI");
	assert_idle();
}

/* A backend that shuts down does not wait for the client's CopyDone. */
static void a_stream_that_a_shutdown_ends_is_lost(void **state)
{
	(void)state;
	play(">Q <W <d <C");
	assert_true(track_is_lost(&t));
	play(">d >c");
	assert_true(track_is_lost(&t));
	assert_false(track_is_idle(&t));
}

/* --- our own requests --- */

static void our_answers_are_swallowed(void **state)
{
	(void)state;
	play("+Q");
	assert_true(track_head_is_ours(&t));
	play("-C ~S -ZI");
	assert_idle();
	play("+Q >Q -C -C -ZI");
	assert_false(track_head_is_ours(&t));
	play("<T <C <ZI");
	assert_idle();
	play("+Q >Q -E -ZI <C <ZI");
	assert_idle();
}

static void our_requests_stand_between_those_of_the_client(void **state)
{
	(void)state;
	play("+P >B >E >S -1 <2 <D <C <ZI");
	assert_idle();
	play(">P >B +C >E >S <1 <2 -3 <C <ZI");
	assert_idle();
	play("+P >B >S <E <ZI"); /* the client's batch fails with it */
	assert_idle();
	play("+Q -E -ZI");
	assert_idle();
	play("+C +P +S >Q -3 -1 -ZI <C <ZI");
	assert_idle();
}

static void answers_of_ours_have_their_place(void **state)
{
	(void)state;
	play("=P");
	assert_true(track_only_owes(&t));
	play("*1");
	assert_idle();
	play("=P >B >E >S");
	assert_false(track_only_owes(&t));
	play("*1 <2 <C <ZI");
	assert_idle();
	play(">B =P =C >E >S <2 *1 *3 <C <ZI");
	assert_idle();
}

static void an_error_drops_answers_of_ours(void **state)
{
	(void)state;
	play(">B =P >E =C >S =P >S <E <ZI *1 <ZI");
	assert_idle();
	play(">B =P <E >S <ZI");
	assert_idle();
}

static void batches_are_open_until_their_end_is_answered(void **state)
{
	(void)state;
	play(">P");
	assert_int_equal(track_open_batches(&t), 0);
	play(">S >Q +Q >P");
	assert_int_equal(track_open_batches(&t), 2);
	play("<1 <ZI");
	assert_int_equal(track_open_batches(&t), 1);
	play("<C <ZI");
	assert_int_equal(track_open_batches(&t), 0);
	play("-C -ZI <E >S <ZI");
	assert_idle();
}

/* Nothing is owed before its turn. */
static void nothing_is_taken_that_is_not_owed(void **state)
{
	(void)state;
	assert_int_equal(track_take_owed(&t), 0);
	play(">B =P");
	assert_int_equal(track_take_owed(&t), 0);
	play("<2 *1");
	assert_int_equal(track_take_owed(&t), 0);
}

/* What has left the queue by the last message. */
static void assert_marks(uint8_t type, uint8_t status, uint32_t done, uint32_t dropped)
{
	(void)track_server(&t, type, status);
	assert_int_equal(t.marks_done, done);
	assert_int_equal(t.marks_dropped, dropped);
}

static void request(uint8_t type, bool is_marked)
{
	assert_int_equal(track_client(&t, type), TRACK_PASS);
	if (is_marked)
		track_mark(&t);
}

static void marks_tell_what_was_answered(void **state)
{
	(void)state;
	request(FE_PARSE, true);
	request(FE_BIND, false);
	request(FE_CLOSE, true);
	request(FE_SYNC, false);
	assert_true(track_head_is_marked(&t));
	assert_marks(BE_PARSE_COMPLETE, 0, 1, 0);
	assert_false(track_head_is_marked(&t));
	assert_marks(BE_NOTICE, 0, 0, 0);
	assert_marks(BE_BIND_COMPLETE, 0, 0, 0);
	assert_marks(BE_CLOSE_COMPLETE, 0, 1, 0);
	assert_marks(BE_READY, 'I', 0, 0);
}

static void marks_tell_what_was_dropped(void **state)
{
	(void)state;
	request(FE_PARSE, true);
	request(FE_BIND, false);
	assert_true(track_owe(&t, FE_CLOSE));
	track_mark(&t);
	request(FE_SYNC, false);
	request(FE_PARSE, true);
	assert_marks(BE_ERROR, 0, 0, 2);
	assert_marks(BE_READY, 'I', 0, 0);
	assert_marks(BE_PARSE_COMPLETE, 0, 1, 0);
}

static void a_mark_outlives_a_sync_that_copy_swallows(void **state)
{
	(void)state;
	request(FE_QUERY, true);
	request(FE_SYNC, false);
	assert_marks(BE_COPY_IN, 0, 0, 0);
	assert_true(track_head_is_marked(&t));
	request(FE_COPY_DONE, false);
	assert_marks(BE_COMMAND_COMPLETE, 0, 0, 0);
	assert_marks(BE_READY, 'I', 1, 0);
}

static void a_marked_query_that_fails_is_dropped_once(void **state)
{
	(void)state;
	request(FE_QUERY, true);
	assert_marks(BE_ERROR, 0, 0, 1);
	assert_marks(BE_READY, 'I', 0, 0);
	request(FE_QUERY, true);
	assert_marks(BE_COMMAND_COMPLETE, 0, 0, 0);
	assert_marks(BE_READY, 'I', 1, 0);
}

static void notices_of_our_requests_are_ours(void **state)
{
	(void)state;
	play("+Q -N ~A ~S -C -ZI ~N");
	assert_idle();
}

static void query_in_place_of_sync(void **state)
{
	static const struct {
		const char *script;
		bool tainted;
	} cases[] = {
		{ ">P >B >E >Q <1 <2 <C <C <ZT >S <ZI", true },
		{ ">P >B >E >Q <1 <2 <C <C <ZI >S <ZI", false },
		{ ">Q <C <ZT >P >Q <1 <C <ZT >Q <C <ZI", false },
		{ ">P <E >Q >S <ZI >Q <C <ZT", false },
		{ ">P >S >Q <1 <ZI <C <ZT", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		track_fini(&t);
		track_init(&t);
		play(cases[i].script);
		assert_int_equal(t.tainted, cases[i].tainted);
	}
}

static void only_what_was_saved_is_loaded(void **state)
{
	static const char *const bad[] = { "",      "I",    ":",   "X:",   "Ix:", "I:x",   "I:-",   "I:*",
					   "I:**Q", "I:Q*", "TT:", "I:Q:", "I:+", "I:++Q", "I:+*Q", "I:Q+" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		track_fini(&t);
		track_init(&t);
		assert_int_equal(track_load(&t, slice_of(bad[i])), -E_SYNTAX);
	}
	track_fini(&t);
	track_init(&t);
	assert_int_equal(track_load(&t, slice_of("Tu:+P*+BE")), 0);
	assert_int_equal(t.status, 'T');
	assert_true(t.unsynced);
	assert_int_equal(t.count, 3);
	assert_int_equal(track_marks(&t), 2);
	assert_true(track_head_is_marked(&t));
}

/* What is owed now: a letter for each end, by its effect, behind a mark if its error has been told, and what is left
 * open in the end. */
static const char *owed(void)
{
	static const char letters[] = "-rcbB?";
	static char text[64];
	enum classify_effect effect;
	struct track_loss loss;
	size_t n = 0;

	reload();
	track_lose(&t, &loss);
	if (!loss.is_known)
		return "unknown";
	if (loss.is_told)
		text[n++] = '!';
	while (track_next_loss(&loss, &effect))
		text[n++] = letters[effect];
	if (loss.is_open)
		text[n++] = loss.is_erred ? '!' : '+';
	if (loss.is_open && loss.effect != CLASSIFY_EFFECT_NONE)
		text[n++] = letters[loss.effect];
	if (loss.is_silent)
		text[n++] = '.';
	text[n] = '\0';
	return text;
}

static void a_loss_leaves_ends_owed(void **state)
{
	(void)state;
	assert_string_equal(owed(), ".");
	play(">Q");
	assert_string_equal(owed(), "-");
	play("<C");
	assert_string_equal(owed(), "-");
	play("<ZI");
	assert_string_equal(owed(), ".");
	play(">P >B >E");
	assert_string_equal(owed(), "+");
	play(">S");
	assert_string_equal(owed(), "-");
	play(">Q >P >S >F");
	assert_string_equal(owed(), "----");
	play("<1 <2 <C");
	assert_string_equal(owed(), "----");
	play("<ZI <E <ZI <E");
	assert_string_equal(owed(), "!--");
}

static void a_loss_behind_a_flush_is_open(void **state)
{
	(void)state;
	play(">P >H <1");
	assert_string_equal(owed(), "+.");
	play(">B >E");
	assert_string_equal(owed(), "+");
	play("<E");
	assert_string_equal(owed(), "!");
	play(">S");
	assert_string_equal(owed(), "!-");
	play(">Q");
	assert_string_equal(owed(), "!--");
	play("<ZI");
	assert_string_equal(owed(), "-");
}

/* By the rule for errors the Query behind the batch is skipped, but if the batch has been answered. */
static void a_loss_with_a_query_in_place_of_sync(void **state)
{
	(void)state;
	play(">P >Q");
	assert_string_equal(owed(), "+");
	play("<1");
	assert_string_equal(owed(), "-");
	play("<ZI >P >Q >S");
	assert_string_equal(owed(), "-");
}

static void a_loss_in_copy(void **state)
{
	(void)state;
	play(">Q <G >d");
	assert_string_equal(owed(), "-");
	play(">c");
	assert_string_equal(owed(), "-");
	play("<C <ZI >P >B >E <1 <2 <G >d");
	assert_string_equal(owed(), "+");
	play(">c >S");
	assert_string_equal(owed(), "-");
	play("<C <ZI >Q <G >Q");
	assert_string_equal(owed(), "unknown");
}

static void a_loss_owes_nothing_for_ours(void **state)
{
	(void)state;
	play("+Q");
	assert_string_equal(owed(), "");
	play(">Q");
	assert_string_equal(owed(), "-");
	play("-ZI <ZI =P +P >B >E >S");
	assert_string_equal(owed(), "-");
}

static void effects_stay_with_their_ends(void **state)
{
	(void)state;
	play(">Q");
	track_note(&t, CLASSIFY_EFFECT_BLOCK);
	play(">Q >Q");
	track_note(&t, CLASSIFY_EFFECT_COMMIT);
	assert_string_equal(owed(), "b-c");
	play("<C <ZT");
	assert_string_equal(owed(), "-c");
	play(">P");
	track_note(&t, CLASSIFY_EFFECT_ROLLBACK);
	play(">B >E");
	assert_string_equal(owed(), "-c+r");
	play(">P");
	track_note(&t, CLASSIFY_EFFECT_BLOCK);
	play(">P");
	track_note(&t, CLASSIFY_EFFECT_COMMIT);
	play(">S >P >S");
	assert_string_equal(owed(), "-cB-"); /* one of the batch's is a COMMIT */
	play("<ZT <ZI <E <ZI <1 <ZI >P <E >Q");
	track_note(&t, CLASSIFY_EFFECT_BLOCK); /* it is not run */
	assert_string_equal(owed(), "!");
}

static void kinds_have_names(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TRACK_KINDS; i++)
		assert_string_not_equal(track_kind_name((enum track_kind)i), "invalid");
	assert_string_equal(track_kind_name(TRACK_EXECUTE), "execute");
	assert_string_equal(track_kind_name(TRACK_COPY_END), "copy-end");
	assert_string_equal(track_kind_name(TRACK_KINDS), "invalid");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_server_message_has_a_verdict_in_every_state),
		TEST(every_client_message_has_a_verdict_in_every_state),
		TEST(ready_has_three_statuses),
		TEST(a_fresh_session_is_idle),
		TEST(simple_queries_end_with_ready),
		TEST(transactions_keep_their_client),
		TEST(extended_batches_end_with_ready),
		TEST(every_extended_message_opens_a_batch),
		TEST(a_batch_without_sync_keeps_its_client),
		TEST(pipelines_count_every_sync),
		TEST(answers_out_of_order_are_illegal),
		TEST(long_pipelines_are_followed),
		TEST(the_pipeline_has_a_limit),
		TEST(an_error_anywhere_skips_to_sync),
		TEST(every_batch_of_a_pipeline_may_fail),
		TEST(a_query_behind_a_failed_batch_is_not_answered),
		TEST(errors_outside_of_a_batch_do_not_skip),
		TEST(an_error_that_nobody_asked_for_ends_the_session),
		TEST(copy_in_simple_protocol),
		TEST(copy_keeps_its_client),
		TEST(copy_in_extended_protocol),
		TEST(a_swallowed_sync_does_not_end_the_batch),
		TEST(a_batch_behind_a_copy_keeps_its_client),
		TEST(a_copy_that_fails_near_a_sync_is_in_doubt),
		TEST(other_messages_in_copy_break_the_session),
		TEST(copy_both_ways),
		TEST(copy_both_keeps_its_client),
		TEST(a_stream_that_a_shutdown_ends_is_lost),
		TEST(our_answers_are_swallowed),
		TEST(our_requests_stand_between_those_of_the_client),
		TEST(answers_of_ours_have_their_place),
		TEST(an_error_drops_answers_of_ours),
		TEST(batches_are_open_until_their_end_is_answered),
		TEST(nothing_is_taken_that_is_not_owed),
		TEST(marks_tell_what_was_answered),
		TEST(marks_tell_what_was_dropped),
		TEST(a_marked_query_that_fails_is_dropped_once),
		TEST(a_mark_outlives_a_sync_that_copy_swallows),
		TEST(notices_of_our_requests_are_ours),
		TEST(query_in_place_of_sync),
		TEST(only_what_was_saved_is_loaded),
		TEST(a_loss_leaves_ends_owed),
		TEST(a_loss_behind_a_flush_is_open),
		TEST(a_loss_with_a_query_in_place_of_sync),
		TEST(a_loss_in_copy),
		TEST(a_loss_owes_nothing_for_ours),
		TEST(effects_stay_with_their_ends),
		TEST(kinds_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
