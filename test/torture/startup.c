#include "startup.h"

#include <stdio.h>
#include <string.h>

#define STARTUP_PROTOCOL (3 << 16)

/* A setting as a word of "options". */
static void startup_option(struct bytes *b, struct rng *rng, const char *name, const char *value)
{
	bytes_text(b, b->len ? "  " : "");
	switch (rng_below(rng, 3)) {
	case 0:
		bytes_printf(b, "-c %s=", name);
		break;
	case 1:
		bytes_printf(b, "-c%s=", name);
		break;
	default:
		bytes_printf(b, "--%s=", name);
	}
	for (; *value; value++) {
		if (*value == ' ' || *value == '\\')
			bytes_u8(b, '\\');
		bytes_u8(b, (uint8_t)*value);
	}
}

void startup_write(struct script *s, struct actor *a, struct rng *rng, const struct options *opt, const char *dbname,
		   bool given[N_PARAMS])
{
	static const char *const values[N_PARAMS] = {
		NULL, "Asia/Tokyo", "German, DMY", "LATIN1", "sql_standard", NULL
	};
	bool options_too = opt->can >= NEEDS_NAMED;
	struct bytes options = { 0 };
	size_t mark = msg_begin(&s->out, 0);

	bytes_u32(&s->out, STARTUP_PROTOCOL);
	bytes_cstr(&s->out, "user");
	bytes_cstr(&s->out, opt->user);
	bytes_cstr(&s->out, "database");
	bytes_cstr(&s->out, dbname);
	memset(a->param, 0, sizeof(a->param));
	snprintf(a->param[PARAM_SEARCH_PATH], sizeof(a->param[0]), "\"$user\", public");
	for (int i = 0; i < N_PARAMS; i++) {
		given[i] = rng_one_in(rng, i ? 4 : 2) || (!i && opt->always_application);
		given[i] = given[i] && (unsigned)i < a->n_settable;
		if (!given[i])
			continue;
		snprintf(a->param[i], sizeof(a->param[i]), "%s", i ? values[i] : a->who);
		if (options_too && rng_one_in(rng, 4)) {
			startup_option(&options, rng, param_names[i], a->param[i]);
			continue;
		}
		bytes_cstr(&s->out, param_names[i]);
		bytes_cstr(&s->out, a->param[i]);
	}
	if (options.len) {
		bytes_cstr(&s->out, "options");
		bytes_add(&s->out, options.data, options.len);
		bytes_u8(&s->out, 0);
	}
	bytes_free(&options);
	bytes_u8(&s->out, 0);
	msg_end(&s->out, mark);
	script_push(s);
}
