/*
 * What the files of the log share: log.c knows where lines go, log_line.c what
 * they look like, log_site.c which of them are held back.
 */
#ifndef PGSLUICE_CORE_LOG_INT_H
#define PGSLUICE_CORE_LOG_INT_H

#include <stdarg.h>

#include "core/log.h"

/* Room for a message with its prefix and its NUL. */
#define LOG_TEXT_MAX 2048

/* Room for a whole line of either form, with its newline; what a pipe takes without tearing it. */
#define LOG_LINE_MAX 4096

/* One line before it has a form. */
struct log_line {
	enum log_level level;
	uint64_t wall_us;
	int pid;
	const char *thread;
	const char *action;            /* of the thread; that of `about` goes before */
	const struct log_about *about; /* NULL: nobody */
	char message[LOG_TEXT_MAX];    /* prefix and text; blanks at the end are off */
	size_t message_len;
	size_t text_at; /* where the text begins, behind the prefix */
};

/* Lines that were held back: how many, and of the first one level and text. */
struct log_held {
	uint64_t count; /* 0: none, and nothing else is set */
	enum log_level level;
	char text[LOG_HELD_MAX];
};

const char *log_level_name(enum log_level level);

/* Writes prefix and text into line->message, from `about`, fmt and ap. */
void log_line_fill(struct log_line *line, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);

/*
 * The message for all forms but JSON: with a tab behind each newline, and other
 * control characters as \xHH; cut where dst ends. Returns its length.
 */
size_t log_line_message(const struct log_line *line, char *dst, size_t size);

/* A text line up to the message, with the blank before it; returns its length. */
size_t log_line_head(const struct log_line *line, char *dst, size_t size);

/*
 * A JSON object without a newline, valid UTF-8 whatever the names are; the
 * text is cut so that all fits into size, which must be LOG_LINE_MAX - 1 or
 * more. Returns its length.
 */
size_t log_line_json(const struct log_line *line, char *dst, size_t size);

/* Lines per LOG_RATE_S seconds for sites without a limit of their own; 0: no limit. */
void log_site_set_burst(unsigned burst);

/*
 * True when the line may go out; it is counted otherwise. `held`: lines held
 * back in an interval before, to be told of now. errno must be that of %m.
 */
bool log_site_pass(struct log_site *site, enum log_level level, struct log_held *held, const char *fmt, va_list ap)
	PRINTF_LIKE(4, 0);

/* Writes a line that tells of lines held back; none of none. */
void log_write_held(const struct log_held *held);

/* Where the journal listens; NULL is where it always does. For tests, before other threads log. */
void log_set_journal(const char *path);

#endif
