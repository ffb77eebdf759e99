/*
 * The list of users. What was read, written again with all quotes doubled,
 * must be read as the same; and each secret's class must fit its text.
 */
#include "fuzz.h"

#include "auth/users.h"
#include "core/alloc.h"

static size_t fuzz_quote(char *dst, const char *text)
{
	size_t n = 0;

	dst[n++] = '"';
	for (; *text != '\0'; text++) {
		if (*text == '"')
			dst[n++] = '"';
		dst[n++] = *text;
	}
	dst[n++] = '"';
	return n;
}

static void fuzz_check_user(const struct users *u, const struct user *user)
{
	ASSERT(users_find(u, user->name) == user);
	ASSERT(strlen(user->name) <= USERS_NAME_MAX);
	ASSERT(user->secret.len == strlen(user->secret.text) && user->secret.len <= SECRET_MAX);
	ASSERT((user->secret.type == SECRET_EMPTY) == (user->secret.len == 0));
	ASSERT((user->secret.type == SECRET_SCRAM) == (user->secret.scram != NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct users *u;
	struct users *again;
	char err[128];
	int rc = users_parse(slice_make(data, size), "fuzz", &u, err, sizeof(err));
	char *text = xmalloc(2 * size + 1);
	size_t n = 0;

	ASSERT((rc == 0) == (err[0] == '\0'));
	for (size_t i = 0; i < users_count(u); i++) {
		fuzz_check_user(u, users_at(u, i));
		ASSERT(i == 0 || strcmp(users_at(u, i - 1)->name, users_at(u, i)->name) < 0);
		n += fuzz_quote(text + n, users_at(u, i)->name);
		text[n++] = ' ';
		n += fuzz_quote(text + n, users_at(u, i)->secret.text);
		text[n++] = '\n';
		ASSERT(n <= 2 * size + 1);
	}
	ASSERT(users_parse(slice_make(text, n), "again", &again, err, sizeof(err)) == 0);
	ASSERT(users_count(again) == users_count(u));
	for (size_t i = 0; i < users_count(u); i++) {
		ASSERT(strcmp(users_at(again, i)->name, users_at(u, i)->name) == 0);
		ASSERT(strcmp(users_at(again, i)->secret.text, users_at(u, i)->secret.text) == 0);
	}
	free(text);
	users_release(&u);
	users_release(&again);
	return 0;
}
