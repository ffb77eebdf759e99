/*
 * Verifiers ahead of logins.
 *
 * SCRAM wants a verifier of a secret that stands in auth_file as a password,
 * and to derive one takes milliseconds. Whoever sees a first login that takes
 * them knows that there is such a user; so nobody's login should have to. At
 * the start, and when auth_file was read again, a helper thread derives what is
 * missing, at the lowest priority, in slices of some tens of milliseconds, so
 * that a reload or the end of the process does not wait for it. Until it is
 * through, every login by SCRAM costs a derivation (auth_setup.is_costly).
 *
 *     verifiers_begin() --> slice --> done: another slice ... --> users_are_derived()
 *
 * Salts. The salt of a name that is no user must not change when the process
 * starts anew, since that of a SCRAM secret does not either, and must be the
 * same in all processes that serve one address. The key that it is made with
 * must have more in it than can be guessed, though: were it made of the secrets
 * in auth_file, anybody could take a salt home and try passwords on it.
 */
#include "pool/verifiers.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "auth/crypto.h"
#include "core/alloc.h"
#include "core/log.h"

/* Rounds of one slice, about: some tens of milliseconds. */
#define VERIFIERS_SLICE_ROUNDS (16 * SCRAM_ITERATIONS)
/* Of a file that the key is made of. */
#define VERIFIERS_FILE_MAX     65536
#define VERIFIERS_MACHINE_FILE "/etc/machine-id"
/* Digits of an identity that is one, see machine-id(5): a file may say "uninitialized". */
#define VERIFIERS_MACHINE_LEN  32

/* ---- the key of the salts ---- */

/* The key follows from these bytes; their kind is in it, too. */
static bool verifiers_key_from(const char *kind, const void *p, size_t n, uint8_t key[SCRAM_KEY_LEN])
{
	const struct crypto_part parts[] = { { "pgsluice salts: ", 16 }, { kind, strlen(kind) } };

	return crypto_hmac(p, n, parts, ARRAY_LEN(parts), key) == 0;
}

/* The key follows from what a file says, if that is at least so long. */
static bool verifiers_key_from_file(const char *path, size_t min, uint8_t key[SCRAM_KEY_LEN])
{
	uint8_t *bytes;
	ssize_t n;
	bool ok;
	int fd;

	if (!str_is_set(path))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bytes = xmalloc(VERIFIERS_FILE_MAX);
	n = read(fd, bytes, VERIFIERS_FILE_MAX);
	close(fd);
	ok = n >= (ssize_t)min && verifiers_key_from("file", bytes, (size_t)n, key);
	mem_wipe(bytes, VERIFIERS_FILE_MAX);
	free(bytes);
	return ok;
}

void verifiers_make_salt_key(const struct conf *conf, uint8_t key[SCRAM_KEY_LEN])
{
	const char *secret = conf->scram_salt_secret;

	if (str_is_set(secret) && verifiers_key_from("setting", secret, strlen(secret), key))
		return;
	if (verifiers_key_from_file(conf->client_tls_key_file, 1, key))
		return;
	if (verifiers_key_from_file(VERIFIERS_MACHINE_FILE, VERIFIERS_MACHINE_LEN, key))
		return;
	log_debug("no scram_salt_secret and nothing to make one of: salts of unknown names change at every start");
	if (crypto_random(key, SCRAM_KEY_LEN) != 0)
		log_fatal("could not get random bytes");
}

struct scram_recipe verifiers_recipe(const struct engine *engine, const struct conf *conf)
{
	struct scram_recipe recipe = { .iterations = (uint32_t)conf->scram_iterations };

	memcpy(recipe.salt_key, engine->salt_key, sizeof(recipe.salt_key));
	return recipe;
}

/* ---- deriving ---- */

struct verifiers_slice {
	struct job job;
	struct engine *engine;
	unsigned run; /* of engine->verifiers_run */
	struct users *users;
	struct scram_recipe recipe;
	size_t at;
	bool is_all; /* the work is done, or nobody does it */
};

/* On a helper thread. Linux keeps a priority per thread, and means the calling one here. */
static void verifiers_work(struct job *job)
{
	struct verifiers_slice *slice = CONTAINER_OF(job, struct verifiers_slice, job);
	unsigned max = VERIFIERS_SLICE_ROUNDS / slice->recipe.iterations;

	if (setpriority(PRIO_PROCESS, 0, 19) != 0)
		log_debug("could not lower the priority of a helper thread: %s", strerror(errno));
	slice->is_all = users_derive(slice->users, &slice->recipe, &slice->at, max == 0 ? 1 : max);
}

static void verifiers_submit(struct engine *engine, struct users *users, const struct scram_recipe *recipe, size_t at);

static void verifiers_done(struct job *job)
{
	struct verifiers_slice *slice = CONTAINER_OF(job, struct verifiers_slice, job);
	struct engine *engine = slice->engine;

	if (!slice->is_all && slice->run == engine->verifiers_run && atomic_load(&engine->shutdown) != SHUTDOWN_NOW)
		verifiers_submit(engine, slice->users, &slice->recipe, slice->at);
}

static void verifiers_free(struct job *job)
{
	struct verifiers_slice *slice = CONTAINER_OF(job, struct verifiers_slice, job);

	users_release(&slice->users);
	mem_wipe(slice, sizeof(*slice));
	free(slice);
}

static const struct job_ops verifiers_job_ops = {
	.work = verifiers_work,
	.done = verifiers_done,
	.free = verifiers_free,
};

static void verifiers_submit(struct engine *engine, struct users *users, const struct scram_recipe *recipe, size_t at)
{
	struct verifiers_slice *slice = xcalloc(1, sizeof(*slice));

	slice->job.ops = &verifiers_job_ops;
	slice->job.loop = engine->control;
	slice->engine = engine;
	slice->run = engine->verifiers_run;
	slice->users = users_hold(users);
	slice->recipe = *recipe;
	slice->at = at;
	slice->is_all = true;
	if (job_submit(engine->jobs[ENGINE_JOB_VERIFIERS], &slice->job) != 0)
		verifiers_free(&slice->job); /* the log knows why; logins derive for themselves */
}

void verifiers_begin(struct engine *engine, const struct snapshot *snap)
{
	const struct scram_recipe recipe = verifiers_recipe(engine, snap->conf);
	int type = snap->conf->auth_type;

	engine->verifiers_run++;
	if ((type == CONF_AUTH_SCRAM || type == CONF_AUTH_HBA) && !users_are_derived(snap->users))
		verifiers_submit(engine, snap->users, &recipe, 0);
}
