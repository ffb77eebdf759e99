/*
 * SASLprep by GNU Libidn: spaces become the blank, invisible characters vanish,
 * compatible forms become one (NFKC), so that a password is the same however a
 * keyboard or an editor composes it.
 *
 * PostgreSQL makes verifiers from that form, and libpq proves with it; where a
 * password has none, both take its bytes. Two things are different there than
 * in RFC 4013, and so here: ASCII is never looked at, control characters and
 * all, and what is forbidden is looked for before compatible forms are replaced,
 * which matters for the two accents of Vietnamese that are forbidden although
 * they have such forms.
 */
#include "auth/saslprep.h"

#ifdef HAVE_LIBIDN
#include <stringprep.h>
#endif

#include "core/alloc.h"

#ifdef HAVE_LIBIDN

static bool saslprep_is_ascii(struct slice text)
{
	for (size_t i = 0; i < text.n; i++)
		if ((unsigned char)text.p[i] > 0x7f)
			return false;
	return true;
}

/* U+0340 and U+0341. */
static bool saslprep_has_old_accents(struct slice text)
{
	return memmem(text.p, text.n, "\xcd\x80", 2) != NULL || memmem(text.p, text.n, "\xcd\x81", 2) != NULL;
}

char *saslprep(struct slice password)
{
	char *in;
	char *out = NULL;
	int rc;

	if (password.n > SASLPREP_MAX || saslprep_is_ascii(password) || saslprep_has_old_accents(password) ||
	    memchr(password.p, '\0', password.n) != NULL)
		return NULL;
	in = slice_dup(password);
	rc = stringprep_profile(in, &out, "SASLprep", STRINGPREP_NO_UNASSIGNED);
	free_secret(in);
	if (rc == STRINGPREP_OK && out[0] != '\0')
		return out;
	if (rc == STRINGPREP_OK)
		free(out);
	return NULL;
}

#else

char *saslprep(struct slice password UNUSED)
{
	return NULL;
}

#endif
