/* bouncer.c: starting and stopping pgbouncer for a test. */
#include "bouncer.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static pid_t bouncer;

static void write_file(const char *name, const char *text, uid_t uid, gid_t gid)
{
	char path[128];
	FILE *o;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	o = fopen(path, "w");
	ck_assert_ptr_nonnull(o);
	fputs(text, o);
	fclose(o);
	ck_assert_int_eq(chown(path, uid, gid), 0);
}

const char *bouncer_dir(void)
{
	return dir;
}

/* As the account that owns the server's socket: pgbouncer refuses root, and others
 * may not enter that directory. */
void bouncer_start(PGconn *super, int pool_size)
{
	char ini[1024], path[128];
	struct stat st;

	ck_assert_int_eq(stat(PQhost(super), &st), 0);
	snprintf(dir, sizeof dir, "/tmp/hp-pooled.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chown(dir, st.st_uid, st.st_gid), 0);
	snprintf(ini, sizeof ini,
		 "[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = %s\n"
		 "listen_port = 6432\nauth_type = trust\nauth_file = %s/users\npool_mode = transaction\n"
		 "default_pool_size = %d\nlogfile = %s/log\n",
		 PQhost(super), PQport(super), dir, dir, pool_size, dir);
	write_file("ini", ini, st.st_uid, st.st_gid);
	write_file("users", "\"holdpoint_engine\" \"\"\n\"holdpoint_workflow\" \"\"\n", st.st_uid, st.st_gid);
	snprintf(path, sizeof path, "%s/ini", dir);
	bouncer = fork();
	ck_assert_int_ge(bouncer, 0);
	if (bouncer == 0) {
		if (geteuid() == 0 && (setgid(st.st_gid) != 0 || setuid(st.st_uid) != 0))
			_exit(127);
		prctl(PR_SET_PDEATHSIG, SIGINT); /* a failed test leaves nothing running */
		execlp("pgbouncer", "pgbouncer", "-q", path, (char *)NULL);
		execl("/usr/sbin/pgbouncer", "pgbouncer", "-q", path, (char *)NULL);
		_exit(127);
	}
}

void bouncer_stop(void)
{
	char command[128];
	int status;

	kill(bouncer, SIGINT);
	ck_assert_int_eq(waitpid(bouncer, &status, 0), bouncer);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}
