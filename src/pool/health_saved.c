#include "pool/health_saved.h"

#include "conf/connstr.h"
#include "core/alloc.h"
#include "core/str.h"

/* The host as connect strings quote it, for it may be a path; with an equals sign in front, as these take no "". */
static int health_saved_write_host(const char *host, struct buf *b)
{
	int err = buf_append(b, "host='=", 7);

	for (const char *p = host; err == 0 && *p != '\0'; p++) {
		if (*p == '\'')
			err = buf_append(b, "'", 1);
		if (err == 0)
			err = buf_append(b, p, 1);
	}
	return err == 0 ? buf_append(b, "'", 1) : err;
}

int health_saved_write(const struct health_saved *saved, struct buf *b)
{
	int err = health_saved_write_host(saved->host, b);
	char text[64];

#define X(name)       \
	if (err == 0) \
		err = buf_append(b, text, str_format(text, sizeof(text), " " #name "=%" PRIu64, saved->name));
	HEALTH_SAVED(X)
#undef X
	return err == 0 ? buf_append(b, "", 1) : err;
}

int health_saved_read(struct health_saved *saved, const char *text)
{
	struct connstr cs;
	struct slice key;
	const char *value;
	int err;

	*saved = (struct health_saved){ .host = NULL };
	connstr_init(&cs, text);
	while ((err = connstr_next(&cs, &key, &value)) == 1) {
		if (slice_eq_str(key, "host") && value[0] == '=') {
			free(saved->host_room);
			saved->host = saved->host_room = xstrdup(value + 1);
		}
#define X(name)                       \
	if (slice_eq_str(key, #name)) \
		saved->name = strtoull(value, NULL, 10);
		HEALTH_SAVED(X)
#undef X
	}
	connstr_fini(&cs);
	if (err == 0 && (!str_is_set(saved->host) || saved->port > UINT16_MAX))
		err = -E_SYNTAX;
	return err;
}

void health_saved_fini(struct health_saved *saved)
{
	free(saved->host_room);
	saved->host = saved->host_room = NULL;
}
