#include "admin/command.h"

#include "admin/admin_int.h"

int ctl_breaker_word(const char *text)
{
	static const struct command_word words[] = {
		{ "OPEN", BREAKER_HAND_OPEN },
		{ "CLOSE", BREAKER_HAND_CLOSE },
		{ "RESET", BREAKER_HAND_RESET },
	};

	return command_find_word(words, ARRAY_LEN(words), text);
}

void ctl_breaker(struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	struct engine *engine = c->admin->engine;

	if (endpoints_breaker_by_hand(engine->endpoints, cmd->value, (enum breaker_hand)ctl_breaker_word(cmd->arg),
				      loop_now_us(engine->control)))
		ctl_answer_after_all_loops(c, command->name);
	else
		console_finish_error(c, CONSOLE_E_NO_ENDPOINT, cmd->value);
}
