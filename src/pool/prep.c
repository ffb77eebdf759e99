/*
 * Maps of prepared statements, and records.
 *
 * The map of a client is a small hash table of its own rather than uthash,
 * whose handle of 56 bytes would be most of an entry: a thousand clients with a
 * thousand names each are 50 MB this way. Names are hashed with a secret key, as
 * clients choose them.
 *
 * Records. Messages of a pipeline are worked on before the server has answered
 * those in front of them, so the maps say what will be if all goes well. When
 * the server reports an error it has discarded everything up to the next Sync,
 * and what was believed of these messages is undone, the newest first, so that
 * each step finds the maps as it has left them. All open records are of one
 * batch: a message of a later batch that needs a record waits until they are
 * settled (prep_server_is_held_up()), which costs a pipeline that prepares in
 * several batches one round trip and spares everybody a theory of overlapping
 * undo.
 */
#include "core/base.h" /* first: it asks libc for memmem() */

#include "pool/prep.h"

#define PREP_BUCKETS_MIN 8
#define PREP_RECORDS_MIN 16

/* ---- names ---- */

static size_t prep_name_size(size_t len)
{
	return sizeof(struct prep_name) + len + sizeof(struct prep_name *); /* with its share of the buckets */
}

struct prep_name *prep_name_new(struct slice name, struct stmt *stmt)
{
	struct prep_name *n = NULL;

	if (name.n <= UINT32_MAX && stmt_claim(prep_name_size(name.n))) {
		n = malloc(sizeof(*n) + name.n);
		if (n == NULL)
			stmt_unclaim(prep_name_size(name.n));
	}
	if (n == NULL) {
		stmt_release(&stmt);
		return NULL;
	}
	*n = (struct prep_name){ .stmt = stmt, .hash = stmt_hash_name(name), .len = (uint32_t)name.n };
	if (name.n > 0)
		memcpy(n->text, name.p, name.n);
	return n;
}

void prep_name_free(struct prep_name **namep)
{
	struct prep_name *name = *namep;

	*namep = NULL;
	if (name == NULL)
		return;
	stmt_unclaim(prep_name_size(name->len));
	stmt_release(&name->stmt);
	free(name);
}

static struct prep_name **prep_bucket(const struct prep_client *pc, uint32_t hash)
{
	return &pc->buckets[hash & (pc->size - 1)];
}

struct prep_name *prep_client_find(const struct prep_client *pc, struct slice name)
{
	uint32_t hash;
	struct prep_name *n;

	if (pc->size == 0)
		return NULL;
	hash = stmt_hash_name(name);
	for (n = *prep_bucket(pc, hash); n != NULL; n = n->next)
		if (n->hash == hash && n->len == name.n && memcmp(n->text, name.p, name.n) == 0)
			return n;
	return NULL;
}

static bool prep_client_grow(struct prep_client *pc)
{
	struct prep_client bigger = { .size = pc->size == 0 ? PREP_BUCKETS_MIN : pc->size * 2 };

	bigger.buckets = calloc(bigger.size, sizeof(struct prep_name *));
	if (bigger.buckets == NULL)
		return false;
	for (uint32_t i = 0; i < pc->size; i++) {
		while (pc->buckets[i] != NULL) {
			struct prep_name *n = pc->buckets[i];
			struct prep_name **bucket = prep_bucket(&bigger, n->hash);

			pc->buckets[i] = n->next;
			n->next = *bucket;
			*bucket = n;
		}
	}
	free(pc->buckets);
	pc->buckets = bigger.buckets;
	pc->size = bigger.size;
	return true;
}

struct prep_name *prep_client_find_stmt(const struct prep_client *pc, const struct stmt *stmt)
{
	for (uint32_t i = 0; i < pc->size; i++)
		for (struct prep_name *name = pc->buckets[i]; name != NULL; name = name->next)
			if (name->stmt == stmt)
				return name;
	return NULL;
}

bool prep_client_add(struct prep_client *pc, struct prep_name *name)
{
	struct prep_name **bucket;

	if (pc->count >= pc->size && !prep_client_grow(pc) && pc->size == 0)
		return false;
	bucket = prep_bucket(pc, name->hash);
	name->next = *bucket;
	*bucket = name;
	pc->count++;
	return true;
}

void prep_client_remove(struct prep_client *pc, struct prep_name *name)
{
	struct prep_name **at = prep_bucket(pc, name->hash);

	while (*at != name)
		at = &(*at)->next;
	*at = name->next;
	name->next = NULL;
	pc->count--;
	if (pc->count == 0) {
		free(pc->buckets);
		pc->buckets = NULL;
		pc->size = 0;
	}
}

void prep_client_begin_unnamed(struct prep_client *pc, unsigned db_epoch)
{
	stmt_release(&pc->unnamed);
	pc->is_unsure = false;
	pc->unnamed_told = (struct prep_told){ .shape = SHAPE_UNKNOWN, .epoch = db_epoch };
	if (++pc->unnamed_count == 0)
		pc->unnamed_count = 1;
}

void prep_client_clear(struct prep_client *pc)
{
	for (uint32_t i = 0; i < pc->size; i++) {
		while (pc->buckets[i] != NULL) {
			struct prep_name *n = pc->buckets[i];

			pc->buckets[i] = n->next;
			prep_name_free(&n);
		}
	}
	free(pc->buckets);
	stmt_release(&pc->unnamed);
	*pc = (struct prep_client){ .size = 0 };
}

/* ---- entries ---- */

void prep_server_init(struct prep_server *ps)
{
	memset(ps, 0, sizeof(*ps));
	TAILQ_INIT(&ps->recent);
}

void prep_entry_free(struct prep_entry **entryp)
{
	struct prep_entry *entry = *entryp;

	*entryp = NULL;
	if (entry == NULL)
		return;
	stmt_release(&entry->stmt);
	free(entry);
}

struct prep_entry *prep_server_find(const struct prep_server *ps, const struct stmt *stmt)
{
	struct prep_entry *entry;

	HASH_FIND_PTR(ps->table, &stmt, entry);
	return entry;
}

struct prep_entry *prep_server_find_number(const struct prep_server *ps, uint64_t number)
{
	struct prep_entry *entry;

	TAILQ_FOREACH (entry, &ps->recent, recent)
		if (entry->number == number)
			return entry;
	return NULL;
}

struct prep_entry *prep_server_find_named(const struct prep_server *ps, struct slice text, struct slice *name)
{
	const size_t prefix_len = sizeof(STMT_NAME_PREFIX) - 1;
	const char *start = text.n == 0 ? NULL : memmem(text.p, text.n, STMT_NAME_PREFIX, prefix_len);
	uint64_t number = 0;
	const char *at;

	if (start == NULL)
		return NULL;
	for (at = start + prefix_len; at < text.p + text.n && *at >= '0' && *at <= '9'; at++)
		number = number * 10 + (uint64_t)(*at - '0');
	*name = slice_make(start, (size_t)(at - start));
	return prep_server_find_number(ps, number);
}

/* Puts an entry into the map, as the one used last. */
static void prep_server_insert(struct prep_server *ps, struct prep_entry *entry)
{
	HASH_ADD_PTR(ps->table, stmt, entry);
	TAILQ_INSERT_HEAD(&ps->recent, entry, recent);
	ps->count++;
}

struct prep_entry *prep_entry_new(struct stmt *stmt, uint64_t number)
{
	struct prep_entry *entry = calloc(1, sizeof(*entry));

	if (entry == NULL)
		return NULL;
	entry->stmt = stmt_hold(stmt);
	entry->number = number;
	return entry;
}

struct prep_entry *prep_server_add(struct prep_server *ps, struct stmt *stmt, uint64_t number)
{
	struct prep_entry *entry = prep_entry_new(stmt, number);

	if (entry == NULL)
		return NULL;
	entry->epoch = ps->epoch;
	entry->is_pending = true;
	prep_server_insert(ps, entry);
	return entry;
}

void prep_server_touch(struct prep_server *ps, struct prep_entry *entry)
{
	if (TAILQ_FIRST(&ps->recent) == entry)
		return;
	TAILQ_REMOVE(&ps->recent, entry, recent);
	TAILQ_INSERT_HEAD(&ps->recent, entry, recent);
}

void prep_server_remove(struct prep_server *ps, struct prep_entry *entry)
{
	HASH_DEL(ps->table, entry);
	TAILQ_REMOVE(&ps->recent, entry, recent);
	ps->count--;
}

struct prep_entry *prep_server_oldest(struct prep_server *ps)
{
	struct prep_entry *entry;

	TAILQ_FOREACH_REVERSE(entry, &ps->recent, prep_recent, recent)
	if (!entry->is_pending)
		return entry;
	return NULL;
}

struct prep_entry *prep_server_victim(struct prep_server *ps)
{
	struct prep_entry *entry;

	TAILQ_FOREACH_REVERSE(entry, &ps->recent, prep_recent, recent)
	if (entry->is_victim && !entry->is_pending)
		return entry;
	return NULL;
}

static struct prep_record *prep_record_at(const struct prep_server *ps, uint32_t i)
{
	return &ps->records[(ps->record_head + i) & (ps->record_size - 1)];
}

/* The entry is about to be freed: it is told of no shape any more. */
static void prep_server_tell_not(struct prep_server *ps, const struct prep_entry *entry)
{
	for (uint32_t i = 0; i < ps->record_count; i++) {
		struct prep_record *r = prep_record_at(ps, i);

		if (r->op == PREP_DESCRIBE && r->entry == entry)
			r->entry = NULL;
	}
}

void prep_server_drop(struct prep_server *ps, struct prep_entry **entryp)
{
	prep_server_remove(ps, *entryp);
	prep_server_tell_not(ps, *entryp);
	prep_entry_free(entryp);
}

void prep_server_clear(struct prep_server *ps)
{
	struct prep_entry *entry;
	struct prep_entry *next;

	for (entry = TAILQ_FIRST(&ps->recent); entry != NULL; entry = next) {
		next = TAILQ_NEXT(entry, recent);
		if (entry->is_pending)
			continue; /* its Parse comes after what has cleared the others */
		prep_server_drop(ps, &entry);
	}
	for (uint32_t i = 0; i < ps->record_count; i++) {
		struct prep_record *r = prep_record_at(ps, i);

		if (r->op != PREP_EVICT || r->entry == NULL)
			continue;
		prep_server_tell_not(ps, r->entry);
		prep_entry_free(&r->entry); /* no Close is needed to make that go */
	}
}

/* ---- records ---- */

bool prep_server_reserve(struct prep_server *ps, uint32_t n)
{
	uint32_t size = ps->record_size == 0 ? PREP_RECORDS_MIN : ps->record_size;
	struct prep_record *records;

	while (size - ps->record_count < n)
		size *= 2;
	if (size == ps->record_size)
		return true;
	records = calloc(size, sizeof(*records));
	if (records == NULL)
		return false;
	for (uint32_t i = 0; i < ps->record_count; i++)
		records[i] = *prep_record_at(ps, i);
	free(ps->records);
	ps->records = records;
	ps->record_head = 0;
	ps->record_size = size;
	return true;
}

void prep_server_record(struct prep_server *ps, struct prep_record record)
{
	ASSERT(ps->record_count < ps->record_size && !prep_server_is_held_up(ps));
	ps->records_batch = ps->batch;
	*prep_record_at(ps, ps->record_count++) = record;
}

bool prep_server_doubts(const struct prep_server *ps, const struct prep_name *name)
{
	for (uint32_t i = 0; i < ps->record_count; i++) {
		const struct prep_record *r = prep_record_at(ps, i);

		if (r->op == PREP_PARSE && r->name == name)
			return true;
	}
	return false;
}

const struct prep_name *prep_server_find_forgotten(const struct prep_server *ps, const struct stmt *stmt)
{
	for (uint32_t i = 0; i < ps->record_count; i++) {
		const struct prep_record *r = prep_record_at(ps, i);

		if (r->op == PREP_FORGET && r->name != NULL && r->name->stmt == stmt)
			return r->name;
	}
	return NULL;
}

bool prep_server_has_records(const struct prep_server *ps)
{
	for (uint32_t i = 0; i < ps->record_count; i++) {
		const struct prep_record *r = prep_record_at(ps, i);

		if (r->op != PREP_DESCRIBE || r->name != NULL || r->entry != NULL)
			return true;
	}
	return false;
}

const struct prep_record *prep_server_record_head(const struct prep_server *ps)
{
	ASSERT(ps->record_count > 0);
	return prep_record_at(ps, 0);
}

struct prep_record *prep_server_record_at(const struct prep_server *ps, uint32_t i)
{
	ASSERT(i < ps->record_count);
	return prep_record_at(ps, i);
}

/* Takes the n oldest records off. A server that once had many does not keep the room. */
static void prep_server_pop_records(struct prep_server *ps, uint32_t n)
{
	ps->record_head = (ps->record_head + n) & (ps->record_size - 1);
	ps->record_count -= n;
	if (ps->record_count == 0 && ps->record_size > PREP_RECORDS_MIN) {
		free(ps->records);
		ps->records = NULL;
		ps->record_size = ps->record_head = 0;
	}
}

void prep_server_described(struct prep_server *ps, struct prep_client *pc, uint32_t shape)
{
	struct prep_record *r = prep_record_at(ps, 0);

	ASSERT(ps->record_count > 0 && r->op == PREP_DESCRIBE);
	if (r->entry != NULL)
		r->entry->shape = shape;
	if (r->name != NULL)
		r->name->told.shape = shape;
	if (r->unnamed != 0 && pc != NULL && r->unnamed == pc->unnamed_count)
		pc->unnamed_told.shape = shape;
}

void prep_server_done(struct prep_server *ps, uint32_t n)
{
	ASSERT(n <= ps->record_count);
	for (uint32_t i = 0; i < n; i++) {
		struct prep_record *r = prep_record_at(ps, i);

		switch (r->op) {
		case PREP_PARSE:
		case PREP_UNNAMED:
			if (r->entry != NULL)
				r->entry->is_pending = false;
			break;
		case PREP_DESCRIBE:
			break;
		case PREP_EVICT:
		case PREP_FORGET:
		case PREP_PROVOKE:
			prep_entry_free(&r->entry);
			prep_name_free(&r->name);
			break;
		}
	}
	prep_server_pop_records(ps, n);
}

static void prep_record_undo(struct prep_server *ps, struct prep_client *pc, struct prep_record *r)
{
	switch (r->op) {
	case PREP_UNNAMED:
		if (pc != NULL && (r->entry == NULL || pc->unnamed == r->entry->stmt)) /* else there is a newer one */
			stmt_release(&pc->unnamed);
		/* fall through */
	case PREP_PARSE:
		if (r->name != NULL)
			prep_client_remove(pc, r->name);
		prep_name_free(&r->name);
		if (r->entry != NULL)
			prep_server_remove(ps, r->entry);
		prep_entry_free(&r->entry);
		break;
	case PREP_DESCRIBE:
		break;
	case PREP_EVICT:
		if (r->entry != NULL)
			prep_server_insert(ps, r->entry);
		break;
	case PREP_FORGET:
		if (r->name != NULL && !prep_client_add(pc, r->name))
			prep_name_free(&r->name);
		break;
	case PREP_PROVOKE:
		prep_name_free(&r->name);
		break;
	}
}

void prep_server_undo(struct prep_server *ps, struct prep_client *pc, uint32_t n)
{
	ASSERT(n <= ps->record_count);
	for (uint32_t i = n; i > 0; i--)
		prep_record_undo(ps, pc, prep_record_at(ps, i - 1));
	prep_server_pop_records(ps, n);
}

/* True when a Parse that has not been answered yet gives this name. */
static bool prep_server_will_parse(const struct prep_server *ps, const struct prep_name *name)
{
	for (uint32_t i = 0; i < ps->record_count; i++)
		if (prep_record_at(ps, i)->op == PREP_PARSE && prep_record_at(ps, i)->name == name)
			return true;
	return false;
}

void prep_client_forget(struct prep_client *pc, struct prep_server *ps)
{
	struct prep_client kept = { .unnamed_count = pc->unnamed_count };

	for (uint32_t i = 0; i < ps->record_count; i++) {
		struct prep_record *r = prep_record_at(ps, i);

		if (r->op != PREP_PARSE || r->name == NULL || prep_client_find(pc, prep_name_text(r->name)) != r->name)
			continue;
		prep_client_remove(pc, r->name);
		if (!prep_client_add(&kept, r->name))
			prep_name_free(&r->name);
	}
	for (uint32_t i = 0; i < ps->record_count; i++) {
		struct prep_record *r = prep_record_at(ps, i);

		if (r->op == PREP_DESCRIBE)
			r->name = NULL;
		else if (r->op == PREP_FORGET && !prep_server_will_parse(ps, r->name))
			prep_name_free(&r->name); /* gone, whether the Close succeeds or not */
	}
	prep_client_clear(pc);
	*pc = kept;
}

void prep_server_disown(struct prep_server *ps)
{
	for (uint32_t i = 0; i < ps->record_count; i++) {
		struct prep_record *r = prep_record_at(ps, i);

		if (r->op == PREP_FORGET || r->op == PREP_PROVOKE)
			prep_name_free(&r->name);
		r->name = NULL; /* else it is in the client's map */
		r->unnamed = 0;
	}
}

void prep_server_abandon(struct prep_server *ps)
{
	for (uint32_t i = 0; i < ps->record_count; i++) {
		struct prep_record *r = prep_record_at(ps, i);

		if (r->op == PREP_EVICT)
			prep_entry_free(&r->entry);
		if (r->op == PREP_FORGET || r->op == PREP_PROVOKE)
			prep_name_free(&r->name);
	}
	prep_server_pop_records(ps, ps->record_count);
}

void prep_server_fini(struct prep_server *ps)
{
	struct prep_entry *entry;

	prep_server_abandon(ps);
	while ((entry = TAILQ_FIRST(&ps->recent)) != NULL) {
		prep_server_remove(ps, entry);
		prep_entry_free(&entry);
	}
	free(ps->records);
	ps->records = NULL;
	ps->record_size = 0;
}
