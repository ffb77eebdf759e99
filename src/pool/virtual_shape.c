/*
 * What clients were told that their statements return.
 *
 * A server lets no plan return other columns than those that it had when it was
 * parsed. A client's statement lives on many servers, each of which has parsed
 * it at a time of its own, so the shape that the client was told (shape.h) is
 * kept with its name and compared with that of the server's entry at each Bind:
 *
 *     the same, or never told                the Bind goes
 *     the server's is not known              the server is asked, by a Describe of our own
 *     another one                            the text is parsed again, and the server asked
 *     still another one                      the error that PostgreSQL has for it
 *
 * But for clients that ask for a description of what they have bound: whatever
 * they get, they get its columns along with it.
 */
#include "pool/rerun.h"
#include "pool/virtual.h"
#include "pool/virtual_int.h"
#include "proto/frame.h"
#include "proto/parse.h"

/* True when the client asks, behind this Bind, for a description of what it has bound. */
static bool virtual_will_describe(const struct link_walk *w)
{
	size_t at = w->at;
	struct frame f = w->f;

	while (f.size < w->len - at) {
		at += (size_t)f.size;
		if (frame_read(w->data + at, w->len - at, UINT64_MAX, &f) != 0 || f.type == FE_EXECUTE ||
		    f.type == FE_SYNC)
			return false;
		if (f.type == FE_DESCRIBE)
			return true;
	}
	return false;
}

bool virtual_relies_on_shape(const struct link_walk *w)
{
	size_t avail = link_walk_avail(w);

	if (w->f.type != FE_BIND)
		return false;
	return avail < w->f.size ||
	       parse_bind_names_columns(slice_make(w->data + w->at + FRAME_HEADER, avail - FRAME_HEADER)) ||
	       !virtual_will_describe(w);
}

/* Asks the server what a statement returns; the client waits for that. */
static enum admit virtual_ask_shape(struct link_walk *w, struct prep_entry *entry)
{
	static const uint8_t flush[] = FRAME_EMPTY(FE_FLUSH);
	struct server *server = w->client->server;

	if (prep_server_is_held_up(&server->prep))
		return virtual_stall(w);
	virtual_add_head(w, FE_DESCRIBE, slice_of("S"), entry->number, 0);
	virtual_tell(server, FE_DESCRIBE, true);
	track_mark(&server->track);
	prep_server_record(&server->prep, (struct prep_record){ .op = PREP_DESCRIBE, .entry = entry });
	link_walk_reserve(w, 1, 0);
	link_out_add(&w->out, flush, sizeof(flush));
	(void)virtual_stall(w);
	w->client->stall = STALL_RECORDS;
	return ADMIT_STOP;
}

enum admit virtual_check_shape(struct link_walk *w, struct slice name, struct stmt *stmt, const struct prep_told *told,
			       struct prep_entry *entry)
{
	if (LIKELY(entry->shape == told->shape || entry->is_shapeless) || !virtual_relies_on_shape(w))
		return ADMIT_SEND;
	if (entry->shape == SHAPE_UNKNOWN)
		return virtual_ask_shape(w, entry);
	if (entry->doubted_by == told->shape)
		return virtual_provoke(w, REASON_PREP_SHAPE, name);
	if (prep_server_is_held_up(&w->client->server->prep))
		return virtual_stall(w);
	/* Which is older, what the client was told or what the server has, shows when the text is parsed again. */
	entry->is_spoiled = true;
	if (!virtual_ensure(w, stmt, told, &entry) || entry == NULL)
		return virtual_refuse(w, REASON_OOM);
	entry->doubted_by = told->shape;
	return virtual_ask_shape(w, entry);
}

void virtual_expect_shape(struct server *server, struct prep_name *name, struct prep_entry *entry, uint32_t unnamed)
{
	virtual_tell(server, FE_DESCRIBE, false);
	track_mark(&server->track);
	prep_server_record(
		&server->prep,
		(struct prep_record){ .op = PREP_DESCRIBE, .name = name, .entry = entry, .unnamed = unnamed });
}

enum admit virtual_describe_unnamed(struct link_walk *w)
{
	struct server *server = w->client->server;

	if (prep_server_is_held_up(&server->prep))
		return virtual_stall(w);
	virtual_expect_shape(server, NULL, NULL, w->client->prep.unnamed_count);
	w->replaced = 0;
	return ADMIT_REWRITTEN;
}

enum admit virtual_describe_portal(struct link_walk *w)
{
	struct server *server = w->client->server;
	const uint8_t *portal = w->data + w->at + FRAME_HEADER + 1;

	if (w->f.type != FE_DESCRIBE || w->bound == NULL || w->bound_to != w->at ||
	    link_walk_avail(w) < FRAME_HEADER + 2 || *portal != '\0')
		return ADMIT_SEND;
	if (LIKELY(w->bound->told.shape != SHAPE_UNKNOWN && w->bound->told.shape == w->bound_entry->shape) ||
	    w->bound_entry->is_shapeless || prep_server_is_held_up(&server->prep))
		return ADMIT_SEND;
	virtual_expect_shape(server, w->bound, w->bound_entry, 0);
	w->replaced = 0;
	return ADMIT_REWRITTEN;
}

bool virtual_is_describing(const struct server *server)
{
	return track_head_is_marked(&server->track) && prep_server_record_head(&server->prep)->op == PREP_DESCRIBE;
}

void virtual_described(struct server *server, uint8_t type, struct slice body)
{
	struct prep_server *ps = &server->prep;
	uint32_t shape = type == BE_NO_DATA ? SHAPE_NO_ROWS : shape_of(body);

	if (shape == SHAPE_UNKNOWN && prep_server_record_head(ps)->entry != NULL)
		prep_server_record_head(ps)->entry->is_shapeless = true;
	prep_server_described(ps, server->client == NULL ? NULL : &server->client->prep, shape);
}
