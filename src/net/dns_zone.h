/*
 * The zones of the host names that the resolver knows: what stands behind the
 * first dot of a name. The serial number of each is looked at now and then; a
 * larger one than before means that the names may lead elsewhere.
 */
#ifndef PGSLUICE_NET_DNS_ZONE_H
#define PGSLUICE_NET_DNS_ZONE_H

#include "net/loop.h"

struct dns_zone;
struct dns_zones;

/* Called on the loop for a zone whose serial has grown. */
typedef void (*dns_zone_changed_fn)(const struct dns_zone *zone, void *arg);

/* No zones yet, none watched. resolv_conf as in dns_new(). All of this belongs to the loop's thread. */
struct dns_zones *dns_zones_new(struct loop *loop, const char *resolv_conf, dns_zone_changed_fn fn, void *arg);

/* Takes *zones and nulls it; hosts have left. */
void dns_zones_free(struct dns_zones **zones);

/* Looks at the serials every period_us; 0: no more. The same period again changes nothing. */
void dns_zones_set_period(struct dns_zones *zones, uint64_t period_us);

/* The zone of a host, which counts it from now on; NULL: the name has none. */
struct dns_zone *dns_zone_join(struct dns_zones *zones, const char *host);

/* The host is forgotten, and the zone with the last of them. *zone is nulled and may be NULL. */
void dns_zone_leave(struct dns_zones *zones, struct dns_zone **zone);

/* A row of SHOW DNS_ZONES. */
struct dns_zone_row {
	const char *name;
	uint32_t serial; /* 0: not known */
	unsigned count;  /* hosts */
};
typedef void (*dns_zone_row_fn)(const struct dns_zone_row *row, void *arg);

/* Calls fn for each zone. */
void dns_zones_show(const struct dns_zones *zones, dns_zone_row_fn fn, void *arg);
unsigned dns_zones_count(const struct dns_zones *zones);

#endif
