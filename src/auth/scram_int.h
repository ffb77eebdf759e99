/*
 * What the two sides of SCRAM share: reading attributes, keys from passwords
 * and signatures. For scram*.c only.
 */
#ifndef PGSLUICE_AUTH_SCRAM_INT_H
#define PGSLUICE_AUTH_SCRAM_INT_H

#include "auth/base64.h"
#include "auth/crypto.h"
#include "auth/scram.h"

/* Characters of one of our nonces, and of a key in base64. */
#define SCRAM_NONCE_TEXT_LEN BASE64_ENCODED_LEN(SCRAM_NONCE_LEN)
#define SCRAM_KEY_TEXT_LEN   BASE64_ENCODED_LEN(SCRAM_KEY_LEN)

/* The longest gs2 header, and c= in base64 with its NUL: the header and the hash. */
#define SCRAM_GS2_BOUND      "p=tls-server-end-point,,"
#define SCRAM_CBIND_SIZE     (BASE64_ENCODED_LEN(sizeof(SCRAM_GS2_BOUND) - 1 + SCRAM_END_POINT_MAX) + 1)

/* What one side knows about the channel. */
struct scram_end_point {
	size_t len; /* 0: there is no binding */
	uint8_t hash[SCRAM_END_POINT_MAX];
};

/* The three parts of the message that both sides sign; commas go between them. */
struct scram_auth_message {
	struct slice client_first_bare;
	struct slice server_first;
	struct slice client_final_bare;
};

/* Reader of a list of attributes, a=value, separated by commas. */
struct scram_reader {
	struct slice rest; /* what is not read yet */
	bool more;         /* another attribute must follow: at the start and after a comma */
};

static inline struct scram_reader scram_reader_make(struct slice text)
{
	return (struct scram_reader){ text, true };
}

/*
 * Reads the next attribute, whatever its (alphabetic) name. False when there is none or it is
 * malformed.
 */
bool scram_read_any(struct scram_reader *r, char *name, struct slice *value) MUSTCHECK;

/* Reads the next attribute, which must have this name. */
bool scram_read(struct scram_reader *r, char name, struct slice *value) MUSTCHECK;

/* True when all was read and no comma dangles. */
static inline bool scram_reader_at_end(const struct scram_reader *r)
{
	return !r->more;
}

/* True for a nonce as the grammar allows it: not empty, printable ASCII (commas end it before). */
bool scram_nonce_is_valid(struct slice nonce);

/* The header that stands before the client-first-bare message: flag, and no other identity. */
const char *scram_gs2_header(enum scram_flag flag);

/* What c= says: the header of the flag and, when it is bound, the hash, in base64. */
void scram_format_cbind(enum scram_flag flag, const struct scram_end_point *end_point, char dst[SCRAM_CBIND_SIZE]);

/* Copies the hash, whose length must be 1 to SCRAM_END_POINT_MAX. */
void scram_set_end_point(struct scram_end_point *end_point, struct slice hash);

/* A decimal number from 1 to INT32_MAX without sign or blanks; false for anything else. */
bool scram_parse_iterations(struct slice text, uint32_t *out) MUSTCHECK;

/* Decodes base64 that must be exactly a key long. */
bool scram_parse_key(struct slice text, uint8_t key[SCRAM_KEY_LEN]) MUSTCHECK;

/* Our part of a nonce: a copy of the one given or random text; NULL when there is no randomness. */
char *scram_make_nonce(const char *given) MUSTCHECK;

/* A verifier with this salt; the keys are to be filled in. */
struct scram_verifier *scram_verifier_new(const uint8_t *salt, size_t salt_len, uint32_t iterations) MUSTCHECK;

/* ClientKey and ServerKey of a password; costs `iterations` hashes. 0 or -E_SYS. */
int scram_derive_keys(struct slice password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
		      struct scram_keys *out) MUSTCHECK;

/* HMAC of the signed message under a key; 0 or -E_SYS. */
int scram_sign(const uint8_t key[SCRAM_KEY_LEN], const struct scram_auth_message *m,
	       uint8_t signature[SCRAM_KEY_LEN]) MUSTCHECK;

#endif
