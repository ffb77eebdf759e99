#include "check.h"

#include <stdio.h>
#include <string.h>

#include "shaped.h"

static bool check_bad(char *why, const char *text)
{
	snprintf(why, CHECK_WHY_BYTES, "%s", text);
	return false;
}

/* Skips a stream that is complete; an empty one needs no message at all. */
static void check_end_stream(struct check *k, const struct script *s, char type)
{
	while (k->next < s->n_expects && s->expects[k->next].kind == X_STREAM &&
	       k->streamed == s->expects[k->next].len && s->expects[k->next].type != type) {
		k->next++;
		k->streamed = 0;
	}
}

static bool check_bytes(const uint8_t *got, const uint8_t *want, size_t len, char *why)
{
	size_t at = 0;

	if (!len || memcmp(got, want, len) == 0)
		return true;
	while (got[at] == want[at])
		at++;
	snprintf(why, CHECK_WHY_BYTES, "the bodies differ from byte %zu on (%zu compared)", at, len);
	return false;
}

static bool check_stream(struct check *k, const struct script *s, const struct expect *x, const uint8_t *body,
			 size_t len, char *why)
{
	if (len > x->len - k->streamed)
		return check_bad(why, "more data than the whole stream has");
	if (!check_bytes(body, s->pool.data + x->at + k->streamed, len, why))
		return false;
	k->streamed += len;
	return true;
}

static bool check_text(const struct script *s, const struct expect *x, const uint8_t *body, size_t len, char *why)
{
	const char *code = msg_field(body, len, 'C');
	const char *text = msg_field(body, len, 'M');

	if (x->kind == X_ERROR && strcmp(code, x->sqlstate) != 0) {
		snprintf(why, CHECK_WHY_BYTES, "SQLSTATE %s instead of %s", code, x->sqlstate);
		return false;
	}
	if (!memmem(text, strlen(text), s->pool.data + x->at, x->len))
		return check_bad(why, "the message text is not of this operation");
	return true;
}

/* An error with one of several SQLSTATEs. */
static bool check_errors(const struct script *s, const struct expect *x, const uint8_t *body, size_t len, char *why)
{
	const char *code = msg_field(body, len, 'C');

	if (strlen(code) != 5 || !memmem(s->pool.data + x->at, x->len, code, 5)) {
		snprintf(why, CHECK_WHY_BYTES, "SQLSTATE %s instead of one of %.*s", code, (int)x->len,
			 (const char *)s->pool.data + x->at);
		return false;
	}
	if (x->shaped >= 0)
		shaped_refuse(&s->shaped[x->shaped]);
	return true;
}

/* A row of a table whose columns change, or the end of the rows. */
static bool check_shaped(struct check *k, const struct script *s, const struct expect *x, char type,
			 const uint8_t *body, size_t len, char *why)
{
	if (type == 'C') {
		if (!shaped_check_end(k->streamed, body, len, why))
			return false;
		k->next = x->then ? x->then : k->next + 1;
		k->streamed = 0;
		return true;
	}
	k->streamed++;
	return shaped_check_row(&s->shaped[x->shaped], x->binary, s->pool.data + x->at, x->len, body, len, why);
}

static bool check_exact(const struct script *s, const struct expect *x, const uint8_t *body, size_t len, char *why)
{
	if (len != x->len) {
		snprintf(why, CHECK_WHY_BYTES, "body of %zu bytes instead of %zu", len, x->len);
		return false;
	}
	return check_bytes(body, s->pool.data + x->at, len, why);
}

/* Holds the message against one expectation and goes on behind it when that is met. */
static bool check_expect(struct check *k, const struct script *s, const struct expect *x, size_t sent, char type,
			 const uint8_t *body, size_t len, char *why)
{
	bool good = false;

	if (type != x->type && !(x->kind == X_SHAPED && type == 'C')) {
		snprintf(why, CHECK_WHY_BYTES, "message type '%c' instead of '%c'", type, x->type);
		return false;
	}
	if (sent < x->asked)
		return check_bad(why, "an answer before its question was sent");
	switch (x->kind) {
	case X_STREAM:
		return check_stream(k, s, x, body, len, why);
	case X_SHAPED:
		return check_shaped(k, s, x, type, body, len, why);
	case X_ERROR:
	case X_NOTICE:
		good = check_text(s, x, body, len, why);
		break;
	case X_ERRORS:
		good = check_errors(s, x, body, len, why);
		break;
	case X_SHAPE:
		good = shaped_take_description(&s->shaped[x->shaped], body, len, why);
		break;
	case X_READY:
		good = (len == 1 && body[0] == (uint8_t)x->status) || check_bad(why, "wrong transaction status");
		break;
	case X_EXACT:
		good = check_exact(s, x, body, len, why);
		break;
	}
	if (good) {
		k->next = x->then ? x->then : k->next + 1;
		k->streamed = 0;
	}
	return good;
}

bool check_message(struct check *k, const struct script *s, size_t sent, char type, const uint8_t *body, size_t len,
		   char *why)
{
	char other[CHECK_WHY_BYTES];
	size_t first;

	check_end_stream(k, s, type);
	first = k->next;
	if (first >= s->n_expects)
		return check_bad(why, "nothing more had to come");
	if (check_expect(k, s, &s->expects[first], sent, type, body, len, why))
		return true;
	for (size_t alt = s->expects[first].alt; alt; alt = s->expects[alt].alt) {
		k->next = alt;
		if (check_expect(k, s, &s->expects[alt], sent, type, body, len,
				 type == s->expects[alt].type ? why : other))
			return true;
	}
	k->next = first;
	return false;
}

bool check_fragment(const struct check *k, const struct script *s, char type, const uint8_t *body, size_t have,
		    size_t len, char *why)
{
	struct check at = *k;
	const struct expect *x;

	check_end_stream(&at, s, type);
	if (type == 'E' || type == 'N' || type == 'S')
		return true;
	if (at.next >= s->n_expects)
		return check_bad(why, "a fragment of a message, but nothing more had to come");
	x = &s->expects[at.next];
	while (type != x->type && x->alt)
		x = &s->expects[x->alt];
	if (type != x->type && x->kind != X_SHAPED)
		return check_bad(why, "a fragment of a message of another type");
	if (x->kind == X_STREAM) {
		if (len > x->len - at.streamed)
			return check_bad(why, "a fragment of more data than the whole stream has");
		return check_bytes(body, s->pool.data + x->at + at.streamed, have, why);
	}
	if (x->kind != X_EXACT)
		return true;
	if (len != x->len)
		return check_bad(why, "a fragment of a message of another length");
	return check_bytes(body, s->pool.data + x->at, have, why);
}

void check_describe(const struct script *s, size_t index, char *text, size_t size)
{
	const struct expect *x = &s->expects[index];

	switch (x->kind) {
	case X_EXACT:
		snprintf(text, size, "'%c' with %zu bytes:", x->type, x->len);
		break;
	case X_STREAM:
		snprintf(text, size, "any number of '%c', together %zu bytes:", x->type, x->len);
		break;
	case X_ERROR:
		snprintf(text, size, "ErrorResponse %s containing:", x->sqlstate);
		break;
	case X_NOTICE:
		snprintf(text, size, "NoticeResponse containing:");
		break;
	case X_READY:
		snprintf(text, size, "ReadyForQuery '%c'", x->status);
		break;
	case X_ERRORS:
		snprintf(text, size, "ErrorResponse with one of:");
		break;
	case X_SHAPE:
		snprintf(text, size, "a description of statement %d", x->shaped);
		break;
	case X_SHAPED:
		snprintf(text, size, "rows or the end of statement %d, beginning:", x->shaped);
		break;
	}
}
