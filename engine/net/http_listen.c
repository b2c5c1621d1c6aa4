/* http_listen.c: the socket that doors listen on. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/words.h"
#include "net/http_server.h"

#define LISTEN_BACKLOG 1024

static int split_address(const char *address, char *host, size_t host_max, const char **port,
			 struct hp_error *err)
{
	const char *colon = strrchr(address, ':');
	const char *from = address;
	size_t n = colon ? (size_t)(colon - address) : 0;
	if (colon && n >= 2 && from[0] == '[' && from[n - 1] == ']') {
		from++;
		n -= 2;
	} else if (memchr(from, ':', n)) {
		colon = NULL; /* an IPv6 address without its brackets */
	}
	int64_t number;
	if (!colon || n >= host_max || hp_int_parse(colon + 1, &number) != 0 || number < 0 || number > 65535) {
		(void)hp_fail(err, HP_E_INVALID, "cannot listen on \"%s\": it is no address with a port", address);
		return hp_error_hint(err, "Write 127.0.0.1:8080, [::1]:8080 or :8080 (all addresses).");
	}
	memcpy(host, from, n);
	host[n] = '\0';
	*port = colon + 1;
	return 0;
}

static int bind_socket(const struct addrinfo *ai)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	int on = 1, off = 0;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (ai->ai_family == AF_INET6) /* ":8080" means IPv4 too */
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* Negative: errno says why. */
static int bound_port(int fd)
{
	struct sockaddr_storage ss;
	socklen_t n = sizeof ss;
	if (getsockname(fd, (struct sockaddr *)&ss, &n) != 0)
		return -1;
	return ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
					      : ((struct sockaddr_in *)&ss)->sin_port);
}

int hp_http_listen(const char *address, int *port, struct hp_error *err)
{
	char host[INET6_ADDRSTRLEN + 8];
	const char *service = NULL;
	if (split_address(address, host, sizeof host, &service, err) != 0)
		return -1;
	/* All addresses: IPv6 first, which takes IPv4 along; a kernel without IPv6
	 * gets the other. */
	const char *const any[] = {"::", "0.0.0.0"};
	int fd = -1;
	for (int i = 0; i < (host[0] ? 1 : 2) && fd < 0; i++) {
		struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
					 .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
		struct addrinfo *ai = NULL;
		if (getaddrinfo(host[0] ? host : any[i], service, &hints, &ai) != 0) {
			(void)hp_fail(err, HP_E_INVALID, "cannot listen on \"%s\": \"%s\" is no IP address", address, host);
			return hp_error_hint(err, "Use a number such as 127.0.0.1, not a name.");
		}
		fd = bind_socket(ai);
		freeaddrinfo(ai);
	}
	if (fd < 0) {
		int why = errno;
		(void)hp_fail(err, why == EADDRINUSE ? HP_E_CONFLICT : HP_E_IO, "cannot listen on \"%s\": %s",
			      address, strerror(why));
		return why == EADDRINUSE ? hp_error_hint(err, "Another process has this port; stop it or choose another.")
					 : -1;
	}
	*port = bound_port(fd);
	if (*port < 0) {
		(void)hp_fail(err, HP_E_IO, "cannot listen on \"%s\": its port is unknown: %s", address, strerror(errno));
		close(fd);
		return -1;
	}
	return fd;
}
