/*
 * Listening sockets.
 *
 *     listener_set ----+---- listen_port   one socket, counted references
 *     (control thread) |          ^
 *                      |          |
 *                      +---- listen_gate --- listen_door   one event per socket
 *                            (one loop)
 *
 * A port is referred to by the set and by one door of each loop that accepts
 * from it; its descriptor is closed when the last of them lets go. So no loop
 * ever waits on a descriptor number that somebody else got meanwhile. Ports
 * never change once they are open, but for their count.
 *
 * A gate belongs to its loop from the moment it is attached. The set keeps its
 * address only to send it orders, each a small message of its own: open the
 * doors, pause, resume, close some, go away. Messages arrive in order, so the
 * last order sent is the last obeyed.
 *
 * Several loops may accept from the same port; then each new connection wakes
 * all of those that sleep, and the first one gets it.
 */
#include "net/listen.h"

#include <fcntl.h>
#include <netdb.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "core/str.h"

/* How long a loop leaves new connections alone when descriptors or memory ran out. */
#define LISTEN_REST_S     5

#define LISTEN_GATE_MAGIC 0x6a7e1157u

/* One listening socket. */
struct listen_port {
	struct listener pub;
	_Atomic unsigned refs;
	/* control thread only: what to unlink, if it is still the socket that we bound */
	bool owns_path;
	dev_t path_dev;
	ino_t path_ino;
};

/* One port as one loop sees it. */
struct listen_door {
	struct listen_gate *gate;
	struct listen_port *port; /* NULL once closed */
	struct event *ev;         /* NULL until the first order has arrived */
};

/* All ports as one loop sees them; touched by that loop only. */
struct listen_gate {
	uint32_t magic;
	struct loop *loop;
	listen_accept_fn fn;
	void *arg;
	struct event *rest; /* ends a rest */
	bool paused;        /* told so by the control thread */
	bool resting;       /* accept() has failed */
	size_t count;
	struct listen_door doors[];
};

enum listen_order_what {
	LISTEN_ORDER_START,
	LISTEN_ORDER_PAUSE,
	LISTEN_ORDER_RESUME,
	LISTEN_ORDER_CLOSE,
	LISTEN_ORDER_FREE,
};

struct listen_order {
	struct loop_msg msg;
	struct listen_gate *gate;
	enum listen_order_what what;
	enum listen_kind kinds; /* of LISTEN_ORDER_CLOSE */
};

struct listener_set {
	struct listen_port **ports;
	size_t port_count;
	struct listen_gate **gates;
	size_t gate_count;
	bool paused; /* for loops attached later */
};

/* Ports ------------------------------------------------------------------ */

static enum listen_kind listen_port_kind(const struct listen_port *port)
{
	return sock_addr_is_unix(&port->pub.addr) ? LISTEN_UNIX : LISTEN_TCP;
}

static struct listen_port *listen_port_hold(struct listen_port *port)
{
	atomic_fetch_add_explicit(&port->refs, 1, memory_order_relaxed);
	return port;
}

static void listen_port_release(struct listen_port *port)
{
	if (atomic_fetch_sub_explicit(&port->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (port->pub.fd >= 0)
		close(port->pub.fd);
	free(port);
}

/* The path in the file system of a port that has one. */
static bool listen_port_stat(const struct listen_port *port, char *path, size_t size, struct stat *st)
{
	return listen_port_kind(port) == LISTEN_UNIX && sock_addr_path(&port->pub.addr, path, size) > 0 &&
	       path[0] != '@' && lstat(path, st) == 0 && S_ISSOCK(st->st_mode);
}

/* Takes the descriptor over. The address is read back, for port 0 and for adopted sockets. */
static void listen_set_add(struct listener_set *set, int fd, bool own_path)
{
	struct listen_port *port = xcalloc(1, sizeof(*port));
	char path[SOCK_ADDR_TEXT];
	struct stat st;

	port->pub.fd = fd;
	atomic_init(&port->refs, 1);
	if (sock_local_addr(fd, &port->pub.addr) != 0)
		log_warning("could not get the address of a listening socket: %s", strerror(errno));
	if (own_path && listen_port_stat(port, path, sizeof(path), &st)) {
		port->owns_path = true;
		port->path_dev = st.st_dev;
		port->path_ino = st.st_ino;
	}
	set->ports = xrealloc(set->ports, (set->port_count + 1) * sizeof(*set->ports));
	set->ports[set->port_count++] = port;
}

static void listen_port_unlink(struct listen_port *port)
{
	char path[SOCK_ADDR_TEXT];
	struct stat st;

	/* A successor may have put its own socket there. */
	if (port->owns_path && listen_port_stat(port, path, sizeof(path), &st) && st.st_dev == port->path_dev &&
	    st.st_ino == port->path_ino)
		unlink(path);
	port->owns_path = false;
}

/* Opening ---------------------------------------------------------------- */

static void listen_warn(const struct sock_addr *addr, const char *call)
{
	const char *reason = strerror(errno);
	char text[SOCK_ADDR_TEXT];

	sock_addr_format(addr, text, sizeof(text));
	log_warning("cannot listen on %s: %s(): %s", text, call, reason);
}

static void listen_log_port(const struct listen_port *port)
{
	char text[SOCK_ADDR_TEXT];

	sock_addr_format(&port->pub.addr, text, sizeof(text));
	log_info("listening on %s", text);
}

/* Names may lead to the same address; so may a name and a literal. */
static bool listen_set_has(const struct listener_set *set, const struct sock_addr *addr)
{
	for (size_t i = 0; i < set->port_count; i++)
		if (sock_addr_same_host(&set->ports[i]->pub.addr, addr))
			return true;
	return false;
}

static void listen_open_addr(struct listener_set *set, const struct listen_conf *conf, const struct sock_addr *addr)
{
	const char *call;
	int fd;

	if (listen_set_has(set, addr))
		return;
	fd = sock_listen_tcp(addr, &conf->tcp, &call);
	if (fd < 0) {
		if (!conf->is_retry)
			listen_warn(addr, call);
		return;
	}
	listen_set_add(set, fd, false);
	listen_log_port(set->ports[set->port_count - 1]);
}

static int listen_open_name(struct listener_set *set, const struct listen_conf *conf, const char *name, char *err,
			    size_t err_size)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	struct addrinfo *list;
	struct sock_addr addr;
	int rc = getaddrinfo(name, NULL, &hints, &list);

	if (rc != 0) {
		str_format(err, err_size, "getaddrinfo('%s', '%u') = %s [%d]", name, conf->port, gai_strerror(rc), rc);
		return -E_NOENT;
	}
	for (const struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next) {
		if (!sock_addr_set(&addr, ai->ai_addr, ai->ai_addrlen))
			continue;
		sock_addr_set_port(&addr, conf->port);
		listen_open_addr(set, conf, &addr);
	}
	freeaddrinfo(list);
	return 0;
}

/* One element of listen_addr. */
static int listen_open_element(struct listener_set *set, const struct listen_conf *conf, struct slice element,
			       char *err, size_t err_size)
{
	static const char *const any[] = { "0.0.0.0", "::" };
	struct sock_addr addr;
	char *name;
	int rc;

	if (slice_eq_str(element, "*")) {
		for (size_t i = 0; i < ARRAY_LEN(any); i++)
			if (sock_addr_parse(&addr, any[i], conf->port) == 0)
				listen_open_addr(set, conf, &addr);
		return 0;
	}
	name = slice_dup(element);
	rc = listen_open_name(set, conf, name, err, err_size);
	free(name);
	return rc;
}

static int listen_open_tcp(struct listener_set *set, const struct listen_conf *conf, char *err, size_t err_size)
{
	const char *p = conf->addrs == NULL ? "" : conf->addrs;
	bool wanted = false;
	int rc;

	if (conf->tcp.reuseport && !sock_can_reuseport()) {
		str_format(err, err_size, "so_reuseport not supported on this platform");
		return -E_UNSUPPORTED;
	}
	for (;;) {
		size_t n = strcspn(p, ",");
		struct slice element = slice_trim(slice_make(p, n));

		if (element.n > 0) {
			wanted = true;
			rc = listen_open_element(set, conf, element, err, err_size);
			if (rc != 0)
				return rc;
		}
		if (p[n] == '\0')
			break;
		p += n + 1;
	}
	if (wanted && set->port_count == 0) {
		str_format(err, err_size, "failed to listen on any address in listen_addr list: %s", conf->addrs);
		return -E_SYS;
	}
	return 0;
}

static int listen_open_unix(struct listener_set *set, const struct listen_conf *conf, char *err, size_t err_size)
{
	struct sock_addr addr;
	const char *call;
	int fd;

	if (!str_is_set(conf->unix_dir))
		return 0;
	if (sock_addr_set_unix_dir(&addr, conf->unix_dir, conf->port) != 0) {
		str_format(err, err_size, "unix_socket_dir is too long: %s", conf->unix_dir);
		return -E_TOOBIG;
	}
	fd = sock_listen_unix(&addr, conf->unix_mode, conf->unix_group, conf->tcp.backlog, &call);
	switch (fd) {
	case -E_EXISTS:
		if (sock_unix_is_locked(&addr))
			str_format(err, err_size, "unix port %u is in use", conf->port);
		else
			str_format(err, err_size, "unix socket is in use, cannot continue");
		return fd;
	case -E_NOENT:
		str_format(err, err_size, "could not find unix_socket_group '%s'", conf->unix_group);
		return fd;
	case -E_SYS:
		listen_warn(&addr, call);
		str_format(err, err_size, "failed to create unix socket");
		return fd;
	default:
		listen_set_add(set, fd, true);
		listen_log_port(set->ports[set->port_count - 1]);
		return 0;
	}
}

struct listener_set *listener_set_open(const struct listen_conf *conf, char *err, size_t err_size)
{
	struct listener_set *set = xcalloc(1, sizeof(*set));
	int rc = listen_open_tcp(set, conf, err, err_size);

	if (rc == 0)
		rc = listen_open_unix(set, conf, err, err_size);
	if (rc == 0 && set->port_count == 0) {
		str_format(err, err_size, "nowhere to listen on");
		rc = -E_NOENT;
	}
	if (rc != 0)
		listener_set_free(&set);
	return set;
}

/* True for a stream socket of ours that listens; it is made non-blocking then. */
static bool listen_is_usable(int fd)
{
	int listening = 0;
	socklen_t len = sizeof(listening);
	int flags = fcntl(fd, F_GETFL);
	struct sock_addr bound;
	struct sock_addr addr;

	return flags >= 0 && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && listening != 0 &&
	       sock_local_addr(fd, &bound) == 0 && sock_addr_set(&addr, &bound.u.sa, bound.len) &&
	       fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

struct listener_set *listener_set_adopt(const int *fds, size_t count, const struct listen_conf *conf, bool own_paths,
					char *err, size_t err_size)
{
	struct listener_set *set;

	if (count == 0) {
		str_format(err, err_size, "nowhere to listen on");
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		if (!listen_is_usable(fds[i])) {
			str_format(err, err_size, "descriptor %d is not a listening socket", fds[i]);
			return NULL;
		}
	}
	set = xcalloc(1, sizeof(*set));
	for (size_t i = 0; i < count; i++) {
		listen_set_add(set, fds[i], own_paths);
		listen_log_port(set->ports[i]);
	}
	listener_set_retune(set, &conf->tcp);
	return set;
}

/* One loop --------------------------------------------------------------- */

/* Makes the events say what the flags say. */
static void listen_gate_update(struct listen_gate *gate)
{
	bool open = !gate->paused && !gate->resting;

	for (size_t i = 0; i < gate->count; i++) {
		if (gate->doors[i].ev == NULL)
			continue;
		if (open)
			event_add(gate->doors[i].ev, NULL);
		else
			event_del(gate->doors[i].ev);
	}
}

static void listen_rest_cb(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct listen_gate *gate = arg;

	CHECK_OBJ(gate, LISTEN_GATE_MAGIC);
	gate->resting = false;
	listen_gate_update(gate);
}

/* No descriptors or no memory: without a rest the event would fire again and again. */
static void listen_gate_rest(struct listen_gate *gate, int err)
{
	struct timeval period = { .tv_sec = LISTEN_REST_S };

	/* several loops run dry at the same time */
	log_error_rarely(1, "accept() failed: %s", strerror(err));
	gate->resting = true;
	event_add(gate->rest, &period);
	listen_gate_update(gate);
}

static void listen_readable_cb(evutil_socket_t listen_fd UNUSED, short what UNUSED, void *arg)
{
	struct listen_door *door = arg;
	struct listen_gate *gate = door->gate;
	struct sock_addr peer;
	int fd;

	CHECK_OBJ(gate, LISTEN_GATE_MAGIC);
	/* One at a time: the event is level-triggered, and a second call would mostly find nobody. */
	fd = sock_accept(door->port->pub.fd, &peer);
	if (fd == -E_AGAIN)
		return;
	if (fd < 0)
		listen_gate_rest(gate, errno);
	else
		gate->fn(gate->loop, fd, &door->port->pub, &peer, gate->arg);
}

static void listen_gate_start(struct listen_gate *gate)
{
	struct event_base *base = loop_base(gate->loop);

	gate->rest = event_new(base, -1, 0, listen_rest_cb, gate);
	ASSERT(gate->rest != NULL);
	for (size_t i = 0; i < gate->count; i++) {
		struct listen_door *door = &gate->doors[i];

		door->ev = event_new(base, door->port->pub.fd, EV_READ | EV_PERSIST, listen_readable_cb, door);
		ASSERT(door->ev != NULL);
	}
	listen_gate_update(gate);
}

static void listen_gate_close(struct listen_gate *gate, enum listen_kind kinds)
{
	for (size_t i = 0; i < gate->count; i++) {
		struct listen_door *door = &gate->doors[i];

		if (door->port == NULL || (listen_port_kind(door->port) & kinds) == 0)
			continue;
		event_free(door->ev);
		door->ev = NULL;
		listen_port_release(door->port);
		door->port = NULL;
	}
}

static void listen_gate_free(struct listen_gate *gate)
{
	listen_gate_close(gate, LISTEN_ALL);
	event_free(gate->rest);
	gate->magic = 0;
	free(gate);
}

static void listen_order_fn(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct listen_order *order = CONTAINER_OF(msg, struct listen_order, msg);
	struct listen_gate *gate = order->gate;

	CHECK_OBJ(gate, LISTEN_GATE_MAGIC);
	switch (order->what) {
	case LISTEN_ORDER_START:
		listen_gate_start(gate);
		break;
	case LISTEN_ORDER_PAUSE:
		gate->paused = true;
		listen_gate_update(gate);
		break;
	case LISTEN_ORDER_RESUME:
		gate->paused = false;
		gate->resting = false;
		event_del(gate->rest);
		listen_gate_update(gate);
		break;
	case LISTEN_ORDER_CLOSE:
		listen_gate_close(gate, order->kinds);
		break;
	case LISTEN_ORDER_FREE:
		listen_gate_free(gate);
		break;
	}
	free(order);
}

/* The set ---------------------------------------------------------------- */

static void listen_order_send(struct listen_gate *gate, enum listen_order_what what, enum listen_kind kinds)
{
	struct listen_order *order = xcalloc(1, sizeof(*order));

	order->msg.fn = listen_order_fn;
	order->gate = gate;
	order->what = what;
	order->kinds = kinds;
	loop_post(gate->loop, &order->msg);
}

static void listen_order_send_all(struct listener_set *set, enum listen_order_what what, enum listen_kind kinds)
{
	for (size_t i = 0; i < set->gate_count; i++)
		listen_order_send(set->gates[i], what, kinds);
}

void listener_set_attach(struct listener_set *set, struct loop *loop, listen_accept_fn fn, void *arg)
{
	struct listen_gate *gate = xcalloc(1, sizeof(*gate) + set->port_count * sizeof(gate->doors[0]));

	gate->magic = LISTEN_GATE_MAGIC;
	gate->loop = loop;
	gate->fn = fn;
	gate->arg = arg;
	gate->paused = set->paused;
	gate->count = set->port_count;
	for (size_t i = 0; i < gate->count; i++) {
		gate->doors[i].gate = gate;
		gate->doors[i].port = listen_port_hold(set->ports[i]);
	}
	set->gates = xrealloc(set->gates, (set->gate_count + 1) * sizeof(*set->gates));
	set->gates[set->gate_count++] = gate;
	listen_order_send(gate, LISTEN_ORDER_START, LISTEN_ALL);
}

void listener_set_pause(struct listener_set *set)
{
	set->paused = true;
	listen_order_send_all(set, LISTEN_ORDER_PAUSE, LISTEN_ALL);
}

void listener_set_resume(struct listener_set *set)
{
	set->paused = false;
	listen_order_send_all(set, LISTEN_ORDER_RESUME, LISTEN_ALL);
}

void listener_set_close(struct listener_set *set, enum listen_kind kinds)
{
	size_t kept = 0;

	listen_order_send_all(set, LISTEN_ORDER_CLOSE, kinds);
	for (size_t i = 0; i < set->port_count; i++) {
		struct listen_port *port = set->ports[i];

		if ((listen_port_kind(port) & kinds) == 0) {
			set->ports[kept++] = port;
			continue;
		}
		listen_port_unlink(port);
		listen_port_release(port);
	}
	set->port_count = kept;
}

void listener_set_free(struct listener_set **setp)
{
	struct listener_set *set = *setp;

	*setp = NULL;
	if (set == NULL)
		return;
	listener_set_close(set, LISTEN_ALL);
	listen_order_send_all(set, LISTEN_ORDER_FREE, LISTEN_ALL);
	free(set->gates);
	free(set->ports);
	free(set);
}

void listener_set_unlink_paths(struct listener_set *set)
{
	for (size_t i = 0; i < set->port_count; i++)
		listen_port_unlink(set->ports[i]);
}

void listener_set_disown_paths(struct listener_set *set)
{
	for (size_t i = 0; i < set->port_count; i++)
		set->ports[i]->owns_path = false;
}

void listener_set_retune(struct listener_set *set, const struct sock_listen_opts *opts)
{
	for (size_t i = 0; i < set->port_count; i++)
		if (listen_port_kind(set->ports[i]) == LISTEN_TCP)
			sock_retune_listen(set->ports[i]->pub.fd, opts);
}

size_t listener_set_count(const struct listener_set *set)
{
	return set->port_count;
}

const struct listener *listener_set_get(const struct listener_set *set, size_t i)
{
	ASSERT(i < set->port_count);
	return &set->ports[i]->pub;
}
