/*
 * The SCRAM side that faces servers, with a nonce that is always the same. The
 * input is server-first, a newline, and server-final; a '+' in front binds the
 * exchange to a channel, and a '?' says that we could. Keys instead of a
 * password save the derivation, whose length the input would choose.
 */
#include "fuzz.h"

#include "auth/scram.h"

#define NONCE "rOprNGfwEbeRWgbNEkqO"

static enum scram_flag fuzz_take_flag(struct slice *input)
{
	if (input->n > 0 && (input->p[0] == '+' || input->p[0] == '?'))
		return fuzz_take(input, 1).p[0] == '+' ? SCRAM_FLAG_BOUND : SCRAM_FLAG_COULD;
	return SCRAM_FLAG_NONE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const begins[] = {
		[SCRAM_FLAG_NONE] = "c=biws,r=" NONCE,
		[SCRAM_FLAG_COULD] = "c=eSws,r=" NONCE,
		[SCRAM_FLAG_BOUND] = "c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsaGFzaA==,r=" NONCE,
	};
	static const struct scram_keys keys;
	struct slice input = slice_make(data, size);
	enum scram_flag flag = fuzz_take_flag(&input);
	const char *end = input.n == 0 ? NULL : memchr(input.p, '\n', input.n);
	struct slice first = fuzz_take(&input, end == NULL ? input.n : (size_t)(end - input.p));
	struct scram_client *c = scram_client_new("", slice_make(NULL, 0), &keys, NONCE);
	size_t n = strlen(begins[flag]);
	struct slice out;
	int rc;

	fuzz_take(&input, 1);
	scram_client_bind(c, flag, slice_of("hash"));
	scram_client_first(c, &out);
	ASSERT(out.n > strlen("n=,r=" NONCE) &&
	       memcmp(out.p + out.n - strlen("n=,r=" NONCE), "n=,r=" NONCE, strlen("n=,r=" NONCE)) == 0);
	rc = scram_client_final(c, first, &out);
	ASSERT(rc == 0 || rc == -E_PROTO || rc == -E_RANGE);
	if (rc == 0) {
		ASSERT(out.n > n && memcmp(out.p, begins[flag], n) == 0);
		ASSERT(out.n <= first.n + 100);
		rc = scram_client_verify(c, input);
		ASSERT(rc == 0 || rc == -E_PROTO || rc == -E_AUTH);
		ASSERT(rc != 0 || input.n == 46);
	}
	scram_client_free(&c);
	return 0;
}
