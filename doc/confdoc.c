/*
 * Writes doc/config.md ("confdoc md") or etc/pgsluice.ini ("confdoc ini") to
 * stdout, from the tables of src/conf/conf_tbl.h. Not installed.
 */
#include "conf/conf.h"

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "md") == 0) {
		conf_print_options(stdout);
	} else if (argc == 2 && strcmp(argv[1], "ini") == 0) {
		conf_print_sample(stdout);
	} else {
		fputs("usage: confdoc md|ini\n", stderr);
		return 2;
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
