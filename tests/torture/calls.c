/* calls.c: every call of the engine that can fail, and what it then returns.
 *
 * A TORTURE=1 build renames these calls in the objects of engine/ (objcopy), so that
 * read() there is torture_read() here. Tests and libraries call the real ones.
 */
#define CURL_DISABLE_TYPECHECK 1
#include <curl/curl.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <lua.h>
#include <microhttpd.h>
#include <netdb.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/arena.h"
#include "torture/torture.h"

#define FAILED(...) \
	do { \
		static const int codes[] = {__VA_ARGS__}; \
		errno = torture_one_of(codes, (int)(sizeof codes / sizeof *codes)); \
	} while (0)

/* A call that says why in errno. */
#define SYSTEM(result, bad, name, params, args, ...) \
	result torture_##name params; \
	result torture_##name params \
	{ \
		if (torture_fails(TORTURE_SYSTEM)) { \
			FAILED(__VA_ARGS__); \
			return bad; \
		} \
		return name args; \
	}

/* One that only returns something. */
#define OTHER(class, result, bad, name, params, args) \
	result torture_##name params; \
	result torture_##name params \
	{ \
		return torture_fails(class) ? (bad) : name args; \
	}

/* ---- memory ---- */

OTHER(TORTURE_MEMORY, void *, NULL, hp_alloc, (size_t n), (n))
OTHER(TORTURE_MEMORY, void *, NULL, hp_calloc, (size_t count, size_t n), (count, n))
OTHER(TORTURE_MEMORY, void *, NULL, hp_realloc, (void *p, size_t n), (p, n))
OTHER(TORTURE_MEMORY, char *, NULL, hp_strdup, (const char *s), (s))

/* Of an arena, which mostly has some left. */
OTHER(TORTURE_ARENA, struct hp_arena *, NULL, hp_arena_new, (size_t max), (max))
OTHER(TORTURE_ARENA, void *, NULL, hp_arena_alloc, (struct hp_arena *a, size_t n), (a, n))
OTHER(TORTURE_ARENA, char *, NULL, hp_arena_strdup, (struct hp_arena *a, const char *s), (a, s))
OTHER(TORTURE_ARENA, char *, NULL, hp_arena_strndup, (struct hp_arena *a, const char *s, size_t n), (a, s, n))

OTHER(TORTURE_ARENA, char *, NULL, hp_arena_vprintf, (struct hp_arena *a, const char *fmt, va_list ap), (a, fmt, ap))

char *torture_hp_arena_printf(struct hp_arena *a, const char *fmt, ...) HP_PRINTF(2, 3);
char *torture_hp_arena_printf(struct hp_arena *a, const char *fmt, ...)
{
	char *s;
	va_list ap;

	va_start(ap, fmt);
	s = torture_hp_arena_vprintf(a, fmt, ap);
	va_end(ap);
	return s;
}

/* In base/json.c and script/sandbox.c instead: what the libraries ask for. */
void *torture_json_alloc(size_t n);
void *torture_json_alloc(size_t n)
{
	return torture_fails(TORTURE_JSON) ? NULL : hp_alloc(n);
}

void *torture_lua_realloc(void *p, size_t n);
void *torture_lua_realloc(void *p, size_t n)
{
	return torture_fails(TORTURE_LUA) ? NULL : hp_realloc(p, n);
}

OTHER(TORTURE_LUA, lua_State *, NULL, lua_newstate, (lua_Alloc f, void *ud), (f, ud))

/* ---- system calls ---- */

SYSTEM(ssize_t, -1, read, (int fd, void *p, size_t n), (fd, p, n), EIO, EINTR)
SYSTEM(ssize_t, -1, write, (int fd, const void *p, size_t n), (fd, p, n), ENOSPC, EINTR, EIO)
SYSTEM(ssize_t, -1, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at), ENOSPC, EIO)
SYSTEM(ssize_t, -1, recv, (int fd, void *p, size_t n, int f), (fd, p, n, f), ECONNRESET, EINTR, ENOMEM)
SYSTEM(ssize_t, -1, send, (int fd, const void *p, size_t n, int f), (fd, p, n, f), EPIPE, EINTR, EAGAIN, ENOBUFS)
SYSTEM(int, -1, socket, (int d, int t, int p), (d, t, p), EMFILE, ENOMEM)
SYSTEM(int, -1, bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), EADDRINUSE, EACCES)
SYSTEM(int, -1, listen, (int fd, int n), (fd, n), EADDRINUSE)
SYSTEM(int, -1, getsockname, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n), ENOBUFS)
SYSTEM(int, -1, socketpair, (int d, int t, int p, int fds[2]), (d, t, p, fds), EMFILE, ENOMEM)
SYSTEM(int, -1, shutdown, (int fd, int how), (fd, how), ENOTCONN)
SYSTEM(int, -1, setsockopt, (int fd, int l, int o, const void *p, socklen_t n), (fd, l, o, p, n), ENOMEM)
SYSTEM(int, -1, getsockopt, (int fd, int l, int o, void *p, socklen_t *n), (fd, l, o, p, n), ENOBUFS)
SYSTEM(int, -1, pipe2, (int fds[2], int flags), (fds, flags), EMFILE, ENFILE)
SYSTEM(int, -1, memfd_create, (const char *name, unsigned int flags), (name, flags), EMFILE, ENOMEM)
SYSTEM(int, -1, dup2, (int from, int to), (from, to), EMFILE, EINTR)
SYSTEM(int, -1, poll, (struct pollfd *fds, nfds_t n, int ms), (fds, n, ms), EINTR, ENOMEM)
SYSTEM(int, -1, fsync, (int fd), (fd), EIO, ENOSPC)
SYSTEM(int, -1, ftruncate, (int fd, off_t n), (fd, n), EIO, EINTR)
SYSTEM(int, -1, fstat, (int fd, struct stat *s), (fd, s), EIO)
SYSTEM(int, -1, stat, (const char *p, struct stat *s), (p, s), EACCES, ENOMEM)
SYSTEM(int, -1, lstat, (const char *p, struct stat *s), (p, s), EACCES)
SYSTEM(int, -1, access, (const char *p, int mode), (p, mode), EACCES)
SYSTEM(int, -1, mkdir, (const char *p, mode_t mode), (p, mode), ENOSPC, EROFS)
SYSTEM(int, -1, rename, (const char *a, const char *b), (a, b), ENOSPC, EIO)
SYSTEM(int, -1, unlink, (const char *p), (p), EIO)
SYSTEM(int, -1, chdir, (const char *p), (p), EACCES)
SYSTEM(int, -1, setsid, (void), (), EPERM)
SYSTEM(int, -1, close_range, (unsigned int a, unsigned int b, int f), (a, b, f), ENOMEM)
SYSTEM(int, -1, execve, (const char *p, char *const a[], char *const e[]), (p, a, e), ENOMEM, ETXTBSY)
SYSTEM(int, -1, fexecve, (int fd, char *const a[], char *const e[]), (fd, a, e), ENOMEM)
SYSTEM(pid_t, -1, fork, (void), (), EAGAIN, ENOMEM)
SYSTEM(pid_t, -1, waitpid, (pid_t p, int *status, int o), (p, status, o), EINTR)
SYSTEM(ssize_t, -1, getrandom, (void *p, size_t n, unsigned int f), (p, n, f), EINTR)
SYSTEM(ssize_t, -1, readlink, (const char *p, char *b, size_t n), (p, b, n), EACCES)
SYSTEM(void *, MAP_FAILED, mmap, (void *p, size_t n, int a, int b, int fd, off_t o), (p, n, a, b, fd, o), ENOMEM)
SYSTEM(FILE *, NULL, fopen, (const char *p, const char *mode), (p, mode), EMFILE, ENOMEM)
SYSTEM(int, EOF, fflush, (FILE *f), (f), ENOSPC)
SYSTEM(DIR *, NULL, opendir, (const char *p), (p), EMFILE, ENOMEM)
SYSTEM(char *, NULL, realpath, (const char *p, char *out), (p, out), ENOMEM, EACCES)
SYSTEM(char *, NULL, mkdtemp, (char *p), (p), ENOSPC)
OTHER(TORTURE_SYSTEM, void *, NULL, dlopen, (const char *p, int f), (p, f))
OTHER(TORTURE_SYSTEM, int, EAGAIN, pthread_create,
      (pthread_t * t, const pthread_attr_t *a, void *(*fn)(void *), void *arg), (t, a, fn, arg))
OTHER(TORTURE_SYSTEM, int, EAI_MEMORY, getaddrinfo,
      (const char *h, const char *s, const struct addrinfo *a, struct addrinfo **out), (h, s, a, out))

int torture_open(const char *path, int flags, ...);
int torture_open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (torture_fails(TORTURE_SYSTEM)) {
		FAILED(EMFILE, ENOMEM, EINTR);
		return -1;
	}
	return open(path, flags, mode);
}

int torture_openat(int dir, const char *path, int flags, ...);
int torture_openat(int dir, const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (torture_fails(TORTURE_SYSTEM)) {
		FAILED(EMFILE, ENOMEM);
		return -1;
	}
	return openat(dir, path, flags, mode);
}

int torture_fcntl(int fd, int command, ...);
int torture_fcntl(int fd, int command, ...)
{
	va_list ap;
	long arg;

	va_start(ap, command);
	arg = va_arg(ap, long); /* whatever it is: one register */
	va_end(ap);
	if (torture_fails(TORTURE_SYSTEM)) {
		FAILED(EMFILE, EINTR);
		return -1;
	}
	return fcntl(fd, command, arg);
}

int torture_prctl(int what, ...);
int torture_prctl(int what, ...)
{
	unsigned long a[4];
	va_list ap;

	va_start(ap, what);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	if (torture_fails(TORTURE_SYSTEM)) {
		FAILED(EINVAL);
		return -1;
	}
	return prctl(what, a[0], a[1], a[2], a[3]);
}

/* ---- libpq ---- */

OTHER(TORTURE_LIBPQ, PGconn *, NULL, PQconnectStartParams, (const char *const *k, const char *const *v, int x), (k, v, x))
OTHER(TORTURE_LIBPQ, PGconn *, NULL, PQconnectdb, (const char *s), (s))
OTHER(TORTURE_LIBPQ, PostgresPollingStatusType, PGRES_POLLING_FAILED, PQconnectPoll, (PGconn * c), (c))
OTHER(TORTURE_LIBPQ, PGresult *, NULL, PQexec, (PGconn * c, const char *q), (c, q))
OTHER(TORTURE_LIBPQ, PGresult *, NULL, PQexecParams,
      (PGconn * c, const char *q, int n, const Oid *t, const char *const *v, const int *l, const int *f, int r),
      (c, q, n, t, v, l, f, r))
OTHER(TORTURE_LIBPQ, int, 0, PQsendQuery, (PGconn * c, const char *q), (c, q))
OTHER(TORTURE_LIBPQ, int, 0, PQsendQueryParams,
      (PGconn * c, const char *q, int n, const Oid *t, const char *const *v, const int *l, const int *f, int r),
      (c, q, n, t, v, l, f, r))
OTHER(TORTURE_LIBPQ, int, 0, PQpipelineSync, (PGconn * c), (c))
OTHER(TORTURE_LIBPQ, int, 0, PQenterPipelineMode, (PGconn * c), (c))
OTHER(TORTURE_LIBPQ, int, 0, PQconsumeInput, (PGconn * c), (c))
OTHER(TORTURE_LIBPQ, int, -1, PQflush, (PGconn * c), (c))
OTHER(TORTURE_LIBPQ, int, -1, PQsetnonblocking, (PGconn * c, int on), (c, on))
OTHER(TORTURE_LIBPQ, PQconninfoOption *, NULL, PQconninfoParse, (const char *s, char **why), (s, why))

/* What libpq does when a result does not fit into memory: an error in its place. */
PGresult *torture_PQgetResult(PGconn *c);
PGresult *torture_PQgetResult(PGconn *c)
{
	PGresult *r = PQgetResult(c);

	if (!r || !torture_fails(TORTURE_LIBPQ))
		return r;
	PQclear(r);
	return PQmakeEmptyPGresult(c, PGRES_FATAL_ERROR);
}

/* ---- curl ---- */

OTHER(TORTURE_CURL, CURLcode, CURLE_OUT_OF_MEMORY, curl_global_init, (long f), (f))
OTHER(TORTURE_CURL, CURL *, NULL, curl_easy_init, (void), ())
OTHER(TORTURE_CURL, CURLM *, NULL, curl_multi_init, (void), ())
OTHER(TORTURE_CURL, struct curl_slist *, NULL, curl_slist_append, (struct curl_slist * l, const char *s), (l, s))
OTHER(TORTURE_CURL, CURLMcode, CURLM_OUT_OF_MEMORY, curl_multi_add_handle, (CURLM * m, CURL *e), (m, e))
OTHER(TORTURE_CURL, CURLU *, NULL, curl_url, (void), ())
OTHER(TORTURE_CURL, CURLUcode, CURLUE_OUT_OF_MEMORY, curl_url_set, (CURLU * u, CURLUPart w, const char *s, unsigned int f), (u, w, s, f))
OTHER(TORTURE_CURL, CURLUcode, CURLUE_OUT_OF_MEMORY, curl_url_get, (CURLU * u, CURLUPart w, char **s, unsigned int f), (u, w, s, f))

CURLcode torture_curl_easy_setopt(CURL *e, CURLoption o, ...);
CURLcode torture_curl_easy_setopt(CURL *e, CURLoption o, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, o);
	arg = va_arg(ap, void *);
	va_end(ap);
	return torture_fails(TORTURE_CURL) ? CURLE_OUT_OF_MEMORY : curl_easy_setopt(e, o, arg);
}

CURLMcode torture_curl_multi_setopt(CURLM *m, CURLMoption o, ...);
CURLMcode torture_curl_multi_setopt(CURLM *m, CURLMoption o, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, o);
	arg = va_arg(ap, void *);
	va_end(ap);
	return torture_fails(TORTURE_CURL) ? CURLM_OUT_OF_MEMORY : curl_multi_setopt(m, o, arg);
}

/* ---- libmicrohttpd ---- */

OTHER(TORTURE_HTTPD, struct MHD_Response *, NULL, MHD_create_response_from_buffer,
      (size_t n, void *p, enum MHD_ResponseMemoryMode m), (n, p, m))
OTHER(TORTURE_HTTPD, enum MHD_Result, MHD_NO, MHD_add_response_header,
      (struct MHD_Response * r, const char *k, const char *v), (r, k, v))
OTHER(TORTURE_HTTPD, enum MHD_Result, MHD_NO, MHD_queue_response,
      (struct MHD_Connection * c, unsigned int s, struct MHD_Response *r), (c, s, r))

/* ---- libcrypto ----
 * Not the digests: without memory for one the process ends, as if it had crashed. */

OTHER(TORTURE_CRYPTO, EVP_CIPHER_CTX *, NULL, EVP_CIPHER_CTX_new, (void), ())
OTHER(TORTURE_CRYPTO, int, 0, EVP_EncryptInit_ex,
      (EVP_CIPHER_CTX * c, const EVP_CIPHER *t, ENGINE *e, const unsigned char *k, const unsigned char *iv), (c, t, e, k, iv))
OTHER(TORTURE_CRYPTO, int, 0, EVP_EncryptUpdate,
      (EVP_CIPHER_CTX * c, unsigned char *o, int *n, const unsigned char *p, int l), (c, o, n, p, l))
OTHER(TORTURE_CRYPTO, int, 0, EVP_DecryptInit_ex,
      (EVP_CIPHER_CTX * c, const EVP_CIPHER *t, ENGINE *e, const unsigned char *k, const unsigned char *iv), (c, t, e, k, iv))
OTHER(TORTURE_CRYPTO, int, 0, EVP_DecryptUpdate,
      (EVP_CIPHER_CTX * c, unsigned char *o, int *n, const unsigned char *p, int l), (c, o, n, p, l))
