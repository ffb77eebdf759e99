/*
 * Feeds the files of a corpus to a fuzz target, without a fuzzer. The
 * directories are the arguments; without any it is the target's own corpus
 * below $srcdir, as "make check" wants it. Fails when there is no file.
 */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

/* Calls the target with a block of exactly the file's size. */
static void replay_file(const char *path)
{
	struct stat st;
	FILE *f = fopen(path, "rb");
	uint8_t *data;

	if (f == NULL || fstat(fileno(f), &st) != 0) {
		fprintf(stderr, "could not open \"%s\": %s\n", path, strerror(errno));
		exit(1);
	}
	data = malloc(st.st_size > 0 ? (size_t)st.st_size : 1);
	if (data == NULL || fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
		fprintf(stderr, "could not read \"%s\"\n", path);
		exit(1);
	}
	fclose(f);
	(void)LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	free(data);
}

/* Replays all files of a directory; returns their number. */
static unsigned replay_dir(const char *dir)
{
	struct dirent **names;
	int n = scandir(dir, &names, NULL, alphasort);
	unsigned files = 0;

	if (n < 0) {
		fprintf(stderr, "could not open \"%s\": %s\n", dir, strerror(errno));
		exit(1);
	}
	for (int i = 0; i < n; i++) {
		char path[4096];

		if (names[i]->d_name[0] != '.') {
			str_format(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
			replay_file(path);
			files++;
		}
		free(names[i]);
	}
	free(names);
	return files;
}

/* The corpus that belongs to a program called .../fuzz_<name>. */
static void replay_own_corpus(const char *program, char *dir, size_t size)
{
	const char *srcdir = getenv("srcdir");
	const char *name = strrchr(program, '/');

	name = name != NULL ? name + 1 : program;
	if (strncmp(name, "fuzz_", 5) == 0)
		name += 5;
	str_format(dir, size, "%s/test/fuzz/corpus/%s", srcdir != NULL ? srcdir : ".", name);
}

int main(int argc, char **argv)
{
	unsigned files = 0;
	char own[4096];

	if (argc < 2) {
		replay_own_corpus(argv[0], own, sizeof(own));
		files = replay_dir(own);
	}
	for (int i = 1; i < argc; i++)
		files += replay_dir(argv[i]);
	printf("%u inputs\n", files);
	return files > 0 ? 0 : 1;
}
