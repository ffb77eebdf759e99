/*
 * The rules in use: their life, and which of them matches.
 *
 * Rules are tried in order, and the first one that matches decides, also when
 * its method then fails. So a rule that cannot be decided must not be passed
 * over lightly, as one below it may be weaker:
 *
 *   - whether a user is in a group: nobody gets in while that cannot be known
 *   - whether an address has a name: as in PostgreSQL the rule does not match
 *     when name servers fail, except one that rejects, which then does
 *
 * Within a rule what is at hand is compared first, groups are asked for then,
 * and names of hosts last.
 *
 * Under [pgbouncer] a line that cannot be read is skipped, as PgBouncer does
 * it, except one with the word reject: of that the part in front of the fault
 * counts, and everything behind it is "all". Whoever was to be kept out stays out.
 */
#include "auth/hba.h"

#include "auth/hba_int.h"
#include "core/alloc.h"
#include "core/str.h"

#define HBA_MAGIC 0x48424152U

struct hba {
	unsigned magic;
	atomic_uint refs;
	struct rulefile source; /* owns the strings */
	struct ident *ident;    /* NULL: without rules */
	struct hba_rule *rules;
	size_t count;
};

/* ---- life ---- */

struct hba *hba_new_empty(void)
{
	struct hba *hba = xcalloc(1, sizeof(*hba));

	hba->magic = HBA_MAGIC;
	atomic_init(&hba->refs, 1);
	return hba;
}

struct hba *hba_hold(struct hba *hba)
{
	CHECK_OBJ(hba, HBA_MAGIC);
	atomic_fetch_add_explicit(&hba->refs, 1, memory_order_relaxed);
	return hba;
}

void hba_fini_list(struct hba_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		pattern_free(&list->names[i].pattern);
	free(list->names);
	*list = (struct hba_list){ 0 };
}

void hba_fini_rule(struct hba_rule *rule)
{
	hba_fini_list(&rule->databases);
	hba_fini_list(&rule->users);
	ldap_options_release(&rule->demand.ldap);
}

static void hba_free(struct hba *hba)
{
	for (size_t i = 0; i < hba->count; i++)
		hba_fini_rule(&hba->rules[i]);
	free(hba->rules);
	rulefile_fini(&hba->source);
	ident_release(&hba->ident);
	hba->magic = 0;
	free(hba);
}

void hba_release(struct hba **hp)
{
	struct hba *hba = *hp;

	*hp = NULL;
	if (hba == NULL)
		return;
	CHECK_OBJ(hba, HBA_MAGIC);
	if (atomic_fetch_sub_explicit(&hba->refs, 1, memory_order_acq_rel) == 1)
		hba_free(hba);
}

const struct ident *hba_ident(const struct hba *hba)
{
	CHECK_OBJ(hba, HBA_MAGIC);
	return hba->ident;
}

size_t hba_count(const struct hba *hba)
{
	CHECK_OBJ(hba, HBA_MAGIC);
	return hba->count;
}

const struct hba_demand *hba_first_cert(const struct hba *hba)
{
	CHECK_OBJ(hba, HBA_MAGIC);
	for (size_t i = 0; i < hba->count; i++) {
		const struct hba_demand *demand = &hba->rules[i].demand;

		if (demand->method == AUTH_METHOD_CERT || demand->clientcert != HBA_CLIENTCERT_ANY)
			return demand;
	}
	return NULL;
}

bool hba_is_equal(const struct hba *a, const struct hba *b)
{
	CHECK_OBJ(a, HBA_MAGIC);
	CHECK_OBJ(b, HBA_MAGIC);
	if (!rulefile_is_equal(&a->source, &b->source) || (a->ident == NULL) != (b->ident == NULL))
		return false;
	return a->ident == NULL || ident_is_equal(a->ident, b->ident);
}

/* ---- loading ---- */

static void hba_say(const struct rule_report *report, enum log_level level, const struct rulefile_line *line,
		    const char *what, const char *hint)
{
	char text[1024];

	str_format(text, sizeof(text), "hba config line %u of %s: %s", line->number, line->file, what);
	report->say(report->ctx, level, text, hint);
}

/* Reads a line, and appends its rule if it gives one. False when the line refuses the file. */
static bool hba_take_line(struct hba *hba, const struct rulefile_line *line, const struct rule_report *report)
{
	struct hba_rule *rule = &hba->rules[hba->count];
	struct hba_reader r = { .line = line, .ident = hba->ident, .is_strict = report->is_strict, .rule = rule };
	char text[1024];

	if (hba_parse_line(&r)) {
		if (strcmp(line->file, hba->source.files[0]) != 0)
			r.beyond = "it stands in an included file";
		if (r.warning[0] != '\0')
			hba_say(report, LOG_LVL_WARNING, line, r.warning, NULL);
		if (r.beyond != NULL && !report->is_strict) {
			str_format(text, sizeof(text), "PgBouncer would skip it, here it counts: %s", r.beyond);
			hba_say(report, LOG_LVL_WARNING, line, text, NULL);
		}
		hba->count++;
		return true;
	}
	str_format(text, sizeof(text), "could not parse hba config line %u of %s: %s", line->number, line->file,
		   r.fault.what);
	report->say(report->ctx, report->is_strict ? LOG_LVL_ERROR : LOG_LVL_WARNING, text,
		    r.fault.hint[0] == '\0' ? NULL : r.fault.hint);
	if (report->is_strict || !hba_parse_reject(&r)) {
		hba_fini_rule(rule);
		*rule = (struct hba_rule){ 0 };
		return !report->is_strict;
	}
	hba_say(report, LOG_LVL_WARNING, line, "it is taken to reject everybody whom it could mean", NULL);
	hba->count++;
	return true;
}

int hba_load(const struct rulefile_io *io, const char *path, struct ident *ident, const struct rule_report *report,
	     struct hba **out)
{
	struct hba *hba;
	char text[512];
	int rc = 0;

	if (path[0] == '\0') {
		report->say(report->ctx, LOG_LVL_ERROR, "auth_type is hba, but auth_hba_file is not set",
			    "set auth_hba_file to the path of a file with rules such as \"host all all 10.0.0.0/8 "
			    "scram-sha-256\", or choose another auth_type");
		return -E_SYS;
	}
	hba = hba_new_empty();
	hba->ident = ident_hold(ident);
	if (rulefile_read(io, path, &hba->source) < 0) {
		str_format(text, sizeof(text), "could not open hba config file %s: %s", path, strerror(errno));
		report->say(report->ctx, LOG_LVL_ERROR, text, NULL);
		hba_free(hba);
		return -E_SYS;
	}
	hba->rules = xcalloc(hba->source.count, sizeof(*hba->rules));
	for (size_t i = 0; i < hba->source.count; i++) {
		if (!hba_take_line(hba, &hba->source.lines[i], report))
			rc = -E_SYNTAX;
	}
	if (rc < 0)
		hba_free(hba);
	else
		*out = hba;
	return rc;
}

/* ---- matching ---- */

static enum rule_answer hba_answer(bool yes)
{
	return yes ? RULE_YES : RULE_NO;
}

/* Of two alternatives: a yes settles it, and what is not known may still become one. */
static enum rule_answer hba_either(enum rule_answer a, enum rule_answer b)
{
	static const unsigned weight[] = { [RULE_NO] = 0, [RULE_FAILED] = 1, [RULE_UNKNOWN] = 2, [RULE_YES] = 3 };

	return weight[a] >= weight[b] ? a : b;
}

/* Whether the user is in a group; everybody is in the one of the own name. */
static enum rule_answer hba_is_member(const struct hba_facts *facts, const char *group)
{
	if (strcmp(facts->user, group) == 0)
		return RULE_YES;
	return facts->ask_group(facts->ctx, group);
}

static enum rule_answer hba_matches_name(const struct hba_name *name, const char *word, const struct hba_facts *facts)
{
	switch (name->kind) {
	case HBA_NAME_ALL:
	case HBA_NAME_ANYTHING:
		return RULE_YES;
	case HBA_NAME_SAMEUSER:
		return hba_answer(strcmp(facts->database, facts->user) == 0);
	case HBA_NAME_SAMEROLE:
		return hba_is_member(facts, facts->database);
	case HBA_NAME_REPLICATION:
		return RULE_NO;
	case HBA_NAME_GROUP:
		return hba_is_member(facts, name->text);
	case HBA_NAME_PATTERN:
		return hba_answer(pattern_matches(name->pattern, word, NULL));
	case HBA_NAME_EXACT:
		return hba_answer(strcmp(name->text, word) == 0);
	}
	UNREACHABLE();
}

static enum rule_answer hba_matches_list(const struct hba_list *list, const char *word, const struct hba_facts *facts)
{
	enum rule_answer best = RULE_NO;

	for (size_t i = 0; i < list->count && best != RULE_YES; i++)
		best = hba_either(best, hba_matches_name(&list->names[i], word, facts));
	return best;
}

static enum rule_answer hba_matches_database(const struct hba_rule *rule, const struct hba_facts *facts)
{
	if (facts->replication != HBA_REPLICATION_PHYSICAL)
		return hba_matches_list(&rule->databases, facts->database, facts);
	for (size_t i = 0; i < rule->databases.count; i++) {
		enum hba_name_kind kind = rule->databases.names[i].kind;

		if (kind == HBA_NAME_REPLICATION || kind == HBA_NAME_ANYTHING)
			return RULE_YES;
	}
	return RULE_NO;
}

static bool hba_matches_type(enum hba_type type, const struct hba_facts *facts)
{
	switch (type) {
	case HBA_LOCAL:
		return facts->is_unix;
	case HBA_HOST:
	case HBA_HOSTNOGSSENC: /* GSSAPI encryption is never in use */
		return !facts->is_unix;
	case HBA_HOSTSSL:
		return !facts->is_unix && facts->is_tls;
	case HBA_HOSTNOSSL:
		return !facts->is_unix && !facts->is_tls;
	case HBA_HOSTGSSENC:
		return false;
	case HBA_ANYWHERE:
		return true;
	}
	UNREACHABLE();
}

static bool hba_matches_net(const struct hba_addr *addr, const struct hba_facts *facts)
{
	if (addr->len != facts->ip_len)
		return false;
	for (unsigned i = 0; i < addr->len; i++) {
		if (((addr->net[i] ^ facts->ip[i]) & addr->mask[i]) != 0)
			return false;
	}
	return true;
}

/* The part of the address that needs nobody else; a host name is open. */
static bool hba_may_match_addr(const struct hba_addr *addr, const struct hba_facts *facts)
{
	switch (addr->kind) {
	case HBA_ADDR_ALL:
		return true;
	case HBA_ADDR_NOTHING:
		return false;
	case HBA_ADDR_NET:
		return hba_matches_net(addr, facts);
	case HBA_ADDR_SAMEHOST:
	case HBA_ADDR_SAMENET:
	case HBA_ADDR_HOST:
		return facts->ip_len > 0;
	}
	UNREACHABLE();
}

static enum rule_answer hba_asks_addr(const struct hba_addr *addr, const struct hba_facts *facts)
{
	switch (addr->kind) {
	case HBA_ADDR_SAMEHOST:
	case HBA_ADDR_SAMENET:
		return hba_answer(facts->ask_own(facts->ctx, addr->kind == HBA_ADDR_SAMENET));
	case HBA_ADDR_HOST:
		return facts->ask_host(facts->ctx, addr->name);
	default:
		return RULE_YES;
	}
}

/* RULE_FAILED: the groups are not to be had. */
static enum rule_answer hba_matches_rule(const struct hba_rule *rule, const struct hba_facts *facts)
{
	enum rule_answer database;
	enum rule_answer user;
	enum rule_answer host;

	if (!hba_matches_type(rule->type, facts) || !hba_may_match_addr(&rule->addr, facts))
		return RULE_NO;
	database = hba_matches_database(rule, facts);
	user = database == RULE_NO ? RULE_NO : hba_matches_list(&rule->users, facts->user, facts);
	if (database == RULE_NO || user == RULE_NO)
		return RULE_NO;
	if (database == RULE_UNKNOWN || user == RULE_UNKNOWN)
		return RULE_UNKNOWN;
	host = hba_asks_addr(&rule->addr, facts);
	if (host == RULE_FAILED)
		host = hba_answer(rule->demand.method == AUTH_METHOD_REJECT);
	if (host != RULE_YES)
		return host;
	return database == RULE_FAILED || user == RULE_FAILED ? RULE_FAILED : RULE_YES;
}

enum hba_verdict hba_match(const struct hba *hba, const struct hba_facts *facts, const struct hba_demand **demand)
{
	CHECK_OBJ(hba, HBA_MAGIC);
	for (size_t i = 0; i < hba->count; i++) {
		switch (hba_matches_rule(&hba->rules[i], facts)) {
		case RULE_NO:
			continue;
		case RULE_YES:
			*demand = &hba->rules[i].demand;
			return HBA_FOUND;
		case RULE_UNKNOWN:
			return HBA_ASK;
		case RULE_FAILED:
			return HBA_CANNOT_TELL;
		}
	}
	return HBA_NONE;
}

/* ---- whoever it is ---- */

/* A name in a list held against a word; NULL stands for all that it might be. Nothing is asked. */
static enum rule_answer hba_covers_name(const struct hba_name *name, const char *word)
{
	switch (name->kind) {
	case HBA_NAME_ALL:
	case HBA_NAME_ANYTHING:
		return RULE_YES;
	case HBA_NAME_REPLICATION:
		return RULE_NO;
	case HBA_NAME_SAMEUSER:
	case HBA_NAME_SAMEROLE:
	case HBA_NAME_GROUP:
		return RULE_UNKNOWN;
	case HBA_NAME_PATTERN:
		return word == NULL ? RULE_UNKNOWN : hba_answer(pattern_matches(name->pattern, word, NULL));
	case HBA_NAME_EXACT:
		return word == NULL ? RULE_UNKNOWN : hba_answer(strcmp(name->text, word) == 0);
	}
	UNREACHABLE();
}

static enum rule_answer hba_covers_list(const struct hba_list *list, const char *word)
{
	enum rule_answer best = RULE_NO;

	for (size_t i = 0; i < list->count && best != RULE_YES; i++)
		best = hba_either(best, hba_covers_name(&list->names[i], word));
	return best;
}

/* RULE_YES: the rule matches every user; RULE_NO: none. */
static enum rule_answer hba_covers(const struct hba_rule *rule, const struct hba_facts *facts)
{
	bool is_physical = facts->replication == HBA_REPLICATION_PHYSICAL;
	bool is_open = rule->addr.kind != HBA_ADDR_ALL && rule->addr.kind != HBA_ADDR_NET;
	enum rule_answer database;
	enum rule_answer user;

	if (!hba_matches_type(rule->type, facts) || !hba_may_match_addr(&rule->addr, facts))
		return RULE_NO;
	database = is_physical ? hba_matches_database(rule, facts) : hba_covers_list(&rule->databases, facts->database);
	user = hba_covers_list(&rule->users, NULL);
	if (database == RULE_NO || user == RULE_NO)
		return RULE_NO;
	return database == RULE_YES && user == RULE_YES && !is_open ? RULE_YES : RULE_UNKNOWN;
}

bool hba_may_admit(const struct hba *hba, const struct hba_facts *facts)
{
	CHECK_OBJ(hba, HBA_MAGIC);
	for (size_t i = 0; i < hba->count; i++) {
		enum rule_answer covers = hba_covers(&hba->rules[i], facts);

		if (covers == RULE_NO)
			continue;
		if (hba->rules[i].demand.method != AUTH_METHOD_REJECT)
			return true;
		if (covers == RULE_YES)
			return false;
	}
	return false;
}
