/* migrate.c: numbered SQL files into a database, each exactly once.
 *
 * The ledger holdpoint.migration has one row per applied file of each scope with
 * the SHA-256 of its bytes, so that a file changed after it was applied is found.
 * Everything is decided under one transaction-scoped advisory lock per file, so
 * any number of starters may migrate at once. Blocking: used by `migrate` and by
 * the supervisor before anything else runs.
 */
#include <dirent.h>
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/crash.h"
#include "base/digest.h"
#include "store/store.h"

#define FILES_MAX 1000
#define FILE_BYTES_MAX ((size_t)4 * 1024 * 1024)

struct runner {
	PGconn *conn;
	const char *dir, *scope;
	struct hp_migration *files; /* of the directory, by version */
	int n_files;
};

static int sql_fail(struct runner *r, const char *what, const PGresult *res, struct hp_error *err)
{
	const char *message = res ? PQresultErrorMessage(res) : PQerrorMessage(r->conn);
	const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
	int n = (int)strcspn(message, "\n");

	hp_fail(err, HP_E_UNAVAILABLE, "%s: %.*s", what, n, message);
	if (state && strcmp(state, "42501") == 0) /* insufficient_privilege */
		hp_error_hint(err, "Migrations need the database's owner: name it with --admin-database.");
	return -1;
}

static int run_sql(struct runner *r, const char *what, const char *sql, struct hp_error *err)
{
	PGresult *res = PQexec(r->conn, sql);
	ExecStatusType status = PQresultStatus(res);
	int rc = 0;

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		rc = sql_fail(r, what, res, err);
	PQclear(res);
	return rc;
}

static int by_version(const void *a, const void *b)
{
	const struct hp_migration *x = a, *y = b;

	return x->version - y->version;
}

/* NNNN_slug.sql or yyyymmdd_slug.sql → its version; 0: not named like one */
static int version_of(const char *name)
{
	size_t n = strlen(name), digits = strspn(name, "0123456789");

	if ((digits != 4 && digits != 8) || name[digits] != '_' || n < digits + 6 ||
	    n >= sizeof((struct hp_migration *)0)->name)
		return 0;
	return (int)strtol(name, NULL, 10);
}

static bool is_sql(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && strcmp(name + n - 4, ".sql") == 0;
}

/* Numbers have no gaps (a missing file is noticed), dates only go up. */
static int check_order(const struct runner *r, struct hp_error *err)
{
	for (int i = 0; i < r->n_files; i++) {
		const struct hp_migration *m = &r->files[i];
		bool dated = m->version > 9999;
		bool good = dated ? i == 0 || m->version > r->files[i - 1].version : m->version == i + 1;

		if (good)
			continue;
		if (dated)
			hp_fail(err, HP_E_INVALID, "%s: %s has the date of %s", r->dir, m->name, r->files[i - 1].name);
		else
			hp_fail(err, HP_E_INVALID, "%s: %s is out of order, migration %04d was expected here",
				r->dir, m->name, i + 1);
		return hp_error_hint(err, "Versions start at 0001 and have no gaps and no doubles; dates (yyyymmdd) "
					  "have no doubles.");
	}
	return 0;
}

static int read_file(const struct runner *r, const char *name, struct hp_buf *b, struct hp_error *err)
{
	char path[4096], block[65536];
	FILE *f;
	size_t n;
	int rc = 0;

	snprintf(path, sizeof path, "%s/%s", r->dir, name);
	f = fopen(path, "rb");
	if (!f)
		return hp_fail(err, HP_E_IO, "cannot read migration %s: %s", path, strerror(errno));
	while ((n = fread(block, 1, sizeof block, f)) > 0)
		hp_buf_add(b, block, n);
	if (ferror(f))
		rc = hp_fail(err, HP_E_IO, "cannot read migration %s", path);
	fclose(f);
	return rc ? rc : hp_buf_check(b, path, err);
}

static int list_files(struct runner *r, struct hp_error *err)
{
	DIR *d = opendir(r->dir);
	struct dirent *e;
	int rc = 0;

	if (!d)
		return hp_fail(err, HP_E_IO, "cannot open the migrations directory %s: %s", r->dir, strerror(errno));
	while (rc == 0 && (e = readdir(d))) {
		struct hp_migration *m = &r->files[r->n_files];

		if (!is_sql(e->d_name))
			continue;
		if (version_of(e->d_name) == 0) {
			rc = hp_fail(err, HP_E_INVALID, "%s/%s is not named like a migration", r->dir, e->d_name);
			hp_error_hint(err, "Names are 0001_slug.sql or 20250709_slug.sql.");
			break;
		}
		if (r->n_files == FILES_MAX) {
			rc = hp_fail(err, HP_E_TOO_LARGE, "%s has more than %d migrations", r->dir, FILES_MAX);
			break;
		}
		m->version = version_of(e->d_name);
		memcpy(m->name, e->d_name, strlen(e->d_name) + 1); /* version_of() has seen its length */
		r->n_files++;
	}
	closedir(d);
	qsort(r->files, (size_t)r->n_files, sizeof *r->files, by_version);
	return rc ? rc : check_order(r, err);
}

static int hash_files(struct runner *r, struct hp_error *err)
{
	for (int i = 0; i < r->n_files; i++) {
		struct hp_buf b;
		uint8_t sum[HP_SHA256_LEN];
		int rc;

		hp_buf_init(&b, FILE_BYTES_MAX);
		rc = read_file(r, r->files[i].name, &b, err);
		hp_sha256(hp_buf_str(&b), b.n, sum);
		hp_buf_free(&b);
		if (rc < 0)
			return -1;
		hp_hex(sum, sizeof sum, r->files[i].sha256);
	}
	return 0;
}

/* Marks what the ledger has; refuses what it knows differently. */
static int compare_ledger(struct runner *r, struct hp_error *err)
{
	const char *params[1] = { r->scope };
	PGresult *res = PQexecParams(r->conn, "select version, name, sha256 from holdpoint.migration"
				     " where scope = $1 order by version", 1, NULL, params, NULL, NULL, 0);
	int rc = 0;

	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		rc = sql_fail(r, "reading the ledger of migrations", res, err);
	for (int i = 0; rc == 0 && i < PQntuples(res); i++) {
		long version = strtol(PQgetvalue(res, i, 0), NULL, 10);
		const char *name = PQgetvalue(res, i, 1);

		if (i >= r->n_files || version != r->files[i].version) {
			rc = hp_fail(err, HP_E_CONFLICT, "the database has migration %s of \"%s\", this program has not",
				     name, r->scope);
			hp_error_hint(err, "It was migrated by a newer version; start that one.");
		} else if (strcmp(r->files[i].sha256, PQgetvalue(res, i, 2)) != 0) {
			rc = hp_fail(err, HP_E_CONFLICT, "migration %s was changed after it had been applied",
				     r->files[i].name);
			hp_error_hint(err, "A version that was never released made this database: start that one, or with "
					   "another --data or --database. If you wrote the change, put it into a new migration.");
		} else {
			r->files[i].applied = true;
		}
	}
	PQclear(res);
	return rc;
}

static int ledger_exists(struct runner *r, bool *yes, struct hp_error *err)
{
	PGresult *res = PQexec(r->conn, "select to_regclass('holdpoint.migration') is not null");
	int rc = PQresultStatus(res) == PGRES_TUPLES_OK ? 0 : sql_fail(r, "looking for the ledger", res, err);

	*yes = rc == 0 && PQgetvalue(res, 0, 0)[0] == 't';
	PQclear(res);
	return rc;
}

/* The lock is held to the end of the transaction, so looking and applying are one. */
static int begin_locked(struct runner *r, struct hp_error *err)
{
	return run_sql(r, "locking the ledger of migrations",
		       "begin; select pg_advisory_xact_lock(hashtextextended('holdpoint.migration', 0))", err);
}

static int make_ledger(struct runner *r, struct hp_error *err)
{
	bool there = false;

	if (begin_locked(r, err) < 0 || ledger_exists(r, &there, err) < 0)
		return -1;
	if (!there && run_sql(r, "creating the ledger of migrations",
			      "create schema if not exists holdpoint;"
			      "create table holdpoint.migration (scope text not null, version int not null,"
			      " name text not null, sha256 text not null, applied_at timestamptz not null default now(),"
			      " primary key (scope, version))", err) < 0)
		return -1;
	return run_sql(r, "creating the ledger of migrations", "commit", err);
}

static int apply_one(struct runner *r, struct hp_migration *m, struct hp_error *err)
{
	char version[16];
	const char *params[4] = { r->scope, version, m->name, m->sha256 };
	struct hp_buf b;
	PGresult *res;
	int rc = -1;

	hp_buf_init(&b, FILE_BYTES_MAX);
	snprintf(version, sizeof version, "%d", m->version);
	if (begin_locked(r, err) < 0 || compare_ledger(r, err) < 0)
		goto out;
	if (m->applied) { /* by somebody else, while we waited */
		rc = run_sql(r, m->name, "rollback", err);
		goto out;
	}
	/* A name without a schema is the owner's own, never one among the engine's tables
	 * (whose schema has the name of the private cluster's superuser). */
	if (strcmp(r->scope, "holdpoint") != 0 &&
	    run_sql(r, m->name, "set local search_path = public", err) < 0)
		goto out;
	if (read_file(r, m->name, &b, err) < 0 || run_sql(r, m->name, hp_buf_str(&b), err) < 0)
		goto out;
	res = PQexecParams(r->conn, "insert into holdpoint.migration (scope, version, name, sha256)"
			   " values ($1, $2, $3, $4)", 4, NULL, params, NULL, NULL, 0);
	rc = PQresultStatus(res) == PGRES_COMMAND_OK ? 0 : sql_fail(r, m->name, res, err);
	PQclear(res);
	HP_CRASH_POINT(MIGRATE_BEFORE);
	if (rc == 0)
		rc = run_sql(r, m->name, "commit", err);
	m->applied = rc == 0;
	if (m->applied)
		HP_CRASH_POINT(MIGRATE_STORED);
out:
	hp_buf_free(&b);
	return rc;
}

static int open_and_compare(struct runner *r, const char *conninfo, bool dry_run, struct hp_error *err)
{
	bool there = false;

	r->conn = PQconnectdb(conninfo);
	if (PQstatus(r->conn) != CONNECTION_OK)
		return sql_fail(r, "connecting to migrate", NULL, err);
	if (run_sql(r, "preparing to migrate", "set client_min_messages = warning; set statement_timeout = 0;"
		    " set lock_timeout = '60s'", err) < 0)
		return -1;
	if (!dry_run && make_ledger(r, err) < 0)
		return -1;
	if (ledger_exists(r, &there, err) < 0)
		return -1;
	return there ? compare_ledger(r, err) : 0;
}

int hp_migrate(const char *conninfo, const char *dir, const char *scope, bool dry_run,
	       hp_migration_fn each, void *arg, struct hp_error *err)
{
	struct runner r = { .dir = dir, .scope = scope };
	int rc = -1;

	r.files = hp_calloc(FILES_MAX + 1, sizeof *r.files);
	if (!r.files)
		return hp_fail(err, HP_E_NOMEM, "no memory for the list of migrations");
	if (list_files(&r, err) < 0 || hash_files(&r, err) < 0 || open_and_compare(&r, conninfo, dry_run, err) < 0)
		goto out;
	for (int i = 0; i < r.n_files; i++) {
		/* told before it is applied: `applied` says whether it already was */
		if (each)
			each(arg, &r.files[i]);
		if (!dry_run && !r.files[i].applied && apply_one(&r, &r.files[i], err) < 0)
			goto out;
	}
	rc = 0;
out:
	if (r.conn)
		PQfinish(r.conn);
	hp_free(r.files);
	return rc;
}
