/* internal.h: what the files of script/ share; nobody else includes it.
 *
 *   vm.c         one Lua state: connectors and the workflow loaded into it
 *   lang.c       the words of workflow files; lang_connector.c those of connectors
 *   fields.c     strict reading of tables: unknown fields, types, durations
 *   time.c       texts that mean a time
 *   template.c   "{payment.id}" parts; expr.c: expressions over a run's data
 *   schema.c     text, integer, list(…): declared shapes
 *   connector.c  a connector as a C structure, its breakers in connector_breaker.c
 *   loader.c     a workflow, its states in loader_states.c (`on` in loader_arms.c, what run and each
 *                share in loader_children.c), its triggers in loader_trigger.c, what limits its starts,
 *                its calls and its connectors in loader_limits.c
 *   zone.c       the system's time zones
 *   bundle.c     files → bundle → digest;   workflow.c: loading, rebuilding
 *   input.c      what is asked before there is a run;
 *   eval.c       what the machine asks;     request.c: a rendered request
 *   eval_children.c  … of run and each; eval_limits.c: what a call's admission asks
 *   undo.c       what is kept to undo an effect
 *   secret.c     the word `secret`; loader_secret.c: what states say about secrets;
 *                secret_reply.c: replies that bring or repeat them
 *   outgoing.c   request → URL and secrets; reply.c: what came back, classified
 *   webhook.c    connectors for the webhook door
 *   native.c     which connectors need a plugin
 *   check*.c (check.h), diff.c, graph.c     the author's tools
 *   fake*.c (fake_internal.h)               simulated providers
 *   sandbox.c, lualib.c, strlib.c, pattern.c, value.c   a Lua that is safe to run (sandbox.h, lualib.h)
 *
 * Data crosses between Lua and C as JSON text in buffers that the C side owns:
 * a call of Lua that is killed is abandoned and could not free anything.
 */
#ifndef HP_SCRIPT_INTERNAL_H
#define HP_SCRIPT_INTERNAL_H

#include <lauxlib.h>
#include <lua.h>
#include "base/arena.h"
#include "base/json.h"
#include "base/limits.h"
#include "script/sandbox.h"
#include "script/script.h"

#define HP_DEFINITION_ARENA_MAX (16u * 1024 * 1024)
#define HP_DURATION_MAX (INT64_C(3660) * 86400 * 1000000) /* ten years: no sum overflows */
#define HP_CATCH_ALL_WITHIN (INT64_C(86400) * 1000000) /* catch_up = "all" without within */
#define HP_CALL_TIMEOUT_DEFAULT (20 * INT64_C(1000000))
#define HP_CALL_TIMEOUT_MAX (300 * INT64_C(1000000))
#define HP_PROVIDER_KEY_MAX 255 /* Stripe's limit; the others are as wide or unknown */
#define HP_LIST_TEXT_MAX 200   /* one of them: an event, a secret's name, a host */
#define HP_WORDS_MAX 64         /* names in one list of a connector */

/* ---- declared shapes (schema.c) ---- */
enum hp_type_kind {
	HP_T_TEXT = 1,
	HP_T_INTEGER,
	HP_T_NUMBER,
	HP_T_BOOLEAN,
	HP_T_ANY,
	HP_T_OPTIONAL, /* of */
	HP_T_LIST,     /* of */
	HP_T_ONE_OF,   /* names */
	HP_T_OBJECT,   /* names and types */
};
struct hp_type {
	enum hp_type_kind kind;
	const struct hp_type *of;
	const char **names; /* sorted */
	const struct hp_type **types;
	int n;
};

/* ---- a connector ---- */
/* max per `per_us`, at most `burst` of them at once. max 0: not limited. */
struct hp_rate {
	int64_t max, per_us, burst;
};
enum hp_conn_header_kind { HP_H_TEXT = 1, HP_H_SECRET, HP_H_BEARER, HP_H_BASIC };
struct hp_conn_header {
	const char *name; /* lower case */
	enum hp_conn_header_kind kind;
	const char *text[2]; /* the text, or names of secrets */
};
#define HP_METHOD_NATIVE "CALL" /* in the place of a method: the plugin's activity */
struct hp_op {
	struct hp_operation pub;
	const char *method, *path;
	const char *key_header;      /* HP_REPEAT_BY_KEY */
	const char **errors;         /* codes its replies may have */
	int n_errors;
	const char **secret_paths;   /* where its replies have secrets */
	int n_secret_paths;
	const struct hp_type *arg;   /* NULL: not declared */
	bool has_request, has_reply;
};
struct hp_conn {
	const char *name, *file, *base;
	bool native; /* plugins/NAME/NAME.so does its operations */
	const char **hosts;
	int n_hosts;
	const char **secrets;
	int n_secrets;
	struct hp_conn_header *headers;
	int n_headers;
	struct hp_op *ops; /* sorted by name */
	int n_ops;
	bool has_webhook;
	struct hp_webhook webhook;
	const struct hp_breaker_spec *breaker; /* NULL: none */
	int64_t slots;        /* requests at once of the whole fleet, 0: not limited */
	struct hp_rate rate;
};

/* ---- one Lua state ---- */
struct hp_job;
struct hp_vm {
	struct hp_sandbox *s;
	struct hp_job *job;  /* the evaluation that runs; NULL: none */
	lua_Integer serial;  /* of the job: a `run` kept from an earlier one is refused */
	int64_t now;         /* for retry_seconds() */
};

/* A source file in memory. */
struct hp_source {
	const char *name; /* connector's name; NULL: the workflow */
	const char *file;
	const char *text;
	size_t n;
};

/* Starts a state and loads the connectors; then the workflow, if there is one.
 * discover: `connector` only notes names (see hp_vm_discovered). */
int hp_vm_open(struct hp_vm *vm, const struct hp_source *connectors, int n_connectors,
	       const struct hp_source *workflow, bool discover, struct hp_error *err) HP_MUST_CHECK;
/* Loading is done: from here on evaluations have HP_LUA_TIME_MAX each. */
void hp_vm_loaded(struct hp_vm *vm);
void hp_vm_close(struct hp_vm *vm);
/* hp_sandbox_run with arg as the job that `run` belongs to. */
int hp_vm_run(struct hp_vm *vm, hp_sandbox_fn fn, struct hp_job *job, struct hp_error *err) HP_MUST_CHECK;
/* Names noted while discovering, sorted, one per line. */
int hp_vm_discovered(struct hp_vm *vm, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;
struct hp_vm *hp_vm_of(lua_State *L);

/* Keys of the registry. */
#define HP_REG_VM "hp.vm"
#define HP_REG_CONNECTORS "hp.connectors" /* name → the connector's table */
#define HP_REG_NAMESPACES "hp.namespaces" /* name → what `connector "name"` gives */
#define HP_REG_WORKFLOW "hp.workflow"     /* the workflow's marker */
#define HP_REG_STATES "hp.states"         /* index + 1 → the state's table */
#define HP_REG_FOUND "hp.found"           /* discovering: name → true */

/* ---- words: markers are tables with one of these fields ---- */
#define HP_MARK_STATE "$state"         /* kind; name, line, body */
#define HP_MARK_WORKFLOW "$workflow"   /* name; line, body */
#define HP_MARK_CONNECTOR "$connector" /* name; line, body */
#define HP_MARK_OPERATION "$operation" /* "refunds.create"; connector */
#define HP_MARK_WEBHOOK "$webhook"     /* body; line */
#define HP_MARK_SCHEDULE "$schedule"   /* body; line */
#define HP_MARK_USER "$user"           /* expression */
#define HP_MARK_SERVICE "$service"     /* true */
#define HP_MARK_TYPE "$type"           /* "text", …; of, names */
#define HP_MARK_REPEAT "$repeat"       /* "by_key", …; header, window */
void hp_lang_workflow(lua_State *L, int env);  /* adds the words to the table */
void hp_lang_connector(lua_State *L, int env);
void hp_lang_types(lua_State *L, int env);
int hp_lang_constructor(lua_State *L); /* upvalues: marker, value; see lang.c */
/* Makes HP_REG_NAMESPACES[name] from a connector's operations. */
void hp_lang_namespace(lua_State *L, const char *connector, int operations);

/* ---- strict reading (fields.c): every failure raises "file:line: what: …" ---- */
struct hp_reader {
	lua_State *L;
	struct hp_arena *a;
	const char *file;
	int line;
	const char *what; /* `state "refund"`; NULL: nothing to name */
	const struct hp_words *known; /* names a template may use; NULL: any */
	bool before_start; /* {run.id}, {run.key} and {run.now} are not there yet */
};
struct hp_words {
	const char **list;
	int n, max;
};
void hp_r_fail(const struct hp_reader *r, const char *fmt, ...) __attribute__((noreturn));
void *hp_r_alloc(const struct hp_reader *r, size_t n);
const char *hp_r_dup(const struct hp_reader *r, const char *s);
const char *hp_r_printf(const struct hp_reader *r, const char *fmt, ...) HP_PRINTF(2, 3);
/* Its text; takes v, whatever comes of it. Never raises: NULL with HP_E_TOO_LARGE, or HP_E_NOMEM. */
const char *hp_r_json(const struct hp_reader *r, json_t *v, size_t max, struct hp_error *err);
/* Refuses string keys outside the list and, unless max_index > 0, array entries. */
void hp_r_only(const struct hp_reader *r, int table, const char *const *allowed, int n, int max_index);
/* Pushes the field; false (and nothing pushed) when it is absent. */
bool hp_r_get(const struct hp_reader *r, int table, const char *field);
const char *hp_r_string(const struct hp_reader *r, int table, const char *field); /* NULL: absent */
const char *hp_r_need(const struct hp_reader *r, int table, const char *field);
bool hp_r_bool(const struct hp_reader *r, int table, const char *field);
int64_t hp_r_duration(const struct hp_reader *r, int table, const char *field, int64_t fallback);
int64_t hp_r_integer(const struct hp_reader *r, int table, const char *field, int64_t fallback,
		     int64_t min, int64_t max);
/* A list of short printable texts, or (single) one; 0 when absent. */
int hp_r_list(const struct hp_reader *r, int table, const char *field, bool single, int max,
	      const char ***out);
void hp_r_function(const struct hp_reader *r, int table, const char *field, bool *present);
/* Refuses what is not an expression; templates are checked too. */
void hp_r_expression(const struct hp_reader *r, int index, const char *field);
/* The field is one; false: it is absent. */
bool hp_r_expression_of(const struct hp_reader *r, int table, const char *field);
/* "50%" → 50; -1: not a whole number from 0 to 100. */
int hp_percent_parse(const char *s);
/* Keys of the table on top, sorted, that are strings; raises for others. */
int hp_r_keys(const struct hp_reader *r, int table, const char *field, int max, const char ***out);
/* ", did you mean \"…\"?" or "", in the arena. */
const char *hp_r_hint(const struct hp_reader *r, const char *word, const char *const *list, int n);
/* The field `breaker` of a connector or an operation (connector_breaker.c). */
const struct hp_breaker_spec *hp_breaker_read(const struct hp_reader *r, int table,
					      const struct hp_breaker_spec *inherited, bool *own);
bool hp_header_name_ok(const char *s);
bool hp_name_ok(const char *s);  /* [a-z_][a-z0-9_]*, at most HP_NAME_MAX */
bool hp_mark(lua_State *L, int index, const char *mark); /* pushes its value when marked */

/* ---- templates ---- */
struct hp_part {
	bool path;       /* else literal text */
	const char *p;
	size_t n;
};
/* Next part of a template at *s: 1 part, 0 end, -1 malformed (*why says how). A
 * literal part may be one half of a doubled brace. */
int hp_template_next(const char **s, struct hp_part *part, const char **why);
/* The whole template is one path. */
bool hp_template_single(const char *s, struct hp_part *part);

/* ---- expressions ---- */
struct hp_job {
	struct hp_vm *vm;
	struct hp_workflow *w;
	const struct hp_run_data *data;
	const struct hp_transition *pending;
	int state;                 /* whose expressions; HP_NO_STATE: the workflow's own */
	json_t *input, *saved, *pending_json[3]; /* parsed at first use */
	struct hp_bytes row;       /* a sweep's row in hand: run.row */
	json_t *row_json;
	/* in and out of the functions that run in the sandbox */
	int index;
	const struct hp_op *op;
	bool probe;
	const struct hp_arm *arm;  /* whose expressions; NULL: the state's own */
	const char *field;         /* of hp_job_eval() */
	json_t *in;                /* borrowed: value pushed as an argument */
	json_t *item;              /* borrowed: of an `each`; NULL: none, and no index */
	int64_t item_index;
	struct hp_bytes annex;     /* of an `each` that asks for a page: what is known */
	const char *key;
	int32_t visit;             /* requests: whose they are */
	json_t *refs;              /* requests: word → secret; NULL: no secret may stand here */
	const struct hp_incoming *incoming;
	const char *(*header)(void *, const char *);
	void *header_arg;
	struct hp_buf text, text2; /* results */
	bool has_text2;
	bool truth;
	enum hp_verdict verdict;
	int64_t number;
};
void hp_job_init(struct hp_job *j, struct hp_workflow *w);
void hp_job_free(struct hp_job *j);
/* Evaluates the expression at index, pushes its value. field: for messages. */
void hp_expr(lua_State *L, struct hp_job *j, int index, const char *field);
void hp_expr_push_run(lua_State *L, struct hp_job *j);
/* The job's state. */
const struct hp_state *hp_job_state(const struct hp_job *j);
/* Pushes its table and a field of it. */
void hp_job_push_field(lua_State *L, const struct hp_job *j, const char *field);
/* Raises "file:line: state "x": field text". */
void hp_job_fail(lua_State *L, const struct hp_job *j, const char *field, const char *text) __attribute__((noreturn));
/* Evaluates that field of the job's state: JSON, in j->text. */
int hp_job_eval(struct hp_job *j, const char *field, struct hp_error *err) HP_MUST_CHECK;
/* Pushes the state's table (or the probe's inside it). */
void hp_push_state(lua_State *L, int state);
/* Pushes the table of an arm of that state. */
void hp_push_arm(lua_State *L, int state, const struct hp_arm *arm);
void hp_keep_state(lua_State *L, int state, int body); /* body: its table, absolute */
/* Pushes connectors[connector].operations[name][field]. */
void hp_push_operation_field(lua_State *L, const struct hp_op *op, const char *field);

/* ---- answers to the machine (eval.c, eval_children.c) ---- */
/* Where the parts of an answer lie in `out`. */
struct answer {
	struct hp_buf *out;
	size_t key_at, key_n; /* the value is everything before the key */
	size_t value_n;
	size_t demands_at, demands_n;
};
/* A text that goes into a text of the database. */
int hp_eval_check_text(const struct hp_buf *b, const char *what, struct hp_error *err) HP_MUST_CHECK;
int hp_eval_children(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		     const char **code, struct hp_error *err) HP_MUST_CHECK;
int hp_eval_joined(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		   const char **code, struct hp_error *err) HP_MUST_CHECK;
/* Adds "cursor, limit, " of the page to come; j->annex says which. */
int hp_eval_page(struct hp_job *j, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;

/* ---- shapes ---- */
const struct hp_type *hp_schema_read(const struct hp_reader *r, int index, const char *field);
/* what: "input"; the message names the member and what it should be. */
int hp_schema_check(const struct hp_type *t, const json_t *v, const char *what, struct hp_error *err) HP_MUST_CHECK;
int hp_schema_json(const struct hp_type *t, struct hp_buf *b); /* as JSON Schema */

/* ---- loading ---- */
void hp_connector_read(const struct hp_reader *r, const char *name, struct hp_conn *c); /* table on top */
struct hp_op *hp_conn_op(struct hp_conn *c, const char *name);

/* Keys and amounts are expressions and stay in the state's table. */
struct hp_call_limits {
	const char *budget; /* its name, NULL: none */
	bool parks;         /* over budget it waits; else the machine decides */
	int64_t slots;
	struct hp_rate rate;
};
/* A budget's limit as a workflow declares it. */
struct hp_budget {
	const char *name;
	int64_t max, per_us;
	bool bucket;
};
struct hp_secret_save {
	const char *name, *path; /* path NULL: all of the reply */
};
struct hp_secret_op {
	const char *op;   /* "promote", "retire": the field */
	const char *name;
	int index;        /* place in its list; 0: the field is it */
};
/* What a state has beside the definition. */
struct hp_extra {
	struct hp_secret_save *secrets; /* call: what its replies bring */
	int n_secrets;
	bool has_using;
	struct hp_secret_op *secret_ops; /* with the commit that leaves the state */
	int n_secret_ops;
	struct hp_op *op, *probe;
	const char **evidence;
	int n_evidence;
	struct hp_op *checks[HP_ARMS_MAX]; /* by arm; NULL: it is no check */
	struct hp_call_limits limits;
};
/* What is decided where a run is started; texts are templates over the input, NULL: none. */
struct hp_start_limits {
	const char *exclusive, *slots_per, *rate_per, *fair, *priority_text;
	int64_t slots;
	struct hp_rate rate;
	int priority;
	bool has_priority, skip;
};
struct hp_workflow {
	struct hp_arena *arena;
	struct hp_vm vm;
	json_t *bundle;
	struct hp_source *sources; /* connectors, then the workflow */
	int n_connectors;
	struct hp_conn *conns;
	struct hp_definition def;
	struct hp_extra *extra;
	const struct hp_type *input;
	struct hp_start_limits limits;
	struct hp_budget *budgets; /* declared */
	int n_budgets;
	int line; /* of `workflow` */
};
/* In the sandbox: fills conns, def, extra, input. */
void hp_loader_read(lua_State *L, struct hp_workflow *w);
/* body: the state's table */
void hp_loader_state(struct hp_reader *r, struct hp_workflow *w, int i, int body);
/* Fills the definition's triggers and schedules. */
void hp_loader_triggers(const struct hp_reader *outer, struct hp_workflow *w, int body);
/* Fills the limits of starts (loader_limits.c), and reads the parts that calls share. */
void hp_loader_limits(const struct hp_reader *r, struct hp_workflow *w, int body);
bool hp_loader_limit(const struct hp_reader *r, int body, const char *field, const char *const *fields, int n);
void hp_loader_rate(const struct hp_reader *r, int table, struct hp_rate *rate);
int64_t hp_loader_slots(const struct hp_reader *r, int table);
/* A call's limits, after the ways are known; a connector's, its table on top. */
void hp_loader_call_limits(const struct hp_reader *r, struct hp_workflow *w, int i, int body);
bool hp_loader_conn_limited(struct hp_workflow *w, const char *connector);
void hp_loader_conn_limits(const struct hp_reader *r, int table, struct hp_conn *c);
/* Appends what the call's admission asks, as JSON. */
int hp_limits_eval(struct hp_job *j, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;
void hp_limits_summary(const struct hp_workflow *w, struct hp_buf *out);
/* `on` of a waiting state (loader_arms.c). */
void hp_loader_arms(const struct hp_reader *r, struct hp_workflow *w, struct hp_state *s, struct hp_extra *x, int body);
/* Names that the arms of the state on top save, for fn. */
void hp_loader_arms_saved(const struct hp_reader *r, void (*fn)(const struct hp_reader *r, void *arg, const char *name),
			  void *arg);
/* Raises when nothing can be saved under that name. */
const char *hp_loader_saved_name(const struct hp_reader *r, const char *name);
/* loader_children.c */
void hp_loader_item(struct hp_reader *r, int body, const char *field);
void hp_loader_within(const struct hp_reader *r, const struct hp_workflow *w, struct hp_state *s, int body);
void hp_loader_join(const struct hp_reader *r, struct hp_state *s, int body);
int hp_loader_way(const struct hp_reader *r, const struct hp_workflow *w, int table, const char *field);
struct hp_op *hp_loader_operation(const struct hp_reader *r, struct hp_workflow *w, int index);
struct hp_conn *hp_workflow_conn(struct hp_workflow *w, const char *name);
/* Makes the Lua state usable: builds it again after a kill. */
int hp_workflow_ready(struct hp_workflow *w, struct hp_error *err) HP_MUST_CHECK;

/* ---- requests ---- */
/* Renders the request of call `state` (its probe) into out; key into key. */
int hp_request_render(struct hp_job *j, int state, bool probe, int32_t visit, struct hp_buf *out,
		      struct hp_buf *key, const char **code, struct hp_error *err) HP_MUST_CHECK;
/* The same for the check of an arm. */
int hp_request_render_check(struct hp_job *j, int state, int arm, int32_t visit, struct hp_buf *out, struct hp_buf *key,
			    const char **code, struct hp_error *err) HP_MUST_CHECK;
struct hp_parts {
	const json_t *parts; /* what request() gave */
	const char *key;
	const json_t *using; /* name → version of the connector's own secrets; NULL: current ones */
	json_t *refs;        /* word → secret */
};
/* Canonical bytes. */
int hp_request_build(const struct hp_conn *c, const struct hp_op *op, const struct hp_parts *p, struct hp_buf *out,
		     struct hp_error *err) HP_MUST_CHECK;
struct hp_op_ref hp_op_ref_of(const struct hp_workflow *w, const struct hp_conn *c, const struct hp_op *op);
/* NULL: the reference is zero. */
struct hp_op *hp_op_of_ref(struct hp_workflow *w, struct hp_op_ref ref);
struct hp_op *hp_request_op(struct hp_workflow *w, const json_t *request, struct hp_conn **conn,
			    struct hp_error *err);

/* "args":[…], and "user":… when it is not service; of the job's state. */
int hp_statement_args(struct hp_job *j, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;

/* ---- undo.c ---- */
/* The annex that keeps how to undo `state`, which has just succeeded in `visit`. */
int hp_undo_render(struct hp_job *j, int state, int32_t visit, struct hp_buf *out, const char **code,
		   struct hp_error *err) HP_MUST_CHECK;
/* What was kept, from the claim: "request" and "probe" (and key), "args", "result". */
int hp_undo_kept(struct hp_job *j, const char *name, struct hp_buf *out, struct hp_buf *key,
		 struct hp_error *err) HP_MUST_CHECK;
/* The run's values are those it had when the effect succeeded. */
void hp_undo_values(struct hp_job *j);
/* ---- secrets ---- */
bool hp_secret_version_ok(const char *s); /* "current", "pending", "previous", a number */
/* Which of them `promote` and `retire` (op) may have; the same in words. */
bool hp_secret_op_version_ok(const char *op, const char *version);
const char *hp_secret_op_versions(const char *op);
bool hp_secret_marked(lua_State *L, int index);
void hp_lang_secret(lua_State *L, int env); /* adds the word */
/* Lists the words in a request that is being built. */
int hp_secret_refs_add(json_t *rq, json_t *refs, struct hp_error *err) HP_MUST_CHECK;
/* text with the value in the place of its word, in the arena; text itself when it has
 * none, NULL when there is no memory. */
enum hp_secret_place { HP_SECRET_PLAIN, HP_SECRET_JSON, HP_SECRET_FORM };
const char *hp_secret_fill(struct hp_arena *a, const char *text, const char *word, const char *value,
			   enum hp_secret_place place);
/* The marked `save` on top: the name under which the rest of the reply is saved. */
const char *hp_loader_saved_as(const struct hp_reader *r);
const char *hp_loader_save_secret(const struct hp_reader *r, struct hp_extra *x);
void hp_loader_using(const struct hp_reader *r, const struct hp_conn *c, int body, struct hp_extra *x);
bool hp_loader_secret_ops(const struct hp_reader *r, int body, struct hp_extra *x); /* are there any? */

/* ---- the author's tools ---- */
/* The destructive operation that s makes, or (undo) that undoes it; NULL: none. */
const struct hp_operation *hp_state_harm(const struct hp_definition *d, const struct hp_state *s, bool undo);

/* ---- time ---- */
int hp_time_parse(const char *s, int64_t *us); /* RFC 3339; -1: not one */
int hp_http_date_parse(const char *s, int64_t *us);
/* Seconds to wait, by Retry-After or RateLimit-Reset; < 0: no advice. */
double hp_retry_seconds(const char *retry_after, const char *ratelimit_reset, int64_t now);

#endif
