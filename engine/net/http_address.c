/* http_address.c: which hosts and addresses an outgoing request may reach.
 *
 * Pure. An address is private when the IANA special-purpose registries (RFC 6890
 * and its updates) call it not globally reachable, or when it carries such an
 * IPv4 address inside: mapped, compatible, translated (RFC 6052), 6to4. Teredo
 * and local NAT64 prefixes are refused whole: what they lead to cannot be seen.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#include "base/words.h"
#include "net/http_client_private.h"

static bool v4_is_private(const uint8_t a[4])
{
	static const struct {
		uint32_t net;
		int bits;
	} refused[] = {
		{0x00000000, 8},  /* 0.0.0.0/8: this host */
		{0x0a000000, 8},  /* 10/8 */
		{0x64400000, 10}, /* 100.64/10: carrier NAT, cloud metadata of some */
		{0x7f000000, 8},  /* loopback */
		{0xa9fe0000, 16}, /* 169.254/16: link-local, cloud metadata */
		{0xac100000, 12}, /* 172.16/12 */
		{0xc0000000, 24}, /* 192.0.0/24: protocol assignments */
		{0xc0000200, 24}, /* documentation */
		{0xc0586300, 24}, /* 192.88.99/24: 6to4 relays, deprecated */
		{0xc0a80000, 16}, /* 192.168/16 */
		{0xc6120000, 15}, /* 198.18/15: benchmarks */
		{0xc6336400, 24}, /* documentation */
		{0xcb007100, 24}, /* documentation */
		{0xe0000000, 4},  /* multicast */
		{0xf0000000, 4},  /* reserved, broadcast */
	};
	uint32_t ip = (uint32_t)a[0] << 24 | (uint32_t)a[1] << 16 | (uint32_t)a[2] << 8 | a[3];
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
		if (((ip ^ refused[i].net) >> (32 - refused[i].bits)) == 0)
			return true;
	return false;
}

static bool v6_in(const uint8_t a[16], const char *net, int bits)
{
	uint8_t n[16];
	if (inet_pton(AF_INET6, net, n) != 1)
		return true; /* a typing error in the table below must not open a hole */
	int whole = bits / 8, rest = bits % 8;
	if (memcmp(a, n, (size_t)whole) != 0)
		return false;
	return rest == 0 || ((a[whole] ^ n[whole]) >> (8 - rest)) == 0;
}

static bool v6_is_private(const uint8_t a[16])
{
	static const struct {
		const char *net;
		int bits;
		int v4_at; /* ≥ 0: the IPv4 address inside decides */
	} table[] = {
		{"::ffff:0:0", 96, 12},   /* mapped */
		{"::ffff:0:0:0", 96, 12}, /* translated, RFC 2765 */
		{"64:ff9b::", 96, 12},    /* NAT64, RFC 6052 */
		{"2002::", 16, 2},        /* 6to4 */
		{"::1", 128, -1},         /* loopback */
		{"::", 128, -1},          /* unspecified */
		{"::", 96, 12},           /* compatible, deprecated */
		{"64:ff9b:1::", 48, -1},  /* local NAT64, RFC 8215 */
		{"100::", 64, -1},        /* discard */
		{"2001::", 23, -1},       /* protocol assignments, Teredo, ORCHID */
		{"2001:db8::", 32, -1},   /* documentation */
		{"3fff::", 20, -1},       /* documentation, RFC 9637 */
		{"5f00::", 16, -1},       /* segment routing, RFC 9602 */
		{"fc00::", 7, -1},        /* unique local */
		{"fe80::", 10, -1},       /* link-local */
		{"fec0::", 10, -1},       /* site-local, deprecated */
		{"ff00::", 8, -1},        /* multicast */
	};
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (v6_in(a, table[i].net, table[i].bits))
			return table[i].v4_at < 0 || v4_is_private(a + table[i].v4_at);
	return false;
}

bool hp_http_address_is_private(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)sa;
		return v4_is_private((const uint8_t *)&in->sin_addr);
	}
	if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const void *)sa;
		return v6_is_private(in->sin6_addr.s6_addr);
	}
	return true; /* unix sockets and whatever else: not for connectors */
}

bool hp_http_text_is_private(const char *ip)
{
	uint8_t a[16];
	if (inet_pton(AF_INET, ip, a) == 1)
		return v4_is_private(a);
	if (inet_pton(AF_INET6, ip, a) == 1)
		return v6_is_private(a);
	return true;
}

bool hp_http_host_allowed(const struct hp_http_request *rq, const char *host, int port, int default_port)
{
	size_t host_n = strlen(host);
	for (int i = 0; i < rq->n_allow_hosts; i++) {
		const char *entry = rq->allow_hosts[i];
		const char *colon = strrchr(entry, ':');
		const char *bracket = strrchr(entry, ']');
		if (colon && bracket && colon < bracket)
			colon = NULL; /* "[::1]": the colon is the address's own */
		size_t n = colon ? (size_t)(colon - entry) : strlen(entry);
		int64_t want = default_port;
		if (colon && hp_int_parse(colon + 1, &want) != 0)
			continue;
		if (n == host_n && !strncasecmp(entry, host, n) && want == port)
			return true;
	}
	return false;
}
