/*
 * A stored secret of a user, classified: what the list of users, auth_query or
 * a connect string gives as "password" may be the password itself or one of
 * PostgreSQL's two hashed forms.
 */
#ifndef PGSLUICE_AUTH_SECRET_H
#define PGSLUICE_AUTH_SECRET_H

#include "auth/scram.h"
#include "core/base.h"
#include "core/str.h"

/* Longest secret in bytes; also the longest password that a client may send. */
#define SECRET_MAX 65530

enum secret_type {
	SECRET_EMPTY, /* "": the user is known, no password matches */
	SECRET_PLAIN,
	SECRET_MD5,   /* "md5" and 32 lower-case hexadecimal digits */
	SECRET_SCRAM, /* SCRAM-SHA-256$… */
};

struct secret {
	enum secret_type type;
	char *text;                   /* as stored, NUL-terminated; never NULL */
	size_t len;                   /* of text, in bytes */
	struct scram_verifier *scram; /* parsed text of a SECRET_SCRAM, else NULL */
};

/*
 * Fills *s with a copy of the text (which has no NUL inside) and its class.
 * To be given back with secret_fini().
 */
void secret_init(struct secret *s, struct slice text);

/* The same for a password that somebody has typed, which is nothing else, whatever it looks like. */
void secret_init_plain(struct secret *s, struct slice password);

/* A copy that lives on its own; NULL gives an empty secret. */
void secret_copy(struct secret *dst, const struct secret *src);

/* Wipes and frees what the secret holds; it is zero afterwards. Zero is fine. */
void secret_fini(struct secret *s);

/* The text as a slice into the secret. */
static inline struct slice secret_slice(const struct secret *s)
{
	return slice_make(s->text, s->len);
}

/* Name of a class, for logs; never NULL. */
const char *secret_type_name(enum secret_type type);

#endif
