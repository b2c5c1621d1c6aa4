/* dns.c: the plugin: DNS lookups and checks of mail records, by c-ares.
 *
 * The endpoint (--base-url dns=…) is a list of servers, "127.0.0.1:5353,[::1]:53",
 * with or without "dns://" before it; without one the system's servers are asked.
 */
#include "dns_private.h"

#include <stdio.h>

const struct hp_host *dns_host;

static void a(void *state, const struct hp_call *c)
{
	(void)state;
	dns_lookup(c, DNS_A);
}

static void aaaa(void *state, const struct hp_call *c)
{
	(void)state;
	dns_lookup(c, DNS_AAAA);
}

static void mx(void *state, const struct hp_call *c)
{
	(void)state;
	dns_lookup(c, DNS_MX);
}

static void txt(void *state, const struct hp_call *c)
{
	(void)state;
	dns_lookup(c, DNS_TXT);
}

static void spf(void *state, const struct hp_call *c)
{
	(void)state;
	dns_check_spf(c);
}

static void dkim(void *state, const struct hp_call *c)
{
	(void)state;
	dns_check_dkim(c);
}

static void dmarc(void *state, const struct hp_call *c)
{
	(void)state;
	dns_check_dmarc(c);
}

static void cancel(void *state, uint64_t token)
{
	(void)state;
	dns_cancel(token);
}

#define ACTIVITY(f) static const struct hp_activity act_##f = {sizeof(struct hp_activity), #f, f, cancel}
ACTIVITY(a);
ACTIVITY(aaaa);
ACTIVITY(mx);
ACTIVITY(txt);
ACTIVITY(spf);
ACTIVITY(dkim);
ACTIVITY(dmarc);

static const struct hp_activity *const activities[] = {&act_a,   &act_aaaa, &act_mx,    &act_txt,
						       &act_spf, &act_dkim, &act_dmarc, NULL};

static int init(const struct hp_host *host, void **state, char *error, size_t error_len)
{
	int rc = ares_library_init(ARES_LIB_INIT_ALL);

	(void)state;
	dns_host = host;
	if (rc == ARES_SUCCESS)
		return 0;
	snprintf(error, error_len, "c-ares: %s", ares_strerror(rc));
	return -1;
}

static const struct hp_plugin plugin = {HP_PLUGIN_ABI, sizeof plugin, "dns", "1.0.0", activities, init, NULL};

HP_PLUGIN_EXPORT const struct hp_plugin *hp_plugin_v1(void)
{
	return &plugin;
}
