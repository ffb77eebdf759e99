/*
 * The SCRAM side that faces clients, with a nonce that is always the same, so
 * that inputs can reach the end. The input is client-first, a newline, and
 * client-final; a '+' in front offers channel binding, which the client has
 * chosen, and a '?' offers it to a client that has not. No proof may pass that does not contain the client's key.
 */
#include "fuzz.h"

#include "auth/crypto.h"
#include "auth/scram.h"

#define VERIFIER                                                                                    \
	"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice input = slice_make(data, size);
	bool is_offered = size > 0 && (data[0] == '+' || data[0] == '?');
	bool is_plus = is_offered && fuzz_take(&input, 1).p[0] == '+';
	const char *end = input.n == 0 ? NULL : memchr(input.p, '\n', input.n);
	struct slice first = fuzz_take(&input, end == NULL ? input.n : (size_t)(end - input.p));
	struct scram_verifier *v = scram_verifier_parse(slice_of(VERIFIER));
	struct scram_server *s = scram_server_new(v, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
	uint8_t stored_key[SCRAM_KEY_LEN];
	struct slice out;
	int rc;

	if (is_offered)
		scram_server_bind(s, slice_of("hash"));
	rc = scram_server_first(s, is_plus, first, &out);
	fuzz_take(&input, 1);
	if (rc == 0) {
		/* Whoever has chosen to bind has said so, and whoever was offered it cannot say that it was not. */
		ASSERT((first.p[0] == 'p') == is_plus && (first.p[0] != 'y' || !is_offered));
		ASSERT(out.n > 2 && memcmp(out.p, "r=", 2) == 0 && out.n < SCRAM_MESSAGE_MAX + 100);
		rc = scram_server_final(s, input, &out);
		ASSERT((rc == 0) == (scram_server_keys(s) != NULL));
	}
	if (rc == 0) {
		ASSERT(out.n == 46 && memcmp(out.p, "v=", 2) == 0);
		ASSERT(crypto_sha256(scram_server_keys(s)->client_key, SCRAM_KEY_LEN, stored_key) == 0);
		ASSERT(memcmp(stored_key, v->stored_key, SCRAM_KEY_LEN) == 0);
	}
	scram_verifier_free(&v);
	scram_server_free(&s);
	return 0;
}
