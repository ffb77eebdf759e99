#include "net/netif.h"

#include <ifaddrs.h>

/* The bytes of an IPv4 or IPv6 address; 0 and NULL for others. */
static size_t netif_bytes(const struct sockaddr *sa, const uint8_t **bytes)
{
	*bytes = NULL;
	if (sa != NULL && sa->sa_family == AF_INET) {
		*bytes = (const uint8_t *)&((const struct sockaddr_in *)(const void *)sa)->sin_addr;
		return sizeof(struct in_addr);
	}
	if (sa != NULL && sa->sa_family == AF_INET6) {
		*bytes = (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
		return sizeof(struct in6_addr);
	}
	return 0;
}

static bool netif_matches(const struct ifaddrs *ifa, const uint8_t *ip, size_t n, bool whole_net)
{
	const uint8_t *own;
	const uint8_t *mask;

	if (netif_bytes(ifa->ifa_addr, &own) != n)
		return false;
	if (!whole_net || netif_bytes(ifa->ifa_netmask, &mask) != n)
		return memcmp(own, ip, n) == 0;
	for (size_t i = 0; i < n; i++) {
		if (((own[i] ^ ip[i]) & mask[i]) != 0)
			return false;
	}
	return true;
}

bool netif_has(const struct sock_addr *addr, bool whole_net)
{
	const uint8_t *ip;
	size_t n = addr->len == 0 ? 0 : netif_bytes(&addr->u.sa, &ip);
	struct ifaddrs *all;
	bool has = false;

	if (n == 0 || getifaddrs(&all) != 0)
		return false;
	for (const struct ifaddrs *ifa = all; ifa != NULL && !has; ifa = ifa->ifa_next)
		has = netif_matches(ifa, ip, n, whole_net);
	freeifaddrs(all);
	return has;
}
