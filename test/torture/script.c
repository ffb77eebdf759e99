#include "script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void script_reset(struct script *s, const char *shape)
{
	s->shape = shape;
	s->tx = 'I';
	s->dies = false;
	s->commits_at = 0;
	s->retire = s->forget = s->unnamed = s->free_params = false;
	bytes_clear(&s->out, SCRIPT_KEEP_BYTES);
	bytes_clear(&s->pool, SCRIPT_KEEP_BYTES);
	s->n_steps = s->n_expects = s->n_ends = s->n_writes = s->n_sets = 0;
}

void script_free(struct script *s)
{
	bytes_free(&s->out);
	bytes_free(&s->pool);
	free(s->steps);
	free(s->expects);
	free(s->ends);
	free(s->writes);
	free(s->sets);
	*s = (struct script){ 0 };
}

static void script_end(struct script *s, size_t mark)
{
	msg_end(&s->out, mark);
	s->ends = xgrow(s->ends, &s->cap_ends, s->n_ends, sizeof(*s->ends));
	s->ends[s->n_ends++] = s->out.len;
}

void script_send_query(struct script *s, const void *sql, size_t len)
{
	size_t mark = msg_begin(&s->out, 'Q');

	s->unnamed = true;
	bytes_add(&s->out, sql, len);
	bytes_u8(&s->out, 0);
	script_end(s, mark);
}

void script_send_text(struct script *s, const char *sql)
{
	script_send_query(s, sql, strlen(sql));
}

void script_send_typed_parse(struct script *s, const char *name, const void *sql, size_t len, const uint32_t *oids,
			     int n_oids)
{
	size_t mark = msg_begin(&s->out, 'P');

	s->unnamed = s->unnamed || !name[0];
	bytes_cstr(&s->out, name);
	bytes_add(&s->out, sql, len);
	bytes_u8(&s->out, 0);
	bytes_u16(&s->out, (unsigned)n_oids);
	for (int i = 0; i < n_oids; i++)
		bytes_u32(&s->out, oids[i]);
	script_end(s, mark);
}

void script_send_parse(struct script *s, const char *name, const void *sql, size_t len)
{
	script_send_typed_parse(s, name, sql, len, NULL, 0);
}

void script_send_bind(struct script *s, const char *portal, const char *name, const struct bytes *params, int n_params,
		      bool binary_params, bool binary_results)
{
	size_t mark = msg_begin(&s->out, 'B');

	bytes_cstr(&s->out, portal);
	bytes_cstr(&s->out, name);
	bytes_u16(&s->out, 1);
	bytes_u16(&s->out, binary_params);
	bytes_u16(&s->out, (unsigned)n_params);
	if (params)
		bytes_add(&s->out, params->data, params->len);
	bytes_u16(&s->out, 1);
	bytes_u16(&s->out, binary_results);
	script_end(s, mark);
}

static void script_send_named(struct script *s, char type, char what, const char *name)
{
	size_t mark = msg_begin(&s->out, type);

	bytes_u8(&s->out, (uint8_t)what);
	bytes_cstr(&s->out, name);
	script_end(s, mark);
}

void script_send_describe(struct script *s, char what, const char *name)
{
	script_send_named(s, 'D', what, name);
}

void script_send_close(struct script *s, char what, const char *name)
{
	s->unnamed = s->unnamed || (what == 'S' && !name[0]);
	script_send_named(s, 'C', what, name);
}

void script_send_execute(struct script *s, const char *portal, uint32_t max_rows)
{
	size_t mark = msg_begin(&s->out, 'E');

	bytes_cstr(&s->out, portal);
	bytes_u32(&s->out, max_rows);
	script_end(s, mark);
}

static void script_send_plain(struct script *s, char type, const void *data, size_t len)
{
	size_t mark = msg_begin(&s->out, type);

	bytes_add(&s->out, data, len);
	script_end(s, mark);
}

void script_send_sync(struct script *s)
{
	script_send_plain(s, 'S', NULL, 0);
}

void script_send_flush(struct script *s)
{
	script_send_plain(s, 'H', NULL, 0);
}

void script_send_copy_data(struct script *s, const void *data, size_t len)
{
	script_send_plain(s, 'd', data, len);
}

void script_send_copy_done(struct script *s)
{
	script_send_plain(s, 'c', NULL, 0);
}

void script_send_copy_fail(struct script *s, const char *why)
{
	script_send_plain(s, 'f', why, strlen(why) + 1);
}

void script_send_function(struct script *s, uint32_t oid, const char *const *args, int n_args)
{
	size_t mark = msg_begin(&s->out, 'F');

	bytes_u32(&s->out, oid);
	bytes_u16(&s->out, 0);
	bytes_u16(&s->out, (unsigned)n_args);
	for (int i = 0; i < n_args; i++) {
		bytes_u32(&s->out, args[i] ? (uint32_t)strlen(args[i]) : UINT32_MAX);
		if (args[i])
			bytes_text(&s->out, args[i]);
	}
	bytes_u16(&s->out, 0);
	script_end(s, mark);
}

static struct expect *script_add_expect(struct script *s, enum expect_kind kind, char type, const void *data,
					size_t len)
{
	struct expect *x;

	s->expects = xgrow(s->expects, &s->cap_expects, s->n_expects, sizeof(*s->expects));
	x = &s->expects[s->n_expects++];
	*x = (struct expect){
		.kind = kind, .type = type, .at = s->pool.len, .len = len, .asked = s->out.len, .shaped = -1
	};
	bytes_add(&s->pool, data, len);
	return x;
}

void script_expect(struct script *s, char type, const void *body, size_t len)
{
	script_add_expect(s, X_EXACT, type, body, len);
}

void script_expect_stream(struct script *s, char type, const void *data, size_t len)
{
	script_add_expect(s, X_STREAM, type, data, len);
}

void script_expect_tag(struct script *s, const char *tag)
{
	script_expect(s, 'C', tag, strlen(tag) + 1);
}

void script_expect_error(struct script *s, const char *sqlstate, const char *text)
{
	struct expect *x = script_add_expect(s, X_ERROR, 'E', text, strlen(text));

	snprintf(x->sqlstate, sizeof(x->sqlstate), "%s", sqlstate);
}

void script_expect_notice(struct script *s, const char *text)
{
	script_add_expect(s, X_NOTICE, 'N', text, strlen(text));
}

void script_expect_errors(struct script *s, const char *sqlstates, int shaped)
{
	script_add_expect(s, X_ERRORS, 'E', sqlstates, strlen(sqlstates))->shaped = shaped;
}

void script_expect_early(struct script *s)
{
	s->expects[s->n_expects - 1].asked = s->n_ends > 1 ? s->ends[s->n_ends - 2] : 0;
}

void script_expect_shape(struct script *s, int shaped)
{
	script_add_expect(s, X_SHAPE, 'T', NULL, 0)->shaped = shaped;
}

void script_expect_shaped(struct script *s, int shaped, bool binary, const void *own, size_t len)
{
	struct expect *x = script_add_expect(s, X_SHAPED, 'D', own, len);

	x->shaped = shaped;
	x->binary = binary;
}

void script_or(struct script *s, size_t from, size_t mid, bool anywhere)
{
	for (size_t i = from; i < (anywhere ? mid : from + 1); i++)
		if (!s->expects[i].alt)
			s->expects[i].alt = mid;
	s->expects[mid].asked = s->expects[from].asked;
	s->expects[mid - 1].then = s->n_expects;
}

void script_expect_ready(struct script *s)
{
	script_add_expect(s, X_READY, 'Z', NULL, 0)->status = s->tx;
}

static void script_add_step(struct script *s, enum step_kind kind, size_t value)
{
	s->steps = xgrow(s->steps, &s->cap_steps, s->n_steps, sizeof(*s->steps));
	s->steps[s->n_steps++] = (struct step){ kind, value };
}

void script_push(struct script *s)
{
	script_add_step(s, STEP_SEND, s->out.len);
}

void script_wait(struct script *s)
{
	script_push(s);
	script_add_step(s, STEP_WAIT, s->n_expects);
}

void script_pause(struct script *s, unsigned us)
{
	script_push(s);
	script_add_step(s, STEP_PAUSE, us);
}

void script_cancel(struct script *s)
{
	script_push(s);
	script_add_step(s, STEP_CANCEL, 0);
}

void script_write(struct script *s, uint32_t op)
{
	s->writes = xgrow(s->writes, &s->cap_writes, s->n_writes, sizeof(*s->writes));
	s->writes[s->n_writes++] = (struct script_write){ .fate = WRITE_OPEN, .op = op, .sent_at = s->out.len };
}

void script_commit_executed(struct script *s)
{
	s->commits_at = s->out.len;
}

void script_commit(struct script *s)
{
	for (size_t i = 0; i < s->n_writes; i++) {
		if (s->writes[i].fate != WRITE_OPEN)
			continue;
		s->writes[i].fate = WRITE_COMMITS;
		s->writes[i].commit_at = s->commits_at ? s->commits_at : s->out.len;
		s->writes[i].ack = s->n_expects - 1;
	}
	s->commits_at = 0;
}

void script_rollback(struct script *s)
{
	for (size_t i = 0; i < s->n_writes; i++)
		if (s->writes[i].fate == WRITE_OPEN)
			s->writes[i].fate = WRITE_VANISHES;
}

void script_set(struct script *s, int param, const char *value)
{
	s->sets = xgrow(s->sets, &s->cap_sets, s->n_sets, sizeof(*s->sets));
	s->sets[s->n_sets].param = param;
	snprintf(s->sets[s->n_sets++].value, sizeof(s->sets->value), "%s", value);
}
