/*
 * The listening sockets of the process. The control thread opens and closes
 * them; any number of loops accept from them, each with events of its own that
 * are added and removed by messages to that loop.
 */
#ifndef PGSLUICE_NET_LISTEN_H
#define PGSLUICE_NET_LISTEN_H

#include "net/loop.h"
#include "net/sock.h"

struct listener_set;

/* What to listen on. Strings are needed during listener_set_open() only. */
struct listen_conf {
	const char *addrs;           /* comma list of names, literals and "*"; NULL or empty: no TCP */
	uint16_t port;               /* also names the Unix socket */
	const char *unix_dir;        /* directory, or '@...'; NULL or empty: no Unix socket */
	unsigned unix_mode;          /* permissions of the Unix socket */
	const char *unix_group;      /* name or number; NULL or empty: leave */
	struct sock_listen_opts tcp; /* backlog counts for the Unix socket too */
	bool is_retry;               /* an address that cannot be bound is no news, it has been logged */
};

/* One listening socket, as accept callbacks and SHOW see it. */
struct listener {
	int fd;
	struct sock_addr addr; /* with the port that was really bound */
};

/*
 * A new connection: the callback owns fd (non-blocking, close-on-exec). `from`
 * is valid during the call. `peer` of a Unix client has no name.
 */
typedef void (*listen_accept_fn)(struct loop *loop, int fd, const struct listener *from, const struct sock_addr *peer,
				 void *arg);

enum listen_kind {
	LISTEN_TCP = 1,
	LISTEN_UNIX = 2,
	LISTEN_ALL = 3,
};

/*
 * Opens everything and logs "listening on ..."; an address that cannot be
 * bound is a warning. Returns NULL and a text for the fatal message in `err`
 * when a name does not resolve, no TCP address could be bound, the Unix socket
 * is in use or failed, or there is nothing to listen on. Blocks for names.
 * Control thread, like all functions here.
 */
struct listener_set *listener_set_open(const struct listen_conf *conf, char *err, size_t err_size) MUSTCHECK;

/*
 * Takes over sockets that already listen: from systemd (own_paths false: it
 * unlinks them itself) or from an older process (own_paths true). Only
 * conf->tcp is used. On failure the fds stay open.
 */
struct listener_set *listener_set_adopt(const int *fds, size_t count, const struct listen_conf *conf, bool own_paths,
					char *err, size_t err_size) MUSTCHECK;

/* Closes everything as listener_set_close() does and frees the set. The attached loops must still exist. */
void listener_set_free(struct listener_set **set);

/* Accepts on this loop from now on; may be called for several loops, once each, while they run or before. */
void listener_set_attach(struct listener_set *set, struct loop *loop, listen_accept_fn fn, void *arg);

/*
 * No loop accepts until listener_set_resume(); connections queue up in the
 * kernel. It reaches each loop by message: what the caller posts to a loop
 * afterwards finds it done. Resuming also ends the five seconds' rest that a
 * loop takes when accept() fails for lack of descriptors or memory.
 */
void listener_set_pause(struct listener_set *set);
void listener_set_resume(struct listener_set *set);

/*
 * Ends listening on sockets of the kinds given. Unix sockets are unlinked at
 * once; an fd is closed when the last loop has dropped its event.
 */
void listener_set_close(struct listener_set *set, enum listen_kind kinds);

/*
 * Unlinks our Unix sockets, if they are still ours, and forgets their paths;
 * for a quick exit.
 */
void listener_set_unlink_paths(struct listener_set *set);

/* Leaves the Unix sockets in the file system from now on: another process goes on with them. */
void listener_set_disown_paths(struct listener_set *set);

/* New options for connections accepted from now on; backlog and reuseport stay as they are. */
void listener_set_retune(struct listener_set *set, const struct sock_listen_opts *opts);

/* The sockets that are open, 0 <= i < count. The pointer is valid until the next close. */
size_t listener_set_count(const struct listener_set *set);
const struct listener *listener_set_get(const struct listener_set *set, size_t i);

#endif
