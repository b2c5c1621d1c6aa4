/* supervisor_private.h: what the supervisor's files share.
 *
 *   supervisor.c          boot, signals, the end
 *   supervisor_lock.c     one supervisor per data directory
 *   supervisor_servers.c  workers and simulated providers: start, watch, restart
 */
#ifndef HP_RUNTIME_SUPERVISOR_PRIVATE_H
#define HP_RUNTIME_SUPERVISOR_PRIVATE_H

#include <ev.h>
#include "base/arena.h"
#include "runtime/counters.h"
#include "runtime/postgres.h"
#include "runtime/setup.h"
#include "runtime/simulated.h"
#include "runtime/supervisor.h"

#define HP_SERVER_ARGS_MAX 64
#define HP_SERVERS_MAX (HP_COUNTER_SLOTS_MAX + HP_SIMULATED_MAX)

enum hp_server_kind { HP_SERVER_WORKER, HP_SERVER_PROVIDER };

/* A child that is kept alive. */
struct hp_kept {
	struct hp_supervisor *s;
	enum hp_server_kind kind;
	char name[48];             /* "worker-1", "stripe" */
	const char *argv[HP_SERVER_ARGS_MAX];
	int argc;
	int fds[3];
	int n_fds;
	pid_t pid;                 /* 0: does not run */
	int64_t started_at;        /* boot clock */
	int deaths;                /* in a row, none of them after a good life */
	int starts;
	struct ev_child exit;
	struct ev_timer again;
};

struct hp_supervisor {
	const struct hp_serve_options *o;
	char secrets_dir[PATH_MAX]; /* absolute; "": none */
	char secrets_key[PATH_MAX]; /* the same */
	struct ev_loop *loop;
	struct hp_arena *arena;    /* arguments of servers */
	struct hp_place place;
	int lock_fd;
	int listen_fd;
	int port;
	char address[128];         /* "http://127.0.0.1:8080" */
	int counters_fd;
	int life_pipe[2];          /* servers read it: its end is our end */

	struct hp_postgres *postgres;
	bool postgres_wanted;      /* restart it when it dies */
	bool postgres_stopped;
	struct ev_timer postgres_again;
	int64_t postgres_started_at; /* boot clock */
	int64_t postgres_full_until; /* boot clock: until then it is not tried on a full disk */
	int postgres_deaths;         /* in a row, as those of servers */
	char database[PATH_MAX + 256], sql_database[PATH_MAX + 256], admin_database[PATH_MAX + 256];

	struct hp_simulated simulated[HP_SIMULATED_MAX];
	int n_simulated;
	char secrets_env[PATH_MAX];

	struct hp_kept servers[HP_SERVERS_MAX];
	int n_servers;

	struct ev_signal signals[2];
	int signals_seen;
	bool stopping;
	bool providers_told;       /* to end */
	struct ev_timer patience;  /* servers that do not end are killed */
	int exit_code;
};

/* supervisor_lock.c */
/* HP_E_CONFLICT says who runs. */
int hp_sup_lock(struct hp_supervisor *s, struct hp_error *err) HP_MUST_CHECK;
/* Servers of a killed supervisor end by themselves; until then they hold our address
 * and write our files. */
int hp_sup_lock_orphans(struct hp_supervisor *s, struct hp_error *err) HP_MUST_CHECK;
int hp_sup_lock_tell(struct hp_supervisor *s, struct hp_error *err) HP_MUST_CHECK;

/* supervisor_servers.c */
/* How long a process that has died waits for its next start, counted in its deaths in a
 * row. One that lived for more than a second, and longer than that wait, begins anew. */
int64_t hp_sup_wait(int *deaths, int64_t lived_us);
int hp_sup_add_servers(struct hp_supervisor *s, struct hp_error *err) HP_MUST_CHECK;
void hp_sup_start_kind(struct hp_supervisor *s, enum hp_server_kind kind);
void hp_sup_signal_kind(struct hp_supervisor *s, enum hp_server_kind kind, int signal);
int hp_sup_running(const struct hp_supervisor *s, enum hp_server_kind kind);
void hp_sup_servers_free(struct hp_supervisor *s);

/* supervisor.c: a server has ended while stopping. */
void hp_sup_step_down(struct hp_supervisor *s);

#endif
