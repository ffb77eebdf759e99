/*
 * The first packet of a connection, as an unknown peer sends it. The walks
 * over the lists must agree with the counts, and stay inside of the packet.
 */
#include "fuzz.h"

#include "proto/startup.h"

static void fuzz_options(struct slice options)
{
	char *word = malloc(options.n + 1);
	struct startup_options it;
	struct slice name, value;
	size_t total = 0;

	if (word == NULL)
		return;
	startup_options_init(&it, options, word, options.n);
	while (startup_options_next(&it, &name, &value)) {
		ASSERT(name.n > 0);
		ASSERT(fuzz_is_inside(name, slice_make(word, options.n)));
		ASSERT(value.n == 0 || fuzz_is_inside(value, slice_make(word, options.n)));
		total += name.n + value.n + 3;
	}
	ASSERT(total <= options.n);
	ASSERT(it.err == STARTUP_OK || it.err == STARTUP_E_OPTION_SYNTAX);
	free(word);
}

static void fuzz_session(struct slice packet, const struct startup_head *head)
{
	struct startup s;
	struct slice name, value;
	unsigned params = 0, extensions = 0;
	size_t at = 0;
	enum startup_err err = startup_parse(packet.p, head, &s);

	if (err != STARTUP_OK) {
		ASSERT(err == STARTUP_E_LAYOUT || err == STARTUP_E_TOO_MANY);
		return;
	}
	ASSERT(fuzz_is_inside(s.user, packet) && fuzz_is_inside(s.database, packet));
	ASSERT(fuzz_is_inside(s.options, packet) && fuzz_is_inside(s.application_name, packet));
	while (startup_params_next(&s, &at, &name, &value)) {
		ASSERT(name.n > 0 && fuzz_is_inside(name, packet) && fuzz_is_inside(value, packet));
		params++;
	}
	at = 0;
	while (startup_extensions_next(&s, &at, &name)) {
		ASSERT(name.n >= 5 && fuzz_is_inside(name, packet));
		extensions++;
	}
	ASSERT(params == s.n_params && extensions == s.n_extensions);
	ASSERT((startup_check_user(&s) == STARTUP_E_NO_USER) == (s.user.n == 0));
	fuzz_options(s.options);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice packet = slice_make(data, size);
	struct startup_head head;
	char text[256];

	if (startup_peek(data, size, &head) != 0) {
		(void)startup_err_text(STARTUP_E_HEADER, packet, text, sizeof(text));
		return 0;
	}
	ASSERT((head.kind == STARTUP_BAD) == (head.err != STARTUP_OK));
	ASSERT(head.total >= STARTUP_HEADER && head.total <= STARTUP_MAX);
	(void)startup_err_text(head.err, packet, text, sizeof(text));
	if (size < head.total)
		return 0;
	packet.n = head.total;
	if (head.kind == STARTUP_SESSION)
		fuzz_session(packet, &head);
	else if (head.kind == STARTUP_CANCEL)
		ASSERT(fuzz_is_inside(startup_cancel_key(packet.p, &head), packet));
	return 0;
}
