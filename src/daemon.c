#include "daemon.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/resource.h>

#include "core/log.h"

void daemon_change_user(const char *name)
{
	const struct passwd *pw = getpwnam(name);

	if (pw == NULL)
		log_fatal("could not find user '%s' to switch to", name);
	if (pw->pw_uid == geteuid() && pw->pw_uid == getuid())
		return;
	if (initgroups(name, pw->pw_gid) != 0)
		log_fatal("failed to assume identity of user '%s': could not set the groups: %s", name,
			  strerror(errno));
	if (setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0)
		log_fatal("failed to assume identity of user '%s': %s", name, strerror(errno));
	if (getuid() != pw->pw_uid || geteuid() != pw->pw_uid || getgid() != pw->pw_gid)
		log_fatal("failed to assume identity of user '%s': the system did not comply", name);
}

void daemon_refuse_root(void)
{
	if (getuid() == 0 || geteuid() == 0)
		log_fatal("pgsluice should not run as root");
}

/* The parent leaves without running exit handlers: what they would undo belongs to the child. */
static void daemon_fork(void)
{
	pid_t pid = fork();

	if (pid < 0)
		log_fatal("could not fork: %s", strerror(errno));
	if (pid > 0)
		_exit(0);
}

void daemon_detach(void)
{
	int fd;

	daemon_fork();
	if (setsid() < 0)
		log_fatal("could not start a session: %s", strerror(errno));
	/* once more, so that no terminal can become ours by opening it */
	daemon_fork();
	fd = open("/dev/null", O_RDWR);
	if (fd < 0)
		log_fatal("could not open /dev/null: %s", strerror(errno));
	for (int i = 0; i <= STDERR_FILENO; i++) {
		if (dup2(fd, i) < 0)
			log_fatal("could not redirect descriptor %d: %s", i, strerror(errno));
	}
	if (fd > STDERR_FILENO)
		close(fd);
}

/* Clients, a full pool for each user of each database, and some for ourselves. */
static uint64_t daemon_expected_fds(const struct conf *conf, size_t user_count)
{
	uint64_t n = (uint64_t)conf->max_client_conn + conf->max_prelogin_conn + 10 + 4 * (uint64_t)conf->threads;

	for (size_t i = 0; i < conf->db_count; i++) {
		const struct conf_db *db = &conf->dbs[i];
		uint64_t pools = db->user != NULL ? 1 : user_count;

		n += pools * (uint64_t)conf_pool_size(conf, db, NULL);
	}
	return n;
}

void daemon_raise_fd_limit(const struct conf *conf, size_t user_count)
{
	struct rlimit lim;
	uint64_t expected = daemon_expected_fds(conf, user_count);
	rlim_t before;

	if (getrlimit(RLIMIT_NOFILE, &lim) != 0) {
		log_error("could not get RLIMIT_NOFILE: %s", strerror(errno));
		return;
	}
	log_info("kernel file descriptor limit: %" PRIu64 " (hard: %" PRIu64
		 "); max_client_conn: %d, max expected fd use: %" PRIu64,
		 (uint64_t)lim.rlim_cur, (uint64_t)lim.rlim_max, conf->max_client_conn, expected);
	before = lim.rlim_cur;
	if (before < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &lim) == 0)
			log_info("raised the file descriptor limit from %" PRIu64 " to %" PRIu64, (uint64_t)before,
				 (uint64_t)lim.rlim_cur);
		else
			lim.rlim_cur = before;
	}
	if (expected > lim.rlim_cur)
		log_warning("the file descriptor limit of %" PRIu64 " is below the %" PRIu64
			    " that the configuration may need",
			    (uint64_t)lim.rlim_cur, expected);
}
