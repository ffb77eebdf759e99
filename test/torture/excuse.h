#ifndef TORTURE_EXCUSE_H
#define TORTURE_EXCUSE_H

/*
 * What clients may be told because of what was done at the console, and while which commands are in force. The
 * console (console.c) opens and closes windows; clients ask whether what befell them had a reason. A window is open
 * from the moment a command is sent until the answer to what takes it back has come, and a connection is excused when
 * it has seen any part of that. All functions may be called by any thread.
 */
#include <stdbool.h>
#include <stdint.h>

/* The databases that clients use: the one of --dbname, and with the console an extra one that comes and goes. */
#define N_DBS 2

enum excuse_window {
	WINDOW_KILL,     /* KILL was sent and is not answered */
	WINDOW_DISABLE,  /* DISABLE is in force */
	WINDOW_DRAIN,    /* DRAIN is in force */
	WINDOW_REMOVE,   /* the database is not in the configuration */
	WINDOW_PATIENCE, /* query_wait_timeout is short */
	WINDOW_FULL,     /* max_client_conn is low */
	WINDOW_SUSPEND,  /* SUSPEND, which may run into suspend_timeout */
	WINDOW_RESTART,  /* another process takes over */
	N_WINDOWS
};

void excuse_open(enum excuse_window w, unsigned db);
void excuse_close(enum excuse_window w, unsigned db);

/* KILL_CLIENT was sent for the connection with this local port. */
void excuse_kill_port(unsigned port);

/* A client's connection, as far as excuses go. */
struct excuse_case {
	unsigned db;
	unsigned port;    /* its own, 0: not known */
	int64_t since_us; /* when it began to connect */
	bool login;       /* it is not logged in yet */
};

enum excuse_verdict {
	EXCUSE_GRANTED, /* a command in force explains it */
	EXCUSE_DENIED,  /* only a command explains it, and there was none */
	EXCUSE_FAULT,   /* what a pooler says when a server is lost or cannot be reached */
	EXCUSE_UNKNOWN, /* none of these */
};

/* Judges the text of a FATAL error. */
enum excuse_verdict excuse_error(const struct excuse_case *ec, const char *text);

/* True when a command explains that the connection was closed without a word. */
bool excuse_silence(const struct excuse_case *ec);

/* When another process took over last; 0: never. */
void excuse_set_restarted(int64_t at_us);
int64_t excuse_restarted(void);

/*
 * The time from which on no server is handed out to clients of a database, because PAUSE was answered; 0: none such.
 * Set by the console, and taken back before it sends what ends the pause.
 */
void excuse_set_paused(unsigned db, int64_t since_us);
int64_t excuse_paused_since(unsigned db);

#endif
