#include "ddl.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "direct.h"
#include "report.h"

#define DDL_VIEW     (DDL_TABLES - 1)
#define DDL_COLS     8      /* different columns */
#define DDL_PAUSE_US 60000  /* longest pause of the thread */
#define DDL_STREAM   0xdd1u /* of the random numbers */

struct ddl {
	pthread_t thread;
	struct direct *direct;
	struct rng rng;
	atomic_bool stop;
};

/*
 * Two of them meet: the column or table is there already or not any more, has another type, is locked; or the system
 * tables have changed below (XX000 tuple concurrently updated). A view cannot lose columns (42P16).
 */
const char ddl_sqlstates[] = "55P03 42701 42703 42P01 42P07 42710 23505 42P16 42804 42809 42846 2BP01 XX000 40P01";

const char *ddl_table(unsigned table)
{
	static const char *const names[DDL_TABLES] = { "torture_shape_0", "torture_shape_1", "torture_shape_2",
						       "torture_shape_v" };

	return names[table];
}

/* The value of column number k as a type, 0 to 2. */
static void ddl_value(struct bytes *sql, unsigned k, unsigned type)
{
	if (type == 0)
		bytes_printf(sql, "%u::int4", k);
	else if (type == 1)
		bytes_printf(sql, "(4294967296 + %u)::int8", k);
	else
		bytes_printf(sql, "'k%u text'::text", k);
}

/* A query for rows with random columns. */
static void ddl_query(struct rng *rng, struct bytes *sql)
{
	bool first = true;

	bytes_text(sql, "SELECT");
	for (unsigned k = 0; k < DDL_COLS; k++) {
		if (rng_one_in(rng, 2))
			continue;
		bytes_text(sql, first ? " " : ", ");
		ddl_value(sql, k, (unsigned)rng_below(rng, 3));
		bytes_printf(sql, " AS k%u", k);
		first = false;
	}
	bytes_printf(sql, " FROM generate_series(1, %d)", DDL_ROWS);
}

static void ddl_draw_view(struct rng *rng, struct bytes *sql)
{
	const char *name = ddl_table(DDL_VIEW);

	if (rng_one_in(rng, 2))
		bytes_printf(sql, "DROP VIEW IF EXISTS %s; ", name);
	bytes_printf(sql, "CREATE OR REPLACE VIEW %s AS ", name);
	ddl_query(rng, sql);
}

static void ddl_draw_column(struct rng *rng, const char *name, struct bytes *sql)
{
	static const char *const types[3] = { "int4", "int8", "text" };
	unsigned k = (unsigned)rng_below(rng, DDL_COLS);
	unsigned type = (unsigned)rng_below(rng, 3);

	switch (rng_below(rng, 3)) {
	case 0:
		bytes_printf(sql, "ALTER TABLE %s ADD COLUMN k%u %s DEFAULT ", name, k, types[type]);
		ddl_value(sql, k, type);
		break;
	case 1:
		bytes_printf(sql, "ALTER TABLE %s DROP COLUMN k%u", name, k);
		break;
	default:
		bytes_printf(sql, "ALTER TABLE %s ALTER COLUMN k%u DROP DEFAULT, ALTER COLUMN k%u TYPE %s USING ", name,
			     k, k, types[type]);
		ddl_value(sql, k, type);
	}
}

void ddl_draw(struct rng *rng, struct bytes *sql)
{
	unsigned table = (unsigned)rng_below(rng, DDL_TABLES);
	const char *name = ddl_table(table);

	if (table == DDL_VIEW) {
		ddl_draw_view(rng, sql);
	} else if (rng_one_in(rng, 6)) {
		if (!rng_one_in(rng, 3))
			bytes_printf(sql, "DROP TABLE IF EXISTS %s; ", name);
		bytes_printf(sql, "CREATE TABLE %s AS ", name);
		ddl_query(rng, sql);
	} else if (rng_one_in(rng, 12)) {
		bytes_printf(sql, "DROP TABLE %s", name);
	} else {
		ddl_draw_column(rng, name, sql);
	}
}

void ddl_setup(struct direct *d)
{
	struct rng rng = rng_make(1, DDL_STREAM);
	struct bytes sql = { 0 };

	for (unsigned i = 0; i < DDL_TABLES; i++) {
		const char *what = i == DDL_VIEW ? "VIEW" : "TABLE";

		bytes_clear(&sql, SIZE_MAX);
		bytes_printf(&sql, "DROP %s IF EXISTS %s; CREATE %s %s AS ", what, ddl_table(i), what, ddl_table(i));
		ddl_query(&rng, &sql);
		bytes_u8(&sql, 0);
		direct_query(d, (char *)sql.data, NULL, NULL);
	}
	bytes_free(&sql);
}

static void *ddl_work(void *arg)
{
	struct ddl *ddl = arg;
	struct bytes sql = { 0 };

	while (!atomic_load(&ddl->stop)) {
		bytes_clear(&sql, SIZE_MAX);
		bytes_text(&sql, DDL_PREFIX);
		ddl_draw(&ddl->rng, &sql);
		bytes_u8(&sql, 0);
		if (direct_try(ddl->direct, (char *)sql.data))
			report_add(ddl_around, 1);
		usleep((useconds_t)rng_below(&ddl->rng, DDL_PAUSE_US));
	}
	bytes_free(&sql);
	return NULL;
}

struct ddl *ddl_start(const struct options *opt)
{
	struct ddl *ddl = xmalloc(sizeof(*ddl));

	*ddl = (struct ddl){ .rng = rng_make(opt->seed, DDL_STREAM) };
	ddl->direct = direct_open(opt->check_host, opt->check_port, opt->user, opt->check_dbname);
	if (pthread_create(&ddl->thread, NULL, ddl_work, ddl) != 0) {
		perror("could not start a thread");
		exit(3);
	}
	return ddl;
}

void ddl_stop(struct ddl *ddl)
{
	atomic_store(&ddl->stop, true);
	pthread_join(ddl->thread, NULL);
	direct_close(ddl->direct);
	free(ddl);
}
