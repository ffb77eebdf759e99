/*
 * The parameters of a startup packet. Those that are tracked (vars.h) become
 * values of the client, in whatever case they are written; those that
 * ignore_startup_parameters names are overlooked; others are refused, since
 * nobody would set them on the servers.
 *
 * The settings inside of `options` are treated likewise, and give way to a
 * parameter of the same name, as in PostgreSQL: the order in which a driver
 * sends them may be that of a hash table.
 */
#include "pool/login_params.h"

#include "core/alloc.h"
#include "core/str.h"

/* A setting from the packet or from its options; false when it is unknown. */
static bool login_params_take(struct login_params *p, const struct conf *conf, struct slice name, struct slice value)
{
	const struct conf_list *ignored = &conf->ignore_startup_parameters;
	int i = vars_index(name);

	if (i >= 0) {
		p->values[i] = value;
		return true;
	}
	for (size_t k = 0; k < ignored->count; k++)
		if (slice_eq_str(name, ignored->items[k]))
			return true;
	return false;
}

static enum startup_err login_params_read_options(struct login_params *p, struct slice options, const struct conf *conf)
{
	bool ignores_all = conf_list_has(&conf->ignore_startup_parameters, "options");
	struct startup_options it;
	struct slice name;
	struct slice value;
	char *kept;

	/* A word is valid until the next one only, so values are kept behind the words. */
	p->words = xmalloc(2 * options.n);
	kept = p->words + options.n;
	startup_options_init(&it, options, p->words, options.n);
	while (startup_options_next(&it, &name, &value)) {
		ASSERT(kept + value.n <= p->words + 2 * options.n);
		memcpy(kept, value.p, value.n);
		if (!login_params_take(p, conf, name, slice_make(kept, value.n)) && !ignores_all) {
			p->bad_name = name;
			p->bad_value = value;
			return STARTUP_E_OPTION;
		}
		kept += value.n;
	}
	return it.err;
}

enum startup_err login_params_read(struct login_params *p, const struct startup *startup, const struct conf *conf)
{
	enum startup_err err = STARTUP_OK;
	struct slice name;
	struct slice value;
	size_t at = 0;

	memset(p, 0, sizeof(*p));
	if (startup->replication == REPLICATION_NONE && startup->has_options && startup->options.n > 0)
		err = login_params_read_options(p, startup->options, conf);
	while (err == STARTUP_OK && startup_params_next(startup, &at, &name, &value)) {
		if (!login_params_take(p, conf, name, value)) {
			p->bad_name = name;
			p->bad_value = value;
			err = STARTUP_E_PARAM;
		}
	}
	if (startup->has_application_name)
		p->values[vars_application_name()] = startup->application_name;
	return err;
}

void login_params_add_host(struct login_params *p, bool is_unix, int fd, const struct sock_peer *peer, int port)
{
	struct slice *value = &p->values[vars_application_name()];
	struct slice app = value->p == NULL || value->n == 0 ? slice_of("app") : *value;
	char where[SOCK_ADDR_TEXT] = "?";
	char host[128] = "";
	struct sock_addr addr;
	pid_t pid = 0;

	if (is_unix) {
		if (sock_peer_cred(fd, NULL, &pid) != 0 || gethostname(host, sizeof(host) - 1) != 0)
			host[0] = '\0';
		str_format(where, sizeof(where), "unix(%d@%s):%d", (int)pid, host, port);
	} else {
		sock_peer_get(peer, &addr);
		sock_addr_format(&addr, where, sizeof(where));
	}
	str_format(p->app, sizeof(p->app), "%.*s - %s", (int)app.n, app.p, where);
	*value = slice_of(p->app);
}

void login_params_fini(struct login_params *p)
{
	free(p->words);
	p->words = NULL;
}
