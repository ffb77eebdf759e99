/*
 * The answer to a look-up by query, from a server that may say anything. The
 * first byte chooses what was asked for; the rest are messages in a row, of
 * which one that lies about its length ends the input. Whatever comes, an
 * answer that is found has a name, and a failure has a text.
 */
#include "fuzz.h"

#include "auth/secret.h"
#include "auth/users.h"
#include "core/err.h"
#include "pool/auth_cache.h"
#include "pool/auth_reply.h"

static void fuzz_check(struct auth_reply *reply, enum auth_reply_verdict verdict)
{
	struct auth_answer *answer;

	switch (reply->outcome) {
	case AUTH_OUTCOME_FOUND:
		ASSERT(reply->kind == AUTH_KIND_ROLES || (reply->name != NULL && reply->name[0] != '\0'));
		ASSERT(reply->name == NULL || strlen(reply->name) <= USERS_NAME_MAX);
		ASSERT(reply->secret == NULL || strlen(reply->secret) <= SECRET_MAX);
		ASSERT(reply->role_count <= AUTH_REPLY_ROLES_MAX);
		ASSERT(verdict == AUTH_REPLY_MORE || verdict == AUTH_REPLY_READY);
		break;
	case AUTH_OUTCOME_NONE:
		ASSERT(reply->name == NULL && reply->role_count == 0 && verdict != AUTH_REPLY_BROKEN);
		break;
	case AUTH_OUTCOME_FAILED:
	case AUTH_OUTCOME_DOWN:
		break;
	}
	if (verdict != AUTH_REPLY_READY && verdict != AUTH_REPLY_BROKEN)
		return;
	answer = auth_answer_new(reply);
	ASSERT(!auth_answer_has_role(answer, ""));
	auth_answer_release(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum auth_reply_verdict verdict = AUTH_REPLY_MORE;
	struct auth_reply reply = { .kind = AUTH_KIND_USER };
	struct frame f;
	size_t at = 1;

	if (size == 0)
		return 0;
	if (data[0] % 2 != 0)
		reply.kind = AUTH_KIND_ROLES;
	while (verdict == AUTH_REPLY_MORE && frame_read(data + at, size - at, AUTH_REPLY_MESSAGE_MAX, &f) == 0 &&
	       f.size <= size - at) {
		at += (size_t)f.size;
		verdict = auth_reply_feed(&reply, f.type,
					  slice_make(data + at - f.size + FRAME_HEADER, (size_t)f.size - FRAME_HEADER));
		if (verdict == AUTH_REPLY_NO_SCHEMA) {
			auth_reply_again(&reply);
			verdict = AUTH_REPLY_MORE;
		}
	}
	fuzz_check(&reply, verdict);
	auth_reply_fini(&reply);
	return 0;
}
