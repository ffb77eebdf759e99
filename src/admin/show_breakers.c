/*
 * SHOW BREAKERS: the breakers of all endpoints, a row per endpoint, database
 * with settings of its own, and class of failures.
 */
#include "admin/show.h"
#include "core/clock.h"
#include "pool/endpoint.h"
#include "proto/build.h"

/* Databases with breakers of their own that one endpoint can show. */
#define SHOW_BREAKERS_MAX 256

struct breakers_row {
	char endpoint[300];
	char database[64];
	const char *class;
	const char *state;
	uint64_t since_us;
	int64_t in_row;
	int64_t successes;
	int64_t failures;
	int64_t opened;
	int64_t retry_ms; /* SHOW_NULL: it is not open, or by hand */
	const char *reason;
	const char *last_failures;
};

static const struct show_column show_breakers_columns[] = {
	{ "endpoint", OID_TEXT, SHOW_CHARS, offsetof(struct breakers_row, endpoint), "host and port" },
	{ "database", OID_TEXT, SHOW_CHARS, offsetof(struct breakers_row, database),
	  "the database, or * for all without settings of their own" },
	{ "class", OID_TEXT, SHOW_TEXT, offsetof(struct breakers_row, class),
	  "which failures it counts: connect, login, protocol, or overload" },
	{ "state", OID_TEXT, SHOW_TEXT, offsetof(struct breakers_row, state), "closed, open, or half_open" },
	{ "since", OID_TEXT, SHOW_TIME, offsetof(struct breakers_row, since_us), "when it took this state" },
	{ "failures_in_row", OID_INT8, SHOW_INT, offsetof(struct breakers_row, in_row),
	  "failures with no success between them" },
	{ "successes", OID_INT8, SHOW_INT, offsetof(struct breakers_row, successes),
	  "attempts that succeeded, since the start or the last RESET" },
	{ "failures", OID_INT8, SHOW_INT, offsetof(struct breakers_row, failures), "... and that failed" },
	{ "opened", OID_INT8, SHOW_INT, offsetof(struct breakers_row, opened), "how often it has opened, likewise" },
	{ "retry_ms", OID_INT8, SHOW_MAYBE, offsetof(struct breakers_row, retry_ms),
	  "milliseconds until an attempt may be made; NULL when it is not open, or was opened by hand" },
	{ "reason", OID_TEXT, SHOW_TEXT, offsetof(struct breakers_row, reason), "what has brought about the state" },
	{ "last_failures", OID_TEXT, SHOW_TEXT, offsetof(struct breakers_row, last_failures),
	  "the last five, newest first, each with its time" },
};

static const char *show_keep_failures(struct show_rows *rows, const struct breaker *b)
{
	char text[BREAKER_NOTES * (BREAKER_TEXT + 32)] = "";

	for (unsigned i = 1; i <= BREAKER_NOTES && i <= b->note_count; i++) {
		const struct breaker_note *note = &b->notes[(b->note_count - i) % BREAKER_NOTES];
		char when[32];

		clock_format(clock_mono_to_wall(note->at_us), when, sizeof(when));
		str_append(text, sizeof(text), "%s%s %s", i > 1 ? "; " : "", when, note->text);
	}
	return show_keep_text(rows, text);
}

static void show_add_breaker(struct show *show, const struct endpoint *ep, const struct breaker_set *set,
			     const struct breaker_view *view)
{
	struct breakers_row *row = show_add_row(&show->rows);
	const struct breaker *b = &view->breaker;

	str_copy(row->endpoint, sizeof(row->endpoint), ep->name);
	str_copy(row->database, sizeof(row->database), set->name);
	row->class = view->class;
	row->state = breaker_state_name(b->state);
	row->since_us = b->since_us;
	row->in_row = b->failures_in_row;
	row->successes = (int64_t)b->total_successes;
	row->failures = (int64_t)b->total_failures;
	row->opened = (int64_t)b->total_opens;
	row->reason = show_keep_text(&show->rows, view->evidence);
	row->last_failures = show_keep_failures(&show->rows, b);
	row->retry_ms = SHOW_NULL;
	if (b->state == BREAKER_OPEN && view->left_us != BREAKER_FOREVER)
		row->retry_ms = (int64_t)((view->left_us + 999) / 1000);
}

static void show_add_endpoint(struct endpoint *ep, void *arg)
{
	struct show *show = arg;
	struct breaker_set *sets[SHOW_BREAKERS_MAX];
	size_t n = endpoint_breaker_sets(ep, sets, ARRAY_LEN(sets));
	struct breaker_view view;

	for (size_t i = 0; i < n; i++)
		for (unsigned class = 0; class < FAILURE_CLASSES; class ++) {
			breaker_set_view(sets[i], class, show->now_us, &view);
			show_add_breaker(show, ep, sets[i], &view);
		}
}

static int show_compare_breakers(const void *a, const void *b)
{
	const struct breakers_row *x = a;
	const struct breakers_row *y = b;
	int order = strcmp(x->endpoint, y->endpoint);

	if (order == 0)
		order = strcmp(x->database, y->database);
	return order != 0 ? order : strcmp(x->class, y->class);
}

static void show_fill_breakers(struct show *show)
{
	endpoints_each(show->engine->endpoints, show_add_endpoint, show);
	show_sort(&show->rows, show_compare_breakers);
}

const struct show_table show_breakers = {
	.name = "BREAKERS",
	.help = "The breakers of all endpoints: which are open, since when, why, and what has failed last.",
	.right = COMMAND_FOR_STATS,
	.columns = show_breakers_columns,
	.column_count = ARRAY_LEN(show_breakers_columns),
	.row_size = sizeof(struct breakers_row),
	.fill = show_fill_breakers,
};
