/*
 * The cache of look-ups by query.
 *
 * An entry is a question. It has an answer, or is being asked, or both: the
 * answer is then too old, and serves only if the database cannot be asked. Who
 * wants to know what is being asked waits in the entry's list with the others,
 * whatever the time to live is: equal questions are asked once.
 *
 *     an answer  used for auth_query_cache_ttl; but when a login has failed with
 *                one that is older than a second, the next one asks
 *     a failure  never used again; but an old answer that the failure brought
 *                back is used for a second before the next attempt
 *
 * That a name does not exist is an answer like any other, so that the time it
 * takes does not tell: whoever tries to log in by it fails, and so it serves
 * for little more than a second, and who was created just now waits no longer.
 *
 * With [pgsluice] that is five seconds by default: a crowd that comes back asks
 * once, and a role that is locked, or a password that is changed, is not for
 * long what it was. The exchange of SCRAM begins with the old verifier and
 * cannot be begun again, so a changed password may fail once; the login after
 * that asks. With [pgbouncer] it is nothing, as every login asks there.
 *
 * Anybody who reaches the port can have names looked up. So there is a limit to
 * what is kept, names that do not exist have one of their own, lest they drive
 * out those that do, and the table is hashed with a key that nobody knows.
 *
 * Answers go by reference count, and entries that are free of everything are
 * freed; neither happens under the lock, nor does an allocation.
 */
#include "pool/auth_cache.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/log.h"
#include "core/siphash.h"
#include "pool/engine.h"

#define AUTH_CACHE_BUCKETS     4096
#define AUTH_CACHE_FOUND_MAX   20000
#define AUTH_CACHE_ABSENT_MAX  2000
#define AUTH_CACHE_MEMORY_MAX  (64UL << 20)
#define AUTH_CACHE_RETRY_US    USEC_PER_SEC
#define AUTH_CACHE_DISTRUST_US USEC_PER_SEC
/* Buckets that a reload looks at before others get the lock. */
#define AUTH_CACHE_SLICE       64
/* Queries that are known to need a search_path. */
#define AUTH_CACHE_PATHS       64

TAILQ_HEAD(auth_entries, auth_entry);

struct auth_entry {
	LIST_ENTRY(auth_entry) bucket;
	TAILQ_ENTRY(auth_entry) lru; /* in cache->found or ->absent while has an answer; else in none */
	uint64_t hash;
	struct auth_answer *answer; /* the last good one, or NULL */
	uint64_t answered_us;
	uint64_t retry_us;  /* the database could not be asked: the old answer does until then */
	bool is_distrusted; /* a login has failed with it */
	bool is_doomed;     /* being asked, the database is another one by now: neither answer is of use */
	bool is_asking;
	struct auth_runner runner; /* who asks */
	struct auth_asks asks;     /* and who waits */
	size_t database_at;        /* where its name begins in the key */
	size_t key_len;
	char key[];
};

LIST_HEAD(auth_bucket, auth_entry);

struct auth_cache {
	uint8_t hash_key[SIPHASH_KEY_LEN];        /* constant */
	_Atomic uint64_t paths[AUTH_CACHE_PATHS]; /* hashes of queries that need a search_path; 0: none */
	struct lock lock;
	/* all below is protected by the lock */
	struct auth_bucket *buckets;
	struct auth_entries found; /* most recently used first */
	struct auth_entries absent;
	struct auth_cache_counts counts;
};

/* What is to be freed when the lock is free. */
struct auth_trash {
	struct auth_entries entries;
	struct auth_answer *answer;
};

/* ---- answers ---- */

static struct auth_answer *auth_answer_alloc(enum auth_kind kind, enum auth_reply_outcome outcome)
{
	struct auth_answer *answer = xcalloc(1, sizeof(*answer));

	atomic_init(&answer->refs, 1);
	answer->kind = kind;
	answer->outcome = outcome;
	answer->size = sizeof(*answer);
	return answer;
}

static int auth_answer_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct auth_answer *auth_answer_new(struct auth_reply *reply)
{
	struct auth_answer *answer = auth_answer_alloc(reply->kind, reply->outcome);

	if (reply->outcome == AUTH_OUTCOME_FAILED || reply->outcome == AUTH_OUTCOME_DOWN) {
		if (reply->waited) {
			str_copy(answer->text, sizeof(answer->text), reply->text);
			str_copy(answer->sqlstate, sizeof(answer->sqlstate), reply->sqlstate);
		}
	} else if (reply->name != NULL) {
		answer->user = user_new(reply->name, slice_of(reply->secret == NULL ? "" : reply->secret));
		answer->size += strlen(reply->name) + 2 * answer->user->secret.len + 256;
	}
	answer->roles = reply->roles;
	answer->role_count = reply->role_count;
	answer->size += reply->role_bytes + reply->role_count * sizeof(answer->roles[0]);
	if (answer->role_count > 0)
		qsort(answer->roles, answer->role_count, sizeof(answer->roles[0]), auth_answer_compare);
	reply->roles = NULL;
	reply->role_count = 0;
	return answer;
}

struct auth_answer *auth_answer_new_failure(enum auth_reply_outcome outcome, const char *text, const char *sqlstate)
{
	struct auth_answer *answer = auth_answer_alloc(AUTH_KIND_USER, outcome);

	if (text != NULL) {
		str_copy(answer->text, sizeof(answer->text), text);
		str_copy(answer->sqlstate, sizeof(answer->sqlstate), sqlstate);
	}
	return answer;
}

struct auth_answer *auth_answer_hold(struct auth_answer *answer)
{
	atomic_fetch_add_explicit(&answer->refs, 1, memory_order_relaxed);
	return answer;
}

void auth_answer_release(struct auth_answer **answerp)
{
	struct auth_answer *answer = *answerp;

	*answerp = NULL;
	if (answer == NULL || atomic_fetch_sub_explicit(&answer->refs, 1, memory_order_acq_rel) != 1)
		return;
	user_free(&answer->user);
	for (size_t i = 0; i < answer->role_count; i++)
		free(answer->roles[i]);
	free(answer->roles);
	free(answer);
}

bool auth_answer_use(struct auth_answer *answer)
{
	return !atomic_exchange_explicit(&answer->is_used, true, memory_order_relaxed);
}

bool auth_answer_has_role(const struct auth_answer *answer, const char *role)
{
	return answer->role_count > 0 &&
	       bsearch(&role, answer->roles, answer->role_count, sizeof(answer->roles[0]), auth_answer_compare) != NULL;
}

static bool auth_answer_is_good(const struct auth_answer *answer)
{
	return answer->outcome == AUTH_OUTCOME_FOUND || answer->outcome == AUTH_OUTCOME_NONE;
}

/* ---- entries ---- */

/* The strings of a question in a row, each with its NUL, behind the kind. */
static struct auth_entry *auth_entry_new(const struct auth_cache *cache, const struct auth_question *q)
{
	const char *parts[] = { q->auth_user, q->query, q->user, q->database };
	size_t len = 1;
	struct auth_entry *entry;
	size_t at = 1;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		len += strlen(parts[i]) + 1;
	entry = xcalloc(1, sizeof(*entry) + len);
	entry->key[0] = (char)q->kind;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		size_t n = strlen(parts[i]) + 1;

		memcpy(entry->key + at, parts[i], n);
		entry->database_at = at;
		at += n;
	}
	entry->key_len = len;
	entry->hash = siphash_bytes(cache->hash_key, entry->key, len);
	LIST_INIT(&entry->asks);
	return entry;
}

static void auth_entry_free(struct auth_entry *entry)
{
	if (entry == NULL)
		return;
	ASSERT(!entry->is_asking && LIST_EMPTY(&entry->asks));
	auth_answer_release(&entry->answer);
	free(entry);
}

static void auth_trash_init(struct auth_trash *trash)
{
	TAILQ_INIT(&trash->entries);
	trash->answer = NULL;
}

static void auth_trash_empty(struct auth_trash *trash)
{
	struct auth_entry *entry;

	while ((entry = TAILQ_FIRST(&trash->entries)) != NULL) {
		TAILQ_REMOVE(&trash->entries, entry, lru);
		auth_entry_free(entry);
	}
	auth_answer_release(&trash->answer);
}

static struct auth_bucket *auth_cache_bucket(struct auth_cache *cache, uint64_t hash)
{
	return &cache->buckets[hash % AUTH_CACHE_BUCKETS];
}

static struct auth_entry *auth_cache_find_locked(struct auth_cache *cache, const struct auth_entry *like)
{
	struct auth_entry *entry;

	LIST_FOREACH (entry, auth_cache_bucket(cache, like->hash), bucket)
		if (entry->hash == like->hash && entry->key_len == like->key_len &&
		    memcmp(entry->key, like->key, like->key_len) == 0)
			return entry;
	return NULL;
}

static size_t auth_entry_size(const struct auth_entry *entry)
{
	return sizeof(*entry) + entry->key_len + entry->answer->size;
}

/* Lists an entry that has an answer, or takes it out of its list. */
static void auth_cache_list_locked(struct auth_cache *cache, struct auth_entry *entry, bool in)
{
	bool is_found = entry->answer->outcome == AUTH_OUTCOME_FOUND;
	struct auth_entries *list = is_found ? &cache->found : &cache->absent;
	uint64_t *count = is_found ? &cache->counts.found : &cache->counts.absent;

	if (in) {
		TAILQ_INSERT_HEAD(list, entry, lru);
		*count += 1;
		cache->counts.memory += auth_entry_size(entry);
	} else {
		TAILQ_REMOVE(list, entry, lru);
		*count -= 1;
		cache->counts.memory -= auth_entry_size(entry);
	}
}

/* Takes the answer away, and the entry out of the table unless somebody is asking. */
static void auth_cache_forget_locked(struct auth_cache *cache, struct auth_entry *entry, struct auth_trash *trash)
{
	if (entry->answer != NULL)
		auth_cache_list_locked(cache, entry, false);
	if (entry->is_asking) {
		ASSERT(trash->answer == NULL);
		trash->answer = entry->answer;
		entry->answer = NULL;
		return;
	}
	LIST_REMOVE(entry, bucket);
	TAILQ_INSERT_TAIL(&trash->entries, entry, lru);
}

/* Keeps to the limits. What is being asked does not go; there are never more of these than logins. */
static void auth_cache_evict_locked(struct auth_cache *cache, struct auth_trash *trash)
{
	while (cache->counts.found > AUTH_CACHE_FOUND_MAX || cache->counts.absent > AUTH_CACHE_ABSENT_MAX ||
	       cache->counts.memory > AUTH_CACHE_MEMORY_MAX) {
		bool is_absent = cache->counts.absent > AUTH_CACHE_ABSENT_MAX || cache->counts.found == 0;
		struct auth_entry *last =
			is_absent ? TAILQ_LAST(&cache->absent, auth_entries) : TAILQ_LAST(&cache->found, auth_entries);

		if (last == NULL || (last->is_asking && trash->answer != NULL))
			break;
		auth_cache_forget_locked(cache, last, trash);
		cache->counts.evicted++;
	}
}

/* ---- the cache ---- */

struct auth_cache *auth_cache_new(void)
{
	struct auth_cache *cache = xcalloc(1, sizeof(*cache));

	siphash_new_key(cache->hash_key);
	lock_init(&cache->lock, LOCK_RANK_AUTH);
	cache->buckets = xcalloc(AUTH_CACHE_BUCKETS, sizeof(cache->buckets[0]));
	TAILQ_INIT(&cache->found);
	TAILQ_INIT(&cache->absent);
	return cache;
}

void auth_cache_free(struct auth_cache **cachep)
{
	struct auth_cache *cache = *cachep;

	*cachep = NULL;
	if (cache == NULL)
		return;
	for (size_t i = 0; i < AUTH_CACHE_BUCKETS; i++) {
		struct auth_entry *entry;

		while ((entry = LIST_FIRST(&cache->buckets[i])) != NULL) {
			LIST_REMOVE(entry, bucket);
			auth_entry_free(entry);
		}
	}
	free(cache->buckets);
	lock_fini(&cache->lock);
	free(cache);
}

static uint64_t auth_entry_age_us(const struct auth_entry *entry, const struct auth_policy *policy)
{
	/* Another loop's clock may be a little behind. */
	return policy->now_us > entry->answered_us ? policy->now_us - entry->answered_us : 0;
}

static bool auth_entry_is_fresh(const struct auth_entry *entry, const struct auth_policy *policy)
{
	if (entry->answer == NULL || entry->is_distrusted || entry->is_doomed)
		return false;
	return auth_entry_age_us(entry, policy) < policy->ttl_us;
}

/* True when the answer may be used if the database cannot be asked. */
static bool auth_entry_may_be_stale(const struct auth_entry *entry, const struct auth_policy *policy)
{
	return entry->answer != NULL && !entry->is_doomed && policy->stale_us > 0 &&
	       auth_entry_age_us(entry, policy) <= policy->ttl_us + policy->stale_us;
}

static enum auth_cache_verdict auth_cache_ask_locked(struct auth_cache *cache, struct auth_entry *entry,
						     const struct auth_policy *policy, const struct auth_runner *runner,
						     struct auth_ask *ask, struct auth_answer **answer)
{
	bool is_fresh = auth_entry_is_fresh(entry, policy);

	if (is_fresh || (policy->now_us < entry->retry_us && auth_entry_may_be_stale(entry, policy))) {
		*(is_fresh ? &cache->counts.hits : &cache->counts.stale) += 1;
		auth_cache_list_locked(cache, entry, false);
		auth_cache_list_locked(cache, entry, true);
		*answer = auth_answer_hold(entry->answer);
		return AUTH_CACHE_HIT;
	}
	ask->of = entry;
	ask->is_listed = true;
	LIST_INSERT_HEAD(&entry->asks, ask, entry);
	if (entry->is_asking) {
		cache->counts.joined++;
		return AUTH_CACHE_WAIT;
	}
	cache->counts.misses++;
	cache->counts.asking++;
	entry->is_asking = true;
	entry->runner = *runner;
	return AUTH_CACHE_RUN;
}

enum auth_cache_verdict auth_cache_ask(struct auth_cache *cache, const struct auth_question *question,
				       const struct auth_policy *policy, const struct auth_runner *runner,
				       struct auth_ask *ask, struct auth_answer **answer, struct auth_entry **entryp)
{
	struct auth_entry *fresh = auth_entry_new(cache, question);
	enum auth_cache_verdict verdict;
	struct auth_entry *entry;

	lock_acquire(&cache->lock);
	entry = auth_cache_find_locked(cache, fresh);
	if (entry == NULL) {
		entry = fresh;
		fresh = NULL;
		LIST_INSERT_HEAD(auth_cache_bucket(cache, entry->hash), entry, bucket);
	}
	verdict = auth_cache_ask_locked(cache, entry, policy, runner, ask, answer);
	lock_release(&cache->lock);
	auth_entry_free(fresh);
	*entryp = entry;
	return verdict;
}

/* The asking is over. An entry without an answer goes. */
static void auth_cache_stop_asking_locked(struct auth_cache *cache, struct auth_entry *entry, struct auth_trash *trash)
{
	ASSERT(entry->is_asking && LIST_EMPTY(&entry->asks));
	if (entry->is_doomed && entry->answer != NULL)
		auth_cache_forget_locked(cache, entry, trash);
	entry->is_asking = entry->is_doomed = false;
	cache->counts.asking--;
	if (entry->answer == NULL)
		auth_cache_forget_locked(cache, entry, trash);
}

/* What those who wait are given: the answer, or an old one in the place of a failure. */
static struct auth_answer *auth_cache_choose_locked(struct auth_cache *cache, struct auth_entry *entry,
						    struct auth_answer *answer, const struct auth_policy *policy)
{
	if (auth_answer_is_good(answer))
		return answer;
	cache->counts.failures++;
	if (answer->outcome != AUTH_OUTCOME_DOWN || !auth_entry_may_be_stale(entry, policy))
		return answer;
	entry->retry_us = policy->now_us + AUTH_CACHE_RETRY_US;
	return entry->answer;
}

/* Puts a good answer in the place of the old one. */
static void auth_cache_store_locked(struct auth_cache *cache, struct auth_entry *entry, struct auth_answer *answer,
				    const struct auth_policy *policy, struct auth_trash *trash)
{
	if (entry->answer != NULL)
		auth_cache_forget_locked(cache, entry, trash);
	if (entry->is_doomed || (policy->ttl_us == 0 && policy->stale_us == 0))
		return;
	entry->answer = auth_answer_hold(answer);
	entry->answered_us = policy->now_us;
	entry->retry_us = 0;
	entry->is_distrusted = false;
	auth_cache_list_locked(cache, entry, true);
}

void auth_cache_settle(struct auth_cache *cache, struct auth_entry *entry, struct auth_answer *answer,
		       const struct auth_policy *policy, struct auth_asks *asks)
{
	struct auth_answer *given;
	struct auth_trash trash;
	struct auth_ask *ask;

	LIST_INIT(asks);
	auth_trash_init(&trash);
	lock_acquire(&cache->lock);
	given = auth_cache_choose_locked(cache, entry, answer, policy);
	while ((ask = LIST_FIRST(&entry->asks)) != NULL) {
		LIST_REMOVE(ask, entry);
		ask->is_listed = false;
		ask->answer = auth_answer_hold(given);
		cache->counts.stale += given != answer;
		LIST_INSERT_HEAD(asks, ask, entry);
	}
	if (auth_answer_is_good(answer))
		auth_cache_store_locked(cache, entry, answer, policy, &trash);
	auth_cache_stop_asking_locked(cache, entry, &trash);
	auth_cache_evict_locked(cache, &trash);
	lock_release(&cache->lock);
	auth_trash_empty(&trash);
	auth_answer_release(&answer);
}

bool auth_cache_give_up(struct auth_cache *cache, struct auth_entry *entry)
{
	struct auth_trash trash;
	bool is_alone;

	auth_trash_init(&trash);
	lock_acquire(&cache->lock);
	is_alone = LIST_EMPTY(&entry->asks);
	if (is_alone)
		auth_cache_stop_asking_locked(cache, entry, &trash);
	lock_release(&cache->lock);
	auth_trash_empty(&trash);
	return is_alone;
}

bool auth_cache_leave(struct auth_cache *cache, struct auth_ask *ask, struct auth_runner *runner)
{
	bool was_listed;

	*runner = (struct auth_runner){ .ctx = NULL };
	lock_acquire(&cache->lock);
	was_listed = ask->is_listed;
	if (was_listed) {
		LIST_REMOVE(ask, entry);
		ask->is_listed = false;
		if (LIST_EMPTY(&ask->of->asks))
			*runner = ask->of->runner;
	}
	lock_release(&cache->lock);
	return was_listed;
}

void auth_cache_distrust(struct auth_cache *cache, const struct auth_question *question,
			 const struct auth_policy *policy)
{
	struct auth_entry *like = auth_entry_new(cache, question);
	struct auth_entry *entry;

	lock_acquire(&cache->lock);
	entry = auth_cache_find_locked(cache, like);
	if (entry != NULL && entry->answer != NULL && auth_entry_age_us(entry, policy) >= AUTH_CACHE_DISTRUST_US)
		entry->is_distrusted = true;
	lock_release(&cache->lock);
	auth_entry_free(like);
}

bool auth_cache_has_stale(struct auth_cache *cache, const struct auth_entry *entry, const struct auth_policy *policy)
{
	bool has;

	lock_acquire(&cache->lock);
	has = auth_entry_may_be_stale(entry, policy);
	lock_release(&cache->lock);
	return has;
}

/* Of all but the user; never 0. */
static uint64_t auth_cache_hash_query(const struct auth_cache *cache, const struct auth_question *question)
{
	struct auth_question any = *question;
	struct auth_entry *entry;
	uint64_t hash;

	any.user = "";
	entry = auth_entry_new(cache, &any);
	hash = entry->hash | 1;
	auth_entry_free(entry);
	return hash;
}

bool auth_cache_needs_path(struct auth_cache *cache, const struct auth_question *question)
{
	uint64_t hash = auth_cache_hash_query(cache, question);

	return atomic_load_explicit(&cache->paths[hash / 2 % AUTH_CACHE_PATHS], memory_order_relaxed) == hash;
}

void auth_cache_note_path(struct auth_cache *cache, const struct auth_question *question, bool needs)
{
	uint64_t hash = auth_cache_hash_query(cache, question);

	atomic_store_explicit(&cache->paths[hash / 2 % AUTH_CACHE_PATHS], needs ? hash : 0, memory_order_relaxed);
}

/* True when the database that an entry was asked in is still the same. */
static bool auth_cache_is_same_db(const struct auth_entry *entry, const struct snapshot *old,
				  const struct snapshot *fresh)
{
	const char *name = entry->key + entry->database_at;
	const struct conf_db *a = conf_find_db(old->conf, name);
	const struct conf_db *b = conf_find_db(fresh->conf, name);

	if (a == NULL && b == NULL)
		return conf_same_autodb(old->conf, fresh->conf);
	return a != NULL && b != NULL && conf_db_same_server(a, b);
}

static void auth_cache_reload_bucket_locked(struct auth_cache *cache, struct auth_bucket *bucket,
					    const struct snapshot *old, const struct snapshot *fresh,
					    struct auth_trash *trash)
{
	struct auth_entry *entry;
	struct auth_entry *next;

	for (entry = LIST_FIRST(bucket); entry != NULL; entry = next) {
		next = LIST_NEXT(entry, bucket);
		if (auth_cache_is_same_db(entry, old, fresh))
			continue;
		if (entry->is_asking)
			entry->is_doomed = true; /* forgotten when that has ended */
		else
			auth_cache_forget_locked(cache, entry, trash);
	}
}

void auth_cache_reload(struct auth_cache *cache, const struct snapshot *old, const struct snapshot *fresh)
{
	struct auth_trash trash;

	for (size_t i = 0; i < AUTH_CACHE_PATHS; i++)
		atomic_store_explicit(&cache->paths[i], 0, memory_order_relaxed);
	for (size_t i = 0; i < AUTH_CACHE_BUCKETS; i += AUTH_CACHE_SLICE) {
		auth_trash_init(&trash);
		lock_acquire(&cache->lock);
		for (size_t k = 0; k < AUTH_CACHE_SLICE; k++)
			auth_cache_reload_bucket_locked(cache, &cache->buckets[i + k], old, fresh, &trash);
		lock_release(&cache->lock);
		auth_trash_empty(&trash);
	}
}

void auth_cache_count(struct auth_cache *cache, struct auth_cache_counts *counts)
{
	lock_acquire(&cache->lock);
	*counts = cache->counts;
	lock_release(&cache->lock);
}
