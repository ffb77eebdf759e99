/*
 * Prepared statements on their way from one process to another.
 *
 * Each worker writes a file in memory, whose descriptor travels with a row of
 * its own. It is a sequence of records, each of them a head and the bytes that
 * the head announces; both processes run on the same machine, so a head is a
 * structure as it stands in memory. A later version that needs another one
 * changes the magic number: then no statement is carried, and whoever has some
 * is not taken over.
 *
 *     TEXT      number, text                         comes before it is used
 *     NAME      fd of the client, number, name
 *     UNNAMED   fd of the client, number             of its unnamed statement
 *     ENTRY     fd of the server, number, number in the name there; the one used longest ago comes first
 *     RECORD    fd of the server, what is believed of a message under way (prep.h); the oldest comes first
 *     LAST      a number that is above all in use
 *
 * A text that many have is written once by each worker. The new process knows
 * it under another number; what a server calls it does not change.
 *
 * A record may have a name or an entry of its own, which is in no map while it
 * is not known what becomes of it; others may mean the same one. So where a
 * record finds what it means is told by a place: in the map, or the number of
 * the record that owns it.
 */
#include "pool/handover_stmt.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "core/log.h"

#define HANDOVER_STMT_MAGIC 0x70677376

enum carried_kind {
	CARRIED_TEXT = 1,
	CARRIED_NAME,
	CARRIED_UNNAMED,
	CARRIED_ENTRY,
	CARRIED_LAST,
	CARRIED_RECORD,
};

/* Where a record finds its name or its entry; else the number of the record that owns it. */
enum carried_place {
	CARRIED_NOWHERE = -1, /* it has none */
	CARRIED_IN_MAP = -2,  /* by its text */
	CARRIED_OWN = -3,
};

struct carried_head {
	uint32_t magic;
	uint32_t kind;
	int64_t fd;
	uint64_t text;   /* number of the statement in the process that gives */
	uint64_t number; /* in its name on the server */
	uint64_t len;    /* of what follows */
	uint32_t shape;
	uint8_t is_spoiled;
	uint8_t is_victim;
	uint8_t is_shapeless;
	uint8_t is_pending;
	uint8_t has_old_tables; /* tables came or went since it was parsed */
	/* of a record; text, number and what else is said of an entry are about the entry, or its own name */
	uint8_t op;          /* enum prep_op */
	uint8_t is_held_up;  /* it is of an earlier batch */
	int32_t why;         /* enum reason */
	int32_t name_place;  /* enum carried_place */
	int32_t entry_place; /* likewise */
	uint32_t unnamed;
};

/* ---- writing ---- */

struct carried_number {
	uint64_t number;
	UT_hash_handle hh;
};

struct carried_writer {
	FILE *file;
	struct carried_number *written; /* texts */
	bool failed;
};

static void handover_stmt_put(struct carried_writer *w, struct carried_head head, const void *bytes)
{
	head.magic = HANDOVER_STMT_MAGIC;
	w->failed |= fwrite(&head, sizeof(head), 1, w->file) != 1;
	w->failed |= bytes != NULL && head.len > 0 && fwrite(bytes, head.len, 1, w->file) != 1;
}

/* Writes the text unless it was written before. */
static void handover_stmt_put_text(struct carried_writer *w, const struct stmt *stmt)
{
	struct carried_number *n;

	HASH_FIND(hh, w->written, &stmt->number, sizeof(stmt->number), n);
	if (n != NULL)
		return;
	n = xcalloc(1, sizeof(*n));
	n->number = stmt->number;
	HASH_ADD(hh, w->written, number, sizeof(n->number), n);
	handover_stmt_put(w, (struct carried_head){ .kind = CARRIED_TEXT, .text = stmt->number, .len = stmt->len },
			  stmt->body);
}

static void handover_stmt_put_client(struct carried_writer *w, const struct client *client)
{
	const struct prep_client *pc = &client->prep;

	for (uint32_t i = 0; i < pc->size; i++)
		for (const struct prep_name *n = pc->buckets[i]; n != NULL; n = n->next) {
			handover_stmt_put_text(w, n->stmt);
			handover_stmt_put(w,
					  (struct carried_head){ .kind = CARRIED_NAME,
								 .fd = client->stream.fd,
								 .text = n->stmt->number,
								 .len = n->len,
								 .shape = n->told.shape },
					  n->text);
		}
	if (pc->unnamed == NULL)
		return;
	handover_stmt_put_text(w, pc->unnamed);
	handover_stmt_put(w,
			  (struct carried_head){ .kind = CARRIED_UNNAMED,
						 .fd = client->stream.fd,
						 .text = pc->unnamed->number,
						 .shape = pc->unnamed_told.shape },
			  NULL);
}

/* What is said of an entry; its text is written. */
static struct carried_head handover_stmt_head(struct carried_writer *w, const struct server *server,
					      const struct prep_entry *e)
{
	const struct db *db = server->pool->db;

	handover_stmt_put_text(w, e->stmt);
	return (struct carried_head){
		.kind = CARRIED_ENTRY,
		.fd = server->stream.fd,
		.text = e->stmt->number,
		.number = e->number,
		.shape = e->shape,
		.is_spoiled =
			e->is_spoiled || e->epoch != server->prep.epoch || e->db_epoch != atomic_load(&db->ddl_epoch),
		.is_victim = e->is_victim,
		.is_shapeless = e->is_shapeless,
		.is_pending = e->is_pending,
		.has_old_tables = e->db_tables != atomic_load(&db->ddl_tables),
	};
}

/* The number of the record that owns this name, or entry; the other one is NULL. */
static int32_t handover_stmt_owner(const struct prep_server *ps, const struct prep_name *name,
				   const struct prep_entry *entry)
{
	for (uint32_t i = 0; i < ps->record_count; i++) {
		const struct prep_record *r = prep_server_record_at(ps, i);

		if ((name != NULL && r->op == PREP_FORGET && r->name == name) ||
		    (entry != NULL && r->op == PREP_EVICT && r->entry == entry))
			return (int32_t)i;
	}
	return CARRIED_NOWHERE;
}

static int32_t handover_stmt_name_place(const struct server *server, const struct prep_record *r)
{
	if (r->name == NULL)
		return CARRIED_NOWHERE;
	if (r->op == PREP_FORGET || r->op == PREP_PROVOKE)
		return CARRIED_OWN;
	if (server->client != NULL && prep_client_find(&server->client->prep, prep_name_text(r->name)) == r->name)
		return CARRIED_IN_MAP;
	return handover_stmt_owner(&server->prep, r->name, NULL);
}

static int32_t handover_stmt_entry_place(const struct server *server, const struct prep_record *r)
{
	if (r->entry == NULL)
		return CARRIED_NOWHERE;
	if (r->op == PREP_EVICT)
		return CARRIED_OWN;
	if (prep_server_find(&server->prep, r->entry->stmt) == r->entry)
		return CARRIED_IN_MAP;
	return handover_stmt_owner(&server->prep, NULL, r->entry);
}

static void handover_stmt_put_record(struct carried_writer *w, const struct server *server, const struct prep_record *r)
{
	struct carried_head head = { .fd = server->stream.fd };
	const char *text = "";

	if (r->entry != NULL)
		head = handover_stmt_head(w, server, r->entry);
	head.kind = CARRIED_RECORD;
	head.op = (uint8_t)r->op;
	head.is_held_up = prep_server_is_held_up(&server->prep);
	head.why = (int32_t)r->why;
	head.unnamed = r->unnamed;
	head.name_place = handover_stmt_name_place(server, r);
	head.entry_place = handover_stmt_entry_place(server, r);
	if (head.name_place == CARRIED_OWN && r->name->stmt != NULL) {
		handover_stmt_put_text(w, r->name->stmt);
		head.text = r->name->stmt->number;
		head.shape = r->name->told.shape;
	}
	if (head.name_place == CARRIED_OWN || head.name_place == CARRIED_IN_MAP) {
		text = r->name->text;
		head.len = r->name->len;
	}
	handover_stmt_put(w, head, text);
}

static void handover_stmt_put_server(struct carried_writer *w, const struct server *server)
{
	const struct prep_server *ps = &server->prep;
	const struct prep_entry *e;

	TAILQ_FOREACH_REVERSE(e, &ps->recent, prep_recent, recent)
	handover_stmt_put(w, handover_stmt_head(w, server, e), NULL);
	for (uint32_t i = 0; i < ps->record_count; i++)
		handover_stmt_put_record(w, server, prep_server_record_at(ps, i));
}

int handover_stmt_save(struct worker *worker)
{
	int fd = memfd_create("pgsluice-statements", MFD_CLOEXEC);
	int copy = fd < 0 ? -1 : dup(fd);
	struct carried_writer w = { .file = copy < 0 ? NULL : fdopen(copy, "w") };
	struct carried_number *n;
	struct carried_number *next;
	struct pool_part *part;
	struct client *client;
	struct server *server;

	if (w.file != NULL) {
		TAILQ_FOREACH (part, &worker->parts, entry) {
			TAILQ_FOREACH (client, &part->clients, entry)
				handover_stmt_put_client(&w, client);
			TAILQ_FOREACH (server, &part->servers, entry)
				handover_stmt_put_server(&w, server);
		}
		handover_stmt_put(&w, (struct carried_head){ .kind = CARRIED_LAST, .number = stmt_next_number() },
				  NULL);
		w.failed |= fclose(w.file) != 0;
	} else if (copy >= 0) {
		close(copy);
	}
	HASH_ITER (hh, w.written, n, next) {
		HASH_DEL(w.written, n);
		free(n);
	}
	if (fd >= 0 && (w.file == NULL || w.failed)) {
		close(fd);
		fd = -1;
	}
	if (fd < 0)
		log_warning("prepared statements cannot be handed over: %s", strerror(errno));
	return fd;
}

/* ---- reading ---- */

struct carried_text {
	uint64_t number;
	struct stmt *stmt; /* held */
	UT_hash_handle hh;
};

/* What a session has, in the order of the file. */
struct carried_item {
	struct carried_item *next;
	struct carried_head head;
	struct stmt *stmt; /* held; NULL in a record that is about none */
	char name[];
};

struct carried_session {
	int64_t fd;
	struct carried_item *first;
	struct carried_item **last;
	UT_hash_handle hh;
};

struct handover_stmts {
	struct carried_session *sessions;
};

static void handover_stmt_add_text(struct carried_text **texts, const struct carried_head *head, const uint8_t *body)
{
	struct stmt *stmt = stmt_intern(body, head->len);
	struct carried_text *t;

	if (stmt == NULL)
		return;
	t = xcalloc(1, sizeof(*t));
	t->number = head->text;
	t->stmt = stmt;
	HASH_ADD(hh, *texts, number, sizeof(t->number), t);
}

static void handover_stmt_add_item(struct handover_stmts *stmts, struct carried_text *texts,
				   const struct carried_head *head, const uint8_t *name)
{
	struct carried_session *s;
	struct carried_item *item;
	struct carried_text *t;

	if (head->kind == CARRIED_RECORD && (head->op > PREP_PROVOKE || (uint32_t)head->why >= REASON_COUNT))
		return; /* of a later version: the session has too few */
	HASH_FIND(hh, texts, &head->text, sizeof(head->text), t);
	if (t == NULL && (head->kind != CARRIED_RECORD || head->text != 0))
		return; /* was not allowed: the session has too few, and is not taken over */
	HASH_FIND(hh, stmts->sessions, &head->fd, sizeof(head->fd), s);
	if (s == NULL) {
		s = xcalloc(1, sizeof(*s));
		s->fd = head->fd;
		s->last = &s->first;
		HASH_ADD(hh, stmts->sessions, fd, sizeof(s->fd), s);
	}
	item = xcalloc(1, sizeof(*item) + head->len);
	item->head = *head;
	item->stmt = t == NULL ? NULL : stmt_hold(t->stmt);
	memcpy(item->name, name, head->len);
	*s->last = item;
	s->last = &item->next;
}

/* The next record, and what follows its head; false at the end, or at what is none. */
static bool handover_stmt_next(struct slice *rest, struct carried_head *head, const uint8_t **bytes)
{
	if (rest->n < sizeof(*head))
		return false;
	memcpy(head, rest->p, sizeof(*head));
	if (head->magic != HANDOVER_STMT_MAGIC || head->len > rest->n - sizeof(*head))
		return false;
	*bytes = (const uint8_t *)rest->p + sizeof(*head);
	*rest = slice_make(*bytes + head->len, rest->n - sizeof(*head) - head->len);
	return true;
}

static void handover_stmt_read(struct handover_stmts *stmts, struct slice file)
{
	struct carried_text *texts = NULL;
	struct carried_text *t;
	struct carried_text *next;
	struct carried_head head;
	const uint8_t *bytes;

	while (handover_stmt_next(&file, &head, &bytes)) {
		if (head.kind == CARRIED_TEXT)
			handover_stmt_add_text(&texts, &head, bytes);
		else if (head.kind != CARRIED_LAST)
			handover_stmt_add_item(stmts, texts, &head, bytes);
	}
	HASH_ITER (hh, texts, t, next) {
		HASH_DEL(texts, t);
		stmt_release(&t->stmt);
		free(t);
	}
}

static void handover_stmt_skip_numbers(struct slice file)
{
	struct carried_head head;
	const uint8_t *bytes;

	while (handover_stmt_next(&file, &head, &bytes))
		stmt_skip_numbers(head.number);
}

/* The file in memory; empty when it cannot be had. */
static struct slice handover_stmt_map(int fd)
{
	struct stat st;
	void *p = MAP_FAILED;

	if (fstat(fd, &st) == 0 && st.st_size > 0)
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p != MAP_FAILED)
		return slice_make(p, (size_t)st.st_size);
	log_warning("prepared statements cannot be taken over: %s", strerror(errno));
	return slice_of("");
}

struct handover_stmts *handover_stmt_load(const int *fds, size_t count)
{
	struct handover_stmts *stmts = xcalloc(1, sizeof(*stmts));
	struct slice *files = xcalloc(count + 1, sizeof(*files));

	for (size_t i = 0; i < count; i++) {
		files[i] = handover_stmt_map(fds[i]);
		handover_stmt_skip_numbers(files[i]);
	}
	for (size_t i = 0; i < count; i++) {
		handover_stmt_read(stmts, files[i]);
		if (files[i].n > 0)
			munmap((void *)(uintptr_t)files[i].p, files[i].n);
	}
	free(files);
	return stmts;
}

static struct carried_item *handover_stmt_first(const struct handover_stmts *stmts, int64_t old_fd)
{
	struct carried_session *s;

	HASH_FIND(hh, stmts->sessions, &old_fd, sizeof(old_fd), s);
	return s == NULL ? NULL : s->first;
}

bool handover_stmt_give_client(const struct handover_stmts *stmts, int64_t old_fd, struct prep_client *pc,
			       uint64_t count)
{
	for (struct carried_item *i = handover_stmt_first(stmts, old_fd); i != NULL; i = i->next) {
		struct slice text = slice_make(i->name, i->head.len);
		struct prep_name *name;

		if (i->head.kind == CARRIED_UNNAMED) {
			stmt_release(&pc->unnamed);
			pc->unnamed = stmt_hold(i->stmt);
			pc->unnamed_told.shape = i->head.shape;
		}
		if (i->head.kind != CARRIED_NAME || prep_client_find(pc, text) != NULL)
			continue;
		name = prep_name_new(text, stmt_hold(i->stmt));
		if (name == NULL)
			return false;
		name->told.shape = i->head.shape;
		if (!prep_client_add(pc, name)) {
			prep_name_free(&name);
			return false;
		}
	}
	return pc->count == count;
}

/* What is said of an entry, besides its text. */
static void handover_stmt_fill_entry(struct prep_entry *entry, const struct server *server,
				     const struct carried_head *head)
{
	const struct db *db = server->pool->db;

	entry->is_pending = head->is_pending != 0;
	entry->db_epoch = atomic_load(&db->ddl_epoch);
	entry->db_tables = atomic_load(&db->ddl_tables) - (head->has_old_tables != 0);
	entry->shape = head->shape;
	entry->is_spoiled = head->is_spoiled != 0;
	entry->is_victim = head->is_victim != 0;
	entry->is_shapeless = head->is_shapeless != 0;
}

bool handover_stmt_give_server(const struct handover_stmts *stmts, int64_t old_fd, struct server *server,
			       uint64_t count)
{
	struct prep_server *ps = &server->prep;

	for (struct carried_item *i = handover_stmt_first(stmts, old_fd); i != NULL; i = i->next) {
		struct prep_entry *entry;

		if (i->head.kind != CARRIED_ENTRY || prep_server_find(ps, i->stmt) != NULL)
			continue;
		entry = prep_server_add(ps, i->stmt, i->head.number);
		if (entry == NULL)
			return false;
		handover_stmt_fill_entry(entry, server, &i->head);
	}
	return ps->count == count;
}

/* ---- records ---- */

uint32_t handover_stmt_count_records(const struct handover_stmts *stmts, int64_t old_fd)
{
	uint32_t n = 0;

	for (const struct carried_item *i = handover_stmt_first(stmts, old_fd); i != NULL; i = i->next)
		n += i->head.kind == CARRIED_RECORD;
	return n;
}

/* The record as far as it needs no other. */
static void handover_stmt_add_record(struct server *server, const struct carried_item *item)
{
	struct prep_record r = {
		.op = (enum prep_op)item->head.op,
		.why = (enum reason)item->head.why,
		.unnamed = item->head.unnamed,
	};

	if (item->head.name_place == CARRIED_OWN) {
		r.name = prep_name_new(slice_make(item->name, item->head.len),
				       item->stmt == NULL ? NULL : stmt_hold(item->stmt));
		if (r.name != NULL)
			r.name->told.shape = item->head.shape;
	}
	if (item->head.entry_place == CARRIED_OWN && item->stmt != NULL) {
		r.entry = prep_entry_new(item->stmt, item->head.number);
		if (r.entry != NULL)
			handover_stmt_fill_entry(r.entry, server, &item->head);
	}
	prep_server_record(&server->prep, r);
}

/* The record finds what it means elsewhere. */
static void handover_stmt_place_record(struct prep_server *ps, const struct prep_client *pc, struct prep_record *r,
				       const struct carried_item *item)
{
	int32_t name = item->head.name_place;
	int32_t entry = item->head.entry_place;

	if (name == CARRIED_IN_MAP)
		r->name = prep_client_find(pc, slice_make(item->name, item->head.len));
	else if (name >= 0 && (uint32_t)name < ps->record_count)
		r->name = prep_server_record_at(ps, (uint32_t)name)->name;
	if (entry == CARRIED_IN_MAP && item->stmt != NULL)
		r->entry = prep_server_find(ps, item->stmt);
	else if (entry >= 0 && (uint32_t)entry < ps->record_count)
		r->entry = prep_server_record_at(ps, (uint32_t)entry)->entry;
}

void handover_stmt_give_records(const struct handover_stmts *stmts, int64_t old_fd, struct server *server,
				const struct prep_client *pc)
{
	struct prep_server *ps = &server->prep;
	const struct carried_item *first = handover_stmt_first(stmts, old_fd);
	bool ok = prep_server_reserve(ps, handover_stmt_count_records(stmts, old_fd));
	bool is_held_up = false;
	uint32_t n = 0;

	if (!ok)
		log_fatal("no memory");
	for (const struct carried_item *i = first; i != NULL; i = i->next)
		if (i->head.kind == CARRIED_RECORD)
			handover_stmt_add_record(server, i);
	for (const struct carried_item *i = first; i != NULL; i = i->next) {
		if (i->head.kind != CARRIED_RECORD)
			continue;
		handover_stmt_place_record(ps, pc, prep_server_record_at(ps, n++), i);
		is_held_up = i->head.is_held_up != 0;
	}
	if (is_held_up)
		ps->records_batch = ps->batch - 1;
}

void handover_stmt_free(struct handover_stmts **stmtsp)
{
	struct handover_stmts *stmts = *stmtsp;
	struct carried_session *s;
	struct carried_session *next;

	*stmtsp = NULL;
	HASH_ITER (hh, stmts->sessions, s, next) {
		HASH_DEL(stmts->sessions, s);
		while (s->first != NULL) {
			struct carried_item *item = s->first;

			s->first = item->next;
			stmt_release(&item->stmt);
			free(item);
		}
		free(s);
	}
	free(stmts);
}
