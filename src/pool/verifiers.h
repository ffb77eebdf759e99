/*
 * What logins by SCRAM need of secrets: the key that salts follow from, and the
 * verifiers of plaintext secrets.
 */
#ifndef PGSLUICE_POOL_VERIFIERS_H
#define PGSLUICE_POOL_VERIFIERS_H

#include "auth/scram.h"
#include "pool/engine.h"

/*
 * The key of the salts, which is the same in every process of this
 * configuration and after every start, and known to nobody outside: it follows
 * from scram_salt_secret, or from the private key for TLS, or from the identity
 * of the machine. Where there is none of these it is random. At the start.
 */
void verifiers_make_salt_key(const struct conf *conf, uint8_t key[SCRAM_KEY_LEN]);

/* How verifiers are made under a configuration. Any thread. */
struct scram_recipe verifiers_recipe(const struct engine *engine, const struct conf *conf);

/*
 * Derives the verifiers of the users in force on a helper thread, if they may
 * be needed; at the start, and when a reload has brought other users. What was
 * begun for others ends. Control thread.
 */
void verifiers_begin(struct engine *engine, const struct snapshot *snap);

#endif
