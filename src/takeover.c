/*
 * Online restart (-R), the side of the new process.
 *
 *     new                                         old
 *      |  login as pgbouncer, Unix socket, same uid  |
 *      |  SUSPEND;  -------------------------------> | everything stands still
 *      |  SHOW HANDOVER; --------------------------> |
 *      |  <------------------- rows, each with a fd  |
 *      |  (engine, listening sockets)                |
 *      |  (MAINPID= to the service manager)          |
 *      |  SHUTDOWN;  ------------------------------> | ends, says goodbye to nobody
 *      |  (waits for the end and the pidfile)
 *      |  (sessions go to the workers; threads start)
 *
 * An instance of PgBouncer does not know SHOW HANDOVER; it is asked SHOW FDS
 * then, which says the same but for the state of each session. Columns are
 * found by their names, as their number differs between versions.
 *
 * If this process fails before SHUTDOWN, its console session ends with it, and
 * the old one resumes.
 *
 * A service ends with its main process, and systemd kills what is left of it. So
 * this one becomes the main process before the old one ends. It may not have
 * the environment of a service's first process, such as the one for the watchdog:
 * what it does about that is told with READY=1 (main.c).
 */
#include "takeover.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/pidfile.h"
#include "core/str.h"
#include "core/systemd.h"
#include "net/sock.h"
#include "pool/handover.h"
#include "pool/handover_stmt.h"
#include "pool/health.h"
#include "proto/build.h"
#include "proto/frame.h"
#include "proto/msg.h"
#include "proto/parse.h"
#include "proto/wire.h"

#define TAKEOVER_MESSAGE_MAX (4 * 1024 * 1024)
#define TAKEOVER_SEND_MAX    4096
#define TAKEOVER_COLUMNS_MAX 64
/* Beyond suspend_timeout, for an answer of the other process. */
#define TAKEOVER_ANSWER_S    15
/* Waits for the pidfile to vanish this long, looking this often. */
#define TAKEOVER_WAIT_US     10000000
#define TAKEOVER_LOOK_US     10000

/* What is used of a row, by name of the column. */
#define TAKEOVER_COLUMNS(X) \
	X(fd)               \
	X(task)             \
	X(user)             \
	X(database)         \
	X(cancel)           \
	X(link)             \
	X(client_encoding)  \
	X(std_strings)      \
	X(datestyle)        \
	X(timezone)         \
	X(password)         \
	X(scram_client_key) \
	X(scram_server_key) \
	X(parameters)       \
	X(state)

enum takeover_column {
#define X(name) COLUMN_##name,
	TAKEOVER_COLUMNS(X)
#undef X
		COLUMN_COUNT
};

struct takeover {
	int fd;        /* the console session */
	struct buf in; /* received, not worked on */
	int *received; /* descriptors, in order */
	size_t received_count;
	size_t received_used;
	int position[COLUMN_COUNT]; /* of the column in a row, -1: not there */
	struct handover_session *sessions;
	size_t session_count;
	int *listeners;
	size_t listener_count;
	int *stmt_files;
	size_t stmt_file_count;
	char **health; /* what is known of endpoints */
	size_t health_count;
	bool has_salt_key;
	uint8_t salt_key[SCRAM_KEY_LEN];
	bool timed_out;  /* receiving has taken too long */
	char error[512]; /* the last one the other side has told */
};

/* Grows an array by one zeroed element. */
static void *takeover_grow(void *array, size_t count, size_t size)
{
	/* doubles at each power of two */
	if ((count & (count - 1)) == 0)
		array = xrealloc(array, (count == 0 ? 1 : 2 * count) * size);
	memset((char *)array + count * size, 0, size);
	return array;
}

/* ---- the console session ---- */

static void takeover_send(struct takeover *t, struct buf *b, int err)
{
	size_t at = 0;

	ASSERT(err == 0);
	while (at < buf_len(b)) {
		ssize_t n = send(t->fd, buf_ptr(b) + at, buf_len(b) - at, MSG_NOSIGNAL);

		if (n <= 0 && errno != EINTR)
			log_fatal("could not talk to the running instance: %s", strerror(errno));
		at += n > 0 ? (size_t)n : 0;
	}
	buf_fini(b);
}

static void takeover_query(struct takeover *t, const char *sql)
{
	struct buf b;

	buf_init(&b, TAKEOVER_SEND_MAX);
	takeover_send(t, &b, build_query(&b, slice_of(sql)));
}

/* Keeps the descriptors that came along. */
static void takeover_keep_fds(struct takeover *t, struct msghdr *msg)
{
	struct cmsghdr *c;

	for (c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		const uint8_t *data = CMSG_DATA(c);
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			t->received = takeover_grow(t->received, t->received_count, sizeof(int));
			memcpy(&t->received[t->received_count++], data + i * sizeof(int), sizeof(int));
		}
	}
	if ((msg->msg_flags & MSG_CTRUNC) != 0)
		log_fatal("could not take over all sockets: the limit of file descriptors is too low");
}

/* Receives more; false at the end of the session. */
static bool takeover_receive(struct takeover *t)
{
	uint8_t control[CMSG_SPACE(16 * sizeof(int))] __attribute__((aligned(8)));
	uint8_t data[16 * 1024];
	struct iovec iov = { .iov_base = data, .iov_len = sizeof(data) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	ssize_t n;

	do {
		n = recvmsg(t->fd, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	t->timed_out = n < 0 && errno == EAGAIN;
	if (n <= 0)
		return false;
	takeover_keep_fds(t, &msg);
	if (buf_append(&t->in, data, (size_t)n) != 0)
		log_fatal("the running instance sends too long a message");
	return true;
}

/* The next message; valid until the next call. False at the end of the session. */
static bool takeover_next(struct takeover *t, uint8_t *type, struct slice *body)
{
	struct frame f;
	int err;

	while ((err = buf_is_empty(&t->in)
			      ? -E_AGAIN
			      : frame_read(buf_ptr(&t->in), buf_len(&t->in), TAKEOVER_MESSAGE_MAX, &f)) == -E_AGAIN ||
	       (err == 0 && f.size > buf_len(&t->in)))
		if (!takeover_receive(t))
			return false;
	if (err != 0)
		log_fatal("the running instance does not speak PostgreSQL's protocol");
	*type = f.type;
	*body = slice_make(buf_ptr(&t->in) + FRAME_HEADER, (size_t)f.size - FRAME_HEADER);
	return true;
}

static void takeover_consume(struct takeover *t, struct slice body)
{
	buf_consume(&t->in, (uint32_t)(FRAME_HEADER + body.n));
}

/* Keeps the text of an error of the other side. */
static void takeover_keep_error(struct takeover *t, struct slice body)
{
	struct parse_report report;

	if (parse_report(body, &report) == 0)
		str_format(t->error, sizeof(t->error), "%.*s", (int)report.message.n, report.message.p);
	else
		str_copy(t->error, sizeof(t->error), "an error that cannot be read");
}

/* ---- rows ---- */

static void takeover_on_columns(struct takeover *t, struct slice body)
{
	struct reader r;
	unsigned n;

	for (size_t i = 0; i < COLUMN_COUNT; i++)
		t->position[i] = -1;
	rd_init_slice(&r, body);
	n = rd_u16(&r);
	for (unsigned i = 0; i < n && r.err == 0; i++) {
		struct slice name = rd_cstr(&r);

		rd_bytes(&r, 18); /* what else is said of a column */
#define X(column)                        \
	if (slice_eq_str(name, #column)) \
		t->position[COLUMN_##column] = (int)i;
		TAKEOVER_COLUMNS(X)
#undef X
	}
	if (r.err != 0 || n > TAKEOVER_COLUMNS_MAX || t->position[COLUMN_fd] < 0 || t->position[COLUMN_task] < 0)
		log_fatal("the running instance tells of its sockets in an unknown way");
}

/* The values of a row in the order of the table above, as strings for the caller; NULL for what is not there. */
static bool takeover_read_row(const struct takeover *t, struct slice body, char *values[COLUMN_COUNT])
{
	char *all[TAKEOVER_COLUMNS_MAX] = { NULL };
	struct reader r;
	unsigned n;

	rd_init_slice(&r, body);
	n = rd_u16(&r);
	for (unsigned i = 0; i < n && i < TAKEOVER_COLUMNS_MAX && r.err == 0; i++) {
		uint32_t size = rd_u32(&r);

		if (size != UINT32_MAX)
			all[i] = slice_dup(rd_bytes(&r, size));
	}
	for (size_t i = 0; i < COLUMN_COUNT; i++) {
		int at = t->position[i];

		values[i] = at < 0 || at >= (int)n ? NULL : all[at];
		if (at >= 0 && at < (int)n)
			all[at] = NULL;
	}
	for (unsigned i = 0; i < TAKEOVER_COLUMNS_MAX; i++)
		free(all[i]);
	return r.err == 0;
}

/* The value of a hexadecimal digit, or -1. */
static int takeover_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c == '\0' ? NULL : strchr(digits, c);

	return at == NULL ? -1 : (int)(at - digits);
}

/* 64 hexadecimal digits behind "\x". */
static bool takeover_read_key(uint8_t key[SCRAM_KEY_LEN], const char *text)
{
	if (text == NULL || strlen(text) != 2 + 2 * SCRAM_KEY_LEN || text[0] != '\\' || text[1] != 'x')
		return false;
	for (size_t i = 0; i < SCRAM_KEY_LEN; i++) {
		int high = takeover_digit(text[2 + 2 * i]);
		int low = takeover_digit(text[3 + 2 * i]);

		if (high < 0 || low < 0)
			return false;
		key[i] = (uint8_t)(16 * high + low);
	}
	return true;
}

/* Parameters as every version tells them, in the way of handover_save_vars(). */
static char *takeover_read_vars(char *values[COLUMN_COUNT])
{
	const char *const names[][2] = {
		{ "client_encoding", values[COLUMN_client_encoding] },
		{ "standard_conforming_strings", values[COLUMN_std_strings] },
		{ "DateStyle", values[COLUMN_datestyle] },
		{ "TimeZone", values[COLUMN_timezone] },
	};
	struct buf b;
	char *text;
	int err = 0;

	buf_init(&b, TAKEOVER_SEND_MAX);
	for (size_t i = 0; err == 0 && i < ARRAY_LEN(names); i++)
		if (names[i][1] != NULL)
			err = handover_save_var(names[i][0], names[i][1], &b);
	text = err == 0 && !buf_is_empty(&b) ? slice_dup(slice_make(buf_ptr(&b), buf_len(&b))) : NULL;
	buf_fini(&b);
	return text;
}

static void takeover_fill_session(struct handover_session *s, char *values[COLUMN_COUNT])
{
	uint64_t key = values[COLUMN_cancel] == NULL ? 0 : strtoull(values[COLUMN_cancel], NULL, 10);

	s->is_server = strcmp(values[COLUMN_task], "server") == 0;
	s->old_fd = strtoll(values[COLUMN_fd], NULL, 10);
	s->link = values[COLUMN_link] == NULL ? 0 : strtoll(values[COLUMN_link], NULL, 10);
	for (size_t i = 0; i < sizeof(s->key); i++)
		s->key[i] = (uint8_t)(key >> (56 - 8 * i));
	s->parameters = values[COLUMN_parameters];
	values[COLUMN_parameters] = NULL;
	if (s->parameters == NULL)
		s->parameters = takeover_read_vars(values);
	s->has_keys = takeover_read_key(s->keys.client_key, values[COLUMN_scram_client_key]) &&
		      takeover_read_key(s->keys.server_key, values[COLUMN_scram_server_key]);
	s->password = values[COLUMN_password];
	s->user = values[COLUMN_user];
	s->database = values[COLUMN_database];
	s->state = values[COLUMN_state];
	values[COLUMN_password] = NULL;
	values[COLUMN_user] = values[COLUMN_database] = values[COLUMN_state] = NULL;
}

static void takeover_on_row(struct takeover *t, struct slice body)
{
	char *values[COLUMN_COUNT];
	int fd;

	if (!takeover_read_row(t, body, values) || values[COLUMN_fd] == NULL || values[COLUMN_task] == NULL)
		log_fatal("the running instance tells of its sockets in an unknown way");
	if (t->received_used == t->received_count)
		log_fatal("the running instance does not give its sockets away: it runs as another user");
	fd = t->received[t->received_used++];
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
		log_fatal("could not take over a socket: %s", strerror(errno));
	if (strcmp(values[COLUMN_task], "pooler") == 0) {
		t->listeners = takeover_grow(t->listeners, t->listener_count, sizeof(int));
		t->listeners[t->listener_count++] = fd;
	} else if (strcmp(values[COLUMN_task], HANDOVER_STMT_TASK) == 0) {
		t->stmt_files = takeover_grow(t->stmt_files, t->stmt_file_count, sizeof(int));
		t->stmt_files[t->stmt_file_count++] = fd;
	} else if (strcmp(values[COLUMN_task], HANDOVER_HEALTH_TASK) == 0 && values[COLUMN_state] != NULL) {
		t->health = takeover_grow(t->health, t->health_count, sizeof(char *));
		t->health[t->health_count++] = xstrdup(values[COLUMN_state]);
		close(fd);
	} else if (strcmp(values[COLUMN_task], HANDOVER_SALTS_TASK) == 0) {
		t->has_salt_key = takeover_read_key(t->salt_key, values[COLUMN_scram_server_key]);
		close(fd);
	} else if (values[COLUMN_user] == NULL || values[COLUMN_database] == NULL) {
		close(fd); /* of somebody who was not known yet */
	} else {
		t->sessions = takeover_grow(t->sessions, t->session_count, sizeof(struct handover_session));
		t->sessions[t->session_count].fd = fd;
		takeover_fill_session(&t->sessions[t->session_count++], values);
	}
	for (size_t i = 0; i < COLUMN_COUNT; i++) {
		if (values[i] != NULL)
			mem_wipe(values[i], strlen(values[i]));
		free(values[i]);
	}
}

/*
 * Works on messages up to ReadyForQuery. False when an error came (then t->error is
 * set) or the session ended before.
 */
static bool takeover_answer(struct takeover *t)
{
	struct slice body;
	bool ready = false;
	uint8_t type;

	t->error[0] = '\0';
	while (!ready && takeover_next(t, &type, &body)) {
		switch (type) {
		case BE_ERROR:
			takeover_keep_error(t, body);
			break;
		case BE_ROW_DESCRIPTION:
			takeover_on_columns(t, body);
			break;
		case BE_DATA_ROW:
			takeover_on_row(t, body);
			break;
		case BE_AUTH:
			if (body.n < 4 || frame_be32((const uint8_t *)body.p) != AUTH_OK)
				log_fatal("the running instance asks for a password: it runs as another user");
			break;
		case BE_READY:
			ready = true;
			break;
		default:
			break;
		}
		takeover_consume(t, body);
	}
	if (!ready && t->error[0] == '\0')
		str_copy(t->error, sizeof(t->error), t->timed_out ? "it does not answer" : "the connection was closed");
	return ready && t->error[0] == '\0';
}

/* ---- the steps ---- */

static void takeover_login(struct takeover *t)
{
	const struct build_pair pairs[] = {
		{ slice_of("user"), slice_of("pgbouncer") },
		{ slice_of("database"), slice_of("pgbouncer") },
	};
	struct buf b;

	buf_init(&b, TAKEOVER_SEND_MAX);
	takeover_send(t, &b, build_startup(&b, PROTO_V3_0, pairs, ARRAY_LEN(pairs)));
	if (!takeover_answer(t))
		log_fatal("could not log in to the running instance: %s", t->error);
}

/* A connection to the Unix socket of this configuration; -1 when nobody answers there. */
static int takeover_connect(const struct conf *conf)
{
	struct sock_addr addr;
	int fd;

	if (systemd_has_sockets())
		log_fatal("-R cannot be used with sockets passed from service manager");
	if (!str_is_set(conf->unix_socket_dir) || conf->unix_socket_dir[0] == '@')
		log_fatal("-R needs a Unix socket in the file system: unix_socket_dir is %s",
			  !str_is_set(conf->unix_socket_dir) ? "empty" : conf->unix_socket_dir);
	if (sock_addr_set_unix_dir(&addr, conf->unix_socket_dir, (uint16_t)conf->listen_port) != 0)
		log_fatal("unix_socket_dir '%s' is too long", conf->unix_socket_dir);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		log_fatal("could not make a socket: %s", strerror(errno));
	if (connect(fd, &addr.u.sa, addr.len) == 0)
		return fd;
	close(fd);
	return -1;
}

/* How long recv() waits; 0 is for ever. */
static void takeover_set_patience(int fd, uint64_t seconds)
{
	struct timeval patience = { .tv_sec = (time_t)seconds };

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0)
		log_warning("could not set a time limit for the running instance: %s", strerror(errno));
}

struct takeover *takeover_begin(const struct conf *conf)
{
	int fd = takeover_connect(conf);
	struct takeover *t;

	if (fd < 0)
		return NULL;
	t = xcalloc(1, sizeof(*t));
	t->fd = fd;
	if (conf->suspend_timeout_us > 0) /* else SUSPEND may take for ever */
		takeover_set_patience(fd, conf->suspend_timeout_us / USEC_PER_SEC + TAKEOVER_ANSWER_S);
	buf_init(&t->in, TAKEOVER_MESSAGE_MAX);
	takeover_login(t);
	log_info("suspending the running instance");
	takeover_query(t, "SUSPEND;");
	if (!takeover_answer(t))
		log_fatal("the running instance cannot be suspended: %s", t->error);
	takeover_query(t, "SHOW HANDOVER;");
	if (!takeover_answer(t)) {
		takeover_query(t, "SHOW FDS;");
		if (!takeover_answer(t))
			log_fatal("the running instance does not give its sockets away: %s", t->error);
	}
	log_info("got %zu listening sockets and %zu sessions", t->listener_count, t->session_count);
	return t;
}

size_t takeover_listeners(struct takeover *t, const int **fds)
{
	*fds = t->listeners;
	return t->listener_count;
}

static void takeover_wait_pidfile(const struct conf *conf)
{
	bool stale;

	if (!str_is_set(conf->pidfile))
		return;
	for (unsigned waited_us = 0; waited_us < TAKEOVER_WAIT_US; waited_us += TAKEOVER_LOOK_US) {
		if (access(conf->pidfile, F_OK) != 0 || (pidfile_check(conf->pidfile, &stale) == 0 && stale))
			return;
		usleep(TAKEOVER_LOOK_US);
	}
	log_warning("the pidfile '%s' of the former instance is still there", conf->pidfile);
}

/* Whom the service manager is to watch: this process, or else the other one again. */
static void takeover_notify_main(const struct takeover *t, bool is_ours)
{
	pid_t pid = getpid();

	if (is_ours || (sock_peer_cred(t->fd, NULL, &pid) == 0 && pid > 0))
		systemd_notify("MAINPID=%ld", (long)pid);
}

/* It has been told to end, so nobody goes on with the sessions but us; it must not come back to life with them. */
static void takeover_kill_other(const struct takeover *t)
{
	pid_t pid;

	if (sock_peer_cred(t->fd, NULL, &pid) != 0 || pid <= 0 || kill(pid, SIGKILL) != 0)
		log_fatal("the running instance does not end, and cannot be killed");
	log_warning("the running instance did not end, it was killed");
}

void takeover_end_other(struct takeover *t, const struct conf *conf)
{
	struct slice body;
	uint8_t type;

	takeover_set_patience(t->fd, TAKEOVER_ANSWER_S);
	takeover_notify_main(t, true);
	takeover_query(t, "SHUTDOWN;");
	while (takeover_next(t, &type, &body)) {
		if (type == BE_ERROR) {
			takeover_keep_error(t, body);
			takeover_notify_main(t, false);
			log_fatal("the running instance does not end: %s", t->error);
		}
		takeover_consume(t, body);
	}
	if (t->timed_out)
		takeover_kill_other(t);
	close(t->fd);
	t->fd = -1;
	takeover_wait_pidfile(conf);
	log_info("the former instance has ended");
}

void takeover_finish(struct takeover **takeover, struct engine *engine)
{
	struct takeover *t = *takeover;

	*takeover = NULL;
	for (size_t i = 0; i < t->health_count; i++) {
		health_load(engine->health, t->health[i]);
		free(t->health[i]);
	}
	free(t->health);
	handover_take(engine, t->sessions, t->session_count, t->stmt_files, t->stmt_file_count);
	if (t->has_salt_key)
		memcpy(engine->salt_key, t->salt_key, sizeof(engine->salt_key));
	mem_wipe(t->salt_key, sizeof(t->salt_key));
	for (size_t i = 0; i < t->stmt_file_count; i++)
		close(t->stmt_files[i]);
	free(t->stmt_files);
	for (; t->received_used < t->received_count; t->received_used++)
		close(t->received[t->received_used]); /* came with no row */
	buf_fini(&t->in);
	free(t->received);
	free(t->sessions);
	free(t->listeners);
	free(t);
}
