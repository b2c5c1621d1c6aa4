/* The contract of stores, held by the one in memory. */
#include "lib/contract.h"

#include "store/mem/mem.h"

static struct hp_store *the_store;
static int64_t now;
static int inserted;

/* The database of `sql` states: every statement touches one row. */
static void sql_run(void *arg, const struct hp_sql_state *st, struct hp_sql_rows *rows)
{
	(void)arg;
	(void)st;
	rows->outcome = HP_CLASS_OK;
	rows->rows = hp_bytes_of("{\"rows\":1}");
}

static void sql_end(void *arg, int64_t run, bool committed)
{
	(void)arg;
	(void)run;
	inserted += committed;
}

static void open_store(void)
{
	static const struct hp_mem_sql sql = { sql_run, sql_end, NULL };
	struct hp_error err = { 0 };

	now = T0;
	inserted = 0;
	the_store = hp_store_mem_new(&now, &err);
	ck_assert_msg(the_store != NULL, "%s", err.message);
	hp_mem_set_sql(the_store, &sql);
}

static void close_store(void)
{
	the_store->ops->free(the_store);
	the_store = NULL;
}

static struct hp_store *store(int i)
{
	(void)i;
	return the_store;
}

static void turn(void)
{
	the_store->ops->pump(the_store);
}

static void set_now(int64_t t)
{
	now = t;
}

static void principal(const char *name, const char *kind, const char *roles)
{
	hp_mem_principal(the_store, name, kind, roles);
}

static int sql_inserted(void)
{
	return inserted;
}

int main(void)
{
	static const struct contract_driver driver = {
		.name = "mem", .open = open_store, .close = close_store, .store = store, .turn = turn,
		.set_now = set_now, .principal = principal, .sql_inserted = sql_inserted,
	};

	return contract_main(&driver);
}
