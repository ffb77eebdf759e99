/* Arguments, threads, and a line about each step. */

#include "client.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CLIENTS 200

static struct client clients[MAX_CLIENTS];
static int clients_count = 20;
static const struct step *current_step;

/* Thread: one client, one step. A client that failed goes on with a new connection. */
static void *main_client(void *arg)
{
	struct client *c = arg;

	if (!c->conn && !session_connect(c, ""))
		return NULL;
	if (!current_step->run(c) || c->why[0]) {
		fail(c, "failed without a word");
		session_disconnect(c);
	}
	return NULL;
}

/* Runs a step with all clients and prints the line about it. Returns whether it is good. */
static bool main_step(const struct step *step)
{
	pthread_t threads[MAX_CLIENTS];
	int failed = 0, first = 0;

	current_step = step;
	for (int i = 0; i < clients_count; i++) {
		clients[i].why[0] = '\0';
		if (pthread_create(&threads[i], NULL, main_client, &clients[i]) != 0) {
			perror("pthread_create");
			exit(3);
		}
	}
	for (int i = 0; i < clients_count; i++)
		pthread_join(threads[i], NULL);
	for (int i = clients_count; i-- > 0;) {
		if (clients[i].why[0]) {
			failed++;
			first = i;
		}
	}
	if (!failed)
		printf("ok %s\n", step->name);
	else if (failed == 1)
		printf("FAIL %s: %s (client %d)\n", step->name, clients[first].why, first);
	else
		printf("FAIL %s: %s (client %d, and %d more)\n", step->name, clients[first].why, first, failed - 1);
	fflush(stdout);
	return !failed;
}

static bool main_is_wanted(const struct step *step, char **argv)
{
	bool named = false;

	for (; *argv; argv++) {
		if (strcmp(*argv, "--step") == 0 && argv[1]) {
			named = true;
			if (strcmp(argv[1], step->name) == 0)
				return true;
		}
	}
	return !named;
}

static enum mode main_mode(const char *name)
{
	if (strcmp(name, "prepared") == 0)
		return MODE_PREPARED;
	return strcmp(name, "pipeline") == 0 ? MODE_PIPELINE : MODE_DEFAULT;
}

int main(int argc, char **argv)
{
	enum mode mode = MODE_DEFAULT;
	const char *id = "x";
	bool good = true;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--mode") == 0)
			mode = main_mode(argv[i + 1]);
		else if (strcmp(argv[i], "--clients") == 0)
			clients_count = atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--id") == 0)
			id = argv[i + 1];
	}
	if (clients_count < 1 || clients_count > MAX_CLIENTS) {
		fprintf(stderr, "--clients wants 1 to %d\n", MAX_CLIENTS);
		return 3;
	}
	printf("version %d.%d\n", PQlibVersion() / 10000, PQlibVersion() % 10000);
	for (int i = 0; i < clients_count; i++) {
		clients[i].number = i;
		clients[i].mode = mode;
		clients[i].id = id;
		snprintf(clients[i].tag, sizeof(clients[i].tag), "%s-%d", id, i);
	}
	for (int i = 0; i < STEPS_COUNT; i++)
		if (main_is_wanted(&STEPS[i], argv + 1))
			good &= main_step(&STEPS[i]);
	for (int i = 0; i < clients_count; i++)
		session_disconnect(&clients[i]);
	return good ? 0 : 1;
}
