#include "admin/command.h"

#include "admin/admin_int.h"

static enum breaker_hand ctl_breaker_hand(const char *word)
{
	if (strcasecmp(word, "OPEN") == 0)
		return BREAKER_HAND_OPEN;
	return strcasecmp(word, "CLOSE") == 0 ? BREAKER_HAND_CLOSE : BREAKER_HAND_RESET;
}

void ctl_breaker(struct console *c, const struct command *command, const struct sql_cmd *cmd)
{
	struct engine *engine = c->admin->engine;

	if (endpoints_breaker_by_hand(engine->endpoints, cmd->value, ctl_breaker_hand(cmd->arg),
				      loop_now_us(engine->control)))
		ctl_answer_after_all_loops(c, command->name);
	else
		console_finish_error(c, CONSOLE_E_NO_ENDPOINT, cmd->value);
}
