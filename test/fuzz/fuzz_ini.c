/*
 * Whole configurations. The input is up to three files, separated by the byte
 * 1: the one that is loaded, and "a" and "b", which it may include (and "main"
 * itself). A configuration that loads must be consistent, and its settings,
 * written into a file again, must give the same settings.
 */
#include "fuzz.h"

#include "conf/conf_diff.h"
#include "core/alloc.h"

static const char *const fuzz_paths[] = { "main", "a", "b" };

struct fuzz_files {
	struct slice text[ARRAY_LEN(fuzz_paths)];
	unsigned reads; /* files read so far */
};

/* Files include each other tenfold in breadth as well; this bounds the work. */
#define FUZZ_MAX_READS 64

static int fuzz_read(void *ctx, const char *path, char **text, size_t *len)
{
	struct fuzz_files *files = ctx;

	for (size_t i = 0; i < ARRAY_LEN(fuzz_paths) && files->reads < FUZZ_MAX_READS; i++) {
		if (strcmp(path, fuzz_paths[i]) != 0)
			continue;
		files->reads++;
		*text = slice_dup(files->text[i]);
		*len = files->text[i].n;
		return 0;
	}
	errno = ENOENT;
	return -E_SYS;
}

static struct conf *fuzz_load(struct fuzz_files *files)
{
	struct conf_error err;
	struct conf *conf = NULL;
	int rc;

	conf_error_init(&err);
	rc = conf_load_from(fuzz_read, files, "main", &conf, &err);
	ASSERT((rc == 0) == (conf != NULL) && (rc == 0) == (err.what == NULL));
	ASSERT(rc == 0 || (err.count > 0 && err.file != NULL));
	ASSERT(rc == 0 || rc == -E_SYNTAX || rc == -E_RANGE || rc == -E_SYS);
	conf_error_fini(&err);
	return conf;
}

static void fuzz_check_names(const struct conf *conf)
{
	struct conf_db *made = NULL;

	for (size_t i = 0; i < conf->db_count; i++) {
		const struct conf_db *db = &conf->dbs[i];

		ASSERT(conf_find_db(conf, db->name) == db && db->dbname != NULL);
		ASSERT(db->port >= 1 && db->port <= 65535 && conf_db_same_server(db, db));
		ASSERT((db->host.text == NULL) == (db->host.count == 0));
		ASSERT(conf_pool_size(conf, db, NULL) >= 0 && conf_max_db_connections(conf, db) >= 0);
	}
	for (size_t i = 0; i < conf->user_count; i++) {
		ASSERT(conf_find_user(conf, conf->users[i].name) == &conf->users[i]);
		ASSERT(conf_max_user_connections(conf, &conf->users[i]) >= 0);
	}
	for (size_t i = 0; i < conf->peer_count; i++)
		ASSERT(conf_find_peer(conf, conf->peers[i].id) == &conf->peers[i]);
	if (conf_autodb(conf, "made", &made) == 0)
		ASSERT(conf->autodb != NULL && made->is_auto);
	conf_db_free(&made);
}

/* All settings as a file. */
static char *fuzz_print_settings(const struct conf *conf, size_t *len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, len);

	ASSERT(out != NULL);
	fprintf(out, "[%s]\n", conf->profile == CONF_PROFILE_PGSLUICE ? "pgsluice" : "pgbouncer");
	for (size_t i = 0; i < CONF_ID_COUNT; i++) {
		char *value = conf_show_value(conf, conf_show_id(i));

		if (value != NULL)
			fprintf(out, "%s = %s\n", conf_key(conf_show_id(i)), value);
		free(value);
	}
	ASSERT(fclose(out) == 0);
	return text;
}

static void fuzz_check_settings(const struct conf *conf)
{
	struct fuzz_files files = { .reads = 0 };
	char *text = fuzz_print_settings(conf, &files.text[0].n);
	struct conf *again;

	files.text[0].p = text;
	again = fuzz_load(&files);
	ASSERT(again != NULL);
	for (unsigned id = 0; id < CONF_ID_COUNT; id++) {
		char *x = conf_show_value(conf, id);
		char *y = conf_show_value(again, id);

		ASSERT((x == NULL) == (y == NULL) && (x == NULL || strcmp(x, y) == 0));
		free(x);
		free(y);
	}
	conf_release(&again);
	free(text);
}

static void fuzz_check_report(const struct conf *conf)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	ASSERT(out != NULL);
	conf_print_check(conf, out);
	ASSERT(fclose(out) == 0 && len > 0 && text[len - 1] == '\n');
	free(text);
}

/* Nothing changes from a configuration to itself, and as much one way as the other. */
static void fuzz_check_diff(const struct conf *conf)
{
	struct fuzz_files files = { .text = { slice_of(conf->profile == CONF_PROFILE_PGSLUICE ? "[pgsluice]\n"
											      : "[pgbouncer]\n") } };
	struct conf *empty = fuzz_load(&files);
	struct conf_diff *same = conf_diff_new(conf, conf);
	struct conf_diff *there = conf_diff_new(empty, conf);
	struct conf_diff *back = conf_diff_new(conf, empty);
	char text[2 * CONF_DETAIL_SIZE];

	ASSERT(same->count == 0 && there->count == back->count);
	ASSERT(there->db_end - there->db_begin == conf->db_count);
	for (size_t i = 0; i < conf->db_count; i++)
		conf_diff_touch(there, conf->dbs[i].name, 1, 2);
	for (size_t i = 0; i < there->count; i++) {
		bool is_db = i >= there->db_begin && i < there->db_end;

		ASSERT(there->changes[i].servers == is_db && there->changes[i].clients == 2 * is_db);
		conf_change_describe(&there->changes[i], text, sizeof(text));
	}
	conf_diff_summarize(there, text, sizeof(text));
	conf_diff_free(&same);
	conf_diff_free(&there);
	conf_diff_free(&back);
	conf_release(&empty);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice input = slice_make(data, size);
	struct fuzz_files files = { .reads = 0 };
	struct conf *conf;

	for (size_t i = 0; i < ARRAY_LEN(fuzz_paths); i++) {
		const char *end = input.n == 0 ? NULL : memchr(input.p, 1, input.n);

		files.text[i] = fuzz_take(&input, end == NULL ? input.n : (size_t)(end - input.p));
		fuzz_take(&input, 1);
	}
	conf = fuzz_load(&files);
	if (conf == NULL)
		return 0;
	fuzz_check_names(conf);
	fuzz_check_settings(conf);
	fuzz_check_report(conf);
	fuzz_check_diff(conf);
	conf_release(&conf);
	return 0;
}
