/*
 * Shapes of the extended protocol. A batch is everything up to its Sync; once a message of it fails the server skips
 * the rest, whatever it is, until that Sync.
 */
#include <stdio.h>
#include <string.h>

#include "shape.h"

static unsigned shape_ext_flags(struct actor *a)
{
	return PIECE_EXT | (rng_one_in(&a->rng, 2) ? PIECE_BINARY : 0);
}

void shape_build_ext(struct script *s, struct actor *a)
{
	struct piece p = { 0 };
	bool failed = false;

	piece_make(&p, a, rng_one_in(&a->rng, 5) ? PIECE_WRITE : piece_pick_good(a), shape_ext_flags(a));
	shape_ext(s, a, &p, &failed);
	if (rng_one_in(&a->rng, 5)) {
		script_send_close(s, 'S', "");
		script_expect(s, '3', NULL, 0);
	}
	shape_sync(s, failed);
	piece_free(&p);
}

/* Executes the portal once for at most limit rows, of which `at` were read before. Returns how many came. */
static size_t shape_portion(struct script *s, const struct piece *p, const char *portal, size_t at, uint32_t limit)
{
	size_t left = p->n_rows - at;
	size_t n = left < limit || !limit ? left : limit;
	char tag[32];

	script_send_execute(s, portal, limit);
	piece_expect_rows(s, p, at, n);
	if (limit && n == limit) {
		script_expect(s, 's', NULL, 0);
	} else {
		snprintf(tag, sizeof(tag), "SELECT %zu", n);
		script_expect_tag(s, tag);
	}
	return n;
}

void shape_build_portal(struct script *s, struct actor *a)
{
	const char *portal = rng_one_in(&a->rng, 2) ? "" : "portal";
	bool block = rng_one_in(&a->rng, 2);
	struct piece p = { 0 };
	size_t at = 0;

	if (block)
		shape_verb(s, "BEGIN", "BEGIN", 'T');
	piece_make(&p, a, PIECE_SERIES, shape_ext_flags(a));
	script_send_parse(s, "", p.sql.data, p.sql.len);
	script_expect(s, '1', NULL, 0);
	script_send_bind(s, portal, "", &p.params, p.n_params, false, p.binary);
	script_expect(s, '2', NULL, 0);
	for (int i = 0; i < 8; i++) {
		uint32_t limit = (uint32_t)rng_range(&a->rng, 1, 1 + p.n_rows);
		size_t n = shape_portion(s, &p, portal, at, limit);

		at += n;
		if (n < limit)
			break;
		if (rng_one_in(&a->rng, 3)) {
			script_send_flush(s);
			script_wait(s);
		} else if (block && rng_one_in(&a->rng, 2)) {
			shape_sync(s, false);
			if (rng_one_in(&a->rng, 2))
				script_wait(s);
		}
	}
	if (rng_one_in(&a->rng, 3)) {
		script_send_close(s, 'P', portal);
		script_expect(s, '3', NULL, 0);
	}
	shape_sync(s, false);
	if (block) {
		script_wait(s);
		shape_verb(s, "COMMIT", "COMMIT", 'I');
	}
	piece_free(&p);
}

/* One batch of one to three pieces with its Sync. */
static void shape_batch(struct script *s, struct actor *a, struct piece *p)
{
	int n = (int)rng_range(&a->rng, 1, 3);
	bool failed = false;

	for (int i = 0; i < n; i++) {
		enum piece_kind kind = rng_one_in(&a->rng, 4) ? PIECE_WRITE : piece_pick_good(a);

		if (rng_one_in(&a->rng, 8))
			kind = rng_one_in(&a->rng, 2) ? PIECE_ERROR : PIECE_MISSING;
		piece_make(p, a, kind, shape_ext_flags(a));
		shape_ext(s, a, p, &failed);
	}
	shape_sync(s, failed);
}

void shape_build_pipeline(struct script *s, struct actor *a)
{
	int n = (int)rng_range(&a->rng, 2, rng_one_in(&a->rng, 8) ? 40 : 6);
	bool block = rng_one_in(&a->rng, 4);
	bool queries = rng_one_in(&a->rng, 4);
	struct piece p = { 0 };
	bool failed = false;

	if (block) {
		piece_verb(&p, "BEGIN", "BEGIN");
		shape_ext(s, a, &p, &failed);
		s->tx = 'T';
		shape_sync(s, false);
	}
	for (int i = 0; i < n; i++) {
		if (queries && rng_one_in(&a->rng, 3)) {
			piece_make(&p, a, piece_pick_good(a), 0);
			shape_query(s, &p);
		} else {
			shape_batch(s, a, &p);
		}
		if (rng_one_in(&a->rng, 6))
			script_pause(s, (unsigned)rng_below(&a->rng, 2000));
	}
	if (block) {
		bool good = s->tx == 'T';

		piece_verb(&p, "COMMIT", good ? "COMMIT" : "ROLLBACK");
		s->tx = 'I';
		failed = false;
		if (!good)
			script_rollback(s);
		shape_ext(s, a, &p, &failed);
		script_commit_executed(s);
		shape_sync(s, false);
	}
	piece_free(&p);
}

void shape_build_flush(struct script *s, struct actor *a)
{
	int n = (int)rng_range(&a->rng, 1, 4);
	struct piece p = { 0 };
	bool failed = false;

	for (int i = 0; i < n && !failed; i++) {
		enum piece_kind kind = rng_one_in(&a->rng, 5) ? PIECE_WRITE : piece_pick_good(a);

		if (rng_one_in(&a->rng, 8))
			kind = PIECE_ERROR;
		piece_make(&p, a, kind, shape_ext_flags(a));
		shape_ext(s, a, &p, &failed);
		script_send_flush(s);
		if (rng_one_in(&a->rng, 2))
			script_wait(s);
		if (rng_one_in(&a->rng, 3))
			script_pause(s, (unsigned)rng_below(&a->rng, 10000));
	}
	shape_sync(s, failed);
	piece_free(&p);
}

/* A Parse and Bind of which the Bind fails. */
static void shape_bad_bind(struct script *s, struct actor *a, bool *failed)
{
	struct bytes params = { 0 };
	char text[64], error[80];
	bool count = rng_one_in(&a->rng, 2);
	const char *sql = "SELECT $1::text AS who, $2::int4 AS seq";

	a->seq++;
	snprintf(text, sizeof(text), "bad_%s_%d", a->who, a->seq);
	snprintf(error, sizeof(error), "\"%s\"", text);
	script_send_parse(s, "", sql, strlen(sql));
	script_expect(s, '1', NULL, 0);
	bytes_u32(&params, 3);
	bytes_text(&params, "who");
	if (!count) {
		bytes_u32(&params, (uint32_t)strlen(text));
		bytes_text(&params, text);
	}
	script_send_bind(s, "", "", &params, count ? 1 : 2, false, false);
	if (count)
		script_expect_error(s, "08P01", "bind message supplies 1 parameters");
	else
		script_expect_error(s, "22P02", error);
	*failed = true;
	script_send_execute(s, "", 0);
	bytes_free(&params);
}

/* Something in an extended batch that fails; where is chance. */
static void shape_fail(struct script *s, struct actor *a, struct piece *p, bool *failed)
{
	char name[64], error[80];

	a->seq++;
	snprintf(name, sizeof(name), "no_%s_%d", a->who, a->seq);
	snprintf(error, sizeof(error), "\"%s\"", name);
	switch (rng_below(&a->rng, 6)) {
	case 0:
		piece_make(p, a, PIECE_SYNTAX, PIECE_EXT);
		shape_ext(s, a, p, failed);
		break;
	case 1:
		piece_make(p, a, PIECE_MISSING, PIECE_EXT);
		shape_ext(s, a, p, failed);
		break;
	case 2:
		shape_bad_bind(s, a, failed);
		break;
	case 3:
		script_send_describe(s, 'P', name);
		script_expect_error(s, "34000", error);
		*failed = true;
		break;
	case 4:
		script_send_execute(s, name, 0);
		script_expect_error(s, "34000", error);
		*failed = true;
		break;
	default:
		piece_make(p, a, PIECE_ERROR, shape_ext_flags(a));
		shape_ext(s, a, p, failed);
	}
}

/* A good piece in front of what is to come, or nothing. */
static void shape_ext_before(struct script *s, struct actor *a, struct piece *p, bool *failed)
{
	if (rng_one_in(&a->rng, 2))
		return;
	piece_make(p, a, rng_one_in(&a->rng, 3) ? PIECE_WRITE : piece_pick_good(a), shape_ext_flags(a));
	shape_ext(s, a, p, failed);
}

void shape_build_exterror(struct script *s, struct actor *a)
{
	int rest = (int)rng_below(&a->rng, 3);
	struct piece p = { 0 };
	bool failed = false;

	shape_ext_before(s, a, &p, &failed);
	shape_fail(s, a, &p, &failed);
	if (rng_one_in(&a->rng, 3)) {
		script_send_flush(s);
		script_wait(s);
	}
	for (int i = 0; i < rest; i++) {
		piece_make(&p, a, rng_one_in(&a->rng, 3) ? PIECE_WRITE : piece_pick_good(a), shape_ext_flags(a));
		shape_ext(s, a, &p, &failed);
	}
	if (rng_one_in(&a->rng, 3))
		script_send_close(s, 'P', "");
	shape_sync(s, failed);
	if (rng_one_in(&a->rng, 2))
		shape_any(s, a, &p, PIECE_ENV);
	piece_free(&p);
}

void shape_build_trap(struct script *s, struct actor *a)
{
	struct piece p = { 0 };
	bool failed = false;
	int n = (int)rng_range(&a->rng, 1, 3);

	shape_ext_before(s, a, &p, &failed);
	shape_fail(s, a, &p, &failed);
	if (rng_one_in(&a->rng, 3)) {
		script_send_flush(s);
		script_wait(s);
		if (rng_one_in(&a->rng, 2))
			script_pause(s, (unsigned)rng_below(&a->rng, 3000));
	}
	for (int i = 0; i < n; i++) {
		if (rng_one_in(&a->rng, 4)) {
			script_send_function(s, 154, (const char *const[]){ "4", "2" }, 2);
			continue;
		}
		piece_make(&p, a, rng_one_in(&a->rng, 2) ? PIECE_WRITE : PIECE_PLAIN, 0);
		script_send_query(s, p.sql.data, p.sql.len);
		if (p.kind == PIECE_WRITE)
			script_write(s, p.op);
	}
	if (rng_one_in(&a->rng, 4))
		script_pause(s, (unsigned)rng_below(&a->rng, 3000));
	shape_sync(s, failed);
	shape_any(s, a, &p, PIECE_ENV);
	piece_free(&p);
}

void shape_build_mixed(struct script *s, struct actor *a)
{
	struct piece p = { 0 };
	bool failed = false;

	piece_make(&p, a, rng_one_in(&a->rng, 3) ? PIECE_WRITE : piece_pick_good(a), shape_ext_flags(a));
	shape_ext(s, a, &p, &failed);
	if (rng_one_in(&a->rng, 2)) {
		piece_make(&p, a, piece_pick_good(a), 0);
		shape_query(s, &p);
	} else {
		a->seq++;
		script_send_function(s, 154, (const char *const[]){ "84", "2" }, 2);
		script_expect(s, 'V', "\0\0\0\00242", 6);
		script_expect_ready(s);
		script_commit(s);
	}
	if (rng_one_in(&a->rng, 3))
		script_wait(s);
	if (rng_one_in(&a->rng, 2)) {
		piece_make(&p, a, piece_pick_good(a), shape_ext_flags(a));
		shape_ext(s, a, &p, &failed);
	}
	shape_sync(s, failed);
	piece_free(&p);
}

void shape_build_lone(struct script *s, struct actor *a)
{
	int n = (int)rng_range(&a->rng, 1, 4);

	for (int i = 0; i < n; i++) {
		if (rng_one_in(&a->rng, 3)) {
			script_send_flush(s);
			script_pause(s, (unsigned)rng_below(&a->rng, 2000));
		}
		shape_sync(s, false);
		if (rng_one_in(&a->rng, 2))
			script_wait(s);
	}
}

/* A length for a large message: near the sizes of buffers; the larger, the rarer. */
static size_t shape_big_size(struct script *s, struct actor *a)
{
	static const size_t near[] = { 128, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144 };
	size_t size = near[rng_below(&a->rng, sizeof(near) / sizeof(near[0]))] + rng_below(&a->rng, 11) - 5;

	if (rng_one_in(&a->rng, 12))
		size = rng_range(&a->rng, 1, 70000);
	if (rng_one_in(&a->rng, 25))
		size = (1 << 20) + rng_below(&a->rng, 3) - 1 + (rng_below(&a->rng, 3) << 20);
	if (rng_one_in(&a->rng, 400))
		size = (size_t)rng_range(&a->rng, 8, 64) << 20;
	return size <= 65536 || shape_take_heavy(s, size) ? size : 65536;
}

static void shape_build_sized(struct script *s, struct actor *a, enum piece_kind kind)
{
	struct piece p = { 0 };
	int n = (int)rng_range(&a->rng, 1, 3);
	bool ext = rng_one_in(&a->rng, 2);
	bool failed = false;

	for (int i = 0; i < n; i++) {
		p.row_bytes = shape_big_size(s, a);
		piece_make(&p, a, kind, ext ? shape_ext_flags(a) : 0);
		if (ext)
			shape_ext(s, a, &p, &failed);
		else
			shape_query(s, &p);
	}
	if (ext)
		shape_sync(s, failed);
	piece_free(&p);
}

void shape_build_big(struct script *s, struct actor *a)
{
	shape_build_sized(s, a, PIECE_BIG);
}

void shape_build_bigup(struct script *s, struct actor *a)
{
	shape_build_sized(s, a, PIECE_ECHO);
}
