/*
 * The pidfile.
 *
 * Two things show that the owner of a file lives: its process id answers to
 * kill(), or it holds the lock that pidfile_create() takes for the life of the
 * process. The id alone is not enough of a proof: in a container every start
 * may get the same small number, so a file with our own id is from an earlier
 * life of ours, unless it is locked. The lock alone is not enough either, as
 * other poolers take none.
 */
#include "core/pidfile.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "core/err.h"
#include "core/str.h"

struct pidfile {
	char *path;
	int fd;    /* keeps the lock */
	dev_t dev; /* which file is ours */
	ino_t ino;
};

/* The process id in the file, or 0 when the content is none. */
static pid_t pidfile_read(int fd)
{
	char text[32];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	char *end;
	long pid;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	errno = 0;
	pid = strtol(text, &end, 10);
	if (end == text || errno != 0 || pid <= 0 || pid > INT32_MAX)
		return 0;
	while (isspace((unsigned char)*end))
		end++;
	return *end == '\0' ? (pid_t)pid : 0;
}

static bool pidfile_is_live(int fd)
{
	pid_t pid;

	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return true;
	pid = pidfile_read(fd);
	if (pid == 0)
		return true;
	if (pid == getpid())
		return false;
	return kill(pid, 0) == 0 || errno != ESRCH;
}

int pidfile_check(const char *path, bool *stale)
{
	int err = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	*stale = false;
	if (fd < 0)
		return errno == ENOENT ? 0 : -E_SYS;
	if (pidfile_is_live(fd))
		err = -E_EXISTS;
	else if (unlink(path) != 0)
		err = -E_SYS;
	else
		*stale = true;
	close(fd);
	return err;
}

static int pidfile_fill(int fd, struct stat *st)
{
	char text[32];
	size_t n = str_format(text, sizeof(text), "%ld\n", (long)getpid());

	if (flock(fd, LOCK_EX | LOCK_NB) != 0 || write(fd, text, n) != (ssize_t)n || fstat(fd, st) != 0)
		return -E_SYS;
	return 0;
}

int pidfile_create(const char *path, struct pidfile **out)
{
	struct pidfile *p;
	struct stat st;
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0)
		return errno == EEXIST ? -E_EXISTS : -E_SYS;
	if (pidfile_fill(fd, &st) != 0) {
		int saved = errno;

		unlink(path);
		close(fd);
		errno = saved;
		return -E_SYS;
	}
	p = xcalloc(1, sizeof(*p));
	p->path = xstrdup(path);
	p->fd = fd;
	p->dev = st.st_dev;
	p->ino = st.st_ino;
	*out = p;
	return 0;
}

void pidfile_remove(struct pidfile **pidfile)
{
	struct pidfile *p = *pidfile;
	struct stat st;

	*pidfile = NULL;
	if (p == NULL)
		return;
	if (stat(p->path, &st) == 0 && st.st_dev == p->dev && st.st_ino == p->ino)
		unlink(p->path);
	close(p->fd);
	free(p->path);
	free(p);
}
