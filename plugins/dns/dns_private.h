/* dns_private.h: what dns.c (the plugin), task.c (one call: its c-ares channel, its
 * descriptors and its timer), lookups.c and checks.c share. */
#ifndef DNS_PRIVATE_H
#define DNS_PRIVATE_H

#include <ares.h>
#include <hp_plugin.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "records.h"

#define DNS_WATCHES_MAX 8
#define DNS_A 1
#define DNS_MX 15
#define DNS_TXT 16
#define DNS_AAAA 28

struct task;
/* status: ARES_SUCCESS with the answer, else why not. Never after the task has ended. */
typedef void (*dns_answer_fn)(struct task *t, int status, const unsigned char *answer, int n);

/* One call. Ends by dns_done or dns_failed; freed in the next turn of the loop,
 * because c-ares must not be freed from within its own callbacks. */
struct task {
	struct task *prev, *next;
	uint64_t token;
	ares_channel channel;
	bool has_channel, ended, dead;
	struct {
		int fd;
		uint64_t handle;
	} watches[DNS_WATCHES_MAX];
	uint64_t timer;
	dns_answer_fn answered;
	json_t *args;
	char name[DNS_NAME_MAX + 2];    /* being asked for */
	void *own;                      /* of checks.c */
	void (*free_own)(void *own);
};

extern const struct hp_host *dns_host;

/* ---- task.c ---- */
/* NULL: the call has been answered with what is wrong. */
struct task *dns_task(const struct hp_call *c);
void dns_cancel(uint64_t token);
/* Asks; `answered` may be called from in here. */
void dns_ask(struct task *t, const char *name, int type, dns_answer_fn answered);
/* To be called last by everything that c-ares or the host calls. */
void dns_turn(struct task *t);
void dns_done(struct task *t, json_t *value);  /* steals value; NULL: no memory */
void dns_failed(struct task *t, int cls, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* The failure of a status of c-ares. */
void dns_failed_by(struct task *t, int status);
/* A text argument; NULL: it is missing. */
const char *dns_arg(const struct task *t, const char *name);
/* A name that may be asked for, from an argument; NULL: it is not, and that was said. */
const char *dns_arg_name(struct task *t, const char *name);

/* ---- lookups.c ---- */
void dns_lookup(const struct hp_call *c, int type);
/* The texts of a TXT answer, each with its strings joined. NULL: unreadable. Owner: caller. */
json_t *dns_texts(const unsigned char *answer, int n);

/* ---- checks.c ---- */
void dns_check_spf(const struct hp_call *c);
void dns_check_dkim(const struct hp_call *c);
void dns_check_dmarc(const struct hp_call *c);

#endif
