/*
 * Shapes with COPY. What makes it hard for a pooler: while the server takes data it ignores Sync, so a Sync that a
 * driver sends right behind its Execute is never answered; and after the copy has failed data may still be on its
 * way, which the server drops without a word, even when the session is idle again.
 */
#include <stdio.h>
#include <string.h>

#include "shape.h"

/* Body of a CopyInResponse or CopyOutResponse of n columns. */
static void shape_copy_head(struct bytes *b, bool binary, int n)
{
	bytes_u8(b, binary);
	bytes_u16(b, (unsigned)n);
	for (int i = 0; i < n; i++)
		bytes_u16(b, binary);
}

/* Sends a COPY statement by Query, or by Parse, Bind and Execute without Sync, up to where the copying begins. */
static void shape_copy_start(struct script *s, const char *sql, bool ext)
{
	if (!ext) {
		script_send_text(s, sql);
		return;
	}
	script_send_parse(s, "", sql, strlen(sql));
	script_expect(s, '1', NULL, 0);
	script_send_bind(s, "", "", NULL, 0, false, false);
	script_expect(s, '2', NULL, 0);
	script_send_execute(s, "", 0);
}

/* The file of a binary COPY of rows (who text, seq int4, v bytea). */
static void shape_copy_binary(struct bytes *file, struct actor *a, int n, unsigned variant, size_t size)
{
	bytes_add(file, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
	for (int i = 0; i < n; i++) {
		bytes_u16(file, 3);
		bytes_u32(file, (uint32_t)strlen(a->who));
		bytes_text(file, a->who);
		bytes_u32(file, 4);
		bytes_u32(file, (uint32_t)a->seq);
		bytes_u32(file, (uint32_t)size);
		piece_filler(file, variant, size, true);
	}
	bytes_u16(file, 0xffff);
}

static void shape_copyout_binary(struct script *s, struct actor *a, bool ext)
{
	int n = (int)rng_range(&a->rng, 1, 20);
	unsigned variant = (unsigned)rng_below(&a->rng, 6);
	size_t size = rng_below(&a->rng, rng_one_in(&a->rng, 10) ? 20000 : 300);
	struct bytes sql = { 0 }, file = { 0 }, head = { 0 };
	char tag[32];

	bytes_printf(&sql, "COPY (SELECT '%s'::text, %d, '\\x", a->who, a->seq);
	piece_filler(&head, variant, size, true);
	for (size_t i = 0; i < head.len; i++)
		bytes_printf(&sql, "%02x", head.data[i]);
	bytes_printf(&sql, "'::bytea FROM generate_series(1, %d)) TO STDOUT (FORMAT binary)%c", n, 0);
	bytes_clear(&head, SIZE_MAX);
	shape_copy_head(&head, true, 3);
	shape_copy_binary(&file, a, n, variant, size);
	shape_copy_start(s, (char *)sql.data, ext);
	script_expect(s, 'H', head.data, head.len);
	script_expect_stream(s, 'd', file.data, file.len);
	script_expect(s, 'c', NULL, 0);
	snprintf(tag, sizeof(tag), "COPY %d", n);
	script_expect_tag(s, tag);
	bytes_free(&sql);
	bytes_free(&file);
	bytes_free(&head);
}

/* Text form. bad_row > 0: an error comes up when that row is computed. */
static void shape_copyout_text(struct script *s, struct actor *a, bool ext, int bad_row)
{
	int n = (int)rng_range(&a->rng, 1, rng_one_in(&a->rng, 10) ? 2000 : 30);
	struct bytes head = { 0 }, line = { 0 };
	char sql[256], text[64];

	snprintf(sql, sizeof(sql),
		 "COPY (SELECT '%s'::text, %d, (CASE g WHEN %d THEN 'bad %s %d' ELSE g::text END)::int4 FROM "
		 "generate_series(1, %d) g) TO STDOUT",
		 a->who, a->seq, bad_row, a->who, a->seq, n < bad_row ? bad_row : n);
	shape_copy_head(&head, false, 3);
	shape_copy_start(s, sql, ext);
	script_expect(s, 'H', head.data, head.len);
	for (int i = 1; bad_row ? i < bad_row : i <= n; i++) {
		bytes_clear(&line, SIZE_MAX);
		bytes_printf(&line, "%s\t%d\t%d\n", a->who, a->seq, i);
		script_expect(s, 'd', line.data, line.len);
	}
	if (bad_row) {
		snprintf(text, sizeof(text), "\"bad %s %d\"", a->who, a->seq);
		script_expect_error(s, "22P02", text);
	} else {
		script_expect(s, 'c', NULL, 0);
		snprintf(text, sizeof(text), "COPY %d", n);
		script_expect_tag(s, text);
	}
	bytes_free(&head);
	bytes_free(&line);
}

void shape_build_copyout(struct script *s, struct actor *a)
{
	bool ext = rng_one_in(&a->rng, 2);
	bool binary = rng_one_in(&a->rng, 3);
	int bad_row = !binary && rng_one_in(&a->rng, 5) ? (int)rng_range(&a->rng, 1, 100) : 0;

	a->seq++;
	if (binary)
		shape_copyout_binary(s, a, ext);
	else
		shape_copyout_text(s, a, ext, bad_row);
	if (ext)
		shape_sync(s, bad_row != 0);
	else
		script_expect_ready(s);
}

/* How a COPY FROM STDIN goes. */
enum copy_plan {
	COPY_GOOD,
	COPY_FAIL,    /* the client gives up with CopyFail */
	COPY_BAD,     /* a line is wrong, the rest of the data follows nevertheless */
	COPY_MISSING, /* there is no such table, the data are sent nevertheless */
};

/* Sends data in messages of random length; Flush and, where the server ignores it, Sync get between at times. */
static void shape_copy_data(struct script *s, struct actor *a, const struct bytes *data, bool may_sync)
{
	size_t most = rng_one_in(&a->rng, 3) ? 5 : 4000;
	size_t at = 0;

	while (at < data->len) {
		size_t n = rng_range(&a->rng, rng_one_in(&a->rng, 30) ? 0 : 1, most);

		if (n > data->len - at)
			n = data->len - at;
		script_send_copy_data(s, data->data + at, n);
		at += n;
		if (may_sync && rng_one_in(&a->rng, 60))
			script_send_flush(s);
		if (may_sync && rng_one_in(&a->rng, 60))
			script_send_sync(s);
		if (rng_one_in(&a->rng, 100))
			script_pause(s, (unsigned)rng_below(&a->rng, 1000));
	}
}

static void shape_copy_lines(struct script *s, struct actor *a, uint32_t op, int from, int n, bool may_sync)
{
	struct bytes data = { 0 };

	for (int i = from; i < from + n; i++)
		bytes_printf(&data, "%u\t%u\t%d\n", a->slot, op, i);
	shape_copy_data(s, a, &data, may_sync);
	bytes_free(&data);
}

/* The data, and how they end. The state is that the copying began, or failed to with COPY_MISSING. */
static void shape_copy_body(struct script *s, struct actor *a, enum copy_plan plan, uint32_t op, int n, bool ext)
{
	char text[96], line[80];

	shape_copy_lines(s, a, op, 0, n, plan != COPY_MISSING);
	if (plan == COPY_GOOD) {
		script_send_copy_done(s);
		snprintf(text, sizeof(text), "COPY %d", n);
		script_expect_tag(s, text);
	} else if (plan == COPY_FAIL) {
		snprintf(text, sizeof(text), "given up by %s %d", a->who, a->seq);
		script_send_copy_fail(s, text);
		script_expect_error(s, "57014", text);
	} else if (plan == COPY_BAD) {
		snprintf(line, sizeof(line), "bad_%s_%d\n", a->who, a->seq);
		script_send_copy_data(s, line, strlen(line));
		snprintf(text, sizeof(text), "\"bad_%s_%d\"", a->who, a->seq);
		script_expect_error(s, "22P02", text);
		if (!ext && s->tx == 'T')
			s->tx = 'E';
		if (!ext)
			script_expect_ready(s);
		shape_copy_lines(s, a, op, n, (int)rng_below(&a->rng, 200), false);
		script_send_copy_done(s);
	} else {
		script_send_copy_done(s);
	}
}

/* A COPY into a table that does not exist: the error, and with an early Sync already the end of that batch. */
static void shape_copy_missing(struct script *s, struct actor *a, bool ext, bool early_sync)
{
	char sql[96], text[80];

	snprintf(text, sizeof(text), "\"no_%s_%d\"", a->who, a->seq);
	snprintf(sql, sizeof(sql), "COPY no_%s_%d FROM STDIN", a->who, a->seq);
	if (ext) {
		script_send_parse(s, "", sql, strlen(sql));
		script_expect(s, '1', NULL, 0);
		script_send_bind(s, "", "", NULL, 0, false, false);
		script_expect(s, '2', NULL, 0);
		script_send_execute(s, "", 0);
	} else {
		script_send_text(s, sql);
	}
	script_expect_error(s, "42P01", text);
	if (s->tx == 'T')
		s->tx = 'E';
	if (!ext)
		script_expect_ready(s);
	else if (early_sync)
		shape_sync(s, true);
}

static void shape_copy_in(struct script *s, struct actor *a, enum copy_plan plan)
{
	int n = (int)rng_range(&a->rng, 0, rng_one_in(&a->rng, 10) ? 3000 : 40);
	bool ext = rng_one_in(&a->rng, 2);
	bool early_sync = ext && rng_one_in(&a->rng, 2);
	bool failed = plan != COPY_GOOD;
	uint32_t op = ledger_add(a->ledger, (unsigned)n, false);
	struct bytes head = { 0 };

	a->seq++;
	if (plan == COPY_MISSING) {
		shape_copy_missing(s, a, ext, early_sync);
	} else {
		shape_copy_start(s, "COPY torture_log FROM STDIN", ext);
		shape_copy_head(&head, false, 3);
		script_expect(s, 'G', head.data, head.len);
		if (early_sync)
			script_send_sync(s);
	}
	if (rng_one_in(&a->rng, 2)) {
		if (ext && !early_sync)
			script_send_flush(s);
		script_wait(s);
	}
	shape_copy_body(s, a, plan, op, n, ext);
	script_write(s, op);
	if (!ext && plan == COPY_FAIL && s->tx == 'T')
		s->tx = 'E';
	if (failed && s->tx == 'I')
		script_rollback(s);
	if (ext)
		shape_sync(s, failed && !(plan == COPY_MISSING && early_sync));
	else if (plan == COPY_GOOD || plan == COPY_FAIL)
		script_expect_ready(s);
	if (s->tx == 'I')
		script_commit(s);
	bytes_free(&head);
}

void shape_build_copyin(struct script *s, struct actor *a)
{
	enum copy_plan plan = rng_one_in(&a->rng, 2) ? COPY_GOOD : (enum copy_plan)rng_below(&a->rng, 4);
	bool block = rng_one_in(&a->rng, 3);
	struct piece p = { 0 };

	if (block) {
		shape_verb(s, "BEGIN", "BEGIN", 'T');
		script_wait(s);
	}
	shape_copy_in(s, a, plan);
	if (rng_one_in(&a->rng, 2))
		shape_any(s, a, &p, rng_one_in(&a->rng, 2) ? PIECE_WRITE : PIECE_ENV);
	if (block) {
		bool good = s->tx == 'T';

		script_wait(s);
		if (!good)
			script_rollback(s);
		shape_verb(s, "COMMIT", good ? "COMMIT" : "ROLLBACK", 'I');
		script_commit(s);
	}
	piece_free(&p);
}

void shape_build_copyback(struct script *s, struct actor *a)
{
	int n = (int)rng_range(&a->rng, 1, 20);
	struct bytes data = { 0 }, head = { 0 };
	char text[64], sql[256];

	a->seq++;
	for (int i = 0; i < n; i++) {
		size_t at = data.len;

		bytes_printf(&data, "%s\t%d\t%d:", a->who, a->seq, i);
		at = data.len;
		piece_filler(&data, (unsigned)rng_below(&a->rng, 6), rng_below(&a->rng, 9000), false);
		/* Bytes that the text format of COPY would have to escape. */
		for (; at < data.len; at++)
			if (data.data[at] < ' ' || data.data[at] == '\\' || data.data[at] == 127)
				data.data[at] = '_';
		bytes_u8(&data, '\n');
	}
	shape_verb(s, "BEGIN", "BEGIN", 'T');
	script_wait(s);
	script_send_text(s, "COPY torture_copy FROM STDIN");
	shape_copy_head(&head, false, 3);
	script_expect(s, 'G', head.data, head.len);
	script_wait(s);
	shape_copy_data(s, a, &data, true);
	script_send_copy_done(s);
	snprintf(text, sizeof(text), "COPY %d", n);
	script_expect_tag(s, text);
	script_expect_ready(s);
	script_wait(s);
	snprintf(sql, sizeof(sql),
		 "COPY (SELECT * FROM torture_copy WHERE who = '%s' AND seq = %d ORDER BY split_part(v, ':', 1)::int) "
		 "TO "
		 "STDOUT",
		 a->who, a->seq);
	script_send_text(s, sql);
	script_expect(s, 'H', head.data, head.len);
	script_expect_stream(s, 'd', data.data, data.len);
	script_expect(s, 'c', NULL, 0);
	snprintf(text, sizeof(text), "COPY %d", n);
	script_expect_tag(s, text);
	script_expect_ready(s);
	script_wait(s);
	shape_verb(s, "ROLLBACK", "ROLLBACK", 'I');
	bytes_free(&data);
	bytes_free(&head);
}
