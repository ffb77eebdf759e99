#include "admin/show.h"

#include "admin/extended.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "proto/build.h"

/* Room for a number or a time as text. */
#define SHOW_CELL_SIZE  64

/* Texts are kept in pieces of memory at least this large. */
#define SHOW_TEXTS_SIZE 4096

/* Rows that are sent in one turn of the control loop, and the rest after it. */
#define SHOW_SLICE      128
#define SHOW_REST_US    1000

struct show_texts {
	struct show_texts *next;
	size_t size;
	size_t used;
	char text[];
};

/* ---- rows ---- */

void *show_add_row(struct show_rows *rows)
{
	void *row;

	if (rows->count == rows->capacity) {
		rows->capacity = rows->capacity == 0 ? 16 : rows->capacity * 2;
		rows->data = xrealloc(rows->data, rows->capacity * rows->row_size);
	}
	row = rows->data + rows->count++ * rows->row_size;
	memset(row, 0, rows->row_size);
	return row;
}

void *show_row(const struct show_rows *rows, size_t i)
{
	ASSERT(i < rows->count);
	return rows->data + i * rows->row_size;
}

void show_sort(struct show_rows *rows, int (*compare)(const void *, const void *))
{
	if (rows->count > 1)
		qsort(rows->data, rows->count, rows->row_size, compare);
}

const char *show_keep_text(struct show_rows *rows, const char *text)
{
	struct show_texts *t = rows->texts;
	size_t n;

	if (text == NULL)
		return NULL;
	n = strlen(text) + 1;
	if (t == NULL || t->size - t->used < n) {
		size_t size = n > SHOW_TEXTS_SIZE ? n : SHOW_TEXTS_SIZE;

		t = xmalloc(sizeof(*t) + size);
		t->size = size;
		t->used = 0;
		t->next = rows->texts;
		rows->texts = t;
	}
	memcpy(t->text + t->used, text, n);
	t->used += n;
	return t->text + t->used - n;
}

void show_free_rows(struct show_rows *rows)
{
	struct show_texts *t;

	while ((t = rows->texts) != NULL) {
		rows->texts = t->next;
		mem_wipe(t->text, t->used); /* keys are among them */
		free(t);
	}
	free(rows->data);
}

/* ---- variables without a meaning ---- */

/* name, value: what drivers ask for when they connect */
#define SHOW_FAKE_TABLE(X)                                 \
	X(client_encoding, "UTF-8")                        \
	X(default_transaction_isolation, "read committed") \
	X(standard_conforming_strings, "on")               \
	X(datestyle, "ISO")                                \
	X(timezone, "GMT")                                 \
	X(extra_float_digits, "2")

struct show_fake_row {
	const char *value;
};

#define X(variable, text)                                                                                  \
	static const struct show_column show_fake_columns_##variable[] = {                                 \
		{ #variable, OID_TEXT, SHOW_TEXT, offsetof(struct show_fake_row, value), "always " text }, \
	};                                                                                                 \
	static void show_fill_##variable(struct show *show)                                                \
	{                                                                                                  \
		((struct show_fake_row *)show_add_row(&show->rows))->value = text;                         \
	}                                                                                                  \
	static const struct show_table show_fake_##variable = {                                            \
		.name = #variable,                                                                         \
		.help = "A variable that drivers ask for. SET of it changes nothing.",                     \
		.right = COMMAND_FOR_STATS,                                                                \
		.columns = show_fake_columns_##variable,                                                   \
		.column_count = 1,                                                                         \
		.row_size = sizeof(struct show_fake_row),                                                  \
		.fill = show_fill_##variable,                                                              \
	};
SHOW_FAKE_TABLE(X)
#undef X

/* SELECT 1: how drivers and monitors ask whether a session is alive. */
struct show_one_row {
	int64_t one;
};

static const struct show_column show_one_columns[] = {
	{ "?column?", OID_INT4, SHOW_INT, offsetof(struct show_one_row, one), "always 1" },
};

static void show_fill_one(struct show *show)
{
	((struct show_one_row *)show_add_row(&show->rows))->one = 1;
}

static const struct show_table show_one = {
	.name = "1",
	.help = "How programs ask whether the session is alive. Only with console_extended.",
	.right = COMMAND_FOR_STATS,
	.needs_extended = true,
	.columns = show_one_columns,
	.column_count = 1,
	.row_size = sizeof(struct show_one_row),
	.fill = show_fill_one,
};

/* SHOW HELP is a notice, not a table. */
static const struct show_table show_help = {
	.name = "HELP",
	.help = "The commands, as a notice; there are no rows.",
	.right = COMMAND_FOR_STATS,
	.in_help = true,
};

static const struct show_table *const show_tables[] = {
	&show_help,        &show_config,     &show_databases,    &show_pools,
	&show_clients,     &show_servers,    &show_users,        &show_version,
	&show_peers,       &show_peer_pools, &show_sockets,      &show_active_sockets,
	&show_lists,       &show_mem,        &show_state,        &show_dns_hosts,
	&show_dns_zones,   &show_stats,      &show_stats_totals, &show_stats_averages,
	&show_totals,      &show_fds,        &show_handover,     &show_one,
	&show_loops,       &show_auth_cache, &show_queue,        &show_queues,
	&show_endpoints,   &show_failovers,  &show_readiness,    &show_timeouts,
	&show_breakers,    &show_retries,
#define X(variable, text) &show_fake_##variable,
	SHOW_FAKE_TABLE(X)
#undef X
};

const struct show_table *show_at(size_t i)
{
	return i < ARRAY_LEN(show_tables) ? show_tables[i] : NULL;
}

const struct show_table *show_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(show_tables); i++)
		if (strcasecmp(name, show_tables[i]->name) == 0)
			return show_tables[i];
	return NULL;
}

bool show_is_fake_variable(const char *name)
{
#define X(variable, text)                     \
	if (strcasecmp(name, #variable) == 0) \
		return true;
	SHOW_FAKE_TABLE(X)
#undef X
	return false;
}

/* ---- SHOW HELP ---- */

static void show_answer_help(struct console *c)
{
	char text[4096] = "\n\tSHOW ";
	const char *separator = "";

	for (size_t i = 0; i < ARRAY_LEN(show_tables); i++) {
		if (!show_tables[i]->in_help)
			continue;
		str_append(text, sizeof(text), "%s%s", separator, show_tables[i]->name);
		separator = "|";
	}
	for (size_t i = 0; command_at(i) != NULL; i++)
		if (command_at(i)->help != NULL)
			str_append(text, sizeof(text), "\n\t%s", command_at(i)->help);
	console_notice(c, "Console usage", text);
	console_finish_tag(c, "SHOW");
}

/* ---- sending ---- */

/* Writes a number to the end of `cell`: of ten thousand rows most of the work is in their numbers. */
static struct slice show_number(int64_t number, char cell[SHOW_CELL_SIZE])
{
	uint64_t left = number < 0 ? -(uint64_t)number : (uint64_t)number;
	size_t at = SHOW_CELL_SIZE;

	do {
		cell[--at] = (char)('0' + left % 10);
		left /= 10;
	} while (left > 0);
	if (number < 0)
		cell[--at] = '-';
	return slice_make(cell + at, SHOW_CELL_SIZE - at);
}

/* Writes a time; rows that follow each other often have the same. Control thread. */
static struct slice show_time(uint64_t mono_us, char cell[SHOW_CELL_SIZE])
{
	static time_t last_when = -1;
	static char last_text[SHOW_CELL_SIZE];
	time_t when = clock_mono_to_wall(mono_us);

	if (when != last_when) {
		clock_format(when, last_text, sizeof(last_text));
		last_when = when;
	}
	str_copy(cell, SHOW_CELL_SIZE, last_text);
	return slice_of(cell);
}

static struct slice show_host(const struct sock_peer *peer, char cell[SHOW_CELL_SIZE])
{
	struct sock_addr full;

	if (peer->family == AF_UNIX)
		return slice_of("unix");
	sock_peer_get(peer, &full);
	return full.len == 0 ? slice_of("") : slice_make(cell, sock_addr_host(&full, cell, SHOW_CELL_SIZE));
}

/* The value of a column; what is no text is written into `cell`. */
static struct slice show_value(const struct show_column *col, const uint8_t *row, char cell[SHOW_CELL_SIZE])
{
	const void *at = row + col->offset;
	const void *pointer;
	uint64_t when;
	int64_t number;

	switch (col->kind) {
	case SHOW_TEXT:
		return slice_of(*(const char *const *)at);
	case SHOW_CHARS:
		return slice_of(at);
	case SHOW_INT:
		memcpy(&number, at, sizeof(number));
		return show_number(number, cell);
	case SHOW_MAYBE:
		memcpy(&number, at, sizeof(number));
		return number == SHOW_NULL ? slice_of(NULL) : show_number(number, cell);
	case SHOW_ADDR:
		return show_host(at, cell);
	case SHOW_TIME:
		memcpy(&when, at, sizeof(when));
		return when == 0 ? slice_of(NULL) : show_time(when, cell);
	case SHOW_PTR:
		memcpy(&pointer, at, sizeof(pointer));
		return slice_make(cell, pointer == NULL ? 0 : str_format(cell, SHOW_CELL_SIZE, "%p", pointer));
	}
	UNREACHABLE();
}

static bool show_is_binary(const struct show_formats *formats, size_t column)
{
	if (formats == NULL || formats->count == 0)
		return false;
	if (formats->count == 1)
		return formats->is_binary[0];
	return column < formats->count && formats->is_binary[column];
}

static bool show_is_number(const struct show_column *column)
{
	return column->kind == SHOW_INT || column->kind == SHOW_MAYBE;
}

static size_t show_put(uint8_t *to, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
	return bytes;
}

/* PostgreSQL's numeric: digits to the base of 10000, the weight of the first, sign, digits behind the point. */
static size_t show_put_numeric(uint8_t *to, int64_t number)
{
	uint64_t left = number < 0 ? -(uint64_t)number : (uint64_t)number;
	uint16_t digits[8];
	size_t n = 0;
	size_t at = 8;

	for (; left > 0; left /= 10000)
		digits[n++] = (uint16_t)(left % 10000);
	show_put(to, n, 2);
	show_put(to + 2, n == 0 ? 0 : n - 1, 2);
	show_put(to + 4, number < 0 ? 0x4000 : 0, 2);
	show_put(to + 6, 0, 2);
	while (n > 0)
		at += show_put(to + at, digits[--n], 2);
	return at;
}

/* A number in the binary format of the column's type. Texts look the same in both formats. */
static struct slice show_binary(const struct show_column *col, const uint8_t *row, uint8_t cell[SHOW_CELL_SIZE])
{
	int64_t number;

	memcpy(&number, row + col->offset, sizeof(number));
	if (col->kind == SHOW_MAYBE && number == SHOW_NULL)
		return slice_of(NULL);
	switch (col->oid) {
	case OID_INT4:
		return slice_make(cell, show_put(cell, (uint64_t)number, 4));
	case OID_INT8:
		return slice_make(cell, show_put(cell, (uint64_t)number, 8));
	default:
		ASSERT(col->oid == OID_NUMERIC);
		return slice_make(cell, show_put_numeric(cell, number));
	}
}

size_t show_column_count(const struct show_table *table, enum conf_profile profile)
{
	return profile == CONF_PROFILE_PGSLUICE ? table->column_count : table->column_count - table->own_count;
}

bool show_has_own(const struct show *show)
{
	return show->table->own_count > 0 && show->admin->profile == CONF_PROFILE_PGSLUICE;
}

void show_send_columns(struct console *c, const struct show_table *table, const struct show_formats *formats)
{
	size_t count = show_column_count(table, c->admin->profile);
	struct build_column cols[SHOW_COLUMNS_MAX];

	ASSERT(count <= ARRAY_LEN(cols));
	for (size_t i = 0; i < count; i++)
		cols[i] = (struct build_column){ table->columns[i].name, table->columns[i].oid,
						 show_is_binary(formats, i) };
	console_note(c, build_row_description(&c->reply, cols, count));
}

static void show_send_row(struct console *c, const struct show_table *table, const uint8_t *row)
{
	const struct show_formats *formats = c->in_execute ? extended_formats(c->extended) : NULL;
	char cells[SHOW_COLUMNS_MAX][SHOW_CELL_SIZE];
	size_t count = show_column_count(table, c->admin->profile);
	struct slice values[SHOW_COLUMNS_MAX];

	for (size_t i = 0; i < count; i++) {
		if (show_is_number(&table->columns[i]) && show_is_binary(formats, i))
			values[i] = show_binary(&table->columns[i], row, (uint8_t *)cells[i]);
		else
			values[i] = show_value(&table->columns[i], row, cells[i]);
	}
	console_note(c, build_data_row(&c->reply, values, count));
}

void show_send_rows(struct console *c, const struct show_table *table, const struct show_rows *rows)
{
	for (size_t i = 0; i < rows->count && !c->closed; i++) {
		const void *row = show_row(rows, i);

		show_send_row(c, table, row);
		if (table->descriptor != NULL)
			console_send_descriptor(c, table->descriptor(c, row));
	}
}

static void show_free(struct show *show)
{
	for (unsigned i = 0; i < show->part_count; i++)
		show_free_rows(&show->parts[i]);
	show_free_rows(&show->rows);
	loop_alarm_fini(&show->alarm);
	snapshot_release(&show->snap);
	free(show);
}

void show_drop(struct show **showp)
{
	struct show *show = *showp;

	*showp = NULL;
	if (show != NULL)
		show_free(show);
}

static void show_finish(struct show *show)
{
	struct console *c = show->console;

	c->show = NULL;
	show_free(show);
	console_finish_tag(c, "SHOW");
}

static void show_on_alarm(struct loop *loop UNUSED, void *arg)
{
	struct show *show = arg;

	if (!stream_is_choked(&show->console->stream))
		show_resume(show);
}

void show_resume(struct show *show)
{
	struct console *c = show->console;

	if (c->closed)
		return;
	for (size_t n = 0; n < SHOW_SLICE && show->sent < show->rows.count; n++)
		show_send_row(c, show->table, show_row(&show->rows, show->sent++));
	if (show->sent == show->rows.count)
		show_finish(show);
	else if (console_send(c))
		loop_alarm_set(&show->alarm, SHOW_REST_US);
}

/* All loops have answered; the session may be gone. */
static void show_complete(void *arg)
{
	struct show *show = arg;
	struct console *c = admin_find_console(show->admin, show->console_id);

	if (c == NULL) {
		show_free(show);
		return;
	}
	show->table->fill(show);
	if (!c->in_execute)
		show_send_columns(c, show->table, NULL);
	show->console = c;
	c->show = show;
	if (show->table->descriptor != NULL) {
		show_send_rows(c, show->table, &show->rows);
		show->sent = show->rows.count;
	}
	show_resume(show);
}

bool show_await_loops(struct show_visit *visit UNUSED)
{
	return false;
}

static bool show_visit(struct loop_ctx *ctx, struct worker *worker, unsigned index, uint64_t *at, void *arg)
{
	struct show *show = arg;
	struct show_visit visit = {
		.ctx = ctx,
		.worker = worker,
		.with_own = show_has_own(show),
		.at = at,
		.rows = &show->parts[index],
	};

	ASSERT(index < show->part_count);
	return show->table->visit(&visit);
}

void show_run(struct console *c, const struct command *command UNUSED, const struct sql_cmd *cmd)
{
	const struct show_table *table = show_find(cmd->arg);
	struct engine *engine = c->admin->engine;
	struct show *show;

	if (table == &show_help) {
		show_answer_help(c);
		return;
	}
	if (table->descriptor != NULL && admin_is_taken(c)) {
		console_finish_error(c, CONSOLE_E_TAKEN);
		return;
	}
	show = xcalloc(1, sizeof(*show) + engine_loop_count(engine) * sizeof(show->parts[0]));
	show->admin = c->admin;
	show->engine = engine;
	show->table = table;
	show->snap = engine_snapshot(engine);
	show->now_us = clock_mono_us();
	show->console_id = c->id;
	loop_alarm_init(&show->alarm, engine->control, show_on_alarm, show);
	show->rows.row_size = table->row_size;
	show->part_count = engine_loop_count(engine);
	for (unsigned i = 0; i < show->part_count; i++)
		show->parts[i].row_size = table->part_row_size;
	if (table->begin != NULL)
		table->begin(c);
	if (table->visit == NULL) {
		show_complete(show);
		return;
	}
	admin_wait(c, CONSOLE_WAIT_WORKERS, NULL);
	survey_start(engine, show_visit, show_complete, show);
}
