/*
 * Which lines are held back.
 *
 * When something breaks the same warning comes a thousand times a second. Each
 * place in the code that warns has a site, which lets so many lines pass in
 * each interval and counts the others; the count is told when the interval is
 * over, by the next line of the place or by log_tell_held(), whichever comes
 * first. What is told is the text of the first line that was held back; those
 * behind it came from the same place, with other names in it perhaps.
 *
 * The fields of a site are atomics, and threads that come at the same time may
 * let a line more pass, or one less, than they should. In a storm of lines each
 * costs an addition; only the first of an interval is formatted, and its text
 * and the step of the count from nothing to one are under a lock, as is taking
 * both away: so nothing is told twice, or with another's text. Sites that have
 * held something back stand in a list that only grows; they are static objects.
 */
#include "core/clock.h"
#include "core/lock.h"
#include "core/log_int.h"
#include "core/str.h"

static struct lock log_site_lock = { PTHREAD_MUTEX_INITIALIZER, LOCK_RANK_LOG };
static _Atomic unsigned site_burst;
static struct log_site *_Atomic site_list;

void log_site_set_burst(unsigned burst)
{
	site_burst = burst;
}

static uint64_t log_site_interval_us(const struct log_site *site)
{
	return (site->interval_s == 0 ? LOG_RATE_S : site->interval_s) * USEC_PER_SEC;
}

static void log_site_list(struct log_site *site)
{
	struct log_site *first;

	if (atomic_exchange(&site->listed, true))
		return;
	first = site_list;
	do
		site->next = first;
	while (!atomic_compare_exchange_weak(&site_list, &first, site));
}

/* Counts a line. Its text is kept when it is the first. */
PRINTF_LIKE(3, 0)
static void log_site_hold(struct log_site *site, enum log_level level, const char *fmt, va_list ap)
{
	struct log_line line = { .level = level };
	uint64_t count = site->held;

	while (count > 0)
		if (atomic_compare_exchange_weak(&site->held, &count, count + 1))
			return;
	log_line_fill(&line, fmt, ap);
	lock_acquire(&log_site_lock);
	if (site->held == 0) {
		str_copy(site->text, sizeof(site->text), line.message);
		site->level = (int)level;
	}
	atomic_fetch_add(&site->held, 1);
	lock_release(&log_site_lock);
	log_site_list(site);
}

/* Takes the count away, and the text if there is something to tell. */
static void log_site_take(struct log_site *site, struct log_held *held)
{
	held->count = 0;
	if (site->held == 0)
		return;
	lock_acquire(&log_site_lock);
	held->count = atomic_exchange(&site->held, 0);
	held->level = (enum log_level)site->level;
	str_copy(held->text, sizeof(held->text), site->text);
	lock_release(&log_site_lock);
}

bool log_site_pass(struct log_site *site, enum log_level level, struct log_held *held, const char *fmt, va_list ap)
{
	unsigned burst = site->burst != 0 ? site->burst : site_burst;
	uint64_t since = site->since_us;
	uint64_t now;

	held->count = 0;
	if (burst == 0)
		return true;
	now = clock_mono_us();
	if ((since == 0 || now - since >= log_site_interval_us(site)) &&
	    atomic_compare_exchange_strong(&site->since_us, &since, now)) {
		site->passed = 0;
		log_site_take(site, held);
	}
	if (atomic_fetch_add(&site->passed, 1) < burst)
		return true;
	log_site_hold(site, level, fmt, ap);
	return false;
}

void log_tell_held(bool at_end)
{
	struct log_site *site = site_list;
	uint64_t now = site == NULL ? 0 : clock_mono_us();

	for (; site != NULL; site = site->next) {
		struct log_held held;

		if (site->held == 0 || (!at_end && now - site->since_us < log_site_interval_us(site)))
			continue;
		log_site_take(site, &held);
		log_write_held(&held);
	}
}
