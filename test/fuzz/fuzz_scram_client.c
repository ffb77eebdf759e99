/*
 * The SCRAM side that faces servers, with a nonce that is always the same. The
 * input is server-first, a newline, and server-final. Keys instead of a
 * password save the derivation, whose length the input would choose.
 */
#include "fuzz.h"

#include "auth/scram.h"

#define NONCE "rOprNGfwEbeRWgbNEkqO"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char begin[] = "c=biws,r=" NONCE;
	static const struct scram_keys keys;
	struct slice input = slice_make(data, size);
	const char *end = size == 0 ? NULL : memchr(data, '\n', size);
	struct slice first = fuzz_take(&input, end == NULL ? size : (size_t)(end - input.p));
	struct scram_client *c = scram_client_new("", slice_make(NULL, 0), &keys, NONCE);
	struct slice out;
	int rc;

	fuzz_take(&input, 1);
	scram_client_first(c, &out);
	ASSERT(slice_eq_str(out, "n,,n=,r=" NONCE));
	rc = scram_client_final(c, first, &out);
	ASSERT(rc == 0 || rc == -E_PROTO || rc == -E_RANGE);
	if (rc == 0) {
		ASSERT(out.n > sizeof(begin) && memcmp(out.p, begin, sizeof(begin) - 1) == 0);
		ASSERT(out.n <= first.n + 60);
		rc = scram_client_verify(c, input);
		ASSERT(rc == 0 || rc == -E_PROTO || rc == -E_AUTH);
		ASSERT(rc != 0 || input.n == 46);
	}
	scram_client_free(&c);
	return 0;
}
