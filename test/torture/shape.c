#include "shape.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* All large messages under way together stay below this; a message counts with its length. */
#define SHAPE_HEAVY_BUDGET (160 * 1024 * 1024)

struct shape shapes[N_SHAPES] = {
#define SHAPE(name, weight, needs, help) { #name, weight, NEEDS_##needs, help, shape_build_##name },
#include "shape_tbl.h"
#undef SHAPE
};

/* Length of the large messages under way in all threads. */
static atomic_size_t shape_heavy;

static unsigned shape_total_weight(void)
{
	unsigned sum = 0;

	for (int i = 0; i < N_SHAPES; i++)
		sum += shapes[i].weight;
	return sum;
}

bool shape_select(const char *list, enum shape_needs can, char bad[32])
{
	bool chosen[N_SHAPES] = { false };
	bool others = list && list[0] == '-';

	for (int i = 0; i < N_SHAPES; i++)
		if (shapes[i].needs > can)
			shapes[i].weight = 0;
	if (!list)
		return true;
	while (*list) {
		size_t len;
		int i;

		list += others && *list == '-';
		len = strcspn(list, ",");

		for (i = 0; i < N_SHAPES; i++)
			if (strlen(shapes[i].name) == len && strncmp(shapes[i].name, list, len) == 0)
				break;
		if (i == N_SHAPES) {
			snprintf(bad, 32, "%.*s", (int)len, list);
			return false;
		}
		chosen[i] = true;
		list += len + (list[len] == ',');
	}
	for (int i = 0; i < N_SHAPES; i++)
		if (chosen[i] == others)
			shapes[i].weight = 0;
	return shape_total_weight() > 0;
}

void shape_build(struct script *s, struct actor *a)
{
	unsigned pick = (unsigned)rng_below(&a->rng, shape_total_weight());
	int i = 0;

	while (pick >= shapes[i].weight)
		pick -= shapes[i++].weight;
	/* Who holds a server lets go of it soon. */
	if (statements_any_sql(&a->statements) && shapes[SHAPE_prepare].weight && rng_one_in(&a->rng, 2))
		i = SHAPE_prepare;
	script_reset(s, shapes[i].name);
	s->shaped = a->shaped;
	shapes[i].build(s, a);
	if (s->unnamed)
		a->statements.unnamed.kind = STATEMENT_NONE;
	script_wait(s);
}

bool shape_take_heavy(struct script *s, size_t bytes)
{
	if (atomic_fetch_add(&shape_heavy, bytes) + bytes > SHAPE_HEAVY_BUDGET) {
		atomic_fetch_sub(&shape_heavy, bytes);
		return false;
	}
	s->heavy_bytes += bytes;
	return true;
}

void shape_finish(struct script *s)
{
	atomic_fetch_sub(&shape_heavy, s->heavy_bytes);
	s->heavy_bytes = 0;
}

void shape_query(struct script *s, const struct piece *p)
{
	bool failed = p->sqlstate[0] || s->tx == 'E';

	script_send_query(s, p->sql.data, p->sql.len);
	if (p->kind == PIECE_WRITE)
		script_write(s, p->op);
	if (s->tx == 'E')
		script_expect_error(s, "25P02", "current transaction is aborted");
	else
		piece_expect_simple(s, p);
	if (failed && s->tx == 'T')
		s->tx = 'E';
	script_expect_ready(s);
	if (s->tx == 'I' && failed)
		script_rollback(s);
	else if (s->tx == 'I')
		script_commit(s);
}

void shape_verb(struct script *s, const char *sql, const char *tag, char tx)
{
	script_send_text(s, sql);
	script_expect_tag(s, tag);
	s->tx = tx;
	script_expect_ready(s);
}

static void shape_describe_params(struct script *s, const struct piece *p)
{
	struct bytes b = { 0 };

	bytes_u16(&b, (unsigned)p->n_params);
	for (int i = 0; i < p->n_params; i++)
		bytes_u32(&b, p->param_oids[i]);
	script_expect(s, 't', b.data, b.len);
	bytes_free(&b);
}

static void shape_describe_result(struct script *s, const struct piece *p, bool binary)
{
	if (p->n_cols)
		piece_expect_description(s, p, binary);
	else
		script_expect(s, 'n', NULL, 0);
}

void shape_ext(struct script *s, struct actor *a, const struct piece *p, bool *failed)
{
	bool binary_params = p->kind == PIECE_ECHO && p->binary;

	script_send_parse(s, "", p->sql.data, p->sql.len);
	if (!*failed && s->tx == 'E') {
		script_expect_error(s, "25P02", "current transaction is aborted");
		*failed = true;
	} else if (!*failed && p->fails_early) {
		piece_expect_end(s, p);
		*failed = true;
	} else if (!*failed) {
		script_expect(s, '1', NULL, 0);
	}
	if (rng_one_in(&a->rng, 4)) {
		script_send_describe(s, 'S', "");
		if (!*failed) {
			shape_describe_params(s, p);
			shape_describe_result(s, p, false);
		}
	}
	script_send_bind(s, "", "", &p->params, p->n_params, binary_params, p->binary);
	if (!*failed)
		script_expect(s, '2', NULL, 0);
	if (rng_one_in(&a->rng, 2)) {
		script_send_describe(s, 'P', "");
		if (!*failed)
			shape_describe_result(s, p, p->binary);
	}
	script_send_execute(s, "", 0);
	if (p->kind == PIECE_WRITE)
		script_write(s, p->op);
	if (!*failed) {
		piece_expect_rows(s, p, 0, p->n_rows);
		piece_expect_end(s, p);
		*failed = p->sqlstate[0] != 0;
	}
}

void shape_sync(struct script *s, bool failed)
{
	script_send_sync(s);
	if (failed && s->tx == 'T')
		s->tx = 'E';
	script_expect_ready(s);
	if (s->tx == 'I' && failed)
		script_rollback(s);
	else if (s->tx == 'I')
		script_commit(s);
}

void shape_any(struct script *s, struct actor *a, struct piece *p, enum piece_kind kind)
{
	bool failed = false;

	if (rng_one_in(&a->rng, 2)) {
		piece_make(p, a, kind, 0);
		shape_query(s, p);
	} else {
		piece_make(p, a, kind, PIECE_EXT | (rng_one_in(&a->rng, 2) ? PIECE_BINARY : 0));
		shape_ext(s, a, p, &failed);
		shape_sync(s, failed);
	}
}
