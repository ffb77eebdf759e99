/* Any datagram as the answer to a question for a serial; the first byte says how much of a good head it gets. */
#include "fuzz.h"

#include "net/soa.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_make((const char *)data, size);
	uint8_t question[SOA_MESSAGE_MAX];
	uint8_t answer[SOA_MESSAGE_MAX];
	int q_len = soa_build(question, 1, "example.test");
	size_t keep = fuzz_take_u8(&in) % ((size_t)q_len + 1);
	size_t rest = in.n < sizeof(answer) - keep ? in.n : sizeof(answer) - keep;
	uint32_t serial;
	uint8_t *exact;
	int err;

	memcpy(answer, question, keep);
	if (keep > 2)
		answer[2] = 0x80;
	if (rest > 0)
		memcpy(answer + keep, in.p, rest);
	if (keep > 7)
		answer[7] = (uint8_t)size;
	exact = malloc(keep + rest + 1); /* so that one byte too far is seen */
	memcpy(exact, answer, keep + rest);
	err = soa_parse(exact, keep + rest, question, (size_t)q_len, &serial);
	ASSERT(err <= 0);
	free(exact);
	return 0;
}
