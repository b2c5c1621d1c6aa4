/* net_http_address.c: which addresses a request may not go to, at the edges of every range. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "lib/suite.h"
#include "net/http_client.h"
#include "net/http_client_private.h"

START_TEST(address_vectors)
{
	static const struct {
		const char *ip;
		bool refused;
	} v[] = {
		{"0.0.0.0", true}, {"0.255.255.255", true}, {"1.0.0.0", false}, {"1.1.1.1", false},
		{"9.255.255.255", false}, {"10.0.0.0", true}, {"10.255.255.255", true}, {"11.0.0.0", false},
		{"100.63.255.255", false}, {"100.64.0.0", true}, {"100.127.255.255", true}, {"100.128.0.0", false},
		{"126.255.255.255", false}, {"127.0.0.1", true}, {"127.255.255.255", true}, {"128.0.0.0", false},
		{"169.253.255.255", false}, {"169.254.169.254", true}, {"169.255.0.0", false},
		{"172.15.255.255", false}, {"172.16.0.0", true}, {"172.31.255.255", true}, {"172.32.0.0", false},
		{"192.0.0.8", true}, {"192.0.1.0", false}, {"192.0.2.1", true}, {"192.88.99.1", true},
		{"192.167.255.255", false}, {"192.168.0.0", true}, {"192.168.255.255", true}, {"192.169.0.0", false},
		{"198.17.255.255", false}, {"198.18.0.0", true}, {"198.19.255.255", true}, {"198.20.0.0", false},
		{"198.51.100.7", true}, {"203.0.113.7", true}, {"223.255.255.255", false}, {"224.0.0.1", true},
		{"239.255.255.255", true}, {"240.0.0.1", true}, {"255.255.255.255", true},
		{"::", true}, {"::1", true}, {"::2", true}, {"::8.8.8.8", false}, {"::127.0.0.1", true},
		{"::ffff:127.0.0.1", true}, {"::ffff:10.1.2.3", true}, {"::ffff:169.254.169.254", true},
		{"::ffff:8.8.8.8", false}, {"::ffff:0:10.0.0.1", true}, {"::ffff:0:8.8.8.8", false},
		{"64:ff9b::10.0.0.1", true}, {"64:ff9b::169.254.169.254", true}, {"64:ff9b::8.8.8.8", false},
		{"64:ff9b:1::8.8.8.8", true}, {"2002:0a00:0001::1", true}, {"2002:7f00:0001::", true},
		{"2002:0808:0808::1", false}, {"2001::1", true}, {"2001:1ff:ffff::", true}, {"2001:200::1", false},
		{"2001:db8::1", true}, {"2001:db9::1", false}, {"2606:4700::1111", false}, {"100::1", true},
		{"100:0:0:1::1", false}, {"fbff:ffff::1", false}, {"fc00::1", true}, {"fdff::1", true},
		{"fe00::1", false}, {"fe80::1", true}, {"febf::1", true}, {"fec0::1", true}, {"ff02::1", true},
		{"3fff::1", true}, {"5f00::1", true},
	};
	for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
		struct sockaddr_in a4 = {.sin_family = AF_INET};
		struct sockaddr_in6 a6 = {.sin6_family = AF_INET6};
		bool four = inet_pton(AF_INET, v[i].ip, &a4.sin_addr) == 1;
		if (!four)
			ck_assert_int_eq(inet_pton(AF_INET6, v[i].ip, &a6.sin6_addr), 1);
		bool refused = hp_http_address_is_private(four ? (struct sockaddr *)&a4 : (struct sockaddr *)&a6);
		ck_assert_msg(refused == v[i].refused, "%s", v[i].ip);
		ck_assert_msg(hp_http_text_is_private(v[i].ip) == v[i].refused, "%s as text", v[i].ip);
	}
	struct sockaddr local = {.sa_family = AF_UNIX};
	ck_assert(hp_http_address_is_private(&local));
	ck_assert(hp_http_text_is_private("example.org"));
	ck_assert(hp_http_text_is_private(""));
}
END_TEST

HP_SUITE("net_http_address", address_vectors)
