#include "admin/admin.h"

#include "core/alloc.h"

struct admin {
	struct engine *engine;
	const struct admin_ops *ops;
	void *ctx;
};

static void admin_adopt(struct loop *loop UNUSED, struct loop_msg *msg)
{
	struct console_handover *h = CONTAINER_OF(msg, struct console_handover, msg);

	close(h->fd);
	free(h);
}

const struct engine_ops admin_engine_ops = {
	.console_adopt = admin_adopt,
};

struct admin *admin_new(struct engine *engine, const struct admin_ops *ops, void *ctx)
{
	struct admin *a = xcalloc(1, sizeof(*a));

	a->engine = engine;
	a->ops = ops;
	a->ctx = ctx;
	return a;
}

void admin_free(struct admin **admin)
{
	free(*admin);
	*admin = NULL;
}
