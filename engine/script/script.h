/* script.h: Lua, and nothing else knows it.
 *
 * hp_workflow is a loaded definition with its Lua state (one per worker and
 * digest): pure functions from a run's data to values, each call limited in
 * instructions' time (HP_LUA_TIME_MAX) and memory (HP_LUA_MEMORY_MAX). After a
 * kill by time or memory the state is rebuilt from the bundle by itself.
 *
 * A bundle is JSON: {"workflow": {"file", "source"}, "connectors":
 * {"stripe": {"file", "source"}, …}}: everything a run is pinned to. Its digest
 * is SHA-256 over its canonical text.
 */
#ifndef HP_SCRIPT_SCRIPT_H
#define HP_SCRIPT_SCRIPT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"
#include "core/definition.h"
#include "core/machine.h"

struct hp_workflow;
struct hp_connector;

/* ---- loading ---- */
/* Reads a workflow's file and the connectors it names from plugins_dir/NAME/connector.lua
 * into a bundle (JSON appended to out). */
int hp_bundle_build(const char *workflow_file, const char *plugins_dir, struct hp_buf *out,
		    struct hp_error *err) HP_MUST_CHECK;
void hp_bundle_digest(struct hp_bytes bundle, uint8_t out[HP_SHA256_LEN]);
/* Errors name file, line, state and the nearest right word. */
struct hp_workflow *hp_workflow_load(struct hp_bytes bundle, struct hp_error *err);
void hp_workflow_free(struct hp_workflow *w);
const struct hp_definition *hp_workflow_definition(const struct hp_workflow *w);
/* JSON for the store: {"states":[{"name","kind","doc"…}],"triggers":[…],"input":…}. */
int hp_workflow_summary(const struct hp_workflow *w, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;

/* ---- evaluating: what the machine's EVAL asks ---- */
struct hp_run_data {
	int64_t id;
	int32_t visit;
	const char *installation;
	struct hp_bytes key;
	struct hp_bytes input;       /* JSON */
	struct hp_bytes saved;       /* JSON object name → value */
	struct hp_bytes signed_request, signed_key; /* for HP_EVAL_REQUEST with signed_visit */
	const uint8_t *signed_hash;
	struct hp_bytes annex;       /* of the claim: what is to be undone */
	int64_t now;
};
/* `run` is act->pending ? &act->pending->after : the committed run. Saves of
 * act->pending are laid over data->saved (last wins) before evaluating, so `set` and
 * the next state's expressions see what the ending state saved.
 * HP_EVAL_REQUEST gives the signed request only when act->index is 1.
 * Answers act (HP_ACT_EVAL) by filling ev as HP_EV_VALUE; a Lua error becomes
 * ev->ok = false with code "script_error" and a message with file and line. Values
 * live until the next call of hp_workflow_eval on w with the same `out`. */
void hp_workflow_eval(struct hp_workflow *w, const struct hp_run_data *data, const struct hp_run *run,
		      const struct hp_action *act, struct hp_buf *out, struct hp_event *ev);

/* The run's key for a trigger's input; empty when none is declared. */
int hp_workflow_key(struct hp_workflow *w, struct hp_bytes input, struct hp_buf *out,
		    struct hp_error *err) HP_MUST_CHECK;
int hp_workflow_check_input(struct hp_workflow *w, struct hp_bytes input, struct hp_error *err) HP_MUST_CHECK;

/* ---- connector requests ----
 * A rendered request, as stored, hashed, signed and sent, is JSON:
 * {"connector","operation","method","path","headers":{…},"body":"…","key":"…"}.
 * The base URL and secrets are not in it: they are resolved when it is sent. "secrets"
 * says which words in headers and body stand for secrets of `with` (secret.c). */

/* Which operation of the workflow's connectors a request is for, found once when it
 * is sent. Zero: not known, and looked up in the request again. */
struct hp_op_ref {
	int connector, operation; /* from 1 */
};

/* A secret that was put into a request. */
struct hp_used_secret {
	const char *name, *value;
	const char *encoded; /* another form it was sent in (a pair in base64); NULL: none */
};

struct hp_outgoing {
	struct hp_op_ref op;
	const char *native;          /* the plugin that does it; NULL: it goes over HTTP */
	const char *activity, *key;  /* native */
	const char *endpoint;        /* native: the base URL's override, NULL: none */
	const char *method;
	const char *url;             /* native: "native:NAME" */
	const char *(*headers)[2];   /* name, value; secrets resolved: never log */
	int n_headers;
	struct hp_bytes body;
	const struct hp_used_secret *used; /* what replies must not repeat */
	int n_used;
	const char *const *allow_hosts;
	int n_allow_hosts;
};
/* Where secrets and base URLs come from at the time of sending. */
struct hp_environment {
	/* Value of a secret by name, NULL when it is not configured. version: NULL (the
	 * current one), "pending", "previous" or a number. */
	const char *(*secret)(void *arg, const char *name, const char *version);
	/* Overrides a connector's base URL (simulated providers); NULL: its own. */
	const char *(*base_url)(void *arg, const char *connector);
	void *arg;
};
struct hp_arena;
int hp_workflow_outgoing(struct hp_workflow *w, struct hp_bytes request, const struct hp_environment *env,
			 struct hp_arena *a, struct hp_outgoing *out, struct hp_error *err) HP_MUST_CHECK;

/* What came back, classified by the connector's operation into HP_EV_REPLY. */
struct hp_incoming {
	struct hp_op_ref op;         /* as hp_workflow_outgoing() gave it, or zero */
	bool answered;
	bool sent;                   /* !answered: a byte may have reached the peer */
	const char *failure;         /* !answered: "timeout", "unreachable", "connection_lost", … */
	const char *detail;          /* !answered: a sentence; NULL: none beside `failure` */
	bool refused;                /* !answered, !sent: only a person can change that */
	int status;
	const char *(*headers)[2];   /* lower-case names */
	int n_headers;
	struct hp_bytes body;
};
void hp_workflow_reply(struct hp_workflow *w, struct hp_bytes request, const struct hp_incoming *in,
		       int64_t now, struct hp_buf *out, struct hp_event *ev);

/* The secrets in whatever form they may stand in a reply; made once for all of it. */
struct hp_scrubber {
	const struct hp_used_secret *used; /* borrowed */
	struct hp_buf text;                /* of the forms */
	struct hp_scrub_form *forms;
	int n;
};
/* -1: no memory. To be freed in any case. */
int hp_scrubber_init(struct hp_scrubber *s, const struct hp_used_secret *used, int n) HP_MUST_CHECK;
void hp_scrubber_free(struct hp_scrubber *s);
/* 1: `in` without the secrets was appended to out; 0: it has none, and out is as it was;
 * -1: no memory: nobody knows whether it has some, so nobody may see it. */
int hp_scrub(const struct hp_scrubber *s, struct hp_bytes in, struct hp_buf *out) HP_MUST_CHECK;

/* Capital letters, digits and _, at most HP_SECRET_NAME_MAX - 1. */
bool hp_secret_name_ok(const char *s);

/* ---- replies that bring secrets: `save = secret …` ---- */
/* How many the replies of this state bring; 0: none. */
int hp_workflow_secrets(const struct hp_workflow *w, int state);
/* The i-th of them in the value that a reply, or a probe's verdict, came to: name and text
 * (borrowed). */
int hp_workflow_secret_of(const struct hp_workflow *w, int state, int i, const json_t *value, const char **name,
			  struct hp_bytes *text, struct hp_error *err) HP_MUST_CHECK;
/* They are sealed: docs[i] has "version" and "fingerprint". Puts references in their
 * place (*value may become another one) and appends what is to be saved. */
int hp_workflow_secret_refs(const struct hp_workflow *w, int state, json_t **value, const json_t *docs,
			    struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;
/* They could not be taken: the event says so, as if reply() had failed. */
void hp_secret_reply_failed(struct hp_event *ev, const struct hp_state *s, const char *code, const char *message);

/* ---- webhooks: current connectors, not pinned ---- */
struct hp_webhook {
	const char *scheme;          /* for hp_scheme_find() */
	const char *secrets[4];      /* names of secrets: current, previous */
	int n_secrets;
	int64_t tolerance_us;
};
struct hp_connector *hp_connector_load(const char *name, const char *plugins_dir, struct hp_error *err);
void hp_connector_free(struct hp_connector *c);
const struct hp_webhook *hp_connector_webhook(const struct hp_connector *c); /* NULL: has none */
/* From a verified body: event id, type and mailboxes.
 * JSON {"id","type","deliver":[{"name","key"}…]} appended to out. */
int hp_connector_webhook_event(struct hp_connector *c, struct hp_bytes body, const char *(*header)(void *, const char *),
			       void *header_arg, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;

/* ---- author's tools ---- */
struct hp_finding {
	const char *lint;   /* stable name: "unreachable_state" */
	const char *file;
	int line;
	const char *state;  /* NULL: the workflow as a whole */
	char sentence[1040]; /* also a message and a hint */
	bool fatal;         /* refuses deployment; others are warnings */
};
typedef void (*hp_finding_fn)(void *arg, const struct hp_finding *f);
/* All lints over a loaded workflow; returns the number of fatal findings. */
int hp_workflow_check(const struct hp_workflow *w, hp_finding_fn fn, void *arg);
/* Also across the workflows that `run` and `each` start: find gives one by its name, NULL:
 * it is not at hand, and then counts as destructive. */
typedef const struct hp_workflow *(*hp_workflow_find_fn)(void *arg, const char *name);
int hp_workflow_check_among(const struct hp_workflow *w, hp_workflow_find_fn find, void *find_arg, hp_finding_fn fn,
			    void *arg);
/* An error of hp_bundle_build or hp_workflow_load in the same shape, as lint `load`. Cuts
 * err->message: f->file points into it, or is NULL when the error has no place. */
void hp_finding_of_error(struct hp_error *err, struct hp_finding *f);
/* Error codes that an operation ("stripe.refunds.create") declares; *n 0: none, or no
 * such operation. */
const char *const *hp_workflow_errors(struct hp_workflow *w, const char *operation, int *n);
/* The i-th native connector of the workflow, from 0, and its file; NULL: no more. */
const char *hp_workflow_native(const struct hp_workflow *w, int i, const char **file);
/* The k-th operation it declares; NULL: no more. */
const char *hp_workflow_native_operation(const struct hp_workflow *w, int i, int k);
/* ---- what a new version changes ---- */
enum hp_change_what { HP_ADDED = 1, HP_REMOVED, HP_CHANGED };
struct hp_change {
	enum hp_change_what what;
	bool policy;          /* who may do what, and what is destructive: look twice */
	const char *state;    /* NULL: the workflow itself */
	const char *sentence; /* what of it: "timeout: 20s → 30s", "approval" */
};
typedef void (*hp_change_fn)(void *arg, const struct hp_change *c);
void hp_workflow_diff(const struct hp_workflow *from, const struct hp_workflow *to, hp_change_fn fn, void *arg);

/* ---- graph.c: a Mermaid flowchart ---- */
int hp_workflow_graph(const struct hp_workflow *w, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;

/* ---- simulated providers ---- */
struct hp_fake;
struct hp_fake_request {
	const char *method, *path;
	const char *(*headers)[2];
	int n_headers;
	const char *(*query)[2];
	int n_query;
	struct hp_bytes body;
	int64_t now;
};
struct hp_fake_response {
	int status;
	const char *content_type;
	const char *(*headers)[2];
	int n_headers;
	struct hp_bytes body;
	bool reset;          /* cut the connection instead of answering */
	int64_t delay_us;
};
/* plugins_dir/NAME/fake.lua. state: JSON of the last run (may be empty). */
struct hp_fake *hp_fake_load(const char *name, const char *plugins_dir, struct hp_bytes state,
			     struct hp_error *err);
void hp_fake_free(struct hp_fake *f);
/* How values of that secret begin, as the provider's own do ("sk_test_"), so that a mix-up
 * of the two is seen; "": anyhow. */
const char *hp_fake_secret_prefix(const char *secret);
/* The response is valid until the next call. */
int hp_fake_handle(struct hp_fake *f, const struct hp_fake_request *rq, struct hp_fake_response *rs,
		   struct hp_error *err) HP_MUST_CHECK;
/* The whole state as JSON: persisted before the answer leaves. */
int hp_fake_state(struct hp_fake *f, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;
/* Webhooks the fake wants delivered now: JSON array [{"id","source","scheme","secret",
 * "headers"?,"body","attempt",…}]. The caller signs body with hp_signature_sign(scheme,
 * the value of the secret named `secret`, id) and says by hp_fake_delivered() what the
 * receiver answered (status 0: unreachable); until then, or for 30 s, the entry is not
 * handed out again. *next_due: when to ask again, INT64_MAX when nothing waits. */
int hp_fake_outbox(struct hp_fake *f, int64_t now, struct hp_buf *out, int64_t *next_due,
		   struct hp_error *err) HP_MUST_CHECK;
int hp_fake_delivered(struct hp_fake *f, const char *id, int status, int64_t now,
		      struct hp_error *err) HP_MUST_CHECK;

#endif
