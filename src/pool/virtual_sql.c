/*
 * SQL about prepared statements.
 *
 * DEALLOCATE of a statement that the client has prepared by Parse is one that
 * drivers send (DBD::Pg, PDO, psycopg before libpq 17). The server's copy is not
 * the client's to drop, and may be on another server; so the command, which must
 * be answered, fail and be ignored as any other, is turned upon a victim: a
 * statement made for this.
 *
 * PREPARE makes a statement on the server itself, which the pooler cannot give to
 * another. Its tag tells, whatever text it was in, and ties the server to the
 * client; or it is refused, by its words.
 */
#include "core/str.h"
#include "pool/virtual.h"
#include "pool/virtual_int.h"

/* Adds the message with a DEALLOCATE for this statement as its text, in place of the client's. */
static void virtual_put_text(struct link_walk *w, uint64_t number)
{
	static const char before[] = "DEALLOCATE \"";
	char name[STMT_NAME_SIZE];
	uint32_t name_len = virtual_name(name, number);
	bool is_parse = w->f.type == FE_PARSE;
	/* head; of Parse the empty name; text with its NUL; of Parse the number of types */
	uint32_t size = FRAME_HEADER + is_parse + (uint32_t)sizeof(before) - 1 + name_len + 2 + (is_parse ? 2 : 0);
	uint8_t *p;

	link_walk_reserve(w, 1, size);
	p = link_out_own(&w->out, size);
	memset(p, 0, size);
	p[0] = w->f.type;
	p[4] = (uint8_t)(size - 1);
	p += FRAME_HEADER + is_parse;
	memcpy(p, before, sizeof(before) - 1);
	memcpy(p + sizeof(before) - 1, name, name_len);
	p[sizeof(before) - 1 + name_len] = '"';
}

/* A statement on the server for the client's DEALLOCATE to hit: one of its own each time. */
static struct prep_entry *virtual_make_victim(struct link_walk *w)
{
	char body[40];
	size_t n = str_format(body, sizeof(body), "--%" PRIu64, stmt_next_number()) + 1;
	const struct prep_told told = { .shape = SHAPE_UNKNOWN };
	struct prep_entry *entry = NULL;
	struct stmt *stmt;

	body[n++] = 0; /* no types */
	body[n++] = 0;
	stmt = stmt_intern((const uint8_t *)body, n);
	if (stmt != NULL && virtual_ensure(w, stmt, &told, &entry) && entry != NULL)
		entry->is_victim = true;
	stmt_release(&stmt);
	return entry;
}

/* A query for a statement that no server has. */
static const char virtual_missing[] = "Q\0\0\0\30EXECUTE \"PGSLUICE_\"";

/*
 * A DEALLOCATE of a name that the client does not have: true when it looks like
 * one of ours, by which it would take a statement from others; the answer is that
 * there is none. As a text to parse it is let through.
 */
static bool virtual_guard(struct link_walk *w, const struct classify_name *name, enum admit *admit)
{
	size_t n = sizeof(STMT_NAME_PREFIX) - 1;

	if (w->f.type != FE_QUERY || w->client->server->sql_statements > 0 || name->n < n ||
	    memcmp(name->text, STMT_NAME_PREFIX, n) != 0)
		return false;
	*admit = virtual_provoke_by(w, virtual_missing, sizeof(virtual_missing), REASON_PREP_MISSING,
				    slice_make(name->text, name->n));
	return true;
}

/*
 * DEALLOCATE of a statement that the client has prepared by Parse, as a query or
 * a text to parse: true when it is one, and *admit says what becomes of it. The
 * server's copy may be in use by others, or be on another server; the command
 * is turned upon a statement made for this.
 */
bool virtual_translate(struct link_walk *w, struct slice text, enum admit *admit)
{
	struct client *client = w->client;
	struct server *server = client->server;
	const char *end = text.n == 0 ? NULL : memchr(text.p, '\0', text.n);
	struct classify_name name;
	struct prep_entry *victim;
	struct prep_name *known;

	if (end == NULL || !classify_may_touch_session(text.p, text.n))
		return false;
	if (classify_deallocate(slice_make(text.p, (size_t)(end - text.p)), true, &name) != CLASSIFY_DEALLOCATE_NAME)
		return false;
	if (prep_server_is_held_up(&server->prep)) {
		*admit = virtual_stall(w);
		return true;
	}
	known = prep_client_find(&client->prep, slice_make(name.text, name.n));
	if (known == NULL)
		return virtual_guard(w, &name, admit);
	if (UNLIKELY(client->is_forgetting) && virtual_is_behind_batches(server)) {
		*admit = virtual_stall_for_batches(w); /* one of them may forget the name */
		return true;
	}
	victim = virtual_make_victim(w);
	if (victim == NULL) {
		*admit = virtual_refuse(w, REASON_OOM);
		return true;
	}
	virtual_put_text(w, victim->number);
	virtual_tell(server, w->f.type, false);
	track_mark(&server->track);
	prep_client_remove(&client->prep, known);
	prep_server_record(&server->prep, (struct prep_record){ .op = PREP_FORGET, .name = known });
	if (w->f.type == FE_PARSE) {
		prep_client_begin_unnamed(&client->prep, virtual_epoch(server));
		w->unnamed = (struct slice){ NULL, 0 };
		client->unnamed = UNNAMED_SENT;
		client->unnamed_batch = server->prep.batch;
	}
	server->prep.batch += w->f.type == FE_QUERY;
	*admit = ADMIT_DISCARD;
	return true;
}

/* The kinds of a text's statements, as far as it has come. */
static uint32_t virtual_kinds(struct slice text)
{
	struct classify c;
	int err UNUSED;

	classify_init(&c, CLASSIFY_F_SCS);
	classify_feed(&c, text.p, text.n);
	err = classify_end(&c); /* of what has not come yet, the tag will tell */
	return c.kinds;
}

bool virtual_is_refused(const struct client *client, struct slice text)
{
	return UNLIKELY(client->part->conf->sql_prepare == CONF_SQL_PREPARE_REFUSE) &&
	       (virtual_kinds(text) & CLASSIFY_BIT(CLASSIFY_PREPARE)) != 0;
}

enum admit virtual_query(struct link_walk *w)
{
	static const uint32_t forgetful = CLASSIFY_BIT(CLASSIFY_DEALLOCATE_ALL) | CLASSIFY_BIT(CLASSIFY_DISCARD_ALL) |
					  CLASSIFY_BIT(CLASSIFY_DEALLOCATE);
	struct slice text = link_message_body(w);
	enum admit admit;

	if (virtual_is_refused(w->client, text))
		return virtual_provoke_by(w, virtual_missing, sizeof(virtual_missing), REASON_SQL_PREPARE,
					  slice_of(""));
	if (virtual_translate(w, text, &admit))
		return admit;
	/* Who has no name yet may give one to a text that the server has, which is told nothing then. */
	if ((virtual_may_have_names(w->client) || w->client->server->prep.count > 0) &&
	    (virtual_kinds(text) & forgetful) != 0)
		w->client->is_forgetting = true;
	return ADMIT_SEND;
}

void virtual_deallocated(struct server *server)
{
	struct prep_entry *victim = prep_server_victim(&server->prep);

	if (victim == NULL) {
		server->sql_statements -= server->sql_statements > 0;
		return;
	}
	prep_server_drop(&server->prep, &victim);
}
