#include "sabotage.h"

#include <string.h>

#define SABOTAGE_MAX_GATHER 8192 /* longer messages pass unchanged */

static const char *const sabotage_names[N_SABOTAGES] = { "off",    "cross", "double", "drop",   "swap",
							 "status", "byte",  "mute",   "cancel", "told",
							 "code",   "write", "mix",    "param",  "leak" };

/* Of the kinds that work on the bytes to the server: what is sought, and what takes its place. */
static const struct {
	const char *text, *with;
} sabotage_edits[N_SABOTAGES] = {
	[SABOTAGE_WRITE] = { "SET n = n + 1 ", "SET n = n + 2 " },
	[SABOTAGE_MIX] = { "7 AS stmt", "8 AS stmt" },
	[SABOTAGE_PARAM] = { "ISO, DMY", "ISO, MDY" },
	[SABOTAGE_LEAK] = { "SET LOCAL search_path", "SET       search_path" },
};

/* A row of some connection, for SABOTAGE_CROSS. */
static struct bytes sabotage_stash;
static const struct sabotage *sabotage_stash_owner;
static unsigned sabotage_done;

int sabotage_parse(const char *name)
{
	for (int i = 0; i < N_SABOTAGES; i++)
		if (strcmp(name, sabotage_names[i]) == 0)
			return i;
	return -1;
}

unsigned sabotage_count(void)
{
	return sabotage_done;
}

void sabotage_note(void)
{
	sabotage_done++;
}

void sabotage_free(struct sabotage *s)
{
	if (sabotage_stash_owner == s)
		sabotage_stash_owner = NULL;
	bytes_free(&s->part);
	bytes_free(&s->held);
}

/* Gives the row of another connection instead of m, when one is at hand; else keeps a copy of m. */
static bool sabotage_cross(const struct sabotage *s, const struct bytes *m, struct bytes *out)
{
	if (sabotage_stash.len && sabotage_stash_owner != s) {
		bytes_add(out, sabotage_stash.data, sabotage_stash.len);
		sabotage_stash.len = 0;
		sabotage_done++;
		return true;
	}
	sabotage_stash.len = 0;
	bytes_add(&sabotage_stash, m->data, m->len);
	sabotage_stash_owner = s;
	return false;
}

/* Treats a DataRow that was chosen. Returns true when it (or what stands for it) is in out already. */
static bool sabotage_row(struct sabotage *s, enum sabotage_kind kind, struct rng *rng, struct bytes *out)
{
	struct bytes *m = &s->part;

	if (kind == SABOTAGE_CROSS)
		return sabotage_cross(s, m, out);
	if (kind == SABOTAGE_SWAP) {
		bytes_add(&s->held, m->data, m->len);
		return true;
	}
	if (kind == SABOTAGE_DOUBLE)
		bytes_add(out, m->data, m->len);
	else if (kind == SABOTAGE_BYTE && m->len > 11)
		m->data[rng_range(rng, 11, m->len - 1)] ^= 1;
	else if (kind != SABOTAGE_DROP)
		return false;
	sabotage_done++;
	return kind == SABOTAGE_DROP;
}

/* Treats a RowDescription or an ErrorResponse that was chosen. */
static void sabotage_text(enum sabotage_kind kind, struct bytes *m)
{
	uint8_t *at = NULL;

	if (kind == SABOTAGE_TOLD && m->data[0] == 'T')
		at = memmem(m->data, m->len, "\0k", 2);
	else if (kind == SABOTAGE_CODE && m->data[0] == 'E')
		at = memmem(m->data, m->len, "\0C", 2);
	if (!at)
		return;
	/* The column's digit, or the second byte of the SQLSTATE. */
	at[kind == SABOTAGE_TOLD ? 2 : 3] ^= 1;
	sabotage_done++;
}

/* A whole message in s->part. */
static void sabotage_message(struct sabotage *s, enum sabotage_kind kind, unsigned one_in, struct rng *rng,
			     struct bytes *out)
{
	struct bytes *m = &s->part;
	char type = (char)m->data[0];
	bool done = false;

	if (type == 'K' && m->len == 13) {
		memcpy(s->key, m->data + 5, 8);
		s->has_key = true;
	}
	if (s->held.len) {
		if (type == 'D') {
			bytes_add(out, m->data, m->len);
			sabotage_done++;
			done = true;
		}
		bytes_add(out, s->held.data, s->held.len);
		s->held.len = 0;
	} else if (type == 'D' && rng_one_in(rng, one_in)) {
		done = sabotage_row(s, kind, rng, out);
	} else if ((type == 'T' || type == 'E') && rng_one_in(rng, one_in)) {
		sabotage_text(kind, m);
	} else if (type == 'Z' && s->has_key && m->data[5] == 'I' && rng_one_in(rng, one_in)) {
		if (kind == SABOTAGE_STATUS)
			m->data[5] = 'T';
		done = kind == SABOTAGE_MUTE;
		sabotage_done += kind == SABOTAGE_STATUS || kind == SABOTAGE_MUTE;
	}
	if (!done)
		bytes_add(out, m->data, m->len);
	bytes_clear(m, SABOTAGE_MAX_GATHER * 2);
}

void sabotage_from_server(struct sabotage *s, enum sabotage_kind kind, unsigned one_in, struct rng *rng,
			  const uint8_t *data, size_t n, struct bytes *out)
{
	while (n > 0) {
		size_t take = 1;

		if (s->raw_first) {
			s->raw_first = false;
			bytes_add(out, data, 1);
		} else if (s->through) {
			take = n < s->through ? n : s->through;
			bytes_add(out, data, take);
			s->through -= take;
		} else {
			bytes_add(&s->part, data, 1);
			if (s->part.len == 5 && bytes_get_u32(s->part.data + 1) > SABOTAGE_MAX_GATHER) {
				s->through = bytes_get_u32(s->part.data + 1) - 4;
				bytes_add(out, s->part.data, s->part.len);
				s->part.len = 0;
			} else if (s->part.len >= 5 && s->part.len == (size_t)bytes_get_u32(s->part.data + 1) + 1) {
				sabotage_message(s, kind, one_in, rng, out);
			}
		}
		data += take;
		n -= take;
	}
}

void sabotage_to_server(enum sabotage_kind kind, unsigned one_in, struct rng *rng, uint8_t *data, size_t n)
{
	const char *text = sabotage_edits[kind].text;
	uint8_t *at = text ? memmem(data, n, text, strlen(text)) : NULL;

	if (!at || !rng_one_in(rng, one_in))
		return;
	memcpy(at, sabotage_edits[kind].with, strlen(text));
	sabotage_done++;
}
