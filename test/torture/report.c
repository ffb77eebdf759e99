#include "report.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define REPORT_MAX_FULL  12  /* failures that are printed in full */
#define REPORT_MAX_DUMP  512 /* bytes of one thing that are printed */
#define REPORT_MAX_NEXT  6   /* expectations that are printed */
#define REPORT_MAX_SENT  24  /* sent messages that are printed before that one */
#define REPORT_MAX_LINE  110 /* bytes of each */
#define REPORT_MAX_KINDS 64  /* different errors that are told apart */

/* A table of texts and how often each came. */
struct report_tally {
	struct {
		char text[120];
		uint64_t n;
	} rows[REPORT_MAX_KINDS];
	int n;
};

struct report report;

/* Protects the tallies and keeps printed reports whole. */
static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER;
static struct report_tally report_sqlstates, report_fatals, report_losses;
static unsigned report_printed;

static void report_tally_add(struct report_tally *t, const char *text)
{
	int i;

	pthread_mutex_lock(&report_lock);
	for (i = 0; i < t->n; i++)
		if (strncmp(t->rows[i].text, text, sizeof(t->rows[i].text) - 1) == 0)
			break;
	if (i == t->n && t->n < REPORT_MAX_KINDS)
		snprintf(t->rows[t->n++].text, sizeof(t->rows[i].text), "%s", text);
	if (i < t->n)
		t->rows[i].n++;
	pthread_mutex_unlock(&report_lock);
}

static void report_tally_print(const struct report_tally *t, const char *title)
{
	if (t->n)
		printf("%s:\n", title);
	for (int i = 0; i < t->n; i++)
		printf("  %10llu  %s\n", (unsigned long long)t->rows[i].n, t->rows[i].text);
}

void report_shape(const char *shape)
{
	report_add(ops, 1);
	for (int i = 0; i < N_SHAPES; i++)
		if (shapes[i].name == shape)
			report_add(shape_done[i], 1);
}

void report_error(const char *sqlstate, const char *text, bool fatal)
{
	char line[120];

	snprintf(line, sizeof(line), "%s %s", sqlstate, text);
	report_tally_add(fatal ? &report_fatals : &report_sqlstates, fatal ? line : sqlstate);
}

void report_loss(const char *reason)
{
	report_tally_add(&report_losses, reason);
}

static void report_dump(const uint8_t *p, size_t len, const char *indent)
{
	size_t shown = len < REPORT_MAX_DUMP ? len : REPORT_MAX_DUMP;

	for (size_t at = 0; at < shown; at += 16) {
		printf("%s%06zx ", indent, at);
		for (size_t i = at; i < at + 16; i++)
			if (i < shown)
				printf(" %02x", p[i]);
			else
				printf("   ");
		printf("  ");
		for (size_t i = at; i < at + 16 && i < shown; i++)
			putchar(isprint(p[i]) ? p[i] : '.');
		putchar('\n');
	}
	if (len > shown)
		printf("%s... %zu more bytes\n", indent, len - shown);
}

/* A message of the client in one line. */
static void report_sent(const struct script *s, size_t from, size_t end)
{
	printf("    %6zu ", from);
	for (size_t i = from; i < end && i < from + REPORT_MAX_LINE; i++)
		if (isprint(s->out.data[i]))
			putchar(s->out.data[i]);
		else if (i >= from + 5 || i == from)
			putchar('.');
	printf("%s\n", end - from > REPORT_MAX_LINE ? " ..." : "");
}

/* The messages around the one that has to be answered next. */
static void report_messages(const struct script *s, size_t asked)
{
	size_t around = 0;

	while (around < s->n_ends && s->ends[around] < asked)
		around++;
	for (size_t i = around < REPORT_MAX_SENT ? 0 : around - REPORT_MAX_SENT;
	     i < s->n_ends && i < around + REPORT_MAX_SENT / 2; i++)
		report_sent(s, i ? s->ends[i - 1] : 0, s->ends[i]);
}

static void report_script(const struct report_case *rc)
{
	const struct script *s = rc->script;
	size_t next = rc->check->next;
	char text[120];

	printf("  sent: %zu of %zu bytes\n", rc->sent, s->out.len);
	report_messages(s, next < s->n_expects ? s->expects[next].asked : s->out.len);
	printf("  expected: %zu of %zu messages have come; next:\n", next, s->n_expects);
	for (size_t i = next; i < s->n_expects && i < next + REPORT_MAX_NEXT; i++) {
		check_describe(s, i, text, sizeof(text));
		printf("   %s %s\n", i == next ? ">" : " ", text);
		report_dump(s->pool.data + s->expects[i].at, s->expects[i].len, "      ");
	}
}

void report_wrong(const struct report_case *rc, const char *why)
{
	report_add(wrong, 1);
	pthread_mutex_lock(&report_lock);
	if (report_printed++ < REPORT_MAX_FULL) {
		printf("WRONG: %s\n  client %s (counter %d), %s, shape %s\n", why, rc->actor->who, rc->actor->seq,
		       rc->state, rc->script->shape);
		report_script(rc);
		if (rc->type) {
			printf("  came: '%c' with %zu bytes:\n", rc->type, rc->len);
			report_dump(rc->body, rc->len, "    ");
		}
		fflush(stdout);
	}
	pthread_mutex_unlock(&report_lock);
}

void report_wrong_plain(const char *why)
{
	report_add(wrong, 1);
	printf("WRONG: %s\n", why);
}

void report_progress(double seconds)
{
	printf("%7.1f s  ops %llu  rows %llu  in %.1f MB  out %.1f MB  logins %llu  disconnects %llu  faults %llu  "
	       "cancels %llu  wrong %llu\n",
	       seconds, (unsigned long long)report.ops, (unsigned long long)report.rows, (double)report.bytes_in / 1e6,
	       (double)report.bytes_out / 1e6, (unsigned long long)report.logins,
	       (unsigned long long)report.disconnects, (unsigned long long)report.faults,
	       (unsigned long long)report.cancels, (unsigned long long)report.wrong);
	fflush(stdout);
}

void report_final(double seconds)
{
	printf("after %.1f s:\n", seconds);
#define REPORT_PRINT(name, help) printf("  %14llu  %s\n", (unsigned long long)report.name, help);
	REPORT_COUNTS(REPORT_PRINT)
#undef REPORT_PRINT
	printf("operations by shape:\n");
	for (int i = 0; i < N_SHAPES; i++)
		if (shapes[i].weight)
			printf("  %10llu  %s\n", (unsigned long long)report.shape_done[i], shapes[i].name);
	report_tally_print(&report_sqlstates, "errors by SQLSTATE");
	report_tally_print(&report_fatals, "fatal errors");
	report_tally_print(&report_losses, "connections lost without a word");
}
