/*
 * A second run.
 *
 * A statement that we have parsed on a server can turn useless there: the shape
 * of its result changes by DDL ("cached plan must not change result type"), or
 * somebody has made the server forget it. The client has done nothing wrong and
 * would not have seen an error on a session of its own, or a chance to prepare
 * again. When the failing message is the first of its batch, outside of a
 * transaction block, then nothing was done and nothing answered; the batch can
 * be run again from the beginning, as if the client had sent it now.
 *
 *     error --> hidden; Sync of our own unless the client has sent its Sync
 *           --> ReadyForQuery hidden
 *           --> the kept bytes are put in front of what else the client sent
 *           --> the statement is spoiled, so that it is parsed anew
 *
 * For this the bytes of such a batch are kept until its first answer comes: a
 * copy of a hundred bytes in the steady state, into memory that the server
 * keeps.
 *
 * A changed shape is run again only if the batch asks for a description, and
 * names no columns: a client that decodes by the description of an earlier run
 * must see the error, or it would take the new columns for the old ones. It will
 * parse the text again, and that must reach the server then. So it is with any
 * error of these kinds that is the client's to see, such as one inside of a
 * transaction block: the statement is prepared anew before its next use
 * (rerun_learn()). Unless the change was to be expected, it has gone around us,
 * and counts as DDL for the other servers as well.
 */
#include "pool/rerun.h"

#include "pool/client.h"
#include "pool/server.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/parse.h"

void rerun_fini(struct rerun *r)
{
	free(r->bytes);
	r->bytes = NULL;
}

void rerun_begin(struct server *server, const struct stmt *stmt)
{
	struct rerun *r = &server->rerun;

	if (r->runs == RERUN_TIMES)
		return;
	if (UNLIKELY(r->bytes == NULL))
		r->bytes = malloc(RERUN_MAX);
	r->len = r->use_at = 0;
	r->is_statement = r->is_unsent = r->is_due = false;
	r->begun = 0;
	r->stmt = stmt;
	r->is_keeping = r->bytes != NULL;
}

void rerun_keep(struct server *server, const uint8_t *p, size_t n)
{
	struct rerun *r = &server->rerun;

	if (!rerun_has_room(r, n)) {
		r->is_keeping = r->is_statement = false; /* more is under way than could be run again */
		return;
	}
	memcpy(r->bytes + r->len, p, n);
	r->len += (uint32_t)n;
}

/*
 * True when the kept bytes are whole messages of one batch; *relies when columns
 * are named in it, or no description is asked for.
 */
static bool rerun_is_one_batch(const struct rerun *r, bool *relies)
{
	bool is_described = false;
	bool is_over = false;
	uint32_t at = r->use_at;

	*relies = false;
	while (at < r->len) {
		const uint8_t *p = r->bytes + at;
		struct frame f;

		if (is_over || frame_read(p, r->len - at, RERUN_MAX, &f) != 0 || f.size > r->len - at)
			return false;
		if (f.type == FE_QUERY || f.type == FE_FUNCTION_CALL)
			return false;
		if (f.type == FE_BIND)
			*relies |=
				parse_bind_names_columns(slice_make(p + FRAME_HEADER, (size_t)f.size - FRAME_HEADER));
		is_described |= f.type == FE_DESCRIBE;
		is_over = f.type == FE_SYNC;
		at += (uint32_t)f.size;
	}
	*relies |= !is_described;
	return true;
}

void rerun_learn(struct server *server, struct slice body)
{
	struct parse_report report;
	struct prep_entry *entry;
	struct slice name;

	if (parse_report(body, &report) != 0)
		return;
	if (slice_eq_str(report.sqlstate, "26000")) {
		entry = prep_server_find_named(&server->prep, report.message, &name);
		if (entry != NULL)
			entry->is_spoiled = true;
	} else if (parse_is_changed_plan(&report) && !server->prep.is_expecting_change) {
		/* it does not say which statement, so all count as changed */
		atomic_fetch_add_explicit(&server->pool->db->ddl_epoch, 1, memory_order_relaxed);
	}
}

bool rerun_is_due(struct server *server, struct slice body)
{
	const struct rerun *r = &server->rerun;
	enum track_kind head = track_head_kind(&server->track);
	struct parse_report report;
	bool relies;

	if (!r->is_keeping || server->client == NULL || (head != TRACK_BIND && head != TRACK_DESCRIBE) ||
	    track_head_is_ours(&server->track) || r->stmt == NULL || parse_report(body, &report) != 0)
		return false;
	if (!rerun_is_one_batch(r, &relies) || server->client->body_left > 0)
		return false;
	return slice_eq_str(report.sqlstate, "26000") || (!relies && parse_is_changed_plan(&report));
}

int rerun_start(struct server *server)
{
	struct rerun *r = &server->rerun;
	struct prep_entry *entry = r->stmt == NULL || r->is_due ? NULL : prep_server_find(&server->prep, r->stmt);
	struct buf b;
	int err;

	r->is_keeping = r->is_statement = false;
	r->is_under_way = true;
	if (entry != NULL)
		entry->is_spoiled = true;
	if (!server->track.skip)
		return 0; /* the client's own Sync is under way */
	buf_init(&b, 16);
	err = build_sync(&b);
	if (err == 0 && !track_ours(&server->track, FE_SYNC))
		err = -E_NOMEM;
	if (err == 0)
		err = stream_send_buf(&server->stream, &b);
	buf_fini(&b);
	return err < 0 ? err : 0;
}

int rerun_finish(struct server *server)
{
	struct rerun *r = &server->rerun;
	struct client *client = server->client;
	struct buf in;
	int err;
	uint32_t from = r->is_due || r->is_statement ? 0 : r->use_at; /* what was before it has been answered */

	r->is_under_way = false;
	r->runs++;
	buf_init(&in, client->stream.in.max + RERUN_MAX);
	err = buf_append(&in, r->bytes + from, r->len - from);
	if (err == 0 && !buf_is_empty(&client->stream.in))
		err = buf_append(&in, buf_ptr(&client->stream.in), buf_len(&client->stream.in));
	if (err != 0) {
		buf_fini(&in);
		return err;
	}
	in.max = client->stream.in.max;
	buf_fini(&client->stream.in);
	client->stream.in = in;
	r->len = 0;
	return 0;
}
