/*
 * The maps of auth_ident_file. A line has three fields, and all lines of one
 * name are one map: any of them may match.
 *
 * The middle field may be a regular expression, and the last one may then say
 * \1 for what the first parentheses have matched. Whatever comes out of that is
 * a plain name: a certificate named "all" must not become everybody.
 */
#include "auth/ident.h"

#include <stdarg.h>

#include "auth/pattern.h"
#include "core/alloc.h"

#define IDENT_MAGIC    0x4944544eU
#define IDENT_NAME_MAX 127 /* bytes of a user's name */

enum ident_kind {
	IDENT_EXACT,
	IDENT_ALL,
	IDENT_GROUP,   /* `user` is its name */
	IDENT_PATTERN, /* user_pattern */
	IDENT_GROUPED, /* `user` has \1 in it */
};

struct ident_rule {
	const char *map;
	const char *name;             /* elsewhere, when there is no name_pattern */
	struct pattern *name_pattern; /* or NULL */
	enum ident_kind kind;
	const char *user;
	struct pattern *user_pattern;
};

struct ident {
	unsigned magic;
	atomic_uint refs;
	struct rulefile source; /* owns the strings */
	struct ident_rule *rules;
	size_t count;
};

/* What is wrong with a line, and what would be right. */
struct ident_fault {
	char what[512];
	const char *hint;
};

PRINTF_LIKE(3, 4)
static bool ident_fail(struct ident_fault *fault, const char *hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(fault->what, sizeof(fault->what), fmt, ap);
	va_end(ap);
	fault->hint = hint;
	return false;
}

static bool ident_compile(const char *text, struct pattern **out, struct ident_fault *fault)
{
	char err[256];

	if (pattern_new(text + 1, out, err, sizeof(err)) == 0)
		return true;
	return ident_fail(fault, "POSIX extended regular expressions are possible", "bad regular expression \"%s\": %s",
			  text, err);
}

static bool ident_parse_user(struct ident_rule *rule, const struct rulefile_word *word, struct ident_fault *fault)
{
	rule->user = word->text;
	if (!word->quoted && strcmp(word->text, "all") == 0) {
		rule->kind = IDENT_ALL;
	} else if (!word->quoted && word->text[0] == '+') {
		rule->kind = IDENT_GROUP;
		rule->user++;
		if (rule->user[0] == '\0')
			return ident_fail(fault, "+name", "no name of a group behind the +");
	} else if (word->text[0] == '/') {
		rule->kind = IDENT_PATTERN;
		return ident_compile(word->text, &rule->user_pattern, fault);
	} else if (rule->name_pattern != NULL && strstr(word->text, "\\1") != NULL) {
		rule->kind = IDENT_GROUPED;
		if (!pattern_has_group(rule->name_pattern))
			return ident_fail(fault, "put what \\1 stands for in parentheses",
					  "\\1 without parentheses in the expression");
	} else {
		rule->kind = IDENT_EXACT;
	}
	return true;
}

/* Reads a line into zeroed memory; false with the fault. What it holds is to be given back in any case. */
static bool ident_parse_line(const struct rulefile_line *line, struct ident_rule *rule, struct ident_fault *fault)
{
	if (line->fault != NULL)
		return ident_fail(fault, line->hint, "%s", line->fault);
	if (line->count != 3)
		return ident_fail(fault, "map name-elsewhere user", "%zu fields instead of three", line->count);
	for (size_t i = 0; i < line->count; i++) {
		if (line->fields[i].count != 1)
			return ident_fail(fault, "a line for each name", "a list of names");
		if (line->fields[i].words[0].text[0] == '\0')
			return ident_fail(fault, NULL, "an empty name");
	}
	rule->map = line->fields[0].words[0].text;
	rule->name = line->fields[1].words[0].text;
	if (rule->name[0] == '/' && !ident_compile(rule->name, &rule->name_pattern, fault))
		return false;
	return ident_parse_user(rule, &line->fields[2].words[0], fault);
}

static void ident_fini_rule(struct ident_rule *rule)
{
	pattern_free(&rule->name_pattern);
	pattern_free(&rule->user_pattern);
}

static void ident_free(struct ident *ident)
{
	for (size_t i = 0; i < ident->count; i++)
		ident_fini_rule(&ident->rules[i]);
	free(ident->rules);
	rulefile_fini(&ident->source);
	ident->magic = 0;
	free(ident);
}

static void ident_say_fault(const struct rule_report *report, const struct rulefile_line *line,
			    const struct ident_fault *fault)
{
	char text[1024];

	str_format(text, sizeof(text), "could not parse ident config line %u of %s: %s", line->number, line->file,
		   fault->what);
	report->say(report->ctx, report->is_strict ? LOG_LVL_ERROR : LOG_LVL_WARNING, text, fault->hint);
}

int ident_load(const struct rulefile_io *io, const char *path, const struct rule_report *report, struct ident **out)
{
	struct ident *ident = xcalloc(1, sizeof(*ident));
	char text[512];
	int rc = 0;

	ident->magic = IDENT_MAGIC;
	atomic_init(&ident->refs, 1);
	if (path[0] != '\0' && rulefile_read(io, path, &ident->source) < 0) {
		str_format(text, sizeof(text), "could not open ident config file %s: %s", path, strerror(errno));
		report->say(report->ctx, LOG_LVL_ERROR, text, NULL);
		ident_free(ident);
		return -E_SYS;
	}
	ident->rules = xcalloc(ident->source.count, sizeof(*ident->rules));
	for (size_t i = 0; i < ident->source.count; i++) {
		struct ident_fault fault;
		struct ident_rule *rule = &ident->rules[ident->count];

		if (ident_parse_line(&ident->source.lines[i], rule, &fault)) {
			ident->count++;
			continue;
		}
		ident_fini_rule(rule);
		*rule = (struct ident_rule){ 0 };
		ident_say_fault(report, &ident->source.lines[i], &fault);
		rc = report->is_strict ? -E_SYNTAX : 0;
	}
	if (rc < 0)
		ident_free(ident);
	else
		*out = ident;
	return rc;
}

struct ident *ident_hold(struct ident *ident)
{
	CHECK_OBJ(ident, IDENT_MAGIC);
	atomic_fetch_add_explicit(&ident->refs, 1, memory_order_relaxed);
	return ident;
}

void ident_release(struct ident **ip)
{
	struct ident *ident = *ip;

	*ip = NULL;
	if (ident == NULL)
		return;
	CHECK_OBJ(ident, IDENT_MAGIC);
	if (atomic_fetch_sub_explicit(&ident->refs, 1, memory_order_acq_rel) == 1)
		ident_free(ident);
}

bool ident_has_map(const struct ident *ident, const char *map)
{
	CHECK_OBJ(ident, IDENT_MAGIC);
	for (size_t i = 0; i < ident->count; i++) {
		if (strcmp(ident->rules[i].map, map) == 0)
			return true;
	}
	return false;
}

bool ident_is_equal(const struct ident *a, const struct ident *b)
{
	CHECK_OBJ(a, IDENT_MAGIC);
	CHECK_OBJ(b, IDENT_MAGIC);
	return rulefile_is_equal(&a->source, &b->source);
}

/* The user's name with what the parentheses have matched in the place of its first \1, compared. */
static bool ident_matches_grouped(const struct ident_rule *rule, struct slice group, const char *user)
{
	const char *at = strstr(rule->user, "\\1");
	char name[IDENT_NAME_MAX + 1] = "";

	return group.p != NULL &&
	       str_copy_slice(name, sizeof(name), slice_make(rule->user, (size_t)(at - rule->user))) &&
	       str_append(name, sizeof(name), "%.*s%s", (int)group.n, group.p, at + 2) && strcmp(name, user) == 0;
}

static bool ident_matches_name(const struct ident_rule *rule, const struct ident_question *q, struct slice *group)
{
	if (rule->name_pattern != NULL)
		return pattern_matches(rule->name_pattern, q->name, group);
	return q->ignore_case ? strcasecmp(rule->name, q->name) == 0 : strcmp(rule->name, q->name) == 0;
}

static enum rule_answer ident_matches_rule(const struct ident_rule *rule, const struct ident_question *q)
{
	struct slice group = { NULL, 0 };

	if (strcmp(rule->map, q->map) != 0 || !ident_matches_name(rule, q, &group))
		return RULE_NO;
	switch (rule->kind) {
	case IDENT_ALL:
		return RULE_YES;
	case IDENT_GROUP:
		return strcmp(rule->user, q->user) == 0 ? RULE_YES : q->ask(q->ctx, rule->user);
	case IDENT_PATTERN:
		return pattern_matches(rule->user_pattern, q->user, NULL) ? RULE_YES : RULE_NO;
	case IDENT_GROUPED:
		return ident_matches_grouped(rule, group, q->user) ? RULE_YES : RULE_NO;
	case IDENT_EXACT:
		return strcmp(rule->user, q->user) == 0 ? RULE_YES : RULE_NO;
	}
	UNREACHABLE();
}

enum rule_answer ident_matches(const struct ident *ident, const struct ident_question *q)
{
	enum rule_answer best = RULE_NO;

	CHECK_OBJ(ident, IDENT_MAGIC);
	for (size_t i = 0; i < ident->count; i++) {
		enum rule_answer answer = ident_matches_rule(&ident->rules[i], q);

		if (answer == RULE_YES)
			return RULE_YES;
		if (answer == RULE_UNKNOWN || (answer == RULE_FAILED && best == RULE_NO))
			best = answer;
	}
	return best;
}
