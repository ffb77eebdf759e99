#include "core/base.h"

static void (*dump_hook)(void);

void base_set_dump_hook(void (*hook)(void))
{
	dump_hook = hook;
}

void base_assert_fail(const char *expr, const char *file, int line, const char *func)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "pgsluice: assertion failed: %s (%s:%d, %s)\n", expr, file, line, func);
	void (*hook)(void) = dump_hook;

	if (n > 0) {
		size_t len = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
		ssize_t written UNUSED = write(STDERR_FILENO, text, len);
	}
	dump_hook = NULL; /* an assertion inside the hook must not come back here */
	if (hook != NULL)
		hook();
	abort();
}
