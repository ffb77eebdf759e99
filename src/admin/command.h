/*
 * The commands of the console: their words, who may run them, what they do.
 */
#ifndef PGSLUICE_ADMIN_COMMAND_H
#define PGSLUICE_ADMIN_COMMAND_H

#include "admin/console.h"
#include "core/str.h"
#include "proto/sql.h"

/* Who may run a command. */
enum command_right {
	COMMAND_FOR_STATS, /* everybody who may open a session */
	COMMAND_FOR_ADMIN, /* admin_users only */
};

/* Whether a command runs while the process of another session has our sockets. */
enum command_moment {
	COMMAND_WHILE_TAKEN, /* yes, or it decides by itself */
	COMMAND_NOT_TAKEN,   /* no: what it changes would be changed for that process */
};

/* What a command may be followed by. */
enum command_arg {
	COMMAND_ARG_NONE,     /* nothing */
	COMMAND_ARG_DRY_RUN,  /* nothing, or DRY RUN */
	COMMAND_ARG_DB,       /* nothing, or a database */
	COMMAND_ARG_NEED_DB,  /* a database */
	COMMAND_ARG_ID,       /* a number */
	COMMAND_ARG_SHUTDOWN, /* nothing, WAIT_FOR_SERVERS, WAIT_FOR_CLIENTS, or DRAIN and a time or nothing */
	COMMAND_ARG_DRAIN,    /* a database or nothing, then a time or nothing */
	COMMAND_ARG_BREAKER,  /* OPEN, CLOSE or RESET, and an endpoint */
	COMMAND_ARG_SHOW,     /* what to show */
	COMMAND_ARG_SET,      /* key = value */
};

struct command {
	const char *name;
	enum command_right right;
	enum command_moment moment;
	enum command_arg arg;
	const char *help;  /* lines for SHOW HELP */
	const char *about; /* for the manual: what it does, in sentences */
	/* Runs it and sees to it that console_finish() is called, now or later. */
	void (*run)(struct console *console, const struct command *command, const struct sql_cmd *cmd);
};

/* Runs the command of a query. */
void command_run(struct console *console, struct slice text);

struct show_table;

/* What the query returns rows of; NULL when it returns none, or is no command. */
const struct show_table *command_result(struct slice text);

/* The i-th command, NULL behind the last. */
const struct command *command_at(size_t i);

/* A word that a command may have behind it, and what it stands for. */
struct command_word {
	const char *text; /* in any case */
	int value;        /* not negative */
};

/* The value of a word, or -E_NOENT. */
int command_find_word(const struct command_word *words, size_t n, const char *text) MUSTCHECK;

/* What BREAKER and SHUTDOWN may be followed by: enum breaker_hand, enum engine_shutdown, or -E_NOENT. */
int ctl_breaker_word(const char *text) MUSTCHECK;
int ctl_shutdown_word(const char *text) MUSTCHECK;

/* Answers with the tag when every loop has worked on what it was sent before. */
void ctl_answer_after_all_loops(struct console *console, const char *tag);

/* Handlers that stand in other files. */
void ctl_set(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_reload(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_suspend(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_pause(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_resume(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_disable(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_enable(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_reconnect(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_kill(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_kill_client(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_drain(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_wait_close(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_breaker(struct console *console, const struct command *command, const struct sql_cmd *cmd);
void ctl_shutdown(struct console *console, const struct command *command, const struct sql_cmd *cmd);

#endif
