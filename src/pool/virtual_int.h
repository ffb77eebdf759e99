/*
 * What virtual.c and virtual_sql.c share. All on the thread of the link; the
 * caller has made room in the tracker and for records.
 */
#ifndef PGSLUICE_POOL_VIRTUAL_INT_H
#define PGSLUICE_POOL_VIRTUAL_INT_H

#include "pool/link_int.h"
#include "pool/prep.h"

/* The client is to be closed. */
enum admit virtual_refuse(struct link_walk *w, enum reason why) MUSTCHECK;

/* The client goes on when the server has settled what is open of earlier batches. */
enum admit virtual_stall(struct link_walk *w);

/* The same, but not before it has answered all batches before this one. There must be such. */
enum admit virtual_stall_for_batches(struct link_walk *w);

/* True when what comes next stands behind whole batches that are not answered yet. */
bool virtual_is_behind_batches(const struct server *server);

/* The name on servers of the statement with this number; returns its length without the NUL. */
uint32_t virtual_name(char dst[STMT_NAME_SIZE], uint64_t number);

/* Tells the tracker of a message that is going to be sent. */
void virtual_tell(struct server *server, uint8_t type, bool is_ours);

/* An error at this place of the pipeline, with the text of a row. The message goes nowhere. */
enum admit virtual_provoke(struct link_walk *w, enum reason why, struct slice name) MUSTCHECK;

/* The same by a message of n bytes that must fail, and lives on. */
enum admit virtual_provoke_by(struct link_walk *w, const char *message, size_t n, enum reason why,
			      struct slice name) MUSTCHECK;

/*
 * Adds the head of a message with `before`, the name, and `rest` more bytes
 * that somebody else adds.
 */
void virtual_add_head(struct link_walk *w, uint8_t type, struct slice before, uint64_t number, size_t rest);

/*
 * Sees to it that the server has the statement: *entryp, or NULL when the
 * client must wait. False without memory. `told`: what the client takes it for.
 */
bool virtual_ensure(struct link_walk *w, struct stmt *stmt, const struct prep_told *told,
		    struct prep_entry **entryp) MUSTCHECK;

/* Counts the DDL that was seen in the server's database. */
static inline unsigned virtual_epoch(const struct server *server)
{
	return atomic_load_explicit(&server->pool->db->ddl_epoch, memory_order_relaxed);
}

/*
 * True when the message, which may be any, is a Bind of a client that takes the
 * columns for those that it was told of: it names the format of each, or asks
 * for no description behind it, as far as can be seen.
 */
bool virtual_relies_on_shape(const struct link_walk *w);

/*
 * A Bind to the entry of a client that was told a shape. ADMIT_SEND when it
 * still is that, or does not matter; else what becomes of the Bind.
 */
enum admit virtual_check_shape(struct link_walk *w, struct slice name, struct stmt *stmt, const struct prep_told *told,
			       struct prep_entry *entry) MUSTCHECK;

/*
 * A Describe is about to be sent, the tracker is told: of the entry for the
 * client's name, or NULL for either; unnamed: see prep_record.
 */
void virtual_expect_shape(struct server *server, struct prep_name *name, struct prep_entry *entry, uint32_t unnamed);

/* A Describe of the unnamed statement that the client itself has parsed there. */
enum admit virtual_describe_unnamed(struct link_walk *w) MUSTCHECK;

/* A Describe or Close of a portal. What the Bind right before has bound tells the client what the statement returns. */
enum admit virtual_describe_portal(struct link_walk *w) MUSTCHECK;

/* True when the text, as far as it has come, has a PREPARE that sql_prepare does not allow. */
bool virtual_is_refused(const struct client *client, struct slice text);

/* True when the text is a DEALLOCATE of the client's, and *admit says what becomes of the message. */
bool virtual_translate(struct link_walk *w, struct slice text, enum admit *admit);

/* A Query that virtual_minds_query(). */
enum admit virtual_query(struct link_walk *w) MUSTCHECK;

/* A DEALLOCATE of one name is complete. */
void virtual_deallocated(struct server *server);

#endif
