#ifndef TORTURE_CONSOLE_H
#define TORTURE_CONSOLE_H

/*
 * The administrator: a thread that issues random commands on several console sessions while clients are at work, and
 * afterwards takes everything back. What clients may notice of it is told to excuse.h.
 */
#include "options.h"

struct console;

/*
 * Starts the thread; ends the program with status 3 when the console cannot be reached. opt must outlive it.
 */
struct console *console_start(const struct options *opt);

/*
 * No more commands; takes everything back and waits until all is answered. What is not answered is reported as wrong.
 * Afterwards every client must be served.
 */
void console_settle(struct console *c);

/*
 * Once all clients have left: holds what the console says about clients and servers against each other and against
 * PostgreSQL, and whether a PAUSE still comes to an end. Differences are reported as wrong.
 */
void console_account(struct console *c);

/* Prints how often each command was issued. */
void console_print(const struct console *c);

void console_free(struct console *c);

/* True when the name is that of a sabotage of the console itself (see console.c). */
bool console_knows_sabotage(const char *name);

#endif
