/* world.c: the state of a world at fixed addresses: the first one, copies, and back. */
#include "explore.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct x_state X;
struct x_hand H[X_ENGINES][X_HANDS];
struct hp_store *x_store;
const struct x_world *x_world;
struct x_flow x_flows[X_FLOWS];
int x_n_flows;

/* A machine up to the texts behind its transition, and whether those are used. */
#define HAND_SHORT offsetof(struct x_hand, m.arms_json)

struct x_saved {
	struct x_state x;
	enum x_hand_at at[X_ENGINES][X_HANDS];
	struct hp_mem_snapshot *tables;
	int64_t n_runs;
	size_t n_history;
	struct mem_run runs[X_RUNS];
	struct x_late late[X_LATES]; /* where there may be any */
	struct x_hand hands[X_ENGINES][X_HANDS];
};

struct hp_bytes x_keep(struct hp_bytes b)
{
	return mem_intern(x_mem(), b);
}

struct hp_bytes x_text(const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	HP_ASSERT(n >= 0 && (size_t)n < sizeof text);
	return x_keep((struct hp_bytes){ text, (size_t)n });
}

const struct x_flow *x_flow_of(const struct mem_run *r)
{
	return &x_flows[r->bundle];
}

/* ---- copies ---- */

struct x_saved *x_saved_new(void)
{
	struct x_saved *s = calloc(1, sizeof *s);

	HP_ASSERT(s);
	s->tables = hp_mem_snapshot_take(x_store);
	return s;
}

void x_saved_free(struct x_saved *s)
{
	hp_mem_snapshot_free(s->tables);
	free(s);
}

static void copy_hand(struct x_hand *to, const struct x_hand *from)
{
	memcpy(to, from, from->m.t.n_annexes > 0 ? sizeof *to : HAND_SHORT);
}

void x_save(struct x_saved *s)
{
	s->x = X;
	s->n_runs = x_n_runs();
	s->n_history = mem_count(x_tables(), T_HISTORY);
	HP_ASSERT(s->n_runs <= X_RUNS);
	if (s->n_runs > 0) /* else there is no row to copy from */
		memcpy(s->runs, mem_row(x_tables(), T_RUN, 0), (size_t)s->n_runs * sizeof *s->runs);
	hp_mem_snapshot_again(s->tables, x_store);
	if (x_world->budget[B_LATE] > 0)
		memcpy(s->late, L, sizeof L);
	for (int e = 0; e < x_world->engines; e++)
		for (int i = 0; i < X_HANDS; i++) {
			s->at[e][i] = H[e][i].at;
			if (H[e][i].at != AT_NONE)
				copy_hand(&s->hands[e][i], &H[e][i]);
		}
}

void x_restore(const struct x_saved *s)
{
	X = s->x;
	hp_mem_snapshot_restore(x_store, s->tables);
	if (x_world->budget[B_LATE] > 0)
		memcpy(L, s->late, sizeof L);
	for (int e = 0; e < x_world->engines; e++)
		for (int i = 0; i < X_HANDS; i++) {
			H[e][i].at = s->at[e][i];
			if (s->at[e][i] != AT_NONE)
				copy_hand(&H[e][i], &s->hands[e][i]);
		}
}

const struct mem_run *x_saved_run(const struct x_saved *s, int64_t id)
{
	return id <= s->n_runs ? &s->runs[id - 1] : NULL;
}

size_t x_saved_history(const struct x_saved *s)
{
	return s->n_history;
}

/* ---- the first state ---- */

static void on_ack(void *arg, int64_t now, const struct hp_error *err)
{
	(void)arg;
	(void)now;
	if (err) {
		fprintf(stderr, "explore: deploy: %s\n", err->message);
		abort();
	}
}

static void put_arms(const struct hp_state *s, struct hp_buf *b)
{
	int wait = hp_state_events(s);

	hp_buf_adds(b, ",\"arms\":[");
	for (int i = 0; i < s->n_arms; i++) {
		hp_buf_printf(b, "%s{\"name\":\"%s\",\"kind\":\"%s\"", i ? "," : "", s->arms[i].name,
			      hp_arm_kind_name(s->arms[i].kind));
		if (s->arms[i].kind == HP_ARM_EVENT)
			hp_buf_printf(b, ",\"wait\":%d", wait++);
		hp_buf_addc(b, '}');
	}
	hp_buf_addc(b, ']');
}

static void put_events(const struct hp_state *s, struct hp_buf *b)
{
	bool first = true;

	hp_buf_printf(b, ",\"own_events\":%d,\"events\":[", hp_state_events(s));
	for (int i = 0; i < hp_state_events(s); i++, first = false)
		hp_buf_printf(b, "%s\"%s\"", first ? "" : ",", s->await.events[i]);
	for (int i = 0; i < s->n_arms; i++) {
		if (s->arms[i].kind != HP_ARM_EVENT)
			continue;
		hp_buf_printf(b, "%s\"%s\"", first ? "" : ",", s->arms[i].event);
		first = false;
	}
	hp_buf_addc(b, ']');
}

/* What doors and gates read of a definition, as script/ writes it. */
static void put_summary(const struct hp_definition *d, const char *limits, struct hp_buf *b)
{
	hp_buf_adds(b, "{\"states\":[");
	for (int i = 0; i < d->n_states + d->n_undos; i++) {
		const struct hp_state *s = &d->states[i];

		hp_buf_printf(b, "%s{\"name\":\"%s\",\"kind\":\"%s\",\"timeout_us\":%lld", i ? "," : "", s->name,
			      hp_kind_name(s->kind), (long long)s->timeout_us);
		if (s->kind == HP_CALL)
			hp_buf_printf(b, ",\"operation\":\"%s.%s\"", s->call.op.connector, s->call.op.name);
		if (s->kind == HP_CALL && s->call.has_probe)
			hp_buf_printf(b, ",\"probe\":\"%s.%s\"", s->call.probe.connector, s->call.probe.name);
		if (s->kind == HP_CALL && s->call.op.read)
			hp_buf_adds(b, ",\"read\":true");
		if (s->kind == HP_APPROVAL)
			hp_buf_printf(b, ",\"approvers\":\"%s\",\"deadline_us\":%lld", s->approval.approvers,
				      (long long)s->approval.deadline_us);
		if (i >= d->n_states)
			hp_buf_printf(b, ",\"undoes\":\"%s\"", d->states[s->undoes].name);
		put_events(s, b);
		put_arms(s, b);
		hp_buf_addc(b, '}');
	}
	hp_buf_adds(b, "],\"triggers\":[]");
	if (limits)
		hp_buf_printf(b, ",\"limits\":%s", limits);
	hp_buf_addc(b, '}');
}

static void mark(void *arg, int from, int to, const char *label, int line)
{
	(void)label;
	(void)line;
	if (to != HP_NO_STATE)
		((struct x_flow *)arg)->edge[from][to] = true;
}

static void deploy(struct x_flow *f, int tag)
{
	struct hp_bundle b = { .workflow = f->def.workflow, .bundle = hp_bytes_of("{}") };
	struct hp_buf summary;

	hp_buf_init(&summary, 64 * 1024);
	put_summary(&f->def, tag == 1 ? x_world->limits : NULL, &summary);
	memset(f->def.digest, tag, sizeof f->def.digest);
	memcpy(b.digest, f->def.digest, sizeof b.digest);
	b.summary = hp_buf_bytes(&summary);
	x_store->ops->deploy(x_store, &b, on_ack, NULL);
	x_store->ops->pump(x_store);
	hp_buf_free(&summary);
	for (int i = 0; i < f->def.n_states; i++)
		hp_definition_edges(&f->def, i, mark, f);
}

void x_begin(const struct x_world *w)
{
	struct hp_error err;

	memset(&X, 0, sizeof X);
	memset(H, 0, sizeof H);
	memset(L, 0, sizeof L);
	memset(x_flows, 0, sizeof x_flows);
	x_n_flows = 0;
	x_world = w;
	X.now = X_T0;
	X.coin = w->coin ? -1 : 1;
	memcpy(X.left, w->budget, sizeof X.left);
	x_store = hp_store_mem_new(&X.now, &err);
	HP_ASSERT(x_store);
	hp_mem_reuse_answers(x_store);
	x_forget_rendered();
	w->define();
	for (int i = 0; i < x_n_flows; i++)
		deploy(&x_flows[i], i + 1);
	hp_mem_principal(x_store, "ann", "person", "ops");
	hp_mem_principal(x_store, "bob", "person", "ops");
	for (int e = 0; e < w->engines; e++)
		x_register(e);
	x_first_runs();
}

void x_end(void)
{
	x_store->ops->free(x_store);
	x_store = NULL;
}
