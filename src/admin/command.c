#include "admin/command.h"

#include "admin/admin_int.h"
#include "admin/show.h"
#include "core/log.h"

/*
 * Every command: name, right, whether it runs during a takeover, argument,
 * handler, lines for SHOW HELP, text for the manual. A row without a right does
 * not compile, as the name of the right is part of an identifier.
 */
#define COMMAND_TABLE(X)                                                                                              \
	X(SHOW, STATS, WHILE_TAKEN, SHOW, show_run, NULL,                                                             \
	  "Answers with one of the tables below. SELECT is the same word.")                                           \
	X(SET, ADMIN, NOT_TAKEN, SET, ctl_set, "SET key = arg",                                                       \
	  "Changes a setting until the next reload. One that takes effect at a start only stays as it is.")           \
	X(RELOAD, ADMIN, NOT_TAKEN, DRY_RUN, ctl_reload, "RELOAD",                                                    \
	  "Reads the configuration again. With DRY RUN it changes nothing and shows what would change.")              \
	X(PAUSE, ADMIN, NOT_TAKEN, DB, ctl_pause, "PAUSE [<db>]",                                                     \
	  "Lets every server finish what it does, closes it, and opens none; clients that need one wait. Answers "    \
	  "when no server is left. With a database, only there.")                                                     \
	X(RESUME, ADMIN, WHILE_TAKEN, DB, ctl_resume, "RESUME [<db>]",                                                \
	  "Ends PAUSE, SUSPEND and DRAIN, or the PAUSE, KILL or DRAIN of one database.")                              \
	X(DISABLE, ADMIN, NOT_TAKEN, NEED_DB, ctl_disable, "DISABLE <db>", "Refuses new clients of a database.")      \
	X(ENABLE, ADMIN, NOT_TAKEN, NEED_DB, ctl_enable, "ENABLE <db>", "Ends DISABLE and DRAIN.")                    \
	X(RECONNECT, ADMIN, NOT_TAKEN, DB, ctl_reconnect, "RECONNECT [<db>]",                                         \
	  "Closes each server when it is free, so that new ones take their place; after a fail-over, for example.")   \
	X(KILL, ADMIN, NOT_TAKEN, DB, ctl_kill, "KILL [<db>]",                                                        \
	  "Disconnects the clients of a database, or of all, closes the servers at once, and leaves it paused until " \
	  "RESUME with its name.")                                                                                    \
	X(KILL_CLIENT, ADMIN, NOT_TAKEN, ID, ctl_kill_client, "KILL_CLIENT <client_id>",                              \
	  "Disconnects one client; the number is the id of SHOW CLIENTS.")                                            \
	X(SUSPEND, ADMIN, NOT_TAKEN, NONE, ctl_suspend, "SUSPEND",                                                    \
	  "Stops all sockets between two messages and answers when everything stands still. Ends with RESUME, or "    \
	  "with the last session of the console.")                                                                    \
	X(DRAIN, ADMIN, NOT_TAKEN, DRAIN, ctl_drain, "DRAIN [<db>]\n\tDRAIN [<db>] WITHIN <seconds>",                 \
	  "Takes a database, or all, out of service: after drain_delay it refuses logins and closes clients at the "  \
	  "end of their transactions, and so many seconds later, or drain_timeout, all that are left. Answers when "  \
	  "no client is left. Ends with RESUME or ENABLE.")                                                           \
	X(SHUTDOWN, ADMIN, WHILE_TAKEN, SHUTDOWN, ctl_shutdown,                                                       \
	  "SHUTDOWN\n\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS\n\tSHUTDOWN DRAIN\n"                                \
	  "\tSHUTDOWN DRAIN WITHIN <seconds>",                                                                        \
	  "Ends the process: at once, or when the servers are released, or when the clients have left, or after "     \
	  "draining all databases.")                                                                                  \
	X(WAIT_CLOSE, ADMIN, NOT_TAKEN, DB, ctl_wait_close, "WAIT_CLOSE [<db>]",                                      \
	  "Answers when all servers are closed that RECONNECT or a RELOAD has marked for it.")                        \
	X(BREAKER, ADMIN, NOT_TAKEN, BREAKER, ctl_breaker, "BREAKER OPEN|CLOSE|RESET <endpoint>",                     \
	  "Opens the breakers of an endpoint until told otherwise, closes them, or closes them and forgets what has " \
	  "happened there. The endpoint is named as in SHOW BREAKERS.")

static const struct command command_table[] = {
#define X(name, right, moment, arg, run, help, about) \
	{ #name, COMMAND_FOR_##right, COMMAND_##moment, COMMAND_ARG_##arg, help, about, run },
	COMMAND_TABLE(X)
#undef X
};

const struct command *command_at(size_t i)
{
	return i < ARRAY_LEN(command_table) ? &command_table[i] : NULL;
}

/* Longest part of a query that an error repeats. */
#define COMMAND_ECHO_MAX 1900

static void command_refuse(struct console *c, struct slice text)
{
	text = slice_cut(text, COMMAND_ECHO_MAX);
	console_finish_error(c, CONSOLE_E_INVALID, (int)text.n, text.n == 0 ? "" : text.p);
}

static const struct command *command_find(const char *name)
{
	if (strcasecmp(name, "SELECT") == 0)
		name = "SHOW";
	for (size_t i = 0; i < ARRAY_LEN(command_table); i++)
		if (strcasecmp(name, command_table[i].name) == 0)
			return &command_table[i];
	return NULL;
}

int command_find_word(const struct command_word *words, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (strcasecmp(words[i].text, text) == 0)
			return words[i].value;
	return -E_NOENT;
}

/* Does what follows the command have the right form? */
static bool command_arg_fits(const struct command *command, const struct sql_cmd *cmd)
{
	if ((cmd->form == SQL_SET) != (command->arg == COMMAND_ARG_SET))
		return false;
	if ((cmd->form == SQL_PLACE) != (command->arg == COMMAND_ARG_BREAKER))
		return false;
	if (cmd->form == SQL_DRY_RUN && command->arg != COMMAND_ARG_DRY_RUN)
		return false;
	if (cmd->form == SQL_WITHIN && command->arg != COMMAND_ARG_DRAIN &&
	    (command->arg != COMMAND_ARG_SHUTDOWN || ctl_shutdown_word(cmd->arg) != SHUTDOWN_DRAIN))
		return false;
	switch (command->arg) {
	case COMMAND_ARG_NONE:
		return cmd->arg[0] == '\0';
	case COMMAND_ARG_DRY_RUN:
		return cmd->arg[0] == '\0' || cmd->form == SQL_DRY_RUN;
	case COMMAND_ARG_SHUTDOWN:
		return ctl_shutdown_word(cmd->arg) >= 0;
	case COMMAND_ARG_BREAKER:
		return ctl_breaker_word(cmd->arg) >= 0;
	case COMMAND_ARG_SHOW:
		return show_find(cmd->arg) != NULL;
	case COMMAND_ARG_DRAIN:
	case COMMAND_ARG_DB:
	case COMMAND_ARG_NEED_DB:
	case COMMAND_ARG_ID:
	case COMMAND_ARG_SET:
		return true;
	}
	return false;
}

/* Does this session know it? */
static bool command_is_known(const struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	return command_arg_fits(command, cmd) &&
	       (command->arg != COMMAND_ARG_SHOW || c->extended != NULL || !show_find(cmd->arg)->needs_extended);
}

static bool command_sets_fake(const struct command *command, const struct sql_cmd *cmd)
{
	return command->arg == COMMAND_ARG_SET && show_is_fake_variable(cmd->arg);
}

/* Whether the session has the right to this; variables that drivers set and ask for are free to all. */
static bool command_is_allowed(const struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	enum command_right right = command->right;

	if (command->arg == COMMAND_ARG_SHOW)
		right = show_find(cmd->arg)->right;
	if (command_sets_fake(command, cmd))
		right = COMMAND_FOR_STATS;
	return c->is_admin || right == COMMAND_FOR_STATS;
}

static void command_log(const struct command *command, const struct sql_cmd *cmd)
{
	if (command->arg == COMMAND_ARG_SHOW || command_sets_fake(command, cmd))
		return;
	if (cmd->form == SQL_DRY_RUN)
		log_info("%s DRY RUN command issued", command->name);
	else if (cmd->form == SQL_PLACE)
		log_info("%s %s '%s' command issued", command->name, cmd->arg, cmd->value);
	else if (cmd->form == SQL_WITHIN && cmd->arg[0] == '\0')
		log_info("%s WITHIN %s command issued", command->name, cmd->value);
	else if (cmd->form == SQL_WITHIN)
		log_info("%s '%s' WITHIN %s command issued", command->name, cmd->arg, cmd->value);
	else if (cmd->arg[0] == '\0')
		log_info("%s command issued", command->name);
	else if (command->arg == COMMAND_ARG_SHUTDOWN)
		log_info("%s %s command issued", command->name, cmd->arg);
	else
		log_info("%s '%s' command issued", command->name, cmd->arg);
}

const struct show_table *command_result(struct slice text)
{
	const struct show_table *table;
	const struct command *command;
	struct sql_cmd cmd;

	if (sql_parse(text, &cmd) != 0)
		return NULL;
	command = command_find(cmd.cmd);
	if (command == NULL || !command_arg_fits(command, &cmd))
		return NULL;
	if (cmd.form == SQL_DRY_RUN)
		return &ctl_reload_changes;
	if (command->arg != COMMAND_ARG_SHOW)
		return NULL;
	table = show_find(cmd.arg);
	return table->columns == NULL ? NULL : table;
}

void command_run(struct console *c, struct slice text)
{
	const struct command *command;
	struct sql_cmd cmd;
	int err = sql_parse(text, &cmd);

	if (err == -E_TOOBIG) {
		console_finish_error(c, CONSOLE_E_BAD_ARGS);
		return;
	}
	command = err == 0 ? command_find(cmd.cmd) : NULL;
	if (command == NULL || !command_is_known(c, command, &cmd)) {
		command_refuse(c, text);
		return;
	}
	if (!command_is_allowed(c, command, &cmd)) {
		console_finish_error(c, CONSOLE_E_RIGHTS);
		return;
	}
	if (command->moment == COMMAND_NOT_TAKEN && admin_is_taken(c)) {
		console_finish_error(c, CONSOLE_E_TAKEN);
		return;
	}
	command_log(command, &cmd);
	command->run(c, command, &cmd);
}
