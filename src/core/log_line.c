/*
 * What a log line looks like.
 *
 * A line is filled once: prefix and text stand in one message, as PgBouncer
 * has it, and the place where the text begins is remembered. The text form,
 * syslog and the journal take the message; JSON takes the text and has fields
 * for the rest.
 *
 * Names come from the network and may hold anything. JSON must stay valid:
 * what is no UTF-8 becomes U+FFFD, a byte each, and control characters are
 * escaped. In the text form a newline in a name cannot begin a line of its own,
 * since a tab follows each, and other control characters are written as \xHH:
 * whoever reads the log on a terminal shall not have it obey a name.
 */
#include <stdarg.h>
#include <time.h>

#include "core/clock.h"
#include "core/log_int.h"
#include "core/str.h"

static const char *const level_names[] = {
	[LOG_LVL_FATAL] = "FATAL", [LOG_LVL_ERROR] = "ERROR", [LOG_LVL_WARNING] = "WARNING",
	[LOG_LVL_LOG] = "LOG",     [LOG_LVL_DEBUG] = "DEBUG", [LOG_LVL_NOISE] = "NOISE",
};

/* Date and zone of the second in which this thread has logged last. */
static _Thread_local struct {
	time_t second;
	char date[32];
	char time[16];
	char zone[16];
	long offset_s; /* east of Greenwich */
} log_stamp;

const char *log_level_name(enum log_level level)
{
	ASSERT((size_t)level < ARRAY_LEN(level_names));
	return level_names[level];
}

static void log_line_stamp(uint64_t wall_us)
{
	time_t second = (time_t)(wall_us / USEC_PER_SEC);
	struct tm tm;

	if (second == log_stamp.second || localtime_r(&second, &tm) == NULL)
		return;
	strftime(log_stamp.date, sizeof(log_stamp.date), "%Y-%m-%d", &tm);
	strftime(log_stamp.time, sizeof(log_stamp.time), "%H:%M:%S", &tm);
	strftime(log_stamp.zone, sizeof(log_stamp.zone), "%Z", &tm);
	log_stamp.offset_s = tm.tm_gmtoff;
	log_stamp.second = second;
}

/* ---- the message ---- */

static size_t log_line_prefix(const struct log_about *about, char *dst, size_t size)
{
	const char *database = about->no_database || about->database[0] == '\0' ? "(nodb)" : about->database;
	const char *user = about->no_user || about->user[0] == '\0' ? "(nouser)" : about->user;

	if (about->is_bare)
		return 0;
	if (about->pool[0] != '\0')
		return str_format(dst, size, "%c-%p: %s@%s ", about->kind, about->object, about->pool, about->peer);
	return str_format(dst, size, "%c-%p: %s/%s@%s ", about->kind, about->object, database, user, about->peer);
}

void log_line_fill(struct log_line *line, const char *fmt, va_list ap)
{
	size_t n = 0;
	int stored;

	if (line->about != NULL && line->about->kind != 0)
		n = log_line_prefix(line->about, line->message, sizeof(line->message));
	line->text_at = n;
	stored = vsnprintf(line->message + n, sizeof(line->message) - n, fmt, ap);
	if (stored > 0)
		n += (size_t)stored < sizeof(line->message) - n ? (size_t)stored : sizeof(line->message) - n - 1;
	while (n > line->text_at && isspace((unsigned char)line->message[n - 1]))
		n--;
	line->message[n] = '\0';
	line->message_len = n;
}

/*
 * How many bytes the control character takes with which s begins, 0 when it
 * begins with another: those of ASCII but tab and newline, and U+0080 to U+009F
 * in UTF-8. s ends with a NUL.
 */
static size_t log_line_control(const unsigned char *s)
{
	if (s[0] == 0xc2)
		return s[1] >= 0x80 && s[1] <= 0x9f ? 2 : 0;
	return (s[0] < 0x20 && s[0] != '\n' && s[0] != '\t') || s[0] == 0x7f ? 1 : 0;
}

size_t log_line_message(const struct log_line *line, char *dst, size_t size)
{
	const unsigned char *s = (const unsigned char *)line->message;
	const unsigned char *end = s + line->message_len;
	size_t used = 0;

	while (s < end && used + 1 < size) {
		size_t n = log_line_control(s);

		if (n == 0) {
			dst[used++] = (char)*s;
			if (*s == '\n' && used + 1 < size)
				dst[used++] = '\t';
			s++;
			continue;
		}
		if (size - used <= n * strlen("\\xHH"))
			break;
		for (; n > 0; n--)
			used += str_format(dst + used, size - used, "\\x%02x", *s++);
	}
	dst[used] = '\0';
	return used;
}

size_t log_line_head(const struct log_line *line, char *dst, size_t size)
{
	log_line_stamp(line->wall_us);
	return str_format(dst, size, "%s %s.%03u %s [%d] %s ", log_stamp.date, log_stamp.time,
			  (unsigned)(line->wall_us / 1000 % 1000), log_stamp.zone, line->pid,
			  log_level_name(line->level));
}

/* ---- JSON ---- */

/* A place to write to; what does not fit is left out. */
struct log_json {
	char *dst;
	size_t size; /* without room for a NUL: none is written */
	size_t used;
};

static bool log_json_put(struct log_json *j, const char *s, size_t n)
{
	if (n > j->size - j->used)
		return false;
	memcpy(j->dst + j->used, s, n);
	j->used += n;
	return true;
}

/* Length of the character of UTF-8 at the beginning of s, of which n bytes are there; 0: there is none. */
static size_t log_json_utf8(const unsigned char *s, size_t n)
{
	/* the first byte, the second one, length */
	static const struct {
		unsigned char first_min, first_max, second_min, second_max, len;
	} forms[] = {
		{ 0x00, 0x7f, 0, 0, 1 },       { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		if (s[0] < forms[i].first_min || s[0] > forms[i].first_max)
			continue;
		if (n < forms[i].len)
			return 0;
		if (forms[i].len > 1 && (s[1] < forms[i].second_min || s[1] > forms[i].second_max))
			return 0;
		for (size_t k = 2; k < forms[i].len; k++)
			if ((s[k] & 0xc0) != 0x80)
				return 0;
		return forms[i].len;
	}
	return 0;
}

/* One character, as it stands between quotes; returns how many bytes of s it took, 0 when there is no room. */
static size_t log_json_char(struct log_json *j, const unsigned char *s, size_t n)
{
	static const char replacement[] = "\xef\xbf\xbd";
	static const char plain[] = "\"\\\n\r\t\b\f";
	static const char letters[] = "\"\\nrtbf";
	const char *at = s[0] == '\0' ? NULL : strchr(plain, s[0]);
	size_t len = log_json_utf8(s, n);
	char out[8];

	if (len == 0)
		return log_json_put(j, replacement, sizeof(replacement) - 1) ? 1 : 0;
	if (at != NULL) {
		out[0] = '\\';
		out[1] = letters[at - plain];
		return log_json_put(j, out, 2) ? 1 : 0;
	}
	if (s[0] < 0x20 || s[0] == 0x7f || (s[0] == 0xc2 && s[1] <= 0x9f)) {
		/* behind 0xc2 the second byte is the number of the character */
		str_format(out, sizeof(out), "\\u%04x", s[len - 1]);
		return log_json_put(j, out, 6) ? len : 0;
	}
	return log_json_put(j, (const char *)s, len) ? len : 0;
}

static void log_json_string(struct log_json *j, const char *s, size_t n)
{
	size_t at = 0;

	log_json_put(j, "\"", 1);
	/* what closes the string and the object must find room */
	j->size -= 2;
	while (at < n) {
		size_t used = log_json_char(j, (const unsigned char *)s + at, n - at);

		if (used == 0)
			break;
		at += used;
	}
	j->size += 2;
	log_json_put(j, "\"", 1);
}

/* A member with a string; an empty one is left out. */
static void log_json_member(struct log_json *j, const char *name, const char *value)
{
	char key[32];

	if (!str_is_set(value))
		return;
	log_json_put(j, key, str_format(key, sizeof(key), ",\"%s\":", name));
	log_json_string(j, value, strlen(value));
}

static void log_json_about(struct log_json *j, const struct log_about *about)
{
	char text[48];

	if (about->id != 0)
		log_json_put(j, text,
			     str_format(text, sizeof(text), ",\"%s\":%" PRIu64,
					about->kind == 'S' ? "server" : "client", about->id));
	log_json_member(j, "pool", about->pool);
	log_json_member(j, "database", about->database);
	log_json_member(j, "user", about->user);
	log_json_member(j, "peer", about->peer);
}

size_t log_line_json(const struct log_line *line, char *dst, size_t size)
{
	static const char text_key[] = ",\"text\":";
	const struct log_about *about = line->about;
	struct log_json j = { .dst = dst, .size = size };
	char head[128];
	long minutes;

	log_line_stamp(line->wall_us);
	minutes = (log_stamp.offset_s < 0 ? -log_stamp.offset_s : log_stamp.offset_s) / 60;
	log_json_put(&j, head,
		     str_format(head, sizeof(head), "{\"time\":\"%sT%s.%03u%c%02ld:%02ld\",\"level\":\"%s\",\"pid\":%d",
				log_stamp.date, log_stamp.time, (unsigned)(line->wall_us / 1000 % 1000),
				log_stamp.offset_s < 0 ? '-' : '+', minutes / 60, minutes % 60,
				log_level_name(line->level), line->pid));
	log_json_member(&j, "worker", line->thread);
	if (about != NULL && about->kind != 0)
		log_json_about(&j, about);
	log_json_member(&j, "action", about != NULL && about->action != NULL ? about->action : line->action);
	if (about != NULL)
		log_json_member(&j, "sqlstate", about->sqlstate);
	log_json_put(&j, text_key, sizeof(text_key) - 1);
	log_json_string(&j, line->message + line->text_at, line->message_len - line->text_at);
	log_json_put(&j, "}", 1);
	return j.used;
}
