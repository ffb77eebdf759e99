/*
 * PostgreSQL does not stop a former primary that comes back from taking writes;
 * these are lost when it is made a standby of the new one. What tells the two
 * apart is the timeline: a promotion begins a new one. So a primary on an older
 * timeline than one that was ever seen among the servers with the same system
 * identifier gets no writes, even while the newer one cannot be reached.
 *
 * Two standbys that were promoted side by side have the same timeline; then
 * nobody can say who is right, and the one that has been used so far is kept,
 * since going back and forth would be worse. Where timelines are not known (the
 * role that asks may not see them), a server that has just become a primary is
 * the one that somebody has promoted.
 */
#include "pool/health_judge.h"

#include "core/str.h"

static bool judge_is_candidate(const struct health_view *view)
{
	return view->is_reachable && view->is_primary && !view->is_fenced;
}

/* True when writes go to `a` and not to `b`, both of which are primaries of one system. */
static bool judge_wins(const struct health_view *a, const struct health_view *b)
{
	bool is_known = a->timeline != 0 && b->timeline != 0;

	if (is_known && a->timeline != b->timeline)
		return a->timeline > b->timeline;
	return is_known ? a->primary_since_us < b->primary_since_us : a->primary_since_us > b->primary_since_us;
}

int health_judge(struct health_view *views, size_t count)
{
	int primary = -1;

	for (size_t i = 0; i < count; i++)
		views[i].is_fenced =
			views[i].is_primary && views[i].timeline != 0 && views[i].timeline < views[i].newest;
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count && judge_is_candidate(&views[i]); j++)
			if (j != i && judge_is_candidate(&views[j]) && views[i].system_id == views[j].system_id &&
			    judge_wins(&views[j], &views[i]))
				views[i].is_fenced = true;
	for (size_t i = 0; i < count && primary < 0; i++)
		if (judge_is_candidate(&views[i]))
			primary = (int)i;
	return primary;
}

bool health_is_one_system(const struct health_view *views, size_t count)
{
	uint64_t system_id = 0;

	for (size_t i = 0; i < count; i++) {
		if (views[i].system_id == 0)
			continue;
		if (system_id != 0 && views[i].system_id != system_id)
			return false;
		system_id = views[i].system_id;
	}
	return true;
}

void failover_symptom(struct failover_watch *watch, const char *why, uint64_t now_us)
{
	if (watch->is_open || watch->primary[0] == '\0')
		return;
	watch->is_open = true;
	watch->open = (struct failover){ .began_us = now_us };
	str_copy(watch->open.from, sizeof(watch->open.from), watch->primary);
	str_copy(watch->open.why, sizeof(watch->open.why), why);
}

/* The primary is the one that was known. */
static enum failover_step failover_on_same(struct failover_watch *watch, uint64_t asked_us)
{
	bool was_lost = watch->open.detected_us != 0;

	if (!watch->is_open || asked_us < watch->open.began_us)
		return FAILOVER_NOTHING;
	watch->is_open = false;
	return was_lost ? FAILOVER_BACK : FAILOVER_NOTHING;
}

static enum failover_step failover_on_other(struct failover_watch *watch, const char *primary, uint32_t timeline,
					    uint64_t now_us)
{
	bool is_first = watch->primary[0] == '\0';

	failover_symptom(watch, "another primary was seen", now_us);
	str_copy(watch->primary, sizeof(watch->primary), primary);
	watch->is_open = false;
	if (is_first)
		return FAILOVER_FIRST;
	if (watch->open.detected_us == 0)
		watch->open.detected_us = now_us;
	watch->open.elected_us = now_us;
	watch->open.timeline = timeline;
	str_copy(watch->open.to, sizeof(watch->open.to), primary);
	return FAILOVER_DONE;
}

enum failover_step failover_look(struct failover_watch *watch, const char *primary, uint32_t timeline, const char *why,
				 uint64_t asked_us, uint64_t now_us)
{
	if (primary != NULL && strcmp(primary, watch->primary) == 0)
		return failover_on_same(watch, asked_us);
	if (primary != NULL)
		return failover_on_other(watch, primary, timeline, now_us);
	if (watch->primary[0] == '\0')
		return FAILOVER_NOTHING;
	failover_symptom(watch, why, now_us);
	if (watch->open.detected_us != 0)
		return FAILOVER_NOTHING;
	watch->open.detected_us = now_us;
	return FAILOVER_LOST;
}
