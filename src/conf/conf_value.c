/*
 * One setting: reading its text, showing it, copying and comparing it. All of
 * it works on the rows of CONF_TABLE, made here into an array with the offset
 * of each field; nothing below knows a setting by name, but for the few whose
 * values have a rule of their own at the end of the file.
 *
 * Numbers are read in C notation, as PgBouncer reads them: unix_socket_mode =
 * 0777 is octal because of its leading zero. Fractions need a decimal point;
 * the program never leaves the C locale.
 */
#include "conf/conf_int.h"

#include <math.h>

#include "core/alloc.h"
#include "core/clock.h"

/* clang-format off */
#define CONF_X_NAME(id, text) text,
#define X(list) const char *const conf_names_##list[] = { CONF_VALUES_##list(CONF_X_NAME) NULL };
CONF_VALUES_TABLE(X)
#undef X
#undef CONF_X_NAME
#define conf_names_NONE NULL

#define CONF_OFFSET_FLAG(name)  offsetof(struct conf, name)
#define CONF_OFFSET_INT(name)   offsetof(struct conf, name)
#define CONF_OFFSET_UINT(name)  offsetof(struct conf, name)
#define CONF_OFFSET_TIME(name)  offsetof(struct conf, name##_us)
#define CONF_OFFSET_ENUM(name)  offsetof(struct conf, name)
#define CONF_OFFSET_STR(name)   offsetof(struct conf, name)
#define CONF_OFFSET_WORDS(name) offsetof(struct conf, name)
#define CONF_OFFSET_CSV(name)   offsetof(struct conf, name)

const struct conf_row conf_rows[CONF_ID_COUNT] = {
#define X(group, type, name, def_pgbouncer, def_pgsluice, min, max, unit, values, flags, help)            \
	{ CONF_GROUP_##group, CONF_TYPE_##type, #name, { def_pgbouncer, def_pgsluice }, min, max, unit,    \
	  conf_names_##values, flags, help, CONF_OFFSET_##type(name) },
	CONF_TABLE(X)
#undef X
};

const char *const conf_group_titles[CONF_GROUP_COUNT] = {
#define X(id, title) title,
	CONF_GROUP_TABLE(X)
#undef X
};
/* clang-format on */

/* The field of a setting; the caller knows its type. */
static void *conf_value_field(const struct conf *conf, enum conf_id id)
{
	ASSERT(id < CONF_ID_COUNT);
	return (char *)(uintptr_t)conf + conf_rows[id].offset;
}

/* ---- lists ---- */

static bool conf_list_is_separator(char c, bool words)
{
	return c == ',' || (words && isspace((unsigned char)c));
}

void conf_list_parse(struct conf_list *list, const char *text, bool words)
{
	const char *p = text;

	*list = (struct conf_list){ .text = xstrdup(text) };
	while (p != NULL && *p != '\0') {
		const char *begin = p;
		struct slice item;

		while (*p != '\0' && !conf_list_is_separator(*p, words))
			p++;
		item = slice_trim(slice_make(begin, (size_t)(p - begin)));
		if (*p != '\0')
			p++;
		if (item.n == 0)
			continue;
		list->items = xrealloc(list->items, (list->count + 1) * sizeof(*list->items));
		list->items[list->count++] = slice_dup(item);
	}
}

void conf_list_free(struct conf_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	free(list->text);
	*list = (struct conf_list){ 0 };
}

bool conf_list_has(const struct conf_list *list, const char *item)
{
	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->items[i], item) == 0)
			return true;
	}
	return false;
}

/* ---- reading ---- */

int conf_value_find_name(const char *const *names, const char *text)
{
	for (int i = 0; names[i] != NULL; i++) {
		if (strcasecmp(names[i], text) == 0)
			return i;
	}
	return -1;
}

static int conf_value_read_number(const char *text, long long *out)
{
	char *end;

	errno = 0;
	*out = strtoll(text, &end, 0);
	if (end == text || *end != '\0')
		return -E_SYNTAX;
	return errno == 0 ? 0 : -E_RANGE;
}

static int conf_value_read_flag(const char *text, long long *out)
{
	static const char *const off_on[] = { "off", "on", "no", "yes", "false", "true", NULL };
	int i = conf_value_find_name(off_on, text);

	if (i < 0)
		return conf_value_read_number(text, out);
	*out = i % 2;
	return 0;
}

static int conf_value_read_seconds(const char *text, double *out)
{
	char *end;

	*out = strtod(text, &end);
	if (end == text || *end != '\0' || isnan(*out))
		return -E_SYNTAX;
	return 0;
}

/* The number that `text` stands for, in the row's range; a TIME in microseconds. */
static int conf_value_read_ranged(const struct conf_row *row, const char *text, long long *out)
{
	double seconds;
	int rc;

	if (row->type == CONF_TYPE_TIME) {
		rc = conf_value_read_seconds(text, &seconds);
		if (rc < 0)
			return rc;
		if (!(seconds >= (double)row->min && seconds <= (double)row->max))
			return -E_RANGE;
		*out = (long long)(seconds * (double)USEC_PER_SEC + 0.5);
		return 0;
	}
	if (row->type == CONF_TYPE_FLAG) {
		rc = conf_value_read_flag(text, out);
		return rc == 0 && (*out < INT_MIN || *out > INT_MAX) ? -E_RANGE : rc;
	}
	rc = conf_value_read_number(text, out);
	return rc == 0 && (*out < row->min || *out > row->max) ? -E_RANGE : rc;
}

/*
 * What stands for a number out of range where a warning is enough. PgBouncer
 * cuts it to 32 bits, by which a negative one without a sign is a large one.
 */
static long long conf_value_clamp(const struct conf_row *row, long long number, struct conf_error *err)
{
	bool is_large = number > row->max || (number < 0 && row->type == CONF_TYPE_UINT);
	long long near = is_large ? row->max : row->min;

	conf_error_log(err, LOG_LVL_WARNING, "%s is out of range, %lld is taken instead", row->name, near);
	return near;
}

/* What would be right for the setting, into `hint`. */
static void conf_value_describe(const struct conf_row *row, char *hint, size_t size)
{
	switch (row->type) {
	case CONF_TYPE_FLAG:
		str_format(hint, size, "%s is 0 or 1", row->name);
		break;
	case CONF_TYPE_INT:
	case CONF_TYPE_UINT:
		str_format(hint, size, "%s is a whole number from %lld to %lld%s%s", row->name, row->min, row->max,
			   row->unit[0] != '\0' ? ", in " : "", row->unit);
		break;
	case CONF_TYPE_TIME:
		str_format(hint, size, "%s is a number of seconds from %lld to %lld, without a unit", row->name,
			   row->min, row->max);
		break;
	case CONF_TYPE_ENUM:
		str_format(hint, size, "%s is one of: ", row->name);
		for (size_t i = 0; row->values[i] != NULL; i++)
			str_append(hint, size, "%s%s", i > 0 ? ", " : "", row->values[i]);
		break;
	case CONF_TYPE_STR:
	case CONF_TYPE_WORDS:
	case CONF_TYPE_CSV:
		str_format(hint, size, "%s is a text", row->name);
		break;
	}
}

static int conf_value_fail(const struct conf_row *row, const char *text, int rc, struct conf_error *err)
{
	bool secret = (row->flags & CONF_F_SECRET) != 0;
	char hint[256];

	conf_value_describe(row, hint, sizeof(hint));
	conf_error_set(err, hint, "invalid value \"%s\" for parameter %s", secret ? "****" : text, row->name);
	return rc;
}

int conf_split_address(const char *text, char *host, size_t host_size, uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	const char *digits = colon == NULL ? text : colon + 1;
	struct slice name = colon == NULL ? slice_of("127.0.0.1") : slice_make(text, (size_t)(colon - text));
	size_t n = strspn(digits, "0123456789");
	long number = n > 0 && n <= 5 && digits[n] == '\0' ? strtol(digits, NULL, 10) : 0;

	if (name.n > 2 && name.p[0] == '[' && name.p[name.n - 1] == ']')
		name = slice_make(name.p + 1, name.n - 2);
	else if (memchr(name.p, ':', name.n) != NULL || memchr(name.p, '[', name.n) != NULL)
		return -E_SYNTAX; /* where does the address end? */
	if (number < 1 || number > UINT16_MAX || name.n == 0 || name.n >= host_size)
		return -E_SYNTAX;
	str_copy_slice(host, host_size, name);
	*port = (uint16_t)number;
	return 0;
}

/* A rule that a single text setting has beyond its type. */
static int conf_value_check_text(const struct conf *conf, enum conf_id id, const char *text, struct conf_error *err)
{
	char host[256];
	uint16_t port;

	if (id == CONF_ID_health_listen && text[0] != '\0' &&
	    conf_split_address(text, host, sizeof(host), &port) != 0) {
		conf_error_set(err, "health_listen is host:port, [address]:port, *:port, or a port",
			       "invalid value \"%s\" for parameter health_listen", text);
		return -E_SYNTAX;
	}
	if (id == CONF_ID_auth_dbname &&
	    (conf->profile == CONF_PROFILE_PGSLUICE ? conf_is_console_name(text)
						    : strcmp(text, CONF_CONSOLE_DB_PGBOUNCER) == 0)) {
		conf_error_log(err, LOG_LVL_ERROR, "cannot use the reserved \"%s\" database as an auth_dbname", text);
		conf_error_set(err, "auth_dbname is the name of a database of [databases]",
			       "invalid value \"%s\" for parameter auth_dbname", text);
		return -E_RANGE;
	}
	return 0;
}

static int conf_value_store_number(const struct conf *conf, const struct conf_row *row, void *field, const char *text,
				   struct conf_error *err)
{
	long long number = 0;
	int rc = conf_value_read_ranged(row, text, &number);

	if (rc == -E_RANGE && (row->flags & CONF_F_CLAMP) != 0 && conf->profile == CONF_PROFILE_PGBOUNCER) {
		number = conf_value_clamp(row, number, err);
		rc = 0;
	}
	if (rc < 0)
		return conf_value_fail(row, text, rc, err);
	if (row->type == CONF_TYPE_TIME)
		*(uint64_t *)field = (uint64_t)number;
	else if (row->type == CONF_TYPE_UINT)
		*(unsigned *)field = (unsigned)number;
	else
		*(int *)field = (int)number;
	return 0;
}

int conf_value_set(struct conf *conf, enum conf_id id, const char *text, struct conf_error *err)
{
	const struct conf_row *row = &conf_rows[id];
	void *field = conf_value_field(conf, id);
	int rc;

	switch (row->type) {
	case CONF_TYPE_FLAG:
	case CONF_TYPE_INT:
	case CONF_TYPE_UINT:
	case CONF_TYPE_TIME:
		return conf_value_store_number(conf, row, field, text, err);
	case CONF_TYPE_ENUM:
		rc = conf_value_find_name(row->values, text);
		if (rc < 0)
			return conf_value_fail(row, text, -E_SYNTAX, err);
		*(int *)field = rc;
		return 0;
	case CONF_TYPE_STR:
		rc = conf_value_check_text(conf, id, text, err);
		if (rc < 0)
			return rc;
		conf_value_free(conf, id);
		*(char **)field = xstrdup(text);
		return 0;
	case CONF_TYPE_WORDS:
	case CONF_TYPE_CSV:
		conf_value_free(conf, id);
		conf_list_parse(field, text, row->type == CONF_TYPE_WORDS);
		return 0;
	}
	UNREACHABLE();
}

void conf_value_free(struct conf *conf, enum conf_id id)
{
	void *field = conf_value_field(conf, id);

	switch (conf_rows[id].type) {
	case CONF_TYPE_STR:
		free_secret(*(char **)field);
		*(char **)field = NULL;
		break;
	case CONF_TYPE_WORDS:
	case CONF_TYPE_CSV:
		conf_list_free(field);
		break;
	case CONF_TYPE_FLAG:
	case CONF_TYPE_INT:
	case CONF_TYPE_UINT:
	case CONF_TYPE_TIME:
	case CONF_TYPE_ENUM:
		break;
	}
}

void conf_value_set_default(struct conf *conf, enum conf_id id)
{
	const char *text = conf_rows[id].defaults[conf->profile];
	struct conf_error err;
	int rc;

	if (text == NULL) {
		conf_value_free(conf, id);
		if (conf_rows[id].type == CONF_TYPE_INT)
			*(int *)conf_value_field(conf, id) = 0;
		return;
	}
	conf_error_init(&err);
	rc = conf_value_set(conf, id, text, &err);
	ASSERT(rc == 0);
	conf_error_fini(&err);
}

/* ---- showing, copying, comparing ---- */

static char *conf_value_format_number(const struct conf_row *row, const void *field)
{
	char text[64];

	switch (row->type) {
	case CONF_TYPE_UINT:
		str_format(text, sizeof(text), "%u", *(const unsigned *)field);
		break;
	case CONF_TYPE_TIME:
		str_format(text, sizeof(text), "%g", (double)*(const uint64_t *)field / (double)USEC_PER_SEC);
		break;
	case CONF_TYPE_FLAG:
	case CONF_TYPE_INT:
		str_format(text, sizeof(text), "%d", *(const int *)field);
		break;
	case CONF_TYPE_ENUM:
	case CONF_TYPE_STR:
	case CONF_TYPE_WORDS:
	case CONF_TYPE_CSV:
		UNREACHABLE();
	}
	return xstrdup(text);
}

char *conf_value_text(const struct conf *conf, enum conf_id id)
{
	const struct conf_row *row = &conf_rows[id];
	const void *field = conf_value_field(conf, id);

	switch (row->type) {
	case CONF_TYPE_ENUM:
		return xstrdup(row->values[*(const int *)field]);
	case CONF_TYPE_STR:
		return xstrdup(*(char *const *)field);
	case CONF_TYPE_WORDS:
	case CONF_TYPE_CSV:
		return xstrdup(((const struct conf_list *)field)->text);
	case CONF_TYPE_FLAG:
	case CONF_TYPE_INT:
	case CONF_TYPE_UINT:
	case CONF_TYPE_TIME:
		break;
	}
	return conf_value_format_number(row, field);
}

void conf_value_copy(struct conf *dst, const struct conf *src, enum conf_id id)
{
	void *to = conf_value_field(dst, id);
	const void *from = conf_value_field(src, id);

	conf_value_free(dst, id);
	switch (conf_rows[id].type) {
	case CONF_TYPE_STR:
		*(char **)to = xstrdup(*(char *const *)from);
		break;
	case CONF_TYPE_WORDS:
	case CONF_TYPE_CSV:
		conf_list_parse(to, ((const struct conf_list *)from)->text, conf_rows[id].type == CONF_TYPE_WORDS);
		break;
	case CONF_TYPE_TIME:
		*(uint64_t *)to = *(const uint64_t *)from;
		break;
	case CONF_TYPE_UINT:
		*(unsigned *)to = *(const unsigned *)from;
		break;
	case CONF_TYPE_FLAG:
	case CONF_TYPE_INT:
	case CONF_TYPE_ENUM:
		*(int *)to = *(const int *)from;
		break;
	}
}

bool conf_value_is_equal(const struct conf *a, const struct conf *b, enum conf_id id)
{
	const void *x = conf_value_field(a, id);
	const void *y = conf_value_field(b, id);
	char *left;
	char *right;
	bool equal;

	if (conf_rows[id].type == CONF_TYPE_TIME)
		return *(const uint64_t *)x == *(const uint64_t *)y; /* the text is rounded */
	left = conf_value_text(a, id);
	right = conf_value_text(b, id);
	equal = left == NULL || right == NULL ? left == right : strcmp(left, right) == 0;
	free_secret(left);
	free_secret(right);
	return equal;
}
