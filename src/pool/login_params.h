/*
 * What the parameters of a startup packet come to: values for the set that
 * follows the client, or the parameter that we do not take.
 */
#ifndef PGSLUICE_POOL_LOGIN_PARAMS_H
#define PGSLUICE_POOL_LOGIN_PARAMS_H

#include "conf/conf.h"
#include "net/sock.h"
#include "pool/vars.h"
#include "proto/startup.h"

#define LOGIN_PARAMS_APP_MAX 400 /* an application_name with the client's address, and a NUL */

struct login_params {
	struct slice values[VARS_MAX]; /* for vars_make(); into the packet, or into what is below */
	struct slice bad_name;         /* of the parameter that an error is about */
	struct slice bad_value;        /* its value, if it stands in the packet itself */
	char *words;                   /* the options without their backslashes, and values from them; owned */
	char app[LOGIN_PARAMS_APP_MAX];
};

/*
 * Reads all parameters but those with which a login finds its way (user,
 * database, replication). The options of a client that replicates are left
 * alone. STARTUP_OK, or what is wrong; either way the caller gives `p` back, and
 * keeps the packet until then. Any thread.
 */
enum startup_err login_params_read(struct login_params *p, const struct startup *startup,
				   const struct conf *conf) MUSTCHECK;

/* Appends to application_name who the client is: of TCP by its address, of the Unix socket `fd` by its process. */
void login_params_add_host(struct login_params *p, bool is_unix, int fd, const struct sock_peer *peer, int port);

/* Gives back what the structure holds. */
void login_params_fini(struct login_params *p);

#endif
