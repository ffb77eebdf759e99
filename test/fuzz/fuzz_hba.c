/*
 * Files of rules. The first byte chooses the client, the rest is the file.
 *
 * Whatever the text is: the strict form takes nothing that the other one finds
 * wrong; a set of rules is equal to itself read again; and adding a line that
 * rejects everybody in front lets nobody in.
 */
#include "fuzz.h"

#include "auth/hba.h"
#include "core/alloc.h"

struct fuzz_file {
	struct slice text;
	unsigned reads;
};

/* Every file that is included is the text itself, some times; then there are none. */
static int fuzz_read(void *ctx, const char *path, size_t max, char **text, size_t *len)
{
	struct fuzz_file *file = ctx;

	if (file->text.n > max || ++file->reads > 6) {
		errno = ENOENT;
		return -E_SYS;
	}
	ASSERT(path[0] != '\0');
	*len = file->text.n;
	*text = xmalloc(*len + 1);
	if (*len > 0)
		memcpy(*text, file->text.p, *len);
	return 0;
}

static int fuzz_list(void *ctx UNUSED, const char *path UNUSED, char ***names, size_t *count)
{
	*names = xcalloc(1, sizeof(**names));
	(*names)[0] = xstrdup("a.conf");
	*count = 1;
	return 0;
}

static void fuzz_say(void *ctx, enum log_level level UNUSED, const char *text, const char *hint UNUSED)
{
	ASSERT(text[0] != '\0');
	if (strstr(text, "could not parse") != NULL)
		++*(unsigned *)ctx;
}

/* NULL when the file is refused; *faults is the number of lines that were. */
static struct hba *fuzz_load(struct slice text, bool is_strict, unsigned *faults)
{
	struct fuzz_file file = { text, 0 };
	struct rulefile_io io = { fuzz_read, fuzz_list, &file };
	struct rule_report report = { is_strict, fuzz_say, faults };
	struct ident *ident = NULL;
	struct hba *hba = NULL;
	int rc;

	*faults = 0;
	rc = ident_load(&io, "", &report, &ident);
	ASSERT(rc == 0);
	rc = hba_load(&io, "d/hba", ident, &report, &hba);
	ident_release(&ident);
	ASSERT((rc == 0) == (hba != NULL));
	ASSERT(rc == 0 || (is_strict && *faults > 0));
	return hba;
}

static enum rule_answer fuzz_ask(void *ctx, const char *name)
{
	ASSERT(name[0] != '\0');
	return *(enum rule_answer *)ctx;
}

static bool fuzz_ask_own(void *ctx, bool whole_net)
{
	return whole_net && *(enum rule_answer *)ctx == RULE_YES;
}

static void fuzz_facts(struct hba_facts *facts, uint8_t choice)
{
	static const char *const names[] = { "joe", "app" };

	*facts = (struct hba_facts){
		.database = names[choice & 1],
		.user = "joe",
		.replication = (enum hba_replication)((choice >> 1) % 3),
		.is_unix = (choice & 8) != 0,
		.is_tls = (choice & 16) != 0,
		.ip = { 192, 0, 2, 7 },
		.ip_len = (choice & 8) != 0    ? 0
			  : (choice & 32) != 0 ? 16
					       : 4,
		.ask_group = fuzz_ask,
		.ask_host = fuzz_ask,
		.ask_own = fuzz_ask_own,
	};
}

static enum hba_verdict fuzz_match(const struct hba *hba, uint8_t choice, const struct hba_demand **demand)
{
	enum rule_answer answer = (enum rule_answer)(choice >> 6);
	struct hba_facts facts;

	fuzz_facts(&facts, choice);
	facts.ctx = &answer;
	return hba_match(hba, &facts, demand);
}

/* Who is let in must have been taken for possible. */
static void fuzz_check_open(const struct hba *hba, uint8_t choice)
{
	const struct hba_demand *demand = NULL;
	enum hba_verdict verdict = fuzz_match(hba, choice, &demand);
	struct hba_facts facts;

	fuzz_facts(&facts, choice);
	ASSERT(hba_may_admit(hba, &facts) || verdict != HBA_FOUND || demand->method == AUTH_METHOD_REJECT);
}

static void fuzz_check_demand(const struct hba_demand *demand)
{
	ASSERT(demand->method < AUTH_METHOD_COUNT && demand->method != AUTH_METHOD_ANY);
	ASSERT(demand->line > 0 && demand->file != NULL);
}

/* A line in front that keeps everybody out. */
static void fuzz_check_closed(struct slice text, uint8_t choice)
{
	static const char front[] = "everything reject\n";
	const struct hba_demand *demand = NULL;
	struct hba *hba;
	char *closed = xmalloc(sizeof(front) + text.n);
	unsigned faults;

	memcpy(closed, front, sizeof(front) - 1);
	if (text.n > 0)
		memcpy(closed + sizeof(front) - 1, text.p, text.n);
	hba = fuzz_load(slice_make(closed, sizeof(front) - 1 + text.n), false, &faults);
	ASSERT(fuzz_match(hba, choice, &demand) == HBA_FOUND && demand->method == AUTH_METHOD_REJECT);
	hba_release(&hba);
	free(closed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = slice_make(data, size);
	uint8_t choice = fuzz_take_u8(&text);
	const struct hba_demand *demand = NULL;
	unsigned faults;
	unsigned strict_faults;
	struct hba *hba = fuzz_load(text, false, &faults);
	struct hba *again = fuzz_load(text, false, &faults);
	struct hba *strict = fuzz_load(text, true, &strict_faults);

	ASSERT(hba_is_equal(hba, again));
	ASSERT(strict_faults >= faults && (strict == NULL) == (strict_faults > 0));
	if (fuzz_match(hba, choice, &demand) == HBA_FOUND)
		fuzz_check_demand(demand);
	fuzz_check_open(hba, choice);
	if (strict != NULL && fuzz_match(strict, choice, &demand) == HBA_FOUND)
		fuzz_check_demand(demand);
	fuzz_check_closed(text, choice);
	hba_release(&hba);
	hba_release(&again);
	hba_release(&strict);
	return 0;
}
