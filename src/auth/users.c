/*
 * The list of users.
 *
 * The text is PgBouncer's userlist.txt, and files that work there must mean
 * the same here:
 *
 *     "name" "secret" whatever else stands on the line
 *     ; a comment, only at the beginning of a line
 *
 * A quote inside a field is doubled. Between the two fields everything is
 * skipped, line ends too. A fault ends the reading; what came before counts.
 *
 * A table is filled by one thread and never changes after that, so look-ups
 * take no lock; its life is a reference count. What is written later is
 * the verifier derived from a plaintext secret. Deriving costs
 * milliseconds, so it is done behind the scenes and not for all at load, or
 * when the user logs in before that; it is published with one compare-and-swap,
 * so that threads which derive at the same time agree on one without waiting
 * for each other. A table that follows another one has its verifiers.
 */
#include "auth/users.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "core/alloc.h"

#define uthash_malloc(n) xmalloc(n)
#include <uthash.h>

#define USERS_MAGIC      0x55534552U
#define USERS_FILE_CHUNK 65536
#define USERS_FILE_MAX   (512UL << 20)

struct users_entry {
	struct user pub;
	char *name;                               /* owns what pub.name shows */
	_Atomic(struct scram_verifier *) derived; /* of a plaintext secret; set once */
	UT_hash_handle hh;
};

struct users {
	unsigned magic;
	atomic_uint refs;
	struct users_entry *by_name; /* uthash */
	struct users_entry **sorted; /* count entries */
	size_t count;
	size_t scram_count;      /* with a SCRAM verifier as their secret */
	size_t plain_count;      /* with a plaintext secret */
	_Atomic bool is_derived; /* these have their verifiers */
	uint32_t iterations;     /* that most of these have, if there is such a number */
	bool has_stamp;
	struct stat stamp; /* of the file when it was read */
};

/* The reader's place in the text. */
struct users_cursor {
	const char *p;
	const char *end;
	unsigned line; /* of p, from 1 */
};

static struct users_entry *users_entry_new(struct slice name, struct slice secret)
{
	struct users_entry *e = xcalloc(1, sizeof(*e));

	e->name = slice_dup(name);
	e->pub.name = e->name;
	secret_init(&e->pub.secret, secret);
	return e;
}

static void users_entry_free(struct users_entry *e)
{
	struct scram_verifier *derived = atomic_load_explicit(&e->derived, memory_order_acquire);

	scram_verifier_free(&derived);
	secret_fini(&e->pub.secret);
	free(e->name);
	free(e);
}

struct users *users_new_empty(void)
{
	struct users *u = xcalloc(1, sizeof(*u));

	u->magic = USERS_MAGIC;
	atomic_init(&u->refs, 1);
	return u;
}

struct users *users_hold(struct users *u)
{
	CHECK_OBJ(u, USERS_MAGIC);
	atomic_fetch_add_explicit(&u->refs, 1, memory_order_relaxed);
	return u;
}

static void users_free(struct users *u)
{
	struct users_entry *e;
	struct users_entry *next;

	HASH_ITER (hh, u->by_name, e, next) {
		HASH_DEL(u->by_name, e);
		users_entry_free(e);
	}
	free(u->sorted);
	u->magic = 0;
	free(u);
}

void users_release(struct users **up)
{
	struct users *u = *up;

	*up = NULL;
	if (u == NULL)
		return;
	CHECK_OBJ(u, USERS_MAGIC);
	if (atomic_fetch_sub_explicit(&u->refs, 1, memory_order_acq_rel) == 1)
		users_free(u);
}

/* Adds an entry; one of the same name gives way to it. */
static void users_put(struct users *u, struct slice name, struct slice secret)
{
	struct users_entry *e = users_entry_new(name, secret);
	struct users_entry *old = NULL;

	HASH_REPLACE(hh, u->by_name, name[0], strlen(e->name), e, old);
	if (old != NULL)
		users_entry_free(old);
}

static int users_compare_name(const void *a, const void *b)
{
	const struct users_entry *const *x = a;
	const struct users_entry *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static void users_sort(struct users *u)
{
	struct users_entry *e;
	struct users_entry *next;
	size_t votes = 0; /* for u->iterations, less those against it: what a majority has is left */

	u->count = 0;
	u->sorted = xcalloc(HASH_COUNT(u->by_name), sizeof(u->sorted[0]));
	HASH_ITER (hh, u->by_name, e, next) {
		u->sorted[u->count++] = e;
		u->plain_count += e->pub.secret.type == SECRET_PLAIN;
		if (e->pub.secret.type != SECRET_SCRAM)
			continue;
		u->scram_count++;
		if (votes == 0)
			u->iterations = e->pub.secret.scram->iterations;
		votes += e->pub.secret.scram->iterations == u->iterations ? 1 : (size_t)-1;
	}
	if (u->count > 0)
		qsort(u->sorted, u->count, sizeof(u->sorted[0]), users_compare_name);
}

static void users_advance(struct users_cursor *c)
{
	if (*c->p == '\n')
		c->line++;
	c->p++;
}

static void users_skip_line(struct users_cursor *c)
{
	while (c->p < c->end && *c->p != '\n')
		c->p++;
}

/* Stops at the next thing that is neither blank nor comment; false at the end of the text. */
static bool users_skip_to_entry(struct users_cursor *c)
{
	while (c->p < c->end) {
		if (*c->p == ';')
			users_skip_line(c);
		else if (isspace((unsigned char)*c->p))
			users_advance(c);
		else
			return true;
	}
	return false;
}

/*
 * Reads a quoted field; the cursor stands on the opening quote and moves
 * behind the closing one. The content goes to dst, which has room for all that
 * is left of the text. False when the field does not end or holds a NUL.
 */
static bool users_read_field(struct users_cursor *c, char *dst, size_t *len)
{
	*len = 0;
	c->p++;
	while (c->p < c->end) {
		if (*c->p == '\0')
			return false;
		if (*c->p == '"') {
			c->p++;
			if (c->p == c->end || *c->p != '"')
				return true;
		}
		dst[(*len)++] = *c->p;
		users_advance(c);
	}
	return false;
}

/*
 * Reads the entry at the cursor into the table. `scratch` has room for the
 * rest of the text. Returns what is wrong, or NULL.
 */
static const char *users_read_entry(struct users *u, struct users_cursor *c, char *scratch)
{
	size_t name_len;
	size_t secret_len;
	char *secret;

	if (*c->p != '"' || !users_read_field(c, scratch, &name_len))
		return "broken auth file";
	if (name_len > USERS_NAME_MAX)
		return "username too long in auth file";
	while (c->p < c->end && *c->p != '"')
		users_advance(c);
	secret = scratch + name_len;
	if (c->p == c->end || !users_read_field(c, secret, &secret_len))
		return "broken auth file";
	if (secret_len > SECRET_MAX)
		return "password too long in auth file";
	users_put(u, slice_make(scratch, name_len), slice_make(secret, secret_len));
	users_skip_line(c);
	return NULL;
}

int users_parse(struct slice text, const char *name, struct users **out, char *err, size_t errsize)
{
	struct users *u = users_new_empty();
	const char *begin = text.n > 0 ? text.p : "";
	struct users_cursor c = { begin, begin + text.n, 1 };
	char *scratch = xmalloc(text.n);
	const char *fault = NULL;
	unsigned line = 0;

	str_copy(err, errsize, "");
	while (fault == NULL && users_skip_to_entry(&c)) {
		line = c.line;
		fault = users_read_entry(u, &c, scratch);
	}
	mem_wipe(scratch, text.n);
	free(scratch);
	users_sort(u);
	*out = u;
	if (fault == NULL)
		return 0;
	str_format(err, errsize, "%s: %s, line %u", fault, name, line);
	return -E_SYNTAX;
}

/*
 * Reads the whole of a file. Growing by hand instead of realloc(), so that no
 * copy of the secrets is left behind in freed memory. *text is to be wiped and
 * freed also after an error.
 */
static int users_read_file(int fd, char **text, size_t *len, size_t *size)
{
	for (;;) {
		ssize_t n;

		if (*len == *size) {
			size_t grown = *size == 0 ? USERS_FILE_CHUNK : *size * 2;
			char *copy;

			if (grown > USERS_FILE_MAX) {
				errno = EFBIG;
				return -E_IO;
			}
			copy = xmalloc(grown);
			if (*len > 0) {
				memcpy(copy, *text, *len);
				mem_wipe(*text, *len);
			}
			free(*text);
			*text = copy;
			*size = grown;
		}
		n = read(fd, *text + *len, *size - *len);
		if (n == 0)
			return 0;
		if (n > 0)
			*len += (size_t)n;
		else if (errno != EINTR)
			return -E_IO;
	}
}

int users_load(const char *path, struct users **out, char *err, size_t errsize)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat stamp;
	char *text = NULL;
	size_t len = 0;
	size_t size = 0;
	bool has_stamp =
		fd >= 0 && fstat(fd, &stamp) == 0; /* before reading: what is written meanwhile is seen later */
	int rc = fd < 0 ? -E_IO : users_read_file(fd, &text, &len, &size);

	if (rc == 0) {
		rc = users_parse(slice_make(text, len), path, out, err, errsize);
	} else {
		str_format(err, errsize, "could not %s auth_file %s: %m", fd < 0 ? "open" : "read", path);
		*out = users_new_empty();
		has_stamp = false;
	}
	(*out)->has_stamp = has_stamp;
	if (has_stamp)
		(*out)->stamp = stamp;
	if (fd >= 0)
		close(fd);
	if (text != NULL)
		mem_wipe(text, len);
	free(text);
	return rc;
}

bool users_is_current(const struct users *u, const char *path)
{
	struct stat now;

	CHECK_OBJ(u, USERS_MAGIC);
	return u->has_stamp && stat(path, &now) == 0 && now.st_dev == u->stamp.st_dev &&
	       now.st_ino == u->stamp.st_ino && now.st_mode == u->stamp.st_mode && now.st_uid == u->stamp.st_uid &&
	       now.st_gid == u->stamp.st_gid && now.st_size == u->stamp.st_size &&
	       now.st_mtim.tv_sec == u->stamp.st_mtim.tv_sec && now.st_mtim.tv_nsec == u->stamp.st_mtim.tv_nsec;
}

/* Of two files of ours. */
static bool users_is_same_secret(const struct secret *a, const struct secret *b)
{
	return slice_eq(secret_slice(a), secret_slice(b));
}

/* Which of two users comes first by name; the end of a table is behind all of the other. */
static int users_compare_at(const struct users *a, size_t i, const struct users *b, size_t j)
{
	if (i == a->count)
		return 1;
	return j == b->count ? -1 : strcmp(users_at(a, i)->name, users_at(b, j)->name);
}

void users_compare(const struct users *old, const struct users *fresh,
		   void (*fn)(void *ctx, enum users_change change, const char *name), void *ctx)
{
	size_t i = 0;
	size_t j = 0;

	CHECK_OBJ(old, USERS_MAGIC);
	CHECK_OBJ(fresh, USERS_MAGIC);
	if (old == fresh)
		return;
	while (i < old->count || j < fresh->count) {
		int order = users_compare_at(old, i, fresh, j);

		if (order < 0)
			fn(ctx, USERS_REMOVED, users_at(old, i)->name);
		else if (order > 0)
			fn(ctx, USERS_ADDED, users_at(fresh, j)->name);
		else if (!users_is_same_secret(&users_at(old, i)->secret, &users_at(fresh, j)->secret))
			fn(ctx, USERS_CHANGED, users_at(old, i)->name);
		i += order <= 0;
		j += order >= 0;
	}
}

const struct user *users_find(const struct users *u, const char *name)
{
	struct users_entry *e = NULL;

	CHECK_OBJ(u, USERS_MAGIC);
	HASH_FIND(hh, u->by_name, name, strlen(name), e);
	return e == NULL ? NULL : &e->pub;
}

uint32_t users_usual_iterations(const struct users *u)
{
	CHECK_OBJ(u, USERS_MAGIC);
	return u->scram_count > u->count / 2 ? u->iterations : 0;
}

size_t users_count(const struct users *u)
{
	CHECK_OBJ(u, USERS_MAGIC);
	return u->count;
}

const struct user *users_at(const struct users *u, size_t i)
{
	CHECK_OBJ(u, USERS_MAGIC);
	ASSERT(i < u->count);
	return &u->sorted[i]->pub;
}

struct user *user_new(const char *name, struct slice secret)
{
	return &users_entry_new(slice_of(name), secret)->pub;
}

void user_free(struct user **user)
{
	if (*user != NULL)
		users_entry_free(CONTAINER_OF(*user, struct users_entry, pub));
	*user = NULL;
}

/* Publishes a verifier, which is taken over, unless there is one by now; returns the one that counts. */
static const struct scram_verifier *users_entry_publish(struct users_entry *e, struct scram_verifier *fresh)
{
	struct scram_verifier *seen = NULL;

	if (atomic_compare_exchange_strong_explicit(&e->derived, &seen, fresh, memory_order_acq_rel,
						    memory_order_acquire))
		return fresh;
	scram_verifier_free(&fresh);
	return seen;
}

const struct scram_verifier *user_verifier(const struct user *user, const struct scram_recipe *recipe, bool *is_derived)
{
	/* All users are made in this file, inside an entry that is not const. */
	struct users_entry *e = CONTAINER_OF(user, struct users_entry, pub);
	struct scram_verifier *v = NULL;
	uint8_t salt[SCRAM_SALT_LEN];

	*is_derived = false;
	if (user->secret.type == SECRET_SCRAM)
		return user->secret.scram;
	if (user->secret.type != SECRET_PLAIN)
		return NULL;
	v = atomic_load_explicit(&e->derived, memory_order_acquire);
	if (v != NULL)
		return v;
	if (scram_recipe_salt(recipe, user->name, salt) < 0 ||
	    scram_verifier_derive(secret_slice(&user->secret), salt, sizeof(salt), recipe->iterations, &v) < 0)
		return NULL;
	*is_derived = true;
	return users_entry_publish(e, v);
}

bool users_derive(struct users *u, const struct scram_recipe *recipe, size_t *at, unsigned max)
{
	CHECK_OBJ(u, USERS_MAGIC);
	for (; *at < u->count && !users_are_derived(u); (*at)++) {
		bool is_derived;

		if (max == 0)
			return false;
		(void)user_verifier(users_at(u, *at), recipe, &is_derived);
		max -= is_derived;
	}
	atomic_store_explicit(&u->is_derived, true, memory_order_release);
	return true;
}

bool users_are_derived(const struct users *u)
{
	CHECK_OBJ(u, USERS_MAGIC);
	return u->plain_count == 0 || atomic_load_explicit(&u->is_derived, memory_order_acquire);
}

void users_inherit(struct users *u, const struct users *old, uint32_t iterations)
{
	CHECK_OBJ(u, USERS_MAGIC);
	CHECK_OBJ(old, USERS_MAGIC);
	for (size_t i = 0; i < u->count; i++) {
		struct users_entry *e = u->sorted[i];
		struct users_entry *was = NULL;
		const struct scram_verifier *v;

		if (e->pub.secret.type != SECRET_PLAIN)
			continue;
		HASH_FIND(hh, old->by_name, e->name, strlen(e->name), was);
		if (was == NULL || !users_is_same_secret(&e->pub.secret, &was->pub.secret))
			continue;
		v = atomic_load_explicit(&was->derived, memory_order_acquire);
		if (v != NULL && v->iterations == iterations)
			(void)users_entry_publish(e, scram_verifier_dup(v));
	}
}
