/*
 * The options of the command line, one row each: getopt_long(), --help and the
 * manual page derive from them.
 */
#ifndef PGSLUICE_MAIN_OPTIONS_H
#define PGSLUICE_MAIN_OPTIONS_H

/* clang-format off */

/* long name, letter, whether an argument follows, its name, help, text for the manual */
#define MAIN_OPTIONS(X) \
	X("daemon", 'd', no, NULL, "run in the background", \
	  "Run in the background. The setting pidfile must be set. Errors behind that point are in the log only.") \
	X("reboot", 'R', no, NULL, "take over the sockets of the running instance", \
	  "Take over the sockets and sessions of the instance that runs with this configuration, which ends. " \
	  "Without such an instance it is a start like any other.") \
	X("quiet", 'q', no, NULL, "write nothing to stderr", \
	  "Write no log lines to stderr.") \
	X("verbose", 'v', no, NULL, "log more; give it twice for everything", \
	  "Log debug lines; twice, log everything. The setting verbose goes before it.") \
	X("user", 'u', required, "NAME", "become this system user", \
	  "Become this system user, instead of the one in the setting user.") \
	X("check", 'c', no, NULL, "print what the configuration means, without starting", \
	  "Read the configuration, print what it means, and exit. Settings that are accepted without effect come last.") \
	X("diff", 'D', optional, "OLD", \
	  "with --check: print what a reload would change, or what OLD says otherwise", \
	  "With --check: print what a reload of the running instance would change, or what differs from the file OLD.") \
	X("version", 'V', no, NULL, "print versions and exit", \
	  "Print the versions of the program and its libraries, and exit.") \
	X("help", 'h', no, NULL, "print this and exit", \
	  "Print a summary of the options, and exit.")

/* clang-format on */

/* The letters that are options of their own, for getopt_long(): not those of --check and --diff. */
#define MAIN_LETTERS "dRqvu:Vh"

#endif
