/* worker_native.c: requests that a native plugin does, in a process of its own.
 *
 * They pass the same gates as HTTP requests (worker_effect.c) and come back the
 * same way; only the carrier differs.
 */
#include "runtime/worker_private.h"

static void on_reply(void *arg, const struct hp_plugin_reply *reply)
{
	struct hp_owned *r = arg;
	struct hp_host *h = r->host;
	struct hp_incoming in = {.answered = reply->answered,
				 .sent = reply->sent,
				 .refused = reply->refused,
				 .failure = reply->failure,
				 .detail = reply->answered ? NULL : reply->detail,
				 .status = reply->status,
				 .body = reply->body};

	r->plugin_token = 0;
	r->host = NULL;
	if (!in.answered)
		hp_w_log(HP_WARN, r, "a plugin did not answer", in.failure, in.detail);
	hp_w_incoming(r, &in);
	hp_w_host_release(h);
}

void hp_w_native(struct hp_owned *r, struct hp_host *h, const struct hp_outgoing *out)
{
	struct hp_worker *w = r->w;
	struct hp_plugin_call call = {.plugin = out->native,
				      .activity = out->activity,
				      .args = out->body,
				      .key = out->key,
				      .endpoint = out->endpoint,
				      .headers = out->headers,
				      .n_headers = out->n_headers,
				      .timeout_us = r->act.timeout_us};
	struct hp_error err;
	int64_t token = -1;

	r->effect_at = hp_w_boot(w);
	if (w->o.plugins)
		token = hp_plugins_call(w->o.plugins, &call, on_reply, r, &err);
	else
		hp_fail(&err, HP_E_UNAVAILABLE, "this worker runs no native plugins");
	if (token < 0) {
		hp_w_unsendable(r, err.code == HP_E_NOMEM ? HP_RETRYABLE : HP_NEEDS_PERSON, "request_refused", &err);
		return;
	}
	r->plugin_token = token;
	r->host = h;
	h->in_flight++;
	hp_w_hand(r, HP_HAND_EFFECT);
	HP_CRASH_POINT(EFFECT_SENT);
}
