#ifndef TORTURE_SHAPE_H
#define TORTURE_SHAPE_H

/*
 * Shapes write the scripts of operations. Each is a row in shape_tbl.h and a function here; the functions know the
 * protocol and the server well enough to foretell every byte that must come back.
 */
#include "actor.h"
#include "piece.h"
#include "script.h"

enum shape_id {
#define SHAPE(name, weight, needs, help) SHAPE_##name,
#include "shape_tbl.h"
#undef SHAPE
	N_SHAPES
};

/* What a pooler can do, each with what is before. */
enum shape_needs {
	NEEDS_BASIC,  /* no more than PgBouncer before 1.21 */
	NEEDS_NAMED,  /* prepared statements, and all that track_extra_parameters names by default */
	NEEDS_STRICT, /* unknown and taken names are errors, as in PostgreSQL; PREPARE in SQL keeps the server */
};

struct shape {
	const char *name;
	unsigned weight;
	enum shape_needs needs;
	const char *help;
	void (*build)(struct script *s, struct actor *a);
};

extern struct shape shapes[N_SHAPES];

/*
 * Restricts the shapes to a comma-separated list of names, or with a dash before each, to all others. Returns false,
 * with the culprit in bad[32], when one is unknown. Shapes that need more than the pooler can do are off.
 */
bool shape_select(const char *list, enum shape_needs can, char bad[32]);

/* Writes the script of a random operation. */
void shape_build(struct script *s, struct actor *a);

/* Gives back what the script holds of the budget for large messages. To be called once per built script. */
void shape_finish(struct script *s);

/* Takes bytes from the budget for large messages (for script s); false when too much is in use already. */
bool shape_take_heavy(struct script *s, size_t bytes);

/* Building blocks of several shapes. */

/* A simple query of one piece, with its ReadyForQuery. */
void shape_query(struct script *s, const struct piece *p);
/* The same for a plain text with a tag, such as BEGIN; tx is the status afterwards. */
void shape_verb(struct script *s, const char *sql, const char *tag, char tx);
/*
 * Parse, Bind, Execute of a piece on the unnamed statement, with Describe at random. *failed says whether the batch
 * has failed already (then no answer is expected), and whether it has afterwards.
 */
void shape_ext(struct script *s, struct actor *a, const struct piece *p, bool *failed);
/* Sync and its ReadyForQuery. */
void shape_sync(struct script *s, bool failed);
/* One piece by either protocol, as chance will, with its ReadyForQuery. */
void shape_any(struct script *s, struct actor *a, struct piece *p, enum piece_kind kind);

/* Sets all parameters that can be set. */
void shape_set_all(struct script *s, struct actor *a);

void shape_build_simple(struct script *s, struct actor *a);
void shape_build_multi(struct script *s, struct actor *a);
void shape_build_tx(struct script *s, struct actor *a);
void shape_build_querypipe(struct script *s, struct actor *a);
void shape_build_empty(struct script *s, struct actor *a);
void shape_build_write(struct script *s, struct actor *a);
void shape_build_set(struct script *s, struct actor *a);
void shape_build_function(struct script *s, struct actor *a);
void shape_build_timeout(struct script *s, struct actor *a);
void shape_build_sleep(struct script *s, struct actor *a);
void shape_build_suicide(struct script *s, struct actor *a);
void shape_build_ext(struct script *s, struct actor *a);
void shape_build_portal(struct script *s, struct actor *a);
void shape_build_pipeline(struct script *s, struct actor *a);
void shape_build_flush(struct script *s, struct actor *a);
void shape_build_exterror(struct script *s, struct actor *a);
void shape_build_trap(struct script *s, struct actor *a);
void shape_build_mixed(struct script *s, struct actor *a);
void shape_build_lone(struct script *s, struct actor *a);
void shape_build_big(struct script *s, struct actor *a);
void shape_build_bigup(struct script *s, struct actor *a);
void shape_build_copyout(struct script *s, struct actor *a);
void shape_build_copyin(struct script *s, struct actor *a);
void shape_build_copyback(struct script *s, struct actor *a);
void shape_build_named(struct script *s, struct actor *a);
void shape_build_unnamed(struct script *s, struct actor *a);
void shape_build_prepare(struct script *s, struct actor *a);
void shape_build_shaped(struct script *s, struct actor *a);
void shape_build_ddl(struct script *s, struct actor *a);

#endif
