#ifndef TORTURE_OPTIONS_H
#define TORTURE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "shape.h"

/* What the command line says; see the table of options in torture.c. Constant while clients run. */
struct options {
	const char *host, *user, *dbname; /* the pooler */
	int port;
	const char *check_host; /* PostgreSQL itself */
	int check_port;
	const char *check_dbname;
	const char *only;        /* list of shapes, or NULL */
	unsigned clients;        /* concurrent clients */
	unsigned threads;        /* threads of the generator */
	unsigned duration_s;     /* how long operations are started */
	unsigned stall_s;        /* silence that counts as a failure */
	unsigned disconnect_ppm; /* operations, in a million, that the client leaves in the middle */
	unsigned cancel_ppm;     /* operations, in a million, during which a cancel request is sent */
	uint64_t seed;
	bool chaos;               /* servers may be lost, sessions with them */
	bool whole_startup;       /* never split startup and cancel packets */
	bool always_application;  /* always give application_name in the startup packet */
	bool alone;               /* each client has a server of its own */
	bool statement;           /* the pool mode is statement: transaction blocks end the session */
	bool no_ddl;              /* nobody changes tables behind the pooler's back */
	enum shape_needs can;     /* what the pooler can do */
	bool console;             /* an administrator is at work; what follows is for it */
	const char *extra_dbname; /* a second name for the database, which comes and goes */
	const char *console_user;
	const char *console_ini;      /* the pooler's file */
	const char *console_log;      /* where to write what was done when */
	const char *console_sabotage; /* or NULL */
	const char *restart;          /* command that starts the pooler again with -R, or NULL: no restarts */
	const char *pidfile;          /* of the pooler, for that */
	unsigned console_ms;          /* milliseconds between commands, on average */
};

#endif
