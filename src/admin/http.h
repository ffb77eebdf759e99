/*
 * Health by HTTP, for load balancers and orchestrators that speak nothing else:
 * GET /live, /ready and /ready/database on the address of health_listen. All on
 * the control loop.
 */
#ifndef PGSLUICE_ADMIN_HTTP_H
#define PGSLUICE_ADMIN_HTTP_H

#include "pool/engine.h"

struct http;

/* Nothing listens before http_look(). The control thread. */
struct http *http_new(struct engine *engine) MUSTCHECK;

/* Closes everything. The control loop has stopped. Nulls the pointer; NULL inside is fine. */
void http_free(struct http **http);

/*
 * Looks after it, about once a second: listens on `address`, the setting
 * health_listen, from now on, tries again where that has failed, and closes
 * connections that take too long.
 */
void http_look(struct http *http, const char *address, uint64_t now_us);

#endif
