/*
 * Writes documentation from the tables of the program to stdout:
 *
 *     confdoc md             doc/config.md
 *     confdoc ini            etc/pgsluice.ini
 *     confdoc man TEMPLATE   a manual page
 *
 * Not installed.
 */
#include "conf/conf.h"

#include "doc/manpage.h"

static bool confdoc_print_man(const char *path)
{
	FILE *from = fopen(path, "r");
	bool ok;

	if (from == NULL) {
		fprintf(stderr, "confdoc: cannot open %s\n", path);
		return false;
	}
	ok = manpage_print(from, stdout);
	fclose(from);
	if (!ok)
		fprintf(stderr, "confdoc: cannot make a page of %s\n", path);
	return ok;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "md") == 0) {
		conf_print_options(stdout);
	} else if (argc == 2 && strcmp(argv[1], "ini") == 0) {
		conf_print_sample(stdout);
	} else if (argc == 3 && strcmp(argv[1], "man") == 0) {
		if (!confdoc_print_man(argv[2]))
			return 1;
	} else {
		fputs("usage: confdoc md|ini|man TEMPLATE\n", stderr);
		return 2;
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
