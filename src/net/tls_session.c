/*
 * Towards clients, nothing is remembered: a session travels, sealed, to the
 * client and comes back in a ticket. What must be kept are two keys. One seals
 * for TLS_SESSION_LIFE_S; its predecessor still opens for as long again, which
 * is as long as the last of its tickets lives. Then it is overwritten, so that
 * whoever gets hold of the process cannot read what was recorded earlier. A
 * client's certificate travels in the ticket; it is looked at again when it
 * comes back, since it may have expired meanwhile.
 *
 * Towards servers, sessions are kept as bytes, each for the target that it was
 * agreed with, in a table that is as large as it ever gets: a target has one
 * place, where the last one to come stays. Taking a session empties the place,
 * as the tickets of TLS 1.3 should be used once; what can be used again is put
 * back.
 *
 * The callbacks run on whatever loop does the handshake. Both kinds are behind
 * a lock each, which is held while pointers and keys are copied.
 */
#include "net/tls_session.h"

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/siphash.h"
#include "core/str.h"

/* Longest session that is kept; with a server's certificate it has one to three kilobytes. */
#define TLS_STORE_SESSION_MAX (32 * 1024)

#define TLS_SESSION_LIFE_US   (TLS_SESSION_LIFE_S * USEC_PER_SEC)

struct tls_tickets {
	struct lock lock;
	struct tls_ticket_key now;    /* protected by lock */
	struct tls_ticket_key before; /* protected by lock */
};

/* A session, as bytes, and whom it was agreed with. */
struct tls_kept {
	char *target;
	uint8_t *bytes;
	size_t size;
};

struct tls_store {
	struct lock lock;
	uint8_t hash_key[16];
	unsigned count;
	struct tls_kept *kept[]; /* protected by lock; NULL: none */
};

/* Where a context finds its store or its keys, and a session the name of its target. */
static struct {
	int of_ctx;
	int of_ssl;
} tls_session_index;
static pthread_once_t tls_session_once = PTHREAD_ONCE_INIT;

static void tls_session_free_target_cb(void *parent UNUSED, void *target, CRYPTO_EX_DATA *ad UNUSED, int idx UNUSED,
				       long argl UNUSED, void *argp UNUSED)
{
	free(target);
}

static void tls_session_init(void)
{
	tls_session_index.of_ctx = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	tls_session_index.of_ssl = SSL_get_ex_new_index(0, NULL, NULL, NULL, tls_session_free_target_cb);
	ASSERT(tls_session_index.of_ctx >= 0 && tls_session_index.of_ssl >= 0);
}

static void tls_session_set_ctx_data(SSL_CTX *ssl, void *data)
{
	int ok;

	ASSERT(pthread_once(&tls_session_once, tls_session_init) == 0);
	ok = SSL_CTX_set_ex_data(ssl, tls_session_index.of_ctx, data);
	ASSERT(ok == 1);
}

static void *tls_session_ctx_data(const SSL *ssl)
{
	return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), tls_session_index.of_ctx);
}

/* The certificate that the other side has shown when the session was agreed is not valid any more. */
static bool tls_session_is_outdated(SSL_SESSION *session)
{
	X509 *cert = SSL_SESSION_get0_peer(session);

	return cert != NULL && X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0;
}

/* ---- tickets ---- */

struct tls_tickets *tls_tickets_new(void)
{
	struct tls_tickets *tickets = xcalloc(1, sizeof(*tickets));

	lock_init(&tickets->lock, LOCK_RANK_TLS);
	return tickets;
}

void tls_tickets_free(struct tls_tickets **ref)
{
	struct tls_tickets *tickets = *ref;

	*ref = NULL;
	if (tickets == NULL)
		return;
	lock_fini(&tickets->lock);
	mem_wipe(tickets, sizeof(*tickets));
	free(tickets);
}

/* A key of that age seals; or, for twice as long, opens. */
static bool tls_tickets_is_alive(const struct tls_ticket_key *key, uint64_t now_us, unsigned lives)
{
	return key->born_us != 0 && now_us - key->born_us < lives * TLS_SESSION_LIFE_US;
}

static bool tls_tickets_get(struct tls_tickets *tickets, uint64_t now_us, struct tls_ticket_key *key)
{
	bool is_alive;

	lock_acquire(&tickets->lock);
	is_alive = tls_tickets_is_alive(&tickets->now, now_us, 1);
	if (is_alive)
		*key = tickets->now;
	lock_release(&tickets->lock);
	return is_alive;
}

int tls_tickets_seal(struct tls_tickets *tickets, uint64_t now_us, struct tls_ticket_key *key)
{
	struct tls_ticket_key fresh;

	if (tls_tickets_get(tickets, now_us, key))
		return 0;
	if (RAND_bytes(fresh.name, sizeof(fresh.name)) != 1 || RAND_bytes(fresh.cipher, sizeof(fresh.cipher)) != 1 ||
	    RAND_bytes(fresh.mac, sizeof(fresh.mac)) != 1)
		return -E_SYS;
	fresh.born_us = now_us;
	lock_acquire(&tickets->lock);
	/* Unless another thread was faster. */
	if (!tls_tickets_is_alive(&tickets->now, now_us, 1)) {
		tickets->before = tickets->now;
		tickets->now = fresh;
	}
	*key = tickets->now;
	lock_release(&tickets->lock);
	mem_wipe(&fresh, sizeof(fresh));
	return 0;
}

int tls_tickets_open(struct tls_tickets *tickets, uint64_t now_us, const uint8_t name[TLS_TICKET_NAME_LEN],
		     struct tls_ticket_key *key)
{
	const struct tls_ticket_key *candidates[] = { &tickets->now, &tickets->before };
	int err = -E_NOENT;

	lock_acquire(&tickets->lock);
	for (size_t i = 0; i < ARRAY_LEN(candidates) && err != 0; i++) {
		if (!tls_tickets_is_alive(candidates[i], now_us, 2) ||
		    memcmp(candidates[i]->name, name, TLS_TICKET_NAME_LEN) != 0)
			continue;
		*key = *candidates[i];
		err = 0;
	}
	lock_release(&tickets->lock);
	return err;
}

static bool tls_tickets_set_mac(EVP_MAC_CTX *mac, struct tls_ticket_key *key)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){ "SHA256" }, 0),
		OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* OpenSSL seals or opens a ticket: which key? -1 on an error, 0 for none, 1; 2 asks for a fresh ticket as well. */
static int tls_tickets_key_cb(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
			      EVP_MAC_CTX *mac, int sealing)
{
	struct tls_tickets *tickets = tls_session_ctx_data(ssl);
	uint64_t now_us = clock_mono_us();
	struct tls_ticket_key key;
	bool ok;

	if (sealing != 0) {
		if (tls_tickets_seal(tickets, now_us, &key) != 0 || RAND_bytes(iv, 16) != 1)
			return -1;
		memcpy(name, key.name, sizeof(key.name));
	} else if (tls_tickets_open(tickets, now_us, name, &key) != 0) {
		return 0;
	}
	ok = EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv, sealing) == 1 &&
	     tls_tickets_set_mac(mac, &key);
	mem_wipe(&key, sizeof(key));
	if (!ok)
		return -1;
	/* Each use of TLS 1.3 gets a ticket for the next; older ones go on with theirs while it is good. */
	return sealing == 0 && SSL_version(ssl) >= TLS1_3_VERSION ? 2 : 1;
}

/* A ticket has come back. */
static SSL_TICKET_RETURN tls_tickets_opened_cb(SSL *ssl UNUSED, SSL_SESSION *session, const unsigned char *name UNUSED,
					       size_t name_len UNUSED, SSL_TICKET_STATUS status, void *arg UNUSED)
{
	switch (status) {
	case SSL_TICKET_SUCCESS:
		return tls_session_is_outdated(session) ? SSL_TICKET_RETURN_IGNORE_RENEW : SSL_TICKET_RETURN_USE;
	case SSL_TICKET_SUCCESS_RENEW:
		return tls_session_is_outdated(session) ? SSL_TICKET_RETURN_IGNORE_RENEW : SSL_TICKET_RETURN_USE_RENEW;
	default:
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	}
}

/*
 * A session that we remember ourselves, of a client without tickets: nobody will look at it when it comes back, so it
 * is forgotten when the client's certificate ends. The result says that we keep no reference.
 */
static int tls_tickets_new_cb(SSL *ssl UNUSED, SSL_SESSION *session)
{
	X509 *cert = SSL_SESSION_get0_peer(session);
	int days = 0;
	int seconds = 0;

	if (cert == NULL || ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) != 1 || days > 0)
		return 0;
	if (days < 0 || seconds < 1)
		seconds = 1;
	if (seconds < TLS_SESSION_LIFE_S)
		SSL_SESSION_set_timeout(session, seconds);
	return 0;
}

void tls_tickets_install(struct tls_tickets *tickets, SSL_CTX *ssl)
{
	tls_session_set_ctx_data(ssl, tickets);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(ssl, tls_tickets_key_cb);
	SSL_CTX_set_session_ticket_cb(ssl, NULL, tls_tickets_opened_cb, NULL);
	SSL_CTX_sess_set_new_cb(ssl, tls_tickets_new_cb);
	SSL_CTX_set_num_tickets(ssl, 1);
	SSL_CTX_set_timeout(ssl, TLS_SESSION_LIFE_S);
}

/* ---- sessions with servers ---- */

struct tls_store *tls_store_new(unsigned targets)
{
	struct tls_store *store = xcalloc(1, sizeof(*store) + targets * sizeof(store->kept[0]));
	int ok = RAND_bytes(store->hash_key, sizeof(store->hash_key));

	ASSERT(ok == 1);
	lock_init(&store->lock, LOCK_RANK_TLS);
	store->count = targets;
	return store;
}

static void tls_kept_free(struct tls_kept *kept)
{
	if (kept == NULL)
		return;
	mem_wipe(kept->bytes, kept->size);
	free(kept->bytes);
	free(kept->target);
	free(kept);
}

void tls_store_free(struct tls_store **ref)
{
	struct tls_store *store = *ref;

	*ref = NULL;
	if (store == NULL)
		return;
	for (unsigned i = 0; i < store->count; i++)
		tls_kept_free(store->kept[i]);
	lock_fini(&store->lock);
	free(store);
}

static struct tls_kept **tls_store_place(struct tls_store *store, const char *target)
{
	return &store->kept[siphash_bytes(store->hash_key, target, strlen(target)) % store->count];
}

/* The session of a target, which leaves the store; NULL: none. */
static struct tls_kept *tls_store_take(struct tls_store *store, const char *target)
{
	struct tls_kept **place = tls_store_place(store, target);
	struct tls_kept *kept = NULL;

	lock_acquire(&store->lock);
	if (*place != NULL && strcmp((*place)->target, target) == 0) {
		kept = *place;
		*place = NULL;
	}
	lock_release(&store->lock);
	return kept;
}

/* Takes over the session, in the place of another; `only_if_free`: unless there is one. */
static void tls_store_put(struct tls_store *store, struct tls_kept *kept, bool only_if_free)
{
	struct tls_kept **place = tls_store_place(store, kept->target);
	struct tls_kept *loser;

	lock_acquire(&store->lock);
	loser = *place;
	if (loser != NULL && only_if_free)
		loser = kept;
	else
		*place = kept;
	lock_release(&store->lock);
	tls_kept_free(loser);
}

/* A server has agreed on a session that can be resumed. The result says that we keep no reference. */
static int tls_store_new_cb(SSL *ssl, SSL_SESSION *session)
{
	struct tls_store *store = tls_session_ctx_data(ssl);
	const char *target = SSL_get_ex_data(ssl, tls_session_index.of_ssl);
	struct tls_kept *kept;
	uint8_t *end;
	int size;

	if (target == NULL || SSL_SESSION_is_resumable(session) != 1)
		return 0;
	size = i2d_SSL_SESSION(session, NULL);
	if (size <= 0 || size > TLS_STORE_SESSION_MAX)
		return 0;
	kept = xcalloc(1, sizeof(*kept));
	kept->target = xstrdup(target);
	kept->size = (size_t)size;
	kept->bytes = xmalloc(kept->size);
	end = kept->bytes;
	size = i2d_SSL_SESSION(session, &end);
	ASSERT((size_t)size == kept->size);
	tls_store_put(store, kept, false);
	return 0;
}

void tls_store_install(struct tls_store *store, SSL_CTX *ssl)
{
	tls_session_set_ctx_data(ssl, store);
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ssl, tls_store_new_cb);
	SSL_CTX_set_timeout(ssl, TLS_SESSION_LIFE_S);
}

/* Not longer ago than we, and they, allow; OpenSSL's clock and ours may be on either side of a second. */
static bool tls_store_is_fresh(const SSL_SESSION *session)
{
	long age_s = (long)(clock_wall_us() / USEC_PER_SEC) - SSL_SESSION_get_time(session);

	return age_s >= -1 && age_s < TLS_SESSION_LIFE_S && age_s < SSL_SESSION_get_timeout(session);
}

void tls_store_resume(struct tls_store *store, SSL *ssl, const char *target)
{
	struct tls_kept *kept = tls_store_take(store, target);
	SSL_SESSION *session = NULL;
	const uint8_t *at;
	bool is_reusable;
	char *name;

	name = xstrdup(target);
	if (SSL_set_ex_data(ssl, tls_session_index.of_ssl, name) != 1)
		free(name);
	if (kept == NULL)
		return;
	at = kept->bytes;
	session = d2i_SSL_SESSION(NULL, &at, (long)kept->size);
	if (session == NULL || !tls_store_is_fresh(session) || tls_session_is_outdated(session) ||
	    SSL_set_session(ssl, session) != 1) {
		tls_kept_free(kept);
		SSL_SESSION_free(session);
		return;
	}
	is_reusable = SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION;
	SSL_SESSION_free(session);
	if (is_reusable)
		tls_store_put(store, kept, true);
	else
		tls_kept_free(kept);
}
