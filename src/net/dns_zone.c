/*
 * Watching zones.
 *
 * A round begins with each period: every zone becomes due, and up to
 * ZONES_AT_ONCE questions are under way until none is due any more. A round
 * that takes longer than the period flows into the next. A zone exists as long
 * as a host of it does, so a question may have to be cancelled when the last
 * host is forgotten.
 *
 * Serials are compared in the circle of RFC 1982. The first that is learnt is
 * no change, and neither is one that goes back: a secondary server may lag
 * behind the one that was asked before.
 */
#include "net/dns_zone.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "net/soa.h"

#define ZONES_AT_ONCE 8

struct dns_zone {
	LIST_ENTRY(dns_zone) entry;
	struct dns_zones *zones;
	unsigned count; /* hosts */
	bool known;     /* serial is one that a server gave */
	uint32_t serial;
	bool due; /* to be asked for in this round */
	struct soa_query *query;
	char name[];
};

struct dns_zones {
	LIST_HEAD(, dns_zone) list;
	unsigned count;
	unsigned asking;
	struct loop *loop;
	char *resolv_conf;
	dns_zone_changed_fn fn;
	void *arg;
	struct loop_ticker ticker;
	uint64_t period_us;
};

static void dns_zones_ask(struct dns_zones *zones);

static void dns_zone_set_serial(struct dns_zone *zone, uint32_t serial)
{
	uint32_t old = zone->serial;
	bool grown = zone->known && (int32_t)(serial - old) > 0;

	if (zone->known && !grown)
		return;
	zone->known = true;
	zone->serial = serial;
	if (!grown)
		return;
	log_info("zone '%s' serial changed: old=%u new=%u", zone->name, old, serial);
	zone->zones->fn(zone, zone->zones->arg);
}

static void dns_zone_on_serial(int err, uint32_t serial, void *arg)
{
	struct dns_zone *zone = arg;
	struct dns_zones *zones = zone->zones;

	zone->query = NULL;
	zones->asking--;
	if (err == 0)
		dns_zone_set_serial(zone, serial);
	else
		log_debug("could not get the serial of zone '%s'", zone->name);
	dns_zones_ask(zones);
}

static void dns_zones_ask(struct dns_zones *zones)
{
	struct dns_zone *zone;

	LIST_FOREACH (zone, &zones->list, entry) {
		if (zones->asking >= ZONES_AT_ONCE || zones->period_us == 0)
			return;
		if (!zone->due || zone->query != NULL)
			continue;
		zone->due = false;
		zones->asking++;
		zone->query = soa_ask(zones->loop, zones->resolv_conf, zone->name, dns_zone_on_serial, zone);
	}
}

static void dns_zones_on_tick(struct loop *loop UNUSED, void *arg)
{
	struct dns_zones *zones = arg;
	struct dns_zone *zone;

	LIST_FOREACH (zone, &zones->list, entry)
		zone->due = true;
	dns_zones_ask(zones);
}

struct dns_zones *dns_zones_new(struct loop *loop, const char *resolv_conf, dns_zone_changed_fn fn, void *arg)
{
	struct dns_zones *zones = xcalloc(1, sizeof(*zones));

	LIST_INIT(&zones->list);
	zones->loop = loop;
	zones->resolv_conf = xstrdup(resolv_conf);
	zones->fn = fn;
	zones->arg = arg;
	loop_ticker_init(&zones->ticker, loop, dns_zones_on_tick, zones);
	return zones;
}

void dns_zones_free(struct dns_zones **zonesp)
{
	struct dns_zones *zones = *zonesp;

	*zonesp = NULL;
	ASSERT(LIST_EMPTY(&zones->list) && zones->asking == 0);
	loop_ticker_fini(&zones->ticker);
	free(zones->resolv_conf);
	free(zones);
}

void dns_zones_set_period(struct dns_zones *zones, uint64_t period_us)
{
	if (period_us == zones->period_us)
		return;
	zones->period_us = period_us;
	loop_ticker_stop(&zones->ticker);
	if (period_us == 0)
		return;
	loop_ticker_start(&zones->ticker, period_us);
	dns_zones_on_tick(zones->loop, zones); /* what holds now, to compare with */
}

struct dns_zone *dns_zone_join(struct dns_zones *zones, const char *host)
{
	const char *dot = strchr(host, '.');
	struct dns_zone *zone;

	if (dot == NULL || dot[1] == '\0')
		return NULL;
	LIST_FOREACH (zone, &zones->list, entry) {
		if (strcasecmp(zone->name, dot + 1) == 0) {
			zone->count++;
			return zone;
		}
	}
	zone = xcalloc(1, sizeof(*zone) + strlen(dot + 1) + 1);
	memcpy(zone->name, dot + 1, strlen(dot + 1) + 1);
	zone->zones = zones;
	zone->count = 1;
	zone->due = zones->period_us > 0;
	LIST_INSERT_HEAD(&zones->list, zone, entry);
	zones->count++;
	dns_zones_ask(zones);
	return zone;
}

void dns_zone_leave(struct dns_zones *zones, struct dns_zone **zonep)
{
	struct dns_zone *zone = *zonep;

	*zonep = NULL;
	if (zone == NULL || --zone->count > 0)
		return;
	LIST_REMOVE(zone, entry);
	zones->count--;
	zones->asking -= zone->query != NULL;
	soa_cancel(&zone->query);
	free(zone);
}

void dns_zones_show(const struct dns_zones *zones, dns_zone_row_fn fn, void *arg)
{
	const struct dns_zone *zone;

	LIST_FOREACH (zone, &zones->list, entry) {
		struct dns_zone_row row = { .name = zone->name, .serial = zone->serial, .count = zone->count };

		fn(&row, arg);
	}
}

unsigned dns_zones_count(const struct dns_zones *zones)
{
	return zones->count;
}
