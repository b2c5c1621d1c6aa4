/* cutter.c: see cutter.h */
#include "cutter.h"

#include <check.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LINKS_MAX 64

struct link {
	struct cutter *c;
	ev_io client, server;
	bool used, swallow; /* swallow: the server's next answer is dropped and the link cut */
	bool mute;          /* nothing is passed any more, in either direction */
};

struct cutter {
	struct ev_loop *loop;
	char dir[64], path[108], server[108];
	ev_io listener;
	enum cut how;
	char text[64];
	int cuts;
	char late[16384]; /* CUT_LATE: what comes late, on its own connection */
	size_t n_late;
	int late_fd;
	struct link links[LINKS_MAX];
};

static void cut(struct link *l)
{
	ev_io_stop(l->c->loop, &l->client);
	ev_io_stop(l->c->loop, &l->server);
	close(l->client.fd);
	close(l->server.fd);
	l->used = false;
}

static bool pass(int to, const char *p, ssize_t n)
{
	while (n > 0) {
		ssize_t k = send(to, p, (size_t)n, MSG_NOSIGNAL);

		if (k <= 0)
			return false;
		p += k;
		n -= k;
	}
	return true;
}

/* The connection is cut for its client; the server still has it. */
static void hold(struct cutter *c, struct link *l, const char *p, ssize_t n)
{
	ck_assert_uint_le((size_t)n, sizeof c->late);
	memcpy(c->late, p, (size_t)n);
	c->n_late = (size_t)n;
	c->late_fd = dup(l->server.fd);
}

/* Done before anything else happens: the server has answered it. */
static void deliver_late(struct cutter *c)
{
	char answer[65536];

	ck_assert(pass(c->late_fd, c->late, (ssize_t)c->n_late));
	ck_assert_int_gt(recv(c->late_fd, answer, sizeof answer, 0), 0);
	close(c->late_fd);
	c->n_late = 0;
}

static void on_client(struct ev_loop *loop, ev_io *w, int revents)
{
	static char buf[1 << 20];
	struct link *l = w->data;
	struct cutter *c = l->c;
	ssize_t n = recv(w->fd, buf, sizeof buf, 0);

	(void)loop;
	(void)revents;
	if (n > 0 && c->n_late > 0 && memmem(buf, (size_t)n, c->text, strlen(c->text)))
		deliver_late(c);
	if (n > 0 && c->how != CUT_NOT && memmem(buf, (size_t)n, c->text, strlen(c->text))) {
		c->cuts++;
		if (c->how == CUT_LATE)
			hold(c, l, buf, n);
		l->swallow = c->how == CUT_AFTER;
		l->mute = c->how == CUT_MUTE;
		n = c->how == CUT_BEFORE || c->how == CUT_LATE ? 0 : n;
		c->how = CUT_NOT;
	}
	if (n <= 0 || !pass(l->server.fd, buf, n))
		cut(l);
}

static void on_server(struct ev_loop *loop, ev_io *w, int revents)
{
	static char buf[1 << 20];
	struct link *l = w->data;
	ssize_t n = recv(w->fd, buf, sizeof buf, 0);

	(void)loop;
	(void)revents;
	if (l->mute && n > 0)
		return;
	/* the answer is sent after the commit: now it is done and nobody will hear */
	if (n <= 0 || l->swallow || !pass(l->client.fd, buf, n))
		cut(l);
}

static int unix_socket(const char *path, struct sockaddr_un *a)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	snprintf(a->sun_path, sizeof a->sun_path, "%s", path);
	return fd;
}

static void on_accept(struct ev_loop *loop, ev_io *w, int revents)
{
	struct cutter *c = w->data;
	struct sockaddr_un a;
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC), i = 0, up;

	(void)revents;
	ck_assert_int_ge(fd, 0);
	while (i < LINKS_MAX && c->links[i].used)
		i++;
	ck_assert_int_lt(i, LINKS_MAX);
	up = unix_socket(c->server, &a);
	ck_assert_int_eq(connect(up, (struct sockaddr *)&a, sizeof a), 0);
	c->links[i] = (struct link){ .c = c, .used = true };
	ev_io_init(&c->links[i].client, on_client, fd, EV_READ);
	ev_io_init(&c->links[i].server, on_server, up, EV_READ);
	c->links[i].client.data = c->links[i].server.data = &c->links[i];
	ev_io_start(loop, &c->links[i].client);
	ev_io_start(loop, &c->links[i].server);
}

struct cutter *cutter_open(struct ev_loop *loop, const char *server_dir, const char *port)
{
	struct cutter *c = calloc(1, sizeof *c);
	struct sockaddr_un a;
	int fd;

	ck_assert_ptr_nonnull(c);
	c->loop = loop;
	snprintf(c->dir, sizeof c->dir, "/tmp/hp-cutter.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(c->dir));
	snprintf(c->path, sizeof c->path, "%.60s/.s.PGSQL.%.8s", c->dir, port);
	snprintf(c->server, sizeof c->server, "%.80s/.s.PGSQL.%.8s", server_dir, port);
	fd = unix_socket(c->path, &a);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(listen(fd, 16), 0);
	ev_io_init(&c->listener, on_accept, fd, EV_READ);
	c->listener.data = c;
	ev_io_start(loop, &c->listener);
	return c;
}

const char *cutter_dir(const struct cutter *c)
{
	return c->dir;
}

void cutter_arm(struct cutter *c, enum cut how, const char *text)
{
	c->how = how;
	snprintf(c->text, sizeof c->text, "%s", text);
}

int cutter_cuts(const struct cutter *c)
{
	return c->cuts;
}

void cutter_close(struct cutter *c)
{
	for (int i = 0; i < LINKS_MAX; i++)
		if (c->links[i].used)
			cut(&c->links[i]);
	ev_io_stop(c->loop, &c->listener);
	close(c->listener.fd);
	unlink(c->path);
	rmdir(c->dir);
	free(c);
}
