#include "core/journal.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "core/err.h"
#include "core/str.h"

/* Room for a message of the log and what goes with it. */
#define JOURNAL_DATAGRAM_MAX 4608

static _Atomic int journal_fd = -1;

bool journal_is_stderr(void)
{
	const char *env = getenv("JOURNAL_STREAM");
	struct stat st;
	char text[64];

	if (env == NULL || fstat(STDERR_FILENO, &st) != 0)
		return false;
	str_format(text, sizeof(text), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	return strcmp(env, text) == 0;
}

size_t journal_encode(char *dst, size_t size, int priority, const char *ident, const char *text, size_t n)
{
	bool is_multi_line = memchr(text, '\n', n) != NULL;
	size_t used = str_format(dst, size, "PRIORITY=%d\nSYSLOG_IDENTIFIER=%s\nMESSAGE%c", priority, ident,
				 is_multi_line ? '\n' : '=');

	if (size - used < sizeof(uint64_t) + n + 1)
		return 0;
	/* A value of several lines has its length before it, little end first. */
	for (unsigned i = 0; is_multi_line && i < sizeof(uint64_t); i++)
		dst[used++] = (char)((uint64_t)n >> (8 * i));
	memcpy(dst + used, text, n);
	used += n;
	dst[used++] = '\n';
	return used;
}

int journal_open(void)
{
	if (journal_fd < 0)
		journal_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return journal_fd < 0 ? -E_SYS : 0;
}

int journal_send(const char *path, int priority, const char *text, size_t n)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char datagram[JOURNAL_DATAGRAM_MAX];
	size_t len = journal_encode(datagram, sizeof(datagram), priority, program_invocation_short_name, text, n);
	ssize_t sent;

	if (len == 0 || !str_copy(addr.sun_path, sizeof(addr.sun_path), path))
		return -E_NOSPACE;
	do {
		sent = sendto(journal_fd, datagram, len, MSG_NOSIGNAL, (const struct sockaddr *)&addr, sizeof(addr));
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? -E_SYS : 0;
}
