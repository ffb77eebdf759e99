/*
 * Two snapshots are compared row by row of the tables, so that a new setting or
 * key is reported without a line here. The arrays of names are sorted: one walk
 * over both at once pairs what has the same name, however many there are.
 *
 * A database is compared by what clients get under that name. So a line that is
 * removed while the * entry makes the same database is not the end of it, and
 * whether server connections survive is decided by conf_db_same_server(), the
 * same question that the pools ask when they are given the new settings.
 *
 * Secrets are compared, but never shown.
 */
#include "conf/conf_diff.h"

#include "conf/conf_int.h"
#include "core/alloc.h"

/* Longest part of a value that is shown. */
#define CONF_DIFF_VALUE_MAX 160

/* clang-format off */
static const char *const conf_diff_objects[][2] = {
#define X(id, one, many) { one, many },
	CONF_CHANGE_OBJECTS(X)
#undef X
};
static const char *const conf_diff_actions[][2] = {
#define X(id, name, past) { name, past },
	CONF_CHANGE_ACTIONS(X)
#undef X
};
static const char *const conf_diff_effects[] = {
#define X(id, name) name,
	CONF_CHANGE_EFFECTS(X)
#undef X
};
/* clang-format on */

const char *conf_change_object_name(enum conf_change_object object)
{
	return conf_diff_objects[object][0];
}

const char *conf_change_action_name(enum conf_change_action action)
{
	return conf_diff_actions[action][0];
}

const char *conf_change_effect_name(enum conf_change_effect effect)
{
	return conf_diff_effects[effect];
}

/* ---- the list ---- */

void conf_diff_add(struct conf_diff *diff, enum conf_change_object object, enum conf_change_action action,
		   enum conf_change_effect effect, const char *name, const char *detail)
{
	if ((diff->count & (diff->count - 1)) == 0) /* room is doubled at each power of two */
		diff->changes =
			xrealloc(diff->changes, (diff->count == 0 ? 1 : 2 * diff->count) * sizeof(*diff->changes));
	diff->changes[diff->count++] = (struct conf_change){
		.object = object,
		.action = action,
		.effect = effect,
		.name = xstrdup(name),
		.detail = xstrdup(detail),
	};
}

void conf_diff_free(struct conf_diff **ref)
{
	struct conf_diff *diff = *ref;

	*ref = NULL;
	if (diff == NULL)
		return;
	for (size_t i = 0; i < diff->count; i++) {
		free(diff->changes[i].name);
		free(diff->changes[i].detail);
	}
	free(diff->changes);
	free(diff);
}

static int conf_diff_match_name(const void *name, const void *change)
{
	return strcmp(name, ((const struct conf_change *)change)->name);
}

void conf_diff_touch(struct conf_diff *diff, const char *database, unsigned servers, unsigned clients)
{
	struct conf_change *change = NULL;
	size_t n = diff->db_end - diff->db_begin;

	if (n > 0)
		change = bsearch(database, diff->changes + diff->db_begin, n, sizeof(*change), conf_diff_match_name);
	if (change == NULL && diff->db_end < diff->count) {
		change = &diff->changes[diff->db_end];
		if (change->object != CONF_CHANGE_DATABASE)
			change = NULL;
	}
	if (change == NULL)
		return;
	change->servers += servers;
	change->clients += clients;
}

void conf_diff_touch_all(struct conf_diff *diff, unsigned servers)
{
	for (size_t i = 0; i < diff->count; i++) {
		struct conf_change *change = &diff->changes[i];

		if (change->effect != CONF_EFFECT_RECYCLE || change->object == CONF_CHANGE_DATABASE)
			continue;
		change->servers += servers;
		return;
	}
}

/* ---- values ---- */

/* A value so that its end can be seen: in quotes unless it is a plain word. */
static void conf_diff_put_value(char *dst, size_t size, const char *value)
{
	bool cut;

	if (value == NULL) {
		str_append(dst, size, "unset");
		return;
	}
	cut = strlen(value) > CONF_DIFF_VALUE_MAX;
	if (value[0] != '\0' && strcspn(value, " \t,'>") == strlen(value) && !cut)
		str_append(dst, size, "%s", value);
	else
		str_append(dst, size, "'%.*s%s'", CONF_DIFF_VALUE_MAX, value, cut ? "..." : "");
}

static void conf_diff_put_values(char *dst, size_t size, const char *old, const char *fresh)
{
	conf_diff_put_value(dst, size, old);
	str_append(dst, size, " -> ");
	conf_diff_put_value(dst, size, fresh);
}

/* ---- settings ---- */

static enum conf_change_effect conf_diff_setting_effect(const struct conf *fresh, enum conf_id id)
{
	if ((conf_rows[id].flags & CONF_F_NOOP) != 0)
		return CONF_EFFECT_NONE;
	if ((conf_rows[id].flags & CONF_F_RECYCLE) != 0)
		return CONF_EFFECT_RECYCLE;
	return (conf_rows[id].flags & CONF_F_RESTART) != 0 ? CONF_EFFECT_RESTART : CONF_EFFECT_NOW;
}

static void conf_diff_setting(struct conf_diff *diff, const struct conf *old, const struct conf *fresh, enum conf_id id)
{
	char detail[CONF_DETAIL_SIZE] = "";
	char *from;
	char *to;

	if (conf_value_is_equal(old, fresh, id))
		return;
	/* where the file does not name it, it is the file's own name */
	if (id == CONF_ID_conffile && !old->set_in_file[id] && !fresh->set_in_file[id])
		return;
	from = conf_show_value(old, id);
	to = conf_show_value(fresh, id);
	if ((conf_rows[id].flags & CONF_F_SECRET) != 0)
		str_copy(detail, sizeof(detail), "not shown");
	else
		conf_diff_put_values(detail, sizeof(detail), from, to);
	conf_diff_add(diff, CONF_CHANGE_SETTING, CONF_CHANGE_CHANGE, conf_diff_setting_effect(fresh, id),
		      conf_rows[id].name, detail);
	free(from);
	free(to);
}

/* ---- entries ---- */

/* The keys that are set. */
static void conf_diff_put_keys(char *dst, size_t size, enum conf_entry_kind kind, const void *entry)
{
	const char *separator = "";

	for (const struct conf_entry_key *key = conf_entry_classes[kind].keys; key->name != NULL; key++) {
		char *value = conf_entry_text(entry, key);

		if (value == NULL)
			continue;
		str_append(dst, size, "%s%s=", separator, key->name);
		conf_diff_put_value(dst, size, value);
		separator = " ";
		free(value);
	}
}

/* The keys that differ; false when there are none. */
static bool conf_diff_put_changed_keys(char *dst, size_t size, enum conf_entry_kind kind, const void *old,
				       const void *fresh)
{
	const char *separator = "";

	for (const struct conf_entry_key *key = conf_entry_classes[kind].keys; key->name != NULL; key++) {
		char *from;
		char *to;

		if (conf_entry_is_equal(old, fresh, key))
			continue;
		str_append(dst, size, "%s%s ", separator, key->name);
		separator = ", ";
		if ((key->flags & CONF_F_SECRET) != 0) {
			str_append(dst, size, "not shown");
			continue;
		}
		from = conf_entry_text(old, key);
		to = conf_entry_text(fresh, key);
		conf_diff_put_values(dst, size, from, to);
		free(from);
		free(to);
	}
	return separator[0] != '\0';
}

/* Two entries of one name: nothing when they are alike. */
static void conf_diff_entry_changed(struct conf_diff *diff, enum conf_change_object object, enum conf_entry_kind kind,
				    const char *name, const void *old, const void *fresh)
{
	char detail[CONF_DETAIL_SIZE] = "";

	if (conf_diff_put_changed_keys(detail, sizeof(detail), kind, old, fresh))
		conf_diff_add(diff, object, CONF_CHANGE_CHANGE, CONF_EFFECT_NOW, name, detail);
}

static void conf_diff_entry_added(struct conf_diff *diff, enum conf_change_object object, enum conf_entry_kind kind,
				  const char *name, const void *fresh)
{
	char detail[CONF_DETAIL_SIZE] = "";

	conf_diff_put_keys(detail, sizeof(detail), kind, fresh);
	conf_diff_add(diff, object, CONF_CHANGE_ADD, CONF_EFFECT_NOW, name, detail);
}

/* What a walk over two snapshots goes with. */
struct conf_diff_walk {
	struct conf_diff *diff;
	const struct conf *old;
	const struct conf *fresh;
};

/* ---- databases ---- */

/* Server connections made for one definition are of no use under the other. */
static void conf_diff_mark_recycled(struct conf_diff *diff, size_t before, const struct conf_db *old,
				    const struct conf_db *fresh)
{
	if (diff->count > before && !conf_db_same_server(old, fresh))
		diff->changes[before].effect = CONF_EFFECT_RECYCLE;
}

/* A line that is new; until now the * entry may have made the database. */
static void conf_diff_db_added(const struct conf_diff_walk *w, const struct conf_db *fresh)
{
	size_t before = w->diff->count;
	struct conf_db *made;

	conf_diff_entry_added(w->diff, CONF_CHANGE_DATABASE, CONF_ENTRY_DB, fresh->name, fresh);
	if (conf_autodb(w->old, fresh->name, &made) != 0)
		return;
	conf_diff_mark_recycled(w->diff, before, made, fresh);
	conf_db_free(&made);
}

/* A line that is gone; from now on the * entry may make the database. */
static void conf_diff_db_removed(const struct conf_diff_walk *w, const struct conf_db *old)
{
	size_t before = w->diff->count;
	struct conf_db *made = NULL;
	bool goes_on = conf_autodb(w->fresh, old->name, &made) == 0;

	conf_diff_add(w->diff, CONF_CHANGE_DATABASE, CONF_CHANGE_REMOVE, CONF_EFFECT_NOW, old->name,
		      goes_on ? "made by the * entry from now on" : "");
	if (!goes_on)
		return;
	conf_diff_mark_recycled(w->diff, before, old, made);
	conf_db_free(&made);
}

static void conf_diff_pair_db(const struct conf_diff_walk *w, const void *a, const void *b)
{
	const struct conf_db *old = a;
	const struct conf_db *fresh = b;
	size_t before = w->diff->count;

	if (old == NULL) {
		conf_diff_db_added(w, fresh);
	} else if (fresh == NULL) {
		conf_diff_db_removed(w, old);
	} else {
		conf_diff_entry_changed(w->diff, CONF_CHANGE_DATABASE, CONF_ENTRY_DB, old->name, old, fresh);
		conf_diff_mark_recycled(w->diff, before, old, fresh);
	}
}

/* The * entry; when it is no good no database can be made from it, which is as if it were not there. */
static void conf_diff_autodb(const struct conf_diff_walk *w)
{
	size_t before = w->diff->count;
	struct conf_db *old = NULL;
	struct conf_db *fresh = NULL;
	bool had = conf_autodb(w->old, "*", &old) == 0;
	bool has = conf_autodb(w->fresh, "*", &fresh) == 0;

	if (had && has) {
		conf_diff_entry_changed(w->diff, CONF_CHANGE_DATABASE, CONF_ENTRY_DB, "*", old, fresh);
		conf_diff_mark_recycled(w->diff, before, old, fresh);
	} else if (has) {
		conf_diff_entry_added(w->diff, CONF_CHANGE_DATABASE, CONF_ENTRY_DB, "*", fresh);
	} else if (had) {
		conf_diff_add(w->diff, CONF_CHANGE_DATABASE, CONF_CHANGE_REMOVE, CONF_EFFECT_NOW, "*", "");
	}
	conf_db_free(&old);
	conf_db_free(&fresh);
}

/* ---- users and peers ---- */

static void conf_diff_pair(const struct conf_diff_walk *w, enum conf_change_object object, enum conf_entry_kind kind,
			   const char *name, const void *old, const void *fresh)
{
	if (old == NULL)
		conf_diff_entry_added(w->diff, object, kind, name, fresh);
	else if (fresh == NULL)
		conf_diff_add(w->diff, object, CONF_CHANGE_REMOVE, CONF_EFFECT_NOW, name, "");
	else
		conf_diff_entry_changed(w->diff, object, kind, name, old, fresh);
}

static void conf_diff_pair_user(const struct conf_diff_walk *w, const void *a, const void *b)
{
	const struct conf_user *any = a != NULL ? a : b;

	conf_diff_pair(w, CONF_CHANGE_USER, CONF_ENTRY_USER, any->name, a, b);
}

static void conf_diff_pair_peer(const struct conf_diff_walk *w, const void *a, const void *b)
{
	const struct conf_peer *any = a != NULL ? a : b;
	char name[16];

	str_format(name, sizeof(name), "%d", any->id);
	conf_diff_pair(w, CONF_CHANGE_PEER, CONF_ENTRY_PEER, name, a, b);
}

/* ---- the walk ---- */

static int conf_diff_compare_db(const void *a, const void *b)
{
	return strcmp(((const struct conf_db *)a)->name, ((const struct conf_db *)b)->name);
}

static int conf_diff_compare_user(const void *a, const void *b)
{
	return strcmp(((const struct conf_user *)a)->name, ((const struct conf_user *)b)->name);
}

static int conf_diff_compare_peer(const void *a, const void *b)
{
	return ((const struct conf_peer *)a)->id - ((const struct conf_peer *)b)->id;
}

/* A sorted array of entries. */
struct conf_diff_side {
	const void *at;
	size_t left;
	size_t size; /* of one entry */
};

static const void *conf_diff_take(struct conf_diff_side *side)
{
	const void *entry = side->at;

	side->at = (const char *)side->at + side->size;
	side->left--;
	return entry;
}

/* Calls `pair` for each name that either array has. */
static void conf_diff_walk_sides(const struct conf_diff_walk *w, struct conf_diff_side old, struct conf_diff_side fresh,
				 int (*compare)(const void *, const void *),
				 void (*pair)(const struct conf_diff_walk *, const void *, const void *))
{
	while (old.left > 0 || fresh.left > 0) {
		int order = old.left == 0 ? 1 : fresh.left == 0 ? -1 : compare(old.at, fresh.at);
		const void *a = order <= 0 ? conf_diff_take(&old) : NULL;
		const void *b = order >= 0 ? conf_diff_take(&fresh) : NULL;

		pair(w, a, b);
	}
}

struct conf_diff *conf_diff_new(const struct conf *old, const struct conf *fresh)
{
	struct conf_diff *diff = xcalloc(1, sizeof(*diff));
	const struct conf_diff_walk w = { diff, old, fresh };

	CHECK_OBJ(old, CONF_MAGIC);
	CHECK_OBJ(fresh, CONF_MAGIC);
	for (size_t i = 0; i < CONF_ID_COUNT; i++)
		conf_diff_setting(diff, old, fresh, conf_show_id(i));
	diff->db_begin = diff->count;
	conf_diff_walk_sides(&w, (struct conf_diff_side){ old->dbs, old->db_count, sizeof(*old->dbs) },
			     (struct conf_diff_side){ fresh->dbs, fresh->db_count, sizeof(*old->dbs) },
			     conf_diff_compare_db, conf_diff_pair_db);
	diff->db_end = diff->count;
	conf_diff_autodb(&w);
	conf_diff_walk_sides(&w, (struct conf_diff_side){ old->users, old->user_count, sizeof(*old->users) },
			     (struct conf_diff_side){ fresh->users, fresh->user_count, sizeof(*old->users) },
			     conf_diff_compare_user, conf_diff_pair_user);
	conf_diff_walk_sides(&w, (struct conf_diff_side){ old->peers, old->peer_count, sizeof(*old->peers) },
			     (struct conf_diff_side){ fresh->peers, fresh->peer_count, sizeof(*old->peers) },
			     conf_diff_compare_peer, conf_diff_pair_peer);
	return diff;
}

/* ---- in words ---- */

/* What is counted of an object: the actions that count now, then the two kinds that do not. */
enum { CONF_DIFF_AT_RESTART = CONF_CHANGE_ACTION_COUNT, CONF_DIFF_NO_EFFECT, CONF_DIFF_COUNTS };

static unsigned conf_diff_counts_as(const struct conf_change *change)
{
	switch (change->effect) {
	case CONF_EFFECT_RESTART:
		return CONF_DIFF_AT_RESTART;
	case CONF_EFFECT_NONE:
		return CONF_DIFF_NO_EFFECT;
	case CONF_EFFECT_NOW:
	case CONF_EFFECT_RECYCLE:
	case CONF_EFFECT_COUNT:
		break;
	}
	return change->action;
}

/* Appends "settings: 2 changed, 1 at a restart only". */
static void conf_diff_put_counts(enum conf_change_object object, const size_t counts[CONF_DIFF_COUNTS], char *dst,
				 size_t size)
{
	bool first = true;

	for (unsigned i = 0; i < CONF_DIFF_COUNTS; i++) {
		if (counts[i] == 0)
			continue;
		if (first)
			str_append(dst, size, "%s%s: ", dst[0] == '\0' ? "" : "; ", conf_diff_objects[object][1]);
		str_append(dst, size, "%s%zu ", first ? "" : ", ", counts[i]);
		if (i == CONF_DIFF_AT_RESTART)
			str_append(dst, size, "at a restart only");
		else if (i == CONF_DIFF_NO_EFFECT)
			str_append(dst, size, "without effect in this version");
		else
			str_append(dst, size, "%s", conf_diff_actions[i][1]);
		first = false;
	}
}

void conf_diff_summarize(const struct conf_diff *diff, char *dst, size_t size)
{
	size_t counts[CONF_CHANGE_OBJECT_COUNT][CONF_DIFF_COUNTS] = { 0 };
	unsigned long servers = 0;
	unsigned long clients = 0;

	str_copy(dst, size, diff->count == 0 ? "nothing has changed" : "");
	for (size_t i = 0; i < diff->count; i++) {
		counts[diff->changes[i].object][conf_diff_counts_as(&diff->changes[i])]++;
		servers += diff->changes[i].servers;
		clients += diff->changes[i].clients;
	}
	for (unsigned object = 0; object < CONF_CHANGE_OBJECT_COUNT; object++)
		conf_diff_put_counts(object, counts[object], dst, size);
	if (servers > 0 || clients > 0)
		str_append(dst, size, "; connections affected: %lu to servers, %lu of clients", servers, clients);
}

void conf_change_describe(const struct conf_change *change, char *dst, size_t size)
{
	str_format(dst, size, "%s %s %s%s%s (%s)", conf_diff_actions[change->action][0],
		   conf_diff_objects[change->object][0], change->name, change->detail[0] == '\0' ? "" : ": ",
		   change->detail, conf_diff_effects[change->effect]);
	if (change->servers > 0 || change->clients > 0)
		str_append(dst, size, " [%u to servers, %u of clients]", change->servers, change->clients);
}
