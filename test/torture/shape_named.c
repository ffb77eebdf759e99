/*
 * Named prepared statements. All clients use the same few names for different texts, and the same few texts under
 * different names, so that a pooler which keeps statements of one server for many clients has to keep them apart.
 */
#include <stdio.h>
#include <string.h>

#include "shape.h"

/* The text of statement number seq of a client: half of them are shared by all clients. */
static void shape_named_sql(const struct actor *a, int32_t seq, char sql[160])
{
	if (seq % 2)
		snprintf(sql, 160, "SELECT $1::text AS who, $2::int4 AS seq, %d AS stmt", seq % 10);
	else
		snprintf(sql, 160, "SELECT $1::text AS who, $2::int4 AS seq, %d AS stmt /* %s */", seq % 10, a->who);
}

static void shape_named_describe(struct script *s, const char *name)
{
	static const char columns[] = "\0\3who\0\0\0\0\0\0\0\0\0\0\031\377\377\377\377\377\377\0\0"
				      "seq\0\0\0\0\0\0\0\0\0\0\027\0\4\377\377\377\377\0\0"
				      "stmt\0\0\0\0\0\0\0\0\0\0\027\0\4\377\377\377\377\0";

	script_send_describe(s, 'S', name);
	script_expect(s, 't', "\0\2\0\0\0\031\0\0\0\027", 10);
	script_expect(s, 'T', columns, sizeof(columns));
}

static void shape_named_execute(struct script *s, struct actor *a, const char *name, int32_t stmt)
{
	struct bytes params = { 0 }, row = { 0 };
	char seq[16], digit[4];

	a->seq++;
	snprintf(seq, sizeof(seq), "%d", a->seq);
	snprintf(digit, sizeof(digit), "%d", stmt % 10);
	bytes_u32(&params, (uint32_t)strlen(a->who));
	bytes_text(&params, a->who);
	bytes_u32(&params, (uint32_t)strlen(seq));
	bytes_text(&params, seq);
	bytes_u16(&row, 3);
	bytes_add(&row, params.data, params.len);
	bytes_u32(&row, 1);
	bytes_text(&row, digit);
	script_send_bind(s, "", name, &params, 2, false, false);
	script_expect(s, '2', NULL, 0);
	script_send_execute(s, "", 0);
	script_expect(s, 'D', row.data, row.len);
	script_expect_tag(s, "SELECT 1");
	bytes_free(&params);
	bytes_free(&row);
}

void shape_build_named(struct script *s, struct actor *a)
{
	int n = (int)rng_range(&a->rng, 1, 5);
	char name[16], sql[160];

	/* When it is cut short nobody knows which names exist. */
	s->retire = true;
	for (int i = 0; i < n; i++) {
		int k = (int)rng_below(&a->rng, N_NAMED);

		snprintf(name, sizeof(name), "n%d", k);
		if (!a->named_seq[k]) {
			a->named_seq[k] = (int32_t)rng_range(&a->rng, 1, 40);
			shape_named_sql(a, a->named_seq[k], sql);
			script_send_parse(s, name, sql, strlen(sql));
			script_expect(s, '1', NULL, 0);
		}
		if (rng_one_in(&a->rng, 3))
			shape_named_describe(s, name);
		if (!rng_one_in(&a->rng, 5))
			shape_named_execute(s, a, name, a->named_seq[k]);
		if (rng_one_in(&a->rng, 6)) {
			script_send_close(s, 'S', name);
			script_expect(s, '3', NULL, 0);
			a->named_seq[k] = 0;
		}
		if (rng_one_in(&a->rng, 2)) {
			shape_sync(s, false);
			if (rng_one_in(&a->rng, 2))
				script_wait(s);
		} else if (rng_one_in(&a->rng, 3)) {
			script_send_flush(s);
			script_wait(s);
		}
	}
	shape_sync(s, false);
}
