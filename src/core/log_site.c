/*
 * Which lines are held back.
 *
 * When something breaks the same warning comes a thousand times a second. Each
 * place in the code that warns has a site, which lets so many lines pass in
 * each interval and counts the others; the count is told when the interval is
 * over, by the next line of the place or by log_tell_held(), whichever comes
 * first.
 *
 * No lock: the fields of a site are atomics, and threads that come at the same
 * time may let a line more pass, or one less, than they should. A count is
 * taken away with an exchange, so nothing is told twice. Sites that have held
 * something back stand in a list that only grows; they are static objects.
 */
#include "core/clock.h"
#include "core/log_int.h"

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

bool log_site_pass(struct log_site *site, enum log_level level, const char *fmt, uint64_t *held)
{
	unsigned burst = site->burst != 0 ? site->burst : site_burst;
	uint64_t since = site->since_us;
	uint64_t now;

	*held = 0;
	if (burst == 0)
		return true;
	now = clock_mono_us();
	if ((since == 0 || now - since >= log_site_interval_us(site)) &&
	    atomic_compare_exchange_strong(&site->since_us, &since, now)) {
		site->passed = 0;
		*held = atomic_exchange(&site->held, 0);
	}
	if (atomic_fetch_add(&site->passed, 1) < burst)
		return true;
	site->fmt = fmt;
	site->level = (int)level;
	atomic_fetch_add(&site->held, 1);
	log_site_list(site);
	return false;
}

/* What the lines of the site have in common. */
static const char *log_site_title(const struct log_site *site)
{
	return strcmp(site->fmt, "%s") == 0 ? "lines like the last one of this level" : site->fmt;
}

void log_tell_held(bool at_end)
{
	struct log_site *site = site_list;
	uint64_t now = site == NULL ? 0 : clock_mono_us();

	for (; site != NULL; site = site->next) {
		uint64_t held;

		if (site->held == 0 || (!at_end && now - site->since_us < log_site_interval_us(site)))
			continue;
		held = atomic_exchange(&site->held, 0);
		if (held > 0)
			log_write((enum log_level)site->level, LOG_HELD_FORMAT, log_site_title(site), held);
	}
}
