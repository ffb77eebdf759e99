#include "auth/secret.h"

#include "auth/md5.h"
#include "core/alloc.h"

static bool secret_is_md5(struct slice text)
{
	if (text.n != MD5_SECRET_LEN || memcmp(text.p, "md5", 3) != 0)
		return false;
	for (size_t i = 3; i < text.n; i++) {
		char c = text.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
	}
	return true;
}

void secret_init(struct secret *s, struct slice text)
{
	ASSERT(text.n == 0 || memchr(text.p, '\0', text.n) == NULL);
	memset(s, 0, sizeof(*s));
	s->text = slice_dup(text);
	s->len = text.n;
	s->scram = scram_verifier_parse(text);
	if (s->scram != NULL)
		s->type = SECRET_SCRAM;
	else if (text.n == 0)
		s->type = SECRET_EMPTY;
	else if (secret_is_md5(text))
		s->type = SECRET_MD5;
	else
		s->type = SECRET_PLAIN;
}

void secret_init_plain(struct secret *s, struct slice password)
{
	ASSERT(password.n == 0 || memchr(password.p, '\0', password.n) == NULL);
	*s = (struct secret){
		.type = password.n == 0 ? SECRET_EMPTY : SECRET_PLAIN,
		.text = slice_dup(password),
		.len = password.n,
	};
}

void secret_copy(struct secret *dst, const struct secret *src)
{
	if (src == NULL) {
		secret_init(dst, slice_make(NULL, 0));
		return;
	}
	dst->type = src->type;
	dst->text = slice_dup(secret_slice(src));
	dst->len = src->len;
	dst->scram = src->scram == NULL ? NULL : scram_verifier_dup(src->scram);
}

void secret_fini(struct secret *s)
{
	free_secret(s->text);
	scram_verifier_free(&s->scram);
	memset(s, 0, sizeof(*s));
}

const char *secret_type_name(enum secret_type type)
{
	static const char *const names[] = {
		[SECRET_EMPTY] = "empty",
		[SECRET_PLAIN] = "plaintext",
		[SECRET_MD5] = "MD5",
		[SECRET_SCRAM] = "SCRAM",
	};

	ASSERT((size_t)type < ARRAY_LEN(names));
	return names[type];
}
