/*
 * What files of rules and of maps have in common, the form of PostgreSQL's
 * pg_hba.conf and pg_ident.conf: lines of fields, fields of words, comments,
 * quotes, includes. The result is lines; what they mean is for hba.c and
 * ident.c.
 */
#ifndef PGSLUICE_AUTH_RULEFILE_H
#define PGSLUICE_AUTH_RULEFILE_H

#include "core/base.h"
#include "core/err.h"
#include "core/str.h"

#define RULEFILE_WORD_MAX  2048               /* bytes of a word */
#define RULEFILE_LINE_MAX  (64 << 10)         /* bytes of a line with its continuations */
#define RULEFILE_FILE_MAX  ((size_t)16 << 20) /* bytes of a file */
#define RULEFILE_TOTAL_MAX ((size_t)64 << 20) /* bytes of all files together, each as often as it is included */
#define RULEFILE_LINES_MAX 200000             /* lines that are not empty */
#define RULEFILE_DEPTH_MAX 10                 /* files inside of files */

/* Where the files come from. */
struct rulefile_io {
	/*
	 * Reads a file; the text (malloc, at most `max` bytes) goes to the caller. 0,
	 * or -E_SYS with errno, also for a file that is longer.
	 */
	int (*read_file)(void *ctx, const char *path, size_t max, char **text, size_t *len);
	/* The names in a directory; array and names (malloc) go to the caller. 0, or -E_SYS with errno. */
	int (*list_dir)(void *ctx, const char *path, char ***names, size_t *count);
	void *ctx;
};

/* The file system. */
extern const struct rulefile_io rulefile_disk;

struct rulefile_word {
	char *text;
	bool quoted; /* begins with a quote: no keyword */
};

struct rulefile_field {
	struct rulefile_word *words; /* at least one */
	size_t count;
	size_t rest; /* where in the line's text the fields behind this one begin */
};

struct rulefile_line {
	const char *file; /* for messages; belongs to the rulefile */
	unsigned number;  /* of its first physical line, from 1 */
	char *text;       /* without comment, continuations joined */
	struct rulefile_field *fields;
	size_t count;
	char *fault;   /* what is wrong with it as text (quotes, includes, lengths), or NULL */
	char *hint;    /* what would be right, or NULL */
	bool is_blind; /* there may be more behind the fault than the text shows: an include, a zero byte, a cut */
};

struct rulefile {
	struct rulefile_line *lines; /* none is empty; one with a fault may have fewer fields than it seems */
	size_t count;
	char **files; /* every file that was read, the first one first; a file may be there more than once */
	size_t file_count;
	size_t room;  /* private: lines allocated */
	size_t bytes; /* private: read so far */
};

/*
 * Reads a file with all that it includes. A fault of a line stands in the
 * line. 0, or -E_SYS with errno when the file itself cannot be read; *out is
 * then empty. To be freed with rulefile_fini() in any case.
 */
int rulefile_read(const struct rulefile_io *io, const char *path, struct rulefile *out) MUSTCHECK;
void rulefile_fini(struct rulefile *rf);

/* Same lines in the same order, wherever they stand. */
bool rulefile_is_equal(const struct rulefile *a, const struct rulefile *b);

#endif
